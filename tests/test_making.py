"""Runs that fail or are lost while a study makes them: started again, counted, and when no more are made."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import popen_spawn_posix
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import mlflow
import pytest
import yaml

from pipeline.compare import around, reading
from pipeline.errors import UserError
from pipeline.study import executors, making
from pipeline.study import run as study
from pipeline.task import Child
from pipeline.tracking import journal
from pipeline.tracking import runs as tracking
from pipeline.tracking.delivery import record_end
from pipeline.tracking.journal import Journal
from tests.conftest import HANGS
from tests.test_tuning import make
from tests.toy import AtOnce, Toy, ToyConfig, ToyProgram, _Data

DECLARED: dict[str, Any] = {
    "name": "methods",
    "description": "Which method is better?",
    "seeds": 2,
    "base": {"steps": 3},
    "variations": [{"name": "plain"}, {"name": "clever", "changes": {"method": "clever"}}],
}


class Unlucky(ToyProgram):
    """Loses each run of a seed so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def train_children(self, children: Any) -> None:
        (child,) = children
        assert isinstance(child, Child)
        if child.config.seed == 1 and self.left:
            self.left -= 1
            raise ConnectionError("its node was lost")
        super().train_children(children)


def runs() -> dict[str, tuple[str, str | None]]:
    """Status and attempt of each run, by its name: no two have one."""
    found = [each for each in mlflow.MlflowClient().search_runs(["0"]) if "variation" in each.data.tags]
    named = {str(each.info.run_name): (each.info.status, each.data.tags.get("attempt")) for each in found}
    assert len(named) == len(found)
    return named


