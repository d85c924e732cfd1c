"""One run: train the autoencoder of a `RunConfig` and log it to MLflow.

python -m pipeline.train --optimizer adam --epochs 50
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline import cli, plots, progress
from pipeline.errors import UserError
from pipeline.metrics import (
    DISPLAYED_LOSS,
    EPOCH_SECONDS,
    FIRST,
    KERAS2_LOSS,
    LAST,
    LOSSES,
    MODEL_PARAMETERS,
    TEST,
    TRAINING_SECONDS,
)
from pipeline.task import Child
from pipeline.texts import gigabytes, quoted
from pipeline.tracking import journal
from pipeline.tracking import runs as tracking
from pipeline.tracking.names import HARDWARE, PICTURE, RECONSTRUCTIONS_FILE
from pipeline.tracking.runs import TrackedRun
from pipeline.train import dataset
from pipeline.train.config import RunConfig, pictured
from pipeline.train.dataset import Images
from pipeline.train.size import size

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.train.training import Trained

RECONSTRUCTIONS = "reconstructions.png"
LOSS_CURVE = "loss_curve.png"

_SHOWN = 10  # test images in the pictures
_BACKEND = "tensorflow"
_NOT_NEEDED = ("sklearn", "matplotlib.pyplot", "jax")  # TensorFlow and Keras import them where they are: over a second
_PROC = "/proc/self/exe"
_PROCESS_BYTES = 2**30  # that TensorFlow takes in a process, whatever it trains: docs/benchmarks.md
_TENSORFLOW_BYTES = 4 * 2**30  # of addresses, most of them never touched; with less it may end in a segmentation fault


def resume(run_id: str) -> str:
    """Go on with a single run that was interrupted, from its last checkpoint; returns what to tell the user about it.

    Raises:
        UserError: there is no such run, its images are not what they were, or as `run`.
    """
    folder = tracking.unfinished_run(run_id)
    with journal.locked(folder):
        params, data_hash = tracking.recorded_of(tracking.open_journal(folder, "", {}))
        config = RunConfig.model_validate({name: params[name] for name in RunConfig.model_fields if name in params})
        found = load(config.dataset).sha256
        if data_hash not in (None, found):
            raise UserError(f"dataset={config.dataset!r} is not what the run {run_id} began with; restore it")
        return run(config, folder)


def run(config: RunConfig, folder: Path | None = None) -> str:
    """Make one run of `config`, or go on with the one in `folder`; returns what to tell the user about it.

    Raises:
        UserError: the data or the stores cannot be used, or the training diverged.
    """
    require_surroundings()
    images = load(config.dataset)
    require_full_batch(config, images)
    require_memory(config, images)
    images = split(config, images)

    with tracking.track(config, images, folder) as tracked, progress.watch(config.name, config.epochs) as report:
        last = train_together([tracked], images, report).epochs[-1]
    return (
        f"{tracked.name} is finished: loss {last['loss']:.4f}, val_loss {last['val_loss']:.4f}\n"
        f"run ID: {tracked.id}\n"
        f"to see it: {tracking.ui_command()}"
    )


def train_together(
    runs: Sequence[TrackedRun[RunConfig]], images: Images, report: progress.Report = lambda epoch, logs: None
) -> Trained:
    """Train runs that differ in their epochs only: the shorter ones are what the longest one was on its way.

    Each ends up as if it had been trained alone, bit for bit. All but the longest one are finished here.

    Args:
        report: is called with every epoch and its losses.

    Raises:
        UserError: the training diverged, or the disk is full.
    """
    training = import_training()
    longest = max(runs, key=lambda run: run.config.epochs)
    originals = images.test[:_SHOWN]

    def observe(trained: Trained) -> None:
        cli.end_if_interrupted()
        epoch = len(trained.epochs)
        for run in runs:
            if epoch > run.config.epochs or run.finished:
                continue
            if epoch:
                run.log_epoch(epoch, {name: trained.epochs[-1][name] for name in (*LOSSES, EPOCH_SECONDS)})
            if pictured(epoch, run.config.epochs):
                run.log_image(PICTURE, epoch, plots.strip(originals, trained.model(originals).numpy()))
            if epoch == run.config.epochs and run is not longest:
                log_results(images, trained, run)
                run.finish()
        if epoch:
            report(epoch, trained.epochs[-1])

    for run in runs:
        run.log_tags({HARDWARE: training.hardware()})
    kept = [_Kept(run) for run in runs]
    checkpoint = training.Checkpoint(longest.checkpoint, lambda epochs: all(run.has_kept(epochs) for run in kept))
    trained = training.train(longest.config, images, observe, checkpoint)
    log_results(images, trained, longest)
    return trained


@dataclass
class _Kept:
    """Of a run, how many epochs are known to be durable in its journal."""

    run: TrackedRun[RunConfig]
    epochs: int = -1  # 0 = the picture before the first

    def has_kept(self, epochs: int) -> bool:
        """Whether all that is said of the first epochs is kept: else a checkpoint of then is ahead of it."""
        if self.run.finished:
            return True
        if epochs > self.run.config.epochs:
            return False  # its results are those of an earlier epoch
        new = range(self.epochs + 1, epochs + 1)
        keys = [("metrics", f"epoch {epoch}") for epoch in new if epoch]
        keys += [("artifacts", f"{PICTURE} {epoch}") for epoch in new if pictured(epoch, self.run.config.epochs)]
        if self.run.has_kept(keys):
            self.epochs = max(self.epochs, epochs)
        return self.epochs >= epochs


def train_children(children: Sequence[Child]) -> None:
    """Train runs of a study that share a trajectory, in a process of its own; each goes on where it was interrupted.

    How each of them ended is in its journal.

    Raises:
        UserError: as `train_together`.
    """
    config = children[0].config  # of all of them, but for the epochs
    images = split(config, load(config.dataset))
    with contextlib.ExitStack() as locks:
        runs = [tracking.TrackedRun(c.config, locks.enter_context(tracking.journal_of(c))) for c in children]
        try:
            for run in runs:
                run.log_config(images)
            train_together(runs, images)
            for run in runs:
                if not run.finished:
                    run.finish()
        except BaseException as error:
            for run in runs:
                if not run.finished:
                    run.end(error)
            raise


@functools.lru_cache(maxsize=1)  # a worker trains many runs, mostly on the same images
def load(name: str) -> Images:
    """The images of `RunConfig.dataset`.

    Raises:
        UserError: as `dataset.load`.
    """
    if name == dataset.FASHION_MNIST:
        require_surroundings()
        import_training()  # Keras loads these images, and TensorFlow comes with it
    return dataset.load(name)


def split(config: RunConfig, images: Images) -> Images:
    """The images as this run divides them into those for training, validation and test."""
    return images.split(config.validation, config.seed_of("split"))


def data_hashes(configs: Sequence[RunConfig]) -> dict[str, str]:
    """The hash of every data set, by `RunConfig.data`.

    Raises:
        UserError: one cannot be read, or is too small for a batch.
    """
    hashes = {}
    for images, some in _by_images(configs):
        for config in some:
            require_full_batch(config, images)
        hashes[some[0].data] = images.sha256
    return hashes


def fitting(configs: Sequence[RunConfig], at_once: int) -> int:
    """See `pipeline.task.Program`; counted is what `require_memory` counts, and each process's program and images."""
    for images, some in _by_images(configs):
        for config in some:
            require_memory(config, images)
            each = needed_memory(config, images) + images.stored.nbytes + images.test.nbytes + _PROCESS_BYTES
            at_once = max(1, min(at_once, int(dataset.free_memory() // each)))
    return at_once


def _by_images(configs: Sequence[RunConfig]) -> Iterator[tuple[Images, list[RunConfig]]]:
    for name in dict.fromkeys(config.data for config in configs):
        yield load(name), [config for config in configs if config.data == name]


def prepare(config: RunConfig) -> None:
    """See `pipeline.task.Program`: the runs share nothing that is not there."""


def end_leftovers(folder: Path) -> None:
    """See `pipeline.task.Program`: a run is one process."""


def start_worker() -> None:
    """One thread for each process: `benchmarks/study.py` has why."""
    import_training(threads=1)


def require_full_batch(config: RunConfig, images: Images) -> None:
    """Refuse images of which those for training do not fill one batch; they are not split yet.

    Raises:
        UserError: they do not.
    """
    count = len(images.stored)
    if config.batch_size > count:
        raise UserError(
            f"batch_size={config.batch_size} is larger than the data: {images.name} has {count} training images; "
            f"allowed: 1 to {count}"
        )
    if config.validation > count - config.batch_size:
        raise UserError(
            f"validation={config.validation} leaves no batch of {config.batch_size} of the {count} "
            f"training images of {images.name}; allowed: 0 to {count - config.batch_size}"
        )


def require_memory(config: RunConfig, images: Images) -> None:
    """Refuse a model that would not fit into memory.

    Raises:
        UserError: it would not, or the images are too small for this architecture.
    """
    needed, free = needed_memory(config, images), dataset.free_memory()
    if needed > free:
        raise UserError(
            f"encoding_dim={config.encoding_dim} and decoder_hidden={config.decoder_hidden} on images of "
            f"{math.prod(images.shape):,} pixels make a model of {size(config, images.shape)[0]:,} parameters; to "
            f"train it takes {gigabytes(needed)} of memory, {gigabytes(free)} are free; make it smaller"
        )


def needed_memory(config: RunConfig, images: Images) -> int:
    """The bytes that training a model takes.

    Counted are four numbers of 32 bits for each parameter (its value, its gradient, and the two that most optimizers
    keep of it), the images to train on once more where some are held out of them, and what the layers say of the
    largest batch: all test images, when their reconstructions are measured.

    Raises:
        UserError: the images are too small for this architecture.
    """
    parameters, outputs = size(config, images.shape)
    batch = max(config.batch_size, config.validation, len(images.test))
    return 4 * (4 * parameters + batch * outputs) + (images.stored.nbytes if config.validation else 0)


def summarise(history: pd.DataFrame) -> dict[str, float]:
    """The end-of-run metrics of a `Trained.history`: the first and last of each loss, and the time."""
    return {
        **{FIRST + name: history[name].iloc[0] for name in LOSSES},
        **{LAST + name: history[name].iloc[-1] for name in LOSSES},
        KERAS2_LOSS: history[DISPLAYED_LOSS].iloc[0],
        TRAINING_SECONDS: history[EPOCH_SECONDS].sum(),
    }


def require_surroundings() -> None:
    """Refuse surroundings in which TensorFlow would end the process, or not be what Keras trains with.

    Raises:
        UserError: they are such, or TensorFlow is not installed.
    """
    cli.require_installed("train", "tensorflow", "keras")
    backend = os.environ.get("KERAS_BACKEND") or _BACKEND
    if backend != _BACKEND:
        raise UserError(f"KERAS_BACKEND={quoted(backend)} cannot be used; unset it, or set it to {_BACKEND}")
    if sys.platform == "linux" and not os.path.lexists(_PROC):
        raise UserError(
            f"{_PROC} is not there, without which TensorFlow aborts; mount /proc (mount -t proc proc /proc)"
        )
    cli.require_addresses(_TENSORFLOW_BYTES, "TensorFlow")


def import_training(threads: int = 0) -> ModuleType:
    """TensorFlow, without what it prints while it looks for a GPU; with so many threads, 0 = its own choice."""
    tf = import_tensorflow()
    with _silent_stderr():
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # others may train beside this process
        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
    from pipeline.train import training

    return training


def import_tensorflow() -> ModuleType:
    """TensorFlow, which has not looked for a GPU yet, nor begun a thread."""
    os.environ["KERAS_BACKEND"] = _BACKEND  # `~/.keras/keras.json` may name another
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _silent_stderr(), _hidden(_NOT_NEEDED):
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # it wonders why every run has a model of its own
    return tf


@contextmanager
def _hidden(modules: Sequence[str]) -> Iterator[None]:
    """Have imports of modules fail as where they are not installed; those that are imported already stay."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type] # the import system's own way to say that
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Native code writes to the descriptor, not to `sys.stderr`."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def log_results(images: Images, trained: Trained, tracked: TrackedRun[RunConfig]) -> None:
    """What a run logs when it has trained: summary and quality as metrics, figures, and the model."""
    from pipeline.train import quality

    x = images.test
    encoder, decoder = (trained.model.get_layer(name) for name in ("encoder", "decoder"))
    codes = encoder(x)
    y = decoder(codes).numpy()
    measures = quality.measure(x, y, codes.numpy())
    if images.held_out is not None:
        measures["bce"] = quality.bce(x, decoder.get_layer("logits")(codes).numpy())
        measures = {TEST + name: value for name, value in measures.items()}
        codes = encoder(images.held_out)
        measures |= quality.measure(images.held_out, decoder(codes).numpy(), codes.numpy())
    measures |= summarise(trained.history)
    measures[MODEL_PARAMETERS] = float(trained.model.count_params())
    tracked.log_epoch(len(trained.epochs), measures, key="results")
    validated_on = "test" if images.held_out is None else "validation"
    tracked.log_figures(
        {
            RECONSTRUCTIONS: plots.reconstructions(x[:_SHOWN], y[:_SHOWN], tracked.name),
            LOSS_CURVE: plots.loss_curve(trained.history, tracked.name, validated_on),
        }
    )
    originals, reconstructions = (plots.pixels(images[:_SHOWN]) for images in (x, y))
    tracked.log_arrays(RECONSTRUCTIONS_FILE, {"originals": originals, "reconstructed": reconstructions})
    tracked.log_model(trained.model, x[:_SHOWN])
