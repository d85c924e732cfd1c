"""What runs show beside their differences, which are `pipeline.inference`'s: what the seeds of each variation say,
whether a comparison is fair and its runs all right, how far chance goes. Frames in, frames or values out.

Works on anybody's runs: the names of metrics and parameters come in as arguments; seeds are as in `pipeline.inference`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from pipeline.inference import mean_interval, one_per_seed, quantile

Array = NDArray[Any]

DIVERGED = "DivergenceError"  # how the recorded reason of a run that diverged begins

_UNLIKE = 0.5 - 1e-9  # of the shares of two sides, what would have to move; less the rounding of their sum
_OF_A_BUDGET = re.compile(r"(?i)epoch|step|iter|batch|budget|update|sample|_accum")
_EQUAL_BUDGET = 0.9  # share of the larger number of steps from which the smaller one is no other budget
_TAIL = 5  # epochs: fewer cannot tell a trend from noise
_FLAGS = ["variation", "flag", "seeds", "runs"]
# From the best to the worst, and MLflow's statuses.
_STATES = ["finished", "incomplete", "running", "diverged", "failed", "killed", "missing"]
_STATE_OF = {"FINISHED": "finished", "RUNNING": "running", "SCHEDULED": "running", "KILLED": "killed"}


class NoiseFloor(NamedTuple):
    """`limit` is what pure chance keeps a difference of means below, at CONFIDENCE; `observed` is the one seen."""

    limit: float
    observed: float


# --- Tables -------------------------------------------------------------------------------------------------------


def describe(runs: pd.DataFrame, metrics: Sequence[str], higher_is_better: Collection[str] = ()) -> pd.DataFrame:
    """What the seeds of each variation say about each metric.

    Args:
        runs: one row per run, with the columns `variation`, `seed` and the metrics; a metric may be missing.
        metrics: names of metrics.
        higher_is_better: those of which a low value is the worst; of all others it is a high one.

    Returns:
        One row per variation and metric, in the order of their first appearance, in the metric's own unit:
        `variation, metric, n, mean, sd, low, high, median, worst, worst_seed`.

        `n` counts seeds with a value (not NaN); `sd` has the divisor n - 1; `low` and `high` are those of
        `mean_interval`. They are NaN for n = 1, and where a value is infinite; without a value, all but `n` is NaN
        and `worst_seed` None. Where several seeds are equally bad, `worst_seed` is the smallest.
    """
    seeds = _one_row_per_seed(runs, metrics)
    groups = seeds.groupby(["variation", "metric"], sort=False)["value"]
    with np.errstate(invalid="ignore"):  # inf - inf
        table = groups.agg(n="count", mean="mean", sd="std", median="median")
    worst = _worst(seeds, higher_is_better)
    rows = pd.MultiIndex.from_product([runs["variation"].unique(), list(metrics)], names=["variation", "metric"])
    table = table.join(worst).reindex(rows).reset_index()
    table["n"] = table["n"].fillna(0).astype(int)
    table["worst_seed"] = table["worst_seed"].where(table["worst_seed"].notna(), None)
    table["sd"] = table["sd"].where(np.isfinite(table["mean"]))
    table["low"], table["high"] = mean_interval(table["mean"], table["sd"], table["n"])
    return table[["variation", "metric", "n", "mean", "sd", "low", "high", "median", "worst", "worst_seed"]]


def _one_row_per_seed(runs: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Long: `variation, metric, order, seed, value` without NaN; `order` sorts by seed, whatever its type."""
    order, _ = pd.factorize(runs["seed"], sort=True)
    order = np.where(order < 0, len(runs) + np.arange(len(runs)), order)  # each unknown seed is one of its own
    keys = pd.DataFrame({"variation": runs["variation"].array, "order": order, "seed": runs["seed"].array})
    absent = pd.Series(np.nan, runs.index)
    parts = [keys.assign(metric=name, value=runs.get(name, absent).astype(float).array) for name in metrics]
    columns = ["variation", "metric", "order", "seed", "value"]
    nothing = keys[:0].assign(metric="", value=0.0)  # for the types of the columns
    long = pd.concat([*parts, nothing], ignore_index=True) if len(runs) and parts else nothing
    long = long[long["value"].notna()].sort_values("value")
    with np.errstate(invalid="ignore"):
        groups = long.groupby(columns[:3], sort=False).agg(seed=("seed", "first"), value=("value", "mean"))
    return groups.reset_index().sort_values("value")  # so that no last bit depends on the order of the rows


