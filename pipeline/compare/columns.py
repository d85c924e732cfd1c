"""Columns of a frame of runs, and what stands in their cells. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.task import Task

# As programs write numbers: `0110` and `64_32` are none, nor are whole ones of more digits than a float has.
_NUMBER = re.compile(
    r"[+-]?(?:(?P<infinite>inf(?:inity)?)"
    r"|(?:(?P<whole>0|[1-9][0-9]*)(?P<fraction>\.[0-9]*)?|(?:\.[0-9]+))(?P<exponent>e[+-]?[0-9]+)?)",
    re.IGNORECASE,
)
_EXACT = 15


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column that MLflow leaves out where no run has the tag, param or metric."""
    return frame.get(name, pd.Series(None, frame.index, dtype=object))


def distinct(frame: pd.DataFrame, name: str) -> tuple[Any, ...]:
    """The different values of such a column."""
    return tuple(plain(value) for value in column_of(frame, name).drop_duplicates())


def without_repetition(config: Mapping[str, Any], task: Task) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != task.repetition}


def comparable(value: Any) -> Any:
    """The same for `1e-3`, `0.001` and 0.001; a text that a float does not hold whole, such as an ID, is itself."""
    if not isinstance(value, str):
        return None if value is None or value != value else value
    written = _NUMBER.fullmatch(value.strip())
    if not written or (written["fraction"] is written["exponent"] is None and len(written["whole"] or "") > _EXACT):
        return value
    number = float(value)
    return value if math.isinf(number) != bool(written["infinite"]) else number


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The parameters that are not the same in all configurations, which have the same ones."""
    names = configs[0] if configs else {}
    return [name for name in names if len({comparable(config[name]) for config in configs}) > 1]


def plain(value: Any) -> Any:
    """A cell of a frame as a Python value; None where there is none."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def in_order(values: Iterable[Any]) -> tuple[Any, ...]:
    """The different ones that are known, ascending."""
    known = {plain(value) for value in values} - {None}
    try:
        return tuple(sorted(known))
    except TypeError:
        return tuple(sorted(known, key=str))


def names_listed(names: Sequence[str], most: int = 12) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) if "," in name else name for name in names[:most]) + more
