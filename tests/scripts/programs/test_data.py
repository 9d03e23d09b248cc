"""moeut-data: from text to shards, and everything that can be wrong with what it is given."""

import gzip
import shutil

import harness


class Pipeline(harness.ProgramTest):
    def test_from_text_to_ids(self):
        folder = harness.data()
        described = self.assert_ok(self.data("inspect", folder / "shards"))
        self.assertEqual(described.out.count("vocabulary of 100"), 2, described)
        verified = self.assert_ok(self.data("verify", folder / "shards", folder / "shards/train/shard-00000.h5"))
        self.assertIn("3 shard(s) whole", verified.out)
        ids = self.assert_ok(self.data("inspect", "--ids", folder / "shards")).out.split()
        self.assertTrue(all(0 <= int(word) < 100 for word in ids))
        counted = sum(int(line.split()[1]) for line in described.out.splitlines() if "tokens, " in line)
        self.assertEqual(len(ids), counted)
        documents = harness.prose(1500).count("\n\n")
        self.assertEqual(ids.count("2"), documents, "--separator eos ends every document")

    def test_the_same_text_in_another_form_gives_the_same_ids(self):
        import json

        documents = harness.prose(40).split("\n\n")[:-1]
        self.write("my text/plain.txt", "\n".join(documents) + "\n")
        self.write("packed/lines.jsonl.gz", gzip.compress("".join(json.dumps({"text": d}) + "\n" for d in documents).encode()))
        tokenizer = harness.data() / "tokenizer.model"
        self.assert_ok(self.data("tokenize", "--tokenizer", tokenizer, "--documents", "line", "--output", "a", "my text"))
        self.assert_ok(self.data("tokenize", "--tokenizer", tokenizer, "--output", "b", "packed"))
        ids = [self.assert_ok(self.data("inspect", "--ids", name)).out for name in "ab"]
        self.assertEqual(ids[0], ids[1])
        self.assertEqual(ids[0].count("\n"), len(documents))

    def test_help(self):
        for command in ("train-tokenizer", "tokenize", "inspect", "verify", "unigram-entropy", "export-samples"):
            self.assertIn(command, self.assert_ok(self.data("--help")).out)
            self.assertIn("Usage: moeut-data " + command, self.assert_ok(self.data(command, "--help")).out)


class CommandLine(harness.ProgramTest):
    """Exit status 2: wrong whatever is on the disk."""

    def refused(self, arguments, *words):
        with self.unchanged():
            self.assert_refused(self.data(*arguments), 2, *words)

    def test_commands(self):
        self.refused([], "tokenize", "--help")
        self.refused(["frobnicate"], "frobnicate", "train-tokenizer")
        self.refused(["train-tokenizer", "a.txt"], "train-tokenizer", "--output", "required")
        self.refused(["train-tokenizer", "--output", "a"], "INPUT")
        self.refused(["inspect"], "inspect", "FOLDER")
        self.refused(["inspect", "--id", "a"], "--id", "inspect --help")

    def test_values(self):
        tokenize = ["tokenize", "--tokenizer", "a.model", "--output", "b", "c.txt"]
        self.refused([*tokenize, "--documents", "word"], "--documents", "word", "line")
        self.refused([*tokenize, "--shard-tokens", "0"], "--shard-tokens", "0")
        self.refused([*tokenize, "--validation-ratio", "1.5"], "--validation-ratio", "1.5")
        self.refused([*tokenize, "--separator", ""], "--separator", "eos")
        train = ["train-tokenizer", "--output", "a.model", harness.data() / "text.txt"]
        self.refused([*train, "--vocab-size", "many"], "--vocab-size", "many")
        self.refused([*train, "--model-type", "magic"], "--model-type", "magic", "unigram")
        self.refused([*train, "--setting", "magic"], "--setting", "magic", "lossless")
        self.refused([*train, "--sample-bytes", "-1"], "--sample-bytes", "-1")
        self.refused([*train, "--sample-bytes", "3"], "--sample-bytes 3", "megabytes")
        self.refused([*train, "--option", "flavour=3"], "flavour", "spm_train --help")
        self.refused([*train, "--option", "character_coverage=7"], "character_coverage")
        self.refused([*train, "--option", "character_coverage"], "key=value")


