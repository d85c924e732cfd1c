"""What the runs made so far say: a table, differences with their intervals, verdicts, and a report.

python -m pipeline.compare --study published
python -m pipeline.compare --experiment E --group-by optimizer,lr --metric val_loss --baseline optimizer=sgd
python -m pipeline.compare --verify comparison/conclusion.json

With a study: its claims, against its plan. Without: each configuration of this project's runs, or each combination of
`group_by` of anybody's, against a baseline. Reads the store and changes nothing in it, but for `--log true` and the run
that `mlflow run` opened for it. Never imports TensorFlow.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from pipeline import cli, metrics, plots, task
from pipeline.compare import reading, report
from pipeline.compare.concluding import conclude
from pipeline.compare.conclusion import SCHEMA_VERSION, Claim, Conclusion, RunRecord
from pipeline.compare.grouping import CompareRequest, GroupedRuns, group
from pipeline.compare.options import CONCLUSION, REPORT_HTML, Options
from pipeline.compare.report import publications, values
from pipeline.errors import UserError, first_line
from pipeline.study.tuning import point_text
from pipeline.task import Task
from pipeline.terminal import Console
from pipeline.texts import command, quoted
from pipeline.tracking.names import COMPARED, MLFLOW_PARENT_RUN_ID, NOTE, REUSED_FROM

TABLE_CSV, REPORT_MARKDOWN = "conclusion.csv", "report.md"
# The options that say how runs are compared, which a conclusion keeps, too; the latter of runs without a study.
_ASKED = ("metric", "better", "metrics", "baseline")
_WITHOUT_A_STUDY = ("group_by", "repetitions", "nuisance")
_CLOSE, _NOTHING = 1e-9, 1e-15  # two versions of a library may sum in another order
# What the runs and the study tell; of a conclusion by an older schema only what every version computes alike.
_COMPUTED = (
    *("kind", "title", "description", "baseline", "metric", "constant", "differing", "metrics", "variations", "pairs"),
    *("claims", "looks", "looks_planned", "varied", "noise", "determinism", "checks", "published", "completeness"),
    *("tuning", "searches", "efforts"),
)
# Of where it comes from, what is no matter of when and with what it is read.
_ORIGIN = (
    *("experiment", "study", "study_run_id"),
    *("code_versions", "dirty", "requirements_hashes", "data_hashes", "hardware"),
)
_SINCE = {"efforts", "uncounted", "searches"}  # parts that this schema has and no earlier one
_BASIC = re.compile(r"\.cells\..*\.(n|mean|sd|median|worst)$|\.difference\.mean$")
_MOST_BYTES = 2**29  # of a conclusion.json: one of 100,000 runs has a tenth of that


# --- From the store to a conclusion -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What was read, and what `provenance` must tell of it."""

    experiment: reading.Experiment
    grouped: GroupedRuns
    elsewhere: pd.DataFrame | None
    origin: dict[str, Any]


def compare(options: Options) -> str:
    """Print what the runs say and write it; returns what to tell the user about the files.

    Raises:
        UserError: the store, the experiment or what was asked for cannot be used, or there is nothing to compare.
    """
    with _folder(options.out):
        pass  # it can be written, which is better known now than after the reading

    found = _find(options, task.load())
    grouped = found.grouped
    if grouped.runs.empty and grouped.planned is None:
        raise UserError("no run matches; make one with mlflow run . -P optimizer=adam, or widen --filter")
    histories = _histories(grouped)
    conclusion = conclude(grouped, histories, found.elsewhere, found.origin)
    pictures, missing = _pictures(grouped, conclusion, histories)
    unused = {name: why for name, why in missing.items() if why}
    conclusion = conclusion.model_copy(update={"without_pictures": tuple(missing), "unused_pictures": unused})
    with _folder(options.out) as folder:
        names = _write(folder, conclusion, pictures)
        files = [options.out / name for name in names]
    _print(conclusion, options.all)
    written = f"written to {options.out}: {_named(names)}"
    study_run, note = found.origin["study_run_id"], {NOTE: report.note(conclusion)}
    own = {**note, COMPARED: found.origin["command"]}
    reading.describe_launched_run(own)
    if not options.log:
        return written
    logged_to = reading.log_files(files, study_run, found.experiment, note if study_run else own)
    return f"{written}\nlogged to run {logged_to}"