def _worst(seeds: pd.DataFrame, higher_is_better: Collection[str]) -> pd.DataFrame:
    """The columns `worst, worst_seed`, by variation and metric."""
    sign = np.where(seeds["metric"].isin(list(higher_is_better)), -1.0, 1.0)
    ranked = seeds.assign(bad=seeds["value"] * sign).sort_values(["bad", "order"], ascending=[False, True])
    first = ranked.drop_duplicates(["variation", "metric"]).set_index(["variation", "metric"])
    return first[["value", "seed"]].set_axis(["worst", "worst_seed"], axis=1).astype({"worst_seed": object})


# --- Was the comparison fair? -------------------------------------------------------------------------------------


def confounders(a: pd.DataFrame, b: pd.DataFrame, columns: Sequence[str], named: Collection[str]) -> list[str]:
    """Those of `columns`, but for the `named`, in which the two sides are unlike.

    Args:
        a, b: the runs of either side, one per row. A missing column is one without values; None and NaN are one value.
        columns: params, data hash, code version, hardware, ...
        named: what the claim says differs.

    They are unlike where one side has a value that the other has not, or where their shares of the same values are as
    unlike as alike: four runs on one machine and one on another, against one and four. (The total variation distance
    of the shares, what would have to move to make them equal, is at least one half; it is 0.6 there, and 0.2 for two of
    five against three of five.) Nothing is confounded where a side has no runs.
    """
    if a.empty or b.empty:
        return []
    return [name for name in columns if name not in named and _unlike(_shares(a, name), _shares(b, name))]


def _unlike(a: Mapping[Any, float], b: Mapping[Any, float]) -> bool:
    return a.keys() != b.keys() or sum(abs(a[value] - b[value]) for value in a) / 2 >= _UNLIKE


def _shares(runs: pd.DataFrame, name: str) -> dict[Any, float]:
    if name not in runs:
        return {None: 1.0}
    counts = Counter(None if pd.isna(value) else value for value in runs[name].tolist())
    return {value: count / len(runs) for value, count in counts.items()}


def are_unequal_budgets(
    steps: tuple[float, float], a: pd.DataFrame, b: pd.DataFrame, parameters: Sequence[str]
) -> bool:
    """Whether one side logged over clearly more steps, the fewer below 0.9 of the more, and no parameter says so.

    Args:
        steps: the mean over the runs of either side; NaN where it is not known.
        a, b: these runs.
        parameters: columns of which one of whole numbers, in the same ratio or the inverse one, says so, if its name is
            of epochs, steps or batches.
    """
    few, many = sorted(steps)
    if not few < _EQUAL_BUDGET * many:
        return False
    for name in filter(_OF_A_BUDGET.search, parameters):
        x, y = (_numbers(runs[name]).mean() if name in runs else np.nan for runs in (a, b))
        whole = x > 0 and y > 0 and x == round(x) and y == round(y)
        if whole and _EQUAL_BUDGET <= few / many / (min(x, y) / max(x, y)) <= 1 / _EQUAL_BUDGET:
            return False
    return True


def untuned(
    a: pd.DataFrame,
    b: pd.DataFrame,
    all_runs: pd.DataFrame,
    columns: tuple[str, str, str],
    higher_is_better: bool = False,
) -> list[str]:
    """Optimizers of a pair whose learning rate is not shown to be tuned, where the two sides have different ones.

    An optimizer's best result depends on its learning rate, so that a comparison of two optimizers at one learning
    rate each compares the choices of those rates (Choi et al., "On Empirical Comparisons of Optimizers for Deep
    Learning", 2019).

    Args:
        a, b: the runs of either side.
        all_runs: every run of which somebody could have learned which learning rate is good.
        columns: of the optimizer, the learning rate (not known where it is not a number), and the metric.

    Returns:
        The optimizers of a, then of b, but for those of which `all_runs` has three learning rates or more, and the mean
        of the metric is best at one of the pair's that is neither the smallest nor the largest of them. Empty where
        both sides have the same optimizers, or no run has an optimizer or a learning rate.
    """
    optimizer, learning_rate, metric = columns
    if any(optimizer not in runs for runs in (a, b, all_runs)) or learning_rate not in all_runs:
        return []
    if _shares(a, optimizer).keys() == _shares(b, optimizer).keys():
        return []
    sides = pd.concat([a, b])

    def is_tuned(name: str) -> bool:
        of = all_runs[all_runs[optimizer] == name]
        results = of.get(metric, pd.Series(np.nan, of.index)).astype(float).groupby(_numbers(of[learning_rate])).mean()
        used = _numbers(sides.loc[sides[optimizer] == name, learning_rate]) if learning_rate in sides else pd.Series()
        if len(results) < 3 or results.isna().all():
            return False
        best = results.idxmax() if higher_is_better else results.idxmin()
        return best in set(used) and results.index.min() < best < results.index.max()

    return [str(name) for name in sides[optimizer].dropna().unique() if not is_tuned(name)]


