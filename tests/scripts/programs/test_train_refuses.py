"""moeut-train where something is wrong before the first step: one line, nothing written."""

import fcntl
import os
import shutil
import subprocess

import harness


class CommandLine(harness.ProgramTest):
    def refused(self, arguments, *words):
        self.make_config()
        with self.unchanged():
            self.assert_refused(self.train(*arguments), 2, *words)

    def test_arguments(self):
        self.refused([], "no configuration file", "usage: moeut-train CONFIG.yaml")
        self.refused(["tiny.yaml", "other.yaml"], "two configuration files", "other.yaml", "key.path=value")
        self.refused(["tiny.yaml", "--resum", "auto"], "--resum", "did you mean --resume?")
        self.refused(["tiny.yaml", "--train.steps=3"], "--train.steps=3", "without the dashes")
        self.refused(["tiny.yaml", "--resume"], "--resume", "usage:")
        self.refused(["tiny.yaml", "--resume", "mst"], "mst", "did you mean must?")

    def test_overrides(self):
        self.refused(["tiny.yaml", "trian.steps=3"], "trian.steps: unknown key", "did you mean train.steps?")
        self.refused(["tiny.yaml", "steps=3"], "did you mean train.steps?")
        self.refused(["tiny.yaml", "model=3"], "is a section")
        self.refused(["tiny.yaml", "train.steps=ten"], "train.steps", "whole number", '"ten"')
        self.refused(["tiny.yaml", "train.steps=0"], "train.steps", "1 <= x", '"0"')
        self.refused(["tiny.yaml", "optimizer.lr=-1"], "optimizer.lr", '"-1"')

    def test_choices(self):
        self.refused(["tiny.yaml", "train.precision=fp8"], "train.precision", "fp8", "bf16")
        self.refused(["tiny.yaml", "device=gpu"], "device", "gpu", "cpu")
        self.refused(["tiny.yaml", "train.cuda_graph=yes"], "train.cuda_graph", "yes", "auto")
        self.refused(["tiny.yaml", "device=cpu", "train.cuda_graph=on"], "train.cuda_graph: on", "on cpu", "auto")


class ConfigurationFile(harness.ProgramTest):
    def refused(self, name, *words):
        with self.unchanged():
            self.assert_refused(self.train(name), 2, *words)

    def test_files(self):
        self.refused("nowhere.yaml", "'nowhere.yaml'", "check the path")
        (self.dir / "folder").mkdir()
        self.refused("folder", "'folder'", "not a regular file")
        self.write("empty.yaml", "")
        self.refused("empty.yaml", "empty.yaml", "empty", "configs/quickstart.yaml")
        self.write("latin.yaml", b"run: {dir: a}\ndata: {train: caf\xe9}\n")
        self.refused("latin.yaml", "latin.yaml:2", "UTF-8")
        self.write("list.yaml", "- a\n")
        self.assertEqual(self.train("list.yaml").status, 2)

    def test_one_mistake(self):
        good = harness.tiny_config()
        self.write("syntax.yaml", "train: {steps: 5\n")
        self.assertEqual(self.train("syntax.yaml").status, 2)
        self.write("twice.yaml", good + "seed: 1\nseed: 2\n")
        self.refused("twice.yaml", "seed: given twice")
        self.write("unknown.yaml", good.replace("warmup_steps", "warmup_step"))
        self.refused("unknown.yaml", "unknown.yaml:7:", "did you mean schedule.warmup_steps?")
        self.write("heads.yaml", good.replace("n_layers: 4", "n_layers: 5"))
        self.refused("heads.yaml", "n_layers")

    def test_all_mistakes_at_once(self):
        text = harness.tiny_config().replace("steps: 6", "steps: 0").replace("seq_len", "sequence_len").replace("lr: 0.01", "lr: fast")
        self.write("wrong.yaml", text)
        with self.unchanged():
            result = self.train("wrong.yaml", "log.evry=2")
        self.assert_no_crash(result)
        self.assertEqual(result.status, 2, result)
        lines = result.err.strip().splitlines()
        expected = [("wrong.yaml:5:", "train.steps"), ("wrong.yaml:5:", "train.sequence_len"), ("wrong.yaml:6:", "optimizer.lr"),
                    ("command line", "log.evry")]
        self.assertEqual(len([line for line in lines if "required" not in line]), len(expected), result)
        for line, words in zip(lines, expected):
            for word in words:
                self.assertIn(word, line, result)


