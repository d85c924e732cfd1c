"""The Keras autoencoder for a `RunConfig`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from pipeline.train.config import RunConfig
from pipeline.train.size import FILTERS, KERNEL, quarter

# In the order in which their seeds are drawn: a new role comes last, so that all others keep theirs.
_ROLES = ("code", "pixels", "hidden", "half", "quarter", "maps", "to_half", "to_whole")

Shape = tuple[int, int, int]  # height, width, channels
NewLayer = Callable[..., keras.Layer]  # role, class of the layer and its arguments


def build(config: RunConfig, image_shape: Shape) -> keras.Model:
    """An autoencoder of images [images, height, width, channels]; its layers `encoder` and `decoder` are models, too.

    encoder: what `config.architecture` makes of an image, then Dense(encoding_dim, relu).
    decoder: Dense(decoder_hidden, sigmoid) if that is not 0, then what the architecture makes an image of, which is the
    model `logits`, then the sigmoid.

    Each layer's first weights depend on the seed and on the layer's role alone, so that variations with the same seed
    begin alike wherever they have the same layer.

    Raises:
        UserError: the images are too small for this architecture.
    """
    seeds = dict(zip(_ROLES, np.random.SeedSequence(config.seed_of("init")).generate_state(len(_ROLES)), strict=True))

    def new(role: str, layer: type[keras.Layer], *args: Any, **options: Any) -> keras.Layer:
        initializer = keras.initializers.GlorotUniform(seed=int(seeds[role]))
        return layer(*args, **options, kernel_initializer=initializer, name=role)

    features, image = ARCHITECTURES[config.architecture]
    images = keras.Input(image_shape, name="images")
    code = new("code", layers.Dense, config.encoding_dim, activation="relu")(features(new, images))
    encoder = keras.Model(images, code, name="encoder")
    hidden = codes = keras.Input((config.encoding_dim,), name="codes")
    if config.decoder_hidden:
        hidden = new("hidden", layers.Dense, config.decoder_hidden, activation="sigmoid")(codes)
    logits = keras.Model(codes, image(new, hidden, image_shape), name="logits")
    decoder = keras.Model(codes, layers.Activation("sigmoid", name="reconstruction")(logits(codes)), name="decoder")
    return keras.Model(images, decoder(encoder(images)), name="autoencoder")


def _flat(new: NewLayer, images: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Flatten(name="flat")(images)


def _dense_image(new: NewLayer, hidden: keras.KerasTensor, image_shape: Shape) -> keras.KerasTensor:
    return layers.Reshape(image_shape, name="image")(new("pixels", layers.Dense, math.prod(image_shape))(hidden))


# The small convolutional autoencoder of Keras's examples (keras.io/examples/generative/vae): each convolution halves
# height and width, and its transpose doubles them.
_HALVING = {"kernel_size": KERNEL, "strides": 2, "padding": "same"}


def _feature_maps(new: NewLayer, images: keras.KerasTensor) -> keras.KerasTensor:
    few, many = FILTERS
    half = new("half", layers.Conv2D, few, activation="relu", **_HALVING)(images)
    return _flat(new, new("quarter", layers.Conv2D, many, activation="relu", **_HALVING)(half))


def _upsampled_image(new: NewLayer, hidden: keras.KerasTensor, image_shape: Shape) -> keras.KerasTensor:
    few, many = FILTERS
    height, width, channels = image_shape
    rows, columns = quarter(image_shape)
    maps = new("maps", layers.Dense, rows * columns * many, activation="relu")(hidden)
    maps = layers.Reshape((rows, columns, many), name="quarter_image")(maps)
    half = new("to_half", layers.Conv2DTranspose, few, activation="relu", **_HALVING)(maps)
    whole = new("to_whole", layers.Conv2DTranspose, channels, **_HALVING)(half)
    return layers.Cropping2D(((0, 4 * rows - height), (0, 4 * columns - width)), name="image")(whole)


# How an image becomes what the code is made of, and how an image is made of a code.
ARCHITECTURES = {"dense": (_flat, _dense_image), "conv": (_feature_maps, _upsampled_image)}
