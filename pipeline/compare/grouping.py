"""Which runs are one variation, and in which metrics variations are compared: runs in, `GroupedRuns` out. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import metrics
from pipeline.compare import autolog, causes, choosing, evidence, existing, labels, repetitions
from pipeline.compare.columns import column_of, comparable, names_listed, plain, without_repetition
from pipeline.compare.request import CompareRequest
from pipeline.errors import UserError
from pipeline.metrics import Metric
from pipeline.study.existing import StudyOfRuns
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
    SEED,
    TUNING,
    VARIATION,
)

MOST_PLOTTED = 20  # variations of which the histories are read: more lines than that cannot be told apart
_CUT = (250, 500, 6000)  # characters that versions of MLflow, and of what logs to it, keep of a parameter


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
    aside: tuple[str, ...] = ()  # parameters that make no variations and confound nothing
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
        return self.request.plan.tuned if self.request.plan else {}

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

    @cached_property
    def cut(self) -> tuple[str, ...]:
        """The parameters of which several runs have a text that a client of MLflow has cut, as its length tells."""
        columns = [name for name in self.used if name.startswith("params.")] if self.kind == "groups" else []
        shared = {
            name: values[values.duplicated()].unique() for name in columns for values in [self.used[name].dropna()]
        }
        return tuple(name[7:] for name, texts in shared.items() if any(len(str(text)) in _CUT for text in texts))

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
        known = replace(row, better=self.rows.get(name, row).better)
        return choosing.as_said(known, self.request, name == self.primary_metric)

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

    @cached_property
    def followed(self) -> list[str]:
        """The metrics of which the histories are read: the convergence metric, and those that are judged by epoch."""
        claimed = [claim.metric for claim in self.request.study.claims] if self.request.study else []
        first = (self.convergence_metric, self.primary_metric)
        return list(dict.fromkeys(name for name in (*first, *claimed) if name and self._is_by_epoch(name)))

    def _is_by_epoch(self, name: str) -> bool:
        row = self.metric(name)
        of_the_end = name in self.rows and not self.rows[name].per_epoch
        return f"metrics.{name}" in self.used and row.better is not None and not row.is_wall_time and not of_the_end

    @property
    def convergence_metric(self) -> str | None:
        """The per-epoch metric that shows whether a run had converged: it gets better until then."""
        losses = (row.name for row in self.task.metrics if row.convergence)
        return next((name for name in (*losses, self.primary_metric) if name and self._is_by_epoch(name)), None)


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
    runs = runs.reset_index(drop=True)
    nothing = pd.Series(None, runs.index, dtype=object)
    runs = runs.assign(variation=nothing, seed=nothing, why=nothing)
    if "last_epoch" not in runs:
        runs["last_epoch"] = np.nan
    planned = None
    told_apart_by: tuple[str, ...] = (f"params.{task.repetition}",)
    aside: tuple[str, ...] = ()
    _fill_in(runs, request.defaults)
    if request.plan is not None:
        runs = runs if task.metrics else autolog.in_plain(runs)
        kind, configs = "study" if task.metrics else "groups", _by_plan(runs, request.plan, task)
        pairs = [(name, config.params[task.repetition]) for name, config in request.plan.runs()]
        planned = pd.DataFrame(pairs, columns=["variation", "seed"])
    elif isinstance(request.study, StudyOfRuns):
        runs = autolog.in_plain(runs)
        _require_asked(runs, request)
        if len(runs):
            asked = [name for each in request.study.variations for name in each.where]
            _inherit(runs, repetitions.columns(runs, request.repetitions, asked))
        kind, configs = "groups", existing.by_where(runs, request.study)
        is_member, told_by = runs["variation"].notna(), (*next(iter(configs.values())),)
        told_apart_by = repetitions.columns(runs[is_member], request.repetitions, told_by)
        runs["seed"] = repetitions.told_apart(runs[is_member], told_apart_by).reindex(runs.index)
        aside = _aside(runs[is_member], request, told_apart_by, (*told_by, *request.study.claimed_parameters))
        _write_tries(runs, request.nuisance, is_member)
    elif request.group_by or not runs["ours"].any():
        runs = autolog.in_plain(runs)
        told_apart_by = repetitions.columns(runs, request.repetitions, (*request.group_by, *request.nuisance))
        _require_asked(runs, request)
        aside = _aside(runs, request, told_apart_by, ())
        kind, configs = "groups", _by_params(runs, request, told_apart_by, aside)
    else:
        if request.better:
            raise UserError("better: which way the metrics of this project's runs are better is known; leave it out")
        kind, configs = "configurations", _by_configuration(runs, task, request.nuisance)
    _leave_out_links(runs)
    if kind == "groups":
        _leave_out_parents(runs)
        members = runs[runs["variation"].notna()]
        aside = tuple(p for p in aside if members[f"params.{p}"].map(comparable).nunique() > 1)
        if not request.nuisance:  # tries, not seeds, are what is told apart then
            _tell_apart_what_one_seed_did_not_fix(runs)
    runs["used"] = runs["variation"].notna() & _has_ended_well(runs)
    _say_why(runs)
    if isinstance(request.study, StudyOfRuns):
        existing.require_claimed(request.study, _own(runs, "params."), _own(runs[runs["used"]], "metrics."))
    objective = autolog.objective(runs) if kind == "groups" else {}
    request = choosing.with_directions(request, objective)
    names, primary, compared = choosing.choose(runs, request, kind, len(configs), task, objective)
    baseline, chosen = None, False
    if configs:
        badness = _badness(runs, primary, task, request)
        baseline, chosen = _baseline(request, configs, badness)
        if request.study is None:
            rank = {name: badness.get(name, math.nan) for name in configs}
            configs = {name: configs[name] for name in sorted(configs, key=lambda n: (math.isnan(rank[n]), rank[n]))}
    return GroupedRuns(
        request, task, kind, runs, configs, baseline, chosen, primary, names, compared, planned, told_apart_by, aside
    )


def _fill_in(runs: pd.DataFrame, defaults: Mapping[str, str]) -> None:
    """Give parameters that appeared later their defaults in the runs before."""
    params = _own(runs, "params.")
    _require_params("default", list(defaults), params)
    for name, value in defaults.items():
        column = f"params.{name}"
        runs[column] = runs[column].where(runs[column].notna(), value)


def _own(runs: pd.DataFrame, kind: str) -> list[str]:
    """The names of all params or metrics of which a run has a value."""
    return [name.removeprefix(kind) for name in runs if name.startswith(kind) and runs[name].notna().any()]


def _by_plan(runs: pd.DataFrame, study: Study, task: Task) -> dict[str, dict[str, Any]]:
    configs = {name: without_repetition(config.params, task) for name, config in study.runs()}
    order = [*study.configurations(), *[n for n in configs if n.endswith((A_A, AGAIN))]]
    tag = column_of(runs, f"tags.{VARIATION}")
    ours = runs["ours"].astype(bool) if task.metrics else pd.Series(True, runs.index)
    tunes = column_of(runs, f"tags.{ROLE}") == TUNING
    runs["variation"] = tag.where(tag.isin(list(configs)) & ours & ~tunes, None)
    if task.metrics:
        runs["seed"] = column_of(runs, f"params.{task.repetition}").where(ours, None)
    else:  # whose params are texts, and may be missing
        runs["seed"] = column_of(runs, f"tags.{SEED}").map(lambda seed: None if seed is None else int(seed))
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
    runs: pd.DataFrame, request: CompareRequest, told_apart_by: tuple[str, ...], aside: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """Runs that anybody made, by some of their parameters, or by all causes that are not the same in all of them."""
    group_by, searched = request.group_by, request.nuisance
    own = _inherit(runs, told_apart_by)
    choices = [name for name in own if name not in (*searched, *aside)]
    # Neither what says nothing of what it was, nor what has runs of its own makes a parameter one that varies.
    says = runs[[f"params.{name}" for name in own]].notna().any(axis=1)
    parents = runs["run_id"].isin(column_of(runs, f"tags.{MLFLOW_PARENT_RUN_ID}")[says].dropna())
    names = list(group_by) or _differing(runs[says & ~parents], choices) or _differing(runs[says], choices)
    columns = {name: f"params.{name}" for name in names}
    has_any = runs[list(columns.values())].notna().any(axis=1) if columns else pd.Series(True, runs.index)
    runs.loc[~has_any, "why"] = f"it has none of the parameters {names_listed(names)}"
    pruned = autolog.pruned(runs)
    runs.loc[pruned, "why"] = "its search pruned it"
    # Of a search each try counts.
    return _group(runs, has_any if searched else has_any & ~pruned, columns, searched)


def _inherit(runs: pd.DataFrame, told_apart_by: tuple[str, ...]) -> list[str]:
    """Write which repetition each run is, and what nested ones leave to their parent; the other parameters' names."""
    params = [name.removeprefix("params.") for name in runs.columns if name.startswith("params.")]
    told_apart = {name for name in params if repetitions.is_of(name, repetitions.SEEDS)}
    told_apart |= {name.removeprefix("params.") for name in told_apart_by}
    own = [name for name in params if name not in told_apart]
    runs["seed"] = repetitions.told_apart(runs, told_apart_by)
    autolog.inherit(runs, [f"params.{name}" for name in own], told_apart_by)
    runs["seed"] = repetitions.told_apart(runs, told_apart_by)
    return own


