"""A name or a path in, images and their labels out: scaled to [0, 1], and identified by a hash of their content.

A file is judged by its header, before it is unpacked: what it promises must be images, and fit into memory.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import io
import itertools
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

from pipeline.cli import user_path
from pipeline.errors import UserError, first_line
from pipeline.texts import gigabytes, quoted
from pipeline.train.config import path_and_white

MNIST, FASHION_MNIST = "mnist", "fashion_mnist"  # the names; whatever else is given is a path
SHIPPED = Path(__file__).parents[1] / "datasets" / "mnist.npz"
SHIPPED_SHA256 = "88eaf78b3cf8a302b5c253212171853934f34bb083759fe893a3554a84c56f0a"
FASHION_MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"  # where Keras downloads it from

_SPLIT = 0x5B117  # so that a split is no other draw of the same seed
TRAIN, TEST = "x_train", "x_test"
# The keys of an .npz in lower case: Keras's, MedMNIST's (https://medmnist.com), and others that are seen.
_KEYS = {
    TRAIN: ("x_train", "train_x", "xtrain", "trainx", "train_images", "training_images", "images_train"),
    TEST: ("x_test", "test_x", "xtest", "testx", "test_images", "testing_images", "images_test"),
}
_KEPT = (np.uint8, np.uint16)  # types of pixels that take less memory than floats
ALIGNMENT = 64  # bytes, of which an array begins at a multiple that TensorFlow uses as it lies, instead of a copy
_WHITES = (1, 255, 65535)  # values that white has where nobody says another
_LONGEST_SIDE = 50  # times the shorter one: of longer pictures MLflow makes previews that are no pixel high
MOST_PIXELS = 512 * 512  # of an image: of larger ones Pillow does not read back the pictures that a run logs
_AS_INT64 = 8  # bytes for at least two of a CSV file, held twice while it is read
_LONGEST_LINE = 1_000_000  # characters of the names of columns
_NAMED = 3  # names in a message
# Names of files, but for what macOS leaves in archives.
_OF_IMAGES = re.compile(r"^[^.].*\.(npz|zip)$|^(?!\.)(.*train-images|.*train.*\.csv$)")
_DEEPEST = 2  # folders: torchvision's `data/MNIST/raw/train-images-idx3-ubyte` is found in `data`

# IDX: http://yann.lecun.com/exdb/mnist/ ("the IDX file format"), big-endian.
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP, _ZIP, _NPY, _IDX = b"\x1f\x8b", b"PK", b"\x93NUMPY", b"\0\0"
_OTHERS = {"one array, not an archive of two": (_NPY,), "a MATLAB or HDF5 file": (b"MATLAB", b"\x89HDF")}
_READ_NPY_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_WANTED = "mnist, fashion_mnist, an .npz file or a folder of IDX files"
_SAVE = "save it as np.savez('images.npz', x_train=..., x_test=...)"


@dataclass(frozen=True)
class Images:
    """The images of a data set.

    Attributes:
        name: what the user called it (a path's last part).
        source: the URI that it was read from.
        sha256: of the pixel values as they were stored, with their type and shape, train then test.
        stored: [images, height, width, channels], those to train on as they were stored, or float32 in [0, 1] where
            that would take more memory; multiplied in double precision by `scale` they are `train`.
        test: [images, height, width, channels] float32 in [0, 1], never trained on.
        train_labels: [images] integers, or None where the source has none. Nothing is trained on them.
        test_labels: the same.
        held_out: as `test`, taken from those to train on by `split`; None where validation is on the test images.
        scale: 1 / white.
    """

    name: str
    source: str
    sha256: str
    stored: NDArray
    test: NDArray[np.float32]
    train_labels: NDArray[np.int64] | None = None
    test_labels: NDArray[np.int64] | None = None
    held_out: NDArray[np.float32] | None = None
    scale: float = 1.0

    @cached_property
    def train(self) -> NDArray[np.float32]:
        """[images, height, width, channels] in [0, 1]: those to train on, which then lie in memory once more."""
        return _times(self.stored, self.scale)

    @property
    def validation(self) -> NDArray[np.float32]:
        """The images that every epoch is measured on."""
        return self.test if self.held_out is None else self.held_out

    def split(self, validation: int, seed: int) -> Images:
        """With so many of the training images held out for validation, drawn by a seed; their order stays."""
        if not validation:
            return self
        drawn = np.random.default_rng((_SPLIT, seed)).permutation(len(self.stored))
        kept, held_out = np.sort(drawn[validation:]), np.sort(drawn[:validation])
        labels = None if self.train_labels is None else self.train_labels[kept]
        validation_images = _aligned(_times(self.stored[held_out], self.scale))
        stored = zeros((len(kept), *self.shape), self.stored.dtype)
        np.take(self.stored, kept, axis=0, out=stored, mode="clip")  # by any other mode it makes a copy first
        return replace(self, stored=stored, train_labels=labels, held_out=validation_images)

    @property
    def forms(self) -> dict[str, NDArray[np.float32]]:
        """By what images are for, an array of their shape and type that holds nothing."""
        held_out = {} if self.held_out is None else {"validation": self.held_out}
        arrays = {"train": self.stored, **held_out, "test": self.test}
        return {name: np.broadcast_to(np.float32(0), array.shape) for name, array in arrays.items()}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: (height, width, channels)."""
        _, height, width, channels = self.stored.shape
        return height, width, channels


class _Stored(NamedTuple):
    """An array as its file's header announces it, and how to find the labels of images."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], NDArray]
    labels: Callable[[], _Stored] | None = None


def load(dataset: str) -> Images:
    """The images that `RunConfig.dataset` names.

    They become floats from 0 (black) to 1 by one division, of both arrays by the same number. That number, the
    value of white, is what `#max=` says, or else the one of 1, 255 and 65535 of which the brightest pixel is more
    than half, in both arrays. So 0..254 is taken for 0..255, and 0..16 and 0..100 are refused, and so is one array
    in 0..1 beside one in 0..255: to guess wrong is to train on pictures that are nearly black.

    Raises:
        UserError: it is not there, cannot be read, does not hold images, has no range that is known, or would not
            fit into memory.
    """
    path, white = path_and_white(dataset)
    source, stored = _find(dataset, path)
    _require_images(dataset, stored)
    bytes_each = {
        name: array.dtype.itemsize + (array.dtype.itemsize if name == TRAIN and array.dtype in _KEPT else 4)
        for name, array in stored.items()
    }
    _require_memory(dataset, sum(math.prod(array.shape) * bytes_each[name] for name, array in stored.items()))
    raw = {name: array.read() for name, array in stored.items()}
    divisor = _white(dataset, raw, white)
    of_train, of_test = (_labels(array) for array in stored.values())
    train, scale = _kept(raw[TRAIN], divisor)
    return Images(
        name=Path(dataset).name or dataset,
        source=source,
        sha256=_content_hash(raw.values()),
        stored=train,
        test=_scaled(raw[TEST], divisor),
        train_labels=of_train,
        test_labels=of_test,
        scale=scale,
    )


def zeros(shape: Sequence[int], dtype: DTypeLike) -> NDArray:
    """As `numpy.zeros`, at a multiple of `ALIGNMENT`."""
    wanted = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(wanted + ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return memory[begin : begin + wanted].view(dtype).reshape(shape)


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, and at most what its container may have."""
    free = [psutil.virtual_memory().available]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroups, version 2 and 1
        with contextlib.suppress(OSError, ValueError):
            free.append(int(Path("/sys/fs/cgroup", limit).read_text()))
    return min(free)


def _find(dataset: str, path: str) -> tuple[str, dict[str, _Stored]]:
    """The URI of a data set, and its two arrays."""
    if dataset == MNIST:
        return SHIPPED.as_uri(), _shipped()
    if dataset == FASHION_MNIST:
        return FASHION_MNIST_URL, _fashion_mnist()
    found = user_path(path, "dataset", _WANTED)
    return found.resolve().as_uri(), _stored(found)


def _shipped() -> dict[str, _Stored]:
    try:
        found = hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"dataset='mnist': {SHIPPED} cannot be read ({error}); restore it with git checkout") from None
    if found != SHIPPED_SHA256:
        raise UserError(
            f"dataset='mnist': {SHIPPED} is damaged (SHA-256 {found[:12]}..., expected {SHIPPED_SHA256[:12]}...); "
            "restore it with git checkout"
        )
    return _npz(SHIPPED)


