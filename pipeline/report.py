"""Rendering: what a `Conclusion` says, in words, as tables, as HTML, as Markdown and as CSV.

Every sentence about a result is a template that the evidence fills. Sentences are plain text on one line, the same in
the terminal, in Markdown and in HTML; each of these escapes them in its own way.
"""

from __future__ import annotations

import base64
import csv
import io
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pipeline.conclusion import (
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
    Stated,
    Variation,
)
from pipeline.config import LAST
from pipeline.evidence import Verdict
from pipeline.figures import short

# The pictures of a report, by the names of their files; others are called after `Variation.file`.
FOREST, CURVES, DIGITS = "forest", "loss_curves", "digits"

_GAP = "\n"  # rich breaks a heading here; Markdown has a space instead
_MINUS = "\N{MINUS SIGN}"
_MOST_ROWS = 100  # of a table in a report; conclusion.csv has them all
_MOST_LISTED = 8  # things in a sentence
_LONGEST_NAME = 60  # characters of a name in a sentence
_METRICS_FIRST, _METRICS_MORE = 4, 7  # columns beside the verdict, and of each further table: as wide as paper
_TEMPLATE = "report.html.jinja"
_SIGNS = {
    Verdict.SUPPORTED: "\N{CHECK MARK}",
    Verdict.CONTRADICTED: "\N{MULTIPLICATION X}",
    Verdict.NEGLIGIBLE: "\N{ALMOST EQUAL TO}",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NOT_JUDGED: "\N{EN DASH}",
}


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


def listed(things: Iterable[str], most: int = _MOST_LISTED) -> str:
    """`a`, `a and b`, `a, b and c`, and of very many `a, b, c and 997 more`."""
    texts = list(things)
    if len(texts) > most + 1:
        texts = [*texts[:most], f"{len(texts) - most:,} more"]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def name(text: object, most: int = _LONGEST_NAME) -> str:
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
    return text[:12] if re.fullmatch(r"[0-9a-f]{32,}", text) else plain(text, _LONGEST_NAME)


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


def _label(metric: Metric) -> str:
    return plain(metric.label)


def _with_unit(text: str, metric: Metric) -> str:
    return f"{text} {plain(metric.unit)}" if metric.unit else text


def difference_text(difference: Difference, metric: Metric) -> str:
    """`+0.0012 [+0.0008, +0.0016] nats per pixel`; `none` where there is no value."""
    if math.isnan(difference.mean):
        return "none"
    digits = _digits(difference.high - difference.low, metric.digits)
    span = interval(difference.low, difference.high, lambda value: signed(value, digits))
    return _with_unit(f"{signed(difference.mean, digits)} {span}".strip(), metric)


def _digits(width: float, digits: int) -> int:
    """Decimals that show two digits of an interval's width, and no fewer than its metric has."""
    if not (width > 0 and math.isfinite(width)):
        return digits
    return min(max(digits, 1 - math.floor(math.log10(width))), digits + 3)


def cell_text(cell: Cell | None, metric: Metric) -> tuple[str, str]:
    """A mean and its interval, without the unit; the second is empty where there is none."""
    if cell is None:
        return "-", ""
    return number(cell.mean, metric.digits), interval(cell.low, cell.high, lambda value: number(value, metric.digits))


def seeds_compared(difference: Difference) -> str:
    """`5 seeds, paired`; `5 and 3 seeds, not paired`; `no seeds`."""
    if difference.paired:
        return f"{counted(difference.n_pairs, 'seed')}, paired"
    if not difference.n_a and not difference.n_b:
        return "no seeds"
    return f"{difference.n_a} and {counted(difference.n_b, 'seed')}, not paired"


def differences(conclusion: Conclusion) -> pd.DataFrame:
    """What `figures.forest` draws: the claims, then the main metric's other differences from the baseline."""
    shown: list[Pair] = list(conclusion.claims)
    claimed = {(claim.variation, claim.against, claim.metric) for claim in conclusion.claims}
    for pair in conclusion.pairs:
        if pair.asked == conclusion.metric and (pair.variation, pair.against, pair.metric) not in claimed:
            shown.append(pair)
    rows = []
    for pair in shown:
        metric = metric_of(conclusion, pair.metric or pair.asked)
        row: dict[str, object] = {
            "variation": pair.variation,
            "against": pair.against,
            "metric": metric.label,
            "unit": metric.unit,
        }
        row |= {"mean": pair.difference.mean, "low": pair.difference.low, "high": pair.difference.high}
        row["smallest"] = pair.smallest if isinstance(pair, Claim) else math.nan
        row["verdict"] = str(pair.verdict) if isinstance(pair, Claim) else pair.finding
        rows.append({**row, "note": "\n".join(warnings(pair, conclusion)[:2])})
    columns = ["variation", "against", "metric", "unit", "mean", "low", "high", "smallest", "verdict", "note"]
    return pd.DataFrame(rows, columns=columns)


# --- Sentences: verdicts ------------------------------------------------------------------------------------------


def warnings(pair: Pair, conclusion: Conclusion) -> list[str]:
    """What stands right beside a verdict: `confounded by decoder_hidden`, `val_loss not comparable`."""
    found = []
    if pair.confounded_by:
        found.append(f"confounded by {listed(plain(other.name) for other in pair.confounded_by)}")
    if pair.why == "penalty differs":
        found.append(f"{_label(metric_of(conclusion, pair.asked))} not comparable")
    if pair.why == "absent":
        found.append(f"{_label(metric_of(conclusion, pair.asked))} absent")
    if pair.unfinished:
        found.append(f"{counted(len(pair.unfinished), 'run')} not finished")
    return found


