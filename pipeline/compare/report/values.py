"""Numbers, names and metrics of a `Conclusion`, as people read them: each on one line of plain text."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote

from pipeline.compare.conclusion import (
    Cell,
    Conclusion,
    Difference,
    Metric,
    Pair,
    PublishedDifference,
    RunRecord,
    Variation,
)
from pipeline.inference import CONFIDENCE
from pipeline.metrics import LAST
from pipeline.plots import short

MOST_ROWS = 100  # of a table or a list in a report; conclusion.csv has them all
MOST_LISTED = 8  # things in a sentence
LONGEST_NAME = 60  # characters of a name in a sentence
_MINUS = "\N{MINUS SIGN}"


# --- Numbers and names --------------------------------------------------------------------------------------------


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
    """`p < 0.001`, `p = 0.032`; `no p value` where there is none."""
    if math.isnan(p):
        return "no p value"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.9995 else "p = 1"


def listed(things: Iterable[str], most: int = MOST_LISTED) -> str:
    """`a`, `a and b`, `a, b and c`, and of very many `a, b, c and 997 more`."""
    texts = list(things)
    if len(texts) > most + 1:
        texts = [*texts[:most], f"{len(texts) - most:,} more"]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def first(sentences: Sequence[str], most: int, where: str = "conclusion.json") -> list[str]:
    """The first of many sentences, and where the others are."""
    more = len(sentences) - most
    return [*sentences[:most], *([f"And {more:,} more, in {where}."] if more > 0 else [])]


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
    """`seeds: 3`, `seeds: 0 and 2`, `seeds: 0 to 4`."""
    numbers = [seed for seed in seeds if isinstance(seed, int)]
    if len(numbers) == len(seeds) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"seeds: {numbers[0]} to {numbers[-1]}"
    return f"seeds: {listed(map(scalar, seeds))}"


def capital(sentence: str) -> str:
    """The sentence with a capital letter at its beginning."""
    return sentence[:1].upper() + sentence[1:]


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
    shown = {"unit": like.unit, "decimals": like.decimals} if like else {"unit": "", "decimals": 4}
    return Metric(name=label, label=label, **shown, higher_is_better=False, shown=False, compared=False)


def label_of(metric: Metric) -> str:
    return plain(metric.label)


def with_unit(text: str, metric: Metric) -> str:
    """`0.09 nats per pixel`."""
    return f"{text} {plain(metric.unit)}" if metric.unit else text


def difference_text(difference: Difference, metric: Metric) -> str:
    """`+0.0012 [+0.0008, +0.0016] nats per pixel`; `none` where there is no value."""
    if math.isnan(difference.mean):
        return "none"
    digits = digits_of(difference.high - difference.low, metric.decimals)
    low, high = difference_interval(difference, metric)
    span = interval(low, high, lambda value: signed(value, digits))
    return with_unit(f"{signed(difference.mean, digits)} {span}".strip(), metric)


def minus(pair: Pair | PublishedDifference, metric: Metric) -> str:
    """Both sides and their difference, `minus` between them."""
    return f"{name(pair.variation)} minus {name(pair.against)} is {difference_text(pair.difference, metric)}"


def difference_interval(difference: Difference, metric: Metric) -> tuple[float, float]:
    """Its ends, no further out than two values of the metric can differ."""
    widest = metric.most - metric.least
    return max(difference.low, -widest), min(difference.high, widest)  # of NaN, NaN


def digits_of(width: float, digits: int) -> int:
    """Decimals that show two digits of an interval's width, and no fewer than its metric has."""
    if not (width > 0 and math.isfinite(width)):
        return digits
    return min(max(digits, 1 - math.floor(math.log10(width))), digits + 3)


def cell_text(cell: Cell | None, metric: Metric) -> tuple[str, str]:
    """A mean and its interval, without the unit; the second is empty where there is none."""
    if cell is None:
        return "-", ""
    return number(cell.mean, metric.decimals), possible_interval(cell.low, cell.high, metric)


