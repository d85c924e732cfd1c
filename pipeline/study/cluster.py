"""The processes of a cluster: a study's jobs as tasks of Ray.

A task that is lost is not retried by Ray but by the study, which counts it; where it goes on, its journal says.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What Ray reads when it is imported: it tells nobody that it is used, and begins workers as they are.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
# Ray ends a program whose cluster has lost its head: later than this one has said so, and how its runs ended.
os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "600")
# Nor is it told of an attempt that failed after another one was begun.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
# A cluster that was started where there is a token wants it, and `ray.init` does not show it by itself.
if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ) or (Path.home() / ".ray" / "auth_token").exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import pipeline
from pipeline.errors import UserError, first_line
from pipeline.study.executors import END_SECONDS, Executor, LostError, cores, gpus, until_told_to_end, with_threads
from pipeline.texts import listed, quoted
from pipeline.tracking import journal, store

_LOOK_SECONDS = 0.2  # between two looks at what has ended
_CONNECT_SECONDS = 10.0  # that the head of a cluster may take to answer at all
_HEAD_SECONDS = 60.0  # without the head of a cluster, after which that is lost: Ray's machines then end their processes
_ANSWER_SECONDS = 60.0  # that a machine may take to begin a process and read a file
_HANDED_OVER = ("KERAS_", "MLFLOW_", "OMP_", "TF_", "VARIATIONS_")  # variables of the environment, by how they begin


@dataclass(frozen=True)
class _Job:
    call: Callable[..., Any]
    args: tuple[Any, ...]
    future: Future[Any]


class Ray(Executor):
    """Tasks of one processor each, on the machines of a cluster or, without an address, on this one."""

    def __init__(self, address: str = "", gpus_per_run: float = 0.0) -> None:
        self._address, self._gpus = address, gpus_per_run
        self._is_ours = False
        self._most = 0
        self._prepare: Callable[[], object]
        self._waiting: deque[_Job] = deque()
        self._made: dict[Any, _Job] = {}
        self._turn = threading.RLock()
        self._looking: threading.Thread | None = None
        self._head_seen = 0.0

    @property
    def capacity(self) -> int:
        """One for each processor of the cluster, or as many as its GPUs are enough for."""
        has = {"CPU": cores(), "GPU": len(gpus())}  # of the Ray that is to be started here, not before it is needed
        if self._address:
            self._connect()
            has = ray.cluster_resources()
        return max(1, int(min(has.get("CPU", 0), has.get("GPU", 0) / self._gpus if self._gpus else float("inf"))))

    def useful(self, jobs: int) -> int:
        """All of them: what is too many waits, for a cluster that may grow."""
        return jobs

    def on_one_machine(self, jobs: int) -> int:
        """One for each of its processors."""
        if not self._address:
            return jobs
        self._connect()
        return min(jobs, max(1, *(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])))

    def _connect(self) -> None:
        """Be a program of the cluster.

        Raises:
            UserError: there is none.
        """
        if ray.is_initialized():
            return
        before = signal.getsignal(signal.SIGTERM)
        package = str(Path(pipeline.__file__).parent)
        asked: dict[str, Any] = (
            {"address": self._address, "runtime_env": {"py_modules": [package]}}
            if self._address
            else {"address": "local", "num_cpus": cores(), "include_dashboard": False}
        )
        try:
            if ":" in self._address:  # Ray itself tries for minutes
                host, port = self._address.rsplit(":", 1)
                socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
            ray.init(**asked, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, exceptions.RayError) as error:
            raise UserError(
                f"address={quoted(self._address)} is no cluster of Ray to be used from here ({first_line(error)}); "
                "call this on one of its machines, with `auto` or HOST:PORT, or leave the address out"
            ) from None
        finally:
            if threading.current_thread() is threading.main_thread():  # Ray, too, takes it over there only
                signal.signal(signal.SIGTERM, before)
        self._is_ours = True
        self._head_seen = time.monotonic()
        # What machines say of themselves breaks into the display in spite of `log_to_driver`; Ray has no other way.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None

    def require_shared(self, folder: Path) -> None:
        """Have every machine read a file in `folder`.

        Raises:
            UserError: one of them does not find it there.
        """
        self._connect()
        token = folder / f"token-{uuid.uuid4().hex}"
        with journal.writing(folder):
            journal.make_folder(folder)
            token.write_text(token.name)
        try:
            nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
            asked = {
                _read.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                    str(token)
                ): node["NodeManagerAddress"]
                for node in nodes
            }
            silent = set(ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)[1])
            without = {asked[ref]: "it does not answer" for ref in silent}
            for ref, address in asked.items():
                if ref not in silent:
                    with suppress(exceptions.RayError):
                        if ray.get(ref) == token.name:
                            continue
                    without[address] = "it is not there"
        finally:
            token.unlink()
        if without:
            raise UserError(
                f"{folder} is not one folder for all machines: {listed(f'{a} ({why})' for a, why in without.items())}; "
                "set VARIATIONS_STATE to a folder that they share, where runs keep what another machine goes on with"
            )

    def start(self, jobs: int, prepare: Callable[[], object]) -> None:
        """See `Executor`; the processes are Ray's."""
        self._connect()
        self._most, self._prepare = jobs, prepare
        if self._looking is None:
            self._looking = threading.Thread(target=self._keep_looking, daemon=True)
            self._looking.start()

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """See `Executor`."""
        job = _Job(call, args, Future())
        with self._turn:
            self._waiting.append(job)
            self._begin_waiting()
        return job.future

    def _begin_waiting(self) -> None:
        while self._waiting and len(self._made) < self._most:
            job = self._waiting.popleft()
            task = _make.options(num_gpus=self._gpus)
            self._made[task.remote(_surroundings(), self._prepare, job.call, job.args)] = job

    def _keep_looking(self) -> None:
        try:
            while self._most:
                self._look()
        except Exception as error:  # whatever it is by which Ray says that the head of the cluster is gone
            with self._turn:
                lost = [*self._made.values(), *self._waiting]
                self._made.clear()
                self._waiting.clear()
            again = "start the study again on another, and it goes on"
            for job in lost:
                job.future.set_exception(LostError(f"the cluster was lost ({first_line(error)}); {again}"))

    def _require_head(self) -> None:
        """Raise an error where the head has been away for too long: Ray itself would end the program, in no order."""
        away = time.monotonic() - self._head_seen
        if away < _CONNECT_SECONDS:
            return
        host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
            self._head_seen = time.monotonic()
        except OSError:
            if away > _HEAD_SECONDS:
                raise

    def _look(self) -> None:
        self._require_head()
        with self._turn:
            made = list(self._made)
        if not made:
            time.sleep(_LOOK_SECONDS)
            return
        for ref in ray.wait(made, timeout=_LOOK_SECONDS)[0]:
            error = _error_of(ref)
            with self._turn:
                job = self._made.pop(ref, None)
                self._begin_waiting()
            if job and error:
                job.future.set_exception(error)
            elif job:
                job.future.set_result(None)

    def give_up(self, job: Future[Any]) -> None:
        """Kill the process that makes it, where the machine can be reached."""
        with self._turn:
            for ref in [ref for ref, made in self._made.items() if made.future is job]:
                del self._made[ref]
                ray.cancel(ref, force=True)
                job.cancel()
            self._begin_waiting()

    def interrupt(self) -> None:
        """See `Executor`."""
        with self._turn:
            self._waiting.clear()
            made = list(self._made)
        try:
            for ref in made:
                ray.cancel(ref, force=False)
            made = ray.wait(made, num_returns=len(made), timeout=END_SECONDS)[1] if made else []
        finally:
            for ref in made:
                ray.cancel(ref, force=True)
            self.close()

    def close(self) -> None:
        """Leave the cluster, where this program was not there before."""
        self._most = 0
        if self._looking:
            self._looking.join()  # Ray ends a process that asks it after the shutdown
            self._looking = None
        if self._is_ours:
            ray.shutdown()
            self._is_ours = False

    def reason(self, error: BaseException) -> str:
        """Of a process or a machine that was lost, that it was."""
        if isinstance(error, exceptions.OutOfMemoryError):
            return "its process was ended, for its machine was out of memory"
        if isinstance(error, (exceptions.NodeDiedError, exceptions.LocalRayletDiedError)):
            return "its machine was lost"
        if isinstance(error, exceptions.WorkerCrashedError):
            return "its process was killed, or its machine was lost"
        return super().reason(error)


