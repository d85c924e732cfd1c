"""Every way in gives the same images; whatever holds no images is refused in one line."""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from pipeline import plots
from pipeline.errors import UserError
from pipeline.train import dataset
from tests.conftest import no_hang

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (7, 5, 6), dtype=np.uint8)
TEST = RNG.integers(0, 256, (3, 5, 6), dtype=np.uint8)
for array in (TRAIN, TEST):  # black and white in every image
    array[:, 0, 0], array[:, 0, 1] = 0, 255


def write_idx(path: Path, array: NDArray, code: int = 0x08) -> bytes:
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return content


def write_npz(path: Path, **arrays: NDArray) -> str:
    np.savez(path, allow_pickle=True, **arrays)
    return str(path)


def test_the_shipped_mnist_is_the_real_one(mnist: dataset.Images) -> None:
    assert mnist.train.shape == (60000, 28, 28, 1)
    assert mnist.test.shape == (10000, 28, 28, 1)
    assert mnist.train.dtype == np.float32
    assert [each.ctypes.data % dataset.ALIGNMENT for each in (mnist.stored, mnist.test)] == [0, 0]
    assert mnist.shape == (28, 28, 1)
    assert mnist.train_labels is not None
    assert mnist.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test_labels is not None
    assert mnist.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    # The mean and deviation of MNIST's training pixels that every tutorial normalises with.
    assert mnist.train.mean(dtype=float) == pytest.approx(0.1307, abs=5e-5)
    assert mnist.train.std(dtype=float) == pytest.approx(0.3081, abs=5e-5)
    assert (mnist.train.min(), mnist.train.max()) == (0, 1)
    # Runs that were made carry it as a tag: with another one they would be trained anew.
    assert mnist.sha256 == "af0453f450034686886fcc93115c429dc0e14fbe74b042870e08b758f49fc19f"


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
    np.testing.assert_array_equal(folder.train, TRAIN.reshape(7, 5, 6, 1) / np.float32(255))
    np.testing.assert_array_equal(folder.test, file.test)
    np.testing.assert_array_equal(folder.train[2, 3, 4], [TRAIN[2, 3, 4] / np.float32(255)])


def test_colour_floats_and_black_and_white(tmp_path: Path) -> None:
    colour = RNG.random((4, 3, 2, 3))
    images = dataset.load(write_npz(tmp_path / "c.npz", x_train=colour, x_test=colour[:1]))
    assert images.shape == (3, 2, 3)
    assert images.train.dtype == np.float32
    np.testing.assert_allclose(images.train, colour, rtol=1e-6)
    binary = (TRAIN > 127).astype(np.int64)
    np.testing.assert_array_equal(
        dataset.load(write_npz(tmp_path / "b.npz", x_train=binary, x_test=binary)).train, binary.reshape(7, 5, 6, 1)
    )


def test_the_value_of_white_comes_from_both_arrays(tmp_path: Path) -> None:
    """A range is known where the brightest pixel of each array is above its half, whatever the type."""
    wide = TRAIN.astype(np.uint16) * 257
    for raw, white in (
        (TRAIN, 255),
        (np.minimum(TRAIN, 254), 255),
        (np.minimum(TRAIN, 128), 255),
        (TRAIN.astype(np.int64), 255),
        (TRAIN.astype(np.float32), 255),
        (TRAIN / 255, 1),
        (TRAIN / 255 * 0.51, 1),
        ((TRAIN > 127), 1),
        ((TRAIN > 127).astype(np.uint8), 1),
        (wide, 65535),
        (wide.astype(np.float64), 65535),
        (np.minimum(wide, 32768), 65535),
    ):
        images = dataset.load(write_npz(tmp_path / "w.npz", x_train=raw, x_test=raw[2:4]))
        np.testing.assert_array_equal(images.train, raw.reshape(7, 5, 6, 1).astype(np.float32) / np.float32(white))
        np.testing.assert_array_equal(images.test, images.train[2:4])


