"""Runs that fail or are lost while a study makes them: started again, counted, and when no more are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest

from pipeline.compare import around, reading
from pipeline.errors import UserError
from pipeline.study import executors
from pipeline.task import Child
from tests.test_tuning import make
from tests.toy import Toy, ToyProgram

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
    assert "only is finished" not in make(tmp_path, declared)  # lost once more, and then made
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
def test_after_so_many_failures_in_a_row_no_more_are_made(toy: Toy, tmp_path: Path) -> None:
    declared = {**DECLARED, "seeds": 5, "base": {"rate": 100.0}, "stop_after": 3}
    with pytest.raises(UserError, match=r"^3 runs in a row have failed, and no more are made: .*diverged"):
        make(
            tmp_path, {**declared, "name": "bad", "variations": [{"name": "a"}, {"name": "b", "changes": {"steps": 3}}]}
        )
    parent = next(each for each in mlflow.MlflowClient().search_runs(["0"]) if each.info.run_name == "bad")
    assert parent.info.status == "FAILED"
    assert parent.data.tags["failure"].startswith("StoppedError: 3 runs in a row")


@pytest.mark.parametrize(
    ("says", "expected"), [("max 100000", None), ("150000 100000", 1), ("50000 100000", 1), (None, None)]
)
def test_the_quota_of_a_container_limits_how_many_train(
    says: str | None, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = executors.cores()
    monkeypatch.setattr(executors, "_QUOTA", tmp_path / "cpu.max")
    if says:
        (tmp_path / "cpu.max").write_text(says + "\n")
    assert executors.cores() == (expected or allowed)
