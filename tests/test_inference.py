"""Intervals, tests and verdicts against numbers worked out by hand, SciPy, statsmodels, and simulation.

Simulations have a fixed seed, and a margin of four standard errors of the share that they count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from benchmarks import statistics as simulated
from pipeline import inference
from pipeline.inference import ALPHA, Difference, Estimate, Verdict

Array = NDArray[Any]
SAMPLES = 10_000


def _with_outliers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One seed in ten lies 10 standard deviations off, as a dead ReLU unit would have it."""
    return rng.standard_normal(shape) + 10 * (rng.random(shape) < 0.1)


# How the values of the seeds are distributed, and their mean.
DISTRIBUTIONS: dict[str, tuple[Callable[..., Array], float]] = {
    "normal": (simulated.normal, 0),
    "exponential": (simulated.skewed, 1),
    "outliers": (_with_outliers, 1),
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def margin(share: float, samples: int = SAMPLES) -> float:
    return 4 * math.sqrt(share * (1 - share) / samples)


def series(*values: float) -> pd.Series:
    return pd.Series(values, dtype=float)


def numbers(difference: Difference) -> tuple[float, ...]:
    """Mean, interval at 95 %, p against no difference."""
    estimate = difference.estimate
    return tuple(map(float, (estimate.mean, *estimate.interval(), estimate.p_different())))


# --- Differences against SciPy and by hand ------------------------------------------------------------------------


def test_difference_is_scipys_paired_test(rng: np.random.Generator) -> None:
    a, b = series(*rng.random(6)), series(*rng.random(6))
    ours, theirs = inference.difference(a, b[::-1]), stats.ttest_rel(a, b)
    interval = theirs.confidence_interval(0.95)
    assert ours[:4] == (6, 6, 6, True)
    assert numbers(ours) == pytest.approx(((a - b).mean(), interval.low, interval.high, theirs.pvalue))
    at_99 = theirs.confidence_interval(0.99)
    assert ours.estimate.interval(0.01) == pytest.approx((at_99.low, at_99.high))


def test_difference_is_scipys_welch_test(rng: np.random.Generator) -> None:
    a, b = pd.Series(rng.random(4), range(4)), pd.Series(3 * rng.random(7), range(3, 10))
    ours, theirs = inference.difference(a, b), stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours[:4] == (4, 7, 0, False)
    assert numbers(ours) == pytest.approx((a.mean() - b.mean(), interval.low, interval.high, theirs.pvalue))
    assert ours.dropped == ()


@pytest.mark.parametrize(("first", "theirs"), [(0, ttost_paired), (20, ttost_ind)], ids=["paired", "Welch"])
def test_equivalence_is_statsmodels_two_one_sided_tests(
    first: int, theirs: Callable[..., Any], rng: np.random.Generator
) -> None:
    kind = {"usevar": "unequal"} if theirs is ttost_ind else {}
    for margin_ in (0.1, 0.5, 2.0):
        a, b = rng.random(6), rng.random(6)
        ours = inference.difference(series(*a), pd.Series(b, range(first, first + 6))).estimate
        assert float(ours.p_equivalent(margin_)) == pytest.approx(
            min(1, 2 * theirs(a, b, -margin_, margin_, **kind)[0])
        )


def test_difference_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, sd 1, standard error 1 / sqrt(3), t for 2 degrees of freedom 4.3027.
    ours = inference.difference(series(2, 4, 6), series(1, 2, 3))
    assert ours.estimate == pytest.approx((2, 1 / math.sqrt(3), 2))
    # t = 2 sqrt(3); with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2).
    by_hand = (2, 2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3), 1 - math.sqrt(12 / 14))
    assert numbers(ours) == pytest.approx(by_hand, abs=1e-4)
    # One less than a margin of 3, one more than one of 1: t = sqrt(3) each time.
    p = 1 - math.sqrt(3 / 5)
    assert float(ours.estimate.p_equivalent(3)) == float(ours.estimate.p_beyond(1)) == pytest.approx(p)
    assert float(ours.estimate.p_equivalent(1)) == float(ours.estimate.p_beyond(3)) == 1