def test_the_value_of_white_can_be_said(tmp_path: Path) -> None:
    digits = TRAIN // 16 + 1  # 1 to 16, as scikit-learn's digits
    path = write_npz(tmp_path / "digits.npz", x_train=digits, x_test=digits[:1] // 4)
    images = dataset.load(f"{path}#max=16")
    np.testing.assert_array_equal(images.train, digits.reshape(7, 5, 6, 1) / np.float32(16))
    assert images.train.max() == 1
    assert images.name == "digits.npz#max=16"
    assert images.source == Path(path).as_uri()
    # What is said also decides where one array alone would be taken for another range.
    mixed = write_npz(tmp_path / "mixed.npz", x_train=TRAIN, x_test=TRAIN[:1] // 255)
    np.testing.assert_array_equal(dataset.load(f"{mixed}#max=255").train, TRAIN.reshape(7, 5, 6, 1) / np.float32(255))


SCALED = TRAIN.astype(np.float32) / 255


@pytest.mark.parametrize(
    ("train", "test", "said", "says"),
    [
        (
            SCALED,
            TEST,
            "",
            r"x_train is float32 with values from 0 to 1, x_test is uint8 .* 255; store both in the same",
        ),
        (TRAIN, SCALED[:3], "", r"x_test is float32 with values from 0 to .*; store both .* in both: #max=255"),
        (TRAIN.astype(np.float32), SCALED[:3], "", "store both in the same range"),
        (TRAIN, TEST.astype(np.uint16) * 257, "", r"store both in the same range.*#max=65535"),
        (
            TRAIN,
            TEST // 16,
            "",
            r"which is not 0 to 1, 255 or 65535; say which value is white: #max=255 behind the path",
        ),
        (TRAIN // 16, TEST // 16, "", r"to 15, which is not .*; say which value is white: #max=15 behind"),
        (np.minimum(TRAIN, 100), np.minimum(TEST, 100), "", r"#max=100 behind"),
        (TRAIN.astype(np.uint16) * 16, TEST.astype(np.uint16) * 16, "", r"values from 0 to 4080.*#max=4080 behind"),
        (TRAIN * 2.0, TEST, "", r"x_train is float64 with values from 0 to 510.*#max=510 behind"),
        (TRAIN / 255 * 0.4, TEST / 255 * 0.4, "", r"#max=1 behind"),
        (TRAIN / 255 * 1.0000005, TEST / 255, "", r"from 0 to 1\.0000005, .*#max=1\.0000005 behind"),
        (TRAIN.astype(np.uint32) * 10**6, TEST.astype(np.uint32) * 10**6, "", "#max=255000000 behind"),
        (TRAIN * 0, TEST * 0, "", "every pixel is 0 in x_train and in x_test; give images"),
        (TRAIN.astype(int) - 300, TEST, "", "values from -300 .*; allowed: from 0 to 1, 255, 65535 or what #max= says"),
        (SCALED * 2 - 1, SCALED[:1] * 2 - 1, "#max=1", "values from -1 .*; allowed: from 0 to 1$"),
        (TRAIN, TEST, "#max=16", "values from 0 to 255.*; allowed: from 0 to 16$"),
    ],
)
def test_what_fits_no_known_range_is_refused_with_how_to_say_it(
    train: NDArray, test: NDArray, said: str, says: str, tmp_path: Path
) -> None:
    path = write_npz(tmp_path / "bad.npz", x_train=train, x_test=test)
    with pytest.raises(UserError, match=says) as error:
        dataset.load(path + said)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 300


IDX = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")


def write_pair(folder: Path, train: str, test: str) -> None:
    for name, array in ((train, TRAIN), (test, TEST)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_idx(folder / name, array)


@pytest.mark.parametrize(
    ("train", "test", "given"),
    [
        ("MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/t10k-images-idx3-ubyte", "MNIST/raw"),
        ("MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/t10k-images-idx3-ubyte", "MNIST"),
        ("MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/t10k-images-idx3-ubyte", "."),
        ("train-images.idx3-ubyte", "t10k-images.idx3-ubyte", "."),
        ("train-images-idx3-ubyte/train-images-idx3-ubyte", "t10k-images-idx3-ubyte/t10k-images-idx3-ubyte", "."),
        ("gzip/emnist-digits-train-images-idx3-ubyte.gz", "gzip/emnist-digits-test-images-idx3-ubyte.gz", "."),
        ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz", "train-images-idx3-ubyte"),
        ("a-train-images.gz", "a-test-images.gz", "a-train-images.gz"),
    ],
)
def test_idx_files_are_found_as_people_have_them(train: str, test: str, given: str, tmp_path: Path) -> None:
    write_pair(tmp_path, train, test)
    if not given.endswith((".gz", "ubyte")):
        write_idx(tmp_path / Path(train).with_name("train-labels-idx1-ubyte"), TRAIN[:, 0, 0])
        (tmp_path / Path(train).with_name("._train-images-idx3-ubyte")).write_text("of macOS")
    images = dataset.load(str(tmp_path / given))
    np.testing.assert_array_equal(images.train, TRAIN.reshape(7, 5, 6, 1) / np.float32(255))
    np.testing.assert_array_equal(images.test, TEST.reshape(3, 5, 6, 1) / np.float32(255))


def test_the_same_images_unpacked_and_gzipped_are_one_file(tmp_path: Path) -> None:
    for suffix in ("", ".gz"):
        write_pair(tmp_path / "raw", *(name + suffix for name in IDX))
    assert len(dataset.load(str(tmp_path)).train) == 7


def test_a_table_without_test_images_does_not_hide_the_images(tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", *IDX)
    (tmp_path / "training_log.csv").write_text("epoch,loss\n1,0.5\n")
    assert len(dataset.load(str(tmp_path)).train) == 7


def test_a_folder_of_several_sets_is_refused_with_their_names(tmp_path: Path) -> None:
    for split in ("balanced", "digits", "letters", "mnist"):
        write_pair(tmp_path, f"emnist-{split}-train-images.gz", f"emnist-{split}-test-images.gz")
    listed = "emnist-balanced-train-images.gz, emnist-digits-train-images.gz, emnist-letters-train-images.gz, ...;"
    with pytest.raises(UserError, match=f"has 4 files of training images, {listed} give the path of one"):
        dataset.load(str(tmp_path))
    assert len(dataset.load(str(tmp_path / "emnist-digits-train-images.gz")).train) == 7


def test_two_sets_of_torchvision_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("KMNIST", "MNIST"):
        write_pair(tmp_path / name / "raw", *IDX)
    with pytest.raises(
        UserError, match="has 2 files of training images, KMNIST/raw/train-images-idx3-ubyte, MNIST/raw"
    ):
        dataset.load(str(tmp_path))


SQUARE = RNG.integers(0, 256, (7, 3, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ("label,pixel0,pixel1,pixel2,pixel3,pixel4,pixel5,pixel6,pixel7,pixel8", True),
        ('"label",1x1,1x2,1x3,2x1,2x2,2x3,3x1,3x2,3x3', True),
        ("pixel0,pixel1,pixel2,pixel3,pixel4,pixel5,pixel6,pixel7,pixel8", False),
        ("", True),
        ("", False),
    ],
)
def test_kaggles_csv_gives_the_same_images(names: str, labels: bool, tmp_path: Path) -> None:
    for part, array in (("train", SQUARE), ("test", SQUARE[:2])):
        rows = [names] if names else []
        rows += [",".join(map(str, ([9] if labels else []) + image.ravel().tolist())) for image in array]
        (tmp_path / f"mnist_{part}.csv").write_text("\n".join(rows))
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")
    file = dataset.load(write_npz(tmp_path / "s.npz", x_train=SQUARE, x_test=SQUARE[:2]))
    for given in (tmp_path, tmp_path / "mnist_train.csv"):
        images = dataset.load(str(given))
        assert images.sha256 == file.sha256
        np.testing.assert_array_equal(images.train, file.train)


def test_kaggles_test_file_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("label,pixel0,pixel1,pixel2,pixel3\n5,0,255,0,1\n")
    (tmp_path / "test.csv").write_text("pixel0,pixel1,pixel2,pixel3\n0,255,0,2\n")
    images = dataset.load(str(tmp_path))
    np.testing.assert_array_equal(images.test[0, :, :, 0] * 255, [[0, 255], [0, 2]])


@pytest.mark.parametrize(
    "keys", [("train_images", "test_images"), ("training_images", "test_images"), ("X_train", "X_test")]
)
def test_medmnists_and_other_keys_are_known(keys: tuple[str, str], tmp_path: Path) -> None:
    more = {"val_images": TEST, "train_labels": TRAIN[:, 0, 0]}
    images = dataset.load(write_npz(tmp_path / "m.npz", **{keys[0]: TRAIN, keys[1]: TEST}, **more))
    np.testing.assert_array_equal(images.train, TRAIN.reshape(7, 5, 6, 1) / np.float32(255))
    assert len(images.test) == 3


def of_npz(path: Path) -> str:
    return write_npz(path / "l.npz", x_train=TRAIN, x_test=TEST, y_train=np.arange(7), y_test=np.arange(3, dtype="u1"))


def of_medmnist(path: Path) -> str:
    keys: dict[str, NDArray] = {"train_images": TRAIN, "test_images": TEST, "train_labels": np.arange(7)[:, None]}
    return write_npz(path / "m.npz", **keys, test_labels=np.arange(3)[:, None])


def of_idx(path: Path) -> str:
    write_pair(path, *IDX)
    for part, n in (("train", 7), ("t10k", 3)):
        write_idx(path / f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8))
    return str(path)


def of_csv(path: Path) -> str:
    for part, array in (("train", TRAIN), ("test", TEST)):
        rows = [",".join(map(str, [n, *image[:, :5].ravel()])) for n, image in enumerate(array)]
        (path / f"{part}.csv").write_text("\n".join(rows))
    return str(path)


@pytest.mark.parametrize("make", [of_npz, of_medmnist, of_idx, of_csv])
def test_labels_are_kept_where_they_are(make: Callable[[Path], str], tmp_path: Path) -> None:
    images = dataset.load(make(tmp_path))
    np.testing.assert_array_equal(images.train_labels, np.arange(7))
    np.testing.assert_array_equal(images.test_labels, np.arange(3))


@pytest.mark.parametrize(
    "labels",
    [np.arange(6), np.arange(14).reshape(7, 2), np.arange(7) / 2, np.array(["a"] * 7), np.array([None] * 7)],
)
def test_what_is_not_one_integer_per_image_is_no_label_and_no_mistake(labels: NDArray, tmp_path: Path) -> None:
    images = dataset.load(write_npz(tmp_path / "l.npz", x_train=TRAIN, x_test=TEST, y_train=labels))
    assert (images.train_labels, images.test_labels) == (None, None)
    assert len(images.train) == 7


def test_a_damaged_file_of_labels_is_no_mistake(tmp_path: Path) -> None:
    (Path(of_idx(tmp_path)) / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1\0\0\0\7\0")
    images = dataset.load(str(tmp_path))
    assert images.train_labels is None
    np.testing.assert_array_equal(images.test_labels, np.arange(3))


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
    assert dataset.load("fashion_mnist").train.shape == (7, 5, 6, 1)

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


def zipped(members: dict[str, bytes], change: Callable[[bytes], bytes] = lambda content: content) -> Callable:
    def make(folder: Path) -> str:
        with zipfile.ZipFile(folder / "bad.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        (folder / "bad.npz").write_bytes(change((folder / "bad.npz").read_bytes()))
        return str(folder / "bad.npz")

    return make


def npy(array: NDArray, **header: object) -> bytes:
    """The array as an .npy file, whose header may say something else."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {**np.lib.format.header_data_from_array_1_0(array), **header})
    return content.getvalue() + array.tobytes()


def flagged(local: int, central: int, value: int) -> Callable[[bytes], bytes]:
    """Two bytes set in every header of a zip: at one place in the local headers, at another in the directory."""

    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        for magic, offset in ((b"PK\3\4", local), (b"PK\1\2", central)):
            for begin in (found.start() for found in re.finditer(re.escape(magic), content)):
                changed[begin + offset : begin + offset + 2] = value.to_bytes(2, "little")
        return bytes(changed)

    return change


BOTH = {"x_train.npy": npy(TRAIN), "x_test.npy": npy(TEST)}
HUGE = npy(TRAIN, shape=(10**9, 28, 28000))  # 713 TiB
ENCRYPTED, UNKNOWN_COMPRESSION = flagged(6, 8, 1), flagged(8, 10, 97)


def idx(change: Callable[[bytes], bytes], suffix: str = "") -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        for name, array in (("train", TRAIN), ("t10k", TEST)):
            path = folder / f"{name}-images-idx3-ubyte{suffix}"
            write_idx(path, array)
            path.write_bytes(change(path.read_bytes()))
        return str(folder)

    return make


def gzipped(content: bytes) -> Callable[[bytes], bytes]:
    return lambda _: gzip.compress(content)


def idx_header(*shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


def file(name: str, content: bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    return make


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "images.npz")
    return str(folder / "images.npz")


def csv(train: str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        for name in ("train.csv", "test.csv"):
            (folder / name).write_text(train)
        return str(folder)

    return make


def folder_of(*names: str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(idx_header(1, 2, 2) + bytes(4))
        return str(folder)

    return make


HOLED = TRAIN.astype(np.float32) / 255
HOLED[1, 2, 3] = np.nan


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: str(folder / "missing"), "does not exist; give mnist, fashion_mnist"),
        (lambda folder: str(folder / "missing#max=16"), "does not exist; give mnist, fashion_mnist"),
        (lambda _: "x" * 5000, r"cannot be opened \(File name too long\); give mnist"),
        (lambda _: "~nobody-of-this-name/mnist.npz", "in the home of a user that is not known here; give mnist"),
        (lambda _: "a\0b", r"cannot be opened \(embedded null byte\); give mnist"),
        (fifo, "is a pipe or a device; give mnist, fashion_mnist"),
        (lambda _: "/dev/zero", "is a pipe or a device; give mnist, fashion_mnist"),
        (lambda folder: str(folder), r"has no file train-images\* \(IDX\) or \*train\*.csv; save it as np.savez"),
        (folder_of("medmnist/pathmnist.npz"), r"has no file train-images.*; give the path of pathmnist.npz$"),
        (
            folder_of("train-images-idx3-ubyte", "train.csv"),
            "has no test images beside it: .* t10k or test in the place of train",
        ),
        (file("images", idx_header(1, 2, 2) + bytes(4)), "has no test images beside it"),
        (
            file("notes.txt", b"not images"),
            "is not a readable .npz, IDX or CSV file but something else; save it as np.sav",
        ),
        (file("empty.npz", b""), "is not a readable .npz, IDX or CSV file"),
        (file("emnist.mat", b"MATLAB 5.0 MAT-file"), "but a MATLAB or HDF5 file; save it as np.savez"),
        (file("one.npy", npy(TRAIN)), "is not a readable .npz, IDX or CSV file but one array, not an archive of two"),
        (truncated_npz, "is not a readable .npz"),
        (zipped({"train-images-idx3-ubyte": b""}), "is a zip archive without arrays; unpack it and give the folder"),
        (zipped({}), "has the keys none; it must have x_train and x_test"),
        (zipped(BOTH, ENCRYPTED), "is not a readable .npz: File .* is encrypted"),
        (zipped(BOTH, UNKNOWN_COMPRESSION), "is not a readable .npz: That compression method is not supported"),
        (zipped(BOTH | {"x_test.npy": b"no array"}), "is not a readable .npz: the magic string is not correct"),
        (zipped(BOTH | {"x_test.npy": b"\x93NUMPY\3\0\1\0{"}), "has version .* of numpy's format"),
        (zipped(BOTH | {"x_test.npy": b"\x93NUMPY\1\0\7\0((((((\n"}), "is not a readable .npz"),
        (zipped(BOTH | {"x_train.npy": HUGE}), "x_train.npy has 210 bytes where its header promises 784000000000000"),
        (zipped(BOTH | {"x_train.npy": npy(TRAIN, shape=(-7, 5, 6))}), "is not a readable .npz"),
        (npz(images=TRAIN, labels=TEST), "has the keys images, labels; it must have x_train and x_test"),
        (npz(**{f"key{n}": TEST for n in range(9)}), r"has the keys key0, key1, key2, \.\.\.; it must have"),
        (npz(x_train=TRAIN), "has the keys x_train; it must have"),
        (npz(x_train=HOLED, x_test=HOLED[:1]), "has NaN or infinite values"),
        (npz(x_train=TRAIN[:, :, 0], x_test=TEST[:, :, 0]), r"of shape \(7, 5\); images are \[images, height, width\]"),
        (npz(x_train=TRAIN[:0], x_test=TEST), r"of shape \(0, 5, 6\)"),
        (npz(x_train=TRAIN, x_test=TEST[:, :4]), "make them the same size"),
        (npz(x_train=TRAIN.astype("U3"), x_test=TEST), "pixels are integers"),
        (npz(x_train=np.array([None, 1]), x_test=TEST), r"x_train is object of shape \(2,\); pixels are integers"),
        (npz(x_train=TRAIN.repeat(60, axis=2), x_test=TEST.repeat(60, axis=2)), "one side may be 50 times as long"),
        (npz(x_train=np.ones((1, 512, 513)), x_test=np.ones((1, 512, 513))), "may have 262,144 pixels at most"),
        (idx(lambda content: content[:-1]), "has 209 bytes where its header promises 210"),
        (idx(lambda content: content + b"1"), "has more bytes where its header promises 210"),
        (idx(lambda content: content[:6]), "is not a readable IDX file: it ends within its header"),
        (idx(lambda content: b"\x89PNG" + content), "does not begin as an IDX file does"),
        (idx(lambda content: content[:-20], ".gz"), "is not a readable IDX file"),
        (idx(lambda _: b""), "does not begin as an IDX file does"),
        (idx(gzipped(idx_header(1, 2, 2) + bytes(10**6))), "has more bytes where its header promises 4"),
        (
            idx(lambda _: idx_header(2**32 - 1, 2**9, 2**9)),
            "its images take .* GB of memory, .* are free; take fewer",
        ),
        (idx(lambda _: idx_header(*[2**32 - 1] * 60)), r"of shape \(4294967295, .*; images are"),
        (csv("label,pixel0,pixel1\n1,2,3\n"), "its 3 columns are no square image"),
        (csv("label,pixel0\n1,black\n"), "pixels are integers"),
        (csv("1,2,3,4\n1,2,3,4,5\n"), "is not a readable CSV file: Error tokenizing data"),
        (csv(""), "is not a readable CSV file: No columns"),
        (csv("\xe9\xe8".encode("latin-1").decode("latin-1")), "pixels are integers"),
    ],
)
def test_what_holds_no_images_is_refused_in_one_line(make: Callable[[Path], str], says: str, tmp_path: Path) -> None:
    with no_hang(), pytest.raises(UserError, match=says) as error:
        dataset.load(make(tmp_path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 300


@pytest.mark.parametrize("shape", [(2, 100), (100, 2), (1, 50)])
def test_of_the_longest_images_mlflow_can_make_its_previews(shape: tuple[int, int], tmp_path: Path) -> None:
    from mlflow.tracking.multimedia import compress_image_size, convert_to_pil_image

    raw = RNG.integers(0, 256, (200, *shape), dtype=np.uint8)
    images = dataset.load(write_npz(tmp_path / "long.npz", x_train=raw, x_test=raw))
    shown = images.test[:10]
    assert min(compress_image_size(convert_to_pil_image(plots.strip(shown, shown))).size) >= 1


def test_of_the_largest_images_the_logged_pictures_can_be_read_back() -> None:
    from PIL import Image

    ten_of_one_pixel = np.zeros((10, 1, 1, 1), np.float32)
    logged = plots.strip(ten_of_one_pixel, ten_of_one_pixel).size * dataset.MOST_PIXELS
    assert logged <= (Image.MAX_IMAGE_PIXELS or 0)


def test_a_small_file_that_unpacks_to_more_than_memory_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 MB of black pixels: each takes one byte, and those that nobody trains on four more as floats, 60 MB in all."""
    monkeypatch.setattr(dataset, "free_memory", lambda: 60_000_000 - 1)
    black = np.zeros((20_000, 25, 20), np.uint8)
    np.savez_compressed(tmp_path / "bomb.npz", x_train=black, x_test=black)
    assert (tmp_path / "bomb.npz").stat().st_size < 50_000
    with pytest.raises(UserError, match=r"its images take 0\.1 GB of memory, 0\.1 GB are free"):
        dataset.load(str(tmp_path / "bomb.npz"))
    write_idx(tmp_path / "train-images.gz", black)
    write_idx(tmp_path / "t10k-images.gz", black)
    with pytest.raises(UserError, match=r"its images take 0\.1 GB of memory"):
        dataset.load(str(tmp_path / "train-images.gz"))
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("0,0,0,0\n" * 2_000_000)
    with pytest.raises(UserError, match=r"train.csv': its images take 0\.1 GB of memory"):
        dataset.load(str(tmp_path / "train.csv"))


def test_free_memory_is_that_of_the_machine_or_of_the_container() -> None:
    assert 0 < dataset.free_memory() <= psutil.virtual_memory().total


def test_a_split_holds_images_out_and_loses_none() -> None:
    pixels = np.arange(50, dtype=np.float32).reshape(50, 1, 1, 1)
    labels = np.arange(50)
    whole = dataset.Images("x", "file:///x", "0" * 64, pixels, pixels[:5] + 100, labels, labels[:5])
    assert whole.split(0, 0) is whole
    assert whole.validation is whole.test
    one, again, other = (whole.split(20, seed) for seed in (0, 0, 1))
    assert (len(one.train), len(one.validation), len(one.test)) == (30, 20, 5)
    kept, held_out = one.train.ravel().tolist(), one.validation.ravel().tolist()
    assert kept == sorted(kept)
    assert sorted(kept + held_out) == list(range(50))
    assert one.train_labels is not None
    assert one.train_labels.tolist() == kept  # of the images that are left
    assert [each.ctypes.data % dataset.ALIGNMENT for each in (one.stored, one.validation)] == [0, 0]
    assert again.validation.tolist() == one.validation.tolist() != other.validation.tolist()
    assert {name: len(each) for name, each in one.forms.items()} == {"train": 30, "validation": 20, "test": 5}
