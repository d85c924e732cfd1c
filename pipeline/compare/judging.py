"""From runs to a `Conclusion`: which runs are one variation, what they say, and whether the comparison was fair. Pure.

Two steps, because only the first tells of which runs the histories are worth fetching:

    sides = arrange(runs, question)
    conclude(sides, histories, elsewhere, origin)
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.compare import evidence
from pipeline.compare.conclusion import (
    Caveat,
    Cell,
    Check,
    Claim,
    Conclusion,
    Confounder,
    Determinism,
    Difference,
    Figure,
    Finding,
    Flag,
    Metric,
    Noise,
    Pair,
    PlannedRun,
    Provenance,
    Published,
    PublishedDifference,
    RunRecord,
    Stated,
    Unequal,
    Variation,
)
from pipeline.errors import UserError
from pipeline.metrics import EPOCH_SECONDS, FIRST, FIRST_DISPLAYED_LOSS, LAST, LOSSES, QUALITY, TRAINING_SECONDS
from pipeline.study.plan import A_A, AGAIN, HIGHER_IS_BETTER, Study
from pipeline.study.plan import Published as PublishedPlan
from pipeline.texts import did_you_mean, quoted
from pipeline.tracking.names import (
    DATA_HASH,
    FAILURE,
    FINGERPRINT,
    GIT_DIRTY,
    HARDWARE,
    LOCK_HASH,
    REUSED_FROM,
    VARIATION,
)
from pipeline.train.config import RunConfig

MAIN_METRIC = LAST + "val_bce"
DRAWN = 20  # variations of which the histories are read: more lines than that cannot be told apart
FALLING = "val_bce"  # the loss that shows whether a run of ours had converged
_PARAMETERS = [name for name in RunConfig.model_fields if name != "seed"]
_ALPHA = round(1 - evidence.CONFIDENCE, 12)
_OPTIMIZER, _RATE, _PENALTY = "optimizer", "learning_rate", "l1"
_RATES = (_RATE, "lr", "learning_rate_init")
_SEEDS = ("seed", "random_state", "random_seed", "rng_seed")  # what tells repetitions apart in other people's runs
_MINIMISED = ("val_loss", "loss")
# A metric with the penalty in it, and the one without: not to be compared where the penalties differ.
WITHOUT_PENALTY: dict[str, str | None] = {
    **{edge + part + "loss": edge + part + "bce" for edge in ("", FIRST, LAST) for part in ("", "val_")},
    FIRST_DISPLAYED_LOSS: None,
}
_NO_BETTER = {_PENALTY: 0.0, "decoder_hidden": 0.0}  # beyond which there is no value

_NATS, _SECONDS = "nats per pixel", "s"
_ANY, _POSITIVE, _SHARE = (-math.inf, math.inf), (0.0, math.inf), (0.0, 1.0)  # between what values a metric can lie
_KNOWN = {  # label, unit, decimals, what is possible (of images in [0, 1]); in the order of the table
    FIRST + "loss": ("first loss", _NATS, 4, _POSITIVE),
    LAST + "loss": ("last loss", _NATS, 4, _POSITIVE),
    FIRST + "val_loss": ("first val_loss", _NATS, 4, _POSITIVE),
    LAST + "val_loss": ("last val_loss", _NATS, 4, _POSITIVE),
    FIRST + "bce": ("first bce", _NATS, 4, _POSITIVE),
    LAST + "bce": ("last bce", _NATS, 4, _POSITIVE),
    FIRST + "val_bce": ("first val_bce", _NATS, 4, _POSITIVE),
    LAST + "val_bce": ("last val_bce", _NATS, 4, _POSITIVE),
    FIRST_DISPLAYED_LOSS: ("first displayed loss", _NATS, 4, _POSITIVE),
    "mse": ("MSE", "", 4, _SHARE),
    "psnr": ("PSNR", "dB", 2, _POSITIVE),
    "ssim": ("SSIM", "", 4, (-1.0, 1.0)),
    "dark_noise": ("dark noise", "", 4, _SHARE),
    "thin_stroke_error": ("thin-stroke error", "", 4, _SHARE),
    "collapse": ("collapse (0=blob)", "", 3, _POSITIVE),
    "dead_units": ("dead units", "", 1, _POSITIVE),
    TRAINING_SECONDS: ("training", _SECONDS, 1, _POSITIVE),
    **{loss: (loss, _NATS, 4, _POSITIVE) for loss in LOSSES},
    EPOCH_SECONDS: ("epoch", _SECONDS, 3, _POSITIVE),
}
_LOGGED_AT_THE_END = [name for name in _KNOWN if name not in (*LOSSES, EPOCH_SECONDS)]
_SHOWN = {
    *(edge + loss for edge in (FIRST, LAST) for loss in ("loss", "val_loss")),
    *(MAIN_METRIC, *QUALITY, TRAINING_SECONDS),
}
_JUDGED = (MAIN_METRIC, LAST + "val_loss", "mse", "psnr", "ssim", "dark_noise", "thin_stroke_error")
_MOST_SHOWN = 12  # metrics of other people's runs
_MOST_JUDGED = 200  # variations: with more, the pairs of one metric are all that anybody could read
_BETTER_HIGH = {"accuracy", "acc", "auc", "f1", "precision", "recall", "r2", "score", "psnr", "ssim", "dice", "iou"}
_TIMES = ("seconds", "time", "duration")  # at the end of a word of the name
# Of other people's metrics, by a word of the name: what is possible, the first that no value contradicts.
_POSSIBLE = {
    **dict.fromkeys(("accuracy", "acc", "auc", "f1", "precision", "recall", "dice", "iou"), (_SHARE, (0.0, 100.0))),
    **dict.fromkeys(("mse", "rmse", "mae"), (_POSITIVE,)),
    "ssim": ((-1.0, 1.0),),
    "r2": ((-math.inf, 1.0),),
}
# Where a run comes from: name, column, kind.
_ORIGINS = (
    (DATA_HASH, f"tags.{DATA_HASH}", "data"),
    ("code version", "tags.mlflow.source.git.commit", "code"),
    (GIT_DIRTY, f"tags.{GIT_DIRTY}", "code"),
    (LOCK_HASH, f"tags.{LOCK_HASH}", "environment"),
    (HARDWARE, f"tags.{HARDWARE}", "hardware"),
)
_RESERVED = ("conclusion", "report", "loss_curves", "differences", "digits", "forest")  # files of ours


@dataclass(frozen=True)
class Question:
    """What is asked: a study's questions, or each variation against a baseline."""

    study: Study | None = None
    group_by: tuple[str, ...] = ()
    metric: str = ""
    metrics: tuple[str, ...] = ()
    baseline: str = ""


