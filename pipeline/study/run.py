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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import cli
from pipeline.errors import Interrupted, UserError
from pipeline.progress import Counts, StudyDisplay, Watched, duration
from pipeline.study import plan
from pipeline.study.executors import Workers, cores, what_ended
from pipeline.study.options import Options
from pipeline.study.plan import Study
from pipeline.texts import redacted, several
from pipeline.tracking import journal, store
from pipeline.tracking import runs as tracking
from pipeline.tracking.delivery import Delivery, end_now, has_ended, record_end
from pipeline.tracking.journal import FAILED, FINISHED, HEADER, KILLED, Journal
from pipeline.tracking.names import NOTE, PLAN, PLAN_FILE, REUSED_FROM, SEED, STUDY, VARIATION
from pipeline.tracking.runs import Experiment, Found
from pipeline.train import run as train
from pipeline.train.config import RunConfig

STUDY_FILE = "study.yaml"  # artifact of the parent run: what was declared; `PLAN_FILE` says what was to be run

_LOOK_SECONDS = 0.5  # between two looks at how far the runs are


@dataclass(frozen=True)
class Planned:
    """One run of the study, and its place on disk and in the store."""

    variation: str
    data_hash: str
    child: train.Child

    @property
    def identity(self) -> tuple[str, str, str]:
        """What tells it apart within its study."""
        return self.variation, self.child.config.fingerprint, self.data_hash


@dataclass
class Work:
    """What is to be done about each run."""

    done: list[Planned] = field(default_factory=list)
    reusable: list[Planned] = field(default_factory=list)
    to_train: list[Planned] = field(default_factory=list)

    @property
    def planned(self) -> int:
        """How many there are."""
        return len(self.done) + len(self.reusable) + len(self.to_train)


def run(options: Options, make_executor: Callable[[int], Executor] | None = None) -> str:
    """Run a study; returns what to tell the user about it.

    Args:
        make_executor: makes what the runs are submitted to, for that many at a time; default: `Workers`. Anything with
            the interface of `concurrent.futures.Executor` will do, such as a cluster's, where the folder of
            `journal.state_folder` is one that its machines share.

    Raises:
        UserError: the study, the data or the store cannot be used, or some runs failed.
    """
    study = _declared(options)
    if not options.dry_run:
        train.require_tensorflow()
    hashes = _data_hashes(study, options)

    digest = study.digest(hashes)
    experiment = _experiment(options)
    folder = _folder(study, digest, experiment)
    runs = [_planned(study, variation, config, hashes, folder) for variation, config in study.runs()]
    if options.dry_run:
        found = _find(experiment, study, digest, runs, options)
        return _dry_run(experiment, study, _sorted(runs, found, options), options)

    for told in journal.set_aside_damaged(folder):
        print(told, file=sys.stderr, flush=True)
    if options.fresh:
        _set_aside(folder)
    with journal.locked(folder):
        for repaired in [known.repair() for known in journal.journals(folder)]:
            if repaired:
                print(f"{repaired}; what is missing is made once more", file=sys.stderr, flush=True)
        if experiment.id:
            _forget_deleted(folder)
        found = _find(experiment, study, digest, runs, options)
        work = _sorted(runs, found, options)
        if found.parent_finished and not (work.to_train or work.reusable or (folder / HEADER).exists()):
            return _told(_summary(study, work, {}), found.parent, study)
        parent = _parent(folder, study, options, digest, found, experiment)
        _link(work, found)
        delivery = Delivery(folder, store.tracking_uri())
        try:
            delivery.begin()
            tracking.nest(parent, [run.child.folder for run in runs])
        except BaseException as error:
            end_now(parent, *tracking.ending(error))
            if not parent.sent.run_id and len(journal.journals(folder)) == 1:
                parent.remove()  # the store refused it: there is nothing to go on with
            raise
        with delivery:
            try:
                failures = _train(work, options, make_executor or Workers)
                with contextlib.suppress(store.StoreAwayError):
                    delivery.send()  # a run that the store refuses is not done
            except BaseException as error:
                record_end(parent, *tracking.ending(error))
                raise
            summary = _summary(study, work, failures)
            run_id = parent.sent.run_id
            _end(parent, work, failures, summary)
    told = _told(summary, run_id or delivery.run_ids.get(parent.header.key), study)
    if failures:
        raise UserError(summary)
    return told