@pytest.mark.usefixtures("db")
def test_a_run_that_is_lost_is_started_again_in_the_same_run(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.program = Unlucky(1)
    assert "methods is finished: 4 runs" in make(tmp_path, DECLARED)
    (lost,) = (name for name, (_, attempt) in runs().items() if attempt)
    assert runs()[lost] == ("FINISHED", "2")
    assert [status for status, _ in runs().values()] == ["FINISHED"] * 4
    assert f"failed: {lost}: ConnectionError: its node was lost; it is started again" in capsys.readouterr().out
    (effort,) = around.efforts(reading.runs(["0"], toy))
    assert (effort.state, effort.runs, effort.again) == ("finished", 4, 1)


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("retries", [0, 1, 2])
def test_it_is_started_again_as_often_as_the_study_says(retries: int, toy: Toy, tmp_path: Path) -> None:
    toy.program = Unlucky(times=1000)
    with pytest.raises(UserError, match=r"2 of 4 runs failed \(.* seed 1: ConnectionError: its node was lost"):
        make(tmp_path, {**DECLARED, "retries": retries})
    assert 1000 - toy.program.left == 2 * (1 + retries)
    attempt = str(1 + retries) if retries else None
    assert runs()["plain seed 1"] == runs()["clever seed 1"] == ("FAILED", attempt)


@pytest.mark.usefixtures("db")
def test_a_run_that_cannot_go_on_is_another_one_each_time(toy: Toy, tmp_path: Path) -> None:
    toy.goes_on, toy.program = False, Unlucky(times=3)
    declared = {**DECLARED, "variations": [{"name": "only"}], "retries": 1}
    with pytest.raises(UserError, match="1 of 2 runs failed"):
        make(tmp_path, declared)
    assert "methods is finished: 2 runs" in make(tmp_path, declared)  # lost once more, and then made
    found = [each for each in mlflow.MlflowClient().search_runs(["0"]) if "variation" in each.data.tags]
    attempts = [(each.data.tags["seed"], each.data.tags.get("attempt"), each.info.status) for each in found]
    failed = [("1", attempt, "FAILED") for attempt in (None, "2", "3")]
    assert sorted(attempts, key=str) == sorted([("0", None, "FINISHED"), *failed, ("1", "4", "FINISHED")], key=str)


@pytest.mark.usefixtures("db")
def test_what_fails_by_its_own_parameters_is_not_started_again(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 of 4 runs failed"):
        make(tmp_path, {**DECLARED, "variations": [{"name": "a"}, {"name": "b", "changes": {"rate": 100.0}}]})
    assert sorted(toy.program.trained) == ["a seed 0", "a seed 1", "b seed 0", "b seed 1"]


@pytest.mark.usefixtures("db")
def test_after_so_many_failures_in_a_row_no_more_are_made(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = {**DECLARED, "seeds": 5, "base": {"rate": 100.0}, "stop_after": 3}
    with pytest.raises(UserError, match=r"^3 runs in a row have failed, and no more are made: .*diverged"):
        make(
            tmp_path, {**declared, "name": "bad", "variations": [{"name": "a"}, {"name": "b", "changes": {"steps": 3}}]}
        )
    parent = next(each for each in mlflow.MlflowClient().search_runs(["0"]) if each.info.run_name == "bad")
    assert parent.info.status == "FAILED"
    assert parent.data.tags["failure"].startswith("StoppedError: 3 runs in a row")
    assert "ending the runs after their epoch; Ctrl-C ends them at once\n" in capsys.readouterr().err


class Lost(AtOnce):
    """Is gone as a whole when it is at seed 1."""

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        if args[0][0].config.seed < 1:
            return super().submit(call, *args)
        future: Future[Any] = Future()
        future.set_exception(executors.LostError("the cluster was lost"))
        return future


@pytest.mark.usefixtures("db", "toy")
def test_what_was_not_begun_has_not_failed_when_the_cluster_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump({**DECLARED, "seeds": 3, "variations": [{"name": "only"}]}))
    with pytest.raises(UserError, match="the cluster was lost"):
        study.run(study.Options(study=str(file)), Lost())
    runs = mlflow.MlflowClient().search_runs(["0"])
    assert {run.info.run_name: run.info.status for run in runs} == {"methods": "FAILED", "only seed 0": "FINISHED"}
    assert "methods is finished: 3 runs" in study.run(study.Options(study=str(file)), AtOnce())


class InThreads(AtOnce):
    """Makes each job in a thread; what is given up is told so, and goes on as if it had not heard."""

    capacity = 2

    def __init__(self) -> None:
        super().__init__()
        self.given_up = threading.Event()
        self._pool = ThreadPoolExecutor(8)

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        return self._pool.submit(call, *args)

    def give_up(self, job: Future[Any]) -> None:
        self.given_up.set()


class Hanging(ToyProgram):
    """In the first attempt at a run of seed 1, hangs after its first step, until it is given up; then says more."""

    def __init__(self, executor: InThreads) -> None:
        super().__init__()
        self.executor = executor
        self.heard: list[str] = []

    def _train(self, run: tracking.TrackedRun[ToyConfig]) -> None:
        if run.config.seed == 1 and not self.heard:
            self.heard.append(run.name)
            run.log_config(_Data())
            run.log_epoch(1, {"error": 17.0})
            assert self.executor.given_up.wait(60)
            try:
                run.log_epoch(2, {"error": 17.0})
            except journal.SupersededError as error:
                self.heard.append(str(error))
                raise
        super()._train(run)


@pytest.mark.usefixtures("db")
def test_a_run_that_hangs_is_given_up_and_started_again_and_what_hung_is_not_heard_any_more(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_FIRST_SECONDS", 2.0)
    monkeypatch.setattr(making, "_SLOW_SECONDS", 2.0)
    executor = InThreads()
    toy.program = program = Hanging(executor)
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump({**DECLARED, "variations": [{"name": "only"}]}))
    assert "methods is finished: 2 runs" in study.run(study.Options(study=str(file)), executor)
    assert program.heard[0] == "only seed 1"
    assert program.heard[1].startswith("another process has taken over what is made in ")
    told = r"failed: only seed 1: HangingError: it has said nothing for \d s, and was ended; it is started again"
    assert re.search(told, capsys.readouterr().out)
    assert runs() == {"only seed 0": ("FINISHED", None), "only seed 1": ("FINISHED", "2")}
    client = mlflow.MlflowClient()
    (made,) = client.search_runs(["0"], "tags.seed = '1'")
    history = client.get_metric_history(made.info.run_id, "error")
    assert [point.step for point in history] == [1, 2, 3]  # what it had said before counts, and nothing twice


class Vanishing(InThreads):
    """Never says of the first job that has an error that it has ended."""

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        silent: Future[Any] = Future()

        def tell(done: Future[Any]) -> None:
            if done.exception() is None or self.given_up.is_set():
                silent.set_result(done.result())

        self._pool.submit(call, *args).add_done_callback(tell)
        return silent


class Short(ToyProgram):
    """The first attempt at a run of seed 1 is gone after a while."""

    gone = False

    def _train(self, run: tracking.TrackedRun[ToyConfig]) -> None:
        if run.config.seed == 1 and not self.gone:
            self.gone = True
            run.log_config(_Data())
            run.log_epoch(1, {"error": 1.501})
            time.sleep(2)
            raise ConnectionError("gone")
        super()._train(run)


@pytest.mark.usefixtures("db")
def test_a_run_whose_process_is_gone_is_started_again_where_the_cluster_does_not_notice(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_GONE_SECONDS", 2.0)
    toy.program = Short()
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**DECLARED, "variations": [{"name": "only"}]}))
    assert "methods is finished: 2 runs" in study.run(study.Options(study=str(tmp_path / "s.yaml")), Vanishing())
    assert runs() == {"only seed 0": ("FINISHED", None), "only seed 1": ("FINISHED", "2")}


