"""From frames to a `Conclusion`, and a `Conclusion` through JSON: what needs no store."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline import inference
from pipeline.compare import checks, concluding, evidence
from pipeline.compare.analysis import Analysis
from pipeline.compare.conclusion import Conclusion, Finding, Unequal
from pipeline.compare.grouping import GroupedRuns, group
from pipeline.compare.report import audits, sentences, values
from pipeline.compare.request import CompareRequest
from pipeline.errors import UserError
from pipeline.metrics import METRICS, guess
from pipeline.study.plan import Study
from pipeline.task import load
from pipeline.train.config import RunConfig

ORIGIN: dict[str, Any] = {
    "command": "python -m pipeline.compare",
    "experiments": ("Default",),
    "filter": "",
    "study_run_id": None,
    "made": "2026-01-01T00:00:00Z",
    "versions": {},
    "first_run": None,
    "last_run": None,
}
NO_HISTORIES = pd.DataFrame(columns=["run_id", "epoch"])


def frame(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """As `reading.runs` gives it, the last one first: `p_x` is a param, `m_x` a metric, `t_x` a tag."""
    rows = []
    for number, run in enumerate(runs):
        row: dict[str, Any] = {"run_id": f"{number:032x}", "name": "", "status": "FINISHED", "ours": False}
        row |= {"start": 0.0, "end": 1.0, "last_epoch": math.nan}
        for key, value in run.items():
            kind = {"p_": "params.", "m_": "metrics.", "t_": "tags."}.get(key[:2])
            row[f"{kind}{key[2:]}" if kind else key] = value
        rows.append(row)
    found = pd.DataFrame(rows[::-1], dtype=object)
    numbers = [name for name in found if name.startswith("metrics.") or name == "last_epoch"]
    return found.astype({**dict.fromkeys(numbers, float), "ours": bool})


def grouped(runs: pd.DataFrame, **request: Any) -> GroupedRuns:
    return group(runs, CompareRequest(**request), load())


def conclude(runs: Sequence[Mapping[str, Any]], **request: Any) -> Conclusion:
    return concluding.conclude(grouped(frame(runs), **request), NO_HISTORIES, None, ORIGIN)


def findings(conclusion: Conclusion, kind: str) -> tuple[bool | None, list[Finding]]:
    check = next(check for check in conclusion.checks if check.kind == kind)
    return check.passed, list(check.findings)


# --- What tells repetitions apart -------------------------------------------------------------------------------------


def repeated(how: str, sides: str = "xy", count: int = 5) -> list[Mapping[str, Any]]:
    """Runs of two models; the repetitions are told apart by a parameter `p_...`, a tag `t_...`, or the run's name."""
    return [
        {
            "p_model": side,
            "m_val_acc": 0.9 - 0.01 * (side == "y") + shared / 10 + shared % 2 / 1000 * (side == "y"),
            **({"name": f"{side}_seed{shared}"} if how == "name" else {how: str(shared)}),
        }
        for side in sides
        for shared in range(count)
    ]


@pytest.mark.parametrize(
    ("how", "column"),
    [
        ("p_seed", "params.seed"),
        ("p_training.seed", "params.training.seed"),
        ("p_cfg/seed", "params.cfg/seed"),
        ("p_random_state", "params.random_state"),
        ("p_repeat_num", "params.repeat_num"),
        ("p_try", "params.try"),
        ("t_seed", "tags.seed"),
        ("name", "name"),
    ],
)
def test_what_tells_repetitions_apart_is_found(how: str, column: str) -> None:
    conclusion = conclude(repeated(how), baseline="model=y")
    assert conclusion.repetitions == (column,)
    (pair,) = conclusion.pairs
    assert (pair.difference.paired, pair.difference.n_pairs, pair.confounded_by) == (True, 5, ())
    assert [variation.seeds for variation in conclusion.variations] == [(0, 1, 2, 3, 4)] * 2


def test_what_tells_repetitions_apart_is_asked_for() -> None:
    runs = [{**run, "p_block": str(number % 5)} for number, run in enumerate(repeated("p_seed"))]
    assert conclude(runs, group_by=("model",)).repetitions == ("params.seed",)
    assert conclude(runs, group_by=("model",), repetitions=("block",)).repetitions == ("params.block",)
    none = conclude(runs, group_by=("model",), repetitions=("none",))
    assert (none.repetitions, none.pairs[0].difference.paired, none.pairs[0].difference.n_a) == ((), False, 5)
    with pytest.raises(UserError, match=r"repetitions='sed' is a parameter or a tag of no run, did you mean 'seed'"):
        conclude(runs, repetitions=("sed",))


def test_folds_of_one_seed_are_repetitions_whose_training_data_overlap() -> None:
    """Nadeau and Bengio's variance by hand: s^2 (1/5 + 1/4) instead of s^2 / 5."""
    runs = [{**run, "p_seed": "42"} for run in repeated("p_fold")]
    (pair,) = conclude(runs, baseline="model=y").pairs
    plain = inference.difference(*(pd.Series([run["m_val_acc"] for run in runs if run["p_model"] == s]) for s in "xy"))
    assert pair.difference.standard_error == pytest.approx(plain.estimate.error * math.sqrt((1 / 5 + 1 / 4) * 5))
    assert [caveat.kind for caveat in pair.caveats] == ["folds"]
    conclusion = conclude(runs, baseline="model=y")
    assert conclusion.repetitions == ("params.fold",)
    assert "Nadeau and Bengio" in " ".join(sentences.notes(pair, conclusion))
    assert "paired by fold, n = 5, corrected for folds that share training data" in sentences.summary(conclusion)[0]


