"""Runs as they are written to MLflow, through a journal, and what a study finds there of its own.

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
import textwrap
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from mlflow.data import numpy_dataset
from mlflow.entities import Run as MlflowRun
from mlflow.entities.lifecycle_stage import LifecycleStage
from mlflow.tracking.context.registry import resolve_tags
from mlflow.tracking.multimedia import compress_image_size, convert_to_pil_image
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_LOGGED_IMAGES, MLFLOW_PARENT_RUN_ID
from mlflow.utils.uri import is_local_uri
from numpy.typing import NDArray

from pipeline.errors import HungUp, Interrupted, UserError, first_line
from pipeline.metrics import TRAINING_SECONDS
from pipeline.texts import redacted
from pipeline.tracking import store
from pipeline.tracking.journal import (
    ARTIFACTS,
    CHECKPOINT,
    FAILED,
    FINISHED,
    FORMAT,
    HEADER,
    KILLED,
    LAUNCHED,
    MODEL,
    RUNS,
    Header,
    Journal,
    journals,
    locked,
    now,
    signs_of_life,
    state_folder,
    sync_files,
    writing,
)
from pipeline.tracking.names import (
    DATA_HASH,
    FINGERPRINT,
    GIT_DIRTY,
    GOES_ON_IN,
    HARDWARE,
    LOCK_HASH,
    NOTE,
    OWNER,
    PICTURE,
    PLAN,
    REUSED_FROM,
    STUDY,
    VARIATION,
)
from pipeline.train.config import USED_LEARNING_RATE, RunConfig, pictured

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from pipeline.train.dataset import Images

ROOT = Path(__file__).parents[2]
CONFIG_FILE = "config.json"

_WHAT_MAKES_A_RUN = ("pipeline", "MLproject", "conda.yaml", "requirements.txt")
_MINIMUM_FREE_BYTES = 64 * 2**20  # the model, the pictures and what MLflow keeps beside them
_LONGEST_NAME = 80  # characters, where it is made of a reason
_MADE_BY = (FINGERPRINT, DATA_HASH, LOCK_HASH, GIT_DIRTY, HARDWARE, MLFLOW_GIT_COMMIT)


class TrackedRun:
    """One run that is being written: what it says goes to its journal, and from there to MLflow; see `store`.

    What was said before, by a process that was interrupted, is not said again.
    """

    def __init__(self, config: RunConfig, journal: Journal, name: str | None = None) -> None:
        self.config = config
        self.journal = journal
        self.name = name or journal.header.name
        self.finished = journal.status == FINISHED
        self._id: str | None = None
        self._said = {line.get("key") for line, _ in journal.read()}
        self._kept = 0  # the first epoch of which `has_kept` does not know yet

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

    def has_kept(self, epochs: int) -> bool:
        """Whether all that is said of the first epochs is kept, durably: else a checkpoint of then is ahead of it."""
        if self.finished:
            return True
        if epochs > self.config.epochs:
            return False  # its results are those of an earlier epoch
        self.journal.sync()
        while self._kept <= epochs:  # what was there once still is
            epoch, key = self._kept, f"{PICTURE} {self._kept}"
            if epoch and not self._has_said("metrics", f"epoch {epoch}"):
                return False
            if pictured(epoch, self.config.epochs) and not self._has_said("artifacts", key):
                return False
            self._kept += 1
        return True

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], key: str = "epoch") -> None:
        """Log metrics of epoch `epoch` (from 1) at that step. What has another `key` is another set of metrics."""
        at = now()
        points = [(name, float(value), at, epoch) for name, value in metrics.items()]
        self._say("metrics", f"{key} {epoch}", points=points)

    def log_image(self, name: str, epoch: int, image: NDArray[np.uint8]) -> None:
        """Log `image` [height, width, channels] so that the UI can scrub through the epochs."""
        key = f"{name} {epoch}"
        if not self._has_said("artifacts", key):
            # As `mlflow.MlflowClient.log_image` names and makes them, but by what they are: sent twice, stored once.
            picture, header = convert_to_pil_image(image), self.journal.header
            itself = uuid.uuid5(uuid.NAMESPACE_OID, header.key + key)
            path = f"images/{name}+step+{epoch}+timestamp+{header.started}+{itself}"
            paths = [f"{path}.png", f"{path}+compressed.webp"]
            with writing(self.journal.folder):
                picture.save(self._artifact(paths[0]))
                compress_image_size(picture).save(self._artifact(paths[1]))
            self._say_files(key, paths)
        self._say("tags", "images", tags={MLFLOW_LOGGED_IMAGES: "True"})

    def log_figures(self, figures: Mapping[str, Figure]) -> None:
        """Log figures by their file names."""
        if self._has_said("artifacts", "figures"):
            return  # they may be on their way at this moment
        with writing(self.journal.folder):
            for name, figure in figures.items():
                figure.savefig(self._artifact(name), dpi=150)
        self._say_files("figures", list(figures))

    def log_model(self, model: keras.Model, example: NDArray[np.float32]) -> None:
        """Log a Keras model as `runs:/<id>/model`, with a signature that `example`, some images, gives."""
        if self._has_said("model", MODEL):
            return
        import mlflow.tensorflow

        # Left to itself MLflow infers the requirements by loading the model in a process of its own.
        requirements = [f"{package}=={version(package)}" for package in ("tensorflow", "keras", "numpy")]
        signature = mlflow.models.infer_signature(example, model(example).numpy())
        folder = self.journal.folder / MODEL
        shutil.rmtree(folder, ignore_errors=True)  # what a kill may have left
        # Keras shows a progress bar for the example.
        with writing(self.journal.folder), redirect_stdout(io.StringIO()):
            mlflow.tensorflow.save_model(
                model, str(folder), signature=signature, input_example=example, pip_requirements=requirements
            )
            sync_files(folder, [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()])
        self._say("model", MODEL)

    def log_config(self, images: Images) -> None:
        """Log what goes into the run: params, configuration, data set, provenance, and who makes it."""
        if self._has_said("tags", OWNER):
            self.journal.append("go_on", tags=signs_of_life())
        self._say("tags", OWNER, tags=signs_of_life())
        params = {**self.config.model_dump(), USED_LEARNING_RATE: self.config.learning_rate}
        provenance = {
            FINGERPRINT: self.config.fingerprint,
            DATA_HASH: images.sha256,
            LOCK_HASH: _lock_hash(),
            GIT_DIRTY: _git_dirty(),
        }
        if not self._has_said("artifacts", "config"):
            with writing(self.journal.folder):
                self._artifact(CONFIG_FILE).write_text(json.dumps(self.config.model_dump(), indent=2))
        self._say("params", "config", params=params)
        self._say("tags", "config", tags=provenance)
        self._say("dataset", "config", context="training", **_as_mlflow_dataset(images).to_dict())
        self._say_files("config", [CONFIG_FILE])

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.journal.append("tags", tags=dict(tags))

    def finish(self) -> None:
        """Say that it is finished, and give up what it would need to go on."""
        store.end(self.journal, FINISHED)
        if self.journal.ending:
            self.checkpoint.unlink(missing_ok=True)
        self.finished = True

    def end(self, error: BaseException) -> None:
        """Say that it ended by `error`: KILLED where somebody wanted it so, else FAILED."""
        store.end(self.journal, *ending(error))

    def _has_said(self, operation: str, key: str) -> bool:
        return f"{operation} {key}" in self._said

    def _say(self, operation: str, key: str, **content: Any) -> None:
        if not self._has_said(operation, key):
            self.journal.append(operation, key=f"{operation} {key}", **content)
            self._said.add(f"{operation} {key}")

    def _say_files(self, key: str, paths: list[str]) -> None:
        with writing(self.journal.folder):
            sync_files(self.journal.folder / ARTIFACTS, paths)
        self._say("artifacts", key, paths=paths)

    def _artifact(self, path: str) -> Path:
        file = self.journal.folder / ARTIFACTS / path
        file.parent.mkdir(parents=True, exist_ok=True)
        return file


@contextmanager
def track(config: RunConfig, images: Images, folder: Path | None = None) -> Iterator[TrackedRun]:
    """A run of `config`: one that goes on, the one that `mlflow run` opened, or a new one.

    It ends as FINISHED; as FAILED where the body raises, with the reason as the tag `config.FAILURE`; as KILLED
    on Ctrl-C and on `Interrupted`. A store that goes away does not end it: see `store.Delivery`.

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
            run.log_config(images)
            require_room(str(folder), "VARIATIONS_STATE")
            delivery = store.Delivery(folder, uri)
            delivery.begin()
            _require_room_for_artifacts(uri, run.id)
        except BaseException as error:
            store.end_now(run.journal, *ending(error))
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
    return f"python -m pipeline.train --resume {run}"


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


