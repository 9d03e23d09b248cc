"""moeut-train where nothing is wrong: train, resume, be done, say what would be done."""

import json
import re
import subprocess

import harness

TIMES = ("tokens_per_s", "step_ms")


class Train(harness.ProgramTest):
    def rows(self, run_dir="run"):
        lines = (self.dir / run_dir / "metrics.jsonl").read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]

    def final_bytes(self, run_dir):
        newest = self.dir / run_dir / "checkpoints" / self.checkpoints(run_dir)[-1]
        return [(newest / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]

    def test_a_run(self):
        self.make_config()
        self.assert_ok(self.train("tiny.yaml"))
        rows = self.rows()
        self.assertEqual([row["step"] for row in rows if "val_loss" in row], [0, 3, 6])
        self.assertEqual([row["step"] for row in rows if "loss" in row], [1, 2, 3, 4, 5, 6])
        self.assertEqual(set(rows[1]), {"step", "tokens", "loss", "reg_loss", "grad_norm", "lr"})
        self.assertEqual(self.checkpoints(), ["step-00000002", "step-00000004", "step-00000006"])
        names = sorted(path.name for path in (self.dir / "run").iterdir())
        self.assertEqual(names, ["checkpoints", "config.yaml", "lock", "metrics.jsonl", "samples.jsonl", "train.log"])
        for word in ("starting from step 0", "step 3: validation loss", "saved", "done: 6 steps"):
            self.assertIn(word, (self.dir / "run/train.log").read_text())

    def test_the_saved_configuration_gives_the_same_run(self):
        self.make_config()
        self.assert_ok(self.train("tiny.yaml", "model.d_model=24", "run.dir=a"))
        self.assert_ok(self.train("a/config.yaml", "run.dir=b"))
        self.assertEqual(self.final_bytes("a"), self.final_bytes("b"))

    def test_already_done(self):
        self.make_config()
        self.assert_ok(self.train("tiny.yaml"))
        with self.unchanged():
            for resume in ("auto", "must", "run"):
                self.assertIn("already done: step 6 of 6", self.assert_ok(self.train("tiny.yaml", "--resume", resume)).err)

    def test_more_steps_later(self):
        self.make_config()
        self.assert_ok(self.train("tiny.yaml"))
        result = self.assert_ok(self.train("tiny.yaml", "train.steps=8"))
        self.assertIn("changed since the checkpoint: train.steps: 6 there, 8 now", result.err)
        self.assertIn("resuming from 'run/checkpoints/step-00000006'", (self.dir / "run/train.log").read_text())
        self.assertEqual([row["step"] for row in self.rows() if "loss" in row], [1, 2, 3, 4, 5, 6, 7, 8])

    def test_every_precision(self):
        self.make_config()
        for precision in ("fp64", "fp32", "tf32", "bf16", "fp16"):
            arguments = ["tiny.yaml", f"run.dir={precision}", f"train.precision={precision}", "sample.every=2"]
            self.assert_ok(self.train(*arguments, "train.steps=4"))
            self.assertIn("resuming from", self.assert_ok(self.train(*arguments)).err)
            losses = [row["val_loss"] for row in self.rows(precision) if "val_loss" in row]
            self.assertLess(losses[-1], losses[0])

    def test_one_step(self):
        self.make_config()
        result = self.assert_ok(self.train("tiny.yaml", "train.steps=1", "schedule.warmup_steps=50", "checkpoint.every=100",
                                           "eval.every=100", "sample.every=100"))
        for key in ("schedule.warmup_steps = 50", "checkpoint.every = 100", "eval.every = 100", "sample.every = 100"):
            self.assertEqual(len(re.findall(f"^warning: {key}", result.err, re.M)), 1, result)
        self.assertEqual(self.checkpoints(), ["step-00000001"])

    def test_resume_no_sets_aside(self):
        self.make_config()
        self.assert_ok(self.train("tiny.yaml"))
        before = self.final_bytes("run")
        self.assert_ok(self.train("tiny.yaml", "--resume", "no", "seed=1"))
        self.assertNotEqual(before, self.final_bytes("run"))
        kept = self.dir / "run/checkpoints/step-00000006.aside-1/model.safetensors"
        self.assertEqual(before[0], kept.read_bytes())
        self.assertTrue((self.dir / "run/metrics.aside-1.jsonl").exists())

    def test_damaged_newest_checkpoint(self):
        self.make_config()
        self.assert_ok(self.train("tiny.yaml"))
        whole = self.final_bytes("run")
        for number, name in enumerate(("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"), start=1):
            newest = self.dir / "run/checkpoints/step-00000006" / name
            content = bytearray(newest.read_bytes())
            content[len(content) // 2] ^= 1
            newest.write_bytes(content)
            result = self.assert_ok(self.train("tiny.yaml"))
            self.assertRegex(result.err, f"checkpoint rejected: .*step-00000006/{name}'.*damaged")
            self.assertIn("resuming from 'run/checkpoints/step-00000004'", result.err)
            self.assertTrue((self.dir / f"run/checkpoints/step-00000006.aside-{number}").exists(), "kept, under another name")
            self.assertEqual(whole, self.final_bytes("run"))
        self.assertEqual([row["step"] for row in self.rows() if "loss" in row], [1, 2, 3, 4, 5, 6])


class Say(harness.ProgramTest):
    """What only prints."""

    def test_help(self):
        with self.unchanged():
            out = self.assert_ok(self.train("--help")).out
        for word in ("--resume", "--dry-run", "--print-config", "Exit status", "run.dir", "train.max_time", "model.att_n_experts"):
            self.assertIn(word, out)

    def test_print_config(self):
        self.make_config()
        with self.unchanged():
            out = self.assert_ok(self.train("tiny.yaml", "--print-config", "train.steps=9", "data.train=nowhere")).out
        self.assertRegex(out, r"steps: 9 +# command line")
        self.assertRegex(out, r"seq_len: 16 +# tiny.yaml:\d")
        self.assertRegex(out, r"beta1: 0.9 +# default")

    def test_output_that_goes_nowhere_is_an_error(self):
        self.make_config()
        folder = harness.data()
        for program, *arguments in (["moeut-train", "--help"], ["moeut-train", "tiny.yaml", "--print-config"],
                                    ["moeut-train", "tiny.yaml", "--dry-run"], ["moeut-data", "inspect", "--ids", folder / "shards"],
                                    ["moeut-data", "inspect", folder / "shards"]):
            with open("/dev/full", "wb") as full, self.unchanged():
                done = subprocess.run([harness.BIN / program, *arguments], cwd=self.dir, env=harness.environment(), stdout=full,
                                      stderr=subprocess.PIPE, text=True, check=False)
            self.assert_refused(harness.Result(program, done.returncode, "", done.stderr), 1, "cannot write")

    def test_dry_run(self):
        self.make_config()
        with self.unchanged():
            out = self.assert_ok(self.train("tiny.yaml", "--dry-run")).out
        for word in ("parameters", "vocabulary 100", "MiB", "activations"):
            self.assertIn(word, out)
