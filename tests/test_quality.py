"""The measures against numbers worked out by hand and against independent implementations."""

from __future__ import annotations

import math
from types import FunctionType

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import metrics, morphology

from pipeline.metrics import QUALITY
from pipeline.train import dataset, quality

# Two images of 2 x 2. The first is reproduced with an error of 0.5 in one bright pixel and of 0.1 in one dark one.
X = np.array([[[1, 0], [0, 1]], [[0, 0], [1, 1]]], np.float32)[..., None]
Y = np.array([[[0.5, 0.1], [0, 1]], [[0, 0], [1, 1]]], np.float32)[..., None]


@pytest.fixture(scope="module")
def blurred(mnist: dataset.Images) -> tuple[NDArray, NDArray]:
    x = mnist.test[:20]
    noise = np.random.default_rng(0).random(x.shape, np.float32)
    return x, 0.7 * x + 0.2 * noise


def test_mse_by_hand() -> None:
    assert quality.mse(X, Y) == pytest.approx((0.25 + 0.01) / 8)


def test_psnr_by_hand() -> None:
    # Of the first image alone: its mean squared error is 0.26 / 4, so 10 log10(1 / 0.065).
    assert quality.psnr(X[:1], Y[:1]) == pytest.approx(10 * math.log10(1 / 0.065), rel=1e-5)
    assert quality.psnr(X, Y) == math.inf  # the second is reproduced exactly


def test_dark_noise_by_hand() -> None:
    assert quality.dark_noise(X, Y) == pytest.approx(0.1 / 4)  # four black pixels, one of them at 0.1
    assert math.isnan(quality.dark_noise(X + 1, Y))


def test_variance_ratio_by_hand() -> None:
    # Originals: pixels (1, 0), (0, 0), (0, 1), (1, 1) over the two images: variances 1/4, 0, 1/4, 0.
    # Reconstructions: (0.5, 0), (0.1, 0), (0, 1), (1, 1): 1/16, 1/400, 1/4, 0.
    assert quality.variance_ratio(X, Y) == pytest.approx((1 / 16 + 1 / 400 + 1 / 4) / (1 / 2))
    assert quality.variance_ratio(X, X) == 1
    assert quality.variance_ratio(X, np.full_like(X, 0.5)) == 0
    assert math.isnan(quality.variance_ratio(X[:1], Y[:1]))


def test_thin_stroke_error_by_hand() -> None:
    # A line one pixel wide is thin, a block of 3 x 3 is not: only the line's five pixels count.
    x = np.zeros((1, 9, 9, 1), np.float32)
    x[0, 1, 1:6, 0] = 1
    x[0, 5:8, 5:8, 0] = 1
    y = x.copy()
    y[0, 1, 1, 0] = 0.25
    y[0, 6, 6, 0] = 0.5
    assert quality.thin_stroke_error(x, y) == pytest.approx(0.75 / 5)
    assert math.isnan(quality.thin_stroke_error(np.zeros_like(x), y))


def test_dead_units_by_hand() -> None:
    assert quality.dead_units(np.array([[0, 1, 0], [0, 0, 2]], np.float32)) == 1


def test_ssim_and_psnr_against_scikit_image(blurred: tuple[NDArray, NDArray]) -> None:
    x, y = blurred
    # Wang et al.'s settings; their means leave out the border that the window does not reach.
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    maps = [
        metrics.structural_similarity(a[..., 0], b[..., 0], full=True, **settings)[1] for a, b in zip(x, y, strict=True)
    ]
    assert quality.ssim(x, y) == pytest.approx(np.mean([m[5:-5, 5:-5].mean() for m in maps]), abs=1e-5)
    ratios = [metrics.peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(x, y, strict=True)]
    assert quality.psnr(x, y) == pytest.approx(np.mean(ratios), rel=1e-5)


def test_thin_strokes_against_scikit_image(blurred: tuple[NDArray, NDArray]) -> None:
    x, y = blurred
    thin = np.stack([morphology.white_tophat(image[..., 0], np.ones((3, 3))) for image in x])[..., None]
    assert quality.thin_stroke_error(x, y) == pytest.approx(np.average(abs(x - y), weights=thin), rel=1e-5)


@pytest.mark.parametrize("shape", [(1500, 4, 3, 1), (3, 16, 16, 3), (2, 1, 1, 1)])
def test_any_size_and_colour(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)
    assert quality.ssim(x, x) == pytest.approx(1)
    measured = quality.measure(x, np.clip(x + 0.1, 0, 1), np.ones((len(x), 2), np.float32))
    assert 0 < measured["mse"] < 0.011
    assert measured["dead_units"] == 0


def test_cross_entropy_of_logits_is_kerass() -> None:
    import keras

    rng = np.random.default_rng(1)
    x, logits = rng.random((20, 5, 5, 1)), 3 * rng.standard_normal((20, 5, 5, 1))
    theirs = float(keras.ops.mean(keras.losses.binary_crossentropy(x, logits, from_logits=True)))
    assert quality.bce(x, logits) == pytest.approx(theirs, rel=1e-6)
    assert quality.bce(np.ones(1), np.array([-200.0])) == pytest.approx(200)  # where a sigmoid is 0


def test_every_measure_has_its_row_and_every_row_its_measure() -> None:
    own = [
        each
        for each in vars(quality).values()
        if isinstance(each, FunctionType) and each.__module__ == quality.__name__
    ]
    public = {function.__name__ for function in own if not function.__name__.startswith("_")}
    assert public == {*QUALITY, "bce", "measure"}
    assert tuple(quality.measure(X, Y, np.ones((2, 3), np.float32))) == QUALITY