def _told(summary: str, run_id: str | None, study: Study) -> str:
    """What to tell the user, and whoever looks at a run that `mlflow run` opened beside the study's own."""
    if run_id:
        tracking.link_launched_run(run_id, study.name)
    return f"{summary}\nrun ID: {run_id or 'not known until it is delivered'}\nto see it: {tracking.ui_command()}"


def _declared(options: Options) -> Study:
    wanted = [name.strip() for name in options.filter.split(",")] if options.filter else []
    study = plan.load(options.study)
    seeds = (
        tuple(plan.Study.model_validate({**study.model_dump(), "seeds": options.seeds}).seeds) if options.seeds else ()
    )
    return study.narrowed(wanted, seeds).model_copy(update={"a_a": options.a_a or study.a_a})


def _data_hashes(study: Study, options: Options) -> dict[str, str]:
    """The hash of every data set of a study.

    Raises:
        UserError: one cannot be read, is too small for a batch, or memory does not hold what is trained at a time.
    """
    at_once = min(options.jobs or cores(), len(list(study.runs())))
    hashes = {}
    configs = list(study.configurations().values())
    for name in {config.dataset for config in configs}:
        images = train.load(name)
        for config in configs:
            if config.dataset == name:
                train.require_full_batch(config, images)
                train.require_memory(config, images, at_once)
        hashes[name] = images.sha256
    return hashes


def _planned(study: Study, variation: str, config: RunConfig, hashes: Mapping[str, str], folder: Path) -> Planned:
    data_hash = hashes[config.dataset]
    tags = {STUDY: study.name, VARIATION: variation, SEED: str(config.seed)}
    place = folder / _key([variation, config.fingerprint, data_hash])
    return Planned(variation, data_hash, train.Child(place, f"{variation} seed {config.seed}", config, tags))


def _key(parts: Sequence[str | None]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _experiment(options: Options) -> Experiment:
    """Where the runs go, as far as the store is there to be asked."""
    try:
        return tracking.experiment(make=not options.dry_run)
    except store.StoreAwayError as away:
        print(f"{away}; what has finished before is not known", file=sys.stderr, flush=True)
        return tracking.Experiment.chosen()


def _folder(study: Study, digest: str, experiment: Experiment) -> Path:
    """Where a study keeps what it says: the folder that has said so, or a new one.

    A study is known by what it runs, its store and its experiment, of which only a name may be known, or only an ID.
    """
    uri, root = redacted(store.tracking_uri()), journal.state_folder() / journal.STUDIES
    for known in journal.journals(root):
        header = known.header
        ours = (header.tags.get(STUDY), header.tags.get(PLAN), header.tracking_uri) == (study.name, digest, uri)
        if ours and experiment.is_of(header):
            return known.folder
    return root / f"{study.name}-{_key([uri, experiment.name or experiment.id, digest])}"


def _find(experiment: Experiment, study: Study, digest: str, runs: Sequence[Planned], options: Options) -> Found:

    wanted = [] if options.fresh else [run.identity for run in runs]
    with contextlib.suppress(store.StoreAwayError):
        if experiment.id:
            return tracking.find(experiment.id, study.name, digest, wanted, look_only=options.dry_run)
    return tracking.Found()


def _link(work: Work, found: Found) -> None:
    """Make the runs that stand for finished ones; where the store has just gone away, train them after all."""
    for planned in list(work.reusable):
        child = planned.child
        try:
            tracking.link(child.folder, child.name, found.elsewhere[planned.identity[1:]], child.tags)
        except store.StoreAwayError:
            work.reusable.remove(planned)
            work.to_train.append(planned)


def _sorted(runs: Sequence[Planned], found: Found, options: Options) -> Work:
    """What is to be done about each run: its journal knows best, then its study, then the experiment."""
    work = Work()
    for run in runs:
        here = _begun(run.child.folder) and not options.fresh
        finished = here and Journal(run.child.folder).status == FINISHED
        if finished or (not here and run.identity in found.finished):
            work.done.append(run)
        elif not here and run.identity[1:] in found.elsewhere and not run.variation.endswith(plan.AGAIN):
            work.reusable.append(run)
        else:
            work.to_train.append(run)
    return work


def _begun(folder: Path) -> bool:
    """Whether a run has a journal; a link that a kill left unfinished is made again."""
    if not (folder / HEADER).exists():
        return False
    known = Journal(folder)
    return REUSED_FROM not in known.header.tags or known.ending is not None


def _forget_deleted(folder: Path) -> None:
    """Have a run that was deleted in the store made anew: from its journal or, where that is not whole, by training."""
    with contextlib.suppress(store.StoreAwayError):
        for known in journal.journals(folder):
            if known.folder != folder and known.sent.run_id and tracking.is_deleted(known.sent.run_id):
                if known.header.run_id is None and (known.folder / journal.ARTIFACTS).exists():
                    known.forget_sent()
                else:
                    known.remove()


def _parent(folder: Path, study: Study, options: Options, digest: str, found: Found, experiment: Experiment) -> Journal:
    """The study's own run: what was declared and what is to be run. It goes on in the one that there is."""
    tags = {STUDY: study.name, PLAN: digest, **journal.signs_of_life()}
    known = Journal(folder) if (folder / HEADER).exists() else None
    run_id = known and known.sent.run_id
    if known and not (experiment.id and run_id and _is_deleted(run_id)):
        known.append("go_on", tags=tags)
        return known
    note = {} if found.parent else {NOTE: study.description}
    run_id = found.parent or os.environ.get(journal.LAUNCHED)
    parent = tracking.begin(folder, study.name, run_id, {**tags, **note}, experiment)
    if run_id and run_id == os.environ.get(journal.LAUNCHED):
        tracking.take_up_launched_run()
    files = {STUDY_FILE: plan.read(options.study), PLAN_FILE: study.model_dump_json(indent=2)}
    with journal.writing(folder):
        (folder / journal.ARTIFACTS).mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / journal.ARTIFACTS / name).write_text(text, encoding="utf-8")
        journal.sync_files(folder / journal.ARTIFACTS, files)
    if run_id:
        parent.mark_sent(ask=True)
        parent.append("go_on", tags=tags)
    parent.append("artifacts", paths=list(files))
    return parent


