// --resume auto|must|no|PATH: from where a run goes on, and what is said about it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/checkpoint.h"

namespace moeut {

struct ResumeDecision {
  std::optional<LoadedCheckpoint> checkpoint;  // nullopt: from the beginning
  std::vector<std::string> messages;           // one line each: what was found, and why newer checkpoints were rejected
};

/// auto: the newest checkpoint of `store` that verifies, else from the beginning. must: the same, but IoError if there
/// is none. no: from the beginning. Anything else is a path, of a checkpoint folder (taken as it is or not at all) or
/// of a run folder (as must); IoError if it is neither or does not verify. Changes nothing on the disk.
ResumeDecision decide_resume(const CheckpointStore& store, std::string_view policy);

}  // namespace moeut
