"""A study: declared variations x seeds, nested under one parent run, on all cores.

python -m pipeline.study --study published --seeds 5 --dry-run

Started again, it goes on where it stopped: what is finished is not trained again, what was interrupted goes on
from its last checkpoint, in the same MLflow run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import Interrupted, UserError
from pipeline.progress import Counts, duration
from pipeline.study import executors, files, plan, power
from pipeline.study.executors import Executor
from pipeline.study.making import Making, Planned, Work, begun, jobs_of
from pipeline.study.options import Options
from pipeline.study.plan import Study
from pipeline.study.tuning import Point, best, point_text
from pipeline.task import Child, Program, Task
from pipeline.texts import command, listed, redacted, several
from pipeline.tracking import journal, launched, search, store
from pipeline.tracking import runs as tracking
from pipeline.tracking.delivery import Delivery, end_abandoned, end_now, has_ended, record_end
from pipeline.tracking.journal import FAILED, FINISHED, HEADER, KILLED, Journal
from pipeline.tracking.names import (
    DATA_HASH,
    GRID_POINT,
    LAUNCHED,
    NOTE,
    PLAN,
    PLAN_FILE,
    PLANS,
    ROLE,
    SEED,
    STUDY,
    TUNED_FILE,
    TUNING,
    VARIATION,
)
from pipeline.tracking.runs import Experiment
from pipeline.tracking.search import Found

STUDY_FILE = "study.yaml"  # artifact of the parent run: what was declared; `PLAN_FILE` says what was to be run


@dataclass(frozen=True)
class _Place:
    """What is run, and where what it says is kept."""

    options: Options
    study: Study
    hashes: Mapping[str, str]
    digests: Sequence[str]
    experiment: Experiment
    folder: Path

    def planned(self, variation: str, config: Any, point: Point | None = None) -> Planned:
        """A run with its tags; with a `point`, one by which its variation is tuned."""
        data_hash, seed = self.hashes[config.data], config.params[self.study.task.repetition]
        tags = {STUDY: self.study.name, VARIATION: variation, SEED: str(seed)}
        repetition = f" seed {seed}" if self.study.task.repeats else ""
        name = f"{variation}{repetition}"
        if point is not None:
            tags |= {ROLE: TUNING, GRID_POINT: point_text(point)}
            name = f"{variation} tuning {point_text(point)}{repetition}"
        places = [self.folder / _key([variation, each, data_hash]) for each in config.fingerprints]
        place = next((each for each in places if each.exists()), places[0])
        planned = Planned(variation, data_hash, Child(place, name, config, tags))
        return planned if self.study.task.goes_on or self.options.retrain else planned.latest


@dataclass(frozen=True)
class _Stage:
    """Runs that can be made in any order: those that tune, then those that are reported."""

    study: Study
    phase: str  # as it is shown; empty where there is one only
    found: Found
    work: Work

    @property
    def is_to_do(self) -> bool:
        """Whether some of it is."""
        return bool(self.work.to_train or self.work.reusable)


def _stages(place: _Place) -> tuple[_Stage, _Stage | None]:
    """Of the runs that tune and of those that are reported; None where what they are is still to be chosen."""
    trials = [place.planned(trial.variation, trial.config, trial.point) for trial in place.study.trials()]
    if not trials:
        return _Stage(place.study, "", Found(), Work()), _reported(place, {})
    tuning = _stage(place, place.study, trials, "tuning")
    points = _recorded_points(place, tuning.found)
    return tuning, None if points is None else _reported(place, points)


def _reported(place: _Place, points: Mapping[str, Point]) -> _Stage:
    study = place.study.at(points)
    return _stage(place, study, [place.planned(*each) for each in study.runs()], "reporting" if points else "")


def _stage(place: _Place, study: Study, runs: Sequence[Planned], phase: str) -> _Stage:
    found, options = Found(), place.options
    with contextlib.suppress(store.StoreAwayError):
        if place.experiment.id:
            wanted = None if options.retrain else [run.identities for run in runs]
            found = search.find(place.experiment.id, study.name, place.digests, wanted, look_only=options.dry_run)
    return _Stage(study, phase, found, _classify(runs, found, options))


def _recorded_points(place: _Place, found: Found) -> dict[str, Point] | None:
    """What an earlier start has chosen; None where none has, or it is not to be had."""
    if place.options.retrain:
        return None
    content = _recorded(place.folder, TUNED_FILE, found)
    return dict(json.loads(content)) if content else None


def _choose(study: Study, tuning: _Stage) -> dict[str, Point]:
    """By variation, the best point of its grid.

    Raises:
        UserError: no point of a grid has a result of every seed.
    """
    metric = study.tuning_metric
    higher_is_better = next(row.higher_is_better for row in study.task.metrics if row.name == metric)
    points = {(trial.variation, point_text(trial.point)): trial.point for trial in study.trials()}
    results: dict[tuple[str, str], list[float]] = {key: [] for key in points}
    for run in (*tuning.work.done, *tuning.work.reusable, *tuning.work.to_train):
        results[run.variation, run.child.tags[GRID_POINT]].append(_result(run, tuning.found, metric))
    chosen = {}
    for name in study.tuned:
        own = [(points[key], values) for key, values in results.items() if key[0] == name]
        point = best(own, bool(higher_is_better))
        if point is None:
            raise UserError(
                f"{name!r} cannot be tuned: no point of its grid has a finite {metric} with every seed "
                f"({listed(point_text(point) for point, _ in own)}); give other values in nuisance"
            )
        chosen[name] = point
        print(f"tuned: {name}: {point_text(point)}", flush=True)
    return chosen


def _result(run: Planned, found: Found, metric: str) -> float:
    """The last value of a metric of a run that has finished; NaN without."""
    if (run.child.folder / HEADER).exists():
        known = Journal(run.child.folder)
        lines = [line for line, _ in known.read() if line["operation"] == "metrics"] if known.status == FINISHED else []
        return next((p[1] for line in reversed(lines) for p in reversed(line["points"]) if p[0] == metric), math.nan)
    stored = run.finished_in(found)
    return float(stored.data.metrics.get(metric, math.nan)) if stored else math.nan


def run(options: Options, executor: Executor | None = None, study: Study | None = None) -> str:
    """Run a study; returns what to tell the user about it.

    Args:
        executor: makes the runs; None = the one that the options name, without processes that fork.
        study: what the options declare, where that has been read.

    Raises:
        UserError: the study, the data or the store cannot be used, or some runs failed.
    """
    executor = executor or executors.chosen(options.executor, options.address, options.gpus_per_run, fork=False)
    study = study or files.declared(options)
    program = study.task.program
    if not options.dry_run:
        program.require_surroundings()
    every = [*study.configurations().values(), *(trial.config for trial in study.trials())]
    hashes = program.data_hashes(every)
    at_once = _at_once(options, executor, study, every)
    digests = study.digests(hashes)
    experiment = _experiment(options)
    place = _Place(options, study, hashes, digests, experiment, _folder(study, digests, experiment))
    if options.dry_run:
        return _dry_run(place, at_once)

    executor.require_shared(journal.state_folder())
    folder = place.folder
    for told in journal.set_aside_damaged(folder):
        print(told, file=sys.stderr, flush=True)
    if options.retrain:
        _set_aside(folder)
    with journal.locked(folder):
        for known in journal.journals(folder):
            if known.folder != folder:  # an earlier start's may be made yet, by a machine that was cut off
                journal.claim(known.folder)
        for repaired in [known.repair() for known in journal.journals(folder)]:
            if repaired:
                print(f"{repaired}; what is missing is made once more", file=sys.stderr, flush=True)
        if experiment.id:
            _forget_deleted(folder)
        if not study.task.goes_on:
            _give_up_unfinished(folder, program)
        tuning, reported = _stages(place)
        found = (reported or tuning).found
        untouched = found.parent_finished and not (folder / HEADER).exists()
        untouched = untouched and _declares(study, _recorded(folder, PLAN_FILE, found))
        if reported and not reported.is_to_do and untouched:
            return _told(_summary(study, reported.work, {}), found.parent, study)
        parent = _parent(place, found)
        if not _declares(study, _recorded(folder, PLAN_FILE, found)):
            text = study.model_dump_json(indent=2)
            again = {PLAN_FILE: text, f"{PLANS}/{journal.now()}.json": text}
            _record_files(parent, {STUDY_FILE: redacted(files.read(options.study)), **again})
        delivery = Delivery(folder, store.tracking_uri())
        try:
            delivery.begin()
            search.nest(parent, [known.folder for known in journal.journals(folder) if known.folder != folder])
        except BaseException as error:
            end_now(parent, *tracking.ending(error))
            if not parent.sent.run_id and len(journal.journals(folder)) == 1:
                parent.remove()  # the store refused it: there is nothing to go on with
            raise
        with delivery:
            try:
                if reported is None:
                    _make(place, tuning, executor, at_once)
                    reported = _reported(place, _choose(study, tuning))
                if study.nuisance and not _has_files(parent, TUNED_FILE):
                    _record_files(parent, {TUNED_FILE: json.dumps(reported.study.points, indent=2)})
                failures = _make(place, reported, executor, at_once).failures
                with contextlib.suppress(store.StoreAwayError):
                    delivery.send()  # a run that the store refuses is not done
            except BaseException as error:
                record_end(parent, *tracking.ending(error))
                raise
            finally:
                executor.close()
            summary = _summary(reported.study, reported.work, failures)
            run_id = parent.sent.run_id
            _end(parent, reported.work, failures, summary)
    told = _told(summary, run_id or delivery.run_ids.get(parent.header.key), study)
    if failures:
        raise UserError(summary)
    return told


def _at_once(options: Options, executor: Executor, study: Study, configs: Sequence[Any]) -> int:
    """How many runs are made at a time, by what was asked for, by what makes them, by cores and by memory.

    Raises:
        UserError: memory is not enough for one, or for as many as were asked for.
    """
    at_once = min(options.jobs or executor.capacity, max(len(study.runs()), len(study.trials())))
    if study.task.fills_a_core and (useful := executor.useful(at_once)) < at_once:
        at_once = useful
        print(f"{at_once} at a time, not {options.jobs}: a run keeps a core busy, and there are no more", flush=True)
    here = executor.on_one_machine(at_once)
    fit = study.task.program.fitting(configs, here)
    if fit < here:
        few = f"{fit} of these runs fit{'s' * (fit == 1)} into the memory of this machine at a time"
        if options.jobs:
            raise UserError(f"jobs={options.jobs}: {few}; give jobs={at_once * fit // here}, or none")
        print(f"{few}, not {here}", flush=True)
    return at_once * fit // here


def _told(summary: str, run_id: str | None, study: Study) -> str:
    """What to tell the user, and whoever looks at a run that `mlflow run` opened beside the study's own."""
    if run_id:
        launched.link(run_id, study.name)
    return f"{summary}\nrun ID: {run_id or 'not known until it is delivered'}\nto see it: {tracking.ui_command()}"