def _error_of(ref: Any) -> BaseException | None:
    """How a task ended that did not return: its own error, or Ray's."""
    try:
        ray.get(ref)
    except exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, BaseException) else error
    except exceptions.RayError as error:
        return error
    return None


def _surroundings() -> tuple[str, Mapping[str, str]]:
    """The working directory, and what of the environment a job goes by."""
    handed_over = {name: value for name, value in os.environ.items() if name.startswith(_HANDED_OVER)}
    folders = {"MLFLOW_TRACKING_URI": store.tracking_uri(), "VARIATIONS_STATE": str(journal.state_folder())}
    return os.getcwd(), {**handed_over, **folders}


@ray.remote(num_cpus=1, max_retries=0, max_calls=0)
def _make(
    surroundings: tuple[str, Mapping[str, str]],
    prepare: Callable[[], object],
    call: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    folder, environment = surroundings
    os.environ.update({**with_threads(1), **environment})
    with suppress(OSError):  # another machine may not have it, nor need it
        os.chdir(folder)
    prepare()
    with _waking():
        until_told_to_end(call, *args)


@contextmanager
def _waking() -> Iterator[None]:
    """Be woken by Ray's interruption: it sends no signal, but says that one came, which no wait for a process hears."""
    hears, says = socket.socketpair()  # which Python writes the number of a signal to
    says.setblocking(False)

    def wake() -> None:
        if hears.recv(1):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    before = signal.set_wakeup_fd(says.fileno(), warn_on_full_buffer=False)
    waking = threading.Thread(target=wake, daemon=True)
    waking.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        says.close()
        waking.join()
        hears.close()


@ray.remote(num_cpus=0, max_retries=0)
def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text()
    return ""
