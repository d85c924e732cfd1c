"""Which runs are one variation, and in which metrics variations are compared: runs in, `GroupedRuns` out. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import metrics
from pipeline.compare import autolog, evidence, repetitions
from pipeline.errors import UserError
from pipeline.metrics import Better, Metric
from pipeline.study.plan import A_A, AGAIN, Study
from pipeline.study.tuning import point_text
from pipeline.task import Task
from pipeline.texts import did_you_mean, quoted
from pipeline.tracking.names import (
    DATA_HASH,
    FAILURE,
    FINGERPRINT,
    MLFLOW_PARENT_RUN_ID,
    REUSED_FROM,
    ROLE,
    TUNING,
    VARIATION,
)

MOST_PLOTTED = 20  # variations of which the histories are read: more lines than that cannot be told apart
_MOST_COMPARED = 200  # variations: with more, the pairs of one metric are all that anybody could read


class Declared(NamedTuple):
    """A plan, and when a study was started with it, in milliseconds since 1970."""

    at: float
    study: Study


@dataclass(frozen=True)
class CompareRequest:
    """What is asked: a study's questions, at so many looks at it, or each variation against a baseline."""

    study: Study | None = None
    looks: int = 1
    plans: tuple[Declared, ...] = ()  # every one that the study was started with
    group_by: tuple[str, ...] = ()
    metric: str = ""
    metrics: tuple[str, ...] = ()
    baseline: str = ""
    better: Literal["", "lower", "higher"] = ""  # which way of the main metric is, where its name does not tell
    repetitions: tuple[str, ...] = ()  # parameters or tags that tell them apart; empty = found; `name`, `none`
    nuisance: tuple[str, ...] = ()  # parameters that were searched: each of their values is a try


