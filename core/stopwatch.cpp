#include "core/stopwatch.h"

#include "core/check.h"

namespace moeut {

Stopwatch::Stopwatch(Device device, backend::StreamHandle stream) : device_(device), stream_(stream) {
  require<BackendError>(!device.is_meta(), "stopwatch: nothing runs on meta");
  if (!device.is_cuda()) return;
  begin_event_ = backend::create_event(device.index());
  end_event_ = backend::create_event(device.index());
}

Stopwatch::~Stopwatch() {
  if (begin_event_ != nullptr) backend::destroy_event(begin_event_);
  if (end_event_ != nullptr) backend::destroy_event(end_event_);
}

void Stopwatch::start() {
  if (device_.is_cuda()) return backend::record(begin_event_, stream_);
  begin_ = Clock::now();
}

void Stopwatch::stop() {
  if (device_.is_cuda()) return backend::record(end_event_, stream_);
  end_ = Clock::now();
}

double Stopwatch::seconds() const {
  if (device_.is_cuda()) return backend::seconds_between(begin_event_, end_event_);
  return std::chrono::duration<double>(end_ - begin_).count();
}

}  // namespace moeut
