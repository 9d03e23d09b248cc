"""What moeut-data reads: standard input, patterns, published layouts, and inputs of which a part is bad."""

import gzip
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

import harness

SAMPLES = pathlib.Path(__file__).resolve().parents[4] / "shared/data/web-samples"


def json_lines(documents, **others):
    return "".join(json.dumps({**others, "text": document}) + "\n" for document in documents).encode()


class InputTest(harness.ProgramTest):
    def tokenize(self, output, *arguments, stdin=None):
        return self.data("tokenize", "--tokenizer", harness.data() / "tokenizer.model", "--output", output, *arguments, stdin=stdin)

    def ids(self, *arguments, stdin=None):
        """A line for each document."""
        self.assert_ok(self.tokenize("out", "--overwrite", *arguments, stdin=stdin))
        return self.assert_ok(self.data("inspect", "--ids", "out")).out

    def manifest(self, name="out"):
        return json.loads((self.dir / name / "manifest.json").read_text())


class Forms(InputTest):
    def test_standard_input_is_read_as_a_file_is(self):
        documents = harness.prose(60).split("\n\n")[:-1]
        text, lines = "\n".join(documents).encode(), json_lines(documents, id=3)
        expected = self.ids("--documents", "line", self.write("a.txt", text))
        self.assertEqual(expected.count("\n"), len(documents))
        self.assertEqual(self.ids("--documents", "line", "-", stdin=text), expected)
        self.assertEqual(self.ids("--documents", "line", "-", stdin=gzip.compress(text)), expected)
        self.assertEqual(self.ids("--format", "jsonl", "-", stdin=lines), expected)
        self.assertEqual(self.ids("--format", "jsonl", self.write("part-7", gzip.compress(lines))), expected)
        models = []
        for name, source, stdin in (("a.model", "a.txt", None), ("b.model", "-", text)):
            self.assert_ok(self.data("train-tokenizer", "--vocab-size", 60, "--output", name, source, stdin=stdin))
            models.append((self.dir / name).read_bytes())
        self.assertEqual(*models)

    def test_standard_input_refused(self):
        self.assert_refused(self.tokenize("out", "-", stdin=b""), 1, "standard input", "no text")
        self.assert_refused(self.tokenize("out", "-", stdin=b"a\n\xff\n"), 1, "standard input:2", "UTF-8")
        self.assert_refused(self.tokenize("out", "-", "a.txt", stdin=b"a"), 2, "standard input", "last")
        self.assert_refused(self.tokenize("out", "--format", "csv", "-", stdin=b"a"), 2, "--format", "csv")

    def test_signal_while_standard_input_is_waited_for(self):
        running = subprocess.Popen([harness.BIN / "moeut-data", "tokenize", "--tokenizer", harness.data() / "tokenizer.model", "--documents",
                                    "line", "--output", "out", "-"], cwd=self.dir, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        lines = (harness.prose(3000).replace("\n\n", "\n")).encode()
        try:
            running.stdin.write(lines)
            running.stdin.flush()
            time.sleep(0.5)
            self.assertIsNone(running.poll())
            running.send_signal(signal.SIGTERM)
            self.assertEqual(running.wait(harness.TIMEOUT), 3)
            self.assertIn(b"stopped by SIGTERM", running.stderr.read())
        finally:
            running.kill()
            running.communicate()
        again = self.assert_ok(self.tokenize("out", "--documents", "line", "-", stdin=lines))
        self.assertIn("resuming in standard input after ", again.err)
        self.assert_ok(self.tokenize("whole", "--documents", "line", self.write("a.txt", lines)))
        for name in ("manifest.json", "shard-00000.h5"):
            self.assertEqual((self.dir / "out" / name).read_bytes(), (self.dir / "whole" / name).read_bytes())

    def test_patterns(self):
        for i in (1, 2, 10):
            self.write(f"c4/train.{i:05}.json.gz", gzip.compress(json_lines([f"document {i}"])))
        self.write("c4/validation.json.gz", gzip.compress(json_lines(["other"])))
        all_files = [f"c4/train.{i:05}.json.gz" for i in (1, 2, 10)]
        self.assertEqual(self.ids("c4/train.*.json.gz"), self.ids(*all_files))
        self.assertEqual(self.ids("c4/train.0000?.json.gz"), self.ids(*all_files[:2]))
        self.assert_refused(self.tokenize("none", "c4/test.*"), 1, "no file matches 'c4/test.*'")


class Layouts(InputTest):
    """Records as they are published, with what they have beside the text."""

    RECORDS = {
        "c4-train.00000-of-01024.json.gz": ({"text": "%s", "timestamp": "2019-04-25T12:57:54Z", "url": "https://a.b/c"}, "text"),
        "slimpajama/chunk1/example_train_0.jsonl.zst": ({"text": "%s", "meta": {"redpajama_set_name": "RedPajamaCommonCrawl"}}, "text"),
        "pes2o/train-00000-of-00020.json.gz": ({"added": "2023-01-01", "created": None, "id": "7", "source": "s2orc", "text": "%s",
                                                "version": "v2"}, "text"),
        "the-stack/part-0.jsonl.gz": ({"hexsha": "ab", "size": 12, "content": "%s", "max_stars_count": None, "alphanum_fraction": 0.5}, "content"),
        "the_pile/00.jsonl": ({"text": "%s", "meta": {"pile_set_name": "Pile-CC"}}, "text"),
        "dolma/cc_en_head-0000.json.gz": ({"id": "x", "metadata": {"bucket": "head", "length": 3.5, "warc": ["a"]}, "text": "%s"}, "text"),
        "redpajama/arxiv.jsonl": ({"meta": {"arxiv_id": 1, "doc": {"body": "%s"}}}, "meta.doc.body"),
    }

    def test_published_layouts(self):
        documents = harness.prose(20).split("\n\n")[:-1]
        expected = self.ids("--documents", "line", self.write("plain.txt", "\n".join(documents)))
        for name, (record, field) in self.RECORDS.items():
            with self.subTest(name):
                content = "".join(json.dumps(record).replace("%s", document) + "\n" for document in documents).encode()
                if name.endswith(".gz"):
                    content = gzip.compress(content)
                path = self.write(name, content)
                if name.endswith(".zst"):
                    plain = self.write(name.removesuffix(".zst"), content)
                    self.compress_zstd(plain, path)
                self.assertEqual(self.ids("--text-field", field, path), expected)

    def compress_zstd(self, source, target):
        if shutil.which("zstd") is None:
            self.skipTest("the program zstd is not installed")
        subprocess.run(["zstd", "-q", "-f", source, "-o", target], check=True)

    @unittest.skipUnless(SAMPLES.is_dir(), "no ../shared/data")
    def test_real_samples(self):
        files = sorted(path for path in SAMPLES.iterdir() if not path.name.startswith("README"))
        self.assertGreater(len(files), 10)
        for path in files:
            with self.subTest(path.name):
                self.assert_ok(self.tokenize("out", "--overwrite", path))
                lines = documents = None
                if path.suffix == ".gz":
                    lines = gzip.decompress(path.read_bytes()).decode()
                elif path.suffix == ".jsonl":
                    lines = path.read_text()
                if lines is not None:
                    documents = sum(bool(json.loads(line)["text"]) for line in lines.split("\n") if line.strip())
                    self.assertEqual(self.manifest()["documents"] + self.manifest()["empty_documents"], documents)
                self.assertGreater(self.manifest()["tokens"], 0)


class PartlyBad(InputTest):
    def test_bad_records_are_left_out_and_counted(self):
        good = json_lines(["one", "two", "three"]).splitlines(keepends=True)
        self.write("corpus/a.jsonl", good[0] + b'{"text": \n' + good[1] + b'{"body": "x"}\n{"text": "\xff"}\n')
        whole = gzip.compress(good[2] * 1000, mtime=0)
        self.write("corpus/b.jsonl.gz", whole[:-4])
        self.write("corpus/c.txt", b"caf\xe9")
        result = self.tokenize("out", "--on-bad-record", "skip", "corpus")
        self.assert_no_crash(result)
        self.assertEqual(result.status, 0, result)
        self.assertEqual([line.split(" ")[3] for line in self.complaints(result) if "left out" in line],
                         ["corpus/a.jsonl:2:", "corpus/a.jsonl:4:", "corpus/a.jsonl:5:", "'corpus/b.jsonl.gz'", "corpus/c.txt:1:"], result)
        self.assertIn("; 4 bad records left out; 1 damaged inputs, read up to the damage", result.out)
        manifest = self.manifest()
        self.assertEqual((manifest["documents"], manifest["bad_records"], manifest["damaged_inputs"]), (1002, 4, 1))
        self.assert_ok(self.data("verify", "out"))
        trained = self.data("train-tokenizer", "--vocab-size", 20, "--on-bad-record", "skip", "--output", "a.model", "corpus")
        self.assertEqual(trained.status, 0, trained)
        self.assertIn("; 4 bad records left out; 1 damaged inputs", trained.err)
        self.assert_refused(self.tokenize("other", "corpus"), 1, "corpus/a.jsonl:2")

    def test_many_are_counted_and_ten_are_named(self):
        self.write("a.jsonl", b"{\n" * 1000 + json_lines(["text"]))
        result = self.tokenize("out", "--on-bad-record", "skip", "a.jsonl")
        self.assertEqual(result.status, 0, result)
        self.assertEqual(sum("a.jsonl:" in line for line in self.complaints(result)), 10)
        self.assertIn("further records", result.err)
        self.assertEqual(self.manifest()["bad_records"], 1000)

    def test_nothing_is_left(self):
        self.write("a.jsonl", b"{\n{\n")
        result = self.tokenize("out", "--on-bad-record", "skip", "a.jsonl")
        self.assertEqual(result.status, 1, result)
        self.assertIn("every document is empty or was left out (2)", result.err)
        self.assertFalse((self.dir / "out").exists())

    def test_long_documents(self):
        text = harness.prose(400)
        self.write("a.jsonl", json_lines(["short", text, "also short"]))
        limit = ["--max-document-bytes", 1000]
        self.assertIn("1 long documents encoded in pieces", self.assert_ok(self.tokenize("a", *limit, "a.jsonl")).out)
        self.assert_refused(self.tokenize("b", *limit, "--on-long-document", "error", "a.jsonl"), 1, "a.jsonl:2", "1000 bytes",
                            "--on-long-document")
        result = self.tokenize("c", *limit, "--on-long-document", "skip", "a.jsonl")
        self.assertEqual(result.status, 0, result)
        self.assertIn("1 long documents left out", result.out)
        self.assertEqual((self.manifest("c")["documents"], self.manifest("c")["long_documents"]), (2, 1))
        self.assertEqual(self.manifest("a")["documents"], 3)
