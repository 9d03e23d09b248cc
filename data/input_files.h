// Which files a list of inputs means, and what is in each by its name.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace moeut {

/// How documents lie in an input.
enum class InputFormat {
  kByName,     ///< JSON lines if the name ends in .jsonl, .ndjson or .json (then .gz or .zst or nothing), else text
  kText,       ///< UTF-8 text
  kJsonLines,  ///< one JSON object a line
};

/// "-" is standard input.
bool is_standard_input(const std::filesystem::path& path);
/// For messages: the path in quotes, or "standard input".
std::string input_name(const std::filesystem::path& path);

/// True if the input holds JSON lines.
bool is_json_lines(const std::filesystem::path& path, InputFormat format = InputFormat::kByName);

/// The files to read. A file is what it is named; a folder means all files below it that end in .txt, .text, .jsonl,
/// .ndjson or .json (then .gz or .zst or nothing), sorted by path, hidden ones aside; a pattern (glob(7): * ? [...])
/// that is no file's name means what it matches, sorted; "-" is standard input, and must be the last. Throws IoError if
/// an input is missing or a pattern or folder gives no file; ConfigError if "-" is not the last. `left_out`, if given,
/// receives the files of other kinds that are in the folders.
std::vector<std::filesystem::path> expand_inputs(const std::vector<std::filesystem::path>& inputs,
                                                 std::vector<std::filesystem::path>* left_out = nullptr);

}  // namespace moeut
