"""What the runs of a study are submitted to."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pebble

from pipeline import cli
from pipeline.errors import Interrupted, first_line

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # Linux, cgroup v2: microseconds of processors in so many microseconds
_END_SECONDS = 60.0  # that a worker may take to end its epoch


class Workers(Executor):
    """Processes that are prepared once and do one job after another.

    Where one is killed, the others go on, and another takes its place: the standard library's pool would break.
    """

    def __init__(self, jobs: int, begin: Callable[[], object]) -> None:
        """So many processes, each prepared by `begin`."""
        pebble.CONSTS.term_timeout = _END_SECONDS
        self._processes: list[BaseProcess] = []
        self._pool = pebble.ProcessPool(
            max_workers=jobs,
            initializer=_begin_worker,
            initargs=(os.getpid(), begin),
            context=_Context(self._processes),
        )

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have `call` run by the next worker that is free."""
        return self._pool.schedule(_until_told_to_end, (call, *args), kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers: when they have done everything or have ended their epoch; when interrupted, at once."""
        try:
            if cancel_futures:
                for worker in self._processes:
                    worker.terminate()
                self._pool.stop()
            else:
                self._pool.close()
            if wait:
                self._pool.join()
        except (KeyboardInterrupt, Interrupted):
            for worker in self._processes:
                worker.kill()
            raise


class _Context(SpawnContext):
    """Starts processes that are new, and remembers them: the host program may have others of its own."""

    def __init__(self, processes: list[BaseProcess]) -> None:
        super().__init__()
        self._processes = processes

    def Process(self, *args: Any, **kwargs: Any) -> BaseProcess:  # type: ignore[override]  # noqa: N802
        self._processes.append(SpawnProcess(*args, **kwargs))
        return self._processes[-1]


def _begin_worker(parent: int, begin: Callable[[], object]) -> None:
    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # whose terminal is closed, the study tells its workers to end
    begin()


def _until_told_to_end(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Told to end (SIGTERM), a worker says so in the journals of its runs, and is gone."""
    before = signal.signal(signal.SIGTERM, cli.interrupt)
    try:
        return call(*args, **kwargs)
    except Interrupted:
        os._exit(cli.INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def what_ended(error: BaseException) -> str:
    """How a call ended that did not return, for a person."""
    if isinstance(error, pebble.ProcessExpired):
        number = -(error.exitcode or 0)
        how = f"killed by {signal.Signals(number).name}" if number > 0 else f"gone with exit code {error.exitcode}"
        return f"its process was {how}" + ("; out of memory, perhaps" if number == signal.SIGKILL else "")
    return f"{type(error).__name__}: {first_line(error)}"


def cores() -> int:
    """How many this process may use, by its affinity and by the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # there is no such file, or it says `max`
        quota, period = map(int, _QUOTA.read_text().split())
        return max(1, min(allowed, quota // period))
    return allowed