def _key(parts: Sequence[str | None]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _experiment(options: Options) -> Experiment:
    """Where the runs go, as far as the store is there to be asked."""
    try:
        return search.experiment(make=not options.dry_run)
    except store.StoreAwayError as away:
        print(f"{away}; what has finished before is not known", file=sys.stderr, flush=True)
        return Experiment.chosen()


def _folder(study: Study, digests: Sequence[str], experiment: Experiment) -> Path:
    """Where a study keeps what it says: the folder that has said so, or a new one.

    A study is known by what it runs, its store and its experiment, of which only a name may be known, or only an ID.
    """
    uri, root = redacted(store.tracking_uri()), journal.state_folder() / journal.STUDIES
    for known in journal.journals(root):
        header = known.header
        of_study = header.tags.get(STUDY) == study.name and header.tags.get(PLAN) in digests
        if of_study and header.tracking_uri == uri and experiment.is_of(header):
            return known.folder
    return root / f"{study.name}-{_key([uri, experiment.name or experiment.id, digests[0]])}"


def _link(work: Work, found: Found) -> None:
    """Make the runs that stand for finished ones; where the store has just gone away, train them after all."""
    for planned in list(work.reusable):
        child = planned.child
        try:
            if origin := planned.stands_in_for_it(found):
                search.link(child.folder, child.name, origin, child.tags)
        except store.StoreAwayError:
            work.reusable.remove(planned)
            work.to_train.append(planned)


def _classify(runs: Sequence[Planned], found: Found, options: Options) -> Work:
    """What is to be done about each run: its journal knows best, then its study, then the experiment."""
    work = Work()
    for run in runs:
        here = begun(run.child.folder) and not options.retrain
        finished = here and Journal(run.child.folder).status == FINISHED
        if finished or (not here and run.finished_in(found)):
            work.done.append(run)
        elif not here and run.stands_in_for_it(found) and not run.variation.endswith(plan.AGAIN):
            work.reusable.append(run)
        else:
            work.to_train.append(run)
    return work


def _give_up_unfinished(folder: Path, program: Program) -> None:
    """End what an earlier start was at when it was killed, where that cannot go on."""
    program.end_leftovers(folder)
    for known in journal.journals(folder):
        if known.folder != folder and not known.ending:
            end_abandoned(known)


def _forget_deleted(folder: Path) -> None:
    """Have a run that was deleted in the store made anew: from its journal or, where that is not whole, by training."""
    with contextlib.suppress(store.StoreAwayError):
        for known in journal.journals(folder):
            if known.folder != folder and known.sent.run_id and search.is_deleted(known.sent.run_id):
                if known.header.run_id is None and (known.folder / journal.ARTIFACTS).exists():
                    known.forget_sent()
                else:
                    known.remove()


def _parent(place: _Place, found: Found) -> Journal:
    """The study's own run: what was declared and what is to be run. It goes on in the one that there is."""
    folder, study = place.folder, place.study
    tags = {STUDY: study.name, PLAN: place.digests[0], **journal.signs_of_life()}
    known = Journal(folder) if (folder / HEADER).exists() else None
    run_id = known and known.sent.run_id
    if known and not (place.experiment.id and run_id and _is_deleted(run_id)):
        known.append("go_on", tags=tags)
        return known
    note = {} if found.parent else {NOTE: study.description}
    run_id = found.parent or os.environ.get(LAUNCHED)
    parent = tracking.begin(folder, study.name, run_id, {**tags, **note}, place.experiment)
    if run_id and run_id == os.environ.get(LAUNCHED):
        launched.take_up()
    if run_id:
        parent.mark_sent(ask=True)
        parent.append("go_on", tags=tags)
    return parent


def _declares(study: Study, recorded: bytes | None) -> bool:
    """Whether a plan that was recorded is this very one, with these claims."""
    try:
        return recorded is not None and Study.recorded(recorded) == study
    except ValueError:
        return False


def _recorded(folder: Path, name: str, found: Found) -> bytes | None:
    """A file of the study's own run, from its journal or else from the store; None where it is not to be had."""
    if (folder / HEADER).exists() and _has_files(Journal(folder), name):
        return (folder / journal.ARTIFACTS / name).read_bytes()
    return search.artifact(found.parent, name) if found.parent else None


def _has_files(parent: Journal, name: str) -> bool:
    return any(name in line.get("paths", ()) for line, _ in parent.read())


def _record_files(parent: Journal, files: Mapping[str, str]) -> None:
    artifacts = parent.folder / journal.ARTIFACTS
    with journal.writing(parent.folder):
        for name, text in files.items():
            (artifacts / name).parent.mkdir(parents=True, exist_ok=True)
            (artifacts / name).write_text(text, encoding="utf-8")
        journal.sync_files(artifacts, files)
    parent.append("artifacts", paths=list(files))


def _is_deleted(run_id: str) -> bool:
    with contextlib.suppress(store.StoreAwayError):
        return search.is_deleted(run_id)
    return False


def _set_aside(folder: Path) -> None:
    """Give an earlier study up: what the store has of it is deleted, and what it does not take is kept and said."""
    if not journal.journals(folder):
        return
    with journal.locked(folder):
        for known in journal.journals(folder):
            known.repair()
            if not known.ending:
                record_end(known, KILLED, "given up for a fresh study")
        aside = journal.set_aside(folder)
    with contextlib.suppress(UserError):
        Delivery(aside, store.tracking_uri()).send()
    with contextlib.suppress(UserError), store.tracking_store():
        if all(has_ended(known, store.tracking_uri()) for known in journal.journals(aside)):
            shutil.rmtree(aside)
            return
    print(
        f"the store does not have all of the earlier study: the rest is kept in {aside}; "
        f"deliver it with {command('deliver')}",
        file=sys.stderr,
        flush=True,
    )


def _make(place: _Place, stage: _Stage, executor: Executor, at_once: int) -> Making:
    """Link what can be reused and make the rest.

    Raises:
        KeyboardInterrupt, Interrupted: the runs were ended; the message says how to go on.
        StoppedError: too many of them have failed.
    """
    work = stage.work
    _link(work, stage.found)
    done = len(work.done) + len(work.reusable)
    counts = Counts(work.planned, done, len(work.reusable), phase=stage.phase)
    making = Making(stage.study, work.to_train, counts, executor)
    try:
        making.make(at_once)
    except (KeyboardInterrupt, Interrupted) as error:
        raise type(error)(f"interrupted; go on with: {_command(place.options)}") from None
    return making


def _summary(study: Study, work: Work, failures: Mapping[str, str]) -> str:
    planned = work.planned
    if failures:
        which = several([f"{name}: {reason}" for name, reason in failures.items()])
        failed = f"{len(failures)} of {planned} runs failed" if planned > 1 else "the run failed"
        return f"{failed} ({which}); start the study again to try once more"
    reused = f", {len(work.reusable)} of them reused from other studies or runs" if work.reusable else ""
    tuned = f", tuned by {len(study.trials())} more" if study.nuisance else ""
    return f"{study.name} is finished: {planned} run{'' if planned == 1 else 's'}{reused}{tuned}"


def _end(parent: Journal, work: Work, failures: Mapping[str, str], summary: str) -> None:
    failed, planned = len(failures), work.planned
    counts = {"planned": planned, "finished": planned - failed, "reused": len(work.reusable), "failed": failed}
    said = {
        name: (value, step)
        for line, _ in parent.read()
        if line["operation"] == "metrics"
        for name, value, _, step in line["points"]
    }
    points = []
    for name, count in ((f"runs_{name}", float(n)) for name, n in counts.items()):
        value, step = said.get(name, (None, -1))
        if value != count:  # one point each, and another only where it has changed
            points.append((name, count, journal.now(), step + 1))
    if points:
        parent.append("metrics", points=points)
    record_end(parent, FAILED if failures else FINISHED, summary if failures else "")


def _command(options: Options) -> str:
    """What the user typed, without what would not be wanted again."""
    given = {name: value for name, value in options.model_dump().items() if name in options.model_fields_set}
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if name != "retrain"]
    return " ".join([command("study"), *words])


