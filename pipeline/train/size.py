"""How large the autoencoder of a `RunConfig` is, without Keras: whoever plans runs does not wait for TensorFlow."""

from __future__ import annotations

import math
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.train.config import RunConfig

FILTERS = (8, 16)  # of the convolutions to half and to a quarter of the height and width
KERNEL = 3  # pixels
_SMALLEST_SIDE = 4  # pixels, which two halvings leave one of


class Size(NamedTuple):
    """Of one model, or of one layer.

    Attributes:
        parameters: the numbers that are trained.
        outputs: the numbers that the layers put out for one image.
    """

    parameters: int
    outputs: int


def size(config: RunConfig, image_shape: tuple[int, int, int]) -> Size:
    """The size of what `model.build` makes.

    Raises:
        UserError: as `quarter`.
    """
    pixels = math.prod(image_shape)
    hidden = config.decoder_hidden or config.encoding_dim
    layers = [_dense(config.encoding_dim, hidden)] if config.decoder_hidden else []
    if config.architecture == "dense":
        layers += [_dense(pixels, config.encoding_dim), _dense(hidden, pixels)]
    else:
        few, many = FILTERS
        height, width = quarter(image_shape)
        area, channels = height * width, image_shape[2]
        half = math.ceil(image_shape[0] / 2) * math.ceil(image_shape[1] / 2)
        layers += [_convolution(channels, few, half), _convolution(few, many, area)]
        layers += [_dense(area * many, config.encoding_dim), _dense(hidden, area * many)]
        layers += [_convolution(many, few, 4 * area), _convolution(few, channels, 16 * area)]
    return Size(*(sum(numbers) for numbers in zip(*layers, strict=True)))


def quarter(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """A quarter of the height and width, rounded up as two convolutions with stride 2 do.

    Raises:
        UserError: the images are too small for that.
    """
    height, width, _ = image_shape
    if min(height, width) < _SMALLEST_SIDE:
        raise UserError(
            f"architecture='conv' halves the images twice, and these are {height} x {width}; it needs at least "
            f"{_SMALLEST_SIDE} x {_SMALLEST_SIDE} pixels: take architecture=dense"
        )
    return math.ceil(height / 4), math.ceil(width / 4)


def _dense(inputs: int, units: int) -> Size:
    return Size((inputs + 1) * units, units)


def _convolution(channels: int, filters: int, pixels: int) -> Size:
    """Of an output of so many pixels; its transpose has as many."""
    return Size((KERNEL**2 * channels + 1) * filters, filters * pixels)
