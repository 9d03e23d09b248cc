#include "trainer/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstdio>
#include <mutex>
#include <string>
#include <system_error>

#include "core/check.h"

namespace moeut {
namespace {

class TerminalSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit TerminalSink(std::shared_ptr<Terminal> terminal) : terminal_(std::move(terminal)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const char* prefix = message.level >= spdlog::level::err    ? "error: "
                         : message.level == spdlog::level::warn ? "warning: "
                                                                : "";
    terminal_->print(fmt::format("{}{}\n", prefix, std::string_view(message.payload.data(), message.payload.size())));
  }
  void flush_() override {}  // a Terminal flushes each line

 private:
  std::shared_ptr<Terminal> terminal_;
};

/// Keeps the lines until there is a file. A file that cannot be written any more (a full disk) is given up with one
/// warning: what must not be lost is in other files, which say so themselves.
class FileSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FileSink(std::shared_ptr<Terminal> terminal) : terminal_(std::move(terminal)) {
    set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
  }

  void open(const std::filesystem::path& path) {
    const std::lock_guard lock(mutex_);
    path_ = path.string();
    file_.reset(std::fopen(path_.c_str(), "ae"));
    const int error = errno;
    require<IoError>(file_ != nullptr, "cannot write the log '{}': {}; choose a run.dir that this user can write",
                     path_, std::generic_category().message(error));
    write(early_);
    early_.clear();
  }
  bool is_open() const { return file_ != nullptr; }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (is_open()) {
      if (!write({line.data(), line.size()}) && message.level < spdlog::level::err) warn();
    } else if (!given_up_) {
      early_.append(line.data(), line.size());
    }
  }
  void flush_() override {}  // each line is written at once

 private:
  bool write(std::string_view lines) {
    if (std::fwrite(lines.data(), 1, lines.size(), file_.get()) == lines.size() && std::fflush(file_.get()) == 0) {
      return true;
    }
    reason_ = std::generic_category().message(errno);
    file_.reset();
    given_up_ = true;
    return false;
  }
  void warn() {
    terminal_->print(
        fmt::format("warning: cannot write the log '{}': {}; the run goes on without it\n", path_, reason_));
  }

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::shared_ptr<Terminal> terminal_;
  std::string path_, early_, reason_;
  std::unique_ptr<std::FILE, Close> file_;
  bool given_up_ = false;
};

}  // namespace

class Log::State {
 public:
  std::shared_ptr<spdlog::logger> previous = spdlog::default_logger();
  std::shared_ptr<spdlog::logger> logger;
  std::shared_ptr<FileSink> file;
};

Log::Log(std::shared_ptr<Terminal> terminal) : state_(std::make_unique<State>()) {
  state_->file = std::make_shared<FileSink>(terminal);
  const spdlog::sinks_init_list sinks{std::make_shared<TerminalSink>(std::move(terminal)), state_->file};
  state_->logger = std::make_shared<spdlog::logger>("moeut", sinks);
  state_->logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(state_->logger);
}

Log::~Log() {
  state_->logger->flush();
  spdlog::set_default_logger(state_->previous);
}

void Log::open_file(const std::filesystem::path& path) {
  state_->file->open(path);
}

void Log::file_only(std::string_view line) {
  if (!state_->file->is_open()) return;
  state_->file->log(
      spdlog::details::log_msg("moeut", spdlog::level::info, spdlog::string_view_t(line.data(), line.size())));
}

}  // namespace moeut
