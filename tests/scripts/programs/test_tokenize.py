"""moeut-data tokenize that is killed, stopped, watched, or runs out of disk: it goes on to the same bytes."""

import functools
import gzip
import itertools
import os
import pathlib
import pty
import random
import resource
import shutil
import signal
import string
import subprocess
import time
import unittest

import harness

ROOT = pathlib.Path(__file__).resolve().parents[3]
ELTEC = ROOT.parent / "shared/data/eltec-eng"
LONG, SHORT = 15000, 5000  # sentences: about 0.5 and 0.2 seconds of work
FULL = bool(os.environ.get("MOEUT_FULL_TESTS"))


def new_words(sentences, seed):
    """Sentences of words that hardly any other has: encoding them takes time, since no word is known from before."""
    rng = random.Random(seed)
    words = ("".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 12))) for _ in range(9 * sentences))
    return "".join(" ".join(itertools.islice(words, 9)) + ".\n\n" for _ in range(sentences))


@functools.cache
def corpus(sentences):
    """A folder with text.txt and the shards of an undisturbed run in whole/."""
    folder = harness.scratch() / f"corpus-{sentences}"
    folder.mkdir()
    (folder / "text.txt").write_text(new_words(sentences, seed=3))
    harness.must(harness.run("moeut-data", *arguments(folder / "text.txt"), "--output", "whole", cwd=folder))
    return folder


def arguments(text, *others):
    threads = [] if "--threads" in others else ["--threads", 1]
    return ["tokenize", "--tokenizer", harness.data() / "tokenizer.model", "--documents", "block", "--separator", "eos",
            "--validation-ratio", 0.1, "--shard-tokens", 50_000, *threads, *others, text]


class TokenizeTest(harness.ProgramTest):
    def start(self, *others):
        """One that has noted how far it is."""
        journal = self.dir / "out/.moeut-data-partial/journal.json"
        before = journal.stat().st_ino if journal.exists() else None
        running = harness.Running(self, *arguments(corpus(LONG) / "text.txt", "--output", "out", "--journal-every", 0, *others),
                                  program="moeut-data")
        end = time.monotonic() + harness.TIMEOUT
        while not journal.exists() or journal.stat().st_ino == before:
            self.assertLess(time.monotonic(), end)
            self.assertIsNone(running.process.poll(), running.text())
            time.sleep(0.001)
        return running

    def run_again(self, *others):
        return self.data(*arguments(corpus(LONG) / "text.txt", "--output", "out", *others))

    def assert_whole(self, folder="out", sentences=LONG):
        files = {name: {path.relative_to(top): path.read_bytes() for path in top.rglob("*") if path.is_file()}
                 for name, top in (("whole", corpus(sentences) / "whole"), ("this", self.dir / folder))}
        self.assertEqual(files["whole"].keys(), files["this"].keys())
        for path, content in files["whole"].items():
            self.assertTrue(content == files["this"][path], f"{path} differs")


class Interrupted(TokenizeTest):
    def test_stopped_by_signals(self):
        for name in ("SIGTERM", "SIGINT"):
            result = self.start().send(signal.Signals[name]).result()
            self.assertEqual(result.status, 3, result)
            self.assertIn(f"stopped by {name} after ", result.err)
            self.assertIn("the same command goes on", result.err)
            self.assertEqual([path.name for path in (self.dir / "out").iterdir()], [".moeut-data-partial"])
        result = self.assert_ok(self.run_again("--threads", 2))
        self.assertRegex(result.err, r"resuming in '.*text.txt' after \d+ documents: \d+\.\d MB of the inputs are done")
        self.assert_whole()

    def test_killed(self):
        for _ in range(2):
            self.start().send(signal.SIGKILL).result()
        self.assertIn("resuming in ", self.assert_ok(self.run_again()).err)
        self.assert_whole()

    def test_starting_anew(self):
        self.start("--max-document-bytes", 1000).send(signal.SIGKILL).result()
        result = self.start().send(signal.SIGKILL).result()
        self.assertIn("starting anew", result.err)
        self.assertIn("--max-document-bytes was 1000 and is 4194304", result.err)
        self.assertNotIn("resuming", self.assert_ok(self.run_again("--no-resume")).err)
        self.assert_whole()

    def test_one_at_a_time(self):
        first = self.start().send(signal.SIGSTOP)
        self.assert_refused(self.run_again(), 1, "'out/.moeut-data-partial' is in use", "another process makes shards there")
        first.send(signal.SIGCONT)
        self.assertEqual(first.result().status, 0, first.result())
        self.assert_whole()


