"""Somebody else's published values beside what our runs gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline import inference
from pipeline.compare import evidence
from pipeline.compare.analysis import Analysis, as_data
from pipeline.compare.columns import column_of, distinct, plain, without_repetition
from pipeline.compare.conclusion import PaperValue, Published, PublishedDifference, PublishedValue
from pipeline.study import plan
from pipeline.tracking.names import DATA_HASH, VARIATION


def compare(analysis: Analysis) -> Published | None:
    """The published values of the study beside ours; None where it has none."""
    study = analysis.grouped.request.plan
    return _Comparison(analysis, study, study.published).published() if study and study.published else None


@dataclass
class _Comparison:
    analysis: Analysis
    study: plan.Study
    plan: plan.Published

    def published(self) -> Published:
        by_variation = self.analysis.grouped.by_variation
        return Published(
            source=self.plan.source,
            decimals=self.plan.decimals,
            values=tuple(
                self._value(name, metric, value, by_variation[name])
                for name, row in self.plan.values.items()
                for metric, value in row.items()
            ),
            paper_values=tuple(
                self._stated(name, parameter, value)
                for name, row in self.plan.paper_values.items()
                for parameter, value in row.items()
            ),
            differences=tuple(self._differences()),
        )

    def _differences(self) -> Iterable[PublishedDifference]:
        for claim in self.study.claims:
            sides = (claim.variation, claim.against)
            first, second = (self.plan.values.get(name, {}).get(claim.metric) for name in sides)
            if first is not None and second is not None:
                a, b = (self.analysis.grouped.values(name, claim.metric) for name in sides)
                yield PublishedDifference(
                    variation=claim.variation,
                    against=claim.against,
                    metric=claim.metric,
                    published=round(first - second, self.plan.decimals),
                    difference=as_data(inference.difference(a, b)),
                    chance=evidence.chance_of_one_run(a, b),
                )

    def _value(self, name: str, metric: str, value: float, ours: pd.DataFrame) -> PublishedValue:
        def reproduction(which: str) -> dict[str, Any]:
            values = inference.one_per_seed(ours.get(f"metrics.{which}", pd.Series(np.nan, ours.index)))
            low, high, reproduced = evidence.reproduction(value, self.plan.decimals, values)
            return {"n": len(values), "mean": float(values.mean()), "low": low, "high": high, "reproduced": reproduced}

        read_as = self.plan.commonly_read_as.get(metric)
        taken = reproduction(read_as) if read_as is not None else {}
        return PublishedValue(
            variation=name,
            metric=metric,
            published=value,
            **reproduction(metric),
            commonly_read_as=read_as,
            **{f"commonly_read_as_{key}": found for key, found in taken.items() if key != "n"},
        )

    def _stated(self, name: str, parameter: str, value: Any) -> PaperValue:
        """A parameter as the publication states it, as its code ran, and runs of ours with what is stated."""
        task = self.analysis.grouped.task
        wanted = task.configure({**self.study.configurations()[name].params, parameter: value})
        rows = self.analysis.grouped.by_variation[name]
        ran = plain(rows[f"params.{parameter}"].iloc[0]) if len(rows) else None
        stated = wanted.params[parameter]
        like_it = self._like(without_repetition(wanted.params, task))
        alternative: str | None = None
        values: tuple[PublishedValue, ...] = ()
        if ran != stated and len(like_it):
            tag = next((tag for tag in distinct(like_it, f"tags.{VARIATION}") if tag), None)
            alternative = str(tag or wanted.name)
            printed = self.plan.values.get(name, {})
            values = tuple(self._value(alternative, metric, each, like_it) for metric, each in printed.items())
        return PaperValue(
            variation=name,
            parameter=parameter,
            paper_value=stated,
            code_value=ran,
            same=ran == stated,
            alternative=alternative,
            values=values,
        )

    def _like(self, config: Mapping[str, Any]) -> pd.DataFrame:
        """Finished runs of that configuration, here or in other studies, one per seed and indexed by it."""
        grouped = self.analysis.grouped
        frames = [grouped.runs, *([self.analysis.elsewhere] if self.analysis.elsewhere is not None else [])]
        runs = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
        runs = runs[(runs["status"] == "FINISHED") & runs["ours"].astype(bool)].drop_duplicates("run_id")
        for name, value in config.items():
            runs = runs[column_of(runs, f"params.{name}") == value]
        hashes = distinct(grouped.used, f"tags.{DATA_HASH}")
        runs = runs[column_of(runs, f"tags.{DATA_HASH}").isin(list(hashes))]
        seeds = column_of(runs, f"params.{grouped.task.repetition}")
        return runs.assign(seed=seeds).drop_duplicates("seed").set_index("seed")
