"""What journals hold gets to real stores, exactly once, whatever goes away in the middle of it."""

from __future__ import annotations

import contextlib
import http.server
import logging
import math
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import sqlalchemy
from mlflow.entities import Run
from mlflow.store.tracking.dbmodels.models import SqlDataset

from pipeline.errors import UserError, first_line
from pipeline.texts import redacted
from pipeline.tracking import delivery, journal, store
from pipeline.tracking import runs as tracking
from pipeline.tracking.deliver import deliver as deliver_all
from pipeline.tracking.journal import FINISHED, MODEL, Journal
from pipeline.tracking.names import HEARTBEAT, OWNER, PLAN, STUDY
from pipeline.train.config import RunConfig
from pipeline.train.dataset import Images
from tests.conftest import HANGS, ROOT, Proxy, Request, Server, answers, free_port, no_hang

CONFIG = RunConfig(optimizer="adam", epochs=6, l1=1e-5)
ODD = [float("nan"), float("inf"), -float("inf"), 0.0, -1e300, 1e-320]
PICTURE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.fixture
def ready(db: str, tmp_path: Path) -> mlflow.MlflowClient:
    """A store of the test's own, which is there already, with an experiment that keeps its artifacts there, too."""
    client = mlflow.MlflowClient()
    os.environ["MLFLOW_EXPERIMENT_NAME"] = "own"  # `store` takes it away again
    client.create_experiment("own", artifact_location=str(tmp_path / "artifacts"))
    return client


def own(client: mlflow.MlflowClient, name: str = "own") -> str:
    """The ID of an experiment."""
    experiment = client.get_experiment_by_name(name)
    assert experiment
    return str(experiment.experiment_id)


@pytest.fixture(scope="session")
def doubling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that MLflow can load, of many files, without TensorFlow."""
    folder = tmp_path_factory.mktemp("model") / MODEL
    mlflow.pyfunc.save_model(str(folder), python_model=_double, pip_requirements=["numpy"])
    return folder


@mlflow.pyfunc.utils.pyfunc
def _double(model_input: list[float]) -> list[float]:
    return [2 * x for x in model_input]


@pytest.fixture
def over_proxy(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str) -> Proxy:
    """The same, as the store of this process, with an experiment of the test's own; everything in a hurry."""
    use(proxy.uri, monkeypatch)
    return proxy


