"""When a claim was declared, what else was tried, and what it all took."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from pipeline.compare import around
from pipeline.compare.conclusion import Claim, Conclusion
from pipeline.compare.report import audits, sentences
from pipeline.compare.request import Declared
from pipeline.errors import UserError
from pipeline.study import files
from tests.test_compare import conclude, written
from tests.test_conclusion import frame
from tests.test_tuning import make
from tests.toy import Toy

CLAIM = {
    "says": "clever is better.",
    "variation": "clever",
    "against": "plain",
    "about": ["method", "rate"],
    "metric": "test_error",
    "direction": "lower",
    "smallest_effect": 0.01,
}
DECLARED: dict[str, Any] = {
    "name": "methods",
    "description": "Which method is better?",
    "seeds": 3,
    "base": {"rate": 0.1},
    "variations": [{"name": "plain"}, {"name": "clever", "changes": {"method": "clever", "rate": 1.0}}],
    "claims": [CLAIM],
}


def with_claim(**changes: Any) -> dict[str, Any]:
    return {**DECLARED, "claims": [{**CLAIM, **changes}]}


def judged(folder: Path, name: str = "methods") -> tuple[Claim, Conclusion]:
    conclusion = conclude(folder, study=name)
    return conclusion.claims[0], conclusion


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("plans", "first_run", "expected"),
    [
        ([(10, {})], 20, ("before", ())),
        ([(30, {})], 20, ("after", ())),
        ([], 20, (None, ())),
        ([(10, {})], math.nan, (None, ())),
        ([(10, {"direction": "higher"}), (30, {})], 20, ("changed", ("direction",))),
        (
            [(10, {"smallest_effect": 1.0, "about": ["method"]}), (30, {})],
            20,
            ("changed", ("smallest_effect", "about")),
        ),
        ([(10, {"about": ["rate", "method"], "says": "In other words."})], 20, ("before", ())),
        ([(5, {"direction": "equal"}), (10, {})], 20, ("before", ())),  # changed, but before there was a run
        ([(10, {}), (30, {"direction": "equal"})], 20, ("before", ())),  # and changed back
        (
            [(10, {}), (15, {"direction": "equal"}), (30, {})],
            20,
            ("changed", ("direction",)),
        ),  # when they ran
        ([(10, {"metric": "error"}), (30, {})], 20, ("after", ())),  # of another metric: another claim
    ],
)
def test_a_claim_that_was_there_before_its_runs(plans: list[Any], first_run: float, expected: Any) -> None:
    (claim,) = files.parse(yaml.safe_dump(DECLARED), "s.yaml").claims
    declared = [Declared(at, files.parse(yaml.safe_dump(with_claim(**changes)), "s.yaml")) for at, changes in plans]
    found = around.declaration(claim, declared[::-1], first_run)
    assert (found["declared"], found["changed"]) == expected


@pytest.mark.usefixtures("db")
def test_a_claim_that_is_changed_when_the_runs_are_there(toy: Toy, tmp_path: Path) -> None:
    make(tmp_path, DECLARED)
    claim, conclusion = judged(tmp_path)
    assert (claim.verdict, claim.declared) == ("supported", "before")
    assert "Declared before the first run that it is judged on." in sentences.other_notes(claim)
    assert conclusion.uncounted == ()
    (took,) = conclusion.efforts
    assert (took.state, took.runs) == ("finished", 6)

    make(tmp_path, with_claim(smallest_effect=0.3))
    claim, conclusion = judged(tmp_path)
    assert len(toy.program.trained) == 6, "nothing is trained for it"
    assert (claim.smallest_effect, claim.verdict) == (0.3, "negligible"), "what is declared now is judged"
    assert (claim.declared, claim.changed) == ("changed", ("smallest_effect",))
    assert [threat.what for threat in sentences.threats(conclusion)] == ["changed afterwards"]
    make(tmp_path, DECLARED)
    assert judged(tmp_path)[0].declared == "before", "it is again what it was"
    (parent,) = mlflow.search_runs(filter_string="tags.plan LIKE '%'", output_format="list")
    kept = mlflow.MlflowClient().list_artifacts(parent.info.run_id, "plans")
    assert (len(kept), parent.info.status) == (3, "FINISHED")
    make(tmp_path, DECLARED)
    assert len(mlflow.MlflowClient().list_artifacts(parent.info.run_id, "plans")) == 3, "nothing new was declared"

    again = {**with_claim(direction="higher"), "seeds": 4}
    make(tmp_path, again)
    claim, conclusion = judged(tmp_path)
    assert (claim.declared, claim.changed, conclusion.looks) == ("changed", ("direction",), 2)
    assert {each.state: each.runs for each in conclusion.efforts} == {"finished": 2, "reused": 6}
    assert conclusion.uncounted == (), "what is reused is counted"


@pytest.mark.usefixtures("db")
def test_a_study_that_was_interrupted_goes_on_with_another_claim(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises((KeyboardInterrupt, UserError)):
        make(tmp_path, DECLARED, "clever seed 1")
    make(tmp_path, with_claim(direction="higher"))
    claim, _ = judged(tmp_path)
    assert (claim.declared, claim.changed, claim.verdict) == ("changed", ("direction",), "contradicted")


@pytest.mark.usefixtures("db", "toy")
def test_what_was_tried_and_is_not_shown(tmp_path: Path) -> None:
    make(tmp_path, DECLARED)
    other = {
        **DECLARED,
        "name": "other",
        "variations": [*DECLARED["variations"], {"name": "slow", "changes": {"rate": 1e-3}}],
    }
    make(tmp_path, other)
    with mlflow.start_run(run_name="by hand"):
        mlflow.log_metric("test_error", 0.7)
    conclusion = written(tmp_path, study="methods")
    assert conclusion.uncounted is not None
    assert [(each.study, each.name, len(each.run_ids)) for each in conclusion.uncounted] == [
        ("other", "slow", 3),
        (None, "by hand", 1),
    ]
    told = audits.tried(conclusion)
    assert told[0] == "Finished runs of the experiment that the study does not count: 4."
    assert "Tried, and not shown" in (tmp_path / "out" / "report.md").read_text()


def test_what_runs_took() -> None:
    runs = frame(
        [
            {"start": 0, "end": 2000},
            {"start": 0, "end": 3000},
            {"status": "FAILED", "start": 0, "end": 500},
            {"status": "KILLED", "start": 0, "end": math.nan},
            {"status": "RUNNING", "start": 0, "end": math.nan},
            {"start": 0, "end": 9000, "t_reused_from": "x"},
        ]
    )
    found = [(each.state, each.runs, each.seconds) for each in around.efforts(runs)]
    assert found[:3] == [("finished", 2, 5.0), ("reused", 1, 0.0), ("failed", 1, 0.5)]
    assert [(state, n, math.isnan(seconds)) for state, n, seconds in found[3:]] == [
        ("killed", 1, True),
        ("running", 1, True),
    ]
