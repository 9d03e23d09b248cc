// The watchdog's thread: talks, listens, and does what watchdog_judge.h decides.
//
//   rank 0         hears of everybody, decides, and sends the verdict to all
//   other ranks    tell rank 0 about themselves, end at its verdict, and decide alone only about rank 0
//
// The thread takes no lock that the main thread holds for longer than it takes to copy a message, and counts the main
// thread's marks instead of reading its clock: what that is stuck in does not matter. Time in which the thread itself
// did not run (the whole job was suspended) counts against nobody.
//
// For tests, MOEUT_TEST_FAULT=ACTION@RANK:PHASE:STEP makes a rank that enters a phase of a step kill, stop or hang
// itself: MOEUT_TEST_FAULT=kill@1:forward:3. See trainer/test_fault.h.
#include "trainer/watchdog.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <ctime>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "core/check.h"
#include "trainer/test_fault.h"
#include "trainer/watchdog_connect.h"
#include "trainer/watchdog_judge.h"
#include "trainer/watchdog_link.h"

namespace moeut {
namespace {

using Kind = WatchdogLink::Kind;

constexpr double kPartSeconds = 1;    ///< for the others to close
constexpr double kFailSeconds = 2;    ///< for fail() to return
constexpr double kOwnGrace = 3;       ///< for rank 0 to answer a failure
constexpr double kLookSeconds = 0.1;  ///< between looks at where the main thread is
constexpr double kMostSeconds = 0.5;  ///< that count between two looks: what is more, this thread did not run
constexpr int kUrgentMilliseconds = 50;
constexpr char kCure[] = "; the newest checkpoint stays: start again to go on from it";

/// Where the main thread is. It writes, anybody reads.
struct Marks {
  std::atomic<const char*> phase{"the start"};
  std::atomic<int64_t> step{0};
  std::atomic<uint64_t> count{0};
  std::atomic<int> waits{0};

  void renew() { count.fetch_add(1); }
  std::string where() const {
    const char* name = phase.load(std::memory_order_acquire);
    const int64_t number = step.load(std::memory_order_relaxed);
    return number > 0 ? fmt::format("{} of step {}", name, number) : name;
  }
};

/// Seconds, without those in which this thread was kept from running.
class AwakeClock {
 public:
  explicit AwakeClock(double most) : most_(most) {}
  double now() const { return now_; }
  void advance() {
    const auto time = std::chrono::steady_clock::now();
    now_ += std::min(std::chrono::duration<double>(time - std::exchange(last_, time)).count(), most_);
  }

 private:
  double most_, now_ = 0;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

/// Lets another thread end this one's poll().
class WakeUp {
 public:
  WakeUp() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    require<IoError>(fd_ >= 0, "watchdog: cannot make an eventfd; raise the limit of open files (ulimit -n)");
  }
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;
  ~WakeUp() { ::close(fd_); }
  int fd() const { return fd_; }
  void wake() const { ::eventfd_write(fd_, 1); }
  void reset() const {
    eventfd_t count = 0;
    ::eventfd_read(fd_, &count);
  }

 private:
  int fd_;
};

/// Once a second, or more often where silence is soon noticed.
double tick_of(const WatchdogOptions& options) {
  return options.silence_seconds > 0 ? std::min(1.0, options.silence_seconds / 4) : 1.0;
}

/// Without waiting for a pipe that nobody reads, or for a lock of stdio.
void say(const std::string& message) {
  const char* const begin = ::isatty(STDERR_FILENO) != 0 ? "\n" : "";  // below the progress bar
  const std::string line = begin + ("moeut-train: " + message) + "\n";
  pollfd error{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&error, 1, 1000) <= 0) return;
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

/// With the time, as the log has its lines; nothing if there is no such file.
void append_to(const std::filesystem::path& log, const std::string& message) {
  const int fd = log.empty() ? -1 : ::open(log.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd < 0) return;
  char now[32] = {};
  const std::time_t seconds = std::time(nullptr);
  std::tm parts = {};
  std::strftime(now, sizeof(now), "%Y-%m-%d %H:%M:%S.000", ::localtime_r(&seconds, &parts));
  const std::string line = fmt::format("{} error {}\n", now, message);
  [[maybe_unused]] const ssize_t written = ::write(fd, line.data(), line.size());
  ::close(fd);
}

/// A thread that no signal interrupts: they are for the main thread.
std::thread start_without_signals(std::function<void()> work) {
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(work));
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

using Links = std::map<int, WatchdogLink>;

/// Keeps those of which `stays(rank, link)` says so.
template <class F>
void keep_links(Links& links, F&& stays) {
  for (auto it = links.begin(); it != links.end();) it = stays(it->first, it->second) ? std::next(it) : links.erase(it);
}

}  // namespace

class Watchdog::State {
 public:
  State(Communicator& communicator, WatchdogOptions options);
  ~State();

