"""What a `Conclusion` says, in sentences: templates that the evidence fills.

Plain text on one line each, the same in the terminal, in Markdown and in HTML; each of these escapes it in its own way.
Counts come first (`runs not finished: 1 of 20`), so that no sentence needs a singular and a plural.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pipeline.compare.conclusion import (
    Caveat,
    Check,
    Claim,
    Conclusion,
    Determinism,
    Finding,
    Flag,
    Metric,
    Noise,
    Pair,
    PaperValue,
    Published,
    PublishedDifference,
    PublishedValue,
    RunOutcome,
    Variation,
)
from pipeline.compare.report.values import (
    MOST_LISTED,
    MOST_ROWS,
    best_of,
    cell_text,
    certainty,
    difference_text,
    digits_of,
    first,
    interval,
    label_of,
    listed,
    main_metrics,
    metric_of,
    name,
    number,
    ours_text,
    p_value,
    plain,
    run_text,
    scalar,
    seeds_compared,
    seeds_text,
    signed,
    with_unit,
    without_repeats,
)
from pipeline.inference import ALPHA, CONFIDENCE, Verdict
from pipeline.metrics import FLAGS, contained
from pipeline.progress import duration

THREATS, COMPLETENESS = "Threats to validity", "Completeness"  # headings
# What a claim is called of which the runs were there first, and what the parts are that can be changed then.
_LATE = {"after": "claimed afterwards", "changed": "changed afterwards"}
_CHANGED = {"direction": "its direction", "smallest_effect": "its smallest effect", "about": "what it is about"}
_NOT_TUNED = "learning rate not tuned"
# By flag: its name, and what is wrong with a variation that has it.
_FLAGS = {
    **{flag.name: (flag.name, flag.says) for flag in FLAGS},
    "not a number": ("non-finite losses", "has non-finite losses"),
    "not converged": ("not converged", "was still improving at its last epoch"),
    "identical repetitions": ("identical repetitions", "has runs of different seeds with the very same results"),
}
_THREATENING = {"identical repetitions", *(flag.name for flag in FLAGS if flag.is_threat)}


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


# --- Verdicts -----------------------------------------------------------------------------------------------------


def warnings(pair: Pair, conclusion: Conclusion) -> list[str]:
    """What stands right beside a verdict: `confounded by decoder_hidden`, `val_loss not comparable`."""
    found = []
    if pair.confounded_by:
        by = f"by {listed(plain(other.name) for other in pair.confounded_by)}"
        is_verdict = isinstance(pair, Claim) and pair.verdict == Verdict.CONFOUNDED
        found.append(by if is_verdict else f"confounded {by}")
    asked = label_of(metric_of(conclusion, pair.asked))
    why = dict.fromkeys(("penalty differs", "other data"), f"{asked} not comparable") | {"absent": f"{asked} missing"}
    why["wall time"] = "wall time is not evidence"
    found += [why[pair.why]] if pair.why in why else []
    untuned = any(caveat.kind == "untuned learning rate" for caveat in pair.caveats)
    found += [_NOT_TUNED] if untuned or (isinstance(pair, Claim) and pair.at_better_rates) else []
    found += [_unequal_budget(caveat) for caveat in pair.caveats if caveat.kind == "unequal budget"]
    return [*found, *([f"runs not finished: {len(pair.unfinished)}"] if pair.unfinished else [])]


def verdict_sentence(claim: Claim, conclusion: Conclusion) -> str:
    """What was seen and why the verdict follows."""
    metric = metric_of(conclusion, claim.metric)
    if claim.metric is None or claim.verdict == Verdict.NOT_JUDGED:
        return _not_judged(claim, metric)
    smallest = f"the smallest effect of interest ({with_unit(scalar(claim.smallest_effect), metric)})"
    within = f"the whole interval lies within \N{PLUS-MINUS SIGN}{smallest}"
    difference, equal = claim.difference, claim.direction == "equal"
    way = "lower" if difference.mean < 0 else "higher"
    real = "" if difference.low <= 0 <= difference.high else f"; that it is {way} is shown"
    others = listed(plain(other.name) for other in claim.confounded_by)
    reason = {
        Verdict.SUPPORTED: f"{within}: equivalent, as claimed"
        if equal
        else f"{way}, as claimed, by {_times(claim)} {smallest}",
        Verdict.UNDECIDED: f"{way}, as claimed; by more or by less than {smallest} is not decided",
        Verdict.CONTRADICTED: f"{'not equivalent' if equal else 'the opposite of the claim'}: {way} by {_times(claim)} "
        f"{smallest}",
        Verdict.NEGLIGIBLE: f"{within}: any difference is smaller{real}",
        Verdict.INCONCLUSIVE: "inconclusive: the interval contains both a difference that matters and none",
        Verdict.CONFOUNDED: f"no test of the claim: the two sides also differ in {others}",
    }[claim.verdict]
    seen = f"In {label_of(metric)}, {_minus(claim, metric)} ({certainty(claim)}). {_capital(reason)}."
    return seen if claim.verdict == Verdict.CONFOUNDED else f"{seen} {_by_smallest_effect(claim, metric)}"


def _times(claim: Claim) -> str:
    effect = abs(claim.effect)
    return f"{effect:{',.0f' if effect >= 10 else '.2g'}} times"


def _by_smallest_effect(claim: Claim, metric: Metric) -> str:
    """The verdict with any other smallest effect of interest: where it changes is read off the interval."""
    low, high = claim.difference.low, claim.difference.high
    near, far = sorted((abs(low), abs(high)))
    without_zero = not low <= 0 <= high
    at_near, at_far = (number(end, digits_of(high - low, metric.decimals)) for end in (near, far))
    if claim.direction == "equal":
        until = f"contradicted up to {at_near}, " if without_zero else ""
        until, above = f"{until}inconclusive up to {at_far}", "supported"
    else:
        as_claimed = (high < 0) == (claim.direction == "lower")
        until, above = f"inconclusive up to {at_far}", "negligible"
        if without_zero and as_claimed:
            until = f"supported up to {at_near}, size undecided up to {at_far}"
        elif without_zero:
            until = f"contradicted up to {at_far}"
    return f"By smallest effect of interest{f' ({metric.unit})' if metric.unit else ''}: {until}, {above} above."


def interval_notes(conclusion: Conclusion) -> list[str]:
    """What the intervals of differences cover, with what confidence, at which look."""
    judged = conclusion.claims or [pair for pair in conclusion.pairs if pair.asked == conclusion.metric]
    family = [each.difference.confidence for each in judged if math.isfinite(each.difference.low)]
    if not family:
        return []
    found = []
    if min(family) > CONFIDENCE:
        each = f"{100 * min(family):.2f}".rstrip("0").rstrip(".")
        found.append(f"Each interval is one of {each} %, so that with 95 % all {len(family):,} are right at once.")
    looks, planned = conclusion.looks, conclusion.looks_planned
    if looks > 1 or planned > 1:
        found.append(
            f"Look {looks} at this study, planned: {planned}; each is judged at {_share(1 / max(looks, planned))}."
        )
    if looks > planned:
        total = sum(1 / max(look, planned) for look in range(1, looks + 1))
        found.append(
            f"Earlier looks were judged at more: a false verdict at any look has a chance of up to {_share(total)}."
        )
    if conclusion.varied:
        found.append(f"The intervals cover what differs between seeds ({conclusion.varied}), and nothing else.")
    return found


def _share(of_level: float) -> str:
    return f"{100 * ALPHA * of_level:.2g} %"


def pair_sentence(pair: Pair, conclusion: Conclusion) -> str:
    """What was seen of a pair about which nothing is claimed."""
    metric = metric_of(conclusion, pair.metric)
    if pair.metric is None or pair.finding == "not judged":
        return f"Not judged: {_not_judged(pair, metric)}"
    ways = {"lower": "is lower than", "higher": "is higher than"}
    is_so = f"{name(pair.variation)} {ways.get(pair.finding, 'shows no difference from')} {name(pair.against)}"
    return f"{is_so} in {label_of(metric)}: {difference_text(pair.difference, metric)} ({certainty(pair)})."


def _not_judged(pair: Pair, metric: Metric) -> str:
    difference, asked = pair.difference, plain(pair.asked)
    if pair.metric is None and pair.why == "penalty differs":
        why = f"it contains {contained(pair.asked)}"
        return f"{asked} is not comparable ({why}), and there is no metric to use instead."
    if pair.why == "other data":
        return f"{asked} is of other data on the one side than on the other."
    if pair.why == "wall time":
        return f"{asked} is a wall time, which depends on the machine's load."
    if pair.metric is None:
        return f"No finished run of one side has a value of {asked}."
    seeds = {pair.variation: difference.n_a, pair.against: difference.n_b}
    for side, n in seeds.items():
        if n == 0:
            return f"No finished run of {name(side)} has a value of {label_of(metric)}."
    copied = listed(name(caveat.variation) for caveat in pair.caveats if caveat.flag == "identical repetitions")
    if copied:
        return f"Copies, not repetitions: the runs of {copied} have the very same results, whatever their seed."
    few = listed(name(side) for side, n in seeds.items() if n == 1)
    if pair.best_of:
        few = listed(f"{name(side)} ({n})" for side, n in seeds.items())
        return f"Too few tries for an interval of what is best: {few}."
    if not few:
        return f"The values of {label_of(metric)} give no interval."
    return f"Only one seed: {few}. The observed difference, {difference_text(difference, metric)}, may be chance."


def notes(pair: Pair, conclusion: Conclusion) -> list[str]:
    """All that there is to know beside a result, a sentence each: threats to it, flags, lost seeds, lost runs."""
    return [*(_capital(why) for _, why in _own_threats(pair, conclusion)), *_beside(pair, pair.caveats)]


def other_notes(claim: Claim) -> list[str]:
    """Those of the notes that are not among the conclusion's threats, and that a claim came before its runs."""
    found = _beside(claim, [caveat for caveat in claim.caveats if caveat.flag not in _THREATENING])
    first = "Declared before the first run that it is judged on."
    unknown = "Whether it was declared before its runs is not known."
    return found if claim.declared in _LATE else [*found, unknown if claim.declared is None else first]


