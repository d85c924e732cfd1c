"""Many configurations with one run each: what goes with a good result, what more tries would give, what to repeat.

Of one run each no difference can be judged. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from pipeline import inference
from pipeline.compare.columns import comparable, plain
from pipeline.compare.conclusion import Marginal, Setting, Sweep
from pipeline.compare.grouping import GroupedRuns
from pipeline.compare.tuning import expected_bests
from pipeline.metrics import Better

_FEWEST = 8  # configurations with one run each: of fewer, each can be looked at
_MOST_SETTINGS = 6  # values of a parameter that are told apart; of more numbers, quarters of the runs are
_MOST_REPEATED = 5


def sweep(grouped: GroupedRuns) -> Sweep | None:
    """What configurations with one run each say together, in the main metric; None where they are not most of all."""
    metric = grouped.primary_metric
    single = [name for name in grouped.without_repeats if len(grouped.places[name]) == 1]
    is_sweep = len(single) >= _FEWEST and 2 * len(single) > len(grouped.without_repeats)
    if metric is None or grouped.request.study is not None or grouped.request.nuisance or not is_sweep:
        return None
    means = {name: inference.one_per_seed(grouped.values(name, metric)).mean() for name in grouped.without_repeats}
    results = pd.Series(means, dtype=float).dropna()
    better = grouped.metric(metric).better
    ranked = [] if better is None else list(results.sort_values(ascending=better == "lower", kind="stable").index)
    expected = [] if better is None else expected_bests(results, better == "higher")
    return Sweep(
        tries=len(results),
        single=len(single),
        parameters=tuple(sorted(_marginals(grouped, results, better), key=_by_share)),
        expected=tuple(expected),
        repeat=tuple(ranked[: min(_MOST_REPEATED, len(ranked) // 4)]),
    )


def _by_share(each: Marginal) -> tuple[bool, float]:
    return math.isnan(each.share), -each.share


def _marginals(grouped: GroupedRuns, results: pd.Series, better: Better) -> Iterable[Marginal]:
    configs = pd.DataFrame([grouped.configs[name] for name in results.index], results.index, dtype=object)
    found = []
    for parameter in configs:
        groups = dict(list(results.groupby(_settings(configs[parameter].map(comparable)), observed=True)))
        if not 2 <= len(groups) <= len(results) / 2:
            continue
        h, p = _kruskal([own.to_numpy() for own in groups.values()])
        share = float(np.maximum(0.0, (h - len(groups) + 1) / (len(results) - len(groups))))  # of NaN, NaN
        found.append(
            Marginal(
                parameter=str(parameter),
                share=share,
                p_corrected=p,
                settings=tuple(
                    Setting(value=str(value), n=len(own), mean=own.mean(), best=_best(own, better))
                    for value, own in groups.items()
                ),
            )
        )
    return [each.model_copy(update={"p_corrected": min(1.0, each.p_corrected * len(found))}) for each in found]


def _best(results: pd.Series, better: Better) -> float:
    return math.nan if better is None else float(results.max() if better == "higher" else results.min())


def _kruskal(groups: Sequence[Any]) -> tuple[float, float]:
    """Kruskal and Wallis's H and its p (Journal of the American Statistical Association 47, 1952); NaN, NaN where all
    results are the same.
    """
    if len({value for group in groups for value in group}) < 2:
        return math.nan, math.nan
    h, p = stats.kruskal(*groups)
    return float(h), float(p)


def _settings(values: pd.Series) -> pd.Series:
    """The value of each run as a text, in order; of many numbers, the quarter in which it lies."""
    numbers = pd.to_numeric(values, errors="coerce")
    if values.nunique() > _MOST_SETTINGS and numbers.notna().all():
        quarters = pd.qcut(numbers, 4, labels=False, duplicates="drop")
        ends = numbers.groupby(quarters).agg(["min", "max"])
        names = {place: f"{low:.3g} to {high:.3g}" for place, low, high in ends.itertuples(name=None)}
        return pd.Series(pd.Categorical(quarters.map(names), list(dict.fromkeys(names.values()))), values.index)
    texts = values.map(_text)
    order = texts.iloc[numbers.argsort(kind="stable")] if numbers.notna().all() else texts.sort_values()
    return pd.Series(pd.Categorical(texts, list(dict.fromkeys(order))), values.index)


def _text(value: Any) -> str:
    return "(none)" if plain(value) is None else f"{value:g}" if isinstance(value, float) else str(value)
