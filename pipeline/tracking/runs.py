"""Runs as they are written to MLflow, through a journal.

Where the runs lie is MLflow's own decision: `MLFLOW_TRACKING_URI`, or `mlflow.db` in the working directory;
the experiment is `MLFLOW_EXPERIMENT_NAME`, or the one that `mlflow run` chose.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import mlflow
import numpy as np
from mlflow.data import numpy_dataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]  # MLflow makes it at import
from numpy.typing import NDArray

from pipeline.errors import HungUp, Interrupted, UserError, first_line
from pipeline.task import Child, Configuration
from pipeline.texts import command, redacted
from pipeline.tracking import store
from pipeline.tracking.delivery import Delivery, end_now, record_end
from pipeline.tracking.journal import (
    ARTIFACTS,
    CHECKPOINT,
    FAILED,
    FINISHED,
    FORMAT,
    HEADER,
    KILLED,
    MODEL,
    RUNS,
    Header,
    Journal,
    journals,
    locked,
    now,
    require_newest,
    signs_of_life,
    state_folder,
    sync_files,
    writing,
)
from pipeline.tracking.mlflow_compat import (
    compress_image_size,
    convert_to_pil_image,
    is_local_uri,
    is_random_name,
    local_file_uri_to_path,
    resolve_tags,
    trusting_requirements,
)
from pipeline.tracking.names import DATA_HASH, FINGERPRINT, GIT_DIRTY, LAUNCHED, LOCK_HASH, MLFLOW_LOGGED_IMAGES, OWNER

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
CONFIG_FILE = "config.json"

_WHAT_MAKES_A_RUN = ("pipeline", "MLproject", "conda.yaml", "requirements.txt")
_PATIENCE_SECONDS = 3600.0  # the longest epoch of one that was cut off
_MINIMUM_FREE_BYTES = 64 * 2**20  # the model, the pictures and what MLflow keeps beside them


C = TypeVar("C", bound=Configuration)


class Data(Protocol):
    """What a run is trained on."""

    @property
    def name(self) -> str:
        """For a person."""

    @property
    def source(self) -> str:
        """Where it comes from."""

    @property
    def sha256(self) -> str:
        """The same for the same content."""

    @property
    def forms(self) -> dict[str, NDArray[Any]]:
        """Of its parts by name, such as `train`, arrays of their shape and type, whatever they hold."""


class TrackedRun(Generic[C]):
    """One run that is being written: what it says goes to its journal, and from there to MLflow; see `store`.

    What was said before, by a process that was interrupted, is not said again.
    """

    def __init__(self, config: C, journal: Journal, name: str | None = None) -> None:
        self.config = config
        self.journal = journal
        self.name = name or journal.header.name
        self.finished = journal.status == FINISHED
        self._id: str | None = None
        self._recorded = {line.get("key") for line, _ in journal.read()}

    @property
    def id(self) -> str | None:
        """MLflow's, where the store has the run already; known even when its journal has done its duty."""
        return self.journal.sent.run_id or self._id

    def remember(self, run_id: str | None) -> None:
        """Keep MLflow's ID, for a journal that has done its duty is deleted."""
        self._id = run_id

    @property
    def checkpoint(self) -> Path:
        """Where its training may keep what it needs to go on."""
        return self.journal.folder / CHECKPOINT

    def has_kept(self, keys: Iterable[tuple[str, str]]) -> bool:
        """Whether all of these operations, by what and their keys, are kept, durably."""
        self.journal.sync()
        return all(self._is_recorded(operation, key) for operation, key in keys)

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], key: str = "epoch") -> None:
        """Log metrics of epoch `epoch` (from 1) at that step. What has another `key` is another set of metrics."""
        at = now()
        points = [(name, float(value), at, epoch) for name, value in metrics.items()]
        self._record("metrics", f"{key} {epoch}", points=points)

    def log_image(self, name: str, epoch: int, image: NDArray[np.uint8]) -> None:
        """Log `image` [height, width, channels] so that the UI can scrub through the epochs."""
        key = f"{name} {epoch}"
        if not self._is_recorded("artifacts", key):
            # As `mlflow.MlflowClient.log_image` names and makes them, but by what they are: sent twice, stored once.
            picture, header = convert_to_pil_image(image), self.journal.header
            itself = uuid.uuid5(uuid.NAMESPACE_OID, header.key + key)
            path = f"images/{name}+step+{epoch}+timestamp+{header.started}+{itself}"
            paths = [f"{path}.png", f"{path}+compressed.webp"]
            with writing(self.journal.folder):
                picture.save(self._artifact(paths[0]))
                compress_image_size(picture).save(self._artifact(paths[1]))
            self._record_files(key, paths)
        self._record("tags", "images", tags={MLFLOW_LOGGED_IMAGES: "True"})

    def log_figures(self, figures: Mapping[str, Figure]) -> None:
        """Log figures by their file names."""
        if self._is_recorded("artifacts", "figures"):
            return  # they may be on their way at this moment
        with writing(self.journal.folder):
            for name, figure in figures.items():
                figure.savefig(self._artifact(name), dpi=150)
        self._record_files("figures", list(figures))

    def log_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Log arrays as a file, for `numpy.load`."""
        if not self._is_recorded("artifacts", name):
            with writing(self.journal.folder):
                np.savez_compressed(self._artifact(name), **arrays)  # type: ignore[arg-type] # one is NumPy's own flag
            self._record_files(name, [name])

    def log_model(self, model: keras.Model, example: NDArray[np.float32]) -> None:
        """Log a Keras model as `runs:/<id>/model`, with a signature that `example`, some images, gives."""
        if self._is_recorded("model", MODEL):
            return
        import mlflow.tensorflow

        # Left to itself MLflow infers the requirements by loading the model in a process of its own.
        requirements = [f"{package}=={version(package)}" for package in ("tensorflow", "keras", "numpy")]
        signature = mlflow.models.infer_signature(example, model(example).numpy())
        folder = self.journal.folder / MODEL
        shutil.rmtree(folder, ignore_errors=True)  # what a kill may have left
        # Keras shows a progress bar for the example.
        with writing(self.journal.folder), redirect_stdout(io.StringIO()), trusting_requirements():
            mlflow.tensorflow.save_model(
                model, str(folder), signature=signature, input_example=example, pip_requirements=requirements
            )
            sync_files(folder, [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()])
        self._record("model", MODEL)

    def log_config(self, data: Data) -> None:
        """Log what goes into the run: params, configuration, data set, provenance, and who makes it."""
        if self._is_recorded("tags", OWNER):
            self.journal.append("go_on", tags=signs_of_life())
        self._record("tags", OWNER, tags=signs_of_life())
        provenance = {
            FINGERPRINT: self.config.fingerprints[0],
            DATA_HASH: data.sha256,
            LOCK_HASH: _lock_hash(),
            GIT_DIRTY: _git_dirty(),
        }
        if not self._is_recorded("artifacts", "config"):
            with writing(self.journal.folder):
                self._artifact(CONFIG_FILE).write_text(json.dumps(self.config.params, indent=2))
        self.log_params(self.config.logged)
        self._record("tags", "config", tags=provenance)
        self._record("dataset", "config", context="training", **_as_mlflow_dataset(data).to_dict())
        self._record_files("config", [CONFIG_FILE])

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log those params that the store does not have yet."""
        self._record("params", "config", params=dict(params))

    def log_files(self, paths: list[str]) -> None:
        """Log files that lie in the journal's folder of artifacts."""
        self._record_files(" ".join(paths), paths)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.journal.append("tags", tags=dict(tags))

    def finish(self) -> None:
        """Say that it is finished, and give up what it would need to go on."""
        record_end(self.journal, FINISHED)
        if self.journal.ending:
            self.checkpoint.unlink(missing_ok=True)
        self.finished = True

    def end(self, error: BaseException) -> None:
        """Say that it ended by `error`: KILLED where somebody wanted it so, else FAILED."""
        record_end(self.journal, *ending(error))

    def _is_recorded(self, operation: str, key: str) -> bool:
        return f"{operation} {key}" in self._recorded

    def _record(self, operation: str, key: str, **content: Any) -> None:
        if not self._is_recorded(operation, key):
            self.journal.append(operation, key=f"{operation} {key}", **content)
            self._recorded.add(f"{operation} {key}")

    def _record_files(self, key: str, paths: list[str]) -> None:
        with writing(self.journal.folder):
            sync_files(self.journal.folder / ARTIFACTS, paths)
        self._record("artifacts", key, paths=paths)

    def _artifact(self, path: str) -> Path:
        file = self.journal.folder / ARTIFACTS / path
        file.parent.mkdir(parents=True, exist_ok=True)
        return file


