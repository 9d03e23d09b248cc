// Ranks by NCCL, one GPU each. What is small and in host memory travels by the communicator that brought them together.
#include <nccl.h>

#include "core/check.h"
#include "trainer/communicator.h"

namespace moeut {
namespace {

void check_nccl(ncclResult_t status, const char* what, ncclComm_t comm = nullptr) {
  if (status == ncclSuccess || status == ncclInProgress) return;
  throw BackendError(fmt::format("nccl: {}: {} ({}); NCCL_DEBUG=INFO in the environment says more", what,
                                 ncclGetErrorString(status), ncclGetLastError(comm)));
}

ncclDataType_t type_of(DType type) {
  if (type == DType::f64) return ncclFloat64;
  if (type == DType::bf16) return ncclBfloat16;
  require<BackendError>(type == DType::f32, "nccl: no sums of {}", name_of(type));
  return ncclFloat32;
}

cudaStream_t stream_of(backend::StreamHandle stream) {
  return static_cast<cudaStream_t>(stream == nullptr ? backend::compute_stream() : stream);
}

class NcclCommunicator final : public Communicator, public DeviceCollectives {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> host, Device device) : host_(std::move(host)) {
    require<BackendError>(cudaSetDevice(device.index()) == cudaSuccess, "nccl: cannot use {}", device.str());
    ncclUniqueId id;
    if (host_->leads()) check_nccl(ncclGetUniqueId(&id), "making the id of the group");
    host_->broadcast(&id, sizeof(id), 0);
    check_nccl(ncclCommInitRank(&comm_, host_->size(), id, host_->rank()), "joining the group");
  }
  ~NcclCommunicator() override {
    if (comm_ != nullptr) ncclCommDestroy(comm_);
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  void all_gather(const void* own, size_t bytes, void* all) override { host_->all_gather(own, bytes, all); }
  void broadcast(void* data, size_t bytes, int root) override { host_->broadcast(data, bytes, root); }
  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    host_->exchange(sends, receives);
  }
  DeviceCollectives* device() override { return this; }
  void close() override {
    ncclCommDestroy(std::exchange(comm_, nullptr));
    host_->close();
  }

  void begin_group() override { check_nccl(ncclGroupStart(), "beginning a group", comm_); }
  void end_group() override { check_nccl(ncclGroupEnd(), "queueing a group", comm_); }
  void sum(void* data, int64_t count, DType type, backend::StreamHandle stream) override {
    check_nccl(ncclAllReduce(data, data, static_cast<size_t>(count), type_of(type), ncclSum, comm_, stream_of(stream)),
               "adding up", comm_);
  }
  void sum_to(int root, void* data, int64_t count, DType type, backend::StreamHandle stream) override {
    check_nccl(
        ncclReduce(data, data, static_cast<size_t>(count), type_of(type), ncclSum, root, comm_, stream_of(stream)),
        "adding up on one rank", comm_);
  }
  void broadcast(int root, void* data, size_t bytes, backend::StreamHandle stream) override {
    check_nccl(ncclBroadcast(data, data, bytes, ncclUint8, root, comm_, stream_of(stream)), "spreading", comm_);
  }
  void check() override {
    ncclResult_t error = ncclSuccess;
    if (comm_ != nullptr) check_nccl(ncclCommGetAsyncError(comm_, &error), "asking for errors", comm_);
    check_nccl(error, "a connection has failed", comm_);
  }
  void abort() noexcept override {
    if (comm_ != nullptr) ncclCommAbort(comm_);
  }

 private:
  std::unique_ptr<Communicator> host_;
  ncclComm_t comm_ = nullptr;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host, Device device) {
  return std::make_unique<NcclCommunicator>(std::move(host), device);
}

bool has_nccl() {
  return true;
}

}  // namespace moeut