class BadData(harness.ProgramTest):
    def refused(self, overrides, *words):
        with self.unchanged():
            self.assert_refused(self.train("tiny.yaml", *overrides), 1, *words)

    def setUp(self):
        super().setUp()
        self.copy_data()
        self.write("tiny.yaml", harness.tiny_config())

    def test_missing(self):
        self.refused(["data.train=nowhere"], "'nowhere'", "moeut-data tokenize")
        self.refused(["data.validation=nowhere"], "'nowhere'", "moeut-data tokenize")
        self.refused(["data.tokenizer=nowhere"], "'nowhere'", "train-tokenizer")
        self.refused(["data.train=shards"], "'shards/train'")
        self.refused(["data.train=tiny.yaml"], "'tiny.yaml'", "moeut-data tokenize")
        (self.dir / "empty").mkdir()
        self.refused(["data.train=empty"], "'empty'", "moeut-data tokenize")
        os.remove(self.dir / "shards/train/shard-00000.h5")
        self.refused([], "shards/train/shard-00000.h5' is missing", "again")

    def test_truncated_and_empty(self):
        shard = self.dir / "shards/validation/shard-00000.h5"
        shard.write_bytes(shard.read_bytes()[:-1])
        self.refused([], "shards/validation/shard-00000.h5'", "truncated", "again")
        shard.write_bytes(b"")
        self.refused([], "shards/validation/shard-00000.h5'", "again")
        (self.dir / "tokenizer.model").write_bytes(b"")
        self.refused(["data.validation="], "'tokenizer.model'", "train-tokenizer")

    def test_flipped_byte_of_the_frame(self):
        shard = self.dir / "shards/train/shard-00000.h5"
        content = bytearray(shard.read_bytes())
        content[100] ^= 1
        shard.write_bytes(content)
        self.refused([], "shards/train/shard-00000.h5'", "damaged", "again")

    def test_flipped_byte_of_the_ids(self):
        """Found when the ids are first read, so the run folder is there by then."""
        shard = self.dir / "shards/train/shard-00000.h5"
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
        for prefetch in (0, 4):
            before = harness.snapshot(self.dir / "shards")
            self.assert_refused(self.train("tiny.yaml", f"run.dir=run{prefetch}", f"data.prefetch={prefetch}"), 1,
                                "shards/train/shard-00000.h5'", "damaged", "again")
            self.assertEqual(before, harness.snapshot(self.dir / "shards"))

    def other_shards(self):
        """Of another tokenizer."""
        text = harness.data() / "text.txt"
        self.assert_ok(self.data("train-tokenizer", "--vocab-size", 90, "--output", "other.model", text))
        self.assert_ok(self.data("tokenize", "--tokenizer", "other.model", "--output", "other", text))

    def test_another_tokenizer(self):
        self.other_shards()
        self.refused(["data.validation=other"], "'other'", "'shards/train'", "one tokenizer")
        self.refused(["data.tokenizer=other.model"], "'shards/train'", "'other.model'", "one tokenizer")

    def test_shards_under_the_name_of_others(self):
        self.other_shards()
        shutil.copy(self.dir / "other/shard-00000.h5", self.dir / "shards/train/shard-00000.h5")
        self.refused([], "shards/train/shard-00000.h5'", "again")

    def test_vocabulary(self):
        self.refused(["model.n_tokens=50"], "'shards/train'", "vocabulary of 100", "model.n_tokens = 50", "set it to 0")

    def test_too_little_text(self):
        self.refused(["train.seq_len=500000"], "'shards/train'", "train.seq_len")


