#include "data/tokenizer.h"

#include <malloc.h>
#include <sentencepiece_processor.h>

#include <mutex>

#include "core/check.h"
#include "core/file.h"
#include "data/byte_budget.h"
#include "data/hash.h"
#include "data/limited_child.h"
#include "data/sentencepiece_model.h"
#include "data/word_cache.h"
#include "data/word_splitter.h"

namespace moeut {
namespace {

/// SentencePiece needs 90 to 230 bytes of memory for each byte of a text (the fewer bytes an id has, the more): threads
/// that encode long ones share so many bytes, whatever their number.
constexpr uint64_t kLongTextBytes = 64 << 10, kLongTextsAtOnce = 2 << 20;
/// Above it the allocator is asked to give back what is free: each thread has a heap of its own, which would keep it.
constexpr uint64_t kTrimBytes = 256 << 10;
constexpr uint64_t kMaxModelBytes = uint64_t{256} << 20;
constexpr const char* kSampleText =
    "Hello, wörld! \t\n  0123456789 \xE2\x96\x81 \xF0\x9F\x99\x82 e\xCC\x81 aaaaaaaaaaaaaaaa";

std::optional<int32_t> id_or_nothing(int id) {
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

std::string read_model(const std::filesystem::path& path) {
  require<IoError>(
      std::filesystem::exists(path),
      "cannot read tokenizer '{}': no such file; check the path, or make it with moeut-data train-tokenizer",
      path.string());
  return read_file(path, kMaxModelBytes);
}

}  // namespace

struct Tokenizer::Model {
  sentencepiece::SentencePieceProcessor processor;
  std::string sha256;
  bool lossless = false;
  std::optional<WordSplitter> splitter;
  std::vector<int32_t> space_symbol_ids;  ///< lossless: the byte pieces of U+2581

  Model(const std::string& bytes, const std::filesystem::path& path) : sha256(sha256_hex(bytes)) {
    const SentencePieceModel model = SentencePieceModel::parse(bytes, path);
    const auto status = processor.LoadFromSerializedProto(bytes);
    require<IoError>(status.ok(), "'{}' is not a usable SentencePiece model ({}); train it again or restore it",
                     path.string(), status.ToString());
    lossless = model.lossless();
    splitter = WordSplitter::of(model);
    if (!lossless) return;
    for (const char* piece : {"<0xE2>", "<0x96>", "<0x81>"}) space_symbol_ids.push_back(processor.PieceToId(piece));
  }

  std::vector<int32_t> encode_whole(std::string_view text) const {
    if (text.size() <= kLongTextBytes) return encode_at_once(text);
    const ByteBudget::Share share = long_texts.take(text.size());
    std::vector<int32_t> ids = encode_at_once(text);
    if (text.size() > kTrimBytes) malloc_trim(0);
    return ids;
  }

  std::vector<int32_t> encode_at_once(std::string_view text) const {
    std::vector<int> ids;
    const auto status = processor.Encode(text, &ids);
    require<IoError>(status.ok(), "SentencePiece cannot encode a text of {} bytes: {}", text.size(), status.ToString());
    return ids;
  }

  /// Appends the ids of a text without U+2581.
  void encode_words(std::string_view text, std::vector<int32_t>& ids) const {
    std::unique_ptr<WordCache> cache = borrow_cache();
    for (size_t at = 0; at < text.size();) {
      const std::string_view word = splitter->next(text, at);
      if (word.empty() || cache->append(word, ids)) continue;
      const std::vector<int32_t> word_ids = encode_whole(word);
      cache->put(word, word_ids);
      ids.insert(ids.end(), word_ids.begin(), word_ids.end());
    }
    const std::lock_guard lock(mutex);
    idle_caches.push_back(std::move(cache));
  }

 private:
  std::unique_ptr<WordCache> borrow_cache() const {
    const std::lock_guard lock(mutex);
    if (idle_caches.empty()) return std::make_unique<WordCache>();
    std::unique_ptr<WordCache> cache = std::move(idle_caches.back());
    idle_caches.pop_back();
    return cache;
  }

  // A thread has a cache for itself while it encodes a text; there are as many as have ever encoded at once.
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<WordCache>> idle_caches;
  mutable ByteBudget long_texts{kLongTextsAtOnce};
};

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  return Tokenizer(std::make_shared<const Model>(read_model(path), path));
}

Tokenizer Tokenizer::load_foreign(const std::filesystem::path& path) {
  const std::string bytes = read_model(path);  // once: what was tried is what is used
  run_in_limited_child(fmt::format("tokenizer '{}'", path.string()), [&] {
    const Tokenizer tokenizer(std::make_shared<const Model>(bytes, path));
    tokenizer.decode(tokenizer.encode(kSampleText));
    return std::string("whole");
  });
  return Tokenizer(std::make_shared<const Model>(bytes, path));
}

int64_t Tokenizer::vocab_size() const {
  return model_->processor.GetPieceSize();
}
const std::string& Tokenizer::sha256() const {
  return model_->sha256;
}
bool Tokenizer::lossless() const {
  return model_->lossless;
}
bool Tokenizer::caches_words() const {
  return model_->splitter.has_value();
}
std::optional<int32_t> Tokenizer::bos_id() const {
  return id_or_nothing(model_->processor.bos_id());
}
std::optional<int32_t> Tokenizer::eos_id() const {
  return id_or_nothing(model_->processor.eos_id());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  size_t symbol = text.find(kSpaceSymbol);
  if (!lossless() && (symbol != text.npos || !model_->splitter)) return encode_by_library(text);
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3);
  for (; symbol != text.npos; symbol = text.find(kSpaceSymbol)) {
    encode_part(text.substr(0, symbol), ids);
    ids.insert(ids.end(), model_->space_symbol_ids.begin(), model_->space_symbol_ids.end());
    text.remove_prefix(symbol + kSpaceSymbol.size());
  }
  encode_part(text, ids);
  return ids;
}

void Tokenizer::encode_part(std::string_view text, std::vector<int32_t>& ids) const {
  if (model_->splitter) return model_->encode_words(text, ids);
  const std::vector<int32_t> all = model_->encode_whole(text);
  ids.insert(ids.end(), all.begin(), all.end());
}

std::vector<int32_t> Tokenizer::encode_by_library(std::string_view text) const {
  return model_->encode_whole(text);
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  for (const int32_t id : ids)
    require<IoError>(id >= 0 && id < vocab_size(), "cannot decode id {}: the tokenizer has {} pieces", id,
                     vocab_size());
  std::string text;
  const auto status = model_->processor.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
  require<IoError>(status.ok(), "SentencePiece cannot decode {} ids: {}", ids.size(), status.ToString());
  return text;
}

std::string Tokenizer::piece(int32_t id) const {
  require<IoError>(id >= 0 && id < vocab_size(), "there is no piece {}: the tokenizer has {}", id, vocab_size());
  return model_->processor.IdToPiece(id);
}

}  // namespace moeut
