"""What a study would find, before it is run: the difference that its seeds show with some power, or the seeds it takes.

Asked before, the number of seeds is a choice; asked after each look, it is a way to go on until something shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from pipeline import inference
from pipeline.study.plan import Study


def outlook(study: Study, values: Callable[[str, str], pd.Series], power: float, detect: float) -> list[str]:
    """A line for each claim of a study.

    Args:
        values: of a variation and a metric, what finished runs of it gave, indexed by seed; may be empty.
        power: the probability with which a true difference is to be found.
        detect: a true difference, in the unit of the claims' metric: how many seeds find it? 0 = those planned: what do
            they find?
    """
    if not study.claims:
        return []
    alpha = inference.ALPHA / len(study.claims) / study.looks
    looks = f" and {study.looks} looks" if study.looks > 1 else ""
    shared = f" shared by {len(study.claims)} claims{looks}" if len(study.claims) > 1 or looks else " of 5 %"
    lines = [f"with a power of {power:.0%}, at a level{shared}:"]
    for claim in study.claims:
        a, b = (values(name, claim.metric) for name in (claim.variation, claim.against))
        spread, n = _spread(a, b)
        about = f"{claim.variation} minus {claim.against} in {claim.metric}"
        known = f"as {n} earlier seeds spread" if n else "no two seeds of either side have finished here"
        if detect:
            needed = inference.seeds_needed(detect / spread, alpha, power) if n else None
            seeds = f"{needed:,} seeds" if needed else "more than 1,000 seeds" if n else "an unknown number of seeds"
            lines.append(f"  {about}: {seeds} would show {detect:g} ({known})")
        else:
            size = inference.detectable(len(study.seeds), alpha, power)
            shown = f"{size * spread:.2g}" if n else f"{size:.2g} standard deviations of a pair's difference"
            shown = "nothing" if math.isnan(size) else shown
            smallest = f"smallest effect of interest: {claim.smallest_effect:g}"
            lines.append(f"  {about}: {len(study.seeds)} seeds would show {shown}; {smallest} ({known})")
    return lines


def _spread(a: pd.Series, b: pd.Series) -> tuple[float, int]:
    """The standard deviation of the difference between the sides of a pair, and of how many seeds it is known; NaN, 0.

    Without pairs, the two sides are taken as independent; of one side alone, as of equal spread.
    """
    seen = inference.difference(a, b)
    if seen.paired and seen.n_pairs > 1:
        return seen.estimate.error * math.sqrt(seen.n_pairs), seen.n_pairs
    sides = [side for side in map(inference.one_per_seed, (a, b)) if len(side) > 1]
    if not sides:
        return math.nan, 0
    return math.sqrt(2 * sum(side.var() for side in sides) / len(sides)), min(map(len, sides))