def verdict_sentence(claim: Claim, conclusion: Conclusion) -> str:
    """What was seen and why the verdict follows."""
    metric = metric_of(conclusion, claim.metric)
    if claim.metric is None or claim.verdict == Verdict.NOT_JUDGED:
        return _not_judged(claim, metric)
    smallest = _with_unit(scalar(claim.smallest), metric)
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
    return f"{is_so} in {_label(metric)}: {difference_text(pair.difference, metric)} ({certainty})."


def _seen(pair: Pair, metric: Metric) -> str:
    difference = f"{name(pair.variation)} minus {name(pair.against)} is {difference_text(pair.difference, metric)}"
    certainty = f"{p_value(pair.p_holm)} after Holm's correction, {seeds_compared(pair.difference)}"
    return f"In {_label(metric)}, {difference} ({certainty})."


def _not_judged(pair: Pair, metric: Metric) -> str:
    difference, asked = pair.difference, plain(pair.asked)
    if pair.metric is None and pair.why == "penalty differs":
        return f"{asked} is not comparable, and no other metric stands for it."
    if pair.metric is None:
        return f"No finished run of one side has a value of {asked}."
    for side, n in ((pair.variation, difference.n_a), (pair.against, difference.n_b)):
        if n == 0:
            return f"No finished run of {name(side)} has a value of {_label(metric)}."
    if min(difference.n_a, difference.n_b) > 1:
        return f"The values of {_label(metric)} give no interval."
    few = [side for side, n in ((pair.variation, difference.n_a), (pair.against, difference.n_b)) if n == 1]
    seen = f"the difference seen, {difference_text(difference, metric)}, may be chance"
    return f"{listed(map(name, few))} {'has' if len(few) == 1 else 'have'} one seed only; {seen}."


def _to_settle(more: int | None) -> str:
    if more is None:
        return "more than 1,000 more seeds of each side would be needed, or the spread does not say how many"
    return f"about {counted(more, 'more seed')} of each side would probably settle it"


def notes(pair: Pair, conclusion: Conclusion) -> list[str]:
    """What to know beside a result, a sentence each: confounders, another metric than asked, caveats, lost runs."""
    found = []
    if pair.confounded_by:
        others = listed(map(_confounder, pair.confounded_by))
        found.append(f"The two sides also differ in {others}: the difference may come from there.")
    if pair.why != "as asked" and pair.metric is not None:
        found.append(_other_metric(pair, conclusion))
    found += [sentence for caveat in pair.caveats if (sentence := _caveat(caveat))]
    if pair.unfinished:
        lost = listed((f"{name(run.variation)}, {_fate(run)}" for run in pair.unfinished), 4)
        one = len(pair.unfinished) == 1
        found.append(f"{'A run' if one else 'Runs'} that could have changed this did not finish: {lost}.")
    return found


def _confounder(other: Confounder) -> str:
    sides = (listed(map(scalar, side), 3) or "none" for side in (other.variation, other.against))
    return f"{plain(other.name)} ({' against '.join(sides)})"


def _other_metric(pair: Pair, conclusion: Conclusion) -> str:
    asked, used = metric_of(conclusion, pair.asked), metric_of(conclusion, pair.metric)
    why = f"No run of one side has {_label(asked)}"
    if pair.why == "penalty differs":
        strengths = f" ({' against '.join(map(scalar, pair.penalties))})" if pair.penalties else ""
        why = f"{_label(asked)} is not comparable: it contains an L1 penalty of different strength{strengths}"
    instead = f"; {_label(used)} is used instead"
    if pair.asked_difference and not math.isnan(pair.asked_difference.mean):
        instead += f"; in {_label(asked)} the difference reads {difference_text(pair.asked_difference, asked)}"
    return f"{why}{instead}."


_FLAGGED = {
    "collapsed": ("collapsed: nearly the same picture for every input", "collapsed"),
    "dead units": ("has units that are never active", "has dead units"),
    "not a number": ("has losses that are no finite numbers", "has losses that are no numbers"),
    "not converged": ("was still improving at its last epoch", "was still improving at its last epoch"),
}


def _caveat(caveat: Caveat) -> str:
    """A sentence; none for lost runs, which are named by `notes`."""
    side = name(caveat.variation) if caveat.variation else "each side"
    seeds = f" ({seeds_text(caveat.seeds)})" if caveat.seeds else ""
    if caveat.kind == "untuned learning rate":
        rates = [*map(scalar, caveat.learning_rates), *[""] * len(caveat.optimizers)]
        whose = listed(f"{plain(o)} ({r})" if r else plain(o) for o, r in zip(caveat.optimizers, rates, strict=False))
        return f"No other learning rate of {whose} was tried: this compares the choice of learning rates, too."
    if caveat.kind == "flag":
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
    flagged = [each.name for each in conclusion.variations if each.flags and each.role in ("baseline", "variation")]
    if flagged:
        found.append(f"{_capital(listed(map(name, flagged), 4))} {'is' if len(flagged) == 1 else 'are'} flagged.")
    return found


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
    label = _label(metric_of(conclusion, conclusion.metric))
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
    means = {
        variation.name: cell
        for variation in conclusion.variations
        if variation.role in ("baseline", "variation")
        and (cell := cell_of(variation, metric.name))
        and math.isfinite(cell.mean)
    }
    if len(means) < 2:
        return ""
    best = (max if metric.higher_is_better else min)(means, key=lambda variation: means[variation].mean)
    mean, span = cell_text(means[best], metric)
    value = _with_unit(f"{mean} {span}".strip(), metric)
    word = "Highest" if metric.higher_is_better else "Lowest"
    return f"{word} {_label(metric)}: {name(best)}, {value} ({counted(means[best].n, 'seed')})."


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
    seen = listed(map(_label, metrics), 4)
    if not math.isnan(flag.worst):
        seen += f": {_with_unit(number(flag.worst, metrics[0].digits), metrics[0])} at worst"
    if not flag.seeds:
        where = "in seeds that are not known"
    elif len(flag.seeds) == flag.of:
        where = "in its one seed" if flag.of == 1 else f"in all {flag.of} seeds"
    else:
        where = f"in {len(flag.seeds)} of {flag.of} seeds, {listed(map(scalar, flag.seeds))}"
    return f"{name(variation.name)} {_FLAGGED[flag.flag][0]}, {where} ({seen})."


