"""What `compare` asks MLflow: runs, their histories, a study's plan, pictures. It reads.

What it writes is of the comparison itself: the files that it made, and what the run is for that was opened for it.

Where `mlflow.search_runs` builds a frame cell by cell, `runs` keeps the pages as they come, and the step of each last
metric with them: so whoever asks learns for free which epoch a run has reached.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import FileInfo, LifecycleStage, Run
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from pipeline.compare import autolog
from pipeline.compare.grouping import Declared
from pipeline.compare.repetitions import is_repetition
from pipeline.errors import UserError, first_line
from pipeline.metrics import current
from pipeline.study.plan import Study
from pipeline.task import Task
from pipeline.texts import did_you_mean, listed, quoted, redacted
from pipeline.tracking import mlflow_compat, store
from pipeline.tracking.journal import HEADER, LAUNCHED, RUNS, Journal, state_folder
from pipeline.tracking.names import (
    DATA_HASH,
    FAILURE,
    FINGERPRINT,
    GIT_DIRTY,
    GRID_POINT,
    HARDWARE,
    LOCK_HASH,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_RUN_NAME,
    PICTURE,
    PLAN,
    PLAN_FILE,
    PLANS,
    RECONSTRUCTIONS_FILE,
    REUSED_FROM,
    ROLE,
    SEED,
    STUDY,
    TUNED_FILE,
    VARIATION,
)
from pipeline.tracking.search import artifact

_TRAIN_NOTHING = ("study", "compare")  # of the entry points: a study's children are runs of their own
_DIGITS = 10  # on such a picture
_ENLARGED = 4  # and pixels per pixel
_OF_PICTURES = [np.dtype(kind) for kind in (np.uint8, np.float16, np.float32, np.float64)]
_MOST_PIXELS, _MOST_BYTES = 25_000_000, 50 * 2**20  # of such a picture: images of 279 x 279 pixels, and room to spare

_TAGS = (
    *(FINGERPRINT, DATA_HASH, LOCK_HASH, GIT_DIRTY, HARDWARE, FAILURE, STUDY, VARIATION, SEED, PLAN, REUSED_FROM),
    *(ROLE, GRID_POINT),
    *(MLFLOW_RUN_NAME, MLFLOW_PARENT_RUN_ID, MLFLOW_GIT_COMMIT, MLFLOW_PROJECT_ENTRY_POINT),
    *autolog.TAGS,
)
_PAGE = 10_000
_BULK_RUNS, _BULK_VALUES = 50, 25_000  # one bulk request: a server takes 100 runs, and gives so many values
_OF_THE_MACHINE = "system/"  # MLflow's own metrics of the machine, whose steps are samples
_LARGEST = 1.79e308  # SQL cannot hold an infinity: MLflow writes the largest float for it


class Experiment(NamedTuple):
    """An experiment of the current store."""

    name: str
    id: str


def experiment(name: str | None) -> Experiment:
    """The experiment of that name; None = the one that `mlflow run` chose, `MLFLOW_EXPERIMENT_NAME`, or `Default`.

    Raises:
        UserError: there is no such store or experiment.
    """
    store.require_reachable(mlflow.get_tracking_uri(), must_exist=True)
    client = mlflow.MlflowClient()
    with store.tracking_store(mlflow.get_tracking_uri()):
        if name is None and os.environ.get("MLFLOW_EXPERIMENT_ID"):
            chosen = client.get_experiment(os.environ["MLFLOW_EXPERIMENT_ID"])
            return Experiment(chosen.name, chosen.experiment_id)
        name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
        found = client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != LifecycleStage.ACTIVE:
            names = [each.name for each in client.search_experiments()]
            raise UserError(
                f"experiment={quoted(name)} does not exist in {redacted(mlflow.get_tracking_uri())}"
                f"{did_you_mean(name, names)}; it has {listed(map(quoted, names))}"
            )
    return Experiment(name, str(found.experiment_id))


def ui(experiment: Experiment) -> str:
    """The address of an experiment in MLflow's UI, without a name and password; empty where the store is no server."""
    address = urlsplit(mlflow.get_tracking_uri())
    if address.scheme not in ("http", "https"):
        return ""
    place = address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return f"{place.rstrip('/')}/#/experiments/{experiment.id}"


