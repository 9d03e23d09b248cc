#include "trainer/config_load.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/check.h"
#include "core/file.h"
#include "data/utf8.h"
#include "trainer/config_check.h"
#include "trainer/config_fields.h"
#include "trainer/text_util.h"
#include "trainer/yaml.h"

namespace moeut {
namespace {

constexpr const char* kExtends = "extends";

std::vector<std::string> known_names() {
  std::vector<std::string> names{kExtends};
  for (const Field& field : config_fields()) {
    const std::string_view section = section_of(field.key);
    if (!section.empty() && (names.empty() || section_of(names.back()) != section)) names.emplace_back(section);
    names.push_back(field.key);
  }
  return names;
}

/// Fills a LoadedConfig and collects every mistake on the way instead of stopping at the first.
class Loader {
 public:
  /// `may_extend`: other files may be read.
  Loader(std::string file, bool may_extend) : file_(std::move(file)), chain_{file_}, may_extend_(may_extend) {}

  void read_yaml(std::string_view text) {
    if (const size_t bad = first_invalid_utf8(text); bad < text.size()) {
      readable_ = false;
      const auto line =
          static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bad), '\n')) + 1;
      return complain({.file = file_, .line = line, .column = 1}, "",
                      "not valid UTF-8; convert the file, or name another");
    }
    try {
      const YamlNode root = parse_yaml(text);
      if (root.kind == YamlNode::Kind::map) {
        read_base_of(root);
        read_map(root, "");
      } else if (root.kind == YamlNode::Kind::null) {
        empty_ = chain_.size() == 1;
      } else {
        readable_ = false;
        complain(at(root), "", "expected lines of the form `key: value`");
      }
    } catch (const YamlError& error) {
      readable_ = false;
      complain(at(error.place()), "", std::string(error.what()) + tab_hint(text, error.place().line));
    }
  }

  void read_override(const std::string& text) {
    empty_ = false;
    const Origin origin{.kind = Origin::Kind::command_line};
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      return complain(origin, "", fmt::format("expected key.path=value, found {}", show_text(text)));
    }
    const std::string key = text.substr(0, equals);
    if (const Field* field = expect_field(key, origin)) assign(*field, text.substr(equals + 1), false, origin);
  }

  LoadedConfig finish() {
    if (loaded_.config.run.dir.empty())
      loaded_.config.run.dir = std::filesystem::path("runs") / std::filesystem::path(file_).stem();
    if (empty_) {
      complain({.file = file_}, "",
               "it is empty, it sets no key; configs/quickstart.yaml is one to begin with, --help lists all keys");
    }
    // Of a file that cannot be read nothing is known to be missing.
    if (readable_ && !empty_) find_contradictions();
    if (!errors_.empty()) throw ConfigError(report());
    make_order_known();
    loaded_.warnings = find_warnings(loaded_);
    return std::move(loaded_);
  }

 private:
  static constexpr size_t kMostErrors = 100;  // shown; the rest is counted
  static constexpr size_t kMostFiles = 8;     // that extend each other

  /// yaml-cpp does not say so.
  static std::string tab_hint(std::string_view text, int line) {
    for (int i = 1; i < line; ++i) text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
    const std::string_view indent = text.substr(0, std::min(text.find_first_not_of(" \t"), text.size()));
    return indent.find('\t') == std::string_view::npos ? "" : "; the line begins with a tab: indent with spaces";
  }

  /// The file that a file extends is read first: whatever it sets may be set again.
  void read_base_of(const YamlNode& root) {
    for (const auto& [key, value] : root.members) {
      if (key.kind != YamlNode::Kind::scalar || key.text != kExtends) continue;
      if (value.kind != YamlNode::Kind::scalar || value.text.empty()) {
        return complain(at(value.kind == YamlNode::Kind::scalar ? value : key), kExtends,
                        "expected the path of a configuration file");
      }
      return read_base(value.text, at(value));
    }
  }

  void read_base(const std::string& path, const Origin& origin) {
    readable_ = false;  // unless all goes well
    const std::string base = (std::filesystem::path(file_).parent_path() / path).lexically_normal().string();
    if (!may_extend_) return complain(origin, kExtends, "only a configuration that is a file can extend another");
    if (std::ranges::count(chain_, base) > 0 || chain_.size() == kMostFiles) {
      const char* what = chain_.size() == kMostFiles ? "more than 8 files extend each other"
                                                     : "the files extend each other in a circle";
      return complain(origin, kExtends, fmt::format("{}: {} -> {}", what, fmt::join(chain_, " -> "), base));
    }
    std::string text;
    try {
      text = read_file(base, YamlLimits().max_bytes);
    } catch (const IoError& error) {
      return complain(origin, kExtends, error.what());
    }
    readable_ = true;
    chain_.push_back(base);
    const std::string own = std::exchange(file_, base);
    read_yaml(text);
    file_ = own;
    places_.clear();
    chain_.pop_back();
  }

  void find_contradictions() {
    // A field that was given wrongly is not reported as missing too, and values that were refused contradict nothing.
    for (const ConfigProblem& problem : find_problems(loaded_)) {
      if (refused_.contains(problem.key) || refused_.contains(problem.other)) continue;
      const auto origin = loaded_.origins.find(problem.key);
      complain(origin == loaded_.origins.end() ? Origin{.file = file_} : origin->second, problem.key, problem.message);
    }
  }

  /// data.shuffle and data.order say the same: the one that is given decides the other.
  void make_order_known() {
    DataSection& data = loaded_.config.data;
    const auto shuffle = loaded_.origins.find("data.shuffle"), order = loaded_.origins.find("data.order");
    if (order == loaded_.origins.end() && shuffle != loaded_.origins.end()) {
      data.order = data.shuffle ? SampleOrder::shuffled : SampleOrder::sequential;
      loaded_.origins.insert_or_assign("data.order", shuffle->second);
    } else if (order != loaded_.origins.end()) {
      data.shuffle = data.order == SampleOrder::shuffled;
      loaded_.origins.insert_or_assign("data.shuffle", order->second);
    }
  }

  Origin at(const YamlPlace& place) const { return {.file = file_, .line = place.line, .column = place.column}; }
  Origin at(const YamlNode& node) const { return at(node.place); }

  void complain(const Origin& origin, std::string_view key, std::string_view message) {
    ++n_errors_;
    if (errors_.size() < kMostErrors)
      errors_.push_back(fmt::format("{}: {}{}{}", origin.str(), key, key.empty() ? "" : ": ", message));
  }

  std::string report() const {
    std::string text = fmt::format("{}", fmt::join(errors_, "\n"));
    if (n_errors_ > errors_.size()) text += fmt::format("\n... and {} more", n_errors_ - errors_.size());
    return text;
  }

  void read_map(const YamlNode& map, const std::string& prefix) {
    for (const auto& [key_node, value] : map.members) {
      if (key_node.kind != YamlNode::Kind::scalar) {
        complain(at(key_node), "", "a key must be a plain name");
        continue;
      }
      const std::string key = prefix.empty() ? key_node.text : prefix + "." + key_node.text;
      const auto [first, is_new] = places_.try_emplace(key, key_node.place);
      if (!is_new) {
        complain(at(key_node), printable(key), fmt::format("given twice, first at line {}", first->second.line));
      } else {
        read_member(key, key_node, value);
      }
    }
  }

  void read_member(const std::string& key, const YamlNode& key_node, const YamlNode& value) {
    if (key == kExtends) return;  // read first
    const bool section = is_section(key);
    if (value.kind == YamlNode::Kind::map && find_field(key) == nullptr) return read_map(value, key);
    if (section && value.kind == YamlNode::Kind::null) return;  // a section whose lines are all commented out
    const Field* field = expect_field(key, at(key_node));
    if (field == nullptr) return;
    if (value.kind == YamlNode::Kind::scalar) return assign(*field, value.text, value.quoted, at(value));
    const char* found = value.kind == YamlNode::Kind::null   ? "nothing"
                        : value.kind == YamlNode::Kind::list ? "a list"
                                                             : "a section";
    refuse(*field, at(value.kind == YamlNode::Kind::null ? key_node : value),
           fmt::format("expected {}, found {}", expected_text(*field), found));
  }

  /// The field of this key, or nullptr after a complaint.
  const Field* expect_field(const std::string& key, const Origin& origin) {
    const Field* field = find_field(key);
    if (field != nullptr) return field;
    if (is_section(key)) {
      complain(origin, key, fmt::format("is a section; give one of its keys, such as {}", first_key_of(key)));
      return nullptr;
    }
    static const std::vector<std::string> names = known_names();
    const std::string guess =
        n_errors_ < kMostErrors ? did_you_mean(key, names) : "";  // no search for what is not shown
    complain(origin, printable(key),
             guess.empty() ? "unknown key; --help lists all" : fmt::format("unknown key; did you mean {}?", guess));
    return nullptr;
  }

  void assign(const Field& field, std::string_view text, bool quoted, const Origin& origin) {
    try {
      field.set(loaded_.config, parse_value(field, text, quoted));
      loaded_.origins.insert_or_assign(field.key, origin);
    } catch (const ConfigError& error) {
      refuse(field, origin, error.what());
    }
  }

  void refuse(const Field& field, const Origin& origin, std::string_view message) {
    refused_.insert(field.key);
    complain(origin, field.key, message);
  }

  static std::string first_key_of(std::string_view section) {
    const auto fields = config_fields();
    return std::ranges::find_if(fields, [&](const Field& field) { return section_of(field.key) == section; })->key;
  }

  /// A key from outside: as it is if it is a name, else quoted and escaped.
  static std::string printable(const std::string& key) {
    const auto plain = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '.' ||
             c == '-';
    };
    return key.size() <= 60 && std::ranges::all_of(key, plain) ? key : show_text(key);
  }

  std::string file_;                // that is being read
  std::vector<std::string> chain_;  // of files that extend each other, up to it
  bool may_extend_;
  LoadedConfig loaded_;
  std::map<std::string, YamlPlace> places_;  // of the keys read from the file
  std::set<std::string, std::less<>> refused_;
  std::vector<std::string> errors_;
  size_t n_errors_ = 0;
  bool readable_ = true;  // the file has the form of a configuration
  bool empty_ = false;    // it says nothing, and neither does the command line
};

}  // namespace