def completeness_sentences(conclusion: Conclusion) -> list[str]:
    """How many of the planned runs finished, then each that did not, and each that nobody planned."""
    planned = [run for run in conclusion.completeness if run.planned]
    lost = [run for run in planned if run.state != "finished"]
    unplanned = [run for run in conclusion.completeness if not run.planned]
    left_out = [run for run in conclusion.runs if run.variation is None]
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
    found += [f"{name(run.variation)}, {_fate(run)}." for run in lost[:_MOST_ROWS]]
    if len(lost) > _MOST_ROWS:
        found.append(f"And {len(lost) - _MOST_ROWS:,} more, in conclusion.json.")
    if unplanned:
        found.append(f"{counted(len(unplanned), 'run')} that nobody planned {_was(unplanned)} read, too.")
    if left_out:
        belongs = "belongs" if len(left_out) == 1 else "belong"
        found.append(f"{counted(len(left_out), 'run')} {belongs} to no variation.")
    return found


def _was(things: Sequence[object]) -> str:
    return "was" if len(things) == 1 else "were"


def noise_sentence(noise: Noise, conclusion: Conclusion) -> str:
    """How large a difference chance alone makes, and whether that is smaller than what matters."""
    metric = metric_of(conclusion, noise.metric)
    label = _label(metric)
    if math.isnan(noise.limit):
        return f"In {label}, there are too few values to say how large a difference chance makes."
    if noise.limit == 0:
        return f"In {label}, the seeds of {name(noise.against)} do not differ, so that chance makes no difference."
    digits = _digits(2 * noise.limit, metric.digits)
    limit = _with_unit(number(noise.limit, digits), metric)
    sides = f"{counted(noise.n_a, 'seed')} and {noise.n_b} others of {name(noise.against)}"
    sentence = f"In {label}, chance alone makes {sides} differ by less than {limit} 19 times in 20"
    more = ", which is more" if abs(noise.observed) > noise.limit else ""
    sentence += f"; here they differ by {signed(noise.observed, digits)}{more}."
    if math.isnan(noise.smallest):
        return sentence
    below = noise.limit < noise.smallest
    comparison = "less than" if below else "not less than"
    matters = f"the smallest difference that matters, {_with_unit(scalar(noise.smallest), metric)}"
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


def check_sentences(check: Check, conclusion: Conclusion) -> list[str]:
    """What a check of a good study found: a sentence for each finding, or one that says there is none."""
    if check.passed is None:
        return ["This does not apply, or the runs do not tell."]
    if check.passed and not check.findings:
        return [f"{_PASSED[check.kind]}."]
    found = [_finding(check.kind, finding, conclusion) for finding in check.findings[:_MOST_LISTED]]
    if len(check.findings) > _MOST_LISTED:
        found.append(f"And {len(check.findings) - _MOST_LISTED:,} more, in conclusion.json.")
    return found or ["It failed."]


def _finding(kind: str, finding: Finding, conclusion: Conclusion) -> str:
    label = _label(metric_of(conclusion, finding.metric)) if finding.metric else "the metric"
    who = name(finding.variation) if finding.variation else "The study"
    tried = listed(map(scalar, finding.tried))
    if kind == "best at the edge of the grid":
        what = f"{plain(finding.parameter or 'parameter')} = {scalar(finding.value)}"
        values = f" of the values tried ({tried})" if tried else ""
        return f"The best {label} is that of {what}, at the edge{values}: a better one may lie beyond."
    if kind == "untuned learning rate":
        against = f" in the comparison of {who} with {name(finding.against)}" if finding.against else ""
        whose = plain(finding.parameter or "learning rate")
        if finding.value is not None:
            whose += f" of {scalar(finding.value)}"
        only = f" (only {tried})" if tried else ""
        return f"The {whose}{only} was not tuned{against}."
    if kind == "still improving at the last epoch":
        seeds = f" ({seeds_text(finding.seeds)})" if finding.seeds else ""
        return f"{who} was still improving at its last epoch{seeds}: {label} would have gone on."
    if finding.parameter:
        best = f"{plain(finding.parameter)} = {scalar(finding.value)}"
        return (
            f"Of {tried}, {best} has the best {label} on the data that is reported: chosen for that, it looks too good."
        )
    return f"{who} was chosen for its {label}, on the data that is reported: that figure looks better than it is."


