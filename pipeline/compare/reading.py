"""What `compare` asks MLflow: runs, their histories, a study's plan, pictures. It reads, and writes nothing.

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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import FileInfo, LifecycleStage, Run
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from pipeline.compare import autolog
from pipeline.compare.repetitions import is_repetition
from pipeline.compare.request import Declared
from pipeline.errors import UserError, first_line
from pipeline.metrics import current
from pipeline.study.plan import Study
from pipeline.task import Task
from pipeline.texts import did_you_mean, listed, quoted, redacted
from pipeline.tracking import mlflow_compat, store
from pipeline.tracking.names import (
    ATTEMPT,
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

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_TRAIN_NOTHING = ("study", "compare")  # of the entry points: a study's children are runs of their own
_DIGITS = 10  # on such a picture
_ENLARGED = 4  # and pixels per pixel
_OF_PICTURES = [np.dtype(kind) for kind in (np.uint8, np.float16, np.float32, np.float64)]
_MOST_PIXELS, _MOST_BYTES = 25_000_000, 50 * 2**20  # of such a picture: images of 279 x 279 pixels, and room to spare

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"  # how such files begin

_TAGS = (
    *(FINGERPRINT, DATA_HASH, LOCK_HASH, GIT_DIRTY, HARDWARE, FAILURE, STUDY, VARIATION, SEED, PLAN, REUSED_FROM),
    *(ROLE, GRID_POINT, ATTEMPT),
    *(MLFLOW_RUN_NAME, MLFLOW_PARENT_RUN_ID, MLFLOW_GIT_COMMIT, MLFLOW_PROJECT_ENTRY_POINT),
    *autolog.TAGS,
)
_PAGE = 10_000
_BULK_RUNS, _BULK_VALUES = 50, 25_000  # one bulk request: a server takes 100 runs, and gives so many values
_OF_THE_MACHINE = "system/"  # MLflow's own metrics of the machine, whose steps are samples
_A_TIME = 10**9  # no run begins at such a step: it is the second, or a part of it, at which a value was logged
_EARLIEST, _LATEST = 946_684_800_000, 4_102_444_800_000  # 2000 and 2100, in milliseconds since 1970
_LARGEST = 1.79e308  # SQL cannot hold an infinity: MLflow writes the largest float for it


class Experiment(NamedTuple):
    """An experiment of the current store."""

    name: str
    id: str


def experiments(asked: str | Sequence[str]) -> list[Experiment]:
    """The experiments of some names or IDs: a list, or one text, which may have commas between several.

    Empty = the one that `mlflow run` chose, `MLFLOW_EXPERIMENT_NAME`, or `Default`.

    Raises:
        UserError: there is no such store or experiment.
    """
    store.require_reachable(mlflow.get_tracking_uri(), must_exist=True)
    with store.tracking_store(mlflow.get_tracking_uri()):
        client = mlflow.MlflowClient()
        if not asked and os.environ.get("MLFLOW_EXPERIMENT_ID"):
            asked = [str(client.get_experiment(os.environ["MLFLOW_EXPERIMENT_ID"]).name)]
        asked = asked or os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
        if isinstance(asked, str):  # a comma may stand in the name of one
            asked = [asked] if "," not in asked or _experiment(client, asked) else re.split(r"\s*,\s*", asked)
        found = {name: _experiment(client, name) for name in asked}
        for name, experiment in found.items():
            if experiment is None:
                names = [each.name for each in client.search_experiments()]
                raise UserError(
                    f"experiment={quoted(name)} does not exist in {redacted(mlflow.get_tracking_uri())}"
                    f"{did_you_mean(name, names)}; it has {listed(map(quoted, names))}"
                )
    return list(dict.fromkeys(each for each in found.values() if each))


def _experiment(client: mlflow.MlflowClient, name: str) -> Experiment | None:
    """That of a name, or else of an ID."""
    found = client.get_experiment_by_name(name)
    if found is None:
        with suppress(MlflowException):  # it is no ID either
            found = client.get_experiment(name)
    if found is None:
        return None
    if found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise UserError(store.deleted(found.name, found.experiment_id))
    return Experiment(found.name, str(found.experiment_id))


def ui(experiment: Experiment) -> str:
    """The address of an experiment in MLflow's UI, without a name and password; empty where the store is no server."""
    address = urlsplit(mlflow.get_tracking_uri())
    if address.scheme not in ("http", "https"):
        return ""
    place = address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return f"{place.rstrip('/')}/#/experiments/{experiment.id}"