def test_folds_over_several_seeds_are_told_apart_by_both() -> None:
    runs = [
        {**run, "p_seed": str(seed), "m_val_acc": run["m_val_acc"] + seed / 50}
        for run in repeated("p_fold")
        for seed in (1, 2)
    ]
    conclusion = conclude(runs, baseline="model=y")
    assert conclusion.repetitions == ("params.fold", "params.seed")
    assert conclusion.pairs[0].difference.n_pairs == 10


def test_one_seed_for_all_that_did_not_fix_the_runs() -> None:
    runs = [{**run, "p_seed": "38"} for run in repeated("p_note")]
    conclusion = conclude([{key: value for key, value in run.items() if key != "p_note"} for run in runs])
    assert [cell.n for each in conclusion.variations for cell in each.cells] == [5, 5]
    same = conclude([{**run, "m_val_acc": 0.51234567 + (run["p_model"] == "x")} for run in runs], group_by=("model",))
    assert [flag.flag for each in same.variations for flag in each.flags] == ["identical repetitions"] * 2
    assert [pair.finding for pair in same.pairs] == ["not judged"]


@pytest.mark.parametrize("of_fold", ["{fold}", "fold_{fold}", "Fold{fold}", "{fold}.0", "{fold}/5"])
def test_folds_are_told_by_their_numbers_however_they_are_written(of_fold: str) -> None:
    runs = [{**run, "p_fold": of_fold.format(fold=run["p_fold"])} for run in repeated("p_fold")]
    conclusion = conclude(runs, baseline="model=y")
    assert (conclusion.repetitions, conclusion.pairs[0].difference.n_pairs) == (("params.fold",), 5)
    assert "folds" in {caveat.kind for caveat in conclusion.pairs[0].caveats}


@pytest.mark.parametrize("how", ["t_fold", "p_fold_idx", "name"])
def test_folds_that_stand_elsewhere_are_folds_too(how: str) -> None:
    runs = [dict(run) for run in repeated(how)]
    for run in runs:
        run["p_seed"] = "1" if run["p_model"] == "x" else "2"
        run["name"] = str(run.get("name", "")).replace("seed", "seed42-fold")
    conclusion = conclude(runs, group_by=("model",), repetitions=("name",) if how == "name" else ())
    (pair,) = conclusion.pairs
    assert "folds" in {caveat.kind for caveat in pair.caveats}


def test_seeds_as_floats_and_missing_ones() -> None:
    runs = [dict(run) for run in repeated("p_seed")]
    for run in runs:
        run["p_seed"] = f"{int(run['p_seed']) + 2**62}{'.0' if run['p_model'] == 'x' else ''}"
    (pair,) = conclude(runs, baseline="model=y").pairs
    assert pair.difference.n_pairs == 5
    runs[0]["p_seed"] = "None"
    assert conclude(runs, baseline="model=y").pairs[0].difference.n_pairs == 4  # its seed is not known


def test_a_parameter_that_may_be_a_number_of_repetitions_is_one_where_there_is_no_seed() -> None:
    runs = [{**run, "p_model.rep": rep, "p_trial": rep} for run in repeated("p_seed") for rep in ("1", "2")]
    assert {tuple(v.params) for v in conclude(runs).variations} == {("model", "model.rep", "trial")}
    assert conclude(repeated("p_trial")).repetitions == ("params.trial",)


def test_a_parent_with_the_mean_of_its_folds_is_no_repetition() -> None:
    runs = [{**run, "t_mlflow.parentRunId": f"{10 + (run['p_model'] == 'y'):032x}"} for run in repeated("p_fold")]
    parents = [{"p_model": side, "m_val_acc": 0.9} for side in "xy"]
    conclusion = conclude([*runs, *parents], baseline="model=y")
    assert [variation.finished for variation in conclusion.variations] == [5, 5]
    assert audits.left_out(conclusion)[0] == "Runs in no variation: 2."
    assert "it is the parent of runs that are counted" in audits.left_out(conclusion)[1]


def test_tries_that_failed_were_made_all_the_same() -> None:
    """Of two searches with the same good tries, the one of which half diverged is not the better one."""
    good = searched({"adam": 6, "sgd": 6})
    bad = [{**run, "p_lr": f"9{run['p_lr']}", "m_val_loss": math.nan} for run in good if run["p_optimizer"] == "sgd"]
    both = conclude([*good, *bad], nuisance=("lr",), baseline="optimizer=sgd")
    (pair,) = both.pairs
    assert {each.variation: each.tries for each in both.searches} == {"optimizer=adam": 6, "optimizer=sgd": 12}
    of_n = {each.variation: {best.n: best.mean for best in each.expected}[pair.best_of or 0] for each in both.searches}
    assert pair.difference.mean == pytest.approx(of_n["optimizer=adam"] - of_n["optimizer=sgd"])  # as in the table
    lost = conclude([*good[:6], *bad], nuisance=("lr",), baseline="optimizer=sgd").searches
    assert [(each.tries, each.best) for each in lost] == [(6, "lr=0.001"), (6, None)]
    alone = conclude(good, nuisance=("lr",), baseline="optimizer=sgd").pairs[0]
    assert pair.difference.n_b == 12
    assert pair.difference.mean < alone.difference.mean  # adam is better by more
    few = [{**run, "p_lr": "0.1", "p_seed": str(seed)} for seed, run in enumerate(good) if run["p_optimizer"] == "sgd"]
    adam = [run for run in good if run["p_optimizer"] == "adam"]
    assert conclude([*adam, *few], nuisance=("lr",), baseline="optimizer=sgd").pairs[0].finding == "not judged"


def test_a_grid_of_one_seed_has_no_repetitions() -> None:
    runs: list[Mapping[str, Any]] = [
        {"p_layers": str(a), "p_units": str(b), "p_seed": "38", "m_val_loss": a / b} for a in (2, 3) for b in (32, 64)
    ]
    conclusion = conclude(runs)
    assert (conclusion.repetitions, len(conclusion.variations)) == ((), 4)


# --- JSON ---------------------------------------------------------------------------------------------------------


