"""Which values of a variation's nuisance parameters are its best: each side of a comparison is tuned on its own.

Nuisance parameters are those that no claim is about, but that must suit each side for the comparison to be fair
(Godbole et al., "Deep Learning Tuning Playbook", 2023). They are chosen on other seeds, and by a metric of other data,
than what is reported.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Point = dict[str, Any]  # a value for each nuisance parameter


class Trial(NamedTuple):
    """A run by which a variation is tuned."""

    variation: str
    point: Point
    config: Any  # a `task.Configuration`


def points_of(grid: Mapping[str, Sequence[Any]]) -> list[Point]:
    """The points of a grid, the values of the last parameter changing first."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def point_text(point: Mapping[str, Any]) -> str:
    """As `learning_rate=0.01 batch_size=32`; the items of a list are joined by `+`, for a name has no commas."""
    texts = {name: "+".join(map(str, value)) if isinstance(value, list) else value for name, value in point.items()}
    return " ".join(f"{name}={text}" for name, text in texts.items())


def best(results: Iterable[tuple[Point, Sequence[float]]], higher_is_better: bool) -> Point | None:
    """The point whose mean is best, of several such the first; None where every point has a run without a result.

    Args:
        results: by point, a metric's value of each run. One that is not finite is of a run that failed or diverged:
            such a point is not chosen.
    """
    sign = -1 if higher_is_better else 1
    means = [(sign * math.fsum(values) / len(values), point) for point, values in results if _all_finite(values)]
    return min(means, key=lambda each: each[0])[1] if means else None


def _all_finite(values: Sequence[float]) -> bool:
    return len(values) > 0 and all(map(math.isfinite, values))
