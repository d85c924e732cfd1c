"""Values as parts of a sentence for a person."""

from __future__ import annotations

import difflib
import re
import reprlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

_SHORT = reprlib.Repr()
_SHORT.maxstring = 90  # characters

# Of `scheme://user:password@host`; not the port of `http://host:5000/a@b`. A password may have an @ and a slash itself.
_PASSWORD = re.compile(r"(?<=://)([^:/?#\s@]*):(?!\d+[/?#])\S+@")
_SECRET = re.compile(r"([?&](?:\w*pass\w*|pwd|\w*token|\w*secret\w*)=)[^&\s'\")]+", re.IGNORECASE)


def redacted(text: str) -> str:
    """A text whose URIs have `***` for their passwords."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def command(entry_point: str) -> str:
    """An entry point as it was called: `variations train`, `python -m pipeline train` or `python -m pipeline.train`."""
    called = Path(sys.argv[0])
    if called.stem == "variations":
        return f"variations {entry_point}".rstrip()
    if called.parts[-2:] == ("pipeline", "__main__.py"):
        return f"python -m pipeline {entry_point}".rstrip()
    return f"python -m pipeline.{entry_point}"


def quoted(value: object) -> str:
    """What a user gave: in quotes, without control characters or the middle of a long one."""
    return _SHORT.repr(str(value))


def several(problems: Sequence[str], most: int = 3) -> str:
    """Some problems in one line, and how many more there are."""
    more = len(problems) - most
    return "; ".join([*problems[:most], *([f"and {more:,} more"] if more > 0 else [])])


def listed(texts: Iterable[str], most: int = 12) -> str:
    """What is allowed: as many as a person reads, and how many more there are."""
    known = list(texts)
    return ", ".join(known[:most]) + (f" and {len(known) - most:,} more" if len(known) > most else "")


def gigabytes(number: float) -> str:
    """A number of bytes."""
    return f"{number / 1e9:,.1f} GB"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` where a known word is close, else nothing."""
    close = difflib.get_close_matches(word[: _SHORT.maxstring], list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