def runs(experiment_id: str, task: Task, filter_string: str = "") -> pd.DataFrame:
    """The runs of an experiment, whatever made them and however they ended, but for those that train nothing.

    Args:
        task: what made those runs that are `ours`.
        filter_string: MLflow's own.

    Returns:
        One row per run, the newest first: `run_id, name, status, start, end` (milliseconds since 1970), `ours` (whether
        the run is one of the task's, of which `params.*` are typed values, defaults filled in, and metrics have their
        current names; of all others they are texts), `epochs` (how far one of ours was to go), `last_epoch` (the last
        step of its losses, else of any metric but those of the machine; NaN without), `params.*`,
        `metrics.*` and those `tags.*` that are of use here.

    Raises:
        UserError: the store or the filter cannot be used.
    """
    client = mlflow.MlflowClient()
    rows: dict[str, dict[str, Any]] = {}  # pages overlap where runs are made or deleted meanwhile
    reader = _Reader(task)
    token = None
    with store.tracking_store(mlflow.get_tracking_uri()):
        while True:
            try:
                page = client.search_runs([experiment_id], filter_string, max_results=_PAGE, page_token=token)
            except MlflowException as error:
                if not filter_string or error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                raise UserError(
                    f"filter={quoted(filter_string)} cannot be used: {first_line(error)}; "
                    "it is one of MLflow's, such as params.optimizer = 'adam'"
                ) from None
            rows.update({run.info.run_id: reader.row(run) for run in page if _is_a_run(run)})
            token = page.token
            if not token:
                break
    return _frame(list(rows.values()))


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Params as they are (pandas would make floats of whole numbers where a run has none), metrics as floats."""
    columns = ["run_id", "name", "status", "start", "end", "ours", "epochs", "last_epoch"]
    frame = pd.DataFrame(rows, columns=None if rows else columns, dtype=object)
    numbers = [
        name for name in frame if name in ("start", "end", "epochs", "last_epoch") or name.startswith("metrics.")
    ]
    typed = frame.astype({**dict.fromkeys(numbers, float), "ours": bool})
    return typed.copy()  # in one piece: a trainer logs more than a hundred columns


def _is_a_run(run: Run) -> bool:
    """Neither a comparison nor a study's parent."""
    return run.data.tags.get(MLFLOW_PROJECT_ENTRY_POINT) not in _TRAIN_NOTHING and PLAN not in run.data.tags


class _Reader:
    """Reads MLflow's runs, each set of params once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._losses = [row.name for row in task.metrics if row.per_epoch and not row.is_wall_time]
        self._known: dict[Any, tuple[dict[str, Any] | None, float]] = {}

    def row(self, run: Run) -> dict[str, Any]:
        info, data = run.info, run.data
        params, epochs = self._typed(data.params) if FINGERPRINT in data.tags else (None, math.nan)
        row = {
            "run_id": info.run_id,
            "name": info.run_name or "",
            "status": info.status,
            "start": info.start_time,
            "end": info.end_time,
            "ours": params is not None,
            "epochs": epochs,
            "last_epoch": self._last_epoch(mlflow_compat.last_metrics(run)),
        }
        row.update((f"params.{key}", value) for key, value in (data.params if params is None else params).items())
        values = data.metrics if params is None else {current(key): value for key, value in data.metrics.items()}
        row.update((f"metrics.{key}", _unclipped(value)) for key, value in values.items())
        row.update((f"tags.{key}", value) for key, value in data.tags.items() if key in _TAGS or is_repetition(key))
        return row

    def _typed(self, params: Mapping[str, str]) -> tuple[dict[str, Any] | None, float]:
        """A run's params through the types of the task, and how far it goes; None where they are not the task's."""
        key = frozenset(params.items())
        if key not in self._known:
            read = self._task.read(params)
            steps = math.nan if read is None else self._task.steps(self._task.configure(read))
            self._known[key] = (read, steps)
        return self._known[key]

    def _last_epoch(self, metrics: Iterable[Any]) -> float:
        steps = {metric.key: metric.step for metric in metrics if not metric.key.startswith(_OF_THE_MACHINE)}
        per_epoch = [steps[name] for name in self._losses if name in steps]
        return float(max(per_epoch or steps.values(), default=math.nan))


def _unclipped(value: float) -> float:
    return value if abs(value) < _LARGEST or math.isnan(value) else math.copysign(math.inf, value)


class Plan(NamedTuple):
    """A study's parent run, what was to be run, how often it was looked at, this time included, and all its plans."""

    run_id: str
    study: Study
    looks: int
    declared: tuple[Declared, ...]