@dataclass(frozen=True)
class GroupedRuns:
    """Runs, arranged as variations.

    `runs` has the columns of `reading.runs` and `variation` (None: belongs to none), `seed` (None: not known), `used`
    (finished and in a variation) and `why` (it was left out, or did not finish).
    """

    request: CompareRequest
    task: Task
    kind: str
    runs: pd.DataFrame
    configs: dict[str, dict[str, Any]]  # by variation, in the order in which they are shown
    baseline: str | None
    chosen_as_best: bool  # the baseline is the best of several that were asked for
    primary_metric: str | None
    metrics: list[str]
    compared: list[str]  # the metrics in which each variation is compared with the baseline
    planned: pd.DataFrame | None
    repetitions: tuple[str, ...] = ()  # the columns that tell repetitions apart
    set_aside: tuple[str, ...] = ()  # parameters that are not the same everywhere and nobody's choice: `output_dir`
    better: Better = None  # which way of the main metric is, where it was asked for or a search says it
    _columns: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _sets: dict[str, dict[str, tuple[Any, ...]]] = field(default_factory=dict)

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
    def candidates(self) -> list[str]:
        """The variations that are compared with the baseline."""
        return [name for name in self.configs if self.role(name) == "variation"]

    @cached_property
    def without_repeats(self) -> list[str]:
        """The variations without the repeated runs of the baseline."""
        return [name for name in self.configs if self.role(name) in ("baseline", "variation")]

    def role(self, variation: str) -> str:
        if variation == self.baseline:
            return "baseline"
        study = self.request.study
        base = study.baseline_name if study else None
        return "variation" if base is None else {base + A_A: "A/A", base + AGAIN: "again"}.get(variation, "variation")

    @cached_property
    def tuned(self) -> dict[str, dict[str, list[Any]]]:
        """By variation that was tuned on its own, the grid of its nuisance parameters."""
        return self.request.study.tuned if self.request.study else {}

    @cached_property
    def places(self) -> dict[str, NDArray[np.intp]]:
        """Where in `used` the runs of each variation stand."""
        known = self.used.groupby("variation", sort=False).indices
        return {name: known.get(name, np.zeros(0, np.intp)) for name in self.configs}

    def values(self, variation: str, metric: str) -> pd.Series:
        """A metric's values, indexed by seed."""
        places = self.places[variation]
        return pd.Series(self._column(metric)[places], self._seeds.take(places))

    def has(self, variation: str, metric: str) -> bool:
        """Whether any run of the variation has a value of the metric."""
        return bool((~np.isnan(self._column(metric)[self.places[variation]])).any())

    def _column(self, metric: str) -> NDArray[np.float64]:
        if metric not in self._columns:
            absent = pd.Series(np.nan, self.used.index)
            self._columns[metric] = self.used.get(f"metrics.{metric}", absent).to_numpy(dtype=float)
        return self._columns[metric]

    @cached_property
    def _seeds(self) -> pd.Index:
        return pd.Index(self.used["seed"])

    def sets(self, column: str) -> dict[str, tuple[Any, ...]]:
        """The different values of a column, by variation."""
        if column not in self._sets:
            found: dict[str, list[Any]] = {name: [] for name in self.configs}
            pairs = pd.DataFrame({"variation": self.used["variation"], "value": column_of(self.used, column)})
            for name, value in pairs.drop_duplicates().itertuples(index=False, name=None):
                found[name].append(plain(value))
            self._sets[column] = {name: tuple(values) for name, values in found.items()}
        return self._sets[column]

    @cached_property
    def folds(self) -> int:
        """In how many folds of the same data the repetitions lie; 0 where they are no folds."""
        return repetitions.folds(self.used, self.repetitions)

    @property
    def by_task(self) -> bool:
        """Whether the variations are configurations of the task, whose metrics are known."""
        return self.kind != "groups"

    @cached_property
    def rows(self) -> dict[str, Metric]:
        """The task's metrics by name."""
        return {row.name: row for row in self.task.metrics}

    def metric(self, name: str) -> Metric:
        """What is known of a metric: of the task's own all, of others what the name and the values tell."""
        if self.by_task and name in self.rows:
            return self.rows[name]
        values = self._column(name)
        finite = values[np.isfinite(values)]
        row = metrics.guess(name, finite.min(initial=math.inf), finite.max(initial=-math.inf))
        said = self.better if name == self.primary_metric else None
        return replace(row, better=said or self.rows.get(name, row).better)

    @cached_property
    def plotted(self) -> list[str]:
        """The variations worth drawing: the baseline and the first others."""
        kept = sorted(self.without_repeats, key=lambda name: name != self.baseline)[:MOST_PLOTTED]
        return [name for name in self.without_repeats if name in kept]

    @cached_property
    def with_history(self) -> pd.DataFrame:
        """The runs whose histories are worth fetching: of the plotted variations, of A/A and of the repeated run."""
        repeats = set(self.configs) - set(self.without_repeats)
        return self.used[self.used["variation"].isin([*self.plotted, *repeats])]

    @property
    def convergence_metric(self) -> str | None:
        """The per-epoch metric that shows whether a run had converged: it falls until then."""
        for name in (*(row.name for row in self.task.metrics if row.convergence), self.primary_metric):
            if name and f"metrics.{name}" in self.used and self.metric(name).better == "lower":
                return name
        return None


# --- Which runs are one variation? --------------------------------------------------------------------------------


