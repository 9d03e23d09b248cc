#include "data/shard_folder.h"

#include <algorithm>

#include "core/check.h"
#include "core/file.h"
#include "data/manifest.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

constexpr const char* kWorkName = ".moeut-data-partial";

void remove_shards(const stdfs::path& folder) {
  FileSystem& fs = FileSystem::posix();
  if (!stdfs::is_directory(folder)) return;
  if (stdfs::exists(folder / kManifestName)) fs.remove_all(folder / kManifestName);
  fs.sync_directory(folder);  // from here on the folder counts as unfinished, whatever happens
  for (const stdfs::path& shard : shard_files(folder)) fs.remove_all(shard);
}

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

ShardWorkspace::ShardWorkspace(const stdfs::path& output, bool overwrite) : output_(output), work_(output / kWorkName) {
  FileSystem& fs = FileSystem::posix();
  require_writable_folder(output, "give another --output");
  require<IoError>(overwrite || !holds_shards(output),
                   "'{}' already holds shards; give another --output, or --overwrite to replace them", output.string());
  created_ = !stdfs::exists(output);
  fs.make_directories(output);
  fs.remove_all(work_);  // of a run that was killed
  fs.make_directories(work_);
}

ShardWorkspace::~ShardWorkspace() {
  std::error_code ignored;
  stdfs::remove_all(work_, ignored);
  if (created_) stdfs::remove(output_, ignored);  // only succeeds if it is empty
}

void ShardWorkspace::move_part(const std::string& name) {
  FileSystem& fs = FileSystem::posix();
  const stdfs::path from = part(name), to = name.empty() ? output_ : output_ / name;
  fs.make_directories(to);
  for (const stdfs::path& shard : shard_files(from)) fs.rename(shard, to / shard.filename());
  fs.sync_directory(to);
  fs.rename(from / kManifestName, to / kManifestName);
  fs.sync_directory(to);
}

void ShardWorkspace::publish(const std::vector<std::string>& parts) {
  for (const std::string old : kShardParts) remove_shards(old.empty() ? output_ : output_ / old);
  for (const std::string& name : parts) move_part(name);
  for (const std::string old : kShardParts) {
    std::error_code ignored;
    if (!old.empty()) stdfs::remove(output_ / old, ignored);  // a part of the old set that is now empty
  }
  FileSystem::posix().remove_all(work_);
  FileSystem::posix().sync_directory(output_);
  if (const stdfs::path parent = stdfs::absolute(output_).lexically_normal().parent_path(); created_ && !parent.empty())
    FileSystem::posix().sync_directory(parent);
}

}  // namespace moeut
