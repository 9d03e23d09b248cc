#include "kernels/rope.h"

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

/// The definition, element by element.
template <class T>
std::vector<double> reference(const kernels::Rope<T>& a) {
  std::vector<double> y(static_cast<size_t>(a.batch * a.time * a.ldy));
  for (int64_t token = 0; token < a.batch * a.time; ++token) {
    for (int64_t h = 0; h < a.heads; ++h) {
      const T* x = a.x + token * a.ldx + h * a.head_dim;
      double* out = y.data() + token * a.ldy + h * a.head_dim;
      const int64_t half = a.n_rotate / 2;
      for (int64_t i = 0; i < a.head_dim; ++i) out[i] = static_cast<double>(a.scale) * static_cast<double>(x[i]);
      for (int64_t i = 0; i < half; ++i) {
        const double position = static_cast<double>(a.first_position + token % a.time);
        const double angle =
            position * std::pow(a.base, -2.0 * static_cast<double>(i) / static_cast<double>(a.n_rotate));
        const double c = std::cos(angle), s = a.inverse ? -std::sin(angle) : std::sin(angle);
        const double u = out[i], v = out[i + half];
        out[i] = u * c - v * s;
        out[i + half] = v * c + u * s;
      }
    }
  }
  return y;
}

template <class T>
std::vector<T> run(kernels::Rope<T> args, std::vector<T> y) {
  args.y = y.data();
  kernels::rope<T>(Cpu{}, Launch{}, args);
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("rope: literals", T, float, double) {
  const std::vector<T> x{1, 2, 3, 4, 5, 6, 7, 8};  // two positions, one head of four dims, of which two rotate
  const auto y = run<T>({.batch = 1,
                         .time = 2,
                         .heads = 1,
                         .head_dim = 4,
                         .n_rotate = 2,
                         .scale = T(2),
                         .x = x.data(),
                         .ldx = 4,
                         .ldy = 4},
                        unset<T>(8));
  const double c = 0.54030230586813972, s = 0.84147098480789651;  // cos 1, sin 1
  CHECK(relative_error(y, {2, 4, 6, 8, 2 * (5 * c - 6 * s), 2 * (6 * c + 5 * s), 14, 16}) < 2 * kEpsilon<T>);
}

TEST_CASE_TEMPLATE("rope: odd shapes, offsets and directions against the definition", T, float, double) {
  struct Shape {
    int64_t batch, time, heads, head_dim, n_rotate, first;
  };
  for (const Shape& s : {Shape{1, 1, 1, 2, 2, 0}, Shape{2, 37, 3, 82, 40, 0}, Shape{3, 5, 2, 7, 0, 9},
                         Shape{1, 33, 1, 300, 300, 4000}}) {
    CAPTURE(s.head_dim);
    const int64_t width = s.heads * s.head_dim, ldx = width + 3, tokens = s.batch * s.time;
    const auto x = random_values<T>(tokens * ldx, 21);
    for (bool inverse : {false, true}) {
      const kernels::Rope<T> args{.batch = s.batch,
                                  .time = s.time,
                                  .heads = s.heads,
                                  .head_dim = s.head_dim,
                                  .n_rotate = s.n_rotate,
                                  .first_position = s.first,
                                  .scale = T(0.5),
                                  .inverse = inverse,
                                  .x = x.data(),
                                  .ldx = ldx,
                                  .ldy = width};
      const auto expected = reference(args);
      const auto y = same_on_any_threads([&] { return run(args, unset<T>(tokens * width)); });
      // An angle of float64 is off by half a unit of its last place, 4000 · 1e-16, before it is rounded to T.
      CHECK(relative_error(y, expected) < 3 * kEpsilon<T> + 1e-12);
      kernels::Rope<T> onto = args;
      onto.mode = Mode::accumulate;
      const auto base = random_values<T>(tokens * width, 22);
      CHECK(relative_error(run(onto, base), sum_of(base, expected)) < 3 * kEpsilon<T> + 1e-12);
    }
  }
}

TEST_CASE("rope: a position's result does not depend on where the call began; inverse undoes it, in place") {
  const int64_t time = 50, width = 2 * 16;
  const auto x = random_values<double>(time * width, 23);
  kernels::Rope<double> args{
      .batch = 1, .time = time, .heads = 2, .head_dim = 16, .n_rotate = 8, .x = x.data(), .ldx = width, .ldy = width};
  auto whole = run(args, unset<double>(time * width));
  std::vector<double> pieces;
  for (int64_t t = 0; t < time; ++t) {
    args.time = 1;
    args.first_position = t;
    args.x = x.data() + t * width;
    pieces = joined(pieces, run(args, unset<double>(width)));
  }
  CHECK(relative_error(whole, pieces) < 1e-14);  // 15 turns of 2^-53 each
  args = {.batch = 1,
          .time = time,
          .heads = 2,
          .head_dim = 16,
          .n_rotate = 8,
          .inverse = true,
          .x = whole.data(),
          .ldx = width,
          .y = whole.data(),
          .ldy = width};
  kernels::rope<double>(Cpu{}, Launch{}, args);
  CHECK(relative_error(whole, x) < 1e-15);
}
