#include "trainer/metrics_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <fstream>
#include <system_error>

#include "core/check.h"
#include "core/file.h"

namespace moeut {
namespace {

[[noreturn]] void fail(std::string_view operation, const std::filesystem::path& path, int error) {
  const char* cure = error == ENOSPC || error == EDQUOT  ? "; free some disk space, then go on with --resume auto"
                     : error == EACCES || error == EROFS ? "; choose a run.dir that this user can write"
                     : error == EISDIR                   ? "; remove it or choose another run.dir"
                                                         : "";
  throw IoError(
      fmt::format("cannot {} '{}': {}{}", operation, path.string(), std::generic_category().message(error), cure));
}

uint64_t size_of_file(int fd, const std::filesystem::path& path) {
  struct stat info = {};
  if (::fstat(fd, &info) != 0) fail("read the size of", path, errno);
  require<IoError>(S_ISREG(info.st_mode), "'{}' is not a regular file; remove it or choose another run.dir",
                   path.string());
  return static_cast<uint64_t>(info.st_size);
}

/// Whether a row stays; nothing if the line is not a row.
std::optional<bool> is_kept(const std::string& line, int64_t last_step, std::string_view redone) {
  try {
    const Json row = Json::parse(line);
    const int64_t step = row.at("step").as_int64();
    return step < last_step || (step == last_step && (redone.empty() || row.find(redone) == nullptr));
  } catch (const IoError&) {
    return std::nullopt;
  }
}

struct KeptPart {
  uint64_t bytes = 0;  // up to the end of the last row to keep
  int64_t rows_cut = 0;
};

/// Steps never fall within a file, so what is kept is a prefix. Lines that are no rows stay if a row to keep follows
/// them: damage in the middle of a file is not this function's to repair, at its end it is the trace of a killed
/// process.
KeptPart find_kept_part(const std::filesystem::path& path, int64_t last_step, std::string_view redone) {
  std::ifstream in(path, std::ios::binary);
  KeptPart kept;
  uint64_t position = 0;
  for (std::string line; std::getline(in, line);) {
    const bool complete = !in.eof();  // the newline was there
    position += line.size() + (complete ? 1 : 0);
    const auto keep = complete ? is_kept(line, last_step, redone) : std::nullopt;
    if (keep && *keep && kept.rows_cut == 0) {
      kept.bytes = position;
    } else if (keep) {
      ++kept.rows_cut;
    }
  }
  require<IoError>(!in.bad(), "cannot read '{}' to its end", path.string());
  return kept;
}

}  // namespace

Json metric_number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

MetricsFile::MetricsFile(const std::filesystem::path& path, std::optional<int64_t> resume_step, std::string_view redone)
    : path_(path) {
  do {
    fd_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  } while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) fail("open", path, errno);
  try {
    size_of_file(fd_, path_);
    if (resume_step) {
      cut_after(*resume_step, redone);
    } else if (::ftruncate(fd_, 0) != 0) {
      fail("empty", path_, errno);
    }
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

MetricsFile::~MetricsFile() {
  ::close(fd_);
}

void MetricsFile::cut_after(int64_t step, std::string_view redone) {
  const KeptPart kept = find_kept_part(path_, step, redone);
  rows_cut_ = kept.rows_cut;
  if (kept.bytes < size_of_file(fd_, path_)) FileSystem::posix().truncate(path_, kept.bytes);
}

void MetricsFile::write(const TrainingRow& row) {
  write({{"step", row.step},
         {"tokens", row.tokens},
         {"loss", metric_number(row.loss)},
         {"reg_loss", metric_number(row.reg_loss)},
         {"grad_norm", metric_number(row.grad_norm)},
         {"lr", metric_number(row.lr)},
         {"tokens_per_s", metric_number(row.tokens_per_s)},
         {"step_ms", metric_number(row.step_ms)}});
}

void MetricsFile::write(const ValidationRow& row) {
  Json::Object json{{"step", row.step},
                    {"val_loss", metric_number(row.val_loss)},
                    {"val_perplexity", metric_number(row.val_perplexity)}};
  if (row.val_loss_ema) json.emplace_back("val_loss_ema", metric_number(*row.val_loss_ema));
  write(json);
}

void MetricsFile::write(const Json::Object& row) {
  const std::string line = Json(row).dump() + "\n";
  ssize_t written = 0;
  do {
    written = ::write(fd_, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written == static_cast<ssize_t>(line.size())) return;
  const int error = written < 0 ? errno : ENOSPC;  // a regular file takes a part of a write only when the disk is full
  if (written > 0) {
    const uint64_t size = size_of_file(fd_, path_);
    if (::ftruncate(fd_, static_cast<off_t>(size - static_cast<uint64_t>(written))) != 0) fail("repair", path_, errno);
  }
  fail("write", path_, error);
}

void MetricsFile::sync() {
  if (::fdatasync(fd_) != 0) fail("sync", path_, errno);
}

}  // namespace moeut
