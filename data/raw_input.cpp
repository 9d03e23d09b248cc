#include "data/raw_input.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "core/check.h"
#include "core/stop_request.h"
#include "data/input_errors.h"
#include "data/input_files.h"

namespace moeut {
namespace {

constexpr int kPollMilliseconds = 100;
/// Ctrl-C reaches all programs of a pipeline at once: one that ends of it before us must not look like the end of text.
constexpr auto kSignalDelay = std::chrono::milliseconds(20);

int open_file(const std::filesystem::path& path, const std::string& name) {
  // A pipe without a writer must not block here.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  require<IoError>(fd >= 0, "cannot read {}: {}; check the path and its permissions", name, std::strerror(errno));
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw IoError(fmt::format("cannot read {}: it is not a regular file; give a pipe as standard input (-)", name));
  }
  return fd;
}

void throw_if_stopped() {
  if (stop_signalled()) throw InputInterrupted("a signal came while standard input was read");
}

/// Returns when there is something to read, or the end.
void wait_for_standard_input(int fd) {
  struct pollfd waiting = {.fd = fd, .events = POLLIN, .revents = 0};
  do {
    throw_if_stopped();
  } while (poll(&waiting, 1, kPollMilliseconds) <= 0);
}

}  // namespace

RawInput::RawInput(const std::filesystem::path& path)
    : standard_input_(is_standard_input(path)), name_(input_name(path)), buffer_(kBufferBytes) {
  fd_ = standard_input_ ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open_file(path, name_);
  require<IoError>(fd_ >= 0, "cannot read {}: {}; is it closed?", name_, std::strerror(errno));
}

RawInput::~RawInput() {
  ::close(fd_);
}

size_t RawInput::read(char* out, size_t capacity) {
  ssize_t n = 0;
  do {
    if (standard_input_) wait_for_standard_input(fd_);
    n = ::read(fd_, out, capacity);
  } while (n < 0 && (errno == EINTR || errno == EAGAIN));
  require<IoError>(n >= 0, "cannot read {}: {}", name_, std::strerror(errno));
  if (n == 0 && standard_input_) {
    std::this_thread::sleep_for(kSignalDelay);
    throw_if_stopped();
  }
  consumed_ += static_cast<uint64_t>(n);
  return static_cast<size_t>(n);
}

bool RawInput::fill(size_t bytes) {
  if (available().size() >= bytes) return true;
  std::memmove(buffer_.data(), buffer_.data() + position_, size_ - position_);
  size_ -= position_;
  position_ = 0;
  while (size_ < bytes) {
    const size_t got = read(buffer_.data() + size_, buffer_.size() - size_);
    if (got == 0) return false;
    size_ += got;
  }
  return true;
}

}  // namespace moeut
