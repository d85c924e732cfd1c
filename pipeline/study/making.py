"""The runs of a study as they are made: submitted, watched, started again where they fail, and ended."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlflow.entities import Run as MlflowRun

from pipeline import cli, progress
from pipeline.errors import Interrupted, UserError
from pipeline.progress import Counts, StudyDisplay, Watched, duration
from pipeline.study import plan
from pipeline.study.executors import Executor, LostError
from pipeline.study.plan import Study
from pipeline.task import Child, Task
from pipeline.texts import several
from pipeline.tracking import runs as tracking
from pipeline.tracking.delivery import record_end
from pipeline.tracking.journal import FAILED, FINISHED, HEADER, KILLED, Journal, claim, is_locked
from pipeline.tracking.names import ATTEMPT, REUSED_FROM
from pipeline.tracking.search import Found, Identity

_LOOK_SECONDS = 0.5  # between two looks at how far the runs are
_LONGEST_LOOK = 5.0  # of which so much counts, for whoever suspends a study suspends its runs, too
_HANGS_AFTER = 10  # times as long as any run's epoch has taken: then a run that says nothing is taken for hanging,
_SLOW_SECONDS = 300.0  # but not before, for what is measured at its end takes its time, too;
_FIRST_SECONDS = 3600.0  # and while no epoch has ended at all
_GONE_SECONDS = 60.0  # that a job may be neither at work nor ended: a cluster may not notice that it lost a machine


class HangingError(Exception):
    """A run has said nothing for so long that it is taken for hanging, and was ended."""


class GoneError(Exception):
    """The process that made a run is gone, and its engine has not said so."""


class StoppedError(UserError):
    """So many runs failed one after the other that no more are made."""


@dataclass(frozen=True)
class Planned:
    """One run of the study, and its place on disk and in the store."""

    variation: str
    data_hash: str
    child: Child

    @property
    def latest(self) -> Planned:
        """The attempt that is finished, or else the next one: a run that cannot go on is made anew, as another run."""
        planned = self
        while begun(planned.child.folder) and Journal(planned.child.folder).status != FINISHED:
            child = planned.child
            attempt = int(child.tags.get(ATTEMPT, "1")) + 1
            folder = child.folder.with_name(f"{child.folder.name.partition('-')[0]}-{attempt}")
            planned = replace(planned, child=replace(child, folder=folder, tags={**child.tags, ATTEMPT: str(attempt)}))
        return planned

    @property
    def identities(self) -> list[Identity]:
        """What tells it apart within its study, now and in versions before."""
        return [(self.variation, each, self.data_hash) for each in self.child.config.fingerprints]

    def finished_in(self, found: Found) -> MlflowRun | None:
        """The finished run that its study has of it."""
        return next((found.finished[each] for each in self.identities if each in found.finished), None)

    def stands_in_for_it(self, found: Found) -> MlflowRun | None:
        """A finished run that the study can reuse for it."""
        pairs = [(fingerprint, data) for _, fingerprint, data in self.identities]
        return next((found.elsewhere[pair] for pair in pairs if pair in found.elsewhere), None)


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


def begun(folder: Path) -> bool:
    """Whether a run has a journal; a link that a kill left unfinished is made again."""
    if not (folder / HEADER).exists():
        return False
    known = Journal(folder)
    return REUSED_FROM not in known.header.tags or known.ending is not None


def jobs_of(runs: Sequence[Planned], task: Task) -> list[list[Planned]]:
    """Runs that one job makes together, the longest of them first; the longest jobs come first, to end together."""
    groups: dict[Hashable, list[Planned]] = {}
    for run in sorted(runs, key=lambda run: task.steps(run.child.config), reverse=True):
        again = run.variation if run.variation.endswith(plan.AGAIN) else ""
        groups.setdefault((again, task.alike(run.child.config), run.data_hash), []).append(run)
    return sorted(groups.values(), key=lambda group: task.cost(group[0].child.config), reverse=True)


@dataclass
class _Job:
    """A trajectory that was submitted."""

    runs: list[Planned]
    watched: Watched
    attempt: int = 1
    offset: int = 0
    silent_for: float = 0.0  # seconds
    gone_for: float | None = None  # seconds; None = it has not begun

    @property
    def longest(self) -> Planned:
        """The others are what it was on its way."""
        return self.runs[0]

    @property
    def has_begun(self) -> bool:
        """As its journal says: of what waits elsewhere, an engine's own word is not always true."""
        folder = self.longest.child.folder
        return (folder / HEADER).exists() and is_locked(folder)

    def poll(self, seconds: float = 0.0) -> float:
        """See in the journal how far it is; returns how long it has taken for an epoch, 0 where none has ended.

        Args:
            seconds: since the last time.
        """
        folder, took = self.longest.child.folder, 0.0
        self.silent_for += seconds
        with contextlib.suppress(OSError, ValueError):
            for line, end in Journal(folder).read(self.offset):
                self.offset = end
                if str(line.get("key", "")).startswith("metrics epoch"):
                    points = {name: value for name, value, _, _ in line["points"]}
                    self.watched.update(line["points"][0][3], points)
                    took = max(took, self.silent_for)
                self.silent_for = 0.0
            if noted := progress.noted(folder):
                self.watched.update(*noted)
        return took

    def disown(self) -> None:
        """Have nobody write its journals who does so now: where a machine was cut off, its processes may live."""
        for run in self.runs:
            claim(run.child.folder)


