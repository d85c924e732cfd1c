"""Checks of a study's design, after Godbole et al., "Deep Learning Tuning Playbook" (2023).

Each is a row of CHECKS, and a function that says whether anything in a `Design` could fail it, whether the runs tell,
and what it found; `report/sentences.py` has the words for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.compare import evidence
from pipeline.compare.analysis import Analysis
from pipeline.compare.autolog import is_rate
from pipeline.compare.columns import comparable, in_order, plain
from pipeline.compare.conclusion import Check, Claim, Finding, Pair, Tuning


class Outcome(NamedTuple):
    """What a check says."""

    applies: bool  # something in the study could fail it
    known: bool  # the runs tell
    findings: list[Finding]


@dataclass
class Design:
    """What is checked: the runs, and the pairs on which the conclusion rests."""

    analysis: Analysis
    pairs: Sequence[Pair]

    @property
    def metric(self) -> str | None:
        """By which variations are ranked; None without one of which it is known which way is better."""
        grouped = self.analysis.grouped
        known = grouped.primary_metric is not None and grouped.metric(grouped.primary_metric).better is not None
        return grouped.primary_metric if known else None

    @property
    def higher_is_better(self) -> bool:
        return bool(self.metric and self.analysis.grouped.metric(self.metric).higher_is_better)

    @cached_property
    def settings(self) -> pd.DataFrame:
        """One row per variation: its parameters, as numbers where they are."""
        grouped = self.analysis.grouped
        rows = [
            {p: comparable(value) for p, value in grouped.configs[name].items()} for name in grouped.without_repeats
        ]
        return pd.DataFrame(rows, index=grouped.without_repeats)

    @cached_property
    def outcomes(self) -> pd.Series:
        """The mean of the primary metric, by variation."""
        described = self.analysis.described[self.analysis.described["metric"] == f"metrics.{self.metric}"]
        return described.set_index("variation")["mean"].reindex(self.settings.index)

    @cached_property
    def tried_values(self) -> dict[str, pd.Series]:
        """By numeric parameter: how many values of it each variation's like, with all others the same, have tried."""
        settings = self.settings
        varied = [name for name in settings if settings[name].nunique(dropna=False) > 1]
        found = {}
        for name in varied:
            if all(isinstance(value, int | float) for value in settings[name]):
                alike = [settings[other] for other in varied if other != name] or np.zeros(len(settings))
                found[name] = settings.groupby(alike, dropna=False)[name].transform("nunique")
        return found if self.metric is not None else {}


def edge_of_grid(design: Design) -> Outcome:
    """Of three or more values of a parameter, the best is the smallest or the largest: a better one may lie beyond."""
    findings: list[Finding] = []
    no_better = design.analysis.grouped.task.no_better
    wide = {name: counts > 2 for name, counts in design.tried_values.items() if (counts > 2).any()}
    for name, several in wide.items():
        rows = design.settings[several]
        others = [rows[other] for other in rows if other != name]
        alike = rows.groupby(others, dropna=False).ngroup() if others else 0
        grid = pd.DataFrame({"value": rows[name], "alike": alike, "mean": design.outcomes[several]})
        limit = {"value": no_better[name]} if name in no_better else {}
        edges = evidence.edge_of_grid(grid, ["value", "alike"], "mean", design.higher_is_better, limit)
        findings += [
            Finding(parameter=name, value=plain(value), tried=in_order(rows[name]), metric=design.metric)
            for column, value in edges
            if column == "value"
        ]
    tunings = design.analysis.tunings.values()
    for each in tunings:
        for name in each.at_the_edge:
            tried, value = in_order(point.values[name] for point in each.points), (each.chosen or {})[name]
            findings.append(
                Finding(variation=each.variation, parameter=name, value=value, tried=tried, metric=each.metric)
            )
    known = bool(wide) or any(each.chosen for each in tunings)
    return Outcome(known or design.metric is None, known, findings)