def _fashion_mnist() -> dict[str, _Stored]:
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise UserError(
            f"dataset='fashion_mnist' could not be downloaded or read: {first_line(error)}; "
            "connect to the network once, or give the path of a folder that holds its IDX files"
        ) from None
    return {TRAIN: _in_memory(x_train, y_train), TEST: _in_memory(x_test, y_test)}


def _in_memory(array: NDArray, labels: NDArray | None = None) -> _Stored:
    return _Stored(array.shape, array.dtype, lambda: array, None if labels is None else lambda: _in_memory(labels))


def _stored(path: Path) -> dict[str, _Stored]:
    """The two arrays of a file, or of the two files in a folder."""
    if path.is_dir():
        return _pair(*_search(path))
    if not path.is_file():
        raise UserError(f"dataset={quoted(path)} is a pipe or a device; give {_WANTED}")
    with _reading(path, "a readable file"), path.open("rb") as file:
        begins = file.read(len(_NPY))
    if begins.startswith(_ZIP):
        return _npz(path)
    if begins.startswith((_GZIP, _IDX)) or path.suffix.lower() == ".csv":
        return _pair(path, _test_file(path, path.parent))
    kind = next((kind for kind, magic in _OTHERS.items() if begins.startswith(magic)), "something else")
    raise UserError(f"dataset={quoted(path)} is not a readable .npz, IDX or CSV file but {kind}; {_SAVE}")


