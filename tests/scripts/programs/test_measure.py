"""moeut-parity and moeut-bench: what they print, and what they say about bad input."""

import json
import pathlib
import shutil

import harness

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden"


class Parity(harness.ProgramTest):
    def parity(self, *arguments):
        return harness.run("moeut-parity", *arguments, cwd=self.dir)

    def refused(self, status, arguments, *words):
        with self.unchanged():
            self.assert_refused(self.parity(*arguments), status, *words)

    def test_a_line_a_file(self):
        for name in ("lm_basic.h5", "body_no_mask.h5"):
            shutil.copy(GOLDEN / name, self.dir)
        with self.unchanged():
            out = self.assert_ok(self.parity("lm_basic.h5", "./body_no_mask.h5", "--precision", "fp64")).out.splitlines()
        self.assertTrue(out[-2].startswith("lm_basic.h5"), out)
        self.assertTrue(out[-1].startswith("./body_no_mask.h5"), out)
        for line in out[-2:]:
            self.assertIn("PASS", line)

    def test_command_line(self):
        self.refused(2, [], "FILE is required", "--help")
        self.refused(2, ["a.h5", "--precision", "fp99"], "--precision", "fp99")
        self.refused(2, ["a.h5", "--device", "gpu"], "device", "'gpu'")
        self.refused(2, ["a.h5", "--routng", "own"], "--routng", "--help")
        self.assertIn("--routing", self.assert_ok(self.parity("--help")).out)

    def test_files(self):
        whole = (GOLDEN / "lm_basic.h5").read_bytes()
        self.refused(1, ["nowhere.h5"], "'nowhere.h5'", "check the path")
        self.write("empty.h5", "")
        self.refused(1, ["empty.h5"], "'empty.h5'")
        self.write("text.h5", "no HDF5\n")
        self.refused(1, ["text.h5"], "'text.h5'")
        self.write("cut.h5", whole[: len(whole) // 2])
        self.refused(1, ["cut.h5"], "'cut.h5'")
        self.refused(1, [harness.data() / "shards/train/shard-00000.h5"], "shard-00000.h5'")

    def test_a_bad_file_does_not_hide_the_others(self):
        shutil.copy(GOLDEN / "lm_basic.h5", self.dir)
        result = self.parity("nowhere.h5", "lm_basic.h5", "--precision", "fp64")
        self.assert_refused(result, 1, "'nowhere.h5'")
        self.assertTrue(result.out.splitlines()[-1].startswith("lm_basic.h5"), result)


class Bench(harness.ProgramTest):
    def bench(self, *arguments):
        return harness.run("moeut-bench", *arguments, cwd=self.dir)

    def refused(self, arguments, *words, status=2):
        with self.unchanged():
            self.assert_refused(self.bench(*arguments), status, *words)

    def test_json(self):
        self.make_config()
        with self.unchanged():
            predicted = json.loads(self.assert_ok(self.bench("--profile", "44M", "--batch", 1, "--seq", 64, "--dry-run", "--json")).out)
        self.assertIn("memory", str(predicted))
        with self.unchanged():
            again = json.loads(self.assert_ok(self.bench("--profile", "44M", "--batch", 1, "--seq", 64, "--recompute", "--dry-run", "--json")).out)
        self.assertFalse(predicted["recompute"])
        self.assertTrue(again["recompute"])
        self.assertLess(again["memory"]["predicted_peak_bytes"], predicted["memory"]["predicted_peak_bytes"])
        with self.unchanged():
            measured = json.loads(self.assert_ok(self.bench("--config", "tiny.yaml", "--steps", 2, "--json")).out)
        self.assertIn("tokens_per_s", str(measured))

    def test_kernels(self):
        self.make_config()
        few = ["--config", "tiny.yaml", "--seq", 16, "--steps", 1, "--warmup", 0]
        with self.unchanged():
            measured = json.loads(self.assert_ok(self.bench("--kernel", "all", *few, "--json")).out)
        kernels = {kernel["name"]: kernel for kernel in measured["kernels"]}
        self.assertLessEqual({"expert-layer", "cvmm-up", "attention-backward", "cross-entropy", "adamw", "gemm", "copy"}, kernels.keys())
        for kernel in kernels.values():
            self.assertGreater(kernel["ms"]["median"], 0, kernel)
            self.assertGreater(kernel["bytes"], 0, kernel)
            self.assertGreater(kernel["roofline_share"], 0, kernel)
        text = self.assert_ok(self.bench("--kernel", "router", "--kernel", "combine", *few)).out
        self.assertEqual([line.split()[0] for line in text.splitlines()[-2:]], ["router", "combine"], text)

    def test_loader(self):
        with self.unchanged():
            measured = json.loads(self.assert_ok(self.bench("--loader", "--steps", 2, "--json")).out)
        self.assertEqual((measured["batch_size"], measured["seq_len"]), (64, 1024))
        self.assertGreater(measured["tokens_per_s"], 0)
        self.refused(["--loader", "--kernel", "all"], "--loader")

    def test_command_line(self):
        self.refused(["--kernel", "cvm", "--profile", "44M"], "'cvm'", "cvmm-up")
        self.refused(["--kernel", "all", "--dry-run"], "--dry-run")
        self.refused([], "--profile", "--config")
        self.refused(["--profile", "45M"], "45M", "44M")
        self.refused(["--profile", "44M", "--batch", "0"], "0")
        self.refused(["--profile", "44M", "--sequence", "5"], "--sequence", "--help")
        self.refused(["--profile", "44M", "--device", "cpu", "--cuda-graph", "on"], "train.cuda_graph: on", "on cpu")
        self.refused(["--config", "nowhere.yaml"], "'nowhere.yaml'", "check the path")
        self.write("tiny.yaml", harness.tiny_config("nowhere"))
        self.refused(["--config", "tiny.yaml"], "'nowhere/train'", status=1)
