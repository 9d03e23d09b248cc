#include "data/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <xxhash.h>

#include <array>
#include <fstream>
#include <vector>

#include "core/check.h"

namespace moeut {
namespace {

std::string hex_of(const unsigned char* bytes, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

using XxhState = std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)>;

/// A running SHA-256.
class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    require<Error>(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1, "SHA-256 is unavailable");
  }
  void update(const void* data, size_t bytes) {
    require<Error>(EVP_DigestUpdate(context_.get(), data, bytes) == 1, "SHA-256 failed");
  }
  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned size = 0;
    require<Error>(EVP_DigestFinal_ex(context_.get(), digest.data(), &size) == 1, "SHA-256 failed");
    return hex_of(digest.data(), size);
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

uint64_t xxh3_64(const void* data, size_t bytes) {
  return XXH3_64bits(data, bytes);
}

struct Xxh3Short::State {
  XxhState value{XXH3_createState(), XXH3_freeState};
};

Xxh3Short::Xxh3Short() : state_(std::make_unique<State>()) {
  require<Error>(state_->value && XXH3_64bits_reset(state_->value.get()) == XXH_OK, "XXH3 is unavailable");
}

Xxh3Short::~Xxh3Short() = default;

void Xxh3Short::update(const void* data, size_t bytes) {
  XXH3_64bits_update(state_->value.get(), data, bytes);
}

uint64_t Xxh3Short::value() const {
  return XXH3_64bits_digest(state_->value.get());
}

struct Xxh3::State {
  XxhState value{XXH3_createState(), XXH3_freeState};
};

Xxh3::Xxh3() : state_(std::make_unique<State>()) {
  require<Error>(state_->value && XXH3_128bits_reset(state_->value.get()) == XXH_OK, "XXH3 is unavailable");
}

Xxh3::~Xxh3() = default;

void Xxh3::update(const void* data, size_t bytes) {
  XXH3_128bits_update(state_->value.get(), data, bytes);
}

std::string Xxh3::hex() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_->value.get()));
  return hex_of(canonical.digest, sizeof canonical.digest);
}

std::string sha256_hex(std::string_view data) {
  Sha256 hash;
  hash.update(data.data(), data.size());
  return hash.hex();
}

std::string sha256_file_hex(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  require<IoError>(file.good(), "cannot read '{}': check the path and its permissions", path.string());
  Sha256 hash;
  std::vector<char> buffer(1 << 20);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || file.gcount() > 0)
    hash.update(buffer.data(), static_cast<size_t>(file.gcount()));
  require<IoError>(!file.bad(), "cannot read '{}' to its end", path.string());
  return hash.hex();
}

}  // namespace moeut
