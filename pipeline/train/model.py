"""The Keras autoencoder for a `RunConfig`."""

from __future__ import annotations

import keras
import numpy as np

from pipeline.train.config import RunConfig


def build(config: RunConfig, pixels: int) -> keras.Model:
    """An autoencoder [images, pixels] -> [images, pixels] whose layers `encoder` and `decoder` are models too.

    Encoder: Dense(encoding_dim, relu). Decoder: Dense(decoder_hidden, sigmoid) if that is not 0, then
    Dense(pixels, sigmoid). Each layer's first weights depend on the seed and on the layer's role alone, so
    that variations with the same seed begin alike wherever they have the same layer.
    """
    code_seed, output_seed, hidden_seed = (int(s) for s in np.random.SeedSequence(config.seed).generate_state(3))
    images = keras.Input((pixels,), name="images")
    codes = keras.Input((config.encoding_dim,), name="codes")
    hidden = codes
    if config.decoder_hidden:
        hidden = _dense(config.decoder_hidden, "sigmoid", hidden_seed, "hidden")(codes)
    encoder = keras.Model(images, _dense(config.encoding_dim, "relu", code_seed, "code")(images), name="encoder")
    decoder = keras.Model(codes, _dense(pixels, "sigmoid", output_seed, "reconstruction")(hidden), name="decoder")
    return keras.Model(images, decoder(encoder(images)), name="autoencoder")


def _dense(units: int, activation: str, seed: int, name: str) -> keras.layers.Dense:
    initializer = keras.initializers.GlorotUniform(seed=seed)
    return keras.layers.Dense(units, activation=activation, kernel_initializer=initializer, name=name)