def _beside(pair: Pair, caveats: Iterable[Caveat]) -> list[str]:
    found = [sentence for caveat in caveats if (sentence := _caveat(caveat))]
    if not math.isnan(pair.p_permutation):
        test, n = ("sign-flip", pair.difference.n_pairs) if pair.difference.paired else ("permutation", 0)
        least = f", and no less than {2 / 2**n:.2g} with {n} pairs" if n else ""
        found.append(f"A {test} test, which supposes no distribution: {p_value(pair.p_permutation)}{least}.")
    if pair.beats is not None:
        ends = interval(pair.beats.low, pair.beats.high, lambda value: f"{value:.2f}")
        sides = f"One run of {name(pair.variation)} is better than one of {name(pair.against)}"
        found.append(f"{sides} with probability {pair.beats.probability:.2f} {ends}.")
    lost = listed((f"{name(run.variation)}, {_fate(run)}" for run in pair.unfinished), 4)
    return [*found, *([f"Runs that did not finish and could have changed this: {lost}."] if lost else [])]


def _caveat(caveat: Caveat) -> str:
    """A sentence; none for what is said elsewhere, of lost runs and of learning rates."""
    seeds = seeds_text(caveat.seeds) if caveat.seeds else ""
    if caveat.kind == "flag":
        what = _FLAGS[caveat.flag][1] if caveat.flag in _FLAGS else caveat.flag
        return f"{name(caveat.variation or 'each side')} {what}{f' ({seeds})' if seeds else ''}."
    if caveat.kind == "unpaired":
        return "Unpaired: the two sides have too few seeds in common for a paired test."
    if caveat.kind == "unequal tuning":
        effort = f"{_against(caveat.tuning_runs)} runs{f', {_against(caveat.steps)} steps' if caveat.steps else ''}"
        return f"The two sides were not tuned with the same effort: {effort}."
    if caveat.kind == "not normal":
        return f"The seeds of {name(caveat.variation)} are visibly not normal; the farthest off: {seeds}."
    return f"Left out, because only one side has them ({seeds})." if caveat.kind == "seeds dropped" and seeds else ""