def test_p_is_below_alpha_exactly_where_the_interval_says_so(rng: np.random.Generator) -> None:
    estimate = inference.paired(rng.normal(0.5, 1, (4000, 4)), rng.normal(0, 1, (4000, 4)))
    for alpha in (0.05, 0.05 / 7):
        low, high = estimate.interval(alpha)
        for margin_ in (0.3, 2.0):
            inside, beyond = (-margin_ < low) & (high < margin_), (low > margin_) | (high < -margin_)
            assert ((estimate.p_equivalent(margin_) < alpha) == inside).all()
            assert ((estimate.p_beyond(margin_) < alpha) == beyond).all()
        assert ((estimate.p_different() < alpha) == ((low > 0) | (high < 0))).all()


def test_nearly_all_seeds_must_be_in_pairs() -> None:
    a = pd.Series([1.0, 2.0, math.nan, 4.0, 5.0, 7.0, math.inf], index=[0, 1, 2, 3, 4, 5, 6])
    b = pd.Series([0.0, 0.5, 0.0, 0.0, 0.0, 1.0], index=[0, 1, 2, 3, 4, 9])
    ours = inference.difference(a, b)  # 4 pairs of 5 and 6 seeds: not 4 in 5
    assert ours[:4] == (5, 6, 0, False)
    assert ours.dropped == ()
    ours = inference.difference(a, b[:5])
    assert ours[:4] == (5, 5, 4, True)
    assert ours.estimate.mean == pytest.approx((1 + 1.5 + 4 + 5) / 4)
    assert ours.dropped == (2, 5)  # of 2 and 6, a has no value
    # Two seeds in common among eighteen: all of them say more than the two.
    many = inference.difference(pd.Series(range(10), range(10)), pd.Series(range(10), range(8, 18)))
    assert many[:4] == (10, 10, 0, False)
    repeated = pd.Series([1.0, 3.0, 5.0], index=[0, 0, 1])
    assert inference.difference(repeated, series(1, 1)).estimate.mean == pytest.approx((1 + 4) / 2)


def test_unknown_seeds_are_no_pairs() -> None:
    seedless = pd.Series([1.0, 2.0, 4.0], index=[math.nan] * 3)
    difference = inference.difference(seedless, seedless + 1)
    assert difference[:4] == (3, 3, 0, False)
    assert difference.dropped == ()


def test_order_of_rows_does_not_matter_to_the_last_bit(rng: np.random.Generator) -> None:
    a = pd.Series(rng.lognormal(size=20), [*range(19), 0])
    for b in (series(*rng.random(20)), pd.Series(rng.random(20), range(50, 70))):
        shuffled = (each.sample(frac=1, random_state=2) for each in (a, b))
        assert inference.difference(a, b) == inference.difference(*shuffled)


def test_swapping_the_sides_flips_the_signs_and_units_do_not_matter(rng: np.random.Generator) -> None:
    a = series(*rng.random(5))
    for b in (series(*rng.random(5)), pd.Series(rng.random(7), range(10, 17))):
        mean, low, high, p = numbers(inference.difference(a, b))
        assert numbers(inference.difference(b, a)) == pytest.approx((-mean, -high, -low, p))
        *scaled, p_scaled = numbers(inference.difference(1e-6 * a, 1e-6 * b))
        assert scaled == pytest.approx([1e-6 * value for value in (mean, low, high)], abs=0, rel=1e-9)
        assert p_scaled == pytest.approx(p)
        assert numbers(inference.difference(a + 5, b + 5)) == pytest.approx((mean, low, high, p))


