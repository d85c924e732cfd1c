"""The statistics against numbers worked out by hand, SciPy, independent computations, and simulation.

Simulations have a fixed seed, and a margin of four standard errors of the share that they count.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from pipeline.compare import digests, evidence
from pipeline.compare.evidence import Difference, Verdict

Array = NDArray[Any]
SAMPLES = 10_000
STUDIES, CLAIMS = 20_000, 3


def _with_outliers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One seed in ten lies 10 standard deviations off, as a dead ReLU unit would have it."""
    return rng.standard_normal(shape) + 10 * (rng.random(shape) < 0.1)


# How the values of the seeds are distributed, and their mean.
DISTRIBUTIONS: dict[str, tuple[Callable[..., Array], float]] = {
    "normal": (lambda rng, shape: rng.standard_normal(shape), 0),
    "exponential": (lambda rng, shape: rng.exponential(size=shape), 1),
    "outliers": (_with_outliers, 1),
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def margin(share: float, samples: int = SAMPLES) -> float:
    return 4 * math.sqrt(share * (1 - share) / samples)


def found(mean: float, low: float, high: float, p: float = 0.01, n: int = 5) -> Difference:
    """A paired difference of n seeds."""
    return Difference(n, n, n, True, mean, low, high, p, ())


def series(*values: float) -> pd.Series:
    return pd.Series(values, dtype=float)


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


# --- Tables -------------------------------------------------------------------------------------------------------


def test_describe_by_hand() -> None:
    runs = frame(
        variation=["b", "a", "b", "b"], seed=[0, 0, 1, 2], loss=[1.0, 7.0, 2.0, 6.0], ssim=[0.5, 0.1, 0.3, 0.7]
    )
    table = evidence.describe(runs, ["loss", "ssim"], higher_is_better=["ssim"])
    assert table[["variation", "metric"]].to_numpy().tolist() == [
        ["b", "loss"],
        ["b", "ssim"],
        ["a", "loss"],
        ["a", "ssim"],
    ]
    loss = table.iloc[0]
    # Mean 3, deviations -2, -1, 3: variance 14 / 2. Student's t for 2 degrees of freedom at 99 % is 9.9248.
    assert loss[["n", "mean", "median", "worst", "worst_seed"]].tolist() == [3, 3, 2, 6, 2]
    assert loss["sd"] == pytest.approx(math.sqrt(7))
    assert [loss["low"], loss["high"]] == pytest.approx(
        [3 - 9.9248 * math.sqrt(7 / 3), 3 + 9.9248 * math.sqrt(7 / 3)], 1e-4
    )
    assert table.iloc[1][["worst", "worst_seed"]].tolist() == [0.3, 1]
    alone = table.iloc[2]
    assert alone[["n", "mean", "median", "worst", "worst_seed"]].tolist() == [1, 7, 7, 7, 0]
    assert alone[["sd", "low", "high"]].isna().all()


def test_describe_does_not_count_nan_and_says_what_is_infinite() -> None:
    runs = frame(variation=["a"] * 3, seed=[0, 1, 2], x=[1.0, math.nan, 3.0], y=[math.nan] * 3, z=[1.0, math.inf, 2.0])
    runs["w"] = [1.0, math.inf, -math.inf]
    table = evidence.describe(runs, ["x", "y", "z", "w", "absent"]).set_index("metric")
    assert table["n"].tolist() == [2, 0, 3, 3, 0]
    assert table["mean"].tolist()[0::2][:2] == [2, math.inf]
    assert table.loc["z", ["median", "worst", "worst_seed"]].tolist() == [2, math.inf, 1]
    assert table.loc[["z", "w"], ["sd", "low", "high"]].isna().all(axis=None)
    for nothing in ("y", "absent"):
        assert table.loc[nothing].drop(["variation", "n", "worst_seed"]).isna().all()
        assert table.loc[nothing, "worst_seed"] is None
    assert type(table.loc["x", "worst_seed"]) is int


def test_describe_nothing() -> None:
    nothing = frame(variation=[], seed=[], x=[])
    assert len(evidence.describe(nothing, ["x"])) == 0
    assert len(evidence.describe(frame(variation=["a"], seed=[0]), [])) == 0
    constant = evidence.describe(frame(variation=["a"] * 2, seed=[0, 1], x=[0.3, 0.3]), ["x"]).iloc[0]
    assert constant[["mean", "sd", "low", "high"]].tolist() == [0.3, 0, 0.3, 0.3]


def test_a_seed_counts_once_and_an_unknown_one_is_of_its_own() -> None:
    twice = evidence.describe(frame(variation=["a"] * 3, seed=[0, 0, 1], x=[1.0, 3.0, 4.0]), ["x"]).iloc[0]
    assert twice[["n", "mean", "worst", "worst_seed"]].tolist() == [2, 3, 4, 1]
    tied = evidence.describe(frame(variation=["a"] * 3, seed=[12, 7, 3], x=[5.0, 5.0, 4.0]), ["x"]).iloc[0]
    assert tied["worst_seed"] == 7
    unknown = evidence.describe(frame(variation=["a"] * 3, seed=[math.nan] * 3, x=[1.0, 3.0, 5.0]), ["x"]).iloc[0]
    assert unknown[["n", "mean", "worst", "worst_seed"]].tolist() == [3, 3, 5, None]
    seedless = pd.Series([1.0, 2.0, 4.0], index=[math.nan] * 3)
    difference = evidence.difference(seedless, seedless + 1)
    assert difference[:4] == (3, 3, 0, False)
    assert difference.dropped == ()


def test_order_of_rows_does_not_matter_to_the_last_bit(rng: np.random.Generator) -> None:
    runs = frame(variation=["a"] * 20, seed=[*range(19), 0], x=rng.lognormal(size=20))
    runs.loc[5, "x"] = runs["x"].max()  # two are equally bad
    shuffled = runs.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(evidence.describe(runs, ["x"]), evidence.describe(shuffled, ["x"]), check_exact=True)
    a, b = (data.set_index("seed")["x"] for data in (runs, shuffled))
    for other in (series(*rng.random(20)), pd.Series(rng.random(20), range(50, 70))):
        assert evidence.difference(a, other) == evidence.difference(b, other.sample(frac=1, random_state=2))


# --- Differences against SciPy and by hand ------------------------------------------------------------------------


def test_difference_is_scipys_paired_test(rng: np.random.Generator) -> None:
    a, b = series(*rng.random(6)), series(*rng.random(6))
    ours, theirs = evidence.difference(a, b[::-1]), stats.ttest_rel(a, b)
    interval = theirs.confidence_interval(0.95)
    assert ours[:4] == (6, 6, 6, True)
    assert ours[4:8] == pytest.approx(((a - b).mean(), interval.low, interval.high, theirs.pvalue))


def test_difference_is_scipys_welch_test(rng: np.random.Generator) -> None:
    a, b = pd.Series(rng.random(4), range(4)), pd.Series(3 * rng.random(7), range(3, 10))
    ours, theirs = evidence.difference(a, b), stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours[:4] == (4, 7, 0, False)  # a single seed in common is no pair
    assert ours[4:8] == pytest.approx((a.mean() - b.mean(), interval.low, interval.high, theirs.pvalue))
    assert ours.dropped == ()


def test_difference_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, sd 1, standard error 1 / sqrt(3), t for 2 degrees of freedom 4.3027.
    ours = evidence.difference(series(2, 4, 6), series(1, 2, 3))
    assert ours[4:7] == pytest.approx((2, 2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), abs=1e-4)
    # t = 2 sqrt(3); with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2).
    assert ours.p == pytest.approx(1 - math.sqrt(12 / 14))


def test_difference_keeps_the_seeds_that_both_have() -> None:
    a = pd.Series([1.0, 2.0, math.nan, 4.0, 5.0, math.inf], index=[0, 1, 2, 3, 4, 6])
    b = pd.Series([0.0, 0.5, 0.0, 0.0, 0.0], index=[0, 1, 2, 3, 9])
    ours = evidence.difference(a, b)
    assert ours[:4] == (4, 5, 3, True)
    assert ours.mean == pytest.approx((1 + 1.5 + 4) / 3)
    assert ours.dropped == (2, 4, 9)  # of 2 and 6, a has no value
    repeated = pd.Series([1.0, 3.0, 5.0], index=[0, 0, 1])
    assert evidence.difference(repeated, series(1, 1)).mean == pytest.approx((1 + 4) / 2)


def test_swapping_the_sides_flips_the_signs_and_units_do_not_matter(rng: np.random.Generator) -> None:
    a = series(*rng.random(5))
    for b in (series(*rng.random(5)), pd.Series(rng.random(7), range(10, 17))):
        one, other = evidence.difference(a, b), evidence.difference(b, a)
        assert (other.mean, other.low, other.high, other.p) == pytest.approx((-one.mean, -one.high, -one.low, one.p))
        scaled = evidence.difference(1e-6 * a, 1e-6 * b)
        assert scaled[4:7] == pytest.approx([1e-6 * value for value in one[4:7]], abs=0, rel=1e-9)
        assert scaled.p == pytest.approx(one.p)
        shifted = evidence.difference(a + 5, b + 5)
        assert shifted[4:8] == pytest.approx(one[4:8])


@pytest.mark.parametrize("index", [[0, 1, 2], [5, 6, 7]], ids=["paired", "Welch"])
def test_constant_differences(index: list[int]) -> None:
    for low, high, p in ((0.3, 0.3, 1), (0.2, 0.3, 0)):
        ours = evidence.difference(series(low, low, low), pd.Series([high] * 3, index))
        assert ours[4:8] == pytest.approx((low - high, low - high, low - high, p))
    # All are 0.3 but for rounding: 0.4 - 0.1 is not 0.5 - 0.2.
    rounded = evidence.difference(series(0.4, 0.5, 0.6), series(0.1, 0.2, 0.3))
    assert (rounded.low, rounded.high, rounded.p) == (rounded.mean, rounded.mean, 0)
    assert evidence.difference(series(0.1 + 0.2, 0.3), series(0.3, 0.3)).p == 1


def test_too_few_values() -> None:
    alone = evidence.difference(series(3), series(1))
    assert (alone.n_a, alone.n_b, alone.n_pairs, alone.paired, alone.mean) == (1, 1, 0, False, 2)
    assert np.isnan(alone[5:8]).all()
    one_side = evidence.difference(series(3), series(1, 2))
    assert one_side.mean == 1.5
    assert np.isnan(one_side[5:8]).all()
    nothing = evidence.difference(series(), series(1, 2))
    assert np.isnan(nothing[4:8]).all()
    for difference in (alone, one_side, nothing):
        assert evidence.judge(difference, "lower", 1, difference.p) is Verdict.NOT_JUDGED
        assert evidence.seeds_needed(difference, 1) is None


# --- What simulation says -----------------------------------------------------------------------------------------


def covered(low: Array, high: Array, truth: float) -> float:
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "coverage"),
    [("normal", (0.990, 0.989, 0.990)), ("exponential", (0.963, 0.950, 0.953)), ("outliers", (0.971, 0.924, 0.821))],
)
def test_coverage_of_the_mean(name: str, coverage: Sequence[float], rng: np.random.Generator) -> None:
    draw, truth = DISTRIBUTIONS[name]
    for n, expected in zip((3, 5, 10), coverage, strict=True):
        values = draw(rng, (SAMPLES, n))
        places = np.divmod(np.arange(values.size), n)
        table = evidence.describe(pd.DataFrame({"variation": places[0], "seed": places[1], "x": values.ravel()}), ["x"])
        share = covered(table["low"].to_numpy(), table["high"].to_numpy(), truth)
        assert share == pytest.approx(expected, abs=1.5 * margin(expected))  # the expected one was simulated, too
        if name != "outliers":
            assert share >= 0.95 - margin(0.95)


