"""One run of a project: made in the store by the study, given to MLflow to be run, and ended with what came of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import mlflow
import psutil
from mlflow.exceptions import ExecutionException

from pipeline import progress
from pipeline.errors import UserError, first_line
from pipeline.project.source import require_unchanged
from pipeline.project.task import ProjectConfig
from pipeline.task import Child
from pipeline.texts import redacted
from pipeline.tracking import journal, mlflow_compat, store
from pipeline.tracking import runs as tracking
from pipeline.tracking.journal import Journal
from pipeline.tracking.names import (
    FINGERPRINT,
    GIT_DIRTY,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)
from pipeline.tracking.runs import TrackedRun

OUTPUT = "output.log"  # artifact: what a run has printed

_ENV_ROOT = "MLFLOW_ENV_ROOT"  # MLflow's: where it makes environments
_MAKING = "making"  # file beside environments while one is made: the names of those that are whole
_PREPARING_SECONDS = 3600.0  # that another study may take to make one
_JOURNAL = "VARIATIONS_JOURNAL"  # in the environment of what a run has started: the folder of its journal
_LAST_LINES = 2  # of the output, in the reason of a failure
_MAKING_SECONDS = 300.0  # that a store may take to make a run
_LOOK_SECONDS = 3.0  # between two looks at what a run has logged
_END_SECONDS = 10.0  # that what a run has started may take to end


class ProjectFailedError(Exception):
    """A project's command has ended with another exit code than 0."""


def require_surroundings() -> None:
    """See `pipeline.task.Program`."""


def data_hashes(configs: Sequence[ProjectConfig]) -> dict[str, str]:
    """Nobody knows what a project reads."""
    return dict.fromkeys((config.data for config in configs), "")


def fitting(configs: Sequence[ProjectConfig], at_once: int) -> int:
    """Nobody knows what a project takes."""
    return at_once


def prepare(config: ProjectConfig) -> None:
    """Make the project's environment, where it is to have one of its own.

    Raises:
        UserError: it cannot be made.
    """
    if config.env_manager == "local":
        return
    root = _environments()
    making = root / _MAKING
    with journal.locked(root, _PREPARING_SECONDS), tempfile.TemporaryDirectory() as folder:
        journal.make_folder(root)
        end_leftovers(root)  # of a program that was killed here
        if making.exists():  # so it was killed, or it failed: MLflow would take what it has left for whole
            whole = making.read_text().splitlines()
            for half in (each for each in root.iterdir() if each.is_dir() and each.name not in whole):
                shutil.rmtree(half)
        journal.replace_file(making, "\n".join(each.name for each in root.iterdir()))
        nothing = Path(folder) / "nothing.sh"
        nothing.touch()  # MLflow makes the environment before it runs a command, whatever that is
        asked = f"{config.folder!r}, {str(nothing)!r}, env_manager={config.env_manager or None!r}"
        code = f"import mlflow; mlflow.projects.run({asked})"
        store_of_nothing = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/nothing.db"}
        env = {**os.environ, **store_of_nothing, _ENV_ROOT: str(root), _JOURNAL: str(root)}
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            env.pop(name, None)
        try:
            made = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=folder)
        finally:
            end_leftovers(root)
        if made.returncode:
            raise UserError(f"the environment of {config.project.uri} cannot be made: {_end_of(made.stderr)}")
        making.unlink()


def _environments() -> Path:
    """Where they lie: not among MLflow's own, for what was killed while it made one is deleted here."""
    return journal.state_folder() / "environments"


def start_worker() -> None:
    """See `pipeline.task.Program`."""
    import mlflow.projects  # noqa: F401 # before the first run asks for it


def train_children(children: Sequence[Child]) -> None:
    """Make a run of a project, in a process of its own; how it ended is in its journal.

    Raises:
        ProjectFailedError: its command has failed.
        UserError: its files have changed, or the store has not made the run.
    """
    (child,) = children  # no two are alike
    with tracking.journal_of(child, _provenance(child.config)) as known:
        run = TrackedRun(child.config, known)
        try:
            require_unchanged(child.config.project, child.config.folder)
            _run(child, run)
            run.finish()
        except BaseException as error:
            run.end(error)
            raise


