// data.mixture: several corpora in one run.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/loader.h"

namespace moeut {

struct MixturePart {
  std::filesystem::path folder;
  double share = 0;  ///< of the sequences
};

/// "FOLDER=SHARE, FOLDER=SHARE": the text of data.mixture. Throws ConfigError saying what is wrong: a part that is not
/// FOLDER=SHARE, a share that is not between 0 and 1, shares that leave nothing to data.train.
std::vector<MixturePart> parse_mixture(const std::string& text);

/// Names the contents and the shares of all corpora; of a single one it is the dataset's own fingerprint.
std::string fingerprint_of(const std::vector<Corpus>& corpora);

}  // namespace moeut
