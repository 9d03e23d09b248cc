// Checkpoints that are written while training goes on.
#pragma once

#include <future>
#include <optional>
#include <string>
#include <vector>

#include "trainer/checkpoint.h"

namespace moeut {

/// What came of a save that did not throw.
struct SavedCheckpoint {
  std::filesystem::path folder;
  std::vector<std::string> warnings;
};

/// Hands one save at a time to a thread. Nobody else may write to the store while one is under way.
class AsyncSaver {
 public:
  /// `store` must outlive this.
  explicit AsyncSaver(CheckpointStore& store) : store_(store) {}
  /// Waits for the save under way.
  ~AsyncSaver() = default;
  AsyncSaver(const AsyncSaver&) = delete;

  bool under_way() const { return saving_.valid(); }
  /// Needs: none is under way. The content must own what it points to: see copy_of.
  void begin(CheckpointContent content);
  /// What came of the save under way, if it has ended; nothing if none has. Rethrows what it threw.
  std::optional<SavedCheckpoint> take_if_done();
  /// The same, once it has ended.
  std::optional<SavedCheckpoint> wait();

 private:
  CheckpointStore& store_;
  std::future<SavedCheckpoint> saving_;
};

/// The same bytes in memory of their own: what they were copied from may change.
CheckpointContent copy_of(CheckpointContent content);

}  // namespace moeut
