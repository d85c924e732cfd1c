"""`compare` on what real MLflow stores hold: other people's names, times, texts, stores."""

from __future__ import annotations

import csv
import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Metric, Param

from pipeline.compare import reading
from pipeline.compare.conclusion import Conclusion
from pipeline.compare.report import audits
from tests.test_compare import conclude, make, mean, variation

pytestmark = pytest.mark.usefixtures("db")

CENTRES = {"a": 0.3, "b": 0.4}


def falling(centre: float, seed: int, epochs: int = 6) -> list[float]:
    """A loss that is still falling at the end; the last value is centre + 0.3 / epochs + 0.01 seed."""
    return [centre + 0.3 / epoch + 0.01 * seed for epoch in range(1, epochs + 1)]


def table(folder: Path) -> list[dict[str, str]]:
    """The CSV; every column has a name of its own."""
    with (folder / "out" / "conclusion.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames is not None
    assert len(set(reader.fieldnames)) == len(reader.fieldnames)
    return rows


def flagged(conclusion: Conclusion) -> dict[str, list[tuple[str, tuple[Any, ...], int | None]]]:
    return {v.name: [(flag.flag, flag.seeds, flag.runs) for flag in v.flags] for v in conclusion.variations}


# --- Names that are ours, too -------------------------------------------------------------------------------------

OURS = "epoch seed variation run_id value n mean name status used why metric at planned seeds".split()


@pytest.mark.parametrize("name", ["epoch", "seed", "variation", "run_id", "value"])  # of the frames of histories
def test_a_metric_may_be_called_as_a_column_of_ours(name: str, tmp_path: Path) -> None:
    for opt, centre in CENTRES.items():
        for seed in range(3):
            make({"opt": opt, "seed": seed}, {name: falling(centre, seed)})
    conclusion = conclude(tmp_path, metric=name, better="lower")
    assert [mean(conclusion, f"opt={opt}", name) for opt in CENTRES] == pytest.approx([0.36, 0.46])
    (pair,) = conclusion.pairs
    assert (pair.finding, pair.difference.mean) == ("higher", pytest.approx(0.1))
    assert flagged(conclusion) == {f"opt={opt}": [("not converged", (0, 1, 2), None)] for opt in CENTRES}
    assert (tmp_path / "out" / "loss_curves.png").exists()
    column = "metrics.variation" if name == "variation" else name
    assert [float(row[column]) for row in table(tmp_path)] == pytest.approx([0.36, 0.46])


def test_any_number_of_them_at_once(tmp_path: Path) -> None:
    for opt, centre in CENTRES.items():
        for seed in range(3):
            theirs: dict[str, Any] = {name: opt for name in OURS if name != "seed"}
            make(
                {**theirs, "cfg.seed": seed}, {name: centre + number + 0.01 * seed for number, name in enumerate(OURS)}
            )
    conclusion = conclude(tmp_path, group_by="variation", metric="value", metrics=",".join(OURS), better="lower")
    assert [each.name for each in conclusion.variations] == ["variation=a", "variation=b"]
    for number, name in enumerate(OURS):
        assert mean(conclusion, "variation=b", name) == pytest.approx(0.4 + number + 0.01)
    (main,) = (pair for pair in conclusion.pairs if pair.asked == "value")
    # Seed by seed 0.1, without any spread; whoever groups by one of them has the others beside it.
    assert (main.difference.mean, main.difference.n_pairs) == (pytest.approx(0.1), 3)
    assert {other.name for other in main.confounded_by} == {*OURS} - {"seed", "variation"}
    rows = {row["variation"]: row for row in table(tmp_path)}
    first = rows["variation=a"]
    assert (first["params.variation"], float(first["metrics.variation"])) == ("a", pytest.approx(2.31))
    assert float(first["metrics.seeds"]) == pytest.approx(0.3 + len(OURS) - 1 + 0.01)
    assert (first["seeds"], first["finished"]) == ("0 1 2", "3")


def test_a_metric_and_a_parameter_of_one_name_have_a_column_each(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        for seed in range(2):
            make({"lr": lr, "seed": seed}, {"val_loss": lr + seed, "lr": 7.0, "val_loss_n": 5.0})
    conclude(tmp_path)
    first = table(tmp_path)[0]
    assert (first["params.lr"], first["lr"], first["val_loss_n"], first["metrics.val_loss_n"]) == (
        "0.1",
        "7.0",
        "2",
        "5.0",
    )


# --- Times and steps ----------------------------------------------------------------------------------------------

MOMENT = 1_700_000_000_000  # 14 November 2023, 22:13:20 UTC, in milliseconds


def logged(points: Sequence[tuple[float, int, int]], params: Mapping[str, Any]) -> None:
    """A run with a val_loss of some (value, milliseconds, step), in that order."""
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])
    for value, at, step in points:
        client.log_batch(run_id, [Metric("val_loss", value, at, step)])
    client.set_terminated(run_id)


