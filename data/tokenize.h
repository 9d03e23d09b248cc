// Text files to a folder of shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "data/documents.h"
#include "data/manifest.h"
#include "data/tokenizer.h"

namespace moeut {

/// What is known while it goes on.
struct TokenizeProgress {
  uint64_t input_bytes = 0;  ///< of the input files, read and encoded
  uint64_t input_total = 0;  ///< 0: unknown, an input is no regular file
  uint64_t text_bytes = 0;   ///< encoded
};

struct TokenizeOptions {
  ReaderOptions reader;
  Separator separator;
  /// Share of the documents that go to OUTPUT/validation, the others to OUTPUT/train; 0: all to OUTPUT itself. A
  /// document's place is decided by a hash of its text alone, so equal documents stay together and no document is in
  /// both.
  double validation_ratio = 0;
  uint64_t shard_tokens = uint64_t{256} << 20;
  /// Reading ends when the output, or its train part, has so many tokens; the last document is cut there. 0: no limit.
  uint64_t max_tokens = 0;
  int threads = 1;
  /// Text that a thread gets at once: enough that handing over costs nothing, little enough to balance threads.
  size_t batch_bytes = 128 << 10;
  bool overwrite = false;
  bool resume = true;          ///< go on from the journal of an interrupted run, if there is one for this work
  double journal_seconds = 5;  ///< between two notes of how far it is
  FileSystem* file_system = &FileSystem::posix();  ///< where the output goes (HDF5 aside)

  // All called from one thread at a time, that of the caller or that which reads.
  std::function<void(const TokenizeProgress&)> progress;
  std::function<void(const std::string&)> notice;    ///< a line for people: where it goes on, or why not
  std::function<void(const std::string&)> left_out;  ///< a line for each record that is left out: see open_documents
  std::function<bool()> stop;                        ///< true: note how far it is, and return
};

/// True if the document that begins with `text` belongs to the validation part: XXH3-64(text) / 2^64 < ratio.
bool in_validation(std::string_view text, double ratio);

/// Encodes every document of `inputs` (input_files.h), in order, and writes the shards of `output`; the bytes written
/// depend neither on the number of threads nor on how often the work was interrupted and taken up. Returns the
/// manifests ({all}, or {train, validation}); none if `options.stop` ended it. On any error `output` is as it was, but
/// for a hidden folder from which the same call goes on, if there is much to go on from (data/tokenize_journal.h).
/// Throws IoError: see documents.h and shard_folder.h; also if there is no document, or a part gets none, or the disk
/// is too small. ConfigError if the separator is EOS and the tokenizer has none.
std::vector<Manifest> tokenize(const Tokenizer& tokenizer, const std::vector<std::filesystem::path>& inputs,
                               const std::filesystem::path& output, const TokenizeOptions& options);

}  // namespace moeut
