"""How good a reconstruction is: arrays in, numbers out.

Images are [images, height, width, channels] float32 in [0, 1]; `x` are the originals, `y` their reconstructions.
"""

from __future__ import annotations

from functools import lru_cache
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.metrics import QUALITY

Array = NDArray[np.float32]

_CHUNK = 1000  # images at a time: SSIM holds some ten copies of its input
_WINDOW = 11  # pixels: of SSIM, wide and high
_STROKE = 3  # pixels: what is narrower than this is thin


def mse(x: Array, y: Array) -> float:
    """Mean squared error over all pixels of all images."""
    return float(np.mean(np.square(x - y), dtype=np.float64))


def psnr(x: Array, y: Array) -> float:
    """Peak signal-to-noise ratio in dB, per image, then the mean; inf where an image is reproduced exactly."""
    errors = np.mean(np.square(x - y), axis=(1, 2, 3), dtype=np.float64)
    with np.errstate(divide="ignore"):
        return float(np.mean(-10 * np.log10(errors)))


def ssim(x: Array, y: Array) -> float:
    """Structural similarity, per image, then the mean; 1 = identical.

    Wang et al., "Image quality assessment: from error visibility to structural similarity" (IEEE TIP 2004),
    with their 11 x 11 Gaussian window, or the largest that fits into a smaller image, and their constants.
    """
    chunks = (slice(i, i + _CHUNK) for i in range(0, len(x), _CHUNK))
    return float(np.mean(np.concatenate([_similarities(x[c], y[c]) for c in chunks]), dtype=np.float64))


def _similarities(x: Array, y: Array) -> NDArray[Any]:
    """The structural similarity of each image, the mean over its channels and the places where the window fits."""
    x, y = (images.transpose(0, 3, 1, 2) for images in (x, y))
    window = min(_WINDOW, *x.shape[2:])
    down, across = (_gaussian(length, window) for length in x.shape[2:])
    c1, c2 = 0.01**2, 0.03**2

    def weighted(images: Array) -> Array:
        return down @ (images @ across.T)  # an 11 x 11 Gaussian is one down the columns of one along the rows

    mean_x, mean_y = weighted(x), weighted(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance, variances = weighted(x * y) - product, weighted(x**2 + y**2) - squares
    similarity = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return similarity.mean(axis=(1, 2, 3))


@lru_cache
def _gaussian(length: int, window: int) -> Array:
    """[places, length]: a row for each place where the window fits, its weights by Wang et al.'s sigma of 1.5."""
    offsets = np.arange(window) - (window - 1) / 2
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    places = length - window + 1
    rows = np.zeros((places, length), np.float32)
    for place in range(places):
        rows[place, place : place + window] = weights / weights.sum()
    return rows


def dark_noise(x: Array, y: Array) -> float:
    """Mean reconstructed intensity where the original is exactly 0; NaN where the originals have no such pixel."""
    dark = x == 0
    return float(np.mean(y[dark], dtype=np.float64)) if dark.any() else float("nan")


def thin_stroke_error(x: Array, y: Array) -> float:
    """Mean absolute error on strokes narrower than 3 pixels; NaN where the originals have none.

    Each pixel counts by how much of it belongs to a thin stroke: the white top-hat of the original, that is,
    what a morphological opening with a 3 x 3 square takes away from it (Serra, "Image Analysis and Mathematical
    Morphology", 1982): sum(tophat(x) * |x - y|) / sum(tophat(x)).
    """
    thin = ndimage.white_tophat(x, size=(1, _STROKE, _STROKE, 1))
    total = float(np.sum(thin, dtype=np.float64))
    return float(np.sum(thin * np.abs(x - y), dtype=np.float64)) / total if total else float("nan")


def variance_ratio(x: Array, y: Array) -> float:
    """Variance of the reconstructions across images over that of the originals, each summed over the pixels.

    0 = the model ignores its input and draws the same picture for all; 1 = as varied as the originals;
    NaN where the originals are all the same.
    """
    spread = float(np.sum(np.var(x, axis=0, dtype=np.float64)))
    return float(np.sum(np.var(y, axis=0, dtype=np.float64))) / spread if spread else float("nan")


def dead_units(codes: Array) -> float:
    """How many of the encoder's units are never active (> 0) on any image; `codes` is [images, units]."""
    return float(np.sum(~(codes > 0).any(axis=0)))


def bce(x: NDArray, logits: NDArray) -> float:
    """Binary cross-entropy in nats per pixel, the mean over all pixels of all images; x in [0, 1], both of one shape.

    From the logits z, as log(1 + e^-|z|) + max(z, 0) - x z: the logarithm of a saturated sigmoid would be cut off.
    """
    losses = np.log1p(np.exp(-np.abs(logits))) + np.maximum(logits, 0) - x * logits
    return float(np.mean(losses, dtype=np.float64))


_MEASURES = {name: globals()[name] for name in QUALITY}


def measure(x: Array, y: Array, codes: Array) -> dict[str, float]:
    """All of `metrics.QUALITY`, each by the function of its name; `codes` as for `dead_units`."""
    given = {"x": x, "y": y, "codes": codes}
    return {
        name: function(**{part: given[part] for part in signature(function).parameters})
        for name, function in _MEASURES.items()
    }
