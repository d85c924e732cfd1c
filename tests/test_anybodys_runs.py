"""`compare` on what real MLflow stores hold: other people's names, times, texts, stores."""

from __future__ import annotations

import csv
import http.server
import math
import re
import shutil
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Metric, Param
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._model_registry import utils as registry_utils
from mlflow.tracking._tracking_service import utils as tracking_utils

from pipeline.compare import causes, concluding, reading
from pipeline.compare import run as compare
from pipeline.compare.__main__ import main
from pipeline.compare.columns import comparable
from pipeline.compare.conclusion import Conclusion
from pipeline.compare.options import Options
from pipeline.compare.report import audits
from pipeline.errors import UserError
from pipeline.plots import short
from pipeline.task import load
from pipeline.train.config import RunConfig
from tests.test_compare import conclude, make, mean, ours, variation, written

pytestmark = pytest.mark.usefixtures("db")

CENTRES = {"a": 0.3, "b": 0.4}


def concluded(**options: Any) -> Conclusion:
    """What `conclude` of `test_compare` returns, without the files."""
    found = compare.find(Options(**options), load())
    return concluding.conclude(found.grouped, compare.histories(found.grouped), found.elsewhere, found.origin)


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

OURS = ["epoch", "seed", "variation", "run_id", "value", "n", "mean", "name", "status", "used", "why", "metric", "at"]
OURS += ["planned", "seeds"]


@pytest.mark.parametrize("name", ["epoch", "variation", "run_id"])  # of the frames of histories
def test_a_metric_may_be_called_as_a_column_of_ours(name: str, tmp_path: Path) -> None:
    for opt, centre in CENTRES.items():
        for seed in range(3):
            make({"opt": opt, "seed": seed}, {name: falling(centre, seed)})
    conclusion = written(tmp_path, metric=name, better="lower")
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
    conclusion = written(tmp_path, group_by="variation", metric="value", metrics=",".join(OURS), better="lower")
    assert [each.name for each in conclusion.variations] == ["variation=a", "variation=b"]
    for number, name in enumerate(OURS):
        assert mean(conclusion, "variation=b", name) == pytest.approx(0.4 + number + 0.01)
    (main,) = (pair for pair in conclusion.pairs if pair.asked == "value")
    # Seed by seed 0.1, without any spread; whoever groups by one of them has the others beside it.
    assert (main.difference.mean, main.difference.n_pairs) == (pytest.approx(0.1), 3)
    assert {other.name for other in main.confounded_by} == {*OURS} - {"seed", "variation", "run_id"}
    assert conclusion.aside == ("run_id",)
    rows = {row["variation"]: row for row in table(tmp_path)}
    first = rows["variation=a"]
    assert (first["params.variation"], float(first["metrics.variation"])) == ("a", pytest.approx(2.31))
    assert float(first["metrics.seeds"]) == pytest.approx(0.3 + len(OURS) - 1 + 0.01)
    assert (first["seeds"], first["finished"]) == ("0 1 2", "3")


@pytest.mark.parametrize("tag", ["plan", "study", "variation", "fingerprint"])
def test_a_tag_may_be_called_as_one_of_ours(tag: str) -> None:
    for opt, centre in CENTRES.items():
        for seed in range(2):
            make({"opt": opt, "seed": seed}, {"val_loss": centre + seed}, tags={tag: "tuning"})
    conclusion = concluded()
    assert [(each.name, each.cells[0].n) for each in conclusion.variations] == [("opt=a", 2), ("opt=b", 2)]
    assert (conclusion.pairs[0].difference.mean, conclusion.pairs[0].confounded_by) == (pytest.approx(0.1), ())


