"""A comparison from Python, as data frames and, in a notebook, as tables."""

from __future__ import annotations

import io
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, Signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from pipeline import cli
from pipeline.compare import report, run
from pipeline.compare.conclusion import Claim, Conclusion, Pair, RunRecord
from pipeline.compare.options import Options
from pipeline.compare.report.sentences import warnings
from pipeline.errors import UserError
from pipeline.terminal import Console

_COLUMNS = 100  # of a comparison as text
_CELL = ("variation", "metric", "mean", "low", "high", "n", "sd", "median", "worst", "unit")
_PAIR = (
    *("variation", "against", "metric", "mean", "low", "high", "confidence", "p_corrected", "relative", "paired"),
    *("n_a", "n_b", "finding", "warnings", "asked"),
)
_CLAIM = ("says", "verdict", *_PAIR, "direction", "smallest_effect")
# Of the options, what is a matter of a terminal; `pipeline.compare.verify.verify` is the function for the latter.
_KNOWN = [name for name in Options.model_fields if name not in ("all", "suggest", "verify")]


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """What runs say: `conclusion` has all of it, the frames what is asked for most; a notebook shows its tables.

    In the frames, what there is none of is missing, as `isna` says. `files` are those that were written, and
    `logged_to` is the ID of the run that has them; None where they were not logged.
    """

    conclusion: Conclusion
    files: tuple[Path, ...] = ()
    logged_to: str | None = None

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per variation and metric: `mean` with its 95 % interval `low` to `high`, of `n` repetitions, in `unit`.

        Columns: variation, metric, mean, low, high, n, sd, median, worst, unit.
        """
        units = {metric.name: metric.unit for metric in self.conclusion.metrics}
        rows = (
            {**cell.model_dump(include=set(_CELL)), "variation": variation.name, "unit": units[cell.metric]}
            for variation in self.conclusion.variations
            for cell in variation.cells
        )
        return pd.DataFrame(rows, columns=_CELL)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """A row per variation and metric that is compared: its difference from the baseline.

        Columns: variation, against, metric (missing: not to be compared), mean (of `variation` minus `against`), low,
        high, confidence (of that interval), p_corrected, relative (0.01 = 1 %), paired, n_a, n_b, finding, warnings
        (texts), asked (the metric that was asked for, another one than `metric` where that one cannot be compared).
        """
        return pd.DataFrame(map(self._pair, self.conclusion.pairs), columns=_PAIR)

    @cached_property
    def claims(self) -> pd.DataFrame:
        """A row per claim of the study: says, verdict, the columns of `pairs`, direction, smallest_effect."""
        rows = (
            {**claim.model_dump(include=set(_CLAIM)), **self._pair(claim), "verdict": str(claim.verdict)}
            for claim in self.conclusion.claims
        )
        return pd.DataFrame(rows, columns=_CLAIM)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row per run that was read.

        Columns: run_id, name, variation, seed, status, reason, used, digest, reused_from, as in `RunRecord`.
        """
        rows = (record.model_dump() for record in self.conclusion.runs)
        return pd.DataFrame(rows, columns=list(RunRecord.model_fields), dtype=object).astype({"used": bool})

    def _pair(self, pair: Pair | Claim) -> dict[str, Any]:
        difference = pair.difference.model_dump(include=set(_PAIR))
        told = {"warnings": tuple(warnings(pair, self.conclusion))}
        return {**pair.model_dump(include=set(_PAIR)), **difference, **told}

    def _repr_html_(self) -> str:
        return report.to_fragment(self.conclusion)

    def __str__(self) -> str:
        """The answer and the verdicts, as the command prints them."""
        console = Console(
            file=io.StringIO(), width=_COLUMNS, color_system=None, force_jupyter=False, highlight=False, markup=False
        )
        report.to_terminal(self.conclusion, console, where="", hint=False)
        return console.file.getvalue().rstrip("\n")  # type: ignore[attr-defined]

    __repr__ = __str__


def compare(**options: Any) -> Comparison:
    """Compare runs of MLflow's current store, as `variations compare` does, and print nothing.

    Its options have the same names, defaults and meaning (docs/parameters.md); where the command takes names with
    commas, a list serves, too. Nothing is written without `out`, and nothing in the store is changed without `log`.

    Raises:
        pipeline.errors.UserError: in one line, what of the store or the options cannot be used, and what to do.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        cli.require_known(name, _KNOWN)
    asked = cli.checked(Options, given)
    idle = [name for name in ("format", "pictures") if name in given]
    if idle and "out" not in given and not asked.log:
        raise UserError(f"without out nothing is written; give a folder, or leave out {' and '.join(idle)}")
    with ExitStack() as until_logged:
        out = asked.out if "out" in given else None
        if asked.log and out is None:
            out = Path(until_logged.enter_context(TemporaryDirectory()))
        compared = run.comparison(asked, out)
        logged_to = run.log(compared) if asked.log else None
    return Comparison(compared.conclusion, compared.files if "out" in given else (), logged_to)


# So that `help` and a notebook name the options: they are listed once, in `Options`.
compare.__signature__ = Signature(  # type: ignore[attr-defined]
    [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None if name == "out" else Options.model_fields[name].default)
        for name in _KNOWN
    ],
    return_annotation=Comparison,
)
