"""Which metrics a conclusion has, which is the main one, and in which variations are compared. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from pipeline import metrics
from pipeline.compare.columns import names_listed
from pipeline.compare.request import CompareRequest
from pipeline.errors import UserError
from pipeline.metrics import Better, Metric
from pipeline.study.parts import Measure
from pipeline.task import Task
from pipeline.texts import did_you_mean, quoted

_MOST_COMPARED = 200  # variations: with more, the pairs of one metric are all that anybody could read


def with_directions(request: CompareRequest, directions: Mapping[str, Better]) -> CompareRequest:
    """With the directions that a search was for, of metrics whose names and whose users do not say it."""
    told = {name: Measure(better=better) for name, better in directions.items() if not metrics.guess(name).better}
    return replace(request, measures={**told, **request.measures})


def choose(
    runs: pd.DataFrame,
    request: CompareRequest,
    kind: str,
    variations: int,
    task: Task,
    objective: Mapping[str, Better],
) -> tuple[list[str], str | None, list[str]]:
    """All metrics of the conclusion, the primary one, and those in which the variations are compared."""
    used = runs[runs["used"]]
    there = [c.removeprefix("metrics.") for c in used if c.startswith("metrics.") and used[c].notna().any()]
    metric, *asked = (_asked(name, there) for name in (request.metric, *request.metrics))
    if len(used):
        _require_values("metric", [metric] if metric else [], there, request)
        _require_values("metrics", asked, there, request)
    by_task = kind != "groups"
    rows = {row.name: row for row in task.metrics}
    preferred = [metric, *(row.name for row in task.metrics if row.primary)]
    if not by_task:
        preferred += [row.name for row in task.metrics if row.convergence]
    preferred += sorted(there, key=lambda name: metrics.unlikely(name, name in objective))
    primary = next((name for name in preferred if name and name in there), None)
    first = [primary] if primary else []
    claimed, published = _metrics_of(request)
    if asked:
        kept = [name for name in asked if name in there]
    elif by_task:
        kept = [row.name for row in task.metrics if row.name in there and not row.per_epoch]
    else:
        kept = sorted(there)
    order = sorted(rows, key=lambda name: rows[name].per_epoch)  # what a run ends with first
    names = sorted(
        {*kept, *first, *({*claimed, *published} & set(there))},
        key=lambda name: (not by_task and name != primary, order.index(name) if name in rows else len(rows), name),
    )
    if asked:
        compared = [*first, *kept]
    elif by_task and variations <= _MOST_COMPARED:
        compared = [*first, *(name for name in names if name in rows and rows[name].compared)]
    else:
        compared = first
    compared = [*compared, *(name for name in claimed if name in there)]
    wanted = (metric, *asked)
    if request.nuisance and primary and not measured(primary, task, request, is_primary=True).better:
        raise UserError(
            f"which way of {quoted(primary)} is better is not known; give --better lower or --better higher"
        )
    if request.nuisance:  # the best of n: of which it is known what is better
        compared = [n for n in compared if n == primary or measured(n, task, request).better]
    compared = [n for n in dict.fromkeys(compared) if not (metrics.guess(n).is_counter and n not in wanted)]
    return names, primary, [n for n in compared if not metrics.guess(n).is_wall_time]


def measured(name: str, task: Task, request: CompareRequest, is_primary: bool = False) -> Metric:
    """What is known of a metric by its name, and by what was said of it."""
    row = next((row for row in task.metrics if row.name == name), metrics.guess(name))
    return as_said(row, request, is_primary)


def as_said(row: Metric, request: CompareRequest, is_primary: bool) -> Metric:
    """A metric with what was said of it in place of what its name tells."""
    said = request.measures.get(row.name, Measure())
    which = {"last": "", "best": " (best)"}.get(str(said.at), f" (step {said.at})")
    return replace(
        row,
        label=(said.label or row.label) + which,
        unit=said.unit or row.unit,
        decimals=row.decimals if said.decimals is None else said.decimals,
        better=(request.better if is_primary else "") or said.better or row.better,
    )


def _metrics_of(request: CompareRequest) -> tuple[list[str], list[str]]:
    """The metrics of a study's claims, with those that it describes, and those of its published values."""
    claimed = [claim.metric for claim in request.study.claims] if request.study else []
    claimed += request.study.metrics if request.study else []
    published = request.plan.published if request.plan else None
    printed = [name for row in published.values.values() for name in row] if published else []
    return claimed, [*printed, *(published.commonly_read_as.values() if published else ())]


def _require_values(option: str, names: Sequence[str], there: Sequence[str], request: CompareRequest) -> None:
    for name in names:
        if name not in there:
            step = request.measures.get(name, Measure()).at
            at = f" at step {step}" if isinstance(step, int) else ""
            hint = did_you_mean(name, there)
            raise UserError(
                f"{option}={quoted(name)} has no value in any finished run{at}{hint}; there are {names_listed(there)}"
            )


def _asked(name: str, there: Sequence[str]) -> str:
    """A metric that somebody asks for, perhaps by the name that it had in an earlier version."""
    return name if name in there else metrics.current(name)
