#include "data/progress_line.h"

#include <doctest/doctest.h>

using moeut::describe_progress;

TEST_CASE("progress: share of the input, speed of the text, time left") {
  // 4 s from 100 to 300 of 1000 bytes of input: 50 bytes/s, 14 s left. 8 MB of text in that time.
  CHECK(describe_progress(4, 100, 300, 1000, 1'000'000, 9'000'000) == " 30 %  9.0 MB  2.00 MB/s  00:14 left");
  CHECK(describe_progress(1, 0, 10, 100'000, 0, 10) == "  0 %  0.0 MB  0.00 MB/s  2:46:39 left");
  CHECK(describe_progress(1, 10, 10, 100, 0, 10) == " 10 %  0.0 MB  0.00 MB/s  --:-- left");
  CHECK(describe_progress(2, 0, 5, 0, 0, 4'000'000) == "4.0 MB  2.00 MB/s");
}