class ExportSamples(harness.ProgramTest):
    def export(self, *arguments):
        return self.data("export-samples", "--output", "out/s.npy", "--seq-len", "8", *arguments)

    def ids(self, rows):
        """The file's rows of 8 + 1 ids; its header ends at byte 128."""
        content = (self.dir / "out/s.npy").read_bytes()
        self.assertTrue(content.startswith(b"\x93NUMPY") and content[127:128] == b"\n", content[:128])
        self.assertEqual(len(content), 128 + rows * 9 * 2)
        return [memoryview(content[128 + row * 18 : 146 + row * 18]).cast("H").tolist() for row in range(rows)]

    def test_rows_are_the_windows_of_the_stream(self):
        folder = harness.data() / "shards/train"
        stream = [int(word) for word in self.assert_ok(self.data("inspect", "--ids", folder)).out.split()]
        windows = [stream[at : at + 9] for at in range(0, len(stream) - 8, 8)]
        self.assert_ok(self.export("--count", "20", "--first", "3", "--no-shuffle", folder))
        self.assertEqual(self.ids(20), windows[3:23])
        count = len(windows)
        self.assertIn(f"an epoch has {count}", self.assert_ok(self.export("--count", count, "--seed", "1", folder)).out)
        self.assertEqual(sorted(self.ids(count)), sorted(windows), "an epoch has every window once")
        self.assertNotEqual(self.ids(count), windows)

    def test_lanes_and_mixtures(self):
        train, validation = (harness.data() / "shards" / part for part in ("train", "validation"))
        stream = [int(word) for word in self.assert_ok(self.data("inspect", "--ids", train)).out.split()]
        windows = [stream[at : at + 9] for at in range(0, len(stream) - 8, 8)]
        self.assert_ok(self.export("--count", "6", "--order", "lanes", "--lanes", "3", train))
        third = len(windows) // 3
        self.assertEqual(self.ids(6), [windows[lane * third + row] for row in (0, 1) for lane in (0, 1, 2)])
        self.assert_ok(self.export("--count", "4", "--order", "sequential", "--mix", f"{validation}=0.5", train))
        self.assertEqual([row in windows[:2] for row in self.ids(4)], [True, False, True, False])
        self.assert_refused(self.export("--count", "1", "--order", "lane", train), 2, "--order", "lane")
        self.assert_refused(self.export("--count", "1", "--mix", "a=2", train), 2, "'a=2'", "FOLDER=SHARE")

    def test_refused(self):
        folder = harness.data() / "shards/train"
        with self.unchanged():
            self.assert_refused(self.export(folder), 2, "--count", "required")
            self.assert_refused(self.export("--count", "0", folder), 2, "--count", "0")
            self.assert_refused(self.export("--count", "1", "nowhere"), 1, "nowhere")


