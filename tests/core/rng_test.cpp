#include "core/rng.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

using namespace moeut;

namespace {

void check_words(const Philox4& r, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  CHECK(r.x[0] == a);
  CHECK(r.x[1] == b);
  CHECK(r.x[2] == c);
  CHECK(r.x[3] == d);
}

}  // namespace

// Random123's known answers for philox4x32-10: counter words c0 c1 c2 c3, key words k0 k1, lowest first.
TEST_CASE("philox: known answers") {
  check_words(philox(0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  check_words(philox(~0ull, ~0ull, ~0ull), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  check_words(philox(0x299f31d0a4093822ull, 0x0370734413198a2eull, 0x85a308d3243f6a88ull), 0xd16cfe09, 0x94fdcceb,
              0x5001e420, 0x24126ea1);
}

TEST_CASE("uniforms: the ends of their ranges") {
  CHECK(uniform_float(0) == 0.0f);
  CHECK(uniform_float(0xffffffffu) == 1.0f - 0x1p-24f);
  CHECK(uniform_float(0x80000000u) == 0.5f);
  CHECK(uniform_double(0, 0) == 0x1p-53);
  CHECK(uniform_double(~0u, ~0u) < 1.0);
  CHECK(uniform_double(~0u, ~0u) > 1 - 0x1p-51);
}

TEST_CASE("dropout_uniform: word i % 4 of the block that the header names") {
  const RngState rng{.seed = 77, .first_sample = 1000};
  for (uint64_t element : {0ull, 1ull, 6ull, 4000000003ull}) {
    const Philox4 r = philox(77, 1003, 5ull << 40 | element / 4);
    CHECK(dropout_uniform(rng, 3, 5, element) == uniform_float(r.x[element % 4]));
  }
  // A sequence keeps its numbers whatever micro-batch it comes in.
  CHECK(dropout_uniform({.seed = 77, .first_sample = 1003}, 0, 5, 6) == dropout_uniform(rng, 3, 5, 6));
  CHECK(dropout_uniform(rng, 3, 6, 6) != dropout_uniform(rng, 3, 5, 6));
}

TEST_CASE("Rng: reproducible, streams differ, moments of the normal") {
  Rng a(1, 2), b(1, 2), c(1, 3);
  CHECK(a.uniform() == b.uniform());
  CHECK(a.normal() == b.normal());
  CHECK(a.normal() == b.normal());
  CHECK(a.uniform() != c.uniform());

  Rng rng(9, 0);
  const int n = 200000;
  double sum = 0, squares = 0, fourth = 0;
  for (int i = 0; i < n; ++i) {
    const double v = rng.normal();
    sum += v;
    squares += v * v;
    fourth += v * v * v * v;
  }
  // Standard errors: 1/√n = 2.2e-3, √2/√n = 3.2e-3, √96/√n = 2.2e-2; four of each.
  CHECK(std::abs(sum / n) < 9e-3);
  CHECK(std::abs(squares / n - 1) < 1.3e-2);
  CHECK(std::abs(fourth / n - 3) < 9e-2);
}

TEST_CASE("Rng: no repetition among its first numbers") {
  Rng rng(0, 0);
  std::set<double> seen;
  for (int i = 0; i < 10000; ++i) seen.insert(rng.uniform());
  CHECK(seen.size() == 10000);
}
