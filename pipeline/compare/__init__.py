"""What runs show: read from MLflow, judged, and reported. From Python, `from pipeline.compare import compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.compare.python import compare as compare


def __getattr__(name: str) -> Any:
    """`compare`, where somebody asks for it: every module of this package imports this one, and most need no MLflow."""
    if name != "compare":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.compare.python import compare

    return compare
