#include "data/tokenizer.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <thread>

#include "core/error.h"
#include "core/rng.h"
#include "data/hash.h"
#include "data/sentencepiece_model.h"
#include "data/train_tokenizer.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

using testing::ScratchFolder;

Tokenizer train_on_prose(const std::filesystem::path& path, TokenizerTraining training,
                         std::map<std::string, std::string> options = {}) {
  training.options = std::move(options);
  uint32_t line = 0;
  const auto next = [&](std::string& text) { return text = testing::prose(40, line), line++ < 50; };
  train_tokenizer(training, next, path);
  return Tokenizer::load(path);
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

TEST_CASE("threads that encode at once get the ids of one") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(testing::small_tokenizer(folder.path()));
  REQUIRE(tokenizer.caches_words());
  std::vector<std::vector<int32_t>> ids(4);
  {
    std::vector<std::jthread> threads;
    for (auto& mine : ids)
      threads.emplace_back([&] {
        for (uint32_t text = 0; text < 20; ++text)
          for (const int32_t id : tokenizer.encode(testing::prose(200, text))) mine.push_back(id);
      });
  }
  std::vector<int32_t> expected;
  for (uint32_t text = 0; text < 20; ++text)
    for (const int32_t id : tokenizer.encode_by_library(testing::prose(200, text))) expected.push_back(id);
  for (const auto& mine : ids) CHECK(mine == expected);
}

TEST_CASE("threads that encode long texts at once, of which few fit into the budget, get the ids of one") {
  const ScratchFolder folder;
  const Tokenizer bpe = Tokenizer::load(testing::small_tokenizer(folder.path()));
  const Tokenizer unigram = train_on_prose(folder.path() / "u.model", {.vocab_size = 60, .model_type = "unigram"},
                                           {{"hard_vocab_limit", "false"}});
  REQUIRE_FALSE(unigram.caches_words());
  std::string text;  // without white space, so that no model cuts it
  for (const char c : testing::prose(120'000))
    if (c != ' ' && c != '\n') text += c;
  REQUIRE(text.size() > 700'000);
  for (const Tokenizer& tokenizer : {bpe, unigram}) {
    std::vector<std::vector<int32_t>> ids(4);
    {
      std::vector<std::jthread> threads;
      for (size_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] { ids[t] = tokenizer.encode(std::string_view(text).substr(0, 700'000)); });
    }
    const auto expected = tokenizer.encode_by_library(std::string_view(text).substr(0, 700'000));
    for (const auto& mine : ids) CHECK(mine == expected);
  }
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

TEST_CASE("the setting lossless, and options that win over it") {
  const ScratchFolder folder;
  const auto train = [&](std::map<std::string, std::string> options) {
    return train_on_prose(folder.path() / "m.model",
                          {.setting = TokenizerTraining::Setting::kLossless, .vocab_size = 400}, std::move(options));
  };
  const Tokenizer lossless = train({});
  CHECK(lossless.lossless());
  CHECK(lossless.caches_words());
  CHECK(lossless.vocab_size() == 400);
  const Tokenizer with_prefix = train({{"add_dummy_prefix", "true"}});
  CHECK_FALSE(with_prefix.lossless());
  CHECK(with_prefix.decode(with_prefix.encode(" \n\t a")) == " \n\t a");
  CHECK_FALSE(train({{"normalization_rule_name", "nfkc"}}).lossless());
  CHECK_FALSE(Tokenizer::load(testing::small_tokenizer(folder.path())).lossless());
}

TEST_CASE("malformed models are refused before SentencePiece sees them") {
  const ScratchFolder folder;
  const std::string whole = testing::read_text(testing::small_tokenizer(folder.path()));
  const auto error = [](const std::string& bytes) {
    CHECK_THROWS_WITH_AS(SentencePieceModel::parse(bytes, "bad.model"), doctest::Contains("'bad.model'"), IoError);
  };
  error("");
  error("not a model");
  CHECK_NOTHROW(SentencePieceModel::parse(whole, "good.model"));
  // Only what follows the two specifications, a few bytes, can be missed.
  for (size_t size = 0; size < whole.size() - 16; size += size < 8192 ? 7 : 4999) error(whole.substr(0, size));
  const auto field = [](char key, const std::string& content) {
    std::string size;
    for (size_t n = content.size(); size.empty() || n > 0; n >>= 7) size += static_cast<char>(n < 128 ? n : n | 128);
    return key + size + content;
  };
  const auto piece = [&](const std::string& text) { return field('\x0A', field('\x0A', text)); };
  error(whole + piece(std::string(500000, 'x')));  // overflows SentencePiece's stack  [google/sentencepiece#1263]
  error(whole + piece(std::string("a\0b", 3)));
  error(whole + piece("\xFF"));
  error(whole + piece(""));
  error(whole + field('\x1A', field('\x12', "no rules")));  // normalizer_spec.precompiled_charsmap
  error(whole + field('\x2A', field('\x12', "no rules")));  // denormalizer_spec's
  error(whole + field('\x12', "\x07"));                     // a trainer_spec that is no message
  CHECK_THROWS_WITH_AS(Tokenizer::load(folder.path() / "none.model"), doctest::Contains("no such file"), IoError);
}

TEST_CASE("damaged models never kill the process") {
  const ScratchFolder folder;
  const auto path = folder.path() / "whole.model";
  // Few rules of normalisation: SentencePiece's own would be all but the whole file.
  const auto rules = testing::write_text(folder.path() / "rules.tsv", "0041\t0061\n0009\t0020\n0065 0301\t00E9\n");
  train_on_prose(path, {.vocab_size = 100}, {{"normalization_rule_tsv", rules.string()}});
  const std::string whole = testing::read_text(path);
  REQUIRE(whole.size() < 5000);
  const std::string text = "Hello, w\u00F6rld! \t\n \u00A0\u3000 e\u0301 \uFF21 \uFB01 \u2581 \U0001F600 \xE2\x96";
  Rng rng(2024, 3);
  int accepted = 0;
  for (int i = 0; i < (std::getenv("MOEUT_FULL_TESTS") != nullptr ? 100'000 : 1000); ++i) {
    std::string bytes = whole;
    bytes[static_cast<size_t>(rng.uniform() * static_cast<double>(bytes.size()))] =
        static_cast<char>(static_cast<int>(rng.uniform() * 256));
    testing::write_text(folder.path() / "damaged.model", bytes);
    try {  // in this process: the look at the structure must suffice
      const Tokenizer damaged = Tokenizer::load(folder.path() / "damaged.model");
      damaged.decode(damaged.encode(text));
      ++accepted;  // as another vocabulary: what the SHA-256 in every shard is for
    } catch (const IoError&) {
    }
  }
  CHECK(accepted > 0);
  CHECK(Tokenizer::load_foreign(path).vocab_size() == 100);
}

}  // namespace
}  // namespace moeut
