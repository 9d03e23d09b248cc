#!/usr/bin/env python3
"""Tests the matched run on the CPU: same weights, tokens, schedule and losses on both sides, in fp32 on a tiny model.

    PROGRAMS=build/release/bin OFFICIAL=FOLDER scripts/matched_run/test_matched_run.py      (Python with torch, triton, safetensors, pyyaml)

The official expert product is a Triton kernel, which needs a GPU: here a plain PyTorch one stands in for it, and nowhere else.
"""

import contextlib
import io
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import numpy
import torch
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True
import official_training  # noqa: E402

PROGRAMS = pathlib.Path(os.environ.get("PROGRAMS", ROOT / "build/release/bin")).resolve()
OFFICIAL = pathlib.Path(os.environ.get("OFFICIAL", ROOT / ".bundle/data/official")).resolve()

TINY = """
model: {d_model: 32, n_layers: 4, n_heads: 2, ff_n_experts: 6, ff_expert_size: 16, ff_k: 3, att_n_experts: 3, d_head: 16}
data: {train: overridden}
train: {steps: 12, batch_size: 3, seq_len: 24}
optimizer: {lr: 3.0e-3, weight_decay: 0.1, grad_clip: 0.25}
schedule: {warmup_steps: 4, min_lr_multiplier: 0.2}
checkpoint: {every: 0}
eval: {every: 0}
log: {every: 1}
"""


def plain_cvmm(x, selection, keys):
    """Row i of the product: x[sel_index[i]] · keys[sel[i]], stored at out_index[i] (or sel_index[i]); then the weighted sum of each group."""
    rows = x.flatten(end_dim=-2)[selection.sel_index]
    counts = selection.sel.flatten().bincount(minlength=len(keys)).tolist()  # sel is sorted
    products = torch.cat([part @ key for part, key in zip(rows.split(counts), keys.unbind())])
    target = selection.sel_index if selection.out_index is None else selection.out_index
    out = torch.empty_like(products).index_copy(0, target, products)
    weight = selection.reduction_weight
    if weight is None:
        return out.view(*selection.sel.shape, -1)
    return (weight.unsqueeze(-2) @ out.view(*weight.shape, -1)).squeeze(-2)


def prose(sentences):
    words = "the of and a model expert token layer learns text from words that people read slowly in quiet towns".split()
    rng = random.Random(1)
    return "".join(" ".join(rng.choice(words) for _ in range(rng.randint(5, 14))) + ".\n" for _ in range(sentences))