def test_every_number_survives_json() -> None:
    runs: list[Mapping[str, Any]] = [
        {"p_a": "x", "p_seed": "0", "m_loss": 0.1 + 0.2},
        {"p_a": "x", "p_seed": "1", "m_loss": math.inf},
        {"p_a": "y", "p_seed": "0", "m_loss": math.nan, "m_other_loss": -math.inf},
    ]
    conclusion = conclude(runs, metric="loss")
    text = conclusion.model_dump_json()
    content = json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    jsonschema.validate(content, Conclusion.model_json_schema())
    again = Conclusion.model_validate_json(text)
    assert again.model_dump_json() == text
    cells = {(v.name, c.metric): c for v in again.variations for c in v.cells}
    assert cells["a=x", "loss"].mean == math.inf
    assert cells["a=x", "loss"].median == math.inf  # of two values, one infinite
    assert math.isnan(cells["a=y", "loss"].mean)
    assert cells["a=y", "other_loss"].worst == -math.inf
    assert cells["a=x", "loss"].n == 2


def test_the_schema_describes_every_part() -> None:
    schema = Conclusion.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert all("description" in part for part in (schema, *schema["$defs"].values()) if part.get("type") == "object")
    parts = {"Conclusion": schema, **schema["$defs"]}
    fields = {
        f"{name}.{key}": field for name, part in parts.items() for key, field in part.get("properties", {}).items()
    }
    assert len(fields) > 100
    assert [name for name, field in fields.items() if not field.get("description")] == []
    with pytest.raises(ValueError, match="Extra inputs"):
        Unequal.model_validate({"metric": "m", "first": 1.0, "again": None, "more": 1})
    assert math.isnan(Unequal.model_validate({"metric": "m", "first": 1.0, "again": None}).again)


# --- Which runs are one variation ---------------------------------------------------------------------------------


def test_variations_are_what_differs_but_for_the_seed() -> None:
    runs: list[Mapping[str, Any]] = [
        {"p_lr": lr, "p_kind": "sgd", "p_random_state": seed, "m_loss": float(value)}
        for lr, seed, value in (("0.1", "0", 1), ("1e-1", "1", 3), ("0.2", "None", 4), ("0.2", "None", 8))
    ]
    found = grouped(frame(runs))
    assert list(found.configs.items()) == [("lr=0.1", {"lr": "0.1"}), ("lr=0.2", {"lr": "0.2"})]
    assert (found.baseline, found.primary_metric, found.compared) == ("lr=0.1", "loss", ["loss"])
    assert sorted(found.values("lr=0.1", "loss").items()) == [(0, 1.0), (1, 3.0)]
    assert sorted(found.values("lr=0.2", "loss")) == [4.0, 8.0]
    conclusion = concluding.conclude(found, NO_HISTORIES, None, ORIGIN)
    by_name = {v.name: v for v in conclusion.variations}
    assert [c.mean for c in by_name["lr=0.1"].cells] == [2.0]
    assert (by_name["lr=0.2"].cells[0].n, by_name["lr=0.2"].seeds) == (2, ())  # seeds that are not known are two
    assert conclusion.pairs[0].difference.mean == 4.0


def test_the_best_first_and_high_is_good_where_the_name_says_so() -> None:
    runs: list[Mapping[str, Any]] = [{"p_a": a, "m_val_accuracy": x} for a, x in (("x", 0.2), ("y", 0.9), ("z", 0.5))]
    conclusion = conclude(runs, metric="val_accuracy")
    assert [v.name for v in conclusion.variations] == ["a=y", "a=z", "a=x"]
    assert conclusion.metrics[0].higher_is_better
    assert not guess("val_loss").higher_is_better
    assert guess("psnr").higher_is_better


def test_names_and_files_are_unique() -> None:
    odd = ["A", "a", "..", "/", "", "CON/1", "report", "x" * 300, "x" * 299 + "y"]
    conclusion = conclude([{"p_name": name, "p_b": "1" if i % 2 else "2", "m_loss": 1.0} for i, name in enumerate(odd)])
    names, files = [v.name for v in conclusion.variations], [v.file.casefold() for v in conclusion.variations]
    assert len(set(names)) == len(set(files)) == len(odd)
    assert concluding.file_names(["Original", "adam_optimizer", "100_epochs", "with_regularizationTerm"]) == {
        name: name for name in ("Original", "adam_optimizer", "100_epochs", "with_regularizationTerm")
    }
    assert concluding.file_names(["report", "...", "a, b=1"]) == {
        "report": "report_2",
        "...": "variation",
        "a, b=1": "a_b=1",
    }


def test_a_comma_in_a_value_makes_no_two_variations_one() -> None:
    runs: list[Mapping[str, Any]] = [
        {"p_a": "1, b=2", "p_b": None, "m_loss": 1.0},
        {"p_a": "1", "p_b": "2", "m_loss": 2.0},
        {"p_a": "1", "p_b": None, "m_loss": 3.0},
    ]
    assert {v.name for v in conclude(runs).variations} == {"a=1, b=2, b=(none)", "a=1, b=2", "a=1, b=(none)"}


def test_one_run_and_none() -> None:
    one = conclude([{"p_a": "x", "m_loss": 1.0}])
    assert [v.name for v in one.variations] == ["all runs"]
    assert (one.baseline, one.pairs, one.claims) == ("all runs", (), ())
    nothing = pd.DataFrame(columns=["run_id", "name", "status", "start", "end", "ours", "last_epoch"])
    none = concluding.conclude(grouped(nothing), NO_HISTORIES, None, ORIGIN)
    assert (none.baseline, none.metric, none.variations, none.runs) == (None, None, (), ())


