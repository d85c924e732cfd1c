"""Every way in gives the same images; whatever holds no images is refused in one line."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import dataset
from pipeline.config import UserError

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (7, 5, 6), dtype=np.uint8)
TEST = RNG.integers(0, 256, (3, 5, 6), dtype=np.uint8)


def write_idx(path: Path, array: NDArray, code: int = 0x08) -> bytes:
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return content


def write_npz(path: Path, **arrays: NDArray) -> str:
    np.savez(path, allow_pickle=True, **arrays)
    return str(path)


def test_the_shipped_mnist_is_the_real_one(mnist: dataset.Images) -> None:
    assert mnist.train.shape == (60000, 784)
    assert mnist.test.shape == (10000, 784)
    assert mnist.train.dtype == np.float32
    assert mnist.shape == (28, 28, 1)
    # The mean and deviation of MNIST's training pixels that every tutorial normalises with.
    assert mnist.train.mean(dtype=float) == pytest.approx(0.1307, abs=5e-5)
    assert mnist.train.std(dtype=float) == pytest.approx(0.3081, abs=5e-5)
    assert (mnist.train.min(), mnist.train.max()) == (0, 1)


def test_a_damaged_shipped_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(dataset.SHIPPED.read_bytes())
    content[5000] ^= 1
    damaged = tmp_path / "mnist.npz"
    damaged.write_bytes(content)
    monkeypatch.setattr(dataset, "SHIPPED", damaged)
    with pytest.raises(UserError, match=r"is damaged \(SHA-256 .*git checkout"):
        dataset.load("mnist")
    damaged.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        dataset.load("mnist")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_npz_and_idx_folders_give_the_same_images(tmp_path: Path, suffix: str) -> None:
    write_idx(tmp_path / f"train-images-idx3-ubyte{suffix}", TRAIN)
    write_idx(tmp_path / f"t10k-images-idx3-ubyte{suffix}", TEST)
    folder = dataset.load(str(tmp_path))
    file = dataset.load(write_npz(tmp_path / "a.npz", x_train=TRAIN, x_test=TEST, y_train=TRAIN[:, 0, 0]))
    assert folder.sha256 == file.sha256
    assert folder.shape == file.shape == (5, 6, 1)
    np.testing.assert_array_equal(folder.train, TRAIN.reshape(7, 30) / np.float32(255))
    np.testing.assert_array_equal(folder.test, file.test)
    np.testing.assert_array_equal(folder.as_pictures(folder.train)[2, 3, 4], [TRAIN[2, 3, 4] / np.float32(255)])


def test_colour_floats_and_black_and_white(tmp_path: Path) -> None:
    colour = RNG.random((4, 3, 2, 3))
    images = dataset.load(write_npz(tmp_path / "c.npz", x_train=colour, x_test=colour[:1]))
    assert images.shape == (3, 2, 3)
    assert images.train.dtype == np.float32
    np.testing.assert_allclose(images.as_pictures(images.train), colour, rtol=1e-6)
    binary = (TRAIN > 127).astype(np.int64)
    np.testing.assert_array_equal(
        dataset.load(write_npz(tmp_path / "b.npz", x_train=binary, x_test=binary)).train, binary.reshape(7, 30)
    )


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    one = dataset.load(write_npz(tmp_path / "1.npz", x_train=TRAIN, x_test=TEST))
    same = dataset.load(write_npz(tmp_path / "2.npz", x_test=TEST, x_train=TRAIN))
    changed = TRAIN.copy()
    changed[0, 0, 0] ^= 1
    other = dataset.load(write_npz(tmp_path / "3.npz", x_train=changed, x_test=TEST))
    assert one.sha256 == same.sha256 != other.sha256
    assert (one.name, one.source) == ("1.npz", (tmp_path / "1.npz").as_uri())


def test_fashion_mnist_comes_from_keras_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: ((TRAIN, None), (TEST, None)))
    assert dataset.load("fashion_mnist").train.shape == (7, 30)

    def offline() -> None:
        raise Exception("URL fetch failure on https://...: no network")

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", offline)
    with pytest.raises(UserError, match=r"could not be downloaded.*URL fetch failure.*give the path"):
        dataset.load("fashion_mnist")


def npz(**arrays: NDArray) -> Callable[[Path], str]:
    return lambda folder: write_npz(folder / "bad.npz", **arrays)


def truncated_npz(folder: Path) -> str:
    path = Path(write_npz(folder / "bad.npz", x_train=TRAIN, x_test=TEST))
    path.write_bytes(path.read_bytes()[:-100])
    return str(path)


def idx(change: Callable[[bytes], bytes], suffix: str = "") -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        for name, array in (("train", TRAIN), ("t10k", TEST)):
            path = folder / f"{name}-images-idx3-ubyte{suffix}"
            write_idx(path, array)
            path.write_bytes(change(path.read_bytes()))
        return str(folder)

    return make


def text_file(folder: Path) -> str:
    (folder / "notes.txt").write_text("not images")
    return str(folder / "notes.txt")


def one_array(folder: Path) -> str:
    np.save(folder / "one.npy", TRAIN)
    return str(folder / "one.npy")


HOLED = TRAIN.astype(np.float32) / 255
HOLED[1, 2, 3] = np.nan


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: str(folder / "missing"), "does not exist; give mnist, fashion_mnist"),
        (lambda folder: str(folder), "has no file train-images"),
        (text_file, "is not a readable .npz"),
        (one_array, "one array, not an archive"),
        (truncated_npz, "is not a readable .npz"),
        (npz(images=TRAIN, labels=TEST), "has the keys images, labels; it must have x_train and x_test"),
        (npz(x_train=TRAIN), "has the keys x_train; it must have"),
        (npz(x_train=HOLED, x_test=HOLED[:1]), "has NaN or infinite values"),
        (npz(x_train=TRAIN[:, :, 0], x_test=TEST[:, :, 0]), r"of shape \(7, 5\); images are \[images, height, width\]"),
        (npz(x_train=TRAIN[:0], x_test=TEST), r"of shape \(0, 5, 6\)"),
        (npz(x_train=TRAIN, x_test=TEST[:, :4]), "make them the same size"),
        (npz(x_train=TRAIN * 2.0, x_test=TEST), "with values from .* allowed: integers from 0 to 255"),
        (npz(x_train=TRAIN.astype(int) - 300, x_test=TEST), "with values from"),
        (npz(x_train=TRAIN.astype("U3"), x_test=TEST), "pixels are integers"),
        (npz(x_train=np.array([None, 1]), x_test=TEST), "is not a readable .npz"),
        (idx(lambda content: content[:-1]), "bytes where its header promises"),
        (idx(lambda content: content[:6]), "is not a readable IDX file"),
        (idx(lambda content: b"\x89PNG" + content), "does not begin as an IDX file does"),
        (idx(lambda content: content[:-20], ".gz"), "is not a readable IDX file"),
        (idx(lambda _: b""), "does not begin as an IDX file does"),
    ],
)
def test_what_holds_no_images_is_refused_in_one_line(make: Callable[[Path], str], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says) as error:
        dataset.load(make(tmp_path))
    assert "\n" not in str(error.value)
