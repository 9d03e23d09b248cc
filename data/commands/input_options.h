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
  std::string unit = "file", text_field = "text", format = "auto", on_bad_record = "error";

  void declare(CLI::App& command);
  ReaderOptions reader() const;
};

/// Says on standard error what a folder walk left out: it must not go unseen.
void report_left_out(const std::vector<std::filesystem::path>& inputs);

/// Says on standard error which records are left out: the first ones; the counts at the end say how many there were.
class LeftOutRecords {
 public:
  void operator()(const std::string& reason);

 private:
  uint64_t told_ = 0;
};

/// "; 3 bad records left out" and so on; empty if all counts are 0.
std::string describe_left_out(const ReaderCounts& counts);

}  // namespace moeut::commands