@contextmanager
def track(config: C, data: Data, folder: Path | None = None) -> Iterator[TrackedRun[C]]:
    """A run of `config`: one that goes on, the one that `mlflow run` opened, or a new one.

    It ends as FINISHED; as FAILED where the body raises, with the reason as the tag `names.FAILURE`; as KILLED
    on Ctrl-C and on `Interrupted`. A store that goes away does not end it: see `delivery.Delivery`.

    Args:
        folder: of the journal of a run that goes on, which its caller has locked; None = it begins.

    Raises:
        UserError: the tracking store or the artifact store cannot be used, or did not take everything.
    """
    uri = store.tracking_uri()
    goes_on = folder is not None
    launched = os.environ.get(LAUNCHED)
    folder = folder or state_folder() / RUNS / (launched or uuid.uuid4().hex)
    with contextlib.nullcontext() if goes_on else locked(folder):
        known = Journal(folder) if goes_on else begin(folder, config.name, launched)
        run = TrackedRun(config, known, _given_name(uri))
        try:
            run.log_config(data)
            require_room(str(folder), "VARIATIONS_STATE")
            delivery = Delivery(folder, uri)
            delivery.begin()
            _require_room_for_artifacts(uri, run.id)
        except BaseException as error:
            end_now(run.journal, *ending(error))
            if not goes_on:
                run.journal.remove()
            raise
        try:
            with delivery:
                try:
                    yield run
                    run.finish()
                except BaseException as error:
                    run.end(error)
                    raise
        finally:
            run.remember(delivery.run_ids.get(run.journal.header.key))
            if run.checkpoint.exists():
                print(f"to go on with it: {how_to_go_on(run.id or folder.name)}", file=sys.stderr, flush=True)


