#include "trainer/ranks.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "core/check.h"
#include "trainer/run_inputs.h"
#include "trainer/socket.h"

namespace moeut {
namespace {

std::unique_ptr<Communicator> bring_together(const Place& place, const std::string& rendezvous) {
  if (place.size == 1) return make_single_communicator();
  if (!place.by_mpi) return make_tcp_communicator(place, rendezvous);
  auto communicator = make_mpi_communicator();
  require<BackendError>(
      communicator->size() == place.size,
      "{} has started {} processes, but MPI knows of {}: its MPI is another one than this program's. "
      "Start by the mpirun of this program's MPI, or with srun --mpi=pmix, or set train.rendezvous to "
      "tcp:HOST:PORT or file:PATH (several GPUs)",
      place.launcher, place.size, communicator->size());
  return communicator;
}

/// The ranks of this one's host, in order.
std::vector<int> neighbours(const std::vector<std::string>& hosts, int rank) {
  std::vector<int> found;
  for (size_t other = 0; other < hosts.size(); ++other)
    if (hosts[other] == hosts[static_cast<size_t>(rank)]) found.push_back(static_cast<int>(other));
  return found;
}

/// Of the GPUs that this process sees the one that is its own. One that sees a single GPU may have been given it.
Device own_gpu(Communicator& communicator) {
  const std::vector<std::string> hosts = communicator.all_gather(host_name());
  const std::vector<int> here = neighbours(hosts, communicator.rank());
  const auto local = static_cast<int>(std::find(here.begin(), here.end(), communicator.rank()) - here.begin());
  const int seen = cuda_device_count();
  const int index = seen > 1 ? std::min(local, seen - 1) : 0;
  const std::string own = hosts[static_cast<size_t>(communicator.rank())] + "/" +
                          (seen > 0 ? backend::device_facts(index).id : "none " + std::to_string(communicator.rank()));
  std::map<std::string, int> owners;
  const std::vector<std::string> gpus = communicator.all_gather(own);
  for (size_t rank = 0; rank < gpus.size(); ++rank) {
    const auto [owner, is_first] = owners.try_emplace(gpus[rank], static_cast<int>(rank));
    const size_t on_host = neighbours(hosts, static_cast<int>(rank)).size();
    require<ConfigError>(
        is_first,
        "ranks {} and {} would share a GPU of host {}, where {} ranks were started: NCCL needs one GPU a "
        "rank. Start no more ranks there than it has GPUs (mpirun -np, --map-by ppr:N:node), or set "
        "device: cpu",
        owner->second, rank, hosts[rank], on_host);
  }
  return Device::cuda(index);
}

/// The cores that this process may run on, as bits.
std::string own_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (::sched_getaffinity(0, sizeof(cores), &cores) != 0) return "all";
  return std::string(reinterpret_cast<const char*>(&cores), sizeof(cores));
}

/// What an exception is for the other ranks.
enum class Failure : uint8_t { none, silent, refused, other };

struct Outcome {
  Failure failure = Failure::none;
  std::string message;
};

Outcome outcome_of(const std::function<void()>& action, std::exception_ptr& thrown) {
  try {
    action();
    return {};
  } catch (const OtherRankFailed&) {
    thrown = std::current_exception();
    return {Failure::silent, ""};
  } catch (const ConfigError& error) {
    thrown = std::current_exception();
    return {Failure::refused, error.what()};
  } catch (const std::exception& error) {
    thrown = std::current_exception();
    return {Failure::other, error.what()};
  }
}

}  // namespace

Ranks::Ranks(std::unique_ptr<Communicator> communicator, Device device, const WatchdogOptions& watchdog)
    : communicator_(std::move(communicator)),
      device_(device),
      watchdog_(std::make_unique<Watchdog>(*communicator_, watchdog)) {}

std::shared_ptr<Ranks> Ranks::alone(const RunConfig& config) {
  return std::make_shared<Ranks>(make_single_communicator(), find_device(config.device), WatchdogOptions());
}