def test_a_run_without_any_of_the_parameters_is_left_out_by_name() -> None:
    conclusion = conclude([{"p_a": "x", "m_loss": 1.0}, {"p_b": "y", "m_loss": 2.0}], group_by=("a",))
    left_out = [run for run in conclusion.runs if run.variation is None]
    assert [(run.reason, run.used) for run in left_out] == [("it has none of the parameters a", False)]


def test_a_link_without_its_original_counts_once() -> None:
    runs: list[Mapping[str, Any]] = [
        {"p_a": "x", "m_loss": 1.0},
        {"p_a": "x", "m_loss": 1.0, "t_reused_from": f"{0:032x}"},  # its original is here
        {"p_a": "x", "m_loss": 7.0, "t_reused_from": "elsewhere"},
        {"p_a": "x", "m_loss": 7.0, "t_reused_from": "elsewhere"},
    ]
    (only,) = conclude(runs).variations
    assert (only.finished, only.cells[0].mean) == (2, 4.0)


# --- Fair? --------------------------------------------------------------------------------------------------------


def test_the_level_is_shared_over_the_pairs() -> None:
    rng = np.random.default_rng(1)
    runs: list[Mapping[str, Any]] = [
        {"p_a": name, "p_seed": str(seed), "m_loss": float(shift + rng.normal())}
        for name, shift in (("base", 0.0), ("far", 9.0), ("near", 0.3))
        for seed in range(5)
    ]
    conclusion = conclude(runs, baseline="a=base")
    pairs = {pair.variation: pair for pair in conclusion.pairs}
    p = {name: pair.difference.p for name, pair in pairs.items()}
    assert {name: pair.p_corrected for name, pair in pairs.items()} == pytest.approx(
        {name: min(1, 2 * each) for name, each in p.items()}
    )
    far, values = (
        pairs["a=far"].difference,
        [np.array([r["m_loss"] for r in runs if r["p_a"] == n]) for n in ("far", "base")],
    )
    assert far.confidence == pytest.approx(0.975)
    at_975 = stats.ttest_rel(*values).confidence_interval(0.975)
    assert (far.low, far.high) == pytest.approx((at_975.low, at_975.high))
    assert (pairs["a=far"].finding, pairs["a=near"].finding) == ("higher", "no difference shown")


def test_what_is_not_compared_confounds() -> None:
    runs: list[Mapping[str, Any]] = [
        {"p_a": a, "p_width": width, "p_seed": str(seed), "m_loss": 1.0 + seed, "t_hardware": hardware}
        for a, width, hardware in (("x", "16", "cpu"), ("y", "32", "gpu"))
        for seed in range(2)
    ]
    (pair,) = conclude(runs, group_by=("a",), baseline="a=x").pairs
    assert [(c.name, c.kind, c.variation, c.against) for c in pair.confounded_by] == [
        ("width", "parameter", ("32",), ("16",)),
        ("hardware", "hardware", ("gpu",), ("cpu",)),
    ]
    (pair,) = conclude(runs, baseline="a=x,width=16").pairs
    assert [c.name for c in pair.confounded_by] == ["hardware"]


def test_an_untuned_learning_rate_under_any_of_its_names() -> None:
    def rows(*settings: tuple[str, str]) -> list[Mapping[str, Any]]:
        return [
            {"p_optimizer": o, "p_lr": lr, "p_seed": str(seed), "m_loss": 1.0 + seed / 10}
            for o, lr in settings
            for seed in (0, 1)
        ]

    fixed = conclude(rows(("adam", "0.1"), ("sgd", "0.1")), group_by=("optimizer", "lr"))
    passed, found = findings(fixed, "untuned learning rate")
    assert passed is False
    assert {(f.parameter, f.value, f.tried) for f in found} == {("lr", "adam", ("0.1",)), ("lr", "sgd", ("0.1",))}
    without: list[Mapping[str, Any]] = [
        {key: value for key, value in row.items() if key != "p_lr"} for row in rows(("adam", "1"), ("sgd", "1"))
    ]
    assert findings(conclude(without, group_by=("optimizer",)), "untuned learning rate") == (None, [])  # none is known
    one = conclude(rows(("adam", "0.1"), ("adam", "0.2")), group_by=("optimizer", "lr"))
    assert findings(one, "untuned learning rate") == (None, [])


@pytest.mark.parametrize(
    ("losses", "passed", "best"),
    [((3.0, 2.0, 1.0), False, 0.3), ((1.0, 2.0, 3.0), False, 0.1), ((2.0, 1.0, 2.0), True, None)],
)
def test_the_edge_of_the_grid(losses: tuple[float, ...], passed: bool, best: float | None) -> None:
    runs: list[Mapping[str, Any]] = [
        {"p_lr": lr, "p_o": o, "m_val_loss": x}
        for o in ("a", "b")
        for lr, x in zip(("0.1", "0.2", "0.3"), losses, strict=True)
    ]
    conclusion = conclude(runs)
    told, found = findings(conclusion, "best at the edge of the grid")
    assert told is passed
    assert [(f.parameter, f.value, f.tried) for f in found] == ([] if passed else [("lr", best, (0.1, 0.2, 0.3))])
    told, found = findings(conclusion, "selected on the reported data")
    assert told is False
    assert [(f.parameter, f.value) for f in found] == [("lr", [0.1, 0.2, 0.3][int(np.argmin(losses))])]


def test_parameters_with_names_of_ours() -> None:
    runs: list[Mapping[str, Any]] = [
        {
            "p_variation": str(v),
            "p_mean": str(m),
            "p_run_id": "x",
            "p_used": "y",
            "p_metrics.loss": "z",
            "m_val_loss": v,
        }
        for v in (1.0, 2.0, 3.0)
        for m in (1, 2)
    ]
    conclusion = conclude(runs)
    assert conclusion.differing == ("variation", "mean")
    assert conclusion.variations[0].cells[0].mean == 1.0
    found = findings(conclusion, "best at the edge of the grid")[1]
    assert [(f.parameter, f.value) for f in found] == [("variation", 1.0)]


