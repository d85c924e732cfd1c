"""What was checked, in sentences: the runs, what they took, how far chance goes, and the design of the study."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from pipeline.compare.conclusion import Check, Conclusion, Determinism, Finding, Noise
from pipeline.compare.report.sentences import (
    COMPLETENESS,
    FLAG_WORDS,
    NOT_TUNED,
    THREATS,
    fate,
    flag_sentence,
    runs_called,
    threats,
)
from pipeline.compare.report.values import (
    MOST_LISTED,
    MOST_ROWS,
    capital,
    digits_of,
    first,
    label_of,
    listed,
    metric_of,
    name,
    number,
    plain,
    run_text,
    scalar,
    signed,
    with_unit,
    without_repeats,
)
from pipeline.metrics import FLAGS
from pipeline.progress import duration

_OF_RESULTS = re.compile(r"(?i)\bmetrics?\.|\bstatus\b|\bend_time\b")  # in a filter of MLflow's


def audits(conclusion: Conclusion) -> list[tuple[str, list[str]]]:
    """Heading and sentences of what was checked; a check that was not made is not there, or says so.

    What is among the threats is not said once more.
    """
    ran = any(variation.finished for variation in conclusion.variations)
    noise = [noise_sentence(noise, conclusion) for noise in conclusion.noise]
    repeats = [determinism_sentence(check, conclusion) for check in conclusion.determinism]
    if conclusion.kind == "study" and ran:
        noise = noise or ["Unknown: the study has no A/A test, in which the baseline runs against itself."]
        repeats = repeats or ["Unknown: no run was repeated with the same seed."]
    sections = {
        "Flags": _flags(conclusion) if ran else [],
        COMPLETENESS: completeness_sentences(conclusion),
        "What it took": efforts(conclusion),
        "Tried, and not shown": tried(conclusion),
        "Noise floor (A/A test)": noise,
        "Determinism check": repeats,
        "Design checks": [check_sentence(check, conclusion) for check in conclusion.checks],
    }
    return [(heading, sentences) for heading, sentences in sections.items() if sentences]


def _flags(conclusion: Conclusion) -> list[str]:
    every = [
        flag_sentence(variation, flag, conclusion) for variation in conclusion.variations for flag in variation.flags
    ]
    told = {threat.why for threat in threats(conclusion)}
    flags = first([sentence for sentence in every if sentence not in told], MOST_ROWS, "conclusion.csv")
    if not every:
        own = [flag.noun for flag in FLAGS] if conclusion.kind != "groups" else [FLAG_WORDS["identical repetitions"][0]]
        flags = [f"None: no {', '.join(own)} or {FLAG_WORDS['not a number'][0]} in what was read."]
    having = [variation for variation in conclusion.variations if variation.finished]
    rest = sum(variation.name not in conclusion.histories_of for variation in having)
    unread = f"Not known to have converged, as their epochs were not read: {rest:,} of {len(having):,} variations."
    return [*flags, *([unread] if rest else [])]


def completeness_sentences(conclusion: Conclusion) -> list[str]:
    """How many of the planned runs finished, then each that did not, and each that nobody planned."""
    planned = [run for run in conclusion.completeness if run.planned]
    lost = [run for run in planned if run.state != "finished"]
    states = [run.state for run in lost]
    fates = ", ".join(f"{state}: {states.count(state):,}" for state in dict.fromkeys(states))
    finished = f"{runs_called(conclusion)} finished: {len(planned) - len(lost):,} of {len(planned):,}"
    found = [f"{finished} ({fates})." if fates else f"{finished}."]
    found += first([f"{name(run.variation)}, {fate(run)}." for run in lost], MOST_ROWS)
    unplanned = len(conclusion.completeness) - len(planned)
    found += [f"Runs that were read and are not in the plan: {unplanned:,}."] if unplanned else []
    return [*found, *left_out(conclusion), *_filtered(conclusion)]


def _filtered(conclusion: Conclusion) -> list[str]:
    """That runs are chosen by what became of them, where the filter asks for that."""
    if not _OF_RESULTS.search(conclusion.provenance.filter):
        return []
    asked = name(conclusion.provenance.filter)
    return [f"Chosen by their results or their end ({asked}): the runs that failed or did worse were not even read."]


def left_out(conclusion: Conclusion) -> list[str]:
    """What is in no variation, by name: nothing is dropped in silence."""
    tuning = {run_id for each in conclusion.tuning for point in each.points for run_id in point.run_ids}
    runs = [run for run in conclusion.runs if run.variation is None and run.run_id not in tuning]
    by_reason: dict[str, list[str]] = {}
    for run in runs:
        by_reason.setdefault(run.reason or "no reason known", []).append(run_text(run))
    found = [f"Not in the table: {listed(texts, 3)}: {plain(reason)}." for reason, texts in by_reason.items()]
    return [f"Runs in no variation: {len(runs):,}.", *first(found, MOST_ROWS)] if runs else []


def efforts(conclusion: Conclusion) -> list[str]:
    """`Runs: 20 finished (1 h 3 min), 1 failed (2 min).`, and how large the models are."""
    if not conclusion.efforts:
        return []
    took = (
        f"{each.runs:,} {each.state}{_in_brackets(each.seconds)}"
        + (f", of which {each.again:,} started again after a failure" if each.again else "")
        for each in conclusion.efforts
    )
    found = [f"Runs, with their times from start to end added up: {', '.join(took)}."]
    sizes: dict[float, list[str]] = {}
    for variation in without_repeats(conclusion):
        if not math.isnan(variation.model_size):
            sizes.setdefault(variation.model_size, []).append(name(variation.name))
    models = "; ".join(f"{size:,.0f} ({listed(names, 3)})" for size, names in sizes.items())
    return [*found, *([f"Numbers that are trained in a model: {models}."] if models else [])]


def _in_brackets(seconds: float) -> str:
    return f" ({duration(seconds)})" if seconds > 0 else ""


def tried(conclusion: Conclusion) -> list[str]:
    """The finished runs of the experiment that a study does not count; nothing without a study."""
    if conclusion.uncounted is None:
        return []
    runs = sum(len(each.run_ids) for each in conclusion.uncounted)
    if not runs:
        return ["None: of what was read, no other run of the experiment is finished."]
    metric = metric_of(conclusion, conclusion.metric)
    found = []
    for each in conclusion.uncounted:
        whose = f"study {name(each.study)}, {name(each.name)}" if each.study else name(each.name)
        mean = "" if math.isnan(each.mean) else f"; mean {label_of(metric)} {number(each.mean, metric.decimals)}"
        found.append(f"{capital(whose)}: {len(each.run_ids):,}{mean}.")
    heading = f"Finished runs of the experiment that the study does not count: {runs:,}."
    return [heading, *first(found, MOST_LISTED)]


def noise_sentence(noise: Noise, conclusion: Conclusion) -> str:
    """How large a difference chance alone makes, and whether that is smaller than what matters."""
    metric = metric_of(conclusion, noise.metric)
    label = label_of(metric)
    if math.isnan(noise.limit):
        return f"In {label}, unknown: too few values."
    if noise.limit == 0:
        return f"In {label}, the seeds of {name(noise.against)} do not differ: the noise floor is 0."
    digits = digits_of(2 * noise.limit, metric.decimals)
    more = ", which is more" if abs(noise.observed) > noise.limit else ""
    groups = f"two groups of seeds of {name(noise.against)} (n = {noise.n_a} and {noise.n_b})"
    sentence = f"In {label}, chance alone makes {groups} differ by less than "
    sentence += f"{with_unit(number(noise.limit, digits), metric)} in 95 % of cases; observed: "
    sentence += f"{signed(noise.observed, digits)}{more}."
    if math.isnan(noise.smallest_effect):
        return sentence
    effect = f"the smallest effect of interest ({with_unit(scalar(noise.smallest_effect), metric)})"
    below = noise.limit < noise.smallest_effect
    return f"{sentence} The noise floor is {'below' if below else 'not below'} {effect}."


def determinism_sentence(check: Determinism, conclusion: Conclusion) -> str:
    """Whether the same configuration and seed gave the same numbers twice."""
    run = f"Seed {scalar(check.seed)} of {name(check.variation)}, run twice"
    if check.same is None:
        return f"{run}: unknown, as one of the two has not finished."
    same = f"{run}: metrics identical to the last digit: {check.compared - len(check.unequal):,} of {check.compared:,}"
    differ = listed((f"{plain(u.metric)} ({u.first!r} and {u.again!r})" for u in check.unequal), 4)
    return f"{same}; different: {differ}." if differ else f"{same}."


class _Check(NamedTuple):
    """The words of a check."""

    passed: str  # what it means to pass
    inapplicable: str  # why it may not apply
    unknown: str  # why its outcome may be unknown
    failed: Callable[[Finding, str], str]  # one of its findings, with the label of its metric; or where they all stand


def _at_the_edge(finding: Finding, label: str) -> str:
    best = f"the best {label} is at {_setting(finding)}, the edge of the values tried ({_tried(finding)})"
    if finding.variation:
        return f"of {name(finding.variation)}, {best}: a better one may lie beyond; widen the grid."
    return f"{best}: a better one may lie beyond."


def _selected(finding: Finding, label: str) -> str:
    optimistic = "choosing and reporting on the same data makes this figure optimistic."
    if finding.parameter and finding.value is None:
        return f"{plain(finding.parameter)} was searched by the {label} that is reported: {optimistic}"
    if finding.parameter:
        has = f"{_setting(finding)} has the best {label} on the data that is reported"
        return f"of {_tried(finding)}, {has}: {optimistic}"
    who = name(finding.variation) if finding.variation else "the study"
    return f"{who} was chosen for its {label} on the data that is reported: {optimistic}"


def _setting(finding: Finding) -> str:
    return f"{plain(finding.parameter or '')} = {scalar(finding.value)}"


def _tried(finding: Finding) -> str:
    return listed(map(scalar, finding.tried))


# One for each of `checks.CHECKS`.
_CHECKS = {
    "best at the edge of the grid": _Check(
        "no best value lies at the edge of its grid",
        "no numeric parameter has more than two values tried with all else equal",
        "no finished run has a metric of which it is known which way is better",
        _at_the_edge,
    ),
    "untuned learning rate": _Check(
        "each optimizer ran with the best of three or more learning rates, and not the first or last of them",
        "no two variations that are compared differ in their optimizer at a learning rate each",
        "the runs that are compared do not say their optimizers and learning rates",
        lambda *_: f"see \N{LEFT DOUBLE QUOTATION MARK}{NOT_TUNED}\N{RIGHT DOUBLE QUOTATION MARK} under {THREATS}",
    ),
    "still improving at the last epoch": _Check(
        "no run was still improving at its last epoch",
        "each run has one epoch",
        "no losses by epoch were read",
        lambda *_: "see Flags",
    ),
    "selected on the reported data": _Check(
        "nothing was selected on the data that is reported",
        "of no parameter were several values tried with all else equal",
        "the runs do not say on which data the metric was measured",
        _selected,
    ),
}


def check_sentence(check: Check, conclusion: Conclusion) -> str:
    """`Still improving at the last epoch: does not apply: each run has one epoch.`"""
    words = _CHECKS[check.kind]
    if check.passed is None:
        not_kept = "the version that wrote this conclusion did not keep whether it applies"
        outcome = "unknown" if check.applies is not False else "does not apply"
        why = {True: words.unknown, False: words.inapplicable, None: not_kept}[check.applies]
    else:
        outcome = "passed" if check.passed else "failed"
        told = dict.fromkeys(words.failed(each, _label_of_finding(each, conclusion)) for each in check.findings)
        why = " ".join(first(list(told), MOST_LISTED)).rstrip(".") or (words.passed if check.passed else "")
    return f"{capital(check.kind)}: {': '.join(part for part in (outcome, why) if part)}."


def _label_of_finding(finding: Finding, conclusion: Conclusion) -> str:
    return label_of(metric_of(conclusion, finding.metric)) if finding.metric else "the metric"
