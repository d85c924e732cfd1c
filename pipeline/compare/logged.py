"""What a comparison writes into the store: its files, what its run says, and a run that sums up each variation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param

from pipeline.compare import evidence
from pipeline.compare.conclusion import Conclusion, Variation
from pipeline.compare.grouping import GroupedRuns
from pipeline.compare.reading import Experiment
from pipeline.errors import UserError, first_line
from pipeline.tracking import mlflow_compat, search, store
from pipeline.tracking.journal import HEADER, RUNS, Journal, state_folder
from pipeline.tracking.names import (
    COMPARED,
    GOES_ON_IN,
    LAUNCHED,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_PROJECT_ENTRY_POINT,
    SUMMARY_OF,
)

_MOST_METRICS, _MOST_PARAMS = 1000, 100  # that MLflow takes at once
_LONGEST_PARAM = 6000
_ENTRY_POINT = {MLFLOW_PROJECT_ENTRY_POINT: "compare"}  # by which no later comparison takes it for a run of its own

Point = tuple[str, float, int]  # a metric, its value, its step


def log_files(files: Iterable[Path], run_id: str | None, experiment: Experiment, tags: Mapping[str, str]) -> str:
    """Log files, and tags, to a run of the experiment that was compared; returns its ID.

    Args:
        run_id: a study's; None = the one that `mlflow run` opened, where that lies in the experiment, else a new one.

    Raises:
        UserError: the store does not take them.
    """
    client = mlflow.MlflowClient()
    with store.tracking_store(mlflow.get_tracking_uri()):
        target = run_id or _launched_in(experiment, client)
        made = None
        if target is None:
            # Not by `mlflow.start_run`, which goes on with the run that MLFLOW_RUN_ID names, wherever it lies.
            own = {**mlflow_compat.resolve_tags(), **_ENTRY_POINT}
            made = target = str(client.create_run(experiment.id, tags=own, run_name="compare").info.run_id)
        try:
            for file in files:
                _log_file(client, target, file)
            for key, value in tags.items():
                client.set_tag(target, key, value)
        except BaseException:
            if made:
                client.set_terminated(made, "FAILED")
            raise
        if made:
            client.set_terminated(made)
        return target


def _log_file(client: mlflow.MlflowClient, run_id: str, file: Path) -> None:
    try:
        client.log_artifact(run_id, str(file), "results")
    except store.STORE_ERRORS:
        raise
    except Exception as error:  # as each cloud's own library has them
        raise UserError(
            f"the artifact store of the run {run_id} does not take {file.name} ({first_line(error)}); "
            f"install its library and set its credentials, or leave out --log; it is in {file.parent}"
        ) from None


def _launched_in(experiment: Experiment, client: mlflow.MlflowClient) -> str | None:
    """The run that `mlflow run` opened, if it lies in an experiment."""
    launched = os.environ.get(LAUNCHED)
    return launched if launched and client.get_run(launched).info.experiment_id == experiment.id else None


def describe_launched_run(tags: Mapping[str, str], goes_on_in: str | None = None) -> None:
    """Have the run that `mlflow run` opened for a comparison say what it was; sent when that run is ended.

    Args:
        goes_on_in: the run that has the files, where there is one.
    """
    folder = state_folder() / RUNS / os.environ.get(LAUNCHED, "")
    if (folder / HEADER).exists():
        elsewhere = {GOES_ON_IN: goes_on_in} if goes_on_in and goes_on_in != os.environ[LAUNCHED] else {}
        Journal(folder).append("tags", tags={**tags, **elsewhere})


# --- Summaries ----------------------------------------------------------------------------------------------------


def log_summaries(
    conclusion: Conclusion, grouped: GroupedRuns, histories: pd.DataFrame, at: Experiment, under: str
) -> None:
    """Write a run for each variation that is drawn, of which MLflow's charts draw the mean with its interval.

    Each has the metrics that are compared as they are, of the mean, and with `.low` and `.high` behind their names, of
    its 95 % interval: by epoch where `histories` has them, as in `Analysis`. Those of an earlier call are deleted.

    Args:
        at: where they are made.
        under: the run that has the files: their parent.

    Raises:
        UserError: the store does not take them.
    """
    client = mlflow.MlflowClient()
    command = conclusion.provenance.command
    variations = [each for each in conclusion.variations if each.name in grouped.plotted and each.finished]
    with store.tracking_store(mlflow.get_tracking_uri()):
        earlier = [
            run.info.run_id
            for run in search.runs(client, at.id, {}, f"tags.{SUMMARY_OF} LIKE '%'")
            if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == under or run.data.tags.get(COMPARED) == command
        ]
        for each in variations:
            tags = {**_ENTRY_POINT, SUMMARY_OF: each.name, MLFLOW_PARENT_RUN_ID: under, COMPARED: command}
            _log_summary(client, at, each, tags, list(_points(each, grouped, histories)))
        for run_id in earlier:
            client.delete_run(run_id)


def _log_summary(
    client: mlflow.MlflowClient, at: Experiment, variation: Variation, tags: Mapping[str, str], points: Sequence[Point]
) -> None:
    now = int(time.time() * 1000)
    name = f"{variation.name}, mean of {variation.finished:,}"
    run_id = str(client.create_run(at.id, tags=dict(tags), run_name=name).info.run_id)
    try:
        params = [Param(key, str(value)[:_LONGEST_PARAM]) for key, value in variation.params.items()]
        metrics = [Metric(key, value, now, step) for key, value, step in points]
        for begin in range(0, len(params), _MOST_PARAMS):
            client.log_batch(run_id, params=params[begin : begin + _MOST_PARAMS])
        for begin in range(0, len(metrics), _MOST_METRICS):
            client.log_batch(run_id, metrics=metrics[begin : begin + _MOST_METRICS])
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)


def _points(variation: Variation, grouped: GroupedRuns, histories: pd.DataFrame) -> Iterable[Point]:
    """By epoch what was followed; of all other metrics that are compared, what the conclusion has, at step 0."""
    runs = grouped.by_variation[variation.name].reset_index()[["run_id", "seed"]]
    followed = [name for name in grouped.followed if f"metrics.{name}" in histories]
    for name in followed:
        values = histories[["run_id", "epoch", f"metrics.{name}"]].merge(runs, on="run_id")
        by_epoch = values.rename(columns={"epoch": "variation", f"metrics.{name}": "value"})
        for row in evidence.describe(by_epoch, ["value"]).sort_values("variation").itertuples(index=False):
            yield from _interval(name, row.mean, row.low, row.high, int(row.variation))
    for cell in variation.cells:
        if cell.metric in grouped.compared and cell.metric not in followed:
            yield from _interval(cell.metric, cell.mean, cell.low, cell.high, 0)


def _interval(name: str, mean: float, low: float, high: float, step: int) -> Iterable[Point]:
    parts = {name: mean, f"{name}.low": low, f"{name}.high": high}
    yield from ((key, float(value), step) for key, value in parts.items() if np.isfinite(value))
