// What the commands that read text have in common.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "data/documents.h"

namespace moeut::commands {

/// Which files, and what a document of them is.
struct InputOptions {
  std::vector<std::filesystem::path> paths;
  std::string unit = "file", text_field = "text";

  void declare(CLI::App& command);
  ReaderOptions reader() const;
};

/// Says on standard error what a folder walk left out: it must not go unseen.
void report_left_out(const std::vector<std::filesystem::path>& inputs);

}  // namespace moeut::commands