def _unequal_budget(caveat: Caveat) -> str:
    return f"unequal budget ({_against(caveat.steps)} steps)"


def _against(numbers: Iterable[float]) -> str:
    return " against ".join(f"{each:,.0f}" for each in numbers)


def _minus(pair: Pair | PublishedDifference, metric: Metric) -> str:
    return f"{name(pair.variation)} minus {name(pair.against)} is {difference_text(pair.difference, metric)}"


def _fate(run: RunOutcome) -> str:
    """`seed 3: diverged (loss is nan)`."""
    reason = f" ({plain(run.reason, 100)})" if run.reason else ""
    return f"seed {scalar(run.seed)}: {run.state}{reason}"


# --- The answer ---------------------------------------------------------------------------------------------------


def summary(conclusion: Conclusion) -> list[str]:
    """The answer: a sentence about the claims, or about the differences, then what else to know first."""
    if not any(variation.finished for variation in conclusion.variations):
        return ["No run has finished yet: there is nothing to conclude."]
    found = [_about_claims(conclusion.claims) if conclusion.claims else _about_pairs(conclusion)]
    found += [sentence for sentence in (_best(conclusion), _lost(conclusion)) if sentence]
    flags = ((variation, listed(map(flag_name, variation.flags))) for variation in without_repeats(conclusion))
    flagged = listed((f"{name(variation.name)} ({what})" for variation, what in flags if what), 4)
    return [*found, *([f"Flagged: {flagged}."] if flagged else [])]


