"""How far chance goes: the baseline against itself, and one of its runs repeated. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from pipeline.compare import evidence
from pipeline.compare.columns import plain
from pipeline.compare.conclusion import Determinism, Noise, Unequal
from pipeline.compare.grouping import GroupedRuns
from pipeline.tracking.names import REUSED_FROM


def noise(grouped: GroupedRuns) -> Iterable[Noise]:
    """The baseline against itself, with other seeds, in each metric that is compared."""
    study = grouped.request.plan
    fresh = next((name for name in grouped.configs if grouped.role(name) == "A/A"), None)
    if fresh is None or study is None:
        return
    for metric in grouped.compared:
        a, b = grouped.values(fresh, metric), grouped.values(study.baseline_name, metric)
        floor = evidence.noise_floor(a, b)
        smallest = [claim.smallest_effect for claim in study.claims if claim.metric == metric]
        yield Noise(
            metric=metric,
            variation=fresh,
            against=study.baseline_name,
            n_a=int(np.isfinite(a).sum()),
            n_b=int(np.isfinite(b).sum()),
            limit=floor.limit,
            observed=floor.observed,
            smallest_effect=min(smallest, default=math.nan),
        )


def determinism(grouped: GroupedRuns) -> Iterable[Determinism]:
    """Whether the baseline's repeated run gave the same numbers."""
    study = grouped.request.plan
    repeat = next((name for name in grouped.configs if grouped.role(name) == "again"), None)
    if repeat is None or study is None or grouped.planned is None:
        return
    seed = int(grouped.planned.loc[grouped.planned["variation"] == repeat, "seed"].iloc[0])
    sides = [grouped.by_variation[name] for name in (study.baseline_name, repeat)]
    first, second = (side[side.index == seed].iloc[0] if seed in side.index else None for side in sides)
    if first is not None and second is not None and _same_run(first, second):
        second = None  # one run beside itself proves nothing
    both = []
    if first is not None and second is not None:
        names = [c.removeprefix("metrics.") for c in grouped.used if c.startswith("metrics.")]
        names = [name for name in names if not grouped.metric(name).is_wall_time]
        values = ((name, float(first[f"metrics.{name}"]), float(second[f"metrics.{name}"])) for name in names)
        both = [(name, x, y) for name, x, y in values if not (math.isnan(x) and math.isnan(y))]
    unequal = [Unequal(metric=name, first=x, again=y) for name, x, y in both if x != y]
    yield Determinism(
        variation=study.baseline_name,
        seed=seed,
        run_id=None if first is None else first["run_id"],
        again_id=None if second is None else second["run_id"],
        same=None if not both else not unequal,
        compared=len(both),
        unequal=tuple(unequal),
    )


def _same_run(a: pd.Series, b: pd.Series) -> bool:
    column = f"tags.{REUSED_FROM}"
    first, second = (plain(row.get(column)) or row["run_id"] for row in (a, b))
    return bool(first == second)