def untuned_learning_rate(design: Design) -> Outcome:
    """Optimizers are compared at learning rates that are not shown to be the best of several."""
    findings: list[Finding] = []
    analysis = design.analysis
    optimizers = analysis.grouped.sets(analysis.optimizer)
    different = unread = 0
    tried = analysis.rate.removeprefix("params.") in analysis.grouped.request.nuisance
    for pair in () if tried else design.pairs:
        a, b = (set(optimizers[name]) - {None} for name in (pair.variation, pair.against))
        unread += not a or not b
        if not a or not b or a == b:
            continue
        different += 1
        for caveat in pair.caveats:
            if caveat.kind == "untuned learning rate":
                named = {finding.value for finding in findings}
                findings += [
                    Finding(
                        variation=pair.variation,
                        against=pair.against,
                        parameter=analysis.rate.removeprefix("params."),
                        value=name,
                        tried=(rate,),
                    )
                    for name, rate in zip(caveat.optimizers, caveat.learning_rates, strict=True)
                    if isinstance(pair, Claim) or name not in named  # of a thousand pairs, each optimizer once
                ]
    rates = analysis.grouped.used.get(analysis.rate)
    known = bool(different) and rates is not None and bool(rates.notna().any())
    return Outcome(bool(different or unread), known, findings if known else [])


def still_improving(design: Design) -> Outcome:
    """Runs were stopped while they were still getting better."""
    analysis, grouped = design.analysis, design.analysis.grouped
    findings = [
        Finding(variation=name, metric=flag.metric, seeds=flag.seeds)
        for name, flags in analysis.flags.items()
        for flag in flags
        if flag.flag == "not converged" and name in grouped.without_repeats
    ]
    histories, metric = analysis.histories, grouped.convergence_metric
    several = len(histories) > 0 and f"metrics.{metric}" in histories and histories["epoch"].nunique() > 1
    # Where histories were read and several epochs are not there, each run has one.
    return Outcome(several or metric is None or histories.empty, several, findings)


def selected_on_reported_data(design: Design) -> Outcome:
    """Whoever takes the best of several tried values and reports the metric that chose it reports it too good."""
    grouped, metric = design.analysis.grouped, design.metric
    findings: list[Finding] = []
    for name, counts in () if _is_held_out(design) else design.tried_values.items():
        several = counts > (1 if is_rate(name) else 2)
        outcomes = design.outcomes[several].dropna()
        if len(outcomes):
            best = outcomes.idxmax() if design.higher_is_better else outcomes.idxmin()
            values = design.settings[name]
            tried = in_order(values[several])
            findings.append(Finding(parameter=name, tried=tried, metric=metric, value=plain(values[best])))
    findings += [
        Finding(variation=each.variation, metric=each.metric)
        for each in design.analysis.tunings.values()
        if any(_is_reported_on_its_tuning(each, pair, design.analysis) for pair in design.pairs)
    ]
    for name in grouped.request.nuisance if metric else ():
        values = in_order(map(comparable, grouped.used[f"params.{name}"]))
        findings.append(Finding(parameter=name, tried=values, metric=metric, value=None))
    if grouped.chosen_as_best:
        findings.append(Finding(variation=grouped.baseline, metric=metric))
    if not findings and design.tried_values and _is_held_out(design):
        return Outcome(True, True, [])
    known = bool(findings) and (grouped.by_task or str(metric).startswith("val") or grouped.chosen_as_best)
    return Outcome(bool(findings) or metric is None, known, findings if known else [])


def _is_held_out(design: Design) -> bool:
    """Whether no pair is judged on the part of the data of which the metric is that variations are ranked by."""
    analysis, metric = design.analysis, design.metric
    if metric is None or not analysis.grouped.by_task or metric not in analysis.grouped.rows:
        return False
    judged = {(name, pair.metric or pair.asked) for pair in design.pairs for name in (pair.variation, pair.against)}
    return bool(judged) and all(analysis.part(name, each) != analysis.part(name, metric) for name, each in judged)


def _is_reported_on_its_tuning(tuning: Tuning, pair: Pair, analysis: Analysis) -> bool:
    """Whether a pair is judged on the part of the data on which one of its sides was tuned."""
    parts = {analysis.part(tuning.variation, name) for name in (tuning.metric, pair.metric or pair.asked)}
    return tuning.variation in (pair.variation, pair.against) and len(parts) == 1


CHECKS: dict[str, Callable[[Design], Outcome]] = {
    "best at the edge of the grid": edge_of_grid,
    "untuned learning rate": untuned_learning_rate,
    "still improving at the last epoch": still_improving,
    "selected on the reported data": selected_on_reported_data,
}


def run(analysis: Analysis, pairs: Sequence[Pair]) -> list[Check]:
    """Every check, once."""
    design, found = Design(analysis, pairs), []
    for kind, check in CHECKS.items():
        applies, known, findings = check(design)
        passed = not findings if known else None
        found.append(Check(kind=kind, passed=passed, applies=applies, findings=tuple(findings)))
    return found
