"""What the runs made so far say: a table, differences with their intervals, verdicts, and a report.

python -m pipeline.compare --study published
python -m pipeline.compare --experiment E --group-by optimizer,lr --metric val_loss --baseline optimizer=sgd
python -m pipeline.compare --verify comparison/conclusion.json

With a study: its claims, against its plan. Without: each configuration of this project's runs, or each combination of
`group_by` of anybody's, against a baseline. Reads the store and changes nothing in it, but for `--log true` and the run
that `mlflow run` opened for it. Never imports TensorFlow.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import task
from pipeline.compare import logged, output, reading, report, steps, suggest
from pipeline.compare.choosing import measured
from pipeline.compare.concluding import conclude
from pipeline.compare.conclusion import Conclusion
from pipeline.compare.grouping import GroupedRuns, group
from pipeline.compare.options import PICTURED, REPORT_HTML, Options
from pipeline.compare.request import CompareRequest
from pipeline.errors import UserError
from pipeline.study import files
from pipeline.study.existing import Source, StudyOfRuns
from pipeline.study.parts import Measure
from pipeline.task import Task
from pipeline.terminal import Console
from pipeline.texts import command, listed, quoted
from pipeline.tracking.names import COMPARED, MLFLOW_PARENT_RUN_ID, NOTE

# The options that say how runs are compared, which a conclusion keeps, too; the latter of runs without a study.
ASKED = ("metric", "better", "metrics", "baseline")
WITHOUT_A_STUDY = ("group_by", "repetitions", "nuisance")


@dataclass(frozen=True)
class Found:
    """What was read, and what `provenance` must tell of it."""

    experiment: reading.Experiment
    grouped: GroupedRuns
    elsewhere: pd.DataFrame | None
    origin: dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """A comparison: what was concluded, what it was read from, and the files that were written of it."""

    conclusion: Conclusion
    found: Found
    histories: pd.DataFrame
    files: tuple[Path, ...] = ()

    @property
    def page(self) -> str:
        """The name of the file that shows all of it; empty where it was not written."""
        return REPORT_HTML if REPORT_HTML in (file.name for file in self.files) else ""

    @property
    def tags(self) -> dict[str, str]:
        """What a run says that was made or opened for it."""
        return {NOTE: report.note(self.conclusion, self.page), COMPARED: self.conclusion.provenance.command}


def comparison(options: Options, out: Path | None) -> Compared:
    """Read runs and conclude; with a folder, also draw, and write there what is asked for. Prints nothing.

    Raises:
        UserError: the store, the experiment or what was asked for cannot be used, or there is nothing to compare.
    """
    if out is not None:
        with output.folder(out):
            pass  # it can be written, which is better known now than after the reading

    found = find(options, task.load(), declared=study_of_runs(options.study))
    grouped = found.grouped
    _require_runs(grouped)
    epochs = histories(grouped)
    conclusion = conclude(grouped, epochs, found.elsewhere, found.origin)
    if out is None:
        return Compared(conclusion, found, epochs)
    pictures: output.Drawn = {}
    if set(PICTURED) & set(options.formats):
        pictures, missing = output.pictures(grouped, conclusion, epochs, options.pictures)
        unused = {name: why for name, why in missing.items() if why}
        conclusion = conclusion.model_copy(update={"without_pictures": tuple(missing), "unused_pictures": unused})
    with output.folder(out) as folder:
        names = output.write(folder, conclusion, pictures, options.formats)
    return Compared(conclusion, found, epochs, tuple(out / name for name in names))


def log(compared: Compared) -> str:
    """Log the files to the study's run, or to one in the experiment that was compared, and a summary of each variation.

    Returns the ID of that run.

    Raises:
        UserError: the store does not take them.
    """
    study_run = compared.conclusion.provenance.study_run_id
    tags = {NOTE: compared.tags[NOTE]} if study_run else compared.tags
    at, grouped = compared.found.experiment, compared.found.grouped
    run_id = logged.log_files(compared.files, study_run, at, tags)
    logged.log_summaries(compared.conclusion, grouped, compared.histories, at, run_id)
    return run_id


def compare(options: Options) -> str:
    """As from the command line: print what the runs say, and write; returns what to tell the user about the files.

    Raises:
        UserError: as `comparison` and `log`.
    """
    if options.suggest:
        return _suggested(options)
    compared = comparison(options, options.out)
    names = [file.name for file in compared.files]
    _print(compared.conclusion, options.all, compared.page)
    lines = [f"written to {options.out}: {output.named(names)}"]
    lines += filter(None, [output.left(options.out, names), _without(compared.conclusion)])
    logged.describe_launched_run(compared.tags)
    if options.log:
        run_id = log(compared)
        logged.describe_launched_run(compared.tags, run_id)
        lines.append(f"logged to run {run_id}")
    return "\n".join(lines)


def _without(conclusion: Conclusion) -> str:
    """Of which variations the picture that was asked for is not used; empty where of none."""
    names = listed(map(quoted, conclusion.without_pictures))
    asked = conclusion.provenance.pictures
    return f"without {asked}, which the report gives a reason for: {names}" if asked and names else ""


def _suggested(options: Options) -> str:
    found = find(options, task.load())
    _require_runs(found.grouped)
    return suggest.text(found.grouped, found.origin["experiments"], found.origin["filter"])


def _require_runs(grouped: GroupedRuns) -> None:
    if grouped.runs.empty and grouped.planned is None:
        raise UserError("no run matches; make one with mlflow run . -P optimizer=adam, or widen --filter")


def find(options: Options, of: Task, study_run_id: str | None = None, declared: StudyOfRuns | None = None) -> Found:
    """What is asked for, read from the store and grouped.

    Args:
        study_run_id: of a study that made its runs, which of its runs; None = the latest.
        declared: a study of runs that exist, in place of `options.study`.
    """
    own = declared.runs if declared else Source()
    for option, said in {"experiment": own.experiments, "filter": own.filter}.items():
        if said and getattr(options, option):
            raise UserError(f"the study says itself which runs are its own; leave out --{option}")
    experiments = reading.experiments(own.experiments or options.experiment)
    filter_string = own.filter or options.filter
    ids = [each.id for each in experiments]
    plan = reading.study_plan(ids, options.study, study_run_id) if options.study and not declared else None
    request = _request(options, plan, declared)
    of = plan.study.task if plan else of
    runs = reading.runs(ids, of, filter_string, _tags(request))
    elsewhere = None
    if plan is not None:
        children = runs.get(f"tags.{MLFLOW_PARENT_RUN_ID}", pd.Series(None, runs.index, dtype=object)) == plan.run_id
        runs, elsewhere = runs[children], runs[~children]
    runs = _as_asked(runs, request, of)
    origin = {
        # Of several, a name with a comma would be read as two.
        "command": _command(
            options,
            [] if own.experiments else [e.id if experiments[1:] and "," in e.name else e.name for e in experiments],
        ),
        "experiments": tuple(each.name for each in experiments),
        "ui": reading.ui(experiments[0]),
        "filter": filter_string,
        "pictures": options.pictures,
        "study_run_id": plan.run_id if plan else None,
        "declaration": declared.model_dump(mode="json") if declared else None,
        "at": options.at,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "versions": reading.versions(),
        "first_run": reading.iso(_extreme(runs, "start", min)),
        "last_run": reading.iso(_extreme(runs, "end", max)),
    }
    return Found(experiments[0], group(runs, request, of), elsewhere, origin)


def study_of_runs(study: str) -> StudyOfRuns | None:
    """The study of runs that exist in a file; None where `study` is the name of one that made its runs.

    Raises:
        UserError: it is the path of something else.
    """
    if Path(study).suffix not in (files.SUFFIX, ".yml"):
        return None
    declared = files.load_any(study)
    if not isinstance(declared, StudyOfRuns):
        raise UserError(
            f"study={quoted(study)} is a study that makes its own runs; give its name, {declared.name}, and it is "
            f"compared by what it has run"
        )
    return declared


def _request(options: Options, plan: reading.Plan | None, declared: StudyOfRuns | None) -> CompareRequest:
    asked = options.model_dump(include={*ASKED, *WITHOUT_A_STUDY})
    if declared:
        asked |= {"study": declared, "metric": options.metric or declared.main_metric, "measures": declared.metrics}
        asked |= {name: getattr(declared.runs, name) for name in ("repetitions", "nuisance")}
    elif plan:
        asked |= {"study": plan.study, "looks": plan.looks, "plans": plan.declared, "measures": plan.study.metrics}
        asked["metric"] = options.metric or (plan.study.main_metric if plan.study.project else "")
    elif options.at != "last":
        asked["measures"] = {options.metric: Measure(at=options.at)}
    defaults = declared.runs.defaults if declared else dict(each.split("=", 1) for each in options.default)
    return CompareRequest(**asked, defaults={name: str(value) for name, value in defaults.items()})


def _tags(request: CompareRequest) -> set[str]:
    """Those that only this request needs."""
    named = {*request.repetitions}
    if isinstance(request.study, StudyOfRuns):
        named |= {key.removeprefix("tags.") for each in request.study.variations for key in each.where}
    return named


def _as_asked(runs: pd.DataFrame, request: CompareRequest, of: Task) -> pd.DataFrame:
    """The runs with the values of the steps that were asked for, where that is not the last.

    Raises:
        UserError: the best is asked for of a metric of which it is not known which way is better.
    """
    for name, measure in request.measures.items():
        column = f"metrics.{name}"
        if measure.at == "last" or column not in runs:
            continue
        better = measured(name, of, request, is_primary=name == request.metric).better
        if measure.at == "best" and better is None:
            raise UserError(f"which way of {quoted(name)} is better is not known; give better: lower or higher")
        history = reading.histories(list(runs["run_id"]), [name])  # of those, too, whose last value is NaN
        values = steps.value_at(history, column, measure.at, better)
        runs = runs.assign(**{column: runs["run_id"].map(values).astype(float)})
    return runs


def _extreme(runs: pd.DataFrame, column: str, which: Any) -> float | None:
    values = runs[column].dropna().astype(float)
    return float(which(values)) if len(values) else None


def _command(options: Options, experiments: Sequence[str]) -> str:
    """What makes it again; where it was written to is no part of it."""
    texts = options.model_dump(include={"filter", "study", "metric", "better", "baseline", "pictures"})
    lists = {name: ",".join(getattr(options, name)) for name in ("group_by", "metrics", *WITHOUT_A_STUDY, "default")}
    at = "" if options.at == "last" else str(options.at)
    words = {"experiment": ",".join(experiments), **texts, "at": at, **lists}
    given = [f"--{name} {shlex.quote(value)}" for name, value in words.items() if value]
    return " ".join([command("compare"), *given])


def histories(grouped: GroupedRuns) -> pd.DataFrame:
    """By epoch, of the runs that are drawn: `run_id, epoch` and the metrics that are followed; empty without any."""
    if not grouped.followed or grouped.with_history.empty:
        return pd.DataFrame(columns=["run_id", "epoch"])
    return reading.histories(list(grouped.with_history["run_id"]), grouped.followed)


def _print(conclusion: Conclusion, everything: bool, where: str) -> None:
    """To a terminal in lines of its width and in colours; to anything else a sentence a line."""
    width = None if sys.stdout.isatty() else 10**4
    report.to_terminal(conclusion, Console(width=width, highlight=False, markup=False), everything, where)
