"""How often a study says something false, and what it still finds, by simulation of `pipeline.inference`:

python -m benchmarks.statistics

Studies of 1, 3 and 7 claims against one baseline that they share, with 3, 5 and 10 seeds of each side. Both sides have
the same distribution, moved by the true difference; units are its standard deviations. docs/statistics.md has the
tables that this prints.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import inference
from pipeline.inference import Estimate, Verdict

Array = NDArray[Any]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

STUDIES = 20_000
CLAIMS, SEEDS = (1, 3, 7), (3, 5, 10)
# Smallest effects of interest, in standard deviations: with the first nearly every verdict is of a difference, with the
# last of its size. The largest share of false verdicts is printed.
SMALLEST = (0.5, 3.0, 20.0)
METHODS = {"paired": inference.paired, "Welch": inference.welch}
TRUTHS = ("no effect", "smallest effect", "mixture")
DIRECTIONS = ("higher", "lower", "equal")


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Seeds that vary as most do."""
    return rng.standard_normal(shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Exponential: losses have a tail on the bad side."""
    return rng.exponential(size=shape)


def outliers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normal, but one seed in ten lies 10 standard deviations off; of standard deviation 1 in all."""
    return (rng.standard_normal(shape) + 10 * (rng.random(shape) < 0.1)) / np.sqrt(1 + 100 * 0.09)


def dead_unit(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normal, but one seed in seven has a dead unit, 20 standard deviations off; of standard deviation 1 in all."""
    return (rng.standard_normal(shape) + 20 * (rng.random(shape) < 1 / 7)) / np.sqrt(1 + 400 * 6 / 49)


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": normal,
    "skewed": skewed,
    "outliers": outliers,
    "a dead unit in 1 of 7": dead_unit,
}


def chance(rng: np.random.Generator, draw: Draw, studies: int, claims: int, seeds: int, method: str) -> Estimate:
    """What studies [studies, claims] estimate where nothing has an effect."""
    baseline = draw(rng, (studies, 1, seeds))  # shared by all claims of a study
    return METHODS[method](draw(rng, (studies, claims, seeds)), np.broadcast_to(baseline, (studies, claims, seeds)))


def true_differences(truth: str, claims: int, smallest: float) -> Array:
    """Of each claim: 0, the smallest effect, or both in turns, upwards and downwards."""
    place = np.arange(claims)
    has_effect = {"no effect": place < 0, "smallest effect": place >= 0, "mixture": place % 2 == 1}[truth]
    return np.where(has_effect, smallest * np.where(place % 2, -1.0, 1.0), 0.0)


def any_false(estimate: Estimate, truth: str) -> float:
    """The share of studies [studies, claims] with any false verdict; the largest, by smallest effect of interest."""
    claims = estimate.mean.shape[1]
    shares = []
    for smallest in SMALLEST:
        true = true_differences(truth, claims, smallest)
        low, high = estimate._replace(mean=estimate.mean + true).interval(inference.ALPHA / claims)
        false = np.zeros(low.shape, bool)
        for claim, difference in enumerate(true):
            direction = DIRECTIONS[claim % len(DIRECTIONS)]
            given = inference.judge(low[:, claim], high[:, claim], direction, smallest)
            false[:, claim] = ~np.isin(given, true_verdicts(difference, direction))
        shares.append(float(false.any(axis=1).mean()))
    return max(shares)


def true_verdicts(difference: float, direction: str) -> list[Verdict]:
    """What is true of no difference, or of one that is just the smallest effect, neither larger nor smaller."""
    if direction == "equal":
        return [Verdict.INCONCLUSIVE] if difference else [Verdict.INCONCLUSIVE, Verdict.SUPPORTED]
    if not difference:
        return [Verdict.INCONCLUSIVE, Verdict.NEGLIGIBLE]
    as_claimed = (difference > 0) == (direction == "higher")
    return [Verdict.INCONCLUSIVE, Verdict.UNDECIDED if as_claimed else Verdict.CONTRADICTED]


def found(rng: np.random.Generator, studies: int, claims: int, seeds: int, effect: float) -> float:
    """The share of true normal effects, in standard deviations of the seeds, that a study of so many claims finds."""
    estimate = chance(rng, normal, studies, 1, seeds, "paired")
    low, _ = estimate._replace(mean=estimate.mean + effect).interval(inference.ALPHA / claims)
    return float((low > 0).mean())


def found_negligible(rng: np.random.Generator, studies: int, claims: int, seeds: int, smallest: float) -> float:
    """The share of claims without an effect of which that study says that it is smaller than `smallest`."""
    low, high = chance(rng, normal, studies, 1, seeds, "paired").interval(inference.ALPHA / claims)
    return float((inference.judge(low, high, "equal", smallest) == Verdict.SUPPORTED).mean())


def extended(rng: np.random.Generator, studies: int, seeds: Sequence[int], looks: int) -> float:
    """The share of studies of one claim without an effect that show one at any look, judged at a level for `looks`."""
    a, b = normal(rng, (2, studies, max(seeds)))
    shown = np.zeros(studies, bool)
    for n in seeds:
        low, high = inference.paired(a[:, :n], b[:, :n]).interval(inference.ALPHA / looks)
        shown |= (low > 0) | (high < 0)
    return float(shown.mean())


def one_sided(rng: np.random.Generator, studies: int, seeds: int) -> float:
    """The share of studies of one claim whose interval misses the difference where one side only has dead units."""
    a, b = dead_unit(rng, (studies, seeds)), normal(rng, (studies, seeds)) / np.sqrt(1 + 400 * 6 / 49)
    low, high = inference.paired(a, b).interval()
    true = 20 / 7 / np.sqrt(1 + 400 * 6 / 49)
    return float(((low > true) | (high < true)).mean())


def searched(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Losses over a range of learning rates, in powers of ten: least in the middle, and a little noise of the seed."""
    return np.abs(rng.uniform(-2, 2, shape)) ** 1.5 + rng.normal(0, 0.02, shape)


def diverging(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A search of which two tries in five are useless, and far off."""
    return np.where(rng.random(shape) < 0.4, 20 + rng.normal(0, 2.5, shape), rng.uniform(0, 1, shape))


SEARCHES: dict[str, Draw] = {"normal": normal, "over learning rates": searched, "two in five diverge": diverging}


def best_covered(rng: np.random.Generator, searches: Sequence[str], studies: int, tries: int) -> float:
    """The share of intervals that contain the true difference of the expected best of as many tries as have one."""
    draws, n = [SEARCHES[name] for name in searches], inference.most_tries(tries)
    sides = [inference.least_of(np.sort(draw(rng, (studies, tries)), axis=-1), n) for draw in draws]
    one, other = (draw(rng, (200_000, n)).min(axis=-1).mean() for draw in draws)
    low, high = inference.unpaired(*sides).interval()
    return float(((low <= one - other) & (one - other <= high)).mean())


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    """Simulate everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=STUDIES, help="simulated for each number")
    studies = parser.parse_args().studies
    rng = np.random.default_rng(0)
    cases = [(name, truth, method) for name in DISTRIBUTIONS for truth in TRUTHS for method in METHODS]
    designs = [(claims, seeds) for claims in CLAIMS for seeds in SEEDS]

    def share(name: str, truth: str, method: str, claims: int, seeds: int) -> float:
        return any_false(chance(rng, DISTRIBUTIONS[name], studies, claims, seeds, method), truth)

    table(
        f"Share of {studies:,} studies with any false verdict, by claims x seeds",
        ["seeds are", "truth", "test", *(f"{claims} x {seeds}" for claims, seeds in designs)],
        ([*case, *(f"{share(*case, *design):.3f}" for design in designs)] for case in cases),
    )
    effects = (1, 2, 3, 5)
    table(
        "What is found, in standard deviations of the (normal) seeds: the share of differences of a size; the size of "
        "which 80 % are; the share of no difference that is negligible with a smallest effect of 3",
        ["claims", "seeds", *(f"{effect} sd" for effect in effects), "80 %", "negligible"],
        (
            [
                f"{claims}",
                f"{seeds}",
                *(f"{found(rng, studies, claims, seeds, effect):.2f}" for effect in effects),
                f"{inference.detectable(seeds, inference.ALPHA / claims) * np.sqrt(2):.1f} sd",
                f"{found_negligible(rng, studies, claims, seeds, 3.0):.2f}",
            ]
            for claims, seeds in designs
        ),
    )
    table(
        "Where one side only has a dead unit in 1 of 7: share of intervals that miss the difference of the means",
        [f"{seeds} seeds" for seeds in SEEDS],
        [[f"{one_sided(rng, studies, seeds):.3f}" for seeds in SEEDS]],
    )
    looks = ((5,), (5, 10), (5, 10, 20))
    table(
        "Share of studies of one claim, without an effect, that show one at any look",
        ["seeds at each look", "each look at 5 %", "the level shared out over the looks"],
        (
            [
                ", ".join(map(str, seeds)),
                f"{extended(rng, studies, seeds, 1):.3f}",
                f"{extended(rng, studies, seeds, len(seeds)):.3f}",
            ]
            for seeds in looks
        ),
    )
    tries = (6, 12, 20, 50)
    table(
        "Share of intervals that contain the true difference of the expected best of n of N tries",
        ["two searches", *(f"{inference.most_tries(count)} of {count}" for count in tries)],
        (
            [" - ".join(pair), *(f"{best_covered(rng, pair, studies, count):.3f}" for count in tries)]
            for pair in itertools.combinations_with_replacement(SEARCHES, 2)
        ),
    )


if __name__ == "__main__":
    main()
