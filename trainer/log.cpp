#include "trainer/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <mutex>
#include <string>

#include "core/error.h"

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

}  // namespace

class Log::State {
 public:
  std::shared_ptr<spdlog::logger> previous = spdlog::default_logger();
  std::shared_ptr<spdlog::logger> logger;
  std::shared_ptr<spdlog::sinks::basic_file_sink_mt> file;
};

Log::Log(std::shared_ptr<Terminal> terminal) : state_(std::make_unique<State>()) {
  state_->logger = std::make_shared<spdlog::logger>("moeut", std::make_shared<TerminalSink>(std::move(terminal)));
  state_->logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(state_->logger);
}

Log::~Log() {
  state_->logger->flush();
  spdlog::set_default_logger(state_->previous);
}

void Log::open_file(const std::filesystem::path& path) {
  try {
    state_->file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
  } catch (const spdlog::spdlog_ex& error) {
    throw IoError(fmt::format("cannot write the log '{}': {}; choose a run.dir that this user can write", path.string(),
                              error.what()));
  }
  state_->file->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
  state_->logger->sinks().push_back(state_->file);
}

void Log::file_only(std::string_view line) {
  if (!state_->file) return;
  state_->file->log(
      spdlog::details::log_msg("moeut", spdlog::level::info, spdlog::string_view_t(line.data(), line.size())));
  state_->file->flush();
}

}  // namespace moeut
