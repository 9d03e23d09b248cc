// Event files of a run, as TensorBoard reads them: runs/<name>/tensorboard/events.out.tfevents.<time>.<host>.<process>.
//
// A file is a sequence of records (TFRecord): uint64 length, masked CRC-32C of it, the bytes of a protobuf message
// `Event`, masked CRC-32C of them; little-endian.   [tensorflow/core/lib/io/record_writer.h, util/event.proto]
// The first event names the version; the second, a SessionLog START with the step reached, tells TensorBoard to drop
// what earlier files hold from that step on: so a resumed run has one curve.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/file.h"
#include "trainer/metrics_file.h"

namespace moeut {

/// CRC-32C (Castagnoli) of the bytes, masked as TFRecord has it: rotated right by 15 bits, plus 0xa282ead8.
uint32_t masked_crc32c(std::string_view bytes);

/// Scalars, each with its name.
using TensorboardScalars = std::vector<std::pair<std::string_view, double>>;

class TensorboardFile {
 public:
  /// A new file in `folder`, which is made if need be. `step`: the last one that is done. Throws IoError.
  TensorboardFile(const std::filesystem::path& folder, int64_t step, FileSystem& fs = FileSystem::posix());

  void write(const TrainingRow& row);
  void write(const ValidationRow& row);

  /// One record of an Event with these scalars.
  static std::string record(double wall_time, int64_t step, const TensorboardScalars& scalars);

 private:
  void write(int64_t step, const TensorboardScalars& scalars);

  std::unique_ptr<WritableFile> file_;
};

}  // namespace moeut
