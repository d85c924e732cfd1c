"""The statistics against numbers worked out by hand, SciPy, independent computations, and simulation.

Simulations have a fixed seed, and a margin of four standard errors of the share that they count.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipeline.compare import digests, evidence

Array = NDArray[Any]
SAMPLES = 10_000


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def margin(share: float, samples: int = SAMPLES) -> float:
    return 4 * math.sqrt(share * (1 - share) / samples)


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
    # Mean 3, deviations -2, -1, 3: variance 14 / 2. Student's t for 2 degrees of freedom at 95 % is 4.3027.
    assert loss[["n", "mean", "median", "worst", "worst_seed"]].tolist() == [3, 3, 2, 6, 2]
    assert loss["sd"] == pytest.approx(math.sqrt(7))
    assert [loss["low"], loss["high"]] == pytest.approx(
        [3 - 4.3027 * math.sqrt(7 / 3), 3 + 4.3027 * math.sqrt(7 / 3)], 1e-4
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


def test_order_of_rows_does_not_matter_to_the_last_bit(rng: np.random.Generator) -> None:
    runs = frame(variation=["a"] * 20, seed=[*range(19), 0], x=rng.lognormal(size=20))
    runs.loc[5, "x"] = runs["x"].max()  # two are equally bad
    shuffled = runs.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(evidence.describe(runs, ["x"]), evidence.describe(shuffled, ["x"]), check_exact=True)


# --- Was the comparison fair? -------------------------------------------------------------------------------------


def test_confounders() -> None:
    a = frame(optimizer=["adam", "adam"], hidden=[0, 784], hash=["x", None], lock=[math.nan, None], seed=[0, 1])
    b = frame(optimizer=["sgd", "sgd"], hidden=[784, 0], hash=["x", "x"], lock=[None, math.nan], gpu=["h", "h"])
    columns = ["optimizer", "hidden", "hash", "lock", "gpu", "absent"]
    assert evidence.confounders(a, b, columns, ["optimizer"]) == ["hash", "gpu"]
    assert evidence.confounders(a, b, columns, []) == ["optimizer", "hash", "gpu"]
    assert evidence.confounders(a, b[:0], columns, []) == []


def test_unlike_shares_of_the_same_values() -> None:
    def machines(x: int, y: int) -> pd.DataFrame:
        return frame(hardware=["x"] * x + ["y"] * y)

    for a, b, found in (
        ((4, 1), (1, 4), True),
        ((2, 3), (3, 2), False),
        ((3, 1), (1, 3), True),  # half of them would have to move
        ((5, 0), (4, 1), True),
        ((8, 2), (4, 1), False),
    ):
        assert bool(evidence.confounders(machines(*a), machines(*b), ["hardware"], ())) is found
    half_known = frame(hardware=["x", None, None, "x"])
    assert evidence.confounders(half_known, half_known[:2], ["hardware"], ()) == []


def test_untuned() -> None:
    adam, adadelta, sgd = (
        frame(optimizer=[name], lr=[rate]) for name, rate in (("adam", "0.01"), ("adadelta", "1"), ("sgd", "0.1"))
    )
    columns = ("optimizer", "lr", "loss")
    runs = frame(
        optimizer=["adam"] * 4 + ["adadelta"] * 3 + ["sgd"] * 3,
        lr=["1e-3", "0.01", "1e-2", "0.1", "0.01", "0.1", "1", "0.1", "0.10", "default"],
        loss=[0.3, 0.1, 0.2, 0.4, 0.5, 0.4, 0.3, 0.1, 0.1, 0.1],
    )
    # Of adam, 0.01 is the best of three, and inside; adadelta's best is the last one, and sgd has one rate.
    assert evidence.untuned(adam, adadelta, runs, columns) == ["adadelta"]
    assert evidence.untuned(sgd, adadelta, runs, columns) == ["sgd", "adadelta"]
    assert evidence.untuned(adam, adadelta, runs, columns, higher_is_better=True) == ["adam", "adadelta"]
    assert evidence.untuned(adam.assign(lr="0.001"), adadelta, runs, columns) == ["adam", "adadelta"]  # not its best
    assert evidence.untuned(adam, sgd, runs[runs["lr"] != "1e-3"], columns) == ["adam", "sgd"]  # two are not three
    diverged = runs.assign(loss=[math.nan, 0.1, 0.2, *runs["loss"][3:]])
    assert evidence.untuned(adam, sgd, diverged, columns) == ["sgd"]  # 0.001 was tried, and diverged
    assert evidence.untuned(adadelta, adadelta, runs, columns) == []
    assert evidence.untuned(adam, adadelta, runs, ("optimizer", "absent", "loss")) == []
    assert evidence.untuned(adam, adadelta, runs, ("optimizer", "lr", "absent")) == ["adam", "adadelta"]
    assert evidence.untuned(adam, frame(other=[1]), runs, columns) == []


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
    table = evidence.flags(runs, limits, dict.fromkeys(["loss", "bce", "absent"], "ab"))
    expected = [("b", "collapsed", (1, 3), None), ("b", "dead units", (1,), None), ("a", "not a number", (0, 1), None)]
    assert list(table.itertuples(index=False, name=None)) == expected
    for none in ({}, {"collapsed": ("absent", 0.05, math.inf)}):
        nothing = evidence.flags(runs[:1], none, {})
        assert list(nothing) == ["variation", "flag", "seeds", "runs"]
        assert nothing.empty
    assert evidence.flags(runs[:0], limits, {"loss": "ab"}).empty
    assert evidence.flags(runs, {}, {"loss": "b"}).empty  # it is no metric of the other


def history(curve: Array, variation: str = "v", seed: int | None = 0, run_id: str = "") -> pd.DataFrame:
    whose = {"variation": variation, "seed": seed, "run_id": run_id or f"{variation} {seed}"}
    columns = {name: [value] * len(curve) for name, value in whose.items()}
    return frame(**columns, epoch=range(1, len(curve) + 1), loss=curve)


STEADY = np.linspace(0.72, 0.44, 50)
# As adam does: 0.277 to 0.0927, of which the last 5 epochs bring 0.0001.
FLAT = np.concatenate([0.0927 + 0.184 * np.exp(-np.arange(45) / 5), 0.0927 - np.linspace(0.00002, 0.0001, 5)])


def test_still_improving() -> None:
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
    table = evidence.still_improving(histories, "loss")
    assert table["variation"].tolist() == ["steady", "barely", "short", "to infinity"]
    higher = evidence.still_improving(histories, "loss", higher_is_better=True)
    assert higher["variation"].tolist() == ["rising"]
    assert set(table["flag"]) == {"not converged"}
    shuffled = evidence.still_improving(histories.sample(frac=1, random_state=1), "loss")
    assert set(shuffled["variation"]) == set(table["variation"])
    assert evidence.still_improving(histories[:0], "loss").empty


def test_noise_is_not_taken_for_a_fall(rng: np.random.Generator) -> None:
    noise = 0.005 * rng.standard_normal((400, 50))  # 3 % of the whole fall
    flat = pd.concat([history(FLAT + one, seed=seed) for seed, one in enumerate(noise)])
    (tripped,) = evidence.still_improving(flat, "loss")["seeds"].tolist() or [()]
    assert len(tripped) <= 8  # 1 % is 4
    steady = pd.concat([history(STEADY + one, seed=seed) for seed, one in enumerate(noise[:50, :] / 5)])
    assert evidence.still_improving(steady, "loss")["seeds"].tolist() == [tuple(range(50))]


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
