// The corpora that a run is trained on: one folder, or several with their shares of the samples.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace moeut {

/// `weight`: its part of the samples, in relation to the weights of the others.
struct Corpus {
  std::shared_ptr<const TokenDataset> dataset;
  double weight = 1;
};

/// A folder to mix in, and the share of all samples that are to come from it.
struct MixedFolder {
  std::filesystem::path folder;
  double share = 0;
  bool operator==(const MixedFolder&) const = default;
};

/// Reads "FOLDER=SHARE, FOLDER=SHARE, …"; blanks around a folder or a share do not count; a folder's name may hold '='
/// but no comma. Empty: none. Throws ConfigError unless all shares are above 0 and their sum is below 1.
std::vector<MixedFolder> parse_mix(std::string_view text);

/// Opens `folder` and those of `mix`, in this order; `folder` has the share that the others leave. Throws ConfigError
/// as parse_mix, IoError if a folder cannot be opened or two were written with different tokenizers.
std::vector<Corpus> open_corpora(const std::filesystem::path& folder, std::string_view mix);

/// Throws IoError unless the shards of `dataset` were written with the tokenizer of this SHA-256, which is that of
/// `other`.
void check_tokenizer(const TokenDataset& dataset, const std::string& sha256, const std::string& other);

}  // namespace moeut
