"""What makes the runs of a study: the processes of this machine; `cluster` has those of others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import pebble

from pipeline import cli
from pipeline.errors import Interrupted, UserError, first_line
from pipeline.task import DATA

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # Linux, cgroup v2: microseconds of processors in so many microseconds
_DEVICES = Path("/dev")  # where Linux has a file for each GPU
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")  # what else than ours goes by, such as OpenBLAS and XGBoost
END_SECONDS = 60.0  # that a worker may take to end its epoch


class LostError(UserError):
    """What makes the runs is gone as a whole: no more can be made."""


class Executor(ABC):
    """Makes the jobs of a study, several at a time, each in a process that has one core for it.

    What is submitted is a function of a module with arguments that can be pickled. It returns nothing: its runs are in
    the folders of their journals, which must be the same folders there.
    """

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many jobs it makes at a time, where nobody says how many."""

    def useful(self, jobs: int) -> int:
        """How many of so many jobs at a time, each of which keeps a core busy, end sooner for it."""
        return jobs if gpus() else min(jobs, self.capacity)  # a core may wait for a GPU

    def on_one_machine(self, jobs: int) -> int:
        """How many of so many jobs at a time this machine, or one like it, makes."""
        return jobs

    def require_shared(self, folder: Path) -> None:  # noqa: B027 # nor anybody to share it with
        """Raise a UserError where a process that makes runs may not find the folder of their journals."""

    def warm_up(self, imports: str, data: str) -> None:  # noqa: B027 # there may be nothing to do
        """Begin early what jobs need.

        Args:
            imports: `Task.imports`.
            data: what most of them are trained on, as `Configuration.data` calls it.
        """

    @abstractmethod
    def start(self, jobs: int, prepare: Callable[[], object]) -> None:
        """Have so many processes, each of which calls `prepare` before its first job; those that are there stay."""

    @abstractmethod
    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Have a job made by the next process that is free."""

    @abstractmethod
    def give_up(self, job: Future[Any]) -> None:
        """End a job at once, as one that hangs; its future has an error then."""

    @abstractmethod
    def interrupt(self) -> None:
        """Have all jobs end after their epoch, and the processes, too; returns when they have ended.

        Raises:
            KeyboardInterrupt, Interrupted: it was interrupted once more, and has ended them at once.
        """

    @abstractmethod
    def close(self) -> None:
        """End the processes when they have done everything."""

    def reason(self, error: BaseException) -> str:
        """How a job ended that did not return, for a person."""
        return f"{type(error).__name__}: {first_line(error)}"


class Workers(Executor):
    """Processes of this machine that are prepared once and do one job after another.

    Where one is killed, the others go on, and another takes its place: the standard library's pool would break.
    """

    def __init__(self, fork: bool = False) -> None:
        """The processes begin anew, or `fork` from one that has done their imports for all of them.

        That one is the program's only one, with the environment that there is when it starts: for a program of ours.
        """
        self._method = "forkserver" if fork and sys.platform == "linux" else "spawn"
        self._processes: list[BaseProcess] = []
        self._jobs = 0
        self._pool: pebble.ProcessPool

    @property
    def capacity(self) -> int:
        """One for each core."""
        return cores()

    def warm_up(self, imports: str, data: str) -> None:
        """Start the process that the others fork from."""
        if self._method == "forkserver":
            forkserver.set_forkserver_preload(["pipeline.study.forked", imports])
            try:
                with suppress(ValueError):  # no name of data: the study says so
                    os.environ[DATA] = data
                forkserver.ensure_running()
            finally:
                os.environ.pop(DATA, None)

    def start(self, jobs: int, prepare: Callable[[], object]) -> None:
        """See `Executor`."""
        if self._jobs >= jobs:
            return
        self.close()
        self._jobs = jobs
        pebble.CONSTS.term_timeout = END_SECONDS
        context = _Remembering(self._method, self._processes)
        self._pool = pebble.ProcessPool(
            max_workers=jobs,
            initializer=_begin_worker,
            initargs=(with_threads(max(1, cores() // jobs)), gpus(), context.Value("i", 0), prepare),
            context=context,
        )

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """See `Executor`."""
        return self._pool.schedule(until_told_to_end, (call, *args))

    def give_up(self, job: Future[Any]) -> None:
        """Kill the process that makes it."""
        job.cancel()

    def interrupt(self) -> None:
        """See `Executor`."""
        try:
            for worker in filter(BaseProcess.is_alive, self._processes):  # not those that could not be started, either
                worker.terminate()
            self._pool.stop()
            self._pool.join()
        except (KeyboardInterrupt, Interrupted):
            for worker in filter(BaseProcess.is_alive, self._processes):
                worker.kill()
            raise
        finally:
            self._jobs = 0

    def close(self) -> None:
        """See `Executor`."""
        if self._jobs:
            self._pool.close()
            self._pool.join()
        self._jobs = 0

    def reason(self, error: BaseException) -> str:
        """Of a process that was killed, by what."""
        if not isinstance(error, pebble.ProcessExpired):
            return super().reason(error)
        number = -(error.exitcode or 0)
        how = f"killed by {signal.Signals(number).name}" if number > 0 else f"gone with exit code {error.exitcode}"
        return f"its process was {how}" + ("; out of memory, perhaps" if number == signal.SIGKILL else "")


def chosen(name: str, address: str, gpus_per_run: float, fork: bool) -> Executor:
    """The executor that options name.

    Args:
        fork: see `Workers`.

    Raises:
        UserError: it is not installed.
    """
    if name == "local":
        return Workers(fork)
    cli.require_installed("ray", "ray")
    from pipeline.study.cluster import Ray

    return Ray(address, gpus_per_run)


class _Remembering:
    """A context of multiprocessing that remembers its processes: the host program may have others of its own."""

    def __init__(self, method: str, processes: list[BaseProcess]) -> None:
        self._context: Any = multiprocessing.get_context(method)
        self._processes = processes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Process(self, *args: Any, **kwargs: Any) -> BaseProcess:  # noqa: N802
        self._processes.append(self._context.Process(*args, **kwargs))
        return self._processes[-1]


def _begin_worker(
    environment: Mapping[str, str], gpus: Sequence[str], begun: Synchronized[int], prepare: Callable[[], object]
) -> None:
    os.environ.clear()  # that of a process from which this one has forked may be of before
    os.environ.update(environment)
    if len(gpus) > 1:  # in turns
        with begun.get_lock():
            begun.value += 1
            os.environ[_VISIBLE] = gpus[begun.value % len(gpus)]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # whose terminal is closed, the study tells its workers to end
    prepare()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def until_told_to_end(call: Callable[..., Any], *args: Any) -> Any:
    """Told to end (SIGTERM, or Ray's SIGINT), a process says so in the journals of its runs, and is gone."""
    before = {number: signal.signal(number, cli.interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return call(*args)
    except (KeyboardInterrupt, Interrupted):
        os._exit(cli.INTERRUPTED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def with_threads(number: int) -> dict[str, str]:
    """The environment, in which programs that say no number themselves take so many threads, if it has none yet."""
    return {**dict.fromkeys(_THREADS, str(number)), **os.environ}


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA calls them."""
    if _VISIBLE in os.environ:
        return [name for name in os.environ[_VISIBLE].split(",") if name]
    return [path.name.removeprefix("nvidia") for path in sorted(_DEVICES.glob("nvidia[0-9]*"))]


def cores() -> int:
    """How many this process may use, by its affinity and by the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # there is no such file, or it says `max`
        quota, period = map(int, _QUOTA.read_text().split())
        return max(1, min(allowed, -(-quota // period)))  # a part of one is worth a process, too
    return allowed
