#include "data/word_cache.h"

#include <doctest/doctest.h>

#include <string>

namespace moeut {
namespace {

TEST_CASE("a word's ids are appended, or nothing is") {
  WordCache cache;
  std::vector<int32_t> ids = {7};
  CHECK_FALSE(cache.append("word", ids));
  cache.put("word", std::vector<int32_t>{1, 2, 3});
  CHECK(cache.append("word", ids));
  CHECK(ids == std::vector<int32_t>{7, 1, 2, 3});
  CHECK_FALSE(cache.append("words", ids));
  CHECK_FALSE(cache.append("wor", ids));
  cache.put("deleted", {});
  CHECK(cache.append("deleted", ids));
  CHECK(ids.size() == 4);
}

TEST_CASE("what does not fit is not kept") {
  WordCache cache;
  std::vector<int32_t> ids;
  const std::string longest(30, 'x');
  cache.put(longest, std::vector<int32_t>(8, 5));
  CHECK(cache.append(longest, ids));
  CHECK(ids == std::vector<int32_t>(8, 5));
  cache.put(longest + "x", std::vector<int32_t>{1});
  CHECK_FALSE(cache.append(longest + "x", ids));
  cache.put("many", std::vector<int32_t>(9, 5));
  CHECK_FALSE(cache.append("many", ids));
  cache.put("", std::vector<int32_t>{1});
  CHECK_FALSE(cache.append("", ids));
}

TEST_CASE("a full cache forgets, but is never wrong") {
  WordCache cache;
  const int words = 400'000;  // three times the places
  for (int i = 0; i < words; ++i) cache.put(std::to_string(i), std::vector<int32_t>{i, -i});
  int known = 0;
  for (int i = 0; i < words; ++i) {
    std::vector<int32_t> ids;
    if (!cache.append(std::to_string(i), ids)) continue;
    ++known;
    if (ids != std::vector<int32_t>{i, -i}) FAIL_CHECK("wrong ids for " << i);
  }
  CHECK(known > 100'000);  // of 131,072 places hardly one is free
}

}  // namespace
}  // namespace moeut
