#include "data/input_files.h"

#include <glob.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using Paths = std::vector<stdfs::path>;

/// The name's ending without .gz or .zst.
stdfs::path uncompressed_ending(const stdfs::path& path) {
  const bool compressed = path.extension() == ".gz" || path.extension() == ".zst";
  return compressed ? path.stem().extension() : path.extension();
}

bool is_text(const stdfs::path& path) {
  const auto ending = uncompressed_ending(path);
  return ending == ".txt" || ending == ".text";
}

Paths files_below(const stdfs::path& folder, Paths* left_out) {
  Paths files;
  for (auto it = stdfs::recursive_directory_iterator(folder); it != stdfs::recursive_directory_iterator(); ++it) {
    const bool hidden = it->path().filename().string().starts_with('.');
    if (hidden && it->is_directory()) it.disable_recursion_pending();
    if (hidden || !it->is_regular_file()) continue;
    if (is_json_lines(it->path()) || is_text(it->path()))
      files.push_back(it->path());
    else if (left_out != nullptr)
      left_out->push_back(it->path());
  }
  std::sort(files.begin(), files.end());
  require<IoError>(
      !files.empty(),
      "folder '{}' holds no text: nothing below it ends in .txt, .text, .jsonl, .ndjson or .json (or these "
      "with .gz or .zst); name files of other kinds one by one",
      folder.string());
  return files;
}

/// What the pattern matches; nothing if it matches nothing.
Paths matches(const std::string& pattern) {
  glob_t found = {};
  const int result = glob(pattern.c_str(), GLOB_ERR, nullptr, &found);
  const int error = errno;
  Paths paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  require<IoError>(result == 0 || result == GLOB_NOMATCH, "cannot look for '{}': {}", pattern, std::strerror(error));
  std::sort(paths.begin(), paths.end());
  return paths;
}

void add_input(const stdfs::path& input, Paths& files, Paths* left_out) {
  std::error_code error;
  const auto status = stdfs::status(input, error);
  const bool pattern = !stdfs::exists(status) && input.string().find_first_of("*?[") != std::string::npos;
  if (is_standard_input(input)) {
    files.push_back(input);
  } else if (pattern) {
    const Paths found = matches(input.string());
    require<IoError>(!found.empty(), "no file matches '{}'; check the pattern", input.string());
    for (const auto& path : found) add_input(path, files, left_out);
  } else if (stdfs::is_directory(status)) {
    const Paths below = files_below(input, left_out);
    files.insert(files.end(), below.begin(), below.end());
  } else {
    require<IoError>(stdfs::exists(status), "cannot read '{}': no such file or folder; check the path", input.string());
    files.push_back(input);
  }
}

}  // namespace

bool is_standard_input(const stdfs::path& path) {
  return path == "-";
}

std::string input_name(const stdfs::path& path) {
  return is_standard_input(path) ? "standard input" : fmt::format("'{}'", path.string());
}

bool is_json_lines(const stdfs::path& path, InputFormat format) {
  if (format != InputFormat::kByName) return format == InputFormat::kJsonLines;
  const auto ending = uncompressed_ending(path);
  return ending == ".jsonl" || ending == ".ndjson" || ending == ".json";
}

Paths expand_inputs(const Paths& inputs, Paths* left_out) {
  Paths files;
  for (size_t i = 0; i < inputs.size(); ++i) {
    require<ConfigError>(!is_standard_input(inputs[i]) || i + 1 == inputs.size(),
                         "standard input (-) must be the last input: an interrupted run could not go on behind it");
    add_input(inputs[i], files, left_out);
  }
  return files;
}

}  // namespace moeut