def figure_sentence(figure: Figure, conclusion: Conclusion, decimals: int) -> str:
    """A published figure beside ours, and what its reader would have taken it for."""
    metric = metric_of(conclusion, figure.metric)
    ours = f"{number(figure.mean, metric.digits)} {_span(figure.low, figure.high, metric)}".strip()
    verdict = reproduced_text(figure.reproduced)
    numbers = f"published {figure.published:.{decimals}f}, ours {ours}"
    first = f"{name(figure.variation)}, {_label(metric)}: {numbers}: {verdict}."
    return " ".join([first, *filter(None, [taken_for_sentence(figure, conclusion)])])


def taken_for_sentence(figure: Figure, conclusion: Conclusion) -> str:
    """What the figure would be if it were what its reader takes it for; empty where it is that."""
    if not figure.taken_for:
        return ""
    taken = metric_of(conclusion, figure.taken_for)
    ours = f"{number(figure.taken_for_mean, taken.digits)} {_span(figure.taken_for_low, figure.taken_for_high, taken)}"
    return f"Taken for {_label(taken)}, ours is {ours.strip()}: {reproduced_text(figure.taken_for_reproduced)}."


def _span(low: float, high: float, metric: Metric) -> str:
    return interval(low, high, lambda value: number(value, metric.digits))


def reproduced_text(reproduced: bool | None) -> str:
    """In words; None: too few seeds."""
    return "not judged" if reproduced is None else "reproduced" if reproduced else "not reproduced"


def published_sentence(figures: Sequence[Figure]) -> str:
    """How many of somebody else's figures were reproduced."""
    judged = [figure for figure in figures if figure.reproduced is not None]
    same = sum(bool(figure.reproduced) for figure in judged)
    rest = len(figures) - len(judged)
    behind = f" {counted(rest, 'figure')} {'is' if rest == 1 else 'are'} not judged, for want of seeds." if rest else ""
    if not judged:
        return behind.strip() or "There is no published figure to compare with."
    if len(judged) == 1:
        return f"The one published figure that can be judged is {reproduced_text(judged[0].reproduced)}.{behind}"
    share = "None" if same == 0 else "All" if same == len(judged) else f"{same}"
    return f"{share} of {len(judged)} published figures {'is' if same == 1 else 'are'} reproduced.{behind}"


def stated_sentence(stated: Stated) -> str:
    """A parameter as the text of a publication states it, and as its code ran."""
    what = f"{plain(stated.parameter)} of {name(stated.variation)}"
    if stated.same:
        return f"The text states {what} as it ran: {scalar(stated.stated)}."
    factor = _factor(stated.ran, stated.stated)
    sentence = f"The text states {plain(stated.parameter)} = {scalar(stated.stated)} for {name(stated.variation)}"
    sentence += f"; its code ran with {scalar(stated.ran)}{factor}."
    if stated.alternative is None:
        return f"{sentence} No variation here ran with the value stated."
    how_many = published_sentence(stated.figures)
    return f"{sentence} With the value stated, {name(stated.alternative)}: {how_many[:1].lower()}{how_many[1:]}"


def _factor(ran: object, stated: object) -> str:
    if isinstance(ran, int | float) and isinstance(stated, int | float) and ran and stated:
        return f", {float(f'{ran / stated:.3g}'):g} times that"
    return ""


# --- Tables -------------------------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """What is said of a variation: a claim's verdict, or what was found against the baseline."""

    verdict: str
    against: str
    difference: str
    beside: tuple[str, ...]


def judged(conclusion: Conclusion) -> dict[str, list[Judged]]:
    """By variation: the verdicts on its claims, else what was found against the baseline in the main metric."""
    found: dict[str, list[Judged]] = {}
    for claim in conclusion.claims:
        found.setdefault(claim.variation, []).append(_judged(claim, str(claim.verdict), conclusion))
    claimed = set(found)
    for pair in conclusion.pairs:
        if pair.asked == conclusion.metric and pair.variation not in claimed:
            found.setdefault(pair.variation, []).append(_judged(pair, pair.finding, conclusion))
    return found


def _judged(pair: Pair, verdict: str, conclusion: Conclusion) -> Judged:
    difference = difference_text(pair.difference, metric_of(conclusion, pair.metric))
    return Judged(verdict, pair.against, difference, tuple(warnings(pair, conclusion)))


def _main_metrics(conclusion: Conclusion) -> list[Metric]:
    """Those in the conclusion table that any variation has, the one it is sorted by first."""
    having = {cell.metric for variation in conclusion.variations for cell in variation.cells if cell.n}
    shown = [metric for metric in conclusion.metrics if metric.main and metric.name in having]
    return sorted(shown, key=lambda metric: metric.name != conclusion.metric)


def runs_text(variation: Variation) -> str:
    """`5`, or `4 of 5` where some did not finish."""
    if variation.planned is None or variation.planned == variation.finished:
        return f"{variation.finished:,}"
    return f"{variation.finished:,} of {variation.planned:,}"


def conclusion_table(conclusion: Conclusion) -> pd.DataFrame:
    """One row of texts per variation: runs, verdict with what is beside it, flags, main metrics, what it changes."""
    metrics, verdicts = _main_metrics(conclusion), judged(conclusion)
    rows = []
    for variation in conclusion.variations:
        row = [plain(variation.name), runs_text(variation), _verdict_text(variation, verdicts.get(variation.name, []))]
        row.append(", ".join(flag.flag for flag in variation.flags))
        row += [" ".join(cell_text(cell_of(variation, metric.name), metric)).strip() for metric in metrics]
        rows.append([*row, *(scalar(variation.params.get(key)) for key in conclusion.differing)])
    headings = [plain(f"{metric.label} ({metric.unit})" if metric.unit else metric.label) for metric in metrics]
    columns = _unique(["variation", "runs", "verdict", "flags", *headings, *map(plain, conclusion.differing)])
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    flagged = any(variation.flags for variation in conclusion.variations)
    return table if flagged else table.drop(columns="flags")


