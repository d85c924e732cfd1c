"""What a study's tuning, or anybody's search, says: every point that was tried, which is best, what it took. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline import inference
from pipeline.compare.columns import column_of
from pipeline.compare.conclusion import ExpectedBest, Search, Tuning, TuningPoint
from pipeline.compare.grouping import GroupedRuns
from pipeline.study.tuning import Trial, best, point_text
from pipeline.tracking.names import GRID_POINT, REUSED_FROM, ROLE, TUNING, VARIATION


def tunings(grouped: GroupedRuns) -> Iterable[Tuning]:
    """Of each variation that its study tunes."""
    study = grouped.request.plan
    trials = study.trials() if study else []
    for name, grid in grouped.tuned.items():
        own = [trial for trial in trials if trial.variation == name]
        yield _tuning(grouped, name, grid, own)


def _tuning(grouped: GroupedRuns, name: str, grid: Mapping[str, Sequence[Any]], trials: Sequence[Trial]) -> Tuning:
    study = grouped.request.plan
    assert study is not None
    task = study.task
    metric, seeds = study.tuning_metric, study.tuning_seeds
    runs = grouped.runs[column_of(grouped.runs, f"tags.{ROLE}") == TUNING]
    runs = runs[column_of(runs, f"tags.{VARIATION}") == name]
    points = {point_text(trial.point): trial.point for trial in trials}
    found = [_point(runs, text, point, metric, seeds) for text, point in points.items()]
    chosen = dict(study.points.get(name, {}))
    linked = column_of(runs, f"tags.{REUSED_FROM}").notna().any()
    return Tuning(
        variation=name,
        metric=metric,
        seeds=seeds,
        points=tuple(found),
        chosen=chosen or None,
        best=best([(each.values, each.results) for each in found], bool(grouped.metric(metric).higher_is_better)),
        at_the_edge=tuple(
            parameter for parameter, value in chosen.items() if _is_at_the_edge(value, grid[parameter], task, parameter)
        ),
        runs=len(trials),
        steps=sum(task.steps(trial.config) for trial in trials),
        seconds=math.nan if linked or runs.empty else float((runs["end"] - runs["start"]).sum()) / 1000,
    )


def _point(runs: pd.DataFrame, text: str, values: dict[str, Any], metric: str, seeds: Sequence[int]) -> TuningPoint:
    there = (column_of(runs, f"tags.{GRID_POINT}") == text) & (runs["status"] == "FINISHED")
    by_seed = runs[there].drop_duplicates("seed").set_index("seed")
    results = column_of(by_seed, f"metrics.{metric}").reindex(list(seeds)).astype(float)
    several = len(results) > 1 and bool(results.notna().all())
    return TuningPoint(
        values=values,
        results=tuple(results),
        mean=math.fsum(results) / len(results),
        sd=statistics.stdev(results) if several else math.nan,
        run_ids=tuple(sorted(by_seed["run_id"])),
    )


def _is_at_the_edge(value: Any, tried: Sequence[Any], task: Any, parameter: str) -> bool:
    """Whether a better value may lie beyond: of what is no number, such as a name, nothing does."""
    if not all(isinstance(each, int | float) for each in tried):
        return False
    return value in (min(tried), max(tried)) and value != task.no_better.get(parameter)


def searches(grouped: GroupedRuns) -> Iterable[Search]:
    """Of each variation, what more and more tries are expected to give, in the main metric."""
    metric = grouped.primary_metric
    if not grouped.request.nuisance or metric is None:
        return
    higher = bool(grouped.metric(metric).higher_is_better)
    values = {name: grouped.values(name, metric).astype(float) for name in grouped.without_repeats}
    finite = {name: inference.one_per_seed(each) for name, each in values.items()}
    # A try without a finite value was made all the same, as in the difference of two searches.
    worst = (min if higher else max)((value for each in finite.values() for value in each), default=math.nan)
    for name, each in values.items():
        tries, known = inference.one_per_seed(each.where(np.isfinite(each), worst)), finite[name]
        first = None if known.empty else str(known.idxmax() if higher else known.idxmin())
        yield Search(variation=name, tries=len(tries), best=first, expected=tuple(expected_bests(tries, higher)))


def expected_bests(tries: pd.Series, higher_is_better: bool) -> Iterable[ExpectedBest]:
    """What 1, 2, 4, 8, ... of some tries are expected to give at best, and all of them."""
    for n in [*(2**power for power in range(20) if 2**power < len(tries)), *([len(tries)] if len(tries) else [])]:
        estimate = inference.expected_best(tries, n, higher_is_better)
        low, high = estimate.interval()
        yield ExpectedBest(n=n, mean=estimate.mean, low=low, high=high)
