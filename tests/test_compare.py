"""`compare` on real SQLite stores: what the frame cannot show is in test_conclusion.py."""

from __future__ import annotations

import base64
import csv
import html
import importlib
import io
import json
import math
import os
import pty
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import unquote

import jsonschema  # type: ignore[import-untyped]
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from PIL import Image, ImageFile

from pipeline import plots
from pipeline.compare import digests, reading, verify
from pipeline.compare import run as compare
from pipeline.compare.__main__ import main
from pipeline.compare.conclusion import Claim, Conclusion, Pair, Variation
from pipeline.compare.options import Options
from pipeline.compare.report import markdown, sentences
from pipeline.errors import UserError
from pipeline.metrics import LOSSES, QUALITY
from pipeline.study.plan import A_A, AGAIN, Study
from pipeline.task import load
from pipeline.tracking import journal, search
from pipeline.tracking.launched import end as end_launched
from pipeline.tracking.names import RECONSTRUCTIONS_FILE, SUMMARY_OF
from pipeline.train.config import RunConfig
from pipeline.train.task import Autoencoder
from tests.conftest import ROOT, Server, run

HASH = "a" * 64


def make(
    params: Mapping[str, Any],
    metrics: Mapping[str, float | Sequence[float]],
    tags: Mapping[str, str] | None = None,
    name: str = "run",
    status: str = "FINISHED",
    experiment: str = "0",
) -> str:
    """A run with just that; several values of a metric are those of its epochs, from 1."""
    client = mlflow.MlflowClient()
    run_id = str(client.create_run(experiment, run_name=name, tags=dict(tags or {})).info.run_id)
    points = [
        Metric(key, float(value), 1, step)
        for key, values in metrics.items()
        for step, value in (enumerate(values, 1) if isinstance(values, Sequence) else [(1, values)])
    ]
    client.log_batch(run_id, points, [Param(key, str(value)) for key, value in params.items()])
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


def ours(
    config: RunConfig,
    bce: float,
    tags: Mapping[str, str] | None = None,
    status: str = "FINISHED",
    epochs: int | None = None,
    **metrics: float,
) -> str:
    """A run as `pipeline.train` makes it: `bce` at last, twice that at first, and the penalty on top of the losses."""
    count = config.epochs if epochs is None else epochs
    curve = [bce * (2 if epoch == 0 else 1) for epoch in range(count)]
    penalty = 100 * config.l1
    per_epoch = {name: [x + penalty * name.endswith("loss") for x in curve] for name in LOSSES}
    ends = {
        f"{edge}{name}": values[at]
        for name, values in per_epoch.items()
        for edge, at in (("first_", 0), ("last_", -1))
        if values
    }
    quality = {
        **dict.fromkeys(QUALITY, 0.5),
        "dead_units": 0.0,
        "keras2_progressbar_loss": 3 * bce + penalty,
        "training_seconds": 9.0,
    }
    everything: dict[str, Any] = {**per_epoch, **(ends | quality | metrics if status == "FINISHED" else {})}
    known = {"fingerprint": config.fingerprint, "data_hash": HASH, "lock_hash": "lock", "git_dirty": "false"}
    known |= {"hardware": "cpu", "mlflow.source.git.commit": "c0ffee", "seed": str(config.seed)}
    return make(config.model_dump(), everything, {**known, **(tags or {})}, config.name, status)


def study(declared: Study, values: Mapping[tuple[str, int], float | str], **tags: str) -> dict[tuple[str, int], str]:
    """A study's parent run and its children: by variation and seed the last bce, or the reason of a failure.

    Returns the run IDs, and that of the parent as `("", 0)`.
    """
    client = mlflow.MlflowClient()
    parent = str(client.create_run("0", run_name=declared.name, tags={"study": declared.name, "plan": "p"}).info.run_id)
    client.log_text(parent, declared.model_dump_json(), "plan.json")
    client.set_terminated(parent)
    ids = {("", 0): parent}
    for name, config in declared.runs():
        value = values.get((name, config.seed))
        if value is None:
            continue
        own = {"mlflow.parentRunId": parent, "study": declared.name, "variation": name, **tags}
        if isinstance(value, str):
            ids[name, config.seed] = ours(config, 0.3, {**own, "failure": value}, "FAILED", epochs=1)
        else:
            ids[name, config.seed] = ours(config, value, own)
    return ids


def published(**changes: Any) -> Study:
    """The published study's shape, two epochs long, three seeds."""
    return Study.model_validate(
        {
            "name": "small",
            "description": "Two epochs.",
            "base": {"optimizer": "adam", "epochs": 2},
            "seeds": 3,
            "variations": [
                {"name": "Original", "changes": {"optimizer": "adadelta", "decoder_hidden": 784}},
                {"name": "adam_optimizer"},
                {"name": "with L1", "changes": {"l1": 1e-4}},
            ],
            "claims": [
                {
                    "says": "adam is better",
                    "variation": "adam_optimizer",
                    "against": "Original",
                    "about": ["optimizer"],
                    "metric": "last_val_loss",
                    "direction": "lower",
                    "smallest_effect": 0.001,
                },
                {
                    "says": "L1 worsens it",
                    "variation": "with L1",
                    "against": "adam_optimizer",
                    "about": ["l1"],
                    "metric": "last_val_loss",
                    "direction": "higher",
                    "smallest_effect": 0.001,
                },
            ],
            **changes,
        }
    )


VALUES: dict[tuple[str, int], float | str] = {
    **{("Original", seed): 0.44 + 0.001 * seed for seed in range(3)},
    **{("adam_optimizer", seed): 0.09 + 0.0001 * seed for seed in range(3)},
    **{("with L1", seed): 0.0901 + 0.0001 * seed for seed in range(3)},
}


def conclude(tmp_path: Path, **options: Any) -> Conclusion:
    compare.compare(Options(out=tmp_path / "out", **{"format": "json", **options}))
    return verify.read_conclusion(str(tmp_path / "out" / "conclusion.json"))


def written(tmp_path: Path, **options: Any) -> Conclusion:
    """The same, with all that is drawn and written of it."""
    return conclude(tmp_path, format="", **options)


def variation(conclusion: Conclusion, name: str) -> Variation:
    return next(each for each in conclusion.variations if each.name == name)


def mean(conclusion: Conclusion, name: str, metric: str) -> float:
    return next(cell.mean for cell in variation(conclusion, name).cells if cell.metric == metric)


def claim(conclusion: Conclusion, says: str) -> Claim:
    return next(each for each in conclusion.claims if each.says == says)


def pair(conclusion: Conclusion, name: str, metric: str) -> Pair:
    return next(each for each in conclusion.pairs if (each.variation, each.asked) == (name, metric))


# --- A study ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("db")
def test_a_study_against_its_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = study(published(), {**VALUES, ("with L1", 2): "DivergenceError: loss is nan"})
    conclusion = conclude(tmp_path, study="small")
    assert [each.name for each in conclusion.variations] == ["Original", "adam_optimizer", "with L1"]
    assert (conclusion.baseline, conclusion.metric) == ("Original", "last_val_bce")
    # 0.09, 0.0901, 0.0902: Student's 95 % quantile with 2 degrees of freedom is 4.3027.
    cell = next(c for c in variation(conclusion, "adam_optimizer").cells if c.metric == "last_val_bce")
    assert (cell.n, cell.mean, cell.sd) == (3, pytest.approx(0.0901), pytest.approx(0.0001))
    assert cell.low == pytest.approx(0.0901 - 4.302653 * 0.0001 / math.sqrt(3), abs=1e-8)
    assert (cell.median, cell.worst, cell.worst_seed) == (pytest.approx(0.0901), pytest.approx(0.0902), 2)
    assert (cell.seeds, cell.values) == ((0, 1, 2), pytest.approx((0.09, 0.0901, 0.0902)))
    assert set(cell.run_ids) == {ids["adam_optimizer", seed] for seed in range(3)}

    first = claim(conclusion, "adam is better")
    # Seed by seed -0.35, -0.3509, -0.3518: sd 0.0009; of each of two claims, the 97.5 % quantile is 6.205347.
    assert (first.verdict, first.metric, first.why) == ("confounded", "last_val_loss", "as asked")
    assert first.difference.mean == pytest.approx(-0.3509)
    assert first.difference.confidence == 0.975
    assert first.difference.low == pytest.approx(-0.3509 - 6.205347 * 0.0009 / math.sqrt(3), abs=1e-8)
    assert (first.test, first.p_corrected) == ("difference", pytest.approx(2 * first.difference.p))
    assert first.beats is not None
    assert first.beats.probability == 1
    assert first.effect == pytest.approx(-350.9)
    assert [(c.name, c.variation, c.against) for c in first.confounded_by] == [("decoder_hidden", (0,), (784,))]
    untuned = next(c for c in first.caveats if c.kind == "untuned learning rate")
    assert (untuned.optimizers, untuned.learning_rates) == (("adam", "adadelta"), (0.001, 0.001))

    second = claim(conclusion, "L1 worsens it")
    assert (second.asked, second.metric, second.why) == ("last_val_loss", "last_val_bce", "penalty differs")
    assert second.penalties == (1e-4, 0.0)
    assert (second.difference.n_a, second.difference.n_b, second.difference.paired) == (2, 3, False)  # 2 pairs of 3
    assert second.difference.mean == pytest.approx(0.00005)
    assert second.asked_difference is not None
    assert second.asked_difference.mean == pytest.approx(0.01005)  # mostly penalty: 100 * 1e-4
    assert (second.verdict, second.test, second.confounded_by) == ("negligible", "equivalence", ())
    assert second.p_corrected < 0.05 < second.difference.p
    assert [(run.variation, run.seed, run.state) for run in second.unfinished] == [("with L1", 2, "diverged")]
    lost = [row for row in conclusion.completeness if row.state != "finished"]
    assert [(row.reason, row.run_id) for row in lost] == [("DivergenceError: loss is nan", ids["with L1", 2])]
    assert variation(conclusion, "with L1").finished == 2
    printed = capsys.readouterr().out
    assert "1 of 2 confounded (by decoder_hidden)" in printed
    assert "DivergenceError: loss is nan" in printed