class Progress(TokenizeTest):
    def run_on_terminal(self, *command):
        """What the program writes to a terminal."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen([str(harness.BIN / "moeut-data"), *map(str, command)], cwd=self.dir, stdout=subprocess.DEVNULL,
                                   stderr=theirs)
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 4096):
                text += piece
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        self.assertEqual(process.wait(), 0, text)
        return text.decode()

    def test_on_a_terminal(self):
        seen = self.run_on_terminal(*arguments(corpus(LONG) / "text.txt", "--output", "out"))
        self.assertRegex(seen, r"\r\x1b\[Ktokenizing +\d+ %  \d+\.\d MB  \d+\.\d\d MB/s  \d\d:\d\d left")
        self.assertNotIn("\n", seen)
        self.assertTrue(seen.endswith("\r\x1b[K"), "the line is cleared at the end")

    def test_elsewhere_a_short_run_is_silent(self):
        self.assertEqual(self.assert_ok(self.run_again()).err, "")


class FullDisk(TokenizeTest):
    """A disk that is full at any byte: said clearly, nothing half-written under a final name, and a rerun completes."""

    def setUp(self):
        super().setUp()
        self.disk = harness.small_disk(self, 8)

    def try_with(self, free):
        """True if so many bytes were enough."""
        command = arguments(corpus(SHORT) / "text.txt", "--output", "disk/out", "--journal-every", 0)
        harness.leave_free(self.disk, free)
        result = self.data(*command)
        if result.status != 0:
            self.assert_refused(result, 1, "disk/out", "disk")
            left = [path.relative_to(self.disk) for path in self.disk.rglob("*") if path.name.startswith(("shard-", "manifest"))]
            self.assertEqual([path for path in left if ".moeut-data-partial" not in path.parts], [], result)
        (self.disk / "ballast").unlink(missing_ok=True)
        if result.status != 0:
            self.resumed += "resuming" in self.assert_ok(self.data(*command)).err
        self.assert_whole("disk/out", SHORT)
        shutil.rmtree(self.disk / "out")
        return result.status == 0

    def test_sizes(self):
        self.resumed = failed = 0
        shards = sum(path.stat().st_size for path in (corpus(SHORT) / "whole").rglob("*.h5"))
        enough = 2 * shards + 300_000
        for free in range(0, enough, 4096 if FULL else enough // 7):
            with self.subTest(free=free):
                failed += not self.try_with(free)
        self.assertTrue(self.try_with(enough))
        self.assertGreater(failed, 3)
        self.assertGreater(self.resumed, 0)


class FailingWrites(TokenizeTest):
    def test_library_that_cannot_write(self):
        """A limit on the size of a file lets the spool be written and fails HDF5 in the midst of a shard, as a full disk would."""
        whole = corpus(SHORT) / "whole"
        largest = max(path.stat().st_size for path in whole.rglob("*.h5"))
        command = [str(word) for word in arguments(corpus(SHORT) / "text.txt", "--output", "out", "--journal-every", 0)]

        def limit(size):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        for missing in (1, 600, 2500):
            done = subprocess.run([str(harness.BIN / "moeut-data"), *command], cwd=self.dir, capture_output=True, text=True,
                                  preexec_fn=lambda: limit(largest - missing), check=False)
            self.assert_refused(harness.Result(" ".join(command), done.returncode, done.stdout, done.stderr), 1, "shard.tmp", "disk full")
        self.assertIn("resuming", self.assert_ok(self.data(*command)).err)
        self.assert_whole(sentences=SHORT)


class Memory(TokenizeTest):
    """At most 1 GiB whatever the input and the model; here the short form has smaller files and, for its long texts, a smaller bound."""

    def setUp(self):
        super().setUp()
        if b"__asan_init" in (harness.BIN / "moeut-data").read_bytes():
            self.skipTest("a sanitizer keeps a shadow of the memory")

    def peak(self, *command):
        """MiB; Linux counts for a child what this process had at its own peak, too, so files are written in pieces."""
        process = subprocess.Popen([str(harness.BIN / "moeut-data"), "tokenize", *map(str, command), "--output", "out"], cwd=self.dir,
                                   env=harness.environment(), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        shutil.rmtree(self.dir / "out")
        return usage.ru_maxrss / 1024

    def models(self):
        """A byte-pair model of the paper's setting, and a unigram model, which is never cut into words."""
        shared = ROOT.parent / "shared/data/tokenizers/t5_tokenizer_base.model"
        if not (FULL and ELTEC.exists() and shared.exists()):
            text = harness.data() / "text.txt"
            harness.must(self.data("train-tokenizer", "--vocab-size", 60, "--model-type", "unigram", "--output", "u.model", text))
            return [harness.data() / "tokenizer.model", self.dir / "u.model"]
        harness.must(self.data("train-tokenizer", "--sample-bytes", 10_000_000, "--output", "bpe.model", ELTEC))
        return [self.dir / "bpe.model", shared]

    def letters(self, count):
        """Without white space; hardly an id has more than a letter."""
        block = "".join(random.Random(1).choices("abcdefghilmnoprstuwy", k=1 << 20))
        return (block * (count // len(block) + 1))[:count]

    @unittest.skipUnless(ELTEC.exists(), f"{ELTEC} is not there")
    def test_real_text(self):
        text = ELTEC if FULL else ELTEC / "eltec-eng.validation.jsonl.gz"
        self.assertLess(self.peak("--tokenizer", harness.data() / "tokenizer.model", text), 1024)

    def test_long_texts(self):
        """Threads that encode pieces of a long document at once share a bound. SentencePiece takes 230 bytes for each byte of it."""
        sizes = (200_000_000, 60_000_000) if FULL else (5_000_000, 5_000_000)
        options = ["--threads", 2] if FULL else ["--threads", 4, "--max-document-bytes", 1_000_000]
        text = self.write("one.txt", self.letters(sizes[0]))
        line = self.write("one.jsonl", f'{{"text": "{self.letters(sizes[1])}"}}\n')
        for model in self.models():
            for path in (text, line):
                with self.subTest(model=model.name, path=path.name):
                    self.assertLess(self.peak("--tokenizer", model, *options, path), 1024 if FULL else 650)

    def test_many_documents(self):
        """Of a character each: their offsets are several times their ids."""
        path = self.dir / "lines.txt"
        with open(path, "w", encoding="utf-8") as file:
            for _ in range(100 if FULL else 4):
                file.write("\n".join(self.letters(1_000_000)) + "\n")
        for model in self.models()[: 1 if FULL else 2]:  # a unigram model would take minutes
            with self.subTest(model=model.name):
                self.assertLess(self.peak("--tokenizer", model, "--threads", 2, "--documents", "line", path), 1024 if FULL else 120)

    def test_compressed_a_thousandfold(self):
        path = self.dir / "bomb.txt.gz"
        with gzip.open(path, "wb") as file:
            for _ in range(50 if FULL else 25):
                file.write(b"the " * 1_000_000)
        for model in self.models()[: 2 if FULL else 1]:
            with self.subTest(model=model.name):
                self.assertLess(self.peak("--tokenizer", model, "--threads", 2, path), 1024 if FULL else 180)