def runs(
    experiment_ids: Sequence[str], task: Task, filter_string: str = "", tags: Collection[str] = ()
) -> pd.DataFrame:
    """The runs of experiments, whatever made them and however they ended, but for those that train nothing.

    Args:
        task: what made those runs that are `ours`.
        filter_string: MLflow's own.
        tags: which are read beside those that are of use here.

    Returns:
        One row per run, the newest first: `run_id, name, experiment_id, status, start, end` (the last two in
        milliseconds since 1970; NaN where that is not known), `ours` (whether the run is one of the task's, of which
        `params.*` are typed values, defaults filled in, and metrics have their current names; of all others they are
        texts), `epochs` (how far one of ours was to go), `last_epoch` (the last step of its losses, else of any metric
        but those of the machine; NaN without), `params.*`, `metrics.*` and those `tags.*` that are of use here.

    Raises:
        UserError: the store or the filter cannot be used.
    """
    client = mlflow.MlflowClient()
    rows: dict[str, dict[str, Any]] = {}  # pages overlap where runs are made or deleted meanwhile
    reader = _Reader(task, tags)
    token = None
    with store.tracking_store(mlflow.get_tracking_uri()):
        while True:
            try:
                page = client.search_runs([*experiment_ids], filter_string, max_results=_PAGE, page_token=token)
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
    columns = ["run_id", "name", "experiment_id", "status", "start", "end", "ours", "epochs", "last_epoch"]
    frame = pd.DataFrame(rows, columns=None if rows else columns, dtype=object)
    numbers = [
        name for name in frame if name in ("start", "end", "epochs", "last_epoch") or name.startswith("metrics.")
    ]
    typed = frame.astype({**dict.fromkeys(numbers, float), "ours": bool})
    return typed.copy()  # in one piece: a trainer logs more than a hundred columns


def _is_a_run(run: Run) -> bool:
    """Neither a comparison, nor what one has written, nor a study's parent; others, too, may tag runs with a plan."""
    tags = run.data.tags
    return tags.get(MLFLOW_PROJECT_ENTRY_POINT) not in _TRAIN_NOTHING and not {PLAN, STUDY} <= tags.keys()


class _Reader:
    """Reads MLflow's runs, each set of params once."""

    def __init__(self, task: Task, tags: Collection[str]) -> None:
        self._task = task
        self._tags = {*_TAGS, *tags}
        self._losses = [row.name for row in task.metrics if row.per_epoch and not row.is_wall_time]
        self._known: dict[Any, tuple[dict[str, Any] | None, float]] = {}

    def row(self, run: Run) -> dict[str, Any]:
        info, data = run.info, run.data
        params, epochs = self._typed(data.params) if FINGERPRINT in data.tags else (None, math.nan)
        start, end = _moments(info.start_time, info.end_time)
        row = {
            "run_id": info.run_id,
            "name": info.run_name or "",
            "experiment_id": info.experiment_id,
            "status": info.status,
            "start": start,
            "end": end,
            "ours": params is not None,
            "epochs": epochs,
            "last_epoch": self._last_epoch(mlflow_compat.last_metrics(run)),
        }
        row.update((f"params.{key}", value) for key, value in (data.params if params is None else params).items())
        values = data.metrics if params is None else {current(key): value for key, value in data.metrics.items()}
        row.update((f"metrics.{key}", _unclipped(value)) for key, value in values.items())
        row.update(
            (f"tags.{key}", value) for key, value in data.tags.items() if key in self._tags or is_repetition(key)
        )
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
        last = float(max(per_epoch or steps.values(), default=math.nan))
        return last if last < _EARLIEST else math.nan  # it is a time


def _moments(start: int | None, end: int | None) -> tuple[float, float]:
    """Of a run, in milliseconds since 1970; NaN where there is none, as of imported runs: 0, or in other units."""
    known = [float(at) if at is not None and _EARLIEST <= at <= _LATEST else math.nan for at in (start, end)]
    return known[0], known[1] if not known[1] < known[0] else math.nan


def _unclipped(value: float) -> float:
    return value if abs(value) < _LARGEST or math.isnan(value) else math.copysign(math.inf, value)


class Plan(NamedTuple):
    """A study's parent run, what was to be run, how often it was looked at, this time included, and all its plans."""

    run_id: str
    study: Study
    looks: int
    declared: tuple[Declared, ...]


