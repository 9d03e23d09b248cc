#include "data/manifest.h"

#include <doctest/doctest.h>

#include "core/check.h"
#include "core/file.h"

namespace moeut {
namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  text.replace(text.find(from), from.size(), to);
  return text;
}

TEST_CASE("a manifest kept since the first version is read, and written again in the same bytes") {
  const std::filesystem::path path = std::filesystem::path(MOEUT_SOURCE_DIR) / "tests/fuzz_corpus/shard/manifest";
  const std::string text = read_file(path, 1 << 20).substr(1);  // after the byte that tells the fuzz target what it is
  const Manifest manifest = Manifest::parse(text, path);
  CHECK(manifest.render() == text);
  CHECK(manifest.tokens() > 0);
}

TEST_CASE("a manifest that was changed, cut or is none says so") {
  Manifest manifest{
      .info = {.vocab_size = 300, .tokenizer_sha256 = "t", .separator = Separator::from("text", "\n\x01")}};
  manifest.shards.push_back({.name = "shard-00000.h5", .bytes = 10, .tokens = 4, .documents = 1});
  const std::string text = manifest.render();
  CHECK(Manifest::parse(text, "m").info.separator == manifest.info.separator);
  const auto refused = [](const std::string& damaged, const char* part) {
    CHECK_THROWS_WITH_AS(Manifest::parse(damaged, "folder/manifest.json"), doctest::Contains(part), IoError);
  };
  refused(replaced(text, "\"bytes\": 10", "\"bytes\": 11"),
          "'folder/manifest.json' is damaged: it does not match its own");
  refused(replaced(text, "\"bytes\": 10", "\"bytes\": -1"), "found a negative number");
  refused(replaced(text, "shard-00000.h5", "../shard.h5"), "not a file of its own folder");
  refused(replaced(text, "\"documents\"", "\"document\""), "does not match");
  refused(replaced(text, "\"part\"", "\"Part\""), "\"part\" is missing");
  refused(text.substr(0, text.size() / 2), "damaged: not valid JSON");
  refused(replaced(text, "moeut-manifest", "other"), "is not a manifest of moeut shards");
  refused("[]", "is not a manifest of moeut shards");
  refused(replaced(text, "\"format_version\": 1", "\"format_version\": 2"),
          "a format version that this program does not know");
}

}  // namespace
}  // namespace moeut