def how_to_go_on(run: str) -> str:
    """What takes up a single run that did not finish, by MLflow's ID or by the name of its folder."""
    return f"{command('train')} --resume {run}"


def unfinished_run(run: str) -> Path:
    """The folder of a single run that can go on, by MLflow's ID or by its own name.

    Raises:
        UserError: there is none.
    """
    known = journals(state_folder() / RUNS)
    for each in known:
        if run in (each.sent.run_id, each.folder.name) and each.status != FINISHED:
            return each.folder
    can = [each.sent.run_id or each.folder.name for each in known if (each.folder / CHECKPOINT).exists()]
    known_ones = f"those are {', '.join(can)}" if can else "none can"
    raise UserError(f"resume={run!r} is not a run that can go on; {known_ones}")


def recorded_of(journal: Journal) -> tuple[dict[str, Any], str | None]:
    """The params that a journal has of its run, and the hash of the data."""
    params: dict[str, Any] = {}
    data_hash = None
    for line, _ in journal.read():
        if line["operation"] == "params":
            params |= line["params"]
        elif line["operation"] == "tags":
            data_hash = line["tags"].get(DATA_HASH, data_hash)
    return params, data_hash


def _require_room_for_artifacts(uri: str, run_id: str | None) -> None:
    """Refuse an artifact store that is full, as far as it can be known now."""
    if run_id:
        with suppress(store.StoreAwayError), store.tracking_store(uri):
            require_room(str(store.client_of(uri).get_run(run_id).info.artifact_uri))


