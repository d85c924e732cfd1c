"""At which step of a run a metric is read: the last one, the best, or that of a number. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.metrics import At, Better


def value_at(history: pd.DataFrame, metric: str, at: At, better: Better) -> pd.Series:
    """The value of each run that is read.

    Args:
        history: one row per run and step: `run_id, epoch` and the metric. Not finite values are no best ones.
        at: which.
        better: which way of the metric is; only the best needs it.

    Returns:
        By run ID; a run without that step, or without any finite value, is not there.
    """
    known = history.dropna(subset=[metric]).sort_values("epoch", kind="stable")
    if isinstance(at, int):
        return known[known["epoch"] == at].groupby("run_id")[metric].last()
    if at == "best":
        finite = known[np.isfinite(known[metric].astype(float))].groupby("run_id")[metric]
        return finite.max() if better == "higher" else finite.min()
    return known.groupby("run_id")[metric].last()


class Peak(NamedTuple):
    """Where some runs were best, in the mean over them, and where they ended."""

    best: float
    best_step: float  # the median
    last: float
    last_step: float


def peak(history: pd.DataFrame, metric: str, better: Better) -> Peak | None:
    """Where runs were at their best, and where they ended.

    Args:
        history: as for `value_at`, of the runs of one variation.

    Returns:
        None where no run has two finite values, or it is not known which way is better.
    """
    known = history[np.isfinite(history[metric].astype(float))].sort_values("epoch", kind="stable")
    if better is None or known.empty or known["run_id"].value_counts().max() < 2:
        return None
    known = known.assign(badness=known[metric] * (-1 if better == "higher" else 1))
    best = known.loc[known.groupby("run_id")["badness"].idxmin()]
    last = known.groupby("run_id").tail(1)
    return Peak(
        float(best[metric].mean()),
        float(best["epoch"].median()),
        float(last[metric].mean()),
        float(last["epoch"].median()),
    )
