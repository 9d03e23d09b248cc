#include "data/text_sample.h"

#include <doctest/doctest.h>

#include <algorithm>

namespace moeut {
namespace {

std::vector<std::string> sample_of(uint64_t max_bytes, uint64_t seed, int texts = 100, size_t size = 10) {
  TextSample sample(max_bytes, seed);
  for (int i = 0; i < texts; ++i) sample.add(std::string(size - 3, 'x') + std::to_string(100 + i));
  std::vector<std::string> kept;
  while (auto text = sample.next()) kept.push_back(*std::move(text));
  return kept;
}

TEST_CASE("without a limit everything is kept, in order") {
  const auto all = sample_of(0, 1);
  REQUIRE(all.size() == 100);
  CHECK(all.front() == "xxxxxxx100");
  CHECK(all.back() == "xxxxxxx199");
  CHECK(sample_of(1000, 1) == all);
  CHECK(sample_of(9, 1).empty());
}

TEST_CASE("a sample is a function of the seed, in the order of the texts") {
  const auto kept = sample_of(305, 1);
  CHECK(kept.size() == 30);
  CHECK(std::is_sorted(kept.begin(), kept.end()));
  CHECK(kept == sample_of(305, 1));
  CHECK(kept != sample_of(305, 2));
}

TEST_CASE("a smaller sample is part of a larger one") {
  const auto small = sample_of(200, 5), large = sample_of(500, 5);
  CHECK(std::includes(large.begin(), large.end(), small.begin(), small.end()));
}

TEST_CASE("a text that does not fit ends the sample, wherever it stands") {
  TextSample sample(100, 1);
  for (int i = 0; i < 50; ++i) sample.add(std::string(i == 7 ? 101 : 10, 'x'));
  CHECK(sample.bytes() <= 100);
  CHECK(sample.texts_seen() == 50);
  CHECK(sample.bytes_seen() == 49 * 10 + 101);
  while (const auto text = sample.next()) CHECK(text->size() == 10);
}

TEST_CASE("every text is as likely to be kept") {
  std::vector<int> times(100, 0);
  for (uint64_t seed = 0; seed < 400; ++seed)
    for (const std::string& text : sample_of(500, seed)) ++times[static_cast<size_t>(std::stoi(text.substr(7)) - 100)];
  // Half of 400 with a standard deviation of 10; one of 100 texts passes five of them once in 17,000 runs, and the
  // seeds are fixed.
  for (const int n : times) CHECK(std::abs(n - 200) < 50);
}

}  // namespace
}  // namespace moeut