@pytest.mark.usefixtures("db")
def test_a_study_that_was_suspended_takes_no_run_for_hanging(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_FIRST_SECONDS", 60.0)
    executor = InThreads()
    toy.program = Hanging(executor)
    threading.Timer(3.0, executor.given_up.set).start()
    clock = time.monotonic
    begin = clock()
    monkeypatch.setattr(making.time, "monotonic", lambda: clock() + 3600 * (clock() > begin + 1.5))
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**DECLARED, "variations": [{"name": "only"}]}))
    assert "methods is finished: 2 runs" in study.run(study.Options(study=str(tmp_path / "s.yaml")), executor)
    assert runs() == {"only seed 0": ("FINISHED", None), "only seed 1": ("FINISHED", None)}


def test_who_is_not_the_newest_writer_may_not_write(tmp_path: Path) -> None:
    head = journal.Header("key", "", None, None, None, "a run", 0)
    first, second = (
        Journal(Journal.begin(tmp_path / "run", head).folder, journal.claim(tmp_path / "run")) for _ in "12"
    )
    assert (first.writer, second.writer) == (1, 2)
    second.append("end", status="FINISHED", reason="", at=1)
    with pytest.raises(journal.SupersededError, match="another process has taken over"):
        first.append("end", status="FAILED", reason="", at=2)
    with pytest.raises(journal.SupersededError):
        record_end(first, "FAILED")
    Journal(tmp_path / "run").append("tags", tags={})  # the study itself
    assert [line["operation"] for line, _ in second.read()] == ["end", "tags"]


def test_a_line_that_was_on_its_way_when_another_writer_began_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    Journal.begin(folder, journal.Header("key", "", None, None, None, "a run", 0)).append("tags", tags={"before": 1})
    os.utime(folder / "journal.jsonl", (1000, 1000))
    first, is_newest = Journal(folder, journal.claim(folder)), journal.require_newest
    assert first.last_written == 1000 * 1000, "nothing was written"
    checked = 0

    def cut_off(folder: Path, writer: int) -> None:
        nonlocal checked
        is_newest(folder, writer)
        checked += 1
        if checked < 2:  # the first time, the file is not open yet
            return
        monkeypatch.setattr(journal, "require_newest", is_newest)
        Journal(folder, journal.claim(folder)).append("end", status="FINISHED", reason="", at=1)

    monkeypatch.setattr(journal, "require_newest", cut_off)
    first.append("tags", tags={"late": 1})
    assert Journal(folder).status == "FINISHED"
    assert [line.get("tags") for line, _ in Journal(folder).read()] == [{"before": 1}, None]
    with pytest.raises(journal.SupersededError):
        first.append("tags", tags={"later": 1})


