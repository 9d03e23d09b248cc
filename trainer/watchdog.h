// Ends a run of several ranks when one of them is gone or makes no progress, and says which, where.
//
// Every rank has a thread that talks to rank 0's by TCP: once a second, and soon after a change, it tells what its rank
// is doing and since when. A connection that closes without a goodbye is a dead process (the kernel closes it at once,
// whatever killed it); silence is a dead or stopped host or process; a phase that has lasted too long is a rank without
// progress. Rank 0 tells all others, by the same connections, what has happened; if it is rank 0 that is gone, each of
// them sees that alone. A job that is suspended as a whole goes on when it is resumed.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "trainer/communicator.h"

namespace moeut {

struct WatchdogOptions {
  /// A rank that is at work (not waiting for others) on the same mark for longer ends the run; so does a wait of all
  /// ranks together. 0: no limit.
  double seconds = 600;
  /// A rank that says nothing at all for longer ends the run. 0: no limit.
  double silence_seconds = 20;
  /// For the connections between the ranks to be made.
  double connect_seconds = 15;
  /// Rank 0's last word is appended to it as well, if it is there.
  std::filesystem::path log = {};
  /// Called once, from the watchdog's thread, with what has happened; not on a rank that has called fail(). Must not
  /// return to training: the default writes the message to standard error (on rank 0 and on the rank that it is about)
  /// and ends the process with status 1, without destructors.
  std::function<void(const std::string& message)> end;
  /// Asked once a second, from the watchdog's thread; what it throws ends the run as that rank's failure (NCCL's errors
  /// come by it).
  std::function<void()> check;
};

/// With one rank marks are kept and nothing else happens: a lone process is not watched.
class Watchdog {
 public:
  /// Collective: addresses and a secret are spread by the communicator, which is not used afterwards. Where the
  /// connections cannot be made (a firewall), there is a warning and nobody is watched.
  Watchdog(Communicator& communicator, WatchdogOptions options);
  /// Says goodbye: from then on this rank's end is no failure. Collective only in that others should end soon as well.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// From the main thread, cheap (a few atomic stores): this rank begins `phase` (a string literal) of `step`. Every
  /// call is progress, also with the same arguments.
  void enter(const char* phase, int64_t step);
  /// The same phase goes on and has come further: for long ones, a batch of a validation or a file of a save.
  void renew();
  /// From here to the end of its scope this rank waits for others: not its fault, however long.
  class Waiting {
   public:
    explicit Waiting(Watchdog& watchdog);
    ~Waiting();
    Waiting(const Waiting&) = delete;

   private:
    Watchdog& watchdog_;
  };

  /// Tells all others why this rank is about to end: they end as well, with this message behind its name, unless it
  /// turns out that another rank's death came before. Returns when they have been told, or after two seconds. Does not
  /// end this process.
  void fail(const std::string& message);

  /// Where this rank is, for messages: "forward of step 37".
  std::string where() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace moeut