def test_two_values_are_no_grid() -> None:
    runs: list[Mapping[str, Any]] = [{"p_width": w, "m_val_loss": float(w)} for w in ("16", "32")]
    assert findings(conclude(runs), "best at the edge of the grid") == (None, [])
    assert findings(conclude(runs), "selected on the reported data") == (None, [])


@pytest.mark.parametrize("edge", ["", "first_", "last_"])
@pytest.mark.parametrize("part", ["", "val_"])
def test_every_penalised_loss_has_its_reconstruction(edge: str, part: str) -> None:
    rows = {row.name: row for row in METRICS}
    assert rows[f"{edge}{part}loss"].contains == ("l1",)
    assert rows[f"{edge}{part}loss"].without == f"{edge}{part}bce"
    assert not rows[f"{edge}{part}bce"].contains


def test_every_check_has_its_words() -> None:
    assert audits._CHECKS.keys() == checks.CHECKS.keys()


def optimizers(
    *rates: tuple[str, float, float],
    claims: Sequence[tuple[int, int]],
    elsewhere: Sequence[tuple[RunConfig, float]] = (),
) -> Conclusion:
    """Claims about variations of an optimizer and a learning rate, each with a loss that the seeds hardly change."""
    configs = [RunConfig(optimizer=o, learning_rate=rate, epochs=2) for o, rate, _ in rates]
    names = [f"{o} {rate}" for o, rate, _ in rates]
    study = Study.model_validate(
        {
            "name": "s",
            "description": "d",
            "base": {"epochs": 2},
            "seeds": 3,
            "variations": [
                {"name": name, "changes": {"optimizer": o, "learning_rate": rate}}
                for name, (o, rate, _) in zip(names, rates, strict=True)
            ],
            "claims": [
                {
                    "says": f"{names[a]} is better than {names[b]}",
                    "variation": names[a],
                    "against": names[b],
                    "about": ["optimizer"],
                    "metric": "last_val_bce",
                    "direction": "lower",
                    "smallest_effect": 0.001,
                }
                for a, b in claims
            ],
            "published": {
                "source": "print",
                "values": {names[0]: {"last_val_bce": 0.1}, names[1]: {"last_val_bce": 0.3, "last_loss": 0.3}},
            },
        }
    )

    def run(config: RunConfig, **more: Any) -> Mapping[str, Any]:
        return {**{f"p_{key}": value for key, value in config.model_dump().items()}, "ours": True, **more}

    runs = [
        run(config.model_copy(update={"seed": seed}), t_variation=name, m_last_val_bce=loss + seed / 1000)
        for name, config, (_, _, loss) in zip(names, configs, rates, strict=True)
        for seed in range(3)
    ]
    others = frame([run(config, m_last_val_bce=loss) for config, loss in elsewhere]) if elsewhere else None
    return concluding.conclude(grouped(frame(runs), study=study), NO_HISTORIES, others, ORIGIN)


def test_what_remains_of_a_claim_is_found_at_better_learning_rates() -> None:
    four = (("adam", 0.001, 0.09), ("sgd", 0.01, 0.6), ("sgd", 1.0, 0.1), ("sgd", 9.0, 0.7))
    claims = optimizers(*four, claims=[(0, 1), (0, 2), (3, 0)]).claims
    assert [claim.at_better_rates for claim in claims] == [(1,), (), (0, 1)]  # sides turned round count, too
    alone = optimizers(*four, claims=[(0, 1)]).claims
    assert [claim.at_better_rates for claim in alone] == [()]
    same = optimizers(*four, claims=[(1, 2), (1, 3)]).claims  # of one optimizer: its learning rate is the question
    assert [claim.at_better_rates for claim in same] == [(), ()]


def test_a_learning_rate_is_tuned_by_runs_of_the_same_model() -> None:
    def untuned(*elsewhere: tuple[RunConfig, float]) -> list[tuple[str, ...]]:
        two = (("adam", 0.001, 0.09), ("sgd", 0.01, 0.6))
        conclusion = optimizers(*two, claims=[(0, 1)], elsewhere=elsewhere)
        (check,) = (check for check in conclusion.checks if check.kind == "untuned learning rate")
        assert check.passed is (not conclusion.claims[0].caveats)
        return [caveat.optimizers for caveat in conclusion.claims[0].caveats]

    def others(optimizer: str, *results: tuple[float, float], **more: Any) -> list[tuple[RunConfig, float]]:
        config = RunConfig(optimizer=optimizer, epochs=2, **more)
        return [(config.model_copy(update={"learning_rate": rate}), loss) for rate, loss in results]

    adam, sgd = others("adam", (0.0001, 0.2), (0.01, 0.3)), others("sgd", (0.001, 0.7), (1.0, 0.65))
    assert untuned() == [("adam", "sgd")]
    assert untuned(*sgd) == [("adam",)]
    assert untuned(*others("sgd", (0.001, 0.7), (1.0, 0.65), decoder_hidden=784)) == [("adam", "sgd")]
    assert untuned(*sgd, *adam) == []
    assert untuned(*sgd, *others("adam", (0.0001, 0.2), (0.01, 0.05))) == [("adam",)]  # the best is another
    assert untuned(*sgd[:1], *adam) == [("sgd",)]  # of two rates, one lies at each edge


