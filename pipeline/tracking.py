"""The only file that talks to MLflow: it writes runs and reads them back as one frame.

Where the runs lie is MLflow's own decision: `MLFLOW_TRACKING_URI`, or `mlflow.db` in the working directory;
the experiment is `MLFLOW_EXPERIMENT_NAME`, or the one that `mlflow run` chose.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import sqlite3
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stdout, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
import pandas as pd
from mlflow.data import numpy_dataset
from mlflow.entities import Metric, ViewType
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.utils import name_utils
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.rest_utils import http_request
from mlflow.utils.uri import is_local_uri
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from pipeline.config import (
    DATA_HASH,
    FAILURE,
    FINGERPRINT,
    GIT_DIRTY,
    LOCK_HASH,
    USED_LEARNING_RATE,
    Interrupted,
    RunConfig,
    UserError,
    first_line,
)

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from pipeline.dataset import Images

ROOT = Path(__file__).parents[1]
CONFIG_FILE = "config.json"
MODEL = "model"

_FLUSH_SECONDS = 2.0  # how long per-epoch metrics may wait: a commit per epoch would slow short epochs down
_WHAT_MAKES_A_RUN = ("pipeline", "MLproject", "conda.yaml", "requirements.txt")
_ANSWER_SECONDS = 5  # that a server may take to answer at all; one that is down is known at once
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_MINIMUM_FREE_BYTES = 64 * 2**20  # the model, the pictures and what MLflow keeps beside them
_ENTRY_POINT = "mlflow.project.entryPoint"
_STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError)


class TrackedRun:
    """One MLflow run that is being written; `track` makes it."""

    def __init__(self, run: MlflowRun) -> None:
        self.id: str = run.info.run_id
        self.name: str = run.info.run_name
        self._artifact_uri: str = run.info.artifact_uri
        self._client = mlflow.MlflowClient()
        self._waiting: list[Metric] = []
        self._flushed = time.monotonic()

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of epoch `epoch` (from 1) at that step."""
        now = int(time.time() * 1000)
        self._waiting += [Metric(key, float(value), now, epoch) for key, value in metrics.items()]
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the metrics that wait. A batch of MLflow's holds 1,000 at the most.

        Raises:
            UserError: the tracking store does not take them.
        """
        while self._waiting:
            with _tracking_store():
                self._client.log_batch(self.id, metrics=self._waiting[:1000], synchronous=True)
            del self._waiting[:1000]
        self._flushed = time.monotonic()

    def log_image(self, key: str, epoch: int, image: NDArray[np.uint8]) -> None:
        """Log `image` [height, width, channels] so that the UI can scrub through the epochs."""
        with _artifact_store(self._artifact_uri):
            mlflow.log_image(image, key=key, step=epoch, synchronous=True)

    def log_figures(self, figures: Mapping[str, Figure]) -> None:
        """Log figures by their file names."""
        with _artifact_store(self._artifact_uri):
            for name, figure in figures.items():
                mlflow.log_figure(figure, name, save_kwargs={"dpi": 150})

    def log_model(self, model: keras.Model, example: NDArray[np.float32]) -> None:
        """Log a Keras model as `runs:/<id>/model`, with a signature that `example` [images, pixels] gives."""
        import mlflow.tensorflow

        # Left to itself MLflow infers the requirements by loading the model in a process of its own.
        requirements = [f"{package}=={version(package)}" for package in ("tensorflow", "keras", "numpy")]
        signature = mlflow.models.infer_signature(example, model(example).numpy())
        # Keras shows a progress bar for the example.
        with _artifact_store(self._artifact_uri), redirect_stdout(io.StringIO()):
            mlflow.tensorflow.log_model(
                model, name=MODEL, signature=signature, input_example=example, pip_requirements=requirements
            )

    def log_config(self, config: RunConfig, images: Images) -> None:
        """Log what goes into the run: params that are not there yet, configuration, data set, provenance."""
        require_room(self._artifact_uri)
        params = {**config.model_dump(), USED_LEARNING_RATE: config.learning_rate}
        provenance = {
            FINGERPRINT: config.fingerprint,
            DATA_HASH: images.sha256,
            LOCK_HASH: _lock_hash(),
            GIT_DIRTY: _git_dirty(),
        }
        with _tracking_store():
            known = self._client.get_run(self.id).data.params
            mlflow.log_params({key: value for key, value in params.items() if key not in known})
            mlflow.set_tags(provenance)
            mlflow.log_input(_as_mlflow_dataset(images), context="training")
        with _artifact_store(self._artifact_uri):
            mlflow.log_dict(config.model_dump(), CONFIG_FILE)


@contextmanager
def track(config: RunConfig, images: Images) -> Iterator[TrackedRun]:
    """A run of `config`: the one that `mlflow run` opened, else a new one.

    It ends as FINISHED; as FAILED where the body raises, with the reason as the tag `config.FAILURE`; as KILLED
    on Ctrl-C and on `Interrupted`.

    Raises:
        UserError: the tracking store or the artifact store cannot be used.
    """
    run = _start(config)
    try:
        run.log_config(config, images)
        yield run
        run.flush()
        with _tracking_store():
            mlflow.end_run("FINISHED")
    except BaseException as error:
        with suppress(UserError):
            run.flush()
        _end(run.id, error)
        raise


def end_launched_run(error: BaseException) -> None:
    """End the run that `mlflow run` opened for this process and that nobody has taken up: `MLFLOW_RUN_ID`."""
    with suppress(UserError):
        _require_reachable()
        _end(os.environ["MLFLOW_RUN_ID"], error)


def keep_killed(run_id: str, launcher: int) -> None:
    """Mark a run as KILLED, at its own end time, as soon as the process `launcher` is gone; see `cli`."""
    give_up = time.monotonic() + 60
    while _is_alive(launcher) and time.monotonic() < give_up:
        time.sleep(0.1)
    client = mlflow.MlflowClient()
    client.set_terminated(run_id, "KILLED", client.get_run(run_id).info.end_time)


def read_runs(experiment: str | None = None, filter_string: str = "") -> pd.DataFrame:
    """The training runs of an experiment, newest first, whatever their status; changes nothing in the store.

    Args:
        experiment: its name; None = the one that `mlflow run` chose, `MLFLOW_EXPERIMENT_NAME`, or `Default`.
        filter_string: MLflow's own, such as `params.optimizer = 'adam'`.

    Returns:
        The frame of `mlflow.search_runs`, one row per run (`run_id`, `status`, `start_time`, `metrics.*`,
        `params.*`, `tags.*`). Where a run carries the tag `config.FINGERPRINT`, its `params.*` are the typed
        values of its `RunConfig`, defaults filled in. Runs of the project's other entry points are left out.

    Raises:
        UserError: there is no such store or experiment, or the filter is not MLflow's.
    """
    _require_reachable(must_exist=True)
    with _tracking_store():
        experiment_id = _experiment_id(experiment)
        runs = mlflow.search_runs([experiment_id], filter_string, ViewType.ACTIVE_ONLY, max_results=2**31 - 1)
    if _tag(_ENTRY_POINT) in runs:
        runs = runs[runs[_tag(_ENTRY_POINT)].fillna("main") == "main"]
    return _with_typed_params(runs.reset_index(drop=True))


def log_files(files: list[Path]) -> str:
    """Log files as artifacts of the run that `mlflow run` opened, else of a new one; returns its ID."""
    with _tracking_store(), mlflow.start_run(run_name="compare", tags={_ENTRY_POINT: "compare"}) as run:
        for file in files:
            mlflow.log_artifact(str(file))
    return str(run.info.run_id)


def ui_command() -> str:
    """What opens these runs in the MLflow UI."""
    uri = mlflow.get_tracking_uri()
    return f"open {uri}" if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"


def require_room(artifact_uri: str) -> None:
    """Refuse a local artifact store that is full before hours of training end there.

    Raises:
        UserError: fewer than 64 MiB are free.
    """
    if not is_local_uri(artifact_uri):
        return
    folder = Path(local_file_uri_to_path(artifact_uri)).absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < _MINIMUM_FREE_BYTES:
        raise UserError(
            f"no room for artifacts: {free / 2**20:.0f} MiB are free at {existing}, "
            f"{_MINIMUM_FREE_BYTES / 2**20:.0f} are needed; free some or choose another store with MLFLOW_TRACKING_URI"
        )


def _start(config: RunConfig) -> TrackedRun:
    _require_reachable()
    with _tracking_store():
        # A name given here would replace the one that `mlflow run --run-name` gave.
        run = mlflow.start_run(run_name=None if "MLFLOW_RUN_ID" in os.environ else config.name)
        if _is_random(run.info.run_name):
            mlflow.MlflowClient().update_run(run.info.run_id, name=config.name)
            run.info._set_run_name(config.name)
    return TrackedRun(run)


def _end(run_id: str, error: BaseException) -> None:
    signals = {KeyboardInterrupt: "interrupted by Ctrl-C", Interrupted: "interrupted by SIGTERM"}
    killed = type(error) in signals
    reason = signals.get(type(error), f"{type(error).__name__}: {first_line(error)}")
    status = "KILLED" if killed else "FAILED"
    try:
        with _tracking_store():
            mlflow.MlflowClient().set_tag(run_id, FAILURE, reason)
            if mlflow.active_run():
                mlflow.end_run(status)
            else:
                mlflow.MlflowClient().set_terminated(run_id, status)
    except UserError as gone:
        print(f"run {run_id} could not be marked {status}: {gone}", file=sys.stderr, flush=True)


def _as_mlflow_dataset(images: Images) -> mlflow.data.dataset.Dataset:
    pictures = {name: images.as_pictures(getattr(images, name)) for name in ("train", "test")}
    with warnings.catch_warnings():
        # MLflow registers its source of local files twice and wonders aloud which of the two to take.
        warnings.filterwarnings("ignore", "The specified dataset source can be interpreted in multiple ways")
        return numpy_dataset.from_numpy(pictures, images.source, name=images.name, digest=images.sha256[:16])


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _is_random(name: str) -> bool:
    """Whether MLflow made the name up, as it does where none is given: `bold-fox-123`."""
    words = name.split("-")
    return (
        len(words) == 3
        and words[0] in {word.lower() for word in name_utils._GENERATOR_PREDICATES}
        and words[1] in {word.lower() for word in name_utils._GENERATOR_NOUNS}
        and words[2].isdigit()
    )


def _lock_hash() -> str:
    lock = ROOT / "requirements.txt"
    return hashlib.sha256(lock.read_bytes()).hexdigest()[:12] if lock.exists() else "unknown"


def _git_dirty() -> str:
    """Whether what makes a run has changes that the commit (MLflow's own tag) does not have."""
    try:
        import git

        repository = git.Repo(ROOT, search_parent_directories=True)
        changes = repository.git.status("--porcelain", "--", *(str(ROOT / path) for path in _WHAT_MAKES_A_RUN))
        return "true" if changes else "false"
    except Exception:  # no git, no repository, or one of another owner: all mean that nobody can tell
        return "unknown"


def _experiment_id(name: str | None) -> str:
    client = mlflow.MlflowClient()
    if name is None:
        if os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return os.environ["MLFLOW_EXPERIMENT_ID"]
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        names = ", ".join(repr(e.name) for e in client.search_experiments())
        raise UserError(f"experiment={name!r} does not exist in {mlflow.get_tracking_uri()}; it has {names}")
    return str(experiment.experiment_id)


def _with_typed_params(runs: pd.DataFrame) -> pd.DataFrame:
    if _tag(FINGERPRINT) not in runs:
        return runs
    raw = [f"params.{name}" for name in RunConfig.model_fields if f"params.{name}" in runs]
    typed: dict[int, dict[str, Any]] = {}
    for row, values in runs.loc[runs[_tag(FINGERPRINT)].notna(), raw].iterrows():
        params = {name.removeprefix("params."): value for name, value in values.items() if isinstance(value, str)}
        try:
            typed[row] = RunConfig.from_params(params).model_dump()
        except ValueError:
            continue  # written by another version of this project: leave it as MLflow has it
    columns = list(RunConfig.model_fields)
    frame = pd.DataFrame.from_dict(typed, orient="index", columns=columns, dtype=object).add_prefix("params.")
    frame = frame.reindex(runs.index)
    for column in raw:
        frame[column] = frame[column].where(frame[column].notna(), runs[column])
    return pd.concat([runs.drop(columns=raw), frame], axis=1)


def _tag(name: str) -> str:
    return f"tags.{name}"


def _require_reachable(must_exist: bool = False) -> None:
    """Find out in a moment what MLflow would find out in four minutes of trying again."""
    uri = mlflow.get_tracking_uri()
    parts = urlsplit(uri)
    if parts.scheme.startswith("sqlite"):
        path = Path(unquote(uri.split(":///", 1)[-1].split("?")[0]))
        _require_sqlite(uri, path, must_exist)
    elif parts.hostname:
        try:
            if parts.scheme in ("http", "https"):
                credentials = get_default_host_creds(uri)
                http_request(credentials, "/health", "GET", max_retries=0, timeout=_ANSWER_SECONDS)
            else:
                port = parts.port or _DATABASE_PORTS.get(parts.scheme.split("+")[0], 0)
                socket.create_connection((parts.hostname, port), timeout=_ANSWER_SECONDS).close()
        except (OSError, MlflowException) as error:
            raise UserError(
                f"the tracking server {uri} does not answer ({first_line(_root(error))}); "
                "start it or set MLFLOW_TRACKING_URI"
            ) from None


def _require_sqlite(uri: str, path: Path, must_exist: bool) -> None:
    if must_exist and not path.exists():
        raise UserError(f"there is no tracking store {uri}; make a run first, or set MLFLOW_TRACKING_URI")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"the tracking store {uri} cannot be opened ({first_line(error)}); set MLFLOW_TRACKING_URI to another"
        ) from None


@contextmanager
def _tracking_store() -> Iterator[None]:
    """What goes wrong in here is the tracking store's fault, and said in one line."""
    uri = mlflow.get_tracking_uri()
    try:
        yield
    except _STORE_ERRORS as error:
        reason = first_line(error)
        if "out-of-date database schema" not in reason:
            raise UserError(f"the tracking store {uri} cannot be used: {reason}") from error
        found = reason[reason.find("(") : reason.find(")") + 1]
        raise UserError(
            f"the tracking store {uri} was written by another MLflow than {mlflow.__version__} {found}: "
            "use that MLflow if it is newer, run `mlflow db upgrade` if it is older, or set MLFLOW_TRACKING_URI"
        ) from error


@contextmanager
def _artifact_store(uri: str) -> Iterator[None]:
    """The same for the artifact store."""
    try:
        yield
    except _STORE_ERRORS as error:
        raise UserError(f"artifacts cannot be written to {uri}: {first_line(error)}") from error


def _root(error: BaseException) -> BaseException:
    """What went wrong first, beneath what the HTTP libraries wrapped around it."""
    beneath = error.__cause__ or error.__context__
    return _root(beneath) if beneath else error