std::string Origin::str() const {
  if (kind == Kind::command_line) return "command line";
  return line > 0 ? fmt::format("{}:{}:{}", file, line, column) : file;
}

std::string LoadedConfig::origin_text(std::string_view key) const {
  const auto found = origins.find(key);
  if (found == origins.end()) {
    const Field* field = find_field(key);
    const bool from_profile = field != nullptr && field->from_profile && config.model.profile != "none";
    return from_profile ? "profile " + config.model.profile : "default";
  }
  const Origin& origin = found->second;
  return origin.kind == Origin::Kind::command_line ? origin.str() : fmt::format("{}:{}", origin.file, origin.line);
}

namespace {

LoadedConfig load(std::string_view yaml, const std::string& name, std::span<const std::string> overrides,
                  bool may_extend) {
  Loader loader(name, may_extend);
  loader.read_yaml(yaml);
  for (const std::string& text : overrides) loader.read_override(text);
  return loader.finish();
}

}  // namespace

LoadedConfig parse_config(std::string_view yaml, const std::string& name, std::span<const std::string> overrides) {
  return load(yaml, name, overrides, false);
}

LoadedConfig load_config(const std::filesystem::path& file, std::span<const std::string> overrides) {
  std::string text;
  try {
    text = read_file(file, YamlLimits().max_bytes);
  } catch (const IoError& error) {  // nothing was written yet: this is a mistake of the command line
    throw ConfigError(fmt::format("configuration: {}", error.what()));
  }
  return load(text, file.lexically_normal().string(), overrides, true);
}

}  // namespace moeut
