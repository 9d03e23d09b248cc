// What the machine reaches with nothing but a matrix product, and with nothing but a copy.
#include "core/backend.h"
#include "kernels/dispatch.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "trainer/benchmark/kernel_subject.h"
#include "trainer/benchmark/operands.h"

namespace moeut {
namespace {

KernelRun prepare_gemm(const KernelShape& shape, Device device, uint64_t stream) {
  const int64_t n = shape.gemm_size;
  const Tensor a = random_operand({n, n}, shape.compute, device, 2 * stream);
  const Tensor b = random_operand({n, n}, shape.compute, device, 2 * stream + 1);
  const Tensor c = Tensor::empty({n, n}, shape.compute, device);
  return [=] {
    on_device_number(device, c.dtype(), [&]<class T>(auto tag) {
      kernels::gemm<T>(
          tag, Launch{},
          {.m = n, .n = n, .k = n, .a = a.data<T>(), .lda = n, .b = b.data<T>(), .ldb = n, .c = c.data<T>(), .ldc = n});
    });
  };
}

/// CUDA: the driver's own copy; CPU: all threads copy.
KernelRun prepare_copy(const KernelShape& shape, Device device, uint64_t stream) {
  const int64_t count = shape.copy_bytes / static_cast<int64_t>(sizeof(float));
  const Tensor from = random_operand({count}, DType::f32, device, stream);
  const Tensor to = Tensor::zeros({count}, DType::f32, device);
  if (device.is_cuda()) return [=] { backend::copy(to.raw(), from.raw(), from.bytes(), nullptr); };
  return [=] {
    kernels::scale_copy<float>(Cpu{}, Launch{}, count, 1, from.data<float>(), to.data<float>(), Mode::overwrite);
  };
}

}  // namespace

KernelSubject gemm_subject() {
  return {"gemm", gemm_cost, prepare_gemm};
}

KernelSubject copy_subject() {
  return {"copy", copy_cost, prepare_copy};
}

std::vector<KernelSubject> kernel_subjects() {
  std::vector<KernelSubject> all = expert_subjects();
  for (const KernelSubject& subject : layer_subjects()) all.push_back(subject);
  all.push_back(gemm_subject());
  all.push_back(copy_subject());
  return all;
}

}  // namespace moeut
