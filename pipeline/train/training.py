"""Configuration and images in, trained model and its history out. Knows no MLflow.

An epoch is one Keras step: the images lie in memory once, Keras is fed the order in which the epoch visits
them, and XLA compiles the loop over the batches. `benchmarks/training.py` compares that with a stock `fit`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import platform
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.errors import DivergenceError, UserError
from pipeline.metrics import DISPLAYED_LOSS, EPOCH_SECONDS, LOSSES
from pipeline.tracking.journal import replace_file
from pipeline.train.config import RunConfig
from pipeline.train.dataset import ALIGNMENT, Images, zeros
from pipeline.train.model import build

CHECKPOINT_SECONDS = 2.0  # between two checkpoints: what a kill may cost, and far more than writing one takes
_NOT_COMPILED = {"seed": 0, "epochs": 1, "learning_rate": 1.0}  # in which runs may differ that are compiled once
_MOST_COMPILED = 8  # kinds of runs that stay compiled: the variations of a study take turns
_VALIDATION_BATCH = 1000  # larger than a training batch: nothing is learned from it, so only speed counts

Order = tuple[NDArray[np.int32], NDArray[np.int32]]  # [steps, batch] full batches, [n < batch] what is left


@dataclass(frozen=True)
class Trained:
    """An autoencoder after some epochs of training.

    Attributes:
        model: see `model.build`; while the training goes on, the same model is trained further.
        epochs: one dictionary per epoch, first to last: the losses of `metrics.LOSSES`, the loss as Keras 2's
            progress bar displayed it, and the seconds that the epoch took, validation included.
    """

    model: keras.Model
    epochs: list[dict[str, float]] = field(default_factory=list)

    @cached_property
    def history(self) -> pd.DataFrame:
        """The epochs as a frame, with the index `epoch` from 1."""
        index = pd.RangeIndex(1, len(self.epochs) + 1, name="epoch")
        return pd.DataFrame(self.epochs, index=index, columns=[*LOSSES, DISPLAYED_LOSS, EPOCH_SECONDS])


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps what it needs to go on.

    Attributes:
        path: the file.
        has_kept: makes durable what `observe` was told of so many epochs, and returns whether it is all there. Without
            it a checkpoint is neither written nor used: the training would go on behind what nobody knows.
    """

    path: Path
    has_kept: Callable[[int], bool] = lambda epochs: True


