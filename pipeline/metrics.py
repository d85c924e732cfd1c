"""What is measured: one row per metric, and how other people's metrics are told by their names.

Reports, the schema of study files and `quality.measure` are made of `METRICS`: a new quality metric is a row here and a
function of its name in `pipeline/train/quality.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Range = tuple[float, float]
_ANY: Range = (-math.inf, math.inf)
_POSITIVE: Range = (0.0, math.inf)
_SHARE: Range = (0.0, 1.0)


@dataclass(frozen=True)
class Flag:
    """What a report says of a run whose value is below or above what it should be."""

    name: str
    noun: str  # `no collapse ... in what was read`
    says: str  # of a variation, behind its name
    below: float = -math.inf
    above: float = math.inf
    is_threat: bool = False  # to the validity of a comparison: not only a remark


@dataclass(frozen=True)
class Metric:
    """A metric, and how it is to be shown and compared."""

    name: str  # as in MLflow
    label: str  # for a person
    unit: str = ""
    decimals: int = 4
    better: Literal["lower", "higher"] = "lower"
    possible: Range = _ANY  # for images in [0, 1]
    shown: bool = True  # in a report's first table
    compared: bool = False  # each variation with the baseline, asked or not
    primary: bool = False  # the one by which variations are ranked
    per_epoch: bool = False  # else logged at the end of a run
    convergence: bool = False  # of the per-epoch ones: the one that shows whether a run had converged
    is_quality: bool = False  # measured on the reconstructions of validation images, by `quality.measure`
    finite: bool = False  # a run without a finite value of it is flagged
    contains: tuple[str, ...] = ()  # parameters of which a term is in it: where they differ, it is not comparable
    without: str | None = None  # the metric without these terms
    flag: Flag | None = None
    formerly: str = ""  # its name in runs and study files of earlier versions

    @property
    def higher_is_better(self) -> bool:
        return self.better == "higher"

    @property
    def is_wall_time(self) -> bool:
        """Whether it measures how long something took, which depends on what else the machine did."""
        return any(word.endswith(_TIMES) for word in _words(self.name))


_NATS, _SECONDS = "nats per pixel", "s"
FIRST, LAST, TEST = "first_", "last_", "test_"
DISPLAYED_LOSS = "displayed_loss"  # of one epoch; the first epoch's is logged as KERAS2_LOSS
KERAS2_LOSS = "keras2_progressbar_loss"
MODEL_PARAMETERS = "model_parameters"  # the numbers that are trained
EPOCH_SECONDS, TRAINING_SECONDS = "epoch_seconds", "training_seconds"
# What `loss`, which is minimised, contains beside the reconstruction's error, `bce`: the parameter of each term.
_TERMS = {"l1": "the L1 penalty"}


def _loss(name: str, shown: Sequence[str], compared: Sequence[str], primary: str = "", **more: Any) -> Iterator[Metric]:
    """A per-epoch loss and its value in the first and the last epoch, of which some are shown, compared and primary."""
    row = Metric(name, name, _NATS, possible=_POSITIVE, per_epoch=True, shown=False, **more)
    for edge in (FIRST, LAST):
        yield replace(
            row,
            name=edge + name,
            label=f"{edge.rstrip('_')} {name}",
            shown=edge in shown,
            compared=edge in compared,
            primary=edge == primary,
            per_epoch=False,
            convergence=False,
            finite=True,
            without=row.without and edge + row.without,
        )
    yield row


_LOSSES = (
    *_loss("loss", (FIRST, LAST), (), contains=tuple(_TERMS), without="bce"),
    *_loss("val_loss", (FIRST, LAST), (LAST,), contains=tuple(_TERMS), without="val_bce"),
    *_loss("bce", (), ()),
    *_loss("val_bce", (LAST,), (LAST,), LAST, convergence=True),
)


def _quality(name: str, label: str, unit: str = "", **more: Any) -> Metric:
    return Metric(name, label, unit, is_quality=True, **{"compared": True, "possible": _SHARE, **more})


def _on_test(name: str, of: Metric) -> Metric:
    """The same of the test images, where others are held out for validation: measured once, at the end."""
    return replace(of, name=TEST + name, label=f"{of.label}, test images", is_quality=False, flag=None, formerly="")


_QUALITY = (
    _quality("mse", "MSE"),
    _quality("psnr", "PSNR", "dB", decimals=2, better="higher", possible=_POSITIVE),
    _quality("ssim", "SSIM", better="higher", possible=(-1.0, 1.0)),
    _quality("dark_noise", "dark noise"),
    _quality("thin_stroke_error", "thin-stroke error"),
    _quality(
        "variance_ratio",
        "variance ratio",
        decimals=3,
        better="higher",
        possible=_POSITIVE,
        compared=False,
        flag=Flag(
            "collapsed", "collapse", "collapsed to nearly the same picture for every input", below=0.05, is_threat=True
        ),
        formerly="collapse",
    ),
    _quality(
        "dead_units",
        "dead units",
        decimals=1,
        possible=_POSITIVE,
        compared=False,
        flag=Flag("dead units", "dead units", "has dead units, which are never active", above=0),
    ),
)
_BCE = Metric("bce", "bce", _NATS, possible=_POSITIVE, compared=True)

# In the order of a report's columns.
METRICS = (
    *(row for row in _LOSSES if row.per_epoch),
    *(row for row in _LOSSES if not row.per_epoch),
    Metric(
        KERAS2_LOSS,
        "Keras 2 progress-bar loss",
        _NATS,
        possible=_POSITIVE,
        shown=False,
        contains=tuple(_TERMS),
        formerly=FIRST + DISPLAYED_LOSS,
    ),
    *_QUALITY,
    *(_on_test(row.name, row) for row in (_BCE, *_QUALITY)),
    Metric(MODEL_PARAMETERS, "parameters of the model", decimals=0, possible=_POSITIVE, shown=False),
    Metric(TRAINING_SECONDS, "training", _SECONDS, 1, possible=_POSITIVE),
    Metric(EPOCH_SECONDS, "epoch", _SECONDS, 3, possible=_POSITIVE, shown=False, per_epoch=True),
)
LOSSES = tuple(row.name for row in _LOSSES if row.per_epoch)
QUALITY = tuple(row.name for row in METRICS if row.is_quality)
FLAGS = tuple(row.flag for row in METRICS if row.flag)
PRIMARY = next(row.name for row in METRICS if row.primary)
_NOW = {row.formerly: row.name for row in METRICS if row.formerly}


def current(name: str) -> str:
    """A metric's name, for one of an earlier version; any other is itself."""
    return _NOW.get(name, name)