def test_what_was_measured_on_other_images_is_not_comparable() -> None:
    def run(seed: int, validation: int) -> Mapping[str, Any]:
        config = RunConfig(optimizer="adam", epochs=2, validation=validation, seed=seed)
        losses = {"m_last_val_bce": 0.09 + seed / 1000 + validation / 1e5, "m_last_bce": 0.1 + seed / 1000}
        return {**{f"p_{key}": value for key, value in config.model_dump().items()}, "ours": True, **losses}

    runs = [run(seed, validation) for validation in (0, 100) for seed in range(3)]
    conclusion = conclude(runs, baseline="validation=0")
    (pair,) = (pair for pair in conclusion.pairs if pair.asked == "last_val_bce")
    assert (pair.metric, pair.why, pair.finding) == (None, "other data", "not judged")
    assert sentences.warnings(pair, conclusion) == ["last val_bce not comparable"]
    assert sentences.pair_sentence(pair, conclusion) == (
        "Not judged: last_val_bce is of other data on the one side than on the other."
    )
    assert values.best_of(conclusion, values.metric_of(conclusion, "last_val_bce")) is None  # of other images
    alike = conclude([run(seed, n) for n in (50, 100) for seed in range(3)], baseline="validation=50")
    assert [pair.why for pair in alike.pairs if pair.asked == "last_val_bce"] == ["as asked"]
    assert values.best_of(alike, values.metric_of(alike, "last_val_bce")) is not None


@pytest.mark.parametrize(("validation", "passed"), [(0, False), (100, True)])
def test_what_is_chosen_on_images_that_are_held_out_is_reported_on_others(validation: int, passed: bool) -> None:
    def run(rate: float, seed: int) -> Mapping[str, Any]:
        config = RunConfig(optimizer="adam", epochs=2, validation=validation, learning_rate=rate, seed=seed)
        losses = {"m_last_val_bce": 0.1 + rate + seed / 1000, "m_test_bce": 0.2 + rate + seed / 999, "ours": True}
        return {**{f"p_{key}": value for key, value in config.model_dump().items()}, **losses}

    runs = frame([run(rate, seed) for rate in (0.1, 0.2, 0.3) for seed in range(3)])
    analysis = Analysis(grouped(runs), NO_HISTORIES)
    judged = [pair for pair in analysis.pairs() if pair.asked == "test_bce"]
    (check,) = (each for each in checks.run(analysis, judged) if each.kind == "selected on the reported data")
    assert len(judged) == 2
    assert check.passed is passed


def test_an_unequal_budget_that_no_parameter_says() -> None:
    def warned(steps: tuple[float, float], **params: Any) -> list[list[str]]:
        """Of two optimizers whose runs logged so many steps each, what stands beside their difference."""
        runs: list[Mapping[str, Any]] = [
            {
                **{f"p_{name}": values[side] for name, values in params.items()},
                "p_optimizer": name,
                "p_seed": str(seed),
                "m_val_acc": 0.9 + seed / 100,
                "last_epoch": steps[side],
            }
            for side, name in enumerate(("a", "b"))
            for seed in range(3)
        ]
        conclusion = conclude(runs, metric="val_acc", group_by=("optimizer",))
        return [sentences.warnings(pair, conclusion) for pair in conclusion.pairs]

    assert warned((40, 40)) == warned((40, 37)) == warned((0, 40)) == warned((math.nan, 40)) == [[]]
    assert warned((10, 40)) == [["unequal budget (40 against 10 steps)"]]
    assert warned((10, 40), epochs=("10", "40")) == [
        ["confounded by epochs"]
    ]  # a parameter says so: named as what it is
    assert warned((100, 400), batch=("64", "16")) == [["confounded by batch"]]  # as much data
    assert warned((10, 40), layers=("1", "4")) == [["confounded by layers", "unequal budget (40 against 10 steps)"]]
    assert warned((10, 40), note=("x", "y")) == [["confounded by note", "unequal budget (40 against 10 steps)"]]
    assert warned((10, 40), decay=("0.1", "0.4")) == [["confounded by decay", "unequal budget (40 against 10 steps)"]]


def searched(sizes: Mapping[str, int]) -> list[Mapping[str, Any]]:
    """Of each optimizer, so many learning rates, the losses a little higher for the second."""
    return [
        {
            "p_optimizer": name,
            "p_lr": f"{10.0**-power:g}",
            "p_seed": "0",
            "m_val_loss": 1.0 + place + abs(power - 3) / 10,
        }
        for place, (name, count) in enumerate(sizes.items())
        for power in range(count)
    ]


def test_what_was_searched_is_compared_by_the_expected_best() -> None:
    (plain,) = conclude(searched({"adam": 6, "sgd": 9}), group_by=("optimizer",), baseline="optimizer=sgd").pairs
    assert [each.name for each in plain.confounded_by] == ["lr"]
    conclusion = conclude(searched({"adam": 6, "sgd": 9}), nuisance=("lr",), baseline="optimizer=sgd")
    (pair,) = conclusion.pairs
    assert (pair.confounded_by, pair.caveats, pair.beats, pair.best_of) == ((), (), None, 2)
    # So many tenths each rate is off; of all pairs the lesser counts.
    offs = {"adam": [0, 1, 1, 2, 2, 3], "sgd": [0, 1, 1, 2, 2, 3, 3, 4, 5]}
    lesser = {name: np.mean([min(two) for two in itertools.combinations(each, 2)]) for name, each in offs.items()}
    assert pair.difference.mean == pytest.approx(-1 + (lesser["adam"] - lesser["sgd"]) / 10)
    assert pair.finding == "lower"
    assert "expected best of 2, from 6 and 9 tries" in sentences.pair_sentence(pair, conclusion)
    adam, sgd = conclusion.searches
    assert (adam.variation, adam.tries, adam.best) == ("optimizer=adam", 6, "lr=0.001")
    assert [each.n for each in sgd.expected] == [1, 2, 4, 8, 9]
    assert sgd.expected[-1].mean == pytest.approx(2.0)  # of all of them, the best
    assert [math.isnan(each.low) for each in sgd.expected] == [False, False, True, True, True]
    assert findings(conclusion, "untuned learning rate") == (None, [])
    passed, (found,) = findings(conclusion, "selected on the reported data")
    assert (passed, found.parameter) == (False, "lr")
    (few,) = conclude(searched({"adam": 3, "sgd": 9}), nuisance=("lr",), baseline="optimizer=sgd").pairs
    assert few.finding == "not judged"
    assert sentences.pair_sentence(few, conclusion) == (
        "Not judged: Too few tries for an interval of what is best: \u201coptimizer=adam\u201d (3) and "
        "\u201coptimizer=sgd\u201d (9)."
    )