def test_a_percentile_bootstrap_does_not_cover(rng: np.random.Generator) -> None:
    values = rng.standard_normal((2000, 5))
    means = values[:, rng.integers(0, 5, (500, 5))].mean(axis=2)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert covered(low, high, 0) == pytest.approx(0.84, abs=0.03)


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
    designs = [(evidence.paired, n, n) for n in (3, 5, 10)]
    designs += [(evidence.welch, n, n) for n in (3, 5, 10)] + [(evidence.welch, 10, 3)]
    for (method, n, m), expected in zip(designs, PAIRED[names] + WELCH[names], strict=True):
        estimate = method(draw_a(rng, (SAMPLES, n)), draw_b(rng, (SAMPLES, m)))
        share = covered(estimate.low, estimate.high, mean_a - mean_b)
        assert share == pytest.approx(expected, abs=1.5 * margin(expected))
        if names != ("outliers", "normal") and n == m:
            assert share >= 0.95 - margin(0.95)


def verdicts(a: Array, b: Array, method: Callable[[Array, Array], evidence.Estimate] = evidence.paired) -> Array:
    """Of studies whose claims are `a is lower than b` for values [studies, claims, seeds]: [studies, claims]."""
    estimate, n = method(a, b), a.shape[-1]
    is_paired = method is evidence.paired
    table = []
    for mean, low, high, p in zip(*estimate, strict=True):
        differences = [
            Difference(n, n, n * is_paired, is_paired, *numbers, ()) for numbers in zip(mean, low, high, p, strict=True)
        ]
        adjusted = evidence.holm(list(p))
        table.append([evidence.judge(one, "lower", 0, q).value for one, q in zip(differences, adjusted, strict=True)])
    return np.array(table)


