#include "trainer/mixture.h"

#include <charconv>

#include "core/check.h"
#include "data/hash.h"

namespace moeut {
namespace {

constexpr const char* kForm = "write FOLDER=SHARE, with commas between several, such as data/code=0.2, data/books=0.1";

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

MixturePart parse_part(const std::string& text) {
  const size_t equals = text.rfind('=');
  require<ConfigError>(equals != std::string::npos && equals > 0, "'{}' is no part of a mixture; {}", text, kForm);
  const std::string number = trimmed(text.substr(equals + 1));
  double share = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), share);
  require<ConfigError>(error == std::errc() && end == number.data() + number.size() && share > 0 && share < 1,
                       "'{}': a share must be a number between 0 and 1; {}", text, kForm);
  return {trimmed(text.substr(0, equals)), share};
}

}  // namespace

std::vector<MixturePart> parse_mixture(const std::string& text) {
  std::vector<MixturePart> parts;
  double sum = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    parts.push_back(parse_part(trimmed(text.substr(begin, comma - begin))));
    sum += parts.back().share;
    begin = comma + 1;
  }
  require<ConfigError>(sum < 1, "the shares add up to {}, which leaves nothing to data.train; lower them", sum);
  return parts;
}

std::string fingerprint_of(const std::vector<Corpus>& corpora) {
  if (corpora.size() == 1) return corpora[0].dataset->fingerprint();
  std::string all;
  for (const Corpus& corpus : corpora) all += fmt::format("{} {}\n", corpus.dataset->fingerprint(), corpus.weight);
  Xxh3 hash;
  hash.update(all.data(), all.size());
  return hash.hex();
}

}  // namespace moeut
