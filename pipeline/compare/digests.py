"""Digests, by which a conclusion can tell later whether its runs have changed."""

from __future__ import annotations

import hashlib
import json
import numbers
from typing import Any

import numpy as np
import pandas as pd


def of_text(text: str) -> str:
    """16 hexadecimal digits, of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_rows(frame: pd.DataFrame) -> list[str]:
    """Of each row of a frame, in whatever order of columns.

    Numbers count to their last bit, and 1 is 1.0, so that a frame that went through JSON has the same digests. The
    index does not count, nor does a cell without a value (None, NaN): a query leaves out a column that no run has.
    """
    rows = frame.to_dict("records")
    content = ({str(name): _canonical(value) for name, value in row.items() if not _is_null(value)} for row in rows)
    return [of_text(json.dumps(row, sort_keys=True)) for row in content]


def _is_null(value: Any) -> bool:
    if type(value) in (str, float):
        return bool(value != value)
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _canonical(value: Any) -> list[str]:
    """Type and text; a number's text is Python's shortest one that reads back as the same float."""
    if type(value) is str:
        return ["text", value]
    if type(value) is float:
        return ["number", repr(value)]
    if isinstance(value, bool | np.bool_):
        return ["bool", str(bool(value))]
    if isinstance(value, numbers.Integral) and abs(int(value)) > 2**53:
        return ["number", str(int(value))]  # a float cannot hold all of these
    if isinstance(value, numbers.Real):
        return ["number", repr(float(value))]
    return ["text", str(value)]
