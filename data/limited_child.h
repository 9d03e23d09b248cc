// A forked child with limits on time and memory, for libraries that a hostile file can crash or hang.
#pragma once

#include <functional>
#include <string>

namespace moeut {

struct ChildLimits {
  int cpu_seconds = 10;
  int wall_seconds = 20;
  size_t extra_memory = size_t{1} << 30;  ///< bytes of address space beyond what the process has now
};

/// Runs `work` in a forked child and returns its result. An exception of `work` comes back as IoError with its message.
/// If the child dies or passes a limit, IoError says so, beginning with `what` ("'x.h5' as an HDF5 shard"). The child
/// leaves by _exit: no destructors and no output of the parent's buffers. Call it before other threads take locks that
/// `work` needs.
std::string run_in_limited_child(const std::string& what, const std::function<std::string()>& work,
                                 ChildLimits limits = {});

}  // namespace moeut