@pytest.mark.parametrize("index", [[0, 1, 2], [5, 6, 7]], ids=["paired", "Welch"])
def test_constant_differences(index: list[int]) -> None:
    for low, high, p in ((0.3, 0.3, 1), (0.200001, 0.300001, 0)):
        ours = inference.difference(series(low, low, low), pd.Series([high] * 3, index))
        assert numbers(ours) == pytest.approx((low - high, low - high, low - high, p))
        assert [float(ours.estimate.p_equivalent(margin_)) for margin_ in (0.2, 0.05)] == [0, 1 - p]
        assert [float(ours.estimate.p_beyond(margin_)) for margin_ in (0.2, 0.05)] == [1, p]
    # All are 0.3 but for rounding: 0.4 - 0.1 is not 0.5 - 0.2.
    fine = 1 / 7
    mean, *rest = numbers(inference.difference(fine + series(0.4, 0.5, 0.6), fine + series(0.1, 0.2, 0.3)))
    assert rest == [mean, mean, 0]
    assert numbers(inference.difference(series(0.1 + 0.2, 0.3), series(0.3, 0.3)))[-1] == 1


def test_the_same_difference_of_coarse_values_is_no_certainty(rng: np.random.Generator) -> None:
    mean, low, high, p = numbers(inference.difference(series(0.92, 0.93), series(0.91, 0.92)))
    half = 12.706 * 0.01 / math.sqrt(12)
    assert (mean, low, high) == pytest.approx((0.01, 0.01 - half, 0.01 + half), rel=1e-3)
    assert p == pytest.approx(0.179, abs=1e-3)
    _, low, high, _ = numbers(inference.difference(series(2000, 2000, 2000), series(1000, 1000, 1000)))
    assert (low, high) == pytest.approx((1000 - 1.0142, 1000 + 1.0142), rel=1e-4), "counts are whole"
    of_five = inference.difference(series(0.92, 0.93, 0.94, 0.95, 0.96), series(0.91, 0.92, 0.93, 0.94, 0.95))
    assert float(of_five.estimate.p_different()) < 0.01
    # No effect, accuracies of two decimals: it was 12 in 100 of two seeds.
    for n in (2, 3):
        drawn = np.round(rng.normal(0.9, 0.01, (2000, 2, n)), 2)
        found = [inference.difference(pd.Series(a), pd.Series(b)).estimate.p_different() < 0.05 for a, b in drawn]
        assert np.mean(found) < 0.06


def test_too_few_values() -> None:
    alone = inference.difference(series(3), series(1))
    assert (alone.n_a, alone.n_b, alone.n_pairs, alone.paired, alone.estimate.mean) == (1, 1, 0, False, 2)
    one_side = inference.difference(series(3), series(1, 2))
    assert one_side.estimate.mean == 1.5
    nothing = inference.difference(series(), series(1, 2))
    assert np.isnan(nothing.estimate.mean)
    for difference in (alone, one_side, nothing):
        assert np.isnan(numbers(difference)[1:]).all()
        assert inference.judge(*difference.estimate.interval(), "lower", 1) is Verdict.NOT_JUDGED


# --- What simulation says -----------------------------------------------------------------------------------------


def covered(interval: tuple[Array, Array], truth: float) -> float:
    low, high = interval
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "coverage"),
    [("normal", (0.951, 0.949, 0.951)), ("exponential", (0.884, 0.881, 0.900)), ("outliers", (0.872, 0.762, 0.713))],
)
def test_coverage_of_the_mean(name: str, coverage: Sequence[float], rng: np.random.Generator) -> None:
    draw, truth = DISTRIBUTIONS[name]
    for n, expected in zip((3, 5, 10), coverage, strict=True):
        values = draw(rng, (SAMPLES, n))
        share = covered(inference.mean_interval(values.mean(axis=1), values.std(axis=1, ddof=1), n), truth)
        assert share == pytest.approx(expected, abs=1.5 * margin(expected))  # the expected one was simulated, too


def test_a_percentile_bootstrap_does_not_cover(rng: np.random.Generator) -> None:
    values = rng.standard_normal((2000, 5))
    means = values[:, rng.integers(0, 5, (500, 5))].mean(axis=2)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert covered((low, high), 0) == pytest.approx(0.84, abs=0.03)


