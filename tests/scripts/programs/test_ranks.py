"""moeut-train under mpirun: the same bits on any number of ranks, and no rank that waits for one that is gone.

The full form (MOEUT_FULL_TESTS in the environment) has the numbers of docs/cluster.md; the short one takes half a minute."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import unittest

import harness

FULL = bool(os.environ.get("MOEUT_FULL_TESTS"))
STEPS = 100 if FULL else 16
FIRST, SECOND = (37, 60) if FULL else (6, 11)  # steps at which a run is stopped
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np"]


def config(micro_batch_size=2):
    """Twelve micro-batches a step, with every kind of dropout."""
    shards = harness.data() / "shards"
    return f"""
run: {{dir: run}}
device: cpu
data: {{train: {shards}/train, validation: {shards}/validation, tokenizer: {harness.data() / "tokenizer.model"}}}
model: {{d_model: 48, n_layers: 4, n_heads: 4, ff_n_experts: 12, ff_expert_size: 32, ff_k: 3, att_n_experts: 3, att_k: 2, dropout: 0.1,
         ff_expert_dropout: 0.1, att_expert_dropout: 0.1}}
train: {{steps: {STEPS}, batch_size: {12 * micro_batch_size}, micro_batch_size: {micro_batch_size}, seq_len: 24, threads: 1}}
optimizer: {{lr: 0.005}}
schedule: {{warmup_steps: 5}}
checkpoint: {{every: 1000000, keep_last: 1000}}
eval: {{every: {STEPS // 2}, sequences: 21, batch_size: 2}}
sample: {{every: {STEPS // 2}, length: 10}}
log: {{every: 1}}
"""


@unittest.skipUnless(shutil.which("mpirun"), "there is no mpirun")
class RanksTest(harness.ProgramTest):
    def setUp(self):
        super().setUp()
        self.write("ranks.yaml", config())

    def mpirun(self, ranks, *arguments, fault="", program="moeut-train", timeout=harness.TIMEOUT):
        """The result, and how many seconds it took."""
        command = [*MPIRUN, str(ranks), str(harness.BIN / program), *map(str, arguments)]
        environment = {**harness.mpi_environment(), "OMP_NUM_THREADS": "1", **({"MOEUT_TEST_FAULT": fault} if fault else {})}
        start = time.monotonic()
        done = subprocess.run(command, cwd=self.dir, env=environment, capture_output=True, timeout=timeout, check=False)
        self.seconds = time.monotonic() - start
        return harness.Result(f"{fault} mpirun -np {ranks} {program} {' '.join(map(str, arguments))}", done.returncode,
                              done.stdout.decode(), done.stderr.decode())

    def run_on(self, ranks, run_dir, *overrides):
        """Trains to the end on so many ranks; alone without mpirun."""
        arguments = ("ranks.yaml", f"run.dir={run_dir}", *overrides)
        return self.assert_ok(self.train(*arguments) if ranks == 1 else self.mpirun(ranks, *arguments))

    def rows(self, run_dir):
        """Of metrics and samples, without the fields of time."""
        found = []
        for name in ("metrics.jsonl", "samples.jsonl"):
            for line in (self.dir / run_dir / name).read_text().splitlines():
                found.append({key: value for key, value in json.loads(line).items() if key not in ("tokens_per_s", "step_ms")})
        return found

    def assert_same_run(self, a, b, files=("model", "optimizer")):
        """Weights, moments, state and every row."""
        self.assertEqual(self.rows(a), self.rows(b))
        for name in (*(f"{file}.safetensors" for file in files), "state.json"):
            one, other = ((self.dir / run / "checkpoints" / f"step-{STEPS:08}" / name).read_bytes() for run in (a, b))
            self.assertTrue(one == other, f"{name} of {a} and {b}")


class SameBits(RanksTest):
    def test_communicator(self):
        for ranks in (1, 2, 3):
            result = self.assert_ok(self.mpirun(ranks, "communicator", "44M", "cpu", program="moeut-rank-check"))
            self.assertEqual(result.out.count("ok  "), 4, result)

    def test_any_number_of_ranks(self):
        self.run_on(1, "alone")
        for ranks in (2, 3, 4):
            self.run_on(ranks, f"on-{ranks}")
            self.assert_same_run("alone", f"on-{ranks}")

    def test_sharded_optimizer_and_averages(self):
        averages = "optimizer.ema_decay=0.9"
        self.run_on(1, "alone", averages)
        for ranks in (2, 3, 4) if FULL else (3,):
            self.run_on(ranks, f"on-{ranks}", averages, "train.shard_optimizer=true")
            self.assert_same_run("alone", f"on-{ranks}", ("model", "optimizer", "ema"))

    def test_low_precision(self):
        for precision in ("bf16", "fp16"):
            chosen = f"train.precision={precision}"
            self.run_on(1, precision, chosen)
            for ranks, sharded in ((2, "false"), (3, "true"), (4, "false"), (4, "true")) if FULL else ((3, "true"),):
                run = f"{precision}-{ranks}-{sharded}"
                self.run_on(ranks, run, chosen, f"train.shard_optimizer={sharded}")
                self.assert_same_run(precision, run)

    def test_goes_on_with_other_ranks(self):
        """Stopped on 4 ranks, resumed on 2, then on 1; the optimizer sharded or not at each."""
        self.run_on(1, "alone")
        plans = [(a, b) for a in ("true", "false") for b in ("true", "false")] if FULL else [("true", "false"), ("false", "true")]
        for first, second in plans:
            run = f"{first}-{second}"
            for ranks, steps, sharded in ((4, FIRST, first), (2, SECOND, second), (1, STEPS, "false")):
                stop = self.dir / run / "stop"
                overrides = (f"train.shard_optimizer={sharded}", "--resume", "auto" if ranks == 4 else "must")
                if steps < STEPS:
                    self.stop_at(steps, ranks, run, *overrides)
                else:
                    self.run_on(ranks, run, *overrides)
                self.assertFalse(stop.exists())
            self.assert_same_run("alone", run)

    def stop_at(self, step, ranks, run_dir, *overrides):
        """As a user would, with a checkpoint of that very step: one is due there, and newer ones are removed."""
        self.run_on(ranks, run_dir, f"checkpoint.every={step}", "checkpoint.async=false", *overrides)
        for path in (self.dir / run_dir / "checkpoints").glob("step-*"):
            if int(path.name[5:]) > step:
                shutil.rmtree(path)

    def test_fp16_overflow_on_one_rank(self):
        """Two runs of six steps, three of which overflow on one rank alone: undisturbed, and with other ranks from the third on."""
        def three_steps(ranks, folder):
            result = self.assert_ok(self.mpirun(ranks, "overflow", folder, "cpu", program="moeut-rank-check"))
            self.assertEqual(result.out.count("ok  "), 6, result)

        three_steps(1, "alone")
        three_steps(1, "alone")
        for first, second in ((4, 3), (2, 4), (3, 1)) if FULL else ((4, 3),):
            folder = f"on-{first}-{second}"
            three_steps(first, folder)
            three_steps(second, folder)
            for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
                one, other = ((self.dir / f / "checkpoints" / "step-00000006" / name).read_bytes() for f in ("alone", folder))
                self.assertTrue(one == other, f"{name} of {folder}")
        state = json.loads((self.dir / "alone" / "checkpoints" / "step-00000006" / "state.json").read_text())
        self.assertEqual(state["updates"], 3)

    def test_fp16_scale_that_is_too_large(self):
        """By a huge regulariser: the same steps are left out on any number of ranks, also after a resume in the middle of them."""
        chosen = ("train.precision=fp16", "model.entropy_reg=100000")
        self.run_on(1, "alone", *chosen)
        whole = json.loads((self.dir / "alone" / "checkpoints" / f"step-{STEPS:08}" / "state.json").read_text())
        self.stop_at(2, 3, "some", *chosen)
        part = json.loads((self.dir / "some" / "checkpoints" / "step-00000002" / "state.json").read_text())
        self.assertEqual(part["updates"], 0)
        self.assertTrue(0 < whole["updates"] < STEPS, whole)
        self.run_on(4, "some", *chosen, "--resume", "must")
        self.assert_same_run("alone", "some")

    def test_documents_of_unequal_length(self):
        """The loss is divided by the targets of all ranks, the regulariser by their sequences."""
        chosen = ("data.packing=document",)
        self.run_on(1, "alone", *chosen)
        self.run_on(3, "three", *chosen, "train.micro_batch_size=5")  # another cut: not these bits
        self.run_on(4, "four", *chosen)
        self.assert_same_run("alone", "four")


class WithoutMpi(RanksTest):
    def test_a_file_brings_the_ranks_together(self):
        """As torchrun, or srun without PMIx, starts them. (Meant for GPUs: on CPUs all bytes go through rank 0.)"""
        self.run_on(1, "alone")
        meeting = self.dir / "meeting"
        ranks = []
        for rank in range(3):
            environment = {**harness.environment(), "RANK": str(rank), "WORLD_SIZE": "3", "LOCAL_RANK": str(rank)}
            ranks.append(subprocess.Popen([str(harness.BIN / "moeut-train"), "ranks.yaml", "run.dir=met", f"train.rendezvous=file:{meeting}",
                                           "log.every_rank=true"], cwd=self.dir, env=environment, stderr=subprocess.PIPE))
            self.addCleanup(ranks[-1].kill)
        texts = [rank.communicate(timeout=harness.TIMEOUT)[1].decode() for rank in ranks]
        self.assertEqual([rank.returncode for rank in ranks], [0, 0, 0], texts)
        self.assertEqual(texts[1:], ["", ""])
        self.assertFalse(meeting.exists())
        self.assert_same_run("alone", "met")
        self.assertIn("validation loss", (self.dir / "met" / "train.rank-2.log").read_text())


class Refusals(RanksTest):
    def test_more_ranks_than_micro_batches(self):
        result = self.mpirun(3, "ranks.yaml", "train.micro_batch_size=0")
        self.assertEqual(result.status, 2, result)
        self.assertIn("make 1 micro-batches a step: some of 3 ranks would have none. Set train.micro_batch_size to at most 8", result.err)
        self.assertEqual(result.err.count("micro-batches a step"), 1, result)
        self.assertFalse((self.dir / "run").exists())

    def test_one_line_whatever_the_ranks(self):
        result = self.mpirun(3, "ranks.yaml", "data.train=nowhere")
        self.assertEqual(result.status, 1, result)
        self.assertEqual(result.err.count("nowhere"), 1, result)
        result = self.mpirun(3, "ranks.yaml", "train.stepz=1")
        self.assertEqual((result.status, result.err.count("stepz")), (2, 1), result)

    def test_a_rank_with_another_configuration(self):
        """Three ranks, the last of which was given another seed."""
        one, other = (["-np", n, str(harness.BIN / "moeut-train"), "ranks.yaml", f"seed={seed}"] for n, seed in (("2", 1), ("1", 2)))
        done = subprocess.run(["mpirun", "--oversubscribe", *one, ":", *other], cwd=self.dir, capture_output=True, check=False,
                              env=harness.mpi_environment(), timeout=harness.TIMEOUT)
        text = done.stderr.decode()
        self.assertEqual(done.returncode, 1, text)
        self.assertRegex(text, r"the configuration \(SHA-256\) must be the same on all ranks: it is \w+ on most, but rank 2: \w+")


class Stops(RanksTest):
    def start(self, ranks, *overrides):
        """mpirun in the background; a checkpoint of every step is the sign that it trains."""
        err = open(self.dir / "stops.err", "wb")
        self.addCleanup(err.close)
        process = subprocess.Popen([*MPIRUN, str(ranks), str(harness.BIN / "moeut-train"), "ranks.yaml", "train.steps=1000000", *overrides],
                                   cwd=self.dir, env=harness.mpi_environment(), stdout=err, stderr=err)
        self.addCleanup(lambda: process.poll() is None and process.kill())
        end = time.monotonic() + harness.TIMEOUT
        while not (self.dir / "run" / "metrics.jsonl").exists() or '"step":3' not in (self.dir / "run" / "metrics.jsonl").read_text():
            self.assertIsNone(process.poll(), (self.dir / "stops.err").read_text())
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        return process

    def test_a_request_is_everybodys(self):
        """By mpirun's forwarding of SIGTERM, by SIGTERM to one rank alone, by the trigger file."""
        for way in ("mpirun", "one rank", "file"):
            shutil.rmtree(self.dir / "run", ignore_errors=True)
            process = self.start(3)
            if way == "mpirun":
                process.send_signal(signal.SIGTERM)
            elif way == "one rank":
                children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, check=True).stdout.split()
                os.kill(int(children[-1]), signal.SIGTERM)
            else:
                (self.dir / "run" / "stop").touch()
            process.wait(harness.TIMEOUT)
            log = (self.dir / "run" / "train.log").read_text()
            self.assertIn("; the same command goes on from there", log, way)
            last = int(self.checkpoints()[-1][5:])
            self.assertEqual(json.loads((self.dir / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"], last)
            self.assertEqual(process.returncode, 1 if way == "mpirun" else 3, way)  # its own; the ranks have a second


class Failures(RanksTest):
    """A rank that dies or hangs: the others end, say which and where, and the run goes on from its checkpoint."""

    def assert_ends(self, fault, words, seconds, *overrides):
        run = re.sub(r"\W", "-", fault)
        result = self.mpirun(3, "ranks.yaml", f"run.dir={run}", "checkpoint.every=3", *overrides, fault=fault, timeout=seconds + 60)
        self.assertNotEqual(result.status, 0, result)
        self.assertRegex(result.err, words, result)
        self.assertLess(self.seconds, seconds, result)
        self.run_on(2, run)
        self.assert_same_run("alone", run)

    def test_a_rank_that_is_killed(self):
        self.run_on(1, "alone")
        faults = [(1, "forward", 5), (2, "all-reduce", 5), (0, "saving", 6), (1, "validation", STEPS // 2)]
        if FULL:
            faults += [(0, "forward", 4), (0, "all-reduce", 7), (2, "saving", 3), (0, "validation", STEPS // 2), (2, "backward", 9)]
        for rank, phase, step in faults:
            # Steps take milliseconds here: what it was last heard of may be an earlier phase.
            self.assert_ends(f"kill@{rank}:{phase}:{step}", rf"rank {rank} \(\S+:\d+\) died", 30)

    def test_a_rank_that_hangs(self):
        self.run_on(1, "alone")
        seconds = 10 if FULL else 3
        faults = [("hang", 1, "forward", 5)]
        if FULL:
            faults += [("hang", 0, "forward", 5), ("stop", 2, "all-reduce", 4), ("hang", 0, "saving", 6), ("hang", 2, "validation", STEPS // 2)]
        for action, rank, phase, step in faults:
            self.assert_ends(f"{action}@{rank}:{phase}:{step}", rf"rank {rank} .*{phase}", seconds + 30, f"train.watchdog_seconds={seconds}")