class MatchedRun(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="moeut-matched.")
        cls.addClassCleanup(scratch.cleanup)
        cls.folder = folder = pathlib.Path(scratch.name)
        (folder / "text.txt").write_text(prose(400))
        (folder / "tiny.yaml").write_text(TINY)
        cls.command("moeut-data", "train-tokenizer", "--vocab-size", "90", "--output", folder / "t.model", folder / "text.txt")
        cls.command("moeut-data", "tokenize", "--tokenizer", folder / "t.model", "--documents", "line", "--separator", "eos",
                    "--output", folder / "data/train", folder / "text.txt")
        moeut, _ = official_training.import_official(OFFICIAL)
        patch = mock.patch.object(sys.modules["moeut.moeut"], "cvmm", plain_cvmm)
        patch.start()
        cls.addClassCleanup(patch.stop)
        cls.moeut = moeut
        cls.runs("prepare", "ours")
        cls.config = yaml.safe_load((folder / "runs/initial.yaml").read_text())
        cls.official("same-weights")
        cls.official("own-weights")

    @staticmethod
    def command(program, *arguments):
        subprocess.run([PROGRAMS / program, *arguments], check=True, capture_output=True)

    @classmethod
    def runs(cls, *parts, check=True, runs="runs", overrides="seed=7"):
        environment = {**os.environ, "PROGRAMS": str(PROGRAMS), "CONFIG": str(cls.folder / "tiny.yaml"), "DATA": str(cls.folder / "data"),
                       "RUNS": str(cls.folder / runs), "PYTHON": sys.executable, "DEVICE": "cpu", "OVERRIDES": overrides}
        done = subprocess.run([HERE / "run.sh", *parts], env=environment, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise AssertionError(f"run.sh {parts}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    @classmethod
    def official(cls, name, runs="runs"):
        runs = cls.folder / runs
        line = ["official_training.py", "--official", str(OFFICIAL), "--config", str(runs / "initial.yaml"), "--device", "cpu",
                "--samples", str(runs / "samples.npy"), "--output", str(runs / f"official-{name}.jsonl")]
        if name == "same-weights":
            line += ["--weights", str(runs / "ours/checkpoints/step-00000000/model.safetensors")]
        with mock.patch.object(sys, "argv", line), contextlib.redirect_stdout(io.StringIO()):
            official_training.main()

    def rows(self, name, runs="runs"):
        rows = [json.loads(line) for line in (self.folder / runs / name).read_text().splitlines()]
        self.assertEqual([row["step"] for row in rows], list(range(1, 13)))
        return rows

    def test_the_same_weights_give_the_same_run(self):
        # fp32 rounding, about 1e-7 a step, grows over 12 steps; a wrong token, schedule, clip or decay shows at 1e-3 and more.
        for ours, official in zip(self.rows("ours/metrics.jsonl"), self.rows("official-same-weights.jsonl")):
            for key, tolerance in (("loss", 1e-5), ("reg_loss", 1e-5), ("grad_norm", 1e-4), ("lr", 1e-12)):
                self.assertLess(abs(ours[key] - official[key]), tolerance * abs(official[key]), f"{key}: {ours} and {official}")

    def test_bf16(self):
        self.runs("prepare", "ours", runs="bf16", overrides="seed=7 train.precision=bf16")
        self.official("same-weights", runs="bf16")
        pairs = zip(self.rows("ours/metrics.jsonl", "bf16"), self.rows("official-same-weights.jsonl", "bf16"))
        ratios = [ours["loss"] / official["loss"] for ours, official in pairs]
        # A rounding of bf16 is 4e-3; a mean over 72 tokens and 12 steps keeps less of it. A wrong order of tokens would give 5e-2.
        self.assertLess(abs(sum(ratios) / len(ratios) - 1), 4e-3, ratios)
        self.assertNotEqual(self.rows("ours/metrics.jsonl", "bf16")[0]["loss"], self.rows("ours/metrics.jsonl")[0]["loss"])

    def test_schedule(self):
        rates = [official_training.learning_rate(self.config, step) for step in range(12)]
        # Warm-up to the peak; half of the way from peak to floor (a fifth) in the middle of the cosine.
        for step, rate in ((0, 0.75e-3), (1, 1.5e-3), (2, 2.25e-3), (3, 3e-3), (4, 3e-3), (8, 1.8e-3)):
            self.assertAlmostEqual(rates[step], rate, delta=1e-15)
        for row, rate in zip(self.rows("ours/metrics.jsonl"), rates):
            self.assertAlmostEqual(row["lr"], rate, delta=1e-15)

    def test_own_initialisation_has_the_same_distribution(self):
        from safetensors.torch import load_file

        ours = load_file(self.folder / "runs/ours/checkpoints/step-00000000/model.safetensors")
        torch.manual_seed(0)
        official = official_training.make_model(self.moeut, self.config["model"], "cpu").state_dict()
        self.assertEqual(set(ours), set(official))
        for name, tensor in official.items():
            self.assertEqual(ours[name].shape, tensor.shape, name)
            if tensor.dim() == 1:
                self.assertAlmostEqual(ours[name].mean().item(), tensor.mean().item(), delta=0.1, msg=name)
                continue
            # The estimate of a standard deviation from n numbers is off by 1/sqrt(2n); two of them, five sigma.
            ratio = ours[name].std() / tensor.std()
            self.assertLess(abs(ratio.item() - 1), 5 / tensor.numel() ** 0.5, name)
        self.assertNotEqual(self.rows("official-own-weights.jsonl")[0]["loss"], self.rows("official-same-weights.jsonl")[0]["loss"])

    def test_the_samples_are_the_documented_order(self):
        # An independent reading of docs/data.md: the ids that inspect prints, cut into windows, permuted as data/permutation.h says.
        text = subprocess.run([PROGRAMS / "moeut-data", "inspect", "--ids", self.folder / "data/train"], check=True, capture_output=True).stdout
        stream = numpy.array(text.split(), dtype=numpy.int64)
        samples = numpy.load(self.folder / "runs/samples.npy")
        windows = (len(stream) - 1) // 24
        self.assertEqual(samples.shape, (36, 25))
        for s, row in enumerate(samples):
            w = permuted(s % windows, windows, seed=7, stream=s // windows)
            self.assertEqual(list(row), list(stream[w * 24 : w * 24 + 25]))

    def test_compare(self):
        same = self.runs("compare", check=False)
        self.assertIn("same-weights", same.stdout)
        self.assertIn("ratio", same.stdout, same.stderr)
        runs = self.folder / "runs"
        rows = self.rows("ours/metrics.jsonl")
        for name, factor, status in (("worse", 1.006, 1), ("near", 1.004, 0)):
            (runs / f"{name}.jsonl").write_text("".join(json.dumps({**row, "loss": row["loss"] * factor}) + "\n" for row in rows))
            pair = f"it={runs / 'ours/metrics.jsonl'}"
            done = subprocess.run([sys.executable, HERE / "compare.py", runs / f"{name}.jsonl", pair], capture_output=True, text=True)
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        (runs / "other.jsonl").write_text("".join(json.dumps({**row, "lr": row["lr"] * 1.001}) + "\n" for row in rows))
        done = subprocess.run([sys.executable, HERE / "compare.py", runs / "other.jsonl", pair], capture_output=True, text=True)
        self.assertIn("differs in step or learning rate", done.stderr)

    def test_the_126m_configuration_is_the_official_profile(self):
        import profiles

        printed = subprocess.run([PROGRAMS / "moeut-train", HERE / "126M.yaml", "--print-config"], check=True, capture_output=True).stdout
        config = yaml.safe_load(printed)
        official_training.check_training(config)
        official_training.check_profile(profiles, config["model"])
        official_training.check_model(config["model"])
        config["model"]["ff_k"] += 1
        with self.assertRaisesRegex(SystemExit, "ff_k"):
            official_training.check_profile(profiles, config["model"])


def permuted(i, n, seed, stream):
    mask64 = (1 << 64) - 1

    def mix(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask64
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    half = next(h for h in range(1, 32) if 4**h >= n)
    state = mix((seed + golden) & mask64) ^ mix((stream + 0xD1B54A32D192ED03) & mask64)
    keys = [mix((state + golden * r) & mask64) for r in range(1, 9)]
    while True:
        left, right = i >> half, i & ((1 << half) - 1)
        for key in keys:
            left, right = right, left ^ (mix((right + key) & mask64) & ((1 << half) - 1))
        i = left << half | right
        if i < n:
            return i


if __name__ == "__main__":
    unittest.main()