@pytest.mark.usefixtures("db")
def test_the_files_are_whole_and_agree(tmp_path: Path) -> None:
    study(published(), VALUES)
    message = compare.compare(Options(study="small", out=tmp_path / "out"))
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == [
        *("conclusion.csv", "conclusion.json", "forest.png", "loss_curves.png", "report.html", "report.md", "seeds.png")
    ]
    assert message.startswith(f"written to {tmp_path}/out: ")
    with (tmp_path / "out" / "conclusion.csv").open(newline="") as file:
        rows = {row["variation"]: row for row in csv.DictReader(file)}
    assert float(rows["adam_optimizer"]["last_val_bce"]) == pytest.approx(0.0901, rel=1e-12)
    content = json.loads((tmp_path / "out" / "conclusion.json").read_text())
    jsonschema.validate(content, Conclusion.model_json_schema())
    assert "adam_optimizer" in (tmp_path / "out" / "report.md").read_text()
    assert "<html" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.usefixtures("db")
def test_one_seed_is_not_judged(tmp_path: Path) -> None:
    study(published(seeds=1), VALUES)
    conclusion = conclude(tmp_path, study="small")
    assert [each.verdict for each in conclusion.claims] == ["not judged", "not judged"]
    assert {pair.finding for pair in conclusion.pairs} == {"not judged"}
    assert claim(conclusion, "adam is better").difference.mean == pytest.approx(-0.35)


@pytest.mark.usefixtures("db")
def test_inconclusive_does_not_invite_to_look_again(tmp_path: Path) -> None:
    noisy = {("with L1", 0): 0.08, ("with L1", 1): 0.1, ("with L1", 2): 0.09}
    study(published(), {**VALUES, **noisy})
    assert claim(written(tmp_path, study="small"), "L1 worsens it").verdict == "inconclusive"
    assert "more seeds" not in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.usefixtures("db")
def test_a_study_that_was_extended_was_looked_at_before(tmp_path: Path) -> None:
    def looks() -> tuple[int, int, float]:
        conclusion = conclude(tmp_path, study="small")
        return conclusion.looks, conclusion.looks_planned, conclusion.claims[0].difference.confidence

    def tell(plan: str, **declared: Any) -> None:
        parent = study(published(**declared), VALUES)["", 0]
        mlflow.MlflowClient().set_tag(parent, "plan", plan)
        time.sleep(0.002)  # so that no two of them begin at once

    tell("two seeds", seeds=2)
    assert looks() == (1, 1, pytest.approx(1 - 0.05 / 2))  # two claims
    tell("three seeds", seeds=3)
    assert looks() == (2, 1, pytest.approx(1 - 0.05 / 2 / 2))
    tell("started again", seeds=3)  # the same seeds: nothing new was seen
    assert looks() == (2, 1, pytest.approx(1 - 0.05 / 2 / 2))
    tell("planned", seeds=3, looks=4)
    assert looks() == (2, 4, pytest.approx(1 - 0.05 / 2 / 4))
    other = [{**published().model_dump()["claims"][0], "metric": "psnr"}]
    tell("other claims", seeds=3, claims=other)
    assert looks()[:2] == (1, 1)


@pytest.mark.usefixtures("db")
def test_chance_and_determinism(tmp_path: Path) -> None:
    aa = {("Original" + A_A, 3): 0.443, ("Original" + A_A, 4): 0.444, ("Original" + A_A, 5): 0.445}
    study(published(aa_test=True), {**VALUES, **aa, ("Original" + AGAIN, 0): 0.44})
    conclusion = conclude(tmp_path, study="small")
    noise = next(each for each in conclusion.noise if each.metric == "last_val_loss")
    # Two groups of three with sd 0.001: t(4) = 2.776445, times 0.001 sqrt(2/3).
    assert noise.limit == pytest.approx(2.776445 * 0.001 * math.sqrt(2 / 3), rel=1e-5)
    assert (noise.observed, noise.smallest_effect) == (pytest.approx(0.003), 0.001)
    assert [(each.seed, each.same, each.unequal) for each in conclusion.determinism] == [(0, True, ())]
    assert {pair.variation for pair in conclusion.pairs} == {"adam_optimizer", "with L1"}


@pytest.mark.usefixtures("db")
def test_a_repetition_with_other_numbers_is_found(tmp_path: Path) -> None:
    study(published(aa_test=True), {**VALUES, ("Original" + AGAIN, 0): 0.4400001})
    (found,) = conclude(tmp_path, study="small").determinism
    assert found.same is False
    assert ("last_val_bce", 0.44, 0.4400001) in [(each.metric, each.first, each.again) for each in found.unequal]
    assert "ssim" not in [each.metric for each in found.unequal]


@pytest.mark.usefixtures("db")
def test_published_figures_like_with_like_and_as_stated(tmp_path: Path) -> None:
    figures_of = {"adam_optimizer": {"keras2_progressbar_loss": 0.2703}, "with L1": {"last_val_loss": 0.0916}}
    taken = {"keras2_progressbar_loss": "first_loss"}
    stated = {"with L1": {"l1": 1e-5}}
    printed = {"source": "print", "values": figures_of, "commonly_read_as": taken, "paper_values": stated}
    study(published(published=printed), VALUES)
    for seed in range(3):  # of no study: as the text states it
        ours(RunConfig(optimizer="adam", epochs=2, l1=1e-5, seed=seed), 0.0905 + 0.0001 * seed)
    conclusion = conclude(tmp_path, study="small")
    assert conclusion.published is not None
    displayed, penalised = conclusion.published.values
    # Ours: three times 0.0901, which is what was printed; the epoch's mean loss is twice that.
    assert (displayed.mean, displayed.reproduced) == (pytest.approx(0.2703), True)
    assert (displayed.commonly_read_as, displayed.commonly_read_as_mean) == ("first_loss", pytest.approx(0.1802))
    assert displayed.commonly_read_as_reproduced is False
    assert (penalised.mean, penalised.reproduced) == (pytest.approx(0.1002), False)
    (stated_row,) = conclusion.published.paper_values
    assert (stated_row.paper_value, stated_row.code_value, stated_row.same) == (1e-5, 1e-4, False)
    (alternative,) = stated_row.values
    assert (alternative.n, alternative.mean, alternative.reproduced) == (3, pytest.approx(0.0916), True)
    # And later, when a run of the alternative is no longer what it was:
    changed = next(run for run in mlflow.search_runs(output_format="list") if run.data.params.get("l1") == "1e-05")
    mlflow.MlflowClient().log_metric(changed.info.run_id, "last_val_loss", 0.9, timestamp=2, step=2)
    assert verify.verify(conclusion) == []  # its interval now is so wide that it has the figure all the more
    for run_ in mlflow.search_runs(output_format="list"):
        if run_.data.params.get("l1") == "1e-05":
            mlflow.MlflowClient().log_metric(run_.info.run_id, "last_val_loss", 0.9, timestamp=3, step=2)
    (line,) = verify.verify(conclusion)
    assert line.startswith(
        "published figure: 0.0916 as last_val_loss of adam-2ep-l1=1e-05: it was reproduced, it would"
    )


@pytest.mark.usefixtures("db")
def test_the_latest_run_of_a_study_counts_and_links_count_once(tmp_path: Path) -> None:
    old = study(published(), dict.fromkeys(VALUES, 0.7))
    new = study(published(), {("adam_optimizer", 0): 0.09})
    link = {"mlflow.parentRunId": new["", 0], "study": "small", "variation": "adam_optimizer"}
    config = RunConfig(optimizer="adam", epochs=2, seed=1)
    for original in (old["adam_optimizer", 1], new["adam_optimizer", 0]):
        seed = 1 if original == old["adam_optimizer", 1] else 0
        same = config.model_copy(update={"seed": seed})
        for _ in range(2):
            ours(same, 0.2, {**link, "reused_from": original})
    conclusion = conclude(tmp_path, study="small")
    # Seed 0: the run itself is here, 0.09. Seed 1: one of its two links, 0.2.
    assert mean(conclusion, "adam_optimizer", "last_val_bce") == pytest.approx((0.09 + 0.2) / 2)
    assert variation(conclusion, "adam_optimizer").finished == 2
    assert sum("stands for the run" in (record.reason or "") for record in conclusion.runs) == 3
    assert [row.state for row in conclusion.completeness].count("missing") == 7


