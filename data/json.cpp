#include "data/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/check.h"

namespace moeut {

/// Receives nlohmann's parse events; returning false stops the parser. The value being filled is the top of `open_`: a
/// container does not move while one of its children is open, since it gets no other child before that one is closed.
class JsonBuilder {
 public:
  using string_t = std::string;
  using binary_t = nlohmann::json::binary_t;

  JsonBuilder(Json& root, const JsonLimits& limits) : root_(root), limits_(limits) {}
  const std::string& error() const { return error_; }

  bool null() { return add(Json()) != nullptr; }
  bool boolean(bool value) { return add(Json(value)) != nullptr; }
  bool number_integer(int64_t value) { return add(Json(value)) != nullptr; }
  bool number_unsigned(uint64_t value) { return add(Json(value)) != nullptr; }
  bool number_float(double value, const string_t&) { return add(Json(value)) != nullptr; }
  bool string(string_t& value) { return add(Json(std::move(value))) != nullptr; }
  bool binary(binary_t&) { return refuse("binary value"); }
  bool start_object(size_t) { return open(Json(Json::Object())); }
  bool start_array(size_t) { return open(Json(Json::Array())); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(string_t& name) {
    if (!limits_.repeated_keys && !open_.back().keys.insert(name).second)
      return refuse(fmt::format("key \"{}\" occurs twice in one object", name));
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& exception) {
    const std::string_view what = exception.what();
    const size_t start = what.find("] ");  // drops nlohmann's own exception number
    return refuse(std::string(start == std::string_view::npos ? what : what.substr(start + 2)));
  }

 private:
  struct Open {
    Json* value;
    std::unordered_set<std::string> keys;
  };

  bool refuse(std::string reason) {
    error_ = std::move(reason);
    return false;
  }

  Json* add(Json value) {
    if (++values_ > limits_.max_values) {
      refuse(fmt::format("more than {} values", limits_.max_values));
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    auto& parent = open_.back().value->value_;
    if (auto* array = std::get_if<Json::Array>(&parent)) return &array->emplace_back(std::move(value));
    return &std::get<Json::Object>(parent).emplace_back(std::move(key_), std::move(value)).second;
  }

  bool open(Json container) {
    if (open_.size() >= limits_.max_depth)
      return refuse(fmt::format("nested deeper than {} levels", limits_.max_depth));
    Json* value = add(std::move(container));
    if (value != nullptr) open_.push_back({value, {}});
    return value != nullptr;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  Json& root_;
  const JsonLimits& limits_;
  std::vector<Open> open_;
  std::string key_;
  std::string error_;
  size_t values_ = 0;
};

namespace {

void dump_string(std::string& out, std::string_view text) {
  static constexpr std::string_view kEscaped = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
  out += '"';
  for (const char c : text) {
    if (const size_t at = kEscaped.find(c); at != std::string_view::npos) {
      out += '\\';
      out += kLetters[at];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

void dump_double(std::string& out, double value) {
  require<IoError>(std::isfinite(value), "cannot write {} as JSON, which has finite numbers only", value);
  const std::string digits = fmt::format("{}", value);
  out += digits;
  if (digits.find_first_of(".e") == std::string::npos) out += ".0";  // a whole double stays a double when read back
}

void new_line(std::string& out, int indent, int level) {
  if (indent < 0) return;
  out += '\n';
  out.append(static_cast<size_t>(indent * level), ' ');
}

}  // namespace

Json::Json() = default;
Json::Json(const Json& other) = default;
Json::Json(Json&& other) noexcept = default;
Json& Json::operator=(const Json& other) = default;
Json& Json::operator=(Json&& other) noexcept = default;
Json::~Json() = default;
Json::Json(bool value) : value_(value) {}
Json::Json(double value) : value_(value) {}
Json::Json(const char* value) : value_(std::string(value)) {}
Json::Json(std::string value) : value_(std::move(value)) {}
Json::Json(Array value) : value_(std::move(value)) {}
Json::Json(Object value) : value_(std::move(value)) {}
Json::Json(bool negative, uint64_t bits) {
  if (negative) {
    value_ = static_cast<int64_t>(bits);
  } else {
    value_ = bits;
  }
}

Json Json::parse(std::string_view text, const JsonLimits& limits) {
  // nlohmann takes a NUL byte for the end of the text, and what follows would go unread.
  const size_t nul = text.find('\0');
  require<IoError>(nul == std::string_view::npos, "not valid JSON: NUL byte at position {}", nul);
  Json root;
  JsonBuilder builder(root, limits);
  const bool ok = nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  require<IoError>(ok, "not valid JSON: {}", builder.error());
  return root;
}

std::string Json::dump(int indent) const {
  std::string out;
  dump_to(out, indent, 0);
  return out;
}

void Json::dump_to(std::string& out, int indent, int level) const {
  const auto dump_members = [&](const auto& members, char first, char last, const auto& dump_member) {
    out += first;
    for (size_t i = 0; i < members.size(); ++i) {
      if (i > 0) out += ',';
      new_line(out, indent, level + 1);
      dump_member(members[i]);
    }
    if (!members.empty()) new_line(out, indent, level);
    out += last;
  };
  if (const auto* array = std::get_if<Array>(&value_)) {
    dump_members(*array, '[', ']', [&](const Json& item) { item.dump_to(out, indent, level + 1); });
  } else if (const auto* object = std::get_if<Object>(&value_)) {
    dump_members(*object, '{', '}', [&](const auto& member) {
      dump_string(out, member.first);
      out += indent < 0 ? ":" : ": ";
      member.second.dump_to(out, indent, level + 1);
    });
  } else if (const auto* text = std::get_if<std::string>(&value_)) {
    dump_string(out, *text);
  } else if (const auto* number = std::get_if<double>(&value_)) {
    dump_double(out, *number);
  } else if (const auto* natural = std::get_if<uint64_t>(&value_)) {
    out += fmt::format("{}", *natural);
  } else if (const auto* whole = std::get_if<int64_t>(&value_)) {
    out += fmt::format("{}", *whole);
  } else if (const auto* flag = std::get_if<bool>(&value_)) {
    out += *flag ? "true" : "false";
  } else {
    out += "null";
  }
}

std::string Json::kind() const {
  static constexpr const char* kKinds[] = {"null",     "true or false", "a negative number", "a whole number",
                                           "a number", "a string",      "an array",          "an object"};
  return kKinds[value_.index()];
}

bool Json::as_bool() const {
  require<IoError>(std::holds_alternative<bool>(value_), "expected true or false, found {}", kind());
  return std::get<bool>(value_);
}

uint64_t Json::as_uint64() const {
  require<IoError>(std::holds_alternative<uint64_t>(value_), "expected a whole number of 0 or more, found {}", kind());
  return std::get<uint64_t>(value_);
}

int64_t Json::as_int64() const {
  if (const auto* negative = std::get_if<int64_t>(&value_)) return *negative;
  const auto* natural = std::get_if<uint64_t>(&value_);
  require<IoError>(natural != nullptr && *natural <= static_cast<uint64_t>(INT64_MAX),
                   "expected a whole number of 64 bits, found {}", kind());
  return static_cast<int64_t>(*natural);
}

double Json::as_double() const {
  if (const auto* natural = std::get_if<uint64_t>(&value_)) return static_cast<double>(*natural);
  if (const auto* negative = std::get_if<int64_t>(&value_)) return static_cast<double>(*negative);
  require<IoError>(std::holds_alternative<double>(value_), "expected a number, found {}", kind());
  return std::get<double>(value_);
}

const std::string& Json::as_string() const {
  require<IoError>(std::holds_alternative<std::string>(value_), "expected a string, found {}", kind());
  return std::get<std::string>(value_);
}

const Json::Array& Json::as_array() const {
  require<IoError>(std::holds_alternative<Array>(value_), "expected an array, found {}", kind());
  return std::get<Array>(value_);
}

const Json::Object& Json::as_object() const {
  require<IoError>(std::holds_alternative<Object>(value_), "expected an object, found {}", kind());
  return std::get<Object>(value_);
}

const Json* Json::find(std::string_view key) const {
  const Object& members = as_object();
  const auto found = std::find_if(members.rbegin(), members.rend(), [&](const auto& m) { return m.first == key; });
  return found == members.rend() ? nullptr : &found->second;
}

const Json& Json::at(std::string_view key) const {
  const Json* value = find(key);
  require<IoError>(value != nullptr, "the field \"{}\" is missing", key);
  return *value;
}

}  // namespace moeut
