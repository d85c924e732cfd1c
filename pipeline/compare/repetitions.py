"""What tells the repetitions of a variation apart in anybody's runs: seeds, folds and numbers, by their names. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

import pandas as pd

from pipeline.errors import UserError
from pipeline.study.tuning import point_text
from pipeline.texts import did_you_mean, listed, quoted
from pipeline.tracking.names import MLFLOW_PARENT_RUN_ID

# By the last word of the name of a parameter or a tag. Of folds the training sets overlap.
SEEDS = (
    *("seed", "random_state", "random_seed", "rng_seed", "data_seed", "seed_value"),
    *("bagging_seed", "feature_fraction_seed", "data_random_seed"),  # LightGBM's
)
_FOLDS = ("fold", "cv_fold", "fold_id", "fold_idx", "fold_num", "kfold", "cv_split")
# By the whole name: a number, such as that of a trial, may count anything.
_NUMBERS = ("repeat", "repetition", "rep", "repeat_num", "replicate", "trial", "try", "run_number", "run_idx")
_IN_A_NAME = re.compile(r"(?<![a-z])(seed|fold|rep|repeat|repetition|trial|try)[ _=#:-]*(\d+)(?!\d)")
_A_NUMBER = re.compile(r"(?:fold[ _-]?)?(\d+)(?:\.0+|/\d+)?")  # `3`, `3.0`, `fold_3`, `3/5`
_NAME = ("name",)  # the numbers in the runs' names
_PARENT = "parent"  # the run above


@lru_cache(maxsize=10_000)  # every run has the same few tags
def is_repetition(name: str) -> bool:
    """Whether a parameter or a tag of that name may tell repetitions apart."""
    return is_of(name, (*SEEDS, *_FOLDS)) or name.lower() in _NUMBERS


def is_of(name: str, words: Collection[str]) -> bool:
    """Whether the last word of a name is one of several: `seed` of `training.seed`, `cfg/seed` and `svc__seed`."""
    return re.split(r"[./:]|__", name.lower())[-1] in words


def columns(runs: pd.DataFrame, asked: tuple[str, ...], taken: Collection[str]) -> tuple[str, ...]:
    """What tells repetitions apart: what is asked for, or parameters and tags, or else the runs' names.

    Found are those whose name says so and that are not the same in all runs; of folds and numbers, whose values are
    whole numbers. Beside a seed or a fold, a number is taken for a parameter.

    Args:
        asked: names of parameters or tags, `parent` among them, or `name` or `none` alone; empty = to be found.
        taken: parameters that are something else.

    Returns:
        Columns of `runs`, or `name` alone.

    Raises:
        UserError: no run has what is asked for.
    """
    there = [name for kind in ("params.", "tags.") for name in runs if name.startswith(kind)]
    if asked in (_NAME, ("none",)):
        return asked if asked == _NAME else ()
    if asked:
        return tuple(_column_of(name, there) for name in asked)
    found: dict[str, pd.Series] = {}
    for column in there:
        own = column.split(".", 1)[1]
        if own in taken or not is_repetition(own):
            continue
        values = _values(runs[column])
        known = values.dropna()
        is_number = is_of(own, SEEDS) or all(isinstance(value, int) for value in known)
        says_more = not any(values.equals(other) for other in found.values())  # than a parameter that a tag repeats
        if known.nunique() > 1 and is_number and says_more:
            found[column] = values
    sure = tuple(column for column in found if is_of(column, (*SEEDS, *_FOLDS)))
    return sure or tuple(found) or (_NAME if _in_names(runs["name"]) else ())


def _column_of(name: str, there: Sequence[str]) -> str:
    own = (f"tags.{MLFLOW_PARENT_RUN_ID}",) if name == _PARENT else ()
    for column in (f"params.{name}", f"tags.{name}", name, *own):
        if column in there:
            return column
    parts = (column.split(".", 1) for column in there)
    known = [own for kind, own in parts if kind == "params" or is_repetition(own)]
    hint = did_you_mean(name, known)
    raise UserError(
        f"repetitions={quoted(name)} is a parameter or a tag of no run{hint}; there are {listed(known)}; "
        "or give parent, for the run above, name, for the numbers in the runs' names, or none"
    )


def told_apart(runs: pd.DataFrame, by: tuple[str, ...]) -> pd.Series:
    """What tells each run from the other repetitions of its variation, by `columns`; None where that is not known."""
    own = [name.split(".", 1)[-1] for name in by]  # but for a parameter and a tag of one name
    called = {name: short if own.count(short) == 1 else name for name, short in zip(by, own, strict=True)}
    parts = _in_names(runs["name"]) if by == _NAME else {called[name]: _values(runs[name]) for name in by}
    if len(parts) < 2:
        return next(iter(parts.values()), pd.Series(None, runs.index, dtype=object))
    rows = [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
    return pd.Series([None if None in row.values() else point_text(row) for row in rows], runs.index, dtype=object)


def folds(runs: pd.DataFrame, by: tuple[str, ...]) -> int:
    """In how many folds of the same data the repetitions lie, told apart by `columns`; 0 where they are no folds."""
    of_names = _in_names(runs["name"]) if by == _NAME else {}
    found = [of_names["fold"]] if "fold" in of_names else [_values(runs[name]) for name in by if is_of(name, _FOLDS)]
    return int(found[0].nunique()) if found else 0


def _in_names(names: pd.Series) -> dict[str, pd.Series]:
    """By word, such as `seed`, the number behind it in each name; those that all names have and that differ."""
    numbers = [dict(_IN_A_NAME.findall(str(name).lower())) for name in names]
    words = set.intersection(*map(set, numbers)) if numbers else set()
    parts = {
        word: pd.Series([int(each[word]) for each in numbers], names.index, dtype=object) for word in sorted(words)
    }
    return {word: values for word, values in parts.items() if values.nunique() > 1}


def _values(texts: pd.Series) -> pd.Series:
    """As whole numbers if they all are, else as texts; None where there is none."""
    stripped = [None if pd.isna(text) else str(text).strip() for text in texts]
    known = [None if text is None or text.lower() in ("none", "null", "nan", "") else text for text in stripped]
    numbers = [None if text is None else _A_NUMBER.fullmatch(text.lower()) for text in known]
    if all(number is not None for number, text in zip(numbers, known, strict=True) if text is not None):
        return pd.Series([None if number is None else int(number[1]) for number in numbers], texts.index, dtype=object)
    return pd.Series(known, texts.index, dtype=object)