@contextlib.contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # what a damaged file makes zipfile, zlib, lzma, numpy, tokenize or pandas raise
        raise UserError(
            f"dataset={quoted(path)} is not {kind}: {first_line(error)[:100]}; is it complete, and may it be read?"
        ) from None


def _pair(train: Path, test: Path | None) -> dict[str, _Stored]:
    if test is None:
        raise UserError(
            f"dataset={quoted(train)} has no test images beside it: a file of the same name with t10k or test in the "
            "place of train; add it, or give an .npz file"
        )
    read = _csv if train.suffix.lower() == ".csv" else _idx
    return {TRAIN: read(train), TEST: read(test)}


def _search(folder: Path) -> tuple[Path, Path | None]:
    """The files of training and of test images that are nearest to the folder: IDX, named as MNIST's, or CSV."""
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"dataset={quoted(folder)} may not be read (Permission denied); allow it, or give {_WANTED}")
    alone: list[Path] = []
    archives: list[Path] = []
    for depth in range(_DEEPEST + 1):
        named = sorted(path for path in folder.glob("/".join("*" * (depth + 1))) if _OF_IMAGES.search(path.name))
        files = [path for path in named if os.path.isfile(path)]
        archives += [path for path in files if path.suffix in (".npz", ".zip")]
        trains = [path for path in files if path not in archives]
        # The same images unpacked and gzipped, as torchvision leaves them, are one file: the unpacked one.
        trains = [path for path in trains if path.suffix != ".gz" or path.with_suffix("") not in trains]
        pairs = [(train, test) for train in trains if (test := _test_file(train, folder))]
        if len(pairs) == 1:
            return pairs[0]
        if pairs:
            raise UserError(
                f"dataset={quoted(folder)} has {len(pairs)} files of training images, "
                f"{_some(train.relative_to(folder) for train, _ in pairs)}; give the path of one of them"
            )
        alone += trains
    if alone:
        return alone[0], None
    instead = f"give the path of {_some([archives[0].name])}" if archives else _SAVE
    raise UserError(f"dataset={quoted(folder)} has no file train-images* (IDX) or *train*.csv; {instead}")


def _test_file(train: Path, folder: Path) -> Path | None:
    """The file in the folder, of the same name with `t10k` or `test` for `train`, gzipped or not."""
    name = str(train.relative_to(folder)).removesuffix(".gz")
    words = ("t10k", "test") if "train" in name else ()
    tests = [folder / (name.replace("train", word) + suffix) for word in words for suffix in ("", ".gz")]
    return next((test for test in tests if os.path.isfile(test)), None)


def _npz(path: Path) -> dict[str, _Stored]:
    stored = {}
    with _reading(path, "a readable .npz"), zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        if archive.namelist() and not members:
            raise UserError(f"dataset={quoted(path)} is a zip archive without arrays; unpack it and give the folder")
        keys = {key.lower(): key for key in members}
        for part, known in _KEYS.items():
            key = next((keys[name] for name in known if name in keys), None)
            if key is None:
                raise UserError(
                    f"dataset={quoted(path)} has the keys {_some(sorted(members)) or 'none'}; "
                    "it must have x_train and x_test, or MedMNIST's train_images and test_images"
                )
            labels = keys.get(key.lower().replace("x", "y").replace("images", "labels"), "")
            stored[part] = _member(path, archive, members[key])._replace(labels=functools.partial(_npy, path, labels))
    return stored