def test_what_is_simulated_is_what_difference_returns(rng: np.random.Generator) -> None:
    a, b = rng.exponential(size=(2, 50, 5))
    for method, shift in ((evidence.paired, 0), (evidence.welch, 10)):
        estimate = np.array(method(a, b))
        for place in range(50):
            one = evidence.difference(pd.Series(a[place]), pd.Series(b[place], np.arange(5) + shift))
            assert one[4:8] == pytest.approx(estimate[:, place])


@pytest.mark.slow
@pytest.mark.parametrize("method", [evidence.paired, evidence.welch], ids=["paired", "Welch"])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_studies_without_an_effect(name: str, method: Any, rng: np.random.Generator) -> None:
    draw, _ = DISTRIBUTIONS[name]
    baseline = np.repeat(draw(rng, (STUDIES, 1, 5)), CLAIMS, axis=1)  # every claim is against the same one
    given = verdicts(draw(rng, (STUDIES, CLAIMS, 5)), baseline, method)
    wrong = np.isin(given, ["supported", "contradicted"]).sum(axis=1) > 0
    assert 0.01 < float(np.mean(wrong)) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exponential", "outliers"])
def test_a_thousand_studies_without_an_effect_from_series_to_verdict(name: str, rng: np.random.Generator) -> None:
    wrong = 0
    for values in DISTRIBUTIONS[name][0](rng, (1000, CLAIMS + 1, 5)):
        a, *others = (pd.Series(one) for one in values)
        differences = [evidence.difference(other, a) for other in others]
        adjusted = evidence.holm([one.p for one in differences])
        given = {evidence.judge(one, "higher", 0, p) for one, p in zip(differences, adjusted, strict=True)}
        wrong += bool(given & {Verdict.SUPPORTED, Verdict.CONTRADICTED})
    assert wrong <= 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "alone", "among_three"), [(evidence.paired, 0.66, 0.38), (evidence.welch, 0.76, 0.53)]
)
def test_share_of_effects_of_two_standard_deviations_found(
    method: Any, alone: float, among_three: float, rng: np.random.Generator
) -> None:
    studies = STUDIES // 4
    a, b = rng.standard_normal((2, studies, CLAIMS, 5))
    a[:, 0] -= 2  # of the three claims, one is true
    shares = [(verdicts(a[:, :claims], b[:, :claims], method)[:, 0] == "supported").mean() for claims in (1, 3)]
    assert shares == pytest.approx([alone, among_three], abs=margin(0.5, studies))
    if method is evidence.paired:
        exact = stats.nct.sf(stats.t.ppf(0.975, 4), 4, 2 / math.sqrt(2 / 5))
        assert shares[0] == pytest.approx(exact, abs=margin(exact, studies))


