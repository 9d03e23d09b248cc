// Which files of a folder are shards, and how a finished set takes the place of what was there.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/folder_lock.h"

namespace moeut {

/// The parts that a folder of shards may be divided into; "" is the folder itself.
inline constexpr std::array<const char*, 3> kShardParts = {"", "train", "validation"};

/// The files in `folder` itself named shard-*.h5, sorted; none if there is no such folder.
std::vector<std::filesystem::path> shard_files(const std::filesystem::path& folder);

/// True if the folder or a part of it has shards or a manifest.
bool holds_shards(const std::filesystem::path& folder);

/// A hidden folder inside `output` in which one process at a time makes shards. Nothing in `output` changes before
/// remove_old(). The destructor removes every trace, `output` too if this created it and it is empty, unless what is
/// there is to be kept for another process.
class ShardWorkspace {
 public:
  /// Makes the folder, or takes over (and keeps) the one that an earlier process left. Throws IoError if another
  /// process works there, `output` is no folder or cannot be written, or, where nothing is left, as require_free does.
  ShardWorkspace(const std::filesystem::path& output, bool overwrite, FileSystem& fs = FileSystem::posix());
  ShardWorkspace(ShardWorkspace&&) = delete;
  ~ShardWorkspace();

  const std::filesystem::path& folder() const { return work_; }
  /// Where the shards of a part are to be written.
  std::filesystem::path part(const std::string& name) const { return work_ / (name.empty() ? "all" : name); }

  /// Throws IoError if `output` holds shards and `overwrite` is false.
  void require_free(bool overwrite) const;
  /// Removes what an earlier process left.
  void clear();
  /// From now on the destructor leaves what is there.
  void keep() { kept_ = true; }

  /// Removes the shards that were there, their manifests first. Files that are no shards stay.
  void remove_old();
  /// Moves the new ones in, each part's manifest last, syncs, and removes this folder. May be called again after it was
  /// interrupted.
  void move_in(const std::vector<std::string>& parts);

 private:
  void remove_shards(const std::filesystem::path& folder);
  void move_part(const std::string& name);

  std::filesystem::path output_, work_;
  FileSystem& fs_;
  bool created_ = false, kept_ = false;
  std::optional<FolderLock> lock_;
};

}  // namespace moeut
