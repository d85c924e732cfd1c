"""What a study takes, as ratios measured side by side:

python -m benchmarks.study

Eight runs of adam on MNIST that differ in their seeds, four ways, one after another (the last wants JAX):

(a) one `mlflow run . --env-manager local` after another;
(b) their bare training, `training.train` alone, in one warm process with TensorFlow's own choice of threads;
(c) ours: `mlflow run . -e study --env-manager local`, from the command to its end;
(d) as many epochs of `benchmarks.training`'s hand-written JAX scan, in a process of one thread for each processor:
    imports and compilation included, but no tracking, no quality, no pictures and no models.

Then the same training by two processes of one thread each beside one of two threads, which is why `executors.Workers`
have one thread each; and what a study asks a store of 10,000 runs before it begins.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks import machine
from benchmarks.compare import fill
from pipeline.tracking.names import DATA_HASH, FINGERPRINT
from pipeline.train.config import RunConfig

ROOT = Path(__file__).parents[1]
RUNS = 8
STORED = 10_000
DATA = "0" * 64  # the hash of the images of all of them
AIMS = {"(a)": 0.45, "(b)": 0.62, "(d)": 1.12}


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=50, help="of each of the eight runs")
    parser.add_argument("--probe", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.probe:
        name, epochs, argument = options.probe
        print(json.dumps(PROBES[name](int(epochs), argument)))
        return
    compare_studies(options.epochs)
    compare_threads()
    query()


def compare_studies(epochs: int) -> None:
    """Print the wall time of the four ways, and their ratios."""
    print(f"{RUNS} runs of adam, {epochs} epochs each, {machine.line()}:", flush=True)
    separate = timed(lambda folder: one_by_one(folder, epochs))
    print(f"  (a) {RUNS} x mlflow run         {separate:7.1f} s", flush=True)
    bare = probe("bare", epochs)
    print(f"  (b) bare, one warm process {bare:7.1f} s", flush=True)
    ours = timed(lambda folder: launch(folder, ["-e", "study", "-P", f"study={declared(folder, epochs)}"]))
    print(f"  (c) ours, one study        {ours:7.1f} s", flush=True)
    scan = timed(lambda folder: by_hand(epochs))
    print(f"  (d) JAX scan, nothing else {scan:7.1f} s")
    for other, seconds in (("(a)", separate), ("(b)", bare), ("(d)", scan)):
        print(f"  ours / {other}: {ours / seconds:.2f} (aim: at most {AIMS[other]})")


def compare_threads(epochs: int = 10) -> None:
    """Print what two processes of one thread do in the time of one of two threads."""
    one = probe("threads", epochs, "2")
    words = command("threads", epochs, "1")
    both = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    two = statistics.mean(last(process.communicate()[0]) for process in both)
    print(f"seconds per epoch: one process, two threads {one:.3f}; two processes, one thread each {two:.3f}")
    print(f"  epochs in the same time, two processes / one: {2 * one / two:.2f}")


def query() -> None:
    """Print how long a study looks for what is done already, in a store of 10,000 runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        fill(path, STORED)
        with closing(sqlite3.connect(path)) as connection, connection:  # as if this project had made them
            insert = "INSERT INTO tags (key, value, run_uuid) SELECT ?, "
            connection.execute(insert + "substr(run_uuid, 1, 12), run_uuid FROM runs", (FINGERPRINT,))
            connection.execute(insert + "?, run_uuid FROM runs", (DATA_HASH, DATA))
        seconds = probe("query", 0, folder)
    print(f"a study's query of a store of {STORED:,} runs, 40 runs planned: {seconds:.2f} s (aim: at most 3)")


def timed(make: Callable[[Path], object]) -> float:
    """The seconds that `make` takes with a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        make(Path(folder))
        return time.perf_counter() - begin


def one_by_one(folder: Path, epochs: int) -> None:
    """The eight runs, each on its own."""
    for seed in range(RUNS):
        launch(folder, ["-P", "optimizer=adam", "-P", f"epochs={epochs}", "-P", f"seed={seed}"])


def by_hand(epochs: int) -> None:
    """The epochs of the eight runs in JAX, shared out among processes of one thread."""
    processes = len(os.sched_getaffinity(0))
    one_thread = {**os.environ, "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
    words = command("scan", RUNS * epochs // processes)
    begun = [subprocess.Popen(words, cwd=ROOT, env=one_thread, stdout=subprocess.DEVNULL) for _ in range(processes)]
    codes = [process.wait() for process in begun]
    if any(codes):
        sys.exit("the JAX scan failed; is JAX installed (benchmarks/requirements.txt)?")


def launch(folder: Path, words: list[str]) -> None:
    """`mlflow run`, as a user types it, with a store in `folder`."""
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "VARIATIONS_STATE": f"{folder}/state"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["mlflow", "run", str(ROOT), *words, "--env-manager", "local"],
        cwd=folder,
        env={**os.environ, **places, "PATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"mlflow run {' '.join(words)} failed:\n{done.stdout}{done.stderr}")


def declared(folder: Path, epochs: int) -> Path:
    """The eight runs as a study."""
    path = folder / "eight.yaml"
    path.write_text(
        f"name: eight\ndescription: Eight short runs.\nbase: {{optimizer: adam, epochs: {epochs}}}\n"
        f"seeds: {RUNS}\nvariations: [{{name: adam}}]\n"
    )
    return path


def command(name: str, epochs: int, argument: str = "") -> list[str]:
    """A measurement in a process of its own."""
    return [sys.executable, "-m", "benchmarks.study", "--probe", name, str(epochs), argument]


def probe(name: str, epochs: int, argument: str = "") -> float:
    """What it measured."""
    done = subprocess.run(command(name, epochs, argument), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the probe {name} failed:\n{done.stderr}")
    return last(done.stdout)


def last(printed: str) -> float:
    """The number on the last line."""
    return float(json.loads(printed.splitlines()[-1]))


def _bare(epochs: int, argument: str) -> float:
    from pipeline.train import dataset
    from pipeline.train import run as train

    training = train.import_training()
    images = dataset.load("mnist")
    training.train(RunConfig(optimizer="adam", epochs=1), images)  # warm
    begin = time.perf_counter()
    for seed in range(RUNS):
        training.train(RunConfig(optimizer="adam", epochs=epochs, seed=seed), images)
    return time.perf_counter() - begin


def _scan(epochs: int, argument: str) -> float:
    from benchmarks.training import jax_scan
    from pipeline.train import dataset

    epoch = jax_scan(dataset.load("mnist"))
    return [epoch() for _ in range(epochs)][-1][0]


def _threads(epochs: int, argument: str) -> float:
    from pipeline.train import dataset
    from pipeline.train import run as train

    training = train.import_training(threads=int(argument))
    trained = training.train(RunConfig(optimizer="adam", epochs=epochs), dataset.load("mnist"))
    return float(statistics.median(epoch["epoch_seconds"] for epoch in trained.epochs[2:]))


def _query(epochs: int, argument: str) -> float:
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{argument}/store.db"
    from pipeline.study import files
    from pipeline.tracking import search

    wanted = [[(name, config.fingerprint, DATA)] for name, config in files.load("controlled").runs()]
    begin = time.perf_counter()
    search.find("0", "controlled", ["0" * 12], wanted, look_only=False)
    return time.perf_counter() - begin


PROBES: dict[str, Callable[[int, str], float]] = {"bare": _bare, "scan": _scan, "threads": _threads, "query": _query}

if __name__ == "__main__":
    main()
