"""Everything that grouped runs say, as a `Conclusion`. Pure.

grouped = group(runs, request, task)  # tells of which runs the histories are worth fetching
conclude(grouped, histories, elsewhere, origin)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline import metrics
from pipeline.compare import around, chance, checks, published
from pipeline.compare.analysis import ORIGINS, Analysis
from pipeline.compare.columns import column_of, comparable, differing, distinct, in_order, plain
from pipeline.compare.conclusion import Conclusion, Metric, Provenance, RunRecord, Variation
from pipeline.compare.grouping import GroupedRuns
from pipeline.compare.sweep import sweep
from pipeline.compare.tuning import searches
from pipeline.study.parts import Measure
from pipeline.tracking.names import DATA_HASH, GIT_DIRTY, HARDWARE, LOCK_HASH, REUSED_FROM

_MOST_SHOWN = 12  # metrics of other people's runs
_RESERVED = ("conclusion", "report", "loss_curves", "differences", "digits", "forest", "seeds")  # files of ours


@np.errstate(over="ignore", invalid="ignore")
def conclude(
    grouped: GroupedRuns, histories: pd.DataFrame, elsewhere: pd.DataFrame | None, origin: Mapping[str, Any]
) -> Conclusion:
    """Everything that the runs say.

    Args:
        histories, elsewhere: as for `Analysis`.
        origin: of `Provenance`, what the runs do not tell.
    """
    analysis, study = Analysis(grouped, histories, elsewhere), grouped.request.study
    claims, pairs = analysis.claims(), analysis.pairs()
    shown = [grouped.configs[name] for name in grouped.without_repeats]
    base = grouped.configs.get(grouped.baseline or "", {})
    params, unlike = list(next(iter(shown), {})), differing(shown)
    return Conclusion(
        kind=grouped.kind,
        title=study.name if study else ", ".join(origin["experiments"]),
        description=study.description if study else "",
        baseline=grouped.baseline,
        metric=grouped.primary_metric,
        constant={p: shown[0][p] for p in params if p not in unlike},
        differing=tuple(unlike),
        metrics=tuple(_metric(grouped, name, place) for place, name in enumerate(grouped.metrics)),
        variations=tuple(_variations(analysis)),
        completeness=tuple(analysis.completeness),
        pairs=tuple(pairs),
        claims=tuple(claims),
        looks=grouped.request.looks,
        looks_planned=study.looks if study else 1,
        varied=grouped.task.varied(base) if grouped.by_task and base else "",
        noise=tuple(chance.noise(grouped)),
        determinism=tuple(chance.determinism(grouped)),
        checks=tuple(checks.run(analysis, claims or [pair for pair in pairs if pair.asked == grouped.primary_metric])),
        tuning=tuple(analysis.tunings.values()),
        published=published.compare(analysis),
        repetitions=grouped.repetitions,
        aside=grouped.aside,
        cut=grouped.cut,
        searches=tuple(searches(grouped)),
        sweep=sweep(grouped),
        efforts=tuple(around.efforts(grouped.runs)),
        uncounted=None if elsewhere is None else tuple(around.uncounted(grouped, elsewhere)),
        runs=tuple(_records(analysis)),
        histories_of=tuple(grouped.with_history["variation"].drop_duplicates()) if len(histories) else (),
        provenance=_provenance(grouped, origin),
    )


def _metric(grouped: GroupedRuns, name: str, place: int) -> Metric:
    row = grouped.metric(name)
    shown = row.shown if grouped.by_task else place < _MOST_SHOWN
    return Metric(
        name=name,
        label=row.label,
        unit=row.unit,
        decimals=row.decimals,
        higher_is_better=row.higher_is_better,
        shown=shown or name == grouped.primary_metric,
        compared=name in grouped.compared,
        least=row.possible[0],
        most=row.possible[1],
        at=grouped.request.measures.get(name, Measure()).at,
        wall_time=row.is_wall_time,
    )


def _variations(analysis: Analysis) -> Iterable[Variation]:
    grouped = analysis.grouped
    files = file_names(list(grouped.configs))
    base = grouped.configs.get(grouped.baseline or "", {})
    cells = analysis.cells()
    for name, config in grouped.configs.items():
        rows = grouped.by_variation[name]
        yield Variation(
            name=name,
            file=files[name],
            role=grouped.role(name),
            params=config,
            differs={p: v for p, v in config.items() if comparable(v) != comparable(base.get(p))},
            seeds=in_order(rows.index),
            planned=None if grouped.planned is None else int((grouped.planned["variation"] == name).sum()),
            finished=len(rows),
            model_size=_model_size(rows),
            cells=cells[name],
            flags=tuple(analysis.flags.get(name, ())),
        )


def _model_size(runs: pd.DataFrame) -> float:
    columns = (f"{kind}.{name}" for kind in ("metrics", "params") for name in metrics.SIZES)
    said = next((runs[column] for column in columns if column in runs and runs[column].notna().any()), None)
    sizes = set() if said is None else set(pd.to_numeric(said, errors="coerce").dropna())
    return float(sizes.pop()) if len(sizes) == 1 else math.nan


def _records(analysis: Analysis) -> Iterable[RunRecord]:
    runs = analysis.grouped.runs
    links = column_of(runs, f"tags.{REUSED_FROM}")
    several = ["experiment_id"] if column_of(runs, "experiment_id").nunique() > 1 else []
    fields = ["run_id", "name", "variation", "seed", "status", "why", "used", *several]
    for values, link in zip(runs[fields].itertuples(index=False, name=None), links, strict=True):
        row = {name: plain(value) for name, value in zip(fields, values, strict=True)}
        digest = analysis.digests[row["run_id"]]
        yield RunRecord(reason=row.pop("why"), digest=digest, reused_from=plain(link), **row)


def _provenance(grouped: GroupedRuns, origin: Mapping[str, Any]) -> Provenance:
    used, request = grouped.used, grouped.request
    columns = {name: column for name, column, _ in ORIGINS}

    def texts(name: str) -> tuple[str, ...]:
        return tuple(sorted(str(value) for value in distinct(used, columns[name]) if value is not None))

    return Provenance(
        group_by=request.group_by,
        metric=request.metric,
        metrics=request.metrics,
        baseline=request.baseline,
        repetitions=request.repetitions,
        better=request.better,
        defaults=dict(request.defaults),
        nuisance=request.nuisance,
        study=request.study.name if request.study else "",
        code_versions=texts("code version"),
        dirty=int((column_of(used, columns[GIT_DIRTY]) == "true").sum()),
        requirements_hashes=texts(LOCK_HASH),
        data_hashes=texts(DATA_HASH),
        hardware=texts(HARDWARE),
        **origin,
    )


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Names for files, each once even where the file system does not tell upper from lower case."""
    taken = set(_RESERVED)
    found = {}
    for name in names:
        safe = re.sub(r"[^\w.,=+-]+", "_", name.replace(", ", "_")).strip("._-,=")[:80].rstrip("._-,=") or "variation"
        unique, count = safe, 1
        while unique.casefold() in taken:
            count += 1
            unique = f"{safe}_{count}"
        taken.add(unique.casefold())
        found[name] = unique
    return found
