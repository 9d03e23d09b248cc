#include "tests/fault_file_system.h"

#include <fstream>

#include "core/check.h"

namespace moeut::testing {
namespace {

namespace stdfs = std::filesystem;

}  // namespace

/// A file: bytes now, and how many of them were synced. A folder: its names at the last sync, then after each change
/// since.
struct FaultFileSystem::Node {
  bool is_folder = false;
  std::string bytes;
  size_t synced = 0;
  std::vector<Names> history;
};

class FaultFileSystem::File final : public WritableFile {
 public:
  File(FaultFileSystem& fs, std::unique_ptr<WritableFile> real, NodePtr node)
      : fs_(fs), real_(std::move(real)), node_(std::move(node)) {}

  void write(const void* data, size_t bytes) override {
    const auto* text = static_cast<const char*>(data);
    try {
      fs_.count("write");
    } catch (...) {
      append(text, bytes / 2);
      throw;
    }
    append(text, bytes);
  }
  void sync() override {
    fs_.count("sync");
    node_->synced = node_->bytes.size();
  }
  void close() override {
    fs_.count("close");
    real_->close();
  }

 private:
  void append(const char* data, size_t bytes) {
    real_->write(data, bytes);
    node_->bytes.append(data, bytes);
  }

  FaultFileSystem& fs_;
  std::unique_ptr<WritableFile> real_;
  NodePtr node_;
};

FaultFileSystem::FaultFileSystem(const stdfs::path& root, uint64_t fail_at, Fault fault)
    : root_(root), fail_at_(fail_at), fault_(fault), tree_(scan(root)) {}

FaultFileSystem::~FaultFileSystem() = default;

FaultFileSystem::NodePtr FaultFileSystem::scan(const stdfs::path& path) {
  auto node = std::make_shared<Node>();
  node->is_folder = stdfs::is_directory(path);
  if (!node->is_folder) {
    node->bytes = read_file(path, uint64_t{1} << 30);
    node->synced = node->bytes.size();
    return node;
  }
  Names names;
  for (const auto& entry : stdfs::directory_iterator(path)) names[entry.path().filename()] = scan(entry.path());
  node->history.push_back(std::move(names));
  return node;
}

void FaultFileSystem::count(const std::string& operation) {
  const uint64_t number = operations_++;
  if (number < fail_at_ || (number > fail_at_ && fault_ == Fault::kOnce)) return;
  if (fault_ == Fault::kDie) throw ProcessDied{};
  throw IoError(fmt::format("operation {} ({}) was made to fail", number, operation));
}

FaultFileSystem::Node& FaultFileSystem::folder_node(const stdfs::path& folder) const {
  Node* node = tree_.get();
  for (const stdfs::path& part : folder.lexically_relative(root_)) {
    if (part != ".") node = node->history.back().at(part).get();
  }
  return *node;
}

void FaultFileSystem::change(const stdfs::path& path, NodePtr node) {
  Node& folder = folder_node(path.parent_path());
  Names names = folder.history.back();
  if (node) {
    names[path.filename()] = std::move(node);
  } else {
    names.erase(path.filename());
  }
  folder.history.push_back(std::move(names));
}

std::unique_ptr<WritableFile> FaultFileSystem::create(const stdfs::path& path, uint64_t preallocate) {
  count("create");
  auto real = posix().create(path, preallocate);
  auto node = std::make_shared<Node>();
  change(path, node);
  return std::make_unique<File>(*this, std::move(real), std::move(node));
}

std::unique_ptr<WritableFile> FaultFileSystem::append(const stdfs::path& path) {
  count("append");
  auto real = posix().append(path);
  return std::make_unique<File>(*this, std::move(real),
                                folder_node(path.parent_path()).history.back().at(path.filename()));
}

void FaultFileSystem::make_directories(const stdfs::path& path) {
  count("make_directories");
  if (stdfs::is_directory(path)) return;
  if (path.parent_path() != root_) {
    if (!stdfs::is_directory(path.parent_path())) make_directories(path.parent_path());
  }
  posix().make_directories(path);
  auto node = std::make_shared<Node>();
  node->is_folder = true;
  node->history.emplace_back();
  change(path, std::move(node));
  Node& parent = folder_node(path.parent_path());
  parent.history = {parent.history.back()};  // durable, as the interface promises
}

void FaultFileSystem::rename(const stdfs::path& from, const stdfs::path& to) {
  count("rename");
  posix().rename(from, to);
  Node& folder = folder_node(from.parent_path());
  require<IoError>(from.parent_path() == to.parent_path(), "the model of a disk renames within one folder only");
  Names names = folder.history.back();
  names[to.filename()] = names.at(from.filename());
  names.erase(from.filename());
  folder.history.push_back(std::move(names));
}

/// A failing removal removes the first entry of the folder and keeps the others.
void FaultFileSystem::remove_all(const stdfs::path& path) {
  try {
    count("remove_all");
  } catch (...) {
    if (stdfs::is_directory(path) && operations_ == fail_at_ + 1) {
      const Names& names = folder_node(path).history.back();
      if (!names.empty()) remove_entry(path / names.begin()->first);
    }
    throw;
  }
  if (stdfs::exists(path)) remove_entry(path);
}

void FaultFileSystem::remove_entry(const stdfs::path& path) {
  posix().remove_all(path);
  change(path, nullptr);
}

void FaultFileSystem::truncate(const stdfs::path& path, uint64_t bytes) {
  count("truncate");
  posix().truncate(path, bytes);
  Node& node = *folder_node(path.parent_path()).history.back().at(path.filename());
  node.bytes.resize(bytes);
  node.synced = bytes;
}

void FaultFileSystem::sync_directory(const stdfs::path& path) {
  count("sync_directory");
  Node& node = folder_node(path);
  node.history = {node.history.back()};
}

void FaultFileSystem::cut_power(Forgets forgets, uint64_t seed) const {
  std::mt19937_64 random(seed);
  for (const auto& entry : stdfs::directory_iterator(root_)) stdfs::remove_all(entry.path());
  rebuild(*tree_, root_, forgets, random);
}

void FaultFileSystem::rebuild(const Node& node, const stdfs::path& path, Forgets forgets, std::mt19937_64& random) {
  if (node.is_folder) {
    size_t moment = forgets == Forgets::kOnlyData ? node.history.size() - 1 : 0;
    if (forgets == Forgets::kAnything) moment = random() % node.history.size();
    stdfs::create_directory(path);
    for (const auto& [name, child] : node.history[moment]) rebuild(*child, path / name, forgets, random);
    return;
  }
  std::string bytes = node.bytes.substr(0, node.synced);
  const size_t lost = node.bytes.size() - node.synced;
  // A size may be recorded before the data: the tail then reads as zeros.
  if (forgets != Forgets::kAsMuchAsPossible && random() % 2 == 0) bytes.append(random() % (lost + 1), '\0');
  if (forgets == Forgets::kAnything && random() % 3 == 0) bytes = node.bytes;
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace moeut::testing