@pytest.mark.usefixtures("db")
def test_no_more_are_made_at_a_time_than_memory_holds(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.program.room = 2
    with pytest.raises(UserError, match=r"jobs=3: 2 of these runs fit into the memory of this machine at a time; give"):
        make(tmp_path, DECLARED, jobs=3)
    executor = InThreads()
    executor.capacity = 4
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(DECLARED))
    assert "methods is finished: 4 runs" in study.run(study.Options(study=str(tmp_path / "s.yaml")), executor)
    printed = capsys.readouterr().out
    assert "2 of these runs fit into the memory of this machine at a time, not 4\n" in printed
    assert "; 2 at a time\n" in printed


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("fills_a_core", "gpus", "at_once"), [(True, [], 2), (True, ["0"], 4), (False, [], 4), (False, ["0"], 4)]
)
def test_no_more_are_made_at_a_time_than_there_are_cores_which_they_fill(
    fills_a_core: bool,
    gpus: list[str],
    at_once: int,
    toy: Toy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(executors, "gpus", lambda: gpus)
    toy.fills_a_core = fills_a_core
    executor = InThreads()
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(DECLARED))
    study.run(study.Options(study=str(tmp_path / "s.yaml"), jobs=4), executor)
    printed = capsys.readouterr().out
    assert f"; {at_once} at a time\n" in printed
    told = "2 at a time, not 4: a run keeps a core busy, and there are no more\n"
    assert (told in printed) == (at_once == 2)


def test_workers_that_cannot_be_started_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(popen_spawn_posix.Popen, "_launch", Mock(side_effect=EOFError("no process more")))
    workers = executors.Workers()
    workers.start(1, os.getpid)
    with pytest.raises(BrokenProcessPool):
        workers.submit(os.getpid)
    workers.interrupt()


@pytest.mark.slow
def test_gpus_are_shared_out_among_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "gpus", lambda: ["2", "5"])
    workers = executors.Workers()
    workers.start(2, os.getpid)
    told = ["sh", "-c", f"echo $CUDA_VISIBLE_DEVICES > {tmp_path}/$PPID; sleep 1"]  # so that each has some
    futures = [workers.submit(subprocess.run, told) for _ in range(4)]
    for future in futures:
        future.result(HANGS)
    workers.close()
    assert sorted(path.read_text().strip() for path in tmp_path.iterdir()) == ["2", "5"]


@pytest.mark.parametrize(("said", "expected"), [(None, "3 3"), ("5", "5 3")])
def test_cores_are_shared_out_among_the_workers(
    said: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "cores", lambda: 7)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    workers = executors.Workers()
    workers.start(2, os.getpid)
    told = ["sh", "-c", f"echo $OMP_NUM_THREADS $TF_NUM_INTRAOP_THREADS > {tmp_path}/told"]
    workers.submit(subprocess.run, told).result(HANGS)
    workers.close()
    assert (tmp_path / "told").read_text().strip() == expected


@pytest.mark.parametrize(
    ("visible", "devices", "expected"),
    [(None, ["1", "0"], ["0", "1"]), ("3,GPU-8a", ["0"], ["3", "GPU-8a"]), ("", ["0"], []), (None, [], [])],
)
def test_which_gpus_there_are(
    visible: str | None, devices: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*devices, "ctl"):
        (tmp_path / f"nvidia{name}").touch()
    monkeypatch.setattr(executors, "_DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert executors.gpus() == expected


@pytest.mark.parametrize(
    ("says", "expected"),
    [("max 100000", None), ("150000 100000", 2), ("100000 100000", 1), ("50000 100000", 1), (None, None)],
)
def test_the_quota_of_a_container_limits_how_many_train(
    says: str | None, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = executors.cores()
    monkeypatch.setattr(executors, "_QUOTA", tmp_path / "cpu.max")
    if says:
        (tmp_path / "cpu.max").write_text(says + "\n")
    assert executors.cores() == min(expected or allowed, allowed)