@np.errstate(over="ignore", invalid="ignore")  # of metrics near the largest float: what is infinite says so itself
def group(runs: pd.DataFrame, request: CompareRequest, task: Task) -> GroupedRuns:
    """Sort runs into variations.

    Args:
        runs: as `reading.runs` gives them; for a study, those of its parent run.
        task: what made those of them that are `ours`.

    Raises:
        UserError: the runs have no such parameter, metric or baseline.
    """
    runs = runs.reset_index(drop=True).assign(variation=None, seed=None, why=None)
    if "last_epoch" not in runs:
        runs["last_epoch"] = np.nan
    runs = runs.astype({"variation": object, "seed": object, "why": object})
    planned = None
    told_apart_by: tuple[str, ...] = (f"params.{task.repetition}",)
    set_aside: tuple[str, ...] = ()
    if request.study is not None:
        kind, configs = "study", _by_plan(runs, request.study, task)
        pairs = [(name, config.params[task.repetition]) for name, config in request.study.runs()]
        planned = pd.DataFrame(pairs, columns=["variation", "seed"])
    elif request.group_by or not runs["ours"].any():
        runs = autolog.in_plain(runs)
        told_apart_by = repetitions.columns(runs, request.repetitions, (*request.group_by, *request.nuisance))
        _require_asked(runs, request)
        set_aside = _set_aside(runs, request)
        kind, configs = "groups", _by_params(runs, request, told_apart_by, set_aside)
    else:
        if request.better:
            raise UserError("better: which way the metrics of this project's runs are better is known; leave it out")
        kind, configs = "configurations", _by_configuration(runs, task, request.nuisance)
    _leave_out_links(runs)
    if kind == "groups":
        _leave_out_parents(runs)
        members = runs[runs["variation"].notna()]
        set_aside = tuple(p for p in set_aside if members[f"params.{p}"].map(comparable).nunique() > 1)
        if not request.nuisance:  # tries, not seeds, are what is told apart then
            _tell_apart_what_one_seed_did_not_fix(runs)
    runs["used"] = runs["variation"].notna() & _has_ended_well(runs)
    _say_why(runs)
    objective = autolog.objective(runs) if kind == "groups" else {}
    names, primary, compared = _choose_metrics(runs, request, kind, len(configs), task, objective)
    better: Better = request.better or (objective.get(primary) if primary and not _row(primary, task).better else None)
    baseline, chosen = None, False
    if configs:
        badness = _badness(runs, primary, task, better)
        baseline, chosen = _baseline(request, configs, badness)
        if kind != "study":
            rank = {name: badness.get(name, math.nan) for name in configs}
            configs = {name: configs[name] for name in sorted(configs, key=lambda n: (math.isnan(rank[n]), rank[n]))}
    return GroupedRuns(
        request,
        task,
        kind,
        runs,
        configs,
        baseline,
        chosen,
        primary,
        names,
        compared,
        planned,
        told_apart_by,
        set_aside,
        better,
    )


def _by_plan(runs: pd.DataFrame, study: Study, task: Task) -> dict[str, dict[str, Any]]:
    configs = {name: without_repetition(config.params, task) for name, config in study.runs()}
    order = [*study.configurations(), *[n for n in configs if n.endswith((A_A, AGAIN))]]
    tag = column_of(runs, f"tags.{VARIATION}")
    ours = runs["ours"].astype(bool)
    tunes = column_of(runs, f"tags.{ROLE}") == TUNING
    runs["variation"] = tag.where(tag.isin(list(configs)) & ours & ~tunes, None)
    runs["seed"] = column_of(runs, f"params.{task.repetition}").where(ours, None)
    runs.loc[runs["variation"].isna(), "why"] = "it is of no variation of the study's plan"
    runs.loc[tunes, "why"] = "it was made to tune its variation, and is not reported"
    return {name: configs[name] for name in dict.fromkeys(order)}


