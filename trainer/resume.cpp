#include "trainer/resume.h"

#include "core/check.h"
#include "trainer/checkpoint_layout.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

ResumeDecision newest_of(const CheckpointStore& store) {
  ResumeDecision decision;
  std::vector<std::string> rejected;
  decision.checkpoint = store.newest_verified(&rejected);
  for (const std::string& reason : rejected) decision.messages.push_back("checkpoint rejected: " + reason);
  return decision;
}

void say_resuming(ResumeDecision& decision) {
  decision.messages.push_back(fmt::format("resuming from '{}' (step {}, verified)",
                                          decision.checkpoint->folder().string(), decision.checkpoint->step()));
}

ResumeDecision resume_auto(const CheckpointStore& store) {
  ResumeDecision decision = newest_of(store);
  if (decision.checkpoint) {
    say_resuming(decision);
  } else if (decision.messages.empty()) {
    decision.messages.push_back(fmt::format("no checkpoint in '{}': starting from step 0", store.folder().string()));
  } else {
    decision.messages.push_back(
        fmt::format("no checkpoint in '{}' can be loaded: starting from step 0", store.folder().string()));
  }
  return decision;
}

ResumeDecision resume_must(const CheckpointStore& store) {
  ResumeDecision decision = newest_of(store);
  std::string reasons;
  for (const std::string& message : decision.messages) reasons += "; " + message;
  require<IoError>(decision.checkpoint.has_value(),
                   "no checkpoint in '{}' can be loaded{}; give --resume auto to start anew", store.folder().string(),
                   reasons);
  say_resuming(decision);
  return decision;
}

ResumeDecision resume_no(const CheckpointStore& store) {
  const size_t present = store.steps().size();
  if (present == 0) return {std::nullopt, {"starting from step 0 (--resume no)"}};
  return {std::nullopt,
          {fmt::format("starting from step 0 (--resume no); {} checkpoints in '{}' are not used", present,
                       store.folder().string())}};
}

LoadedCheckpoint open_named(const stdfs::path& path) {
  try {
    return LoadedCheckpoint::open(path);
  } catch (const IoError& error) {
    throw IoError(
        fmt::format("{}; name another checkpoint, or let --resume auto take the newest that is whole", error.what()));
  }
}

ResumeDecision resume_from(const stdfs::path& path) {
  std::error_code error;
  if (stdfs::exists(path / kManifestFile, error)) {
    ResumeDecision decision{open_named(path), {}};
    say_resuming(decision);
    return decision;
  }
  require<IoError>(stdfs::exists(path, error),
                   "--resume {}: it is neither auto, must or no, nor a folder that exists; check the path",
                   path.string());
  require<IoError>(stdfs::is_directory(path / "checkpoints", error),
                   "--resume {}: it is neither auto, must or no, nor a checkpoint folder (with {}), nor a run folder "
                   "(with checkpoints/)",
                   path.string(), kManifestFile);
  return resume_must(CheckpointStore(FileSystem::posix(), path));
}

}  // namespace

ResumeDecision decide_resume(const CheckpointStore& store, std::string_view policy) {
  if (policy == "auto") return resume_auto(store);
  if (policy == "must") return resume_must(store);
  if (policy == "no") return resume_no(store);
  return resume_from(stdfs::path(policy));
}

}  // namespace moeut
