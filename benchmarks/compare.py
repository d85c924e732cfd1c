"""What `compare` costs beside MLflow's own paging of the same runs, as ratios measured side by side:

python -m benchmarks.compare

A SQLite store of 10,000 runs x 8 params x 12 metrics, which nothing of this project made. Both read it in turns, each
time in a new process, from the database itself and then through `mlflow server` on loopback:

(a) `mlflow.search_runs`: the runs as one frame, and no more;
(b) ours: the runs, the table, every variation against the baseline with its verdict, digests, histories of what is
    drawn; everything but the drawing of the pictures and the writing of the files.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks import machine

RUNS = 10_000
SEEDS = 10  # so that there are 1,000 variations
METRICS = ("val_loss", *(f"metric_{i}" for i in range(1, 12)))
AIM = 1.3
STARTED = 1_700_000_000_000  # milliseconds since 1970


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS, help="runs in the store")
    parser.add_argument("--rounds", type=int, default=3, help="times that each has its turn")
    parser.add_argument("--probe", choices=PROBES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        print(json.dumps(PROBES[options.probe]()))
        return
    print(machine.line(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        fill(path, options.runs)
        uri = f"sqlite:///{path}"
        measure(f"{options.runs:,} runs x 8 params x 12 metrics in SQLite", uri, options.rounds)
        with server(uri, Path(folder)) as address:
            measure("the same through mlflow server on loopback", address, options.rounds)


def measure(what: str, uri: str, rounds: int) -> None:
    """Print the seconds and the memory of both ways, and their ratio."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("search_runs", "ours")}
    for _ in range(rounds):
        for name, results in found.items():
            results.append(_probe(name, uri))
    print(f"{what}, median of {rounds}, in turns:")
    for name, label in (("search_runs", "(a) mlflow.search_runs"), ("ours", "(b) ours")):
        seconds, peak, rows = (statistics.median(each[key] for each in found[name]) for key in ("s", "MiB", "rows"))
        print(f"  {label:24} {seconds:6.2f} s   peak memory {peak:5.0f} MiB   {rows:,.0f} runs")
    parts = ("read and group", "histories", "conclude")
    print(
        "  of which " + ", ".join(f"{part} {statistics.median(e[part] for e in found['ours']):.2f} s" for part in parts)
    )
    ratio = statistics.median(b["s"] / a["s"] for a, b in zip(found["search_runs"], found["ours"], strict=True))
    memory = statistics.median(b["MiB"] / a["MiB"] for a, b in zip(found["search_runs"], found["ours"], strict=True))
    print(f"  ours / mlflow.search_runs: {ratio:.2f} (aim: at most {AIM}), memory {memory:.2f}")


def fill(path: Path, runs: int) -> None:
    """A store of so many runs: MLflow makes the tables, plain SQL the rows, which would take MLflow half an hour."""
    import mlflow

    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    rng = random.Random(0)
    rows: dict[str, list[tuple[object, ...]]] = {table: [] for table in ("runs", "params", "latest_metrics", "tags")}
    for number in range(runs):
        run_id = uuid.UUID(int=rng.getrandbits(128)).hex
        started = STARTED + number
        rows["runs"].append((run_id, f"run-{number}", started, started + 5, f"artifacts/{run_id}"))
        rows["params"] += [(key, str(value), run_id) for key, value in _params(number).items()]
        level = number // SEEDS % 7
        rows["latest_metrics"] += [(key, rng.gauss(level, 1), started, 10, run_id) for key in METRICS]
        rows["tags"] += [("mlflow.runName", f"run-{number}", run_id), ("mlflow.user", "me", run_id)]
        rows["tags"] += [("mlflow.source.name", "train.py", run_id), ("mlflow.source.type", "LOCAL", run_id)]
    metric = "(key, value, timestamp, step, run_uuid, is_nan) VALUES (?, ?, ?, ?, ?, 0)"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO runs (run_uuid, name, start_time, end_time, artifact_uri, source_type, source_name, "
            "entry_point_name, user_id, status, source_version, lifecycle_stage, experiment_id) "
            "VALUES (?, ?, ?, ?, ?, 'UNKNOWN', '', '', 'me', 'FINISHED', '', 'active', 0)",
            rows["runs"],
        )
        connection.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", rows["params"])
        connection.executemany(f"INSERT INTO latest_metrics {metric}", rows["latest_metrics"])
        connection.executemany(f"INSERT INTO metrics {metric}", rows["latest_metrics"])
        connection.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", rows["tags"])


def _params(number: int) -> dict[str, object]:
    """Eight: a grid of 1,000 variations (of two optimizers), and the seed."""
    variation = number // SEEDS
    return {
        "optimizer": ("adam", "sgd")[variation % 2],
        "lr": 10.0 ** -(1 + variation // 2 % 5),
        "batch_size": (32, 64, 128, 256, 512)[variation // 10 % 5],
        "width": (16, 32, 64, 128)[variation // 50 % 4],
        "depth": 1 + variation // 200,
        "data": "mnist",
        "epochs": 10,
        "seed": number % SEEDS,
    }


@contextmanager
def server(uri: str, folder: Path) -> Iterator[str]:
    """A tracking server in front of the store."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["mlflow", "server", "--backend-store-uri", uri, "--port", str(port), "--workers", "1"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            words, cwd=folder, env={**os.environ, "PATH": path}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address, process)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.2)
    sys.exit("the tracking server did not start")


def _probe(name: str, uri: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.compare", "--probe", name]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MLFLOW_TRACKING_URI": uri})
    if done.returncode:
        sys.exit(f"the probe {name} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _search_runs() -> dict[str, float]:
    import mlflow

    mlflow.search_runs(["0"], max_results=1)  # what happens once in a process is no part of it
    begin = time.perf_counter()
    frame = mlflow.search_runs(["0"], max_results=2**31 - 1)
    return {"s": time.perf_counter() - begin, "rows": len(frame), "MiB": _peak()}


def _ours() -> dict[str, float]:
    import mlflow

    from pipeline import cli
    from pipeline.compare import run
    from pipeline.compare.concluding import conclude
    from pipeline.compare.options import Options
    from pipeline.task import load

    gc.set_threshold(cli.COLLECT_AFTER)  # as the command does, in `cli.leave`
    mlflow.search_runs(["0"], max_results=1)
    clock = [time.perf_counter()]
    found = run.find(Options(metric="val_loss", baseline="optimizer=sgd"), load())
    clock.append(time.perf_counter())
    histories = run.histories(found.grouped)
    clock.append(time.perf_counter())
    conclusion = conclude(found.grouped, histories, found.elsewhere, found.origin)
    clock.append(time.perf_counter())
    parts = [end - begin for begin, end in itertools.pairwise(clock)]
    rows = sum(variation.finished for variation in conclusion.variations)
    named = dict(zip(("read and group", "histories", "conclude"), parts, strict=True))
    return {"s": clock[-1] - clock[0], "rows": rows, "MiB": _peak(), **named}


def _peak() -> float:
    """Of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


PROBES: dict[str, Callable[[], dict[str, float]]] = {"search_runs": _search_runs, "ours": _ours}

if __name__ == "__main__":
    main()
