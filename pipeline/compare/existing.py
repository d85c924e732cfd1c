"""Which of the runs that exist are which variation of a study of them, and whether they have what it claims. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.compare.columns import comparable, distinct, names_listed, plain
from pipeline.errors import UserError
from pipeline.study.existing import Selection, StudyOfRuns, Value
from pipeline.texts import did_you_mean, listed, quoted

_MOST_VALUES = 6  # of a parameter, in an error
_TAG = "tags."


def by_where(runs: pd.DataFrame, study: StudyOfRuns) -> dict[str, dict[str, Any]]:
    """Write the variation of each run, and why one has none; returns the configurations by name.

    A configuration has the parameters by which the study tells variations apart; one of which the runs of a variation
    have several values has them all, in words.

    Raises:
        UserError: no run fits a variation, one fits two, or none has a parameter or a tag that is asked for.
    """
    if runs.empty:
        raise UserError("no run matches; look at runs.experiments and runs.filter of the study")
    fits = pd.DataFrame({each.name: _fits(runs, each, place) for place, each in enumerate(study.variations)})
    for place, each in enumerate(study.variations):
        if not fits[each.name].any():
            has = "; ".join(_values_of(runs, name) for name in each.where)
            raise UserError(
                f"variations[{place}].where: no run fits {quoted(each.name)} ({_asked(each)}); the runs have {has}"
            )
    twice = fits.index[fits.sum(axis=1) > 1]
    if len(twice):
        names = [name for name in fits if fits.at[twice[0], name]]
        raise UserError(
            f"variations: the run {runs.at[twice[0], 'run_id']} fits {listed(map(quoted, names))}; narrow one's where"
        )
    runs.loc[~fits.any(axis=1), "why"] = "it fits no variation of the study"
    for name in fits:
        runs.loc[fits[name], "variation"] = name
    keys = dict.fromkeys(key for each in study.variations for key in each.where)
    return {name: {key: _summary(runs[fits[name]], key) for key in keys} for name in fits}


def _fits(runs: pd.DataFrame, variation: Selection, place: int) -> pd.Series:
    found = pd.Series(True, runs.index)
    for name, choices in variation.where.items():
        column = _column(name)
        if column not in runs:
            known = [each.removeprefix("params.") for each in runs if each.startswith("params.")]
            # Of tags, only those that are asked for have been read.
            there = "" if name.startswith(_TAG) else f"{did_you_mean(name, known)}; there are {names_listed(known)}"
            raise UserError(f"variations[{place}].where.{name}: no run has it{there}")
        values = runs[column].map(_text)
        found &= values.isin([_text(choice) for choice in choices])
    return found


def _column(name: str) -> str:
    return name if name.startswith((_TAG, "params.")) else f"params.{name}"


def _text(value: Value) -> Any:
    """The same for a value in a file and for MLflow's text of it: `true` is True's text, null that of None."""
    value = plain(value)
    known = comparable(str(value) if isinstance(value, bool) else value)
    return "None" if known is None else known


def _asked(variation: Selection) -> str:
    return ", ".join(f"{name}: {' or '.join(map(str, choices))}" for name, choices in variation.where.items())


def _values_of(runs: pd.DataFrame, name: str) -> str:
    counts = runs[_column(name)].fillna("(none)").astype(str).value_counts()
    shown = [f"{value} ({count:,})" for value, count in counts.head(_MOST_VALUES).items()]
    more = len(counts) - len(shown)
    return f"{name}: {', '.join(shown)}{f' and {more:,} more' if more > 0 else ''}"


def _summary(runs: pd.DataFrame, key: str) -> Any:
    values = distinct(runs, _column(key))
    if len(values) == 1:
        return values[0]
    return " or ".join(map(str, values[:3])) + (f" and {len(values) - 3:,} more" if len(values) > 3 else "")


def require_claimed(study: StudyOfRuns, params: Sequence[str], metrics: Sequence[str]) -> None:
    """Refuse a claim, or what is said of a metric, of which no finished run has anything.

    Args:
        params: the parameters of the runs.
        metrics: of which a finished run of a variation has a value.

    Raises:
        UserError: the line says what the runs have.
    """
    asked: Mapping[str, str] = {
        **{f"metrics.{name}": name for name in study.metrics},
        **{f"claims[{place}].metric": claim.metric for place, claim in enumerate(study.claims)},
    }
    for key, name in asked.items():
        if name not in metrics:
            step = study.metrics[name].at if name in study.metrics else "last"
            at = f" at step {step}" if isinstance(step, int) else ""
            raise UserError(
                f"{key}: no finished run of a variation has a value of {quoted(name)}{at}"
                f"{did_you_mean(name, metrics)}; there are {names_listed(metrics)}"
            )
    keys = (key for each in study.variations for key in each.where)
    causes = [*params, *dict.fromkeys(key for key in keys if key.startswith(_TAG))]
    for place, claim in enumerate(study.claims):
        for name in claim.about:
            if name not in causes:
                raise UserError(
                    f"claims[{place}].about: no run has the parameter {quoted(name)}{did_you_mean(name, causes)}; "
                    f"there are {names_listed(causes)}"
                )