# --- Holm, verdicts, seeds needed ---------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    assert evidence.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert evidence.holm([0.6, math.nan, 0.7]) == pytest.approx([1, math.nan, 1], nan_ok=True)
    assert evidence.holm([math.nan, 0.02]) == pytest.approx([math.nan, 0.02], nan_ok=True)
    assert evidence.holm([]) == []
    given = np.array([0.04, 0.01])
    assert evidence.holm(given) == pytest.approx([0.04, 0.02])
    assert given.tolist() == [0.04, 0.01]


def test_holm_is_the_closed_test_of_bonferroni(rng: np.random.Generator) -> None:
    for p in rng.random((30, 5)) ** 2:
        subsets = [set(s) for size in range(1, 6) for s in itertools.combinations(range(5), size)]
        closed = [max(min(1, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in range(5)]
        assert evidence.holm(list(p)) == pytest.approx(closed)


@pytest.mark.parametrize(
    ("difference", "direction", "p", "verdict"),
    [
        (found(-3, -4, -2), "lower", 0.01, Verdict.SUPPORTED),
        (found(-3, -4, -2), "higher", 0.01, Verdict.CONTRADICTED),
        (found(3, 2, 4), "higher", 0.01, Verdict.SUPPORTED),
        (found(3, 2, 4), "lower", 0.01, Verdict.CONTRADICTED),
        (found(3, 2, 4), "lower", 0.05, Verdict.INCONCLUSIVE),  # Holm took its significance
        (found(3, -1, 7), "higher", 0.2, Verdict.INCONCLUSIVE),
        (found(0.5, 0.2, 0.8), "higher", 0.01, Verdict.NEGLIGIBLE),  # certain, and does not matter
        (found(0, -0.9, 0.9), "lower", 1, Verdict.NEGLIGIBLE),
        (found(0.2, -0.6, 1), "lower", 1, Verdict.INCONCLUSIVE),  # its end is a difference that matters
        (found(-0.2, -1, 0.6), "lower", 1, Verdict.INCONCLUSIVE),
        (found(0.5, 0.2, 0.8), "equal", 0.01, Verdict.SUPPORTED),
        (found(3, 2, 4), "equal", 0.01, Verdict.CONTRADICTED),
        (found(-3, -4, -2), "equal", 0.01, Verdict.CONTRADICTED),
        (found(3, 2, 4), "equal", 0.06, Verdict.INCONCLUSIVE),
        (found(1, 0.5, 1.5), "equal", 0.01, Verdict.INCONCLUSIVE),  # on the border
        (found(0, math.nan, math.nan), "equal", math.nan, Verdict.NOT_JUDGED),
    ],
)
def test_verdicts(difference: Difference, direction: str, p: float, verdict: Verdict) -> None:
    assert evidence.judge(difference, direction, 1, p) is verdict


def test_without_a_smallest_difference_nothing_is_negligible() -> None:
    assert evidence.judge(found(0, 0, 0), "lower", 0, 1) is Verdict.INCONCLUSIVE
    assert Verdict.NOT_JUDGED == f"{Verdict.NOT_JUDGED}" == json.loads(json.dumps(Verdict.NOT_JUDGED)) == "not judged"
    with pytest.raises(ValueError, match="'less'; allowed: lower, higher, equal"):
        evidence.judge(found(0, 0, 0), "less", 0, 1)


def seen(mean: float, n: int, *, is_paired: bool = True) -> Difference:
    """A difference whose spread was estimated right: standard deviation 1, of the pairs or of either side."""
    freedom, error = (n - 1, 1 / math.sqrt(n)) if is_paired else (2 * n - 2, math.sqrt(2 / n))
    half = stats.t.ppf(0.975, freedom) * error
    return Difference(n, n, n * is_paired, is_paired, mean, mean - half, mean + half, 0.2, ())


@pytest.mark.parametrize("mean", [0.5, -0.8])
def test_so_many_seeds_find_the_difference(mean: float, rng: np.random.Generator) -> None:
    for is_paired, spread in ((True, math.sqrt(0.5)), (False, 1)):
        more = evidence.seeds_needed(seen(mean, 5, is_paired=is_paired), 0)
        assert more is not None
        a, b = spread * rng.standard_normal((2, SAMPLES, 5 + more))
        method = evidence.paired if is_paired else evidence.welch
        assert np.mean(method(a + mean, b).p < 0.05) == pytest.approx(0.81, abs=0.025)
        assert np.mean(method(a[:, 1:] + mean, b[:, 1:]).p < 0.05) < 0.8 + margin(0.8)


def test_so_many_seeds_show_that_it_is_negligible(rng: np.random.Generator) -> None:
    more = evidence.seeds_needed(seen(0.1, 5), 0.5)
    assert more is not None
    a, b = math.sqrt(0.5) * rng.standard_normal((2, SAMPLES, 5 + more))
    estimate = evidence.paired(a + 0.1, b)
    assert np.mean((estimate.low > -0.5) & (estimate.high < 0.5)) == pytest.approx(0.81, abs=0.025)


def test_seeds_needed_from_a_table() -> None:
    # Cohen (1988), table 2.4.1: two groups, d = 0.8, power 0.80 need 26 each; d = 0.5 need 64.
    assert evidence.seeds_needed(seen(0.8, 5, is_paired=False), 0) == 26 - 5
    assert evidence.seeds_needed(seen(0.5, 5, is_paired=False), 0) == 64 - 5
    # A stricter level needs more.
    assert (evidence.seeds_needed(seen(0.8, 5), 0, alpha=0.05 / 3) or 0) > (evidence.seeds_needed(seen(0.8, 5), 0) or 0)


def test_seeds_needed_cannot_always_be_said() -> None:
    assert evidence.seeds_needed(seen(0.01, 5), 0) is None  # more than 1000
    assert evidence.seeds_needed(seen(0, 5), 0) is None
    assert evidence.seeds_needed(found(0, 0, 0), 0) is None  # no spread to go by
    assert evidence.seeds_needed(seen(30, 2), 0) == 1  # probably settled at once


# --- Was the comparison fair? -------------------------------------------------------------------------------------


def test_confounders() -> None:
    a = frame(optimizer=["adam", "adam"], hidden=[0, 784], hash=["x", None], lock=[math.nan, None], seed=[0, 1])
    b = frame(optimizer=["sgd", "sgd"], hidden=[784, 0], hash=["x", "x"], lock=[None, math.nan], gpu=["h", "h"])
    columns = ["optimizer", "hidden", "hash", "lock", "gpu", "absent"]
    assert evidence.confounders(a, b, columns, ["optimizer"]) == ["hash", "gpu"]
    assert evidence.confounders(a, b, columns, []) == ["optimizer", "hash", "gpu"]
    assert evidence.confounders(a, b[:0], columns, []) == []


def test_untuned() -> None:
    adam, adadelta, sgd = (frame(optimizer=[name]) for name in ("adam", "adadelta", "sgd"))
    tried = ["adam"] * 3 + ["adadelta"] * 3 + ["sgd"]
    runs = frame(optimizer=tried, lr=["1e-3", "0.001", "0.01", "0.001", "1e-3", "default", None])
    assert evidence.untuned(adam, adadelta, runs, "optimizer", "lr") == ["adadelta"]
    assert evidence.untuned(sgd, adadelta, runs, "optimizer", "lr") == ["sgd", "adadelta"]
    assert evidence.untuned(adadelta, adadelta, runs, "optimizer", "lr") == []
    assert evidence.untuned(adam, adadelta, runs, "optimizer", "absent") == []
    assert evidence.untuned(adam, frame(other=[1]), runs, "optimizer", "lr") == []


def test_edge_of_grid() -> None:
    table = frame(
        optimizer=["adam"] * 4 + ["sgd"] * 2 + ["adam"] * 2,
        lr=["1e-4", "1e-3", "1e-2", "1e-1", "1e-3", "1e-2", "1e-3", "1e-3"],
        l1=[0, 0, 0, 0, 0, 0, 1e-5, 1e-4],
        loss=[4.0, 3.0, 2.0, 1.0, 5.0, 6.0, 3.5, 3.7],
    )
    params = ["optimizer", "lr", "l1"]
    assert evidence.edge_of_grid(table, params, "loss") == [("lr", "1e-1"), ("l1", 0)]
    assert evidence.edge_of_grid(table, params, "loss", natural_limits={"l1": 0}) == [("lr", "1e-1")]
    assert evidence.edge_of_grid(table, params, "loss", higher_is_better=True) == [("lr", "1e-4"), ("l1", 1e-4)]
    table.loc[3, "loss"] = math.nan  # 0.1 was tried, and failed: 0.01 lies inside
    assert evidence.edge_of_grid(table, params, "loss", natural_limits={"l1": 0}) == []
    table.loc[[2, 3], "loss"] = [3.0, 3.0]  # as good inside as at the edge
    assert evidence.edge_of_grid(table, ["lr", "optimizer"], "loss") == []
    alone = frame(lr=[1, 2, 3], loss=[3.0, 2.0, 1.0]).set_index(pd.Index([7, 7, 7]))
    assert evidence.edge_of_grid(alone, ["lr"], "loss") == [("lr", 3)]
    assert evidence.edge_of_grid(alone[:2], ["lr"], "loss") == []


# --- Were the runs all right? -------------------------------------------------------------------------------------


def test_flags() -> None:
    runs = frame(
        variation=["b", "a", "b", "a"],
        seed=[3, 0, 1, 1],
        collapse=[0.01, 0.9, 0.049, 0.05],
        dead=[0, 0, 1, 0],
        loss=[1.0, 2.0, 3.0, math.inf],
        bce=[1.0, math.nan, 3.0, 4.0],
    )
    runs.index = pd.Index([7, 7, 7, 7])
    limits = {"collapsed": ("collapse", 0.05, math.inf), "dead units": ("dead", -math.inf, 0.0)}
    table = evidence.flags(runs, limits, ["loss", "bce", "absent"])
    expected = [("b", "collapsed", (1, 3)), ("b", "dead units", (1,)), ("a", "not a number", (0, 1))]
    assert list(table.itertuples(index=False, name=None)) == expected
    for none in ({}, {"collapsed": ("absent", 0.05, math.inf)}):
        nothing = evidence.flags(runs[:1], none, [])
        assert list(nothing) == ["variation", "flag", "seeds"]
        assert nothing.empty
    assert evidence.flags(runs[:0], limits, ["loss"]).empty


def history(curve: Array, variation: str = "v", seed: int = 0) -> pd.DataFrame:
    return frame(
        variation=[variation] * len(curve), seed=[seed] * len(curve), epoch=range(1, len(curve) + 1), loss=curve
    )


STEADY = np.linspace(0.72, 0.44, 50)
# As adam does: 0.277 to 0.0927, of which the last 5 epochs bring 0.0001.
FLAT = np.concatenate([0.0927 + 0.184 * np.exp(-np.arange(45) / 5), 0.0927 - np.linspace(0.00002, 0.0001, 5)])


def test_still_falling() -> None:
    curves = {
        "steady": STEADY,
        "flat": FLAT,
        "barely": np.linspace(0.6936, 0.6849, 50),  # hardly moves, and has not arrived
        "short": np.array([0.28, 0.12, 0.10]),
        "bumpy": np.array([0.28, 0.12, 0.13]),
        "rising": STEADY[::-1],
        "constant": np.full(50, 0.5),
        "single": np.array([0.5]),
        "lost": np.full(50, math.nan),
        "to infinity": np.append(STEADY, math.inf),
    }
    histories = pd.concat([history(curve, name) for name, curve in curves.items()])
    table = evidence.still_falling(histories, "loss")
    assert table["variation"].tolist() == ["steady", "barely", "short", "to infinity"]
    assert set(table["flag"]) == {"not converged"}
    shuffled = evidence.still_falling(histories.sample(frac=1, random_state=1), "loss")
    assert set(shuffled["variation"]) == set(table["variation"])
    assert evidence.still_falling(histories[:0], "loss").empty


def test_noise_is_not_taken_for_a_fall(rng: np.random.Generator) -> None:
    noise = 0.005 * rng.standard_normal((400, 50))  # 3 % of the whole fall
    flat = pd.concat([history(FLAT + one, seed=seed) for seed, one in enumerate(noise)])
    (tripped,) = evidence.still_falling(flat, "loss")["seeds"].tolist() or [()]
    assert len(tripped) <= 8  # 1 % is 4
    steady = pd.concat([history(STEADY + one, seed=seed) for seed, one in enumerate(noise[:50, :] / 5)])
    assert evidence.still_falling(steady, "loss")["seeds"].tolist() == [tuple(range(50))]


def test_completeness() -> None:
    planned = frame(variation=["a"] * 4 + ["b"] * 5, seed=[0, 1, 2, 3, 0, 1, 2, 3, 3])
    rows = [
        ("a", 0, "FAILED", "DivergenceError: loss is NaN", "r0", 50, 3),
        ("a", 0, "FINISHED", None, "r1", 50, 50),
        ("a", 1, "FAILED", "DivergenceError: loss is NaN", "r2", 50, 3),
        ("a", 1, "FAILED", "OSError", "r3", 50, 3),
        ("a", 2, "FINISHED", None, "r4", 50, 40),
        ("a", 3, "FINISHED", None, "r5", 50, math.nan),
        ("b", 0, "FAILED", None, "r6", 50, 1),
        ("b", 1, "KILLED", "SIGTERM", "r7", 50, 1),
        ("b", 2, "RUNNING", math.nan, "r8", 50, 1),
        ("b", 2, "RUNNING", None, "r9", 50, 1),  # the first of them is named
        ("c", 0, "FINISHED", None, "r10", 50, 50),
    ]
    observed = pd.DataFrame(rows, columns=["variation", "seed", "status", "reason", "run_id", "epochs", "last"])
    table = evidence.completeness(planned, observed, "epochs", "last")
    assert list(table.itertuples(index=False, name=None)) == [
        ("a", 0, "finished", None, "r1"),
        ("a", 1, "diverged", "DivergenceError: loss is NaN", "r2"),
        ("a", 2, "incomplete", "40 of 50 epochs", "r4"),
        ("a", 3, "incomplete", "0 of 50 epochs", "r5"),
        ("b", 0, "failed", None, "r6"),
        ("b", 1, "killed", "SIGTERM", "r7"),
        ("b", 2, "running", None, "r8"),
        ("b", 3, "missing", None, None),
    ]
    assert table["seed"].dtype == planned["seed"].dtype
    assert evidence.completeness(planned, observed, "epochs", None)["state"][2] == "finished"
    assert evidence.completeness(planned, observed, "absent", "last")["state"][2] == "finished"
    assert set(evidence.completeness(planned, observed[:0], "epochs", "last")["state"]) == {"missing"}
    assert evidence.completeness(planned[:0], observed, "epochs", "last").empty


# --- Chance, and other people's figures ---------------------------------------------------------------------------


def test_reproduction_by_hand() -> None:
    # Mean 2, sd 1, t for 2 degrees of freedom 4.3027: 4.3027 sqrt(4 / 3) = 4.9683, and half of 0.1 on top.
    low, high, inside = evidence.reproduction(7.0, 1, series(1, 2, 3))
    assert (low, high) == pytest.approx((2 - 5.0183, 2 + 5.0183), abs=1e-4)
    assert inside is True
    assert evidence.reproduction(7.1, 1, series(1, 2, 3, math.nan))[2] is False
    assert evidence.reproduction(0.0926, 4, series(0.09264, 0.09264))[2] is True  # printed, it is the same
    assert evidence.reproduction(0.0927, 4, series(0.09264, 0.09264))[2] is False
    assert evidence.reproduction(math.nan, 1, series(1, 2, 3))[2] is None
    for values in (series(1), series(), series(1, math.inf)):
        low, high, inside = evidence.reproduction(1, 1, values)
        assert (math.isnan(low), math.isnan(high), inside) == (True, True, None)


def test_one_more_run_lies_in_the_prediction_interval(rng: np.random.Generator) -> None:
    values = rng.standard_normal((1500, 6))
    inside = [evidence.reproduction(round(one[0], 2), 2, pd.Series(one[1:]))[2] for one in values]
    assert np.mean(np.array(inside)) == pytest.approx(0.95, abs=margin(0.95, 1500))


def test_noise_floor_by_hand() -> None:
    # Squares about the means 2 + 8 = 10 over 4 degrees of freedom; t 2.7764: 2.7764 sqrt(2.5 * 2 / 3).
    floor = evidence.noise_floor(series(1, 2, 3), series(2, 4, 6))
    assert floor == pytest.approx((2.7764 * math.sqrt(5 / 3), -2), abs=1e-4)
    assert floor.limit == evidence.noise_floor(series(2, 4, 6), series(1, 2, 3)).limit
    assert np.isnan(evidence.noise_floor(series(), series(1, 2))).all()
    alone = evidence.noise_floor(series(1), series(3))
    assert math.isnan(alone.limit)
    assert alone.observed == -2


def test_chance_stays_below_the_noise_floor(rng: np.random.Generator) -> None:
    floors = [evidence.noise_floor(pd.Series(a), pd.Series(b)) for a, b in rng.standard_normal((1500, 2, 4))]
    below = np.mean([abs(floor.observed) <= floor.limit for floor in floors])
    assert below == pytest.approx(0.95, abs=margin(0.95, 1500))


# --- To be checked later ------------------------------------------------------------------------------------------


def test_digests_of_rows() -> None:
    runs = frame(epochs=[50, 100, 50], loss=[0.1, math.nan, 0.1])
    first, second, third = digests.of_rows(runs)
    assert first == third != second
    assert [*digests.of_rows(runs[1:2]), *digests.of_rows(runs[:1])] == [second, first]
    assert digests.of_rows(runs[:0]) == []


def digest(runs: pd.DataFrame) -> list[str]:
    """Of all rows, in whatever order."""
    return sorted(digests.of_rows(runs))


def test_digest() -> None:
    runs = frame(optimizer=["adam", "sgd"], epochs=[50, 100], loss=[0.1 + 0.2, math.nan], log=[True, None])
    same = digest(runs)
    assert [len(each) for each in same] == [16, 16]
    assert digest(runs[::-1][["log", "loss", "epochs", "optimizer"]]) == same
    assert digest(pd.DataFrame(json.loads(json.dumps(runs.to_dict("records"))))) == same
    assert digest(runs.astype({"epochs": float}).assign(absent=None)) == same
    assert digest(runs.replace(0.1 + 0.2, 0.3)) != same  # the last bit
    assert digest(runs.astype({"epochs": str})) != same
    assert digest(pd.concat([runs, runs[:1]])) != same
    assert digest(runs.rename(columns={"loss": "bce"})) != same
    assert digest(frame(x=[2**60])) != digest(frame(x=[2**60 + 1]))
    assert digest(frame(x=[1])) != digest(frame(x=[True]))


def test_digest_survives_json_for_any_float(rng: np.random.Generator) -> None:
    numbers = [*rng.lognormal(0, 100, 200), 1e-310, -0.0, math.inf, 1e22]
    runs = frame(name=[f'<"|\n é {i}' for i in range(len(numbers))], x=numbers)
    assert digest(pd.DataFrame(json.loads(json.dumps(runs.to_dict("list"))))) == digest(runs)
