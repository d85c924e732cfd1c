"""Statistics: a frame in, a frame out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

COUNT = "runs"


def summarise(runs: pd.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """One row per configuration: the columns `by`, how many runs, and the mean of each metric over them.

    A metric that no run has is NaN; one that some runs lack is the mean over those that have it. The rows are in
    the order of their first appearance.
    """
    columns = {metric: runs.get(metric, pd.Series(float("nan"), runs.index)).astype(float) for metric in metrics}
    table = pd.DataFrame(columns, index=runs.index).assign(**{name: runs[name] for name in by})
    groups = table.groupby(list(by), sort=False, dropna=False)
    return groups[list(metrics)].mean().assign(**{COUNT: groups.size()}).reset_index()[[*by, COUNT, *metrics]]


def differing_columns(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Those of `columns` in which the rows of a table are not all the same."""
    return [column for column in columns if table[column].nunique(dropna=False) > 1]
