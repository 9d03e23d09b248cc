// What a tokenisation notes on the disk while it goes on, so that another process can take it up.
//
// Two small files in the hidden folder where the shards are made, JSON, each sealed with a hash of its content and
// replaced atomically: work.json says what the work is, journal.json how far it is. Everything that journal.json names
// was durable before it was written, and is kept until the next one is.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/file.h"
#include "data/document_batches.h"
#include "data/document_parts.h"
#include "data/json.h"
#include "data/tokenize.h"

namespace moeut {

struct TokenizeState {
  enum class Phase {
    kEncoding,   ///< reading inputs
    kReplacing,  ///< the new shards are complete, old ones are being removed
    kMoving      ///< none are left, the new ones are moved to their place
  };
  Phase phase = Phase::kEncoding;
  TextPosition position;
  uint64_t bytes_read = 0;  ///< of all inputs, for progress
  PartsState parts;
};

/// Everything that decides the bytes of the shards, each under the name by which users know it; and under "inputs" the
/// size, time of change and path of each.
Json::Object describe_work(const Tokenizer& tokenizer, const TokenizeOptions& options,
                           const std::vector<std::filesystem::path>& files);

/// Why work that was described as `then`, and was at `position`, cannot go on as `now`; nothing if it can. Inputs that
/// are read must be unchanged; of the one that is being read DocumentBatches checks the text.
std::optional<std::string> find_difference(const Json& then, const Json& now, const TextPosition& position);

class TokenizeJournal {
 public:
  TokenizeJournal(const std::filesystem::path& folder, Json work, FileSystem& fs);

  /// What an earlier process noted in this folder; nothing if there is no journal. Throws IoError, which says why, if
  /// it cannot be used for this work.
  std::optional<TokenizeState> find() const;
  /// Notes what the work is: before the first save().
  void begin();
  void save(const TokenizeState& state);

 private:
  std::filesystem::path folder_;
  Json work_;
  FileSystem& fs_;
};

}  // namespace moeut