def study_plan(experiment_ids: Sequence[str], study: str, run_id: str | None = None) -> Plan:
    """That of the latest parent run of a study, or of the one of that ID.

    A study that finished before with fewer seeds, and the same claims, was looked at then: nobody extends a study whose
    result he has not seen.

    Raises:
        UserError: there is none, or it has no plan.
    """
    client = mlflow.MlflowClient()
    with store.tracking_store(mlflow.get_tracking_uri()):
        parents = client.search_runs([*experiment_ids], f"tags.{PLAN} LIKE '%'", order_by=["start_time DESC"])
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
                yield Declared(at, Study.recorded(text))


def _plan(parent: Run) -> Study | None:
    text = artifact(parent.info.run_id, PLAN_FILE)
    try:
        study = None if text is None else Study.recorded(text)
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
        `run_id, epoch`, and a column `metrics.*` for each, NaN where it has no value; of two values of a step, the
        later. Of a run whose steps are times, `epoch` counts them. A run that is gone has no rows.

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
    columns = {name: f"metrics.{name}" for name in metrics}
    if not points:
        return pd.DataFrame(columns=["run_id", "epoch", *columns.values()])
    long = pd.DataFrame(points, columns=["run_id", "epoch", "metric", "at", "value"])
    long["value"] = long["value"].map(_unclipped)
    long["metric"] = long["metric"].map(columns)
    long = long.sort_values("at", kind="stable").drop_duplicates(["run_id", "epoch", "metric"], keep="last")
    steps = long.groupby("run_id")["epoch"]
    are_times = steps.transform("min") >= _A_TIME
    long["epoch"] = long["epoch"].where(~are_times, steps.rank(method="dense").astype(int))
    wide = long.pivot(index=["run_id", "epoch"], columns="metric", values="value").reset_index()
    return wide.rename_axis(columns=None).reindex(columns=["run_id", "epoch", *columns.values()])


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


def picture(run_ids: Sequence[str], path: str) -> tuple[bytes, str]:
    """An artifact that is a picture, as the first of some runs that has it has logged it.

    Returns:
        The file, and what its name ends with: `.png` or `.jpg`.

    Raises:
        PictureError: there is none, it is too large, or no such picture.
    """
    where = PurePosixPath(path)
    folder = None if where.parent == PurePosixPath(".") else str(where.parent)
    for run_id in run_ids:
        file = next((file for file in _files(run_id, folder) if file.path == str(where) and not file.is_dir), None)
        content = None if file is None else _small_artifact(run_id, file)
        if content is not None:
            return content, _ending(content)
    raise PictureError(f"its run {run_ids[0]} has no artifact {where}, or the artifact store does not give it")


def _files(run_id: str, folder: str | None = None) -> list[FileInfo]:
    try:
        return list(mlflow.MlflowClient().list_artifacts(run_id, folder))
    except Exception:  # as each cloud's own library has them: no such library, no credentials, no such bucket
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
    """Undo `plots.strip`."""
    if not png.startswith(_PNG):
        raise PictureError("it is not a PNG file")
    with _opened(png) as image:
        pixels = np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB"))[::_ENLARGED, ::_ENLARGED]
    if len(pixels) % 2 or pixels.shape[1] % _DIGITS:
        raise PictureError(f"it is not two rows of {_DIGITS} images")
    pixels = (pixels[..., None] if pixels.ndim == 2 else pixels).astype(np.float32) / np.float32(255)
    rows = [np.stack(np.split(row, _DIGITS, axis=1)) for row in np.split(pixels, 2)]
    return rows[0], rows[1]


def _ending(content: bytes) -> str:
    """`.png` or `.jpg`, of a whole picture."""
    with _opened(content) as image:
        image.load()
    return ".png" if content.startswith(_PNG) else ".jpg"


@contextmanager
def _opened(content: bytes) -> Iterator[ImageFile]:
    """A PNG or JPEG that may be decoded: a small file may unpack to more than any memory, and its beginning says so."""
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    kind = PngImageFile if content.startswith(_PNG) else JpegImageFile if content.startswith(_JPEG) else None
    if kind is None:
        raise PictureError("it is neither a PNG nor a JPEG file")
    try:
        if kind is PngImageFile:  # whose text Pillow unpacks as it opens it
            _require_few(*struct.unpack(">II", content[16:24]))
        with kind(io.BytesIO(content)) as image:  # not by `Image.open`, which has limits of its own
            _require_few(*image.size)
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:  # as Pillow raises them
        raise PictureError(f"it is damaged ({first_line(error)})") from None


def _require_few(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise PictureError(f"it has {width:,} x {height:,} pixels, more than {_MOST_PIXELS // 10**6} million")


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
