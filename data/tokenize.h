// Text files to a folder of shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "data/documents.h"
#include "data/manifest.h"
#include "data/tokenizer.h"

namespace moeut {

struct TokenizeOptions {
  ReaderOptions reader;
  Separator separator;
  /// Share of the documents that go to OUTPUT/validation, the others to OUTPUT/train; 0: all to OUTPUT itself. A
  /// document's place is decided by a hash of its text alone, so equal documents stay together and no document is in
  /// both.
  double validation_ratio = 0;
  uint64_t shard_tokens = uint64_t{256} << 20;
  int threads = 1;
  bool overwrite = false;
  std::function<void(uint64_t bytes_done, uint64_t bytes_total)> progress;  ///< called from the calling thread
};

/// True if the document that begins with `text` belongs to the validation part: XXH3-64(text) / 2^64 < ratio.
bool in_validation(std::string_view text, double ratio);

/// Encodes every document of `inputs`, in order, and writes the shards of `output`; the bytes written do not depend on
/// the number of threads. Returns the manifests ({all}, or {train, validation}). On any error `output` is as it was.
/// Throws IoError: see documents.h and shard_folder.h; also if there is no document, or a part gets none. ConfigError
/// if the separator is EOS and the tokenizer has none.
std::vector<Manifest> tokenize(const Tokenizer& tokenizer, const std::vector<std::filesystem::path>& inputs,
                               const std::filesystem::path& output, const TokenizeOptions& options);

}  // namespace moeut
