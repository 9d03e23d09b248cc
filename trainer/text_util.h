// Small things done to text that people wrote or will read.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace moeut {

/// ASCII letters in lower case, all else as it is.
std::string to_lower(std::string_view text);

/// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

/// Text in double quotes with escapes that both JSON and YAML read back to the same bytes (\" \\ \n \t \u00XX).
std::string quote_text(std::string_view text);

/// Text from outside for a message: quoted, control characters and bytes that are not UTF-8 escaped, at most
/// `max_bytes` shown.
std::string show_text(std::string_view text, size_t max_bytes = 60);

/// "a, b, c and 61 more": the first `most` of them.
std::string list_some(std::span<const std::string> texts, size_t most = 8);

/// Damerau-Levenshtein distance (optimal string alignment): insertions, deletions, substitutions and swaps of
/// neighbours.
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate that a user most likely meant by `written`, or "" if none is near: within a third of its length, or
/// (for dotted keys) with the same last part.
std::string did_you_mean(std::string_view written, std::span<const std::string> candidates);

}  // namespace moeut
