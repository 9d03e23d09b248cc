// Any text at all as manifest.json: refused with IoError, or it is exactly what to_text() writes.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "data/json.h"
#include "trainer/checkpoint_manifest.h"

namespace {

/// The hash at its end refuses nearly every input, so the JSON reader behind it gets the text on its own too.
void read_as_json(std::string_view text) {
  try {
    const std::string once = moeut::Json::parse(text).dump(2);
    if (moeut::Json::parse(once).dump(2) != once) std::abort();
  } catch (const moeut::IoError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read_as_json(text);
  try {
    if (moeut::CheckpointManifest::parse(text, "fuzz").to_text() != text) std::abort();
  } catch (const moeut::IoError&) {
  }
  return 0;
}