def test_a_metric_and_a_parameter_of_one_name_have_a_column_each(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        for seed in range(2):
            make({"lr": lr, "seed": seed}, {"val_loss": lr + seed, "lr": 7.0, "val_loss_n": 5.0})
    written(tmp_path)
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
    values = [Metric("val_loss", value, at, step) for value, at, step in points]
    client.log_batch(run_id, values, [Param(name, str(value)) for name, value in params.items()])
    client.set_terminated(run_id)


@pytest.mark.parametrize(
    ("start", "end", "first", "last", "seconds"),
    [
        (MOMENT, MOMENT + 60_000, "2023-11-14T22:13:20Z", "2023-11-14T22:14:20Z", 60),
        (MOMENT * 1000, (MOMENT + 60_000) * 1000, None, None, None),  # microseconds
        (MOMENT // 1000, MOMENT // 1000 + 60, None, None, None),  # seconds: no run of January 1970
        (-5, 0, None, None, None),
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
    conclusion = concluded()
    assert (conclusion.provenance.first_run, conclusion.provenance.last_run) == (first, last)
    (effort,) = conclusion.efforts
    assert effort.seconds == seconds if seconds is not None else math.isnan(effort.seconds)
    assert mean(conclusion, "all runs", "val_loss") == 0.3


@pytest.mark.parametrize("first", [0, -3, MOMENT, MOMENT * 10**6])
def test_steps_may_begin_anywhere(first: int) -> None:
    apart = 1000 if first >= MOMENT else 1
    for opt, centre in CENTRES.items():
        for seed in range(2):
            points = [
                (value, MOMENT + place, first + place * apart + seed * (apart > 1))  # no two runs log at one moment
                for place, value in enumerate(falling(centre, seed))
            ]
            logged(points, {"opt": opt, "seed": seed})
    conclusion = concluded()
    assert [mean(conclusion, f"opt={opt}", "val_loss") for opt in CENTRES] == pytest.approx([0.355, 0.455])
    assert flagged(conclusion) == {f"opt={opt}": [("not converged", (0, 1), None)] for opt in CENTRES}
    assert [caveat.kind for caveat in conclusion.pairs[0].caveats if caveat.kind != "flag"] == []
    frame = reading.histories([run.run_id for run in conclusion.runs], ["val_loss"])
    begins = 1 if apart > 1 else first  # times are counted, so that the seeds of a variation share epochs
    assert sorted(set(frame["epoch"])) == list(range(begins, begins + 6))


def test_a_step_that_is_a_time_is_no_budget() -> None:
    client = mlflow.MlflowClient()
    for opt, begin in (("a", 0), ("b", MOMENT)):
        for seed in range(2):
            run_id = make({"opt": opt, "seed": seed}, {})
            client.log_batch(
                run_id, [Metric("val_acc", 0.5 + seed / 10 + step / 100, 1, begin + step) for step in (1, 9)]
            )
    (pair,) = concluded().pairs
    assert pair.difference.mean == pytest.approx(0)
    assert {caveat.flag for caveat in pair.caveats} == {"not converged"}  # it had risen by as much as before


def test_a_metric_that_is_logged_where_it_improves_says_nothing_of_the_budget() -> None:
    """Ten epochs on either side, of which one has measured the test data after ten, the other after five."""
    client = mlflow.MlflowClient()
    for opt, measured in (("a", range(10)), ("b", (0, 1, 3, 4, 6))):
        for seed in range(3):
            run_id = make({"opt": opt, "seed": seed}, {"val_loss": falling(0.3, seed, 10)})
            client.log_batch(run_id, [Metric("test_rmse", 1 - step / 100 + seed, 1, step) for step in measured])
    (pair,) = (pair for pair in concluded(metric="test_rmse").pairs if pair.asked == "test_rmse")
    assert not [caveat for caveat in pair.caveats if caveat.kind == "unequal budget"]


def test_values_without_a_step_count_by_their_time() -> None:
    for opt, centre in CENTRES.items():
        for seed in range(3):
            logged([(value, MOMENT + place, 0) for place, value in enumerate(falling(centre, seed))], {"opt": opt})
    conclusion = concluded()
    assert [mean(conclusion, f"opt={opt}", "val_loss") for opt in CENTRES] == pytest.approx([0.36, 0.46])
    check = next(each for each in conclusion.checks if each.kind == "still improving at the last epoch")
    assert (check.passed, check.applies) == (None, False)  # one step tells nothing of a fall


def test_of_a_resumed_run_the_later_value_of_an_epoch_counts() -> None:
    """Epochs 4 to 6 are there twice: before a crash, and an hour later from a checkpoint."""
    hour = 3_600_000
    for opt, centre in CENTRES.items():
        for seed in range(3):
            curve = falling(centre, seed, 10)
            before = [(value, MOMENT + epoch, epoch) for epoch, value in enumerate(curve[:7])]
            again = [(value - 0.001, MOMENT + hour + epoch, epoch) for epoch, value in enumerate(curve) if epoch > 3]
            logged([*again, *before] if opt == "a" else [*before, *again], {"opt": opt, "seed": seed})
    make({"opt": "b", "seed": 3}, {"val_loss": 9.0}, status="RUNNING")
    conclusion = concluded()
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


@pytest.mark.parametrize(
    ("asked", "finished", "of", "is_said"),
    [
        ("metrics.val_loss < 0.335", 3, 3, True),
        ("attributes.status = 'FINISHED'", 5, 5, True),
        ("params.lr != '9'", 5, 6, False),
    ],
)
def test_a_filter_that_chooses_by_results_says_so(asked: str, finished: int, of: int, is_said: bool) -> None:
    """A NaN is neither less nor more than anything: whoever filters by a loss reads the survivors alone."""
    for seed in range(5):
        make({"lr": "0.1", "seed": seed}, {"val_loss": math.nan if seed == 1 else 0.3 + 0.01 * seed})
    make({"lr": "0.1", "seed": 5}, {}, status="FAILED")
    conclusion = concluded(filter=asked)
    assert flagged(conclusion) == {"all runs": [("not a number", (1,), None)] if finished == 5 else []}
    said = dict(audits.audits(conclusion))["Completeness"]
    assert said[0].startswith(f"Repetitions finished: {finished} of {of}")
    assert ("were not even read" in said[-1]) == is_said


def test_runs_without_a_seed_that_were_stopped_early_are_flagged() -> None:
    """Each of them falls by the last epoch; the mean over those that are left at each epoch does not."""
    for opt, centre in CENTRES.items():
        for number in range(5):
            make({"opt": opt}, {"val_loss": [centre + 0.1 * number - 0.02 * e for e in range(6 + 3 * number)]})
    conclusion = concluded()
    assert flagged(conclusion) == {f"opt={opt}": [("not converged", (), 5)] for opt in CENTRES}
    told = dict(audits.audits(conclusion))["Flags"]
    assert told[0].endswith("was still improving at its last epoch (val_loss); runs: 5 of 5.")
    make({"opt": "b"}, {}, status="FAILED")
    states = [(row.variation, row.state) for row in concluded().completeness]
    assert (len(states), states.count(("opt=b", "failed"))) == (11, 1)


@pytest.mark.parametrize("status", ["FAILED", "RUNNING"])
def test_a_fold_that_did_not_finish_is_in_the_account(status: str) -> None:
    for opt, centre in CENTRES.items():
        for fold in range(5):
            lost = opt == "a" and fold == 3
            metrics = {} if lost else {"val_loss": centre + 0.01 * fold}
            make({"opt": opt, "seed": 42, "fold": fold}, metrics, status=status if lost else "FINISHED")
    conclusion = concluded()
    rest = [(row.variation, row.seed, row.state) for row in conclusion.completeness if row.state != "finished"]
    assert rest == [("opt=a", 3, status.lower())]
    (pair,) = conclusion.pairs
    assert (pair.difference.n_pairs, pair.difference.mean) == (4, pytest.approx(0.1))


# --- Texts and numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "are_one"),
    [
        (("1e-3", "0.001", "1E-03", ".001", "+0.0010", " 1e-3 "), True),
        (("1", "1.0", "1.", "1e0"), True),
        (("inf", "Infinity", "INF"), True),
        (("0110", "110"), False),
        (("007", "7"), False),
        (("64_32", "6_432", "6432"), False),
        (("123456789012345678", "123456789012345679"), False),
        (("9007199254740993", "9007199254740992"), False),
        (("1e400", "1e500", "inf"), False),
        (("\u0661", "1"), False),
        (("nan", "NaN"), False),
        (("None", "none", "True", "true", "1"), False),
        (("(64, 32)", "[64, 32]", "64, 32", "(64,32)"), False),
        (("{'a': 1}", "{'a': 1.0}"), False),
        (("1.2.3", "1.2.30"), False),
        (("0x10", "16", "1_6", "16L"), False),
    ],
)
def test_only_texts_that_are_plainly_numbers_are_one_value(texts: tuple[str, ...], are_one: bool) -> None:
    assert len({comparable(text) for text in texts}) == (1 if are_one else len(texts))


def test_ids_beside_a_number_are_not_rounded_together() -> None:
    values = {"123456789012345678": 1.0, "123456789012345679": 2.0, "0110": 3.0, "110": 4.0, "0.5": 5.0, "64_32": 6.0}
    for text, value in values.items():
        for seed in range(2):
            make({"data": text, "seed": seed}, {"m": value + seed})
    conclusion = concluded(group_by="data", better="lower")
    assert {each.name: each.cells[0].mean for each in conclusion.variations} == {
        f"data={text}": value + 0.5 for text, value in values.items()
    }
    assert {each.cells[0].n for each in conclusion.variations} == {2}


def test_one_number_written_in_two_ways_is_one_configuration_and_confounds_nothing() -> None:
    for opt, rates in (("adam", ("1e-3", "0.001")), ("sgd", ("0.0010", "0.0010"))):
        for seed, lr in enumerate(rates):
            make({"opt": opt, "lr": lr, "seed": seed}, {"val_loss": CENTRES["a" if opt == "adam" else "b"] + seed})
    for options in ({}, {"group_by": "opt"}, {"group_by": "opt,lr", "baseline": "opt=sgd,lr=1.0e-3"}):
        conclusion = concluded(**options)
        assert [each.cells[0].n for each in conclusion.variations] == [2, 2]
        assert conclusion.pairs[0].confounded_by == ()
    assert conclusion.baseline == "opt=sgd"


@pytest.mark.parametrize(
    ("asked", "baseline"),
    [
        ("hidden=(64, 32)", "hidden=(64, 32), opt=a"),
        ("hidden=(64, 32), opt=b", "hidden=(64, 32), opt=b"),
        ("opt=b,hidden=[1, 2]", "hidden=[1, 2], opt=b"),
        ("opt = a, hidden = {'opt': 1, 'x': 2}", "hidden={'opt': 1, 'x': 2}, opt=a"),
    ],
)
def test_a_baseline_may_have_a_value_with_commas(asked: str, baseline: str) -> None:
    for number, hidden in enumerate(("(64, 32)", "[1, 2]", "{'opt': 1, 'x': 2}")):
        for opt, centre in CENTRES.items():
            make({"hidden": hidden, "opt": opt}, {"val_loss": centre + number})
    assert concluded(baseline=asked).baseline == baseline


@pytest.mark.parametrize("asked", ["hidden=(64, 33)", "hidden=(64, 32), optt=a", "hidden=(64", "(64, 32)", "x, opt=a"])
def test_a_baseline_that_is_none_is_refused_whole(asked: str) -> None:
    for opt, centre in CENTRES.items():
        make({"hidden": "(64, 32)", "opt": opt}, {"val_loss": centre})
    with pytest.raises(UserError, match="fits no variation"):
        concluded(baseline=asked)


def test_repetitions_of_unlike_signs_are_not_paired() -> None:
    for opt, centre in CENTRES.items():
        for seed in (-1, 1, 2):
            make({"opt": opt, "seed": seed}, {"val_loss": centre + 0.01 * seed})
    assert concluded().pairs[0].difference.n_pairs == 3


# --- Long texts ---------------------------------------------------------------------------------------------------


def test_long_texts_are_told_apart_and_do_not_break_a_table(tmp_path: Path) -> None:
    """Alike in thousands of characters, with everything that Markdown and HTML read."""
    common = "{'note': 'a | b `c` <script>alert(1)</script>\nline two', 'crops': " + str(list(range(700)))
    for tail, centre in ((", 'p': 0.1}", 0.3), (", 'p': 0.2}", 0.31), (", 'p': 0.3}", 0.5)):
        for seed in range(2):
            make({"augmentation": common + tail, "seed": seed}, {"val_loss": centre + 0.001 * seed})
    conclusion = written(tmp_path)
    assert [each.cells[0].mean for each in conclusion.variations] == pytest.approx([0.3005, 0.3105, 0.5005])
    assert conclusion.cut == ()
    lines = (tmp_path / "out" / "report.md").read_text().splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("|"))
    rows = [re.split(r"(?<!\\)\|", line) for line in lines[start : start + 5]]
    assert len({len(row) for row in rows}) == 1
    labels = [f"augmentation=…99], 'p': 0.{n}}}" for n in (1, 2, 3)]
    assert [row[1].strip() for row in rows[2:]] == labels
    assert [each.name for each in conclusion.variations] == labels
    assert conclusion.variations[0].params["augmentation"] == f"{common}, 'p': 0.1}}"
    assert "<script>alert" not in (tmp_path / "out" / "report.html").read_text()


def test_variations_that_differ_in_the_middle_are_told_apart_as_they_are_shown() -> None:
    head, tail = "a" * 100, "z" * 100
    for middle in ("1", "22", "333"):
        for rate in ("0.1", "0.2"):  # with so many names around, that the middle is left out
            many = {f"a_setting_of_some_length_{n}": rate for n in range(4)}
            make({**many, "layers": head + middle + tail, "zoom": rate}, {"val_loss": len(middle) + float(rate)})
    names = [each.name for each in concluded().variations]
    assert len({short(name, 60) for name in names}) == len(names) == 6
    names = [each.name for each in concluded(group_by="layers").variations]
    assert names == [f"layers=…{'a' * 12}{middle}{'z' * 12}…" for middle in ("1", "22", "333")]
    assert concluded(group_by="layers", baseline=f"layers={head}22{tail}").baseline == names[1]


def test_a_parameter_and_a_tag_of_one_name_both_tell_repetitions_apart() -> None:
    for opt, centre in CENTRES.items():
        for seed in range(2):
            for order in (7, 8):
                make({"opt": opt, "seed": seed}, {"val_loss": centre + 0.01 * seed + order}, tags={"seed": str(order)})
    conclusion = concluded()
    assert conclusion.repetitions == ("params.seed", "tags.seed")
    assert [each.cells[0].n for each in conclusion.variations] == [4, 4]
    assert conclusion.pairs[0].difference.n_pairs == 4


@pytest.mark.parametrize("length", [6000, 5999])
def test_texts_that_mlflow_cut_are_said_to_be_alike_only_so_far(length: int, tmp_path: Path) -> None:
    for number, centre in enumerate((0.3, 0.5)):  # what tells them apart lies behind the cut
        text = "x" * length + f"p={number}" * (length == 6000)
        for seed in range(2):
            make({"augmentation": text, "seed": seed, "short": "y"}, {"val_loss": centre + 0.001 * seed})
    conclusion = written(tmp_path)
    assert conclusion.variations[0].cells[0].n == 2
    assert conclusion.cut == (("augmentation",) if length == 6000 else ())
    report = (tmp_path / "out" / "report.md").read_text()
    assert ("parameter cut" in report) == (length == 6000)


# --- What is no cause ---------------------------------------------------------------------------------------------

UUID = "c0ffee00-0000-4000-8000-00000000000{}"


def frame(**columns: Sequence[object]) -> pd.DataFrame:
    """Runs with these parameters."""
    return pd.DataFrame({f"params.{name}": pd.Series(values, dtype=object) for name, values in columns.items()})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("output_dir", ["out/1", "out/2", "out/3", "out/4"]),
        ("trainer.default_root_dir", ["/a", "/b", "/c", "/d"]),
        ("logging_dir", [f"out/runs/Nov26_17-30-0{n}_host" for n in range(4)]),
        ("saveDir", ["a", "b", "c", "d"]),
        ("eval_output_path", ["a", "b", "c", "d"]),
        ("run_name", ["a-0", "a-1", "b-0", "b-1"]),
        ("hydra/job_name", ["a", "b", "c", "d"]),
        ("slurm_job_id", ["101", "102", "103", "104"]),
        ("anything", [UUID.format(n) for n in range(4)]),
        ("model_dir", [f"models/2024-01-02_10-11-1{n}/final" for n in range(4)]),
        ("started", [f"2024-01-02 10:11:1{n}" for n in range(4)]),
        ("timestamp", [f"170000000{n}.25" for n in range(4)]),
        ("created_at", [f"170000000{n}000" for n in range(4)]),
        ("hostname", ["n1", "n2", "n3", "n4"]),
        ("output_dir", ["out/a", "out/a", "out/b", "out/b"]),  # the other parameter says as much
        ("output_dir", ["out/1", "out/1", "out/2", "out/1"]),  # as libraries call it
        ("exp_name", ["a", "a", "b", "b"]),
        ("output_dir", ["out/1", "out/2", None, "out/4"]),
    ],
)
def test_a_place_a_name_a_time_or_an_id_is_no_cause(name: str, values: list[str]) -> None:
    runs = frame(**{name: values}, lr=["0.1", "0.1", "0.2", "0.2"])
    assert causes.aside(runs, (), ()) == [name]
    assert causes.aside(runs, (name,), ()) == [], "somebody asks for it"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("lr", ["0.11", "0.12", "0.13", "0.14"]),  # a random search
        ("optimizer", ["a", "b", "c", "d"]),
        ("name", ["resnet", "vgg", "vit", "mlp"]),
        ("model_name", ["resnet", "vgg", "vit", "mlp"]),
        ("model_path", ["resnet", "vgg", "vit", "mlp"]),
        ("path", ["a", "b", "c", "d"]),
        ("adapter_path", ["a", "b", "c", "d"]),
        ("checkpoint_dir", ["a", "b", "c", "d"]),
        ("pretrained_run_dir", ["a", "b", "c", "d"]),
        ("data_root_dir", ["a", "b", "c", "d"]),
        ("data_dir", ["/data/a", "/data/b", "/data/c", "/data/d"]),
        ("train_file", ["a.csv", "b.csv", "c.csv", "d.csv"]),
        ("dataset_id", ["1", "2", "3", "4"]),
        ("data_hash", [f"{n}" + "abcdef0" * 9 for n in range(4)]),
        ("start_date", ["2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01"]),
        ("max_time", ["60", "120", "180", "240"]),
        ("n_nodes", ["1", "2", "3", "4"]),
        ("hidden_dim", ["1", "2", "3", "4"]),
        ("exp_name", ["base", "ours", "base", "ours"]),
        ("hostname", ["n1", "n1", "n2", "n2"]),  # goes with the other parameter, and may be why
        ("run_date", ["2024-01-02 10:11", "2024-01-02 10:11", "2024-02-02 10:11", "2024-02-02 10:11"]),
    ],
)
def test_what_may_be_a_cause_is_never_left_aside(name: str, values: list[str]) -> None:
    assert causes.aside(frame(**{name: values}, depth=["1", "1", "2", "2"]), (), ()) == []


