// The one place that turns a tensor's device and element type into a kernel's overload.
#pragma once

#include <type_traits>
#include <utility>

#include "core/build_config.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"

namespace moeut {

/// Calls f(Cpu{}) or f(Cuda{}). A build without CUDA kernels never instantiates the second. On meta nothing runs.
template <class F>
void on_device(Device device, F&& f) {
  if (device.is_meta()) return;
  if (device.is_cpu()) return f(Cpu{});
  if constexpr (kWithCuda) return f(Cuda{});
  throw BackendError("tensor is on " + device.str() + " but this build has no CUDA backend");
}

/// Calls f.operator()<float>() or <double>(). Throws ShapeError for other types.
template <class F>
void on_floating(DType type, F&& f) {
  if (type == DType::f32) return f.template operator()<float>();
  if (type == DType::f64) return f.template operator()<double>();
  throw ShapeError(std::string("no kernel for elements of type ") + name_of(type));
}

/// The same for the narrow formats as well: f.operator()<T>() with T = TFloat32, BFloat16 or Float16.
template <class F>
void on_number(DType type, F&& f) {
  if (type == DType::tf32) return f.template operator()<TFloat32>();
  if (type == DType::bf16) return f.template operator()<BFloat16>();
  if (type == DType::f16) return f.template operator()<Float16>();
  on_floating(type, std::forward<F>(f));
}

/// f.operator()<Out>() with Out = T or Wide<T>, whichever `type` is.
template <class T, class F>
void on_output(DType type, F&& f) {
  if (type == dtype_of<T>) return f.template operator()<T>();
  if (type == dtype_of<Wide<T>>) return f.template operator()<Wide<T>>();
  throw ShapeError(std::string("no kernel from elements of type ") + name_of(dtype_of<T>) + " to " + name_of(type));
}

/// Device and type at once: f.operator()<T>(tag).
template <class F>
void on_device_floating(Device device, DType type, F&& f) {
  on_device(device, [&](auto tag) { on_floating(type, [&]<class T>() { f.template operator()<T>(tag); }); });
}
template <class F>
void on_device_number(Device device, DType type, F&& f) {
  on_device(device, [&](auto tag) { on_number(type, [&]<class T>() { f.template operator()<T>(tag); }); });
}

}  // namespace moeut