def said_of(journal: Journal) -> tuple[dict[str, Any], str | None]:
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
) -> Journal:
    """The journal of a new run, or of one that MLflow has already under `run_id`.

    Raises:
        UserError: the folder cannot be written.
    """
    experiment = experiment or Experiment.chosen()
    own = {name: redacted(value) for name, value in {**signs_of_life(), **(tags or {})}.items()}
    context = {name: redacted(value) for name, value in resolve_tags().items()}
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


def open_journal(folder: Path, name: str, tags: Mapping[str, str]) -> Journal:
    """The journal in a folder, as far as it can be read; begun where there is none yet.

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
    return begin(folder, name, tags=tags, experiment=study)


@dataclass(frozen=True)
class Found:
    """What an experiment has of a study already.

    Attributes:
        parent: the study's run to go on in, if any.
        parent_finished: whether that is finished.
        finished: by (variation, fingerprint, data hash), the study's own runs that are finished.
        elsewhere: by (fingerprint, data hash), finished runs that the study can reuse.
    """

    parent: str | None = None
    parent_finished: bool = False
    finished: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    elsewhere: Mapping[tuple[str, str], MlflowRun] = field(default_factory=dict)


def experiment(make: bool) -> Experiment:
    """The experiment where runs go; without ID where it is not there yet, unless it is to be made.

    Raises:
        StoreAwayError: a server does not answer.
        UserError: the store cannot be used.
    """
    chosen = Experiment.chosen()
    if not make and not store.exists():
        return chosen
    store.require_reachable(must_exist=not make)
    with store.tracking_store():
        client = store.client_of()
        if chosen.id:
            return Experiment(chosen.id, str(client.get_experiment(chosen.id).name))
        if make:
            return Experiment(store.make_experiment(client, str(chosen.name)), chosen.name)
        found = client.get_experiment_by_name(chosen.name)
        return Experiment(found and str(found.experiment_id), chosen.name)


def find(experiment: str, study: str, plan: str, wanted: Sequence[tuple[str, str, str]], look_only: bool) -> Found:
    """What an experiment has of a study; runs whose process is gone are marked as KILLED first.

    Args:
        experiment: its ID.
        study, plan: its name, and the digest of what is to be run.
        wanted: variation, fingerprint and data hash of each run; none = find nothing.
        look_only: change nothing in the store.

    Raises:
        StoreAwayError: a server does not answer.
        UserError: the store cannot be used.
    """
    store.require_reachable()
    with store.tracking_store():
        client = store.client_of()
        if not look_only:
            store.end_dead_runs(client, experiment)
        if not wanted:
            return Found()
        parents = _search(client, experiment, {STUDY: study, PLAN: plan})
        parent = parents[0].info.run_id if parents else None
        own = _search(client, experiment, {MLFLOW_PARENT_RUN_ID: parent}) if parent else []
        finished = {_identity(run): run.info.run_id for run in own if run.info.status == FINISHED}
        elsewhere = {}
        for variation, *pair in wanted:
            if (variation, *pair) not in finished and tuple(pair) not in elsewhere:
                tags = dict(zip((FINGERPRINT, DATA_HASH), pair, strict=True))
                for run in _search(client, experiment, tags, "attributes.status = 'FINISHED'"):
                    if REUSED_FROM not in run.data.tags:
                        elsewhere[pair[0], pair[1]] = run
        return Found(parent, bool(parents) and parents[0].info.status == FINISHED, finished, elsewhere)


def _identity(run: MlflowRun) -> tuple[str, str, str]:
    tags = run.data.tags
    return tags.get(VARIATION, ""), tags.get(FINGERPRINT, ""), tags.get(DATA_HASH, "")


def _search(client: mlflow.MlflowClient, experiment: str, tags: Mapping[str, str], *more: str) -> list[MlflowRun]:
    conditions = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
    found: list[MlflowRun] = []
    token = None
    while True:
        page = client.search_runs([experiment], " and ".join([*conditions, *more]), page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def is_deleted(run_id: str) -> bool:
    """Whether somebody has deleted a run in the store.

    Raises:
        StoreAwayError: a server does not answer.
    """
    try:
        with store.tracking_store():
            return bool(store.client_of().get_run(run_id).info.lifecycle_stage != LifecycleStage.ACTIVE)
    except store.StoreAwayError:
        raise
    except UserError:
        return True  # it is not even in the bin


def nest(parent: Journal, folders: Sequence[Path]) -> None:
    """Have the runs of a study that the store has already lie within its run: the one before may have been deleted."""
    parent_id = parent.sent.run_id
    with suppress(store.StoreAwayError), store.tracking_store():
        for folder in folders:
            run_id = Journal(folder).sent.run_id if parent_id and (folder / HEADER).exists() else None
            if run_id and store.client_of().get_run(run_id).data.tags.get(MLFLOW_PARENT_RUN_ID) != parent_id:
                store.client_of().set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent_id)


def link(folder: Path, name: str, origin: MlflowRun, tags: Mapping[str, str]) -> None:
    """A run that stands for `origin`: with its params, its metrics and what made it, and the tag `REUSED_FROM`.

    Raises:
        UserError: the store cannot be used.
    """
    with store.tracking_store():
        client = store.client_of()
        points = [
            (point.key, point.value, point.timestamp, point.step)
            for key in origin.data.metrics
            for point in client.get_metric_history(origin.info.run_id, key)
        ]
    journal = open_journal(folder, name, {**tags, REUSED_FROM: origin.info.run_id})
    journal.append("params", params=origin.data.params)
    journal.append("tags", tags={key: origin.data.tags[key] for key in _MADE_BY if key in origin.data.tags})
    journal.append("metrics", points=points)
    store.end(journal, FINISHED)


def seconds_per_epoch(experiment: str, config: RunConfig, data_hash: str) -> float:
    """How long an epoch took in a finished run of the same size on the same images; NaN where there is none."""
    sizes = [f"params.{name} = '{getattr(config, name)}'" for name in ("batch_size", "encoding_dim", "decoder_hidden")]
    with store.tracking_store():
        client = store.client_of()
        for run in _search(client, experiment, {DATA_HASH: data_hash}, "attributes.status = 'FINISHED'", *sizes):
            if TRAINING_SECONDS in run.data.metrics:
                return float(run.data.metrics[TRAINING_SECONDS] / RunConfig.from_params(run.data.params).epochs)
    return float("nan")


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
    return None if store.is_random_name(name) else name


def take_up_launched_run() -> None:
    """The run that `mlflow run` opened for this process has another journal now."""
    shutil.rmtree(_launched_folder(), ignore_errors=True)


def link_launched_run(run_id: str, name: str) -> None:
    """Have the run that `mlflow run` opened beside a study's own say where the study is."""
    if LAUNCHED in os.environ and run_id != os.environ[LAUNCHED] and (_launched_folder() / HEADER).exists():
        journal = Journal(_launched_folder())
        journal.append("tags", tags={GOES_ON_IN: run_id, NOTE: f"The study {name} is the run {run_id}."})
        journal.append("rename", name=f"{name}, see {run_id[:8]}")