@pytest.mark.usefixtures("db")
def test_flags_and_missing_epochs(tmp_path: Path) -> None:
    declared = published(base={"optimizer": "adam", "epochs": 12}, seeds=1, claims=[])
    parent = study(declared, {})["", 0]
    configs = dict(declared.runs())
    tags = {"mlflow.parentRunId": parent, "study": "small"}
    ours(configs["Original"], 0.4, {**tags, "variation": "Original"}, variance_ratio=0.001)
    ours(configs["adam_optimizer"], 0.09, {**tags, "variation": "adam_optimizer"}, epochs=9)
    falling = make(
        configs["with L1"].model_dump(),
        {
            "val_bce": [0.9 - 0.05 * e for e in range(12)],
            "last_val_bce": 0.35,
            "last_loss": math.nan,
            "dead_units": 2.0,
        },
        {**tags, "variation": "with L1", "fingerprint": configs["with L1"].fingerprint},
    )
    conclusion = conclude(tmp_path, study="small")
    raised = {v.name: {flag.flag for flag in v.flags} for v in conclusion.variations}
    assert raised == {
        "Original": {"collapsed"},
        "adam_optimizer": set(),
        "with L1": {"dead units", "not a number", "not converged"},
    }
    states = {row.variation: (row.state, row.reason) for row in conclusion.completeness}
    assert states["adam_optimizer"] == ("incomplete", "9 of 12 epochs")
    assert states["with L1"] == ("finished", None)
    assert falling in {run_id for cell in variation(conclusion, "with L1").cells for run_id in cell.run_ids}


@pytest.mark.usefixtures("db")
def test_code_data_and_hardware_can_confound(tmp_path: Path) -> None:
    study(published(), {key: value for key, value in VALUES.items() if key[0] != "adam_optimizer"})
    declared = published()
    parent = reading.study_plan("0", "small")[0]
    tags = {"mlflow.parentRunId": parent, "study": "small", "variation": "adam_optimizer"}
    other = {"hardware": "gpu", "data_hash": "b" * 64, "git_dirty": "true", "mlflow.source.git.commit": "beef"}
    for seed in range(3):
        config = declared.configurations()["adam_optimizer"].model_copy(update={"seed": seed})
        ours(config, 0.09 + seed / 1000, {**tags, **other, "lock_hash": "other"})
    first = claim(conclude(tmp_path, study="small"), "adam is better")
    assert {each.name: each.kind for each in first.confounded_by} == {
        "decoder_hidden": "parameter",
        "data_hash": "data",
        "code version": "code",
        "git_dirty": "code",
        "lock_hash": "environment",
        "hardware": "hardware",
    }


@pytest.mark.usefixtures("db")
def test_a_study_that_was_not_run(tmp_path: Path) -> None:
    study(published(), {})
    with pytest.raises(UserError, match=r"study='smal' has no run in this experiment, did you mean 'small'\?"):
        compare.compare(Options(study="smal", out=tmp_path / "out"))
    conclusion = conclude(tmp_path, study="small")  # planned, and nothing yet
    assert {row.state for row in conclusion.completeness} == {"missing"}
    assert [each.verdict for each in conclusion.claims] == ["not judged", "not judged"]


# --- Without a study ----------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(db: str) -> str:
    """Two seeds of adam, one of them typed otherwise, one run of sgd, one failed and one running; one by hand."""
    ours(RunConfig(optimizer="adam", epochs=2, l1=1e-5), 0.10)
    typed = RunConfig(optimizer="adam", epochs=2, l1=1e-5, seed=1)
    params = {**typed.model_dump(), "l1": "0.00001", "learning_rate": "default"}
    make(
        params,
        {"val_bce": [0.28, 0.14], "last_val_bce": 0.14},
        {"fingerprint": typed.fingerprint, "data_hash": HASH},
        "typed",
    )
    ours(RunConfig(optimizer="sgd", epochs=3), 0.3)
    ours(RunConfig(epochs=3), 0.3, {"failure": "MemoryError: no memory"}, "FAILED")
    make({}, {}, name="hanging\n|[bold]<b>", status="RUNNING")
    make({"x": 1}, {"last_loss": 1.0}, name="by hand")
    return db


@pytest.mark.usefixtures("mixed")
def test_configurations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (tmp_path / "store.db").read_bytes()
    conclusion = conclude(tmp_path)
    assert (tmp_path / "store.db").read_bytes() == before
    assert conclusion.kind == "configurations"
    adam, sgd, failed = conclusion.variations  # the best first
    assert adam.params == {
        k: v for k, v in RunConfig(optimizer="adam", epochs=2, l1=1e-5).model_dump().items() if k != "seed"
    }
    assert (adam.seeds, mean(conclusion, adam.name, "last_val_bce")) == ((0, 1), pytest.approx(0.12))
    assert (sgd.params["optimizer"], sgd.finished, failed.finished) == ("sgd", 1, 0)
    assert conclusion.claims == ()
    assert {row.state for row in conclusion.completeness} == {"finished", "failed"}
    printed = capsys.readouterr().out
    assert "MemoryError: no memory" in printed
    (line,) = re.findall(r"Not in the table: (.*): it has no configuration of this project", printed)
    assert sorted(re.sub(r" \(\w{32}\)", "", line).split(" and ")) == ["by hand", "hanging |[bold]<b>"]


@pytest.mark.usefixtures("db")
def test_a_run_of_ours_that_failed_early_is_not_taken_for_somebody_elses(tmp_path: Path) -> None:
    ours(RunConfig(epochs=2), 0.1)
    early = make({"optimizer": "adam"}, {}, {"failure": "no such data set"}, status="FAILED")
    old = make({"epochs": "many"}, {}, {"fingerprint": "f"})
    reasons = {run_.run_id: run_.reason for run_ in conclude(tmp_path).runs}
    assert reasons[early] == "it failed before its configuration was recorded: no such data set"
    assert reasons[old] == "its configuration is of another version of this project"


@pytest.mark.usefixtures("mixed")
def test_the_filter_is_mlflows(tmp_path: Path) -> None:
    conclusion = conclude(tmp_path, filter="params.optimizer = 'sgd'")
    assert [each.params["optimizer"] for each in conclusion.variations] == ["sgd"]
    with pytest.raises(UserError, match=r"no run matches"):
        compare.compare(Options(filter="params.optimizer = 'ftrl'"))
    with pytest.raises(UserError, match="cannot be used"):
        compare.compare(Options(filter="nonsense"))


@pytest.mark.usefixtures("db")
def test_no_run_and_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run matches"):
        compare.compare(Options(out=tmp_path / "out"))
    with pytest.raises(UserError, match=r"experiment='Defalt' does not exist .* did you mean 'Default'"):
        compare.compare(Options(experiment="Defalt"))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("db")
def test_only_unfinished_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours(RunConfig(epochs=2), 0.1, {"failure": "interrupted by Ctrl-C"}, "KILLED")
    conclusion = conclude(tmp_path)
    assert [(row.state, row.reason) for row in conclusion.completeness] == [("killed", "interrupted by Ctrl-C")]
    assert [(each.finished, each.cells) for each in conclusion.variations] == [(0, ())]
    assert (conclusion.metric, conclusion.pairs) == (None, ())
    assert "interrupted by Ctrl-C" in capsys.readouterr().out


@pytest.mark.usefixtures("db")
def test_other_images_are_another_configuration(tmp_path: Path) -> None:
    ours(RunConfig(epochs=2), 0.1)
    ours(RunConfig(epochs=2), 0.2, {"data_hash": "b" * 64})
    conclusion = conclude(tmp_path)
    assert [each.params["data_hash"] for each in conclusion.variations] == [HASH, "b" * 64]
    assert [each.finished for each in conclusion.variations] == [1, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_sklearn_runs_by_autolog(tmp_path: Path) -> None:
    """The issue's own example: nothing of these runs is made by this project."""
    datasets, models = (importlib.import_module(f"sklearn.{name}") for name in ("datasets", "linear_model"))
    features, labels = datasets.load_iris(return_X_y=True)
    mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
    try:
        for loss in ("hinge", "log_loss"):
            for alpha in (0.0001, 1.0):
                for seed in (0, 1, 2):
                    with mlflow.start_run():
                        models.SGDClassifier(loss=loss, alpha=alpha, random_state=seed).fit(features, labels)
    finally:
        mlflow.sklearn.autolog(disable=True)
    frame = mlflow.search_runs()
    chosen = frame[(frame["params.loss"] == "hinge") & (frame["params.alpha"] == "0.0001")]
    by_hand = chosen["metrics.training_accuracy_score"].mean()
    metric = "training_accuracy_score"
    conclusion = conclude(tmp_path, group_by="loss,alpha", metric=metric, baseline="loss=log_loss,alpha=1e-4")
    assert conclusion.kind == "groups"
    assert conclusion.baseline == "loss=log_loss, alpha=0.0001"
    assert mean(conclusion, "loss=hinge, alpha=0.0001", metric) == pytest.approx(by_hand)
    assert {each.seeds for each in conclusion.variations} == {(0, 1, 2)}
    assert conclusion.metrics[0].name == metric
    assert conclusion.metrics[0].higher_is_better
    assert len(conclusion.pairs) == 3
    assert all(each.difference.paired and each.difference.n_pairs == 3 for each in conclusion.pairs)
    assert all(each.confounded_by == () for each in conclusion.pairs)
    # Grouped by one of the two, the other confounds nothing: both sides have both of its values.
    assert conclude(tmp_path, group_by="loss", metric=metric).pairs[0].confounded_by == ()


@pytest.mark.usefixtures("db")
def test_runs_by_hand(tmp_path: Path) -> None:
    for lr, values in (("0.1", (1.0, 2.0, 3.0)), ("1e-1", (4.0,)), ("0.2", (5.0, 7.0, 9.0))):
        for value in values:
            make({"lr": lr, "optimizer": "sgd", "batch": "8" if lr == "0.2" else "4"}, {"val_loss": value})
    conclusion = conclude(tmp_path, group_by="lr", baseline="lr=0.10")
    assert [each.name for each in conclusion.variations] == ["lr=0.1", "lr=0.2"]
    # 1, 2, 3, 4 against 5, 7, 9, without seeds: Welch, 7 - 2.5.
    (only,) = conclusion.pairs
    assert (only.asked, only.difference.paired, only.difference.mean) == ("val_loss", False, pytest.approx(4.5))
    assert (only.difference.n_a, only.difference.n_b) == (3, 4)
    assert [each.name for each in only.confounded_by] == ["batch"]
    assert all(row.seed is None for row in conclusion.completeness)
    assert len(conclusion.completeness) == 7
    assert {row.state for row in conclusion.completeness} == {"finished"}


@pytest.mark.usefixtures("db")
def test_the_best_of_several_baselines_is_a_choice_on_the_reported_data(tmp_path: Path) -> None:
    for lr, value in (("0.1", 3.0), ("0.2", 2.0)):
        for seed in range(2):
            make({"lr": lr, "optimizer": "sgd", "seed": seed}, {"val_loss": value + seed})
    make({"lr": "0.1", "optimizer": "adam", "seed": 0}, {"val_loss": 1.0})
    conclusion = conclude(tmp_path, group_by="optimizer,lr", metric="val_loss", baseline="optimizer=sgd")
    assert conclusion.baseline == "optimizer=sgd, lr=0.2"
    selected = next(each for each in conclusion.checks if each.kind == "selected on the reported data")
    assert selected.passed is False
    assert [f.variation for f in selected.findings if f.variation] == ["optimizer=sgd, lr=0.2"]


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by": "optimzer"}, "group_by='optimzer' is a parameter of no run, did you mean 'optimizer'"),
        ({"metric": "val_los"}, "metric='val_los' has no value in any finished run, did you mean 'val_loss'"),
        ({"metrics": "nothing"}, "metrics='nothing' has no value in any finished run; there are val_loss"),
        ({"metric": "only_failed"}, "metric='only_failed' has no value in any finished run; there are val_loss"),
        ({"baseline": "optimizer=ftrl"}, "baseline='optimizer=ftrl' fits no variation"),
    ],
)
def test_a_question_that_the_runs_cannot_answer(options: dict[str, str], message: str, tmp_path: Path) -> None:
    for optimizer in ("adam", "sgd"):
        make({"optimizer": optimizer}, {"val_loss": 1.0})
    make({"optimizer": "adam"}, {"only_failed": 1.0}, status="FAILED")
    with pytest.raises(UserError, match=re.escape(message)) as error:
        compare.compare(Options(out=tmp_path / "out", **options))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("db")