  Marks marks;
  std::optional<TestFault> fault;

  void fail(const std::string& message);

 private:
  // What follows runs in the thread.
  void run();
  void turn();
  void wait();
  void receive();
  bool receive_from(int rank, WatchdogLink& link);
  void take_requests();
  void look();
  void check();
  void report(const std::string& failure);
  void decide();
  void conclude(const Verdict& verdict, bool from_rank_0);
  bool ends_by_itself(const Verdict& verdict);
  bool speaks_about(const Verdict& verdict, bool from_rank_0) const;
  void post_to_all(Kind kind, const std::string& content);
  void part();
  void finish();
  RankState own_state();

  bool leads() const { return rank_ == 0; }

  int rank_;
  WatchdogOptions options_;
  std::vector<std::string> hosts_;
  Links links_;
  std::optional<WatchdogJudge> judge_;
  std::optional<Verdict> verdict_;  ///< that another rank has sent
  AwakeClock clock_;
  double next_look_ = 0, next_tick_ = 0;
  RankState told_{};
  uint64_t seen_marks_ = 0;
  double marked_at_ = 0;
  int lowest_other_ = 1;
  bool check_failed_ = false;

  WakeUp wake_up_;
  std::mutex mutex_;  ///< of what follows
  std::condition_variable finished_;
  bool goodbye_ = false, failing_ = false, is_finished_ = false;
  std::optional<std::string> failure_;
  std::thread thread_;
};

Watchdog::State::State(Communicator& communicator, WatchdogOptions options)
    : fault(TestFault::from_environment(communicator.rank())),
      rank_(communicator.rank()),
      options_(std::move(options)),
      clock_(kMostSeconds) {
  if (communicator.alone()) return;
  hosts_ = communicator.all_gather(host_name());
  const std::vector<int> processes = communicator.all_gather_value(static_cast<int>(::getpid()));
  for (auto& [rank, socket] : connect_watchdogs(communicator, options_.connect_seconds))
    links_.emplace(rank, std::move(socket));
  if (links_.empty()) return;
  std::vector<std::string> names;
  for (size_t rank = 0; rank < hosts_.size(); ++rank)
    names.push_back(fmt::format("rank {} ({}:{})", rank, hosts_[rank], processes[rank]));
  JudgeOptions judge{.seconds = options_.seconds, .silence_seconds = options_.silence_seconds};
  if (!leads()) judge = {.seconds = 0, .silence_seconds = options_.silence_seconds, .grace = kOwnGrace};
  judge_.emplace(std::move(names), judge, 0);
  for (int other = 1; !leads() && other < communicator.size(); ++other) judge_->left(other);
  thread_ = start_without_signals([this] { run(); });
}

Watchdog::State::~State() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    goodbye_ = true;
  }
  wake_up_.wake();
  thread_.join();
}

void Watchdog::State::fail(const std::string& message) {
  if (!thread_.joinable()) return;
  std::unique_lock lock(mutex_);
  if (is_finished_) return;
  failing_ = true;
  failure_ = message;
  wake_up_.wake();
  finished_.wait_for(lock, std::chrono::duration<double>(kFailSeconds), [this] { return is_finished_; });
}

void Watchdog::State::run() {
  const auto is_finished = [this] {
    const std::lock_guard lock(mutex_);
    return is_finished_;
  };
  try {
    while (!is_finished()) turn();
  } catch (const std::exception& error) {  // no memory
    conclude({.rank = rank_, .message = fmt::format("rank {}: its watchdog has failed: {}", rank_, error.what())},
             false);
  }
}

