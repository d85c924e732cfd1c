"""Training against a stock Keras loop, a numpy forward pass and numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import DivergenceError, UserError
from pipeline.train import model, run, training
from pipeline.train.config import OPTIMIZERS, SOURCES, RunConfig
from pipeline.train.dataset import Images, zeros
from pipeline.train.size import size

ADAM = RunConfig(optimizer="adam", epochs=2, batch_size=128)  # 600 images: four full batches and one of 88


def weights(trained: training.Trained) -> bytes:
    return b"".join(weight.tobytes() for weight in trained.model.get_weights())


def sigmoid(z: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-z))


def bce(x: NDArray, y: NDArray) -> NDArray:
    """Binary cross-entropy of each image."""
    return -(x * np.log(y) + (1 - x) * np.log(1 - y)).mean(axis=(1, 2, 3))


@pytest.fixture(scope="module")
def trained(small: Images) -> training.Trained:
    return training.train(ADAM, small)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(trained: training.Trained, small: Images) -> None:
    again = training.train(ADAM, small)
    assert weights(again) == weights(trained)
    assert again.history.drop(columns="epoch_seconds").equals(trained.history.drop(columns="epoch_seconds"))
    assert weights(training.train(ADAM.model_copy(update={"seed": 1}), small)) != weights(trained)


def test_the_numbers_of_runs_that_were_made_are_unchanged(trained: training.Trained) -> None:
    """Those of the version that knew flat images only, to what 32 bits hold: the last bit is the processor's."""
    expected = {
        "loss": [0.688501238822937, 0.6657915115356445],
        "val_loss": [0.6781004071235657, 0.6425778269767761],
        "displayed_loss": [0.6910400390625, 0.6718034744262695],
    }
    for name, values in expected.items():
        assert trained.history[name].tolist() == pytest.approx(values, rel=3e-7), name
    assert np.sum([np.abs(w, dtype=float).sum() for w in trained.model.get_weights()]) == pytest.approx(
        2163.537014945301, rel=1e-6
    )