def _is_deleted(run_id: str) -> bool:

    with contextlib.suppress(store.StoreAwayError):
        return tracking.is_deleted(run_id)
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
        "deliver it with python -m pipeline.deliver",
        file=sys.stderr,
        flush=True,
    )


def _trajectories(runs: Sequence[Planned]) -> list[list[Planned]]:
    """Runs that one training can make: they differ in their epochs only. The longest come first, to end together."""
    groups: dict[tuple[str, str, str], list[Planned]] = {}
    for run in runs:
        again = run.variation if run.variation.endswith(plan.AGAIN) else ""
        alike = run.child.config.model_copy(update={"epochs": 1}).fingerprint
        groups.setdefault((again, alike, run.data_hash), []).append(run)
    return sorted(groups.values(), key=_cost, reverse=True)


def _cost(group: Sequence[Planned]) -> int:
    """Multiplications, roughly: what one trajectory takes compared with another."""
    config = max((run.child.config for run in group), key=lambda config: config.epochs)
    wide = max(config.decoder_hidden, config.encoding_dim)
    return config.epochs * wide


@dataclass
class Training:
    """A trajectory that was submitted."""

    runs: list[Planned]
    longest: Planned
    watched: Watched
    offset: int = 0

    def look(self) -> None:
        """See in the journal how far it is."""
        with contextlib.suppress(OSError, ValueError):
            for line, end in Journal(self.longest.child.folder).read(self.offset):
                self.offset = end
                if str(line.get("key", "")).startswith("metrics epoch"):
                    points = {name: value for name, value, _, _ in line["points"]}
                    self.watched.see(line["points"][0][3], points)


def _train(work: Work, options: Options, make_executor: Callable[[int], Executor]) -> dict[str, str]:
    """Train what is to be trained; returns the reasons of the runs that failed, by their names.

    Raises:
        KeyboardInterrupt, Interrupted: the runs were ended; the message says how to go on.
    """
    groups = _trajectories(work.to_train)
    done = len(work.done) + len(work.reusable)
    counts = Counts(work.planned, done, len(work.reusable))
    failures: dict[str, str] = {}
    if not groups:
        return failures
    jobs = min(options.jobs or cores(), len(groups))
    executor = make_executor(jobs)
    try:
        with StudyDisplay() as display:
            display.say(f"{counts.line}; {jobs} at a time")
            futures = {}
            for group in groups:
                longest = max(group, key=lambda run: run.child.config.epochs)
                watched = Watched(longest.child.name, longest.child.config.epochs)
                future = executor.submit(train.train_children, [run.child for run in group])
                futures[future] = Training(group, longest, watched)
            for future, training in _as_completed(futures, counts, display, jobs):
                failures |= _ended(future, training, counts, display)
    except (KeyboardInterrupt, Interrupted) as error:
        _end_in_order(executor, work)
        raise type(error)(f"interrupted; go on with: {_command(options)}") from None
    executor.shutdown()
    return failures


