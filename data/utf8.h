// UTF-8 as the Unicode standard defines it (table 3-7): no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace moeut {

/// Offset of the first byte that does not belong to a well-formed sequence; text.size() if there is none.
size_t first_invalid_utf8(std::string_view text);

/// For messages, about text of unknown origin: what is no valid character, or a control character, as \xNN; and "..."
/// in the place of all that is behind the first `most_bytes`.
std::string printable(std::string_view text, size_t most_bytes = 200);

/// The largest position <= `position` at which no character is cut, for well-formed text; at most 3 bytes back for any.
size_t character_boundary(std::string_view text, size_t position);

}  // namespace moeut