@pytest.mark.parametrize(("kept", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_images_that_are_kept_as_they_were_stored_train_the_same_bits(
    kept: type, white: int, trained: training.Trained, small: Images
) -> None:
    values: NDArray = np.random.default_rng(0).integers(white + 1, size=small.stored.shape, dtype=kept)
    values.flat[: white + 1] = np.arange(white + 1)  # every one of them
    compact = dataclasses.replace(small, stored=values, scale=1 / white)
    floats = dataclasses.replace(small, stored=values / np.float32(white))
    np.testing.assert_array_equal(compact.train, floats.stored)
    assert floats.stored.dtype == np.float32
    assert weights(training.train(ADAM, compact)) == weights(training.train(ADAM, floats))


def test_images_are_used_as_they_lie_where_tensorflow_can_do_that() -> None:
    lies = zeros((3, 5), np.uint8)
    tensor = training._tensor(lies)
    lies[1, 2] = 7
    assert tensor.numpy()[1, 2] == 7
    other = zeros((2, 784), np.float32) + 1
    for unusable in (other[:, 1:], np.broadcast_to(np.float32(3), (2, 784)), np.frombuffer(b"12", np.uint8)):
        assert np.array_equal(training._tensor(unusable).numpy() * 2, unusable * 2)


def test_the_dense_model_does_not_know_the_shape_of_its_images(trained: training.Trained, small: Images) -> None:
    """What it sees are pixels in a row: the same bits whether they lie in 28 rows or in one."""
    row = dataclasses.replace(
        small, stored=small.stored.reshape(600, 1, 784, 1), test=small.test.reshape(200, 1, 784, 1)
    )
    assert weights(training.train(ADAM, row)) == weights(trained)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first = training.order(1000, seed=3, epoch=7)
    assert sorted(first) == list(range(1000))
    assert (training.order(1000, seed=3, epoch=7) == first).all()
    assert (training.order(1000, seed=3, epoch=8) != first).any()
    assert (training.order(1000, seed=4, epoch=7) != first).any()


@pytest.mark.parametrize("vary", ["init", "order", "split", "init+order", "order+split", "init+order+split"])
def test_what_varies_follows_the_seed_and_all_else_stands_still(
    vary: str, small: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run as the weights before its first epoch, the order of that, and the images that are held out."""
    orders: list[bytes] = []

    def only_look(self: keras.Model, given: Iterable[tuple[training.Order]], **options: object) -> None:
        full, _ = next(iter(given))[0]
        orders.append(np.asarray(full).tobytes())

    def begin(seed: int) -> tuple[bytes, bytes, bytes]:
        config = ADAM.model_copy(update={"vary": vary, "validation": 100, "seed": seed})
        images = run.split(config, small)
        before = weights(training.train(config, images))
        return before, orders[-1], images.validation.tobytes()

    monkeypatch.setattr(training._EpochTrainer, "fit", only_look)
    one, other, again = (begin(seed) for seed in (1, 2, 1))
    assert one == again
    differs = {name: a != b for name, a, b in zip(SOURCES, one, other, strict=True)}
    assert differs == {name: name in vary.split("+") for name in SOURCES}
    # What stands still is what a run of seed 0 has.
    still = {name: a == b for name, a, b in zip(SOURCES, one, begin(0), strict=True)}
    assert still == {name: name not in vary.split("+") for name in SOURCES}


def test_every_epoch_is_measured_on_the_images_that_are_held_out(small: Images) -> None:
    split = small.split(100, 0)
    ended = training.train(ADAM.model_copy(update={"validation": 100}), split)
    y = ended.model.predict(split.validation, verbose=0)
    assert ended.epochs[-1]["val_bce"] == pytest.approx(float(bce(split.validation, y).mean()), rel=1e-4)


def test_more_epochs_continue_the_same_trajectory(trained: training.Trained, small: Images) -> None:
    longer = training.train(ADAM.model_copy(update={"epochs": 3}), small)
    columns = ["loss", "val_loss", "bce", "val_bce", "displayed_loss"]
    assert longer.history[columns].iloc[:2].equals(trained.history[columns])
    assert list(longer.history.index) == [1, 2, 3]


@pytest.mark.parametrize("hidden", [0, 20])
def test_the_model_against_numpy(hidden: int, small: Images) -> None:
    autoencoder = model.build(RunConfig(encoding_dim=8, decoder_hidden=hidden), (28, 28, 1))
    encoder, decoder = autoencoder.get_layer("encoder"), autoencoder.get_layer("decoder")
    images = small.test[:5]
    x = images.reshape(5, 784)
    kernel, bias = encoder.get_weights()
    codes = np.maximum(x @ kernel + bias, 0)
    np.testing.assert_allclose(encoder.predict_on_batch(images), codes, atol=1e-5)
    layers = decoder.get_weights()
    assert len(layers) == (4 if hidden else 2)
    y = codes
    for kernel, bias in zip(layers[::2], layers[1::2], strict=True):
        y = sigmoid(y @ kernel + bias)
    np.testing.assert_allclose(decoder.predict_on_batch(codes).reshape(5, 784), y, atol=1e-5)
    np.testing.assert_allclose(autoencoder.predict_on_batch(images).reshape(5, 784), y, atol=1e-5)


def test_variations_of_a_seed_begin_with_the_same_weights() -> None:
    def first_weights(config: RunConfig, part: str) -> list[NDArray]:
        return model.build(config, (28, 28, 1)).get_layer(part).get_weights()

    plain, deep = RunConfig(seed=5), RunConfig(seed=5, decoder_hidden=784, optimizer="adam", l1=1e-4)
    np.testing.assert_array_equal(first_weights(plain, "encoder")[0], first_weights(deep, "encoder")[0])
    assert (first_weights(plain, "encoder")[0] != first_weights(RunConfig(seed=6), "encoder")[0]).any()


SHAPES = [(28, 28, 1), (32, 32, 3), (5, 7, 1), (4, 4, 3), (29, 30, 1)]


def made_of(autoencoder: keras.Model) -> list[keras.Layer]:
    """Every layer that has weights."""
    logits = autoencoder.get_layer("decoder").get_layer("logits")
    return [layer for layer in (*autoencoder.get_layer("encoder").layers, *logits.layers) if layer.weights]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hidden", [0, 20])
@pytest.mark.parametrize("architecture", model.ARCHITECTURES)
def test_every_size_of_images_comes_back_and_the_model_has_the_size_that_is_said(
    architecture: Literal["dense", "conv"], hidden: int, shape: tuple[int, int, int]
) -> None:
    config = RunConfig(architecture=architecture, encoding_dim=6, decoder_hidden=hidden)
    autoencoder = model.build(config, shape)
    assert autoencoder.output_shape == (None, *shape)
    assert autoencoder.get_layer("encoder").output_shape == (None, 6)
    parameters, outputs = size(config, shape)
    assert parameters == autoencoder.count_params()
    assert outputs == sum(math.prod(layer.output.shape[1:]) for layer in made_of(autoencoder))


def test_every_architecture_is_a_value_of_the_parameter() -> None:
    assert tuple(model.ARCHITECTURES) == get_args(RunConfig.model_fields["architecture"].annotation)


@pytest.mark.parametrize("shape", [(1, 1, 1), (28, 3, 1)])
def test_images_that_cannot_be_halved_twice_are_refused(shape: tuple[int, int, int]) -> None:
    config = RunConfig(architecture="conv")
    says = rf"halves the images twice, and these are {shape[0]} x {shape[1]}; .* at least 4 x 4 pixels: take .*=dense"
    for make in (model.build, size):
        with pytest.raises(UserError, match=says) as error:
            make(config, shape)
        assert "\n" not in str(error.value)


def test_the_convolutional_model_is_the_same_bits_for_the_same_seed(small: Images) -> None:
    config = RunConfig(architecture="conv", optimizer="adam", epochs=1, batch_size=128)
    trained = training.train(config, small)
    assert weights(training.train(config, small)) == weights(trained)


def test_convolutions_of_a_seed_begin_with_the_same_weights() -> None:
    def kernels(**changes: int) -> dict[str, NDArray]:
        made = made_of(model.build(RunConfig(architecture="conv", **changes), (28, 28, 1)))
        return {layer.name: layer.get_weights()[0] for layer in made}

    plain, wide, other = kernels(), kernels(encoding_dim=64, decoder_hidden=20), kernels(seed=1)
    for role in ("half", "quarter", "to_half", "to_whole"):
        np.testing.assert_array_equal(plain[role], wide[role])
        assert (plain[role] != other[role]).any()


@pytest.mark.parametrize(("architecture", "l1"), [("dense", 0.0), ("dense", 1e-3), ("conv", 1e-3)])
def test_an_epoch_against_a_stock_keras_loop(architecture: Literal["dense", "conv"], l1: float, small: Images) -> None:
    """The same first weights and the same order, through `train_on_batch` of a plain compiled model."""
    config = RunConfig(optimizer="adam", epochs=1, batch_size=128, l1=l1, seed=9, architecture=architecture)
    stock = model.build(config, (28, 28, 1))
    if l1 and keras.__version__ < "3.15":
        pytest.skip("this Keras forgets the mean over the batch in its activity regularizer")
    stock.get_layer("encoder").layers[-1].activity_regularizer = keras.regularizers.L1(l1)
    stock.compile(optimizer="adam", loss="binary_crossentropy")
    order = training.order(600, seed=9, epoch=1)
    losses, sizes = [], []
    for start in range(0, 600, 128):
        batch = small.train[order[start : start + 128]]
        stock.reset_metrics()
        losses.append(stock.train_on_batch(batch, batch))
        sizes.append(len(batch))
    assert sizes == [128, 128, 128, 128, 88]

    ours = training.train(config, small)
    row = ours.history.loc[1]
    assert row["loss"] == pytest.approx(np.average(losses, weights=sizes), rel=1e-5)
    running = np.cumsum(np.multiply(losses, sizes)) / np.cumsum(sizes)
    assert row["displayed_loss"] == pytest.approx(running.mean(), rel=1e-5)
    for mine, theirs in zip(ours.model.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-5)

    codes = ours.model.get_layer("encoder").predict_on_batch(small.test)
    expected_bce = bce(small.test, ours.model.predict_on_batch(small.test).astype(float)).mean()
    assert row["val_bce"] == pytest.approx(expected_bce, rel=1e-5)
    assert row["val_loss"] == pytest.approx(expected_bce + l1 * codes.sum(axis=1).mean(), rel=1e-5)
    assert (row["loss"] == row["bce"]) == (l1 == 0)


def test_the_progress_bars_mean_by_hand() -> None:
    metric = training.ProgressBarMean()
    for loss in (6.0, 2.0, 1.0):
        metric.update_state(loss, 10)
    assert float(metric.result()) == pytest.approx((6 + 4 + 3) / 3)
    metric.reset_state()
    metric.update_state(6.0, 3)
    metric.update_state(2.0, 1)  # the last batch is smaller: the running mean is (6 * 3 + 2) / 4
    assert float(metric.result()) == pytest.approx((6 + 5) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains(optimizer: str, small: Images) -> None:
    if optimizer in training.unavailable_optimizers():
        with pytest.raises(UserError, match=f"'{optimizer}' needs Keras 3.15"):
            training.train(RunConfig(optimizer=optimizer), small)
        return
    config = RunConfig(optimizer=optimizer, learning_rate=0.01, epochs=3, batch_size=100)
    training._trainer.cache_clear()
    trained = training.train(config, small)
    assert trained.history["loss"].iloc[-1] < trained.history["loss"].iloc[0]
    # What is compiled serves other seeds and rates, and nothing of their runs is left in it.
    another = config.model_copy(update={"seed": 1, "learning_rate": 0.001})
    other = training.train(another, small)
    assert weights(other) != weights(trained) == weights(training.train(config, small))
    training._trainer.cache_clear()
    assert weights(training.train(another, small)) == weights(other)


def test_what_is_compiled_serves_other_images_and_a_training_after_an_interrupted_one(small: Images) -> None:
    config = ADAM.model_copy(update={"validation": 100})
    images, others = small.split(100, 0), small.split(100, 1)
    expected = weights(training.train(config, images))

    def stop(trained: training.Trained) -> None:
        if trained.epochs:
            raise KeyboardInterrupt

    assert weights(training.train(config, others)) != expected
    with pytest.raises(KeyboardInterrupt):
        training.train(config, others, stop)
    assert weights(training.train(config, images)) == expected


@pytest.mark.parametrize("batch_size", [1, 600])
def test_the_smallest_and_the_largest_batch(batch_size: int, small: Images) -> None:
    history = training.train(RunConfig(optimizer="sgd", epochs=1, batch_size=batch_size), small).history
    assert 0 < history["loss"].iloc[0] < 0.75


def noisy(config: RunConfig, image_shape: tuple[int, int, int]) -> keras.Model:
    """An autoencoder with layers that behave otherwise while they train: BatchNorm behind the code, then Dropout."""
    images = keras.Input(image_shape)
    codes = model.build(config, image_shape).get_layer("encoder")(images)
    normalised = keras.layers.BatchNormalization(momentum=0.75)(codes)
    encoder = keras.Model(images, normalised, name="encoder")
    layers = [keras.layers.Dropout(0.5), keras.layers.Dense(784), keras.layers.Reshape(image_shape)]
    logits = keras.Sequential([keras.Input((config.encoding_dim,)), *layers], name="logits")
    decoder = keras.Sequential([logits, keras.layers.Activation("sigmoid")], name="decoder")
    return keras.Model(images, decoder(encoder(images)))


def state(trained: training.Trained) -> dict[str, bytes]:
    """Weights, moving averages and states of random numbers, by their names."""
    return {f"{n} {v.path}": v.value.numpy().tobytes() for n, v in enumerate(trained.model.variables)}


def test_layers_are_told_whether_they_train(small: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(optimizer="sgd", epochs=1, batch_size=600, encoding_dim=8)  # one step
    codes = model.build(config, small.shape).get_layer("encoder").predict_on_batch(small.train)
    monkeypatch.setattr(training, "build", noisy)
    trained = training.train(config, small)
    _, _, moving_mean, moving_variance = trained.model.get_layer("encoder").layers[-1].get_weights()
    np.testing.assert_allclose(moving_mean, 0.25 * codes.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(moving_variance, 0.75 + 0.25 * codes.var(axis=0), rtol=1e-4)
    # In validation nothing is dropped, and the moving averages are what normalises.
    expected = bce(small.test, trained.model.predict_on_batch(small.test).astype(float)).mean()
    assert trained.history.loc[1, "val_bce"] == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(keras.layers.Dropout, "call", lambda self, inputs, training=False: inputs)
    training._trainer.cache_clear()
    assert training.train(config, small).history.loc[1, "bce"] != trained.history.loc[1, "bce"]


def test_layers_that_draw_random_numbers_and_keep_averages_go_on_where_they_were(
    small: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "build", noisy)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    config = RunConfig(optimizer="adam", epochs=3, batch_size=100, encoding_dim=8)
    whole = training.train(config, small)
    assert any("seed_generator_state" in name for name in state(whole))
    checkpoint = training.Checkpoint(tmp_path / "checkpoint.npz")

    def stop(trained: training.Trained) -> None:
        if len(trained.epochs) == 2:
            assert trained.history["bce"].equals(whole.history["bce"][:2])
            raise KeyboardInterrupt

    training._trainer.cache_clear()
    random.seed(0)  # from which Keras takes the seeds that nobody gives it
    before = random.getstate()
    with pytest.raises(KeyboardInterrupt):
        training.train(config, small, stop, checkpoint)
    assert random.getstate() == before
    seen: list[int] = []
    resumed = training.train(config, small, lambda trained: seen.append(len(trained.epochs)), checkpoint)
    assert seen == [1, 2, 3]
    assert list(state(resumed).values()) == list(state(whole).values())


def test_divergence_stops_the_run_and_says_when(small: Images) -> None:
    config = RunConfig(optimizer="sgd", learning_rate=1e38, epochs=100)
    with pytest.raises(DivergenceError, match=r"diverged in epoch \d+ \(loss = .*lower learning_rate"):
        training.train(config, small)
