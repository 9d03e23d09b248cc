#include "data/commands/input_options.h"

#include <fmt/format.h>

#include <map>

namespace moeut::commands {
namespace {

const std::map<std::string, DocumentUnit> kUnits = {
    {"file", DocumentUnit::kFile}, {"line", DocumentUnit::kLine}, {"block", DocumentUnit::kBlock}};

}  // namespace

void InputOptions::declare(CLI::App& command) {
  command.add_option("--documents", unit, "What is one document of a text file (not of JSON lines)")
      ->check(CLI::IsMember(std::vector<std::string>{"file", "line", "block"}))
      ->capture_default_str();
  command.add_option("--text-field", text_field, "Field of the text in JSON lines; dots descend: meta.text")
      ->capture_default_str();
  command
      .add_option(
          "INPUT", paths,
          "Files or folders: .txt and others as text, .jsonl .ndjson .json as JSON lines; also with .gz or .zst")
      ->required();
}

ReaderOptions InputOptions::reader() const {
  return {.unit = kUnits.at(unit), .text_field = text_field};
}

void report_left_out(const std::vector<std::filesystem::path>& inputs) {
  std::vector<std::filesystem::path> left_out;
  expand_inputs(inputs, &left_out);
  if (left_out.empty()) return;
  fmt::print(stderr, "moeut-data: left out {} file(s) of other kinds, such as '{}'; name a file to include it\n",
             left_out.size(), left_out[0].string());
}

}  // namespace moeut::commands
