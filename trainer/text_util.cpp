#include "trainer/text_util.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

namespace moeut {
namespace {

/// Length of the well-formed UTF-8 character at the start of `text`, or 0. [Unicode 15, table 3-7]
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0}; };
  const auto within = [&](size_t i, uint8_t low, uint8_t high) { return byte(i) >= low && byte(i) <= high; };
  const uint8_t first = byte(0);
  if (text.empty()) return 0;
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return within(1, 0x80, 0xbf) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const bool second = within(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf);
    return second && within(2, 0x80, 0xbf) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool second = within(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf);
    return second && within(2, 0x80, 0xbf) && within(3, 0x80, 0xbf) ? 4 : 0;
  }
  return 0;
}

void append_escaped(std::string& out, char c) {
  if (c == '"' || c == '\\') {
    out += '\\';
    out += c;
  } else if (c == '\n') {
    out += "\\n";
  } else if (c == '\t') {
    out += "\\t";
  } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
    fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned char>(c));
  } else {
    out += c;
  }
}

std::string_view last_part(std::string_view key) {
  return key.substr(key.rfind('.') + 1);
}

}  // namespace

std::string to_lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string quote_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) append_escaped(out, c);
  return out += '"';
}

std::string show_text(std::string_view text, size_t max_bytes) {
  std::string out = "\"";
  size_t shown = 0;
  while (shown < text.size() && shown < max_bytes) {
    const size_t length = utf8_length(text.substr(shown));
    if (length == 0) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(text[shown]));
    } else if (length == 2 && static_cast<uint8_t>(text[shown]) == 0xc2 &&
               static_cast<uint8_t>(text[shown + 1]) < 0xa0) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned char>(text[shown + 1]));  // C1 controls
    } else {
      for (const char c : text.substr(shown, length)) append_escaped(out, c);
    }
    shown += std::max<size_t>(length, 1);
  }
  out += '"';
  if (shown < text.size()) out += fmt::format("... ({} bytes)", text.size());
  return out;
}

std::string list_some(std::span<const std::string> texts, size_t most) {
  std::string list;
  for (const std::string& text : texts.first(std::min(most, texts.size()))) list += (list.empty() ? "" : ", ") + text;
  return texts.size() > most ? fmt::format("{} and {} more", list, texts.size() - most) : list;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) current[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(previous);
    previous.swap(current);
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, substitution});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) current[j] = std::min(current[j], before[j - 2] + 1);
    }
  }
  return current[b.size()];
}

std::string did_you_mean(std::string_view written, std::span<const std::string> candidates) {
  constexpr size_t kLongest = 64;  // nothing longer is a slip of the finger, and the search is quadratic
  if (written.empty() || written.size() > kLongest) return "";
  const std::string lower = to_lower(written);
  // "lr" or "train.lr" for "optimizer.lr": the right name in the wrong section, unless some other key is close as a
  // whole.
  const auto same_name = [&](const std::string& candidate) {
    return candidate.find('.') != std::string::npos && last_part(lower) == last_part(candidate);
  };
  const std::string *closest = nullptr, *namesake = nullptr;
  size_t closest_distance = 0, namesake_distance = 0;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(lower, to_lower(candidate));
    if (closest == nullptr || distance < closest_distance) {
      closest = &candidate;
      closest_distance = distance;
    }
    if (same_name(candidate) && (namesake == nullptr || distance < namesake_distance)) {
      namesake = &candidate;
      namesake_distance = distance;
    }
  }
  if (closest != nullptr && closest_distance <= std::max<size_t>(1, lower.size() / 3)) return *closest;
  return namesake != nullptr ? *namesake : "";
}

}  // namespace moeut