PAIRED = {
    ("normal", "normal"): (0.951, 0.947, 0.952),
    ("exponential", "exponential"): (0.965, 0.965, 0.960),
    ("outliers", "outliers"): (0.972, 0.978, 0.977),
    ("exponential", "normal"): (0.950, 0.947, 0.948),
    ("outliers", "normal"): (0.914, 0.861, 0.821),
}
WELCH = {
    ("normal", "normal"): (0.964, 0.953, 0.953, 0.938),
    ("exponential", "exponential"): (0.973, 0.973, 0.962, 0.920),
    ("outliers", "outliers"): (0.979, 0.981, 0.980, 0.963),
    ("exponential", "normal"): (0.960, 0.950, 0.949, 0.934),
    ("outliers", "normal"): (0.917, 0.845, 0.807, 0.915),
}


@pytest.mark.slow
@pytest.mark.parametrize("names", PAIRED, ids=" - ".join)
def test_coverage_of_a_difference(names: tuple[str, str], rng: np.random.Generator) -> None:
    (draw_a, mean_a), (draw_b, mean_b) = (DISTRIBUTIONS[name] for name in names)
    designs = [(inference.paired, n, n) for n in (3, 5, 10)]
    designs += [(inference.welch, n, n) for n in (3, 5, 10)] + [(inference.welch, 10, 3)]
    for (method, n, m), expected in zip(designs, PAIRED[names] + WELCH[names], strict=True):
        estimate = method(draw_a(rng, (SAMPLES, n)), draw_b(rng, (SAMPLES, m)))
        share = covered(estimate.interval(), mean_a - mean_b)
        assert share == pytest.approx(expected, abs=1.5 * margin(expected))
        if names != ("outliers", "normal") and n == m:
            assert share >= 0.95 - margin(0.95)


def test_what_is_simulated_is_what_difference_returns(rng: np.random.Generator) -> None:
    a, b = rng.exponential(size=(2, 50, 5))
    for method, shift in ((inference.paired, 0), (inference.welch, 10)):
        mean, error, freedom = np.broadcast_arrays(*method(a, b))
        for place in range(50):
            one = inference.difference(pd.Series(a[place]), pd.Series(b[place], np.arange(5) + shift))
            assert one.estimate == pytest.approx((mean[place], error[place], freedom[place]))


@pytest.mark.slow
@pytest.mark.parametrize("name", simulated.DISTRIBUTIONS)
def test_at_most_one_study_in_twenty_says_anything_false(name: str, rng: np.random.Generator) -> None:
    studies, draw = 4000, simulated.DISTRIBUTIONS[name]
    for claims in simulated.CLAIMS:
        for seeds in simulated.SEEDS:
            for method in simulated.METHODS:
                estimate = simulated.chance(rng, draw, studies, claims, seeds, method)
                for truth in simulated.TRUTHS:
                    share = simulated.any_false(estimate, truth)
                    assert share <= 0.05 + margin(0.05, studies), (claims, seeds, method, truth)
                    # Of normal seeds, it is no less either where nothing is shared: the level is used.
                    if (name, claims, method, truth) == ("normal", 1, "paired", "smallest effect"):
                        assert share >= 0.05 - margin(0.05, studies)


def test_a_level_shared_out_over_the_looks(rng: np.random.Generator) -> None:
    assert simulated.extended(rng, SAMPLES, (5, 10), looks=1) == pytest.approx(0.085, abs=margin(0.085))
    assert simulated.extended(rng, SAMPLES, (5, 10), looks=2) <= 0.05 + margin(0.05)


# --- Searches --------------------------------------------------------------------------------------------------------


