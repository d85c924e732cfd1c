"""The Keras autoencoder for a `RunConfig`."""

from __future__ import annotations

import math

import keras
import numpy as np

from pipeline.train.config import RunConfig


def build(config: RunConfig, image_shape: tuple[int, int, int]) -> keras.Model:
    """An autoencoder of images [images, height, width, channels] whose layers `encoder` and `decoder` are models too.

    Encoder: Dense(encoding_dim, relu) of all pixels. Decoder: Dense(decoder_hidden, sigmoid) if that is not 0, then
    Dense(sigmoid) to all pixels. Each layer's first weights depend on the seed and on the layer's role alone, so
    that variations with the same seed begin alike wherever they have the same layer.
    """
    code_seed, output_seed, hidden_seed = (int(s) for s in np.random.SeedSequence(config.seed).generate_state(3))
    images = keras.Input(image_shape, name="images")
    codes = keras.Input((config.encoding_dim,), name="codes")
    hidden = codes
    if config.decoder_hidden:
        hidden = _dense(config.decoder_hidden, "sigmoid", hidden_seed, "hidden")(codes)
    pixels = keras.layers.Flatten(name="pixels")(images)
    encoder = keras.Model(images, _dense(config.encoding_dim, "relu", code_seed, "code")(pixels), name="encoder")
    logits = keras.layers.Reshape(image_shape)(_dense(math.prod(image_shape), None, output_seed, "logits")(hidden))
    decoder = keras.Model(codes, keras.layers.Activation("sigmoid", name="reconstruction")(logits), name="decoder")
    return keras.Model(images, decoder(encoder(images)), name="autoencoder")


def _dense(units: int, activation: str | None, seed: int, name: str) -> keras.layers.Dense:
    initializer = keras.initializers.GlorotUniform(seed=seed)
    return keras.layers.Dense(units, activation=activation, kernel_initializer=initializer, name=name)
