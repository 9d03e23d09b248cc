// Rows of a table by token id.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// y[i, :] = table[token[i], :].   token: (n)   table: (vocabulary, width)   y: (n, width), overwritten.
/// Ids are trusted: the caller has checked 0 <= token < vocabulary.
template <class T>
void embedding_forward(Cpu, const Launch&, int64_t n, int64_t width, const int32_t* token, const T* table, T* y);
template <class T>
void embedding_forward(Cuda, const Launch&, int64_t n, int64_t width, const int32_t* token, const T* table, T* y);

/// dtable[v, :] = Σ_{i: token[i] = v} dy[i, :], in the order of i; overwritten (zero where a token does not occur) or
/// accumulated.
template <class T>
void embedding_backward(Cpu, const Launch&, int64_t n, int64_t width, int64_t vocabulary, const int32_t* token,
                        const T* dy, T* dtable, Mode mode);
template <class T>
void embedding_backward(Cuda, const Launch&, int64_t n, int64_t width, int64_t vocabulary, const int32_t* token,
                        const T* dy, T* dtable, Mode mode);

}  // namespace moeut::kernels