def _by_configuration(runs: pd.DataFrame, task: Task, searched: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What a run was asked to do, apart from its seed and what was searched, on the same data."""
    _require_params("nuisance", searched, list(task.parameters))
    ours = runs["ours"].astype(bool)
    runs.loc[ours, "seed"] = column_of(runs, f"params.{task.repetition}")[ours]
    failure = column_of(runs, f"tags.{FAILURE}")
    runs.loc[~ours, "why"] = "it has no configuration of this project"
    runs.loc[~ours & failure.notna(), "why"] = "it failed before its configuration was recorded: " + failure
    runs.loc[~ours & column_of(runs, f"tags.{FINGERPRINT}").notna(), "why"] = (
        "its configuration is of another version of this project"
    )
    own = without_repetition(task.parameters, task)
    columns = {name: f"params.{name}" for name in own if name not in searched}
    hashes = column_of(runs, f"tags.{DATA_HASH}")[ours]
    if hashes.nunique(dropna=False) > 1:
        columns[DATA_HASH] = f"tags.{DATA_HASH}"
    return _group(runs, ours, columns, searched)


def _by_params(
    runs: pd.DataFrame, request: CompareRequest, told_apart_by: tuple[str, ...], set_aside: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """Runs that anybody made, by some of their parameters, or by all that are not the same in all of them."""
    params = [name.removeprefix("params.") for name in runs.columns if name.startswith("params.")]
    group_by, searched = request.group_by, request.nuisance
    runs["seed"] = repetitions.told_apart(runs, told_apart_by)
    told_apart = {name for name in params if repetitions.is_of(name, repetitions.SEEDS)}
    told_apart |= {name.removeprefix("params.") for name in told_apart_by}
    own = [name for name in params if name not in told_apart]
    autolog.inherit(runs, [f"params.{name}" for name in own])
    choices = [name for name in own if name not in (*searched, *set_aside)]
    # Neither what says nothing of what it was, nor what has runs of its own makes a parameter one that varies.
    says = runs[[f"params.{name}" for name in own]].notna().any(axis=1)
    parents = runs["run_id"].isin(column_of(runs, f"tags.{MLFLOW_PARENT_RUN_ID}")[says].dropna())
    names = list(group_by) or _differing(runs[says & ~parents], choices) or _differing(runs[says], choices)
    columns = {name: f"params.{name}" for name in names}
    has_any = runs[list(columns.values())].notna().any(axis=1) if columns else pd.Series(True, runs.index)
    runs.loc[~has_any, "why"] = f"it has none of the parameters {_listed(names)}"
    pruned = autolog.pruned(runs)
    runs.loc[pruned, "why"] = "its search pruned it"
    return _group(
        runs, has_any & ~pruned if not searched else has_any, columns, searched
    )  # of a search each try counts


def _differing(runs: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if runs[f"params.{name}"].map(comparable).nunique(dropna=False) > 1]


def _set_aside(runs: pd.DataFrame, request: CompareRequest) -> tuple[str, ...]:
    """The parameters that are nobody's choice, or repeat what was searched."""
    asked = {*request.group_by, *request.nuisance, *request.repetitions}
    params = [name.removeprefix("params.") for name in runs.columns if name.startswith("params.")]
    params = [name for name in params if name not in asked]
    repeating = autolog.repeating(runs, params, request.nuisance)
    return tuple(sorted(name for name in params if autolog.is_no_choice(name) or name in repeating))


def _require_asked(runs: pd.DataFrame, request: CompareRequest) -> None:
    params = [name.removeprefix("params.") for name in runs.columns if name.startswith("params.")]
    _require_params("group_by", request.group_by, params)
    _require_params("nuisance", request.nuisance, params)


def _require_params(option: str, names: Sequence[str], params: Sequence[str]) -> None:
    for name in names:
        if name not in params:
            hint = did_you_mean(name, params)
            raise UserError(f"{option}={quoted(name)} is a parameter of no run{hint}; there are {_listed(params)}")


def _group(
    runs: pd.DataFrame, members: pd.Series, columns: Mapping[str, str], searched: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Write the variation of each member, and what it tried; the configurations by name, the first made first."""
    if searched:
        tried = runs[[f"params.{name}" for name in searched]].set_axis(list(searched), axis=1).map(comparable)
        points = pd.Series([point_text(point) for point in tried.to_dict("records")], runs.index, dtype=object)
        runs["seed"] = points.where(members, None)
    if not members.any():
        return {}
    rows = runs[members].iloc[::-1]  # the newest run comes first
    values = {name: column_of(rows, column) for name, column in columns.items()}
    keys = pd.DataFrame({name: column.map(comparable) for name, column in values.items()}, index=rows.index)
    numbers = (
        keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup() if columns else pd.Series(0, rows.index)
    )
    first = numbers.drop_duplicates()
    configs = [{name: plain(values[name][row]) for name in columns} for row in first.index]
    names = _names(configs)
    runs.loc[rows.index, "variation"] = pd.Series([names[n] for n in numbers], rows.index, dtype=object)
    return dict(zip(names, configs, strict=True))


def _names(configs: Sequence[dict[str, Any]]) -> list[str]:
    """`optimizer=adam, epochs=50`: the parameters that are not the same everywhere; each name once.

    What not all have, such as the trees of a forest, is left out where those that all have tell it.
    """
    values = [{name: comparable(value) for name, value in config.items()} for config in configs]
    differing = [name for name in configs[0] if len({config[name] for config in values}) > 1]
    differing = _each_word_once(differing, values)
    everywhere = [name for name in differing if all(config[name] is not None for config in values)]
    keys = [tuple(config[name] for name in everywhere) for config in values]
    told = {n for n in differing if len({(k, c[n]) for k, c in zip(keys, values, strict=True)}) == len(set(keys))}
    differing = [name for name in differing if name in everywhere or name not in told]
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


def _each_word_once(names: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Without parameters whose words are those of another: `opt_name` is adam where `optimizer` is Adam."""
    found: dict[Any, str] = {}
    for name in names:
        values = [config[name] for config in configs]
        words = all(value is None or isinstance(value, str) for value in values)
        found.setdefault(tuple(str(value).casefold() for value in values) if words else name, name)
    return list(found.values())


def _leave_out_links(runs: pd.DataFrame) -> None:
    """A run that stands for another one does not count beside it, nor beside a second such run."""
    original = column_of(runs, f"tags.{REUSED_FROM}")
    linked = original.notna() & runs["variation"].notna()
    here = original.isin(runs.loc[runs["variation"].notna(), "run_id"])
    pairs = pd.DataFrame({"original": original, "variation": runs["variation"]})
    second = pairs[linked].duplicated(keep="first").reindex(runs.index, fill_value=False)
    for row in runs.index[linked & (here | second)]:
        runs.at[row, "variation"] = None
        runs.at[row, "why"] = f"it stands for the run {original[row]}, which is counted"


def _leave_out_parents(runs: pd.DataFrame) -> None:
    """A run with runs of its own that count, such as the mean of its folds or the best of its search."""
    parents = column_of(runs, f"tags.{MLFLOW_PARENT_RUN_ID}")[runs["variation"].notna()]
    above = runs["run_id"].isin(parents.dropna())
    runs.loc[above, "why"] = "it is the parent of runs that are counted"
    runs.loc[above, "variation"] = None


def _tell_apart_what_one_seed_did_not_fix(runs: pd.DataFrame) -> None:
    """Runs of one seed that ended with other results are repetitions all the same: the seed did not fix them."""
    results = [name for name in runs if name.startswith("metrics.") and not metrics.guess(name[8:]).is_wall_time]
    members = runs[runs["variation"].notna() & runs["seed"].notna() & (runs["status"] == "FINISHED")]
    for _, own in members.groupby("variation", sort=False):
        if len(own) > 1 and own["seed"].nunique() == 1 and (own[results].nunique() > 1).any():
            runs.loc[own.index, "seed"] = None


def _has_ended_well(runs: pd.DataFrame) -> pd.Series:
    """Whether a run finished, or was pruned with a result."""
    results = [name for name in runs if name.startswith("metrics.")]
    return (runs["status"] == "FINISHED") | (autolog.pruned(runs) & runs[results].notna().any(axis=1))


def _say_why(runs: pd.DataFrame) -> None:
    reason = column_of(runs, f"tags.{FAILURE}")
    unfinished = (runs["status"] != "FINISHED") & ~runs["used"] & runs["why"].isna()
    running = unfinished & reason.isna() & runs["status"].isin(["RUNNING", "SCHEDULED"])
    runs.loc[unfinished, "why"] = reason[unfinished]
    runs.loc[running, "why"] = "still running, or its process is gone"


# --- Which metrics? -----------------------------------------------------------------------------------------------


def _choose_metrics(
    runs: pd.DataFrame,
    request: CompareRequest,
    kind: str,
    variations: int,
    task: Task,
    objective: Mapping[str, Better],
) -> tuple[list[str], str | None, list[str]]:
    """All metrics of the conclusion, the primary one, and those in which the variations are compared."""
    used = runs[runs["used"]]
    there = [c.removeprefix("metrics.") for c in used if c.startswith("metrics.") and used[c].notna().any()]
    metric, *asked = (_asked(name, there) for name in (request.metric, *request.metrics))
    if len(used):
        _require_values("metric", [metric] if metric else [], there)
        _require_values("metrics", asked, there)
    by_task = kind != "groups"
    rows = {row.name: row for row in task.metrics}
    preferred = [metric, *(row.name for row in task.metrics if row.primary)]
    if not by_task:
        preferred += [row.name for row in task.metrics if row.convergence]
    preferred += sorted(there, key=lambda name: metrics.unlikely(name, name in objective))
    primary = next((name for name in preferred if name and name in there), None)
    first = [primary] if primary else []
    claimed, published = _metrics_of(request.study)
    if asked:
        kept = [name for name in asked if name in there]
    elif by_task:
        kept = [row.name for row in task.metrics if row.name in there and not row.per_epoch]
    else:
        kept = sorted(there)
    order = sorted(rows, key=lambda name: rows[name].per_epoch)  # what a run ends with first
    names = sorted(
        {*kept, *first, *({*claimed, *published} & set(there))},
        key=lambda name: (not by_task and name != primary, order.index(name) if name in rows else len(rows), name),
    )
    if asked:
        compared = [*first, *kept]
    elif by_task and variations <= _MOST_COMPARED:
        compared = [*first, *(name for name in names if name in rows and rows[name].compared)]
    else:
        compared = first
    compared = [*compared, *(name for name in claimed if name in there)]
    wanted = (metric, *asked)
    if request.nuisance and primary and not (request.better or _row(primary, task).better or primary in objective):
        raise UserError(
            f"which way of {quoted(primary)} is better is not known; give --better lower or --better higher"
        )
    if request.nuisance:  # the best of n: of which it is known what is better
        compared = [n for n in compared if n == primary or _row(n, task).better]
    compared = [n for n in dict.fromkeys(compared) if not (metrics.guess(n).is_counter and n not in wanted)]
    return names, primary, [n for n in compared if not metrics.guess(n).is_wall_time]


def _row(name: str, task: Task) -> Metric:
    return next((row for row in task.metrics if row.name == name), metrics.guess(name))


def _metrics_of(study: Study | None) -> tuple[list[str], list[str]]:
    """The metrics of a study's claims, and those of its published values."""
    claimed = [claim.metric for claim in study.claims] if study else []
    published = study.published if study else None
    printed = [name for row in published.values.values() for name in row] if published else []
    return claimed, [*printed, *(published.commonly_read_as.values() if published else ())]


def _require_values(option: str, names: Sequence[str], there: Sequence[str]) -> None:
    for name in names:
        if name not in there:
            hint = did_you_mean(name, there)
            raise UserError(
                f"{option}={quoted(name)} has no value in any finished run{hint}; there are {_listed(there)}"
            )


def _asked(name: str, there: Sequence[str]) -> str:
    """A metric that somebody asks for, perhaps by the name that it had in an earlier version."""
    return name if name in there else metrics.current(name)


def _badness(runs: pd.DataFrame, metric: str | None, task: Task, better: Better) -> dict[str, float]:
    """By variation the mean of the metric, turned so that less is better where that is known."""
    used = runs[runs["used"]]
    if metric is None or used.empty:
        return {}
    row = _row(metric, task)
    table = evidence.describe(used, [f"metrics.{metric}"])
    sign = -1 if (better or row.better) == "higher" else 1
    return {str(name): sign * float(mean) for name, mean in zip(table["variation"], table["mean"], strict=True)}


def _baseline(
    request: CompareRequest, configs: Mapping[str, dict[str, Any]], badness: Mapping[str, float]
) -> tuple[str, bool]:
    """The baseline's name, and whether it is the best of several that `request.baseline` fits."""
    asked = request.baseline
    if not asked:
        return (request.study.baseline_name if request.study else next(iter(configs))), False
    if asked in configs:
        return asked, False
    wanted = dict(part.split("=", 1) for part in re.split(r",\s*", asked) if "=" in part)
    wanted = {key.strip(): comparable(value.strip()) for key, value in wanted.items()}
    fits = [
        name
        for name, config in configs.items()
        if wanted and all(key in config and comparable(config[key]) == value for key, value in wanted.items())
    ]
    if not fits:
        raise UserError(
            f"baseline={quoted(asked)} fits no variation{did_you_mean(asked, configs)}; "
            f"give parameter=value, or one of {_listed(list(configs))}"
        )
    with_result = [name for name in fits if not math.isnan(badness.get(name, math.nan))]
    return min(with_result or fits, key=lambda name: badness.get(name, 0.0)), len(fits) > 1


# --- Values -------------------------------------------------------------------------------------------------------


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column that MLflow leaves out where no run has the tag, param or metric."""
    return frame.get(name, pd.Series(None, frame.index, dtype=object))


def distinct(frame: pd.DataFrame, name: str) -> tuple[Any, ...]:
    """The different values of such a column."""
    return tuple(plain(value) for value in column_of(frame, name).drop_duplicates())


def without_repetition(config: Mapping[str, Any], task: Task) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != task.repetition}


def comparable(value: Any) -> Any:
    """The same for `1e-3`, `0.001` and 0.001."""
    if not isinstance(value, str):
        return None if value is None or value != value else value
    try:
        number = float(value)
    except ValueError:
        return value
    return value if math.isnan(number) else number


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


def _listed(names: Sequence[str], most: int = 12) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) if "," in name else name for name in names[:most]) + more