def _run(child: Child, run: TrackedRun[ProjectConfig]) -> None:
    config, output = child.config, child.folder / journal.ARTIFACTS / OUTPUT
    uri = journal.absolute(store.tracking_uri())
    mlflow.set_tracking_uri(uri)
    run_id = _made(run.journal)
    output.parent.mkdir(exist_ok=True)
    over = threading.Event()
    looking = threading.Thread(target=_keep_looking, args=(child.folder, run_id, over), daemon=True)
    looking.start()
    surroundings = {_JOURNAL: str(child.folder)}
    if config.env_manager != "local":
        surroundings[_ENV_ROOT] = str(_environments())
    try:
        with _printing_to(output), _within(surroundings):
            mlflow.projects.run(
                config.folder,
                config.project.entry_point,
                parameters={name: str(value) for name, value in config.logged.items()},
                env_manager=config.env_manager or None,
                run_id=run_id,
            )
    except ExecutionException as error:
        raise ProjectFailedError(_end_of(output.read_text(errors="replace")) or first_line(error)) from None
    finally:
        over.set()
        end_leftovers(child.folder)
        looking.join(_LOOK_SECONDS)
        run.log_files([OUTPUT])
        # Behind what the project has logged itself: MLflow refuses another text for the same value.
        run.log_params(config.logged)


def _made(known: Journal) -> str:
    """The ID of the run, which the study's own delivery makes in the store.

    Raises:
        UserError: it does not within some minutes.
    """
    give_up = time.monotonic() + _MAKING_SECONDS
    while not (run_id := known.sent.run_id):
        if time.monotonic() > give_up:
            raise UserError("the tracking store has not made the run: a project cannot run without it")
        time.sleep(0.1)
    return run_id


def _provenance(config: ProjectConfig) -> dict[str, str]:
    """The tags that `mlflow run` gives to a run of a project."""
    project, who = config.project, mlflow_compat.resolve_tags()
    tags = {
        **{name: who[name] for name in (MLFLOW_USER,) if name in who},
        FINGERPRINT: config.fingerprints[0],
        MLFLOW_SOURCE_NAME: project.uri,
        MLFLOW_SOURCE_TYPE: "PROJECT",
        MLFLOW_PROJECT_ENTRY_POINT: project.entry_point,
    }
    known = {MLFLOW_GIT_COMMIT: project.commit, GIT_DIRTY: str(project.changed).lower()}
    return {**tags, **known} if project.commit else tags


@contextmanager
def _within(environment: Mapping[str, str]) -> Iterator[None]:
    """Have what this process starts meanwhile see these variables, too."""
    before = {name: os.environ.pop(name, None) for name in environment}
    os.environ |= environment
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


@contextmanager
def _printing_to(file: Path) -> Iterator[None]:
    """Have this process, and those that it starts meanwhile, print to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    with file.open("wb") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, before in zip((1, 2), kept, strict=True):
            os.dup2(before, stream)
            os.close(before)


def _end_of(output: str) -> str:
    """The last lines of what was printed, without what MLflow says of itself."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    own = [line for line in lines if " mlflow.projects" not in line and line.strip("^~ ")]
    return redacted(" / ".join(own[-_LAST_LINES:]))


def _keep_looking(folder: Path, run_id: str, over: threading.Event) -> None:
    """Note what a run has logged so far, and at last, for whoever shows it."""
    client, is_over = mlflow.MlflowClient(), False
    while not is_over:
        is_over = over.wait(_LOOK_SECONDS)
        with contextlib.suppress(Exception):  # it is a look, no more
            last = mlflow_compat.last_metrics(client.get_run(run_id))
            progress.note(folder, max((each.step for each in last), default=0), {each.key: each.value for each in last})


def end_leftovers(folder: Path) -> None:
    """End what runs with journals in a folder have started: a process that is killed takes nothing along."""
    found = [process for process in psutil.process_iter() if _is_of(process, folder)]
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(found, timeout=_END_SECONDS)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _is_of(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        of = process.environ().get(_JOURNAL)
        return process.pid != os.getpid() and of is not None and Path(of).is_relative_to(folder)
    return False
