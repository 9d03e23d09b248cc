#include "trainer/exact_reduction.h"

#include <algorithm>

#include "autograd/op.h"
#include "core/check.h"

namespace moeut {
namespace {

constexpr int64_t kChunk = GradientSum::kChunk;

size_t chunks_of(const ParameterRange& piece) {
  return static_cast<size_t>((piece.size + kChunk - 1) / kChunk);
}

}  // namespace

ExactReduction::ExactReduction(Communicator& communicator, const std::vector<Parameter*>& parameters,
                               int64_t micro_batches, bool sharded)
    : communicator_(communicator),
      micro_batches_(micro_batches),
      sharded_(sharded),
      plan_(parameters, communicator.size()) {}

void ExactReduction::add(AdamW&, const Tensor& loss, const Tensor& reg_loss) {
  if (!loss.device().is_meta()) {
    for (const Tensor* scalar : {&loss, &reg_loss})
      losses_.push_back(scalar->to(Device::cpu(), DType::f64).data<double>()[0]);
  }
  done_ += 1;
  for (Parameter* p : plan_.parameters()) {
    require<ShapeError>(p->has_gradient, "step: parameter {} has no gradient", p->name);
    if (!sums(rank())) continue;
    GradientSum& sum = sums_.try_emplace(p, p->value).first->second;
    done_ == 1 ? sum.set(p->gradient) : sum.add(p->gradient);
    p->clear_gradient();
  }
}

void ExactReduction::finish(AdamW& optimizer) {
  if (!plan_.parameters().front()->value.device().is_meta()) share_losses(optimizer);
  if (communicator_.size() > 1) {
    reduce();
  } else if (sums(rank())) {
    for (Parameter* p : plan_.parameters()) sums_.at(p).round_into(p->gradient_storage());
  }
  for (Parameter* p : plan_.parameters()) p->has_gradient = true;
  done_ = 0;
}

/// In the order of the micro-batches, whoever computed them.
void ExactReduction::share_losses(AdamW& optimizer) {
  const auto most = static_cast<size_t>(2 * share(0).count);
  std::vector<double> own = std::exchange(losses_, {});
  own.resize(most);
  std::vector<double> all(most * static_cast<size_t>(communicator_.size()));
  communicator_.all_gather(own.data(), most * sizeof(double), all.data());
  for (int rank = 0; rank < communicator_.size(); ++rank) {
    const double* losses = all.data() + static_cast<size_t>(rank) * most;
    for (int64_t i = 0; i < share(rank).count; ++i, losses += 2)
      optimizer.add_losses(Tensor::from<double>({losses[0]}, {1}), Tensor::from<double>({losses[1]}, {1}));
  }
}

GradientPart ExactReduction::own_part(const ParameterRange& piece) const {
  if (sums(rank())) return sums_.at(piece.parameter).part(piece.begin, piece.size);
  const Tensor& gradient = piece.parameter->gradient;
  return {.values = address_of(gradient, piece.begin), .type = gradient.dtype()};
}

/// Piece by piece: while the contributions to one travel to its owner, the sum of the one before travels back.
void ExactReduction::reduce() {
  for (Parameter* p : plan_.parameters()) p->gradient_storage();
  exchange_flags();
  const size_t pieces = plan_.most_pieces();
  size_t chunk = 0;  // of those this rank owns
  const auto gradient = [](Parameter& p) -> const Tensor& { return p.gradient; };
  for (size_t i = 0; i < pieces + (sharded_ ? 0 : 1); ++i) {
    std::vector<Message> sends, receives;
    std::vector<Received> others(static_cast<size_t>(communicator_.size()));
    const auto own = plan_.pieces(rank());
    for (int peer = 0; peer < communicator_.size(); ++peer) {
      if (peer == rank()) continue;
      if (computes(peer) && i < own.size())
        receive_part(peer, chunk, own[i], others[static_cast<size_t>(peer)], receives);
      if (computes(rank()) && i < plan_.pieces(peer).size()) send_part(peer, plan_.pieces(peer)[i], sends);
    }
    if (!sharded_ && i > 0) spread_piece(i - 1, gradient, sends, receives);
    communicator_.exchange(sends, receives);
    if (i >= own.size()) continue;
    sum_piece(own[i], others);
    chunk += chunks_of(own[i]);
  }
}

/// Which chunks have a rest is not known beforehand, and decides the lengths of messages.
void ExactReduction::exchange_flags() {
  std::vector<Message> sends, receives;
  std::vector<std::vector<uint8_t>> own(static_cast<size_t>(communicator_.size()));
  flags_.assign(own.size(), {});
  size_t owned = 0;
  for (const ParameterRange& piece : plan_.pieces(rank())) owned += chunks_of(piece);
  for (int peer = 0; peer < communicator_.size(); ++peer) {
    if (peer == rank()) continue;
    if (sums(rank())) {
      auto& flags = own[static_cast<size_t>(peer)];
      for (const ParameterRange& piece : plan_.pieces(peer))
        for (const double* rest : own_part(piece).rests) flags.push_back(rest != nullptr ? 1 : 0);
      sends.push_back({peer, flags.data(), flags.size()});
    }
    if (sums(peer)) {
      auto& flags = flags_[static_cast<size_t>(peer)];
      flags.resize(owned);
      receives.push_back({peer, flags.data(), flags.size()});
    }
  }
  communicator_.exchange(sends, receives);
}

void ExactReduction::send_part(int owner, const ParameterRange& piece, std::vector<Message>& sends) const {
  const GradientPart part = own_part(piece);
  sends.push_back({owner, const_cast<void*>(part.values), static_cast<size_t>(piece.size) * size_of(part.type)});
  for (const double* rest : part.rests)
    if (rest != nullptr) sends.push_back({owner, const_cast<double*>(rest), kChunk * sizeof(double)});
}

void ExactReduction::receive_part(int from, size_t first_chunk, const ParameterRange& piece, Received& into,
                                  std::vector<Message>& receives) const {
  const DType type = sums(from) ? DType::f64 : piece.parameter->gradient.dtype();
  into.values = std::make_unique_for_overwrite<double[]>(static_cast<size_t>(piece.size));  // floats take half of it
  into.part = {.values = into.values.get(), .type = type};
  receives.push_back({from, into.values.get(), static_cast<size_t>(piece.size) * size_of(type)});
  if (!sums(from)) return;
  const uint8_t* flags = flags_[static_cast<size_t>(from)].data() + first_chunk;
  const size_t chunks = chunks_of(piece);
  into.rests = std::make_unique_for_overwrite<double[]>(
      static_cast<size_t>(std::count(flags, flags + chunks, uint8_t{1}) * kChunk));
  double* next = into.rests.get();
  for (size_t i = 0; i < chunks; ++i) {
    into.part.rests.push_back(flags[i] != 0 ? next : nullptr);
    if (flags[i] == 0) continue;
    receives.push_back({from, next, kChunk * sizeof(double)});
    next += kChunk;
  }
}

void ExactReduction::sum_piece(const ParameterRange& piece, const std::vector<Received>& others) const {
  std::vector<GradientPart> parts;
  for (int from = 0; from < communicator_.size(); ++from) {
    if (computes(from)) parts.push_back(from == rank() ? own_part(piece) : others[static_cast<size_t>(from)].part);
  }
  const Tensor& gradient = piece.parameter->gradient;
  on_floating(gradient.dtype(), [&]<class T>() { sum_parts<T>(parts, piece.size, gradient.data<T>() + piece.begin); });
}

template <class F>
void ExactReduction::spread_piece(size_t index, F&& tensor_of, std::vector<Message>& sends,
                                  std::vector<Message>& receives) const {
  const auto add = [&](int owner, int peer, std::vector<Message>& messages) {
    if (index >= plan_.pieces(owner).size()) return;
    const ParameterRange& piece = plan_.pieces(owner)[index];
    const Tensor& tensor = tensor_of(*piece.parameter);
    if (!tensor.defined()) return;
    messages.push_back(
        {peer, address_of(tensor, piece.begin), static_cast<size_t>(piece.size) * size_of(tensor.dtype())});
  };
  for (int peer = 0; peer < communicator_.size(); ++peer) {
    if (peer == rank()) continue;
    add(rank(), peer, sends);
    add(peer, peer, receives);
  }
}

template <class F>
void ExactReduction::spread(F&& tensor_of) {
  for (size_t i = 0; i < plan_.most_pieces(); ++i) {
    std::vector<Message> sends, receives;
    spread_piece(i, tensor_of, sends, receives);
    communicator_.exchange(sends, receives);
  }
}

void ExactReduction::sum_norm(const double* own_blocks, double* squared_norm) {
  const auto most = static_cast<size_t>(plan_.most_blocks());
  std::vector<double> own(own_blocks, own_blocks + plan_.blocks(rank()));
  own.resize(most);
  std::vector<double> all(most * static_cast<size_t>(communicator_.size()));
  communicator_.all_gather(own.data(), most * sizeof(double), all.data());
  *squared_norm = 0;
  for (int rank = 0; rank < communicator_.size(); ++rank) {
    const double* blocks = all.data() + static_cast<size_t>(rank) * most;
    for (int64_t b = 0; b < plan_.blocks(rank); ++b) *squared_norm += blocks[b];
  }
}

void ExactReduction::share_values(Values what) {
  const bool all = what == Values::all;
  if (all) spread([](Parameter& p) -> const Tensor& { return p.value; });
  spread([all](Parameter& p) -> const Tensor& { return all ? p.narrow : p.operand(); });
}

void ExactReduction::collect(Parameter& parameter, Tensor& whole) {
  std::vector<Message> sends, receives;
  for (int owner = 0; owner < communicator_.size(); ++owner) {
    for (const ParameterRange& range : plan_.ranges(owner)) {
      if (range.parameter != &parameter || owner == 0) continue;
      const Message message{owner, address_of(whole, range.begin),
                            static_cast<size_t>(range.size) * size_of(whole.dtype())};
      if (communicator_.leads()) receives.push_back(message);
      if (owner == rank()) sends.push_back({0, message.data, message.bytes});
    }
  }
  communicator_.exchange(sends, receives);
}

}  // namespace moeut