@dataclass(frozen=True)
class Experiment:
    """Where runs go, as far as it is known: while the store is away, an ID has no name, and a name no ID."""

    id: str | None
    name: str | None

    @classmethod
    def chosen(cls) -> Experiment:
        """The one of `mlflow run`, else of `MLFLOW_EXPERIMENT_NAME`, else MLflow's default."""
        chosen = os.environ.get("MLFLOW_EXPERIMENT_ID")
        return cls(chosen, None) if chosen else cls(None, os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default"))

    def is_of(self, header: Header) -> bool:
        """Whether a journal's run lies in it."""
        if self.id and header.experiment_id:
            return self.id == header.experiment_id
        return self.name is not None and self.name == header.experiment_name


def begin(
    folder: Path,
    name: str,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    experiment: Experiment | None = None,
    made_by: Mapping[str, str] | None = None,
) -> Journal:
    """The journal of a new run, or of one that MLflow has already under `run_id`.

    Args:
        made_by: tags of what makes it; None = this program.

    Raises:
        UserError: the folder cannot be written.
    """
    experiment = experiment or Experiment.chosen()
    own = {name: redacted(value) for name, value in {**signs_of_life(), **(tags or {})}.items()}
    context = {name: redacted(value) for name, value in (resolve_tags() if made_by is None else made_by).items()}
    header = Header(
        key=uuid.uuid4().hex,
        tracking_uri=redacted(store.tracking_uri()),
        experiment_id=experiment.id,
        experiment_name=experiment.name,
        run_id=run_id,
        name=name,
        started=now(),
        tags={**context, **own},
        version=FORMAT,
    )
    journal = Journal.begin(folder, header)
    if run_id:
        journal.append("tags", tags=own)  # MLflow knows better what has launched it
        journal.append("rename", name=name)
    return journal


@contextmanager
def journal_of(child: Child, made_by: Mapping[str, str] | None = None) -> Iterator[Journal]:
    """The journal of a run of a study, for the process that makes it: no other does so meanwhile.

    One that was cut off ends its epoch first, and NFS forgets its locks some time after it is gone. The study does not
    wait for so long where it sees that nothing is said.

    Raises:
        UserError: another process does, and does not end.
        SupersededError: another process shall do so.
    """
    with locked(child.folder, _PATIENCE_SECONDS):
        require_newest(child.folder, child.writer)
        known = open_journal(child.folder, child.name, child.tags, made_by)
        known.writer = child.writer
        yield known


def open_journal(folder: Path, name: str, tags: Mapping[str, str], made_by: Mapping[str, str] | None = None) -> Journal:
    """The journal in a folder, as far as it can be read; begun where there is none yet, as by `begin`.

    A run of a study lies in the experiment of the study's own.
    """
    if (folder / HEADER).exists():
        known = Journal(folder)
        known.repair()
        return known
    study = None
    if (folder.parent / HEADER).exists():
        above = Journal(folder.parent).header
        study = Experiment(above.experiment_id, above.experiment_name)
    return begin(folder, name, tags=tags, experiment=study, made_by=made_by)


def ending(error: BaseException) -> tuple[str, str]:
    """Status and reason of a run that ended by an error: KILLED where somebody wanted it so, else FAILED."""
    if isinstance(error, KeyboardInterrupt):
        return KILLED, "interrupted by Ctrl-C"
    if isinstance(error, Interrupted):
        return KILLED, f"interrupted by {'SIGHUP: its terminal was closed' if isinstance(error, HungUp) else 'SIGTERM'}"
    return FAILED, f"{type(error).__name__}: {first_line(error)}"


def _given_name(uri: str) -> str | None:
    """The name that somebody gave to the run that `mlflow run` opened."""
    if LAUNCHED not in os.environ:
        return None
    try:
        with store.tracking_store(uri):
            name = str(store.client_of(uri).get_run(os.environ[LAUNCHED]).info.run_name)
    except UserError:
        return None
    return None if is_random_name(name) else name


def ui_command() -> str:
    """What opens these runs in the MLflow UI."""
    uri = redacted(mlflow.get_tracking_uri())
    return f"open {uri}" if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"


def require_room(artifact_uri: str, variable: str = "MLFLOW_TRACKING_URI") -> None:
    """Refuse a local artifact store that is full before hours of training end there; `variable` chooses another.

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
            f"{_MINIMUM_FREE_BYTES / 2**20:.0f} are needed; free some or choose another place with {variable}"
        )


def _as_mlflow_dataset(data: Data) -> mlflow.data.dataset.Dataset:
    source = LocalArtifactDatasetSource(data.source)  # of the URI alone MLflow would warn: it is registered twice
    return numpy_dataset.from_numpy(data.forms, source, name=data.name, digest=data.sha256[:16])


def _lock_hash() -> str:
    lock = ROOT / "requirements.txt"
    return hashlib.sha256(lock.read_bytes()).hexdigest()[:12] if lock.exists() else "unknown"


def _git_dirty() -> str:
    """Whether what makes a run has changes that the commit (MLflow's own tag) does not have."""
    try:
        import git

        repository = git.Repo(ROOT, search_parent_directories=True)
        files = [str(ROOT / path) for path in _WHAT_MAKES_A_RUN]
        if not repository.git.ls_files("--", *files):
            return "unknown"  # an installed package, in an environment that lies in somebody's repository
        return "true" if repository.git.status("--porcelain", "--", *files) else "false"
    except Exception:  # no git, no repository, or one of another owner: all mean that nobody can tell
        return "unknown"
