#include "data/tokenize_journal.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "core/check.h"
#include "data/hash.h"
#include "data/utf8.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

constexpr const char* kWorkName = "work.json";
constexpr const char* kJournalName = "journal.json";
constexpr uint64_t kVersion = 2;  // of both files; another one is not taken up
constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
constexpr JsonLimits kLimits{.max_values = 1 << 24};  // an input is one value
constexpr std::array kPhases = {"encoding", "replacing", "moving"};

std::string hash_of(const std::string& text) {
  Xxh3 hash;
  hash.update(text.data(), text.size());
  return hash.hex();
}

void write_sealed(FileSystem& fs, const stdfs::path& path, const Json& content) {
  const std::string hash = hash_of(content.dump());
  write_file_atomically(fs, path, Json(Json::Object{{"content", content}, {"xxh3_128", hash}}).dump(1) + "\n");
}

Json read_sealed(const stdfs::path& path) {
  const Json json = Json::parse(read_file(path, kMaxBytes), kLimits);
  const Json& content = json.at("content");
  require<IoError>(json.at("xxh3_128").as_string() == hash_of(content.dump()), "'{}' is damaged", path.string());
  require<IoError>(content.at("version").as_uint64() == kVersion, "'{}' is of another version of this program",
                   path.string());
  return content;
}

/// A path as a JSON string: one that is not UTF-8 by its bytes in hexadecimal.
std::string path_text(const std::string& path) {
  if (first_invalid_utf8(path) == path.size()) return path;
  std::string text = "bytes";
  for (const char byte : path) text += fmt::format(" {:02x}", static_cast<unsigned char>(byte));
  return text;
}

/// "SIZE TIME PATH", with the time of change in nanoseconds; zeros for what is no file, such as standard input.
Json input_text(const stdfs::path& file) {
  std::error_code error;
  const bool regular = stdfs::is_regular_file(file, error);
  const uint64_t size = regular ? stdfs::file_size(file, error) : 0;
  const auto time =
      regular ? stdfs::last_write_time(file, error).time_since_epoch() : stdfs::file_time_type::duration{};
  return fmt::format("{} {} {}", size, std::chrono::nanoseconds(time).count(), path_text(file.string()));
}

/// The path in what input_text gave.
std::string path_of(const std::string& input) {
  return input.substr(input.find(' ', input.find(' ') + 1) + 1);
}

Json to_json(const TextPosition& position) {
  return Json::Object{{"input", position.input},
                      {"texts", position.texts},
                      {"texts_hash", position.texts_hash},
                      {"bytes_before", position.bytes_before},
                      {"empty_documents", position.counts.empty_documents},
                      {"bad_records", position.counts.bad_records},
                      {"long_documents", position.counts.long_documents},
                      {"damaged_inputs", position.counts.damaged_inputs}};
}

TextPosition position_from(const Json& json) {
  return {.input = json.at("input").as_uint64(),
          .texts = json.at("texts").as_uint64(),
          .texts_hash = json.at("texts_hash").as_uint64(),
          .bytes_before = json.at("bytes_before").as_uint64(),
          .counts = {.empty_documents = json.at("empty_documents").as_uint64(),
                     .bad_records = json.at("bad_records").as_uint64(),
                     .long_documents = json.at("long_documents").as_uint64(),
                     .damaged_inputs = json.at("damaged_inputs").as_uint64()}};
}

Json to_json(const PartsState& state) {
  Json::Array parts;
  for (const auto& [manifest, open] : state.parts)
    parts.push_back(Json::Object{{"manifest", manifest.render()},
                                 {"open_tokens", open.tokens},
                                 {"open_documents", open.documents},
                                 {"document_start", open.document_start}});
  return Json::Object{
      {"current", state.current}, {"inside_document", state.inside_document}, {"parts", std::move(parts)}};
}

