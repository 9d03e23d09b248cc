// Everything that data/ reads back from disk: shards, their manifest, tokenizer models. The first byte chooses the
// reader, the rest is the file. IoError is the only way to refuse it. HDF5 itself runs in a limited child: its crashes
// are not findings here, a crash of this process is.
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "core/error.h"
#include "data/manifest.h"
#include "data/sentencepiece_model.h"
#include "data/shard.h"
#include "data/word_splitter.h"

namespace {

using namespace moeut;

/// One file, rewritten for each input.
std::filesystem::path write_input(const uint8_t* data, size_t size) {
  const char* folder = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  static const std::string path = std::string(folder) + "/moeut-shard-fuzz-" + std::to_string(getpid());
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  return path;
}

void read_everything(const Shard& shard) {
  shard.damaged_blocks();
  std::vector<int32_t> ids(std::min<uint64_t>(shard.layout().tokens, 4096));
  shard.read(shard.layout().tokens - ids.size(), ids.size(), ids.data());
  shard.document_offset(shard.layout().documents);
}

/// A layout that no HDF5 file would give: Shard itself has to refuse it.
void arbitrary_layout(const uint8_t* data, size_t size) {
  uint64_t fields[8] = {};
  std::memcpy(fields, data, std::min(size, sizeof fields));
  ShardLayout layout;
  layout.info.vocab_size = fields[0];
  layout.tokens = fields[1];
  layout.documents = fields[2];
  layout.block_tokens = fields[3];
  layout.tokens_at = fields[4];
  layout.document_offsets_at = fields[5];
  layout.block_hashes_at = fields[6];
  layout.document_offsets_hash = fields[7];
  read_everything(Shard(write_input(data, size), layout));
}

void foreign_file(const uint8_t* data, size_t size) {
  const auto path = write_input(data, size);
  read_everything(Shard(path, read_foreign_shard_layout(path)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    switch (data[0] % 4) {
      case 0:
        arbitrary_layout(data + 1, size - 1);
        break;
      case 1:
        foreign_file(data + 1, size - 1);
        break;
      case 2:
        Manifest::parse(text, "manifest.json");
        break;
      default:
        WordSplitter::of(SentencePieceModel::parse(text, "fuzzed.model"));
    }
  } catch (const IoError&) {
  }
  return 0;
}