def edge_of_grid(
    table: pd.DataFrame,
    params: Sequence[str],
    metric: str,
    higher_is_better: bool = False,
    natural_limits: Mapping[str, float] | None = None,
) -> list[tuple[str, object]]:
    """Params whose best value is the smallest or the largest one tried: a better one may lie beyond.

    Godbole et al., "Deep Learning Tuning Playbook" (2023): such a search space should be widened.

    Args:
        table: one row per variation: its params, and the mean of the metric.
        natural_limits: by param, a value beyond which there is none, such as 0 for a penalty: that is no edge.

    Returns:
        Param and best value, for every numeric param of which at least three values were tried with all other `params`
        the same. A value without a result (NaN: it failed or diverged) was tried. A value inside that is as good as
        the one at the edge is the best.
    """
    found: dict[tuple[str, object], None] = {}
    table = table.reset_index(drop=True)
    for param in params:
        values = _numbers(table[param])
        others: list[Any] = [table[name] for name in params if name != param]
        groups = values.groupby(others or np.zeros(len(table)), sort=False, dropna=False).ngroup()
        natural = (natural_limits or {}).get(param)
        for row in _best_at_edge(values, table[metric].astype(float), groups, higher_is_better):
            if values[row] != natural:
                found[param, table.at[row, param]] = None
    return list(found)


def _best_at_edge(values: pd.Series, results: pd.Series, groups: pd.Series, higher_is_better: bool) -> list[Any]:
    """Of each group of three or more values whose best result is at an edge of them, the row of the first such."""
    by = values.groupby(groups)
    whole = (by.transform("size") == by.transform("count")) & (by.transform("nunique") > 2)
    is_best = whole & (results == results.groupby(groups).transform("max" if higher_is_better else "min"))
    inside = is_best & (values > by.transform("min")) & (values < by.transform("max"))
    at_edge = is_best & ~inside.groupby(groups).transform("any")
    return list(groups[at_edge].drop_duplicates().index)


def _numbers(values: pd.Series) -> pd.Series:
    """Params as numbers, `1e-3` and `0.001` the same; NaN where they are none."""
    return pd.to_numeric(values, errors="coerce").astype(float)


# --- Were the runs all right? -------------------------------------------------------------------------------------


def flags(
    runs: pd.DataFrame, limits: Mapping[str, tuple[str, float, float]], losses: Mapping[str, Collection[str]]
) -> pd.DataFrame:
    """What is wrong with the runs of a variation.

    Args:
        runs: one row per finished run, with the columns `variation`, `seed` and the metrics that it has.
        limits: by flag, a metric and the least and the largest value with which it is not raised.
        losses: metrics of which a missing, NaN or infinite value is `not a number`, each with the variations in which.
            One that is in no run is passed over.

    Returns:
        One row per variation and flag raised: `variation, flag, seeds, runs`: the seeds concerned that are known as a
        sorted tuple, and how many runs they are, where any is not.
    """
    raised = {}
    for flag, (metric, least, most) in limits.items():
        values = runs.get(metric, pd.Series(np.nan, runs.index)).astype(float)
        raised[flag] = (values < least) | (values > most)
    bad = [
        ~np.isfinite(runs[name].astype(float)) & runs["variation"].isin(list(of))
        for name, of in losses.items()
        if name in runs
    ]
    raised["not a number"] = pd.Series(np.logical_or.reduce(bad) if bad else False, runs.index)
    return _raised(runs, raised)


