"""One run from end to end, as users make it: `mlflow run`, `python -m pipeline.train`, a real server, signals."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow.entities import Run
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.metrics import DISPLAYED_LOSS, EPOCH_SECONDS, LOSSES, QUALITY
from pipeline.tracking import store
from pipeline.tracking.journal import journals
from pipeline.train import dataset, quality
from pipeline.train import run as train
from pipeline.train.config import RunConfig, pictured
from pipeline.train.dataset import Images
from tests.conftest import (
    HANGS,
    ROOT,
    Server,
    answers,
    copy_store,
    end_group,
    environment,
    free_port,
    run,
    served_by_git,
    start,
    wait_for,
)
from tests.test_store import own

LOCAL = ("--env-manager", "local")


def runs_in(folder: Path) -> list[Run]:
    """All runs, newest first."""
    return mlflow.MlflowClient(environment(folder)["MLFLOW_TRACKING_URI"]).search_runs(["0"])


@pytest.fixture(scope="module")
def launched(
    small_npz: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder, and what `mlflow run` printed for the run that lies in its store."""
    folder = tmp_path_factory.mktemp("launched")
    copy_store(empty_store, folder)
    words = ("-P", "optimizer=adam", "-P", "epochs=12", "-P", "l1=1e-5", "-P", f"dataset={small_npz}")
    done = run("mlflow", "run", str(ROOT), *words, *LOCAL, folder=folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def logged(launched: tuple[Path, object], monkeypatch: pytest.MonkeyPatch) -> Run:
    """That run, with its store set as this process's."""
    folder, _ = launched
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment(folder)["MLFLOW_TRACKING_URI"])
    (finished,) = runs_in(folder)
    return finished


@pytest.mark.slow
def test_it_finishes_under_a_name_and_shows_its_progress(
    launched: tuple[Path, subprocess.CompletedProcess[str]], logged: Run
) -> None:
    _, done = launched
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == "adam-12ep-l1=1e-05-dataset=small.npz"
    lines = done.stdout.splitlines()
    assert lines[0] == f"training {logged.info.run_name}"
    assert lines[1].startswith("epoch 1/12  loss 0.")
    assert lines[1].endswith(" left")
    assert lines[-4].startswith("epoch 12/12  loss 0.")
    last = f"loss {logged.data.metrics['loss']:.4f}, val_loss {logged.data.metrics['val_loss']:.4f}"
    assert lines[-3:] == [
        f"{logged.info.run_name} is finished: {last}",
        f"run ID: {logged.info.run_id}",
        f"to see it: mlflow ui --backend-store-uri {os.environ['MLFLOW_TRACKING_URI']}",
    ]
    chatter = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert chatter == []


@pytest.mark.slow
def test_every_metric_is_there_at_its_epoch(logged: Run) -> None:
    client = mlflow.MlflowClient()
    for name in (*LOSSES, "epoch_seconds"):
        history = client.get_metric_history(logged.info.run_id, name)
        assert [point.step for point in history] == list(range(1, 13))
        if name in LOSSES:
            assert logged.data.metrics[f"first_{name}"] == history[0].value
            assert logged.data.metrics[f"last_{name}"] == history[-1].value
    metrics = logged.data.metrics
    assert metrics["keras2_progressbar_loss"] > metrics["first_loss"]
    assert metrics["loss"] > metrics["bce"]
    assert metrics["training_seconds"] > 0
    assert set(QUALITY) < set(metrics)


@pytest.mark.slow
def test_the_model_serves_python_and_its_parts_have_names(logged: Run, small: Images) -> None:
    model = mlflow.pyfunc.load_model(f"runs:/{logged.info.run_id}/model")
    y = model.predict(small.test)
    parts = mlflow.tensorflow.load_model(f"runs:/{logged.info.run_id}/model")
    codes = parts.get_layer("encoder").predict(small.test, verbose=0)
    np.testing.assert_allclose(parts.get_layer("decoder").predict(codes, verbose=0), y, atol=1e-6)
    assert model.metadata.get_input_schema().inputs[0].shape == (-1, 28, 28, 1)
    assert model.input_example.shape == (10, 28, 28, 1)
    pictures = np.round(small.test[..., 0] * 255).astype(np.uint8)
    as_the_readme_says = pictures[..., None].astype("float32") / 255
    np.testing.assert_allclose(model.predict(as_the_readme_says), y, atol=1e-6)
    measured = quality.measure(small.test, y, codes)
    assert {name: logged.data.metrics[name] for name in QUALITY} == pytest.approx(measured, rel=1e-4)


