"""What several tests need: a slice of the real MNIST, a store of their own, the project's commands as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import dataset

ROOT = Path(__file__).parents[1]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def mnist() -> dataset.Images:
    """The whole shipped data set."""
    return dataset.load("mnist")


@pytest.fixture(scope="session")
def small(mnist: dataset.Images) -> dataset.Images:
    """600 training and 200 test images of the real MNIST."""
    return dataset.Images("small", "file:///small", "0" * 64, mnist.shape, mnist.train[:600], mnist.test[:200])


@pytest.fixture(scope="session")
def small_npz(small: dataset.Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    arrays = {f"x_{part}": np.round(getattr(small, part) * 255).astype(np.uint8) for part in ("train", "test")}
    np.savez_compressed(path, **{name: array.reshape(-1, 28, 28) for name, array in arrays.items()})
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A tracking store of the test's own, for this process and for those it starts."""
    import mlflow

    uri = f"sqlite:///{tmp_path}/store.db"
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts
    yield uri
    while mlflow.active_run():
        mlflow.end_run("FAILED")


@pytest.fixture
def command(store: str) -> Command:
    """Runs `python` or `mlflow` as a user does in the project's folder, against `store`."""

    def run(*words: str, timeout: float = 240, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=cwd, env=environment(), timeout=timeout, capture_output=True, text=True)

    return run


def environment() -> dict[str, str]:
    """This process's, with its own Python and MLflow first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
