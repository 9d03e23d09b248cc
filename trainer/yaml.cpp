#include "trainer/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <istream>
#include <streambuf>
#include <utility>

namespace moeut {
namespace {

YamlPlace place_of(const YAML::Mark& mark) {
  return mark.is_null() ? YamlPlace() : YamlPlace{mark.line + 1, mark.column + 1};
}

/// Reads a text in place. (An istringstream would copy it once more.)
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text) {
    char* begin = const_cast<char*>(text.data());  // streambuf's interface; nothing is written in the get area
    setg(begin, begin, begin + text.size());
  }
};

/// Builds the tree from the parser's events, so that every limit holds while parsing. `open_` are the containers not
/// yet ended; a container does not move while one of its children is open.
class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const YamlLimits& limits) : limits_(limits) {}

  bool has_document() const { return documents_ > 0; }
  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw YamlError(place_of(mark), "a second YAML document begins; keep one in a file");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(mark, YamlNode::Kind::null); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw YamlError(place_of(mark), "YAML aliases (*name, <<) are not accepted; write the values out");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    YamlNode& node = add(mark, YamlNode::Kind::scalar);
    node.text = value;
    node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";  // "!" is how the parser marks quotes and blocks
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(mark, YamlNode::Kind::list);
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(mark, YamlNode::Kind::map);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  struct Open {
    YamlNode* node;
    bool at_value = false;  // of a map: its last member has a key and waits for the value
  };

  YamlNode& slot() {
    if (open_.empty()) return root_;
    Open& parent = open_.back();
    if (parent.node->kind == YamlNode::Kind::list) return parent.node->items.emplace_back();
    parent.at_value = !parent.at_value;
    if (parent.at_value) return parent.node->members.emplace_back().key;
    return parent.node->members.back().value;
  }

  YamlNode& add(const YAML::Mark& mark, YamlNode::Kind kind) {
    if (++nodes_ > limits_.max_nodes) {
      throw YamlError(place_of(mark), fmt::format("more than {} values; is it the right file?", limits_.max_nodes));
    }
    YamlNode& node = slot();
    node.kind = kind;
    node.place = place_of(mark);
    return node;
  }

  void open(const YAML::Mark& mark, YamlNode::Kind kind) {
    if (open_.size() >= limits_.max_depth) {
      throw YamlError(place_of(mark), fmt::format("nested deeper than {} levels", limits_.max_depth));
    }
    open_.push_back({&add(mark, kind)});
  }

  const YamlLimits& limits_;
  YamlNode root_;
  std::vector<Open> open_;
  size_t nodes_ = 0;
  int documents_ = 0;
};

}  // namespace

YamlNode parse_yaml(std::string_view text, const YamlLimits& limits) {
  if (text.size() > limits.max_bytes) {
    throw YamlError({}, fmt::format("it has {} bytes, at most {} are accepted; is it the right file?", text.size(),
                                    limits.max_bytes));
  }
  ViewBuffer buffer(text);
  std::istream stream(&buffer);
  TreeBuilder builder(limits);
  try {
    YAML::Parser parser(stream);
    // Once more after the first document, to refuse a second one. Never in a loop: yaml-cpp 0.7 can report documents
    // without end (its LoadAll runs out of memory on some texts).
    if (parser.HandleNextDocument(builder)) parser.HandleNextDocument(builder);
  } catch (const YAML::Exception& exception) {
    throw YamlError(place_of(exception.mark), fmt::format("not valid YAML: {}", exception.msg));
  }
  return builder.take();
}

}  // namespace moeut