def test_of_a_metric_that_nobody_knows_no_best_is_named() -> None:
    def run(optimizer: str, seed: int) -> Mapping[str, Any]:
        value = 3.0 * (optimizer == "sgd") + seed / 10
        return {"p_optimizer": optimizer, "p_lr": "0.1", "p_seed": str(seed), "m_flux": value, "m_epoch": 5.0 + value}

    runs = [run(optimizer, seed) for optimizer in ("adam", "sgd") for seed in range(3)]
    conclusion = conclude(runs, group_by=("optimizer",), baseline="optimizer=sgd")
    assert (conclusion.metric, values.metric_of(conclusion, "flux").higher_is_better) == ("flux", None)
    assert sentences.summary(conclusion)[1] == (
        "Which way flux is better is not known: say --better higher or --better lower."
    )
    (pair,) = conclusion.pairs
    assert (pair.finding, pair.beats) == ("lower", None)  # a difference there is, and no better one
    assert {math.isnan(cell.worst) for each in conclusion.variations for cell in each.cells} == {True}
    assert [check.passed for check in conclusion.checks] == [None, False, None, None]  # no rate is shown to be the best
    told = conclude(runs, group_by=("optimizer",), baseline="optimizer=sgd", better="higher")
    assert sentences.summary(told)[1].startswith("Highest flux: \u201coptimizer=sgd\u201d")
    assert [each.name for each in told.variations] == ["optimizer=sgd", "optimizer=adam"]  # the best first
    assert told.pairs[0].beats is not None
    with pytest.raises(UserError, match=r"which way of 'flux' is better is not known; give --better"):
        conclude(runs, nuisance=("lr",))


@pytest.mark.parametrize("name", ["bleu", "eval/rougeL", "val_acc", "ndcg@10", "reward", "neg_mean_squared_error"])
def test_high_is_good_of_what_every_field_measures(name: str) -> None:
    def run(side: str, seed: int) -> Mapping[str, Any]:
        return {"p_a": side, "p_seed": str(seed), f"m_{name}": 0.1 * (side == "x") + seed / 100}

    conclusion = conclude([run(side, seed) for side in "xy" for seed in range(3)])
    assert sentences.summary(conclusion)[1].startswith(f"Highest {name}: \u201ca=x\u201d")


def test_what_counts_and_what_is_set_are_no_results() -> None:
    runs: list[Mapping[str, Any]] = [
        {"p_a": a, "p_seed": str(s), "m_epoch": 3.0, "m_lr-Adam": 0.1, "m_system/cpu": 50.0, "m_zeal": float(s)}
        for a in "xy"
        for s in range(3)
    ]
    assert conclude(runs).metric == "zeal"
    assert {pair.asked for pair in conclude(runs).pairs} == {"zeal"}
    assert {pair.asked for pair in conclude(runs, metric="epoch").pairs} == {"epoch"}, "unless it is asked for"


def test_what_was_searched_of_the_tasks_own_runs() -> None:
    def run(optimizer: str, rate: float, seed: int) -> Mapping[str, Any]:
        config = RunConfig(optimizer=optimizer, epochs=2, learning_rate=rate, seed=seed)
        return {
            **{f"p_{key}": value for key, value in config.model_dump().items()},
            "ours": True,
            "m_last_val_bce": 0.1 + abs(math.log10(rate) + 2) / 10 + seed / 1000,
        }

    runs = [run(o, rate, s) for o in ("adam", "sgd") for rate in (1e-4, 1e-3, 1e-2, 1e-1) for s in range(2)]
    conclusion = conclude(runs, nuisance=("learning_rate",), metric="last_val_bce")
    assert [(each.tries, each.best) for each in conclusion.searches] == [(4, "learning_rate=0.01")] * 2
    assert {pair.best_of for pair in conclusion.pairs} == {2}
    with pytest.raises(UserError, match=r"nuisance='rate' is a parameter of no run.*; there are optimizer, "):
        conclude(runs, nuisance=("rate",))


def test_published_differences_and_the_chance_of_one_run() -> None:
    published = optimizers(("adam", 0.001, 0.09), ("sgd", 0.01, 0.6), claims=[(0, 1)]).published
    assert published is not None
    (found,) = published.differences
    assert (found.published, found.metric) == (-0.2, "last_val_bce")
    assert found.difference.mean == pytest.approx(-0.51)
    # Two sides of sd 0.001, three seeds each: t(2) = 4.302653, times 0.001 sqrt(2).
    assert found.chance == pytest.approx(4.302653 * 0.001 * math.sqrt(2))
    one = pd.Series({0: 1.0})
    assert math.isnan(evidence.chance_of_one_run(one, pd.Series({0: 1.0, 1: 2.0})))
    rng = np.random.default_rng(0)
    within = [
        abs(rng.normal() - 3 * rng.normal()) < evidence.chance_of_one_run(*map(pd.Series, (a, b)))
        for a, b in ((rng.normal(size=5), 3 * rng.normal(size=5)) for _ in range(500))
    ]
    assert np.mean(within) >= 0.94  # of two normal sides of unequal spread


# --- Much ---------------------------------------------------------------------------------------------------------


def grid(first: int, second: int) -> list[Mapping[str, Any]]:
    """Three runs of each variation, in which nothing has an effect."""
    rng = np.random.default_rng(0)
    return [
        {
            "p_a": str(a),
            "p_b": str(b),
            "p_seed": str(seed),
            "m_loss": float(rng.normal()),
            "m_other": float(rng.normal()),
        }
        for a in range(first)
        for b in range(second)
        for seed in range(3)
    ]


