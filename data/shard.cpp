#include "data/shard.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/check.h"
#include "data/hash.h"

namespace moeut {

static_assert(std::endian::native == std::endian::little, "shards are mapped as they lie on disk: little-endian");

namespace {

constexpr const char* kCure = "tokenize again or restore the file";

/// The i-th little-endian 64-bit number at `at`.
uint64_t load_u64(const MappedFile& file, uint64_t at, uint64_t i) {
  uint64_t value;
  std::memcpy(&value, file.bytes().data() + at + i * sizeof value, sizeof value);
  return value;
}

/// True if [at, at + count · item) lies in the file.
bool inside(const MappedFile& file, uint64_t at, uint64_t count, uint64_t item) {
  const uint64_t size = file.bytes().size();
  return at <= size && count <= (size - at) / item;
}

template <class T>
int64_t largest_id(const std::byte* data, uint64_t count) {
  T largest = 0;
  for (uint64_t i = 0; i < count; ++i) {
    T id;
    std::memcpy(&id, data + i * sizeof id, sizeof id);
    largest = std::max(largest, id);
  }
  return static_cast<int64_t>(largest);
}

}  // namespace

std::string Separator::kind_name() const {
  return kind == Kind::kNone ? "none" : kind == Kind::kEos ? "eos" : "text";
}

Separator Separator::from(const std::string& kind, const std::string& text) {
  if (kind == "none") return {Kind::kNone, ""};
  if (kind == "eos") return {Kind::kEos, ""};
  require<IoError>(kind == "text", "unknown separator kind '{}' (none, eos or text)", kind);
  return {Kind::kText, text};
}

Shard::Shard(const std::filesystem::path& path, ShardLayout layout)
    : path_(path), layout_(std::move(layout)), file_(path) {
  const uint64_t item = layout_.info.item_bytes();
  require<IoError>(layout_.tokens > 0 && layout_.block_tokens > 0 && layout_.info.vocab_size <= INT32_MAX &&
                       inside(file_, layout_.tokens_at, layout_.tokens, item) &&
                       inside(file_, layout_.document_offsets_at, layout_.documents, 8) &&
                       inside(file_, layout_.document_offsets_at, layout_.documents + 1, 8) &&
                       inside(file_, layout_.block_hashes_at, layout_.blocks(), 8),
                   "'{}' is shorter than its own description says: it was truncated; {}", path.string(), kCure);
  check_document_offsets();
  checked_ = std::make_unique<std::atomic<bool>[]>(layout_.blocks());
}

void Shard::check_document_offsets() const {
  constexpr uint64_t kAtOnce = 1 << 20;  // 8 MiB: documents of a token each have more bytes of offsets than of ids
  const uint64_t count = layout_.documents + 1;
  bool ordered = document_offset(0) == 0 && document_offset(layout_.documents) == layout_.tokens;
  Xxh3Short hash;
  for (uint64_t first = 0; first < count; first += kAtOnce) {
    const uint64_t last = std::min(first + kAtOnce, count);
    hash.update(file_.bytes().data() + layout_.document_offsets_at + first * 8, (last - first) * 8);
    for (uint64_t d = first; ordered && d < last && d < layout_.documents; ++d)
      ordered = document_offset(d) <= document_offset(d + 1);
    if (last < count) file_.forget();
  }
  require<IoError>(hash.value() == layout_.document_offsets_hash && ordered,
                   "'{}': the document offsets are damaged; {}", path_.string(), kCure);
}

uint64_t Shard::document_offset(uint64_t d) const {
  return load_u64(file_, layout_.document_offsets_at, d);
}

uint64_t Shard::document_at(uint64_t position) const {
  uint64_t first = 0, last = layout_.documents;  // document_offset(first) <= position < document_offset(last)
  while (last - first > 1) {
    const uint64_t middle = first + (last - first) / 2;
    (document_offset(middle) <= position ? first : last) = middle;
  }
  return first;
}

/// What is wrong with the block, or nothing.
std::string Shard::block_defect(uint64_t block) const {
  const uint64_t first = block * layout_.block_tokens;
  const uint64_t count = std::min(layout_.block_tokens, layout_.tokens - first);
  const uint64_t item = layout_.info.item_bytes();
  const std::byte* data = file_.bytes().data() + layout_.tokens_at + first * item;
  if (xxh3_64(data, count * item) != load_u64(file_, layout_.block_hashes_at, block))
    return fmt::format("block {} (tokens {} to {}) does not match its hash: the file is damaged; {}", block, first,
                       first + count - 1, kCure);
  const int64_t largest = item == 2 ? largest_id<uint16_t>(data, count) : largest_id<uint32_t>(data, count);
  if (largest >= static_cast<int64_t>(layout_.info.vocab_size))
    return fmt::format("block {} holds id {}, but the vocabulary has {} entries; {}", block, largest,
                       layout_.info.vocab_size, kCure);
  return {};
}

std::vector<std::string> Shard::damaged_blocks() const {
  std::vector<std::string> defects;
  constexpr uint64_t kForgetEvery = 256;  // blocks: a shard may be larger than the memory that is to be used
  for (uint64_t block = 0; block < layout_.blocks(); ++block) {
    if (std::string defect = block_defect(block); !defect.empty()) defects.push_back(std::move(defect));
    if (block % kForgetEvery == kForgetEvery - 1) file_.forget();
  }
  return defects;
}

template <class T>
void Shard::copy(uint64_t first, uint64_t count, int32_t* out) const {
  const std::byte* data = file_.bytes().data() + layout_.tokens_at + first * sizeof(T);
  for (uint64_t i = 0; i < count; ++i) {
    T id;
    std::memcpy(&id, data + i * sizeof id, sizeof id);
    out[i] = static_cast<int32_t>(id);
  }
}

void Shard::read(uint64_t first, uint64_t count, int32_t* out) const {
  require<IoError>(count > 0 && first < layout_.tokens && count <= layout_.tokens - first,
                   "'{}': tokens {} to {} were asked for, but it holds {}", path_.string(), first, first + count,
                   layout_.tokens);
  for (uint64_t block = first / layout_.block_tokens; block <= (first + count - 1) / layout_.block_tokens; ++block) {
    if (checked_[block].load(std::memory_order_relaxed)) continue;
    const std::string defect = block_defect(block);
    require<IoError>(defect.empty(), "'{}': {}", path_.string(), defect);
    checked_[block].store(true, std::memory_order_relaxed);  // two threads may both check it: no harm
  }
  layout_.info.item_bytes() == 2 ? copy<uint16_t>(first, count, out) : copy<uint32_t>(first, count, out);
}

}  // namespace moeut
