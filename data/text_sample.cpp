#include "data/text_sample.h"

#include <algorithm>
#include <utility>

#include "data/hash.h"

namespace moeut {

void TextSample::add(std::string text) {
  const uint64_t index = texts_seen_++;
  bytes_seen_ += text.size();
  const uint64_t key[2] = {seed_, index};
  const uint64_t priority = xxh3_64(key, sizeof key);
  if (cutoff_ && priority >= *cutoff_) return;
  bytes_ += text.size();
  kept_.push_back({priority, index, std::move(text)});
  std::push_heap(kept_.begin(), kept_.end(), lower_priority);
  while (max_bytes_ > 0 && bytes_ > max_bytes_) leave_out_last();
}

void TextSample::leave_out_last() {
  std::pop_heap(kept_.begin(), kept_.end(), lower_priority);
  cutoff_ = kept_.back().priority;
  bytes_ -= kept_.back().text.size();
  kept_.pop_back();
}

std::optional<std::string> TextSample::next() {
  if (!next_) {
    std::sort(kept_.begin(), kept_.end(), [](const Text& a, const Text& b) { return a.index < b.index; });
    next_ = 0;
  }
  if (*next_ == kept_.size()) return std::nullopt;
  return std::move(kept_[(*next_)++].text);
}

}  // namespace moeut
