"""What a `Conclusion` says, in sentences: templates that the evidence fills.

Plain text on one line each, the same in the terminal, in Markdown and in HTML; each of these escapes it in its own way.
Counts come first (`runs not finished: 1 of 20`), so that no sentence needs a singular and a plural.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.compare.conclusion import Caveat, Claim, Conclusion, Flag, Metric, Pair, RunOutcome, Variation
from pipeline.compare.report.publications import chance_sentence, misread_summary, stated_sentence
from pipeline.compare.report.values import (
    MOST_ROWS,
    best_of,
    capital,
    cell_text,
    certainty,
    difference_text,
    digits_of,
    interval,
    label_of,
    listed,
    main_metrics,
    metric_of,
    minus,
    name,
    number,
    p_value,
    plain,
    scalar,
    seeds_text,
    with_unit,
    without_repeats,
)
from pipeline.inference import ALPHA, CONFIDENCE, Verdict
from pipeline.metrics import FLAGS, contained

THREATS, COMPLETENESS = "Threats to validity", "Completeness"  # headings
# What a claim is called of which the runs were there first, and what the parts are that can be changed then.
_LATE = {"after": "claimed afterwards", "changed": "changed afterwards"}
_CHANGED = {"direction": "its direction", "smallest_effect": "its smallest effect", "about": "what it is about"}
NOT_TUNED, PAST_BEST = "learning rate not tuned", "past its best"
# By flag: its name, and what is wrong with a variation that has it.
FLAG_WORDS = {
    **{flag.name: (flag.name, flag.says) for flag in FLAGS},
    "not a number": ("non-finite losses", "has non-finite losses"),
    "not converged": ("not converged", "was still improving at its last epoch"),
    "identical repetitions": ("identical repetitions", "has runs of different seeds with the very same results"),
}
_THREATENING = {"identical repetitions", *(flag.name for flag in FLAGS if flag.is_threat)}


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
    found += [NOT_TUNED] if untuned or (isinstance(pair, Claim) and pair.at_better_rates) else []
    found += [_unequal_budget(caveat) for caveat in pair.caveats if caveat.kind == "unequal budget"]
    found += [PAST_BEST] if any(caveat.kind == PAST_BEST for caveat in pair.caveats) else []
    found += _survivors(pair, conclusion)
    return [*found, *([f"runs not finished: {len(pair.unfinished)}"] if pair.unfinished else [])]


def _survivors(pair: Pair, conclusion: Conclusion) -> list[str]:
    """Of either side some of whose runs have a loss that is no number: how many, for the others alone make its mean.

    A metric of anybody's runs says nothing of another one.
    """
    sides = (each for each in conclusion.variations if each.name in (pair.variation, pair.against))
    flags = [flag for each in sides for flag in each.flags if flag.flag == "not a number"]
    flags = [flag for flag in flags if conclusion.kind != "groups" or pair.metric in flag.metric.split(", ")]
    return [f"{flag_name(flag)}: {flag.runs or len(flag.seeds)} of {flag.of}" for flag in flags]


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
    seen = f"In {label_of(metric)}, {minus(claim, metric)} ({certainty(claim)}). {capital(reason)}."
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
    known = {each.name: each for each in conclusion.metrics}
    best = [
        known[name]
        for name in dict.fromkeys(each.asked for each in judged)
        if name in known and known[name].at == "best"
    ]
    if best:
        which = listed(map(label_of, best))
        found.append(f"{which}: the best of a run's steps is chosen on what is reported, which makes it optimistic.")
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
    return [*(capital(why) for _, why in _own_threats(pair, conclusion)), *_beside(pair, pair.caveats)]


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
    lost = listed((f"{name(run.variation)}, {fate(run)}" for run in pair.unfinished), 4)
    return [*found, *([f"Runs that did not finish and could have changed this: {lost}."] if lost else [])]


def _caveat(caveat: Caveat) -> str:
    """A sentence; none for what is said elsewhere, of lost runs and of learning rates."""
    seeds = seeds_text(caveat.seeds) if caveat.seeds else ""
    if caveat.kind == "flag":
        what = FLAG_WORDS[caveat.flag][1] if caveat.flag in FLAG_WORDS else caveat.flag
        return f"{name(caveat.variation or 'each side')} {what}{f' ({seeds})' if seeds else ''}."
    if caveat.kind == "unpaired":
        return "Unpaired: the two sides have too few seeds in common for a paired test."
    if caveat.kind == "folds":
        return "Folds share training data: the interval is that of the corrected test of Nadeau and Bengio (2003)."
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


def fate(run: RunOutcome) -> str:
    """`seed 3: diverged (loss is nan)`."""
    reason = f" ({plain(run.reason, 100)})" if run.reason else ""
    return f"seed {scalar(run.seed)}: {run.state}{reason}"


# --- The answer ---------------------------------------------------------------------------------------------------


def summary(conclusion: Conclusion) -> list[str]:
    """The answer: a sentence about the claims, or about the differences, then what else to know first."""
    if not any(variation.finished for variation in conclusion.variations):
        return ["No run has finished yet: there is nothing to conclude."]
    found = [_about_claims(conclusion.claims) if conclusion.claims else _about_pairs(conclusion)]
    found += [sentence for sentence in (_untold(conclusion), _best(conclusion), _lost(conclusion)) if sentence]
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
    if conclusion.sweep and all(pair.finding == "not judged" for pair in pairs):
        return f"Variations: {len(conclusion.variations):,}, with one run each: nothing tells a difference from chance."
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
    if conclusion.metric and metric.higher_is_better is None:
        return f"Which way {label_of(metric)} is better is not known: say --better higher or --better lower."
    best = None if metric.wall_time else best_of(conclusion, metric)
    if best is None:
        return ""
    value = with_unit(" ".join(cell_text(best[1], metric)).strip(), metric)
    word = "Highest" if metric.higher_is_better else "Lowest"
    return f"{word} {label_of(metric)}: {name(best[0].name)}, {value} (n = {best[1].n})."


def _untold(conclusion: Conclusion) -> str:
    """What to do where no variation has two runs: of a search, to say what was searched."""
    variations = conclusion.variations
    if conclusion.kind != "groups" or conclusion.provenance.nuisance or len(variations) < 3:
        return ""
    if any(variation.finished > 1 for variation in variations):
        return ""
    tried = {p: {v.params[p] for v in variations if v.params[p] is not None} for p in conclusion.differing}
    searched = [plain(p) for p, values in tried.items() if len(values) > 2 and all(map(_is_number, values))]
    hint = f" If this is a search, name what was searched: --nuisance {','.join(searched)}." if searched else ""
    if any(metric.name == "rank_test_score" for metric in conclusion.metrics):  # the best five are no sample of tries
        hint = (
            " Of a search, scikit-learn's autologging keeps the best five, unless max_tuning_runs=None says otherwise."
        )
    told = "" if conclusion.sweep else "Each variation has one run, and nothing tells a difference from chance."
    return f"{told}{hint}".strip()


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _lost(conclusion: Conclusion) -> str:
    planned = [run for run in conclusion.completeness if run.planned]
    lost = sum(run.state != "finished" for run in planned)
    return f"{runs_called(conclusion)} not finished: {lost:,} of {len(planned):,}." if lost else ""


def runs_called(conclusion: Conclusion) -> str:
    """Without a plan, several runs of one seed are one repetition."""
    return "Planned runs" if conclusion.kind == "study" else "Repetitions"


def sweep_notes(conclusion: Conclusion) -> list[str]:
    """What goes with the main metric, and what to run next."""
    sweep, metric = conclusion.sweep, metric_of(conclusion, conclusion.metric)
    if sweep is None:
        return []
    shown = [each for each in sweep.parameters if each.p_corrected < ALPHA]
    rest = [plain(each.parameter) for each in sweep.parameters if each not in shown]
    goes = listed(f"{plain(each.parameter)} ({100 * each.share:.0f} % of the variance of its ranks)" for each in shown)
    found = [f"What {label_of(metric)} goes with, whatever else the runs differ in: {goes}."] if shown else []
    found += [f"What it is not shown to go with: {listed(rest)}."] if rest else []
    if sweep.repeat:
        best = listed(map(name, sweep.repeat))
        found.append(f"The best of {sweep.tries:,} is optimistic. To know more, repeat with several seeds: {best}.")
    return found


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
    found += [Threat("parameter cut", _cut(conclusion), ())] if conclusion.cut else []
    others = [*_missing_parameters(conclusion, pairs), *_threats_of_published(conclusion)]
    found += [Threat(*each, ()) for each in others]
    more = len(found) - MOST_ROWS
    return [*found[:MOST_ROWS], *([Threat("more", f"And {more:,} more, in conclusion.json.", ())] if more > 0 else [])]


def _missing_parameters(conclusion: Conclusion, pairs: Iterable[Pair]) -> list[tuple[str, str]]:
    """Parameters that only some of the runs have: perhaps the others were made before there was one."""
    if conclusion.kind != "groups":
        return []
    values: dict[str, list[object]] = {}
    for parameter, value in itertools.chain(*(each.params.items() for each in conclusion.variations)):
        values.setdefault(parameter, []).append(value)
    for other in itertools.chain(*(pair.confounded_by for pair in pairs)):
        values.setdefault(other.name, []).extend(
            [*other.variation, *other.against] if other.kind == "parameter" else []
        )
    missing = [name for name, each in values.items() if None in each and len(set(each)) > 1]
    if not missing:
        return []
    option = f"--default {plain(missing[0])}=VALUE"
    says = f"not in all of the runs: {listed(map(plain, missing))}; if the others had a default, say it: {option}."
    return [("parameter missing", says)]


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
    found += [(PAST_BEST, _past_best(each, pair, conclusion)) for each in pair.caveats if each.kind == PAST_BEST]
    if isinstance(pair, Claim) and pair.declared in _LATE:
        found.append((_LATE[pair.declared], _late(pair)))
    untuned = [_untuned(caveat) for caveat in pair.caveats if caveat.kind == "untuned learning rate"]
    untuned += remains(pair, conclusion)
    return [*found, *([(NOT_TUNED, " ".join(untuned))] if untuned else [])]


def _past_best(caveat: Caveat, pair: Pair, conclusion: Conclusion) -> str:
    metric = metric_of(conclusion, pair.metric)
    (best, last), (then, now) = caveat.steps, caveat.values
    digits = digits_of(abs(now - then), metric.decimals)
    extreme, moved = ("highest", "fallen") if metric.higher_is_better else ("lowest", "risen")
    seen = f"{label_of(metric)} of {name(caveat.variation or '')} was {extreme} at step {best:,.0f} of {last:,.0f} and "
    seen += f"has {moved} since, from {number(then, digits)} to {with_unit(number(now, digits), metric)}"
    less = "the smallest effect of interest" if isinstance(pair, Claim) else "the difference"
    return f"{seen}: by more than {less}. The last values are compared."


def _cut(conclusion: Conclusion) -> str:
    names = listed(map(plain, conclusion.cut))
    return f"as long as MLflow keeps a text, and perhaps unlike behind its end, where runs count as alike: {names}."


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
        seen = f"{minus(other, metric)} in {label_of(metric)}{beside}"
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


def flag_name(flag: Flag) -> str:
    """Such as `collapsed`."""
    return FLAG_WORDS[flag.flag][0]


def flag_sentence(variation: Variation, flag: Flag, conclusion: Conclusion) -> str:
    """`“Original” was still improving at its last epoch (val_loss); seeds: 2 of 5 (1 and 2).`"""
    metrics = [metric_of(conclusion, metric.strip()) for metric in flag.metric.split(",")]
    seen = listed(map(label_of, metrics), 4)
    if not math.isnan(flag.worst):
        seen += f": {with_unit(number(flag.worst, metrics[0].decimals), metrics[0])} at worst"
    which = f" ({listed(map(scalar, flag.seeds))})" if flag.runs is None and len(flag.seeds) < flag.of else ""
    concerned = f"seeds: {len(flag.seeds)}" if flag.runs is None else f"runs: {flag.runs}"
    return f"{name(variation.name)} {FLAG_WORDS[flag.flag][1]} ({seen}); {concerned} of {flag.of}{which}."


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


def asked_pictures_sentences(conclusion: Conclusion, used: int) -> list[str]:
    """What is shown of each variation, where an artifact was asked for, and of how many it was not looked for."""
    asked = conclusion.provenance.pictures
    if not asked:
        return []
    found = [f"{plain(asked)}, an artifact of the first repetition of each variation:"] if used else []
    rest = len(without_repeats(conclusion)) - used - len(conclusion.without_pictures)
    return [*found, *([f"It was not looked for in {rest:,} more variations."] if rest > 0 else [])]


def pictures_sentences(conclusion: Conclusion) -> list[str]:
    """Of which variations no picture was read, and which picture was not used and why."""
    unused = conclusion.unused_pictures
    found = [f"The picture of {name(whose)} was not used in the grid: {plain(why)}." for whose, why in unused.items()]
    unread = listed(name(whose) for whose in conclusion.without_pictures if whose not in unused)
    why = "the runs logged none, or the artifact store does not give it"
    return [*found, *([f"No picture of {unread} could be read: {why}."] if unread else [])]
