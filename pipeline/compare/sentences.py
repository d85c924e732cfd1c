"""What a `Conclusion` says, in sentences: templates that the evidence fills, and numbers for people.

Plain text on one line each, the same in the terminal, in Markdown and in HTML; each of these escapes it in its own way.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

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
    Published,
    PublishedDifference,
    RunRecord,
    Stated,
    Variation,
)
from pipeline.compare.evidence import Verdict
from pipeline.metrics import LAST
from pipeline.plots import short

MOST_ROWS = 100  # of a table or a list in a report; conclusion.csv has them all
MOST_LISTED = 8  # things in a sentence
LONGEST_NAME = 60  # characters of a name in a sentence
THREATS, COMPLETENESS = "Threats to validity", "Completeness"  # headings
_NOT_TUNED = "learning rate not tuned"
_MINUS = "\N{MINUS SIGN}"


# --- Numbers and words --------------------------------------------------------------------------------------------


def number(value: float, digits: int = 4) -> str:
    """A number for a person: fixed digits where they say something, else an exponent; `-` where there is none."""
    if math.isnan(value):
        return "-"
    fixed = value == 0 or 10**-digits <= abs(value) < 1e6
    text = f"{abs(value):.{digits}f}" if fixed else f"{abs(value):.2e}"
    return _MINUS + text if value < 0 else text


def signed(value: float, digits: int = 4) -> str:
    """A difference: with its sign, as a minus and not as a hyphen."""
    text = number(abs(value), digits)
    return text if math.isnan(value) or float(text) == 0 else ("+" if value > 0 else _MINUS) + text


def interval(low: float, high: float, write: Callable[[float], str]) -> str:
    """`[low, high]`; empty where there is none."""
    return "" if math.isnan(low) or math.isnan(high) else f"[{write(low)}, {write(high)}]"


def p_value(p: float) -> str:
    """`p < 0.001`, `p = 0.032`; `no p` where there is none."""
    if math.isnan(p):
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.9995 else "p = 1"


def counted(count: int, noun: str) -> str:
    """`1 run`, `2 runs`, `0 runs`, `12,345 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(things: Iterable[str], most: int = MOST_LISTED) -> str:
    """`a`, `a and b`, `a, b and c`, and of very many `a, b, c and 997 more`."""
    texts = list(things)
    if len(texts) > most + 1:
        texts = [*texts[:most], f"{len(texts) - most:,} more"]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def name(text: object, most: int = LONGEST_NAME) -> str:
    """A name in a sentence: one line, in quotes, its middle left out where it is long.

    A text that runs from right to left is isolated, so that it does not turn what stands around it.
    """
    return f"\N{LEFT DOUBLE QUOTATION MARK}{plain(text, most)}\N{RIGHT DOUBLE QUOTATION MARK}"


def plain(text: object, most: int = 200) -> str:
    """As `name`, without the quotes."""
    line = short(text, most)
    leftwards = any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in line)
    return f"\u2068{line}\u2069" if leftwards else line


def scalar(value: object) -> str:
    """A parameter's value: a number as short as it reads back, hashes cut as git cuts them."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    text = str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{32,}", text) else plain(text, LONGEST_NAME)


def seeds_text(seeds: Sequence[object]) -> str:
    """`seed 3`, `seeds 0 and 2`, `seeds 0 to 4`."""
    numbers = [seed for seed in seeds if isinstance(seed, int)]
    if len(numbers) == len(seeds) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"seeds {numbers[0]} to {numbers[-1]}"
    return f"seed{'' if len(seeds) == 1 else 's'} {listed(scalar(seed) for seed in seeds)}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _times(effect: float) -> str:
    size = abs(effect)
    return f"{size:,.0f}" if size >= 10 else f"{size:.2g}"


# --- Metrics and differences --------------------------------------------------------------------------------------


def metric_of(conclusion: Conclusion, metric: str | None) -> Metric:
    """How to show a metric.

    One that is not among the conclusion's, such as a per-epoch one, is shown under its own name, with the unit and the
    decimals of its last value if the conclusion has that.
    """
    known = {each.name: each for each in conclusion.metrics}
    if metric in known:
        return known[metric]
    label, like = metric or "no metric", known.get(f"{LAST}{metric}")
    shown = {"unit": like.unit, "digits": like.digits} if like else {"unit": "", "digits": 4}
    return Metric(name=label, label=label, **shown, higher_is_better=False, main=False, judged=False)


def label_of(metric: Metric) -> str:
    return plain(metric.label)


def with_unit(text: str, metric: Metric) -> str:
    """`0.09 nats per pixel`."""
    return f"{text} {plain(metric.unit)}" if metric.unit else text


def difference_text(difference: Difference, metric: Metric) -> str:
    """`+0.0012 [+0.0008, +0.0016] nats per pixel`; `none` where there is no value."""
    if math.isnan(difference.mean):
        return "none"
    digits = _digits(difference.high - difference.low, metric.digits)
    low, high = difference_interval(difference, metric)
    span = interval(low, high, lambda value: signed(value, digits))
    return with_unit(f"{signed(difference.mean, digits)} {span}".strip(), metric)


def difference_interval(difference: Difference, metric: Metric) -> tuple[float, float]:
    """Its ends, no further out than two values of the metric can differ."""
    widest = metric.most - metric.least
    return max(difference.low, -widest), min(difference.high, widest)  # of NaN, NaN


def _digits(width: float, digits: int) -> int:
    """Decimals that show two digits of an interval's width, and no fewer than its metric has."""
    if not (width > 0 and math.isfinite(width)):
        return digits
    return min(max(digits, 1 - math.floor(math.log10(width))), digits + 3)


def cell_text(cell: Cell | None, metric: Metric) -> tuple[str, str]:
    """A mean and its interval, without the unit; the second is empty where there is none."""
    if cell is None:
        return "-", ""
    return number(cell.mean, metric.digits), _possible_interval(cell.low, cell.high, metric)


def _possible_interval(low: float, high: float, metric: Metric) -> str:
    """No further out than the metric's values can lie."""
    ends = max(low, metric.least), min(high, metric.most)  # of NaN, NaN
    return interval(*ends, lambda value: number(value, metric.digits))


def seeds_compared(difference: Difference) -> str:
    """`5 seeds, paired`; `5 and 3 seeds, not paired`; `no seeds`."""
    if difference.paired:
        return f"{counted(difference.n_pairs, 'seed')}, paired"
    if not difference.n_a and not difference.n_b:
        return "no seeds"
    return f"{difference.n_a} and {counted(difference.n_b, 'seed')}, not paired"


# --- Sentences: verdicts ------------------------------------------------------------------------------------------


def warnings(pair: Pair, conclusion: Conclusion) -> list[str]:
    """What stands right beside a verdict: `confounded by decoder_hidden`, `val_loss not comparable`."""
    found = []
    if pair.confounded_by:
        found.append(f"confounded by {listed(plain(other.name) for other in pair.confounded_by)}")
    if pair.why == "penalty differs":
        found.append(f"{label_of(metric_of(conclusion, pair.asked))} not comparable")
    if pair.why == "wall time":
        found.append("wall time is no evidence")
    if pair.why == "absent":
        found.append(f"{label_of(metric_of(conclusion, pair.asked))} absent")
    if any(caveat.kind == "untuned learning rate" for caveat in pair.caveats) or _at_better_rates(pair):
        found.append(_NOT_TUNED)
    if pair.unfinished:
        found.append(f"{counted(len(pair.unfinished), 'run')} not finished")
    return found


def _at_better_rates(pair: Pair) -> tuple[int, ...]:
    return pair.at_better_rates if isinstance(pair, Claim) else ()


def verdict_sentence(claim: Claim, conclusion: Conclusion) -> str:
    """What was seen and why the verdict follows."""
    metric = metric_of(conclusion, claim.metric)
    if claim.metric is None or claim.verdict == Verdict.NOT_JUDGED:
        return _not_judged(claim, metric)
    smallest = with_unit(scalar(claim.smallest), metric)
    band = f"the whole interval lies within \N{PLUS-MINUS SIGN}{smallest}, the smallest difference that matters"
    size = f"{_times(claim.effect)} times the smallest difference that matters ({smallest})"
    way = "lower" if claim.difference.mean < 0 else "higher"
    equal = claim.direction == "equal"
    reason = {
        Verdict.SUPPORTED: f"{band}: equal in all that matters, as claimed"
        if equal
        else f"{way}, as claimed, by {size}",
        Verdict.CONTRADICTED: f"not equal, but {way} by {size}" if equal else f"the other way round: {way} by {size}",
        Verdict.NEGLIGIBLE: f"{band}: whatever difference there is does not matter",
        Verdict.INCONCLUSIVE: f"that decides nothing; {_to_settle(claim.more_seeds)}",
    }[claim.verdict]
    return f"{_seen(claim, metric)} {_capital(reason)}."


def pair_sentence(pair: Pair, conclusion: Conclusion) -> str:
    """What was seen of a pair about which nothing is claimed."""
    metric = metric_of(conclusion, pair.metric)
    if pair.metric is None or pair.finding == "not judged":
        return f"Not judged: {_not_judged(pair, metric)}"
    ways = {"lower": "is lower than", "higher": "is higher than"}
    is_so = f"{name(pair.variation)} {ways.get(pair.finding, 'shows no difference from')} {name(pair.against)}"
    certainty = f"{p_value(pair.p_holm)}, {seeds_compared(pair.difference)}"
    return f"{is_so} in {label_of(metric)}: {difference_text(pair.difference, metric)} ({certainty})."


def _seen(pair: Pair, metric: Metric) -> str:
    certainty = f"{p_value(pair.p_holm)} after Holm's correction, {seeds_compared(pair.difference)}"
    return f"In {label_of(metric)}, {_minus(pair, metric)} ({certainty})."


def _not_judged(pair: Pair, metric: Metric) -> str:
    difference, asked = pair.difference, plain(pair.asked)
    if pair.metric is None and pair.why == "penalty differs":
        return f"{asked} is not comparable, and no other metric stands for it."
    if pair.why == "wall time":
        return f"{asked} depends on what else the machine did."
    if pair.metric is None:
        return f"No finished run of one side has a value of {asked}."
    for side, n in ((pair.variation, difference.n_a), (pair.against, difference.n_b)):
        if n == 0:
            return f"No finished run of {name(side)} has a value of {label_of(metric)}."
    if min(difference.n_a, difference.n_b) > 1:
        return f"The values of {label_of(metric)} give no interval."
    few = [side for side, n in ((pair.variation, difference.n_a), (pair.against, difference.n_b)) if n == 1]
    seen = f"the difference seen, {difference_text(difference, metric)}, may be chance"
    return f"{listed(map(name, few))} {'has' if len(few) == 1 else 'have'} one seed only; {seen}."


def _to_settle(more: int | None) -> str:
    if more is None:
        return "more than 1,000 more seeds of each side would be needed, or the spread does not say how many"
    return f"about {counted(more, 'more seed')} of each side would probably settle it"


def notes(pair: Pair, conclusion: Conclusion) -> list[str]:
    """All that there is to know beside a result, a sentence each: threats to it, flags, lost seeds, lost runs."""
    return [*(why for _, why in _own_threats(pair, conclusion)), *_beside(pair, pair.caveats)]


def other_notes(pair: Pair) -> list[str]:
    """Those of the notes that are not among the conclusion's threats."""
    return _beside(pair, [caveat for caveat in pair.caveats if caveat.flag != _COLLAPSED])


def _beside(pair: Pair, caveats: Iterable[Caveat]) -> list[str]:
    found = [sentence for caveat in caveats if (sentence := _caveat(caveat))]
    if pair.unfinished:
        lost = listed((f"{name(run.variation)}, {_fate(run)}" for run in pair.unfinished), 4)
        one = len(pair.unfinished) == 1
        found.append(f"{'A run' if one else 'Runs'} that could have changed this did not finish: {lost}.")
    return found


def _confounded(pair: Pair) -> str:
    others = listed(map(_confounder, pair.confounded_by))
    return f"The two sides also differ in {others}: the difference may come from there."


def remains(pair: Pair, conclusion: Conclusion) -> list[str]:
    """What remains of a claim about two optimizers at better learning rates, a sentence for each claim that says so."""
    params = {variation.name: variation.params for variation in conclusion.variations}
    found = []
    for other in (conclusion.claims[number] for number in _at_better_rates(pair)):
        here = {params[side]["optimizer"]: params[side]["learning_rate"] for side in (pair.variation, pair.against)}
        there = {params[side]["optimizer"]: params[side]["learning_rate"] for side in (other.variation, other.against)}
        rates = listed(
            f"{scalar(optimizer)} at learning rate {scalar(rate)} instead of {scalar(here[optimizer])}"
            for optimizer, rate in there.items()
            if rate != here[optimizer]
        )
        turned = params[pair.variation]["optimizer"] != params[other.variation]["optimizer"]
        share = (
            (-1 if turned else 1) * other.difference.mean / pair.difference.mean if pair.difference.mean else math.nan
        )
        beside = ""
        if other.metric == pair.metric and math.isfinite(share):
            beside = f", {100 * share:.2g} % of the difference here" if share > 0 else ", the other way round"
        metric = metric_of(conclusion, other.metric)
        seen = f"{_minus(other, metric)} in {label_of(metric)}{beside}"
        says = name(other.says.rstrip("."), 200)
        found.append(f"With {rates}, {seen}; the claim about that, {says}, is {other.verdict}.")
    return found


def _minus(pair: Pair | PublishedDifference, metric: Metric) -> str:
    return f"{name(pair.variation)} minus {name(pair.against)} is {difference_text(pair.difference, metric)}"


def _confounder(other: Confounder) -> str:
    sides = (listed(map(scalar, side), 3) or "none" for side in (other.variation, other.against))
    return f"{plain(other.name)} ({' against '.join(sides)})"


def _other_metric(pair: Pair, conclusion: Conclusion) -> str:
    asked, used = metric_of(conclusion, pair.asked), metric_of(conclusion, pair.metric)
    why = f"No run of one side has {label_of(asked)}"
    if pair.why == "penalty differs":
        strengths = f" ({' against '.join(map(scalar, pair.penalties))})" if pair.penalties else ""
        why = f"{label_of(asked)} is not comparable: it contains an L1 penalty of different strength{strengths}"
    instead = f"; {label_of(used)} is used instead"
    if pair.asked_difference and not math.isnan(pair.asked_difference.mean):
        instead += f"; in {label_of(asked)} the difference reads {difference_text(pair.asked_difference, asked)}"
    return f"{why}{instead}."


_COLLAPSED = "collapsed"
_FLAGGED = {
    "collapsed": ("collapsed: nearly the same picture for every input", "collapsed"),
    "dead units": ("has units that are never active", "has dead units"),
    "not a number": ("has losses that are no finite numbers", "has losses that are no numbers"),
    "not converged": ("was still improving at its last epoch", "was still improving at its last epoch"),
}


def _caveat(caveat: Caveat) -> str:
    """A sentence; none for what is said elsewhere, of lost runs and of learning rates."""
    seeds = f" ({seeds_text(caveat.seeds)})" if caveat.seeds else ""
    if caveat.kind == "flag":
        side = name(caveat.variation) if caveat.variation else "each side"
        return f"{_capital(side)} {_FLAGGED[caveat.flag or ''][1] if caveat.flag in _FLAGGED else caveat.flag}{seeds}."
    if caveat.kind == "unpaired":
        return "The two sides have too few seeds in common to be compared seed by seed."
    if caveat.kind == "seeds dropped" and caveat.seeds:
        one = len(caveat.seeds) == 1
        return (
            f"{_capital(seeds_text(caveat.seeds))} {'is' if one else 'are'} left out, "
            f"because only one side has {'it' if one else 'them'}."
        )
    return ""


def _untuned(caveat: Caveat) -> str:
    rates = [*map(scalar, caveat.learning_rates), *[""] * len(caveat.optimizers)]
    whose = listed(f"{plain(o)} ({r})" if r else plain(o) for o, r in zip(caveat.optimizers, rates, strict=False))
    return f"No other learning rate of {whose} was tried: this compares the choice of learning rates, too."


def _fate(run: PlannedRun) -> str:
    """`seed 3: diverged (loss is nan)`."""
    reason = f" ({plain(run.reason, 100)})" if run.reason else ""
    return f"seed {scalar(run.seed)}: {run.state}{reason}"


# --- Sentences: the whole -----------------------------------------------------------------------------------------


def summary(conclusion: Conclusion) -> list[str]:
    """The answer: a sentence about the claims, or about the differences, then what else to know first."""
    ran = any(variation.finished for variation in conclusion.variations)
    found = [_about_claims(conclusion.claims) if conclusion.claims and ran else _about_pairs(conclusion)]
    found += [sentence for sentence in (_best(conclusion), _lost(conclusion)) if sentence]
    flagged = [f"{name(v.name)} ({listed(flag.flag for flag in v.flags)})" for v in distinct(conclusion) if v.flags]
    return [*found, *([f"Flagged: {listed(flagged, 4)}."] if flagged else [])]


def _about_claims(claims: Sequence[Claim]) -> str:
    by_verdict = {verdict: [claim for claim in claims if claim.verdict == verdict] for verdict in Verdict}
    by_verdict = {verdict: alike for verdict, alike in by_verdict.items() if alike}
    if len(by_verdict) == 1:
        (verdict,) = by_verdict
        if verdict == Verdict.NOT_JUDGED and len(claims) > 1:
            return f"None of {len(claims):,} claims is judged."
        how_many = {1: "The claim is", 2: "Both claims are"}.get(len(claims), f"All {len(claims):,} claims are")
        return f"{how_many} {verdict}{_but_confounded(claims)}."
    shares = listed(
        f"{len(alike):,} {'is' if len(alike) == 1 else 'are'} {verdict}{_but_confounded(alike)}"
        for verdict, alike in by_verdict.items()
    )
    return f"Of {len(claims):,} claims, {shares}."


def _but_confounded(claims: Sequence[Claim]) -> str:
    """How many of these claims compare more than they name, in brackets."""
    confounded = [claim for claim in claims if claim.confounded_by]
    if not confounded:
        return ""
    by = listed(dict.fromkeys(plain(other.name) for claim in confounded for other in claim.confounded_by), 3)
    some = f"{len(confounded):,} of them " if len(confounded) < len(claims) else ""
    return f" ({some}confounded by {by})"


def _about_pairs(conclusion: Conclusion) -> str:
    pairs = [pair for pair in conclusion.pairs if pair.asked == conclusion.metric]
    if not any(variation.finished for variation in conclusion.variations):
        return "No run has finished, so that there is nothing to conclude yet."
    if not pairs:
        many = len(conclusion.variations)
        return f"There {'is one variation' if many == 1 else f'are {many:,} variations'} and no comparison."
    if len(pairs) == 1:
        return pair_sentence(pairs[0], conclusion)
    against = f"Compared with {name(conclusion.baseline)}" if conclusion.baseline else "Compared"
    label = label_of(metric_of(conclusion, conclusion.metric))
    return f"{against} in {label}, {_shares([pair.finding for pair in pairs])}."


def _shares(findings: Sequence[str]) -> str:
    """`of 3 variations 2 are lower and 1 shows no difference`, `all 3 variations are lower`."""
    said = {"lower": ("is lower", "are lower"), "higher": ("is higher", "are higher")}
    said |= {"no difference shown": ("shows a difference", "show no difference")}
    said |= {"not judged": ("is judged", "are not judged")}
    counts = {way: findings.count(way) for way in said if way in findings}
    if len(counts) == 1:
        (way,) = counts
        if way in ("lower", "higher"):
            return f"all {len(findings):,} variations {said[way][1]}"
        return f"none of {len(findings):,} variations {said[way][0]}"
    one = {
        **{way: each[0] for way, each in said.items()},
        "no difference shown": "shows no difference",
        "not judged": "is not judged",
    }
    shares = (f"{count:,} {one[way] if count == 1 else said[way][1]}" for way, count in counts.items())
    return f"of {len(findings):,} variations {listed(shares)}"


def _best(conclusion: Conclusion) -> str:
    metric = metric_of(conclusion, conclusion.metric)
    best = None if metric.wall_time else best_of(conclusion, metric)
    cell = cell_of(best, metric.name) if best else None
    if best is None or cell is None:
        return ""
    value = with_unit(" ".join(cell_text(cell, metric)).strip(), metric)
    word = "Highest" if metric.higher_is_better else "Lowest"
    return f"{word} {label_of(metric)}: {name(best.name)}, {value} ({counted(cell.n, 'seed')})."


def best_of(conclusion: Conclusion, metric: Metric) -> Variation | None:
    """The variation with the best mean; None where not two different means can be compared."""
    cells = [(cell_of(variation, metric.name), variation) for variation in distinct(conclusion)]
    means = [(cell.mean, variation) for cell, variation in cells if cell and math.isfinite(cell.mean)]
    if len({mean for mean, _ in means}) < 2:
        return None
    return (max if metric.higher_is_better else min)(means, key=lambda each: each[0])[1]


def distinct(conclusion: Conclusion) -> list[Variation]:
    """The variations without the repeated runs of the baseline."""
    return [variation for variation in conclusion.variations if variation.role in ("baseline", "variation")]


def cell_of(variation: Variation, metric: str) -> Cell | None:
    """What a variation says about a metric, if it has it."""
    return next((cell for cell in variation.cells if cell.metric == metric), None)


def _lost(conclusion: Conclusion) -> str:
    planned = [run for run in conclusion.completeness if run.planned]
    lost = [run for run in planned if run.state != "finished"]
    if not lost or not any(variation.finished for variation in conclusion.variations):
        return ""  # the first sentence says so
    return f"{len(lost):,} of {counted(len(planned), _run_word(conclusion))} did not finish whole."


def _run_word(conclusion: Conclusion) -> str:
    """Without a plan, several runs of one seed are one repetition."""
    return "planned run" if conclusion.kind == "study" else "repetition"


def flag_sentence(variation: Variation, flag: Flag, conclusion: Conclusion) -> str:
    """`“Original” collapsed: ..., in all 5 seeds (collapse: 0.0003 at worst).`"""
    metrics = [metric_of(conclusion, metric.strip()) for metric in flag.metric.split(",")]
    seen = listed(map(label_of, metrics), 4)
    if not math.isnan(flag.worst):
        seen += f": {with_unit(number(flag.worst, metrics[0].digits), metrics[0])} at worst"
    if not flag.seeds:
        where = "in seeds that are not known"
    elif len(flag.seeds) == flag.of:
        where = {1: "in its one seed", 2: "in both seeds"}.get(flag.of, f"in all {flag.of} seeds")
    else:
        where = f"in {len(flag.seeds)} of {flag.of} seeds, {listed(map(scalar, flag.seeds))}"
    return f"{name(variation.name)} {_FLAGGED[flag.flag][0]}, {where} ({seen})."


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
    for variation in distinct(conclusion):
        concerned = [claims for claims, pair in numbered if variation.name in (pair.variation, pair.against)]
        collapsed = (flag for flag in variation.flags if flag.flag == _COLLAPSED)
        found += [
            Threat(_COLLAPSED, flag_sentence(variation, flag, conclusion), tuple(n for each in concerned for n in each))
            for flag in collapsed
        ]
    found += [Threat(*each, ()) for each in _threats_of_published(conclusion)]
    more = len(found) - MOST_ROWS
    return [*found[:MOST_ROWS], *([Threat("more", f"And {more:,} more, in conclusion.json.", ())] if more > 0 else [])]


def _own_threats(pair: Pair, conclusion: Conclusion) -> list[tuple[str, str]]:
    """What a threat is called, and what it is."""
    found = [("confounded", _confounded(pair))] if pair.confounded_by else []
    if pair.why == "penalty differs" and pair.metric is not None:
        found.append(("metric not comparable", _other_metric(pair, conclusion)))
    untuned = [_untuned(caveat) for caveat in pair.caveats if caveat.kind == "untuned learning rate"]
    untuned += remains(pair, conclusion)
    return [*found, *([(_NOT_TUNED, " ".join(untuned))] if untuned else [])]


def _threats_of_published(conclusion: Conclusion) -> list[tuple[str, str]]:
    published = conclusion.published
    if published is None:
        return []
    kinds = dict.fromkeys((each.metric, each.taken_for) for each in published.figures if each.taken_for)
    alike = [[each for each in published.figures if (each.metric, each.taken_for) == kind] for kind in kinds]
    found = [("figure is another metric than it seems", taken_for_summary(each, conclusion)) for each in alike]
    found += [
        ("paper and code disagree", stated_sentence(each, published)) for each in published.stated if not each.same
    ]
    return found + [
        ("one run each", chance_sentence(each, conclusion, published.decimals))
        for each in published.differences
        if not each.chance < abs(each.published)
    ]


def completeness_sentences(conclusion: Conclusion) -> list[str]:
    """How many of the planned runs finished, then each that did not, and each that nobody planned."""
    planned = [run for run in conclusion.completeness if run.planned]
    lost = [run for run in planned if run.state != "finished"]
    unplanned = [run for run in conclusion.completeness if not run.planned]
    word = _run_word(conclusion)
    if not planned:
        found = ["No run was planned." if conclusion.kind == "study" else "No run belongs to a variation."]
    elif not lost:
        one = "The one" if len(planned) == 1 else f"All {len(planned):,}"
        found = [f"{one} {word}{'' if len(planned) == 1 else 's'} finished."]
    else:
        fates = listed(
            f"{sum(run.state == state for run in lost)} {state}" for state in dict.fromkeys(run.state for run in lost)
        )
        whole = f"{len(planned) - len(lost):,}" if len(lost) < len(planned) else "None"
        found = [f"{whole} of {counted(len(planned), word)} finished whole; {fates}."]
        if len(planned) == 1:
            found = [f"The one {word} did not finish whole."]
    found += [f"{name(run.variation)}, {_fate(run)}." for run in lost[:MOST_ROWS]]
    if len(lost) > MOST_ROWS:
        found.append(f"And {len(lost) - MOST_ROWS:,} more, in conclusion.json.")
    if unplanned:
        found.append(f"{counted(len(unplanned), 'run')} that nobody planned {_was(unplanned)} read, too.")
    return [*found, *left_out(conclusion)]


def left_out(conclusion: Conclusion) -> list[str]:
    """What is in no variation, by name: nothing is dropped in silence."""
    runs = [run for run in conclusion.runs if run.variation is None]
    if not runs:
        return []
    found = [f"{counted(len(runs), 'run')} {'belongs' if len(runs) == 1 else 'belong'} to no variation."]
    found += [
        f"Not in the table: {run_text(run)}: {plain(run.reason or 'no reason known')}." for run in runs[:MOST_ROWS]
    ]
    return found + ([f"And {len(runs) - MOST_ROWS:,} more, in conclusion.json."] if len(runs) > MOST_ROWS else [])


def run_text(run: RunRecord) -> str:
    """`adam, seed 3 (0123...)`."""
    seed = "" if run.seed is None else f", seed {scalar(run.seed)}"
    return f"{plain(run.variation or run.name or 'run', LONGEST_NAME)}{seed} ({run.run_id})"


def _was(things: Sequence[object]) -> str:
    return "was" if len(things) == 1 else "were"


def noise_sentence(noise: Noise, conclusion: Conclusion) -> str:
    """How large a difference chance alone makes, and whether that is smaller than what matters."""
    metric = metric_of(conclusion, noise.metric)
    label = label_of(metric)
    if math.isnan(noise.limit):
        return f"In {label}, there are too few values to say how large a difference chance makes."
    if noise.limit == 0:
        return f"In {label}, the seeds of {name(noise.against)} do not differ, so that chance makes no difference."
    digits = _digits(2 * noise.limit, metric.digits)
    limit = with_unit(number(noise.limit, digits), metric)
    sides = f"{counted(noise.n_a, 'seed')} and {noise.n_b} others of {name(noise.against)}"
    sentence = f"In {label}, chance alone makes {sides} differ by less than {limit} 19 times in 20"
    more = ", which is more" if abs(noise.observed) > noise.limit else ""
    sentence += f"; here they differ by {signed(noise.observed, digits)}{more}."
    if math.isnan(noise.smallest):
        return sentence
    below = noise.limit < noise.smallest
    comparison = "less than" if below else "not less than"
    matters = f"the smallest difference that matters, {with_unit(scalar(noise.smallest), metric)}"
    bound = number(noise.limit, digits)
    return f"{sentence} {bound} is {comparison} {matters}{'' if below else ': more seeds would show it better'}."


def determinism_sentence(check: Determinism, conclusion: Conclusion) -> str:
    """Whether the same configuration and seed gave the same numbers twice."""
    run = f"Seed {scalar(check.seed)} of {name(check.variation)}"
    if check.same is None:
        return f"{run} was to run twice; one of the two has not finished, so that nothing is known."
    if check.same:
        what = "the one metric" if check.compared == 1 else f"all {check.compared:,} metrics"
        return f"{run}, run twice, gave the same numbers to the last digit in {what} compared."
    differ = listed((f"{plain(u.metric)} ({u.first!r} and {u.again!r})" for u in check.unequal), 4)
    share = f"{len(check.unequal)} of {counted(check.compared, 'metric')}"
    return f"{run}, run twice, gave different numbers in {share}: {differ}."


_PASSED = {
    "best at the edge of the grid": "No best value lies at the edge of its grid",
    "untuned learning rate": "No comparison of optimizers rests on a learning rate that was not tuned",
    "still improving at the last epoch": "No run was still improving at its last epoch",
    "selected on the reported data": "Nothing was selected on the data that is reported",
}


_NOT_APPLICABLE = {
    "best at the edge of the grid": "No numeric parameter has more than two values tried with all else equal",
    "untuned learning rate": "No two variations that are compared differ in their optimizer",
    "still improving at the last epoch": "Each run has one epoch",
    "selected on the reported data": "Of no parameter were several values tried with all else equal",
}
_UNKNOWN = {
    "best at the edge of the grid": "No finished run has a metric to compare",
    "untuned learning rate": "Finished runs of a side of each comparison do not say their optimizer, or there are none",
    "still improving at the last epoch": "No losses by epoch were read",
    "selected on the reported data": "The runs do not say on which data the metric was measured",
}


_ELSEWHERE = {
    "untuned learning rate": f"See \N{LEFT DOUBLE QUOTATION MARK}{_NOT_TUNED}\N{RIGHT DOUBLE QUOTATION MARK} "
    f"under {THREATS}",
    "still improving at the last epoch": "See Flags",
}


def check_sentences(check: Check, conclusion: Conclusion) -> list[str]:
    """What a check of a good study found: a sentence for each finding, or one that says where they stand, or none."""
    if check.passed is None and check.applies is None:
        return ["This conclusion does not say whether it applies."]
    if check.passed is None:
        return [f"{(_UNKNOWN if check.applies else _NOT_APPLICABLE)[check.kind]}."]
    if check.passed and not check.findings:
        return [f"{_PASSED[check.kind]}."]
    if check.kind in _ELSEWHERE:
        return [f"{_ELSEWHERE[check.kind]}."]
    found = [_finding(check.kind, finding, conclusion) for finding in check.findings[:MOST_LISTED]]
    if len(check.findings) > MOST_LISTED:
        found.append(f"And {len(check.findings) - MOST_LISTED:,} more, in conclusion.json.")
    return found or ["It failed."]


def _finding(kind: str, finding: Finding, conclusion: Conclusion) -> str:
    label = label_of(metric_of(conclusion, finding.metric)) if finding.metric else "the metric"
    who = name(finding.variation) if finding.variation else "The study"
    tried = listed(map(scalar, finding.tried))
    if kind == "best at the edge of the grid":
        what = f"{plain(finding.parameter or 'parameter')} = {scalar(finding.value)}"
        values = f" of the values tried ({tried})" if tried else ""
        return f"The best {label} is that of {what}, at the edge{values}: a better one may lie beyond."
    if finding.parameter:
        best = f"{plain(finding.parameter)} = {scalar(finding.value)}"
        return (
            f"Of {tried}, {best} has the best {label} on the data that is reported: choosing and reporting on the same "
            "data makes this figure optimistic."
        )
    return f"{who} was chosen for its {label}, on the data that is reported: that makes this figure optimistic."


def taken_for_sentence(figure: Figure, conclusion: Conclusion) -> str:
    """What the figure would be if it were what its reader takes it for; empty where it is that."""
    if not figure.taken_for:
        return ""
    taken = metric_of(conclusion, figure.taken_for)
    ours = ours_text(figure.taken_for_mean, figure.taken_for_low, figure.taken_for_high, taken)
    return f"Taken for {label_of(taken)}, ours is {ours}: {reproduced_text(figure.taken_for_reproduced)}."


def ours_text(mean: float, low: float, high: float, metric: Metric) -> str:
    """Our mean with its prediction interval, without the unit."""
    return f"{number(mean, metric.digits)} {_possible_interval(low, high, metric)}".strip()


def reproduced_text(reproduced: bool | None) -> str:
    """In words; None: too few seeds."""
    return "not judged" if reproduced is None else "reproduced" if reproduced else "not reproduced"


def published_sentence(figures: Sequence[Figure]) -> str:
    """How many of somebody else's figures were reproduced."""
    judged = [figure for figure in figures if figure.reproduced is not None]
    rest = len(figures) - len(judged)
    behind = f" {counted(rest, 'figure')} {'is' if rest == 1 else 'are'} not judged, for want of seeds." if rest else ""
    if not judged:
        return behind.strip() or "There is no published figure to compare with."
    return f"{_capital(_share_reproduced(judged))}.{behind}"


def _share_reproduced(figures: Sequence[Figure]) -> str:
    """`3 of 4 published figures are reproduced`, of those that can be judged."""
    judged = [bool(figure.reproduced) for figure in figures if figure.reproduced is not None]
    if len(judged) < 2:
        one = f"the one published figure that can be judged is {reproduced_text(judged[0])}" if judged else ""
        return one or "no published figure can be judged"
    share = "none" if not any(judged) else "all" if all(judged) else f"{sum(judged)}"
    return f"{share} of {len(judged)} published figures {'is' if sum(judged) == 1 else 'are'} reproduced"


def taken_for_summary(figures: Sequence[Figure], conclusion: Conclusion) -> str:
    """Of figures that a reader takes for another metric than they are: as which of the two they are reproduced."""
    is_label, taken_label = (label_of(metric_of(conclusion, m)) for m in (figures[0].metric, figures[0].taken_for))
    judged = [figure for figure in figures if None not in (figure.reproduced, figure.taken_for_reproduced)]
    sentence = f"{counted(len(figures), 'published figure')} that a reader takes for {taken_label} "
    sentence += f"{'is' if len(figures) == 1 else 'are'} {is_label}"
    if not judged:
        return f"{sentence}; we have too few seeds to tell."
    shares = (sum(bool(getattr(each, which)) for each in judged) for which in ("reproduced", "taken_for_reproduced"))
    as_is, as_taken = (f"{share} of {len(judged)} {'is' if share == 1 else 'are'} reproduced" for share in shares)
    return f"{sentence}: as that, {as_is}; as {taken_label}, {as_taken}."


def chance_sentence(each: PublishedDifference, conclusion: Conclusion, decimals: int) -> str:
    """A published difference of one run each, beside ours and beside what chance alone does to it."""
    metric = metric_of(conclusion, each.metric)
    sentence = f"In {label_of(metric)}, {_minus(each, metric)} ({seeds_compared(each.difference)}); "
    sentence += f"published from one run of each: {signed(each.published, decimals)}."
    if math.isnan(each.chance):
        return f"{sentence} We have too few seeds to say how far chance moves it."
    chance = number(each.chance, _digits(2 * each.chance, metric.digits))
    way = "more" if each.chance > abs(each.published) else "less"
    return f"{sentence} Chance alone moves the difference of two single runs by up to {chance}, {way} than that."


def stated_sentence(stated: Stated, published: Published) -> str:
    """A parameter as the text of a publication states it, and as its code ran."""
    what = f"{plain(stated.parameter)} of {name(stated.variation)}"
    if stated.same:
        return f"The text states {what} as it ran: {scalar(stated.stated)}."
    factor = _factor(stated.ran, stated.stated)
    sentence = f"The text states {plain(stated.parameter)} = {scalar(stated.stated)} for {name(stated.variation)}"
    sentence += f"; its code ran with {scalar(stated.ran)}{factor}."
    ran = [figure for figure in published.figures if figure.variation == stated.variation]
    if stated.alternative is None:
        return f"{sentence} No run has the value stated; with the one that ran, {_share_reproduced(ran)}."
    of = f", {name(stated.alternative)}" if stated.alternative != stated.variation else ""
    return (
        f"{sentence} With the value that ran, {_share_reproduced(ran)}; "
        f"with the value stated{of}, {_share_reproduced(stated.figures)}."
    )


def _factor(ran: object, stated: object) -> str:
    if isinstance(ran, int | float) and isinstance(stated, int | float) and ran and stated:
        return f", {float(f'{ran / stated:.3g}'):g} times that"
    return ""


# --- Sections that every document has ----------------------------------------------------------------------------


def table_notes(conclusion: Conclusion) -> list[str]:
    """What the numbers of the conclusion table are, and what is the same in all of its rows."""
    shown = [metric for metric in conclusion.metrics if metric.main]
    return [*about_means(conclusion), *wall_times(shown), *constants(conclusion)]


def about_means(conclusion: Conclusion) -> list[str]:
    seeds = max((cell.n for variation in conclusion.variations for cell in variation.cells), default=0)
    if seeds > 1:
        return ["Means over the seeds, with the 95 % interval of the mean in brackets."]
    return ["One seed each: no interval can be given."] if seeds else []


def wall_times(metrics: Iterable[Metric]) -> list[str]:
    """That those of the metrics that are wall times are no finding."""
    times = listed(label_of(metric) for metric in metrics if metric.wall_time)
    return [f"Wall time ({times}) depends on what else the machine did: it is no finding."] if times else []


def constants(conclusion: Conclusion) -> list[str]:
    same = listed((f"{plain(key)} {scalar(value)}" for key, value in conclusion.constant.items()), 30)
    return [f"The same in every variation: {same}."] if same else []


def audits(conclusion: Conclusion) -> list[tuple[str, list[str]]]:
    """Heading and sentences of what was checked; a check that was not made is not there, or says so.

    What is among the threats is not said once more.
    """
    every = [
        flag_sentence(variation, flag, conclusion) for variation in conclusion.variations for flag in variation.flags
    ]
    told = {threat.why for threat in threats(conclusion)}
    flags = [sentence for sentence in every if sentence not in told]
    if len(flags) > MOST_ROWS:
        flags = [*flags[:MOST_ROWS], f"And {len(flags) - MOST_ROWS:,} more, in conclusion.csv."]
    ran = any(variation.finished for variation in conclusion.variations)
    if not every and ran:
        flags = ["None was raised: nothing that was read shows a collapse, dead units or a loss that is no number."]
    if ran:
        flags += _unread(conclusion)
    sections = [("Flags", flags), (COMPLETENESS, completeness_sentences(conclusion))]
    noise = [noise_sentence(noise, conclusion) for noise in conclusion.noise]
    again = [determinism_sentence(check, conclusion) for check in conclusion.determinism]
    if conclusion.kind == "study" and ran:
        noise = noise or ["The baseline was not run against itself (a_a), so that this is not known."]
        again = again or ["No run was repeated with the same seed (a_a), so that this is not known."]
    sections += [("Noise floor (A/A test)", noise), ("Determinism check", again)]
    checks = [
        f"{_capital(check.kind)}: {_outcome(check)}. {' '.join(check_sentences(check, conclusion))}"
        for check in conclusion.checks
    ]
    sections.append(("Design checks", checks))
    return [(heading, sentences) for heading, sentences in sections if sentences]


def _outcome(check: Check) -> str:
    if check.passed is None:
        return "does not apply" if check.applies is False else "unknown"
    return "passed" if check.passed else "failed"


def pictures_sentences(conclusion: Conclusion) -> list[str]:
    """Of which variations no picture was read, and which picture was not used and why."""
    unused = conclusion.unused_pictures
    found = [f"The picture of {name(whose)} was not used in the grid: {plain(why)}." for whose, why in unused.items()]
    if unread := [whose for whose in conclusion.without_pictures if whose not in unused]:
        whose = listed(map(name, unread))
        found.append(
            f"No picture of {whose} could be read: the runs logged none, or the artifact store does not give it."
        )
    return found


def _unread(conclusion: Conclusion) -> list[str]:
    """Of which variations it cannot be said whether their runs had converged."""
    having = [variation for variation in conclusion.variations if variation.finished]
    rest = sum(variation.name not in conclusion.histories_of for variation in having)
    if rest == 0:
        return []
    if not conclusion.histories_of:
        return ["No epochs were read: whether any run was still improving is not known."]
    of = f"{rest:,} of {len(having):,} variations"
    return [f"The epochs of {of} were not read: whether their runs were still improving is not known."]
