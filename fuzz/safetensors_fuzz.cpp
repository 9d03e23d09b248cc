// Any bytes at all as a safetensors file: refused with IoError, or every tensor lies inside the file.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "core/error.h"
#include "trainer/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::span<const uint8_t> file(data, size);
    const moeut::SafetensorsContents contents = moeut::parse_safetensors(std::as_bytes(file), "fuzz");
    uint64_t end = 0;
    for (const moeut::SafetensorInfo& tensor : contents.tensors) {
      if (tensor.offset > size || tensor.bytes > size - tensor.offset || tensor.offset < end) std::abort();
      end = tensor.offset + tensor.bytes;
    }
  } catch (const moeut::IoError&) {
  }
  return 0;
}