def _about_claims(claims: Sequence[Claim]) -> str:
    """`Claims: 2 of 3 supported (1 confounded by decoder_hidden), 1 of 3 inconclusive.`"""
    alike = ([claim for claim in claims if claim.verdict == verdict] for verdict in Verdict)
    shares = (f"{len(a):,} of {len(claims):,} {a[0].verdict}{_confounders(a)}" for a in alike if a)
    return f"Claims: {'; '.join(shares)}."


def _confounders(claims: Sequence[Claim]) -> str:
    """By what claims are confounded, in brackets."""
    by = listed(dict.fromkeys(plain(other.name) for claim in claims for other in claim.confounded_by), 3)
    return f" (by {by})" if by and claims[0].verdict == Verdict.CONFOUNDED else ""


def _about_pairs(conclusion: Conclusion) -> str:
    pairs = [pair for pair in conclusion.pairs if pair.asked == conclusion.metric]
    if not pairs:
        return f"Variations: {len(conclusion.variations):,}; comparisons: none."
    if len(pairs) == 1:
        return pair_sentence(pairs[0], conclusion)
    against = f" with {name(conclusion.baseline)}" if conclusion.baseline else ""
    findings = [pair.finding for pair in pairs]
    shares = ", ".join(f"{finding}: {findings.count(finding):,}" for finding in dict.fromkeys(findings))
    label = label_of(metric_of(conclusion, conclusion.metric))
    return f"Variations compared{against} in {label}: {len(pairs):,} ({shares})."


def _best(conclusion: Conclusion) -> str:
    metric = metric_of(conclusion, conclusion.metric)
    best = None if metric.wall_time else best_of(conclusion, metric)
    if best is None:
        return ""
    value = with_unit(" ".join(cell_text(best[1], metric)).strip(), metric)
    word = "Highest" if metric.higher_is_better else "Lowest"
    return f"{word} {label_of(metric)}: {name(best[0].name)}, {value} (n = {best[1].n})."


def _lost(conclusion: Conclusion) -> str:
    planned = [run for run in conclusion.completeness if run.planned]
    lost = sum(run.state != "finished" for run in planned)
    return f"{_runs(conclusion)} not finished: {lost:,} of {len(planned):,}." if lost else ""


def _runs(conclusion: Conclusion) -> str:
    """Without a plan, several runs of one seed are one repetition."""
    return "Planned runs" if conclusion.kind == "study" else "Repetitions"


