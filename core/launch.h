// What every kernel launcher gets besides its operands.
#pragma once

#include <cstddef>

#include "core/backend.h"

namespace moeut {

/// A kernel allocates nothing: it states foo_workspace_bytes(shape) and uses `workspace`, which is uninitialised and
/// only its own until the launch ends.
struct Launch {
  backend::StreamHandle stream = nullptr;  ///< null: the device's compute stream
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
  bool deterministic = true;
};

}  // namespace moeut
