// Event files against bytes that TensorBoard's own writer (tensorboard 2.20, Python) made of the same events.
#include "trainer/tensorboard_file.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/file.h"
#include "tests/scratch_folder.h"

using namespace moeut;
using testing::ScratchFolder;

namespace {

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return text;
}

/// The messages of a file's records, whose lengths and checksums must be right.
std::vector<std::string> messages_of(std::string_view file) {
  std::vector<std::string> messages;
  const auto number = [&]<class T>(size_t at, T value) {
    std::memcpy(&value, file.data() + at, sizeof value);
    return value;
  };
  for (size_t at = 0; at < file.size();) {
    const auto length = number(at, uint64_t{});
    REQUIRE(number(at + 8, uint32_t{}) == masked_crc32c(file.substr(at, 8)));
    REQUIRE(at + 16 + length <= file.size());
    messages.emplace_back(file.substr(at + 12, length));
    REQUIRE(number(at + 12 + length, uint32_t{}) == masked_crc32c(messages.back()));
    at += 16 + length;
  }
  return messages;
}

}  // namespace

TEST_CASE("a record has the bytes that TensorBoard's writer gives it") {
  CHECK(masked_crc32c("123456789") == 0xC78AB0E5);
  CHECK(hex(TensorboardFile::record(1700000000.25, 300, {{"train/loss", 2.5}, {"train/lr", 1e-3}})) ==
        "3200000000000000241956ec0900001040fc54d94110ac022a240a110a0a747261696e2f6c6f737315000020400a0f0a08747261696e2f"
        "6c72156f12833a6f52fa10");
}

TEST_CASE("every start has a file of its own, which begins with the version and the step from which it goes on") {
  const ScratchFolder folder;
  {
    TensorboardFile first(folder.path() / "tb", 0);
    first.write(TrainingRow{.step = 1, .loss = 3});
  }
  TensorboardFile(folder.path() / "tb", 300).write(ValidationRow{300, 1.5, 4.5});
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path() / "tb")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());  // the order in which they were begun
  REQUIRE(files.size() == 2);
  for (const auto& file : files) CHECK(file.filename().string().starts_with("events.out.tfevents."));
  const auto messages = messages_of(read_file(files[1], 1 << 20));
  REQUIRE(messages.size() == 3);
  CHECK(hex(messages[0]).ends_with("1a0d627261696e2e4576656e743a32"));  // file_version: brain.Event:2
  CHECK(hex(messages[1]).ends_with("10ad023a020801"));                  // step 301, session_log: status START
  CHECK(messages[2].find("validation/loss") != std::string::npos);
  CHECK(messages_of(read_file(files[0], 1 << 20)).back().find("train/loss") != std::string::npos);
}