@pytest.mark.parametrize(
    ("start", "end", "first", "last", "seconds"),
    [
        (MOMENT, MOMENT + 60_000, "2023-11-14T22:13:20Z", "2023-11-14T22:14:20Z", 60),
        (MOMENT * 1000, (MOMENT + 60_000) * 1000, None, None, None),  # microseconds
        (MOMENT * 10**6, (MOMENT + 60_000) * 10**6, None, None, None),
        (MOMENT // 1000, MOMENT // 1000 + 60, None, None, None),  # seconds: no run of January 1970
        (0, 0, None, None, None),
        (-5, -1, None, None, None),
        (MOMENT, None, "2023-11-14T22:13:20Z", None, None),
        (MOMENT, MOMENT - 60_000, "2023-11-14T22:13:20Z", None, None),  # it ended before it began
    ],
)
def test_times_of_runs_that_are_none_are_not_known(
    start: int, end: int | None, first: str | None, last: str | None, seconds: float | None, tmp_path: Path
) -> None:
    make({"opt": "a"}, {"val_loss": 0.3})
    with closing(sqlite3.connect(tmp_path / "store.db")) as store, store:
        store.execute("UPDATE runs SET start_time = ?, end_time = ?", (start, end))
    conclusion = conclude(tmp_path)
    assert (conclusion.provenance.first_run, conclusion.provenance.last_run) == (first, last)
    (effort,) = conclusion.efforts
    assert effort.seconds == seconds if seconds is not None else math.isnan(effort.seconds)
    assert mean(conclusion, "all runs", "val_loss") == 0.3


@pytest.mark.parametrize("first", [0, 1, -3, 899_999_999, MOMENT, MOMENT * 10**6])
def test_steps_may_begin_anywhere(first: int, tmp_path: Path) -> None:
    apart = 1000 if first >= MOMENT else 1
    for opt, centre in CENTRES.items():
        for seed in range(2):
            points = [
                (value, MOMENT + place, first + place * apart + seed * (apart > 1))  # no two runs log at one moment
                for place, value in enumerate(falling(centre, seed))
            ]
            logged(points, {"opt": opt, "seed": seed})
    conclusion = conclude(tmp_path)
    assert [mean(conclusion, f"opt={opt}", "val_loss") for opt in CENTRES] == pytest.approx([0.355, 0.455])
    assert flagged(conclusion) == {f"opt={opt}": [("not converged", (0, 1), None)] for opt in CENTRES}
    assert [caveat.kind for caveat in conclusion.pairs[0].caveats if caveat.kind != "flag"] == []
    frame = reading.histories([run.run_id for run in conclusion.runs], ["val_loss"])
    begins = 1 if apart > 1 else first  # times are counted, so that the seeds of a variation share epochs
    assert sorted(set(frame["epoch"])) == list(range(begins, begins + 6))


def test_values_without_a_step_count_by_their_time(tmp_path: Path) -> None:
    for opt, centre in CENTRES.items():
        for seed in range(3):
            logged([(value, MOMENT + place, 0) for place, value in enumerate(falling(centre, seed))], {"opt": opt})
    conclusion = conclude(tmp_path)
    assert [mean(conclusion, f"opt={opt}", "val_loss") for opt in CENTRES] == pytest.approx([0.36, 0.46])
    check = next(each for each in conclusion.checks if each.kind == "still improving at the last epoch")
    assert (check.passed, check.applies) == (None, False)  # one step tells nothing of a fall


def test_of_a_resumed_run_the_later_value_of_an_epoch_counts(tmp_path: Path) -> None:
    """Epochs 4 to 6 are there twice: before a crash, and an hour later from a checkpoint."""
    hour = 3_600_000
    for opt, centre in CENTRES.items():
        for seed in range(3):
            curve = falling(centre, seed, 10)
            before = [(value, MOMENT + epoch, epoch) for epoch, value in enumerate(curve[:7])]
            again = [(value - 0.001, MOMENT + hour + epoch, epoch) for epoch, value in enumerate(curve) if epoch > 3]
            logged([*again, *before] if opt == "a" else [*before, *again], {"opt": opt, "seed": seed})
    make({"opt": "b", "seed": 3}, {"val_loss": 9.0}, status="RUNNING")
    conclusion = conclude(tmp_path)
    assert [mean(conclusion, f"opt={opt}", "val_loss") for opt in CENTRES] == pytest.approx([0.339, 0.439])
    frame = reading.histories([conclusion.runs[-1].run_id], ["val_loss"])
    expected = [*falling(0.3, 0, 10)[:4], *(value - 0.001 for value in falling(0.3, 0, 10)[4:])]
    assert frame["metrics.val_loss"].tolist() == pytest.approx(expected)
    assert [(row.variation, row.seed) for row in conclusion.completeness if row.state == "running"] == [("opt=b", 3)]
    assert not [caveat for caveat in conclusion.pairs[0].caveats if caveat.kind == "unequal budget"]


# --- Values that are no numbers, and runs without a seed -----------------------------------------------------------


def test_survivors_do_not_pass_for_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of five seeds two end in NaN: three values count, the two are flagged, and they had as many steps as others."""
    for lr, centre in (("0.01", 0.3), ("0.1", 0.25)):
        for seed in range(5):
            curve = [centre + 0.1 / (epoch + 1) + 0.001 * seed for epoch in range(4)]
            bad = lr == "0.1" and seed in (1, 3)
            make({"lr": lr, "seed": seed}, {"val_loss": [*curve[:2], math.nan, math.nan] if bad else curve})
    conclusion = conclude(tmp_path)
    cell = variation(conclusion, "lr=0.1").cells[0]
    assert (cell.n, cell.mean, cell.seeds) == (3, pytest.approx(0.25 + 0.025 + 0.002), (0, 2, 4))
    assert ("not a number", (1, 3), None) in flagged(conclusion)["lr=0.1"]
    (pair,) = conclusion.pairs
    assert not [caveat for caveat in pair.caveats if caveat.kind == "unequal budget"]
    assert "non-finite losses: 2 of 5" in capsys.readouterr().out.split("Metrics by variation")[0]


def test_runs_without_a_seed_that_were_stopped_early_are_flagged(tmp_path: Path) -> None:
    """Each of them falls by the last epoch; the mean over those that are left at each epoch does not."""
    for opt, centre in CENTRES.items():
        for number in range(5):
            make({"opt": opt}, {"val_loss": [centre + 0.1 * number - 0.02 * e for e in range(6 + 3 * number)]})
    conclusion = conclude(tmp_path)
    assert flagged(conclusion) == {f"opt={opt}": [("not converged", (), 5)] for opt in CENTRES}
    told = dict(audits.audits(conclusion))["Flags"]
    assert told[0].endswith("was still improving at its last epoch (val_loss); runs: 5 of 5.")
    make({"opt": "b"}, {}, status="FAILED")
    states = [(row.variation, row.state) for row in conclude(tmp_path).completeness]
    assert (len(states), states.count(("opt=b", "failed"))) == (11, 1)


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_a_fold_that_did_not_finish_is_in_the_account(status: str, tmp_path: Path) -> None:
    for opt, centre in CENTRES.items():
        for fold in range(5):
            lost = opt == "a" and fold == 3
            metrics = {} if lost else {"val_loss": centre + 0.01 * fold}
            make({"opt": opt, "seed": 42, "fold": fold}, metrics, status=status if lost else "FINISHED")
    conclusion = conclude(tmp_path)
    lost = [(row.variation, row.seed, row.state) for row in conclusion.completeness if row.state != "finished"]
    assert lost == [("opt=a", 3, status.lower())]
    (pair,) = conclusion.pairs
    assert (pair.difference.n_pairs, pair.difference.mean) == (4, pytest.approx(0.1))
