#include "trainer/threads.h"

#include <omp.h>
#include <unistd.h>

#include <cstdlib>

#include "core/stop_request.h"

namespace moeut {

void start_with_patient_threads(char** argv, StopSignals signals) {
  if (signals == StopSignals::hold) hold_stop_signals();  // they stay held in the program that is started
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  if (::setenv("GOMP_SPINCOUNT", "1000", 1) != 0) return;
  ::execv("/proc/self/exe", argv);
  // Without /proc the program goes on as it is.
}

void set_cpu_threads(int64_t threads) {
  omp_set_num_threads(threads > 0 ? static_cast<int>(threads) : omp_get_num_procs());
}

}  // namespace moeut
