"""What happened around the runs that are judged: when each claim was declared, what else was tried, what it all took.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from pipeline.compare.columns import column_of, plain
from pipeline.compare.conclusion import Effort, Uncounted
from pipeline.compare.grouping import GroupedRuns
from pipeline.compare.request import Declared
from pipeline.metrics import current
from pipeline.study import plan
from pipeline.tracking.names import ATTEMPT, REUSED_FROM, STUDY, VARIATION

# Of a claim about two variations in one metric, what somebody can still change when he has seen the runs.
_CHANGEABLE = ("direction", "smallest_effect", "about")
_STATES = {"FINISHED": "finished", "KILLED": "killed", "RUNNING": "running", "SCHEDULED": "running"}


def declaration(claim: plan.Claim, plans: Sequence[Declared], first_run: float) -> dict[str, Any]:
    """Whether a claim was made before the first run that it is judged on: the fields of `Claim` that say so.

    Args:
        plans: every one of the study, in any order.
        first_run: when that run started, in milliseconds since 1970; NaN where that is not known.
    """
    ordered = sorted(plans, key=lambda each: each.at)
    if not any(_same(other, claim) for each in ordered for other in each.study.claims) or math.isnan(first_run):
        return {"declared": None, "changed": ()}
    in_force = [each.study.claims for each in ordered if each.at <= first_run][-1:]
    before = [other for claims in in_force for other in claims if _subject(other) == _subject(claim)]
    if any(_same(other, claim) for other in before):
        return {"declared": "before", "changed": ()}
    if not before:
        return {"declared": "after", "changed": ()}
    return {"declared": "changed", "changed": min((tuple(_changed(other, claim)) for other in before), key=len)}


def _same(one: plan.Claim, other: plan.Claim) -> bool:
    return _subject(one) == _subject(other) and not _changed(one, other)


def _subject(claim: plan.Claim) -> tuple[str, str, str]:
    return claim.variation, claim.against, current(claim.metric)


def _changed(before: plan.Claim, now: plan.Claim) -> list[str]:
    return [name for name in _CHANGEABLE if _sorted(getattr(before, name)) != _sorted(getattr(now, name))]


def _sorted(value: Any) -> Any:
    return sorted(value) if isinstance(value, tuple) else value


def uncounted(grouped: GroupedRuns, elsewhere: pd.DataFrame) -> Iterable[Uncounted]:
    """The finished runs of the experiment that a study does not count, by what they are called.

    Args:
        elsewhere: the runs that are not the study's.
    """
    if elsewhere.empty:
        return
    counted = {*grouped.runs["run_id"], *column_of(grouped.runs, f"tags.{REUSED_FROM}").dropna()}
    linked = column_of(elsewhere, f"tags.{REUSED_FROM}").isin(list(counted))
    rest = elsewhere[(elsewhere["status"] == "FINISHED") & ~elsewhere["run_id"].isin(list(counted)) & ~linked]
    metric = f"metrics.{grouped.primary_metric}"
    called = pd.DataFrame(
        {
            "study": column_of(rest, f"tags.{STUDY}"),
            "name": column_of(rest, f"tags.{VARIATION}").fillna(rest["name"]),
            "value": column_of(rest, metric).astype(float),
            "run_id": rest["run_id"],
        }
    )
    for (study, name), runs in called.groupby(["study", "name"], dropna=False):
        yield Uncounted(
            study=plain(study), name=str(name), mean=runs["value"].mean(), run_ids=tuple(sorted(runs["run_id"]))
        )


def efforts(runs: pd.DataFrame) -> Iterable[Effort]:
    """What runs took, by what became of them; of one that stands for another, nothing."""
    reused = column_of(runs, f"tags.{REUSED_FROM}").notna()
    states = runs["status"].map(_STATES).fillna("failed").where(~reused, "reused")
    seconds = ((runs["end"] - runs["start"]).astype(float) / 1000).where(~reused, 0.0)
    for state in ("finished", "reused", "failed", "killed", "running"):
        own = seconds[states == state]
        if len(own):
            again = int(column_of(runs, f"tags.{ATTEMPT}")[own.index].notna().sum())
            yield Effort(state=state, runs=len(own), seconds=own.sum() if own.notna().all() else math.nan, again=again)
