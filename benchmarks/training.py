"""Speed and memory of one run, as ratios measured side by side. Wants JAX: `make bench`, or

python -m pip install -r benchmarks/requirements.txt && python -m benchmarks.training

(a) the published notebook's way: stock `model.fit` on arrays, batch 256, validation on the test images;
(b) ours, as `python -m pipeline.train` trains: validation and all metrics included;
(c) a hand-written JAX scan over the whole epoch, validation loss included.

They take turns in one process, epoch by epoch, and so do after them a tracked training and a bare one; the first
epochs, which compile, are left out. What happens once in a run, and peak memory, is measured in new processes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import machine
from pipeline.train import dataset
from pipeline.train.config import RunConfig

Epoch = Callable[[], tuple[float, float]]  # runs one epoch; its loss and validation loss
EndOfEpoch = Callable[[float, float], None]  # called with the two losses
BATCH = 256
TRAINING = "training"  # the name of the threads that train
TURNS = 3  # of what a process does from its command to its end


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="timed epochs of each of the three ways")
    parser.add_argument("--probe", choices=PROBES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.probe:
        print(json.dumps(PROBES[options.probe]()))
        return
    print(machine.line(), flush=True)
    compare_epochs(options.epochs)
    compare_tracking()
    compare_memory()


def compare_epochs(epochs: int) -> None:
    """Print the seconds per epoch of the three ways, and their ratios."""
    images = dataset.load("mnist")
    ways: dict[str, Epoch] = {
        "(a) stock fit": stock(images, epochs + 2),
        "(b) ours": ours(images, epochs + 2),
        "(c) JAX scan": jax_scan(images),
    }
    seconds, losses = take_turns(ways, epochs + 2)
    print(f"one epoch of adam on MNIST, median of {epochs} (the first two left out), all three in turns:")
    for name, times in seconds.items():
        loss, val_loss = losses[name]
        print(f"  {name:14} {statistics.median(times[2:]):.3f} s   loss {loss:.4f}  val_loss {val_loss:.4f}")
    for other, aim in (("(a) stock fit", 0.40), ("(c) JAX scan", 1.5)):
        ratios = [b / x for b, x in zip(seconds["(b) ours"][2:], seconds[other][2:], strict=True)]
        print(f"  ours / {other}: {statistics.median(ratios):.2f} (aim: at most {aim})")


def take_turns(ways: dict[str, Epoch], epochs: int) -> tuple[dict[str, list[float]], dict[str, tuple[float, float]]]:
    """Let each way run an epoch, then again, so that whatever else the machine does hits all alike.

    Returns: the seconds of each way's epochs, and its last losses.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses = {}
    for _ in range(epochs):
        for name, epoch in ways.items():
            begin = time.perf_counter()
            losses[name] = epoch()
            seconds[name].append(time.perf_counter() - begin)
    return seconds, losses


def stock(images: dataset.Images, epochs: int) -> Epoch:
    """The published notebook's cell."""
    import keras

    inputs = keras.Input((784,))
    encoded = keras.layers.Dense(32, activation="relu")(inputs)
    autoencoder = keras.Model(inputs, keras.layers.Dense(784, activation="sigmoid")(encoded))
    autoencoder.compile(optimizer="adam", loss="binary_crossentropy")

    x, x_val = flat(images.train), flat(images.test)

    def fit(end_of_epoch: EndOfEpoch) -> None:
        ended = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: end_of_epoch(logs["loss"], logs["val_loss"])
        )
        autoencoder.fit(
            x, x, batch_size=BATCH, epochs=epochs, validation_data=(x_val, x_val), verbose=0, callbacks=[ended]
        )

    return in_turns(fit, epochs)


def flat(images: np.ndarray) -> np.ndarray:
    """[images, height, width, channels] as [images, pixels]."""
    return images.reshape(len(images), -1)


def ours(images: dataset.Images, epochs: int) -> Epoch:
    """`training.train`."""
    from pipeline.train import training

    config = RunConfig(optimizer="adam", epochs=epochs)

    def run(end_of_epoch: EndOfEpoch) -> None:
        def observe(trained: training.Trained) -> None:
            if trained.epochs:
                end_of_epoch(trained.epochs[-1]["loss"], trained.epochs[-1]["val_loss"])

        training.train(config, images, observe)

    return in_turns(run, epochs)


