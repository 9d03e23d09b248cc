// Whether a checkpoint may go on under this configuration.
#pragma once

#include <string>
#include <vector>

#include "trainer/checkpoint.h"
#include "trainer/config.h"

namespace moeut {

/// Compares the configuration in the checkpoint with `now` (its model stated in full). Throws IoError listing every
/// change that would make another model of it or another order of the data. The result has one line for each other
/// change. With `force` the order of the data and the tokenizer may change, too: the run goes on at the same number of
/// sequences in the new order. Another model or type of weights is refused in any case.
std::vector<std::string> check_resume(const LoadedCheckpoint& checkpoint, const RunConfig& now,
                                      const std::string& tokenizer_sha256, const std::string& data_fingerprint,
                                      bool force = false);

}  // namespace moeut