class BadCheckpoint(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.make_config()

    def refused(self, arguments, *words):
        with self.unchanged():
            self.assert_refused(self.train("tiny.yaml", *arguments), 1, *words)

    def test_none(self):
        self.refused(["--resume", "must"], "'run/checkpoints'", "--resume auto")
        self.refused(["--resume", "no/such/checkpoint"], "no/such/checkpoint", "auto, must or no", "check the path")
        (self.dir / "empty").mkdir()
        self.refused(["--resume", "empty"], "--resume empty", "auto, must or no")

    def test_of_another_model(self):
        self.assert_ok(self.train("tiny.yaml"))
        for resume in ("auto", "run/checkpoints/step-00000004"):
            self.refused(["model.d_model=32", "train.steps=9", "--resume", resume], "'run/checkpoints/step-0000000", "model.d_model: 16 there, 32 now",
                         "another run.dir", "--resume no")
        self.refused(["seed=3", "train.steps=9"], "seed: 0 there, 3 now", "another run.dir")

    def test_of_another_tokenizer(self):
        self.assert_ok(self.train("tiny.yaml"))
        text = harness.data() / "text.txt"
        self.assert_ok(self.data("train-tokenizer", "--vocab-size", 100, "--option", "character_coverage=0.98", "--output", "b.model", text))
        self.assert_ok(self.data("tokenize", "--tokenizer", "b.model", "--output", "b", text))
        with self.unchanged():
            result = self.train("tiny.yaml", "data.train=b", "data.validation=", "data.tokenizer=b.model", "train.steps=9")
        self.assertEqual(result.status, 1, result)
        self.assertIn("tokenizer", self.complaints(result)[0] + result.err)

    def test_all_damaged(self):
        self.assert_ok(self.train("tiny.yaml"))
        for name in self.checkpoints():
            path = self.dir / "run/checkpoints" / name / "model.safetensors"
            path.write_bytes(path.read_bytes()[:-1])
        self.refused(["--resume", "must"], "'run/checkpoints'", "step-00000002/model.safetensors'", "damaged")
        self.refused(["--resume", "run/checkpoints/step-00000002"], "step-00000002/model.safetensors'", "damaged")


class RunFolder(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.make_config()

    def refused(self, run_dir, *words):
        with self.unchanged():
            self.assert_refused(self.train("tiny.yaml", f"run.dir={run_dir}"), 1, *words)

    def test_below_a_file(self):
        self.write("file", "mine")
        self.refused("file", "'file'", "not a folder", "run.dir")
        self.refused("file/run", "'file'", "not a folder", "run.dir")

    def test_read_only(self):
        place = self.dir / "read-only"
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], capture_output=True, check=False).returncode != 0:
            os.chmod(place, 0o555)
            self.addCleanup(os.chmod, place, 0o755)
            if os.access(place, os.W_OK):
                self.skipTest("this user may write everywhere and may not mount")
        else:
            self.addCleanup(subprocess.run, ["umount", str(place)], check=True)
        self.refused("read-only/run", "read-only", "run.dir")
        with self.unchanged():
            output = self.data("tokenize", "--tokenizer", harness.data() / "tokenizer.model", "--output", "read-only/out",
                               harness.data() / "text.txt")
            self.assert_refused(output, 1, "read-only", "--output")

    def test_in_use(self):
        self.assert_ok(self.train("tiny.yaml"))
        with open(self.dir / "run/lock", "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self.unchanged():
                self.assert_refused(self.train("tiny.yaml", "train.steps=9"), 1, "'run' is in use", "run.dir")
        self.assert_ok(self.train("tiny.yaml", "train.steps=9"))