def test_what_a_metric_can_be_is_kept_with_it(tmp_path: Path) -> None:
    study(published(), VALUES)
    shown = {metric.name: metric for metric in conclude(tmp_path, study="small").metrics}
    assert (shown["ssim"].least, shown["ssim"].most) == (-1, 1)
    assert (shown["mse"].least, shown["mse"].most) == (0, 1)
    assert (shown["last_val_bce"].least, shown["last_val_bce"].most) == (0, math.inf)
    assert [name for name, metric in shown.items() if metric.wall_time] == ["training_seconds"]


@pytest.mark.usefixtures("db")
def test_what_other_peoples_metrics_can_be_is_told_by_their_names_and_values(tmp_path: Path) -> None:
    for seed, value in enumerate((0.9, 1.0)):
        metrics = {"accuracy": value, "top_acc": 90 + seed, "val_recall": 1.5e3, "fit_time": 2.0, "timesteps": -1.0}
        make({"a": "x", "seed": seed}, metrics)
    shown = {metric.name: metric for metric in conclude(tmp_path, group_by="a").metrics}
    assert {name: (metric.least, metric.most) for name, metric in shown.items()} == {
        "accuracy": (0, 1),
        "top_acc": (0, 100),  # in percent
        "val_recall": (-math.inf, math.inf),  # whatever it is
        "fit_time": (0, math.inf),
        "timesteps": (-math.inf, math.inf),
    }
    assert [name for name, metric in shown.items() if metric.wall_time] == ["fit_time"]


@pytest.mark.usefixtures("db")
def test_wall_time_gets_no_verdict(tmp_path: Path) -> None:
    timed = {**published().claims[0].model_dump(), "says": "adam is faster", "metric": "training_seconds"}
    study(published(claims=[published().claims[0].model_dump(), timed]), VALUES)
    conclusion = written(tmp_path, study="small", metrics="training_seconds,last_val_bce")
    assert {each.asked for each in conclusion.pairs} == {"last_val_bce", "last_val_loss"}
    faster = claim(conclusion, "adam is faster")
    assert (faster.verdict, faster.why, faster.metric) == ("not judged", "wall time", None)
    assert "training" in (tmp_path / "out" / "report.md").read_text()  # shown all the same
    for seed in range(2):
        make({"a": "x", "seed": seed}, {"aaa_seconds": 1.0, "m": 1.0}, experiment=mlflow.create_experiment(f"e{seed}"))
    assert written(tmp_path, experiment="e0").metric == "m"  # not the first by name


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("runs_", "kind", "applies"),
    [
        ([({"optimizer": "adam"}, {"val_loss": 1.0}), ({"optimizer": "adam", "a": "1"}, {"val_loss": 1.0})], 1, False),
        ([({"a": "1"}, {"val_loss": 1.0}), ({"a": "2"}, {"val_loss": 1.0})], 1, True),  # of no known optimizer
        ([({"a": "1"}, {"val_loss": 1.0}), ({"a": "2"}, {"val_loss": 1.0})], 0, False),
        ([({"a": "1"}, {})], 0, True),
        ([({"a": "1"}, {"val_loss": 1.0})], 2, False),
        ([({"a": "1"}, {"accuracy": 1.0})], 2, False),
        ([({"a": "1"}, {"zorp": 1.0})], 2, True),  # of which nobody knows what is better
        ([({"a": "1"}, {"val_loss": 1.0})], 3, False),
        ([({"lr": str(lr)}, {"loss": lr}) for lr in (0.1, 0.2, 0.3)], 3, True),  # measured on which data?
    ],
)
def test_a_check_without_an_answer_does_not_apply_or_is_unknown(
    runs_: list[tuple[dict[str, str], dict[str, float]]], kind: int, applies: bool, tmp_path: Path
) -> None:
    for params, metrics in runs_:
        make(params, metrics)
    check = conclude(tmp_path).checks[kind]
    assert (check.passed, check.applies) == (None, applies)


@pytest.mark.usefixtures("db")
def test_nan_inf_and_missing_metrics(tmp_path: Path) -> None:
    for seed, value in enumerate((1.0, math.nan, math.inf, 3.0)):
        make({"a": "x", "seed": seed}, {"m": value})
    make({"a": "x", "seed": 4}, {})
    for seed in range(2):
        make({"a": "y", "seed": seed}, {"m": 1.0})
    conclusion = conclude(tmp_path, group_by="a", metric="m", better="lower", baseline="a=y")
    cell = variation(conclusion, "a=x").cells[0]
    assert (cell.n, cell.mean, cell.worst, cell.worst_seed) == (3, math.inf, math.inf, 2)
    assert [(flag.flag, flag.seeds) for flag in variation(conclusion, "a=x").flags] == [("not a number", (1, 2, 4))]
    text = (tmp_path / "out" / "conclusion.json").read_text()
    cells = {each["name"]: each["cells"][0] for each in json.loads(text, parse_constant=pytest.fail)["variations"]}
    assert {name: each["n"] for name, each in cells.items()} == {"a=x": 3, "a=y": 2}
    assert '"mean": "inf"' in text


HOSTILE = [
    "<script>alert(1)</script>",
    "a|b`c`",
    "line\nbreak",
    "=1+1",
    "\"quoted\", 'twice'",
    "\u05e9\u05dc\u05d5\u05dd \u65e5\u672c\u8a9e \U0001f600",
    "../../etc/passwd",
    "$x^2$ [link](http://x) {% raw %}",
    "x" * 400,
]


@pytest.mark.usefixtures("db")
def test_hostile_names(tmp_path: Path) -> None:
    for text in HOSTILE:
        for seed in range(2):
            make({"p": text, "seed": seed}, {"m": float(seed)}, name=text[:200])
    conclusion = written(tmp_path, group_by="p", metric="m")
    assert {each.params["p"] for each in conclusion.variations} == set(HOSTILE)
    files = [each.file for each in conclusion.variations]
    assert len(set(files)) == len(HOSTILE)
    assert all(re.fullmatch(r"[\w.,=+-]{1,90}", file) and not file.startswith(".") for file in files)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    with (tmp_path / "out" / "conclusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + len(HOSTILE)
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "@", "\t"))]
    assert {file.parent for file in (tmp_path / "out").iterdir()} == {tmp_path / "out"}


# --- Files, logging, commands -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mixed")
def test_the_files_are_logged_when_asked(tmp_path: Path) -> None:
    message = compare.compare(Options(out=tmp_path / "out", log=True))
    run_id = message.split("logged to run ")[1]
    assert {"conclusion.csv", "conclusion.json", "report.html", "report.md"} <= logged_results(run_id)
    assert run_id not in set(reading.runs("0", load())["run_id"])
    made = mlflow.get_run(run_id)
    assert (made.info.run_name, made.info.status) == ("compare", "FINISHED")
    assert made.data.tags["compared"] == "python -m pipeline.compare --experiment Default"
    assert made.data.tags["mlflow.note.content"].startswith("**Variations compared with “optimizer=adam, ")


