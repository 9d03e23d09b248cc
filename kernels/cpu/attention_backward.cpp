// Attention backward on the CPU. A piece is a chunk of one head's keys, whose dk and dv it alone writes; it goes
// through the queries block by block, recomputing P from the kept lse:
//   dP = dout·vᵀ,  dS = P ∘ (dP - ⟨dout, out⟩),  dv = Pᵀ·dout,  dk = dSᵀ·q,  dq = dS·k.
// The first chunk writes dq itself, the others into the workspace, to be added in order afterwards.
#include "kernels/attention.h"
#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/narrow.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_ops.h"

namespace moeut::kernels {

namespace {

/// How one head's keys are cut; by the shape alone, and only where there are few heads to share out.
struct KeyChunks {
  int64_t count, keys;
  explicit KeyChunks(const AttentionShape& s) {
    constexpr int64_t kManyHeads = 32, kLeastKeys = 256, kMostChunks = 4;
    const int64_t wanted = s.batch * s.heads >= kManyHeads ? 1 : std::min(kMostChunks, s.k_len / kLeastKeys);
    keys = (s.k_len + std::max<int64_t>(wanted, 1) - 1) / std::max<int64_t>(wanted, 1);
    count = keys == 0 ? 1 : (s.k_len + keys - 1) / keys;
  }
};

/// The workspace: P and dS of each thread, then dq of all chunks but the first, each (B, H, Tq, P) dense.
template <class T>
struct Buffers {
  T* data;
  int64_t scores, partial;

  Buffers(const AttentionShape& s, void* workspace)
      : data(static_cast<T*>(workspace)),
        scores(std::min(kQueryBlock, s.q_len) * KeyChunks(s).keys),
        partial(s.batch * s.heads * s.q_len * s.head_dim) {}

  T* p(int thread) const { return data + 2 * thread * scores; }
  T* ds(int thread) const { return p(thread) + scores; }
  T* dq(int64_t chunk) const { return data + 2 * thread_count() * scores + (chunk - 1) * partial; }
  int64_t size(const AttentionShape& s) const {
    return 2 * thread_count() * scores + (KeyChunks(s).count - 1) * partial;
  }
};

template <class T>
void probabilities_and_ds(const AttentionBackward<T>& a, const AttentionBlock& k, T* p, T* ds) {
  const AttentionShape& s = a.shape;
  masked_scores(s, a.mask, k, a.q, a.k, p);
  gemm_serial<T>({.m = k.queries(),
                  .n = k.keys,
                  .k = s.head_dim,
                  .a = k.query(s, a.dout),
                  .lda = s.q_row_stride,
                  .b = k.key(s, a.v),
                  .ldb = s.kv_row_stride,
                  .transpose_b = true,
                  .c = ds,
                  .ldc = k.keys});
  for (int64_t i = 0; i < k.queries(); ++i) {
    const T lse = a.lse[k.row(s) + i];
    const T delta =
        dot_row(k.query(s, a.out) + i * s.q_row_stride, k.query(s, a.dout) + i * s.q_row_stride, s.head_dim);
    // Of a query that saw nothing all scores are -inf, as is lse: shifted by 0 they give P = 0.
    const bool nothing = lse == -std::numeric_limits<T>::infinity();
    softmax_backward_row(p + i * k.keys, ds + i * k.keys, k.keys, nothing ? T(0) : lse, delta);
  }
}

/// dv += Pᵀ·dout and dk += dSᵀ·q.
template <class T>
void add_key_gradients(const AttentionBackward<T>& a, const AttentionBlock& k, const T* p, const T* ds) {
  const AttentionShape& s = a.shape;
  Gemm<T> product{.m = k.keys,
                  .n = s.head_dim,
                  .k = k.queries(),
                  .a = p,
                  .lda = k.keys,
                  .transpose_a = true,
                  .b = k.query(s, a.dout),
                  .ldb = s.q_row_stride,
                  .c = k.key(s, a.dv),
                  .ldc = s.kv_row_stride,
                  .mode = Mode::accumulate};
  gemm_serial(product);
  product.a = ds;
  product.b = k.query(s, a.q);
  product.c = k.key(s, a.dk);
  gemm_serial(product);
}

/// dq = dS·k, of the first chunk by its mode, of the others into their part of the workspace.
template <class T>
void query_gradient(const AttentionBackward<T>& a, const AttentionBlock& k, const T* ds, int64_t chunk,
                    const Buffers<T>& buffers) {
  const AttentionShape& s = a.shape;
  gemm_serial<T>({.m = k.queries(),
                  .n = s.head_dim,
                  .k = k.keys,
                  .a = ds,
                  .lda = k.keys,
                  .b = k.key(s, a.k),
                  .ldb = s.kv_row_stride,
                  .c = chunk == 0 ? k.query(s, a.dq) : buffers.dq(chunk) + k.row(s) * s.head_dim,
                  .ldc = chunk == 0 ? s.q_row_stride : s.head_dim,
                  .mode = chunk == 0 ? a.dq_mode : Mode::overwrite});
}

template <class T>
void clear_rows(T* data, int64_t rows, int64_t width, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i) std::fill_n(data + i * ld, width, T(0));
}

template <class T>
void backward_chunk(const AttentionBackward<T>& a, int64_t head, int64_t chunk, int thread, const Buffers<T>& buffers) {
  const AttentionShape& s = a.shape;
  const int64_t b = head / s.heads, h = head % s.heads;
  const int64_t first = chunk * KeyChunks(s).keys, end = std::min(first + KeyChunks(s).keys, s.k_len);
  const AttentionBlock keys{b, h, 0, 0, first, end - first};
  if (a.dk_mode == Mode::overwrite) clear_rows(keys.key(s, a.dk), keys.keys, s.head_dim, s.kv_row_stride);
  if (a.dv_mode == Mode::overwrite) clear_rows(keys.key(s, a.dv), keys.keys, s.head_dim, s.kv_row_stride);
  for (int64_t begin = 0; begin < s.q_len; begin += kQueryBlock) {
    const AttentionBlock block = attention_block(s, a.mask, b, h, begin, first, end);
    if (block.keys == 0 && chunk > 0) continue;
    probabilities_and_ds(a, block, buffers.p(thread), buffers.ds(thread));
    query_gradient(a, block, buffers.ds(thread), chunk, buffers);
    add_key_gradients(a, block, buffers.p(thread), buffers.ds(thread));
  }
}

/// dq += the later chunks' shares, for one block of queries.
template <class T>
void add_shares(const AttentionBackward<T>& a, int64_t head, int64_t begin, const Buffers<T>& buffers) {
  const AttentionShape& s = a.shape;
  const KeyChunks chunks(s);
  for (int64_t chunk = 1; chunk < chunks.count; ++chunk) {
    const int64_t first = chunk * chunks.keys, end = std::min(first + chunks.keys, s.k_len);
    const AttentionBlock block = attention_block(s, a.mask, head / s.heads, head % s.heads, begin, first, end);
    if (block.keys == 0) continue;
    for (int64_t i = 0; i < block.queries(); ++i) {
      const T* share = buffers.dq(chunk) + (block.row(s) + i) * s.head_dim;
      add_scaled_row(share, block.query(s, a.dq) + i * s.q_row_stride, s.head_dim, T(1));
    }
  }
}

}  // namespace

