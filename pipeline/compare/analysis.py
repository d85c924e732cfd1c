"""What grouped runs say: cells, flags, what became of each run, differences with caveats, claims. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipeline import inference
from pipeline.compare import around, autolog, digests, evidence
from pipeline.compare.columns import column_of, comparable, distinct, plain, without_repetition
from pipeline.compare.conclusion import (
    Beats,
    Caveat,
    Cell,
    Claim,
    Confounder,
    Difference,
    Flag,
    Pair,
    RunOutcome,
    Tuning,
)
from pipeline.compare.grouping import GroupedRuns
from pipeline.compare.repetitions import SEEDS, is_of
from pipeline.compare.steps import Peak, peak
from pipeline.compare.tuning import tunings
from pipeline.study import plan
from pipeline.tracking.names import DATA_HASH, GIT_DIRTY, HARDWARE, LOCK_HASH, MLFLOW_GIT_COMMIT, REUSED_FROM

# Where a run comes from: name, column, kind.
ORIGINS = (
    (DATA_HASH, f"tags.{DATA_HASH}", "data"),
    ("code version", f"tags.{MLFLOW_GIT_COMMIT}", "code"),
    (GIT_DIRTY, f"tags.{GIT_DIRTY}", "code"),
    (LOCK_HASH, f"tags.{LOCK_HASH}", "environment"),
    (HARDWARE, f"tags.{HARDWARE}", "hardware"),
)
_NOTHING = inference.Difference(0, 0, 0, False, inference.Estimate(math.nan, math.nan, math.nan), ())


@dataclass
class Analysis:
    """What grouped runs say.

    Args:
        histories: `run_id, epoch` and `grouped.convergence_metric`, of `grouped.with_history`; may be empty.
        elsewhere: runs of other studies among which a variation with a stated parameter may be; may be None.
    """

    grouped: GroupedRuns
    histories: pd.DataFrame
    elsewhere: pd.DataFrame | None = None
    _means: dict[tuple[str, str], float] = field(default_factory=dict)
    _normal: dict[tuple[str, str], float] = field(default_factory=dict)
    _configured: dict[str, Any] = field(default_factory=dict)
    _not_tuned: dict[Any, list[str]] = field(default_factory=dict)
    _peaked: dict[str, dict[str, Peak]] = field(default_factory=dict)
    _between: dict[tuple[str, str, tuple[str, ...]], dict[str, Any]] = field(default_factory=dict)

    # --- Variations

    def cells(self) -> dict[str, tuple[Cell, ...]]:
        """By variation, one for each metric."""
        ids = self._run_ids()
        known: dict[tuple[str, ...], str] = {}
        cells: dict[str, list[Cell]] = {name: [] for name in self.grouped.configs}
        unranked = {name for name in self.grouped.metrics if self.grouped.metric(name).better is None}
        for row in self.described.itertuples(index=False):
            run_ids = ids[row.variation, row.metric]
            if run_ids not in known:
                known[run_ids] = digests.of_text("\n".join(f"{run_id} {self.digests[run_id]}" for run_id in run_ids))
            metric = row.metric.removeprefix("metrics.")
            fields = row._asdict() | {"metric": metric, "run_ids": run_ids}
            fields |= self._seeds(row.variation, metric) if metric in self.grouped.compared else {}
            if self.grouped.by_task and metric in self.grouped.rows:
                fields["part"] = self.part(row.variation, metric)
            if metric in unranked:
                fields |= {"worst": math.nan, "worst_seed": None}
            fields |= {"worst_seed": plain(fields["worst_seed"]), "digest": known[run_ids]}
            cells[fields.pop("variation")].append(Cell(**fields))
        nothing = [_empty_cell(metric) for metric in self.grouped.metrics]
        return {name: tuple(each or nothing) for name, each in cells.items()}

    def _seeds(self, variation: str, metric: str) -> dict[str, Any]:
        """Every seed's own value, and whether they look normal."""
        values = inference.one_per_seed(self.grouped.values(variation, metric)).sort_index()
        seeds = tuple(plain(seed) for seed in values.index)
        return {"seeds": seeds, "values": tuple(values), "p_normal": self._p_normal(variation, metric)}

    @cached_property
    def described(self) -> pd.DataFrame:
        """`evidence.describe` of all metrics, by their columns' names."""
        names = self.grouped.metrics
        high = [f"metrics.{name}" for name in names if self.grouped.metric(name).higher_is_better]
        return evidence.describe(self.grouped.used, [f"metrics.{name}" for name in names], high)

    def _run_ids(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """By variation and column, the runs that have a value."""
        used = self.grouped.used
        columns = [f"metrics.{name}" for name in self.grouped.metrics]
        there, ids = used[columns].notna().to_numpy(), used["run_id"].to_numpy()
        found = {}
        for name, places in self.grouped.places.items():
            everyone = tuple(sorted(ids[places]))
            whole = there[places].all(axis=0)
            for column, all_there, which in zip(columns, whole, there[places].T, strict=True):
                found[name, column] = everyone if all_there else tuple(sorted(ids[places][which]))
        return found

    @cached_property
    def digests(self) -> dict[str, str]:
        """A digest of the params and metrics of each run, in which a metric has its oldest name, as it always had."""
        runs = self.grouped.runs
        content = runs[[name for name in runs.columns if name.startswith(("params.", "metrics."))]]
        oldest = {f"metrics.{row.name}": f"metrics.{row.formerly}" for row in self.grouped.task.metrics if row.formerly}
        ours = runs["ours"].astype(bool)
        own = content[ours].dropna(axis=1, how="all").rename(columns=oldest)
        parts = ((runs["run_id"][ours], own), (runs["run_id"][~ours], content[~ours]))
        return {
            run_id: digest for ids, part in parts for run_id, digest in zip(ids, digests.of_rows(part), strict=True)
        }

    @cached_property
    def flags(self) -> dict[str, list[Flag]]:
        """What is wrong with the runs of each variation."""
        grouped = self.grouped
        used, own = grouped.used, grouped.task.metrics if grouped.by_task else ()
        watched = {row.flag.name: (row.name, row.flag) for row in own if row.flag}
        losses = self._losses
        limits = {flag: (f"metrics.{name}", limit.below, limit.above) for flag, (name, limit) in watched.items()}
        raised = [
            evidence.flags(used, limits, {f"metrics.{name}": of for name, of in losses.items()}),
            self._still_improving(),
            self._copies,
        ]
        found: dict[str, list[Flag]] = {}
        for row in pd.concat(raised).itertuples(index=False):
            metric, worst = grouped.convergence_metric or "", math.nan
            if row.flag in watched:
                metric, limit = watched[row.flag]
                values = grouped.values(row.variation, metric)
                worst = float(values.min() if math.isfinite(limit.below) else values.max())
            elif row.flag == "not a number":
                own_losses = [name for name, having in losses.items() if row.variation in having]
                metric = ", ".join(n for n in own_losses if not np.isfinite(grouped.values(row.variation, n)).all())
            elif row.flag == "identical repetitions":
                metric = ", ".join(grouped.compared)
            of = len(grouped.places[row.variation])
            flag = Flag(flag=row.flag, seeds=row.seeds, runs=row.runs, of=of, metric=metric, worst=worst)
            found.setdefault(row.variation, []).append(flag)
        return found

    @property
    def _losses(self) -> dict[str, list[str]]:
        """The metrics that must be numbers, and in which variations.

        Of anybody's runs, all that are compared: a difference in one is that of the runs that have it. A metric that is
        not the main one may be none of a variation's.
        """
        grouped = self.grouped
        if grouped.by_task:
            found = {row.name: list(grouped.configs) for row in grouped.task.metrics if row.finite}
        else:
            primary = grouped.primary_metric
            found = {
                name: [each for each in grouped.configs if name == primary or grouped.has(each, name)]
                for name in grouped.compared
            }
        return {name: of for name, of in found.items() if f"metrics.{name}" in grouped.used}

    @cached_property
    def _copies(self) -> pd.DataFrame:
        used = self.grouped.used
        names = [name for name in used if name.startswith("metrics.")]
        lasting = [name for name in names if not self.grouped.metric(name.removeprefix("metrics.")).is_wall_time]
        return evidence.copies(used, lasting)

    def _still_improving(self) -> pd.DataFrame:
        metric = self.grouped.convergence_metric
        if metric is None or self.histories.empty or f"metrics.{metric}" not in self.histories:
            return self._copies[:0]
        keys = self.grouped.with_history[["run_id", "variation", "seed"]]
        higher = bool(self.grouped.metric(metric).higher_is_better)
        return evidence.still_improving(self.histories.merge(keys, on="run_id"), f"metrics.{metric}", higher)

    @cached_property
    def completeness(self) -> list[RunOutcome]:
        """What became of every run that was planned, and of every other one of a variation."""
        grouped = self.grouped
        observed = grouped.runs[grouped.runs["variation"].notna()]
        planned_epochs = column_of(observed, "epochs").astype(float)
        ended = observed["status"].where(~observed["used"].astype(bool), "FINISHED")  # what was pruned is a result
        observed = observed.assign(
            status=ended, reason=observed["why"], epochs=planned_epochs, last=self._last(observed)
        )
        # A run whose seed is not known is one of its own.
        unknown = observed["seed"].isna()
        observed["seed"] = observed["seed"].where(~unknown, observed["run_id"])
        found = observed[["variation", "seed"]].drop_duplicates()
        planned = found[:0] if grouped.planned is None else grouped.planned.astype(object)
        asked = set(planned.itertuples(index=False, name=None))
        every = pd.concat([planned, found]).drop_duplicates()
        table = evidence.completeness(every, observed, "epochs", "last")
        without_seed = set(observed["run_id"][unknown])
        return [
            RunOutcome(
                variation=row.variation,
                seed=None if row.seed in without_seed else plain(row.seed),
                state=row.state,
                reason=plain(row.reason),
                run_id=row.run_id,
                planned=grouped.planned is None or (row.variation, row.seed) in asked,
            )
            for row in table.itertuples(index=False)
        ]

    def _last(self, runs: pd.DataFrame) -> pd.Series:
        """The last epoch; of a run whose history was read, how many epochs it has. As planned where nothing tells."""
        last = np.fmin(runs["last_epoch"].astype(float), runs["run_id"].map(self._counted).astype(float))
        return pd.Series(last, runs.index).fillna(column_of(runs, "epochs").astype(float))

    @cached_property
    def _counted(self) -> dict[str, int]:
        """By run whose history was read, how many epochs it has."""
        return {} if self.histories.empty else dict(self.histories.groupby("run_id")["epoch"].nunique())

    @cached_property
    def unfinished(self) -> dict[str, list[RunOutcome]]:
        found: dict[str, list[RunOutcome]] = {}
        for row in self.completeness:
            if row.state != "finished":
                found.setdefault(row.variation, []).append(row)
        return found

    # --- Pairs and claims

    def pairs(self) -> list[Pair]:
        """Each variation against the baseline, in each metric that is compared."""
        grouped = self.grouped
        found: list[Pair] = []
        for metric in grouped.compared:
            parts = [self._compare(name, str(grouped.baseline), metric, None) for name in grouped.candidates]
            alpha = self._level(parts)
            found += [Pair(**_judged(part, alpha)) for part in parts]
        return found

    def claims(self) -> list[Claim]:
        """The study's, each with its verdict."""
        study = self.grouped.request.study
        claims = [c for c in study.claims if {c.variation, c.against} <= set(self.grouped.configs)] if study else []
        parts = [self._compare(c.variation, c.against, c.metric, c.about, c.smallest_effect) for c in claims]
        alpha = self._level(parts)
        found = []
        for claim, part in zip(claims, parts, strict=True):
            estimate, smallest = part["difference"].estimate, claim.smallest_effect
            low, high = estimate.interval(alpha)
            verdict = inference.judge(low, high, claim.direction, smallest)
            part |= _test(verdict, claim.direction)
            confounded = {other.kind for other in part["confounded_by"]} & {"parameter", "data"}
            if confounded and verdict != inference.Verdict.NOT_JUDGED:
                verdict = inference.Verdict.CONFOUNDED
            found.append(
                Claim(
                    **_judged(part, alpha, smallest),
                    says=claim.says,
                    about=claim.about,
                    direction=claim.direction,
                    smallest_effect=smallest,
                    effect=estimate.mean / smallest,
                    verdict=verdict,
                    **around.declaration(claim, self.grouped.request.plans, self._first_start(claim)),
                )
            )
        return [each.model_copy(update={"at_better_rates": self._at_better_rates(each, found)}) for each in found]

    def _first_start(self, claim: plan.Claim) -> float:
        """When the first run of either side was started, in milliseconds since 1970; NaN where one does not say."""
        runs = pd.concat([self.grouped.by_variation[name] for name in (claim.variation, claim.against)])
        originals = column_of(runs, f"tags.{REUSED_FROM}").fillna(runs["run_id"])
        return float(originals.map(self._starts).astype(float).min(skipna=False))

    @cached_property
    def _starts(self) -> dict[str, float]:
        frames = [self.grouped.runs, *([] if self.elsewhere is None else [self.elsewhere])]
        return {run_id: at for each in frames for run_id, at in zip(each["run_id"], each["start"], strict=True)}

    def _level(self, parts: Sequence[Mapping[str, Any]]) -> float:
        """The level of each interval of a family, so that all of them hold at once, at every look at the study."""
        family = sum(math.isfinite(part["difference"].estimate.error) for part in parts)
        study = self.grouped.request.study
        looks = max(self.grouped.request.looks, study.looks if study else 1)
        return inference.ALPHA / max(1, family) / looks

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
        optimizer = self.optimizer.removeprefix("params.")
        return tuple(found) if len({dict(side).get(optimizer) for side in here}) == 2 else ()

    def _sides_but_for_the_rate(self, pair: Pair) -> dict[frozenset[tuple[str, Any]], str]:
        return {self._but_for_the_rate(name): name for name in (pair.variation, pair.against)}

    def _but_for_the_rate(self, variation: str) -> frozenset[tuple[str, Any]]:
        """A variation's configuration without its learning rate."""
        config = self.grouped.configs[variation]
        return frozenset(
            (name, value) for name, value in config.items() if name != DATA_HASH and not autolog.is_rate(name)
        )

    def _better(self, variation: str, other: str, metric: str) -> bool:
        a, b = (float(inference.one_per_seed(self.grouped.values(name, metric)).mean()) for name in (variation, other))
        return a > b if self.grouped.metric(metric).higher_is_better else a < b

    def _compare(
        self, variation: str, against: str, asked: str, about: Sequence[str] | None, smallest: float | None = None
    ) -> dict[str, Any]:
        """The fields of a `Pair`, but for what depends on its family; `difference` is inference's own."""
        values = self.grouped.values
        metric, why, penalties = self._metric_to_use(variation, against, asked)
        a, b = (values(name, metric or asked) for name in (variation, against))
        searched, higher = bool(self.grouped.request.nuisance), self.grouped.metric(metric or asked).higher_is_better
        best_of = None
        difference = _NOTHING
        if metric and searched:
            best_of, difference = inference.best_difference(a, b, bool(higher))
        elif metric:
            difference = inference.difference(a, b, self.grouped.folds)
        other = None
        if why == "penalty differs":
            other = as_data(inference.difference(values(variation, asked), values(against, asked)))
        key = (against, metric or asked)
        if key not in self._means:
            self._means[key] = float(inference.one_per_seed(b).mean())
        mean = self._means[key]
        if {variation, against} & set(self._copies["variation"]):
            a = b = a[:0]  # one run, many times, tells nothing of chance
            difference = difference._replace(estimate=_NOTHING.estimate._replace(mean=difference.estimate.mean))
        beside = self._beside(variation, against, about, difference)
        unusual = [] if searched else self._not_normal(metric or asked, variation, against)
        beats = inference.beats(a, b, higher) if metric and not searched and higher is not None else None
        past = [] if searched or not metric else self._past_best(metric, variation, against, smallest, difference)
        return {
            "variation": variation,
            "against": against,
            "asked": asked,
            "metric": metric,
            "why": why,
            "penalties": penalties,
            "asked_difference": other,
            "difference": difference,
            "best_of": best_of,
            "relative": difference.estimate.mean / abs(mean) if mean else math.nan,
            "p_permutation": inference.p_permutation(a, b) if unusual and metric else math.nan,
            "beats": Beats(**beats._asdict()) if beats and not math.isnan(beats.probability) else None,
            **beside,
            "caveats": (*beside["caveats"], *unusual, *past),
        }

    def _past_best(
        self, metric: str, variation: str, against: str, smallest: float | None, difference: inference.Difference
    ) -> Iterable[Caveat]:
        """Of each side that was better before its end, by more than what is claimed or else than what is shown."""
        low, high = difference.estimate.interval(inference.ALPHA)
        shown = abs(difference.estimate.mean) if not low <= 0 <= high else math.inf
        matters = shown if smallest is None else smallest
        for name in (variation, against):
            peak = self._peaks(metric).get(name)
            if peak and abs(peak.last - peak.best) > matters:
                steps, values = (peak.best_step, peak.last_step), (peak.best, peak.last)
                yield Caveat(kind="past its best", variation=name, steps=steps, values=values)

    def _peaks(self, metric: str) -> dict[str, Peak]:
        """By variation whose last values are compared, where its runs were best and where they ended."""
        if metric not in self._peaked:
            column, row = f"metrics.{metric}", self.grouped.metric(metric)
            said = self.grouped.request.measures.get(metric)
            is_read = column in self.histories and metric in self.grouped.followed and (not said or said.at == "last")
            runs = self.grouped.with_history[["run_id", "variation"]] if is_read else None
            read = [] if runs is None else self.histories.merge(runs, on="run_id").groupby("variation", sort=False)
            found = {str(name): peak(own, column, row.better) for name, own in read}
            self._peaked[metric] = {name: each for name, each in found.items() if each}
        return self._peaked[metric]

    def _not_normal(self, metric: str, *variations: str) -> list[Caveat]:
        """Of each side whose seeds are visibly not normal, the seed that lies farthest from the others."""
        found = []
        for name in variations:
            if self._p_normal(name, metric) < inference.NOT_NORMAL:
                values = inference.one_per_seed(self.grouped.values(name, metric))
                farthest = plain((values - values.median()).abs().idxmax())
                found.append(Caveat(kind="not normal", variation=name, seeds=(farthest,)))
        return found

    def _p_normal(self, variation: str, metric: str) -> float:
        key = (variation, metric)
        if key not in self._normal:
            self._normal[key] = inference.p_normal(self.grouped.values(variation, metric))
        return self._normal[key]

    def _metric_to_use(self, variation: str, against: str, asked: str) -> tuple[str | None, str, Any]:
        """A metric that means the same on both sides, why that one, and the strengths of a term that differs."""
        grouped, both = self.grouped, (variation, against)
        if grouped.metric(asked).is_wall_time:
            return None, "wall time", None
        row = grouped.rows.get(asked)
        if row and grouped.by_task and len({self.part(name, asked) for name in both}) > 1:
            return None, "other data", None
        for parameter in row.contains if row and self._all_ours else ():
            a, b = (grouped.sets(f"params.{parameter}")[name] for name in both)
            if row and a and b and set(a) != set(b):
                there = row.without is not None and all(grouped.has(name, row.without) for name in both)
                return (row.without if there else None), "penalty differs", (a[0], b[0])
        there = all(grouped.has(name, asked) for name in both)
        return (asked, "as asked", None) if there else (None, "absent", None)

    def part(self, variation: str, metric: str) -> str:
        """The part of the data on which the runs of a variation of the task have measured a metric."""
        task = self.grouped.task
        if variation not in self._configured:
            params = {name: v for name, v in self.grouped.configs[variation].items() if name in task.parameters}
            self._configured[variation] = task.configure(params)
        return task.measured_on(self._configured[variation], metric)

    @cached_property
    def _all_ours(self) -> bool:
        return bool(self.grouped.used["ours"].all())

    def _beside(
        self, variation: str, against: str, about: Sequence[str] | None, difference: inference.Difference
    ) -> dict[str, Any]:
        """What was not fair, not whole or not right about a pair."""
        key = (variation, against, () if about is None else ("claim", *about))
        if key not in self._between:
            named = list(self.grouped.configs[variation]) if about is None else list(about)
            self._between[key] = {
                "confounded_by": tuple(self._confounders(variation, against, named)),
                "caveats": tuple(self._caveats(variation, against)),
                "unfinished": (*self.unfinished.get(variation, ()), *self.unfinished.get(against, ())),
            }
        known = self._between[key]
        more = []
        if self.grouped.folds and not math.isnan(difference.estimate.error):
            more.append(Caveat(kind="folds"))
        if difference.dropped:
            more.append(Caveat(kind="seeds dropped", seeds=difference.dropped))
        if not self.grouped.request.nuisance and not difference.paired and min(difference.n_a, difference.n_b) >= 2:
            more.append(Caveat(kind="unpaired"))
        return {**known, "caveats": (*known["caveats"], *more)} if more else known

    def _confounders(self, variation: str, against: str, named: Sequence[str]) -> Iterable[Confounder]:
        tuned = self.grouped.tuned.get(variation, {}).keys() & self.grouped.tuned.get(against, {}).keys()
        searched = self.grouped.request.nuisance
        hidden = {self._columns[name] for name in (*named, *tuned, *searched) if name in self._columns}
        open_ = [column for column in self._differing if column not in hidden]
        if not open_:
            return
        sides = [self.grouped.places[name] for name in (variation, against)]
        left, right = (self._comparable.iloc[places] for places in sides)
        for column in evidence.confounders(left, right, open_, ()):
            name, kind = self._differing[column]
            a, b = (distinct(self.grouped.by_variation[side], column) for side in (variation, against))
            yield Confounder(name=name, kind=kind, variation=a, against=b)

    @cached_property
    def _columns(self) -> dict[str, str]:
        """Parameters by name, the data's hash, and tags, where they tell variations apart."""
        params = [c.removeprefix("params.") for c in self.grouped.used if c.startswith("params.")]
        aside = {*self.grouped.aside, *(n for n in params if is_of(n, SEEDS) or autolog.is_no_choice(n))}
        aside |= {name.removeprefix("params.") for name in self.grouped.repetitions}
        told_by = next(iter(self.grouped.configs.values()), {})
        return {
            **{name: f"params.{name}" for name in params if name not in aside},
            **{name: name for name in told_by if name.startswith("tags.")},
            DATA_HASH: f"tags.{DATA_HASH}",
        }

    @cached_property
    def _differing(self) -> dict[str, tuple[str, str]]:
        """Name and kind of every column in which any two runs differ: all others can confound nothing."""
        used = self.grouped.used
        every = {column: (name, "parameter") for name, column in self._columns.items() if name != DATA_HASH}
        every |= {column: (name, kind) for name, column, kind in ORIGINS}
        several = {c: each for c, each in every.items() if c in used and used[c].nunique(dropna=False) > 1}
        return {c: each for c, each in several.items() if used[c].map(comparable).nunique(dropna=False) > 1}

    @cached_property
    def _comparable(self) -> pd.DataFrame:
        """The columns in which runs differ, `1e-3` and 0.001 being one value; a row for each run of the table."""
        return self.grouped.used[list(self._differing)].map(comparable)

    def _caveats(self, variation: str, against: str) -> Iterable[Caveat]:
        tunings = [self.tunings.get(name) for name in (variation, against)]
        tuned = [(each.runs, each.steps) if each else (0, 0) for each in tunings]
        if tuned[0] != tuned[1]:
            runs, steps = zip(*tuned, strict=True)
            yield Caveat(kind="unequal tuning", tuning_runs=runs, steps=steps)
        budgets = self._unequal_budgets(variation, against)
        if budgets:
            yield Caveat(kind="unequal budget", steps=budgets)
        optimizers = self._untuned(variation, against)
        if optimizers:
            ran = [self._rate_of(name, variation, against) for name in optimizers]
            yield Caveat(kind="untuned learning rate", optimizers=tuple(optimizers), learning_rates=tuple(ran))
        for name in (variation, against):
            for flag in self.flags.get(name, ()):
                yield Caveat(kind="flag", variation=name, flag=flag.flag, seeds=flag.seeds)
        for name in (variation, against):
            lost = self.unfinished.get(name, ())
            if lost:
                yield Caveat(kind="runs not finished", variation=name, seeds=tuple(row.seed for row in lost))

    def _rate_of(self, optimizer: str, variation: str, against: str) -> Any:
        """The first learning rate with which an optimizer ran on either side."""
        for name in (variation, against):
            optimizers = self.grouped.sets(self.optimizer)[name]
            if optimizers == (optimizer,):
                return self.grouped.sets(self.rate)[name][0]
            if optimizer in optimizers:
                runs = self.grouped.by_variation[name]
                return distinct(runs[runs[self.optimizer] == optimizer], self.rate)[0]
        return None

    def _unequal_budgets(self, variation: str, against: str) -> tuple[float, ...]:
        """The mean steps of the runs of either side where they are clearly unequal and no parameter says so.

        Where training stops early, how many there are is what it comes to.
        """
        if self._stops_early:
            return ()
        counted, last = zip(*(self._steps[name] for name in (variation, against)), strict=True)
        # What counts epochs on one side may count batches on the other; some metrics are logged where they improve.
        known = [(one, other) for one, other in (counted, last) if not (math.isnan(one) or math.isnan(other))]
        a, b = (self.grouped.by_variation[name] for name in (variation, against))
        parameters = [column for column in self._columns.values() if column in self._differing]
        return known[0] if known and all(evidence.are_unequal_budgets(s, a, b, parameters) for s in known) else ()

    @cached_property
    def _stops_early(self) -> bool:
        return autolog.stops_early(self.grouped.used)

    @cached_property
    def _steps(self) -> dict[str, tuple[float, float]]:
        """By variation, the mean epochs and the mean last step of its runs; NaN where one of them does not say."""
        used = self.grouped.used
        known = pd.DataFrame(
            {"counted": used["run_id"].map(self._counted).astype(float), "last": used["last_epoch"]}, used.index
        )
        known["last"] = known["last"].where(known["last"] > 0)
        columns = [known[name].to_numpy() for name in known]
        counted, last = ({name: _mean(c[places]) for name, places in self.grouped.places.items()} for c in columns)
        return {name: (counted[name], last[name]) for name in counted}

    @cached_property
    def rate(self) -> str:
        """The column of the learning rate; of several, the first of numbers."""
        columns = [name for name in self.grouped.used if name.startswith("params.") and autolog.is_rate(name[7:])]
        numbers = [c for c in columns if pd.to_numeric(self.grouped.used[c], errors="coerce").notna().any()]
        return next(iter([*numbers, *columns]), "params.learning_rate")

    @cached_property
    def optimizer(self) -> str:
        """The column of the optimizer's name."""
        names = [name.removeprefix("params.") for name in self.grouped.used if name.startswith("params.")]
        return f"params.{autolog.optimizer(names)}"

    @cached_property
    def _tried(self) -> pd.DataFrame:
        """What each optimizer gave at each learning rate, here and in other studies; of the task's, with what else."""
        grouped = self.grouped
        frames = [grouped.used, *([self.elsewhere] if self.elsewhere is not None else [])]
        others = without_repetition(grouped.task.parameters, grouped.task) if grouped.by_task else ()
        columns = list(dict.fromkeys([self.optimizer, self.rate, *(f"params.{name}" for name in others)]))
        parts = [frame for frame in frames if set(columns) <= set(frame.columns)]
        metric = f"metrics.{grouped.primary_metric}"
        return pd.concat(parts).reindex(columns=[*columns, metric]) if parts else pd.DataFrame()

    @cached_property
    def tunings(self) -> dict[str, Tuning]:
        """By variation that was tuned on its own, how."""
        return {each.variation: each for each in tunings(self.grouped)}

    def _untuned(self, variation: str, against: str) -> list[str]:
        sides = [
            name
            for name in (variation, against)
            if self.rate.removeprefix("params.") in self.grouped.tuned.get(name, ())
        ]
        if self.rate.removeprefix("params.") in self.grouped.request.nuisance:
            return []
        tuned = {optimizer for name in sides for optimizer in self.grouped.sets(self.optimizer)[name]}
        return [optimizer for optimizer in self._not_at_their_best_rate(variation, against) if optimizer not in tuned]

    def _not_at_their_best_rate(self, variation: str, against: str) -> list[str]:
        optimizer = self.optimizer
        sets = [self.grouped.sets(optimizer)[name] for name in (variation, against)]
        if not all(sets) or sets[0] == sets[1]:
            return []
        pair = [self._but_for_the_rate(name) for name in (variation, against)]
        key = tuple(pair) if self.grouped.by_task else tuple(sets)  # nothing else of the two sides counts
        if key not in self._not_tuned:
            tried = self._tried
            if self.grouped.by_task:  # what suits another model, or another number of epochs, is no tuning of this one
                alike = [
                    np.logical_and.reduce([tried[f"params.{name}"] == value for name, value in side]) for side in pair
                ]
                tried = tried[np.logical_or(*alike)]
            a, b = (self.grouped.by_variation[name] for name in (variation, against))
            metric = self.grouped.primary_metric or ""
            higher = self.grouped.metric(metric).higher_is_better if metric else None
            columns = (optimizer, self.rate, f"metrics.{metric}" if higher is not None else "")  # nobody knows the best
            self._not_tuned[key] = evidence.untuned(a, b, tried, columns, bool(higher))
        return self._not_tuned[key]


def _mean(values: Any) -> float:
    return float(values.mean()) if len(values) else math.nan


def _test(verdict: inference.Verdict, direction: str) -> dict[str, str]:
    """Which test the verdict rests on."""
    if direction == "equal" and verdict == inference.Verdict.CONTRADICTED:
        return {"test": "larger"}
    return {"test": "equivalence" if direction == "equal" or verdict == inference.Verdict.NEGLIGIBLE else "difference"}


def _judged(part: Mapping[str, Any], alpha: float, smallest: float = 0.0) -> dict[str, Any]:
    """The fields of a `Pair` or `Claim` whose interval has the level `alpha`."""
    estimate = part["difference"].estimate
    tests = {"equivalence": estimate.p_equivalent, "larger": estimate.p_beyond}
    which = part.get("test", "difference")
    p = float(tests[which](smallest) if which in tests else estimate.p_different())
    low, high = estimate.interval(alpha)
    if math.isnan(low):
        finding = "not judged"
    elif low <= 0 <= high:
        finding = "no difference shown"
    else:
        finding = "lower" if high < 0 else "higher"
    corrected = min(1.0, p * inference.ALPHA / alpha) if not math.isnan(p) else p
    return {**part, "difference": as_data(part["difference"], alpha), "p_corrected": corrected, "finding": finding}


def as_data(difference: inference.Difference, alpha: float = inference.ALPHA) -> Difference:
    fields = difference._asdict()
    estimate: inference.Estimate = fields.pop("estimate")
    low, high = map(float, estimate.interval(alpha))
    return Difference(
        **fields,
        mean=estimate.mean,
        standard_error=estimate.error,
        degrees_of_freedom=estimate.freedom,
        confidence=1 - alpha,
        low=low,
        high=high,
        p=float(estimate.p_different()),
    )


def _empty_cell(metric: str) -> Cell:
    nothing = dict.fromkeys(("mean", "sd", "low", "high", "median", "worst"), math.nan)
    return Cell(metric=metric, n=0, worst_seed=None, run_ids=(), digest=digests.of_text(""), **nothing)
