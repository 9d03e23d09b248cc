#include "trainer/random_tokens.h"

#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/rng.h"
#include "data/shard_writer.h"

namespace moeut {
namespace {

std::filesystem::path temporary_folder() {
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::temp_directory_path(error);
  require<IoError>(!error, "the temporary folder is not there ({}); set TMPDIR", error.message());
  std::string name = (parent / "moeut-random-tokens-XXXXXX").string();
  require<IoError>(::mkdtemp(name.data()) != nullptr, "cannot make a temporary folder '{}': {}; set TMPDIR", name,
                   std::strerror(errno));
  return name;
}

void write_random_tokens(const std::filesystem::path& folder, int64_t vocabulary, int64_t tokens, uint64_t seed) {
  const ShardInfo info{.vocab_size = static_cast<uint64_t>(vocabulary), .tokenizer_sha256 = std::string(64, '0')};
  ShardWriter writer(folder, info, static_cast<uint64_t>(tokens));
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  Rng rng(seed, 0);
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(
        std::min(static_cast<int64_t>(rng.uniform() * static_cast<double>(vocabulary)), vocabulary - 1));
  }
  writer.append(ids);
  writer.end_document();
  writer.finish({.info = info});
}

}  // namespace

RandomTokens::RandomTokens(int64_t vocabulary, int64_t tokens, uint64_t seed) : folder_(temporary_folder()) {
  try {
    write_random_tokens(folder_, vocabulary, tokens, seed);
    dataset_ = TokenDataset::open(folder_);
  } catch (...) {
    remove();
    throw;
  }
}

RandomTokens::~RandomTokens() {
  remove();
}

void RandomTokens::remove() noexcept {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace moeut
