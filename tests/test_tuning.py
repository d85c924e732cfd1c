"""Nuisance parameters: each side of a comparison is tuned on its own, and reported on other seeds and other data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from mlflow.entities import Run

from pipeline.compare import run as compare
from pipeline.compare import verify
from pipeline.compare.conclusion import Check, Conclusion
from pipeline.errors import UserError
from pipeline.study import files, plan, tuning
from pipeline.study import run as study
from tests.test_conclusion import conclude
from tests.test_study import runs_in
from tests.toy import AtOnce, Toy

CLAIM = {
    "says": "clever is better than plain.",
    "variation": "clever",
    "against": "plain",
    "about": ["method"],
    "metric": "test_error",
    "direction": "lower",
    "smallest_effect": 0.01,
}
DECLARED: dict[str, Any] = {
    "name": "tuned",
    "description": "Which method is better when both are tuned?",
    "seeds": 3,
    "variations": [{"name": "plain"}, {"name": "clever", "changes": {"method": "clever"}}],
    "nuisance": {"rate": [0.01, 0.1, 1.0, 10.0]},
    "claims": [CLAIM],
}


def parse(**changes: Any) -> plan.Study:
    return files.parse(yaml.safe_dump({**DECLARED, **changes}), "s.yaml")


def make(folder: Path, declared: dict[str, Any] | None = None, interrupted_at: str = "", **options: Any) -> str:
    file = folder / "s.yaml"
    file.write_text(yaml.safe_dump(declared or DECLARED))
    return study.run(study.Options(study=str(file), **options), AtOnce(interrupted_at))


# --- The plan


@pytest.mark.usefixtures("toy")
def test_each_variation_is_tried_at_each_point_with_seeds_that_are_not_reported() -> None:
    declared = parse(tuning={"seeds": 2}, aa_test=True)
    trials = declared.trials()
    assert len(trials) == 2 * 2 * 4  # seeds, variations, points
    assert [t.point for t in trials[:4]] == [{"rate": 0.01}, {"rate": 0.1}, {"rate": 1.0}, {"rate": 10.0}]
    assert {t.config.method for t in trials if t.variation == "clever"} == {"clever"}
    assert all(t.config.rate == t.point["rate"] for t in trials)
    assert {t.config.seed for t in trials}.isdisjoint(config.seed for _, config in declared.runs())
    assert parse(seeds=[1_000_000, 7]).tuning_seeds == (1_000_001, 1_000_002)
    assert declared.narrowed(seeds=[5, 6]).tuning_seeds == declared.tuning_seeds, "more seeds need no new tuning"


@pytest.mark.usefixtures("toy")
def test_what_was_chosen_is_what_the_variation_is() -> None:
    declared = parse(aa_test=True).at({"plain": {"rate": 0.1}, "clever": {"rate": 1.0}})
    rates = {name: config.rate for name, config in declared.runs()}
    assert rates == {"plain": 0.1, "clever": 1.0, "plain (A/A)": 0.1, "plain (again)": 0.1}
    assert declared.narrowed(["clever"]).configurations()["clever"].rate == 1.0


@pytest.mark.usefixtures("toy")
def test_the_product_of_several_and_what_a_variation_sets_itself() -> None:
    variations = [{"name": "plain"}, {"name": "fixed", "changes": {"rate": 0.01}}]
    declared = parse(variations=variations, nuisance={"rate": [0.1, 1.0], "steps": [3, 4]}, claims=[])
    assert declared.tuned == {"plain": {"rate": [0.1, 1.0], "steps": [3, 4]}, "fixed": {"steps": [3, 4]}}
    points = [t.point for t in declared.trials() if t.variation == "plain"]
    assert points[:4] == [{"rate": r, "steps": s} for r in (0.1, 1.0) for s in (3, 4)]
    declared = parse(variations=variations, claims=[])
    assert list(declared.tuned) == ["plain"], "the same configuration but for the tuning is a variation of its own"


@pytest.mark.usefixtures("toy")
def test_the_digest_covers_the_tuning_and_not_what_it_chooses() -> None:
    hashes = {"toy data": "h"}
    declared = parse()
    assert declared.at({"plain": {"rate": 0.1}}).points
    others = [
        parse(nuisance={}),
        parse(nuisance={"rate": [0.01, 0.1, 1.0]}),
        parse(tuning={"seeds": 3}),
        parse(tuning={"metric": "error"}),
    ]
    assert len({each.digests(hashes) for each in (declared, *others)}) == 5
    assert parse(description="other words").digests(hashes) == declared.digests(hashes)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"base": {"held_out": 0}},
            "nuisance: *'plain' would be chosen by val_error on the test data, on which it is reported; "
            "set held_out above 0, or give a tuning.metric of other data: ",
        ),
        (
            {"claims": [{**CLAIM, "metric": "val_error"}]},
            "claims[0].metric = val_error: it is of the validation data, on which 'plain' is tuned; "
            "allowed: test_error",
        ),
        ({"tuning": {"metric": "test_error"}}, "test_error on the test data"),
        ({"nuisance": {"rate": [0.1, 0.1]}}, "a value stands there twice; leave one"),
        ({"nuisance": {"seed": [1, 2]}}, "nuisance.seed"),
        ({"tuning": {"seeds": 0}}, "tuning.seeds = 0: "),
        ({"tuning": {"seed": 2}}, "there is no such key, did you mean 'seeds'?"),
        ({"nuisance": {"rate": [float(n) for n in range(1, 1001)]}, "tuning": {"seeds": 6}}, "12,000 runs to tune by"),
        ({"base": {}, "grid": {"rate": [1.0, 2.0]}, "claims": []}, "every variation sets these parameters itself"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as error:
        parse(**changes)
    (line,) = str(error.value).splitlines()
    for part in says.split("*"):
        assert part in line


# --- The choice


@pytest.mark.parametrize(
    ("results", "higher", "chosen"),
    [
        ({1: [3.0, 5.0], 2: [4.5, 4.0], 3: [4.25, 4.25]}, False, 1),  # means 4, 4.25, 4.25
        ({1: [3.0, 5.0], 2: [4.5, 4.0], 3: [4.25, 4.25]}, True, 2),  # of two best the first
        ({1: [1.0, math.nan], 2: [4.0, 4.0]}, False, 2),
        ({1: [math.inf, 1.0], 2: [4.0, 4.0]}, True, 2),
        ({1: [], 2: [math.nan]}, False, None),
    ],
)
def test_the_best_mean_of_a_point_without_failures(
    results: dict[int, list[float]], higher: bool, chosen: int | None
) -> None:
    found = tuning.best([({"x": point}, values) for point, values in results.items()], higher)
    assert found == (None if chosen is None else {"x": chosen})


# --- Running


def of_role(runs: dict[str, Run], tuned_by: bool) -> dict[str, Run]:
    return {name: run for name, run in runs.items() if name != "tuned" and ("role" in run.data.tags) == tuned_by}


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_each_side_is_reported_at_its_own_best_point(toy: Toy, tmp_path: Path) -> None:
    message = make(tmp_path)
    assert message.startswith("tuned is finished: 6 runs, tuned by 16 more\n")
    runs = runs_in(tmp_path)
    parent = runs["tuned"].info
    trials, reported = of_role(runs, True), of_role(runs, False)
    assert {name: run.data.params["rate"] for name, run in reported.items()} == {
        **{f"plain seed {seed}": "0.1" for seed in range(3)},
        **{f"clever seed {seed}": "1.0" for seed in range(3)},
    }
    assert len(trials) == 16
    tags = trials["clever tuning rate=10.0 seed 1000001"].data.tags
    assert (tags["role"], tags["variation"], tags["grid_point"]) == ("tuning", "clever", "rate=10.0")
    assert tags["mlflow.parentRunId"] == parent.run_id
    recorded = mlflow.artifacts.load_dict(f"{parent.artifact_uri}/tuned.json")
    assert recorded == {"plain": {"rate": 0.1}, "clever": {"rate": 1.0}}
    assert not list((tmp_path / "state").rglob("*.jsonl")), "what is delivered is kept no longer"

    trained = list(toy.program.trained)
    assert make(tmp_path) == message
    assert toy.program.trained == trained, "done is done"
    make(tmp_path, seeds="4")
    assert toy.program.trained[len(trained) :] == ["plain seed 3", "clever seed 3"], "what is the same is reused"


@pytest.mark.slow
@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("interrupted_at", ["clever tuning rate=0.1 seed 1000001", "plain seed 1"])
def test_after_ctrl_c_it_goes_on_and_chooses_the_same(toy: Toy, tmp_path: Path, interrupted_at: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, interrupted_at=interrupted_at)
    before = list(toy.program.trained)
    assert make(tmp_path).startswith("tuned is finished: 6 runs")
    assert len(toy.program.trained) == len(set(toy.program.trained)) == 16 + 6, before
    assert {run.data.params["rate"] for name, run in runs_in(tmp_path).items() if name.startswith("plain seed")} == {
        "0.1"
    }


@pytest.mark.slow
@pytest.mark.usefixtures("db", "toy")
def test_a_point_that_diverges_is_not_chosen_and_does_not_fail_the_study(tmp_path: Path) -> None:
    assert "is finished" in make(tmp_path, {**DECLARED, "nuisance": {"rate": [10.0, 1000.0]}})
    runs = runs_in(tmp_path)
    assert {run.data.params["rate"] for run in of_role(runs, False).values()} == {"10.0"}
    assert sum(run.info.status == "FAILED" for run in runs.values()) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("db", "toy")
def test_where_every_point_diverges_the_study_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'plain' cannot be tuned: no point .*rate=1000\.0.* give other values"):
        make(tmp_path, {**DECLARED, "nuisance": {"rate": [1000.0]}})
    assert runs_in(tmp_path)["tuned"].info.status == "FAILED"


@pytest.mark.slow
@pytest.mark.usefixtures("db", "toy")
def test_a_dry_run_shows_both_phases(tmp_path: Path) -> None:
    shown = make(tmp_path, dry_run=True).splitlines()
    assert shown[0] == "tuned: 6 runs, 2 variations x 3 seeds, tuned by 16 more"
    assert "to train: clever tuning rate=10.0 seed 1000001" in shown
    assert any(line.startswith("0 done, 0 to reuse, 22 to train in 22 trainings") for line in shown)
    assert runs_in(tmp_path) == {}
    make(tmp_path)
    assert "\n22 done, 0 to reuse, 0 to train" in make(tmp_path, dry_run=True)


@pytest.mark.slow
@pytest.mark.usefixtures("db", "toy")
def test_the_phase_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tuning: 0 of 16 done")
    assert "tuned: plain: rate=0.1" in lines
    assert any(line.startswith("reporting: 0 of 6 done") for line in lines)


# --- What compare says of it


def compared(folder: Path) -> Conclusion:
    compare.compare(compare.Options(study="tuned", out=folder / "out", format="json,md"))
    return verify.read_conclusion(str(folder / "out" / "conclusion.json"))


def check(conclusion: Conclusion, kind: str) -> Check:
    return next(check for check in conclusion.checks if check.kind == kind)


@pytest.mark.slow
@pytest.mark.usefixtures("db", "toy")
def test_the_claim_is_judged_on_the_reported_runs_of_the_tuned_sides(tmp_path: Path) -> None:
    make(tmp_path)
    conclusion = compared(tmp_path)
    (claim,) = conclusion.claims
    assert claim.verdict == "supported"
    assert claim.difference.mean == pytest.approx(0.25 - 0.5)
    assert (claim.difference.n_a, claim.difference.n_b) == (3, 3)
    assert not claim.confounded_by, "the rate is each side's own"
    assert not claim.caveats
    plain, clever = conclusion.tuning
    assert (plain.variation, clever.variation) == ("plain", "clever")
    assert (plain.chosen, clever.chosen) == ({"rate": 0.1}, {"rate": 1.0})
    assert (plain.best, clever.best) == (plain.chosen, clever.chosen)
    assert (plain.metric, plain.seeds, plain.runs, plain.steps) == ("val_error", (1_000_000, 1_000_001), 8, 16)
    assert [point.mean for point in plain.points] == pytest.approx([1.5005, 0.5005, 1.5005, 2.5005])
    assert [point.sd for point in plain.points] == pytest.approx([0.001 / math.sqrt(2)] * 4)
    assert plain.points[1].results == pytest.approx((0.5, 0.501))
    assert 0 <= plain.seconds < 600
    assert check(conclusion, "best at the edge of the grid").passed
    assert [run.reason for run in conclusion.runs if not run.used] == [
        "it was made to tune its variation, and is not reported"
    ] * 16
    report = (tmp_path / "out" / "report.md").read_text()
    assert "| plain | rate=0.1 | error, validation | rate=0.01: 1.5005 ± 0.0007; rate=0.1: 0.5005" in report
    assert "Runs in no variation" not in report

    assert verify.verify(conclusion) == []
    other = conclusion.tuning[0].model_copy(update={"chosen": {"rate": 1.0}})
    assert verify.verify(conclusion.model_copy(update={"tuning": (other, clever)})) == [
        "not what its runs give: tuning[0].chosen.rate says 1.0, its runs say 0.1",
        "tuning: chosen of plain: it was rate=1.0, the best by its runs rate=0.1, "
        "it would now be rate=0.1, the best by its runs rate=0.1",
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("db", "toy")
def test_what_is_best_at_the_edge_says_that_the_grid_is_to_be_widened(tmp_path: Path) -> None:
    make(tmp_path, {**DECLARED, "nuisance": {"rate": [0.1, 0.5]}})
    conclusion = compared(tmp_path)
    assert [each.at_the_edge for each in conclusion.tuning] == [("rate",), ("rate",)]
    found = check(conclusion, "best at the edge of the grid")
    assert not found.passed
    assert [(f.variation, f.parameter, f.value, f.tried) for f in found.findings] == [
        ("plain", "rate", 0.1, (0.1, 0.5)),
        ("clever", "rate", 0.5, (0.1, 0.5)),
    ]
    assert "widen the grid" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("db", "toy")
def test_a_side_that_was_not_tuned_is_said_beside_the_claim(tmp_path: Path) -> None:
    fixed = {"name": "plain", "changes": {"rate": 0.1}}
    make(tmp_path, {**DECLARED, "variations": [fixed, DECLARED["variations"][1]]})
    (claim,) = (conclusion := compared(tmp_path)).claims
    assert [(c.kind, c.tuning_runs) for c in claim.caveats] == [("unequal tuning", (8, 0))]
    assert [other.name for other in claim.confounded_by] == ["rate"]
    assert "not tuned with the same effort: 8 against 0 runs" in (tmp_path / "out" / "report.md").read_text()
    assert [each.variation for each in conclusion.tuning] == ["clever"]


@pytest.mark.slow
@pytest.mark.usefixtures("db", "toy")
def test_what_is_reported_on_the_data_of_the_tuning_is_said_to_be_too_good(tmp_path: Path) -> None:
    make(tmp_path, {**DECLARED, "claims": []})
    found = check(compared(tmp_path), "selected on the reported data")
    assert [(f.variation, f.metric) for f in found.findings] == [("plain", "val_error"), ("clever", "val_error")]


def test_a_learning_rate_that_was_tuned_on_both_sides_is_no_threat() -> None:
    def caveats(nuisance: dict[str, Any]) -> list[str]:
        declared = parse(
            base={"epochs": 1},
            variations=[{"name": name, "changes": {"optimizer": name}} for name in ("adam", "sgd")],
            nuisance=nuisance,
            tuning={"metric": "last_bce"},
            claims=[
                {**CLAIM, "variation": "adam", "against": "sgd", "about": ["optimizer"], "metric": "last_val_bce"},
            ],
        ).at({name: {"learning_rate": rate} for name, rate in (("adam", 0.01), ("sgd", 0.1)) if nuisance})
        runs: list[Mapping[str, Any]] = [
            {"ours": True, "m_last_val_bce": config.learning_rate + config.seed / 1e3, "t_variation": name}
            | {f"p_{key}": value for key, value in config.params.items()}
            for name, config in declared.runs()
        ]
        (claim,) = conclude(runs, study=declared).claims
        return [*(caveat.kind for caveat in claim.caveats), *(other.name for other in claim.confounded_by)]

    assert caveats({}) == ["untuned learning rate", "learning_rate"]
    assert caveats({"learning_rate": [0.001, 0.01, 0.1]}) == []


def test_the_autoencoder_is_tuned_on_images_that_are_held_out() -> None:
    declared = files.load("tuned")
    assert {name: len(grid["learning_rate"]) for name, grid in declared.tuned.items()} == {"adadelta": 7, "adam": 7}
    measured_on = declared.task.measured_on
    held_out, without = (declared.task.configure({"validation": count}) for count in (10_000, 0))
    names = ("last_val_bce", "val_loss", "mse", "test_bce", "test_mse", "last_bce", "loss")
    assert [measured_on(held_out, name) for name in names] == [*["validation"] * 3, *["test"] * 2, *["training"] * 2]
    assert [measured_on(without, name) for name in names] == [*["test"] * 5, *["training"] * 2]
