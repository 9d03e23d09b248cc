"""What the tests of the programs share: a scratch folder, data made once, a way to run a program and to judge what it said."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

BIN = None  # the folder of the programs, set by programs_test
TIMEOUT = 120  # seconds; a sanitizer build on a busy machine takes a few
_scratch = None

# A shell's background job and nohup start programs with signals ignored, and moeut-train keeps to that: the tests start it with the
# system's handling, whoever started them. (Python's own handler does not outlive exec.)
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

# Signs of a program that fell over instead of saying what is wrong.
_CRASHES = ("terminate called", "Traceback", "Sanitizer", "runtime error:", "core dumped", "LOG ERROR", "Assertion")


def scratch():
    global _scratch
    _scratch = _scratch or pathlib.Path(tempfile.mkdtemp(prefix="moeut-programs."))
    return _scratch


def remove_scratch():
    if _scratch:
        shutil.rmtree(_scratch, ignore_errors=True)


def prose(sentences, seed=1):
    """Sentences of a small language, the same in every run; a blank line after each."""
    words = ("the of and a model expert token layer learns text from words that are read slowly by people who like long walks in "
             "quiet towns near rivers where old mills stand").split()
    rng = random.Random(seed)
    lines = (" ".join(rng.choice(words) for _ in range(rng.randint(5, 14))).capitalize() for _ in range(sentences))
    return "".join(f"{line}.\n\n" for line in lines)


@dataclasses.dataclass
class Result:
    command: str
    status: int
    out: str
    err: str

    def __str__(self):
        return f"$ {self.command}\nexit status {self.status}\n--- stdout\n{self.out}--- stderr\n{self.err}---"


def environment():
    return {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "2"}


def mpi_environment():
    """For mpirun. Open MPI leaves memory of its start-up behind, some of it from modules that are gone when LeakSanitizer looks for their
    names, so that no list of names covers it; leaks of our own are found in the tests of one process."""
    leaks = ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), "detect_leaks=0")))
    return {**environment(), "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "ASAN_OPTIONS": leaks}


def run(program, *arguments, cwd, timeout=TIMEOUT, stdin=None):
    """`stdin`: bytes for the program's standard input."""
    command = [str(BIN / program), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, timeout=timeout, check=False, input=stdin)
    return Result(" ".join([program, *map(str, arguments)]), done.returncode, done.stdout.decode(), done.stderr.decode())


def must(result):
    if result.status != 0:
        raise AssertionError(f"must succeed:\n{result}")
    return result


@functools.cache
def data():
    """A folder with text.txt, tokenizer.model and shards/{train,validation}; nobody writes to it."""
    folder = scratch() / "data"
    folder.mkdir()
    (folder / "text.txt").write_text(prose(1500))
    must(run("moeut-data", "train-tokenizer", "--vocab-size", 100, "--output", "tokenizer.model", "text.txt", cwd=folder))
    must(run("moeut-data", "tokenize", "--tokenizer", "tokenizer.model", "--documents", "block", "--separator", "eos",
             "--validation-ratio", 0.1, "--output", "shards", "text.txt", cwd=folder))
    return folder


def tiny_config(shards="shards", tokenizer="tokenizer.model"):
    """A model with every kind of layer that takes milliseconds a step."""
    return f"""
run: {{dir: run}}
data: {{train: {shards}/train, validation: {shards}/validation, tokenizer: {tokenizer}}}
model: {{d_model: 16, n_layers: 4, n_heads: 2, ff_n_experts: 4, ff_expert_size: 8, ff_k: 2, att_n_experts: 3, att_k: 2, dropout: 0.1}}
train: {{steps: 6, batch_size: 3, micro_batch_size: 2, seq_len: 16}}
optimizer: {{lr: 0.01}}
schedule: {{warmup_steps: 2}}
checkpoint: {{every: 2}}
eval: {{every: 3, sequences: 8}}
sample: {{every: 6, length: 10}}
log: {{every: 1}}
"""