def study_plan(experiment_id: str, study: str, run_id: str | None = None) -> Plan:
    """That of the latest parent run of a study, or of the one of that ID.

    A study that finished before with fewer seeds, and the same claims, was looked at then: nobody extends a study whose
    result he has not seen.

    Raises:
        UserError: there is none, or it has no plan.
    """
    client = mlflow.MlflowClient()
    with store.tracking_store(mlflow.get_tracking_uri()):
        parents = client.search_runs([experiment_id], f"tags.{PLAN} LIKE '%'", order_by=["start_time DESC"])
    wanted = [run for run in parents if run.data.tags.get(STUDY) == study]
    chosen = next((run for run in wanted if run_id in (None, run.info.run_id)), None)
    if chosen is None and run_id and wanted:
        raise UserError(f"the run {run_id} of the study {study} is gone; compare the study's other runs anew")
    if chosen is None:
        names = sorted({run.data.tags[STUDY] for run in parents if STUDY in run.data.tags})
        known = f"there are {listed(map(quoted, names))}" if names else "run it with mlflow run . -e study -P study=..."
        raise UserError(f"study={quoted(study)} has no run in this experiment{did_you_mean(study, names)}; {known}")
    now = _plan(chosen)
    if now is None:
        raise UserError(
            f"{PLAN_FILE} of the run {chosen.info.run_id} is lost or of another version of this project; "
            f"run the study {study} again, or compare without --study"
        )
    earlier = [run for run in wanted if run.info.start_time < chosen.info.start_time]
    before = {run.data.tags[PLAN]: run for run in earlier if run.info.status == "FINISHED"}
    looks = {plan.seeds for plan in map(_plan, before.values()) if plan is not None and _extended(plan, now)}
    declared = tuple(each for run in (chosen, *earlier) for each in _declared(run))
    return Plan(chosen.info.run_id, now, len(looks) + 1, declared)


def _declared(parent: Run) -> Iterable[Declared]:
    """The plans with which a study's run was begun and gone on with; of a version before, only the first is there."""
    kept = [file.path for file in _files(parent.info.run_id, PLANS)]
    for path in kept or [PLAN_FILE]:
        stem = Path(path).stem
        text = artifact(parent.info.run_id, path)
        with suppress(ValueError):  # it is of another version
            if text is not None:
                at = float(stem) if kept else float(parent.info.start_time)
                yield Declared(at, Study.model_validate_json(text))


def _plan(parent: Run) -> Study | None:
    text = artifact(parent.info.run_id, PLAN_FILE)
    try:
        study = None if text is None else Study.model_validate_json(text)
        tuned = artifact(parent.info.run_id, TUNED_FILE) if study and study.nuisance else None
        return study if study is None or tuned is None else study.at(json.loads(tuned))
    except ValueError:
        return None


def _extended(before: Study, now: Study) -> bool:
    """Whether a study is another one with more seeds, and judges again what that one judged."""
    claimed = ({(claim.variation, claim.against, claim.metric) for claim in each.claims} for each in (before, now))
    return set(before.seeds) < set(now.seeds) and bool(set.intersection(*claimed))