def test_a_name_is_a_cause_where_nothing_else_tells_runs_apart() -> None:
    for name, values in (("run_name", ["resnet", "vgg"]), ("output_dir", ["out/resnet", "out/vgg"])):
        assert causes.aside(frame(**{name: values}), (), ()) == []
        several = frame(**{name: values * 2}, seed=["0", "0", "1", "1"])
        assert causes.aside(several, (), ("params.seed",)) == []
    # Of a random search, whose rate is another in each run, a name that comes again is no mere consequence.
    searched = frame(exp_name=["base", "ours"] * 2, lr=["1", "2", "3", "4"])
    assert causes.aside(searched, (), ()) == []


def test_a_hundred_parameters_do_not_drown_the_one_that_matters(tmp_path: Path) -> None:
    """As the trainer of Hugging Face logs them: most are the same, some say where and when a run was."""
    same = {f"argument_{number}": "False" for number in range(80)}
    places = ("output_dir", "logging_dir", "run_name", "report_dir", "hub_run_id")
    for opt, centre in CENTRES.items():
        for seed in range(3):
            own = f"{opt}-{seed}"
            unlike = {name: f"{name}/{own}" for name in places}
            unlike |= {f"callback_{number}_log_dir": f"{own}/{number}" for number in range(10)}
            make({**same, **unlike, "optim": opt, "seed": seed}, {"eval_loss": centre + 0.01 * seed})
    conclusion = written(tmp_path)
    assert [(each.name, each.cells[0].n) for each in conclusion.variations] == [("optim=a", 3), ("optim=b", 3)]
    (pair,) = conclusion.pairs
    assert (pair.finding, pair.difference.mean, pair.difference.n_pairs) == ("higher", pytest.approx(0.1), 3)
    assert pair.confounded_by == ()
    assert set(conclusion.aside) == {*places, *(f"callback_{number}_log_dir" for number in range(10))}
    assert written(tmp_path, group_by="optim").pairs[0].confounded_by == ()
    report = (tmp_path / "out" / "report.md").read_text()
    assert re.search(r"Left aside.*output.*-group-by makes them count", report)
    assert len(written(tmp_path, group_by="output_dir").variations) == 6


