// A folder that a test may fill, removed at its end.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "core/check.h"

namespace moeut::testing {

class ScratchFolder {
 public:
  ScratchFolder() {
    // In memory where possible: tests sync thousands of files, and no power cut is to be survived here.
    const bool in_memory = ::access("/dev/shm", W_OK) == 0;
    const std::filesystem::path parent = in_memory ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string name = (parent / "moeut-test-XXXXXX").string();
    require<IoError>(::mkdtemp(name.data()) != nullptr, "cannot make a folder like '{}'", name);
    path_ = name;
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace moeut::testing