# --- Threats to validity ------------------------------------------------------------------------------------------


class Threat(NamedTuple):
    """Something for which a difference may be another than it seems."""

    what: str
    why: str
    claims: tuple[int, ...]  # that it concerns, counted from 0


def threats(conclusion: Conclusion) -> list[Threat]:
    """The threats to validity: of each claim, or else of each difference from the baseline, then of all of them."""
    pairs = conclusion.claims or [pair for pair in conclusion.pairs if pair.asked == conclusion.metric]
    numbered = [((number,) if conclusion.claims else (), pair) for number, pair in enumerate(pairs)]
    found = [
        Threat(what, f"{name(pair.variation)} against {name(pair.against)}: {why}", claims)
        for claims, pair in numbered
        for what, why in _own_threats(pair, conclusion)
    ]
    for variation in without_repeats(conclusion):
        concerned = [claims for claims, pair in numbered if variation.name in (pair.variation, pair.against)]
        found += [
            Threat(flag_name(flag), flag_sentence(variation, flag, conclusion), tuple(itertools.chain(*concerned)))
            for flag in variation.flags
            if flag.flag in _THREATENING
        ]
    found += [Threat(*each, ()) for each in _threats_of_published(conclusion)]
    more = len(found) - MOST_ROWS
    return [*found[:MOST_ROWS], *([Threat("more", f"And {more:,} more, in conclusion.json.", ())] if more > 0 else [])]


def _own_threats(pair: Pair, conclusion: Conclusion) -> list[tuple[str, str]]:
    """What a threat is called, and what it is."""
    found = [("confounded", _confounded(pair))] if pair.confounded_by else []
    if pair.why == "penalty differs" and pair.metric is not None:
        found.append(("metric not comparable", _other_metric(pair, conclusion)))
    found += [
        ("unequal budget", f"{_unequal_budget(caveat)}, and no parameter says so: the longer side had more chances.")
        for caveat in pair.caveats
        if caveat.kind == "unequal budget"
    ]
    if isinstance(pair, Claim) and pair.declared in _LATE:
        found.append((_LATE[pair.declared], _late(pair)))
    untuned = [_untuned(caveat) for caveat in pair.caveats if caveat.kind == "untuned learning rate"]
    untuned += remains(pair, conclusion)
    return [*found, *([(_NOT_TUNED, " ".join(untuned))] if untuned else [])]


def _late(claim: Claim) -> str:
    what = f" ({listed(_CHANGED[part] for part in claim.changed)})" if claim.changed else ""
    done = "changed" if claim.changed else "declared"
    return f"{done} after the first run that it is judged on{what}: who has seen results can choose what to claim."


def _confounded(pair: Pair) -> str:
    def values(side: Sequence[object]) -> str:
        return listed(map(scalar, side), 3) or "none"

    others = (f"{plain(o.name)} ({values(o.variation)} against {values(o.against)})" for o in pair.confounded_by)
    return f"the two sides also differ in {listed(others)}, which may explain the difference."


def _other_metric(pair: Pair, conclusion: Conclusion) -> str:
    asked, used = metric_of(conclusion, pair.asked), metric_of(conclusion, pair.metric)
    strengths = f", of strength {' against '.join(map(scalar, pair.penalties))}" if pair.penalties else ""
    contains = f"it contains {contained(pair.asked)}{strengths}"
    why = f"{label_of(asked)} is not comparable ({contains}); {label_of(used)} is used."
    if pair.asked_difference is None or math.isnan(pair.asked_difference.mean):
        return why
    return f"{why} In {label_of(asked)}, the difference would read {difference_text(pair.asked_difference, asked)}."


def _untuned(caveat: Caveat) -> str:
    rates = [*map(scalar, caveat.learning_rates), *[""] * len(caveat.optimizers)]
    whose = listed(f"{plain(o)} ({r})" if r else plain(o) for o, r in zip(caveat.optimizers, rates, strict=False))
    best = "the best of three or more tried, and not the first or last of them"
    return f"not shown to be tuned ({best}): the learning rate of {whose}; this also compares that choice."


