// Uniformly random token ids on disk: data for measurements.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "data/dataset.h"

namespace moeut {

/// A shard of its own in a temporary folder, which goes with the object; a Loader reads it like any other data.
class RandomTokens {
 public:
  /// Throws IoError if the temporary folder (TMPDIR, else /tmp) cannot be written.
  RandomTokens(int64_t vocabulary, int64_t tokens, uint64_t seed);
  RandomTokens(const RandomTokens&) = delete;
  RandomTokens& operator=(const RandomTokens&) = delete;
  ~RandomTokens();

  const std::shared_ptr<const TokenDataset>& dataset() const { return dataset_; }

 private:
  void remove() noexcept;

  std::filesystem::path folder_;
  std::shared_ptr<const TokenDataset> dataset_;
};

}  // namespace moeut