def copies(runs: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Repetitions that repeat nothing: runs of several seeds with the very same results, so that the seed did nothing.

    Args:
        runs: as for `flags`; each unknown seed is one of its own.
        metrics: all that could differ: no wall times.

    Two runs are copies if every metric is the same in both, to the last bit, and one that a seed moves (in any
    variation; so no count, such as that of a model's parameters) has more than four significant digits, which no two
    independent runs share by chance. Of coarse metrics, such as a share of few test images, all runs of a variation
    must be the same, and three at least. Where no seed moves any metric, every metric counts.

    Returns:
        As `flags`: the flag `identical repetitions`.
    """
    present = [name for name in metrics if name in runs and runs[name].notna().any()]
    result = ["variation", *present]
    raised = pd.Series(False, runs.index)
    alike = runs[runs.duplicated(result, keep=False)] if present else runs[:0]
    if len(alike):
        sizes = runs["variation"].value_counts()
        different = runs.groupby("variation")[present].nunique().max()
        moved = [name for name in present if different[name] > 1] or present
        for _, same in alike.groupby(result, sort=False, dropna=False):
            values = same.iloc[0][present].dropna().astype(float)
            fine = any(float(f"{value:.4g}") != value for value in values[values.index.intersection(moved)])
            several = same["seed"].nunique() + same["seed"].isna().sum()
            whole = len(same) == sizes[same["variation"].iloc[0]]
            raised[same.index] = len(values) > 0 and several > 1 and (fine or (whole and several > 2))
    return _raised(runs, {"identical repetitions": raised})


def still_improving(
    histories: pd.DataFrame, metric: str, higher_is_better: bool = False, share: float = 0.01
) -> pd.DataFrame:
    """Runs that were stopped while they were still getting better: `not converged`.

    Args:
        histories: one row per run and epoch: `run_id, variation, seed, epoch` and the metric. Not finite values are
            left out.
        metric: a loss, or another one that gets lower.
        higher_is_better: it gets higher instead.
        share: of the whole fall so far, see below.

    A run is not converged if, over its last tenth (at least 5 epochs),

    - the loss falls clearly: Kendall's rank test for a trend (Mann, Econometrica 13, 1945), one-sided p < 0.01, which
      noise passes less than once in 100 runs; of fewer than 5 epochs, each is lower than the one before; and
    - as many epochs again, at their median slope (Sen, Journal of the American Statistical Association 63, 1968),
      would add more than `share` to the fall from the first epoch to here.

    A steady fall from 0.72 to 0.44 in 50 epochs would add 9 %; a fall of 0.18 whose last 5 epochs brought 0.0001 would
    add 0.06 %. A single epoch says nothing.

    Returns:
        As `flags`.
    """
    sign = -1 if higher_is_better else 1
    runs = histories.groupby(["variation", "seed", "run_id"], sort=False, dropna=False)
    found = [(*key, _falls(sign * run.groupby("epoch")[metric].mean(), share)) for key, run in runs]
    frame = pd.DataFrame(found, columns=["variation", "seed", "run_id", "falls"])
    return _raised(frame, {"not converged": frame["falls"].astype(bool)})


def _falls(curve: pd.Series, share: float) -> bool:
    """Whether a loss, indexed by its ascending epochs, was still falling at the end."""
    curve = curve[np.isfinite(curve.astype(float))].astype(float)
    if len(curve) < 2:
        return False
    tail = curve.iloc[-max(_TAIL, -(-len(curve) // 10)) :]
    epochs = tail.index.to_numpy(dtype=float)
    if len(tail) < _TAIL:
        clearly = bool((np.diff(tail) < 0).all())
    else:
        clearly = bool(stats.kendalltau(epochs, tail, alternative="less").pvalue < 0.01)
    if not clearly:
        return False
    lasted = (epochs[-1] - epochs[0]) * len(tail) / (len(tail) - 1)
    ahead = -stats.theilslopes(tail.to_numpy(), epochs).slope * lasted
    return bool(ahead > share * (curve.iloc[0] - tail.median()) > 0)


def _raised(runs: pd.DataFrame, raised: Mapping[str, pd.Series]) -> pd.DataFrame:
    """One row per variation and flag that one of its runs has; `raised` says which runs, in their order."""
    rows = []
    for variation, places in runs.groupby("variation", sort=False).indices.items():
        for flag, concerned in raised.items():
            seeds = runs["seed"].iloc[places][concerned.to_numpy()[places]]
            if len(seeds):
                known = tuple(sorted(seeds.dropna().unique().tolist()))
                rows.append((variation, flag, known, len(seeds) if seeds.isna().any() else None))
    return pd.DataFrame(rows, columns=_FLAGS, dtype=object)


def completeness(planned: pd.DataFrame, observed: pd.DataFrame, epochs: str, last_epoch: str | None) -> pd.DataFrame:
    """What became of every run that was planned.

    Args:
        planned: `variation, seed`.
        observed: one row per run: `variation, seed, status` (MLflow's), `reason` (why it ended so, or None), `run_id`.
        epochs: the column of `observed` with the epochs that a run was to have; may be missing.
        last_epoch: the column with the last one it logged, if known.

    Returns:
        One row per planned pair, in their order: `variation, seed, state, reason, run_id`; the last two are None where
        there is none. States, from the best: finished, incomplete (finished, with epochs missing), running, diverged
        (failed, for a reason that begins with DivergenceError), failed, killed, missing. Of several runs of a pair the
        best counts, and of several such the first.
    """
    best: dict[tuple[Any, Any], tuple[str, Any, Any]] = {}
    for run in observed.to_dict("records"):
        pair = (run["variation"], run["seed"])
        found = _state(run, epochs, last_epoch)
        if pair not in best or _STATES.index(found[0]) < _STATES.index(best[pair][0]):
            best[pair] = (*found, run["run_id"])
    pairs = planned[["variation", "seed"]].drop_duplicates().itertuples(index=False, name=None)
    rows = [(*pair, *best.get(pair, (_STATES[-1], None, None))) for pair in pairs]
    table = pd.DataFrame(rows, columns=["variation", "seed", "state", "reason", "run_id"], dtype=object)
    return table.astype({name: planned[name].dtype for name in ("variation", "seed")})


def _state(run: Mapping[Any, Any], epochs: str, last_epoch: str | None) -> tuple[str, str | None]:
    """State and reason of one row of `observed`."""
    reason = None if pd.isna(run["reason"]) else str(run["reason"])
    state = _STATE_OF.get(run["status"], "failed")
    if state == "failed" and (reason or "").startswith(DIVERGED):
        return "diverged", reason
    if state == "finished" and last_epoch is not None:
        wanted, logged = (0.0 if pd.isna(run.get(name)) else float(run[name]) for name in (epochs, last_epoch))
        if logged < wanted:
            return "incomplete", reason or f"{logged:g} of {wanted:g} epochs"
    return state, reason


# --- Chance, and other people's figures ---------------------------------------------------------------------------


def noise_floor(a: pd.Series, b: pd.Series) -> NoiseFloor:
    """How large a difference of means pure chance makes between two groups of runs of the same configuration.

    Args:
        a, b: values indexed by seed, of the same configuration with different seeds (an A/A test: Kohavi et al.,
            "Trustworthy Online Controlled Experiments", 2020). Values that are not finite count as absent.

    Returns:
        `limit`: 19 of 20 such differences are smaller in size. Student's t with the pooled sd s of n + m - 2 degrees
        of freedom: t s sqrt(1/n + 1/m). NaN where a side has no value, or both together fewer than three.
        `observed`: mean of a minus mean of b.
    """
    left, right = one_per_seed(a).to_numpy(), one_per_seed(b).to_numpy()
    n, m = len(left), len(right)
    if min(n, m) == 0:
        return NoiseFloor(np.nan, np.nan)
    observed = float(left.mean() - right.mean())
    if n + m < 3:
        return NoiseFloor(np.nan, observed)
    square = ((left - left.mean()) ** 2).sum() + ((right - right.mean()) ** 2).sum()
    error = np.sqrt(square / (n + m - 2) * (1 / n + 1 / m))
    return NoiseFloor(float(quantile(n + m - 2) * error), observed)


def chance_of_one_run(a: pd.Series, b: pd.Series) -> float:
    """How far chance moves the difference between one run of a and one run of b, at CONFIDENCE.

    19 of 20 such differences lie within this of the true one: t sqrt(sd_a^2 + sd_b^2), with the degrees of freedom of
    the smaller side, so that neither sides of unequal spread nor few seeds make it too small.

    Args:
        a, b: values indexed by seed. Values that are not finite count as absent; NaN where a side has fewer than two.
    """
    left, right = one_per_seed(a), one_per_seed(b)
    fewest = min(len(left), len(right))
    return float(quantile(fewest - 1) * np.sqrt(left.var() + right.var())) if fewest > 1 else np.nan


def reproduction(published: float, decimals: int, values: pd.Series) -> tuple[float, float, bool | None]:
    """Whether a published figure is one that our own runs could have given.

    Args:
        published: a figure that comes from one run, printed with so many `decimals`.
        values: ours, indexed by seed. Values that are not finite count as absent.

    Returns:
        The 95 % prediction interval for one more run of ours, mean -+ t sd sqrt(1 + 1/n), widened by half a unit of
        the published figure's last decimal, and whether the figure lies inside; NaN, NaN, None for fewer than two
        seeds. An interval for the mean would be the wrong one: it shrinks to a point with many seeds, and a single
        run is not the mean (Hahn and Meeker, "Statistical Intervals", 1991; on replications, Spence and Stanley, PLOS
        ONE 11, 2016).
    """
    ours = one_per_seed(values).to_numpy()
    n = len(ours)
    if n < 2:
        return np.nan, np.nan, None
    half = float(quantile(n - 1) * ours.std(ddof=1) * np.sqrt(1 + 1 / n) + 0.5 * 10.0**-decimals)
    low, high = float(ours.mean()) - half, float(ours.mean()) + half
    return low, high, None if np.isnan(published) else bool(low <= published <= high)
