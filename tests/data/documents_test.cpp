#include "data/documents.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "data/byte_source.h"
#include "data/utf8.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

using testing::ScratchFolder;
using testing::write_text;
using Strings = std::vector<std::string>;

Strings read_documents(const std::filesystem::path& path, const ReaderOptions& options = {}) {
  const auto reader = open_documents(path, options);
  Strings documents{""};
  for (Document piece; reader->next(piece);) {
    CHECK_FALSE(piece.text.empty());
    CHECK(piece.text.size() <= options.max_document_bytes);
    documents.back() += piece.text;
    if (!piece.continues) documents.emplace_back();
  }
  CHECK(documents.back().empty());  // no document was left open
  documents.pop_back();
  return documents;
}

TEST_CASE("a document is a file, a line or a block") {
  const ScratchFolder folder;
  const auto path = write_text(folder.path() / "a.txt", "one\r\ntwo\n\n \t\nthree\nfour\n\nfive");
  CHECK(read_documents(path) == Strings{"one\r\ntwo\n\n \t\nthree\nfour\n\nfive"});
  CHECK(read_documents(path, {.unit = DocumentUnit::kLine}) == Strings{"one", "two", " \t", "three", "four", "five"});
  CHECK(read_documents(path, {.unit = DocumentUnit::kBlock}) == Strings{"one\r\ntwo", "three\nfour", "five"});
}

TEST_CASE("ends and beginnings of files") {
  const ScratchFolder folder;
  for (const DocumentUnit unit : {DocumentUnit::kFile, DocumentUnit::kLine, DocumentUnit::kBlock}) {
    CHECK(read_documents(write_text(folder.path() / "e.txt", ""), {.unit = unit}).empty());
    CHECK(read_documents(write_text(folder.path() / "b.txt", "\xEF\xBB\xBFx"), {.unit = unit}) == Strings{"x"});
  }
  CHECK(read_documents(write_text(folder.path() / "n.txt", "\n\n\n"), {.unit = DocumentUnit::kLine}).empty());
  CHECK(read_documents(write_text(folder.path() / "n.txt", "\n\n\na\n"), {.unit = DocumentUnit::kBlock}) ==
        Strings{"a"});
  CHECK(read_documents(write_text(folder.path() / "r.txt", "a\rb\n"), {.unit = DocumentUnit::kLine}) ==
        Strings{"a\rb"});
}

TEST_CASE("long documents come in pieces that join to the document, cut at lines, words, characters") {
  const ScratchFolder folder;
  std::string no_space;
  for (int i = 0; i < 60000; ++i) no_space += i % 3 == 0 ? "\xE2\x96\x81" : "\xF0\x9F\x99\x82";
  for (const std::string& text : {testing::prose(30000), no_space, std::string(200000, 'x') + "\n\nlast"}) {
    const auto path = write_text(folder.path() / "l.txt", text);
    for (const uint64_t limit : {64u, 1000u, 70000u})
      CHECK(read_documents(path, {.max_document_bytes = limit}) == Strings{text});
  }
  const auto lines = write_text(folder.path() / "w.txt", "aaaa bbbb cccc dddd eeee\nffff gggg\n");
  const auto reader = open_documents(lines, {.max_document_bytes = 16});
  Document piece;
  REQUIRE(reader->next(piece));
  CHECK(piece.text == "aaaa bbbb cccc ");
  CHECK(piece.continues);
  const auto long_line = write_text(folder.path() / "x.txt", std::string(200, 'a') + "\r\nb\n");
  CHECK(read_documents(long_line, {.unit = DocumentUnit::kLine, .max_document_bytes = 64}) ==
        Strings{std::string(200, 'a'), "b"});
}

TEST_CASE("compressed files read like plain ones, in several members or frames too") {
  const ScratchFolder folder;
  const std::string text = testing::prose(60000);
  CHECK(read_documents(write_text(folder.path() / "a.txt.gz", testing::gzip(text))) == Strings{text});
  CHECK(read_documents(write_text(folder.path() / "a.txt.zst", testing::zstd(text))) == Strings{text});
  CHECK(read_documents(write_text(folder.path() / "b.txt.gz", testing::gzip(text) + testing::gzip("tail"))) ==
        Strings{text + "tail"});
  CHECK(read_documents(write_text(folder.path() / "b.txt.zst", testing::zstd(text) + testing::zstd("tail"))) ==
        Strings{text + "tail"});
  CHECK(read_documents(write_text(folder.path() / "c.txt.zst", testing::zstd(""))).empty());
}