def ours_text(mean: float, low: float, high: float, metric: Metric) -> str:
    """Our mean with its prediction interval, without the unit."""
    return f"{number(mean, metric.decimals)} {possible_interval(low, high, metric)}".strip()


def possible_interval(low: float, high: float, metric: Metric) -> str:
    """No further out than the metric's values can lie."""
    ends = max(low, metric.least), min(high, metric.most)  # of NaN, NaN
    return interval(*ends, lambda value: number(value, metric.decimals))


def seeds_compared(difference: Difference) -> str:
    """`paired by seed, n = 5`; `unpaired, n = 5 and 3`."""
    if difference.paired:
        return f"paired by seed, n = {difference.n_pairs}"
    return f"unpaired, n = {difference.n_a} and {difference.n_b}"


def certainty(pair: Pair) -> str:
    """The test behind a difference: `equivalence: corrected p = 0.012, paired by seed, n = 5`."""
    tests = {"equivalence": "equivalence: ", "larger": "larger than the smallest effect: "}
    corrected = "corrected " if pair.difference.confidence > CONFIDENCE else ""
    of = seeds_compared(pair.difference)
    if any(caveat.kind == "folds" for caveat in pair.caveats):
        of = f"{of.replace('by seed', 'by fold')}, corrected for folds that share training data"
    if pair.best_of:
        tries = f"{pair.difference.n_a} and {pair.difference.n_b} tries"
        of = f"expected best of {pair.best_of}, from {tries}"
    return f"{tests.get(pair.test, '')}{corrected}{p_value(pair.p_corrected)}, {of}"


# --- Variations and runs ------------------------------------------------------------------------------------------


def cell_of(variation: Variation, metric: str) -> Cell | None:
    """What a variation says about a metric, if it has it."""
    return next((cell for cell in variation.cells if cell.metric == metric), None)


def without_repeats(conclusion: Conclusion) -> list[Variation]:
    """The variations without the repeated runs of the baseline."""
    return [variation for variation in conclusion.variations if variation.role in ("baseline", "variation")]


def best_of(conclusion: Conclusion, metric: Metric) -> tuple[Variation, Cell] | None:
    """The variation with the best mean; None where no two different means can be compared."""
    cells = [(variation, cell_of(variation, metric.name)) for variation in without_repeats(conclusion)]
    known = [(variation, cell) for variation, cell in cells if cell and math.isfinite(cell.mean)]
    if (
        len({cell.mean for _, cell in known}) < 2
        or len({cell.part for _, cell in known}) > 1
        or metric.higher_is_better is None
    ):
        return None
    return (max if metric.higher_is_better else min)(known, key=lambda each: each[1].mean)


def main_metrics(conclusion: Conclusion) -> list[Metric]:
    """Those of the results table that any variation has, the one it is sorted by first."""
    having = {cell.metric for variation in conclusion.variations for cell in variation.cells if cell.n}
    shown = [metric for metric in conclusion.metrics if metric.shown and metric.name in having]
    return sorted(shown, key=lambda metric: metric.name != conclusion.metric)


def runs_text(variation: Variation) -> str:
    """`5`, or `4 of 5` where some did not finish."""
    if variation.planned is None or variation.planned == variation.finished:
        return f"{variation.finished:,}"
    return f"{variation.finished:,} of {variation.planned:,}"


def run_text(run: RunRecord) -> str:
    """`adam, seed 3 (0123...)`."""
    seed = "" if run.seed is None else f", seed {scalar(run.seed)}"
    return f"{plain(run.variation or run.name or 'run', LONGEST_NAME)}{seed} ({run.run_id})"


def run_link(conclusion: Conclusion, run_id: str | None) -> str:
    """The address of a run in MLflow's UI; empty where that is not known."""
    ui = conclusion.provenance.ui
    if len(conclusion.provenance.experiments) > 1:  # of which the address is the first one's
        own = next((run.experiment_id for run in conclusion.runs if run.run_id == run_id), None)
        ui = f"{ui.rpartition('/')[0]}/{own}" if own else ui
    return f"{ui}/runs/{quote(run_id)}" if run_id and re.fullmatch(r"https?://[^\s()<>\"']+", ui) else ""
