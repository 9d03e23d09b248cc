// Rows that lie anywhere in memory, times one matrix: the product inside CVMM. Few rows meet each expert's matrix, so
// that a BLAS would spend a quarter of its time on copying the matrix into its own order and the rows with it.
#pragma once

#include <cstdint>

namespace moeut::kernels {

/// y[i, :] = scale[i] · x[i] · W, overwritten; relu: max(·, 0), NaN stays.
/// x: `rows` pointers to `in` elements each   W: (in, out), or with transpose (out, in); dense   scale null: 1.
/// The bits of a row depend on that row, W and the machine's instruction set alone, not on the rows beside it.
template <class T>
struct RowProduct {
  int64_t rows = 0, in = 0, out = 0;
  const T* const* x = nullptr;
  const T* scale = nullptr;
  const T* weight = nullptr;
  bool transpose = false;
  bool relu = false;
  T* y = nullptr;
  int64_t ldy = 0;
};

/// Elements of the buffer that row_product needs: some columns of W.
int64_t row_product_buffer(int64_t in);

/// On the calling thread.
void row_product(const RowProduct<float>& args, float* buffer);
void row_product(const RowProduct<double>& args, double* buffer);

}  // namespace moeut::kernels
