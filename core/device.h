// Where a tensor lives, and the tags that pick a kernel's overload.
#pragma once

#include <string>
#include <string_view>

namespace moeut {

/// Overload tags of kernels: foo(Cpu, …) and foo(Cuda, …).
struct Cpu {};
struct Cuda {};

/// A CPU, a CUDA device by index, or `meta`: memory is counted but not had, kernels are not run (that is how a dry run
/// predicts memory).
class Device {
 public:
  enum class Kind { cpu, cuda, meta };

  constexpr Device() = default;
  static constexpr Device cpu() { return {}; }
  static constexpr Device cuda(int index = 0) { return Device(Kind::cuda, index); }
  static constexpr Device meta() { return Device(Kind::meta, 0); }
  /// "cpu", "cuda", "cuda:1", or "auto": CUDA if this build and machine have it, else the CPU. Throws ConfigError for
  /// other names, BackendError for a device that is not there.
  static Device parse(std::string_view name);

  constexpr bool is_cpu() const { return kind_ == Kind::cpu; }
  constexpr bool is_cuda() const { return kind_ == Kind::cuda; }
  constexpr bool is_meta() const { return kind_ == Kind::meta; }
  constexpr int index() const { return index_; }
  bool operator==(const Device&) const = default;
  std::string str() const;

 private:
  constexpr Device(Kind kind, int index) : kind_(kind), index_(index) {}
  Kind kind_ = Kind::cpu;
  int index_ = 0;
};

/// Number of CUDA devices that this build can compute on: 0 without a CUDA backend.
int cuda_device_count();

}  // namespace moeut