def tracked(images: dataset.Images, epochs: int) -> Epoch:
    """The same with all that a run logs while it trains, into a store of its own."""
    from pipeline.tracking import runs as tracking
    from pipeline.train import run as train

    config = RunConfig(optimizer="adam", epochs=epochs)

    def run(end_of_epoch: EndOfEpoch) -> None:
        with tracking.track(config, images) as mlflow_run:
            train.train_together(
                [mlflow_run], images, lambda epoch, losses: end_of_epoch(losses["loss"], losses["val_loss"])
            )

    return in_turns(run, epochs)


def in_turns(train: Callable[[EndOfEpoch], object], epochs: int) -> Epoch:
    """Train in a thread that waits after each epoch, so that others can have their turn."""
    ready, done = threading.Semaphore(0), threading.Semaphore(0)
    losses: list[tuple[float, float]] = []

    def end_of_epoch(loss: float, val_loss: float) -> None:
        losses.append((loss, val_loss))
        done.release()
        if len(losses) < epochs:
            ready.acquire()

    def whole() -> None:
        ready.acquire()
        train(end_of_epoch)

    threading.Thread(target=whole, daemon=True, name=TRAINING).start()

    def epoch() -> tuple[float, float]:
        ready.release()
        done.acquire()
        return losses[-1]

    return epoch


def jax_scan(images: dataset.Images) -> Epoch:
    """The same model and Adam in plain JAX: one compiled scan over the epoch's batches, then the validation loss."""
    import jax
    import jax.numpy as jnp

    def layer(key: jax.Array, inputs: int, outputs: int) -> tuple[jax.Array, jax.Array]:
        limit = (6 / (inputs + outputs)) ** 0.5
        return jax.random.uniform(key, (inputs, outputs), minval=-limit, maxval=limit), jnp.zeros(outputs)

    def loss_of(weights, x):  # type: ignore[no-untyped-def]
        (w1, b1), (w2, b2) = weights
        z = jax.nn.relu(x @ w1 + b1) @ w2 + b2
        return jnp.mean(jnp.maximum(z, 0) - z * x + jnp.log1p(jnp.exp(-jnp.abs(z))))

    def step(state, x):  # type: ignore[no-untyped-def]
        weights, m, v, t = state
        loss, gradient = jax.value_and_grad(loss_of)(weights, x)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), weights, m, v)
        return (weights, m, v, t), loss

    @jax.jit
    def one_epoch(state, train, test, full, rest):  # type: ignore[no-untyped-def]
        state, losses = jax.lax.scan(lambda state, indices: step(state, train[indices]), state, full)
        state, last = step(state, train[rest])
        loss = (losses.sum() * BATCH + last * len(rest)) / (full.size + len(rest))
        return state, loss, loss_of(state[0], test)

    keys = jax.random.split(jax.random.key(0))
    weights = (layer(keys[0], 784, 32), layer(keys[1], 32, 784))
    zeros = jax.tree.map(jnp.zeros_like, weights)
    state = (weights, zeros, zeros, jnp.float32(0))
    train, test = jnp.asarray(flat(images.train)), jnp.asarray(flat(images.test))

    def orders() -> Iterator[np.ndarray]:
        random = np.random.default_rng(0)
        while True:
            yield random.permutation(len(images.stored)).astype(np.int32)

    order = orders()

    def epoch() -> tuple[float, float]:
        nonlocal state
        indices = next(order)
        full = len(indices) // BATCH * BATCH
        state, loss, val_loss = one_epoch(state, train, test, indices[:full].reshape(-1, BATCH), indices[full:])
        return float(loss), float(val_loss)

    return epoch


