#include "data/word_splitter.h"

#include <doctest/doctest.h>

#include <string>

namespace moeut {
namespace {

using Model = SentencePieceModel;
using Type = Model::PieceType;

/// Without rules of normalisation: only the space is white space.
Model collapsing() {
  Model model{.algorithm = Model::Algorithm::kBpe};
  model.pieces = {
      {"<unk>", Type::kUnknown}, {"<s>", Type::kControl}, {kSpaceSymbol}, {"\u2581a"}, {"a"}, {"b"}, {"ab"}};
  return model;
}

Model lossless() {
  Model model = collapsing();
  model.byte_fallback = true;
  model.add_dummy_prefix = model.remove_extra_whitespaces = false;
  return model;
}

std::vector<std::string> words(const Model& model, std::string_view text) {
  const auto splitter = WordSplitter::of(model);
  REQUIRE(splitter);
  std::vector<std::string> found;
  for (size_t at = 0; at < text.size();)
    if (const std::string_view word = splitter->next(text, at); !word.empty()) found.emplace_back(word);
  return found;
}

using Words = std::vector<std::string>;

TEST_CASE("a collapsing model: between spaces, which belong to no word") {
  CHECK(words(collapsing(), "ab  a\tb, \u00E9 ") == Words{"ab", "a\tb,", "\u00E9"});
  CHECK(words(collapsing(), "   ").empty());
  CHECK(words(collapsing(), "").empty());
}

TEST_CASE("a lossless model: between characters that follow each other in no piece") {
  CHECK(words(lossless(), "abba  a") == Words{"ab", "b", "a", " ", " a"});
  CHECK(words(lossless(), "a\u00E9\u00E8\n\n") == Words{"a", "\u00E9", "\u00E8", "\n", "\n"});
  Model model = lossless();
  model.pieces.push_back({"\u00E9\u00E8"});  // characters outside ASCII are not told apart
  model.pieces.push_back({"\u2581\u2581"});
  CHECK(words(model, "a\u00E9\u00EAb   ab") == Words{"a", "\u00E9\u00EA", "b", "   ab"});
}

TEST_CASE("no cuts where they cannot be shown to be harmless") {
  const auto refused = [](auto change, Model model = collapsing()) {
    change(model);
    CHECK_FALSE(WordSplitter::of(model));
  };
  refused([](Model& m) { m.algorithm = Model::Algorithm::kUnigram; });
  refused([](Model& m) { m.add_dummy_prefix = false; });
  refused([](Model& m) { m.remove_extra_whitespaces = false; });
  refused([](Model& m) { m.escape_whitespaces = false; });
  refused([](Model& m) { m.treat_whitespace_as_suffix = true; });
  refused([](Model& m) { m.pieces.push_back({"a\u2581"}); });
  refused([](Model& m) { m.pieces.push_back({"\u2581a\u2581b"}); });
  refused([](Model& m) { m.pieces[2].type = Type::kUnused; });
  refused([](Model& m) { m.pieces.erase(m.pieces.begin() + 2); });  // neighbours across a cut would both be unknown
  refused([](Model& m) { m.pieces.push_back({"user", Type::kUserDefined}); });
  refused([](Model& m) { m.pieces.push_back({"user", Type::kUserDefined}); }, lossless());
}

TEST_CASE("what makes a model lossless") {
  CHECK(lossless().lossless());
  const auto lossy = [](auto change) {
    Model model = lossless();
    change(model);
    CHECK_FALSE(model.lossless());
  };
  lossy([](Model& m) { m.byte_fallback = false; });
  lossy([](Model& m) { m.add_dummy_prefix = true; });
  lossy([](Model& m) { m.remove_extra_whitespaces = true; });
  lossy([](Model& m) { m.algorithm = Model::Algorithm::kWord; });
  lossy([](Model& m) { m.pieces.push_back({"\u00E9", Type::kControl}); });
  lossy([](Model& m) { m.pieces.push_back({"<s>"}); });
}

}  // namespace
}  // namespace moeut
