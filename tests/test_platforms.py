"""On a system without what only Unix has, such as Windows, `compare` runs: there is one module less, and one signal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from pipeline.tracking.store import require_reachable
from tests.conftest import ROOT, environment

_WITHOUT = """
import psutil, signal, sys  # psutil has a part for each system, and here it is that of Linux
for name in ("fcntl", "pty", "resource", "termios"):
    sys.modules[name] = None
del signal.SIGHUP
from pipeline.compare import run
from pipeline.compare.__main__ import main
import pipeline.deliver, pipeline.progress
sys.exit(main(sys.argv[1:]))
"""


def compare(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m pipeline.compare` on such a system."""
    command = [sys.executable, "-c", _WITHOUT, *words]
    return subprocess.run(command, cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=300)


def test_compare_shows_its_help_without_unix(tmp_path: Path) -> None:
    shown = compare("--help", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "--baseline" in shown.stdout


@pytest.mark.usefixtures("store")
def test_compare_runs_without_unix(tmp_path: Path) -> None:
    require_reachable()
    client = mlflow.MlflowClient()
    for optimizer, best in (("adam", 0.1), ("sgd", 0.4)):
        for seed in range(3):
            run_id = client.create_run("0").info.run_id
            client.log_param(run_id, "optimizer", optimizer)
            client.log_param(run_id, "seed", seed)
            client.log_metric(run_id, "val_loss", best + seed / 100)
            client.set_terminated(run_id)
    out = tmp_path / "out"
    done = compare("--group-by", "optimizer", "--metric", "val_loss", "--out", str(out), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    conclusion = json.loads((out / "conclusion.json").read_text())
    cells = {each["name"]: each["cells"][0]["mean"] for each in conclusion["variations"]}
    assert cells == pytest.approx({"optimizer=adam": 0.11, "optimizer=sgd": 0.41})
    assert (out / "report.html").stat().st_size > 10_000