def compare_tracking(epochs: int = 50) -> None:
    """Print what MLflow costs a run: its epochs beside bare ones, then start-up and results line by line."""
    from benchmarks.study import launch, timed  # with MLflow, whose import a probe measures

    images = dataset.load("mnist")
    with temporary_store():
        seconds = take_turns({"bare": ours(images, epochs), "tracked": tracked(images, epochs)}, epochs)[0]
        for thread in threading.enumerate():
            if thread.name == TRAINING:
                thread.join()
    after_first = {name: sum(times[1:]) for name, times in seconds.items()}
    print(f"{epochs} epochs of adam, tracked by MLflow against bare, epoch by epoch in turns, the first left out:")
    for name, total in after_first.items():
        print(f"  {name:8} {total:6.2f} s")
    print(f"  tracked / bare: {after_first['tracked'] / after_first['bare']:.3f} (aim: at most 1.05)")
    print("  once in a run:")
    for part, taken in _probe("once").items():
        print(f"    {part:42} {taken:6.2f} s")
    scripts, launches = [], []
    for _ in range(TURNS):
        scripts.append(timed(lambda folder: _probe("script")))
        launches.append(timed(lambda folder: launch(folder, ["-P", "optimizer=adam", "-P", "epochs=1"])))
    script, whole = statistics.median(scripts), statistics.median(launches)
    print(f"  from the command to its end, median of {TURNS} in turns:")
    print(f"    a script: import mlflow, tensorflow, one epoch     {script:6.2f} s")
    print(f"    mlflow run . -P optimizer=adam -P epochs=1         {whole:6.2f} s")
    print(f"    mlflow run / script: {whole / script:.2f} (aim: at most 1.5)")


def compare_memory() -> None:
    """Print the peak memory of a run beyond TensorFlow's own, against the float32 images."""
    images = 70000 * 784 * 4 / 2**20
    alone, whole = _probe("few images")["peak"], _probe("all images")["peak"]
    print("peak memory:")
    print(f"  TensorFlow's own (training on 600 images) {alone:.0f} MiB, on all of MNIST {whole:.0f} MiB")
    print(f"  difference / the images as float32 ({images:.0f} MiB): {(whole - alone) / images:.2f} (aim: at most 2.5)")


@contextmanager
def temporary_store() -> Iterator[None]:
    """MLflow's own default store, in a folder that is gone afterwards."""
    import mlflow

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        try:
            yield
        finally:
            os.chdir(before)


def _probe(name: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.training", "--probe", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the probe {name} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _once() -> dict[str, float]:
    clock: dict[str, float] = {}
    last = time.perf_counter()

    def mark(part: str) -> None:
        nonlocal last
        clock[part], last = time.perf_counter() - last, time.perf_counter()

    from pipeline.tracking import runs as tracking
    from pipeline.train import run as train

    mark("start-up: import MLflow")
    training = train.import_training()
    mark("start-up: import TensorFlow")
    images = dataset.load("mnist")
    mark("start-up: load the images")
    config = RunConfig(optimizer="adam", epochs=1)
    with temporary_store(), tracking.track(config, images) as run:
        mark("start-up: make the store, open the run")
        trained = training.train(config, images)
        mark("first epoch, compilation included")
        run.log_model(trained.model, images.test[:10])
        mark("model logging")
        train.log_results(images, trained, run)
        mark("quality and pictures")
    mark("delivery of what is left")
    return clock


def _script() -> dict[str, float]:
    """What a script does by hand that uses both, before it logs anything; JAX, which Keras imports, few have."""
    sys.modules["jax"] = None  # type: ignore[assignment] # Keras would import it
    import mlflow  # noqa: F401
    import tensorflow  # noqa: F401

    from pipeline.train import training

    training.train(RunConfig(optimizer="adam", epochs=1), dataset.load("mnist"))
    return {}


def _memory(images: dataset.Images) -> dict[str, float]:
    """The peak of this process alone: `ru_maxrss` would remember the process that started it."""
    from pipeline.train import training

    training.train(RunConfig(optimizer="adam", epochs=2), images)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak, "peak memory is read from /proc, as Linux has it"
    return {"peak": int(peak[1]) / 1024}


def _few_images() -> dict[str, float]:
    images = np.random.default_rng(0).random((600, 28, 28, 1), np.float32)
    return _memory(dataset.Images("few", "", "", images, images))


PROBES: dict[str, Callable[[], dict[str, float]]] = {
    "once": _once,
    "script": _script,
    "few images": _few_images,
    "all images": lambda: _memory(dataset.load("mnist")),
}

if __name__ == "__main__":
    main()
