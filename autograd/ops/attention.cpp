#include "autograd/ops/attention.h"

#include "autograd/op.h"
#include "kernels/attention.h"

namespace moeut::ops {

namespace {

struct Saved {
  Tensor q, k, v, out, lse;
  AttentionMask mask;
  kernels::AttentionShape shape;
};

void check(const Variable& q, const Variable& k, const Variable& v, int64_t heads, const AttentionMask& mask,
           int64_t k_len) {
  const Shape &s = q.shape(), &t = k.shape();
  require<ShapeError>(s.rank() == 3 && t.rank() == 3 && t == v.shape() && s[0] == t[0] && s[2] == t[2] && heads > 0 &&
                          s[2] % heads == 0,
                      "attention: q {}, k {}, v {} and {} heads do not fit", s.str("B T HP"), t.str("B T HP"),
                      v.shape().str("B T HP"), heads);
  require_same_kind("attention", {&q.value(), &k.value(), &v.value()});
  require<ShapeError>(k_len <= t[1] && (k_len == t[1] || !(k.needs_gradient() || v.needs_gradient())),
                      "attention: {} of {} keys count; part of them can be used only without a gradient", k_len, t[1]);
  const Shape keys{s[0], k_len}, position{s[1], k_len}, batched{s[0], s[1], k_len};
  if (mask.src_length_mask.defined()) {
    require<ShapeError>(mask.src_length_mask.shape() == keys && mask.src_length_mask.dtype() == DType::u8,
                        "attention: src_length_mask {} should be u8 {}", mask.src_length_mask.str(), keys.str("B Tk"));
  }
  if (mask.position_mask.defined()) {
    const Shape& m = mask.position_mask.shape();
    require<ShapeError>((m == position || m == batched) && mask.position_mask.dtype() == DType::u8,
                        "attention: position_mask {} should be u8 {} or {}", mask.position_mask.str(),
                        position.str("Tq Tk"), batched.str("B Tq Tk"));
  }
  if (mask.first_key.defined()) {
    const Shape queries{s[0], s[1]};
    require<ShapeError>(mask.first_key.shape() == queries && mask.first_key.dtype() == DType::i32,
                        "attention: first_key {} should be i32 {}", mask.first_key.str(), queries.str("B Tq"));
  }
}

kernels::AttentionMask raw(const AttentionMask& mask) {
  kernels::AttentionMask m{.causal = mask.causal};
  if (mask.src_length_mask.defined()) m.keys = mask.src_length_mask.data<uint8_t>();
  if (mask.position_mask.defined()) {
    const Shape& s = mask.position_mask.shape();
    m.position = mask.position_mask.data<uint8_t>();
    m.position_batch_stride = s.rank() == 3 ? s[1] * s[2] : 0;
  }
  if (mask.first_key.defined()) m.first_key = mask.first_key.data<int32_t>();
  return m;
}

void backward(const Saved& s, const Tensor& dy, InputGradients& in) {
  std::vector<GradientTarget> targets(3);
  for (size_t i = 0; i < 3; ++i) {
    if (in.wanted(i))
      targets[i] = in.target(i);
    else
      targets[i].tensor = Tensor::empty(i == 0 ? s.q.shape() : s.k.shape(), dy.dtype(),
                                        dy.device());  // computed with the others, not kept
  }
  on_number(dy.dtype(), [&]<class T>() {
    Workspace workspace(dy.device(), workspace_bytes(dy.device(), [&](auto tag) {
                          return kernels::attention_backward_workspace_bytes<T>(tag, s.shape, raw(s.mask));
                        }));
    on_device(dy.device(), [&](auto tag) {
      kernels::attention_backward<T>(tag, workspace,
                                     {.shape = s.shape,
                                      .mask = raw(s.mask),
                                      .q = s.q.data<T>(),
                                      .k = s.k.data<T>(),
                                      .v = s.v.data<T>(),
                                      .out = s.out.data<T>(),
                                      .lse = s.lse.data<Wide<T>>(),
                                      .dout = dy.data<T>(),
                                      .dq = targets[0].tensor.data<T>(),
                                      .dk = targets[1].tensor.data<T>(),
                                      .dv = targets[2].tensor.data<T>(),
                                      .dq_mode = targets[0].mode,
                                      .dk_mode = targets[1].mode,
                                      .dv_mode = targets[2].mode});
    });
  });
}

}  // namespace

Variable attention(Tape& tape, const Variable& q, const Variable& k, const Variable& v, int64_t heads,
                   const AttentionMask& mask, int64_t k_len) {
  const int64_t tk = k_len > 0 ? k_len : k.shape()[1];
  check(q, k, v, heads, mask, tk);
  const int64_t batch = q.shape()[0], tq = q.shape()[1], width = q.shape()[2];
  Tensor out = Tensor::empty(q.shape(), q.dtype(), q.device());
  const Saved s{q.value(),
                k.value(),
                v.value(),
                out,
                Tensor::empty({batch, heads, tq}, wide_of(q.dtype()), q.device()),
                mask,
                {.batch = batch,
                 .heads = heads,
                 .q_len = tq,
                 .k_len = tk,
                 .head_dim = width / heads,
                 .q_row_stride = width,
                 .q_batch_stride = tq * width,
                 .kv_row_stride = width,
                 .kv_batch_stride = k.shape()[1] * width}};
  on_number(q.dtype(), [&]<class T>() {
    Workspace workspace(q.device(), workspace_bytes(q.device(), [&](auto tag) {
                          return kernels::attention_forward_workspace_bytes<T>(tag, s.shape, raw(mask));
                        }));
    on_device(q.device(), [&](auto tag) {
      kernels::attention_forward<T>(tag, workspace,
                                    {.shape = s.shape,
                                     .mask = raw(mask),
                                     .q = s.q.data<T>(),
                                     .k = s.k.data<T>(),
                                     .v = s.v.data<T>(),
                                     .out = out.data<T>(),
                                     .lse = s.lse.data<Wide<T>>()});
    });
  });
  return tape.record(out, {q, k, v}, [s](const Tensor& dy, InputGradients& in) { backward(s, dy, in); });
}

}  // namespace moeut::ops
