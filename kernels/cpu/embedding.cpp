#include "kernels/embedding.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_ops.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kTokens = 32;      // tokens whose rows one piece copies
constexpr int64_t kTableRows = 256;  // table rows whose gradient one piece owns

}  // namespace

template <class T>
void embedding_forward(Cpu, const Launch&, int64_t n, int64_t width, const int32_t* token, const T* table, T* y) {
  parallel_blocks(n, kTokens, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::copy_n(table + token[i] * width, width, y + i * width);
  });
}

// A piece owns rows of the table and looks through all tokens for its own: no atomics, and each row's terms come in the
// order of i.
template <class T>
void embedding_backward(Cpu, const Launch&, int64_t n, int64_t width, int64_t vocabulary, const int32_t* token,
                        const T* dy, T* dtable, Mode mode) {
  parallel_blocks(vocabulary, kTableRows, [=](int64_t begin, int64_t end) {
    if (mode == Mode::overwrite) std::fill(dtable + begin * width, dtable + end * width, T(0));
    for (int64_t i = 0; i < n; ++i) {
      if (token[i] >= begin && token[i] < end) add_scaled_row(dy + i * width, dtable + token[i] * width, width, T(1));
    }
  });
}

template void embedding_forward<float>(Cpu, const Launch&, int64_t, int64_t, const int32_t*, const float*, float*);
template void embedding_forward<double>(Cpu, const Launch&, int64_t, int64_t, const int32_t*, const double*, double*);
template void embedding_backward<float>(Cpu, const Launch&, int64_t, int64_t, int64_t, const int32_t*, const float*,
                                        float*, Mode);
template void embedding_backward<double>(Cpu, const Launch&, int64_t, int64_t, int64_t, const int32_t*, const double*,
                                         double*, Mode);

}  // namespace moeut::kernels
