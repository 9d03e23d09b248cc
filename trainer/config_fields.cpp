#include "trainer/config_fields.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <optional>
#include <type_traits>
#include <utility>

namespace moeut {
namespace {

/// Names of an enum's values, in the order of their numbers.
template <class E>
struct ChoiceNames;
template <>
struct ChoiceNames<Precision> {
  static constexpr std::array names{"fp64", "fp32", "tf32", "bf16", "fp16"};
};
template <>
struct ChoiceNames<CudaGraph> {
  static constexpr std::array names{"auto", "on", "off"};
};
template <>
struct ChoiceNames<SampleOrder> {
  static constexpr std::array names{"shuffled", "sequential", "lanes"};
};
template <>
struct ChoiceNames<Packing> {
  static constexpr std::array names{"packed", "document"};
};
template <>
struct ChoiceNames<OptimizerKind> {
  static constexpr std::array names{"adamw"};
};
template <>
struct ChoiceNames<DecayScope> {
  static constexpr std::array names{"all", "matrices"};
};
template <>
struct ChoiceNames<ScheduleKind> {
  static constexpr std::array names{"cosine", "linear", "constant", "wsd", "inverse_sqrt"};
};
template <>
struct ChoiceNames<CosineOver> {
  static constexpr std::array names{"rest", "all"};
};
template <>
struct ChoiceNames<DecayShape> {
  static constexpr std::array names{"linear", "cosine", "sqrt"};
};
template <>
struct ChoiceNames<SaveFailure> {
  static constexpr std::array names{"stop", "continue"};
};
template <>
struct ChoiceNames<SpikeAction> {
  static constexpr std::array names{"log", "skip"};
};
template <>
struct ChoiceNames<ReducePrecision> {
  static constexpr std::array names{"fp32", "bf16"};
};

template <class T>
struct OptionalOf {
  using Value = T;
  static constexpr bool is_optional = false;
};
template <class T>
struct OptionalOf<std::optional<T>> {
  using Value = T;
  static constexpr bool is_optional = true;
};

template <class T>
constexpr FieldType field_type() {
  if constexpr (std::same_as<T, bool>) return FieldType::boolean;
  if constexpr (std::same_as<T, int64_t>) return FieldType::integer;
  if constexpr (std::same_as<T, uint64_t>) return FieldType::unsigned_integer;
  if constexpr (std::same_as<T, double>) return FieldType::real;
  if constexpr (std::same_as<T, std::filesystem::path>) return FieldType::path;
  if constexpr (std::is_enum_v<T>) return FieldType::choice;
  return FieldType::text;
}

template <class T>
FieldValue to_value(const T& member) {
  if constexpr (OptionalOf<T>::is_optional) {
    return member ? to_value(*member) : FieldValue();
  } else if constexpr (std::is_enum_v<T>) {
    return std::string(ChoiceNames<T>::names.at(static_cast<size_t>(member)));
  } else if constexpr (std::same_as<T, std::filesystem::path>) {
    return member.string();
  } else {
    return member;
  }
}

template <class T>
void from_value(T& member, const FieldValue& value) {
  using Plain = typename OptionalOf<T>::Value;
  if constexpr (std::is_enum_v<Plain>) {
    const auto& names = ChoiceNames<Plain>::names;
    const auto found = std::find(names.begin(), names.end(), std::get<std::string>(value));
    member = static_cast<Plain>(found - names.begin());
  } else if constexpr (std::same_as<Plain, std::filesystem::path>) {
    member = std::get<std::string>(value);
  } else {
    member = std::get<Plain>(value);
  }
}

/// The parts of a Field that its member cannot tell.
struct About {
  std::string unit = "";
  Range range = {};
  std::vector<std::string> choices = {};
  bool required = false;
  bool from_profile = false;
  std::string unset = "";  // default_text of a member that is empty by default
};

class TableBuilder {
 public:
  /// A field of the section being built; `path` are the member pointers that lead to it.
  template <class... Path>
  void add(std::string key, std::string help, About about, Path... path) {
    using Member = std::remove_cvref_t<decltype(follow(std::declval<RunConfig&>(), path...))>;
    using Plain = typename OptionalOf<Member>::Value;
    Field field{.key = std::move(key),
                .type = about.choices.empty() ? field_type<Plain>() : FieldType::choice,
                .unit = std::move(about.unit),
                .range = about.range,
                .choices = std::move(about.choices),
                .help = std::move(help),
                .required = about.required,
                .from_profile = about.from_profile,
                .default_text = {},
                .get = [=](const RunConfig& config) { return to_value(follow(config, path...)); },
                .set = [=](RunConfig& config, const FieldValue& v) { from_value(follow(config, path...), v); }};
    if constexpr (std::is_enum_v<Plain>)
      field.choices.assign(ChoiceNames<Plain>::names.begin(), ChoiceNames<Plain>::names.end());
    field.default_text = about.unset.empty() ? value_text(field.get(RunConfig())) : std::move(about.unset);
    fields_.push_back(std::move(field));
  }

