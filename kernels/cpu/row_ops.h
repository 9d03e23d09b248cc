// Loops over one row, compiled for each instruction set (kernels/cpu/simd.h). Sums run in fixed lanes: the bits depend
// on the length alone (and on the machine's instruction set).
#pragma once

#include <cstdint>

namespace moeut::kernels {

/// y = a · x; y may be x.
void scale_row(const float* x, float* y, int64_t n, float a);
void scale_row(const double* x, double* y, int64_t n, double a);

/// y += a · x.
void add_scaled_row(const float* x, float* y, int64_t n, float a);
void add_scaled_row(const double* x, double* y, int64_t n, double a);

/// y = max(y, 0); NaN stays.
void relu_row(float* y, int64_t n);
void relu_row(double* y, int64_t n);

/// y = a · y where h > 0, else 0.
void relu_backward_row(const float* h, float* y, int64_t n, float a);
void relu_backward_row(const double* h, double* y, int64_t n, double a);

/// Σ x · y.
float dot_row(const float* x, const float* y, int64_t n);
double dot_row(const double* x, const double* y, int64_t n);

/// The largest element, -inf for n = 0. NaN is passed over.
float max_row(const float* x, int64_t n);
double max_row(const double* x, int64_t n);

/// x = exp(x - shift); returns the sum of the new x.
double exp_sum_row(float* x, int64_t n, float shift);
double exp_sum_row(double* x, int64_t n, double shift);

/// Softmax's backward from scores:  p = exp(p - lse), dp = p · (dp - delta).
void softmax_backward_row(float* p, float* dp, int64_t n, float lse, float delta);
void softmax_backward_row(double* p, double* dp, int64_t n, double lse, double delta);

}  // namespace moeut::kernels
