// Hashes: XXH3 finds damage (fast), SHA-256 names a file to people and to other programs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace moeut {

/// 64-bit XXH3 of `data`.
uint64_t xxh3_64(const void* data, size_t bytes);

/// xxh3_64 over a stream of pieces.
class Xxh3Short {
 public:
  Xxh3Short();
  ~Xxh3Short();
  void update(const void* data, size_t bytes);
  uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// 128-bit XXH3 over a stream of pieces.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  void update(const void* data, size_t bytes);
  /// 32 lower-case hexadecimal digits, canonical (big-endian) order as `xxhsum -H2` prints.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view data);
std::string sha256_file_hex(const std::filesystem::path& path);

}  // namespace moeut