  std::vector<Field> take() { return std::move(fields_); }

 private:
  static auto& follow(auto& object) { return object; }
  static auto& follow(auto& object, auto first, auto... rest) { return follow(object.*first, rest...); }

  std::vector<Field> fields_;
};

constexpr Range at_least(double min) {
  return {.min = min};
}
constexpr Range between(double min, double max) {
  return {.min = min, .max = max};
}
constexpr Range kProbability{.min = 0, .max = 1, .max_open = true};
constexpr Range kPositive{.min = 0, .min_open = true};
// Generous limits that keep products of three sizes inside 64 bits.
constexpr Range kSize = between(1, 1 << 20);
constexpr Range kSizeOrZero = between(0, 1 << 20);
constexpr Range kSteps = between(1, 1e12);
constexpr Range kStepsOrZero = between(0, 1e12);

void add_run(TableBuilder& table) {
  table.add("run.dir", "folder of the run: resolved configuration, metrics, log and checkpoints",
            {.unset = "runs/<name of the configuration file>"}, &RunConfig::run, &RunSection::dir);
  table.add("device", "where to compute; auto takes CUDA if this build and machine have it",
            {.choices = {"auto", "cpu", "cuda"}}, &RunConfig::device);
  table.add("seed", "decides initial weights, order of the data and dropout", {}, &RunConfig::seed);
}

void add_model_shape(TableBuilder& table) {
  constexpr auto model = &RunConfig::model;
  const std::string needed = "from the profile, else required";
  table.add("model.profile", "a model of the paper; every model.* key given beside it overrides the profile's value",
            {.choices = {"none", "44M", "126M", "244M", "318M", "727M", "1B"}}, model, &ModelSection::profile);
  table.add("model.n_tokens", "vocabulary size; 0 takes that of the data's tokenizer",
            {.unit = "tokens", .range = between(0, 1e9), .unset = "0"}, model, &ModelSection::n_tokens);
  table.add("model.d_model", "width of the residual stream", {.range = kSize, .from_profile = true, .unset = needed},
            model, &ModelSection::d_model);
  table.add("model.n_layers", "layers applied in all; a multiple of group_size",
            {.unit = "layers", .range = between(1, 65536), .from_profile = true, .unset = needed}, model,
            &ModelSection::n_layers);
  table.add("model.n_heads", "attention heads of a layer",
            {.unit = "heads", .range = between(1, 65536), .from_profile = true, .unset = needed}, model,
            &ModelSection::n_heads);
  table.add("model.ff_n_experts", "experts of a feed-forward layer",
            {.unit = "experts", .range = kSize, .from_profile = true, .unset = needed}, model,
            &ModelSection::ff_n_experts);
  table.add("model.att_n_experts",
            "experts of a head's value and output projections; 1: dense attention with a gate a head",
            {.unit = "experts", .range = between(1, 65536), .from_profile = true, .unset = needed}, model,
            &ModelSection::att_n_experts);
  table.add("model.d_head", "width of an attention head; 0 takes d_model / n_heads, rounded down",
            {.range = kSizeOrZero, .from_profile = true, .unset = "0"}, model, &ModelSection::d_head);
  table.add("model.group_size",
            "layers with parameters of their own; the group is repeated n_layers / group_size times",
            {.unit = "layers", .range = between(1, 65536), .from_profile = true, .unset = "2"}, model,
            &ModelSection::group_size);
  table.add("model.ff_k", "feed-forward experts chosen for a token",
            {.unit = "experts", .range = kSize, .from_profile = true, .unset = "8"}, model, &ModelSection::ff_k);
  table.add("model.att_k", "attention experts chosen for a token and head",
            {.unit = "experts", .range = between(1, 65536), .unset = "2"}, model, &ModelSection::att_k);
  table.add("model.ff_expert_size", "hidden units of a feed-forward expert", {.range = kSize, .unset = "128"}, model,
            &ModelSection::ff_expert_size);
}

void add_model_rest(TableBuilder& table) {
  constexpr auto model = &RunConfig::model;
  table.add("model.ff_expert_dropout", "probability that a feed-forward expert is excluded for a token in training",
            {.range = kProbability, .unset = "0"}, model, &ModelSection::ff_expert_dropout);
  table.add("model.att_expert_dropout", "probability that an attention expert is excluded for a token in training",
            {.range = kProbability, .unset = "0"}, model, &ModelSection::att_expert_dropout);
  table.add("model.dropout", "probability that an element of an attention output is zeroed in training",
            {.range = kProbability, .unset = "0"}, model, &ModelSection::dropout);
  table.add("model.entropy_reg", "weight of the feed-forward routers' entropy regulariser",
            {.range = at_least(0), .unset = "0.01"}, model, &ModelSection::entropy_reg);
  table.add("model.att_entropy_reg", "weight of the attention routers' entropy regulariser",
            {.range = at_least(0), .unset = "0.001"}, model, &ModelSection::att_entropy_reg);
  table.add("model.rotate_fraction", "share of a head's dimensions that the rotary position encoding turns",
            {.range = between(0, 1), .unset = "0.5"}, model, &ModelSection::rotate_fraction);
  table.add("model.rope_base", "base of the rotary position encoding's wavelengths",
            {.range = {.min = 1, .min_open = true}, .unset = "10000"}, model, &ModelSection::rope_base);
}

void add_data(TableBuilder& table) {
  constexpr auto data = &RunConfig::data;
  table.add("data.train", "folder of training shards, as moeut-data tokenize writes it",
            {.required = true, .unset = "required"}, data, &DataSection::train);
  table.add("data.validation", "folder of validation shards; without it nothing is evaluated", {.unset = "none"}, data,
            &DataSection::validation);
  table.add("data.tokenizer", "SentencePiece model with which the shards were written; needed for sample texts",
            {.unset = "none"}, data, &DataSection::tokenizer);
  table.add("data.mix",
            "further folders of training shards, as FOLDER=SHARE, ...: so much of all sequences comes from each, the "
            "rest from data.train; each has its own epochs",
            {.unset = "none"}, data, &DataSection::mix);
  table.add("data.order",
            "the sequences of an epoch in an order drawn from the seed, as stored, or as stored by data.lanes readers "
            "side by side (the paper's); validation is always sequential",
            {}, data, &DataSection::order);
  table.add("data.lanes",
            "with data.order: lanes the number of equal parts that are read side by side, the paper's batch size",
            {.unit = "lanes", .range = kSize}, data, &DataSection::lanes);
  table.add("data.shuffle", "older name: true is data.order: shuffled, false is data.order: sequential", {}, data,
            &DataSection::shuffle);
  table.add("data.packing",
            "packed: a sequence is a window of the concatenated documents; document: a sequence holds one document, or "
            "a piece of one that is longer, and is filled up with padding that no loss counts",
            {}, data, &DataSection::packing);
  table.add("data.document_mask",
            "attention does not see documents before the token's own; targets stay the same: a document's last token "
            "predicts the next one's first",
            {}, data, &DataSection::document_mask);
  table.add("data.prefetch", "batches prepared ahead by a background thread; 0 prepares each when it is needed",
            {.unit = "batches", .range = between(0, 1024)}, data, &DataSection::prefetch);
}

void add_train(TableBuilder& table) {
  constexpr auto train = &RunConfig::train;
  table.add("train.steps", "optimizer steps of the whole run",
            {.unit = "steps", .range = kSteps, .required = true, .unset = "required"}, train, &TrainSection::steps);
  table.add("train.batch_size", "sequences of one optimizer step, all ranks together",
            {.unit = "sequences", .range = kSize}, train, &TrainSection::batch_size);
  table.add(
      "train.micro_batch_size",
      "sequences of a micro-batch, what is computed at once on a rank: lower it to need less memory, or to give "
      "more ranks work; 0: the whole batch. On CPUs several of them take 8 bytes a parameter more, for their exact sum",
      {.unit = "sequences", .range = kSizeOrZero}, train, &TrainSection::micro_batch_size);
  table.add("train.seq_len", "tokens of a sequence", {.unit = "tokens", .range = kSize}, train, &TrainSection::seq_len);
  table.add("train.precision",
            "arithmetic of forward and backward pass; weights and optimizer stay fp32 (fp64 in fp64)", {}, train,
            &TrainSection::precision);
  table.add(
      "train.recompute",
      "keep only each layer's input and run the layer again in the backward pass: about a third of the memory for "
      "activations, for a second forward pass",
      {}, train, &TrainSection::recompute);
  table.add("train.cuda_graph",
            "record the training step once and run it as a whole: the same bits, without the host's time for each "
            "kernel; auto: on a CUDA device",
            {}, train, &TrainSection::cuda_graph);
  table.add("train.threads", "CPU threads of a rank; 0 takes its share of the cores; results do not depend on it",
            {.unit = "threads", .range = between(0, 4096)}, train, &TrainSection::threads);
  table.add("train.max_time", "save and stop after this time; 0: no limit", {.unit = "seconds", .range = at_least(0)},
            train, &TrainSection::max_time);
}

void add_ranks(TableBuilder& table) {
  constexpr auto train = &RunConfig::train;
  table.add(
      "train.shard_optimizer",
      "each rank keeps the optimizer's state of its own share of the parameters alone and updates those (ZeRO-1): "
      "less memory a rank, the same checkpoints",
      {}, train, &TrainSection::shard_optimizer);
  table.add("train.reduce_precision",
            "in which the gradients of several GPUs are added up; on CPUs the sum is exact whatever this says", {},
            train, &TrainSection::reduce_precision);
  table.add("train.watchdog_seconds",
            "with several ranks: one that has made no progress for so long ends the run; 0: never",
            {.unit = "seconds", .range = at_least(0)}, train, &TrainSection::watchdog_seconds);
  table.add("train.rendezvous",
            "how the ranks find each other: auto (MPI, where mpirun or srun has started them), mpi, tcp:HOST:PORT (of "
            "rank 0) or file:PATH (that all can read); the last two for several GPUs without MPI",
            {}, train, &TrainSection::rendezvous);
}

void add_optimizer(TableBuilder& table) {
  constexpr auto optimizer = &RunConfig::optimizer;
  table.add("optimizer.name", "the update rule", {}, optimizer, &OptimizerSection::name);
  table.add("optimizer.lr", "peak learning rate", {.range = kPositive}, optimizer, &OptimizerSection::lr);
  table.add("optimizer.beta1", "decay of the gradient's running mean", {.range = kProbability}, optimizer,
            &OptimizerSection::beta1);
  table.add("optimizer.beta2", "decay of the squared gradient's running mean", {.range = kProbability}, optimizer,
            &OptimizerSection::beta2);
  table.add("optimizer.eps", "added to the root of the squared gradient's mean", {.range = kPositive}, optimizer,
            &OptimizerSection::eps);
  table.add("optimizer.weight_decay", "decoupled weight decay, scaled by the learning rate", {.range = at_least(0)},
            optimizer, &OptimizerSection::weight_decay);
  table.add("optimizer.decay", "what decays: all parameters, or those of two and more dimensions", {}, optimizer,
            &OptimizerSection::decay);
  table.add("optimizer.no_decay",
            "parameters that do not decay whatever optimizer.decay says: patterns of their names, separated by commas "
            "(* ? [...], as in *.bias, embedding*)",
            {.unset = "none"}, optimizer, &OptimizerSection::no_decay);
  table.add("optimizer.grad_clip", "largest global L2 norm of the gradient; a longer one is scaled down to it; 0: off",
            {.range = at_least(0)}, optimizer, &OptimizerSection::grad_clip);
  table.add("optimizer.ema_decay",
            "keep an exponential moving average of the weights with this decay a step; it is validated, too, and saved "
            "as ema.safetensors; 0: none",
            {.range = kProbability}, optimizer, &OptimizerSection::ema_decay);
  table.add("optimizer.max_bad_steps",
            "an update whose loss or gradient is not finite is left out; after so many in a row the run saves the last "
            "good state and ends",
            {.unit = "steps", .range = between(1, 1e9)}, optimizer, &OptimizerSection::max_bad_steps);
  table.add("optimizer.spike_z",
            "a loss or gradient norm so many standard deviations above its mean over optimizer.spike_window steps is a "
            "spike; 0: off",
            {.range = at_least(0)}, optimizer, &OptimizerSection::spike_z);
  table.add("optimizer.spike_window", "steps that a spike is compared with; none is seen before there are as many",
            {.unit = "steps", .range = between(2, 512)}, optimizer, &OptimizerSection::spike_window);
  table.add("optimizer.spike_action", "a spike is only logged, or its update is left out, too", {}, optimizer,
            &OptimizerSection::spike_action);
}

void add_schedule(TableBuilder& table) {
  constexpr auto schedule = &RunConfig::schedule;
  table.add("schedule.name",
            "how the learning rate falls after the warm-up; wsd: it stays until the last schedule.decay_steps", {},
            schedule, &ScheduleSection::name);
  table.add("schedule.warmup_steps", "steps over which the learning rate rises linearly to its peak",
            {.unit = "steps", .range = kStepsOrZero}, schedule, &ScheduleSection::warmup_steps);
  table.add("schedule.min_lr_multiplier", "learning rate at the end, as a share of the peak", {.range = between(0, 1)},
            schedule, &ScheduleSection::min_lr_multiplier);
  table.add(
      "schedule.cosine_over",
      "steps that half a cosine takes: the rest behind the warm-up, so that it ends at the floor; or all steps of "
      "the run, as in the official code, where it ends a little above",
      {}, schedule, &ScheduleSection::cosine_over);
  table.add("schedule.decay_steps", "with schedule.name: wsd the steps at the end over which the learning rate falls",
            {.unit = "steps", .range = kStepsOrZero}, schedule, &ScheduleSection::decay_steps);
  table.add("schedule.decay_shape",
            "with schedule.name: wsd how it falls there; sqrt is 1 - the root of the share done", {}, schedule,
            &ScheduleSection::decay_shape);
}

void add_cadence(TableBuilder& table) {
  table.add("checkpoint.every", "steps between checkpoints; 0: only at the end",
            {.unit = "steps", .range = kStepsOrZero}, &RunConfig::checkpoint, &CheckpointSection::every);
  table.add("checkpoint.keep_last",
            "newest checkpoints that are kept; older ones are removed once a newer one is durable",
            {.unit = "checkpoints", .range = kSize}, &RunConfig::checkpoint, &CheckpointSection::keep_last);
  table.add("checkpoint.keep_every", "checkpoints of steps that are multiples of it are kept for good; 0: none",
            {.unit = "steps", .range = kStepsOrZero}, &RunConfig::checkpoint, &CheckpointSection::keep_every);
  table.add(
      "checkpoint.keep_best",
      "checkpoints with the lowest validation losses that are kept; a checkpoint has one if its step was validated; "
      "0: none",
      {.unit = "checkpoints", .range = kSizeOrZero}, &RunConfig::checkpoint, &CheckpointSection::keep_best);
  table.add("checkpoint.async",
            "training goes on while a checkpoint is written, from a copy in the host's memory; the same bytes", {},
            &RunConfig::checkpoint, &CheckpointSection::async);
  table.add("checkpoint.on_failure",
            "when a checkpoint cannot be saved: stop; or continue, with a warning, and try again when the next one is "
            "due. The last one of a run always stops it",
            {}, &RunConfig::checkpoint, &CheckpointSection::on_failure);
  table.add("eval.every", "steps between validations; 0: never", {.unit = "steps", .range = kStepsOrZero},
            &RunConfig::eval, &EvalSection::every);
  table.add("eval.sequences", "validation sequences used each time; 0: all",
            {.unit = "sequences", .range = between(0, 1e12)}, &RunConfig::eval, &EvalSection::sequences);
  table.add("eval.batch_size", "most validation sequences computed at once; 0: as in training",
            {.unit = "sequences", .range = kSizeOrZero}, &RunConfig::eval, &EvalSection::batch_size);
  table.add("eval.seq_len", "tokens of a validation sequence; 0: as in training",
            {.unit = "tokens", .range = kSizeOrZero}, &RunConfig::eval, &EvalSection::seq_len);
}

void add_sample_and_log(TableBuilder& table) {
  constexpr auto sample = &RunConfig::sample;
  table.add("sample.every", "steps between sample texts; 0: never", {.unit = "steps", .range = kStepsOrZero}, sample,
            &SampleSection::every);
  table.add("sample.prompt", "text that a sample continues", {.unset = "empty"}, sample, &SampleSection::prompt);
  table.add("sample.length", "tokens of a sample", {.unit = "tokens", .range = kSize}, sample, &SampleSection::length);
  table.add("sample.temperature", "divides the logits before sampling; 0 always takes the likeliest token",
            {.range = between(0, 100)}, sample, &SampleSection::temperature);
  table.add("sample.top_k", "sample among this many likeliest tokens; 0: all",
            {.unit = "tokens", .range = between(0, 1e9)}, sample, &SampleSection::top_k);
  table.add("log.every", "steps between rows of metrics.jsonl and lines of the log", {.unit = "steps", .range = kSteps},
            &RunConfig::log, &LogSection::every);
  table.add("log.tensorboard", "also write the rows as TensorBoard event files, to <run.dir>/tensorboard", {},
            &RunConfig::log, &LogSection::tensorboard);
  table.add("log.every_rank", "ranks other than 0 write a log as well, <run.dir>/train.rank-N.log", {}, &RunConfig::log,
            &LogSection::every_rank);
}

std::vector<Field> build_table() {
  TableBuilder table;
  add_run(table);
  add_model_shape(table);
  add_model_rest(table);
  add_data(table);
  add_train(table);
  add_ranks(table);
  add_optimizer(table);
  add_schedule(table);
  add_cadence(table);
  add_sample_and_log(table);
  return table.take();
}

}  // namespace

std::span<const Field> config_fields() {
  static const std::vector<Field> table = build_table();
  return table;
}

const Field* find_field(std::string_view key) {
  for (const Field& field : config_fields()) {
    if (field.key == key) return &field;
  }
  return nullptr;
}

bool is_section(std::string_view name) {
  return std::ranges::any_of(config_fields(),
                             [&](const Field& field) { return !name.empty() && section_of(field.key) == name; });
}

std::string_view section_of(std::string_view key) {
  const size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : key.substr(0, dot);
}

}  // namespace moeut