def histories(run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Every value that runs logged of some metrics.

    Returns:
        `run_id, epoch`, and a column for each metric, NaN where it has no value; of two values of a step, the later. A
        run that is gone has no rows.

    Raises:
        UserError: the store cannot be used.
    """
    points: list[mlflow_compat.Point] = []
    client = mlflow.MlflowClient()
    with store.tracking_store(mlflow.get_tracking_uri()):
        for start in range(0, len(run_ids), _BULK_RUNS):
            chunk = run_ids[start : start + _BULK_RUNS]
            for metric in metrics:
                found = mlflow_compat.histories(client, chunk, metric, _BULK_VALUES)
                if found is None or len(found) >= _BULK_VALUES:  # not to be had so, or not all of it
                    found = _one_by_one(client, chunk, metric)
                points += found
    if not points:
        return pd.DataFrame(columns=["run_id", "epoch", *metrics])
    long = pd.DataFrame(points, columns=["run_id", "epoch", "metric", "at", "value"])
    long["value"] = long["value"].map(_unclipped)
    long = long.sort_values("at", kind="stable").drop_duplicates(["run_id", "epoch", "metric"], keep="last")
    wide = long.pivot(index=["run_id", "epoch"], columns="metric", values="value").reset_index()
    return wide.rename_axis(columns=None).reindex(columns=["run_id", "epoch", *metrics])


def _one_by_one(client: mlflow.MlflowClient, run_ids: Sequence[str], metric: str) -> list[mlflow_compat.Point]:
    points: list[mlflow_compat.Point] = []
    for run_id in run_ids:
        try:
            found = client.get_metric_history(run_id, metric)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue
        points += [(run_id, each.step, metric, each.timestamp, each.value) for each in found]
    return points


class PictureError(Exception):
    """A picture that a run has logged and that is not used; the text says why."""


Pictures = tuple[NDArray[np.float32], NDArray[np.float32]]


def digits(run_id: str) -> Pictures | None:
    """The first test images and what the run made of them at last.

    Returns:
        Originals and reconstructions, each [images, height, width, channels] in [0, 1]; None where there is no picture
        of that kind.

    Raises:
        PictureError: it is too large, or no such picture.
    """
    arrays = next((file for file in _files(run_id) if file.path == RECONSTRUCTIONS_FILE), None)
    if arrays is not None:
        content = _small_artifact(run_id, arrays)
        return None if content is None else _two_arrays(content)
    steps = {}  # of runs of earlier versions: the pictures that they logged
    for file in _files(run_id, "images"):
        found = re.search(rf"/{PICTURE}\W*step\W(\d+)\W.*(?<!compressed)\.png$", file.path)
        if found:
            steps[int(found[1])] = file
    content = _small_artifact(run_id, steps[max(steps)]) if steps else None
    return None if content is None else _two_rows(content)


def _files(run_id: str, folder: str | None = None) -> list[FileInfo]:
    try:
        return list(mlflow.MlflowClient().list_artifacts(run_id, folder))
    except (MlflowException, OSError):
        return []


def _small_artifact(run_id: str, file: FileInfo) -> bytes | None:
    size = file.file_size or 0  # some artifact stores do not say it
    if size > _MOST_BYTES:
        raise PictureError(f"it has {size / 2**20:,.0f} MB, more than {_MOST_BYTES / 2**20:.0f}")
    return artifact(run_id, file.path)


def _two_arrays(npz: bytes) -> Pictures:
    """The first images of either array; their headers say what they unpack to, before anything is."""
    if not zipfile.is_zipfile(io.BytesIO(npz)):
        raise PictureError("it is not an NPZ file")
    try:
        with zipfile.ZipFile(io.BytesIO(npz)) as archive:
            x, y = (_images(archive, archive.getinfo(f"{name}.npy")) for name in ("originals", "reconstructed"))
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, RuntimeError, zlib.error) as error:
        raise PictureError(f"it is damaged ({first_line(error)})") from None
    if x.shape != y.shape:
        raise PictureError("its originals and its reconstructions are not of one size")
    return x, y


def _images(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[np.float32]:
    """Of what `numpy.savez` can write, images only: another way to pack or describe an array can ask for any memory."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PictureError("it is not packed as NumPy does")
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise PictureError("it is not two arrays of images")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        if len(shape) != 4 or min(shape) < 1 or shape[-1] not in (1, 3) or dtype not in _OF_PICTURES:
            raise PictureError("it is not two arrays of images")
        if math.prod(shape) > _MOST_PIXELS:
            size = " x ".join(f"{length:,}" for length in shape)
            raise PictureError(f"it has {size} values, more than {_MOST_PIXELS // 10**6} million")
        values = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
    images = values.reshape(shape, order="F" if by_columns else "C")[:_DIGITS]
    images = images.astype(np.float32) / np.float32(255 if dtype == np.uint8 else 1)
    if not ((images >= 0) & (images <= 1)).all():
        raise PictureError("it has values outside [0, 1]")
    return images


def _two_rows(png: bytes) -> Pictures:
    """Undo `plots.strip`. The size is in the first bytes: a small file may unpack to more than any memory."""
    from PIL import Image

    if not png.startswith(b"\x89PNG\r\n\x1a\n") or png[12:16] != b"IHDR" or len(png) < 24:
        raise PictureError("it is not a PNG file")
    width, height = struct.unpack(">II", png[16:24])
    if width * height > _MOST_PIXELS:
        raise PictureError(f"it has {width:,} x {height:,} pixels, more than {_MOST_PIXELS // 10**6} million")
    try:
        with Image.open(io.BytesIO(png)) as image:
            pixels = np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB"))[::_ENLARGED, ::_ENLARGED]
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:  # as Pillow raises them
        raise PictureError(f"it is damaged ({first_line(error)})") from None
    if len(pixels) % 2 or pixels.shape[1] % _DIGITS:
        raise PictureError(f"it is not two rows of {_DIGITS} images")
    pixels = (pixels[..., None] if pixels.ndim == 2 else pixels).astype(np.float32) / np.float32(255)
    rows = [np.stack(np.split(row, _DIGITS, axis=1)) for row in np.split(pixels, 2)]
    return rows[0], rows[1]


def log_files(files: Iterable[Path], run_id: str | None, experiment: Experiment, tags: Mapping[str, str]) -> str:
    """Log files, and tags, to a run, else to the one that `mlflow run` opened, else to a new one; returns its ID.

    Args:
        run_id: a study's.
        experiment: where a new one is made.

    Raises:
        UserError: the store does not take them.
    """
    client, target = mlflow.MlflowClient(), run_id or os.environ.get(LAUNCHED)
    with store.tracking_store(mlflow.get_tracking_uri()), ExitStack() as ending:
        if target is None:
            made = mlflow.start_run(None, experiment.id, "compare", tags={MLFLOW_PROJECT_ENTRY_POINT: "compare"})
            target = str(ending.enter_context(made).info.run_id)
        for file in files:
            client.log_artifact(target, str(file), "results")
        for key, value in tags.items():
            client.set_tag(target, key, value)
        return target


def describe_launched_run(tags: Mapping[str, str]) -> None:
    """Have the run that `mlflow run` opened for a comparison say what it was; sent when that run is ended."""
    folder = state_folder() / RUNS / os.environ.get(LAUNCHED, "")
    if (folder / HEADER).exists():
        Journal(folder).append("tags", tags=dict(tags))


def versions() -> dict[str, str]:
    """Of what reads and computes."""
    import platform

    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("mlflow", "numpy", "pandas", "scipy")},
    }


def iso(milliseconds: float | None) -> str | None:
    """Milliseconds since 1970 as ISO 8601, UTC, to the second."""
    if milliseconds is None or math.isnan(milliseconds):
        return None
    return (
        datetime.fromtimestamp(milliseconds / 1000, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    )
