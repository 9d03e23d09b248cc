#include "data/documents.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <utility>

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
  CHECK(reader->counts().empty_documents == 1);
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

/// What is left of an input if bad records are left out.
struct Kept {
  Strings documents, reasons;
  ReaderCounts counts;
};

Kept keep_good(const std::filesystem::path& path, ReaderOptions options = {}) {
  options.on_bad_record = OnBadRecord::kSkip;
  Kept kept;
  const auto reader = open_documents(path, options, [&](const std::string& why) { kept.reasons.push_back(why); });
  std::string document;
  for (Document piece; reader->next(piece);) {
    if (piece.retracted) {
      CHECK_FALSE(document.empty());
      CHECK(piece.text.empty());
      CHECK_FALSE(piece.continues);
      document.clear();
      continue;
    }
    document += piece.text;
    if (!piece.continues) kept.documents.push_back(std::exchange(document, {}));
  }
  CHECK(document.empty());
  kept.counts = reader->counts();
  return kept;
}

TEST_CASE("bad records can be left out: those beside them stay, and each is counted and named") {
  const ScratchFolder folder;
  const auto lines = write_text(folder.path() / "a.txt", "one\nbad \xFF\n\ntwo\n\xC0");
  const Kept kept = keep_good(lines, {.unit = DocumentUnit::kLine});
  CHECK(kept.documents == Strings{"one", "two"});
  CHECK(kept.counts.bad_records == 2);
  CHECK(kept.counts.empty_documents == 1);
  REQUIRE(kept.reasons.size() == 2);
  CHECK(kept.reasons[0].find("a.txt:2: not valid UTF-8 (byte 0xff)") != std::string::npos);
  CHECK(kept.reasons[1].find("a.txt:5: not valid UTF-8 (byte 0xc0)") != std::string::npos);

  const auto blocks = write_text(folder.path() / "b.txt", "a\nb\n\nc\n\xFF\nd\n\ne\n");
  CHECK(keep_good(blocks, {.unit = DocumentUnit::kBlock}).documents == Strings{"a\nb", "e"});
  CHECK(keep_good(blocks, {.unit = DocumentUnit::kBlock}).counts.bad_records == 1);
  CHECK(keep_good(blocks).documents.empty());
  CHECK(keep_good(blocks).counts.bad_records == 1);

  const auto json =
      write_text(folder.path() / "c.jsonl",
                 "{\"text\":\"a\"}\n{\"text\":\n{\"body\":1}\n{\"text\":2}\n[]\n{\"text\":\"\xFF\"}\n{\"text\":\"b\"}");
  CHECK(keep_good(json).documents == Strings{"a", "b"});
  CHECK(keep_good(json).counts.bad_records == 5);
}

TEST_CASE("a document that turns out bad behind its first pieces is retracted") {
  const ScratchFolder folder;
  const std::string long_text = testing::prose(3000);
  for (const DocumentUnit unit : {DocumentUnit::kLine, DocumentUnit::kBlock}) {
    const std::string end = unit == DocumentUnit::kBlock ? "\n\n" : "\n";
    std::string one_line = long_text;
    std::replace(one_line.begin(), one_line.end(), '\n', ' ');
    const auto path =
        write_text(folder.path() / "a.txt", "x" + end + one_line + "\xFF" + one_line + end + one_line + end + "y");
    const Kept kept = keep_good(path, {.unit = unit, .max_document_bytes = 1000});
    CHECK(kept.documents == Strings{"x", one_line, "y"});
    CHECK(kept.counts.bad_records == 1);
  }
}

