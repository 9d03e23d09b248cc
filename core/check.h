// require(): the one way to refuse what a caller passed in.
#pragma once

#include <fmt/format.h>

#include <utility>

#include "core/error.h"

namespace moeut {

/// Throws E with a formatted message unless `condition` holds.
template <class E, class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw E(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace moeut