def _as_completed(
    futures: Mapping[Future[Any], Training], counts: Counts, display: StudyDisplay, jobs: int
) -> Iterator[tuple[Future[Any], Training]]:
    waiting = set(futures)
    while waiting:
        completed, waiting = wait(waiting, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
        cli.end_if_interrupted()
        for future in completed:
            futures[future].look()
            yield future, futures[future]
        running = [futures[future] for future in waiting if future.running()]
        for training in running:
            training.look()
        counts.running = sum(len(training.runs) for training in running)
        display.show(counts, [training.watched for training in running], jobs)


def _ended(future: Future[Any], training: Training, counts: Counts, display: StudyDisplay) -> dict[str, str]:
    """Count the runs of a trajectory, and see that those without an ending get one."""
    error = future.exception()
    failures = {}
    for run in training.runs:
        child = run.child
        if error is None:
            continue
        known = tracking.open_journal(child.folder, child.name, child.tags)
        if known.ending is None:
            record_end(known, FAILED, what_ended(error))
        ending = known.ending or {"status": FAILED, "reason": what_ended(error)}
        if ending["status"] != FINISHED:
            failures[child.name] = ending["reason"]
    counts.failed += len(failures)
    counts.finished += len(training.runs) - len(failures)
    for run in training.runs:
        if run.child.name in failures:
            display.say(f"failed: {run.child.name}: {failures[run.child.name]}")
        elif run is training.longest:
            display.say(f"finished: {run.child.name}: {training.watched.loss_text}")
        else:
            display.say(f"finished: {run.child.name}: on the way of {training.longest.child.name}")
    return failures


def _end_in_order(executor: Executor, work: Work) -> None:
    """Have the workers end their epochs; another Ctrl-C ends them at once."""
    print("ending the runs after their epoch; Ctrl-C once more ends them at once", file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt, Interrupted):
        executor.shutdown(cancel_futures=True)
    for run in work.to_train:
        if (run.child.folder / HEADER).exists():
            known = Journal(run.child.folder)
            if known.ending is None:
                record_end(known, KILLED, "interrupted before the end of an epoch")


def _summary(study: Study, work: Work, failures: Mapping[str, str]) -> str:
    planned = work.planned
    if failures:
        which = several([f"{name}: {reason}" for name, reason in failures.items()])
        failed = f"{len(failures)} of {planned} runs failed" if planned > 1 else "the run failed"
        return f"{failed} ({which}); start the study again to try once more"
    reused = f", {len(work.reusable)} of them reused from other studies or runs" if work.reusable else ""
    return f"{study.name} is finished: {planned} run{'' if planned == 1 else 's'}{reused}"


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
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if name != "fresh"]
    return " ".join(["python -m pipeline.study", *words])


def _dry_run(experiment: Experiment, study: Study, work: Work, options: Options) -> str:
    lines = [f"{study.name}: {work.planned} runs, {len(study.configurations())} variations x {len(study.seeds)} seeds"]
    for state, some in (("done", work.done), ("to reuse", work.reusable), ("to train", work.to_train)):
        lines += [f"{state}: {run.child.name}" for run in some]
    groups = _trajectories(work.to_train)
    jobs = max(1, min(options.jobs or cores(), len(groups)))
    known = [seconds for seconds in (_seconds(experiment, group) for group in groups) if not math.isnan(seconds)]
    time_left = f"estimated time: {duration(sum(known) / jobs)}"
    if len(known) < len(groups):
        missing = f"for {len(groups) - len(known)} of {len(groups)} trainings no run of that size has finished here"
        time_left = f"estimated time: unknown; {missing}"
    counted = f"{len(work.done)} done, {len(work.reusable)} to reuse, {len(work.to_train)} to train"
    trainings = f"{len(groups)} training{'' if len(groups) == 1 else 's'}"
    return "\n".join([*lines, f"{counted} in {trainings}, {jobs} at a time; {time_left}"])


def _seconds(experiment: Experiment, group: Sequence[Planned]) -> float:
    """How long a trajectory will take, as far as earlier runs tell; NaN where none does."""
    epochs = max(run.child.config.epochs for run in group)
    with contextlib.suppress(store.StoreAwayError):
        if experiment.id:
            return epochs * tracking.seconds_per_epoch(experiment.id, group[0].child.config, group[0].data_hash)
    return float("nan")