TEST_CASE("every truncation of a compressed file is an error that names it") {
  const ScratchFolder folder;
  const std::string text = testing::prose(40);
  for (const auto& [name, whole] : {std::pair{"t.txt.gz", testing::gzip(text)}, {"t.txt.zst", testing::zstd(text)}})
    for (size_t size = 0; size < whole.size(); ++size)
      CHECK_THROWS_WITH_AS(read_documents(write_text(folder.path() / name, whole.substr(0, size))),
                           doctest::Contains("truncated"), IoError);
}

TEST_CASE("damaged compressed data is an error, not other text") {
  const ScratchFolder folder;
  const std::string text = testing::prose(300);
  const auto path = write_text(folder.path() / "d.txt.gz", testing::gzip(text));
  testing::flip_bit(path, testing::gzip(text).size() * 4);
  CHECK_THROWS_WITH_AS(read_documents(path), doctest::Contains("d.txt.gz"), IoError);
}

TEST_CASE("JSON lines: the text field, nested fields, escapes, empty lines") {
  const ScratchFolder folder;
  const auto path = write_text(folder.path() / "a.jsonl",
                               "{\"text\": \"a\\n\\u00e9\", \"n\": 1}\n\n{\"text\":\"\"}\n{\"text\":\"b\"}");
  CHECK(read_documents(path) == Strings{"a\n\xC3\xA9", "b"});
  const auto nested = write_text(folder.path() / "b.json", "{\"meta\":{\"body\":\"x\"}}\n");
  CHECK(read_documents(nested, {.text_field = "meta.body"}) == Strings{"x"});
  const auto reader = open_documents(path, {});
  for (Document piece; reader->next(piece);) {
  }
  CHECK(reader->empty_documents() == 1);
}

TEST_CASE("bad records name file and line") {
  const ScratchFolder folder;
  const auto error_of = [&](const char* name, const std::string& text) {
    try {
      read_documents(write_text(folder.path() / name, text), {.unit = DocumentUnit::kLine});
    } catch (const IoError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  CHECK(has(error_of("a.jsonl", "{\"text\":\"a\"}\n{\"text\": oops}\n"), "a.jsonl:2: broken JSON"));
  CHECK(has(error_of("a.jsonl", "{\"body\":\"a\",\"id\":3}\n"), "a.jsonl:1: no field 'text' (there are: body, id)"));
  CHECK(has(error_of("a.jsonl", "{\"text\":3}\n"), "a.jsonl:1: field 'text' is not a string"));
  CHECK(has(error_of("a.jsonl", "[1]\n"), "a.jsonl:1: not a JSON object"));
  CHECK(has(error_of("a.jsonl", "{\"text\":\"\xFF\"}\n"), "a.jsonl:1:"));
  CHECK(has(error_of("a.jsonl", std::string(100000, '[')), "a.jsonl:1:"));
  CHECK(has(error_of("a.txt", "fine\nalso\nbad \xC0\xAF\n"), "a.txt:3: not valid UTF-8 (byte 0xc0)"));
  CHECK(has(error_of("a.txt", "cut \xE2\x96"), "a.txt:1: not valid UTF-8"));
  CHECK(has(error_of("a.txt", std::string(300000, '\x80')), "a.txt:1: not valid UTF-8"));
  CHECK(has(error_of("a.txt", std::string(70000, 'a') + "\xED\xA0\x80"), "a.txt:1: not valid UTF-8"));
}

TEST_CASE("folders are walked in order; missing and empty ones are named") {
  const ScratchFolder folder;
  const auto root = folder.path() / "corpus";
  const auto b = write_text(root / "b.txt", "x"), a = write_text(root / "a" / "z.jsonl.gz", "x");
  const auto readme = write_text(root / "README", "x");
  write_text(root / ".hidden" / "h.txt", "x");
  std::vector<std::filesystem::path> left_out;
  CHECK(expand_inputs({root}, &left_out) == std::vector{a, b});
  CHECK(left_out == std::vector{readme});
  CHECK(expand_inputs({readme}) == std::vector{readme});
  CHECK_THROWS_WITH_AS(expand_inputs({root / "none"}), doctest::Contains("corpus/none': no such file"), IoError);
  std::filesystem::create_directories(folder.path() / "bare");
  CHECK_THROWS_WITH_AS(expand_inputs({folder.path() / "bare"}), doctest::Contains("holds no text"), IoError);
  CHECK_THROWS_AS(open_documents("/dev/zero", {}), IoError);
}

TEST_CASE("UTF-8 is judged byte for byte as the standard does") {
  // The first and last of each length, and their invalid neighbours.
  for (const char* good : {"\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEF\xBF\xBF",
                           "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
    CHECK(first_invalid_utf8(good) == std::string(good).size());
  for (const char* bad : {"\x80", "\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"})
    CHECK(first_invalid_utf8(std::string("12345678") + bad) == 8);
}

}  // namespace
}  // namespace moeut
