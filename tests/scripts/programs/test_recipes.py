"""The recipes of configs/data and the runs of configs/paper, from files in the published layouts to a training step."""

import gzip
import json
import pathlib
import subprocess

import harness

ROOT = pathlib.Path(__file__).resolve().parents[3]
SMALL_RUN = """
  model.profile=none model.d_model=16 model.n_layers=4 model.n_heads=2 model.ff_n_experts=4 model.ff_expert_size=8 model.ff_k=2
  model.att_n_experts=3 train.steps=2 train.batch_size=64 train.seq_len=16 train.precision=fp32 schedule.warmup_steps=1 device=cpu
  checkpoint.every=2 eval.every=2 eval.batch_size=16 log.every=1
""".split()
# recipe: (training file, validation file, text's field, a record's other fields)
LAYOUTS = {
    "c4": ("c4-train.0000{}-of-01024.json.gz", "c4-validation.0000{}-of-00008.json.gz", "text",
           {"timestamp": "2019-04-25T12:57:54Z", "url": "https://a.b/c"}),
    "slimpajama": ("train/chunk1/example_train_{}.jsonl.zst", "validation/chunk1/example_holdout_{}.jsonl.zst", "text",
                   {"meta": {"redpajama_set_name": "RedPajamaC4"}}),
    "pes2o": ("train-0000{}-of-00020.json.gz", "validation-0000{}-of-00002.json.gz", "text",
              {"added": "2023-01-01", "created": "2001-01-01", "id": "7", "source": "s2orc/train", "version": "v2"}),
    "the-stack": ("train/python-train-0000{}-of-00206.jsonl.zst", "validation/python-train-0000{}-of-00206.jsonl.zst", "content", {}),
}


class Recipes(harness.ProgramTest):
    def write_file(self, name, field, others, documents):
        content = "".join(json.dumps({**others, field: document}) + "\n" for document in documents).encode()
        if name.endswith(".gz"):
            return self.write(name, gzip.compress(content))
        plain = self.write(name.removesuffix(".zst"), content)
        subprocess.run(["zstd", "-q", "--rm", plain, "-o", self.dir / name], check=True)

    def make_corpus(self, name):
        train, validation, field, others = LAYOUTS[name]
        for i in range(2):
            documents = harness.prose(500, seed=i).split("\n\n")[:-1]
            self.write_file(f"data/{train.format(i)}", field, others, documents[40:])
            self.write_file(f"data/{validation.format(i)}", field, others, documents[:40])

    def commands(self, name):
        """The moeut-data commands at the top of the recipe, as a shell reads them."""
        recipe = ROOT / f"configs/data/{name}.toml"
        lines = [line.removeprefix("#").strip() for line in recipe.read_text().split("\n[")[0].splitlines()]
        text = "\n".join(lines).replace("\\\n", " ")
        commands = [line for line in text.splitlines() if line.startswith(("out=", "moeut-data "))]
        self.assertEqual([command.split(" ")[0] for command in commands[1:]], ["moeut-data"] * 3, recipe)
        return [commands[0].replace("configs/data", str(recipe.parent)), *commands[1:]]

    def make_data(self, name):
        setup, train_tokenizer, *tokenize = self.commands(name)
        script = "\n".join(["set -e", 'data=$PWD/data', f'PATH="{harness.BIN}:$PATH"', setup, train_tokenizer + " --vocab-size 60", *tokenize])
        done = subprocess.run(["bash", "-c", script], cwd=self.dir, capture_output=True, text=True, timeout=harness.TIMEOUT, check=False)
        self.assertEqual(done.returncode, 0, f"{script}\n{done.stdout}{done.stderr}")
        return [json.loads((self.dir / f"runs/{name}/{part}/manifest.json").read_text()) for part in ("train", "validation")]

    def run_recipe(self, name):
        self.make_corpus(name)
        train, validation = self.make_data(name)
        self.assertEqual((train["documents"], validation["documents"]), (920, 80))
        self.assertEqual(train["separator_text"], "" if name == "the-stack" else "<STORY_SEP>")
        self.assertEqual(validation["separator_kind"], "none")
        self.assert_ok(self.data("verify", f"runs/{name}"))
        trained = self.train(ROOT / f"configs/paper/{name}-244M.yaml", *SMALL_RUN)
        self.assert_no_crash(trained)
        self.assertEqual(trained.status, 0, trained)
        rows = [json.loads(line) for line in (self.dir / f"runs/{name}-244M/metrics.jsonl").read_text().splitlines()]
        self.assertEqual([row["step"] for row in rows], [0, 1, 2, 2])

    def test_c4(self):
        self.run_recipe("c4")

    def test_slimpajama(self):
        self.run_recipe("slimpajama")

    def test_pes2o(self):
        self.run_recipe("pes2o")

    def test_the_stack(self):
        self.run_recipe("the-stack")

    def test_the_command_line_wins_and_reading_ends_at_max_tokens(self):
        self.make_corpus("c4")
        tokenize = ["--config", ROOT / "configs/data/c4.toml", "tokenize", "--tokenizer", harness.data() / "tokenizer.model"]
        for limit in (1, 777, 1000):
            self.assert_ok(self.data(*tokenize, "--output", f"out-{limit}", "--max-tokens", limit, "--separator", "eos", "data/c4-train.*"))
            ids = self.assert_ok(self.data("inspect", "--ids", f"out-{limit}")).out.split()
            self.assertEqual(len(ids), limit)
        longer = self.assert_ok(self.data("inspect", "--ids", "out-1000")).out.split()
        self.assertEqual(longer[:777], self.assert_ok(self.data("inspect", "--ids", "out-777")).out.split())
        self.assertIn("2", longer, "--separator eos ends documents")


class Refused(harness.ProgramTest):
    def refused(self, content, *words):
        config = self.write("recipe.toml", content)
        with self.unchanged():
            self.assert_refused(self.data("--config", config, "tokenize", "--tokenizer", "a.model", "--output", "b", "c.txt"), 2, *words)

    def test_wrong_recipes(self):
        self.refused('[tokenize]\nseparatr = "eos"\n', "recipe.toml", "tokenize.separatr")
        self.refused('[tokenise]\nseparator = "eos"\n', "recipe.toml", "tokenise")
        self.refused('separator = "eos"\n', "recipe.toml", "separator")
        self.refused("[tokenize]\nmax-document-bytes = 3\n", "--max-document-bytes", "3", "64")
        self.refused('[train-tokenizer]\nsetting = "magic"\n', "--setting", "magic")
        self.refused("not TOML\n", "recipe.toml", "not TOML")
        self.assert_refused(self.data("--config", "none.toml", "inspect", "a"), 2, "none.toml", "cannot be read")