@pytest.mark.slow
def test_of_images_held_out_every_epoch_and_of_the_test_images_once(
    small_npz: Path, small: Images, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_store(empty_store, tmp_path)
    words = ("--optimizer", "adam", "--epochs", "2", "--validation", "100", "--dataset", str(small_npz))
    assert run("python", "-m", "pipeline.train", *words, folder=tmp_path).returncode == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment(tmp_path)["MLFLOW_TRACKING_URI"])
    (made,) = runs_in(tmp_path)
    parts = mlflow.tensorflow.load_model(f"runs:/{made.info.run_id}/model")

    def reconstructed(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return parts.predict(x, verbose=0), parts.get_layer("encoder").predict(x, verbose=0)

    on_validation = quality.measure(small.split(100, 0).validation, *reconstructed(small.split(100, 0).validation))
    on_test = quality.measure(small.test, *reconstructed(small.test))
    metrics = made.data.metrics
    assert {name: metrics[name] for name in QUALITY} == pytest.approx(on_validation, rel=1e-4)
    assert {name: metrics[f"test_{name}"] for name in QUALITY} == pytest.approx(on_test, rel=1e-4)
    x, y = small.test.astype(np.float64), reconstructed(small.test)[0].astype(np.float64)
    by_hand = -(x * np.log(y) + (1 - x) * np.log(1 - y)).mean()
    assert metrics["test_bce"] == pytest.approx(by_hand, rel=1e-4)
    assert [point.step for point in mlflow.MlflowClient().get_metric_history(made.info.run_id, "test_bce")] == [2]
    assert '"validation": [100, 28, 28, 1]' in str(made.inputs.dataset_inputs[0].dataset.profile)  # type: ignore[union-attr]


@pytest.mark.parametrize(("validation", "expected"), [(0, "test: loss"), (100, "validation: loss")])
def test_the_curve_is_called_after_the_images_that_epochs_were_measured_on(
    validation: int, expected: str, small: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.train import model, training

    monkeypatch.setattr(quality, "measure", lambda x, y, codes: {})
    config, tracked = RunConfig(validation=validation, epochs=1), Mock()
    tracked.name = config.name
    epoch = dict.fromkeys((*LOSSES, DISPLAYED_LOSS, EPOCH_SECONDS), 0.5)
    train.log_results(train.split(config, small), training.Trained(model.build(config, small.shape), [epoch]), tracked)
    (figures,) = tracked.log_figures.call_args.args
    texts = figures[train.LOSS_CURVE].axes[0].get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["training: loss", expected]


@pytest.mark.parametrize(("validation", "allowed"), [(345, "0 to 344"), (10000, "0 to 344")])
def test_a_split_that_leaves_no_batch(validation: int, allowed: str, small: Images) -> None:
    with pytest.raises(
        UserError, match=f"^validation={validation} leaves no batch of 256 .* small; allowed: {allowed}$"
    ):
        train.require_full_batch(RunConfig(validation=validation), small)
    train.require_full_batch(RunConfig(validation=344), small)
    # Without any split there would be no batch, either: it is the batch that is too large.
    for validation in (0, 10, 700):
        with pytest.raises(UserError, match=r"^batch_size=601 is larger than the data: .* allowed: 1 to 600$"):
            train.require_full_batch(RunConfig(batch_size=601, validation=validation), small)


@pytest.mark.slow
def test_its_pictures_and_its_configuration_are_there(logged: Run, small_npz: Path) -> None:
    client = mlflow.MlflowClient()
    names = {file.path for file in client.list_artifacts(logged.info.run_id)}
    assert names == {"config.json", "images", "loss_curve.png", "reconstructions.npz", "reconstructions.png"}
    config = mlflow.artifacts.load_dict(f"{logged.info.artifact_uri}/config.json")
    assert config == RunConfig(optimizer="adam", epochs=12, l1=1e-5, dataset=str(small_npz)).model_dump()
    pictures = [file.path for file in client.list_artifacts(logged.info.run_id, "images") if file.path.endswith(".png")]
    steps = sorted(int(name.replace("%", "+").split("+step+")[1].split("+")[0]) for name in pictures)
    assert steps == [0, 1, 2, 5, 10, 12]
    strip = np.asarray(mlflow.artifacts.load_image(f"{logged.info.artifact_uri}/{sorted(pictures)[0]}").convert("L"))
    assert strip.shape == (2 * 28 * 4, 10 * 28 * 4)


@pytest.mark.slow
def test_what_was_typed_and_what_was_used_are_both_there(logged: Run) -> None:
    assert logged.data.params["l1"] == "1e-5"
    assert logged.data.params["learning_rate"] == "default"
    assert logged.data.params["learning_rate_used"] == "0.001"
    assert len(logged.data.tags["mlflow.source.git.commit"]) == 40


@pytest.mark.slow
def test_the_model_serves_http(logged: Run, small: Images, launched: tuple[Path, object], tmp_path: Path) -> None:
    folder, _ = launched
    port = free_port()
    uri = f"runs:/{logged.info.run_id}/model"
    server = start("mlflow", "models", "serve", "-m", uri, "-p", str(port), "--env-manager", "local", folder=folder)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/health"), server)
        words = ("-u", f"{uri}/serving_input_example.json", "-d", str(tmp_path))
        assert run("mlflow", "artifacts", "download", *words, folder=folder).returncode == 0
        example = (tmp_path / "model" / "serving_input_example.json").read_bytes()
        for sent, images in (
            (json.dumps({"inputs": small.test[:3].tolist()}).encode(), small.test[:3]),
            (example, small.test[:10]),
        ):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations", sent, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                served = np.array(json.load(response)["predictions"])
            np.testing.assert_allclose(served, mlflow.pyfunc.load_model(uri).predict(images), atol=1e-6)
    finally:
        end_group(server)


@pytest.fixture
def git_uri(tmp_path: Path) -> Iterator[str]:
    """A clone of the project's last commit: what MLflow really fetches."""
    with served_by_git(ROOT, tmp_path) as uri:
        yield uri


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_a_git_uri_runs(git_uri: str, small_npz: Path, tmp_path: Path) -> None:
    folder = with_images(tmp_path / "mine", small_npz)
    words = ("-P", "epochs=1", "-P", "dataset=images.npz", "--run-name", "mine")
    done = run("mlflow", "run", git_uri, *words, *LOCAL, folder=tmp_path, cwd=folder)
    assert done.returncode == 0, done.stderr
    (made,) = runs_in(tmp_path)
    assert (made.info.status, made.info.run_name) == ("FINISHED", "mine")
    assert made.data.tags["git_dirty"] == "false"
    assert made.data.tags["mlflow.source.name"] == git_uri

    report = ("-e", "compare", "-P", "out=report")  # not in the clone, which MLflow makes in a temporary folder
    done = run("mlflow", "run", git_uri, *report, *LOCAL, folder=tmp_path, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "written to report: " in done.stdout
    assert (folder / "report" / "report.html").is_file()


def with_images(folder: Path, npz: Path) -> Path:
    """A folder with `images.npz`, far from the project."""
    folder.mkdir()
    shutil.copy(npz, folder / "images.npz")
    return folder


@pytest.mark.slow
def test_relative_paths_mean_the_folder_where_mlflow_run_is_typed(small_npz: Path, tmp_path: Path) -> None:
    folder = with_images(tmp_path / "mine", small_npz)
    base = "base: {optimizer: adam, epochs: 1, dataset: images.npz}"  # which the workers read
    (folder / "mine.yaml").write_text(f"name: mine\ndescription: d\nseeds: 2\n{base}\nvariations: [{{name: a}}]\n")
    words = ("-e", "study", "-P", "study=mine.yaml")
    done = run("mlflow", "run", str(ROOT), *words, *LOCAL, folder=tmp_path, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert [made.info.status for made in runs_in(tmp_path)] == ["FINISHED"] * 3
    words = ("-e", "compare", "-P", "study=mine")
    done = run("mlflow", "run", str(ROOT), *words, *LOCAL, folder=tmp_path, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "comparison" / "conclusion.json").is_file()
    words = ("-e", "compare", "-P", "verify=comparison/conclusion.json")
    done = run("mlflow", "run", str(ROOT), *words, *LOCAL, folder=tmp_path, cwd=folder)
    assert (done.returncode, "nothing differs" in done.stdout) == (0, True), done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_a_file_uri_of_a_clone_runs(small_npz: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    words = ("-P", "epochs=1", "-P", f"dataset={small_npz}")
    done = run("mlflow", "run", (tmp_path / "clone").as_uri(), *words, *LOCAL, folder=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [made.info.status for made in runs_in(tmp_path)] == ["FINISHED"]


@pytest.mark.slow
def test_the_default_store_is_mlflows_own(small_npz: Path, tmp_path: Path) -> None:
    env = {k: v for k, v in environment(tmp_path).items() if k != "MLFLOW_TRACKING_URI"}
    words = ["python", "-m", "pipeline.train", "--epochs", "1", "--dataset", str(small_npz)]
    changes = {"PYTHONPATH": str(ROOT), "MLFLOW_EXPERIMENT_NAME": "mine"}
    subprocess.run(words, cwd=tmp_path, env=env | changes, check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlruns", "state"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("mine")
    assert experiment
    (made,) = client.search_runs([experiment.experiment_id])
    assert made.info.status == "FINISHED"


@pytest.mark.slow
def test_a_real_server(small_npz: Path, tmp_path: Path, lasting_server: Server) -> None:
    there = ("env", f"MLFLOW_TRACKING_URI={lasting_server.uri}", f"MLFLOW_EXPERIMENT_NAME={tmp_path.name}")
    words = ("python", "-m", "pipeline.train", "--epochs", "2", "--dataset", str(small_npz))
    done = run(*there, *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"to see it: open {lasting_server.uri}" in done.stdout
    client = mlflow.MlflowClient(lasting_server.uri)
    (made,) = client.search_runs([own(client, tmp_path.name)])
    assert made.info.status == "FINISHED"
    assert set(QUALITY) < set(made.data.metrics)
    assert len(client.list_artifacts(made.info.run_id)) == 5
    table = run(*there, "python", "-m", "pipeline.compare", "--out", str(tmp_path), folder=tmp_path)
    assert table.stdout.startswith("Variations: 1; comparisons: none."), table.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--optimizer", "adm"], "error: optimizer='adm' cannot be used: allowed: adadelta"),
        (["--batch_size", "601"], "error: batch_size=601 is larger than the data: small.npz has 600 training images"),
        (["--dataset", "/nowhere"], "error: dataset='/nowhere' does not exist"),
        (["--learning_rate", "1e38", "--optimizer", "sgd"], "error: training diverged in epoch"),
    ],
)
def test_a_mistake_is_one_line_and_no_run_is_left_running(
    words: list[str], says: str, small_npz: Path, tmp_path: Path
) -> None:
    done = run("python", "-m", "pipeline.train", "--dataset", str(small_npz), *words, folder=tmp_path)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert line.startswith(says)
    if "diverged" in says:
        (made,) = runs_in(tmp_path)
        assert made.info.status == "FAILED"
        assert made.data.tags["failure"].startswith("DivergenceError: training diverged in epoch")
    else:
        assert not (tmp_path / "store.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameter", "says"),
    [("optimzer=sgd", "did you mean 'optimizer'?"), ("optimizer=adam; touch x", "'adam; touch x' cannot be used")],
)
def test_a_mistake_under_mlflow_run_fails_the_run_with_the_reason(parameter: str, says: str, tmp_path: Path) -> None:
    done = run("mlflow", "run", str(ROOT), "-P", parameter, *LOCAL, folder=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert says in line
    (made,) = runs_in(tmp_path)
    assert made.info.status == "FAILED"
    assert says in made.data.tags["failure"]
    assert re.fullmatch(r"failed: (unknown parameter|optimizer='adam; touch x').*", made.info.run_name)
    assert not (tmp_path / "x").exists()
    assert not (ROOT / "x").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("words", [("python", "-m", "pipeline.train"), ("mlflow", "run", ".", *LOCAL)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_as_killed(
    words: tuple[str, ...], number: signal.Signals, small_npz: Path, tmp_path: Path
) -> None:
    """Ctrl-C and a closed terminal go to everybody at it, SIGTERM to the launcher alone."""
    parameters = {"epochs": "1000000", "dataset": str(small_npz)}
    flags = [
        word for k, v in parameters.items() for word in (("-P", f"{k}={v}") if words[0] == "mlflow" else (f"--{k}", v))
    ]
    process = start(*words, *flags, folder=tmp_path)
    try:
        wait_for(lambda: "epoch 1/1000000" in (tmp_path / "output").read_text(), process)
        if number != signal.SIGTERM:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(HANGS) != 0
        wait_for_status(tmp_path, "KILLED")
    finally:
        subprocess.run(["pkill", "-KILL", "-g", str(process.pid)])
    (made,) = runs_in(tmp_path)
    assert made.data.tags["failure"].startswith("interrupted by ")
    assert "loss" in made.data.metrics
    assert (
        "Traceback" not in (tmp_path / "output").read_text().split("training adadelta")[1].split("mlflow.projects")[0]
    )


def without_seconds(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith("seconds")}


_WITH_MANY_CHECKPOINTS = """
import sys
from pipeline.train import training
from pipeline.train.__main__ import main
training.CHECKPOINT_SECONDS = 0.2
sys.exit(main())
"""


@pytest.mark.slow
def test_a_single_run_goes_on_in_the_same_run_and_ends_as_if_never_interrupted(small_npz: Path, tmp_path: Path) -> None:
    """After SIGTERM, after a kill -9, and by the ID that it says; what was not begun or is finished cannot go on."""
    (tmp_path / "whole").mkdir()
    epochs = 300
    flags: tuple[str, ...] = ("--optimizer", "adam", "--epochs", str(epochs), "--dataset", str(small_npz))
    whole = run("python", "-m", "pipeline.train", *flags, folder=tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = start("python", "-c", _WITH_MANY_CHECKPOINTS, *flags, folder=tmp_path)
        checkpoint = tmp_path / "state" / "runs"
        seen = max((path.stat().st_mtime for path in checkpoint.glob("*/checkpoint.npz")), default=0.0)
        newer = partial(_newer_checkpoint, checkpoint, seen)
        wait_for(newer, process)
        process.send_signal(number)
        assert process.wait(HANGS) != 0
        (known,) = journals(tmp_path / "state")
        run_id = str(known.sent.run_id)
        flags = ("--resume", run_id)
        words = ("python", "-m", "pipeline.train", *flags)
        if number == signal.SIGTERM:
            assert f"to go on with it: {' '.join(words)}" in (tmp_path / "output").read_text()
    told = run("python", "-m", "pipeline.deliver", folder=tmp_path)
    assert f"can go on: {' '.join(words)}" in told.stdout
    assert runs_in(tmp_path)[0].info.status == "KILLED"
    done = run(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (made,), (other,) = runs_in(tmp_path), runs_in(tmp_path / "whole")
    assert made.info.run_id == run_id
    assert (made.info.status, made.data.tags.get("failure")) == ("FINISHED", None)
    assert without_seconds(made.data.metrics) == without_seconds(other.data.metrics)
    client = mlflow.MlflowClient(environment(tmp_path)["MLFLOW_TRACKING_URI"])
    for name in LOSSES:
        assert [point.step for point in client.get_metric_history(made.info.run_id, name)] == list(range(1, epochs + 1))
    again = run(*words, folder=tmp_path)
    assert again.returncode == 2
    assert "is not a run that can go on; none can" in again.stderr
    both = run(*words, "--epochs", "3", folder=tmp_path)
    assert "give it alone" in both.stderr


def _newer_checkpoint(folder: Path, than: float) -> bool:
    return any(path.stat().st_mtime > than for path in folder.glob("*/checkpoint.npz"))


@pytest.mark.slow
@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("whole_group", [True, False], ids=["with its child", "alone"])
def test_a_launcher_that_is_killed_while_its_child_begins_leaves_nothing_running(
    whole_group: bool, small_npz: Path, tmp_path: Path
) -> None:
    words = ("mlflow", "run", ".", "-P", "epochs=1000000", "-P", f"dataset={small_npz}", *LOCAL)
    process = start(*words, folder=tmp_path)
    wait_for(lambda: list((tmp_path / "state" / "runs").glob("*/header.json")), process)
    children = psutil.Process(process.pid).children(recursive=True)
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=HANGS)
    assert not alive
    told = run("python", "-m", "pipeline.deliver", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    (made,) = runs_in(tmp_path)
    assert made.info.status == "KILLED"
    assert made.data.tags["failure"] in (store.DIED, "interrupted by SIGTERM")


def wait_for_status(folder: Path, status: str) -> None:
    import time

    end = time.monotonic() + HANGS
    while runs_in(folder)[0].info.status != status:
        assert time.monotonic() < end, f"the run is {runs_in(folder)[0].info.status}"
        time.sleep(0.2)


def test_a_model_that_memory_does_not_hold_is_refused_with_its_size(
    small: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(encoding_dim=10, decoder_hidden=20)
    parameters = (784 + 1) * 10 + (10 + 1) * 20 + (20 + 1) * 784
    # Four numbers of four bytes for each parameter, 256 images' activations.
    needed = 16 * parameters + 4 * 256 * (10 + 20 + 784)
    monkeypatch.setattr(dataset, "free_memory", lambda: needed)
    train.require_memory(config, small)
    monkeypatch.setattr(dataset, "free_memory", lambda: needed - 1)
    with pytest.raises(UserError, match=r"24,534 parameters; to train it takes 0\.0 GB .* make it smaller"):
        train.require_memory(config, small)
    # 600 of the images are divided into two other arrays.
    held_out = config.model_copy(update={"validation": 100})
    monkeypatch.setattr(dataset, "free_memory", lambda: needed + 4 * 600 * 784)
    train.require_memory(held_out, small)
    monkeypatch.setattr(dataset, "free_memory", lambda: needed + 4 * 600 * 784 - 1)
    with pytest.raises(UserError, match="make it smaller"):
        train.require_memory(held_out, small)
    huge = RunConfig(encoding_dim=65536, decoder_hidden=65536)
    with pytest.raises(UserError, match=r"4,397,859,600 parameters; to train it takes 70\.5 GB of memory, 0\.0 GB are"):
        train.require_memory(huge, small)


@pytest.mark.parametrize(("room", "fit"), [(2.9, 2), (3.0, 3), (0.5, 1), (100, 4)])
def test_as_many_are_trained_at_a_time_as_memory_holds(
    room: float, fit: int, small: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(optimizer="sgd")
    each = train.needed_memory(config, small) + 4 * 800 * 784 + train._PROCESS_BYTES
    monkeypatch.setattr(train, "load", lambda name: small)
    monkeypatch.setattr(dataset, "free_memory", lambda: room * each)
    assert train.fitting([config], 4) == fit


def test_images_too_small_for_the_architecture_are_refused_before_a_run_is_made(small: Images) -> None:
    tiny = dataclasses.replace(small, stored=small.stored[:, :3], test=small.test[:, :3])
    with pytest.raises(UserError, match="architecture='conv' halves the images twice, and these are 3 x 28"):
        train.require_memory(RunConfig(architecture="conv"), tiny)
    train.require_memory(RunConfig(), tiny)


def test_pictured_epochs() -> None:
    assert [epoch for epoch in range(1, 121) if pictured(epoch, 120)] == [1, 2, 5, 10, 20, 50, 100, 120]


def test_the_first_and_last_of_a_history() -> None:
    columns = {name: [n + 0.5, n + 0.25, n + 0.125] for n, name in enumerate([*LOSSES, "displayed_loss"])}
    history = pd.DataFrame({**columns, "epoch_seconds": [3.0, 1.0, 1.0]}, index=[1, 2, 3])
    summary = train.summarise(history)
    assert summary["first_val_loss"] == 1.5
    assert summary["last_val_bce"] == 3.125
    assert summary["keras2_progressbar_loss"] == 4.5
    assert summary["training_seconds"] == 5
