#include "core/shape.h"

#include <doctest/doctest.h>

#include "core/error.h"

using namespace moeut;

TEST_CASE("Shape: sizes, rows, negative indices") {
  const Shape s{4, 256, 412};
  CHECK(s.rank() == 3);
  CHECK(s.size() == 4 * 256 * 412);
  CHECK(s.rows() == 1024);
  CHECK(s.row_size() == 412);
  CHECK(s[0] == 4);
  CHECK(s[-1] == 412);
  CHECK(s[-3] == 4);
  CHECK(s.extents() == std::vector<int64_t>{4, 256, 412});
}

TEST_CASE("Shape: scalars and empty extents") {
  const Shape scalar;
  CHECK(scalar.rank() == 0);
  CHECK(scalar.size() == 1);
  CHECK(scalar.rows() == 1);
  CHECK(scalar.row_size() == 1);
  CHECK(Shape{3, 0, 2}.size() == 0);
  CHECK(Shape{int64_t{1} << 20, int64_t{1} << 20}.size() == int64_t{1} << 40);  // beyond 32 bits
}

TEST_CASE("Shape: equality looks at rank and extents") {
  CHECK(Shape{2, 3} == Shape(std::vector<int64_t>{2, 3}));
  CHECK_FALSE(Shape{2, 3} == Shape{3, 2});
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
  CHECK_FALSE(Shape{2} == Shape{2, 0});
}

TEST_CASE("Shape: how it prints") {
  CHECK(Shape{4, 256, 412}.str() == "(4, 256, 412)");
  CHECK(Shape{4, 256, 412}.str("B T D") == "(B=4, T=256, D=412)");
  CHECK(Shape{4, 2}.str("B") == "(B=4, 2)");
  CHECK(Shape{}.str() == "()");
}

TEST_CASE("Shape: refuses what it cannot hold") {
  CHECK_THROWS_WITH_AS((Shape{2, -1}), "shape: dimension 1 is negative (-1)", ShapeError);
  CHECK_THROWS_WITH_AS((Shape{1, 1, 1, 1, 1, 1}), "shape: 6 dimensions, at most 5 are possible", ShapeError);
}