def remains(pair: Pair, conclusion: Conclusion) -> list[str]:
    """What remains of a claim about two optimizers at better learning rates, a sentence for each claim that says so."""
    params = {variation.name: variation.params for variation in conclusion.variations}
    found = []
    for other in (conclusion.claims[place] for place in (pair.at_better_rates if isinstance(pair, Claim) else ())):
        here = {params[side]["optimizer"]: params[side]["learning_rate"] for side in (pair.variation, pair.against)}
        there = {params[side]["optimizer"]: params[side]["learning_rate"] for side in (other.variation, other.against)}
        rates = listed(
            f"{scalar(optimizer)} at learning rate {scalar(rate)} instead of {scalar(here[optimizer])}"
            for optimizer, rate in there.items()
            if rate != here[optimizer]
        )
        sign = 1 if params[pair.variation]["optimizer"] == params[other.variation]["optimizer"] else -1
        share = sign * other.difference.mean / pair.difference.mean if pair.difference.mean else math.nan
        beside = f", {100 * share:.2g} % of the difference here" if share > 0 else ", in the opposite direction"
        beside = beside if other.metric == pair.metric and math.isfinite(share) else ""
        metric = metric_of(conclusion, other.metric)
        seen = f"{_minus(other, metric)} in {label_of(metric)}{beside}"
        says = name(other.says.rstrip("."), 200)
        found.append(f"With {rates}, {seen}; the claim about that, {says}, is {other.verdict}.")
    return found


def _threats_of_published(conclusion: Conclusion) -> list[tuple[str, str]]:
    published = conclusion.published
    if published is None:
        return []
    kinds = dict.fromkeys((each.metric, each.commonly_read_as) for each in published.values if each.commonly_read_as)
    alike = [[each for each in published.values if (each.metric, each.commonly_read_as) == kind] for kind in kinds]
    found = [("figure is another metric than it seems", misread_summary(each, conclusion)) for each in alike]
    found += [
        ("paper and code disagree", stated_sentence(each, published))
        for each in published.paper_values
        if not each.same
    ]
    return found + [
        ("one run each", chance_sentence(each, conclusion, published.decimals))
        for each in published.differences
        if not each.chance < abs(each.published)
    ]


# --- Checks -------------------------------------------------------------------------------------------------------


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
        nouns = ", ".join(flag.noun for flag in FLAGS)
        flags = [f"None: no {nouns} or {_FLAGS['not a number'][0]} in what was read."]
    having = [variation for variation in conclusion.variations if variation.finished]
    rest = sum(variation.name not in conclusion.histories_of for variation in having)
    unread = f"Not known to have converged, as their epochs were not read: {rest:,} of {len(having):,} variations."
    return [*flags, *([unread] if rest else [])]


def flag_name(flag: Flag) -> str:
    """Such as `collapsed`."""
    return _FLAGS[flag.flag][0]


def flag_sentence(variation: Variation, flag: Flag, conclusion: Conclusion) -> str:
    """`“Original” was still improving at its last epoch (val_loss); seeds: 2 of 5 (1 and 2).`"""
    metrics = [metric_of(conclusion, metric.strip()) for metric in flag.metric.split(",")]
    seen = listed(map(label_of, metrics), 4)
    if not math.isnan(flag.worst):
        seen += f": {with_unit(number(flag.worst, metrics[0].decimals), metrics[0])} at worst"
    which = f" ({listed(map(scalar, flag.seeds))})" if len(flag.seeds) < flag.of else ""
    seeds = f"{len(flag.seeds)} of {flag.of}{which}" if flag.seeds else "not known"
    return f"{name(variation.name)} {_FLAGS[flag.flag][1]} ({seen}); seeds: {seeds}."


