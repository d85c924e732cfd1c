"""Many configurations with one run each: what their results go with, what more tries would give, what to repeat."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline import inference, task
from pipeline.compare.concluding import conclude
from pipeline.compare.conclusion import Conclusion
from pipeline.compare.grouping import GroupedRuns, group
from pipeline.compare.report import sections, sentences
from pipeline.compare.report.blocks import Table
from pipeline.compare.request import CompareRequest
from pipeline.compare.sweep import sweep

RUNS = 40


def searched(count: int = RUNS) -> list[dict[str, Any]]:
    """A random search: the accuracy goes with the learning rate, a little with the layers, not with the decay."""
    chance = random.Random(0)
    runs = []
    for _ in range(count):
        rate, decay, layers = 10 ** chance.uniform(-5, -1), 10 ** chance.uniform(-6, -2), chance.choice([1, 2, 3])
        accuracy = 0.9 - 0.04 * abs(math.log10(rate) + 3) + 0.01 * (layers == 2) + chance.gauss(0, 0.003)
        runs.append({"p.lr": str(rate), "p.decay": str(decay), "p.layers": str(layers), "m.val_acc": accuracy})
    return runs


def grouped(runs: Sequence[dict[str, Any]], **request: Any) -> GroupedRuns:
    rows = [
        {
            "run_id": f"{place:032x}",
            "name": f"run {place}",
            "status": "FINISHED",
            "start": 0.0,
            "end": 1.0,
            "ours": False,
            "epochs": np.nan,
            "last_epoch": 1.0,
            **{f"{'params' if key[0] == 'p' else 'metrics'}.{key[2:]}": value for key, value in run.items()},
        }
        for place, run in enumerate(runs)
    ]
    return group(pd.DataFrame(rows), CompareRequest(**request), task.load())


def concluded(runs: Sequence[dict[str, Any]], **request: Any) -> Conclusion:
    origin: dict[str, Any] = {
        "command": "compare",
        "experiments": ("e",),
        "filter": "",
        "study_run_id": None,
        "made": "",
        "versions": {},
        "first_run": None,
        "last_run": None,
    }
    return conclude(grouped(runs, **request), pd.DataFrame(columns=["run_id", "epoch"]), None, origin)


def test_what_the_results_go_with() -> None:
    runs = searched()
    conclusion = concluded(runs)
    found = conclusion.sweep
    assert found is not None
    assert (found.tries, found.single) == (RUNS, RUNS)
    first, *rest = found.parameters
    assert first.parameter == "lr"
    assert sum(each.n for each in first.settings) == RUNS
    assert [each.n for each in first.settings] == [10] * 4
    assert {each.parameter for each in rest} == {"layers", "decay"}

    frame = pd.DataFrame(runs)
    quarters = [own["m.val_acc"] for _, own in frame.groupby(pd.qcut(frame["p.lr"].astype(float), 4), observed=True)]
    h, p = stats.kruskal(*quarters)
    assert first.share == pytest.approx((h - 3) / (RUNS - 4))
    assert first.p_corrected == pytest.approx(3 * p)
    assert [each.mean for each in first.settings] == pytest.approx([own.mean() for own in quarters])
    assert [each.best for each in first.settings] == pytest.approx([own.max() for own in quarters])
    layers = next(each for each in rest if each.parameter == "layers")
    assert [each.value for each in layers.settings] == ["1", "2", "3"]
    decay = next(each for each in rest if each.parameter == "decay")
    assert decay.p_corrected > 0.05

    every = pd.Series([run["m.val_acc"] for run in runs])
    assert [each.n for each in found.expected] == [1, 2, 4, 8, 16, 32, 40]
    assert found.expected[0].mean == pytest.approx(every.mean())
    assert found.expected[-1].mean == pytest.approx(every.max())
    assert found.expected[2].mean == pytest.approx(inference.expected_best(every, 4, True).mean)
    best = {each.name: each.cells[0].mean for each in conclusion.variations}
    assert [best[name] for name in found.repeat] == sorted(best.values(), reverse=True)[:5]


def test_the_report_says_that_instead_of_forty_rows() -> None:
    conclusion = concluded(searched())
    assert (
        sentences.summary(conclusion)[0]
        == f"Variations: {RUNS}, with one run each: nothing tells a difference from chance."
    )
    report = sections.report(conclusion)
    (section,) = (each for each in report.sections if each.title == "One run each")
    goes, not_shown, repeat = sentences.sweep_notes(conclusion)
    assert goes.startswith("What val_acc goes with, whatever else the runs differ in: lr (")
    assert "decay" in not_shown
    assert repeat.startswith(f"The best of {RUNS} is optimistic. To know more, repeat with several seeds: “lr=")
    assert section.brief
    overview = [table for each in report.sections if each.title == "Verdicts" for table in each.brief]
    assert [getattr(table, "rows", ()) for table in overview] in ([], [[]])
    assert [len(table.rows) for table in section.brief if isinstance(table, Table)] == [4 + 4 + 3, 7]


def test_nobody_knows_which_way_is_better() -> None:
    runs = [{("m.zorp" if key == "m.val_acc" else key): value for key, value in run.items()} for run in searched()]
    found = concluded(runs).sweep
    assert found is not None
    assert found.parameters[0].parameter == "lr"
    assert (found.expected, found.repeat) == ((), ())
    assert all(math.isnan(setting.best) for each in found.parameters for setting in each.settings)
    assert sentences.sweep_notes(concluded(runs))[-1].startswith("What it is not shown to go with")


def test_texts_missing_values_and_failures() -> None:
    """Values that a run does not have are a setting of their own; a result that is none is no try."""
    chance = random.Random(1)
    runs: list[dict[str, Any]] = []
    for place in range(20):
        activation = ("relu", "gelu")[place % 2]
        run = {"p.activation": activation, "p.id": f"x{place}", "m.loss": (activation == "gelu") + chance.random() / 9}
        runs.append({**run, **({"p.dropout": "0.1"} if place % 4 < 2 else {})})
    runs[3]["m.loss"] = math.nan
    found = concluded(runs, group_by=("activation", "id", "dropout")).sweep
    assert found is not None
    assert (found.tries, found.single) == (19, 20)
    by_name = {each.parameter: each for each in found.parameters}
    assert set(by_name) == {"activation", "dropout"}  # an ID that is another everywhere tells nothing
    assert [(each.value, each.n) for each in by_name["activation"].settings] == [("gelu", 9), ("relu", 10)]
    assert [(each.value, each.n) for each in by_name["dropout"].settings] == [("(none)", 9), ("0.1", 10)]
    assert by_name["activation"].p_corrected < 0.01 < by_name["dropout"].p_corrected


def test_equal_results_go_with_nothing() -> None:
    found = concluded([{**run, "m.val_acc": 0.5} for run in searched()]).sweep
    assert found is not None
    assert all(math.isnan(each.share) for each in found.parameters)


def test_what_is_no_sweep() -> None:
    assert concluded(searched(7)).sweep is None  # each can be looked at
    repeated = [{**run, "p.seed": str(seed)} for run in searched(10) for seed in range(2)]
    assert concluded(repeated).sweep is None
    assert concluded(searched(), nuisance=("lr", "decay", "layers")).sweep is None  # which says it itself


def test_chance_alone_is_rarely_shown() -> None:
    """Of results that go with nothing, one search in twenty at most is said to go with something."""
    runs = searched(24)
    said = 0
    for place in range(100):
        chance = random.Random(place)
        found = sweep(grouped([{**run, "m.val_acc": chance.random()} for run in runs]))
        assert found is not None
        said += any(each.p_corrected < 0.05 for each in found.parameters)
    assert said <= 9  # binomial, of 100 with 0.05: more than 9 in 2.8 % of cases; the seeds are fixed
