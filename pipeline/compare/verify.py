"""Whether a conclusion is still what its runs give: what vanished, changed or was added since, and what was edited."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from pipeline import cli, metrics, task
from pipeline.compare.concluding import conclude
from pipeline.compare.conclusion import SCHEMA_VERSION, Claim, Conclusion, Provenance, RunRecord
from pipeline.compare.options import CONCLUSION, Options
from pipeline.compare.report import publications, values
from pipeline.compare.run import ASKED, WITHOUT_A_STUDY, find, histories
from pipeline.errors import UserError
from pipeline.study.existing import StudyOfRuns
from pipeline.study.tuning import point_text
from pipeline.texts import quoted

_CLOSE, _NOTHING = 1e-9, 1e-15  # two versions of a library may sum in another order
# What the runs and the study tell; of a conclusion by an older schema only what every version computes alike.
_COMPUTED = (
    *("kind", "title", "description", "baseline", "metric", "constant", "differing", "metrics", "variations", "pairs"),
    *("claims", "looks", "looks_planned", "varied", "noise", "determinism", "checks", "published", "completeness"),
    *("tuning", "searches", "sweep", "efforts", "aside", "cut"),
)
# Of where it comes from, what is no matter of when and with what it is read.
_ORIGIN = (
    *("experiments", "study", "study_run_id"),
    *("code_versions", "dirty", "requirements_hashes", "data_hashes", "hardware"),
)
_SINCE = {"efforts", "uncounted", "searches"}  # parts that this schema has and no earlier one
_BASIC = re.compile(r"\.cells\..*\.(n|mean|sd|median|worst)$|\.difference\.mean$")
_MOST_BYTES = 2**29  # of a conclusion.json: one of 100,000 runs has a tenth of that


def read_conclusion(path: str) -> Conclusion:
    """The conclusion in a file.

    Raises:
        UserError: there is none.
    """
    content = cli.read_user_file(path, "verify", _MOST_BYTES, f"the path of a {CONCLUSION}")
    try:
        conclusion = Conclusion.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        place = ".".join(map(str, problem["loc"]))
        reason = f"{place}: {problem['msg']}" if place else problem["msg"]
        raise UserError(f"verify={quoted(path)} is no {CONCLUSION} of this version ({reason}); make it again") from None
    newer = sorted(_SINCE & conclusion.model_fields_set)
    if conclusion.schema_version > SCHEMA_VERSION or (conclusion.schema_version < SCHEMA_VERSION and newer):
        says = f"schema {conclusion.schema_version}"
        raise UserError(f"verify={quoted(path)} says that it is of {says}, which it is not; make it again")
    return conclusion


def verify(known: Conclusion) -> list[str]:
    """What is no longer as a conclusion has it, a line each: runs, then numbers, then verdicts.

    Raises:
        UserError: the store or the experiment cannot be used, or the study's run is gone.
    """
    source = known.provenance
    declared = StudyOfRuns.model_validate(source.declaration) if source.declaration else None
    if source.study and source.study_run_id is None and declared is None:
        raise UserError(f"the conclusion of {source.made} does not say which run of the study {source.study} it is of")
    try:
        found = find(_options(source, declared), task.load(), source.study_run_id, declared)
    except UserError as error:
        raise UserError(f"the conclusion of {source.made} cannot be checked: {error}") from None
    now = conclude(found.grouped, histories(found.grouped), found.elsewhere, found.origin)
    lines = list(_changed_runs(known, now))
    # Of other runs the numbers may be others: then what is concluded is said, and what was edited of the same runs.
    lines += _edited(known, now, {cell.digest for each in now.variations for cell in each.cells} if lines else None)
    lines += _changed_verdicts(known, now)
    return [" ".join(line.split()) for line in dict.fromkeys(lines)]


def _options(source: Provenance, declared: StudyOfRuns | None) -> Options:
    """What was asked for."""
    asked = source.model_dump(include={*ASKED} - {"better"})
    if not (declared and declared.runs.experiments):
        asked["experiment"] = ",".join(source.experiments)
    if not (declared and declared.runs.filter):
        asked["filter"] = source.filter
    if source.study:
        return Options(study="" if declared else source.study, **asked)
    asked["default"] = tuple(f"{name}={value}" for name, value in source.defaults.items())
    return Options(**asked, **source.model_dump(include={"better", "at", *WITHOUT_A_STUDY}))


def _changed_runs(known: Conclusion, now: Conclusion) -> Iterator[str]:
    before, after = ({run.run_id: run for run in each.runs} for each in (known, now))
    for run_id, run in before.items():
        if run_id not in after:
            yield f"vanished: {values.run_text(run)}"
            continue
        other = after[run_id]
        if run.digest != other.digest:
            yield f"changed: {values.run_text(run)}: its params or metrics are not what they were"
        if run.status != other.status:
            yield f"changed: {values.run_text(run)}: it was {run.status}, it is {other.status}"
        if (run.variation, run.seed, run.used) != (
            other.variation,
            other.seed,
            other.used,
        ) and run.status == other.status:
            yield f"changed: {values.run_text(run)}: it now is {_place(other)}"
    for run_id, run in after.items():
        if run_id not in before:
            yield f"added: {values.run_text(run)}, {run.status}"


def _place(run: RunRecord) -> str:
    return (
        "in no variation" if run.variation is None else f"{values.run_text(run)}, {'used' if run.used else 'not used'}"
    )


def _edited(known: Conclusion, now: Conclusion, same: Collection[str] | None) -> Iterator[str]:
    """What is not what the same runs give: the file was changed, or what computes it.

    Args:
        same: digests of the only cells to compare, where other runs have changed; None: everything.
    """
    before, after = (
        {path: value for part in _COMPUTED for path, value in _leaves(each, part, same)}
        | {f"provenance.{name}": getattr(each.provenance, name) for name in _ORIGIN if same is None}
        for each in (known, now)
    )
    old = known.schema_version < SCHEMA_VERSION
    for path in before if old or same is not None else dict.fromkeys([*before, *after]):
        a, b = before.get(path), after.get(path)
        if (path in after and _BASIC.search(path) if old else True) and not _same(a, b):
            yield f"not what its runs give: {path} says {_shown(a)}, its runs say {_shown(b)}"


def _leaves(conclusion: Conclusion, part: str, same: Collection[str] | None) -> Iterator[tuple[str, Any]]:
    """Every number and text of a part of a conclusion by its path, such as `claims[0].difference.mean`."""

    def within(path: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for key, each in value.items():
                yield from within(f"{path}.{key}", each)
        elif isinstance(value, list | tuple):
            for place, each in enumerate(value):
                yield from within(f"{path}[{place}]", each)
        else:
            yield path, value

    content = conclusion.model_dump(include={part})[part]
    if part == "published" and content:
        del content["paper_values"]  # of other studies' runs, too, which the conclusion does not list
    if part == "variations":  # by the names of variations and metrics, which may stand in another order
        for variation in content:
            cells = {
                metrics.current(cell["metric"]): cell
                for cell in variation.pop("cells")
                if same is None or cell["digest"] in same
            }
            rest = variation if same is None else {}
            yield from within(f"{variation['name']}", {**rest, "cells": cells})
    elif same is None:
        yield from within(part, content)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=_CLOSE, abs_tol=_NOTHING)
    if isinstance(a, str) and isinstance(b, str):  # perhaps names of metrics, of which an earlier version had others
        return [*map(metrics.current, a.split(", "))] == [*map(metrics.current, b.split(", "))]
    return bool(a == b)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _changed_verdicts(known: Conclusion, now: Conclusion) -> Iterator[str]:
    if known.baseline != now.baseline:
        yield f"baseline: it was {known.baseline}, it would now be {now.baseline}"
    yield from _changed(
        "verdict", {c.says: _verdict(c) for c in known.claims}, {c.says: _verdict(c) for c in now.claims}
    )
    findings: list[dict[str, str]] = [
        {f"{p.variation} against {p.against} in {metrics.current(p.asked)}": p.finding for p in each.pairs}
        for each in (known, now)
    ]
    yield from _changed("difference", *findings)
    yield from _changed("tuning", *(dict(_tuned(each)) for each in (known, now)))
    yield from _changed("published figure", _reproduced(known), _reproduced(now))


def _tuned(conclusion: Conclusion) -> Iterator[tuple[str, str]]:
    for each in conclusion.tuning:
        chosen, best = (point_text(point) if point else "none" for point in (each.chosen, each.best))
        yield f"chosen of {each.variation}", f"{chosen}, the best by its runs {best}"
        for point in each.points:
            yield f"{each.metric} of {each.variation} at {point_text(point.values)}", f"{point.mean!r}"


def _reproduced(conclusion: Conclusion) -> dict[str, str]:
    published = conclusion.published
    figures = [*published.values, *(each for row in published.paper_values for each in row.values)] if published else []
    return {
        f"{each.published} as {metrics.current(each.metric)} of {each.variation}": publications.reproduced_text(
            each.reproduced
        )
        for each in figures
    }


def _verdict(claim: Claim) -> str:
    confounded = ", ".join(other.name for other in claim.confounded_by)
    return f"{claim.verdict}{f' (by {confounded})' if confounded else ''}"


def _changed(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterable[str]:
    for name, old in before.items():
        if name not in after:
            yield f"{what}: {name}: it was {old}, it is no longer asked"
        elif after[name] != old:
            yield f"{what}: {name}: it was {old}, it would now be {after[name]}"
    for name, new in after.items():
        if name not in before:
            yield f"{what}: {name}: it was not asked, it would now be {new}"


def counted(conclusion: Conclusion) -> str:
    """What was compared with the store."""
    parts = {"runs": conclusion.runs, "verdicts": conclusion.claims, "differences": conclusion.pairs}
    old = f"; by schema {conclusion.schema_version}, of which intervals and tests were computed otherwise"
    counts = ", ".join(f"{what}: {len(each):,}" for what, each in parts.items())
    return counts + (old if conclusion.schema_version < SCHEMA_VERSION else "")