def logged_results(run_id: str) -> set[str]:
    return {file.path.removeprefix("results/") for file in mlflow.MlflowClient().list_artifacts(run_id, "results")}


@pytest.mark.usefixtures("mixed")
def test_a_new_run_of_a_comparison_lies_in_the_experiment_that_it_compares(tmp_path: Path) -> None:
    there = mlflow.create_experiment("there")
    make({"x": 1}, {"last_loss": 1.0}, experiment=there)
    message = compare.compare(Options(experiment="there", out=tmp_path / "out", log=True))
    assert mlflow.get_run(message.split("logged to run ")[1]).info.experiment_id == there


@pytest.mark.usefixtures("mixed")
def test_under_mlflow_run_the_files_lie_in_the_experiment_that_was_compared_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow run` opens its run in the experiment that it was told, which is another one than `experiment` names."""
    there = mlflow.create_experiment("there")
    make({"x": 1}, {"last_loss": 1.0}, experiment=there)
    client, project = mlflow.MlflowClient(), {"mlflow.project.entryPoint": "compare"}
    opened = {where: client.create_run(where, tags=project).info.run_id for where in ("0", there)}
    for where, run_id in opened.items():
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        journal.begin_launched(run_id, "compare")
        message = compare.compare(Options(experiment="there", out=tmp_path / "out", log=True))
        end_launched(None, "compare")
        logged = mlflow.get_run(message.split("logged to run ")[1])
        assert (logged.info.experiment_id, logged.info.status) == (there, "FINISHED")
        assert "report.html" in logged_results(logged.info.run_id)
        assert logged.data.tags["compared"] == "python -m pipeline.compare --experiment there"
        own = mlflow.get_run(run_id)
        assert (own.info.experiment_id, own.info.status, own.info.run_name) == (where, "FINISHED", "compare")
        assert own.data.tags["compared"] == "python -m pipeline.compare --experiment there"
        if where == there:
            assert logged.info.run_id == run_id
            assert "goes_on_in" not in own.data.tags
        else:
            assert own.data.tags["goes_on_in"] == logged.info.run_id != run_id
            assert not logged_results(run_id)
            assert {logged.info.run_name, logged.data.tags["mlflow.project.entryPoint"]} == {"compare"}
    assert len(reading.runs(there, load())) == 1  # what compares is not compared


@pytest.mark.usefixtures("mixed")
def test_where_the_store_does_not_take_the_files_their_run_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MlflowException("no room")

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifact", full)
    with pytest.raises(UserError, match="no room"):
        compare.compare(Options(out=tmp_path / "out", log=True))
    newest = mlflow.MlflowClient().search_runs(["0"], max_results=1)[0]
    assert (newest.info.run_name, newest.info.status) == ("compare", "FAILED")


@pytest.mark.usefixtures("db")
def test_of_a_study_to_its_parent(tmp_path: Path) -> None:
    parent = study(published(), VALUES)["", 0]
    message = compare.compare(Options(study="small", out=tmp_path / "out", log=True))
    assert message.endswith(f"logged to run {parent}")
    note = mlflow.get_run(parent).data.tags["mlflow.note.content"]  # what the UI shows on the study's own page
    assert note.startswith("Two epochs.\n\n**Claims: 1 of 2 ")
    assert "| confounded, by decoder\\_hidden" in note or "| confounded, by decoder_hidden" in note
    assert "conclusion.json" in logged_results(parent)
    assert "compared" not in mlflow.get_run(parent).data.tags


@pytest.mark.usefixtures("mixed")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\); choose another folder with --out"):
        compare.compare(Options(out=tmp_path / "file" / "out"))


@pytest.mark.usefixtures("mixed")
def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare.compare(Options(out=tmp_path / "out"))
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    make({"x": 2}, {"last_loss": 1.0})
    monkeypatch.setattr(Conclusion, "model_dump_json", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compare.compare(Options(out=tmp_path / "out"))
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(
    ("given", "texts", "said"),
    [
        (
            "",
            ["conclusion.csv", "conclusion.json", "report.html", "report.md"],
            "report.html and .md, conclusion.csv and .json",
        ),
        ("html", ["report.html"], "report.html"),
        ("json, latex,csv", ["conclusion.csv", "conclusion.json", "conclusion.tex"], "conclusion.csv, .json and .tex"),
        (("md", "latex"), ["conclusion.tex", "report.md"], "report.md, conclusion.tex"),
    ],
)
def test_what_is_asked_for_is_written_and_pictures_where_they_are_shown(
    given: Any, texts: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = compare.compare(Options(out=tmp_path / "out", format=given))
    names = {file.name for file in (tmp_path / "out").iterdir()}
    pictures = {name for name in names if name.endswith(".png")}
    assert names - pictures == set(texts)
    shown = bool({"report.html", "report.md"} & names)
    assert pictures >= {"seeds.png", "forest.png"} if shown else pictures == set()
    assert message == f"written to {tmp_path}/out: {said}{f', pictures: {len(pictures)}' if shown else ''}"
    more = "report.html, or --all" if "report.html" in names else "--all"
    assert capsys.readouterr().out.endswith(f"threats to validity and checks: {more}.\n")


@pytest.mark.usefixtures("mixed")
def test_what_an_earlier_comparison_left_is_said(tmp_path: Path) -> None:
    compare.compare(Options(out=tmp_path / "out", format="json,latex"))
    before = (tmp_path / "out" / "conclusion.json").read_bytes()
    message = compare.compare(Options(out=tmp_path / "out", format="latex"))
    assert message.splitlines()[1:] == ["left there as they were, of an earlier comparison: conclusion.json"]
    assert (tmp_path / "out" / "conclusion.json").read_bytes() == before


def test_of_a_file_that_nobody_can_write_those_that_there_are_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--format", "html,pdf"]) == 2
    allowed = "'html', 'md', 'csv', 'json' or 'latex'"
    assert capsys.readouterr().err == f"error: format='pdf' cannot be used: should be {allowed}\n"


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_pictures_from_what_the_runs_logged(tmp_path: Path) -> None:
    ids = study(published(), VALUES)
    rng = np.random.default_rng(0)
    originals, blob, digits = ((rng.integers(0, 256, (10, 28, 28, 1)) / 255).astype(np.float32) for _ in range(3))
    for variation_name, images in (("Original", blob), ("adam_optimizer", digits)):
        for step, made in ((0, originals), (2, images)):
            strip = plots.strip(originals, made)
            with mlflow.start_run(run_id=ids[variation_name, 0]):
                mlflow.log_image(strip, key="reconstructions", step=step, synchronous=True)
    found = reading.digits(ids["Original", 0])
    assert found is not None
    np.testing.assert_allclose(found[0], originals, atol=1e-6)
    np.testing.assert_allclose(found[1], blob, atol=1e-6)
    assert reading.digits(ids["Original", 1]) is None
    conclusion = written(tmp_path, study="small")
    assert conclusion.without_pictures == ("with L1",)
    assert "<image " in (tmp_path / "out" / "report.html").read_text()  # the grid, whose gaps show the page
    pictures = {file.name for file in (tmp_path / "out").glob("*.png")}
    assert pictures == {
        "forest.png",
        "loss_curves.png",
        "seeds.png",
        "Original.png",
        "adam_optimizer.png",
        "digits.png",
    }
    # A run that stands for another one has its picture there.
    elsewhere = ours(published().configurations()["with L1"], 0.09)
    with mlflow.start_run(run_id=elsewhere):
        mlflow.log_image(plots.strip(originals, digits), key="reconstructions", step=2, synchronous=True)
    tags = {"mlflow.parentRunId": ids["", 0], "study": "small", "variation": "with L1", "reused_from": elsewhere}
    mlflow.MlflowClient().delete_run(ids["with L1", 0])
    ours(published().configurations()["with L1"], 0.09, tags)
    compare.compare(Options(study="small", out=tmp_path / "again"))
    assert (tmp_path / "again" / "with_L1.png").exists()


@pytest.mark.usefixtures("db")
def test_metrics_of_earlier_versions_are_read_under_their_old_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = {"first_displayed_loss": 0.7, "collapse": 0.01}, {"keras2_progressbar_loss": 0.7, "variance_ratio": 0.01}
    config = published().configurations()["Original"]
    tags = {"fingerprint": config.fingerprint, "data_hash": HASH}
    before, now = ({**config.params, "seed": seed} for seed in range(2))
    made = make(before, {"last_val_bce": 0.4, **old}, tags)
    make(now, {"last_val_bce": 0.4, **new}, tags)
    make({"x": 1}, {"collapse": 0.3}, experiment=mlflow.create_experiment("foreign"))
    conclusion = conclude(tmp_path, metrics="collapse,keras2_progressbar_loss")
    (only,) = conclusion.variations
    cells = {cell.metric: (cell.n, cell.mean) for cell in only.cells}
    assert cells == {"last_val_bce": (2, 0.4), "keras2_progressbar_loss": (2, 0.7), "variance_ratio": (2, 0.01)}
    assert next((flag.flag, flag.metric, flag.seeds) for flag in only.flags) == ("collapsed", "variance_ratio", (0, 1))
    # A run has the digest that it had before, and a conclusion of then is still what its runs say.
    as_logged = pd.DataFrame(
        [
            {f"params.{k}": v for k, v in before.items()}
            | {f"metrics.{k}": v for k, v in {"last_val_bce": 0.4, **old}.items()}
        ]
    )
    assert {run.run_id: run.digest for run in conclusion.runs}[made] == digests.of_rows(as_logged)[0]
    then = (tmp_path / "out" / "conclusion.json").read_text()
    for was, name in zip(old, new, strict=True):
        then = then.replace(name, was)
    (tmp_path / "then.json").write_text(then)
    assert main(["--verify", str(tmp_path / "then.json")]) == 0
    assert "nothing differs" in capsys.readouterr().out
    # In somebody else's run it is another metric.
    assert [metric.name for metric in conclude(tmp_path, experiment="foreign").metrics] == ["collapse"]


def log_picture(run_id: str, path: str, content: bytes, folder: Path) -> None:
    file = folder / Path(path).name
    file.write_bytes(content)
    mlflow.MlflowClient().log_artifact(run_id, str(file), str(Path(path).parent) if "/" in path else None)


def photo(colour: str, kind: str = "jpeg") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), colour).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.usefixtures("db")
def test_a_picture_of_anybodys_runs_is_shown_of_each_variation_and_a_missing_or_broken_one_is_said(
    tmp_path: Path,
) -> None:
    contents = {
        "plain": photo("red", "png"),
        "a|b <i>": photo("blue"),
        "cut": photo("green")[:-200],
        "bomb": jpeg_of(60_000, 60_000),
        "gif": b"GIF89a",
        "none": None,
    }
    ids = {}
    for seed in (2, 1, 10):  # the first repetition is not the run that was made first
        for model, content in contents.items():
            ids[model, seed] = make({"model": model, "seed": seed}, {"val_loss": 0.5 + seed / 100})
            if content:
                log_picture(ids[model, seed], "samples/last.img", content if seed == 1 else photo("black"), tmp_path)
    message = compare.compare(Options(out=tmp_path / "out", pictures="samples/last.img"))
    conclusion = verify.read_conclusion(str(tmp_path / "out" / "conclusion.json"))
    assert conclusion.provenance.command.endswith(" --pictures samples/last.img")
    files = {each.params["model"]: each.file for each in conclusion.variations}
    names = {each.params["model"]: each.name for each in conclusion.variations}
    written = {model: list((tmp_path / "out").glob(f"{file}.[pj]*")) for model, file in files.items()}
    assert {model: [file.suffix for file in found] for model, found in written.items() if found} == {
        "plain": [".png"],
        "a|b <i>": [".jpg"],
    }
    for model in ("plain", "a|b <i>"):
        assert written[model][0].read_bytes() == contents[model]
    why = conclusion.unused_pictures
    assert set(conclusion.without_pictures) == set(why) == {names[each] for each in ("cut", "bomb", "gif", "none")}
    assert why[names["cut"]].startswith("it is damaged (")
    assert why[names["bomb"]] == "it has 60,000 x 60,000 pixels, more than 25 million"
    assert why[names["gif"]] == "it is neither a PNG nor a JPEG file"
    gone = f"its run {ids['none', 1]} has no artifact samples/last.img, or the artifact store does not give it"
    assert why[names["none"]] == gone
    assert message.splitlines()[1].startswith("without samples/last.img, which the report gives a reason for: ")
    page, text = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    for model, kind in (("plain", "png"), ("a|b <i>", "jpeg")):
        source = base64.b64encode(contents[model] or b"").decode()
        caption = re.search(rf'<img src="data:image/{kind};base64,{re.escape(source)}".*?<bdi>(.*?)</bdi>', page)
        assert caption
        assert html.unescape(caption[1]) == names[model]
    for name in conclusion.without_pictures:
        assert f"The picture of \u201c{name}\u201d was not used in the grid: {why[name]}." in html.unescape(page)
    pictures, line, captions = re.findall(r"^\|.*\|$", text[text.index("## Pictures") :], re.MULTILINE)[:3]
    assert line == "| :---: | :---: |"
    linked = [unquote(name) for name in re.findall(r"\]\(([^)]+)\)", pictures)]
    assert linked == [f"{files[each]}{'.png' if each == 'plain' else '.jpg'}" for each in ("plain", "a|b <i>")]
    assert captions == f"| {markdown.escaped(names['plain'])} | {markdown.escaped(names['a|b <i>'])} |"
    assert main(["--verify", str(tmp_path / "out" / "conclusion.json")]) == 0


@pytest.mark.usefixtures("db")
def test_of_a_run_that_stands_for_another_one_the_picture_is_there_and_it_replaces_the_tasks_own(
    tmp_path: Path,
) -> None:
    ids = study(published(), VALUES)
    for name in ("Original", "adam_optimizer"):
        log_picture(ids[name, 0], "own.png", photo("red", "png"), tmp_path)
    elsewhere = ours(published().configurations()["with L1"], 0.09)
    log_picture(elsewhere, "own.png", photo("blue", "png"), tmp_path)
    tags = {"mlflow.parentRunId": ids["", 0], "study": "small", "variation": "with L1", "reused_from": elsewhere}
    mlflow.MlflowClient().delete_run(ids["with L1", 0])
    ours(published().configurations()["with L1"], 0.09, tags)
    conclusion = written(tmp_path, study="small", pictures="./own.png")
    assert conclusion.without_pictures == ()
    assert (tmp_path / "out" / "with_L1.png").read_bytes() == photo("blue", "png")
    assert not (tmp_path / "out" / "digits.png").exists()
    assert (
        "./own.png, an artifact of the first repetition of each variation:" in (tmp_path / "out/report.md").read_text()
    )


@pytest.mark.usefixtures("db")
def test_pictures_are_not_looked_for_in_more_variations_than_can_be_told_apart_and_so_it_is_said(
    tmp_path: Path,
) -> None:
    for model in range(22):
        run_id = make({"model": model}, {"val_loss": 0.5 + model / 100})
        if model:
            log_picture(run_id, "own.png", photo("red", "png"), tmp_path)
    conclusion = conclude(tmp_path, pictures="own.png", format="md,json")
    assert len(conclusion.without_pictures) == 1
    assert len(list((tmp_path / "out").glob("[0-9m]*.png"))) == 19
    assert "It was not looked for in 2 more variations." in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize("formats", ["csv", "json,latex"])
def test_pictures_without_a_report_that_shows_them(formats: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--format", formats, "--pictures", "a.png"]) == 2
    wanted = "pictures are shown in html and md; add one of them to --format"
    assert capsys.readouterr().err == f"error: pictures='a.png' cannot be used: {wanted}\n"


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header says that size."""
    small = photo("red")
    place = small.index(b"\xff\xc0") + 5
    return small[:place] + struct.pack(">HH", height, width) + small[place + 4 :]


def oversized(width: int, height: int) -> bytes:
    """The first bytes of a PNG of that size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + checksum


def image(width: int, height: int) -> bytes:
    """A black PNG."""
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (oversized(60_000, 60_000), "it has 60,000 x 60,000 pixels, more than 25 million"),
        (image(12_000, 12_000), "it has 12,000 x 12,000 pixels, more than 25 million"),
        (image(41, 8), "it is not two rows of 10 images"),
        (oversized(400, 80), "it is damaged ("),
        (image(400, 80)[:-30], "it is damaged ("),
        (b"GIF89a", "it is not a PNG file"),
        (b"", "it is not a PNG file"),
    ],
    ids=["60000", "12000", "41", "no data", "cut", "gif", "empty"],
)
def test_a_picture_that_cannot_be_used_is_named_and_none_that_is_too_large_is_decoded(
    content: bytes, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[tuple[int, int]] = []
    load = ImageFile.ImageFile.load

    def noted(picture: ImageFile.ImageFile) -> Any:
        decoded.append(picture.size)
        return load(picture)

    monkeypatch.setattr(ImageFile.ImageFile, "load", noted)
    ids = study(published(), VALUES)
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "reconstructions%step%2%timestamp%1%0.png").write_bytes(content)
    mlflow.MlflowClient().log_artifacts(ids["Original", 0], str(folder), "images")
    with pytest.raises(reading.PictureError, match=re.escape(why)):
        reading.digits(ids["Original", 0])
    conclusion = written(tmp_path, study="small")
    assert conclusion.unused_pictures.keys() == {"Original"}
    said = f"The picture of \u201cOriginal\u201d was not used in the grid: {why}"
    assert said in (tmp_path / "out" / "report.md").read_text().replace("\\", "")
    assert said in html.unescape((tmp_path / "out" / "report.html").read_text())
    assert decoded == [] or "more than 25 million" not in why


def log_arrays(run_id: str, folder: Path, content: bytes) -> None:
    """As `RECONSTRUCTIONS_FILE`."""
    folder.mkdir(exist_ok=True)
    (folder / RECONSTRUCTIONS_FILE).write_bytes(content)
    mlflow.MlflowClient().log_artifacts(run_id, str(folder))


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def zipped(member: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of which both arrays are these bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name in ("originals", "reconstructed"):
            archive.writestr(f"{name}.npy", member)
    return buffer.getvalue()


def header(shape: tuple[int, ...], version: tuple[int, int] = (1, 0), kind: str = "|u1") -> bytes:
    """The first bytes of an array of that shape."""
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text


@pytest.mark.usefixtures("db")
def test_arrays_that_a_run_logged_come_before_its_pictures(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (12, 20, 28, 3), np.uint8)
    run_id = make({}, {})
    strip = plots.strip(*(np.zeros((10, 28, 28, 1), np.float32) for _ in range(2)))
    with mlflow.start_run(run_id=run_id):
        mlflow.log_image(strip, key="reconstructions", step=2, synchronous=True)
    log_arrays(run_id, tmp_path / "arrays", npz(originals=x, reconstructed=np.asfortranarray((x / 255).astype("f4"))))
    found = reading.digits(run_id)
    assert found is not None
    for images in found:
        assert images.dtype == np.float32
        np.testing.assert_allclose(images, x[:10] / 255, atol=1e-7)


_FOUR = np.zeros((10, 4, 4, 1), np.float32)


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is not an NPZ file"),
        (b"PK\x03\x04 and no more", "it is not an NPZ file"),
        (npz(originals=_FOUR), "it is damaged ("),
        (zipped(header((10, 4, 4, 1))), "it is damaged ("),
        (zipped(b"no array"), "it is damaged ("),
        (zipped(header((10**6, 10**6, 10**6, 1))), "it has 1,000,000 x 1,000,000 x 1,000,000 x 1 values, more than 25"),
        (zipped(header((10, 4, 4, 1), (2, 0))), "it is not two arrays of images"),
        (zipped(header((-1, 4, 4, 1))), "it is not two arrays of images"),
        (zipped(header((160,))), "it is not two arrays of images"),
        (zipped(header((10, 4, 4, 1), kind="|O")), "it is not two arrays of images"),
        (zipped(header((10, 4, 4, 1)), zipfile.ZIP_LZMA), "it is not packed as NumPy does"),
        (npz(originals=_FOUR, reconstructed=_FOUR.astype(object)), "it is not two arrays of images"),
        (npz(originals=_FOUR, reconstructed=_FOUR[:9]), "its originals and its reconstructions are not of one size"),
        (npz(originals=_FOUR, reconstructed=_FOUR - 1), "it has values outside [0, 1]"),
        (npz(originals=_FOUR, reconstructed=_FOUR * math.nan), "it has values outside [0, 1]"),
    ],
)
def test_arrays_that_cannot_be_used_are_named_and_take_no_memory(content: bytes, why: str, tmp_path: Path) -> None:
    run_id = make({}, {})
    log_arrays(run_id, tmp_path / "arrays", content)
    tracemalloc.start()
    with pytest.raises(reading.PictureError, match=re.escape(why)):
        reading.digits(run_id)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.usefixtures("db")
def test_large_arrays_are_not_even_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = make({}, {})
    with (tmp_path / RECONSTRUCTIONS_FILE).open("wb") as file:
        file.truncate(2**26)
    mlflow.MlflowClient().log_artifact(run_id, str(tmp_path / RECONSTRUCTIONS_FILE))
    monkeypatch.setattr(mlflow.MlflowClient, "download_artifacts", pytest.fail)
    with pytest.raises(reading.PictureError, match="it has 64 MB, more than 50"):
        reading.digits(run_id)


@pytest.mark.usefixtures("db")
def test_a_large_picture_is_not_even_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = make({}, {})
    large = tmp_path / "images" / "reconstructions%step%2%timestamp%1%0.png"
    large.parent.mkdir()
    with large.open("wb") as file:
        file.truncate(2**26)
    mlflow.MlflowClient().log_artifacts(run_id, str(large.parent), "images")
    monkeypatch.setattr(mlflow.MlflowClient, "download_artifacts", pytest.fail)
    with pytest.raises(reading.PictureError, match="it has 64 MB, more than 50"):
        reading.digits(run_id)


@pytest.mark.usefixtures("db")
def test_images_of_another_size_are_named(tmp_path: Path) -> None:
    ids = study(published(), VALUES)
    for name, size in (("Original", 28), ("adam_optimizer", 20)):
        x = np.zeros((10, size, size, 1), np.float32)
        with mlflow.start_run(run_id=ids[name, 0]):
            mlflow.log_image(plots.strip(x, x), key="reconstructions", step=2, synchronous=True)
    unused = written(tmp_path, study="small").unused_pictures
    assert unused == {"adam_optimizer": "its images are of another size than those of the first variation"}


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_at_80_columns_a_terminal_shows_whole_claims_and_nothing_wider(tmp_path: Path) -> None:
    """The command itself, on a terminal."""
    study(published(), VALUES)

    def on_a_terminal(*words: str) -> str:
        leader, follower = pty.openpty()
        environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        environment.pop("NO_COLOR", None)
        command = [sys.executable, "-m", "pipeline.compare", "--study", "small", "--out", "out", *words]
        with subprocess.Popen(command, stdout=follower, env=environment, cwd=tmp_path) as process:
            os.close(follower)
            read = b""
            with suppress(OSError), os.fdopen(leader, "rb", buffering=0) as file:  # as Linux ends a terminal
                while chunk := file.read(65536):
                    read += chunk
        assert process.returncode == 0
        return read.decode().replace("\r\n", "\n")

    printed = on_a_terminal()
    assert "\x1b[1;35m\u26a0 confounded\x1b[0m: adam is better\n" in printed
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert max(map(len, plain.splitlines())) <= 80
    assert "\n  last val_loss: \u22120.3509 [\u22120.3541, \u22120.3477] nats per pixel\n" in plain
    assert sentences.THREATS not in plain
    assert plain.index("confounded: adam is better") < plain.index("negligible: L1 worsens it") < plain.index("--all")
    everything = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal("--all"))
    assert max(map(len, everything.splitlines())) <= 80
    assert f"\n{sentences.THREATS}\n" in everything


@pytest.mark.usefixtures("db")
def test_histories_of_runs_that_are_gone() -> None:
    here, gone = (make({}, {"val_bce": [3.0, 2.0]}) for _ in range(2))
    mlflow.MlflowClient().delete_run(gone)
    frame = reading.histories([here, "0" * 32, gone], ["val_bce", "absent"])
    of_here = frame[frame["run_id"] == here]
    assert of_here[["epoch", "metrics.val_bce"]].to_numpy().tolist() == [[1, 3.0], [2, 2.0]]
    assert of_here["metrics.absent"].isna().all()
    assert reading.histories([], ["val_bce"]).empty


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_over_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same conclusion as from the database itself; histories come in bulk there, too."""
    ids = study(published(), VALUES)
    there = written(tmp_path, study="small")
    server = Server(tmp_path)
    try:
        server.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        over = written(tmp_path, study="small")
        page = (tmp_path / "out" / "report.html").read_text()
        frame = reading.histories([ids["Original", 0], "0" * 32], ["val_bce"])
        assert frame["metrics.val_bce"].tolist() == [0.88, 0.44]
    finally:
        server.kill()
    assert (there.provenance.ui, over.provenance.ui) == ("", f"{server.uri}/#/experiments/0")
    for run_id in ids.values():
        assert f'href="{server.uri}/#/experiments/0/runs/{run_id}"' in page
    for part in ("variations", "pairs", "claims", "completeness", "runs"):
        assert getattr(over, part) == getattr(there, part)


@pytest.mark.slow
@pytest.mark.usefixtures("mixed")
def test_it_runs_under_mlflow_run_and_leaves_itself_out(tmp_path: Path) -> None:
    before = runs_there()
    words = ("mlflow", "run", str(ROOT), "-e", "compare", "-P", f"out={tmp_path}/out", "--env-manager", "local")
    for log in ("false", "true"):
        done = run(*words, "-P", f"log={log}", folder=tmp_path, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(verify.read_conclusion(f"{tmp_path}/out/conclusion.json").runs) == 6
    made = runs_there()[: -len(before)]
    summaries = [each for each in made if SUMMARY_OF in each.data.tags]
    logged, only_looked = (each for each in made if each not in summaries)  # those that `mlflow run` opened, no others
    assert {each.data.tags["mlflow.parentRunId"] for each in summaries} == {logged.info.run_id}
    for launched in (only_looked, logged):
        assert (launched.info.run_name, launched.info.status) == ("compare", "FINISHED")
        assert launched.data.tags["compared"] == "python -m pipeline.compare --experiment Default"
        assert launched.data.tags["mlflow.note.content"]
    assert not logged_results(only_looked.info.run_id)
    assert {"conclusion.csv", "conclusion.json", "report.html", "report.md"} <= logged_results(logged.info.run_id)
    assert logged.info.run_id in done.stdout
    require_invisible([logged.info.run_id, only_looked.info.run_id])
    assert not list((tmp_path / "state").rglob("header.json"))  # the store has all that they said


@pytest.mark.usefixtures("store")
def test_for_many_configurations_the_runs_of_their_data_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    client = mlflow.MlflowClient()
    ids: dict[str, tuple[str, str]] = {}
    for fingerprint, data, reused, status in (
        ("f1", "d1", "", "FINISHED"),
        ("f1", "d1", "", "FINISHED"),  # newer, so not the original
        ("f2", "d1", "another", "FINISHED"),
        ("f3", "d1", "", "FAILED"),
        ("f1", "d2", "", "FINISHED"),
        ("f4", "", "", "FINISHED"),
        ("f5", "d1", "", "FINISHED"),  # which nobody asks for
    ):
        tags = {"fingerprint": fingerprint, "data_hash": data, "reused_from": reused}
        run = client.create_run(
            "0", start_time=len(ids) + 1, tags={name: value for name, value in tags.items() if value}
        )
        client.set_terminated(run.info.run_id, status)
        ids[run.info.run_id] = fingerprint, data
    first = {pair: run_id for run_id, pair in reversed(ids.items()) if pair in [("f1", "d1"), ("f1", "d2"), ("f4", "")]}
    wanted = [[("v", *pair)] for pair in [("f1", "d1"), ("f2", "d1"), ("f3", "d1"), ("f1", "d2"), ("f4", "")]]
    for most, requests in ((100, 5), (2, 3)):
        asked = Mock(side_effect=search.runs)
        with monkeypatch.context() as patched:
            patched.setattr(search, "_ONE_BY_ONE", most)
            patched.setattr(search, "runs", asked)
            found = search.find("0", "s", [], wanted, look_only=True)
        assert {pair: run.info.run_id for pair, run in found.elsewhere.items()} == first
        assert asked.call_count == requests


def runs_there() -> list[Any]:
    """The newest first."""
    return list(mlflow.MlflowClient().search_runs(["0"], order_by=["start_time DESC"]))


def require_invisible(comparisons: Sequence[str]) -> None:
    """Nothing that is asked of an experiment finds the run of a comparison."""
    assert not set(comparisons) & set(reading.runs("0", load())["run_id"])
    assert not set(comparisons) & set(reading.runs("0", load(), "attributes.run_name LIKE 'compare%'")["run_id"])
    with pytest.raises(UserError, match="study='small' has no run in this experiment; run it"):
        reading.study_plan("0", "small")
    known = [(each.info.run_id, each.info.status) for each in runs_there()]
    config = RunConfig(optimizer="adam", epochs=2, l1=1e-5)
    found = search.find("0", "small", ["p"], [[("adam", config.fingerprint, HASH)]], look_only=False)
    assert (found.parent, found.finished) == (None, {})
    assert not set(comparisons) & {each.info.run_id for each in found.elsewhere.values()}
    like_it = search.finished_runs("0", {"data_hash": HASH}, Autoencoder().sizes(config))
    assert not set(comparisons) & {each.info.run_id for each in like_it}
    newest = like_it[0].data
    assert Autoencoder().seconds(config, newest.params, newest.metrics, 100.0) == 6.0  # it took 9 s for three epochs
    assert [(each.info.run_id, each.info.status) for each in runs_there()] == known  # none is dead


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_the_issues_command_without_tensorflow(tmp_path: Path) -> None:
    for optimizer in ("adam", "sgd"):
        for lr in ("0.1", "0.2"):
            make({"optimizer": optimizer, "lr": lr}, {"val_loss": float(lr)})
    words = ["--experiment", "Default", "--group-by", "optimizer,lr", "--metric", "val_loss"]
    words += ["--baseline", "optimizer=sgd", "--out", str(tmp_path / "out")]
    code = "import sys; from pipeline.compare.__main__ import main\n"
    code += f"print(main({words!r}), 'tensorflow' in sys.modules)"
    done = run(sys.executable, "-c", code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0 False"


# --- Verify -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("db")
def test_verify_names_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = study(published(), VALUES)
    known = conclude(tmp_path, study="small")
    path = str(tmp_path / "out" / "conclusion.json")
    assert verify.verify(known) == []
    assert main(["--verify", path]) == 0
    assert "nothing differs (runs: 9, verdicts: 2" in capsys.readouterr().out

    client = mlflow.MlflowClient()
    client.log_metric(ids["adam_optimizer", 0], "last_val_bce", 0.9, timestamp=2, step=2)  # changed
    client.delete_run(ids["with L1", 2])  # vanished
    tags = {"mlflow.parentRunId": ids["", 0], "study": "small", "variation": "Original"}
    added = ours(published().configurations()["Original"].model_copy(update={"seed": 7}), 0.44, tags)
    lines = verify.verify(known)
    assert (
        f"changed: adam_optimizer, seed 0 ({ids['adam_optimizer', 0]}): its params or metrics are not what they were"
        in lines
    )
    assert f"vanished: with L1, seed 2 ({ids['with L1', 2]})" in lines
    assert f"added: Original, seed 7 ({added}), FINISHED" in lines
    changed = "verdict: L1 worsens it: it was negligible, it would now be inconclusive"
    assert changed in lines
    assert sum(line.startswith(("changed", "vanished", "added")) for line in lines) == 3
    assert main(["--verify", path]) == 1
    printed = capsys.readouterr().out
    assert [line for line in lines if line not in printed] == []


def edited(file: Path, path: str, value: object) -> Conclusion:
    """The conclusion of a file in which somebody has changed one value, such as `claims.0.difference.mean`."""
    content = json.loads(file.read_text())
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    part = content
    for key in parents:
        part = part[key]
    part[last] = value
    changed = file.with_name("edited.json")
    changed.write_text(json.dumps(content))
    return verify.read_conclusion(str(changed))


@pytest.mark.usefixtures("db")
def test_verify_finds_what_was_edited(tmp_path: Path) -> None:
    study(published(), VALUES)
    known = conclude(tmp_path, study="small")
    file = tmp_path / "out" / "conclusion.json"
    place = [cell.metric for cell in known.variations[1].cells].index("last_val_bce")
    changes: list[tuple[str, Any, str]] = [
        (
            f"variations.1.cells.{place}.mean",
            0.05,
            "adam_optimizer.cells.last_val_bce.mean says 0.05, its runs say 0.09",
        ),
        (
            f"variations.1.cells.{place}.values.1",
            0.05,
            "adam_optimizer.cells.last_val_bce.values[1] says 0.05, its runs",
        ),
        ("claims.0.difference.mean", -0.5, "claims[0].difference.mean says -0.5, its runs say -0.3509"),
        ("claims.1.p_corrected", 0.001, "claims[1].p_corrected says 0.001, its runs say"),
        ("pairs.0.p_corrected", 0.9, "pairs[0].p_corrected says 0.9, its runs say"),
        ("claims.1.caveats", [], "claims[1].caveats[0].kind says nothing, its runs say flag"),
        ("variations.0.flags", [], "Original.flags[0].flag says nothing, its runs say not converged"),
        ("checks.0.passed", True, "checks[0].passed says True, its runs say nothing"),
        ("title", "another", "title says another, its runs say small"),
        ("looks", 2, "looks says 2, its runs say 1"),
        ("varied", "nothing", "varied says nothing, its runs say first weights"),
        ("constant.epochs", 99, "constant.epochs says 99, its runs say 2"),
        ("efforts.0.runs", 1, "efforts[0].runs says 1, its runs say 9"),
        ("provenance.hardware", ["gpu"], "provenance.hardware says ('gpu',), its runs say ('cpu',)"),
        ("claims.0.declared", "after", "claims[0].declared says after, its runs say before"),
    ]
    for path, value, says in changes:
        assert f"not what its runs give: {says}" in "\n".join(verify.verify(edited(file, path, value))), path

    mlflow.MlflowClient().log_metric(known.variations[0].cells[0].run_ids[0], "last_val_bce", 0.9, timestamp=2, step=2)
    lines = verify.verify(edited(file, f"variations.1.cells.{place}.mean", 0.05))
    assert "not what its runs give: adam_optimizer.cells.last_val_bce.mean says 0.05, its runs say 0.09" in "\n".join(
        lines
    )
    assert [line for line in lines if line.startswith("not what its runs give: Original")] == []


@pytest.mark.usefixtures("db")
def test_verify_of_an_earlier_schema_says_so_and_compares_what_is_computed_alike(tmp_path: Path) -> None:
    study(published(), VALUES)
    known = conclude(tmp_path, study="small")
    file = tmp_path / "out" / "conclusion.json"
    with pytest.raises(UserError, match=r"says that it is of schema 2, which it is not; make it again"):
        edited(file, "schema_version", 2)
    with pytest.raises(UserError, match=r"says that it is of schema 99, which it is not; make it again"):
        edited(file, "schema_version", 99)
    assert "schema" not in verify.counted(known)
    content = {**json.loads(file.read_text()), "schema_version": 2}
    for part in ("efforts", "uncounted", "searches"):
        del content[part]
    file.write_text(json.dumps(content))
    earlier = verify.read_conclusion(str(file))
    assert verify.counted(earlier).endswith("; by schema 2, of which intervals and tests were computed otherwise")
    assert verify.verify(earlier) == []
    for path, value in {"claims.0.difference.low": -9, "claims.0.difference.mean": -0.5}.items():
        earlier = edited(file, path, value)
        file.write_text((tmp_path / "out" / "edited.json").read_text())
    assert [line.split(" says")[0] for line in verify.verify(earlier)] == [
        "not what its runs give: claims[0].difference.mean"
    ]


@pytest.mark.usefixtures("db")
def test_verify_takes_no_other_run_of_the_study(tmp_path: Path) -> None:
    first = study(published(), VALUES)
    known = conclude(tmp_path, study="small")
    study(published(), VALUES)
    mlflow.MlflowClient().delete_run(first["", 0])
    with pytest.raises(
        UserError, match=f"cannot be checked: the run {first['', 0]} of the study small is gone; compare"
    ):
        verify.verify(known)
    nameless = edited(tmp_path / "out" / "conclusion.json", "provenance.study_run_id", None)
    with pytest.raises(UserError, match=r"does not say which run of the study small it is of"):
        verify.verify(nameless)


@pytest.mark.usefixtures("db")
def test_verify_without_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.json").write_text("{}")
    for path, message in (("broken.json", "is no conclusion.json of this version"), ("absent.json", "does not exist")):
        assert main(["--verify", str(tmp_path / path)]) == 2
        assert message in capsys.readouterr().err
    make({"a": 1}, {"m": 1.0})
    known = conclude(tmp_path)
    for run_id in reading.runs("0", load())["run_id"]:
        mlflow.MlflowClient().delete_run(run_id)
    lines = verify.verify(known)
    assert [line.split(" (")[0] for line in lines] == [
        "vanished: all runs",
        "baseline: it was all runs, it would now be None",
    ]