def train(
    config: RunConfig,
    images: Images,
    observe: Callable[[Trained], None] = lambda trained: None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train the autoencoder of `config` on `images`.

    The result depends on `config` and `images` alone: the same seed gives the same weights, bit for bit, on
    the same machine, with any number of threads, interrupted or not.

    Args:
        observe: is called before the first epoch and after every one, with the training so far.
        checkpoint: the training begins where one of the same trajectory (same images and configuration, whatever its
            epochs) says, and keeps it up to date, always behind what `observe` has seen.

    Raises:
        DivergenceError: the loss became NaN or infinite.
    """
    with _default_seed(config.seed_of("init")):
        model = build(config, images.shape)
    optimizer = _optimizer(config)
    optimizer.build(model.trainable_variables)
    epochs = restore(checkpoint, config, images, [*model.variables, *optimizer.variables]) if checkpoint else []
    if len(epochs) >= config.epochs:
        observe(Trained(model, epochs))
        return Trained(model, epochs)
    trainer = _trainer(
        build,
        config.model_copy(update=_NOT_COMPILED),
        images.stored.dtype,
        len(images.stored),
        len(images.validation),
        images.shape,
    )
    trainer.take(model, optimizer, images)
    trained = Trained(trainer.autoencoder, epochs)
    try:
        trainer.fit(
            _training_orders(len(images.stored), config.batch_size, config.seed_of("order"), len(epochs) + 1),
            initial_epoch=len(epochs),
            epochs=config.epochs,
            steps_per_epoch=1,
            shuffle=False,
            validation_data=_validation_order(len(images.validation)),
            verbose=0,
            callbacks=[_Observer(config, images, trained, observe, checkpoint)],
        )
    except BaseException:
        _trainer.cache_clear()  # what was under way is not fit to be begun anew
        raise
    _copy(trainer.autoencoder.variables, model.variables)
    return Trained(model, epochs)


def trajectory(config: RunConfig, images: Images) -> str:
    """What two runs have in common of which the one is the beginning of the other."""
    return f"{config.model_copy(update={'epochs': 1}).fingerprint} {images.sha256}"


def save(path: Path, config: RunConfig, images: Images, variables: list[keras.Variable], epochs: list) -> None:
    """Write a checkpoint: every variable of model and optimizer, and the epochs so far.

    Raises:
        OSError: it cannot be written; the one before is still there.
    """
    content = io.BytesIO()
    arrays = {f"{n}": variable.value.numpy() for n, variable in enumerate(variables)}
    np.savez(content, trajectory=trajectory(config, images), epochs=json.dumps(epochs), **arrays)
    replace_file(path, content.getvalue())


def restore(
    checkpoint: Checkpoint, config: RunConfig, images: Images, variables: list[keras.Variable]
) -> list[dict[str, float]]:
    """Set the variables as a checkpoint has them; returns its epochs, none where it is not of this trajectory."""
    try:
        with checkpoint.path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            epochs = [
                {name: float(value) for name, value in epoch.items()} for epoch in json.loads(str(content["epochs"]))
            ]
            values = [content[f"{n}"] for n in range(len(variables))]
            fits = str(content["trajectory"]) == trajectory(config, images) and len(epochs) <= config.epochs
    except Exception:  # whatever is wrong with it: the training can begin anew, and comes to the same
        return []
    alike = all(v.shape == x.shape and v.dtype == x.dtype.name for v, x in zip(variables, values, strict=True))
    if not (fits and alike and checkpoint.has_kept(len(epochs))):
        return []
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return epochs


def order(n: int, seed: int, epoch: int) -> NDArray[np.int32]:
    """The order in which epoch `epoch` (from 1) visits `n` images: depends on `(seed, epoch)` and nothing else."""
    return np.random.default_rng([seed, epoch]).permutation(n).astype(np.int32)


def unavailable_optimizers() -> set[str]:
    """Those of `config.OPTIMIZERS` that this Keras lacks, or cannot run on TensorFlow (Muon before 3.15).

    Python 3.10 has no Keras after 3.12.
    """
    newest = tuple(int(part) for part in keras.__version__.split(".")[:2])
    return {"muon", "schedulefreeadamw"} if newest < (3, 15) else set()


def hardware() -> str:
    """What trains here: the GPU, or the model of the processor."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def _default_seed(seed: int) -> Iterator[None]:
    """Have Keras draw the seeds of layers that are given none, such as a Dropout, from this one."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


class ProgressBarMean(keras.metrics.Metric):
    """The loss of an epoch as Keras 2's progress bar displayed it: the mean, over the batches, of the running mean.

    With the losses l1, l2, l3 of three equal batches: (l1 + (l1 + l2) / 2 + (l1 + l2 + l3) / 3) / 3.
    It exists to compare with logs that were published in those days; it is not the mean loss of the epoch.
    """

    def __init__(self, name: str = DISPLAYED_LOSS) -> None:
        super().__init__(name=name)
        self._running = keras.metrics.Mean(name="running")
        self._displayed = keras.metrics.Mean(name="displayed")

    def update_state(self, loss: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        self._running.update_state(loss, sample_weight)
        self._displayed.update_state(self._running.result())

    def result(self) -> tf.Tensor:
        return self._displayed.result()

    def reset_state(self) -> None:
        self._running.reset_state()
        self._displayed.reset_state()


class _EpochTrainer(keras.Model):
    """Trains an autoencoder on images that it holds; what Keras feeds it is the `Order` of an epoch.

    Weights, the state of the optimizer and the images are what it is given by `take`: it is compiled once for all runs
    that differ in nothing else.
    """

    def __init__(self, autoencoder: keras.Model, l1: float, held: _Held) -> None:
        super().__init__(name="trainer")
        self.autoencoder = autoencoder
        self._encoder = autoencoder.get_layer("encoder")
        self._decoder = autoencoder.get_layer("decoder")
        # The loss is computed from the logits: the logarithm of a saturated sigmoid would be cut off.
        self._logits = self._decoder.get_layer("logits")
        self._l1 = l1
        self._held = held
        self._mean_loss = keras.metrics.Mean(name="loss")
        self._mean_bce = keras.metrics.Mean(name="bce")
        self._displayed_loss = ProgressBarMean()

    def take(self, autoencoder: keras.Model, optimizer: keras.optimizers.Optimizer, images: Images) -> None:
        """Begin where these stand."""
        _copy(autoencoder.variables, self.autoencoder.variables)
        _copy(optimizer.variables, self.optimizer.variables)
        self._held.take(images)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self._mean_loss, self._mean_bce, self._displayed_loss]

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self._decoder(self._encoder(images))

    def train_step(self, data: tuple[Order]) -> dict[str, tf.Tensor]:
        _for_each_batch(data[0], self._train_on)
        return {metric.name: metric.result() for metric in self.metrics}

    def test_step(self, data: tuple[Order]) -> dict[str, tf.Tensor]:
        _for_each_batch(data[0], self._test_on)
        return {metric.name: metric.result() for metric in (self._mean_loss, self._mean_bce)}

    def _train_on(self, indices: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss, bce = self._loss_and_bce(self._held.to_train_on(indices), training=True)
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self._displayed_loss.update_state(loss, tf.size(indices))
        self._record(loss, bce, tf.size(indices))

    def _test_on(self, indices: tf.Tensor) -> None:
        loss, bce = self._loss_and_bce(tf.gather(self._held.validation, indices), training=False)
        self._record(loss, bce, tf.size(indices))

    def _loss_and_bce(self, pixels: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """What is minimised, and its reconstruction part alone: binary cross-entropy, mean over pixels and images.

        The penalty is Keras's activity regularizer, L1 over the units and mean over the batch. It is written
        out because Keras 3 before 3.15 forgot the mean, which made the strength depend on the batch size.
        """
        images = tf.reshape(pixels, (-1, *self._held.shape))
        codes = self._encoder(images, training=training)  # [batch, encoding_dim]
        logits = tf.reshape(self._logits(codes, training=training), tf.shape(pixels))
        bce = tf.reduce_mean(keras.losses.binary_crossentropy(pixels, logits, from_logits=True))
        penalty = self._l1 * tf.reduce_mean(tf.reduce_sum(tf.abs(codes), axis=-1))
        return bce + penalty, bce

    def _record(self, loss: tf.Tensor, bce: tf.Tensor, images: tf.Tensor) -> None:
        self._mean_loss.update_state(loss, sample_weight=images)
        self._mean_bce.update_state(bce, sample_weight=images)


class _Held:
    """Images as TensorFlow sees them, flat: to gather rows of pixels takes less time than to gather images."""

    def __init__(self, stored: np.dtype, train: int, validation: int, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._stored = tf.Variable(_tensor(zeros((train, math.prod(shape)), stored)))
        self._scale = tf.Variable(1.0, dtype=tf.float64)
        self.validation = tf.Variable(_tensor(zeros((validation, math.prod(shape)), np.float32)))
        self._taken: Images | None = None

    def take(self, images: Images) -> None:
        """Hold these."""
        if images is not self._taken:
            for held, given in ((self._stored, images.stored), (self.validation, images.validation)):
                held.assign(_tensor(given.reshape(held.shape)))
            self._scale.assign(images.scale)
            self._taken = images

    def to_train_on(self, indices: tf.Tensor) -> tf.Tensor:
        """[indices, pixels] of `Images.train`."""
        stored = tf.gather(self._stored, indices)
        return stored if stored.dtype == tf.float32 else tf.cast(tf.cast(stored, tf.float64) * self._scale, tf.float32)


def _tensor(array: NDArray) -> tf.Tensor:
    """An array as a tensor, which is the same memory where TensorFlow can use it: nobody writes to images."""
    usable = array.flags.writeable and array.flags.c_contiguous  # else NumPy or TensorFlow refuses
    if usable and array.ctypes.data % ALIGNMENT == 0:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array)


_held = lru_cache(maxsize=1)(_Held)


@lru_cache(maxsize=_MOST_COMPILED)
def _trainer(
    new_model: Callable[[RunConfig, tuple[int, int, int]], keras.Model],
    config: RunConfig,
    stored: np.dtype,
    train: int,
    validation: int,
    shape: tuple[int, int, int],
) -> _EpochTrainer:
    """One for so many images of a kind; to compile it takes seconds, so the next run of that kind has it, too."""
    with _default_seed(0):  # whatever it draws, `take` replaces it
        model = new_model(config, shape)
    trainer = _EpochTrainer(model, config.l1, _held(stored, train, validation, shape))
    trainer.compile(optimizer=_optimizer(config), jit_compile=True)
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def _copy(variables: list[keras.Variable], to: list[keras.Variable]) -> None:
    for one, other in zip(variables, to, strict=True):
        other.assign(one.value)


def _for_each_batch(batches: Order, do: Callable[[tf.Tensor], None]) -> None:
    full, rest = batches

    def step(i: tf.Tensor) -> tuple[tf.Tensor]:
        do(full[i])
        return (i + 1,)

    tf.while_loop(lambda i: i < full.shape[0], step, (tf.constant(0),))
    if rest.shape[0]:
        do(rest)


def _in_batches(indices: NDArray[np.int32], batch: int) -> Order:
    steps = len(indices) // batch
    return indices[: steps * batch].reshape(steps, batch), indices[steps * batch :]


def _training_orders(n: int, batch: int, seed: int, first_epoch: int) -> tf.data.Dataset:
    def orders() -> Iterator[tuple[Order]]:
        for epoch in itertools.count(first_epoch):
            yield (_in_batches(order(n, seed, epoch), batch),)

    steps, rest = divmod(n, batch)
    signature = ((tf.TensorSpec((steps, batch), tf.int32), tf.TensorSpec((rest,), tf.int32)),)
    return _untuned(tf.data.Dataset.from_generator(orders, output_signature=signature))


def _validation_order(n: int) -> tf.data.Dataset:
    order = _in_batches(np.arange(n, dtype=np.int32), min(_VALIDATION_BATCH, n))
    return _untuned(tf.data.Dataset.from_tensors((order,)))


def _untuned(data: tf.data.Dataset) -> tf.data.Dataset:
    """Without the thread that tunes a data set: there is nothing to tune, and its end may be waited for for long."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def _optimizer(config: RunConfig) -> keras.optimizers.Optimizer:
    if config.optimizer in unavailable_optimizers():
        raise UserError(
            f"optimizer={config.optimizer!r} needs Keras 3.15, which needs Python 3.11; this is Keras "
            f"{keras.__version__}: take another optimizer or a newer Python"
        )
    # By class and not by `keras.optimizers.get`, which does not know Lamb.
    classes = {name.lower(): optimizer for name, optimizer in vars(keras.optimizers).items()}
    return classes[config.optimizer](learning_rate=config.learning_rate)


class _Observer(keras.callbacks.Callback):
    """Times the epochs, collects and shows them, writes checkpoints, and stops a training that has diverged."""

    def __init__(
        self,
        config: RunConfig,
        images: Images,
        trained: Trained,
        observe: Callable[[Trained], None],
        checkpoint: Checkpoint | None,
    ) -> None:
        super().__init__()
        self._config, self._images, self._trained = config, images, trained
        self._observe, self._checkpoint = observe, checkpoint
        self._saved = time.monotonic()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._observe(self._trained)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        values = {name: float(logs[name]) for name in (*LOSSES, DISPLAYED_LOSS)}
        self._trained.epochs.append({**values, EPOCH_SECONDS: time.perf_counter() - self._begin})
        self._observe(Trained(self._trained.model, self._trained.epochs))
        if not all(math.isfinite(logs[name]) for name in LOSSES):
            found = ", ".join(f"{name} = {logs[name]}" for name in LOSSES)
            raise DivergenceError(f"training diverged in epoch {epoch + 1} ({found}); lower learning_rate or l1")
        if self._checkpoint and time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            if self._checkpoint.has_kept(epoch + 1):
                variables = [*self._trained.model.variables, *self.model.optimizer.variables]
                save(self._checkpoint.path, self._config, self._images, variables, self._trained.epochs)
            self._saved = time.monotonic()
