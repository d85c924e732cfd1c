"""Studies on a cluster of Ray: two machines of one processor each, as far as Ray knows."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from pydantic import ValidationError
from ray import exceptions
from ray.cluster_utils import Cluster

from pipeline.errors import UserError
from pipeline.study import cluster, executors
from pipeline.study.cluster import Ray
from pipeline.study.options import Options
from tests.conftest import HANGS, run, start, wait_for
from tests.test_study import ALL_KILLED, checkpoints, declared, epochs_said, killed, make, results, runs_in, words_of


@pytest.fixture
def machines() -> Iterator[Cluster]:
    """A head without processors, and two machines with one each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made
    finally:
        made.shutdown()


def tasks() -> list[psutil.Process]:
    """The processes that make runs at this moment, of any cluster here."""
    return [process for process in psutil.process_iter() if any("ray::_make" in word for word in words_of(process))]


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_interrupted_and_its_driver_killed_and_a_machine_lost_it_ends_as_if_never_disturbed(
    machines: Cluster, small_npz: Path, tmp_path: Path
) -> None:
    variations: dict[str, dict[str, Any]] = {"adam": {}, "sgd": {"optimizer": "sgd"}}
    base = {"dataset": str(small_npz), "optimizer": "adam", "epochs": 400}
    file = declared(tmp_path / "s.yaml", small_npz, variations, base=base)

    def begun_and_training() -> subprocess.Popen[str]:
        options = ("--study", str(file), "--executor", "ray", "--address", machines.address)
        before = epochs_said(tmp_path)
        process = start("python", "-m", "pipeline.study", *options, folder=tmp_path)
        wait_for(lambda: epochs_said(tmp_path) > before + 20 and len(checkpoints(tmp_path)) == 2, process)
        return process

    process = begun_and_training()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(HANGS) == 130
    assert {name: made.info.status for name, made in runs_in(tmp_path).items()} == ALL_KILLED
    assert tasks() == []
    killed(begun_and_training())
    process = begun_and_training()
    machines.remove_node(next(iter(machines.worker_nodes)), allow_graceful=False)
    assert process.wait(HANGS) == 0, (tmp_path / "output").read_text()
    printed = (tmp_path / "output").read_text()
    assert printed.count("lost; it is started again") == 1
    assert "raylet" not in printed
    assert sorted(made.data.tags.get("attempt", "1") for made in runs_in(tmp_path).values()) == ["1", "1", "2"]

    (tmp_path / "undisturbed").mkdir()
    undisturbed = run("python", "-m", "pipeline.study", "--study", str(file), folder=tmp_path / "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert results(tmp_path) == results(tmp_path / "undisturbed")


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
