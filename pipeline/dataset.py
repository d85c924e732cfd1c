"""A name or a path in, images out: scaled to [0, 1], flattened, and identified by a hash of their content."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import UserError, first_line

MNIST, FASHION_MNIST = "mnist", "fashion_mnist"  # the names; whatever else is given is a path
SHIPPED = Path(__file__).parent / "datasets" / "mnist.npz"
SHIPPED_SHA256 = "88eaf78b3cf8a302b5c253212171853934f34bb083759fe893a3554a84c56f0a"
FASHION_MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"  # where Keras downloads it from

# IDX: http://yann.lecun.com/exdb/mnist/ ("the IDX file format"), big-endian.
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_NAMES = {"x_train": ("train-images*",), "x_test": ("t10k-images*", "test-images*")}
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Images:
    """The images of a data set.

    Attributes:
        name: what the user called it (a path's last part).
        source: the URI that it was read from.
        sha256: of the pixel values as they were stored, with their type and shape, train then test.
        shape: of one image, (height, width, channels).
        train: [images, height * width * channels] float32 in [0, 1].
        test: the same, for the images that are never trained on.
    """

    name: str
    source: str
    sha256: str
    shape: tuple[int, int, int]
    train: NDArray[np.float32]
    test: NDArray[np.float32]

    def as_pictures(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        """[images, height * width * channels] as [images, height, width, channels]."""
        return flat.reshape(-1, *self.shape)


def load(dataset: str) -> Images:
    """The images that `RunConfig.dataset` names.

    Raises:
        UserError: it is not there, cannot be read, or does not hold images.
    """
    if dataset == MNIST:
        source, arrays = SHIPPED.as_uri(), _shipped()
    elif dataset == FASHION_MNIST:
        source, arrays = FASHION_MNIST_URL, _fashion_mnist()
    else:
        path = Path(dataset).expanduser()
        if not path.exists():
            raise UserError(
                f"dataset={dataset!r} does not exist; give mnist, fashion_mnist, an .npz file or a folder of IDX files"
            )
        source, arrays = path.resolve().as_uri(), _idx_folder(path) if path.is_dir() else _npz(path)
    raw = [arrays["x_train"], arrays["x_test"]]
    for name, array in zip(("x_train", "x_test"), raw, strict=True):
        _require_images(dataset, name, array)
    shapes = [array.shape[1:] for array in raw]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"dataset={dataset!r}: the images of x_train are {shapes[0]}, those of x_test {shapes[1]}; "
            "make them the same size"
        )
    height, width, *channels = shapes[0]
    full_scale = max(_full_scale(array) for array in raw)
    train, test = (_scaled(array, full_scale) for array in raw)
    shape = (height, width, channels[0] if channels else 1)
    return Images(Path(dataset).name, source, _content_hash(raw), shape, train, test)


def _shipped() -> dict[str, NDArray]:
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


def _fashion_mnist() -> dict[str, NDArray]:
    import keras

    try:
        (x_train, _), (x_test, _) = keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise UserError(
            f"dataset='fashion_mnist' could not be downloaded or read: {first_line(error)}; "
            "connect to the network once, or give the path of a folder that holds its IDX files"
        ) from None
    return {"x_train": x_train, "x_test": x_test}


def _npz(path: Path) -> dict[str, NDArray]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is one array, not an archive of several")
            if not {"x_train", "x_test"} <= set(archive.files):
                raise UserError(
                    f"dataset={str(path)!r} has the keys {', '.join(sorted(archive.files)) or 'none'}; "
                    "it must have x_train and x_test"
                )
            return {name: archive[name] for name in ("x_train", "x_test")}
    except _UNREADABLE as error:
        raise UserError(f"dataset={str(path)!r} is not a readable .npz: {first_line(error)}; is it complete?") from None


def _idx_folder(folder: Path) -> dict[str, NDArray]:
    arrays = {}
    for name, patterns in _IDX_NAMES.items():
        files = sorted(file for pattern in patterns for file in folder.glob(pattern))
        if not files:
            raise UserError(
                f"dataset={str(folder)!r} has no file {' or '.join(patterns)}; "
                "a folder must hold IDX files named as MNIST's are, gzipped or not"
            )
        try:
            arrays[name] = _idx(files[0])
        except _UNREADABLE as error:
            raise UserError(f"{str(files[0])!r} is not a readable IDX file: {first_line(error)}") from None
    return arrays


def _idx(path: Path) -> NDArray:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES:
        raise ValueError("it does not begin as an IDX file does")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4").astype(int)
    dtype = np.dtype(_IDX_DTYPES[content[2]])
    wanted = start + int(np.prod(shape)) * dtype.itemsize
    if len(content) != wanted:
        raise ValueError(f"it has {len(content)} bytes where its header promises {wanted}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _require_images(dataset: str, name: str, array: NDArray) -> None:
    found = f"dataset={dataset!r}: {name} is {array.dtype} of shape {array.shape}"
    if array.ndim not in (3, 4) or 0 in array.shape or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise UserError(f"{found}; images are [images, height, width] or [images, height, width, 1 or 3]")
    if array.dtype.kind not in "uif":
        raise UserError(f"{found}; pixels are integers from 0 to 255 or floats from 0 to 1")
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{found} and has NaN or infinite values; remove or replace them")
    if low < 0 or high > (1 if array.dtype.kind == "f" else 255):
        raise UserError(
            f"{found} with values from {low} to {high}; allowed: integers from 0 to 255, floats from 0 to 1"
        )


def _full_scale(array: NDArray) -> int:
    """The value of white: 1 for floats and for images of only 0 and 1, else 255."""
    return 1 if array.dtype.kind == "f" or array.max() <= 1 else 255


def _scaled(array: NDArray, full_scale: int) -> NDArray[np.float32]:
    return np.divide(array.reshape(len(array), -1), full_scale, dtype=np.float32, casting="same_kind")


def _content_hash(arrays: list[NDArray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
