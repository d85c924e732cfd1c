"""Studies on a cluster of Ray: two machines of one processor each, as far as Ray knows.

python -m tests.test_cluster 20    # so many times one of them is lost at a random moment, and what became of the runs
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray writes a token into the user's home

import numpy as np
import psutil
import pytest
import ray
from pydantic import ValidationError
from ray import exceptions
from ray._private import services
from ray.cluster_utils import Cluster

from pipeline.errors import UserError
from pipeline.study import cluster, executors
from pipeline.study.cluster import Ray
from pipeline.study.options import Options
from pipeline.train import dataset
from tests.conftest import HANGS, ROOT, no_hang, start, wait_for
from tests.test_study import (
    ALL_KILLED,
    checkpoints,
    declared,
    epochs_said,
    killed,
    make,
    results,
    runs_in,
    undisturbed,
    words_of,
)


@contextmanager
def two_machines() -> Iterator[Cluster]:
    """A head without processors, and two machines with one each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made
    finally:
        made.shutdown()


@pytest.fixture
def machines() -> Iterator[Cluster]:
    """The same, for a test."""
    with two_machines() as made:
        yield made


def tasks() -> list[psutil.Process]:
    """The processes that make runs at this moment, of this test's machines."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if any("ray::_make" in word for word in words_of(process))]


def of_two_runs(folder: Path, data: Path) -> Path:
    """A study that takes some seconds, on images in a file."""
    variations: dict[str, dict[str, Any]] = {"adam": {}, "sgd": {"optimizer": "sgd"}}
    return declared(
        folder / "s.yaml", data, variations, base={"dataset": str(data), "optimizer": "adam", "epochs": 600}
    )


def begun_on(machines: Cluster, file: Path, folder: Path) -> subprocess.Popen[str]:
    """The study, begun on a cluster, with a store in `folder`."""
    where = ("--executor", "ray", "--address", machines.address)
    return start("python", "-m", "pipeline.study", "--study", str(file), *where, folder=folder)


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_interrupted_and_its_driver_killed_and_a_machine_lost_it_ends_as_if_never_disturbed(
    machines: Cluster, small_npz: Path, tmp_path: Path
) -> None:
    file = of_two_runs(tmp_path, small_npz)

    def begun_and_training() -> subprocess.Popen[str]:
        before = epochs_said(tmp_path)
        process = begun_on(machines, file, tmp_path)
        wait_for(lambda: epochs_said(tmp_path) > before + 20 and len(checkpoints(tmp_path)) == 2, process)
        assert tasks()
        return process

    process = begun_and_training()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(HANGS) == 130
    assert {name: made.info.status for name, made in runs_in(tmp_path).items()} == ALL_KILLED
    with no_hang():
        while tasks():
            time.sleep(0.1)
    killed(begun_and_training())
    process = begun_and_training()
    machines.remove_node(next(iter(machines.worker_nodes)), allow_graceful=False)
    assert process.wait(HANGS) == 0, (tmp_path / "output").read_text()
    printed = (tmp_path / "output").read_text()
    assert printed.count("lost; it is started again") == 1
    assert "raylet" not in printed
    assert sorted(made.data.tags.get("attempt", "1") for made in runs_in(tmp_path).values()) == ["1", "1", "2"]

    assert results(tmp_path) == undisturbed(file, tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_a_folder_that_a_machine_does_not_find_is_refused_before_anything_is_made(
    small_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = declared(tmp_path / "s.yaml", small_npz, {"adam": {}})
    made = Ray()
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "_read", ray.remote(num_cpus=0)(lambda path: ""))
        with pytest.raises(
            UserError, match=r"state is not one folder for all machines: .* \(it is not there\); set VAR"
        ):
            make(file, executor=made)
    assert runs_in(tmp_path) == {}
    try:
        made.require_shared(tmp_path / "state")
        assert list((tmp_path / "state").iterdir()) == []
        assert made.capacity == executors.cores()
    finally:
        made.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"executor": "slurm"}, "Input should be 'local' or 'ray'"),
        ({"address": "auto"}, "address and gpus_per_run are said of a cluster; give executor=ray, too"),
        ({"executor": "ray", "address": "ray://head:10001"}, "is no address of a cluster; give `auto` or HOST:PORT"),
        ({"executor": "ray", "gpus_per_run": -1}, "greater than or equal to 0"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Options(**options)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto"])
def test_where_no_cluster_is_that_is_said(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where `auto` looks for one
    # It would also take the cluster of a test beside this one, and Ray ends the process of those whose cluster ends.
    monkeypatch.setattr(services, "find_gcs_addresses", Mock(return_value=set()))
    with pytest.raises(UserError, match=f"address='{address}' is no cluster of Ray to be used from here"):
        Ray(address).start(1, print)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (exceptions.NodeDiedError("…"), "its machine was lost"),
        (exceptions.WorkerCrashedError(), "its process was killed, or its machine was lost"),
        (exceptions.OutOfMemoryError("…"), "its process was ended, for its machine was out of memory"),
        (ValueError("of its own"), "ValueError: of its own"),
    ],
)
def test_what_is_lost_is_said_to_be(error: Exception, reason: str) -> None:
    assert Ray().reason(error) == reason


def test_a_head_that_does_not_answer_any_more_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "_HEAD_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as head:
        host, port = head.getsockname()
        monkeypatch.setattr(ray, "get_runtime_context", lambda: Mock(gcs_address=f"{host}:{port}"))
        executor = Ray()
        executor._require_head()  # which has not been seen for long, and answers
        before = executor._head_seen
        assert time.monotonic() - before < 1
    executor._most = 1
    executor._waiting.append(cluster._Job(print, (), Future()))
    (job,) = executor._waiting
    executor._keep_looking()
    assert 0.5 < time.monotonic() - before < HANGS
    with pytest.raises(executors.LostError, match=r"the cluster was lost \(.*refused.*\); start the study again"):
        job.future.result(0)


def test_what_ray_interrupts_is_woken_where_it_waits_for_a_process() -> None:
    code = (
        "import _thread, subprocess, threading; from pipeline.study import cluster, executors; "
        "threading.Timer(1, _thread.interrupt_main).start()  # as Ray does\n"
        "with cluster._waking(): executors.until_told_to_end(subprocess.run, ['sleep', '3600'])"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=HANGS).returncode == 130


def main(count: int) -> None:
    """Lose a machine so many times, each in a study of its own, and print what became of the runs."""
    chance, outcomes = random.Random(0), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        images = dataset.load("mnist")
        data = root / "small.npz"
        np.savez_compressed(data, x_train=_bytes(images.train[:600]), x_test=_bytes(images.test[:200]))
        file = of_two_runs(root, data)
        expected = undisturbed(file, root / "undisturbed")
        for n in range(count):
            folder = root / str(n)
            folder.mkdir()
            with two_machines() as machines:
                process = begun_on(machines, file, folder)
                wait_for(lambda folder=folder: epochs_said(folder), process)  # type: ignore[misc]
                time.sleep(chance.uniform(0, 6))
                machines.remove_node(chance.choice(list(machines.worker_nodes)), allow_graceful=False)
                code = process.wait(HANGS)
            printed = (folder / "output").read_text()
            outcomes["a run was lost and started again"] += "lost; it is started again" in printed
            if code == 0 and results(folder) == expected:
                outcomes["as undisturbed: no run lost, no step missing, none twice, the same weights"] += 1
            else:
                outcomes["WRONG"] += 1
                print(printed)
    print(f"{count} machines lost: {dict(outcomes)}")


def _bytes(images: np.ndarray) -> np.ndarray:
    return np.round(images[..., 0] * 255).astype(np.uint8)


if __name__ == "__main__":
    main(int(sys.argv[1]))