def test_copies_are_no_repetitions() -> None:
    """Five runs of a side whose seed did nothing: no spread, and a p of 0 if they counted."""
    values = {"base": [0.123456] * 5, "far": [0.234567] * 5, "real": [0.31, 0.3312, 0.3299, 0.32, 0.3102]}
    runs: list[Mapping[str, Any]] = [
        {"p_a": name, "p_seed": str(seed), "m_loss": value, "m_epochs_run": 3.0, "m_training_seconds": seed + 1.0}
        for name, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]
    conclusion = conclude(runs, metric="loss", baseline="a=real")
    flags = {each.name: [(flag.flag, flag.seeds) for flag in each.flags] for each in conclusion.variations}
    copied = [("identical repetitions", (0, 1, 2, 3, 4))]
    assert flags == {"a=base": copied, "a=far": copied, "a=real": []}
    for pair in conclusion.pairs:
        assert (pair.finding, math.isnan(pair.p_corrected), pair.beats) == ("not judged", True, None)
        assert pair.difference.mean < 0
        assert sentences.pair_sentence(pair, conclusion) == (
            f"Not judged: Copies, not repetitions: the runs of \u201c{pair.variation}\u201d have the very same "
            "results, whatever their seed."
        )


def test_what_is_no_copy() -> None:
    columns = ["variation", "seed", "metrics.loss", "metrics.acc"]
    rows = [
        ("one seed twice", 0, 0.1234567, 0.5),
        ("one seed twice", 0, 0.1234567, 0.5),
        ("coarse", 0, 0.5, 0.97),  # two shares of a hundred images
        ("coarse", 1, 0.5, 0.97),
        ("almost", 0, 0.1234567, 0.5),
        ("almost", 1, 0.12345670001, 0.5),
        ("two of three", 0, 0.7654321, 0.25),
        ("two of three", 1, 0.7654321, 0.25),
        ("two of three", 2, 0.7, 0.25),
        ("all coarse", 0, 0.5, 0.97),
        ("all coarse", 1, 0.5, 0.97),
        ("all coarse", 2, 0.5, 0.97),
        ("unknown", None, 0.111111, math.nan),
        ("unknown", None, 0.111111, math.nan),
    ]
    found = evidence.copies(pd.DataFrame(rows, columns=columns).astype({"seed": object}), columns[2:])
    assert found.values.tolist() == [
        ["two of three", "identical repetitions", (0, 1), None],
        ["all coarse", "identical repetitions", (0, 1, 2), None],
        ["unknown", "identical repetitions", (), 2],
    ]
    assert evidence.copies(pd.DataFrame(rows, columns=columns), []).empty


@pytest.mark.parametrize("constants", [(101770.0, 203530.0), (0.00012345, 0.00067891)])
def test_what_no_seed_moves_makes_no_copies(constants: tuple[float, float]) -> None:
    """A count of parameters, or the last learning rate, is the same for every seed, however many digits it has."""
    accuracies = {"small": [0.97, 0.97, 0.96, 0.98, 0.95], "large": [0.98, 0.99, 0.97, 0.98, 0.96]}
    rows = [
        {"variation": name, "seed": seed, "metrics.acc": accuracy, "metrics.constant": constant}
        for (name, of_seeds), constant in zip(accuracies.items(), constants, strict=True)
        for seed, accuracy in enumerate(of_seeds)
    ]
    metrics = ["metrics.acc", "metrics.constant"]
    assert evidence.copies(pd.DataFrame(rows), metrics).empty
    # Where no seed moves anything, in either variation, there is nothing but copies.
    nothing_moves = pd.DataFrame(rows).assign(**{"metrics.acc": 0.97})[lambda runs: runs["seed"] < 2]
    assert evidence.copies(nothing_moves, metrics)["variation"].tolist() == ["small", "large"]


def test_the_work_grows_with_the_variations_and_not_with_their_square() -> None:
    def calls(variations: int) -> int:
        runs, count = grid(5, variations // 5), 0

        def counted(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += event == "call"

        before = sys.getprofile()
        sys.setprofile(counted)
        try:
            conclude(runs, metric="loss", baseline="a=0,b=0")
        finally:
            sys.setprofile(before)
        return count

    calls(20)  # what is imported, and remembered, when it is first used
    twenty, forty, eighty = (calls(n) for n in (20, 40, 80))
    assert eighty - forty < 3 * (forty - twenty)  # twice that, and four times where it is the square


@pytest.mark.slow
def test_a_thousand_variations() -> None:
    """Each against the baseline."""
    runs = grid(25, 40)
    conclusion = conclude(runs, metric="loss", baseline="a=0,b=0")
    assert (len(conclusion.variations), len(conclusion.pairs)) == (1000, 999)
    # No effect anywhere: with the level shared out, hardly ever is a single one of them significant.
    assert sum(pair.finding in ("lower", "higher") for pair in conclusion.pairs) == 0
    pair = conclusion.pairs[500]
    values = {
        name: pd.Series({int(str(r["p_seed"])): r["m_loss"] for r in runs if f"a={r['p_a']}, b={r['p_b']}" == name})
        for name in (pair.variation, pair.against)
    }
    by_hand = inference.difference(values[pair.variation], values[pair.against])
    assert (pair.difference.mean, pair.difference.p) == pytest.approx(
        (by_hand.estimate.mean, float(by_hand.estimate.p_different()))
    )


def test_an_unknown_question_is_one_line() -> None:
    with pytest.raises(UserError, match=r"baseline='a=z' fits no variation.*give parameter=value") as error:
        conclude([{"p_a": "x", "m_loss": 1.0}, {"p_a": "y", "m_loss": 1.0}], baseline="a=z")
    assert "\n" not in str(error.value)