class BadText(harness.ProgramTest):
    """Both commands that read text say the same about it, and write nothing."""

    def refused(self, text, *words):
        tokenizer = harness.data() / "tokenizer.model"
        with self.unchanged():
            for command in (["train-tokenizer", "--output", "out/a.model"], ["tokenize", "--tokenizer", tokenizer, "--output", "out"]):
                self.assert_refused(self.data(*command, text), 1, *words)

    def test_missing(self):
        self.refused("nowhere.txt", "'nowhere.txt'", "no such file", "check the path")

    def test_empty(self):
        self.write("empty.txt", "")
        self.write("blank.txt", " \n \n")
        self.refused("empty.txt", "empty.txt", "name other inputs")
        self.write("folder/picture.png", b"\x89PNG")
        self.refused("folder", "'folder' holds no text", "name files of other kinds")

    def test_not_utf8(self):
        self.write("latin.txt", b"fine\ncaf\xe9\n")
        self.refused("latin.txt", "latin.txt:2", "UTF-8", "iconv -f ISO-8859-1")
        self.write("wide.txt", "wide\n".encode("utf-16"))
        self.refused("wide.txt", "wide.txt:1", "iconv -f UTF-16")

    def test_cut_off_gzip(self):
        whole = gzip.compress(harness.prose(100).encode())
        self.write("cut.txt.gz", whole[: len(whole) // 2])
        self.refused("cut.txt.gz", "cut.txt.gz", "again")

    def test_json_lines(self):
        self.write("broken.jsonl", '{"text": "a"}\n{"text": \n')
        self.refused("broken.jsonl", "broken.jsonl:2")
        self.write("other.jsonl", '{"content": "a"}\n')
        self.refused("other.jsonl", "other.jsonl:1", "--text-field")

    def test_some_files_are_wrong(self):
        self.write("corpus/a.txt", harness.prose(50))
        self.write("corpus/b.txt", b"\xff\xfe")
        self.refused("corpus", "corpus/b.txt:1", "UTF-8")


class TrainTokenizer(harness.ProgramTest):
    def refused(self, output, *words, options=()):
        with self.unchanged():
            self.assert_refused(self.data("train-tokenizer", "--output", output, *options, harness.data() / "text.txt"), 1, *words)

    def trained(self, name, *options, pieces=90):
        """The model's bytes and what was said."""
        text = harness.data() / "text.txt"
        result = self.assert_ok(self.data("train-tokenizer", "--vocab-size", pieces, "--output", name, *options, text))
        return (self.dir / name).read_bytes(), result

    def test_lossless(self):
        _, result = self.trained("a.model", "--setting", "lossless", pieces=400)
        self.assertIn("400 pieces, lossless,", result.out)
        self.write("code.txt", "\tif (x)\n\t\treturn  \u2581;\0\n")
        self.assert_ok(self.data("tokenize", "--tokenizer", "a.model", "--output", "out", "code.txt"))
        _, result = self.trained("b.model", "--setting", "lossless", "--option", "byte_fallback=false")
        self.assertIn("90 pieces, not lossless", result.out)

    def test_sample(self):
        everything, result = self.trained("a.model")
        self.assertIn("0.1 MB of text", result.err)
        self.assertEqual(self.trained("b.model", "--sample-bytes", "0", "--seed", "1")[0], everything)
        sampled, result = self.trained("c.model", "--sample-bytes", "50000", "--seed", "1")
        self.assertIn("training on a sample (seed 1) of 0.05 of 0.08 MB of text", result.err)
        self.assertNotEqual(sampled, everything)
        self.assertEqual(self.trained("d.model", "--sample-bytes", "50000", "--seed", "1")[0], sampled)
        self.assertNotEqual(self.trained("e.model", "--sample-bytes", "50000", "--seed", "2")[0], sampled)

    def test_vocabulary_that_the_text_cannot_give(self):
        self.refused("a.model", "8000", "more text", "--vocab-size")
        self.refused("a.model", "5", "larger --vocab-size", options=["--vocab-size", "5"])

    def test_output_that_cannot_be_written(self):
        self.write("file", "mine")
        self.refused("file/a.model", "'file'", "is not a folder", "--output", options=["--vocab-size", 100])
        (self.dir / "folder").mkdir()
        self.refused("folder", "'folder'", "is a folder", "--output", options=["--vocab-size", 100])


class Tokenize(harness.ProgramTest):
    def refused(self, *words, tokenizer=None, output="out", options=()):
        with self.unchanged():
            self.assert_refused(self.data("tokenize", "--tokenizer", tokenizer or harness.data() / "tokenizer.model", "--output", output,
                                          *options, harness.data() / "text.txt"), 1, *words)

    def test_tokenizer(self):
        whole = (harness.data() / "tokenizer.model").read_bytes()
        self.refused("'no.model'", "train-tokenizer", tokenizer="no.model")
        self.write("empty.model", "")
        self.refused("'empty.model'", "train-tokenizer", tokenizer="empty.model")
        self.write("cut.model", whole[: len(whole) // 2])
        self.refused("'cut.model'", "train", tokenizer="cut.model")
        self.refused("text.txt' is not a SentencePiece model", tokenizer=harness.data() / "text.txt")

    def test_output(self):
        self.write("file", "mine")
        self.refused("'file'", "not a folder", "--output", output="file")
        self.refused("'file'", "not a folder", "--output", output="file/out")
        self.copy_data()
        self.refused("'shards' already holds shards", "--overwrite", output="shards")

    def test_a_part_that_stays_empty(self):
        self.refused("--validation-ratio 0.5", "--documents line", options=["--validation-ratio", "0.5"])


class Shards(harness.ProgramTest):
    """inspect, verify and unigram-entropy on what is no whole shard."""

    def refused(self, commands, path, *words):
        with self.unchanged():
            for command in commands:
                self.assert_refused(self.data(command, path), 1, *words)

    ALL = ("inspect", "verify", "unigram-entropy")

    def test_missing(self):
        self.refused(self.ALL, "nowhere", "'nowhere'", "no such file or folder")
        (self.dir / "empty").mkdir()
        self.refused(self.ALL, "empty", "'empty'", "moeut-data tokenize")

    def test_other_files(self):
        self.write("empty.h5", "")
        self.refused(("inspect", "verify"), "empty.h5", "'empty.h5'", "again")
        self.write("text.h5", "no HDF5\n")
        self.refused(("inspect", "verify"), "text.h5", "'text.h5'", "again")

    def test_truncated(self):
        self.copy_data()
        shard = self.dir / "shards/train/shard-00000.h5"
        shard.write_bytes(shard.read_bytes()[:-1000])
        self.refused(self.ALL, "shards/train", "shards/train/shard-00000.h5'", "again")

    def test_flipped_byte(self):
        self.copy_data()
        shard = self.dir / "shards/train/shard-00000.h5"
        content = bytearray(shard.read_bytes())
        for where in (100, len(content) // 2):  # in HDF5's own structures, in the ids
            content[where] ^= 4
            shard.write_bytes(content)
            self.refused(("verify", "unigram-entropy"), "shards/train", "shards/train/shard-00000.h5'", "again")
            with self.unchanged():
                self.assert_refused(self.data("inspect", "--ids", "shards/train"), 1, "shards/train/shard-00000.h5'", "again")
            content[where] ^= 4

    def test_manifest(self):
        self.copy_data()
        manifest = self.dir / "shards/train/manifest.json"
        manifest.write_text(manifest.read_text().replace('"vocab_size"', '"vocab-size"'))
        self.refused(("verify", "unigram-entropy"), "shards/train", "shards/train/manifest.json'", "again")
        manifest.write_text("")
        self.refused(("verify", "unigram-entropy"), "shards/train", "shards/train/manifest.json'", "again")

    def test_every_defect_has_a_line(self):
        self.copy_data()
        for part in ("train", "validation"):
            shard = self.dir / f"shards/{part}/shard-00000.h5"
            shard.write_bytes(shard.read_bytes()[:-1])
        with self.unchanged():
            result = self.data("verify", "shards")
        self.assertEqual(result.status, 1, result)
        complaints = self.complaints(result)
        self.assertEqual(len(complaints), 2, result)
        self.assertIn("shards/train/", complaints[0])
        self.assertIn("shards/validation/", complaints[1])


class Replace(harness.ProgramTest):
    def test_overwrite_replaces_shards_and_nothing_else(self):
        self.copy_data()
        self.write("shards/notes.txt", "mine")
        self.write("other.txt", harness.prose(30, seed=2))
        self.assert_ok(self.data("tokenize", "--tokenizer", "tokenizer.model", "--overwrite", "--output", "shards", "other.txt"))
        self.assertEqual(sorted(path.name for path in (self.dir / "shards").iterdir()), ["manifest.json", "notes.txt", "shard-00000.h5"])
        self.assert_ok(self.data("verify", "shards"))
        shutil.rmtree(self.dir / "shards")
