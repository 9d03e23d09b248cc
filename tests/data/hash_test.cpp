#include "data/hash.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

TEST_CASE("hashes of known texts") {
  CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-2, B.1
  CHECK(xxh3_64("", 0) == 0x2D06800538D394C2ull);  // xxHash's own test vector for the empty input
  CHECK(Xxh3().hex() == "99aa06d3014798d86001c324468d497f");
}

TEST_CASE("a file and a stream in pieces hash like the text at once") {
  const testing::ScratchFolder folder;
  const std::string text = testing::prose(5000);
  CHECK(sha256_file_hex(testing::write_text(folder.path() / "t", text)) == sha256_hex(text));
  CHECK_THROWS_AS(sha256_file_hex(folder.path() / "none"), IoError);
  Xxh3 whole, pieces;
  whole.update(text.data(), text.size());
  for (size_t at = 0; at < text.size(); at += 777)
    pieces.update(text.data() + at, std::min<size_t>(777, text.size() - at));
  CHECK(whole.hex() == pieces.hex());
  Xxh3Short pieces_of_short;
  CHECK(pieces_of_short.value() == xxh3_64("", 0));
  for (size_t at = 0; at < text.size(); at += 777)
    pieces_of_short.update(text.data() + at, std::min<size_t>(777, text.size() - at));
  CHECK(pieces_of_short.value() == xxh3_64(text.data(), text.size()));
}

}  // namespace
}  // namespace moeut
