#include "data/tokenizer.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "data/hash.h"
#include "data/json.h"
#include "data/train_tokenizer.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

using testing::ScratchFolder;

/// spm_encode is SentencePiece's own program: the same ids, a line each.
std::string spm_encode(const std::filesystem::path& model, const std::filesystem::path& lines) {
  const std::string command =
      "spm_encode --model='" + model.string() + "' --output_format=id < '" + lines.string() + "' 2>/dev/null";
  FILE* pipe = popen(command.c_str(), "r");
  std::string output;
  char buffer[4096];
  while (const size_t n = fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, n);
  pclose(pipe);
  return output;
}

std::string our_ids(const Tokenizer& tokenizer, const std::filesystem::path& lines) {
  std::ifstream file(lines);
  std::string output;
  for (std::string line; std::getline(file, line); output += "\n") {
    std::string separator;
    for (const int32_t id : tokenizer.encode(line)) output += std::exchange(separator, " ") + std::to_string(id);
  }
  return output;
}

TEST_CASE("the same texts train the same bytes, which encode and decode") {
  const ScratchFolder a, b;
  const auto path = testing::small_tokenizer(a.path());
  CHECK(testing::read_text(path) == testing::read_text(testing::small_tokenizer(b.path())));
  const Tokenizer tokenizer = Tokenizer::load(path);
  CHECK(tokenizer.vocab_size() == 300);
  CHECK(tokenizer.sha256() == sha256_file_hex(path));
  CHECK(tokenizer.bos_id() == 1);
  CHECK(tokenizer.eos_id() == 2);
  const std::string text = "kalomi neruun kaloan.";
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  CHECK(tokenizer.encode("").empty());
  CHECK(tokenizer.piece(2) == "</s>");
  CHECK_THROWS_WITH_AS(tokenizer.decode(std::vector<int32_t>{300}), doctest::Contains("300"), IoError);
}

TEST_CASE("training says what is wrong with options and texts") {
  const ScratchFolder folder;
  const auto train = [&](TokenizerTraining training, std::vector<std::string> texts) {
    size_t i = 0;
    train_tokenizer(
        training, [&](std::string& text) { return i < texts.size() && (text = texts[i++], true); },
        folder.path() / "m.model");
  };
  CHECK_THROWS_WITH_AS(train({.options = {{"no_such", "1"}}}, {"a"}), doctest::Contains("no_such"), ConfigError);
  CHECK_THROWS_WITH_AS(train({.options = {{"vocab_size", "many"}}}, {"a"}), doctest::Contains("many"), ConfigError);
  CHECK_THROWS_AS(train({.options = {{"input", "x"}}}, {"a"}), ConfigError);
  CHECK_THROWS_WITH_AS(train({}, {}), doctest::Contains("no text"), IoError);
  CHECK_THROWS_WITH_AS(train({}, {"a few words are too few"}), doctest::Contains("smaller --vocab-size"), IoError);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "m.model"));
  const TokenizerTraining impossible{.options = {{"max_sentence_length", "0"}}};
  CHECK_THROWS_WITH_AS(impossible.max_sentence_bytes(), doctest::Contains("'0'"), ConfigError);
}

TEST_CASE("an error of the texts' reader passes through training unchanged") {
  const ScratchFolder folder;
  int calls = 0;
  const auto next = [&](std::string& text) -> bool {
    if (++calls == 3) throw IoError("line 3 is bad");
    text = "some text";
    return true;
  };
  CHECK_THROWS_WITH_AS(train_tokenizer({}, next, folder.path() / "m.model"), "line 3 is bad", IoError);
}

TEST_CASE("malformed models are refused before SentencePiece sees them") {
  const ScratchFolder folder;
  const std::string whole = testing::read_text(testing::small_tokenizer(folder.path()));
  const auto error = [&](const std::string& bytes) {
    CHECK_THROWS_AS(Tokenizer::load(testing::write_text(folder.path() / "bad.model", bytes)), IoError);
  };
  error("");
  error("not a model");
  for (size_t size = 0; size < whole.size() / 2; size += 7) error(whole.substr(0, size));
  const auto piece = [](const std::string& text) {  // ModelProto.pieces { piece: text }
    const auto varint = [](size_t n) {
      std::string out;
      for (; n >= 128; n >>= 7) out += static_cast<char>(n | 128);
      return out + static_cast<char>(n);
    };
    const std::string inner = "\x0A" + varint(text.size()) + text;
    return "\x0A" + varint(inner.size()) + inner;
  };
  error(whole + piece(std::string(500000, 'x')));  // overflows SentencePiece's stack  [google/sentencepiece#1263]
  error(whole + piece(std::string("a\0b", 3)));
  error(whole + piece("\xFF"));
  error(whole + piece(""));
  CHECK_THROWS_WITH_AS(Tokenizer::load(folder.path() / "none.model"), doctest::Contains("no such file"), IoError);
}

TEST_CASE("damaged models never kill the process") {
  const ScratchFolder folder;
  const auto path = testing::small_tokenizer(folder.path());
  const std::string whole = testing::read_text(path);
  for (uint32_t i = 0; i < 40; ++i) {
    std::string bytes = whole;
    bytes[(i * 2654435761u) % bytes.size()] = static_cast<char>(i * 37 + 1);
    try {
      Tokenizer::load_foreign(testing::write_text(folder.path() / "damaged.model", bytes));
    } catch (const IoError&) {  // most load as another vocabulary: what the SHA-256 in every shard is for
    }
  }
  CHECK(Tokenizer::load_foreign(path).vocab_size() == 300);
}

TEST_CASE("ids are those of spm_encode and of the golden encodings, for models by others") {
  const auto folder = testing::shared_data("tokenizers/");
  if (!std::filesystem::exists(folder + "golden_encodings.json")) {
    MESSAGE("no ../shared/data: skipped");
    return;
  }
  const Json golden = Json::parse(testing::read_text(folder + "golden_encodings.json"));
  const Json::Array& strings = golden.at("strings").as_array();
  for (const auto& [name, expected] : golden.at("models").as_object()) {
    CAPTURE(name);
    const Tokenizer tokenizer = Tokenizer::load_foreign(folder + name);
    CHECK(tokenizer.vocab_size() == expected.at("vocab").as_int64());
    CHECK(tokenizer.eos_id().value_or(-1) == expected.at("eos").as_int64());
    for (size_t i = 0; i < strings.size(); ++i) {
      std::vector<int32_t> ids;
      for (const Json& id : expected.at("ids").as_array()[i].as_array())
        ids.push_back(static_cast<int32_t>(id.as_int64()));
      CHECK(tokenizer.encode(strings[i].as_string()) == ids);
    }
    if (std::filesystem::exists("/usr/bin/spm_encode"))
      CHECK(our_ids(tokenizer, folder + "botchan.txt") == spm_encode(folder + name, folder + "botchan.txt"));
  }
}

}  // namespace
}  // namespace moeut