# --- Which runs are one variation? --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sides:
    """Runs, arranged as variations.

    `runs` has the columns of `reading.runs` and `variation` (None: belongs to none), `seed` (None: not known), `used`
    (finished and in a variation) and `why` (it was left out, or did not finish).
    """

    question: Question
    kind: str
    runs: pd.DataFrame
    configs: dict[str, dict[str, Any]]  # by variation, in the order in which they are shown
    baseline: str | None
    chosen_as_best: bool  # the baseline is the best of several that were asked for
    main: str | None
    metrics: list[str]
    judged: list[str]
    planned: pd.DataFrame | None

    @cached_property
    def used(self) -> pd.DataFrame:
        """The runs of the table."""
        return self.runs[self.runs["used"].astype(bool)]

    @cached_property
    def by_variation(self) -> dict[str, pd.DataFrame]:
        """The runs of the table by variation, indexed by seed."""
        by_seed = self.used.set_index("seed")
        return {name: by_seed.take(places) for name, places in self.places.items()}

    @property
    def compared(self) -> list[str]:
        """The variations that are compared with the baseline."""
        return [name for name in self.configs if self.role(name) == "variation"]

    @cached_property
    def distinct(self) -> list[str]:
        """The variations without the repeated runs of the baseline."""
        return [name for name in self.configs if self.role(name) in ("baseline", "variation")]

    def role(self, variation: str) -> str:
        if variation == self.baseline:
            return "baseline"
        study = self.question.study
        base = study.baseline_name if study else None
        return "variation" if base is None else {base + A_A: "A/A", base + AGAIN: "again"}.get(variation, "variation")

    @cached_property
    def places(self) -> dict[str, NDArray[np.intp]]:
        """Where in `used` the runs of each variation stand."""
        known = self.used.groupby("variation", sort=False).indices
        return {name: known.get(name, np.zeros(0, np.intp)) for name in self.configs}

    def values(self, variation: str, metric: str) -> pd.Series:
        """A metric's values, indexed by seed."""
        values, seeds = self._column(metric)
        places = self.places[variation]
        return pd.Series(values[places], seeds.take(places))

    def has(self, variation: str, metric: str) -> bool:
        """Whether any run of the variation has a value of the metric."""
        return bool((~np.isnan(self._column(metric)[0][self.places[variation]])).any())

    def _column(self, metric: str) -> tuple[NDArray[np.float64], pd.Index]:
        if metric not in self._columns:
            absent = pd.Series(np.nan, self.used.index)
            self._columns[metric] = self.used.get(f"metrics.{metric}", absent).to_numpy(dtype=float)
        return self._columns[metric], self._seeds

    @cached_property
    def _columns(self) -> dict[str, NDArray[np.float64]]:
        return {}

    @cached_property
    def _seeds(self) -> pd.Index:
        return pd.Index(self.used["seed"])

    def sets(self, column: str) -> dict[str, tuple[Any, ...]]:
        """The different values of a column, by variation."""
        if column not in self._sets:
            found: dict[str, list[Any]] = {name: [] for name in self.configs}
            pairs = pd.DataFrame({"variation": self.used["variation"], "value": _column(self.used, column)})
            for name, value in pairs.drop_duplicates().itertuples(index=False, name=None):
                found[name].append(_plain(value))
            self._sets[column] = {name: tuple(values) for name, values in found.items()}
        return self._sets[column]

    @cached_property
    def _sets(self) -> dict[str, dict[str, tuple[Any, ...]]]:
        return {}

    @cached_property
    def drawn(self) -> list[str]:
        """The variations worth drawing: the baseline and the first others."""
        kept = sorted(self.distinct, key=lambda name: name != self.baseline)[:DRAWN]
        return [name for name in self.distinct if name in kept]

    @cached_property
    def followed(self) -> pd.DataFrame:
        """The runs whose histories are worth fetching: of the drawn variations, of A/A and of the repeated run."""
        again = set(self.configs) - set(self.distinct)
        return self.used[self.used["variation"].isin([*self.drawn, *again])]

    @property
    def falling(self) -> str | None:
        """The per-epoch metric that shows whether a run had converged."""
        for name in (FALLING, self.main):
            if name and f"metrics.{name}" in self.used and not higher_is_better(name):
                return name
        return None


@np.errstate(over="ignore", invalid="ignore")  # of metrics near the largest float: what is infinite says so itself
def arrange(runs: pd.DataFrame, question: Question) -> Sides:
    """Sort runs into variations.

    Args:
        runs: as `reading.runs` gives them; for a study, those of its parent run.

    Raises:
        UserError: the runs have no such parameter, metric or baseline.
    """
    runs = runs.reset_index(drop=True).assign(variation=None, seed=None, why=None)
    if "last_epoch" not in runs:
        runs["last_epoch"] = np.nan
    runs = runs.astype({"variation": object, "seed": object, "why": object})
    planned = None
    if question.study is not None:
        kind, configs = "study", _by_plan(runs, question.study)
        planned = pd.DataFrame([(name, c.seed) for name, c in question.study.runs()], columns=["variation", "seed"])
    elif question.group_by or not runs["ours"].any():
        kind, configs = "groups", _by_params(runs, question.group_by)
    else:
        kind, configs = "configurations", _by_configuration(runs)
    _leave_out_links(runs)
    runs["used"] = runs["variation"].notna() & (runs["status"] == "FINISHED")
    _say_why(runs)
    metrics, main, judged = _metrics(runs, question, kind, len(configs))
    means = _means(runs, main)
    baseline, chosen = _baseline(question, configs, runs, means, main)
    if kind != "study":
        sign = -1 if main and higher_is_better(main) else 1
        order = {name: sign * means.get(name, math.nan) for name in configs}
        configs = {name: configs[name] for name in sorted(configs, key=lambda n: (math.isnan(order[n]), order[n]))}
    return Sides(question, kind, runs, configs, baseline, chosen, main, metrics, judged, planned)


def _by_plan(runs: pd.DataFrame, study: Study) -> dict[str, dict[str, Any]]:
    configs = {name: _without_seed(config.model_dump()) for name, config in study.runs()}
    order = [*study.configurations(), *[n for n in configs if n.endswith((A_A, AGAIN))]]
    tag = _column(runs, f"tags.{VARIATION}")
    ours = runs["ours"].astype(bool)
    runs["variation"] = tag.where(tag.isin(list(configs)) & ours, None)
    runs["seed"] = _column(runs, "params.seed").where(ours, None)
    runs.loc[runs["variation"].isna(), "why"] = "it is of no variation of the study's plan"
    return {name: configs[name] for name in dict.fromkeys(order)}