def completeness_sentences(conclusion: Conclusion) -> list[str]:
    """How many of the planned runs finished, then each that did not, and each that nobody planned."""
    planned = [run for run in conclusion.completeness if run.planned]
    lost = [run for run in planned if run.state != "finished"]
    states = [run.state for run in lost]
    fates = ", ".join(f"{state}: {states.count(state):,}" for state in dict.fromkeys(states))
    finished = f"{_runs(conclusion)} finished: {len(planned) - len(lost):,} of {len(planned):,}"
    found = [f"{finished} ({fates})." if fates else f"{finished}."]
    found += first([f"{name(run.variation)}, {_fate(run)}." for run in lost], MOST_ROWS)
    unplanned = len(conclusion.completeness) - len(planned)
    found += [f"Runs that were read and are not in the plan: {unplanned:,}."] if unplanned else []
    return [*found, *left_out(conclusion)]


def left_out(conclusion: Conclusion) -> list[str]:
    """What is in no variation, by name: nothing is dropped in silence."""
    tuning = {run_id for each in conclusion.tuning for point in each.points for run_id in point.run_ids}
    runs = [run for run in conclusion.runs if run.variation is None and run.run_id not in tuning]
    found = [f"Not in the table: {run_text(run)}: {plain(run.reason or 'no reason known')}." for run in runs]
    return [f"Runs in no variation: {len(runs):,}.", *first(found, MOST_ROWS)] if runs else []


