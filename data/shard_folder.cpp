#include "data/shard_folder.h"

#include <algorithm>

#include "core/check.h"
#include "data/manifest.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

constexpr const char* kWorkName = ".moeut-data-partial";

}  // namespace

std::vector<stdfs::path> shard_files(const stdfs::path& folder) {
  std::vector<stdfs::path> files;
  std::error_code error;
  for (const auto& entry : stdfs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("shard-") && name.ends_with(".h5")) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool holds_shards(const stdfs::path& folder) {
  return std::any_of(kShardParts.begin(), kShardParts.end(), [&](const std::string& part) {
    const stdfs::path place = part.empty() ? folder : folder / part;
    return stdfs::exists(place / kManifestName) || !shard_files(place).empty();
  });
}

ShardWorkspace::ShardWorkspace(const stdfs::path& output, bool overwrite, FileSystem& fs)
    : output_(output), work_(output / kWorkName), fs_(fs) {
  require_writable_folder(output, "give another --output");
  kept_ = stdfs::is_directory(work_);
  if (!kept_) require_free(overwrite);
  created_ = !stdfs::exists(output);
  fs_.make_directories(work_);
  lock_.emplace(work_, "another process makes shards there; wait for it or give another --output");
}

ShardWorkspace::~ShardWorkspace() {
  if (kept_) return;
  try {
    fs_.remove_all(work_);
  } catch (...) {  // the error that led here is the one to report
  }
  std::error_code ignored;
  if (created_) stdfs::remove(output_, ignored);  // only succeeds if it is empty
}

void ShardWorkspace::require_free(bool overwrite) const {
  require<IoError>(overwrite || !holds_shards(output_),
                   "'{}' already holds shards; give another --output, or --overwrite to replace them",
                   output_.string());
}

void ShardWorkspace::clear() {
  std::vector<stdfs::path> entries;
  for (const auto& entry : stdfs::directory_iterator(work_))
    if (entry.path().filename() != "lock") entries.push_back(entry.path());
  for (const stdfs::path& entry : entries) fs_.remove_all(entry);
  kept_ = false;
}

void ShardWorkspace::remove_shards(const stdfs::path& folder) {
  if (!stdfs::is_directory(folder)) return;
  if (stdfs::exists(folder / kManifestName)) fs_.remove_all(folder / kManifestName);
  fs_.sync_directory(folder);  // from here on the folder counts as unfinished, whatever happens
  for (const stdfs::path& shard : shard_files(folder)) fs_.remove_all(shard);
  fs_.sync_directory(folder);
}

void ShardWorkspace::remove_old() {
  for (const std::string part : kShardParts) remove_shards(part.empty() ? output_ : output_ / part);
}

void ShardWorkspace::move_part(const std::string& name) {
  const stdfs::path from = part(name), to = name.empty() ? output_ : output_ / name;
  fs_.make_directories(to);
  for (const stdfs::path& shard : shard_files(from)) fs_.rename(shard, to / shard.filename());
  fs_.sync_directory(to);
  if (stdfs::exists(from / kManifestName)) fs_.rename(from / kManifestName, to / kManifestName);
  fs_.sync_directory(to);
}

void ShardWorkspace::move_in(const std::vector<std::string>& parts) {
  for (const std::string& name : parts) move_part(name);
  for (const std::string old : kShardParts) {
    std::error_code ignored;
    if (!old.empty()) stdfs::remove(output_ / old, ignored);  // a part of the old set that is now empty
  }
  fs_.remove_all(work_);
  fs_.sync_directory(output_);
}

}  // namespace moeut