class Making:
    """Makes runs, as many at a time as there are workers.

    Attributes:
        failures: the reasons of the runs that have failed, by their names.
    """

    def __init__(self, study: Study, runs: Sequence[Planned], counts: Counts, executor: Executor) -> None:
        self.failures: dict[str, str] = {}
        self._study, self._counts, self._executor = study, counts, executor
        self._program = study.task.program
        self._groups = jobs_of(runs, study.task)
        self._jobs: dict[Future[Any], _Job] = {}
        self._in_a_row: list[Planned] = []
        self._slowest = 0.0  # epoch of any run, in seconds

    def make(self, at_once: int) -> None:
        """Make all of them.

        Raises:
            KeyboardInterrupt, Interrupted, StoppedError, LostError: the others were ended.
            UserError: what they share cannot be made.
        """
        if not self._groups:
            return
        self._program.prepare(self._groups[0][0].child.config)
        jobs = min(at_once, len(self._groups))
        self._executor.start(jobs, self._program.start_worker)
        try:
            with StudyDisplay() as display:
                display.say(f"{self._counts.line}; {jobs} at a time")
                for group in self._groups:
                    self._submit(group)
                for job, error in self._as_completed(display, jobs):
                    self._ended(job, error, display)
        except BaseException as error:
            self._end_in_order("Ctrl-C once more" if isinstance(error, (KeyboardInterrupt, Interrupted)) else "Ctrl-C")
            raise

    def _submit(self, runs: list[Planned], attempt: int = 1) -> None:
        longest = runs[0].child
        children = [replace(run.child, writer=claim(run.child.folder)) for run in runs]
        future = self._executor.submit(self._program.train_children, children)
        self._jobs[future] = _Job(runs, Watched(longest.name, self._study.task.steps(longest.config)), attempt)

    def _as_completed(self, display: StudyDisplay, jobs: int) -> Iterator[tuple[_Job, BaseException | None]]:
        looked = time.monotonic()
        while self._jobs:
            completed, _ = wait(self._jobs, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
            cli.end_if_interrupted()
            for future in completed:
                error = future.exception()
                if isinstance(error, LostError):
                    raise error
                job = self._jobs.pop(future)
                job.poll()
                yield job, error
            running: list[_Job] = []
            seconds, looked = min(time.monotonic() - looked, _LONGEST_LOOK), time.monotonic()
            for job in self._jobs.values():
                if job.has_begun:
                    running.append(job)
                    self._slowest = max(self._slowest, job.poll(seconds))
                    job.gone_for = 0.0
                elif job.gone_for is not None:
                    job.gone_for += seconds
            for future, job, error in self._lost():
                job.disown()
                del self._jobs[future]
                self._executor.give_up(future)
                yield job, error
            self._counts.running = sum(len(job.runs) for job in running)
            display.show(self._counts, [job.watched for job in running], jobs)

    def _lost(self) -> list[tuple[Future[Any], _Job, Exception]]:
        """Jobs whose process is gone, or has said nothing for far too long, where it is known how many steps it has."""
        patience = max(_SLOW_SECONDS, _HANGS_AFTER * self._slowest) if self._slowest else _FIRST_SECONDS
        lost: list[tuple[Future[Any], _Job, Exception]] = []
        for future, job in self._jobs.items():
            if (job.gone_for or 0.0) > _GONE_SECONDS:
                lost.append((future, job, GoneError("its process is gone, or its machine was lost")))
            elif job.silent_for > patience and self._study.task.steps(job.longest.child.config) > 0:
                told = f"it has said nothing for {duration(job.silent_for)}, and was ended"
                lost.append((future, job, HangingError(told)))
        return lost

    def _ended(self, job: _Job, error: BaseException | None, display: StudyDisplay) -> None:
        """Count the runs of a job, or start it again; see that those without an ending get one."""
        failures: dict[str, str] = {}
        if error is not None:
            job.disown()
            self._program.end_leftovers(job.longest.child.folder)
            failures = {run.child.name: reason for run in job.runs if (reason := self._why(run, error))}
        failed = [run for run in job.runs if run.child.name in failures]
        again = bool(failed) and job.attempt <= self._study.retries and not isinstance(error, UserError)
        self._counts.finished += len(job.runs) - len(failed)
        for run in job.runs:
            if run in failed:
                more = "; it is started again" if again else ""
                display.say(f"failed: {run.child.name}: {failures[run.child.name]}{more}")
            elif run is job.longest:
                display.say(f"finished: {run.child.name}: {job.watched.loss_text}".rstrip(": "))
            else:
                display.say(f"finished: {run.child.name} (taken from the training of {job.longest.child.name})")
        if again:
            self._submit([self._anew(run, job.attempt + 1) for run in failed], job.attempt + 1)
            return
        self._in_a_row = [*self._in_a_row, *failed] if failed == job.runs else failed
        self.failures |= failures
        self._counts.failed += len(failed)
        if len(self._in_a_row) >= self._study.stop_after and self._jobs:
            raise StoppedError(
                f"{len(self._in_a_row)} runs in a row have failed, and no more are made: "
                f"{_in_common(self._in_a_row, self.failures, self._study)}"
            )

    def _why(self, run: Planned, error: BaseException) -> str:
        """The reason of a run that has failed, in its journal, too, when this returns; empty where it has finished."""
        child = run.child
        known = tracking.open_journal(child.folder, child.name, child.tags)
        if known.ending is None:
            record_end(known, FAILED, self._executor.reason(error))
        ending = known.ending or {"status": FAILED, "reason": self._executor.reason(error)}
        return "" if ending["status"] == FINISHED else str(ending["reason"])

    def _anew(self, run: Planned, attempt: int) -> Planned:
        if not self._study.task.goes_on:
            return run.latest
        Journal(run.child.folder).append("tags", tags={ATTEMPT: str(attempt)})
        return run

    def _end_in_order(self, at_once: str) -> None:
        """Have the workers end their epochs; a Ctrl-C from now on ends them at once.

        Args:
            at_once: what that is to the user.
        """
        print(f"ending the runs after their epoch; {at_once} ends them at once", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt, Interrupted):
            self._executor.interrupt()
        for runs in (*self._groups, *(job.runs for job in self._jobs.values())):
            for run in runs:
                if (run.child.folder / HEADER).exists():
                    claim(run.child.folder)
                    self._program.end_leftovers(run.child.folder)
                    known = Journal(run.child.folder)
                    if known.ending is None:
                        record_end(known, KILLED, "interrupted before the end of an epoch")


def _in_common(failed: Sequence[Planned], reasons: Mapping[str, str], study: Study) -> str:
    """What runs that failed have in common: their reason, and parameters in which the study's runs differ."""
    texts = list(dict.fromkeys(reasons.get(run.child.name, "") for run in failed))
    configs = [config.params for _, config in study.runs()]
    shared = []
    for name, value in failed[0].child.config.params.items():
        alike = {str(run.child.config.params[name]) for run in failed} == {str(value)}
        if alike and len({str(params[name]) for params in configs}) > 1:
            shared.append(f"{name}={value}")
    return f"{several(texts)}; all of them have {', '.join(shared)}" if shared else several(texts)