void Watchdog::State::turn() {
  wait();
  clock_.advance();
  receive();
  take_requests();
  if (clock_.now() >= next_look_) look();
  for (auto& [rank, link] : links_) link.send();
  decide();
}

void Watchdog::State::wait() {
  std::vector<pollfd> entries{{.fd = wake_up_.fd(), .events = POLLIN, .revents = 0}};
  for (const auto& [rank, link] : links_) {
    const int events = POLLIN | (link.has_unsent() ? POLLOUT : 0);
    entries.push_back({.fd = link.fd(), .events = static_cast<short>(events), .revents = 0});
  }
  const int to_look = static_cast<int>(std::max(0.0, next_look_ - clock_.now()) * 1e3) + 1;
  ::poll(entries.data(), entries.size(), judge_->is_urgent() ? std::min(kUrgentMilliseconds, to_look) : to_look);
  wake_up_.reset();
}

void Watchdog::State::receive() {
  keep_links(links_, [this](int rank, WatchdogLink& link) { return receive_from(rank, link); });
  // Rank 0, or all others, have said goodbye: nobody is left to be watched.
  const bool is_open_case = leads() && judge_->is_urgent();
  if (links_.empty() && !verdict_ && !is_open_case && !judge_->judge(clock_.now())) finish();
}

/// False: there is nothing more to come from this rank.
bool Watchdog::State::receive_from(int rank, WatchdogLink& link) {
  bool stays = true;
  try {
    const bool is_open = link.receive([&](Kind kind, const std::string& content) {
      if (kind == Kind::heartbeat) {
        const Heartbeat heartbeat = unpack_heartbeat(content);
        judge_->heard(rank, heartbeat.state(), clock_.now());
        lowest_other_ = heartbeat.lowest_other;
      } else if (kind == Kind::failure) {
        judge_->failed(rank, content, clock_.now());
      } else if (kind == Kind::verdict) {
        verdict_ = unpack_verdict(content);
      } else if (kind == Kind::goodbye) {
        judge_->left(rank);
        stays = false;
      }
    });
    if (!is_open) judge_->died(rank);  // unless it has left
    return is_open && stays;
  } catch (const IoError& error) {
    judge_->failed(rank, fmt::format("its watchdog has sent {}", error.what()), clock_.now());
    return false;
  }
}

void Watchdog::State::take_requests() {
  std::optional<std::string> failure;
  bool goodbye = false;
  {
    const std::lock_guard lock(mutex_);
    failure = std::exchange(failure_, std::nullopt);
    goodbye = goodbye_;
  }
  if (failure) report(*failure);
  if (!goodbye) return;
  post_to_all(Kind::goodbye, "");
  part();
  finish();
}

/// Tells where this rank is when that has changed, so that its last word is true, and at every tick.
void Watchdog::State::look() {
  next_look_ = clock_.now() + kLookSeconds;
  const RankState state = own_state();
  if (leads()) judge_->heard(0, state, clock_.now());
  const bool is_tick = clock_.now() >= next_tick_;
  if (!is_tick && state.where == told_.where && state.waiting == told_.waiting) return;
  told_ = state;
  post_to_all(Kind::heartbeat, pack(Heartbeat::of(state, leads() ? judge_->lowest_other() : 0)));
  if (!is_tick) return;
  next_tick_ = clock_.now() + tick_of(options_);
  if (options_.check && !check_failed_) check();
}

void Watchdog::State::check() {
  try {
    options_.check();
  } catch (const std::exception& error) {
    check_failed_ = true;
    report(error.what());
  }
}

void Watchdog::State::report(const std::string& failure) {
  judge_->failed(rank_, failure, clock_.now());
  if (!leads()) post_to_all(Kind::failure, failure);
}

/// Ages are those of looks: the main thread only counts.
RankState Watchdog::State::own_state() {
  const bool waiting = marks.waits.load() > 0;  // before the marks: see Waiting
  const uint64_t count = marks.count.load();
  if (std::exchange(seen_marks_, count) != count) marked_at_ = clock_.now();
  return {.where = marks.where(), .waiting = waiting, .age = clock_.now() - marked_at_};
}

