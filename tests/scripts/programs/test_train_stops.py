"""moeut-train that is asked to stop, to save, or runs out of disk: nothing is lost, and it goes on to the same end."""

import json
import os
import signal
import time

import harness

MANY = "train.steps=1000000"


class Stops(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.make_config()

    def start(self, *overrides, ignored=()):
        return harness.Running(self, "tiny.yaml", *overrides, ignored=ignored)

    def step_of(self, run_dir="run"):
        """Step of the newest checkpoint."""
        return int(self.checkpoints(run_dir)[-1][5:])

    def rows(self, run_dir="run"):
        return [json.loads(line) for line in (self.dir / run_dir / "metrics.jsonl").read_text().splitlines()]

    def test_signals_in_training(self):
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            running = self.start(MANY, f"run.dir={name}", "checkpoint.every=0").wait_for("step 3/")
            result = running.send(signal.Signals[name]).result()
            self.assert_stopped(result, self.step_of(name), name)
            self.assertIn(f"stopped by {name} after step {self.step_of(name)} of 1000000; the same command goes on", result.err)
            self.assertEqual(self.rows(name)[-1]["step"], self.step_of(name))
            self.assert_ok(self.train("tiny.yaml", f"run.dir={name}", f"train.steps={self.step_of(name) + 2}", "--resume", "must"))

    def test_ignored_signals_stay_ignored(self):
        """nohup and a shell's background job start a program so; SIGTERM still stops it."""
        running = self.start(MANY, "checkpoint.every=0", ignored=(signal.SIGHUP, signal.SIGINT)).wait_for("step 3/")
        running.send(signal.SIGHUP).send(signal.SIGINT)
        time.sleep(0.3)  # some hundred steps
        self.assertIsNone(running.process.poll())
        result = running.send(signal.SIGTERM).result()
        self.assert_stopped(result, self.step_of())
        self.assertIn("stopped by SIGTERM", result.err)

    def test_before_the_first_step(self):
        """Validation on thousands of sequences is under way, and is done after the resume instead."""
        slow = [f"data.validation={harness.data() / 'shards/train'}", "eval.sequences=0", "eval.batch_size=1"]
        result = self.start(*slow).wait_for("parameters; data:").send(signal.SIGTERM).result()
        self.assert_stopped(result, 0)
        self.assertEqual(self.rows(), [])
        result = self.assert_ok(self.train("tiny.yaml", "eval.sequences=8"))
        self.assertIn("resuming from 'run/checkpoints/step-00000000'", result.err)
        self.assertEqual([row["step"] for row in self.rows() if "val_loss" in row], [0, 3, 6])

    def test_while_it_starts(self):
        """A signal that hits before the data are open is kept."""
        os.mkfifo(self.dir / "pipe")  # the reading of the configuration would not end: refused, not waited for
        self.assert_refused(self.train("pipe"), 2, "'pipe'", "not a regular file")
        statuses = set()
        for milliseconds in range(0, 40, 8):
            running = self.start(MANY, f"run.dir=start{milliseconds}")
            time.sleep(milliseconds / 1000)
            statuses.add(running.send(signal.SIGTERM).result().status)
        # Before main() the system's own handling holds: the process ends and nothing was written.
        self.assertLessEqual(statuses, {3, -signal.SIGTERM})

    def test_save_and_go_on(self):
        running = self.start(MANY, "checkpoint.every=0").wait_for("step 3/").send(signal.SIGUSR1).wait_for("saved '")
        first = self.step_of()
        running.wait_for(f"step {first + 2}/")
        self.assertIsNone(running.process.poll())
        result = running.send(signal.SIGTERM).result()
        self.assert_stopped(result, self.step_of())
        self.assertGreater(self.step_of(), first)

    def test_stop_file(self):
        running = self.start(MANY).wait_for("step 3/")
        (self.dir / "run/stop").touch()
        result = running.result()
        self.assert_stopped(result, self.step_of())
        self.assertIn("stopped by the file run/stop", result.err)
        self.assertFalse((self.dir / "run/stop").exists(), "it is used up")

    def test_max_time(self):
        result = self.train("tiny.yaml", MANY, "train.max_time=0.3")
        self.assert_stopped(result, self.step_of())
        self.assertIn("stopped by train.max_time", result.err)

    def test_second_interrupt_ends_at_once(self):
        """A step of many seconds is under way; what was saved before stays whole."""
        self.assert_ok(self.train("tiny.yaml"))
        running = self.start("train.steps=7", "train.batch_size=100000", "train.micro_batch_size=1").wait_for("parameters; data:")
        time.sleep(0.3)
        running.send(signal.SIGINT)
        time.sleep(0.3)
        self.assertIsNone(running.process.poll(), "the first one waits for the step")
        begin = time.monotonic()
        result = running.send(signal.SIGINT).result()
        self.assertEqual(result.status, -signal.SIGINT, result)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertIn("already done", self.assert_ok(self.train("tiny.yaml")).err)

    def test_while_it_samples_and_saves(self):
        """A sample of half a minute, and a save of many that are queued: both in the background and in step."""
        running = self.start(MANY, "run.dir=sample", "sample.every=3", "sample.length=1000000", "eval.every=0").wait_for("step 3/")
        time.sleep(0.2)
        result = running.send(signal.SIGTERM).result()
        self.assert_stopped(result, 3, "sample")
        self.assertFalse((self.dir / "sample/samples.jsonl").read_text(), "the sample is still due")
        for kind in ("true", "false"):
            running = self.start(MANY, f"run.dir=save-{kind}", "checkpoint.every=1", f"checkpoint.async={kind}", "eval.every=0").wait_for("saved '")
            result = running.send(signal.SIGTERM).result()
            self.assert_stopped(result, self.step_of(f"save-{kind}"), f"save-{kind}")
            self.assert_ok(self.train("tiny.yaml", f"run.dir=save-{kind}", f"train.steps={self.step_of(f'save-{kind}') + 2}", "--resume", "must"))

    def test_killed(self):
        running = self.start(MANY, "checkpoint.every=1").wait_for("step 5/").send(signal.SIGKILL)
        self.assertEqual(running.result().status, -signal.SIGKILL)
        steps = self.step_of() + 3
        self.assert_ok(self.train("tiny.yaml", f"train.steps={steps}", "--resume", "must"))
        self.assertEqual([row["step"] for row in self.rows() if "loss" in row], list(range(1, steps + 1)))


class FullDisk(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.make_config()
        self.disk = harness.small_disk(self)

    def fill(self, leave):
        harness.leave_free(self.disk, leave)

    def test_checkpoint(self):
        arguments = ["tiny.yaml", "run.dir=disk/run", "checkpoint.keep_last=1000"]
        self.assert_ok(self.train(*arguments, "train.steps=1"))
        self.fill(1_500_000)  # for a few checkpoints
        before = harness.snapshot(self.disk / "run/checkpoints")
        result = self.train(*arguments, MANY, "eval.every=0")
        self.assert_refused(result, 1, "disk/run/checkpoints", "free")
        after = harness.snapshot(self.disk / "run/checkpoints")
        self.assertLessEqual(before.keys(), after.keys(), result)
        os.remove(self.disk / "ballast")
        self.assert_ok(self.train(*arguments, "train.steps=4", "--resume", "must"))

    def test_training_goes_on_without_checkpoints(self):
        """checkpoint.on_failure: continue warns at each, and the last one of the run is still an error."""
        for kind in ("true", "false"):
            run = f"disk/run-{kind}"
            arguments = ["tiny.yaml", f"run.dir={run}", "eval.every=0", "checkpoint.every=1", "checkpoint.on_failure=continue",
                         f"checkpoint.async={kind}"]
            self.assert_ok(self.train(*arguments, "train.steps=1"))
            self.fill(20_000)  # for rows, not for a checkpoint
            result = self.train(*arguments, "train.steps=9")
            self.assertEqual(result.status, 1, result)
            self.assertGreaterEqual(result.err.count("training goes on (checkpoint.on_failure)"), 5, result)
            self.assertIn("step 9/9", result.err)
            self.assertEqual(self.checkpoints(run), ["step-00000001"])
            os.remove(self.disk / "ballast")
            self.assert_ok(self.train(*arguments, "train.steps=9", "--resume", "must"))
            self.assertEqual(self.checkpoints(run)[-1], "step-00000009")

    def test_nothing_left(self):
        self.fill(0)
        self.assert_refused(self.train("tiny.yaml", "run.dir=disk/run"), 1, "disk/run", "free")

    def test_moeut_data(self):
        text = harness.data() / "text.txt"
        tokenizer = harness.data() / "tokenizer.model"
        self.fill(0)
        for command in (["train-tokenizer", "--vocab-size", 100, "--output", "disk/a.model"], ["tokenize", "--tokenizer", tokenizer, "--output", "disk/out"]):
            with self.unchanged():
                self.assert_refused(self.data(*command, text), 1, "disk/", "free")
        self.fill(40_000)  # enough to begin with
        with self.unchanged():
            self.assert_refused(self.data("tokenize", "--tokenizer", tokenizer, "--output", "disk/out", text), 1, "disk/", "free")