def _unique(columns: Sequence[str]) -> list[str]:
    """A heading that is there already (a parameter may be called `runs`) gets a number."""
    seen: dict[str, int] = {}
    found = []
    for column in columns:
        seen[column] = seen.get(column, 0) + 1
        found.append(column if seen[column] == 1 else f"{column} ({seen[column]})")
    return found


def _verdict_text(variation: Variation, verdicts: Sequence[Judged]) -> str:
    texts = []
    for verdict in verdicts:
        against = f" against {plain(verdict.against, _LONGEST_NAME)}" if len(verdicts) > 1 else ""
        texts.append(", ".join([f"{verdict.verdict}{against}", *verdict.beside]))
    return "; ".join(texts) or (variation.role if variation.role != "variation" else "")


def claims_table(conclusion: Conclusion) -> pd.DataFrame:
    """One row of texts per claim: verdict with what is beside it, the claim, the difference, p and the seeds."""
    rows = []
    for claim in conclusion.claims:
        metric = metric_of(conclusion, claim.metric)
        verdict = ", ".join([str(claim.verdict), *warnings(claim, conclusion)])
        difference = difference_text(claim.difference, metric)
        seen = difference if claim.metric is None else f"{_label(metric)}: {difference}"
        certainty = (p_value(claim.p_holm), seeds_compared(claim.difference))
        rows.append([verdict, plain(claim.says), seen, *certainty])
    return pd.DataFrame(rows, columns=["verdict", "claim", "difference", "p (Holm)", "seeds"], dtype=object)


def pairs_table(conclusion: Conclusion) -> pd.DataFrame:
    """One row of texts per variation and judged metric: the difference from the baseline, and what is beside it."""
    rows = []
    for pair in conclusion.pairs:
        metric = metric_of(conclusion, pair.metric or pair.asked)
        relative = "-" if not math.isfinite(pair.relative) else f"{signed(100 * pair.relative, 1)} %"
        found = ", ".join([pair.finding, *warnings(pair, conclusion)])
        instead = pair.metric not in (None, pair.asked)
        shown = f"{_label(metric)}, for {_label(metric_of(conclusion, pair.asked))}" if instead else _label(metric)
        row = [plain(pair.variation), shown, difference_text(pair.difference, metric), relative]
        rows.append([*row, p_value(pair.p_holm), found])
    columns = ["variation", "metric", "difference from the baseline", "relative", "p (Holm)", "finding"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def published_table(conclusion: Conclusion) -> pd.DataFrame:
    """One row of texts per published figure: ours with its prediction interval, and whether it is reproduced."""
    rows = []
    published = conclusion.published
    for figure in published.figures if published else ():
        metric = metric_of(conclusion, figure.metric)
        ours = f"{number(figure.mean, metric.digits)} {_span(figure.low, figure.high, metric)}".strip()
        row = [
            plain(figure.variation),
            _label(metric),
            f"{figure.published:.{published.decimals if published else 4}f}",
        ]
        rows.append([*row, ours, reproduced_text(figure.reproduced), taken_for_sentence(figure, conclusion)])
    columns = ["variation", "figure", "published", "ours [one more run]", "reproduced?", "as a reader takes it"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    return table if any(row[-1] for row in rows) else table.iloc[:, :-1]


def conclusion_csv(conclusion: Conclusion) -> str:
    """One row per variation in full precision: parameters, runs, verdicts, flags, what its seeds say of each metric."""
    verdicts = judged(conclusion)
    parameters = list(dict.fromkeys(key for variation in conclusion.variations for key in variation.params))
    statistics = ("n", "sd", "low", "high", "median", "worst", "worst_seed")
    columns = ["variation", "role", *parameters, "planned", "finished", "seeds", "verdict", "flags"]
    for metric in conclusion.metrics:
        columns += [metric.name, *(f"{metric.name}_{statistic}" for statistic in statistics)]
    rows: list[list[object]] = []
    for variation in conclusion.variations:
        row: list[object] = [variation.name, variation.role, *(variation.params.get(key) for key in parameters)]
        row += [variation.planned, variation.finished, " ".join(map(str, variation.seeds))]
        row += [_verdict_text(variation, verdicts.get(variation.name, []))]
        row += [", ".join(flag.flag for flag in variation.flags)]
        for metric in conclusion.metrics:
            cell = cell_of(variation, metric.name)
            row += [getattr(cell, statistic, None) for statistic in ("mean", *statistics)]
        rows.append(row)
    return to_csv(pd.DataFrame(rows, columns=columns, dtype=object))


def terminal(table: pd.DataFrame, keys: Sequence[str], console: Console) -> None:
    """Print a table of texts; where the terminal is too narrow, in parts that each begin with the columns `keys`."""
    rest = [column for column in table.columns if column not in keys]
    while rest:
        shown = len(rest)
        while shown > 1 and _width(_rich(table, [*keys, *rest[:shown]]), console) > console.width:
            shown -= 1
        console.print(_rich(table, [*keys, *rest[:shown]]))
        rest = rest[shown:]


def _rich(table: pd.DataFrame, columns: Sequence[str]) -> Table:
    rendered = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        rendered.add_column(Text(column.replace(" ", _GAP)), justify="right", no_wrap=True)
    for row in table[list(columns)].values.tolist():
        rendered.add_row(*(Text(str(cell)) for cell in row))
    return rendered


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=10**6), table).maximum


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV (RFC 4180), numbers in full precision; a text that a spreadsheet would compute gets a quote."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(map(_csv_cell, table.columns))
    writer.writerows([[_csv_cell(cell) for cell in row] for row in table.astype(object).values.tolist()])
    return lines.getvalue()


