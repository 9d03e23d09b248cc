#include "data/mixture.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "data/corpora.h"

namespace moeut {
namespace {

std::string dealt(const Mixture& mixture, uint64_t count) {
  std::string text;
  for (uint64_t s = 0; s < count; ++s) text += static_cast<char>('0' + mixture(s).corpus);
  return text;
}

TEST_CASE("the mixture is frozen") {
  // A change of these breaks the resumption of every mixed run: it must not happen.
  CHECK(dealt(Mixture({1}), 5) == "00000");
  CHECK(dealt(Mixture({0.5, 0.5}), 6) == "010101");
  CHECK(dealt(Mixture({0.5, 0.3, 0.2}), 20) == "01020102010102010201");
  CHECK(Mixture({0.5, 0.3, 0.2}).quota(1) == 644245094);  // 0.3 · 2^31 = 644245094.4
  const Mixture::Place far = Mixture({0.5, 0.3, 0.2})(uint64_t{1} << 60);
  CHECK(far.corpus == 0);
  CHECK(far.index == uint64_t{1} << 59);
}

TEST_CASE("each corpus gets its samples in order, and at every moment its share to within half the corpora") {
  for (const std::vector<double>& weights :
       {std::vector<double>{1, 1}, {0.7, 0.2, 0.1}, {0.001, 5, 3, 3, 0.5, 100}, {1e-6, 1}, {3, 1, 1, 1, 1, 1, 1}}) {
    const Mixture mixture(weights);
    double all = 0;
    for (size_t c = 0; c < weights.size(); ++c) all += static_cast<double>(mixture.quota(c));
    std::vector<uint64_t> counts(weights.size());
    double worst = 0;
    for (uint64_t s = 0; s < 20000; ++s) {
      const Mixture::Place place = mixture(s);
      REQUIRE(place.index == counts.at(place.corpus)++);
      for (size_t c = 0; c < weights.size(); ++c) {
        const double share = static_cast<double>(s + 1) * static_cast<double>(mixture.quota(c)) / all;
        worst = std::max(worst, std::abs(static_cast<double>(counts[c]) - share));
      }
    }
    CHECK(worst <= static_cast<double>(weights.size()) / 2);
  }
}

TEST_CASE("a far sample continues what lies before it") {
  const Mixture mixture({0.5, 0.3, 0.2});
  for (const uint64_t first : {uint64_t{1000000000}, (uint64_t{1} << 61) + 12345}) {
    std::vector<uint64_t> next(3);
    for (uint64_t s = first; s < first + 1000; ++s) {
      const Mixture::Place place = mixture(s);
      if (next[place.corpus] != 0) CHECK(place.index == next[place.corpus]);
      next[place.corpus] = place.index + 1;
    }
    CHECK(next[0] + next[1] + next[2] == first + 1000);
  }
}

TEST_CASE("weights that share nothing out are refused") {
  CHECK_THROWS_AS(Mixture({}), ConfigError);
  CHECK_THROWS_WITH_AS(Mixture({1, 0}), doctest::Contains("weight 0 of a sum of 1"), ConfigError);
  CHECK_THROWS_AS(Mixture({1, -1}), ConfigError);
  CHECK_THROWS_AS(Mixture({1, NAN}), ConfigError);
  CHECK_THROWS_AS(Mixture({1, 1e-10}), ConfigError);
}

TEST_CASE("a mix is written as folders and shares") {
  CHECK(parse_mix("").empty());
  CHECK(parse_mix("a=0.25") == std::vector<MixedFolder>{{"a", 0.25}});
  CHECK(parse_mix(" a b = 0.25 ,x=1/y=1e-3,") == std::vector<MixedFolder>{{"a b", 0.25}, {"x=1/y", 0.001}});
  for (const char* wrong : {"a", "a=", "=0.5", "a=0", "a=1", "a=-0.1", "a=0.1x", "a=nan", "a=0.1,,b=0.1"})
    CHECK_THROWS_WITH_AS(parse_mix(wrong), doctest::Contains("expected FOLDER=SHARE"), ConfigError);
  CHECK_THROWS_WITH_AS(parse_mix("a=0.5,b=0.5"), doctest::Contains("add up to 1"), ConfigError);
}

}  // namespace
}  // namespace moeut
