"""`compare --log`: a run that sums up each variation, for MLflow's own charts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Metric, Param, Run

from pipeline import inference
from pipeline.compare import run as compare
from pipeline.compare import verify
from pipeline.compare.options import Options
from pipeline.tracking.names import COMPARED, MLFLOW_PARENT_RUN_ID, SUMMARY_OF

EPOCHS, SEEDS = 3, 4


def curve(optimizer: str, seed: int) -> list[float]:
    chance = random.Random(f"{optimizer} {seed}")
    return [(1 + (optimizer == "sgd")) / (epoch + 1) + chance.gauss(0, 0.01) for epoch in range(EPOCHS)]


def make(optimizer: str, seed: int, values: Sequence[float]) -> None:
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    metrics = [Metric("val_loss", value, 1, epoch) for epoch, value in enumerate(values)]
    metrics.append(Metric("f1", 0.5 + seed / 100, 1, 0))
    client.log_batch(run_id, metrics, [Param("optimizer", optimizer), Param("seed", str(seed))])
    client.set_terminated(run_id)


@pytest.fixture
def runs(db: str) -> None:
    for optimizer in ("adam", "sgd"):
        for seed in range(SEEDS):
            make(optimizer, seed, curve(optimizer, seed))


def summaries() -> dict[str, Run]:
    every = mlflow.MlflowClient().search_runs(["0"], f"tags.{SUMMARY_OF} LIKE '%'")
    found = {run.data.tags[SUMMARY_OF]: run for run in every}
    assert len(found) == len(every)  # one each
    return found


def history(run: Run, metric: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in mlflow.MlflowClient().get_metric_history(run.info.run_id, metric)]


@pytest.mark.usefixtures("runs")
def test_each_variation_has_a_run_with_its_mean_and_its_interval(tmp_path: Path) -> None:
    message = compare.compare(Options(out=tmp_path / "out", log=True, metrics="val_loss,f1"))
    target = message.rpartition(" ")[2]
    found = summaries()
    assert set(found) == {"optimizer=adam", "optimizer=sgd"}
    run = found["optimizer=adam"]
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"optimizer=adam, mean of {SEEDS}")
    assert run.data.params == {"optimizer": "adam"}
    assert run.data.tags[MLFLOW_PARENT_RUN_ID] == target
    for epoch in range(EPOCHS):
        values = [curve("adam", seed)[epoch] for seed in range(SEEDS)]
        mean = sum(values) / SEEDS
        sd = (sum((value - mean) ** 2 for value in values) / (SEEDS - 1)) ** 0.5
        half = 3.182446305284263 * sd / SEEDS**0.5  # Student's t of three degrees of freedom
        for name, value in {"val_loss": mean, "val_loss.low": mean - half, "val_loss.high": mean + half}.items():
            assert history(run, name)[epoch] == (epoch, pytest.approx(value, rel=1e-9)), name
    assert history(run, "f1") == [(0, pytest.approx(0.515))]
    assert [step for step, _ in history(run, "f1.low")] == [0]
    assert float(inference.quantile(3)) == pytest.approx(3.182446305284263)


@pytest.mark.usefixtures("runs")
def test_they_count_nowhere_and_are_replaced(tmp_path: Path) -> None:
    for count in (1, 2):
        compare.compare(Options(out=tmp_path / "out", log=True))
        known = verify.read_conclusion(str(tmp_path / "out" / "conclusion.json"))
        assert len(known.runs) == 2 * SEEDS, count
        assert verify.verify(known) == []
        assert len(summaries()) == 2
    make("rmsprop", 0, [1.0, 0.9])
    before = {run.info.run_id for run in summaries().values()}
    compare.compare(Options(out=tmp_path / "out", log=True))
    after = summaries()
    assert set(after) == {"optimizer=adam", "optimizer=sgd", "optimizer=rmsprop"}
    assert not before & {run.info.run_id for run in after.values()}
    assert history(after["optimizer=rmsprop"], "val_loss") == [(0, 1.0), (1, 0.9)]
    assert history(after["optimizer=rmsprop"], "val_loss.low") == []  # of one run, there is none


@pytest.mark.usefixtures("runs")
def test_those_of_another_question_stay(tmp_path: Path) -> None:
    compare.compare(Options(out=tmp_path / "out", log=True))
    compare.compare(Options(out=tmp_path / "out", log=True, filter="params.optimizer = 'sgd'"))
    every = mlflow.MlflowClient().search_runs(["0"], f"tags.{SUMMARY_OF} LIKE '%'")
    assert sorted((run.data.tags[SUMMARY_OF], "--filter" in run.data.tags[COMPARED]) for run in every) == [
        ("all runs", True),
        ("optimizer=adam", False),
        ("optimizer=sgd", False),
    ]
