// Where spdlog's lines go: to the person at the terminal, and with time and level into train.log of the run folder.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "trainer/progress.h"

namespace moeut {

/// While it lives, spdlog::info and the others write to `terminal` (message alone; "warning: " or "error: " before
/// those) and, once open_file was called, to that file: what was said before as well, from then on line by line. One at
/// a time.
class Log {
 public:
  explicit Log(std::shared_ptr<Terminal> terminal);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// Appends to `path`; its folder must exist. Throws IoError. A file that later cannot be written (a full disk) is
  /// given up with a warning.
  void open_file(const std::filesystem::path& path);
  /// A line for the file alone, for what the terminal shows in another form (the progress bar). Nothing without a file.
  void file_only(std::string_view line);

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace moeut
