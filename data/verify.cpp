#include "data/verify.h"

#include <algorithm>
#include <optional>

#include "core/check.h"
#include "data/manifest.h"
#include "data/shard_folder.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

/// What the manifest says about one shard, and all shards about their tokenizer.
struct Expected {
  const ManifestShard* shard = nullptr;
  const ShardInfo* info = nullptr;
};

class Verifier {
 public:
  void path(const stdfs::path& path) {
    if (!stdfs::exists(path)) return defect(path, "no such file or folder; check the path");
    stdfs::is_directory(path) ? folder(path) : lone_file(path);
  }
  VerifyReport take() { return std::move(report_); }

 private:
  void defect(const stdfs::path& path, const std::string& what) {
    const std::string name = fmt::format("'{}'", path.string());
    report_.defects.push_back(what.find(name) != std::string::npos ? what : name + ": " + what);
  }

  void folder(const stdfs::path& folder) {
    bool any = false;
    for (const std::string part : kShardParts) {
      const stdfs::path place = part.empty() ? folder : folder / part;
      if (!stdfs::exists(place / kManifestName) && shard_files(place).empty()) continue;
      any = true;
      one_folder(place);
    }
    if (!any) defect(folder, "holds no shards; make them with moeut-data tokenize");
  }

  void one_folder(const stdfs::path& folder) {
    std::optional<Manifest> manifest;
    try {
      manifest = Manifest::load(folder);
    } catch (const IoError& error) {
      defect(folder / kManifestName, error.what());
      for (const stdfs::path& file : shard_files(folder)) shard(file, {});
      return;
    }
    for (const ManifestShard& entry : manifest->shards) shard(folder / entry.name, {&entry, &manifest->info});
    for (const stdfs::path& file : shard_files(folder))
      if (std::none_of(manifest->shards.begin(), manifest->shards.end(),
                       [&](const ManifestShard& entry) { return file.filename() == entry.name; }))
        defect(file, "is not in the manifest; remove it, or tokenize again");
  }

  void lone_file(const stdfs::path& file) {
    const stdfs::path folder = file.parent_path().empty() ? stdfs::path(".") : file.parent_path();
    if (!stdfs::exists(folder / kManifestName)) return shard(file, {});
    try {
      const Manifest manifest = Manifest::load(folder);
      for (const ManifestShard& entry : manifest.shards)
        if (file.filename() == entry.name) return shard(file, {&entry, &manifest.info});
      shard(file, {});
    } catch (const IoError& error) {
      defect(file, error.what());
    }
  }

  void shard(const stdfs::path& file, const Expected& expected) {
    try {
      if (expected.shard != nullptr && !matches(file, *expected.shard)) return;
      const Shard opened(file, read_foreign_shard_layout(file));
      if (expected.info != nullptr && opened.layout().info != *expected.info)
        defect(file, "was made with another tokenizer or separator than the manifest says; tokenize again");
      for (const std::string& block : opened.damaged_blocks()) defect(file, block);
      ++report_.shards;
      report_.tokens += opened.layout().tokens;
      report_.documents += opened.layout().documents;
    } catch (const IoError& error) {
      defect(file, error.what());
    }
  }

  /// Compares the file as a whole with the manifest; false if it cannot be right, with the reason reported.
  bool matches(const stdfs::path& file, const ManifestShard& entry) {
    if (!stdfs::exists(file)) return defect(file, "is missing; restore it or tokenize again"), false;
    const MappedFile mapped(file);
    if (mapped.bytes().size() != entry.bytes)
      return defect(file, fmt::format("has {} bytes where the manifest says {}: it was truncated or replaced; tokenize "
                                      "again or restore it",
                                      mapped.bytes().size(), entry.bytes)),
             false;
    if (hash_without(mapped, 0, 0) != entry.xxh3_128)
      return defect(file, "does not match its hash in the manifest: it is damaged; tokenize again or restore it"),
             false;
    return true;
  }

  VerifyReport report_;
};

}  // namespace

VerifyReport verify_shards(const std::vector<stdfs::path>& paths) {
  Verifier verifier;
  for (const stdfs::path& path : paths) verifier.path(path);
  return verifier.take();
}

std::vector<stdfs::path> shards_of(const stdfs::path& path) {
  require<IoError>(stdfs::exists(path), "cannot read '{}': no such file or folder; check the path", path.string());
  if (!stdfs::is_directory(path)) return {path};
  std::vector<stdfs::path> files;
  for (const std::string part : kShardParts) {
    const stdfs::path place = part.empty() ? path : path / part;
    if (stdfs::exists(place / kManifestName))
      for (const ManifestShard& shard : Manifest::load(place).shards) files.push_back(place / shard.name);
    else
      for (const stdfs::path& file : shard_files(place)) files.push_back(file);
  }
  require<IoError>(!files.empty(), "'{}' holds no shards; make them with moeut-data tokenize", path.string());
  return files;
}

}  // namespace moeut
