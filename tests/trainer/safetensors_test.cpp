#include "trainer/safetensors.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "core/file.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

std::string file_bytes(const std::vector<TensorBytes>& tensors) {
  std::string bytes;
  write_safetensors(tensors,
                    [&](const void* data, size_t size) { bytes.append(static_cast<const char*>(data), size); });
  return bytes;
}

SafetensorsContents parse(std::string_view bytes) {
  return parse_safetensors(std::as_bytes(std::span(bytes.data(), bytes.size())), "test");
}

/// A file of this header and `data_bytes` zeros.
std::string file_with(std::string_view header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  return bytes.append(header).append(data_bytes, '\0');
}

std::string tensor(std::string_view type, std::string_view shape, uint64_t begin, uint64_t end) {
  return fmt::format(R"({{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", type, shape, begin, end);
}

TEST_CASE("the bytes of a small file are these") {
  const float values[] = {1.0f, -2.0f};
  const std::string header = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  std::string expected =
      std::string("\x38\0\0\0\0\0\0\0", 8) + header + "  " + std::string("\0\0\x80\x3f\0\0\0\xc0", 8);
  CHECK(file_bytes({{"w", SafetensorType::kF32, {2}, values}}) == expected);
}

TEST_CASE("every type, scalars and empty tensors come back as written") {
  const std::vector<uint8_t> data(64, 7);
  std::vector<TensorBytes> tensors;
  for (int type = 0; type <= static_cast<int>(SafetensorType::kU64); ++type) {
    tensors.push_back({fmt::format("type{}", type), static_cast<SafetensorType>(type), {2, 1, 3}, data.data()});
  }
  tensors.push_back({"scalar", SafetensorType::kF64, {}, data.data()});
  tensors.push_back({"empty", SafetensorType::kU8, {4, 0}, nullptr});
  const std::string bytes = file_bytes(tensors);
  CHECK(bytes.size() == safetensors_bytes(tensors));
  const SafetensorsContents contents = parse(bytes);
  REQUIRE(contents.tensors.size() == tensors.size());
  for (const TensorBytes& written : tensors) {
    const auto found = std::ranges::find(contents.tensors, written.name, &SafetensorInfo::name);
    REQUIRE(found != contents.tensors.end());
    CHECK(found->type == written.type);
    CHECK(found->shape == written.shape);
    CHECK(found->bytes == written.bytes());
    CHECK(found->offset % safetensor_type_bytes(found->type) == 0);
  }
}

TEST_CASE("the order of the tensors given does not show, nor whether they were copied or filled in pieces") {
  std::vector<float> large(3 << 20);  // 12 MiB: three pieces
  for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<float>(i);
  const auto fill = [&](uint64_t offset, void* out, size_t bytes) {
    std::memcpy(out, reinterpret_cast<const char*>(large.data()) + offset, bytes);
  };
  const std::vector<int64_t> shape = {static_cast<int64_t>(large.size())};
  const TensorBytes a{"a", SafetensorType::kF32, shape, large.data()}, b{"b", SafetensorType::kF32, {3}, large.data()};
  const TensorBytes filled{"a", SafetensorType::kF32, shape, nullptr, fill};
  CHECK(file_bytes({a, b}) == file_bytes({b, filled}));
}

TEST_CASE("what cannot be written is refused") {
  const float value = 0;
  const TensorBytes good{"w", SafetensorType::kF32, {1}, &value};
  CHECK_THROWS_WITH_AS(file_bytes({good, good}), doctest::Contains("two tensors to write are called 'w'"), IoError);
  CHECK_THROWS_AS(file_bytes({{"__metadata__", SafetensorType::kF32, {1}, &value}}), IoError);
  CHECK_THROWS_AS(file_bytes({{"w", SafetensorType::kF32, {1}, nullptr}}), IoError);
  CHECK_THROWS_AS(file_bytes({{"w", SafetensorType::kF32, {-1}, &value}}), IoError);
  CHECK_THROWS_AS(file_bytes({{"w", SafetensorType::kF32, {int64_t{1} << 62, 4}, &value}}), IoError);
}

struct Refused {
  std::string header;
  size_t data_bytes;
  const char* reason;
};