def _find(options: Options, of: Task, study_run_id: str | None = None) -> _Found:
    experiment = reading.experiment(options.experiment or None)
    plan = reading.study_plan(experiment.id, options.study, study_run_id) if options.study else None
    parent = plan.run_id if plan else None
    runs = reading.runs(experiment.id, of, options.filter)
    elsewhere = None
    if parent is not None:
        children = runs.get(f"tags.{MLFLOW_PARENT_RUN_ID}", pd.Series(None, runs.index, dtype=object)) == parent
        runs, elsewhere = runs[children], runs[~children]
    asked = options.model_dump(include={*_ASKED, *_WITHOUT_A_STUDY})
    if plan:
        asked |= {"study": plan.study, "looks": plan.looks, "plans": plan.declared}
    request = CompareRequest(**asked)
    origin = {
        "command": _command(options, experiment.name),
        "experiment": experiment.name,
        "ui": reading.ui(experiment),
        "filter": options.filter,
        "study_run_id": parent,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "versions": reading.versions(),
        "first_run": reading.iso(_extreme(runs, "start", min)),
        "last_run": reading.iso(_extreme(runs, "end", max)),
    }
    return _Found(experiment, group(runs, request, of), elsewhere, origin)


def _extreme(runs: pd.DataFrame, column: str, which: Any) -> float | None:
    values = runs[column].dropna().astype(float)
    return float(which(values)) if len(values) else None


def _command(options: Options, experiment: str) -> str:
    """What makes it again; where it was written to is no part of it."""
    words = {
        "experiment": experiment,
        **options.model_dump(include={"filter", "study", "metric", "better", "baseline"}),
    }
    words |= {name: ",".join(getattr(options, name)) for name in ("group_by", "metrics", "repetitions", "nuisance")}
    given = [f"--{name} {shlex.quote(value)}" for name, value in words.items() if value]
    return " ".join([command("compare"), *given])


def _histories(grouped: GroupedRuns) -> pd.DataFrame:
    """By epoch, of the runs that are drawn: `run_id, epoch` and the metric that falls; empty where nothing is drawn."""
    if grouped.convergence_metric is None or grouped.with_history.empty:
        return pd.DataFrame(columns=["run_id", "epoch"])
    return reading.histories(list(grouped.with_history["run_id"]), [grouped.convergence_metric])


# --- Output -------------------------------------------------------------------------------------------------------


def _print(conclusion: Conclusion, everything: bool) -> None:
    """To a terminal in lines of its width and in colours; to anything else a sentence a line."""
    width = None if sys.stdout.isatty() else 10**4
    report.to_terminal(conclusion, Console(width=width, highlight=False, markup=False), everything)


def _named(names: Sequence[str]) -> str:
    """What was written, in half a line."""
    pictures = sum(name.endswith(".png") for name in names)
    texts = f"{REPORT_HTML} and .md, {TABLE_CSV} and .json"
    return f"{texts}, pictures: {pictures}" if pictures else texts


def _pictures(
    grouped: GroupedRuns, conclusion: Conclusion, histories: pd.DataFrame
) -> tuple[dict[str, tuple[bytes, bytes]], dict[str, str]]:
    """What is drawn, and the variations without a picture, each with why the one that there is was not used.

    By file name without its ending: a PNG for the folder, and what the page shows (SVG where it is a drawing).
    """
    found: dict[str, tuple[bytes, bytes]] = {}

    def draw(name: str, figure: Any, drawing: bool = True) -> None:
        png = plots.png(figure)
        found[name] = (png, plots.svg(figure, name) if drawing else png)

    differences = _drawable(report.differences(conclusion), ["mean", "low", "high", "smallest"])
    if len(differences):
        draw(report.FOREST, plots.forest(differences))
    seeds = report.seeds(conclusion)
    if seeds["seed"].nunique() > 1:
        shown = [values.metric_of(conclusion, metric) for metric in dict.fromkeys(seeds["metric"])]
        draw(report.SEEDS, plots.seeds(seeds, {each.name: (each.label, each.unit) for each in shown}))
    if len(histories) and histories["epoch"].nunique() > 1:
        metric = values.metric_of(conclusion, grouped.convergence_metric)
        order = {name: place for place, name in enumerate(grouped.plotted)}
        lines = histories.merge(grouped.used[["run_id", "variation", "seed"]], on="run_id")
        lines = lines[lines["variation"].isin(grouped.plotted)]
        lines = _drawable(lines, [metric.name])
        lines = lines.sort_values("variation", key=lambda names: names.map(order), kind="stable")
        if lines[metric.name].notna().any():
            draw(report.CURVES, plots.curves(lines, metric.name, metric.unit))
    return found, _draw_digits(grouped, conclusion, draw)