def _dry_run(place: _Place, at_once: int) -> str:
    study, options = place.study, place.options
    tuning, reported = _stages(place)
    if reported is None:  # which of them are done depends on what is chosen
        reported = _Stage(study, "", Found(), Work(to_train=[place.planned(*each) for each in study.runs()]))
    variations = f"{len(study.configurations())} variations x {len(study.seeds)} seeds"
    tuned = f", tuned by {tuning.work.planned} more" if study.nuisance else ""
    lines = [f"{study.name}: {reported.work.planned} runs, {variations}{tuned}"]
    states = {"done": "done", "reusable": "to reuse", "to_train": "to train"}
    runs = {name: [*getattr(tuning.work, name), *getattr(reported.work, name)] for name in states}
    lines += [f"{states[name]}: {run.child.name}" for name, some in runs.items() for run in some]
    groups = [group for stage in (tuning, reported) for group in jobs_of(stage.work.to_train, study.task)]
    jobs = max(1, min(at_once, len(groups)))
    estimates = [_seconds(place.experiment, study.task, group[0]) for group in groups]
    known = [seconds for seconds in estimates if not math.isnan(seconds)]
    time_left = f"estimated time: {duration(sum(known) / jobs)}"
    if len(known) < len(groups):
        missing = f"for {len(groups) - len(known)} of {len(groups)} trainings no run of that size has finished here"
        time_left = f"estimated time: unknown; {missing}"
    counted = ", ".join(f"{len(some)} {states[name]}" for name, some in runs.items())
    trainings = f"{len(groups)} training{'' if len(groups) == 1 else 's'}"
    outlook = power.outlook(study, _earlier_values(reported), options.power, options.detect)
    return "\n".join([*lines, f"{counted} in {trainings}, {jobs} at a time; {time_left}", *outlook])


