#include "trainer/checkpoint.h"

#include <algorithm>

#include "core/check.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr const char* kUnfinished = ".tmp";  // being written, or being removed
constexpr const char* kReplaced = ".old";    // a checkpoint whose successor of the same step is being published
constexpr const char* kLatest = "LATEST";

stdfs::path with_suffix(stdfs::path path, std::string_view suffix) {
  return path += suffix;
}

/// "step-00000060" is 60; any other spelling is not a checkpoint of ours.
std::optional<uint64_t> step_of(std::string_view name) {
  constexpr size_t kMaxDigits = 19;  // fits in 64 bits
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size());
  if (digits.size() < 8 || digits.size() > kMaxDigits) return std::nullopt;
  if (digits.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  if (digits.size() > 8 && digits.front() == '0') return std::nullopt;
  return std::stoull(std::string(digits));
}

/// Names of the folders inside `folder`; none if it does not exist.
std::vector<std::string> subfolders(const stdfs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  if (!stdfs::exists(folder, error)) return names;
  stdfs::directory_iterator entry(folder, error);
  for (; !error && entry != stdfs::directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_directory(ignored)) names.push_back(entry->path().filename().string());
  }
  require<IoError>(!error, "cannot list the folder '{}': {}", folder.string(), error.message());
  std::ranges::sort(names);
  return names;
}