def snapshot(folder):
    """path -> kind, mode, hash and time of change of everything below; folders without their time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        if path.is_symlink():
            found[str(path)] = ("link", os.readlink(path))
        elif path.is_dir():
            found[str(path)] = ("folder", oct(stat.st_mode))
        else:
            found[str(path)] = (hashlib.sha256(path.read_bytes()).hexdigest(), oct(stat.st_mode), stat.st_mtime_ns)
    return found


class Running:
    """A program that is under way; it is killed if the test forgets it."""

    def __init__(self, test, *arguments, ignored=(), program="moeut-train"):
        """`ignored`: signals that it is started with ignored, as nohup does."""
        self.log = test.dir / f"{len(list(test.dir.glob('*.err')))}.err"
        self.command = [program, *map(str, arguments)]
        with open(self.log, "wb") as err:
            self.process = subprocess.Popen([str(BIN / program), *self.command[1:]], cwd=test.dir, env=environment(), stdout=err,
                                            stderr=err, preexec_fn=lambda: [signal.signal(number, signal.SIG_IGN) for number in ignored])
        test.addCleanup(self._end)

    def _end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def text(self):
        return self.log.read_text()

    def wait_for(self, words):
        """Until it has said `words`."""
        end = time.monotonic() + TIMEOUT
        while words not in self.text():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"it never said {words!r}:\n{self.result()}")
            time.sleep(0.005)
        return self

    def send(self, signal):
        self.process.send_signal(signal)
        return self

    def result(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(TIMEOUT)
        return Result(" ".join(self.command), self.process.poll(), "", self.text())


def small_disk(test, megabytes=4):
    """A folder test.dir/disk that holds so much; the test is skipped where mounting is not allowed."""
    disk = test.dir / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode != 0:
        test.skipTest("no small disk: mounting is not allowed here")
    test.addCleanup(subprocess.run, ["umount", str(disk)], check=True)
    return disk


def leave_free(disk, count):
    """Fills it with a file until so many bytes are free."""
    (disk / "ballast").unlink(missing_ok=True)
    free = shutil.disk_usage(disk).free
    (disk / "ballast").write_bytes(bytes(max(0, free - count)))


class ProgramTest(unittest.TestCase):
    """Each test has a folder of its own, self.dir, where the programs run."""

    def setUp(self):
        self.dir = scratch() / self.id().split(".", 1)[1]
        self.dir.mkdir()

    def tearDown(self):
        cores = [path.name for path in self.dir.rglob("core*") if path.is_file()]
        self.assertEqual(cores, [], "core files")

    # ------------------------------------------------------------ running

    def data(self, *arguments, stdin=None):
        return run("moeut-data", *arguments, cwd=self.dir, stdin=stdin)

    def train(self, *arguments):
        return run("moeut-train", *arguments, cwd=self.dir)

    def copy_data(self):
        for name in ("tokenizer.model", "shards"):
            source = data() / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.dir / name)

    def write(self, name, content):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def make_config(self, text=None):
        """tiny.yaml on the shared data."""
        return self.write("tiny.yaml", text or tiny_config(data() / "shards", data() / "tokenizer.model"))

    # ------------------------------------------------------------ judging

    @contextlib.contextmanager
    def unchanged(self):
        before = snapshot(self.dir), snapshot(data())
        yield
        self.assertEqual(before, (snapshot(self.dir), snapshot(data())))

    def complaints(self, result):
        """The lines that say what is wrong, as opposed to what is going on."""
        start = ("error: ", "moeut-train: ", "moeut-data: ", "moeut-parity: ", "moeut-bench: ")
        return [line for line in result.err.splitlines() if line.startswith(start)]

    def assert_no_crash(self, result):
        for sign in _CRASHES:
            self.assertNotIn(sign, result.out + result.err, result)

    def assert_ok(self, result):
        self.assert_no_crash(result)
        self.assertEqual(result.status, 0, result)
        self.assertEqual(self.complaints(result), [], result)
        return result

    def assert_refused(self, result, status, *words):
        """It ended with `status` and one line, in which are all `words` (names of files, the cure)."""
        self.assert_no_crash(result)
        self.assertEqual(result.status, status, result)
        self.assertEqual(len(self.complaints(result)), 1, result)
        complaint = self.complaints(result)[0]
        for word in words:
            self.assertIn(str(word), complaint, result)
        after = result.err[result.err.index(complaint) + len(complaint):].strip()
        self.assertEqual(after, "", f"more than one line:\n{result}")

    def assert_stopped(self, result, step, run_dir="run"):
        """Exit status 3 and a checkpoint of that step."""
        self.assert_no_crash(result)
        self.assertEqual(result.status, 3, result)
        self.assertEqual(self.checkpoints(run_dir)[-1], f"step-{step:08}", result)

    def checkpoints(self, run_dir="run"):
        return sorted(path.name for path in (self.dir / run_dir / "checkpoints").glob("step-*") if path.name[5:].isdigit())
