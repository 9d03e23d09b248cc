// A file system that fails on purpose, and a disk that forgets what was not synced. For tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/file.h"

namespace moeut::testing {

/// Thrown in place of the end of the process: no Error, so that no handler of the code under test tidies up after it.
struct ProcessDied {};

enum class Fault {
  kOnce,     // the n-th operation throws IoError
  kForever,  // so does every later one
  kDie       // ProcessDied, at that and every later operation
};

/// Works on the real folder `root`, and keeps beside it a model of what a power cut would leave:
/// a file's bytes up to its last sync(); a folder's names as of its last sync_directory(), or as of any later change of
/// them (file systems keep changes of names in order, but promise nothing before the sync). A failing write writes its
/// first half.
class FaultFileSystem final : public FileSystem {
 public:
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  /// Operations are numbered from 0. What is in `root` already counts as durable.
  explicit FaultFileSystem(const std::filesystem::path& root, uint64_t fail_at = kNever, Fault fault = Fault::kOnce);
  ~FaultFileSystem() override;

  uint64_t operations() const { return operations_; }
  bool failed() const { return operations_ > fail_at_; }

  enum class Forgets { kAsMuchAsPossible, kOnlyData, kAnything };
  /// Rewrites `root` as a power cut now would leave it. kAsMuchAsPossible: every unsynced name and byte is gone;
  /// kOnlyData: names are as they were, unsynced bytes are gone or zero; kAnything: chosen by `seed` for each file and
  /// folder.
  void cut_power(Forgets forgets, uint64_t seed) const;

  std::unique_ptr<WritableFile> create(const std::filesystem::path& path, uint64_t preallocate) override;
  std::unique_ptr<WritableFile> append(const std::filesystem::path& path) override;
  void make_directories(const std::filesystem::path& path) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void remove_all(const std::filesystem::path& path) override;
  void truncate(const std::filesystem::path& path, uint64_t bytes) override;
  void sync_directory(const std::filesystem::path& path) override;

 private:
  struct Node;
  class File;
  using NodePtr = std::shared_ptr<Node>;
  using Names = std::map<std::string, NodePtr>;

  static NodePtr scan(const std::filesystem::path& path);
  static void rebuild(const Node& node, const std::filesystem::path& path, Forgets forgets, std::mt19937_64& random);
  /// Numbers the operation; throws if it is one that fails.
  void count(const std::string& operation);
  Node& folder_node(const std::filesystem::path& folder) const;
  void remove_entry(const std::filesystem::path& path);
  void change(const std::filesystem::path& path, NodePtr node);

  std::filesystem::path root_;
  uint64_t fail_at_;
  Fault fault_;
  uint64_t operations_ = 0;
  NodePtr tree_;
};

}  // namespace moeut::testing