TEST_CASE("of a cut or damaged compressed input the documents before that place can be kept") {
  const ScratchFolder folder;
  const std::string text = testing::prose(100000);  // lines of ten words, several zstd blocks
  Strings lines = read_documents(write_text(folder.path() / "whole.txt", text), {.unit = DocumentUnit::kLine});
  for (const auto& [name, whole] : {std::pair{"t.txt.gz", testing::gzip(text)}, {"t.txt.zst", testing::zstd(text)}})
    for (const size_t size : {whole.size() / 3, whole.size() - 1}) {
      const auto path = write_text(folder.path() / name, whole.substr(0, size));
      const Kept kept = keep_good(path, {.unit = DocumentUnit::kLine});
      REQUIRE(kept.documents.size() < lines.size() + 1);
      CHECK(kept.documents == Strings(lines.begin(), lines.begin() + static_cast<int64_t>(kept.documents.size())));
      CHECK(kept.documents.size() >= (size == whole.size() / 3 ? 1u : lines.size() / 2));
      CHECK(kept.counts.damaged_inputs == 1);
      CHECK(kept.counts.bad_records == 0);
      REQUIRE(kept.reasons.size() == 1);
      CHECK(kept.reasons[0].find("truncated") != std::string::npos);
      CHECK(keep_good(path, {.max_document_bytes = 2000}).documents.empty());  // the file is the document
    }
  const auto empty = write_text(folder.path() / "e.jsonl.gz", "");
  CHECK(keep_good(empty).counts.damaged_inputs == 1);
}

TEST_CASE("long documents can be refused or left out") {
  const ScratchFolder folder;
  const std::string text(1000, 'a');
  const auto lines = write_text(folder.path() / "a.txt", "x\n" + text + "\n" + text + "b\ny\n");
  const auto json = write_text(folder.path() / "a.jsonl", "{\"text\":\"x\"}\n{\"text\":\"" + text +
                                                              "\"}\n{\"text\":\"" + text + "b\"}\n{\"text\":\"y\"}\n");
  for (const auto& path : {lines, json}) {
    ReaderOptions options{
        .unit = DocumentUnit::kLine, .max_document_bytes = 1000, .on_long_document = OnLongDocument::kError};
    CHECK_THROWS_WITH_AS(read_documents(path, options), doctest::Contains(":3: a document of more than 1000 bytes"),
                         IoError);
    options.on_long_document = OnLongDocument::kSkip;
    const Kept kept = keep_good(path, options);
    CHECK(kept.documents == Strings{"x", text, "y"});
    CHECK(kept.counts.long_documents == 1);
    CHECK(kept.counts.bad_records == 0);
  }
}

TEST_CASE("an option or the first bytes tell what an input is whose name does not") {
  const ScratchFolder folder;
  const std::string json = "{\"text\":\"a\"}\n";
  CHECK(read_documents(write_text(folder.path() / "part-0", json), {.format = InputFormat::kJsonLines}) ==
        Strings{"a"});
  CHECK(read_documents(write_text(folder.path() / "a.jsonl", json), {.format = InputFormat::kText}) == Strings{json});
  CHECK(read_documents(write_text(folder.path() / "a.utf8", testing::gzip("text"))) == Strings{"text"});
  CHECK(read_documents(write_text(folder.path() / "b.utf8", testing::zstd("text"))) == Strings{"text"});
  CHECK(read_documents(write_text(folder.path() / "c.utf8", "(")) == Strings{"("});
  CHECK_THROWS_AS(read_documents(write_text(folder.path() / "d.gz", "text")), IoError);
}

TEST_CASE("patterns mean what they match, in order; standard input comes last") {
  const ScratchFolder folder;
  const auto a = write_text(folder.path() / "c4-2.json.gz", "x"), b = write_text(folder.path() / "c4-10.json.gz", "x");
  const auto odd = write_text(folder.path() / "odd[1].txt", "x");
  write_text(folder.path() / "other.txt", "x");
  CHECK(expand_inputs({folder.path() / "c4-*.json.gz"}) == std::vector{b, a});
  CHECK(expand_inputs({folder.path() / "c4-[0-9].json.gz"}) == std::vector{a});
  CHECK(expand_inputs({odd}) == std::vector{odd});
  CHECK_THROWS_WITH_AS(expand_inputs({folder.path() / "*.zst"}), doctest::Contains("no file matches"), IoError);
  CHECK(expand_inputs({a, "-"}).back() == "-");
  CHECK_THROWS_AS(expand_inputs({"-", a}), ConfigError);
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

TEST_CASE("text of unknown origin is shown without harm to a terminal") {
  CHECK(printable("a\x1B[2J\xFF\n\x7F \xC3\xA9 \xC3") == "a\\x1b[2J\\xff\\x0a\\x7f \xC3\xA9 \\xc3");
  CHECK(printable("abc\xC3\xA9xy", 4) == "abc\xC3\xA9...");
  CHECK(printable("abc", 3) == "abc");
}

}  // namespace
}  // namespace moeut