def _by_configuration(runs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """What a run was asked to do, apart from its seed, on the same images."""
    ours = runs["ours"].astype(bool)
    runs.loc[ours, "seed"] = _column(runs, "params.seed")[ours]
    failure = _column(runs, f"tags.{FAILURE}")
    runs.loc[~ours, "why"] = "it has no configuration of this project"
    runs.loc[~ours & failure.notna(), "why"] = "it failed before its configuration was recorded: " + failure
    runs.loc[~ours & _column(runs, f"tags.{FINGERPRINT}").notna(), "why"] = (
        "its configuration is of another version of this project"
    )
    columns = {name: f"params.{name}" for name in _PARAMETERS}
    hashes = _column(runs, f"tags.{DATA_HASH}")[ours]
    if hashes.nunique(dropna=False) > 1:
        columns[DATA_HASH] = f"tags.{DATA_HASH}"
    return _group(runs, ours, columns)


def _by_params(runs: pd.DataFrame, group_by: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Runs that anybody made, by some of their parameters, or by all that are not the same in all of them."""
    params = [name.removeprefix("params.") for name in runs.columns if name.startswith("params.")]
    for name in group_by:
        if name not in params:
            hint = did_you_mean(name, params)
            raise UserError(f"group_by={quoted(name)} is a parameter of no run{hint}; there are {_listed(params)}")
    seed = next((name for name in _SEEDS if name in params and name not in group_by), None)
    if seed:
        runs["seed"] = _seeds(runs[f"params.{seed}"])
    names = list(group_by)
    if not names:
        differ = [n for n in params if n != seed and runs[f"params.{n}"].map(_comparable).nunique(dropna=False) > 1]
        names = differ
    columns = {name: f"params.{name}" for name in names}
    has_any = runs[list(columns.values())].notna().any(axis=1) if columns else pd.Series(True, runs.index)
    runs.loc[~has_any, "why"] = f"it has none of the parameters {_listed(names)}"
    return _group(runs, has_any, columns)


def _group(runs: pd.DataFrame, members: pd.Series, columns: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Write the variation of each member; the configurations by name, the first made first."""
    if not members.any():
        return {}
    rows = runs[members].iloc[::-1]  # the newest run comes first
    values = {name: _column(rows, column) for name, column in columns.items()}
    keys = pd.DataFrame({name: column.map(_comparable) for name, column in values.items()}, index=rows.index)
    numbers = (
        keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup() if columns else pd.Series(0, rows.index)
    )
    first = numbers.drop_duplicates()
    configs = [{name: _plain(values[name][row]) for name in columns} for row in first.index]
    names = _names(configs)
    runs.loc[rows.index, "variation"] = pd.Series([names[n] for n in numbers], rows.index, dtype=object)
    return dict(zip(names, configs, strict=True))


def _names(configs: Sequence[dict[str, Any]]) -> list[str]:
    """`optimizer=adam, epochs=50`: the parameters that are not the same everywhere; each name once."""
    differing = [name for name in configs[0] if len({_comparable(config[name]) for config in configs}) > 1]
    names: dict[str, None] = {}
    for config in configs:
        parts = [f"{name}={'(none)' if config[name] is None else config[name]}" for name in differing]
        name = ", ".join(parts) or ", ".join(f"{key}={value}" for key, value in config.items()) or "all runs"
        unique, count = name, 1
        while unique in names:
            count += 1
            unique = f"{name} ({count})"
        names[unique] = None
    return list(names)


def _leave_out_links(runs: pd.DataFrame) -> None:
    """A run that stands for another one does not count beside it, nor beside a second such run."""
    original = _column(runs, f"tags.{REUSED_FROM}")
    linked = original.notna() & runs["variation"].notna()
    here = original.isin(runs.loc[runs["variation"].notna(), "run_id"])
    pairs = pd.DataFrame({"original": original, "variation": runs["variation"]})
    second = pairs[linked].duplicated(keep="first").reindex(runs.index, fill_value=False)
    for row in runs.index[linked & (here | second)]:
        runs.at[row, "variation"] = None
        runs.at[row, "why"] = f"it stands for the run {original[row]}, which is counted"


def _say_why(runs: pd.DataFrame) -> None:
    reason = _column(runs, f"tags.{FAILURE}")
    unfinished = (runs["status"] != "FINISHED") & runs["why"].isna()
    running = unfinished & reason.isna() & runs["status"].isin(["RUNNING", "SCHEDULED"])
    runs.loc[unfinished, "why"] = reason[unfinished]
    runs.loc[running, "why"] = "still running, or its process is gone"


def _metrics(
    runs: pd.DataFrame, question: Question, kind: str, variations: int
) -> tuple[list[str], str | None, list[str]]:
    """All metrics of the conclusion, the main one, and those in which the variations are compared."""
    names = [name.removeprefix("metrics.") for name in runs.columns if name.startswith("metrics.")]
    used = runs[runs["used"]]
    there = [name for name in names if used[f"metrics.{name}"].notna().any()]
    for option, asked in (("metric", question.metric), *(("metrics", name) for name in question.metrics)):
        if asked and asked not in there and len(used):
            hint = did_you_mean(asked, there)
            raise UserError(
                f"{option}={quoted(asked)} has no value in any finished run{hint}; there are {_listed(there)}"
            )
    ours = kind != "groups"
    claimed = [claim.metric for claim in question.study.claims] if question.study else []
    preferred = [question.metric, *([MAIN_METRIC] if ours else [MAIN_METRIC, "val_bce", *_MINIMISED])]
    preferred += sorted(there, key=lambda name: (is_wall_time(name), name))
    main = next((name for name in preferred if name and name in there), None)
    if question.metrics:
        kept = [name for name in question.metrics if name in there]
    else:
        kept = [name for name in _LOGGED_AT_THE_END if name in there] if ours else sorted(there)
    published = question.study.published if question.study else None
    figures = [m for row in published.figures.values() for m in row] if published else []
    meant = [*figures, *(published.taken_for.values() if published else ())]
    wanted = [*kept, *([main] if main else []), *(name for name in (*claimed, *meant) if name in there)]
    metrics = sorted(dict.fromkeys(wanted), key=lambda name: _order(name, main, ours))
    if question.metrics or variations > _MOST_JUDGED or not ours:
        judged = [*([main] if main else []), *kept] if question.metrics else [main] if main else []
    else:
        judged = [*([main] if main else []), *(name for name in _JUDGED if name in metrics)]
    judged += [name for name in claimed if name in there]
    return metrics, main, [name for name in dict.fromkeys(judged) if not is_wall_time(name)]


def _order(name: str, main: str | None, ours: bool) -> tuple[bool, int, str]:
    known = list(_KNOWN)
    return (not ours and name != main, known.index(name) if name in known else len(known), name)


def _means(runs: pd.DataFrame, metric: str | None) -> dict[str, float]:
    used = runs[runs["used"]]
    if metric is None or used.empty:
        return {}
    table = evidence.describe(used, [f"metrics.{metric}"])
    return {str(name): float(mean) for name, mean in zip(table["variation"], table["mean"], strict=True)}


def _baseline(
    question: Question,
    configs: Mapping[str, dict[str, Any]],
    runs: pd.DataFrame,
    means: Mapping[str, float],
    main: str | None,
) -> tuple[str | None, bool]:
    """The baseline's name, and whether it is the best of several that `question.baseline` fits."""
    asked = question.baseline
    if not configs:
        return None, False
    if not asked:
        return (question.study.baseline_name if question.study else next(iter(configs))), False
    if asked in configs:
        return asked, False
    wanted = dict(part.split("=", 1) for part in re.split(r",\s*", asked) if "=" in part)
    wanted = {key.strip(): _comparable(value.strip()) for key, value in wanted.items()}
    fits = [
        name
        for name, config in configs.items()
        if wanted and all(key in config and _comparable(config[key]) == value for key, value in wanted.items())
    ]
    if not fits:
        raise UserError(
            f"baseline={quoted(asked)} fits no variation{did_you_mean(asked, configs)}; "
            f"give parameter=value, or one of {_listed(list(configs))}"
        )
    sign = -1 if main and higher_is_better(main) else 1
    with_result = [name for name in fits if not math.isnan(means.get(name, math.nan))]
    best = min(with_result or fits, key=lambda name: sign * means.get(name, 0.0))
    return best, len(fits) > 1


def is_wall_time(metric: str) -> bool:
    """Whether it measures how long something took, which depends on what else the machine did."""
    return any(word.endswith(_TIMES) for word in _words(metric))


def possible(metric: str, values: NDArray[np.float64], ours: bool) -> tuple[float, float]:
    """Between what values a metric can lie: known of this project's, of others by its name and the values seen."""
    if ours and metric in _KNOWN:
        return _KNOWN[metric][3]
    ranges = [each for word in _words(metric) for each in _POSSIBLE.get(word, ())]
    ranges += [_POSITIVE] if is_wall_time(metric) else []
    finite = values[np.isfinite(values)]
    fit = (each for each in ranges if ((each[0] <= finite) & (finite <= each[1])).all())
    return next(fit, _ANY)


def _words(metric: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", metric.lower())


# --- Values -------------------------------------------------------------------------------------------------------


def higher_is_better(metric: str) -> bool:
    """Known for this project's metrics; of others the words of the name are all there is to go by."""
    return metric in HIGHER_IS_BETTER or bool(_BETTER_HIGH & set(_words(metric)))


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column that MLflow leaves out where no run has the tag, param or metric."""
    return frame.get(name, pd.Series(None, frame.index, dtype=object))


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "seed"}


def _comparable(value: Any) -> Any:
    """The same for `1e-3`, `0.001` and 0.001."""
    if not isinstance(value, str):
        return None if value is None or value != value else value
    try:
        number = float(value)
    except ValueError:
        return value
    return value if math.isnan(number) else number


def _plain(value: Any) -> Any:
    """A cell of a frame as a Python value; None where there is none."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _seeds(texts: pd.Series) -> pd.Series:
    """Other people's seeds, as whole numbers if they all are; None where there is none."""
    known = texts.where(~texts.isin(["None", "none", "null", ""]), None)
    try:
        return known.map(lambda text: None if _plain(text) is None else int(text)).astype(object)
    except ValueError:
        return known.map(lambda text: None if _plain(text) is None else str(text)).astype(object)


def _listed(names: Sequence[str], most: int = 12) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) if "," in name else name for name in names[:most]) + more


def _sorted(seeds: Iterable[Any]) -> tuple[Any, ...]:
    known = {_plain(seed) for seed in seeds} - {None}
    try:
        return tuple(sorted(known))
    except TypeError:
        return tuple(sorted(known, key=str))


def _distinct(frame: pd.DataFrame, name: str) -> tuple[Any, ...]:
    return tuple(_plain(value) for value in _column(frame, name).drop_duplicates())


# --- What they say ------------------------------------------------------------------------------------------------


@np.errstate(over="ignore", invalid="ignore")
def conclude(
    sides: Sides, histories: pd.DataFrame, elsewhere: pd.DataFrame | None, origin: Mapping[str, Any]
) -> Conclusion:
    """Everything that the runs say.

    Args:
        histories: `run_id, epoch` and `sides.falling`, of `sides.followed`; may be empty.
        elsewhere: runs of other studies among which a variation with a stated parameter may be; may be None.
        origin: of `Provenance`, what the runs do not tell.
    """
    return _Judge(sides, histories, elsewhere).conclude(origin)


@dataclass
class _Judge:
    sides: Sides
    histories: pd.DataFrame
    elsewhere: pd.DataFrame | None
    _means: dict[tuple[str, str], float] = field(default_factory=dict)
    _not_tuned: dict[Any, list[str]] = field(default_factory=dict)
    _between: dict[tuple[str, str, tuple[str, ...]], dict[str, Any]] = field(default_factory=dict)

    def conclude(self, origin: Mapping[str, Any]) -> Conclusion:
        sides, question = self.sides, self.sides.question
        claims, pairs = self._claims(), self._pairs()
        shown = [sides.configs[name] for name in sides.distinct]
        params = list(next(iter(shown), {}))
        differing = [p for p in params if len({_comparable(config[p]) for config in shown}) > 1]
        return Conclusion(
            kind=sides.kind,
            title=question.study.name if question.study else str(origin["experiment"]),
            description=question.study.description if question.study else "",
            baseline=sides.baseline,
            metric=sides.main,
            constant={p: shown[0][p] for p in params if p not in differing},
            differing=tuple(differing),
            metrics=tuple(self._metric(name) for name in sides.metrics),
            variations=tuple(self._variations()),
            completeness=tuple(self.completeness),
            pairs=tuple(pairs),
            claims=tuple(claims),
            noise=tuple(self._noise()),
            determinism=tuple(self._determinism()),
            checks=tuple(self._checks([*claims] or [pair for pair in pairs if pair.asked == sides.main])),
            published=self._published(),
            runs=tuple(self._records()),
            histories_of=tuple(sides.followed["variation"].drop_duplicates()) if len(self.histories) else (),
            provenance=self._provenance(origin),
        )

    def _metric(self, name: str) -> Metric:
        ours = self.sides.kind != "groups"
        label, unit, digits, _ = _KNOWN.get(name, (name, "", 4, _ANY)) if ours else (name, "", 4, _ANY)
        main = name in _SHOWN if ours else self.sides.metrics.index(name) < _MOST_SHOWN
        least, most = possible(name, self.sides.used[f"metrics.{name}"].to_numpy(dtype=float), ours)
        return Metric(
            name=name,
            label=label,
            unit=unit,
            digits=digits,
            higher_is_better=higher_is_better(name),
            main=main or name == self.sides.main,
            judged=name in self.sides.judged,
            least=least,
            most=most,
            wall_time=is_wall_time(name),
        )

    # --- Variations

    def _variations(self) -> Iterable[Variation]:
        sides = self.sides
        files = _file_names(list(sides.configs))
        base = sides.configs.get(sides.baseline or "", {})
        cells = self._cells()
        for name, config in sides.configs.items():
            rows = sides.by_variation[name]
            planned = None if sides.planned is None else int((sides.planned["variation"] == name).sum())
            differs = {p: v for p, v in config.items() if _comparable(v) != _comparable(base.get(p))}
            yield Variation(
                name=name,
                file=files[name],
                role=sides.role(name),
                params=config,
                differs=differs,
                seeds=_sorted(rows.index),
                planned=planned,
                finished=len(rows),
                cells=cells.get(name, ()),
                flags=tuple(self.flags.get(name, ())),
            )

    def _cells(self) -> dict[str, tuple[Cell, ...]]:
        sides = self.sides
        ids = self._run_ids()
        digests: dict[tuple[str, ...], str] = {}
        cells: dict[str, list[Cell]] = {name: [] for name in sides.configs}
        for row in self._described.itertuples(index=False):
            run_ids = ids[row.variation, row.metric]
            if run_ids not in digests:
                joined = "\n".join(f"{run_id} {self.digests[run_id]}" for run_id in run_ids)
                digests[run_ids] = hashlib.sha256(joined.encode()).hexdigest()[:16]
            fields = row._asdict() | {"metric": row.metric.removeprefix("metrics."), "run_ids": run_ids}
            fields |= {"worst_seed": _plain(row.worst_seed), "digest": digests[run_ids]}
            cells[fields.pop("variation")].append(Cell(**fields))
        nothing = [_empty_cell(metric) for metric in sides.metrics]
        return {name: tuple(each or nothing) for name, each in cells.items()}

    @cached_property
    def _described(self) -> pd.DataFrame:
        """`evidence.describe` of all metrics, by their columns' names."""
        names = self.sides.metrics
        high = [f"metrics.{name}" for name in names if higher_is_better(name)]
        return evidence.describe(self.sides.used, [f"metrics.{name}" for name in names], high)

    def _run_ids(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """By variation and column, the runs that have a value."""
        used = self.sides.used
        columns = [f"metrics.{name}" for name in self.sides.metrics]
        there, ids = used[columns].notna().to_numpy(), used["run_id"].to_numpy()
        found = {}
        for name, places in self.sides.places.items():
            everyone = tuple(sorted(ids[places]))
            whole = there[places].all(axis=0)
            for column, all_there, which in zip(columns, whole, there[places].T, strict=True):
                found[name, column] = everyone if all_there else tuple(sorted(ids[places][which]))
        return found

    @cached_property
    def digests(self) -> dict[str, str]:
        """A digest of the params and metrics of each run."""
        runs = self.sides.runs
        content = runs[[name for name in runs.columns if name.startswith(("params.", "metrics."))]]
        return dict(zip(runs["run_id"], evidence.digests(content), strict=True))

    @cached_property
    def flags(self) -> dict[str, list[Flag]]:
        sides = self.sides
        used = sides.used
        ours = sides.kind != "groups"
        losses = [edge + loss for edge in (FIRST, LAST) for loss in LOSSES] if ours else [sides.main or ""]
        losses = [name for name in losses if f"metrics.{name}" in used]
        raised = [
            evidence.flags(
                used,
                collapse="metrics.collapse" if ours else None,
                dead_units="metrics.dead_units" if ours else None,
                losses=[f"metrics.{name}" for name in losses],
            ),
            self._still_falling(),
        ]
        found: dict[str, list[Flag]] = {}
        for row in pd.concat(raised).itertuples(index=False):
            rows = sides.by_variation[row.variation]
            metric, worst = sides.falling or "", math.nan
            if row.flag == "collapsed":
                metric, worst = "collapse", float(sides.values(row.variation, "collapse").min())
            elif row.flag == "dead units":
                metric, worst = "dead_units", float(sides.values(row.variation, "dead_units").max())
            elif row.flag == "not a number":
                metric = ", ".join(n for n in losses if not np.isfinite(sides.values(row.variation, n)).all())
            flag = Flag(flag=row.flag, seeds=row.seeds, of=len(rows), metric=metric, worst=worst)
            found.setdefault(row.variation, []).append(flag)
        return found

    def _still_falling(self) -> pd.DataFrame:
        metric = self.sides.falling
        if metric is None or self.histories.empty or metric not in self.histories:
            return pd.DataFrame(columns=["variation", "flag", "seeds"])
        keys = self.sides.followed[["run_id", "variation", "seed"]]
        return evidence.still_falling(self.histories.merge(keys, on="run_id"), metric)

    @cached_property
    def completeness(self) -> list[PlannedRun]:
        sides = self.sides
        observed = sides.runs[sides.runs["variation"].notna()]
        observed = observed.assign(reason=observed["why"], epochs=self._epochs(observed), last=self._last(observed))
        # A run whose seed is not known is one of its own.
        unknown = observed["seed"].isna()
        observed["seed"] = observed["seed"].where(~unknown, observed["run_id"])
        found = observed[["variation", "seed"]].drop_duplicates()
        planned = found[:0] if sides.planned is None else sides.planned.astype(object)
        asked = set(planned.itertuples(index=False, name=None))
        every = pd.concat([planned, found]).drop_duplicates()
        table = evidence.completeness(every, observed, "epochs", "last")
        nobodys = set(observed["run_id"][unknown])
        return [
            PlannedRun(
                variation=row.variation,
                seed=None if row.seed in nobodys else _plain(row.seed),
                state=row.state,
                reason=_plain(row.reason),
                run_id=row.run_id,
                planned=sides.planned is None or (row.variation, row.seed) in asked,
            )
            for row in table.itertuples(index=False)
        ]

    def _epochs(self, runs: pd.DataFrame) -> pd.Series:
        epochs = pd.to_numeric(_column(runs, "params.epochs"), errors="coerce")
        return epochs.where(runs["ours"].astype(bool), np.nan)

    def _last(self, runs: pd.DataFrame) -> pd.Series:
        """The last epoch; of a run whose history was read, how many epochs it has. As planned where nothing tells."""
        last = runs["last_epoch"].astype(float)
        if len(self.histories):
            counted = self.histories.dropna(subset=[self.sides.falling]).groupby("run_id")["epoch"].nunique()
            last = np.fmin(last, runs["run_id"].map(counted).astype(float))
        return pd.Series(last, runs.index).fillna(self._epochs(runs))

    @cached_property
    def unfinished(self) -> dict[str, list[PlannedRun]]:
        found: dict[str, list[PlannedRun]] = {}
        for row in self.completeness:
            if row.state != "finished":
                found.setdefault(row.variation, []).append(row)
        return found

    # --- Pairs and claims

    def _pairs(self) -> list[Pair]:
        sides = self.sides
        found: list[Pair] = []
        for metric in sides.judged:
            parts = [self._compare(name, str(sides.baseline), metric, None) for name in sides.compared]
            adjusted = evidence.holm([part["difference"].p for part in parts])
            found += [Pair(**_with_p(part, p)) for part, p in zip(parts, adjusted, strict=True)]
        return found

    def _claims(self) -> list[Claim]:
        study = self.sides.question.study
        claims = [c for c in study.claims if {c.variation, c.against} <= set(self.sides.configs)] if study else []
        parts = [self._compare(c.variation, c.against, c.metric, c.about) for c in claims]
        adjusted = evidence.holm([part["difference"].p for part in parts])
        family = max(1, sum(not math.isnan(p) for p in adjusted))
        found = []
        for claim, part, p in zip(claims, parts, adjusted, strict=True):
            difference = part["difference"]
            verdict = evidence.judge(difference, claim.direction, claim.smallest, p)
            open_ = verdict == evidence.Verdict.INCONCLUSIVE
            alpha = _ALPHA / family
            found.append(
                Claim(
                    **_with_p(part, p),
                    says=claim.says,
                    about=claim.about,
                    direction=claim.direction,
                    smallest=claim.smallest,
                    effect=difference.mean / claim.smallest,
                    verdict=verdict,
                    more_seeds=evidence.seeds_needed(difference, claim.smallest, alpha) if open_ else None,
                )
            )
        return [each.model_copy(update={"at_better_rates": self._at_better_rates(each, found)}) for each in found]

    def _at_better_rates(self, claim: Claim, claims: Sequence[Claim]) -> tuple[int, ...]:
        """Which claims compare the same optimizers, but with learning rates at which each side that changes is better.

        Without them, the difference may be that of a well chosen and a badly chosen learning rate.
        """
        here = self._sides_but_for_the_rate(claim)
        found = []
        for number, other in enumerate(claims):
            there = self._sides_but_for_the_rate(other)
            changed = [(there[side], name) for side, name in here.items() if there.get(side, name) != name]
            if here.keys() == there.keys() and changed and all(self._better(*names, claim.asked) for names in changed):
                found.append(number)
        return tuple(found) if len({dict(side).get(_OPTIMIZER) for side in here}) == 2 else ()

    def _sides_but_for_the_rate(self, pair: Pair) -> dict[frozenset[tuple[str, Any]], str]:
        return {self._but_for_the_rate(name): name for name in (pair.variation, pair.against)}

    def _but_for_the_rate(self, variation: str) -> frozenset[tuple[str, Any]]:
        """A variation's configuration without its learning rate."""
        return frozenset(item for item in self.sides.configs[variation].items() if item[0] not in (*_RATES, DATA_HASH))

    def _better(self, variation: str, other: str, metric: str) -> bool:
        a, b = (float(evidence.one_per_seed(self.sides.values(name, metric)).mean()) for name in (variation, other))
        return a > b if higher_is_better(metric) else a < b

    def _compare(self, variation: str, against: str, asked: str, about: Sequence[str] | None) -> dict[str, Any]:
        """The fields of a `Pair`, but for what Holm's correction gives; `difference` is evidence's own."""
        sides = self.sides
        metric, why, penalties = self._metric_to_use(variation, against, asked)
        nothing = evidence.Difference(0, 0, 0, False, math.nan, math.nan, math.nan, math.nan, ())
        a, b = (sides.values(name, metric or asked) for name in (variation, against))
        difference = evidence.difference(a, b) if metric else nothing
        other = None
        if metric != asked and why == "penalty differs":
            other = _data(evidence.difference(sides.values(variation, asked), sides.values(against, asked)))
        key = (against, metric or asked)
        if key not in self._means:
            self._means[key] = float(evidence.one_per_seed(b).mean())
        mean = self._means[key]
        return {
            "variation": variation,
            "against": against,
            "asked": asked,
            "metric": metric,
            "why": why,
            "penalties": penalties,
            "asked_difference": other,
            "difference": difference,
            "relative": difference.mean / abs(mean) if mean else math.nan,
            **self._beside(variation, against, about, difference),
        }

    def _metric_to_use(self, variation: str, against: str, asked: str) -> tuple[str | None, str, Any]:
        sides = self.sides
        both = (variation, against)
        if is_wall_time(asked):
            return None, "wall time", None
        if asked in WITHOUT_PENALTY and self._all_ours:
            a, b = (sides.sets(f"params.{_PENALTY}")[name] for name in both)
            if a and b and set(a) != set(b):
                fair = WITHOUT_PENALTY[asked]
                there = fair is not None and all(sides.has(name, fair) for name in both)
                return (fair if there else None), "penalty differs", (a[0], b[0])
        there = all(sides.has(name, asked) for name in both)
        return (asked, "as asked", None) if there else (None, "absent", None)

    @cached_property
    def _all_ours(self) -> bool:
        return bool(self.sides.used["ours"].all())

    def _beside(
        self, variation: str, against: str, about: Sequence[str] | None, difference: evidence.Difference
    ) -> dict[str, Any]:
        """What was not fair, not whole or not right about a pair."""
        key = (variation, against, () if about is None else ("claim", *about))
        if key not in self._between:
            named = list(self.sides.configs[variation]) if about is None else list(about)
            lost = (*self.unfinished.get(variation, ()), *self.unfinished.get(against, ()))
            self._between[key] = {
                "confounded_by": tuple(self._confounders(variation, against, named)),
                "caveats": tuple(self._caveats(variation, against)),
                "unfinished": lost,
            }
        known = self._between[key]
        more = []
        if difference.dropped:
            more.append(Caveat(kind="seeds dropped", seeds=difference.dropped))
        if not difference.paired and min(difference.n_a, difference.n_b) >= 2:
            more.append(Caveat(kind="unpaired"))
        return {**known, "caveats": (*known["caveats"], *more)} if more else known

    def _confounders(self, variation: str, against: str, named: Sequence[str]) -> Iterable[Confounder]:
        hidden = {self._columns[name] for name in named if name in self._columns}
        open_ = [column for column in self._differing if column not in hidden]
        if not open_:
            return
        a, b = (self.sides.by_variation[name] for name in (variation, against))
        for column in evidence.confounders(a, b, open_, ()):
            name, kind = self._differing[column]
            yield Confounder(name=name, kind=kind, variation=_distinct(a, column), against=_distinct(b, column))

    @cached_property
    def _columns(self) -> dict[str, str]:
        """Parameters by name, and the images' hash where it tells variations apart."""
        params = [c for c in self.sides.used if c.startswith("params.") and c.removeprefix("params.") not in _SEEDS]
        return {**{c.removeprefix("params."): c for c in params}, DATA_HASH: f"tags.{DATA_HASH}"}

    @cached_property
    def _differing(self) -> dict[str, tuple[str, str]]:
        """Name and kind of every column in which any two runs differ: all others can confound nothing."""
        used = self.sides.used
        every = {column: (name, "parameter") for name, column in self._columns.items() if name != DATA_HASH}
        every |= {column: (name, kind) for name, column, kind in _ORIGINS}
        return {c: each for c, each in every.items() if c in used and used[c].nunique(dropna=False) > 1}

    def _caveats(self, variation: str, against: str) -> Iterable[Caveat]:
        optimizers = self._untuned(variation, against)
        if optimizers:
            rates = [
                _distinct(rows[rows[f"params.{_OPTIMIZER}"] == name], self._rate)
                for name in optimizers
                for rows in [pd.concat([self.sides.by_variation[variation], self.sides.by_variation[against]])]
            ]
            yield Caveat(
                kind="untuned learning rate",
                optimizers=tuple(optimizers),
                learning_rates=tuple(each[0] for each in rates),
            )
        for name in (variation, against):
            for flag in self.flags.get(name, ()):
                yield Caveat(kind="flag", variation=name, flag=flag.flag, seeds=flag.seeds)
        for name in (variation, against):
            lost = self.unfinished.get(name, ())
            if lost:
                yield Caveat(kind="runs not finished", variation=name, seeds=tuple(row.seed for row in lost))

    @cached_property
    def _rate(self) -> str:
        return next((f"params.{name}" for name in _RATES if f"params.{name}" in self.sides.used), f"params.{_RATE}")

    @cached_property
    def _tried(self) -> pd.DataFrame:
        """Every learning rate that any optimizer ran with, here and in other studies; of our runs, with what else."""
        frames = [self.sides.used, *([self.elsewhere] if self.elsewhere is not None else [])]
        others = [f"params.{name}" for name in _PARAMETERS] if self.sides.kind != "groups" else []
        columns = list(dict.fromkeys([f"params.{_OPTIMIZER}", self._rate, *others]))
        parts = [frame[columns] for frame in frames if set(columns) <= set(frame.columns)]
        return pd.concat(parts).drop_duplicates() if parts else pd.DataFrame()

    def _untuned(self, variation: str, against: str) -> list[str]:
        optimizer = f"params.{_OPTIMIZER}"
        sets = [self.sides.sets(optimizer)[name] for name in (variation, against)]
        if not all(sets) or sets[0] == sets[1]:
            return []
        ours = self.sides.kind != "groups"
        pair = [self._but_for_the_rate(name) for name in (variation, against)]
        key = tuple(pair) if ours else tuple(sets)  # nothing else of the two sides counts
        if key not in self._not_tuned:
            tried = self._tried
            if ours:  # what suits another model, or another number of epochs, is no tuning of this one
                alike = [
                    np.logical_and.reduce([tried[f"params.{name}"] == value for name, value in side]) for side in pair
                ]
                tried = tried[np.logical_or(*alike)]
            a, b = (self.sides.by_variation[name] for name in (variation, against))
            self._not_tuned[key] = evidence.untuned(a, b, tried, optimizer, self._rate)
        return self._not_tuned[key]

    # --- Chance, and the study itself

    def _noise(self) -> Iterable[Noise]:
        sides = self.sides
        fresh = next((name for name in sides.configs if sides.role(name) == "A/A"), None)
        study = sides.question.study
        if fresh is None or study is None:
            return
        for metric in sides.judged:
            a, b = sides.values(fresh, metric), sides.values(study.baseline_name, metric)
            floor = evidence.noise_floor(a, b)
            smallest = [claim.smallest for claim in study.claims if claim.metric == metric]
            yield Noise(
                metric=metric,
                variation=fresh,
                against=study.baseline_name,
                n_a=int(np.isfinite(a).sum()),
                n_b=int(np.isfinite(b).sum()),
                limit=floor.limit,
                observed=floor.observed,
                smallest=min(smallest, default=math.nan),
            )

    def _determinism(self) -> Iterable[Determinism]:
        sides = self.sides
        again = next((name for name in sides.configs if sides.role(name) == "again"), None)
        study = sides.question.study
        if again is None or study is None or sides.planned is None:
            return
        seed = int(sides.planned.loc[sides.planned["variation"] == again, "seed"].iloc[0])
        rows = [sides.by_variation[name] for name in (study.baseline_name, again)]
        runs = [side[side.index == seed] for side in rows]
        first, second = (side.iloc[0] if len(side) else None for side in runs)
        if first is not None and second is not None and _same_run(first, second):
            second = None  # one run beside itself proves nothing
        names = [c for c in sides.used if c.startswith("metrics.") and not is_wall_time(c)]
        unequal, compared = [], 0
        if first is not None and second is not None:
            both = [(name, float(first[name]), float(second[name])) for name in names]
            both = [(name, x, y) for name, x, y in both if not (math.isnan(x) and math.isnan(y))]
            compared = len(both)
            unequal = [Unequal(metric=n.removeprefix("metrics."), first=x, again=y) for n, x, y in both if x != y]
        yield Determinism(
            variation=study.baseline_name,
            seed=seed,
            run_id=None if first is None else first["run_id"],
            again_id=None if second is None else second["run_id"],
            same=None if not compared else not unequal,
            compared=compared,
            unequal=tuple(unequal),
        )

    def _checks(self, pairs: Sequence[Pair]) -> Iterable[Check]:
        yield self._edges()
        yield self._tuning(pairs)
        yield self._converged()
        yield self._selection()

    @cached_property
    def _settings(self) -> pd.DataFrame:
        """One row per variation: its parameters, as numbers where they are."""
        names = self.sides.distinct
        rows = [{p: _comparable(value) for p, value in self.sides.configs[name].items()} for name in names]
        return pd.DataFrame(rows, index=names)

    @cached_property
    def _outcomes(self) -> pd.Series:
        """The mean of the main metric, by variation."""
        described = self._described[self._described["metric"] == f"metrics.{self.sides.main}"]
        return described.set_index("variation")["mean"].reindex(self._settings.index)

    @cached_property
    def _tried_values(self) -> dict[str, pd.Series]:
        """By numeric parameter: how many values of it each variation's like, with all others the same, have tried."""
        settings = self._settings
        varied = [name for name in settings if settings[name].nunique(dropna=False) > 1]
        found = {}
        for name in varied:
            if all(isinstance(value, int | float) for value in settings[name]):
                others = [settings[other] for other in varied if other != name]
                alike = others or np.zeros(len(settings))
                found[name] = settings.groupby(alike, dropna=False)[name].transform("nunique")
        return found if self.sides.main is not None else {}

    def _edges(self) -> Check:
        main = self.sides.main
        findings: list[Finding] = []
        high = higher_is_better(main or "")
        wide = {name: counts > 2 for name, counts in self._tried_values.items() if (counts > 2).any()}
        for name, several in wide.items():
            rows = self._settings[several]
            others = [rows[other] for other in rows if other != name]
            alike = rows.groupby(others, dropna=False).ngroup() if others else 0
            grid = pd.DataFrame({"value": rows[name], "alike": alike, "mean": self._outcomes[several]})
            limit = {"value": _NO_BETTER[name]} if name in _NO_BETTER else {}
            findings += [
                Finding(parameter=name, value=_plain(value), tried=_sorted(rows[name]), metric=main)
                for column, value in evidence.edge_of_grid(grid, ["value", "alike"], "mean", high, limit)
                if column == "value"
            ]
        return Check(
            kind="best at the edge of the grid",
            passed=not findings if wide else None,
            applies=bool(wide) or main is None,
            findings=tuple(findings),
        )

    def _tuning(self, pairs: Sequence[Pair]) -> Check:
        findings: list[Finding] = []
        optimizer = f"params.{_OPTIMIZER}"
        different = unread = 0
        for pair in pairs:
            a, b = (set(self.sides.sets(optimizer)[name]) - {None} for name in (pair.variation, pair.against))
            unread += not a or not b
            if not a or not b or a == b:
                continue
            different += 1
            for caveat in pair.caveats:
                if caveat.kind == "untuned learning rate":
                    claimed = isinstance(pair, Claim)
                    named = {finding.value for finding in findings}
                    findings += [
                        Finding(
                            variation=pair.variation,
                            against=pair.against,
                            parameter=self._rate.removeprefix("params."),
                            value=name,
                            tried=(rate,),
                        )
                        for name, rate in zip(caveat.optimizers, caveat.learning_rates, strict=True)
                        if claimed or name not in named  # of a thousand pairs, each optimizer once
                    ]
        passed = None if not different else not findings
        applies = bool(different or unread)
        return Check(kind="untuned learning rate", passed=passed, applies=applies, findings=tuple(findings))

    def _converged(self) -> Check:
        findings = [
            Finding(variation=name, metric=flag.metric, seeds=flag.seeds)
            for name, flags in self.flags.items()
            for flag in flags
            if flag.flag == "not converged" and name in self.sides.distinct
        ]
        metric = self.sides.falling
        several = len(self.histories) and metric in self.histories and self.histories["epoch"].nunique() > 1
        passed = not findings if several else None
        applies = bool(several) or metric is None or self.histories.empty  # else each has one epoch
        return Check(kind="still improving at the last epoch", passed=passed, applies=applies, findings=tuple(findings))

    def _selection(self) -> Check:
        """Whoever takes the best of several tried values and reports the metric that chose it reports it too good."""
        sides, main = self.sides, self.sides.main
        findings = []
        for name, counts in self._tried_values.items():
            several = counts > (1 if name in _RATES else 2)
            outcomes = self._outcomes[several].dropna()
            if len(outcomes):
                best = outcomes.idxmax() if higher_is_better(main or "") else outcomes.idxmin()
                values = self._settings[name]
                value, tried = _plain(values[best]), _sorted(values[several])
                findings.append(Finding(parameter=name, tried=tried, metric=main, value=value))
        if sides.chosen_as_best:
            findings.append(Finding(variation=sides.baseline, metric=main))
        told = sides.kind != "groups" or str(main).startswith("val") or sides.chosen_as_best
        return Check(
            kind="selected on the reported data",
            passed=False if findings and told else None,
            applies=bool(findings) or main is None,
            findings=tuple(findings) if told else (),
        )

    # --- Published figures

    def _published(self) -> Published | None:
        study = self.sides.question.study
        published = study.published if study else None
        if study is None or published is None:
            return None
        figures = [
            self._figure(published, name, metric, value, self.sides.by_variation[name])
            for name, row in published.figures.items()
            for metric, value in row.items()
        ]
        stated = [
            self._stated(study, published, name, parameter, value)
            for name, row in published.stated.items()
            for parameter, value in row.items()
        ]
        return Published(
            source=published.source,
            decimals=published.decimals,
            figures=tuple(figures),
            stated=tuple(stated),
            differences=tuple(self._published_differences(study, published)),
        )

    def _published_differences(self, study: Study, published: PublishedPlan) -> Iterable[PublishedDifference]:
        for claim in study.claims:
            both = [published.figures.get(name, {}).get(claim.metric) for name in (claim.variation, claim.against)]
            if both[0] is not None and both[1] is not None:
                a, b = (self.sides.values(name, claim.metric) for name in (claim.variation, claim.against))
                yield PublishedDifference(
                    variation=claim.variation,
                    against=claim.against,
                    metric=claim.metric,
                    published=round(both[0] - both[1], published.decimals),
                    difference=_data(evidence.difference(a, b)),
                    chance=evidence.chance_of_one_run(a, b),
                )

    def _figure(self, published: PublishedPlan, name: str, metric: str, value: float, ours: pd.DataFrame) -> Figure:
        def reproduction(which: str) -> tuple[int, float, float, float, bool | None]:
            values = evidence.one_per_seed(ours.get(f"metrics.{which}", pd.Series(np.nan, ours.index)))
            return len(values), float(values.mean()), *evidence.reproduction(value, published.decimals, values)

        n, mean, low, high, reproduced = reproduction(metric)
        taken_for = published.taken_for.get(metric)
        taken: dict[str, Any] = {}
        if taken_for is not None:
            names = ("mean", "low", "high", "reproduced")
            taken = {f"taken_for_{k}": v for k, v in zip(names, reproduction(taken_for)[1:], strict=True)}
        return Figure(
            variation=name,
            metric=metric,
            published=value,
            n=n,
            mean=mean,
            low=low,
            high=high,
            reproduced=reproduced,
            taken_for=taken_for,
            **taken,
        )

    def _stated(self, study: Study, published: PublishedPlan, name: str, parameter: str, value: Any) -> Stated:
        config = study.configurations()[name]
        wanted = RunConfig.model_validate({**config.model_dump(), parameter: value})
        rows = self.sides.by_variation[name]
        ran = _plain(rows[f"params.{parameter}"].iloc[0]) if len(rows) else None
        stated = getattr(wanted, parameter)
        like_it = self._like(_without_seed(wanted.model_dump()))
        figures: list[Figure] = []
        alternative = None
        if ran != stated and len(like_it):
            tag = next((t for t in _distinct(like_it, f"tags.{VARIATION}") if t), None)
            alternative = str(tag or wanted.name)
            for metric, figure in published.figures.get(name, {}).items():
                figures.append(self._figure(published, alternative, metric, figure, like_it))
        return Stated(
            variation=name,
            parameter=parameter,
            stated=stated,
            ran=ran,
            same=ran == stated,
            alternative=alternative,
            figures=tuple(figures),
        )

    def _like(self, config: Mapping[str, Any]) -> pd.DataFrame:
        """Finished runs of that configuration, here or in other studies, one per seed and indexed by it."""
        frames = [self.sides.runs, *([self.elsewhere] if self.elsewhere is not None else [])]
        runs = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
        runs = runs[(runs["status"] == "FINISHED") & runs["ours"].astype(bool)].drop_duplicates("run_id")
        for name, value in config.items():
            runs = runs[_column(runs, f"params.{name}") == value]
        hashes = _distinct(self.sides.used, f"tags.{DATA_HASH}")
        runs = runs[_column(runs, f"tags.{DATA_HASH}").isin(list(hashes))]
        return runs.assign(seed=_column(runs, "params.seed")).drop_duplicates("seed").set_index("seed")

    # --- Where it comes from

    def _records(self) -> Iterable[RunRecord]:
        runs = self.sides.runs
        links = _column(runs, f"tags.{REUSED_FROM}")
        fields = ["run_id", "name", "variation", "seed", "status", "why", "used"]
        for values, link in zip(runs[fields].itertuples(index=False, name=None), links, strict=True):
            row = {name: _plain(value) for name, value in zip(fields, values, strict=True)}
            digest = self.digests[row["run_id"]]
            yield RunRecord(reason=row.pop("why"), digest=digest, reused_from=_plain(link), **row)

    def _provenance(self, origin: Mapping[str, Any]) -> Provenance:
        used = self.sides.used
        question = self.sides.question

        def texts(column: str) -> tuple[str, ...]:
            return tuple(sorted(str(value) for value in _distinct(used, column) if value is not None))

        columns = {name: column for name, column, _ in _ORIGINS}
        return Provenance(
            group_by=question.group_by,
            metric=question.metric,
            metrics=question.metrics,
            baseline=question.baseline,
            study=question.study.name if question.study else "",
            code_versions=texts(columns["code version"]),
            dirty=int((_column(used, columns[GIT_DIRTY]) == "true").sum()),
            lock_hashes=texts(columns[LOCK_HASH]),
            data_hashes=texts(columns[DATA_HASH]),
            hardware=texts(columns[HARDWARE]),
            **origin,
        )


def _same_run(a: pd.Series, b: pd.Series) -> bool:
    column = f"tags.{REUSED_FROM}"
    first, second = (_plain(row.get(column)) or row["run_id"] for row in (a, b))
    return bool(first == second)


def _with_p(part: Mapping[str, Any], p: float) -> dict[str, Any]:
    difference = part["difference"]
    if math.isnan(p):
        finding = "not judged"
    elif p >= _ALPHA:
        finding = "no difference shown"
    else:
        finding = "lower" if difference.mean < 0 else "higher"
    return {**part, "difference": _data(difference), "p_holm": p, "finding": finding}


def _data(difference: evidence.Difference) -> Difference:
    return Difference(**difference._asdict())


def _empty_cell(metric: str) -> Cell:
    nothing = dict.fromkeys(("mean", "sd", "low", "high", "median", "worst"), math.nan)
    digest = hashlib.sha256(b"").hexdigest()[:16]
    return Cell(metric=metric, n=0, worst_seed=None, run_ids=(), digest=digest, **nothing)


def _file_names(names: Sequence[str]) -> dict[str, str]:
    """Names for files, each once even where the file system does not tell upper from lower case."""
    taken = set(_RESERVED)
    found = {}
    for name in names:
        safe = re.sub(r"[^\w.,=+-]+", "_", name.replace(", ", "_")).strip("._-,=")[:80].rstrip("._-,=") or "variation"
        unique, count = safe, 1
        while unique.casefold() in taken:
            count += 1
            unique = f"{safe}_{count}"
        taken.add(unique.casefold())
        found[name] = unique
    return found
