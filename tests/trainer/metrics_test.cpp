// metrics.jsonl: rows, and what resuming leaves of them.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>

#include "core/error.h"
#include "tests/scratch_folder.h"
#include "trainer/metrics_file.h"

using namespace moeut;

namespace {

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void append(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::app) << text;
}

/// A validation row at step 0, then training rows, with a validation row after each second step.
void write_steps(MetricsFile& file, int64_t first, int64_t last) {
  for (int64_t step = first; step <= last; ++step) {
    file.write(TrainingRow{
        .step = step, .tokens = static_cast<uint64_t>(step) * 64, .loss = 1.0 / static_cast<double>(step + 2)});
    if (step % 2 == 0) file.write(ValidationRow{.step = step, .val_loss = 0.1, .val_perplexity = std::exp(0.1)});
  }
}

}  // namespace

TEST_CASE("rows are JSON objects whose numbers read back exactly") {
  const testing::ScratchFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  MetricsFile file(path, std::nullopt);
  file.write(TrainingRow{.step = 3,
                         .tokens = 192,
                         .loss = 0.1 + 0.2,
                         .reg_loss = -1e-300,
                         .grad_norm = std::numeric_limits<double>::infinity(),
                         .lr = 2.5e-4,
                         .tokens_per_s = std::nan(""),
                         .step_ms = 12});
  CHECK(read(path) ==
        "{\"step\":3,\"tokens\":192,\"loss\":0.30000000000000004,\"reg_loss\":-1e-300,\"grad_norm\":\"Infinity\","
        "\"lr\":0.00025,"
        "\"tokens_per_s\":\"NaN\",\"step_ms\":12.0}\n");
  file.write(ValidationRow{.step = 3, .val_loss = 1, .val_perplexity = -std::numeric_limits<double>::infinity()});
  const std::string text = read(path);
  CHECK(text.ends_with("{\"step\":3,\"val_loss\":1.0,\"val_perplexity\":\"-Infinity\"}\n"));
  const Json row = Json::parse(text.substr(0, text.find('\n')));
  CHECK(row.at("loss").as_double() == 0.1 + 0.2);
  CHECK(row.at("reg_loss").as_double() == -1e-300);
}

TEST_CASE("an interrupted and resumed run leaves the file of an undisturbed one") {
  const testing::ScratchFolder folder;
  const auto whole = folder.path() / "whole.jsonl";
  {
    MetricsFile file(whole, std::nullopt);
    write_steps(file, 1, 9);
  }
  const std::string expected = read(whole);
  // Whatever prefix of bytes a kill left that holds the rows up to the checkpoint of step 4, resuming there gives the
  // same file.
  const size_t at_checkpoint = expected.find("{\"step\":5");
  for (size_t bytes = at_checkpoint; bytes <= expected.size(); ++bytes) {
    const auto path = folder.path() / "resumed.jsonl";
    std::filesystem::remove(path);
    append(path, expected.substr(0, bytes));
    MetricsFile file(path, 4);
    REQUIRE(read(path) == expected.substr(0, at_checkpoint));
    write_steps(file, 5, 9);
    REQUIRE(read(path) == expected);
  }
}

TEST_CASE("opening for a fresh start empties the file, resuming at 0 keeps the first validation") {
  const testing::ScratchFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  {
    MetricsFile file(path, std::nullopt);
    file.write(ValidationRow{.step = 0, .val_loss = 9, .val_perplexity = 8103});
    write_steps(file, 1, 3);
  }
  {
    const MetricsFile file(path, 0);
    CHECK(file.rows_cut() == 4);
    CHECK(read(path) == "{\"step\":0,\"val_loss\":9.0,\"val_perplexity\":8103.0}\n");
  }
  const MetricsFile file(path, std::nullopt);
  CHECK(read(path).empty());
}

TEST_CASE("rows of the resumed step that will be written again are cut as well") {
  const testing::ScratchFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  const std::string kept = "{\"step\":1,\"val_loss\":1}\n{\"step\":2,\"loss\":1}\n";
  append(path, kept + "{\"step\":2,\"val_loss\":1}\n");
  CHECK(MetricsFile(path, 2).rows_cut() == 0);
  CHECK(MetricsFile(path, 2, "val_loss").rows_cut() == 1);
  CHECK(read(path) == kept);
}

TEST_CASE("what is no row is cut at the end and left alone in the middle") {
  const testing::ScratchFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  const std::string middle = "{\"step\":1}\nnot a row\n{\"step\":2}\n";
  append(path, middle + std::string(100, '\0') + "\n{\"step\":[]}\n{\"st");
  CHECK(MetricsFile(path, 5).rows_cut() == 0);
  CHECK(read(path) == middle);
}

TEST_CASE("a metrics file that cannot be had is an IoError") {
  const testing::ScratchFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  MetricsFile(path, std::nullopt).write(Json::Object{{"step", 1}});
  CHECK_THROWS_WITH_AS(MetricsFile(folder.path() / "no" / "m.jsonl", 0), doctest::Contains("m.jsonl': No such file"),
                       IoError);
  CHECK_THROWS_AS(MetricsFile(folder.path(), 0), IoError);
  std::filesystem::create_symlink(path, folder.path() / "link");
  CHECK_THROWS_AS(MetricsFile(folder.path() / "link", std::nullopt), IoError);
}