def _differing(runs: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if runs[f"params.{name}"].map(comparable).nunique(dropna=False) > 1]


def _aside(
    runs: pd.DataFrame, request: CompareRequest, told_apart_by: tuple[str, ...], taken: Collection[str]
) -> tuple[str, ...]:
    """The parameters that can be no cause, or repeat what was searched."""
    asked = {*request.group_by, *request.nuisance, *request.repetitions, *taken}
    params = [name.removeprefix("params.") for name in runs.columns if name.startswith("params.")]
    repeating = autolog.repeating(runs, [name for name in params if name not in asked], request.nuisance)
    return tuple(sorted({*causes.aside(runs, asked, told_apart_by), *repeating}))


def _require_asked(runs: pd.DataFrame, request: CompareRequest) -> None:
    params = [name.removeprefix("params.") for name in runs.columns if name.startswith("params.")]
    _require_params("group_by", request.group_by, params)
    _require_params("nuisance", request.nuisance, params)


def _require_params(option: str, names: Sequence[str], params: Sequence[str]) -> None:
    for name in names:
        if name not in params:
            hint = did_you_mean(name, params)
            raise UserError(f"{option}={quoted(name)} is a parameter of no run{hint}; there are {names_listed(params)}")


def _group(
    runs: pd.DataFrame, members: pd.Series, columns: Mapping[str, str], searched: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Write the variation of each member, and what it tried; the configurations by name, the first made first."""
    _write_tries(runs, searched, members)
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
    names = labels.of(configs, labels.telling(configs))
    runs.loc[rows.index, "variation"] = pd.Series([names[n] for n in numbers], rows.index, dtype=object)
    return dict(zip(names, configs, strict=True))


def _write_tries(runs: pd.DataFrame, searched: Sequence[str], members: pd.Series) -> None:
    """What tells the runs of a search apart: the values of what was searched."""
    if searched:
        tried = runs[[f"params.{name}" for name in searched]].set_axis(list(searched), axis=1).map(comparable)
        points = pd.Series([point_text(point) for point in tried.to_dict("records")], runs.index, dtype=object)
        runs["seed"] = points.where(members, None)


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


def _badness(runs: pd.DataFrame, metric: str | None, task: Task, request: CompareRequest) -> dict[str, float]:
    """By variation the mean of the metric, turned so that less is better where that is known."""
    used = runs[runs["used"]]
    if metric is None or used.empty:
        return {}
    table = evidence.describe(used, [f"metrics.{metric}"])
    sign = -1 if choosing.measured(metric, task, request, is_primary=True).better == "higher" else 1
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
    wanted = {key: comparable(value) for key, value in _settings(asked, next(iter(configs.values()))).items()}
    fits = [
        name
        for name, config in configs.items()
        if wanted and all(key in config and comparable(config[key]) == value for key, value in wanted.items())
    ]
    if not fits:
        raise UserError(
            f"baseline={quoted(asked)} fits no variation{did_you_mean(asked, configs)}; "
            f"give parameter=value, or one of {names_listed(list(configs))}"
        )
    with_result = [name for name in fits if not math.isnan(badness.get(name, math.nan))]
    return min(with_result or fits, key=lambda name: badness.get(name, 0.0)), len(fits) > 1


def _settings(text: str, known: Collection[str]) -> dict[str, str]:
    """Of `optimizer=adam, hidden=(64, 32)` each parameter's value, which ends where another one of the known begins."""
    names = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    parts = re.split(rf",\s*(?=(?:{names})\s*=)", text) if names else []
    pairs = [re.fullmatch(rf"\s*({names})\s*=(.*)", part, re.DOTALL) for part in parts]
    return {pair[1]: pair[2].strip() for pair in pairs if pair} if all(pairs) else {}