/// Why the checkpoint cannot be loaded; empty if it can.
std::string defect(const stdfs::path& folder) {
  try {
    LoadedCheckpoint::open(folder);
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

/// Runs what may fail without harm to the checkpoints.
template <class F>
void try_and_warn(std::vector<std::string>* warnings, F&& action) {
  try {
    action();
  } catch (const Error& error) {
    if (warnings != nullptr) warnings->emplace_back(error.what());
  }
}

}  // namespace

CheckpointStore::CheckpointStore(FileSystem& fs, const stdfs::path& run_dir, RetentionOptions retention)
    : fs_(fs), folder_(run_dir / "checkpoints"), retention_(retention) {}

stdfs::path CheckpointStore::folder_of(uint64_t step) const {
  return folder_ / fmt::format("{}{:08}", kPrefix, step);
}

std::vector<CheckpointStore::Candidate> CheckpointStore::candidates() const {
  std::vector<Candidate> found;
  for (const std::string& name : subfolders(folder_)) {
    std::string_view stem = name;
    if (stem.ends_with(kReplaced)) stem.remove_suffix(std::string_view(kReplaced).size());
    if (const auto step = step_of(stem)) found.push_back({*step, folder_ / name});
  }
  std::ranges::sort(found, [](const Candidate& a, const Candidate& b) {
    return a.step != b.step ? a.step > b.step : a.folder < b.folder;  // step-N before step-N.old
  });
  return found;
}

std::vector<uint64_t> CheckpointStore::steps() const {
  std::vector<uint64_t> steps;
  for (const Candidate& candidate : candidates()) steps.push_back(candidate.step);
  std::ranges::reverse(steps);
  steps.erase(std::ranges::unique(steps).begin(), steps.end());
  return steps;
}

std::optional<LoadedCheckpoint> CheckpointStore::newest_verified(std::vector<std::string>* rejected) const {
  for (const Candidate& candidate : candidates()) {
    try {
      LoadedCheckpoint loaded = LoadedCheckpoint::open(candidate.folder);
      require<IoError>(loaded.step() == candidate.step, "'{}' holds a checkpoint of step {}: it was renamed",
                       candidate.folder.string(), loaded.step());
      return loaded;
    } catch (const IoError& error) {
      if (rejected != nullptr) rejected->emplace_back(error.what());
    }
  }
  return std::nullopt;
}

stdfs::path CheckpointStore::save(const CheckpointContent& content, std::vector<std::string>* warnings) {
  const stdfs::path folder = folder_of(content.step);
  const stdfs::path temporary = with_suffix(folder, kUnfinished);
  fs_.make_directories(folder_);
  remove_leftovers(warnings);
  check_space(content);
  try {
    fs_.remove_all(temporary);
    write_folder(content, temporary);
  } catch (const Error&) {
    try_and_warn(nullptr,
                 [&] { fs_.remove_all(temporary); });  // gives the space back; the first error is the one to report
    throw;
  }
  publish(temporary, folder);
  retain(content.step, warnings);
  return folder;
}

void CheckpointStore::publish(const stdfs::path& temporary, const stdfs::path& folder) {
  const stdfs::path replaced = with_suffix(folder, kReplaced);
  std::error_code error;
  if (stdfs::exists(replaced, error)) {
    fs_.remove_all(
        folder);  // does not verify, or remove_leftovers would have removed `replaced`, which is the one to keep
  } else if (stdfs::exists(folder, error)) {
    fs_.rename(folder, replaced);
  }
  fs_.rename(temporary, folder);
  fs_.sync_directory(folder_);
  write_file_atomically(fs_, folder_ / kLatest, folder.filename().string() + "\n");
}

std::set<uint64_t> CheckpointStore::best_steps() const {
  std::vector<std::pair<double, uint64_t>> losses;
  for (const uint64_t step : steps()) {
    try {
      if (const auto loss = read_checkpoint_manifest(folder_of(step)).validation_loss) losses.emplace_back(*loss, step);
    } catch (const Error&) {  // a damaged one is no better for its loss
    }
  }
  std::ranges::sort(losses, [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.second > b.second;
  });
  std::set<uint64_t> best;
  for (size_t i = 0; i < std::min<size_t>(losses.size(), retention_.keep_best); ++i) best.insert(losses[i].second);
  return best;
}

/// Newest first.
std::vector<stdfs::path> CheckpointStore::unwanted(uint64_t saved_step) const {
  std::vector<stdfs::path> folders;
  if (retention_.keep_last == 0) return folders;
  const std::set<uint64_t> best = retention_.keep_best > 0 ? best_steps() : std::set<uint64_t>();
  uint64_t newer = 0;
  std::optional<uint64_t> previous;
  for (const Candidate& candidate : candidates()) {
    const bool replaced = candidate.step == previous;
    if (!replaced) ++newer;
    previous = candidate.step;
    const bool milestone = retention_.keep_every > 0 && candidate.step % retention_.keep_every == 0;
    const bool kept =
        newer <= retention_.keep_last || candidate.step == saved_step || milestone || best.contains(candidate.step);
    if (replaced || !kept) folders.push_back(candidate.folder);
  }
  return folders;
}

void CheckpointStore::retain(uint64_t saved_step, std::vector<std::string>* warnings) {
  const std::vector<stdfs::path> doomed = unwanted(saved_step);
  if (doomed.empty()) return;
  const std::string reason = defect(folder_of(saved_step));
  require<IoError>(reason.empty(), "the checkpoint just written does not verify, so no older one is removed: {}",
                   reason);
  for (auto folder = doomed.rbegin(); folder != doomed.rend(); ++folder) {
    try_and_warn(warnings, [&] { discard(*folder); });
  }
}

/// Renamed first: a removal that is cut short leaves a left-over, not a damaged checkpoint.
void CheckpointStore::discard(const stdfs::path& folder) {
  const stdfs::path doomed = with_suffix(folder, kUnfinished);
  fs_.rename(folder, doomed);
  fs_.sync_directory(folder_);
  fs_.remove_all(doomed);
}

void CheckpointStore::remove_leftovers(std::vector<std::string>* warnings) {
  for (const std::string& name : subfolders(folder_)) {
    const stdfs::path path = folder_ / name;
    if (name.starts_with(kPrefix) && name.ends_with(kUnfinished)) {
      try_and_warn(warnings, [&] { fs_.remove_all(path); });
    } else if (name.starts_with(kPrefix) && name.ends_with(kReplaced)) {
      const stdfs::path successor = folder_ / name.substr(0, name.size() - std::string_view(kReplaced).size());
      std::error_code error;
      if (!stdfs::exists(successor, error)) {
        try_and_warn(warnings, [&] { fs_.rename(path, successor); });
      } else if (defect(successor).empty()) {
        try_and_warn(warnings, [&] { discard(path); });
      }
    }
  }
}

std::vector<stdfs::path> CheckpointStore::set_aside_newer_than(std::optional<uint64_t> step) {
  std::vector<stdfs::path> aside;
  std::error_code error;
  for (const Candidate& candidate : candidates()) {
    if (step && candidate.step <= *step) continue;
    int number = 1;
    const auto target = [&] { return with_suffix(folder_of(candidate.step), fmt::format(".aside-{}", number)); };
    while (stdfs::exists(target(), error)) ++number;
    fs_.rename(candidate.folder, target());
    aside.push_back(target());
  }
  if (aside.empty()) return aside;
  fs_.sync_directory(folder_);
  const std::vector<uint64_t> left = steps();
  if (left.empty()) {
    fs_.remove_all(folder_ / kLatest);
  } else {
    write_file_atomically(fs_, folder_ / kLatest, folder_of(left.back()).filename().string() + "\n");
  }
  return aside;
}

}  // namespace moeut