def _npy(path: Path, key: str) -> _Stored:
    with _reading(path, "a readable .npz"), zipfile.ZipFile(path) as archive:
        return _member(path, archive, f"{key}.npy")


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> _Stored:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version not in _READ_NPY_HEADER:
            raise ValueError(f"{name} has version {version} of numpy's format")
        shape, _, dtype = _READ_NPY_HEADER[version](file)
        found, wanted = archive.getinfo(name).file_size - file.tell(), math.prod(shape) * dtype.itemsize
    if found != wanted and not dtype.hasobject:  # pickled objects have any size, and are refused for what they are
        raise ValueError(f"{name} has {found} bytes where its header promises {wanted}")

    def read() -> NDArray:
        with _reading(path, "a readable .npz"), zipfile.ZipFile(path) as archive, archive.open(name) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    return _Stored(shape, dtype, read)


def _idx(path: Path) -> _Stored:
    with _reading(path, "a readable IDX file"), _unpacked(path) as file:
        shape, dtype = _idx_header(file)

    def read() -> NDArray:
        with _reading(path, "a readable IDX file"), _unpacked(path) as file:
            _idx_header(file)
            wanted = math.prod(shape) * dtype.itemsize
            content = file.read(wanted)
            if len(content) < wanted or file.read(1):
                found = "more" if len(content) == wanted else f"{len(content)}"
                raise ValueError(f"it has {found} bytes where its header promises {wanted}")
            return np.frombuffer(content, dtype).reshape(shape)

    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    return _Stored(shape, dtype, read, lambda: _idx(path.with_name(name)))


def _unpacked(path: Path) -> io.BufferedIOBase:
    with path.open("rb") as file:
        gzipped = file.read(2) == _GZIP
    return gzip.open(path) if gzipped else path.open("rb")


def _idx_header(file: io.BufferedIOBase) -> tuple[tuple[int, ...], np.dtype]:
    begins = file.read(4)
    if len(begins) < 4 or not begins.startswith(_IDX) or begins[2] not in _IDX_DTYPES:
        raise ValueError("it does not begin as an IDX file does")
    sizes = file.read(4 * begins[3])
    if len(sizes) < 4 * begins[3]:
        raise ValueError("it ends within its header")
    return tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(_IDX_DTYPES[begins[2]])


def _csv(path: Path) -> _Stored:
    """Kaggle's form: a row for each image, its pixels row by row, a column `label` or none, a line of names or none."""
    import pandas as pd

    _require_memory(path, _AS_INT64 * path.stat().st_size)
    with _reading(path, "a readable CSV file"):
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline(_LONGEST_LINE)
        named = not re.match(r'[\s"\d.+-]+(,|$)', first)
        table = pd.read_csv(path, header=0 if named else None, low_memory=False)
        labels = [name for name in table if str(name).lower() == "label"]
        if not labels and not _is_square(table.shape[1]):
            labels = [table.columns[0]]
        pixels = table.drop(columns=labels).to_numpy()
        if not _is_square(pixels.shape[1]):
            raise ValueError(f"its {table.shape[1]} columns are no square image, with or without a label")
        side = math.isqrt(pixels.shape[1])
    if pixels.dtype.kind == "i" and pixels.size and pixels.min() >= 0 and pixels.max() <= 255:
        pixels = pixels.astype(np.uint8)
    return _in_memory(pixels.reshape(-1, side, side), table[labels[0]].to_numpy() if labels else None)


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


def _some(names: Iterable[object]) -> str:
    """The first of them."""
    first, *rest = [str(name)[:40] for name in itertools.islice(names, _NAMED + 1)] or [""]
    return ", ".join([first, *rest[: _NAMED - 1], *["..."] * (len(rest) >= _NAMED)])


