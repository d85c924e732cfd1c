"""Studies under `mlflow run`, killed at random moments, and what became of them.

python -m tests.kills 100    # so many kills: the launcher, its whole group, the study, a worker, a closed terminal
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import mlflow
import numpy as np
import psutil
import yaml

from pipeline.metrics import LOSSES
from pipeline.tracking import store
from pipeline.tracking.names import PLAN, VARIATION
from pipeline.train import dataset
from tests.conftest import ROOT, environment, run, start

EPOCHS = {"adam": 400, "adam short": 150, "sgd": 400}
SEEDS = 2
KILLS_OF_A_STUDY = 4
LATEST_SECONDS = 15.0  # after its start
KINDS = ("launcher", "group", "study", "worker", "terminal")
LOCAL = ("--env-manager", "local")


def kill(process: subprocess.Popen[str], kind: str) -> bool:
    """Kill something of a started study; whether there was such a thing."""
    family = psutil.Process(process.pid).children(recursive=True)
    studies = [each for each in family if "pipeline.study" in " ".join(each.cmdline())]
    workers = [each for each in family if "forkserver" in " ".join(each.cmdline())]  # and what they fork from
    if kind == "launcher":
        process.kill()
    elif kind in ("group", "terminal"):
        os.killpg(process.pid, signal.SIGKILL if kind == "group" else signal.SIGHUP)
    elif kind == "study" and studies:
        studies[0].kill()
    elif kind == "worker" and workers:
        random.choice(workers).kill()
    else:
        return False
    _, alive = psutil.wait_procs(family, timeout=90 if kind in ("worker", "terminal") else 20)
    assert kind == "worker" or not alive, f"{kind}: {[each.cmdline() for each in alive]}"
    return True


def faults(folder: Path) -> list[str]:
    """What is not as if nothing had ever been killed."""
    client = mlflow.MlflowClient(environment(folder)["MLFLOW_TRACKING_URI"])
    runs = client.search_runs(["0"], max_results=1000)
    parents = [each for each in runs if PLAN in each.data.tags]
    found = [f"{len(parents)} parents"] if len(parents) != 1 else []
    children = [each for each in runs if "mlflow.parentRunId" in each.data.tags]
    found += [f"{len(children)} children"] if len(children) != SEEDS * len(EPOCHS) else []
    found += [f"{each.info.run_name} is {each.info.status}" for each in runs if each.info.status == "RUNNING"]
    for child in children:
        found += [f"{child.info.run_name} is {child.info.status}"] if child.info.status != "FINISHED" else []
        wanted = list(range(1, EPOCHS[child.data.tags.get(VARIATION, "adam")] + 1))
        for name in LOSSES:
            steps = [point.step for point in client.get_metric_history(child.info.run_id, name)]
            if steps != wanted:
                found.append(
                    f"{child.info.run_name}: {len(steps)} of {len(wanted)} points, {len(set(steps))} different"
                )
    return found


def main(times: int) -> None:
    """Kill so many times, and print what happened."""
    chance = random.Random(times)
    counts: Counter[str] = Counter()
    root = Path(tempfile.mkdtemp())
    mnist = dataset.load("mnist")
    parts = {f"x_{name}": getattr(mnist, name)[:600].reshape(-1, 28, 28) for name in ("train", "test")}
    np.savez_compressed(root / "small.npz", **parts)
    base = {"optimizer": "adam", "dataset": str(root / "small.npz")}
    variations = [
        {"name": name, "changes": {"epochs": epochs, **({"optimizer": "sgd"} if name == "sgd" else {})}}
        for name, epochs in EPOCHS.items()
    ]
    declared = {"name": "s", "description": "a study", "base": base, "seeds": SEEDS, "variations": variations}
    (root / "s.yaml").write_text(yaml.safe_dump(declared))
    words = ("mlflow", "run", str(ROOT), "-e", "study", "-P", f"study={root / 's.yaml'}", *LOCAL)
    while sum(counts[kind] for kind in KINDS) < times:
        folder = Path(tempfile.mkdtemp(dir=root))
        counts["studies"] += 1
        store.require_reachable(environment(folder)["MLFLOW_TRACKING_URI"])  # as `make store`: MLflow's own way breaks
        for _ in range(KILLS_OF_A_STUDY):
            process = start(*words, folder=folder)
            time.sleep(chance.uniform(0.3, LATEST_SECONDS))
            kind = chance.choice(KINDS)
            if process.poll() is None:
                counts[kind] += kill(process, kind)
            process.wait(300)
        deliver = run("python", "-m", "pipeline.deliver", folder=folder)
        last = run(*words, folder=folder, timeout=600)
        for done in (deliver, last):
            if done.returncode or "Traceback" in done.stderr + done.stdout:
                counts["failed at the end"] += 1
                print(folder, done.args, done.stdout[-2000:], done.stderr[-2000:], flush=True)
        if wrong := faults(folder):
            counts["studies with faults"] += 1
            print(folder, wrong, flush=True)
    print(dict(counts))


if __name__ == "__main__":
    main(int(sys.argv[1]))