def _drawable(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Without the values that no axis can show."""
    values = frame[columns].astype(float)
    return frame.assign(**values.where(values.abs() < plots.LARGEST))


def _draw_digits(grouped: GroupedRuns, conclusion: Conclusion, draw: Any) -> dict[str, str]:
    """Each variation's picture, of its first seed, and all of them on one; returns what `_pictures` does."""
    files = {variation.name: variation.file for variation in conclusion.variations}
    originals, reconstructed, missing = None, {}, {}
    for name in grouped.plotted if grouped.by_task else ():
        rows = grouped.by_variation[name].sort_index()
        if rows.empty:
            continue
        try:
            pictures = _pictured(rows.iloc[0])
        except reading.PictureError as why:
            missing[name] = str(why)
            continue
        if pictures is None:
            missing[name] = ""
            continue
        draw(files[name], plots.reconstructions(*pictures, f"{name}, seed {rows.index[0]}"), drawing=False)
        originals = pictures[0] if originals is None else originals
        if pictures[0].shape == originals.shape:
            reconstructed[name] = pictures[1]
        else:
            missing[name] = "its images are of another size than those of the first variation"
    if originals is not None:
        draw(report.DIGITS, plots.digit_grid(originals, reconstructed))
    return missing


def _pictured(run: pd.Series) -> reading.Pictures | None:
    """What `reading.digits` finds, of a run or of the one that it stands for."""
    origin = run.get(f"tags.{REUSED_FROM}")
    found = reading.digits(run["run_id"])
    return reading.digits(origin) if found is None and isinstance(origin, str) else found


def _write(folder: Path, conclusion: Conclusion, pictures: Mapping[str, tuple[bytes, bytes]]) -> list[str]:
    """Write everything into an empty folder; returns the names, `conclusion.json` last."""
    pngs = {f"{name}.png": png for name, (png, _) in pictures.items()}
    texts = {
        REPORT_HTML: report.to_html(conclusion, {name: shown for name, (_, shown) in pictures.items()}),
        REPORT_MARKDOWN: report.to_markdown(conclusion, list(pngs)),
        TABLE_CSV: report.conclusion_csv(conclusion),
        CONCLUSION: conclusion.model_dump_json(indent=1) + "\n",
    }
    for name, png in pngs.items():
        (folder / name).write_bytes(png)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return [*pngs, *texts]


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A new folder whose files are moved into `out` when all of them are whole; `out` is there if it has files.

    Raises:
        UserError: it cannot be written.
    """
    new: Path | None = None
    missing: list[Path] = []
    try:
        missing = [folder for folder in (out, *out.parents) if not folder.exists()]
        out.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=out))
        yield new
        # The conclusion last: where it is, what belongs to it is there, too.
        for file in sorted(new.iterdir(), key=lambda file: file.name == CONCLUSION):
            os.replace(file, out / file.name)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UserError(f"out={quoted(out)} cannot be written ({reason}); choose another folder with --out") from None
    finally:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
        for folder in missing:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


# --- Verify -------------------------------------------------------------------------------------------------------


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
    if source.study and source.study_run_id is None:
        raise UserError(f"the conclusion of {source.made} does not say which run of the study {source.study} it is of")
    asked = {"experiment", "filter", "study", *_ASKED, *(() if source.study else _WITHOUT_A_STUDY)}
    options = Options(**source.model_dump(include=asked))
    try:
        found = _find(options, task.load(), source.study_run_id)
    except UserError as error:
        raise UserError(f"the conclusion of {source.made} cannot be checked: {error}") from None
    now = conclude(found.grouped, _histories(found.grouped), found.elsewhere, found.origin)
    lines = list(_changed_runs(known, now))
    # Of other runs the numbers may be others: then what is concluded is said, and what was edited of the same runs.
    lines += _edited(known, now, {cell.digest for each in now.variations for cell in each.cells} if lines else None)
    lines += _changed_verdicts(known, now)
    return [" ".join(line.split()) for line in dict.fromkeys(lines)]


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