TEST_CASE("headers against the rules are refused with the reason") {
  const std::string f32 = tensor("F32", "[1]", 0, 4);
  const Refused cases[] = {
      {"", 0, "begin with '{'"},
      {" {}", 0, "begin with '{'"},
      {"[]", 0, "begin with '{'"},
      {"{", 0, "not valid JSON"},
      {"{}x", 0, "not valid JSON"},
      {std::string("{}\0evil", 7), 0, "NUL byte"},
      {R"({"w":)" + f32 + R"(,"w":)" + f32 + "}", 4, "occurs twice"},
      {R"({"w":)" + f32 + R"(,"\u0077":)" + f32 + "}", 4, "occurs twice"},
      {R"({"w":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "occurs twice"},
      {R"({"w":{"dtype":"F32","shape":[1]}})", 4, "expected the fields"},
      {R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}})", 4, "expected the fields"},
      {R"({"w":{"dtype":"F32","shape":[1],"offsets":[0,4]}})", 4, "missing"},
      {R"({"w":[]})", 0, "expected an object"},
      {R"({"w":)" + tensor("F33", "[1]", 0, 4) + "}", 4, "dtype 'F33'"},
      {R"({"w":)" + tensor("F32", "[-1]", 0, 4) + "}", 4, "negative"},
      {R"({"w":)" + tensor("F32", "[1.5]", 0, 4) + "}", 4, "whole number"},
      {R"({"w":)" + tensor("F32", "[[1]]", 0, 4) + "}", 4, "nested deeper"},
      {R"({"w":)" + tensor("F32", "[4611686018427387904,4]", 0, 0) + "}", 0, "too large"},
      {R"({"w":)" + tensor("F32", "[4611686018427387904,4,0]", 0, 0) + "}", 0, "too large"},
      {R"({"w":)" + tensor("F32", "[18446744073709551615]", 0, 4) + "}", 4, "whole number of 64 bits"},
      {R"({"w":)" + tensor("F32", "[2]", 0, 4) + "}", 4, "do not hold the 8 bytes"},
      {R"({"w":)" + tensor("F32", "[1]", 4, 0) + "}", 4, "do not hold"},
      {R"({"w":)" + tensor("F32", "[1]", 4, 8) + "}", 8, "a hole or an overlap"},
      {R"({"v":)" + f32 + R"(,"w":)" + f32 + "}", 4, "a hole or an overlap"},
      {R"({"v":)" + f32 + R"(,"w":)" + tensor("F32", "[1]", 2, 6) + "}", 6, "a hole or an overlap"},
      {R"({"w":)" + f32 + "}", 3, "is the file complete"},
      {R"({"w":)" + f32 + "}", 5, "1 bytes of data belong to no tensor"},
      {"{}", 1, "belong to no tensor"},
      {R"({"w":)" + tensor("F32", "[1]", 18446744073709551612u, 18446744073709551615u) + "}", 4, "do not hold"},
      {R"({"__metadata__":{"a":1}})", 0, "expected a string"},
      {R"({"__metadata__":[]})", 0, "expected an object"},
  };
  for (const Refused& refused : cases) {
    INFO(refused.header);
    CHECK_THROWS_WITH_AS(parse(file_with(refused.header, refused.data_bytes)), doctest::Contains(refused.reason),
                         IoError);
  }
  CHECK(parse(file_with(R"({"__metadata__":{"format":"pt"},"w":)" + f32 + "}   ", 4)).metadata.at("format") == "pt");
}

TEST_CASE("header lengths against the file are refused") {
  CHECK_THROWS_WITH_AS(parse(""), doctest::Contains("too few"), IoError);
  CHECK_THROWS_WITH_AS(parse("1234567"), doctest::Contains("too few"), IoError);
  std::string bytes = file_with("{}", 0);
  bytes[0] = 3;
  CHECK_THROWS_WITH_AS(parse(bytes), doctest::Contains("only 2 follow"), IoError);
  bytes[7] = '\xff';
  CHECK_THROWS_WITH_AS(parse(bytes), doctest::Contains("passes the limit"), IoError);
  std::string many = R"({"__metadata__":{},"w":{"dtype":"F32","shape":[)";  // small on the disk, large in memory
  for (int i = 0; i < 2'000'001; ++i) many += "0,";
  CHECK_THROWS_WITH_AS(parse(file_with(many + "0],\"data_offsets\":[0,0]}}", 0)),
                       doctest::Contains("more than 2000000 values"), IoError);
}

TEST_CASE("a tensor of another dtype, shape or name belongs to another model") {
  const testing::ScratchFolder folder;
  const float values[] = {1, 2, 3, 4, 5, 6};
  const stdfs::path path = folder.path() / "model.safetensors";
  write_file_atomically(FileSystem::posix(), path, file_bytes({{"w", SafetensorType::kF32, {2, 3}, values}}));
  const SafetensorsFile file = SafetensorsFile::open(path);
  float out[6] = {};
  file.copy("w", SafetensorType::kF32, {2, 3}, out);
  CHECK(std::memcmp(out, values, sizeof out) == 0);
  CHECK_THROWS_WITH_AS(file.copy("w", SafetensorType::kF32, {3, 2}, out),
                       doctest::Contains("F32 (2, 3), this model wants F32 (3, 2)"), IoError);
  CHECK_THROWS_AS(file.copy("w", SafetensorType::kF16, {2, 3}, out), IoError);
  CHECK_THROWS_WITH_AS(file.copy("v", SafetensorType::kF32, {2, 3}, out), doctest::Contains("has no tensor 'v'"),
                       IoError);
  CHECK_THROWS_WITH_AS(SafetensorsFile::open(folder.path() / "none"), doctest::Contains("none"), IoError);
}

TEST_CASE("files of other programs are read, the hostile one is refused") {
  const stdfs::path folder = MOEUT_SOURCE_DIR "/../shared/data/safetensors";
  if (!stdfs::exists(folder)) {
    MESSAGE("skipped: no " << folder.string());
    return;
  }
  for (const char* name : {"burn_mnist", "burn_multi_layer", "syoyo_model"}) {
    const SafetensorsFile file = SafetensorsFile::open(folder / (std::string(name) + ".safetensors"));
    CHECK(file.tensors().size() > 0);
    for (const SafetensorInfo& info : file.tensors()) CHECK(file.bytes(info).size() == info.bytes);
  }
  CHECK_THROWS_AS(SafetensorsFile::open(folder / "syoyo_abuse_attempt_1.safetensors"), IoError);
}

}  // namespace
}  // namespace moeut
