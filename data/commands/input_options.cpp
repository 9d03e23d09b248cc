#include "data/commands/input_options.h"

#include <fmt/format.h>

#include <map>

namespace moeut::commands {
namespace {

const std::map<std::string, DocumentUnit> kUnits = {
    {"file", DocumentUnit::kFile}, {"line", DocumentUnit::kLine}, {"block", DocumentUnit::kBlock}};
const std::map<std::string, InputFormat> kFormats = {
    {"auto", InputFormat::kByName}, {"text", InputFormat::kText}, {"jsonl", InputFormat::kJsonLines}};
const std::map<std::string, OnBadRecord> kBadRecords = {{"error", OnBadRecord::kError}, {"skip", OnBadRecord::kSkip}};

constexpr uint64_t kMostTold = 10;

}  // namespace

void InputOptions::declare(CLI::App& command) {
  command.add_option("--documents", unit, "What is one document of a text file (not of JSON lines)")
      ->check(CLI::IsMember(std::vector<std::string>{"file", "line", "block"}))
      ->capture_default_str();
  command.add_option("--text-field", text_field, "Field of the text in JSON lines; dots descend: meta.text")
      ->capture_default_str();
  command
      .add_option("--format", format,
                  "auto: by an input's name, .jsonl .ndjson .json as JSON lines, others and standard input as text")
      ->check(CLI::IsMember(std::vector<std::string>{"auto", "text", "jsonl"}))
      ->capture_default_str();
  command
      .add_option(
          "--on-bad-record", on_bad_record,
          "Text that is not UTF-8, broken JSON, a missing field, damaged compressed data: error, or skip and count")
      ->check(CLI::IsMember(std::vector<std::string>{"error", "skip"}))
      ->capture_default_str();
  command
      .add_option(
          "INPUT", paths,
          "Files, folders, patterns (quoted: 'c4/*.json.gz'), or - for standard input; gzip and zstd are unpacked")
      ->required();
}

ReaderOptions InputOptions::reader() const {
  return {.unit = kUnits.at(unit),
          .text_field = text_field,
          .format = kFormats.at(format),
          .on_bad_record = kBadRecords.at(on_bad_record)};
}

void report_left_out(const std::vector<std::filesystem::path>& inputs) {
  std::vector<std::filesystem::path> left_out;
  expand_inputs(inputs, &left_out);
  if (left_out.empty()) return;
  fmt::print(stderr, "moeut-data: left out {} file(s) of other kinds, such as '{}'; name a file to include it\n",
             left_out.size(), left_out[0].string());
}

void LeftOutRecords::operator()(const std::string& reason) {
  if (told_ == kMostTold) fmt::print(stderr, "moeut-data: left out further records; the counts come at the end\n");
  if (told_++ < kMostTold) fmt::print(stderr, "moeut-data: left out {}\n", reason);
}

std::string describe_left_out(const ReaderCounts& counts) {
  std::string text;
  const auto add = [&](uint64_t count, const char* what) {
    if (count > 0) text += fmt::format("; {} {}", count, what);
  };
  add(counts.empty_documents, "empty documents left out");
  add(counts.bad_records, "bad records left out");
  add(counts.long_documents, "long documents left out");
  add(counts.damaged_inputs, "damaged inputs, read up to the damage");
  return text;
}

}  // namespace moeut::commands