def _csv_cell(cell: object) -> object:
    """See https://owasp.org/www-community/attacks/CSV_Injection; the last four are wide forms of the first."""
    if not isinstance(cell, str):
        return cell
    dangerous = cell.startswith(("\t", "\r", "\n")) or cell.lstrip().startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))
    return "'" + cell if dangerous else cell


# --- Markdown -----------------------------------------------------------------------------------------------------


def markdown(table: pd.DataFrame) -> str:
    """A table of texts as a GitHub table; nothing in a cell can end the cell or the row."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
    return "".join("| " + " | ".join(markdown_text(str(cell)) for cell in row) + " |\n" for row in rows)


def markdown_text(text: str) -> str:
    """A text as one line of Markdown that stands as it is: no cell, tag, link, picture or emphasis begins or ends."""
    line = " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())
    escaped = re.sub(r"([\\`*|~$])", r"\\\1", line)
    escaped = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)  # not within a word
    # Only so does a bracket make a link, a picture or a definition.
    escaped = re.sub(r"^\[", r"\\[", re.sub(r"\](?=[(\[])", r"\\]", escaped))
    escaped = re.sub(r"<(?=[\w/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", escaped))
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")  # which GitHub makes links of


def markdown_report(conclusion: Conclusion, pictures: Collection[str] = ()) -> str:
    """The report for GitHub.

    Args:
        pictures: names of the files beside it, such as `forest.png` and `Original.png`; no other is shown.
    """
    headline, *rest = summary(conclusion)
    blocks = [f"# {markdown_text(plain(conclusion.title))}"]
    if conclusion.description:
        blocks.append(_paragraph(conclusion.description))
    blocks += [f"**{markdown_text(headline)}**", *([markdown_text(" ".join(rest))] if rest else [])]
    for heading, body in _markdown_sections(conclusion, pictures):
        blocks += [f"## {heading}", *body] if body else []
    return "\n\n".join(block.rstrip() for block in blocks) + "\n"


def _markdown_sections(conclusion: Conclusion, pictures: Collection[str]) -> list[tuple[str, list[str]]]:
    """Heading and paragraphs; a section without any is left out."""

    def images(*stems: str) -> list[str]:
        named = {_stem(picture): picture for picture in pictures}
        return [f"![{_alternative(stem, conclusion)}]({quote(named[stem])})" for stem in stems if stem in named]

    own = [variation.file for variation in conclusion.variations]
    table = conclusion_table(conclusion)
    first = [column for column in table.columns[:4] if column in ("variation", "verdict", "runs", "flags")]
    metrics = list(table.columns[len(first) : len(table.columns) - len(conclusion.differing)])
    params = list(table.columns[len(first) + len(metrics) :])
    return [
        ("Verdicts", _table_block(claims_table(conclusion))),
        ("Results", [*_table_block(table[[*first, *metrics[:_METRICS_FIRST]]]), *_lines(_about_means(conclusion))]),
        ("Differences", images(FOREST)),
        ("Evidence", [_evidence_list(conclusion)] if conclusion.claims else []),
        ("Every difference from the baseline", _table_block(pairs_table(conclusion))),
        ("More metrics", _table_blocks(table, metrics[_METRICS_FIRST:])),
        ("What the variations change", [*_table_blocks(table, params), *_lines(_constants(conclusion))]),
        ("Curves", images(CURVES)),
        ("The same images, by every variation", images(DIGITS)),
        ("Each variation's reconstructions", images(*own)),
        *((heading, [_bullets(sentences)]) for heading, sentences in audits(conclusion)),
        ("Against the published figures", _published_block(conclusion)),
        ("Where this comes from", _provenance_block(conclusion)),
    ]


def _alternative(stem: str, conclusion: Conclusion) -> str:
    return re.sub(r"([\[\]])", r"\\\1", markdown_text(alternative_text(stem, conclusion)).replace("\\]", "]"))


def _lines(sentences: Iterable[str]) -> list[str]:
    return [_paragraph(sentence) for sentence in sentences]


def _paragraph(text: str) -> str:
    """A text that may begin in any way, without becoming a heading, a list or a quotation."""
    return re.sub(r"^([#>+=-]|\d+(?=[.)]))", lambda start: f"&#{ord(start[0][0])};{start[0][1:]}", markdown_text(text))


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_paragraph(sentence)}" for sentence in sentences)


def _table_block(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return []
    rest = len(table) - _MOST_ROWS
    more = [f"{counted(rest, 'more row')} in conclusion.csv and conclusion.json."] if rest > 0 else []
    return [markdown(table.iloc[:_MOST_ROWS]), *more]


def _table_blocks(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """A wide table as several, each with the variation's name; none without a column."""
    parts = [columns[start : start + _METRICS_MORE] for start in range(0, len(columns), _METRICS_MORE)]
    return [block for part in parts for block in _table_block(table[["variation", *part]])]