def contained(name: str) -> str:
    """What a metric contains that is no part of what it is compared for: `the L1 penalty`."""
    return " and ".join(_TERMS[term] for row in METRICS if row.name == current(name) for term in row.contains)


# --- Other people's metrics ---------------------------------------------------------------------------------------

MINIMISED = ("val_loss", "loss")  # of which one is the primary metric where nothing else is known
# What other people call the count of the numbers that are trained, as a metric or a parameter.
SIZES = (MODEL_PARAMETERS, "num_params", "num_parameters", "n_params", "total_params", "trainable_params")
_TIMES = ("seconds", "time", "duration")  # at the end of a word of the name
# By a word of the name: which way is better, and what is possible: the first range that no value contradicts.
_BY_WORD: dict[str, tuple[Literal["lower", "higher"], tuple[Range, ...]]] = {
    **dict.fromkeys(
        ("accuracy", "acc", "auc", "f1", "precision", "recall", "dice", "iou"), ("higher", (_SHARE, (0.0, 100.0)))
    ),
    "r2": ("higher", ((-math.inf, 1.0),)),
    "ssim": ("higher", ((-1.0, 1.0),)),
    **dict.fromkeys(("psnr", "score"), ("higher", ())),
    **dict.fromkeys(("mse", "rmse", "mae"), ("lower", (_POSITIVE,))),
}


def guess(name: str, least: float = math.inf, most: float = -math.inf) -> Metric:
    """A metric of which nothing but its name is known, and between what values those seen lie."""
    known = [_BY_WORD[word] for word in _words(name) if word in _BY_WORD]
    row = Metric(name, name, better="higher" if any(better == "higher" for better, _ in known) else "lower")
    ranges = [each for _, possible in known for each in possible] + [_POSITIVE] * row.is_wall_time
    return replace(row, possible=next((each for each in ranges if each[0] <= least and most <= each[1]), _ANY))


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", name.lower())