def test_the_expected_best_of_n_tries() -> None:
    def best(n: int, *tries: float, higher: bool = False) -> tuple[float, float, float]:
        return tuple(inference.expected_best(pd.Series(tries), n, higher))

    # Of the pairs of 8, 1, 4 and 2 the lesser are 1, 1, 1, 2, 2, 4; without each of the four, 8/3, 2, 4/3 and 4/3.
    assert best(2, 8, 1, 4, 2) == pytest.approx((11 / 6, math.sqrt(3 / 4 * 11 / 9), 3))
    assert best(2, -8, -1, -4, -2, higher=True) == pytest.approx((-11 / 6, math.sqrt(3 / 4 * 11 / 9), 3))
    assert best(1, 8, 1, 4, 2) == pytest.approx((15 / 4, np.std([8, 1, 4, 2], ddof=1) / 2, 3))  # the mean, as Student's
    assert best(4, 8, 1, 4, 2) == pytest.approx((1, math.nan, math.nan), nan_ok=True)
    assert best(2, 1, 4, 2) == pytest.approx((4 / 3, math.nan, math.nan), nan_ok=True)  # three tries: no error
    assert best(5, 8, 1, 4, 2) == pytest.approx((math.nan,) * 3, nan_ok=True)
    assert best(2, 3, 3, 3, 3) == (3, 0, 3)
    assert best(2, 8, 1, 4, 2, math.inf, math.nan)[0] == pytest.approx(11 / 6)
    twice = pd.Series([0, 2, 1, 4, 8], ["lr=0.1", "lr=0.1", "lr=1", "lr=2", "lr=3"])  # the first two are one try, of 1
    assert inference.expected_best(twice, 2, False).mean == pytest.approx((1 + 1 + 1 + 1 + 1 + 4) / 6)
    assert [inference.most_tries(count) for count in (0, 3, 4, 8, 9, 20)] == [0, 0, 2, 2, 3, 6]


def test_the_difference_of_searches_of_unequal_effort(rng: np.random.Generator) -> None:
    a, b = pd.Series(rng.normal(size=30)), pd.Series(rng.normal(size=9))
    n, found = inference.best_difference(a, b, higher_is_better=False)
    left, right = (inference.expected_best(each, 3, False) for each in (a, b))
    assert (n, found.n_a, found.n_b, found.paired) == (3, 30, 9, False)
    assert found.estimate.mean == pytest.approx(left.mean - right.mean)
    assert found.estimate.error == pytest.approx(math.hypot(left.error, right.error))
    squares = left.error**2, right.error**2
    welch = sum(squares) ** 2 / (squares[0] ** 2 / left.freedom + squares[1] ** 2 / right.freedom)
    assert found.estimate.freedom == pytest.approx(welch)
    n, few = inference.best_difference(a, b[:3], higher_is_better=False)
    assert (n, math.isnan(few.estimate.error)) == (1, True)
    assert few.estimate.mean == pytest.approx(a.mean() - b[:3].mean())


@pytest.mark.slow
def test_intervals_of_the_expected_best_cover(rng: np.random.Generator) -> None:
    expected = {  # as docs/statistics.md has it
        ("normal", "normal"): (0.944, 0.953, 0.954, 0.952),
        ("over learning rates", "over learning rates"): (0.954, 0.974, 0.980, 0.984),
        ("over learning rates", "two in five diverge"): (0.761, 0.837, 0.980, 0.975),
    }
    for names, shares in expected.items():
        for tries, share in zip((6, 12, 20, 50), shares, strict=True):
            seen = simulated.best_covered(rng, names, 4000, tries)
            assert seen == pytest.approx(share, abs=1.5 * margin(share, 4000)), (names, tries)


# --- Verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "direction", "verdict"),
    [
        (-4, -2, "lower", Verdict.SUPPORTED),
        (-4, -2, "higher", Verdict.CONTRADICTED),
        (2, 4, "higher", Verdict.SUPPORTED),
        (2, 4, "lower", Verdict.CONTRADICTED),
        (1, 4, "higher", Verdict.SUPPORTED),  # at least the smallest effect
        (0.5, 4, "higher", Verdict.UNDECIDED),
        (-4, -0.1, "lower", Verdict.UNDECIDED),
        (0.5, 4, "lower", Verdict.CONTRADICTED),
        (0, 4, "higher", Verdict.INCONCLUSIVE),
        (-1, 7, "higher", Verdict.INCONCLUSIVE),
        (0.2, 0.8, "higher", Verdict.NEGLIGIBLE),  # certain, and does not matter
        (0.2, 0.8, "lower", Verdict.NEGLIGIBLE),
        (-0.9, 0.9, "lower", Verdict.NEGLIGIBLE),
        (-0.6, 1, "lower", Verdict.INCONCLUSIVE),  # its end is a difference that matters
        (-1, 0.6, "lower", Verdict.INCONCLUSIVE),
        (0.2, 0.8, "equal", Verdict.SUPPORTED),
        (2, 4, "equal", Verdict.CONTRADICTED),
        (-4, -2, "equal", Verdict.CONTRADICTED),
        (0.5, 1.5, "equal", Verdict.INCONCLUSIVE),  # on the border
        (-2, 4, "equal", Verdict.INCONCLUSIVE),
        (math.nan, math.nan, "equal", Verdict.NOT_JUDGED),
    ],
)
def test_verdicts(low: float, high: float, direction: str, verdict: Verdict) -> None:
    assert inference.judge(low, high, direction, 1) is verdict
    assert inference.judge([low, 2], [high, 3], direction, 1)[0] is verdict