def _evidence_list(conclusion: Conclusion) -> str:
    lines = []
    for claim in conclusion.claims[:_MOST_ROWS]:
        says = markdown_text(_ended(plain(claim.says)))
        lines.append(f"- **{claim.verdict}**: {says} {markdown_text(verdict_sentence(claim, conclusion))}")
        lines += [f"  - {_paragraph(note)}" for note in notes(claim, conclusion)]
    return "\n".join(lines)


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", "\N{IDEOGRAPHIC FULL STOP}")) else f"{sentence}."


def _published_block(conclusion: Conclusion) -> list[str]:
    if conclusion.published is None:
        return []
    published = conclusion.published
    first = f"{published_sentence(published.figures)} Source: {plain(published.source)}."
    stated = [_bullets(map(stated_sentence, published.stated))] if published.stated else []
    return [*_lines([first]), *_table_block(published_table(conclusion)), *stated]


def _provenance_block(conclusion: Conclusion) -> list[str]:
    rows = pd.DataFrame(provenance(conclusion), columns=["what", "value"])
    command = conclusion.provenance.command
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    return [markdown(rows), "Made again by", f"{fence}sh\n{command}\n{fence}"]


# --- Sections that Markdown and HTML share ------------------------------------------------------------------------


def table_notes(conclusion: Conclusion) -> list[str]:
    """What the numbers of the conclusion table are, and what is the same in all of its rows."""
    return [*_about_means(conclusion), *_constants(conclusion)]


def _about_means(conclusion: Conclusion) -> list[str]:
    seeds = max((cell.n for variation in conclusion.variations for cell in variation.cells), default=0)
    if seeds > 1:
        return ["Means over the seeds, with the 95 % interval of the mean in brackets."]
    return ["One seed each: no interval can be given."] if seeds else []


def _constants(conclusion: Conclusion) -> list[str]:
    same = listed((f"{plain(key)} {scalar(value)}" for key, value in conclusion.constant.items()), 30)
    return [f"The same in every variation: {same}."] if same else []


def audits(conclusion: Conclusion) -> list[tuple[str, list[str]]]:
    """Heading and sentences of what was checked; a check that was not made is not there, or says so."""
    flags = [
        flag_sentence(variation, flag, conclusion) for variation in conclusion.variations for flag in variation.flags
    ]
    if len(flags) > _MOST_ROWS:
        flags = [*flags[:_MOST_ROWS], f"And {len(flags) - _MOST_ROWS:,} more, in conclusion.csv."]
    ran = any(variation.finished for variation in conclusion.variations)
    if not flags and ran:
        flags = ["None was raised: nothing that was read shows a collapse, dead units or a loss that is no number."]
    if ran:
        flags += _unread(conclusion)
    sections = [("Flags", flags), ("Completeness", completeness_sentences(conclusion))]
    noise = [noise_sentence(noise, conclusion) for noise in conclusion.noise]
    again = [determinism_sentence(check, conclusion) for check in conclusion.determinism]
    if conclusion.kind == "study" and ran:
        noise = noise or ["The baseline was not run against itself (a_a), so that this is not known."]
        again = again or ["No run was repeated with the same seed (a_a), so that this is not known."]
    sections += [("How large a difference chance makes", noise), ("The same seed, the same numbers?", again)]
    outcome = {True: "passed", False: "failed", None: "not known"}
    checks = [
        f"{_capital(check.kind)}: {outcome[check.passed]}. {' '.join(check_sentences(check, conclusion))}"
        for check in conclusion.checks
    ]
    sections.append(("Checks of a good study", checks))
    return [(heading, sentences) for heading, sentences in sections if sentences]


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


def provenance(conclusion: Conclusion) -> list[tuple[str, str]]:
    """What it was made from, name and value; what is not known is left out."""
    source = conclusion.provenance
    used = sum(run.used for run in conclusion.runs)
    commits = listed(map(scalar, source.code_versions))
    if source.dirty:
        changed = f"{counted(source.dirty, 'run')} with changes that the commit does not have"
        commits = f"{commits} ({changed})" if commits else changed
    rows = {
        "Experiment": source.experiment,
        "Filter": source.filter,
        "Study": source.study,
        "Study's run": source.study_run_id or "",
        "Grouped by": listed(source.group_by, 30),
        "Runs": f"{len(conclusion.runs):,} read, {used:,} used",
        "Ran": " to ".join(_time(moment) for moment in (source.first_run, source.last_run) if moment),
        "Code": commits,
        "Lock": listed(map(scalar, source.lock_hashes)),
        "Data": listed(map(scalar, source.data_hashes)),
        "Hardware": listed(map(plain, source.hardware)),
        "Computed with": listed((f"{package} {version}" for package, version in source.versions.items()), 30),
        "Made": _time(source.made),
    }
    return [(what, plain(value, 400)) for what, value in rows.items() if value]


def _time(moment: str) -> str:
    try:
        return f"{datetime.fromisoformat(moment.replace('Z', '+00:00')):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return moment


def alternative_text(picture: str, conclusion: Conclusion) -> str:
    """A picture in words, by the name of its file without the ending."""
    names = listed(name(variation.name) for variation in conclusion.variations)
    if picture == FOREST:
        rows = differences(conclusion).head(_MOST_LISTED).to_dict("records")
        pairs = "; ".join(f"{name(row['variation'])} minus {name(row['against'])}: {row['verdict']}" for row in rows)
        return f"Differences with their 95 % intervals. {pairs}."
    if picture.startswith(CURVES):
        return f"Curves by epoch, mean and spread over the seeds, of {names}."
    if picture == DIGITS:
        return f"The same test images, and below them their reconstructions by {names}."
    return f"Test images above their reconstructions by {name(_called(picture, conclusion))}."


