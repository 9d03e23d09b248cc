#include "data/corpora.h"

#include <algorithm>
#include <charconv>

#include "core/check.h"

namespace moeut {
namespace {

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\n"), last = text.find_last_not_of(" \t\n");
  return first == std::string_view::npos ? std::string_view() : text.substr(first, last - first + 1);
}

MixedFolder parse_entry(std::string_view entry) {
  const size_t equals = entry.rfind('=');
  const std::string_view folder = trimmed(entry.substr(0, equals));
  const std::string_view number = equals == std::string_view::npos ? "" : trimmed(entry.substr(equals + 1));
  double share = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), share);
  const bool is_number = error == std::errc() && end == number.data() + number.size();
  require<ConfigError>(!folder.empty() && is_number && share > 0 && share < 1,
                       "expected FOLDER=SHARE with a share above 0 and below 1, and commas between several; found '{}'",
                       trimmed(entry));
  return {folder, share};
}

}  // namespace

std::vector<MixedFolder> parse_mix(std::string_view text) {
  std::vector<MixedFolder> mix;
  double sum = 0;
  while (!trimmed(text).empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    mix.push_back(parse_entry(text.substr(0, comma)));
    sum += mix.back().share;
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  require<ConfigError>(
      sum < 1, "the shares add up to {}: they must leave some of the samples, below 1 in all, to the first corpus",
      sum);
  return mix;
}

std::vector<Corpus> open_corpora(const std::filesystem::path& folder, std::string_view mix) {
  std::vector<Corpus> corpora{{TokenDataset::open(folder), 1}};
  for (const MixedFolder& mixed : parse_mix(mix)) {
    corpora.push_back({TokenDataset::open(mixed.folder), mixed.share});
    corpora.front().weight -= mixed.share;
    check_tokenizer(*corpora.back().dataset, corpora.front().dataset->tokenizer_sha256(),
                    fmt::format("that of '{}'", folder.string()));
  }
  return corpora;
}

void check_tokenizer(const TokenDataset& dataset, const std::string& sha256, const std::string& other) {
  require<IoError>(
      dataset.tokenizer_sha256() == sha256,
      "the shards in '{}' were written with the tokenizer of SHA-256 {}, but {} has SHA-256 {}: write both "
      "with one tokenizer (moeut-data tokenize)",
      dataset.folder().string(), dataset.tokenizer_sha256(), other, sha256);
}

}  // namespace moeut