def _earlier_values(stage: _Stage) -> Callable[[str, str], pd.Series]:
    """Of a variation and a metric, what those of its planned runs gave that have finished, by seed."""
    rows: dict[str, dict[str, Mapping[str, float]]] = {}
    for run in (*stage.work.done, *stage.work.reusable):
        if origin := run.stands_in_for_it(stage.found) or run.finished_in(stage.found):
            rows.setdefault(run.variation, {})[run.child.tags[SEED]] = origin.data.metrics

    def values(variation: str, metric: str) -> pd.Series:
        known = rows.get(variation, {})
        return pd.Series({seed: each[metric] for seed, each in known.items() if metric in each}, dtype=float)

    return values


def _seconds(experiment: Experiment, task: Task, longest: Planned) -> float:
    """How long a job will take, as far as earlier runs tell; NaN where none does."""
    config = longest.child.config
    with contextlib.suppress(store.StoreAwayError):
        if experiment.id:
            # Of what it is trained on, or, where nobody knows that, of the study.
            tags = {DATA_HASH: longest.data_hash} if longest.data_hash else {STUDY: longest.child.tags[STUDY]}
            for run in search.finished_runs(experiment.id, tags, task.sizes(config)):
                took = ((run.info.end_time or 0) - run.info.start_time) / 1000
                seconds = task.seconds(config, run.data.params, run.data.metrics, took)
                if not math.isnan(seconds):
                    return seconds
    return math.nan
