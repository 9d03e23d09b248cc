// moeut-data export-samples
#include <fmt/format.h>

#include <map>

#include "core/check.h"
#include "data/commands/commands.h"
#include "data/dataset.h"
#include "data/sample_export.h"

namespace moeut::commands {
namespace {

class ExportSamples {
 public:
  void declare(CLI::App& command) {
    command.add_option("--output", output_, "The .npy file to write: an array of COUNT rows of SEQ-LEN + 1 ids")
        ->required();
    command.add_option("--count", range_.count, "Sequences: steps times train.batch_size")
        ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40))
        ->required();
    command.add_option("--first", range_.first, "The first of them, counted from the beginning of the run")
        ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 60))
        ->capture_default_str();
    command.add_option("--seq-len", options_.seq_len, "train.seq_len of the run, in tokens")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
        ->capture_default_str();
    command.add_option("--seed", options_.seed, "seed of the run")->capture_default_str();
    const std::map<std::string, SampleOrder> orders{
        {"shuffled", SampleOrder::shuffled}, {"sequential", SampleOrder::sequential}, {"lanes", SampleOrder::lanes}};
    CLI::Option* order =
        command.add_option("--order", options_.order, "data.order of the run: shuffled, sequential or lanes")
            ->transform(CLI::CheckedTransformer(orders).description(""));
    command
        .add_flag_callback(
            "--no-shuffle", [this] { options_.order = SampleOrder::sequential; }, "The same as --order sequential")
        ->excludes(order);
    command.add_option("--lanes", options_.lanes, "data.lanes of the run")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
        ->capture_default_str();
    command.add_option("--mix", mix_, "data.mix of the run: FOLDER=SHARE, ...");
    command.add_option("FOLDER", folder_, "data.train of the run")->required();
  }

  void run() {
    const std::vector<Corpus> corpora = open_corpora(folder_, mix_);
    const Loader loader(corpora, options_);
    export_samples(loader, range_, corpora.front().dataset->vocab_size(), output_);
    fmt::print("{}: {} sequences of {} + 1 tokens; an epoch has {}\n", output_.string(), range_.count, options_.seq_len,
               loader.samples_per_epoch());
  }

 private:
  SampleRange range_;
  LoaderOptions options_{.seq_len = 1024};
  std::filesystem::path folder_, output_;
  std::string mix_;
};

}  // namespace

void declare_export_samples(CLI::App& app) {
  keep<ExportSamples>(app, "export-samples",
                      "Write the sequences that training sees, in its order, as a NumPy file for other programs");
}

}  // namespace moeut::commands