def efforts(conclusion: Conclusion) -> list[str]:
    """`Runs: 20 finished (1 h 3 min), 1 failed (2 min).`, and how large the models are."""
    if not conclusion.efforts:
        return []
    took = (f"{each.runs:,} {each.state}{_in_brackets(each.seconds)}" for each in conclusion.efforts)
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
        found.append(f"{_capital(whose)}: {len(each.run_ids):,}{mean}.")
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
        "no finished run has a metric to compare",
        _at_the_edge,
    ),
    "untuned learning rate": _Check(
        "each optimizer ran with the best of three or more learning rates, and not the first or last of them",
        "no two variations that are compared differ in their optimizer at a learning rate each",
        "the runs that are compared do not say their optimizers and learning rates",
        lambda *_: f"see \N{LEFT DOUBLE QUOTATION MARK}{_NOT_TUNED}\N{RIGHT DOUBLE QUOTATION MARK} under {THREATS}",
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
    return f"{_capital(check.kind)}: {': '.join(part for part in (outcome, why) if part)}."


def _label_of_finding(finding: Finding, conclusion: Conclusion) -> str:
    return label_of(metric_of(conclusion, finding.metric)) if finding.metric else "the metric"


# --- Published values ---------------------------------------------------------------------------------------------


def reproduced_text(reproduced: bool | None) -> str:
    """In words; None: too few seeds."""
    return "not judged" if reproduced is None else "reproduced" if reproduced else "not reproduced"


def published_sentence(figures: Sequence[PublishedValue]) -> str:
    """How many of somebody else's figures were reproduced."""
    rest = sum(figure.reproduced is None for figure in figures)
    unjudged = f"; not judged, for too few seeds: {rest}" if rest else ""
    return f"Published values reproduced: {_reproduced(figures)}{unjudged}."


def _reproduced(figures: Sequence[PublishedValue]) -> str:
    """`3 of 4`, of those that can be judged."""
    judged = [bool(figure.reproduced) for figure in figures if figure.reproduced is not None]
    return f"{sum(judged)} of {len(judged)}"


def misread_sentence(figure: PublishedValue, conclusion: Conclusion) -> str:
    """What the figure would be if it were what it is commonly read as; empty where it is that."""
    if not figure.commonly_read_as:
        return ""
    metric = metric_of(conclusion, figure.commonly_read_as)
    ours = ours_text(figure.commonly_read_as_mean, figure.commonly_read_as_low, figure.commonly_read_as_high, metric)
    return f"Read as {label_of(metric)}, ours is {ours}: {reproduced_text(figure.commonly_read_as_reproduced)}."


def misread_summary(figures: Sequence[PublishedValue], conclusion: Conclusion) -> str:
    """Of figures that are commonly read as another metric than they are: as which of the two they are reproduced."""
    metric, seems = (label_of(metric_of(conclusion, m)) for m in (figures[0].metric, figures[0].commonly_read_as))
    judged = [figure for figure in figures if None not in (figure.reproduced, figure.commonly_read_as_reproduced)]
    sentence = f"Published values commonly read as {seems}, but in fact {metric}: {len(figures)}; reproduced"
    if not judged:
        return f"{sentence}: unknown, for too few seeds."
    as_is, as_seems = (sum(bool(getattr(f, w)) for f in judged) for w in ("reproduced", "commonly_read_as_reproduced"))
    return f"{sentence} as {metric}: {as_is} of {len(judged)}, as {seems}: {as_seems} of {len(judged)}."


def chance_sentence(each: PublishedDifference, conclusion: Conclusion, decimals: int) -> str:
    """A published difference of one run each, beside ours and beside what chance alone does to it."""
    metric = metric_of(conclusion, each.metric)
    sentence = f"In {label_of(metric)}, {_minus(each, metric)} ({seeds_compared(each.difference)}); "
    sentence += f"published, from one run each: {signed(each.published, decimals)}."
    if math.isnan(each.chance):
        return f"{sentence} We have too few seeds to say how far chance moves it."
    chance = number(each.chance, digits_of(2 * each.chance, metric.decimals))
    way = "more" if each.chance > abs(each.published) else "less"
    return f"{sentence} Chance alone moves the difference of two single runs by up to {chance}, {way} than that."


def stated_sentence(stated: PaperValue, published: Published) -> str:
    """A parameter as the text of a publication states it, and as its code ran."""
    what, paper, code = plain(stated.parameter), scalar(stated.paper_value), scalar(stated.code_value)
    if stated.same:
        return f"Paper and code agree in {what} of {name(stated.variation)}: {paper}."
    sentence = f"The paper states {what} = {paper} for {name(stated.variation)}; "
    sentence += f"its code ran with {code}{_factor(stated.code_value, stated.paper_value)}."
    ran = [figure for figure in published.values if figure.variation == stated.variation]
    other = f", {name(stated.alternative)}" if stated.alternative != stated.variation else ""
    paper_share = "unknown (no run has it)" if stated.alternative is None else _reproduced(stated.values)
    with_paper = f"with the paper's value{other if stated.alternative else ''}: {paper_share}"
    return f"{sentence} Published values reproduced with the code's value: {_reproduced(ran)}; {with_paper}."


def _factor(ran: object, stated: object) -> str:
    if isinstance(ran, int | float) and isinstance(stated, int | float) and ran and stated:
        return f", {float(f'{ran / stated:.3g}'):g} times that"
    return ""


# --- About tables and pictures ------------------------------------------------------------------------------------


def table_notes(conclusion: Conclusion) -> list[str]:
    """What the numbers of the results table are, and what is the same in all of its rows."""
    seeds = max((cell.n for variation in conclusion.variations for cell in variation.cells), default=0)
    means = (
        "Means over the seeds [95 % confidence interval of the mean]." if seeds > 1 else "One seed each: no interval."
    )
    if conclusion.searches:
        means = f"Means over what was tried of {listed(map(plain, conclusion.provenance.nuisance))} [95 % interval]."
    same = listed((f"{plain(key)} {scalar(value)}" for key, value in conclusion.constant.items()), 30)
    constant = [f"The same in every variation: {same}."] if same else []
    return [*([means] if seeds else []), *wall_times(main_metrics(conclusion)), *constant]


def wall_times(metrics: Iterable[Metric]) -> list[str]:
    """That those of the metrics that are wall times are no finding."""
    times = listed(label_of(metric) for metric in metrics if metric.wall_time)
    return [f"Wall time ({times}) depends on the machine's load and is not evidence."] if times else []


def pictures_sentences(conclusion: Conclusion) -> list[str]:
    """Of which variations no picture was read, and which picture was not used and why."""
    unused = conclusion.unused_pictures
    found = [f"The picture of {name(whose)} was not used in the grid: {plain(why)}." for whose, why in unused.items()]
    unread = listed(name(whose) for whose in conclusion.without_pictures if whose not in unused)
    why = "the runs logged none, or the artifact store does not give it"
    return [*found, *([f"No picture of {unread} could be read: {why}."] if unread else [])]