def _require_images(dataset: str, arrays: Mapping[str, _Stored]) -> None:
    for name, (shape, dtype, *_) in arrays.items():
        found = f"dataset={quoted(dataset)}: {name} is {dtype.name} of shape {str(shape)[:60]}"
        if dtype.kind not in "buif":
            raise UserError(f"{found}; pixels are integers or floats")
        if len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and shape[3] not in (1, 3)):
            raise UserError(f"{found}; images are [images, height, width] or [images, height, width, 1 or 3]")
        if max(shape[1:3]) > _LONGEST_SIDE * min(shape[1:3]):
            raise UserError(f"{found}; one side may be {_LONGEST_SIDE} times as long as the other at most: cut or pad")
        if shape[1] * shape[2] > MOST_PIXELS:
            raise UserError(f"{found}; an image may have {MOST_PIXELS:,} pixels at most: make them smaller")
    one, other = (arrays[name].shape[1:] for name in (TRAIN, TEST))
    if one != other:
        raise UserError(
            f"dataset={quoted(dataset)}: the images of x_train are {one}, those of x_test {other}; "
            "make them the same size"
        )


def _require_memory(dataset: object, needed: int) -> None:
    free = free_memory()
    if needed > free:
        raise UserError(
            f"dataset={quoted(dataset)}: its images take {gigabytes(needed)} of memory, "
            f"{gigabytes(free)} are free; take fewer or smaller images"
        )


def _white(dataset: str, arrays: Mapping[str, NDArray], said: float | None) -> float:
    """The value of white: see `load`."""
    lows, highs = ([float(of(array)) for array in arrays.values()] for of in (np.min, np.max))
    low, high = min(lows), max(highs)
    found = f"dataset={quoted(dataset)}: " + ", ".join(
        f"{name} is {array.dtype.name} with values from {least:.8g} to {most:.8g}"
        for (name, array), least, most in zip(arrays.items(), lows, highs, strict=True)
    )
    if not np.isfinite([*lows, *highs]).all():
        raise UserError(f"dataset={quoted(dataset)} has NaN or infinite values; remove or replace them")
    if low == high == 0:
        raise UserError(f"dataset={quoted(dataset)}: every pixel is 0 in x_train and in x_test; give images")
    if low < 0 or (said is not None and high > said):
        raise UserError(f"{found}; allowed: from 0 to {'1, 255, 65535 or what #max= says' if said is None else said}")
    if said is not None:
        return said
    likely, whites = _likely_white(high), {_likely_white(most) for most in highs}
    if likely is not None and whites == {likely}:
        return likely
    example = likely or (int(high) if high.is_integer() else max(high, 1))
    if None not in whites:
        raise UserError(f"{found}; store both in the same range, or say which value is white in both: #max={example}")
    raise UserError(
        f"{found}, which is not 0 to 1, 255 or 65535; say which value is white: #max={example} behind the path"
    )


def _likely_white(most: float) -> int | None:
    return next((white for white in _WHITES if white / 2 < most <= white), None)


def _scaled(array: NDArray, white: float) -> NDArray[np.float32]:
    pixels = array.reshape(*array.shape[:3], -1)
    return np.divide(pixels, float(white), out=zeros(pixels.shape, np.float32), dtype=np.float32, casting="same_kind")


def _kept(array: NDArray, white: float) -> tuple[NDArray, float]:
    """`Images.stored` and `Images.scale`."""
    if array.dtype in _KEPT:
        values = np.arange(np.iinfo(array.dtype).max + 1).reshape(-1, 1, 1, 1)
        if np.array_equal(_times(values, 1 / white), _scaled(values, white)):
            return _aligned(array.reshape(*array.shape[:3], -1)), 1 / white
    return _scaled(array, white), 1.0


def _aligned(array: NDArray) -> NDArray:
    aligned = zeros(array.shape, array.dtype)
    aligned[...] = array
    return aligned


def _times(stored: NDArray, scale: float) -> NDArray[np.float32]:
    return np.multiply(stored, scale, dtype=np.float64).astype(np.float32)


def _labels(images: _Stored) -> NDArray[np.int64] | None:
    """One integer for each image, where that is what lies beside them: nothing needs them, so nothing is refused."""
    try:
        labels = images.labels() if images.labels else None
        if labels and labels.dtype.kind in "ui" and labels.shape in ((images.shape[0],), (images.shape[0], 1)):
            return labels.read().reshape(-1).astype(np.int64)
    except UserError:
        pass
    return None


def _content_hash(arrays: Iterable[NDArray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
