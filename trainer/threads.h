// The CPU threads of a program.
#pragma once

#include <cstdint>

namespace moeut {

/// To be called first of all in main. OpenMP's idle threads spin while they wait, by default for so long that a second
/// busy program on the machine makes training ten times slower (measured: docs/measurements/cpu.md). libgomp reads its
/// settings before main begins, so the program is started again with GOMP_SPINCOUNT set, once, unless the user has
/// set it or OMP_WAIT_POLICY. `hold`: stop signals that arrive meanwhile wait until a StopRequest takes them.
enum class StopSignals { pass, hold };
void start_with_patient_threads(char** argv, StopSignals signals = StopSignals::pass);

/// Threads that kernels use from now on; 0: as many as the process may run on.
void set_cpu_threads(int64_t threads);

}  // namespace moeut