def use(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", uuid.uuid4().hex)
    monkeypatch.setattr(delivery, "_PAUSES", (0.02,))
    monkeypatch.setattr(store, "_ANSWER_SECONDS", HANGS)  # of a busy machine's server


def say(run: tracking.TrackedRun, images: Images, model: Path, epochs: int = CONFIG.epochs) -> None:
    """All that a training says, in its order."""
    for epoch in range(1, epochs + 1):
        run.log_epoch(epoch, {"loss": 1 / epoch, "odd": ODD[(epoch - 1) % len(ODD)]})
        if epoch in (1, epochs):
            run.log_image("reconstructions", epoch, PICTURE)
    run.log_epoch(epochs, {"mse": 0.25}, key="results")
    file = run._artifact("loss_curve.png")
    file.write_bytes(b"a picture")
    run._record("artifacts", "figures", paths=["loss_curve.png"])
    shutil.copytree(model, run.journal.folder / MODEL)
    run._record("model", MODEL)


def said(images: Images, model: Path, folder: Path) -> Journal:
    """The journal of a run that has finished, of which the store knows nothing."""
    run = tracking.TrackedRun(CONFIG, tracking.begin(folder, CONFIG.name))
    run.log_config(images)
    say(run, images, model)
    run.finish()
    return run.journal


def assert_whole(uri: str, images: Images, epochs: int = CONFIG.epochs) -> Run:
    """The experiment has one run, and that has everything exactly once."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id], run_view_type=mlflow.entities.ViewType.ALL)
    run_id = run.info.run_id
    assert run.info.status == "FINISHED"
    assert run.info.run_name == CONFIG.name
    assert "failure" not in run.data.tags
    for key, values in {"loss": [1 / n for n in range(1, epochs + 1)], "odd": ODD * math.ceil(epochs / 6)}.items():
        history = client.get_metric_history(run_id, key)
        assert [point.step for point in history] == list(range(1, epochs + 1)), key
        for point, value in zip(history, values[:epochs], strict=True):
            largest = 1.7976931348623157e308  # what SQL stores for the infinite
            assert str(max(-largest, min(largest, value)) if not math.isnan(value) else value) == str(point.value)
    assert [(point.step, point.value) for point in client.get_metric_history(run_id, "mse")] == [(epochs, 0.25)]
    assert run.data.params == {**{k: str(v) for k, v in CONFIG.model_dump().items()}, "learning_rate_used": "0.001"}
    assert {"fingerprint", "data_hash", "lock_hash", "git_dirty", "owner", "journal"} < set(run.data.tags)
    assert run.data.tags["mlflow.loggedImages"] == "True"
    assert run.inputs
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == (images.name, images.sha256[:16])
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]
    names = [file.path for file in client.list_artifacts(run_id)]
    assert names == ["config.json", "images", "loss_curve.png"]
    pictures = [file.path for file in client.list_artifacts(run_id, "images")]
    assert sorted(name.split("+")[2] for name in pictures if name.endswith(".png")) == ["1", str(epochs)]
    assert len(pictures) == 4
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/loss_curve.png") == "a picture"
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert run.outputs
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert (str(model.status), model.source_run_id, model.name) == ("READY", run_id, "model")
    assert mlflow.pyfunc.load_model(f"runs:/{run_id}/model").predict([1.5]) == [3.0]
    return run


def deliver(root: Path, uri: str) -> int:
    """Send until everything is there; how many attempts it took."""
    for attempt in range(1, 300):
        try:
            delivery.Delivery(root, uri).send()
            return attempt
        except store.StoreAwayError:
            pass
    raise AssertionError("it never got there")


# --- A server that goes away


@pytest.mark.slow
@pytest.mark.parametrize("how", [Proxy.BEFORE, Proxy.AFTER, Proxy.BUSY])
def test_every_single_request_fails_once_and_everything_arrives_once(
    how: str, over_proxy: Proxy, small: Images, doubling: Path, tmp_path: Path
) -> None:
    """AFTER is the one that doubles things: the server has done it, and nobody hears of it."""
    seen: set[Request] = set()

    def once(request: Request) -> str:
        if request in seen:
            return Proxy.PASS
        seen.add(request)
        return how

    over_proxy.treat = once
    known = said(small, doubling, tmp_path / "state")
    started, ended = known.header.started, (known.ending or {})["at"]
    attempts = deliver(tmp_path / "state", over_proxy.uri)
    assert attempts > 25
    over_proxy.treat = lambda request: Proxy.PASS
    run = assert_whole(over_proxy.uri, small)
    assert (run.info.start_time, run.info.end_time) == (started, ended)
    assert journal.journals(tmp_path / "state") == []


@pytest.mark.slow
def test_whatever_was_sent_can_be_sent_again(over_proxy: Proxy, small: Images, doubling: Path, tmp_path: Path) -> None:
    """A process that is killed before it could note what it had sent: the next one sends it again."""
    known = said(small, doubling, tmp_path / "state")
    delivery.send(known)
    for offset in [0, *(end for line, end in known.read() if line["operation"] != "metrics")][:-1:2]:
        known.mark_sent(offset=offset, run_id=known.sent.run_id if offset else None, model_id=None)
        delivery.send(known)
    assert known.all_sent
    assert_whole(over_proxy.uri, small)


@pytest.mark.usefixtures("ready")
def test_a_kill_while_a_model_gets_its_id_leaves_a_model_that_can_be_sent(
    small: Images, doubling: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = said(small, doubling, tmp_path / "state")

    def killed(path: Path, content: str | bytes) -> None:
        path.with_name(f"{path.name}.1.new").write_text("half of it")
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "replace_file", killed)
        with pytest.raises(SystemExit):
            delivery.send(known)
    delivery.send(known)
    run = assert_whole(known.header.tracking_uri, small)
    files = os.listdir(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/model"))
    assert "MLmodel" in files
    assert not [name for name in files if name.endswith(".new")]


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_while_a_run_speaks(
    server: Server, small: Images, doubling: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the run is made, while a picture is uploaded, while the model is logged: nothing waits for it."""
    spoken = threading.Event()

    def restart() -> None:
        spoken.wait(HANGS)
        time.sleep(0.5)
        server.start()

    proxy = Proxy(server.uri)
    proxy.open()
    use(proxy.uri, monkeypatch)
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 120.0)
    monkeypatch.setattr(delivery, "_BEGIN_SECONDS", 0.5)
    moments = ["POST /api/2.0/mlflow/runs/create", "PUT", "POST /api/2.0/mlflow/logged-models"]
    restarts: list[threading.Thread] = []

    def kill(request: Request) -> str:
        if not moments or not request.what.startswith(moments[0]) or "config.json" in request.path:
            return Proxy.PASS
        moments.pop(0)
        threading.Timer(0.002, server.kill).start()  # while it works on it
        restarts.append(threading.Thread(target=restart))
        restarts[-1].start()
        return Proxy.PASS

    proxy.treat = kill
    with tracking.track(CONFIG, small) as run:
        wait(lambda: restarts and not answers(f"{server.uri}/health"))
        say(run, small, doubling)
        assert not answers(f"{server.uri}/health")
        spoken.set()
    assert moments == []
    for restarting in restarts:
        restarting.join()
    assert assert_whole(server.uri, small).info.run_id == run.id
    proxy.close()


def unanswered() -> tuple[Callable[[Request], str], threading.Event, list[bool]]:
    """What a proxy does with requests that wait until an event, the event, and what was answered by now."""
    over = threading.Event()
    answered: list[bool] = []

    def slow(request: Request) -> str:
        answered.append(over.wait(HANGS))
        return Proxy.PASS

    return slow, over, answered