def test_no_verdict_jumps_to_its_opposite() -> None:
    """With one smallest effect after the other: never from negligible to supported."""
    smallest = np.linspace(0, 0.0012, 1201)
    verdicts = [inference.judge(0.00073, 0.00095, "higher", each) for each in smallest]
    changes = [0, *(i for i in range(1, len(verdicts)) if verdicts[i] != verdicts[i - 1])]
    assert [verdicts[i] for i in changes] == [Verdict.SUPPORTED, Verdict.UNDECIDED, Verdict.NEGLIGIBLE]
    assert smallest[changes] == pytest.approx([0, 0.00073, 0.00095], abs=2e-6)


def test_without_a_smallest_difference_nothing_is_negligible() -> None:
    assert inference.judge(0, 0, "lower", 0) is Verdict.INCONCLUSIVE
    assert inference.judge(0, 0, "equal", 0) is Verdict.INCONCLUSIVE
    assert inference.judge(1e-9, 1, "higher", 0) is Verdict.SUPPORTED
    assert Verdict.NOT_JUDGED == f"{Verdict.NOT_JUDGED}" == json.loads(json.dumps(Verdict.NOT_JUDGED)) == "not judged"
    with pytest.raises(ValueError, match="'less'; allowed: lower, higher, equal"):
        inference.judge(0, 0, "less", 0)


# --- Power --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 7])
def test_power_is_statsmodels(alpha: float) -> None:
    theirs = TTestPower()
    for n in (3, 5, 10, 40):
        effect = inference.detectable(n, alpha)
        # Its two-sided power counts a difference in the wrong direction, too: less than one in a million here.
        assert theirs.power(effect, n, alpha) == pytest.approx(0.8, abs=1e-5)
        assert inference.seeds_needed(effect * 1.0001, alpha) == n
        assert inference.seeds_needed(-effect * 0.9999, alpha) == n + 1


def test_so_many_seeds_find_the_difference(rng: np.random.Generator) -> None:
    n = inference.seeds_needed(0.9)
    assert n == 12
    low, _ = inference.paired(rng.standard_normal((SAMPLES, n)) + 0.9, np.zeros((SAMPLES, n))).interval()
    assert np.mean(low > 0) == pytest.approx(float(inference.power(0.9 * math.sqrt(n), n - 1)), abs=margin(0.8))


def test_seeds_needed_cannot_always_be_said() -> None:
    assert inference.seeds_needed(0.01) is None  # more than 1000
    assert inference.seeds_needed(0) is None
    assert inference.seeds_needed(1000) == 2
    assert math.isnan(inference.detectable(1))
    assert inference.detectable(2, 0.05 / 100) > 100  # two seeds of a hundred claims show next to nothing


# --- Beside a verdict ---------------------------------------------------------------------------------------------