# --- Stores -------------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What `compare` says to a store or an experiment that it cannot read: one line, exit code 2."""
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "0").mkdir(parents=True)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    for uri in ("./runs", "file:runs", f"file://{tmp_path}/runs", f"{tmp_path}/runs"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        said = refused(capsys)
        assert re.search(r"is a folder of files; MLflow [0-9.]+ wants a database: `mlflow migrate-filestore --so", said)
        assert (
            "runs --target sqlite:///mlflow.db` makes a copy to set MLFLOW_TRACKING_URI to; or set MLFLOW_ALL" in said
        )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{tmp_path}/absent")
    assert "there is no tracking store" in refused(capsys)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{tmp_path}/store.db")
    assert f"is a file, and no folder of runs; of SQLite, the address is sqlite:///{tmp_path}/" in refused(capsys)
    assert not (tmp_path / "absent").exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_folder_of_files_that_mlflow_is_allowed_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/runs")
    for opt, centre in CENTRES.items():
        for seed in range(2):
            make({"opt": opt, "seed": seed}, {"val_loss": falling(centre, seed)})
    conclusion = concluded()
    assert [mean(conclusion, f"opt={opt}", "val_loss") for opt in CENTRES] == pytest.approx([0.355, 0.455])
    assert flagged(conclusion) == {f"opt={opt}": [("not converged", (0, 1), None)] for opt in CENTRES}


@pytest.mark.parametrize("uri", ["s3://bucket/runs", "their-plugin://host/x", "their-plugin:x"])
def test_an_address_of_no_kind_that_mlflow_has(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    said = refused(capsys)
    assert said.startswith(f"error: the tracking store {uri} is of no kind that MLflow has here (databricks, ")
    assert "sqlite" in said
    assert said.endswith("): install the plug-in that reads it, or set MLFLOW_TRACKING_URI")


def test_a_store_of_a_plug_in_is_read_and_its_host_not_called(
    db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for opt, centre in CENTRES.items():
        make({"opt": opt}, {"val_loss": centre})
    there = concluded()
    opened = SqlAlchemyStore(db, str(tmp_path))
    for registry in (tracking_utils._tracking_store_registry, registry_utils._get_store_registry()):
        monkeypatch.setitem(registry._registry, "their-plugin", lambda **_: opened)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "their-plugin://no-such-host.invalid/x")
    again = concluded()
    assert [each.model_dump_json() for each in again.variations] == [
        each.model_dump_json() for each in there.variations
    ]


@pytest.mark.parametrize("uri", ["databricks", "databricks://profile"])
def test_databricks_is_left_to_mlflow(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_CONFIG_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main([]) == 2
    (line,) = (each for each in capsys.readouterr().err.splitlines() if each.startswith("error: "))
    assert line.startswith(
        f"error: the tracking store {uri} cannot be used: Reading Databricks credential configuration"
    )


class _NotLetIn(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 401)
        self.end_headers()
        self.wfile.write(b"You are not authenticated.")

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """It is quiet."""


def test_a_server_that_wants_a_password(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _NotLetIn) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_address[1]}")
        said = refused(capsys)
        server.shutdown()
    assert "does not let this user in (" in said
    assert said.endswith("set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN")


def test_an_experiment_in_the_bin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    client = mlflow.MlflowClient()
    gone = client.create_experiment("gone")
    client.delete_experiment(gone)
    expected = (
        f"error: experiment='gone' is deleted; restore it with `mlflow experiments restore --experiment-id {gone}`, "
        "or choose another"
    )
    assert refused(capsys, "--experiment", "gone") == expected
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", gone)
    assert refused(capsys) == expected
    client.restore_experiment(gone)
    assert "no run matches" in refused(capsys)


def test_an_older_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make({"opt": "a"}, {"val_loss": 0.3})
    old = tmp_path / "of old" / "store.db"
    old.parent.mkdir()
    shutil.copy(tmp_path / "store.db", old)
    with closing(sqlite3.connect(old)) as store, store:
        store.execute("UPDATE alembic_version SET version_num = 'acf3f17fdcc7'")  # that of MLflow 2.8
    before = old.read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{old}")
    said = refused(capsys)
    assert f"copy it, then run `mlflow db upgrade 'sqlite:///{old}'`, or set MLFLOW_TRACKING_URI" in said
    assert "is of an older MLflow than" in said
    assert old.read_bytes() == before


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("No module named 'boto3'"), type("NoCredentialsError", (Exception,), {})("none")]
)
def test_an_artifact_store_that_cannot_be_read_takes_only_the_pictures(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    for seed in range(2):
        ours(RunConfig(optimizer="adam", epochs=1, seed=seed), 0.3)
    for name in ("list_artifacts", "download_artifacts", "log_artifact"):
        monkeypatch.setattr(mlflow.MlflowClient, name, fail)
    conclusion = written(tmp_path)
    assert conclusion.without_pictures == tuple(each.name for each in conclusion.variations)
    assert "the artifact store does not give it" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(UserError, match=rf"does not take .* \({error}\)") as said:
        written(tmp_path, log=True)
    assert str(said.value).endswith(f"or leave out --log; it is in {tmp_path}/out")
