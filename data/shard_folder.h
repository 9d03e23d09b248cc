// Which files of a folder are shards, and how a finished set takes the place of what was there.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <vector>

namespace moeut {

/// The parts that a folder of shards may be divided into; "" is the folder itself.
inline constexpr std::array<const char*, 3> kShardParts = {"", "train", "validation"};

/// The files in `folder` itself named shard-*.h5, sorted; none if there is no such folder.
std::vector<std::filesystem::path> shard_files(const std::filesystem::path& folder);

/// True if the folder or a part of it has shards or a manifest.
bool holds_shards(const std::filesystem::path& folder);

/// A hidden folder inside `output` in which shards are made. Nothing in `output` changes before publish(); without it
/// the destructor removes every trace, `output` too if this created it and it is empty.
class ShardWorkspace {
 public:
  /// Throws IoError if `output` holds shards and `overwrite` is false, or it is no folder, or cannot be written.
  ShardWorkspace(const std::filesystem::path& output, bool overwrite);
  ShardWorkspace(ShardWorkspace&&) = delete;
  ~ShardWorkspace();

  /// Where the shards of a part are to be written.
  std::filesystem::path part(const std::string& name) const { return name.empty() ? work_ : work_ / name; }

  /// Removes the shards that were there (their manifest first), moves the new ones in (their manifest last) and syncs.
  /// Files that are no shards stay.
  void publish(const std::vector<std::string>& parts);

 private:
  void move_part(const std::string& name);

  std::filesystem::path output_, work_;
  bool created_ = false;
};

}  // namespace moeut
