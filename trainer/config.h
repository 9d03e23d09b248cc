// The configuration of a training run: plain values. trainer/config_fields.cpp says of each its key, unit, range and
// help; trainer/config_load.h fills one from a file and the command line. A value's default is written here and nowhere
// else.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "data/sample_order.h"
#include "data/sequences.h"

namespace moeut {

enum class Precision : uint8_t { fp64, fp32, tf32, bf16, fp16 };
enum class CudaGraph : uint8_t { automatic, on, off };
enum class OptimizerKind : uint8_t { adamw };
enum class DecayScope : uint8_t { all, matrices };
enum class ScheduleKind : uint8_t { cosine, linear, constant, wsd, inverse_sqrt };
enum class CosineOver : uint8_t { rest, all };
enum class DecayShape : uint8_t { linear, cosine, sqrt };
enum class SaveFailure : uint8_t { stop, go_on };
enum class SpikeAction : uint8_t { log, skip };
enum class ReducePrecision : uint8_t { fp32, bf16 };

struct RunSection {
  std::filesystem::path dir;  // load_config fills in runs/<stem of the configuration file>
};

/// Arguments of the model's constructor. One that is not set comes from the profile, or else is the constructor's
/// default.
struct ModelSection {
  std::string profile = "none";
  std::optional<int64_t> n_tokens, d_model, n_layers, n_heads, ff_n_experts, att_n_experts, d_head, group_size, ff_k,
      att_k, ff_expert_size;
  std::optional<double> ff_expert_dropout, att_expert_dropout, dropout, entropy_reg, att_entropy_reg, rotate_fraction,
      rope_base;
};

struct DataSection {
  std::filesystem::path train;
  std::filesystem::path validation;  // empty: no validation
  std::filesystem::path tokenizer;   // empty: no sample texts
  std::string mix;                   // further corpora; see parse_mix
  SampleOrder order = SampleOrder::shuffled;
  int64_t lanes = 64;
  bool shuffle = true;  // another name for order == shuffled, which load_config makes true
  Packing packing = Packing::packed;
  bool document_mask = false;
  int64_t prefetch = 4;
};

struct TrainSection {
  int64_t steps = 0;  // required
  int64_t batch_size = 64;
  int64_t micro_batch_size = 0;
  int64_t seq_len = 1024;
  Precision precision = Precision::fp32;
  bool recompute = false;
  CudaGraph cuda_graph = CudaGraph::automatic;
  int64_t threads = 0;
  double max_time = 0;
  bool shard_optimizer = false;
  ReducePrecision reduce_precision = ReducePrecision::fp32;
  double watchdog_seconds = 600;
  std::string rendezvous = "auto";
};

struct OptimizerSection {
  OptimizerKind name = OptimizerKind::adamw;
  double lr = 2.5e-4;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  DecayScope decay = DecayScope::all;
  std::string no_decay;  // patterns of parameters' names
  double grad_clip = 0.25;
  double ema_decay = 0;
  int64_t max_bad_steps = 3;
  double spike_z = 0;
  int64_t spike_window = 128;
  SpikeAction spike_action = SpikeAction::log;
};

struct ScheduleSection {
  ScheduleKind name = ScheduleKind::cosine;
  int64_t warmup_steps = 0;
  double min_lr_multiplier = 0.1;
  CosineOver cosine_over = CosineOver::rest;
  int64_t decay_steps = 0;
  DecayShape decay_shape = DecayShape::linear;
};

struct CheckpointSection {
  int64_t every = 1000;
  int64_t keep_last = 3;
  int64_t keep_every = 0;
  int64_t keep_best = 0;
  bool async = true;
  SaveFailure on_failure = SaveFailure::stop;
};

struct EvalSection {
  int64_t every = 1000;
  int64_t sequences = 0;
  int64_t batch_size = 0;
  int64_t seq_len = 0;
};

struct SampleSection {
  int64_t every = 0;
  std::string prompt;
  int64_t length = 100;
  double temperature = 0.8;
  int64_t top_k = 40;
};

struct LogSection {
  int64_t every = 10;
  bool tensorboard = false;
  bool every_rank = false;
};

struct RunConfig {
  RunSection run;
  std::string device = "auto";
  uint64_t seed = 0;
  ModelSection model;
  DataSection data;
  TrainSection train;
  OptimizerSection optimizer;
  ScheduleSection schedule;
  CheckpointSection checkpoint;
  EvalSection eval;
  SampleSection sample;
  LogSection log;
};

}  // namespace moeut