def _stem(file: str) -> str:
    """Without the ending of a picture; `lr=0.1` has none."""
    return file.removesuffix(".png").removesuffix(".svg")


def _called(picture: str, conclusion: Conclusion) -> str:
    return next((variation.name for variation in conclusion.variations if variation.file == picture), picture)


# --- HTML ---------------------------------------------------------------------------------------------------------


def html(conclusion: Conclusion, figures: Mapping[str, bytes]) -> str:
    """The report as one file that needs no other.

    Args:
        figures: PNG, or SVG from `figures.svg`, by the name of its file with or without an ending: `forest`,
            `loss_curves`, `digits`; any other is shown among the reconstructions, under the name of the variation whose
            `file` it is.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = plain
    pictures = {_stem(file): picture for file, picture in figures.items()}
    drawn = {stem: _element(stem, picture, conclusion) for stem, picture in pictures.items()}
    headline, *rest = summary(conclusion)
    content: dict[str, Any] = {
        "conclusion": conclusion,
        "headline": headline,
        "rest": rest,
        "claims": [_claim_view(claim, conclusion) for claim in conclusion.claims],
        "signs": {str(verdict): sign for verdict, sign in _SIGNS.items()},
        "columns": _main_metrics(conclusion),
        "differing": conclusion.differing,
        "rows": _row_views(conclusion),
        "about_means": _about_means(conclusion),
        "constants": _constants(conclusion),
        "forest": drawn.pop(FOREST, None),
        "digits": drawn.pop(DIGITS, None),
        "curves": [drawn.pop(stem) for stem in list(drawn) if stem.startswith(CURVES)],
        "reconstructions": [(_called(stem, conclusion), element) for stem, element in drawn.items()],
        "pairs": pairs_table(conclusion),
        "audits": audits(conclusion),
        "published": published_table(conclusion),
        "published_first": published_sentence(conclusion.published.figures) if conclusion.published else "",
        "stated": [stated_sentence(stated) for stated in conclusion.published.stated] if conclusion.published else [],
        "provenance": provenance(conclusion),
        "made": _time(conclusion.provenance.made),
        "most": _MOST_ROWS,
        "metrics_first": _METRICS_FIRST,
        "metrics_more": _METRICS_MORE,
    }
    return environment.get_template(_TEMPLATE).render(content)


def _claim_view(claim: Claim, conclusion: Conclusion) -> dict[str, Any]:
    metric = metric_of(conclusion, claim.metric)
    judged = claim.metric is not None and not math.isnan(claim.difference.mean)
    return {
        "verdict": str(claim.verdict),
        "says": plain(claim.says),
        "difference": f"{_label(metric)}: {difference_text(claim.difference, metric)}" if judged else "",
        "certainty": f"{p_value(claim.p_holm)}, {seeds_compared(claim.difference)}" if judged else "",
        "warnings": warnings(claim, conclusion),
        "sentence": verdict_sentence(claim, conclusion),
        "notes": notes(claim, conclusion),
    }


def _row_views(conclusion: Conclusion) -> list[dict[str, Any]]:
    metrics, verdicts, best = _main_metrics(conclusion), judged(conclusion), _best_means(conclusion)
    views = []
    for variation in conclusion.variations:
        cells = []
        for metric in metrics:
            cell = cell_of(variation, metric.name)
            mean, span = cell_text(cell, metric)
            fewer = f"n = {cell.n}" if cell and cell.n and cell.n != variation.finished else ""
            is_best = (
                cell is not None and cell.mean == best.get(metric.name) and variation.role in ("baseline", "variation")
            )
            cells.append({"mean": mean, "span": span, "fewer": fewer, "best": is_best})
        views.append(
            {
                "name": plain(variation.name, 100),
                "role": variation.role if variation.role != "variation" else "",
                "flags": [flag.flag for flag in variation.flags],
                "params": [scalar(variation.params.get(key)) for key in conclusion.differing],
                "runs": runs_text(variation),
                "verdicts": verdicts.get(variation.name, []),
                "cells": cells,
            }
        )
    return views


def _best_means(conclusion: Conclusion) -> dict[str, float]:
    """By metric, the best mean of several."""
    compared = [variation for variation in conclusion.variations if variation.role in ("baseline", "variation")]
    found = {}
    for metric in conclusion.metrics:
        cells = (cell_of(variation, metric.name) for variation in compared)
        means = [cell.mean for cell in cells if cell and math.isfinite(cell.mean)]
        if len(set(means)) > 1:
            found[metric.name] = max(means) if metric.higher_is_better else min(means)
    return found


def _element(stem: str, picture: bytes, conclusion: Conclusion) -> Markup:
    """A picture as an element of the page."""
    alternative = alternative_text(stem, conclusion)
    if picture.startswith(b"\x89PNG"):
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        return Markup('<img src="{}" alt="{}">').format(source, alternative)
    text = picture.decode()
    opening = Markup('<svg role="img" aria-label="{}"').format(alternative)
    return Markup(text[text.index("<svg") :].replace("<svg", str(opening), 1))  # noqa: S704, drawn by figures.svg