PartsState parts_from(const Json& json, const stdfs::path& path) {
  PartsState state{
      .parts = {}, .current = json.at("current").as_uint64(), .inside_document = json.at("inside_document").as_bool()};
  for (const Json& part : json.at("parts").as_array())
    state.parts.push_back({.manifest = Manifest::parse(part.at("manifest").as_string(), path),
                           .open = {.tokens = part.at("open_tokens").as_uint64(),
                                    .documents = part.at("open_documents").as_uint64(),
                                    .document_start = part.at("document_start").as_uint64()}});
  return state;
}

TokenizeState::Phase phase_from(const std::string& name) {
  const auto place = std::find(kPhases.begin(), kPhases.end(), name);
  require<IoError>(place != kPhases.end(), "unknown phase '{}'", name);
  return static_cast<TokenizeState::Phase>(place - kPhases.begin());
}

}  // namespace

Json::Object describe_work(const Tokenizer& tokenizer, const TokenizeOptions& options,
                           const std::vector<stdfs::path>& files) {
  // All fields of ReaderOptions: a new one does not compile until it is described here.
  const auto& [unit, text_field, max_document_bytes, format, on_long_document, on_bad_record] = options.reader;
  Json::Array inputs;
  for (const stdfs::path& file : files) inputs.push_back(input_text(file));
  return {{"version", kVersion},
          {"tokenizer", tokenizer.sha256()},
          {"documents", static_cast<int>(unit)},
          {"text-field", text_field},
          {"max-document-bytes", max_document_bytes},
          {"format", static_cast<int>(format)},
          {"on-long-document", static_cast<int>(on_long_document)},
          {"on-bad-record", static_cast<int>(on_bad_record)},
          {"separator", Json::Array{options.separator.kind_name(), options.separator.text}},
          {"validation-ratio", fmt::format("{}", options.validation_ratio)},
          {"shard-tokens", options.shard_tokens},
          {"max-tokens", options.max_tokens},
          {"inputs", std::move(inputs)}};
}

std::optional<std::string> find_difference(const Json& then, const Json& now, const TextPosition& position) {
  for (const auto& [name, value] : now.as_object()) {
    const Json* before = then.find(name);
    if (name != "inputs" && (before == nullptr || before->dump() != value.dump()))
      return fmt::format("--{} was {} and is {}", name, before == nullptr ? "not there" : before->dump(), value.dump());
  }
  const Json::Array &before = then.at("inputs").as_array(), &after = now.at("inputs").as_array();
  for (size_t i = 0; i <= position.input && i < before.size(); ++i) {
    const std::string& old = before[i].as_string();
    if (i >= after.size() || path_of(after[i].as_string()) != path_of(old))
      return fmt::format("the input '{}' is not there or not in its place", path_of(old));
    if (i < position.input && after[i].as_string() != old)
      return fmt::format("the input '{}' has changed", path_of(old));
  }
  if (position.input == before.size() && after.size() > before.size()) return "there are more inputs";
  return std::nullopt;
}

TokenizeJournal::TokenizeJournal(const stdfs::path& folder, Json work, FileSystem& fs)
    : folder_(folder), work_(std::move(work)), fs_(fs) {}

std::optional<TokenizeState> TokenizeJournal::find() const {
  const stdfs::path path = folder_ / kJournalName;
  if (!stdfs::exists(path)) return std::nullopt;
  const Json json = read_sealed(path);
  TokenizeState state{.phase = phase_from(json.at("phase").as_string()),
                      .position = position_from(json.at("position")),
                      .bytes_read = json.at("bytes_read").as_uint64(),
                      .parts = parts_from(json.at("parts"), path)};
  const auto difference = find_difference(read_sealed(folder_ / kWorkName), work_, state.position);
  require<IoError>(!difference, "{}", difference.value_or(""));
  return state;
}

void TokenizeJournal::begin() {
  write_sealed(fs_, folder_ / kWorkName, work_);
}

void TokenizeJournal::save(const TokenizeState& state) {
  write_sealed(fs_, folder_ / kJournalName,
               Json::Object{{"version", kVersion},
                            {"phase", kPhases[static_cast<size_t>(state.phase)]},
                            {"position", to_json(state.position)},
                            {"bytes_read", state.bytes_read},
                            {"parts", to_json(state.parts)}});
}

}  // namespace moeut