template <class T>
size_t attention_backward_workspace_bytes(Cpu, const AttentionShape& s, const AttentionMask&) {
  return static_cast<size_t>(Buffers<Wide<T>>(s, nullptr).size(s)) * sizeof(Wide<T>);
}

template <class T>
void attention_backward(Cpu tag, const Launch& launch, const AttentionBackward<T>& a) {
  const AttentionShape& s = a.shape;
  if constexpr (kIsNarrow<T>) {
    Floats f;
    attention_backward<float>(tag, launch,
                              {.shape = s,
                               .mask = a.mask,
                               .q = f.in(a.q, query_extent(s)),
                               .k = f.in(a.k, key_extent(s)),
                               .v = f.in(a.v, key_extent(s)),
                               .out = f.in(a.out, query_extent(s)),
                               .lse = a.lse,
                               .dout = f.in(a.dout, query_extent(s)),
                               .dq = f.out(a.dq, query_extent(s), true),
                               .dk = f.out(a.dk, key_extent(s), true),
                               .dv = f.out(a.dv, key_extent(s), true),
                               .dq_mode = a.dq_mode,
                               .dk_mode = a.dk_mode,
                               .dv_mode = a.dv_mode});
  } else {
    const Buffers<T> buffers(s, launch.workspace);
    const int64_t heads = s.batch * s.heads, chunks = KeyChunks(s).count, blocks = query_blocks(s);
    parallel_pieces(heads * chunks, [&](int64_t piece, int thread) {
      backward_chunk(a, piece / chunks, piece % chunks, thread, buffers);
    });
    if (chunks == 1) return;
    parallel_pieces(heads * blocks,
                    [&](int64_t piece, int) { add_shares(a, piece / blocks, piece % blocks * kQueryBlock, buffers); });
  }
}

#define MOEUT_INSTANTIATE(T)                                                                               \
  template size_t attention_backward_workspace_bytes<T>(Cpu, const AttentionShape&, const AttentionMask&); \
  template void attention_backward<T>(Cpu, const Launch&, const AttentionBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