@pytest.mark.slow
def test_a_slow_server_does_not_slow_a_training(
    over_proxy: Proxy, small: Images, doubling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers nothing before the last epoch: the first attempt is not waited for, and no epoch is."""
    monkeypatch.setattr(delivery, "_BEGIN_SECONDS", 0.3)
    slow, over, answered = unanswered()
    over_proxy.treat = slow
    with tracking.track(CONFIG, small) as run:
        assert run.id is None
        say(run, small, doubling)
        assert answered == []
        over.set()
    assert assert_whole(over_proxy.uri, small).info.run_id == run.id  # known although its journal is gone


@pytest.mark.slow
def test_at_whatever_request_a_server_goes_away_while_a_run_begins_it_begins(
    over_proxy: Proxy, small: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(delivery, "_AGAIN_SECONDS", 0.01)
    with tracking.track(CONFIG, small):
        requests = len(over_proxy.requests)
    assert requests > 12
    for number in range(requests + 1):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", uuid.uuid4().hex)
        over_proxy.requests.clear()
        over_proxy.treat = lambda _, n=number: Proxy.PASS if len(over_proxy.requests) <= n else Proxy.BEFORE  # type: ignore[misc]
        with pytest.raises(UserError, match="did not take everything"), tracking.track(CONFIG, small) as run:  # noqa: PT012
            run.log_epoch(1, {"loss": 0.5})
            over_proxy.treat = lambda _: Proxy.BEFORE
        (known,) = journal.journals(tmp_path / "state")
        assert (known.ending or {})["status"] == FINISHED
        over_proxy.treat = lambda _: Proxy.PASS
        delivery.Delivery(known.folder, over_proxy.uri).send()
        client = mlflow.MlflowClient()
        (made,) = client.search_runs([own(client, os.environ["MLFLOW_EXPERIMENT_NAME"])])
        assert (made.info.status, made.data.metrics) == ("FINISHED", {"loss": 0.5})


def test_what_a_run_says_arrives_while_it_speaks(over_proxy: Proxy, small: Images) -> None:
    """Also when the server was away at the start."""
    over_proxy.close()
    with tracking.track(CONFIG, small) as run:
        run.log_epoch(1, {"loss": 0.5})
        assert run.id is None
        over_proxy.open()
        wait(lambda: run.id and run.journal.all_sent)
        assert mlflow.get_run(str(run.id)).data.metrics == {"loss": 0.5}
        assert mlflow.get_run(str(run.id)).info.status == "RUNNING"
    assert mlflow.get_run(str(run.id)).info.status == "FINISHED"


def wait(happened: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ctrl_c_while_the_rest_is_sent_says_where_it_is(
    over_proxy: Proxy,
    small: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyboardInterrupt), tracking.track(CONFIG, small) as run:  # noqa: PT012
        over_proxy.close()
        run.log_epoch(1, {"loss": 0.5})

        def interrupted(seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(time, "sleep", interrupted)  # between two attempts
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "the tracking store did not take everything (interrupted): python -m pipeline.deliver sends "
    )
    (known,) = journal.journals(tmp_path / "state")
    assert line.endswith(f"the rest, which is kept in {known.folder}")
    assert (known.ending or {})["status"] == FINISHED


# --- A store that refuses


@pytest.mark.usefixtures("ready")
def test_a_deleted_run_is_one_line_and_its_journal_is_kept(small: Images, tmp_path: Path) -> None:
    client = mlflow.MlflowClient()
    with pytest.raises(UserError) as error, tracking.track(CONFIG, small) as run:  # noqa: PT012
        client.delete_run(str(run.id))
        run.log_epoch(1, {"loss": 0.5})
    assert "\n" not in str(error.value)
    assert "must be in the 'active' state" in str(error.value)
    (known,) = journal.journals(tmp_path / "state")
    client.restore_run(str(run.id))
    delivery.Delivery(known.folder, known.header.tracking_uri).send()
    assert client.get_run(str(run.id)).info.status == "FINISHED"
    assert client.get_run(str(run.id)).data.metrics == {"loss": 0.5}
    assert journal.journals(tmp_path / "state") == []


@pytest.mark.slow
@pytest.mark.parametrize("error", [None, ZeroDivisionError()])
def test_artifacts_walled_in_the_middle_of_a_run(
    error: Exception | None,
    ready: mlflow.MlflowClient,
    small: Images,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The store is told the status all the same, and gets the rest when the wall is gone."""
    with pytest.raises(type(error or UserError(""))) as raised, tracking.track(CONFIG, small) as run:  # noqa: PT012
        shutil.rmtree(tmp_path / "artifacts")
        (tmp_path / "artifacts").write_text("a wall")
        run.log_epoch(1, {"loss": 0.5})
        run.log_image("reconstructions", 1, PICTURE)
        if error:
            raise error
    said = str(raised.value) if error is None else capsys.readouterr().err.strip()
    assert said.startswith(f"the tracking store did not take everything (artifacts of {CONFIG.name} cannot be written")
    assert "\n" not in said
    (known,) = journal.journals(tmp_path / "state")
    assert known.ending
    ended = known.ending["at"]
    for _ in range(2):
        made = ready.get_run(str(run.id))
        whole = (tmp_path / "artifacts").is_dir()
        failure = made.data.tags.get("failure")
        if error:
            assert (made.info.status, failure) == ("FAILED", "ZeroDivisionError: ZeroDivisionError")
        elif whole:
            assert (made.info.status, failure) == ("FINISHED", None)
        else:  # nobody shall take it for whole
            assert made.info.status == "FAILED"
            assert str(failure).startswith("trained, but not everything is here: the tracking store did not take")
        assert made.data.metrics == {"loss": 0.5}
        assert made.info.end_time == ended
        if not whole:
            (tmp_path / "artifacts").unlink()
        delivery.Delivery(known.folder, known.header.tracking_uri).send()
    assert len(ready.list_artifacts(made.info.run_id, "images")) == 2


@pytest.mark.slow
def test_artifacts_that_a_server_refuses_are_no_outage(
    over_proxy: Proxy, small: Images, lasting_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not keep back the other runs, and are not waited for, as an outage would be."""
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", math.inf)
    says = r"artifacts of .* cannot be written to the store http.*: too many 500 error responses"
    with pytest.raises(UserError, match=says), tracking.track(CONFIG, small) as run:  # noqa: PT012
        artifacts = mlflow.get_run(str(run.id)).info.artifact_uri.split(":/")[1]
        folder = lasting_server.folder / "artifacts" / artifacts.strip("/")
        shutil.rmtree(folder)
        folder.write_text("a wall")
        run.log_image("reconstructions", 1, PICTURE)
    assert mlflow.get_run(str(run.id)).info.status == "FAILED"


def test_one_run_that_is_refused_keeps_the_others_neither_back_nor_dead(
    ready: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_PAUSES", (0.02,))
    monkeypatch.setattr(delivery, "_HEARTBEAT_SECONDS", 0.0)
    first = tracking.begin(tmp_path / "state", "study", tags={STUDY: "s", PLAN: "p"})
    runs = [tracking.begin(tmp_path / "state" / name, name, tags={STUDY: "s"}) for name in "ab"]
    sending = delivery.Delivery(tmp_path / "state", store.tracking_uri())
    sending.begin()
    ready.delete_run(str(runs[0].sent.run_id))
    ready.set_tag(str(runs[1].sent.run_id), HEARTBEAT, "0")
    with pytest.raises(UserError, match="active"), sending:  # noqa: PT012
        for run in runs:
            run.append("metrics", points=[("loss", 0.5, 1, 1)])
        wait(lambda: ready.get_run(str(runs[1].sent.run_id)).data.metrics == {"loss": 0.5})
        wait(lambda: ready.get_run(str(runs[1].sent.run_id)).data.tags[HEARTBEAT] != "0")
        for known in (*runs, first):
            delivery.record_end(known, FINISHED)
    assert ready.get_run(str(runs[1].sent.run_id)).info.status == "FINISHED"
    assert ready.get_run(str(runs[1].sent.run_id)).data.tags["mlflow.parentRunId"] == first.sent.run_id
    assert ready.get_run(str(first.sent.run_id)).info.status == "FINISHED"
    assert (tmp_path / "state" / "a").exists()


def test_a_full_disk_in_the_middle_of_a_run(
    ready: mlflow.MlflowClient, small: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store knows that it failed, though the journal cannot say so, and later nobody takes it for killed."""

    def full(self: Journal, operation: str, **content: object) -> None:
        raise UserError(f"{self.folder} cannot be written: No space left on device")

    with pytest.raises(UserError, match="No space left"), tracking.track(CONFIG, small) as run:  # noqa: PT012
        run.log_epoch(1, {"loss": 0.5})
        monkeypatch.setattr(Journal, "append", full)
        run.log_epoch(2, {"loss": 0.25})
    monkeypatch.undo()
    (made,) = ready.search_runs([own(ready)])
    (known,) = journal.journals(tmp_path / "state")
    assert known.ending is None
    delivery.end_abandoned(known)
    delivery.Delivery(known.folder, known.header.tracking_uri).send()
    for info in (made, ready.get_run(made.info.run_id)):
        assert info.info.status == "FAILED"
        assert info.data.tags["failure"].startswith("UserError: ")
        assert "No space left" in info.data.tags["failure"]
        assert info.data.metrics == {"loss": 0.5}


# --- MLflow's limits


@pytest.mark.usefixtures("ready")
def test_more_than_mlflow_takes_at_once(small: Images) -> None:
    with pytest.raises(UserError, match=r"^x+$"), tracking.track(CONFIG, small) as run:  # noqa: PT012
        run.log_epoch(1, {f"metric {n}": n for n in range(2500)})
        raise UserError("x" * 20_000)
    made = mlflow.get_run(str(run.id))
    assert made.data.metrics == {f"metric {n}": n for n in range(2500)}
    assert made.info.status == "FAILED"
    assert made.data.tags["failure"] == ("UserError: " + "x" * 5000)[:5000]


# --- SQLite with many writers


_MANY = """
import os, sys, time
from pathlib import Path
import numpy as np
from pipeline.tracking import delivery, store
from pipeline.tracking import runs as tracking
from pipeline.train.config import RunConfig
from pipeline.train.dataset import Images
delivery._PAUSES, delivery._BEGIN_SECONDS, delivery._NOTICE_SECONDS = (0.01,), 120.0, 120.0
images = Images("some", "file:///some", "0" * 64, *np.zeros((2, 2, 1, 1, 1), np.float32))
at = time.time() + 0.5
children = []
for number in range(8):
    child = os.fork()
    if not child:
        try:
            time.sleep(max(0, at - time.time()))
            with tracking.track(RunConfig(epochs=30, seed=number), images) as run:
                for epoch in range(1, 31):
                    run.log_epoch(epoch, {"loss": 1 / epoch})
                    time.sleep(0.02)
        except BaseException as error:
            print(type(error), error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_eight_processes_at_once_on_a_store_that_does_not_exist(tmp_path: Path) -> None:
    env = {**os.environ, "MLFLOW_EXPERIMENT_NAME": "new"}
    words = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", _MANY]  # it forks beside threads
    done = subprocess.run(words, env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if " INFO " not in line and "is slow" not in line] == []
    client = mlflow.MlflowClient()
    runs = client.search_runs([own(client, "new")])
    assert [run.info.status for run in runs] == ["FINISHED"] * 8
    assert {run.data.params["seed"] for run in runs} == {str(n) for n in range(8)}
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [point.step for point in history] == list(range(1, 31))
        assert run.inputs
        assert len(run.inputs.dataset_inputs) == 1


def test_a_data_set_that_another_logs_at_the_same_moment(
    ready: mlflow.MlflowClient, small: Images, tmp_path: Path
) -> None:
    """MLflow looks for it and then adds it, and says UNIQUE constraint failed."""
    others: list[str] = []

    def be_the_first(mapper: object, connection: object, row: SqlDataset) -> None:
        if not others:
            others.append(str(row.dataset_uuid)[::-1])
            values = [row.experiment_id, row.name, row.digest, others[0], "local", "file:///small"]
            names = "experiment_id, name, digest, dataset_uuid, dataset_source_type, dataset_source"
            with closing(sqlite3.connect(tmp_path / "store.db")) as other, other:
                other.execute(f"INSERT INTO datasets ({names}) VALUES (?, ?, ?, ?, ?, ?)", values)  # noqa: S608

    sqlalchemy.event.listen(SqlDataset, "before_insert", be_the_first)
    try:
        with tracking.track(CONFIG, small) as run:
            run.log_epoch(1, {"loss": 0.5})
    finally:
        sqlalchemy.event.remove(SqlDataset, "before_insert", be_the_first)
    assert len(others) == 1
    made = ready.get_run(str(run.id))
    assert (made.info.status, made.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert made.inputs
    assert [given.dataset.digest for given in made.inputs.dataset_inputs] == [small.sha256[:16]]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["at the start", "while it speaks"])
def test_a_store_that_another_keeps_locked_for_ten_seconds(
    when: str,
    ready: mlflow.MlflowClient,
    small: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(delivery, "_BEGIN_SECONDS", 0.5)
    with closing(sqlite3.connect(tmp_path / "store.db", check_same_thread=False, isolation_level=None)) as other:

        def lock() -> threading.Timer:
            other.execute("BEGIN EXCLUSIVE")
            freeing = threading.Timer(10, other.execute, ["ROLLBACK"])
            freeing.start()
            return freeing

        if when == "at the start":
            freeing = lock()
        with tracking.track(CONFIG, small) as run:
            if when != "at the start":
                freeing = lock()
            for epoch in range(1, 101):
                run.log_epoch(epoch, {"loss": 1 / epoch})
            assert freeing.is_alive(), "an epoch waited for the lock"
        freeing.join()
    (made,) = ready.search_runs([own(ready)])
    assert made.info.status == "FINISHED"
    assert len(ready.get_metric_history(made.info.run_id, "loss")) == 100
    printed = capfd.readouterr().err
    assert "locked" not in printed
    assert "Traceback" not in printed
    # After twenty seconds MLflow would log the error that it raises, with a traceback.
    assert not logging.getLogger("mlflow.store.db.utils").isEnabledFor(logging.ERROR)


_KILLED_IN_A_TRANSACTION = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")  # so that it writes to the file before the transaction ends
connection.executemany("INSERT INTO experiment_tags VALUES (?, ?, 0)", ((str(n), "x" * 4000) for n in range(100)))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_store_whose_writer_was_killed_in_the_middle_of_a_transaction(ready: mlflow.MlflowClient) -> None:
    path = Path(store.tracking_uri().removeprefix("sqlite:///"))
    killed = subprocess.run([sys.executable, "-c", _KILLED_IN_A_TRANSACTION, str(path)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with closing(reader), pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("SELECT * FROM experiments")
    store.require_reachable(must_exist=True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM experiment_tags").fetchone() == (0,)
    assert ready.get_experiment("0").name == "Default"


# --- The living and the dead


@pytest.fixture(scope="module")
def gone() -> str:
    """The ID of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return str(process.pid)


def owner(host: str = "", process: object = "", start: object = "") -> str:
    """The place of this process, but for the host; a process ID; when it started."""
    own = journal.owner().split(" ")
    given = (host, "", "", process, start)
    return " ".join(str(each or known) for each, known in zip(given, own, strict=True))


def test_the_living_and_the_dead(gone: str) -> None:
    assert not store.is_dead(journal.signs_of_life())
    assert store.is_dead({OWNER: owner(process=gone), HEARTBEAT: str(int(time.time()))})
    assert store.is_dead({OWNER: owner(start=psutil.Process().create_time() - 5)})  # the process ID is used anew
    in_a_container = owner(process=gone).replace("pid:[", "pid:[1")  # of the same host, under the same name
    assert not store.is_dead({OWNER: in_a_container, HEARTBEAT: str(int(time.time()))})
    assert store.is_dead({OWNER: in_a_container, HEARTBEAT: str(int(time.time()) - 601)})
    now = time.time()
    assert store.is_dead({OWNER: owner("elsewhere", gone), HEARTBEAT: str(now - 601)})
    assert not store.is_dead({OWNER: owner("elsewhere", gone), HEARTBEAT: str(now - 500)})
    for nobody_can_tell in (
        {},
        {OWNER: "me"},
        {OWNER: owner("elsewhere")},
        {OWNER: "a b c"},
        {OWNER: owner(start="x")},
    ):
        assert not store.is_dead(nobody_can_tell)


def test_a_process_that_ended_and_that_nobody_has_buried_is_dead() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        tags = {OWNER: owner(process=process.pid, start=psutil.Process(process.pid).create_time())}
        assert not store.is_dead(tags)
        process.kill()
        wait(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert store.is_dead(tags)


def test_a_run_that_finishes_while_the_dead_are_looked_for_stays_finished(
    ready: mlflow.MlflowClient, gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = ready.create_run(own(ready), tags={OWNER: owner(process=gone), HEARTBEAT: "0"}).info.run_id
    is_dead = store.is_dead

    def only_then(tags: dict[str, str]) -> bool:
        ready.set_terminated(run_id, "FINISHED")
        return is_dead(tags)

    monkeypatch.setattr(store, "is_dead", only_then)
    store.end_dead_runs(ready, own(ready))
    assert ready.get_run(run_id).info.status == "FINISHED"
    assert "failure" not in ready.get_run(run_id).data.tags


@pytest.mark.parametrize("held", [True, False])
def test_of_a_run_whose_study_lives_the_study_tells_how_it_ended(
    ready: mlflow.MlflowClient, gone: str, held: bool
) -> None:
    """Its worker has finished it and gone, and its end is on the way to the store."""
    study = journal.state_folder() / journal.STUDIES / f"a study {held}"
    tags = {OWNER: owner(process=gone), HEARTBEAT: "0"}
    run_id = ready.create_run(own(ready), tags=tags).info.run_id
    head = journal.Header("key", store.tracking_uri(), own(ready), "own", None, "seed 0", 0, tags)
    known = Journal.begin(study / "run", head)
    known.append("end", status="FINISHED", reason="", at=journal.now())
    known.mark_sent(run_id=run_id)
    with journal.locked(study) if held else contextlib.nullcontext():
        store.end_dead_runs(ready, own(ready))
    assert ready.get_run(run_id).info.status == ("RUNNING" if held else "KILLED")


def test_dead_runs_are_killed_at_the_next_start_and_no_others(
    ready: mlflow.MlflowClient, small: Images, gone: str
) -> None:
    experiment = own(ready)
    now = str(int(time.time()))
    tags: dict[str, dict[str, str]] = {
        "dead": {OWNER: owner(process=gone), HEARTBEAT: now},
        "alive": journal.signs_of_life(),
        "far": {OWNER: owner("elsewhere", gone), HEARTBEAT: now},
        "far and silent": {OWNER: owner("elsewhere", gone), HEARTBEAT: "1000"},
        "by hand": {},
        "launched": {},
        "launched, dead": {},
    }
    ids = {name: ready.create_run(experiment, tags=each, run_name=name).info.run_id for name, each in tags.items()}
    for name, process in {"launched": os.getpid(), "launched, dead": gone}.items():
        signs = {OWNER: owner(process=process), HEARTBEAT: now}
        head = journal.Header("key", store.tracking_uri(), experiment, "own", ids[name], name, 0, signs)
        Journal.begin(journal.state_folder() / journal.RUNS / ids[name], head)
    elsewhere = ready.create_run("0", tags=tags["dead"]).info.run_id
    failed = ready.create_run(experiment, tags=tags["dead"]).info.run_id
    ready.set_terminated(failed, "FAILED")
    with tracking.track(CONFIG, small):
        status = {name: ready.get_run(run_id).info.status for name, run_id in ids.items()}
    assert status == {
        **dict.fromkeys(tags, "RUNNING"),
        "dead": "KILLED",
        "far and silent": "KILLED",
        "launched, dead": "KILLED",
    }
    assert ready.get_run(ids["dead"]).data.tags["failure"].startswith(store.DIED)
    assert ready.get_run(elsewhere).info.status == "RUNNING"
    assert ready.get_run(failed).info.status == "FAILED"


# --- Reaching a store


def database(path: Path, *statements: str) -> str:
    """The URI of a SQLite database, after some statements."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return f"sqlite:///{path}"


def refused(uri: str, must_exist: bool = False) -> str:
    """The one line that refuses a store, at once: MLflow would try it for minutes."""
    with no_hang(), pytest.raises(UserError) as error:
        store.require_reachable(uri, must_exist)
    assert not isinstance(error.value, store.StoreAwayError)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("must_exist", [False, True], ids=["to write", "to read"])
@pytest.mark.parametrize(
    ("statements", "says"),
    [
        ("UPDATE alembic_version SET version_num = 'acf3f17fdcc7'", "is of an older MLflow than .* copy it, then run"),
        ("UPDATE alembic_version SET version_num = 'fffffffffffff'", "is of a newer MLflow than .*: use that MLflow"),
        ("DELETE FROM alembic_version", "is of an older MLflow than .* copy it"),
        ("DROP TABLE webhooks", "is of an older MLflow than .* copy it"),
        ("DELETE FROM runs; DELETE FROM alembic_version", "was only half made, .* delete .*store.db and start again"),
        ("DELETE FROM runs; DROP TABLE webhooks", "was only half made, .* delete .*store.db and start again"),
        ("DROP TABLE runs; DROP TABLE alembic_version", "was only half made, .* delete .*store.db and start again"),
    ],
)
def test_a_database_that_mlflow_would_change_is_refused_and_left_as_it_is(
    statements: str, says: str, must_exist: bool, empty_store: Path, tmp_path: Path
) -> None:
    """MLflow upgrades a database without a word where a table is missing, and stumbles over one that is half made."""
    shutil.copy(empty_store, tmp_path / "store.db")
    run = "INSERT INTO runs (run_uuid, experiment_id, status, lifecycle_stage) VALUES ('r', 0, 'FINISHED', 'active')"
    uri = database(tmp_path / "store.db", run, *statements.split("; "))
    before = (tmp_path / "store.db").read_bytes()
    assert re.search(says, refused(uri, must_exist))
    assert (tmp_path / "store.db").read_bytes() == before


def test_a_database_of_another_program_gets_no_tables(tmp_path: Path) -> None:
    uri = database(tmp_path / "cats.db", "CREATE TABLE cats (name)", "INSERT INTO cats VALUES ('Tom')")
    before = (tmp_path / "cats.db").read_bytes()
    assert "is the database of another program; set MLFLOW_TRACKING_URI to a new file" in refused(uri)
    assert (tmp_path / "cats.db").read_bytes() == before


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("http://127.0.0.1:99999", "Port out of range 0-65535"),
        ("http://127.0.0.1:port", "Port could not be cast to integer value as 'port'"),
        ("http://127.0.0.1:5000/\nx", "it has a control character"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("sqlite:///:memory:", "is a store in memory, which is gone with the run"),
        ("sqlite://", "is a store in memory, which is gone with the run"),
        ("http://no-such-host.invalid:5000", "does not answer"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_soon(uri: str, says: str) -> None:
    assert says in refused(uri)


class _InCircles(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"{self.path}x")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """It is quiet."""


def test_a_server_that_leads_in_circles_or_speaks_no_tls_is_refused_soon() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _InCircles) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        port = server.server_address[1]
        assert "Exceeded 30 redirects" in refused(f"http://127.0.0.1:{port}")
        assert "SSL" in refused(f"https://127.0.0.1:{port}")
        server.shutdown()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_never_says_a_word_is_known_in_seconds(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_ANSWER_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with no_hang(), pytest.raises(store.StoreAwayError, match="does not answer"):
            store.require_reachable(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}")


_KILLED_AT_A_STATEMENT = """
import os, signal, sys
import sqlalchemy
from pipeline.tracking import store
left = int(sys.argv[2])
def count(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
store.require_reachable(sys.argv[1])
"""


@pytest.mark.parametrize("statement", [1, 1000])
def test_a_kill_while_a_store_is_made_leaves_none(statement: int, tmp_path: Path) -> None:
    folder = tmp_path / "My Documents, 100 %"
    uri = f"sqlite:///{folder}/store.db"
    words = [sys.executable, "-c", _KILLED_AT_A_STATEMENT, uri, str(statement)]
    assert subprocess.run(words, cwd=ROOT).returncode == -signal.SIGKILL
    assert not (folder / "store.db").exists()
    store.require_reachable(uri)
    assert [path.name for path in folder.iterdir()] == ["store.db"]
    store.require_reachable(uri, must_exist=True)


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("sqlite:///x.db", "sqlite:///{}/x.db"),
        ("sqlite+pysqlite:///x.db", "sqlite+pysqlite:///{}/x.db"),
        ("sqlite:////x.db", "sqlite:////x.db"),
        ("./mlruns", "{}/mlruns"),
        ("mlruns", "{}/mlruns"),
        ("file:./x", "file://{}/x"),
        ("file:///x", "file:///x"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
        ("/abs", "/abs"),
    ],
)
def test_a_local_store_is_known_by_its_absolute_path(
    uri: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be delivered to from another folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store.tracking_uri() == absolute.format(tmp_path)


# --- Passwords


def test_a_password_is_neither_kept_nor_told_and_is_found_again(
    over_proxy: Proxy,
    small: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    proxy = over_proxy
    uri = proxy.uri.replace("//", "//me:s3cret@")
    use(uri, monkeypatch)
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 0.1)
    with pytest.raises(UserError) as error, tracking.track(CONFIG, small):
        proxy.close()
    assert "me:***@127.0.0.1" in str(error.value)
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert journal.LINES in [path.name for path in kept]
    assert [path for path in kept if b"s3cret" in path.read_bytes()] == []
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    proxy.open()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    asked = (
        "is not kept: set MLFLOW_TRACKING_URI to the whole address, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_"
    )
    with pytest.raises(UserError, match=asked):
        deliver_all()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    assert deliver_all() == "1 run delivered, nothing is left"
    assert store.with_password(uri.replace("s3cret", "***")) == proxy.uri  # of which MLflow knows the rest
    assert store.with_password("postgresql://me:***@h/db") == "postgresql://me:s3cret@h/db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store.with_password(uri.replace("s3cret", "***")) == uri
    assert "s3cret" not in tracking.ui_command() + "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@ss/w@h/db", "postgresql://u:***@h/db"),
        ("at http://u:pw@h:5000/x, and more", "at http://u:***@h:5000/x, and more"),
        ("postgresql://h/db?password=x&sslmode=y", "postgresql://h/db?password=***&sslmode=y"),
        ("http://h:5000/a@b sqlite:////a/b.db", "http://h:5000/a@b sqlite:////a/b.db"),
    ],
)
def test_what_is_shown_of_an_address(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert str(UserError(text)) == shown
    assert first_line(ValueError(text)) == shown


# --- A server that moved, one that stumbles, and one that is slow


def test_a_server_that_came_back_under_another_address(
    over_proxy: Proxy, small: Images, lasting_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 0.1)
    with pytest.raises(UserError, match="did not take every"), tracking.track(CONFIG, small) as run:  # noqa: PT012
        over_proxy.close()
        run.log_epoch(1, {"loss": 0.5})
    with pytest.raises(UserError, match=r"start it or give its new address with python -m pipeline\.deliver --to"):
        deliver_all()
    assert deliver_all(lasting_server.uri) == "1 run delivered, nothing is left"
    made = mlflow.MlflowClient(lasting_server.uri).get_run(str(run.id))
    assert (made.info.status, made.data.metrics) == ("FINISHED", {"loss": 0.5})


def test_another_store_is_not_the_one_that_moved(
    over_proxy: Proxy, small: Images, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 0.1)
    with pytest.raises(UserError), tracking.track(CONFIG, small):
        over_proxy.close()
    shutil.copy(empty_store, tmp_path / "other.db")
    with pytest.raises(UserError, match="does not have the run"):
        deliver_all(f"sqlite:///{tmp_path}/other.db")
    (known,) = journal.journals(tmp_path / "state")
    assert known.header.tracking_uri == over_proxy.uri


@pytest.mark.slow
def test_a_refusal_by_chance_at_the_end_is_tried_again(over_proxy: Proxy, small: Images) -> None:
    left = [2]

    def stumble(request: Request) -> str:
        if request.what.endswith("/runs/update") and left[0]:
            left[0] -= 1
            return Proxy.BROKEN
        return Proxy.PASS

    with tracking.track(CONFIG, small) as run:
        over_proxy.treat = stumble
    assert left == [0]
    assert mlflow.get_run(str(run.id)).info.status == "FINISHED"


@pytest.mark.slow
def test_the_wait_at_the_end_has_a_bound_that_is_said(
    over_proxy: Proxy, small: Images, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(delivery, "_END_SECONDS", 3.0)
    monkeypatch.setattr(delivery, "_NOTICE_SECONDS", 0.1)
    slow, over, answered = unanswered()
    with pytest.raises(UserError, match="longer than 3 s"), tracking.track(CONFIG, small):
        over_proxy.treat = slow
    assert answered == []
    over.set()
    assert f"sending the rest to {over_proxy.uri}: 3 s at most; Ctrl-C keeps it for later" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal may be sent from another folder."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///some/store.db")
    assert store.tracking_uri() == f"sqlite:///{tmp_path}/some/store.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////some/store.db")
    assert store.tracking_uri() == "sqlite:////some/store.db"


def answering(status: int, content_type: str, body: bytes) -> Iterator[str]:
    """A server that says the same to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        text = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        answer = text.encode() + b"Connection: close\r\n\r\n" + body

        def answer_all() -> None:
            while True:
                try:
                    connection = listening.accept()[0]
                except OSError:
                    return
                with connection:
                    connection.recv(2**16)
                    connection.sendall(answer)

        threading.Thread(target=answer_all, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("status", "body", "away"),
    [
        (502, b"<html>Bad Gateway</html>", True),
        (503, b"<html>starting</html>", True),
        (503, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "m"}', True),
        (504, b"", True),
        (429, b"slowly", True),
        (403, b"<html>no</html>", False),
        (404, b"no MLflow here", False),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "m"}', False),
    ],
)
def test_what_a_server_answers_that_is_not_there_and_one_that_refuses(status: int, body: bytes, away: bool) -> None:
    for uri in answering(status, "application/json", body):
        with pytest.raises(UserError) as error, store.tracking_store(uri):
            store.client_of(uri).search_experiments()
        assert isinstance(error.value, store.StoreAwayError) == away, error.value
        assert "\n" not in str(error.value)


@pytest.mark.usefixtures("store")
def test_no_server_at_all_is_away_and_an_unknown_host_is_a_mistake() -> None:
    for uri, away in {f"http://127.0.0.1:{free_port()}": True, "http://no-such-host.invalid": False}.items():
        with pytest.raises(UserError) as error:
            store.require_reachable(uri)
        assert isinstance(error.value, store.StoreAwayError) == away
        with pytest.raises(UserError) as error, store.tracking_store(uri):
            store.client_of(uri).search_experiments()
        assert isinstance(error.value, store.StoreAwayError) == away