std::shared_ptr<Ranks> Ranks::gather(const RunConfig& config) {
  auto communicator = bring_together(find_place(config.train.rendezvous), config.train.rendezvous);
  Device device = find_device(config.device);
  if (communicator->alone()) return std::make_shared<Ranks>(std::move(communicator), device, WatchdogOptions());
  const auto kinds = communicator->all_gather_value<uint8_t>(device.is_cuda() ? 1 : 0);
  for (size_t rank = 1; rank < kinds.size(); ++rank) {
    require<ConfigError>(
        kinds[rank] == kinds[0],
        "rank {} computes on {} and rank 0 on {}: with several ranks all must be of a kind; set device", rank,
        kinds[rank] != 0 ? "a GPU" : "a CPU", kinds[0] != 0 ? "a GPU" : "a CPU");
  }
  WatchdogOptions watchdog{
      .seconds = config.train.watchdog_seconds, .log = config.run.dir / "train.log", .end = {}, .check = {}};
  if (device.is_cuda()) {
    device = own_gpu(*communicator);
    communicator = make_nccl_communicator(std::move(communicator), device);
    watchdog.check = [collectives = communicator->device()] { collectives->check(); };
  }
  return std::make_shared<Ranks>(std::move(communicator), device, watchdog);
}

int64_t Ranks::fair_threads() {
  const auto places = communicator_->all_gather(host_name() + "/" + own_cores());
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return omp_get_max_threads();  // the user's own choice
  const auto sharing = std::count(places.begin(), places.end(), places[static_cast<size_t>(rank())]);
  return std::max<int64_t>(omp_get_num_procs() / sharing, 1);
}

void Ranks::together(const std::function<void()>& action) {
  std::exception_ptr thrown;
  const Outcome own = outcome_of(action, thrown);
  if (alone()) {
    if (thrown) std::rethrow_exception(thrown);
    return;
  }
  const Watchdog::Waiting waiting(*watchdog_);
  const auto failures = communicator_->all_gather_value(own.failure);
  const auto failed = std::find_if(failures.begin(), failures.end(), [](Failure f) { return f != Failure::none; });
  if (failed == failures.end()) return;
  const auto messages = communicator_->all_gather(own.message);
  const auto said = std::find_if(failures.begin(), failures.end(),
                                 [](Failure f) { return f == Failure::refused || f == Failure::other; });
  const bool refused = said != failures.end() && *said == Failure::refused;
  if (!leads()) throw OtherRankFailed(refused);
  if (thrown) std::rethrow_exception(thrown);
  const auto rank = static_cast<size_t>((said == failures.end() ? failed : said) - failures.begin());
  const std::string message = fmt::format("rank {}: {}", rank, messages[rank]);
  if (refused) throw ConfigError(message);
  throw Error(message);
}

void Ranks::require_same(const std::string& what, const std::string& value) {
  if (alone()) return;
  const std::vector<std::string> values = communicator_->all_gather(value);
  std::map<std::string, int> counts;
  for (const std::string& v : values) counts[v] += 1;
  if (counts.size() == 1) return;
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string others;
  for (size_t rank = 0; rank < values.size(); ++rank) {
    if (values[rank] != most->first)
      others += fmt::format("{}rank {}: {}", others.empty() ? "" : ", ", rank, values[rank]);
  }
  together([&] {
    throw Error(fmt::format("{} must be the same on all ranks: it is {} on most, but {}", what, most->first, others));
  });
}

bool Ranks::agreed_by_first(bool own) {
  if (alone()) return own;
  const Watchdog::Waiting waiting(*watchdog_);
  uint8_t word = own ? 1 : 0;
  communicator_->broadcast(&word, sizeof(word), 0);
  return word != 0;
}

void Ranks::close() {
  if (!alone()) communicator_->barrier();
  watchdog_.reset();
  communicator_->close();
}

bool SharedStopRequest::stop() {
  if (stopped_) return true;
  const bool own = request_.stop();
  if (ranks_.alone()) {
    reason_ = request_.reason();
    return stopped_ = own;
  }
  const Watchdog::Waiting waiting(ranks_.watchdog());
  const auto all = ranks_.communicator().all_gather_value<uint8_t>(own ? 1 : 0);
  const auto first = std::find(all.begin(), all.end(), 1);
  if (first == all.end()) return false;
  reason_ = ranks_.communicator().broadcast(request_.reason(), static_cast<int>(first - all.begin()));
  return stopped_ = true;
}

bool SharedStopRequest::take_save() {
  const bool own = request_.take_save();
  if (ranks_.alone()) return own;
  const Watchdog::Waiting waiting(ranks_.watchdog());
  const auto all = ranks_.communicator().all_gather_value<uint8_t>(own ? 1 : 0);
  return std::find(all.begin(), all.end(), 1) != all.end();
}

}  // namespace moeut