void Watchdog::State::decide() {
  {
    const std::lock_guard lock(mutex_);
    if (is_finished_) return;
  }
  if (verdict_) return conclude(*verdict_, !leads());
  auto verdict = judge_->judge(clock_.now());
  if (!verdict) return;
  verdict->message += kCure;
  conclude(*verdict, false);
}

void Watchdog::State::conclude(const Verdict& verdict, bool from_rank_0) {
  const bool ends = !ends_by_itself(verdict);
  if (!from_rank_0) post_to_all(Kind::verdict, pack(verdict));  // also to a rank 0 that was stopped and may wake
  if (ends && !options_.end && speaks_about(verdict, from_rank_0)) say(verdict.message);
  if (ends && !options_.end && leads()) append_to(options_.log, verdict.message);
  if (leads()) part();
  links_.clear();
  if (ends && !options_.end) ::_exit(1);
  if (ends) options_.end(verdict.message);
  finish();
}

/// It has called fail(), and not only because another one is gone.
bool Watchdog::State::ends_by_itself(const Verdict& verdict) {
  const std::lock_guard lock(mutex_);
  return failing_ && (verdict.rank == rank_ || !verdict.is_gone);
}

/// One line each from rank 0 and from the rank that it is about. Of rank 0's death the lowest other rank tells, and the
/// lowest on another host, should a host be lost.
bool Watchdog::State::speaks_about(const Verdict& verdict, bool from_rank_0) const {
  if (leads() || verdict.rank == rank_) return true;
  if (from_rank_0) return false;
  const auto elsewhere = std::find_if(hosts_.begin(), hosts_.end(), [this](const auto& h) { return h != hosts_[0]; });
  return rank_ == lowest_other_ || rank_ == elsewhere - hosts_.begin();
}

void Watchdog::State::post_to_all(Kind kind, const std::string& content) {
  for (auto& [rank, link] : links_) {
    link.post(kind, content);
    link.send();
  }
}

/// What was sent has arrived where the other side closes. A process that ended sooner could take it back.
void Watchdog::State::part() {
  const Deadline deadline(kPartSeconds);
  const auto ignore = [](Kind, const std::string&) {};
  while (true) {
    std::vector<pollfd> entries;
    for (auto& [rank, link] : links_) {
      link.send();
      if (!link.has_unsent()) link.end_sending();
      entries.push_back({.fd = link.fd(), .events = POLLIN, .revents = 0});
    }
    if (links_.empty() || deadline.over()) return;
    ::poll(entries.data(), entries.size(), std::min(kUrgentMilliseconds, deadline.poll_time()));
    keep_links(links_, [&](int, WatchdogLink& link) { return link.receive(ignore); });
  }
}

void Watchdog::State::finish() {
  {
    const std::lock_guard lock(mutex_);
    is_finished_ = true;
  }
  finished_.notify_all();
}

Watchdog::Watchdog(Communicator& communicator, WatchdogOptions options)
    : state_(std::make_unique<State>(communicator, std::move(options))) {}

Watchdog::~Watchdog() = default;

void Watchdog::enter(const char* phase, int64_t step) {
  Marks& marks = state_->marks;
  marks.step.store(step, std::memory_order_relaxed);
  marks.phase.store(phase, std::memory_order_release);
  marks.renew();
  if (state_->fault) state_->fault->at(phase, step);
}

void Watchdog::renew() {
  state_->marks.renew();
}

// The mark comes first: who sees that this rank waits, or no longer does, also sees that it has come so far.
Watchdog::Waiting::Waiting(Watchdog& watchdog) : watchdog_(watchdog) {
  watchdog_.renew();
  watchdog_.state_->marks.waits.fetch_add(1);
}

Watchdog::Waiting::~Waiting() {
  watchdog_.renew();
  watchdog_.state_->marks.waits.fetch_sub(1);
}

void Watchdog::fail(const std::string& message) {
  state_->fail(message);
}

std::string Watchdog::where() const {
  return state_->marks.where();
}

}  // namespace moeut