def test_beats_by_hand() -> None:
    # Of 3 x 3 pairs, a is lower in 7, equal in one.
    a, b = series(1, 2, 5), series(5, 6, 3)
    ours = inference.beats(a, b, higher_is_better=False)
    assert ours.probability == pytest.approx(7.5 / 9)
    assert inference.beats(a, b, higher_is_better=True).probability == pytest.approx(1.5 / 9)
    mirrored = inference.beats(b, a, higher_is_better=False)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((ours.low, ours.high))
    # Where all win, Newcombe's equation is quadratic: (1 - t) (2 - t) (1 + t) nm = z^2 t (...) has the root at `low`.
    low, all_win = inference.beats(series(1, 2, 3), series(4, 5, 6), higher_is_better=False)[1::-1]
    z, both = 1.959964, 2
    spread = low * (1 - low) * (1 + both * (1 - low) / (2 - low) + both * low / (1 + low)) / 9
    assert (all_win, 1 - low) == (1, pytest.approx(z * math.sqrt(spread)))
    assert np.isnan(inference.beats(series(1), b, higher_is_better=False)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shift", "coverage"), [(0, (0.90, 0.945, 0.95)), (1, (0.935, 0.955, 0.96)), (2, (0.97, 0.95, 0.96))]
)
def test_coverage_of_beats(shift: float, coverage: Sequence[float], rng: np.random.Generator) -> None:
    true = stats.norm.cdf(shift / math.sqrt(2))
    for n, expected in zip((3, 5, 10), coverage, strict=True):
        a, b = rng.standard_normal((2, SAMPLES, n))
        won = ((a[:, :, None] + shift) > b[:, None, :]).sum(axis=(1, 2))
        known = {}  # no two runs tie: the number of pairs that a wins says all
        for wins in np.unique(won).tolist():
            full, rest = divmod(wins, n)
            places = [n + 0.5] * full + ([rest + 0.5] if full < n else []) + [0.5] * (n - full - 1)
            known[wins] = inference.beats(series(*places[:n]), series(*range(1, n + 1)), higher_is_better=True)
            assert known[wins].probability == pytest.approx(wins / n**2)
        share = np.mean([known[wins].low <= true <= known[wins].high for wins in won.tolist()])
        assert share == pytest.approx(expected, abs=0.012)


def test_seeds_that_are_visibly_not_normal() -> None:
    dead = series(0.0931, 0.0932, 0.0930, 0.0933, 0.1400)
    assert inference.p_normal(dead) == pytest.approx(stats.shapiro(dead).pvalue)
    assert inference.p_normal(dead) < inference.NOT_NORMAL
    assert inference.p_normal(series(0.0931, 0.0932, 0.0930, 0.0933, 0.0935)) > inference.NOT_NORMAL
    for unknown in (series(1, 2), series(3, 3, 3), series(1, math.nan, 2, math.inf)):
        assert math.isnan(inference.p_normal(unknown))


def test_permutations_by_hand() -> None:
    # Of 2^3 = 8 ways to flip the signs of 1, 2, 4, two are as far off as the one seen: all + and all -.
    assert inference.p_permutation(series(2, 4, 6), series(1, 2, 2)) == pytest.approx(2 / 8)
    # Of 1, 1, -4 with the mean -2/3: the sums of all flips are +-6, +-4, +-4, +-2; 8 of 8 are as far off as 2.
    assert inference.p_permutation(series(2, 2, 0), series(1, 1, 4)) == pytest.approx(1)
    # Of the 6 ways to share out 1, 2 | 3, 4 into two and two, two are as far off.
    unpaired = inference.p_permutation(series(1, 2), pd.Series([3.0, 4.0], [7, 8]))
    assert unpaired == pytest.approx(2 / 6)
    assert math.isnan(inference.p_permutation(series(1), series(1, 2)))
    many = np.arange(40.0)
    drawn = inference.p_permutation(pd.Series(many), pd.Series(many + np.where(many % 2, 1.0, -0.5)))
    assert drawn == pytest.approx(stats.ttest_1samp(np.where(many % 2, 1.0, -0.5), 0).pvalue, abs=0.02)


def test_an_estimate_without_error_has_no_width() -> None:
    low, high = Estimate(np.array([0.0, 2.0]), np.array([0.0, 0.0]), np.array([2.0, np.nan])).interval(ALPHA / 3)
    assert (low.tolist(), high.tolist()) == ([0, 2], [0, 2])
