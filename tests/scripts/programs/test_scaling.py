"""moeut-bench --ranks: predictions from times that are given, and steps that several processes really do."""

import json
import shutil
import subprocess
import unittest

import harness

GIVEN = ["--device", "cuda", "--batch", 8, "--seq", 1024, "--compute-ms", "60,120,3"]


class Scaling(harness.ProgramTest):
    def bench(self, *arguments):
        return harness.run("moeut-bench", *arguments, cwd=self.dir)

    def predicted(self, *arguments):
        with self.unchanged():
            return json.loads(self.assert_ok(self.bench(*GIVEN, "--json", *arguments)).out)

    def test_given_times(self):
        """No GPU is needed for what GPUs would do."""
        rows = self.predicted("--profile", "244M", "--ranks", "1,8,4096")["weak"]
        self.assertEqual([row["ranks"] for row in rows], [1, 8, 4096])
        self.assertEqual(rows[0]["efficiency"], 1)
        self.assertEqual(rows[0]["step_ms"], 183)
        self.assertAlmostEqual(rows[0]["tokens_per_s"], 8 * 1024 / 0.183, places=3)
        self.assertGreater(rows[1]["efficiency"], rows[2]["efficiency"])
        self.assertEqual(rows[2]["sequences"], 8 * 4096)

    def test_what_helps(self):
        rows = {name: self.predicted("--profile", "1B", "--ranks", 64, *more)["weak"][0]
                for name, more in {"plain": [], "faster": ["--host-link-gb-s", 100], "bf16": ["--reduce-precision", "bf16"],
                                   "zero": ["--shard-optimizer", "true"]}.items()}
        self.assertLess(rows["faster"]["exchange_ms"], rows["plain"]["exchange_ms"])
        self.assertLess(rows["bf16"]["exchange_ms"], rows["plain"]["exchange_ms"])
        self.assertAlmostEqual(rows["zero"]["optimizer_ms"], 3 / 64)

    def test_strong(self):
        """The same batch in fewer micro-batches a rank, and no more ranks than micro-batches."""
        rows = self.predicted("--profile", "44M", "--ranks", "1,8,64,128", "--micro-batch", 1, "--global-batch", 64)["strong"]
        self.assertEqual([row["ranks"] for row in rows], [1, 8, 64])
        self.assertEqual([round(row["compute_ms"]) for row in rows], [64 * 180, 8 * 180, 180])

    def test_each_profile(self):
        out = self.assert_ok(self.bench(*GIVEN, "--profile", "all", "--ranks", 8)).out
        self.assertEqual([line.split()[2] for line in out.splitlines() if line.startswith("model")],
                         ["44M,", "126M,", "244M,", "318M,", "727M,", "1B,"])

    def test_measured(self):
        self.make_config()
        with self.unchanged():
            result = json.loads(self.assert_ok(self.bench("--config", "tiny.yaml", "--device", "cpu", "--steps", 2, "--ranks", "2", "--json")).out)
        self.assertGreater(result["backward_ms"], 0)
        self.assertGreater(result["alone_tokens_per_s"], 0)
        self.assertNotIn("measured", result["weak"][0])

    @unittest.skipUnless(shutil.which("mpirun"), "there is no mpirun")
    def test_under_mpirun(self):
        self.make_config()
        for more, kinds in ((), ["weak"]), (("--global-batch", 4, "--micro-batch", 1), ["weak", "strong"]), (("--shard-optimizer", "true"), ["weak"]):
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", str(harness.BIN / "moeut-bench"), "--config", "tiny.yaml",
                       "--device", "cpu", "--threads", "1", "--steps", "2", "--json", *map(str, more)]
            environment = harness.mpi_environment()
            done = subprocess.run(command, cwd=self.dir, env=environment, capture_output=True, timeout=harness.TIMEOUT, check=False)
            self.assertEqual(done.returncode, 0, done.stderr.decode())
            result = json.loads(done.stdout)  # one object, rank 0's
            self.assertEqual(result["within_host"]["source"], "measured")
            self.assertGreater(result["alone_tokens_per_s"], 0)
            for kind in kinds:
                measured = result[kind][-1]["measured"]
                self.assertEqual(result[kind][-1]["ranks"], 2)
                self.assertGreater(measured["exchange_ms"], 0)
                self.assertGreater(measured["tokens_per_s"], 0)

    def test_command_line(self):
        for arguments, *words in ((["--ranks", "0"], "--ranks"), (["--ranks", "2", "--kernel", "all"], "--kernel"),
                                  (["--ranks", "2", "--dry-run"], "--dry-run"), (["--ranks", "2", "--compute-ms", "1,2"], "--compute-ms"),
                                  (["--compute-ms", "1,2,3"], "--ranks"), (["--ranks", "2", "--link-gb-s", "0"], "--link-gb-s")):
            with self.unchanged():
                self.assert_refused(self.bench("--profile", "44M", *arguments), 2, *words)