def end_launched_run(error: BaseException | None, name: str) -> None:
    """End the run that `mlflow run` opened for this process, where nobody has taken it up.

    Args:
        error: what went wrong, if anything did; it makes the name, too.
        name: what a run is called that has none but a random one.
    """
    if not (_launched_folder() / HEADER).exists():
        return
    with suppress(UserError):
        journal = Journal(_launched_folder())
        if not journal.ending:
            status, reason = ending(error) if error else (FINISHED, "")
            if error:
                name = textwrap.shorten(f"{status.lower()}: {reason.removeprefix('UserError: ')}", _LONGEST_NAME)
            journal.append("rename", name=name)
            store.end(journal, status, reason)
        uri = store.tracking_uri()
        store.require_reachable(uri)
        store.Delivery(journal.folder, uri).send()


def _launched_folder() -> Path:
    return state_folder() / RUNS / os.environ[LAUNCHED]


def keep_killed(run_id: str, launcher: int) -> None:
    """Mark a run as KILLED, at its own end time, as soon as the process `launcher` is gone; see `cli`."""
    give_up = time.monotonic() + 60
    while _is_alive(launcher) and time.monotonic() < give_up:
        time.sleep(0.1)
    client = mlflow.MlflowClient()
    client.set_terminated(run_id, "KILLED", client.get_run(run_id).info.end_time)


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


def _as_mlflow_dataset(images: Images) -> mlflow.data.dataset.Dataset:
    pictures = {"train": images.train, "test": images.test}
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
