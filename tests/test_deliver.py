"""What a store did not take while a run was made gets there by one command, once."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import mlflow
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.metrics import LOSSES, QUALITY
from pipeline.tracking import delivery, journal
from pipeline.tracking import runs as tracking
from pipeline.tracking.deliver import deliver as deliver_all
from pipeline.tracking.journal import FINISHED, Journal
from pipeline.tracking.names import PLAN, STUDY
from pipeline.tracking.store import require_reachable
from pipeline.train.config import RunConfig
from pipeline.train.dataset import Images
from tests.conftest import HANGS, ROOT, Proxy, Server, environment, run, start, wait_for
from tests.test_store import CONFIG, doubling, own, ready, say  # noqa: F401 # fixtures among them


def deliver() -> str:
    return deliver_all()


@pytest.mark.usefixtures("ready")
def test_what_has_ended_and_was_sent_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = tracking.open_journal(tmp_path / "s", "s", {STUDY: "s", PLAN: "p"})
    child = tracking.open_journal(tmp_path / "s" / "a", "a", {STUDY: "s"})
    going_on = tracking.open_journal(tmp_path / "s" / "b", "b", {STUDY: "s"})
    delivery.record_end(child, FINISHED)
    sending = delivery.Delivery(tmp_path / "s", parent.header.tracking_uri)
    asked = Mock(side_effect=delivery.send)
    monkeypatch.setattr(delivery, "send", asked)

    def sent() -> set[Path]:
        asked.reset_mock()
        sending.send()
        return {call.args[0].folder for call in asked.call_args_list}

    assert sent() == {parent.folder, child.folder, going_on.folder}
    assert sent() == {parent.folder, going_on.folder}
    child.append("tags", tags={"attempt": "2"})  # as one that is started again
    assert sent() == {parent.folder, child.folder, going_on.folder}
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([own(client)], "tags.attempt = '2'")
    assert run.info.run_name == "a"


# --- The real training


_IN_A_HURRY = """
import sys
from pipeline import progress
from pipeline.tracking import delivery
from pipeline.train.__main__ import main
delivery._PAUSES = (0.1,)
delivery._PATIENCE_SECONDS = 5.0
progress._PLAIN_SECONDS = 0.1
sys.exit(main())
"""


def trained(folder: Path, uri: str, data: Path, epochs: int) -> subprocess.Popen[str]:
    """A training that says more often than others how far it is, and waits less for the store."""
    words = ("python", "-c", _IN_A_HURRY, "--optimizer", "adam", "--epochs", str(epochs), "--dataset", str(data))
    return start(*words, folder=folder, MLFLOW_TRACKING_URI=uri, MLFLOW_EXPERIMENT_NAME=folder.name)


def assert_delivered(uri: str, folder: Path, epochs: int, small: Images) -> str:
    """The experiment has one run with all that a training says; returns its ID."""
    client = mlflow.MlflowClient(uri)
    (made,) = client.search_runs([own(client, folder.name)])
    assert made.info.status == "FINISHED"
    for name in (*LOSSES, "epoch_seconds"):
        history = client.get_metric_history(made.info.run_id, name)
        assert [point.step for point in history] == list(range(1, epochs + 1)), name
    assert set(QUALITY) < set(made.data.metrics)
    assert made.inputs
    assert len(made.inputs.dataset_inputs) == 1
    names = {file.path for file in client.list_artifacts(made.info.run_id)}
    assert names == {"config.json", "images", "loss_curve.png", "reconstructions.npz", "reconstructions.png"}
    (model,) = client.search_logged_models([own(client, folder.name)])
    assert model.source_run_id == made.info.run_id
    y = mlflow.pyfunc.load_model(f"runs:/{made.info.run_id}/model").predict(small.test)
    bce = -(small.test * np.log(y + 1e-7) + (1 - small.test) * np.log(1 - y + 1e-7)).mean()
    assert bce == pytest.approx(made.data.metrics["val_bce"], rel=1e-3)
    return str(made.info.run_id)


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_training_gets_it_all_afterwards(
    server: Server, small: Images, small_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    epochs = 300
    process = trained(tmp_path, server.uri, small_npz, epochs)
    output = tmp_path / "output"
    wait_for(lambda: "epoch 1/" in output.read_text(), process)
    server.kill()
    wait_for(lambda: f"epoch {epochs}/{epochs}" in output.read_text(), process)
    assert process.wait(HANGS) == 2
    said = output.read_text().splitlines()[-1]
    assert re.fullmatch(
        r"error: the tracking store did not take everything \(the tracking server http://\S+ does not answer \(.*"
        r"/state/runs/\w+",
        said,
    )
    assert "Traceback" not in output.read_text()

    again = run("python", "-m", "pipeline.deliver", folder=tmp_path)
    assert again.returncode == 2
    (line,) = again.stderr.splitlines()
    assert line.startswith("error: 0 runs delivered; left: adam-300ep")
    server.start()
    done = run("python", "-m", "pipeline.deliver", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1 run delivered, nothing is left\n"), done.stderr
    run_id = assert_delivered(server.uri, tmp_path, epochs, small)
    before = mlflow.get_run(run_id).to_dictionary()
    done = run("python", "-m", "pipeline.deliver", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "0 runs delivered, nothing is left\n")
    assert mlflow.get_run(run_id).to_dictionary() == before


@pytest.mark.slow
def test_a_server_that_comes_and_goes_while_a_training_goes_on(
    proxy: Proxy, small: Images, small_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Away at the start, there, away again; the training ends with a server that has everything, and exit code 0."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    proxy.close()
    epochs = 500
    process = trained(tmp_path, proxy.uri, small_npz, epochs)
    output = tmp_path / "output"

    def metrics() -> int:
        return sum(request.path.endswith("log-batch") for request in proxy.requests)

    wait_for(lambda: "epoch 1/" in output.read_text(), process)
    assert "training goes on, and what it logs is kept in" in output.read_text()
    proxy.open()
    wait_for(lambda: metrics() > 2, process)
    proxy.close()
    shown = output.read_text().count("\nepoch ")
    wait_for(lambda: output.read_text().count("\nepoch ") > shown, process)
    proxy.open()
    assert process.wait(HANGS) == 0, output.read_text()
    run_id = assert_delivered(proxy.uri, tmp_path, epochs, small)
    assert f"run ID: {run_id}" in output.read_text()
    assert journal.journals(tmp_path / "state") == []


# --- The command


_UNTIL_KILLED = """
import sys, time
import numpy as np
from pipeline.tracking import delivery
from pipeline.tracking import runs as tracking
from pipeline.train.config import RunConfig
from pipeline.train.dataset import Images
delivery._PAUSES = (float(sys.argv[1]),)
images = Images("some", "file:///some", "0" * 64, *np.zeros((2, 2, 1, 1, 1), np.float32))
with tracking.track(RunConfig(epochs=30), images) as run:
    for epoch in range(1, 6):
        run.log_epoch(epoch, {"loss": 1 / epoch})
    print("said", flush=True)
    time.sleep(120)
"""


def speaking(folder: Path, pause: float) -> subprocess.Popen[str]:
    """A process that has said five epochs of a run, of which the store knows only what it was told at the start."""
    env = {**environment(folder), "MLFLOW_EXPERIMENT_NAME": "own"}
    words = [sys.executable, "-c", _UNTIL_KILLED, str(pause)]
    process = subprocess.Popen(words, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "said\n"
    return process


def test_a_run_whose_process_was_killed_is_delivered_as_killed_and_a_living_one_left_alone(
    ready: mlflow.MlflowClient,  # noqa: F811
    tmp_path: Path,
) -> None:
    with speaking(tmp_path, 1000) as process:
        try:
            assert deliver() == "0 runs delivered, nothing is left; 1 run still being made"
            (made,) = ready.search_runs([own(ready)])
            assert made.info.status == "RUNNING"
            assert made.data.metrics == {}
            (known,) = journal.journals(tmp_path / "state")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    hours_ago = time.time() - 7200
    os.utime(known.folder / journal.LINES, (hours_ago, hours_ago))
    assert deliver() == "1 run delivered, nothing is left"
    (made,) = ready.search_runs([own(ready)])
    assert made.info.status == "KILLED"
    assert (
        made.data.tags["failure"] == "the process died without reporting an end (killed, out of memory or power loss)"
    )
    assert made.info.end_time == int(hours_ago * 1000)
    history = ready.get_metric_history(made.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(n, 1 / n) for n in range(1, 6)]
    assert deliver() == "0 runs delivered, nothing is left"
    assert journal.journals(tmp_path / "state") == []


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
def test_two_deliver_at_once(small: Images, doubling: Path, tmp_path: Path) -> None:  # noqa: F811
    client = mlflow.MlflowClient()
    for n in range(3):
        known = tracking.TrackedRun(CONFIG, tracking.begin(tmp_path / "state" / str(n), str(n)))
        known.log_config(small)
        say(known, small, doubling)
        known.finish()
    words = ["python", "-m", "pipeline.deliver"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    counts = []
    for process in both:
        said, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        found = re.fullmatch(r"(\d) runs? delivered, nothing is left(; . runs? still being made)?\n", said)
        assert found, said
        counts.append(int(found[1]))
    assert sum(counts) == 3
    runs = client.search_runs([own(client)])
    assert sorted(made.info.run_name for made in runs) == ["0", "1", "2"]
    assert len(client.search_logged_models([own(client)])) == 3


@pytest.mark.usefixtures("store")
def test_nothing_to_deliver_needs_no_store(tmp_path: Path) -> None:
    assert deliver() == "0 runs delivered, nothing is left"
    assert not (tmp_path / "store.db").exists()


def test_one_store_that_is_away_keeps_nothing_from_the_others(
    ready: mlflow.MlflowClient,  # noqa: F811
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = os.environ["MLFLOW_TRACKING_URI"]
    for name, uri in {"1": proxy.uri, "2": here}.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        known = tracking.begin(tmp_path / "state" / name, f"run {name}")
        delivery.record_end(known, FINISHED)
    proxy.close()
    says = rf"^1 run delivered; left: run 1 \({tmp_path}/state/1\): the tracking server {proxy.uri} does not answer"
    with pytest.raises(UserError, match=says):
        deliver()
    (made,) = ready.search_runs([own(ready)])
    assert (made.info.run_name, made.info.status) == ("run 2", "FINISHED")


@pytest.mark.usefixtures("store")
def test_a_server_that_came_back_elsewhere_gets_it_there_also_without_the_password_of_the_old_address(
    proxy: Proxy, lasting_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = proxy.uri.replace("http://", "http://me:secret@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", old)
    known = tracking.begin(tmp_path / "state" / "1", tmp_path.name, experiment=tracking.Experiment("0", None))
    known.append("metrics", points=[("loss", 0.5, 1, 1)])
    delivery.record_end(known, FINISHED)
    proxy.close()
    assert not [file for file in (tmp_path / "state").rglob("*") if file.is_file() and b"secret" in file.read_bytes()]
    with pytest.raises(UserError, match=r"does not answer .*; start it or give its new address with .* --to ADDRESS$"):
        deliver()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(UserError, match=r"the password of http://me:\*\*\*@\S+ is not kept: set MLFLOW_TRACKING_URI"):
        deliver()
    assert deliver_all(lasting_server.uri) == "1 run delivered, nothing is left"
    client = mlflow.MlflowClient(lasting_server.uri)
    (made,) = client.search_runs(["0"], f"attributes.run_name = '{tmp_path.name}'")
    assert (made.info.status, made.data.metrics) == ("FINISHED", {"loss": 0.5})


def test_a_study_that_was_killed_is_delivered_with_its_runs_and_can_still_go_on(
    ready: mlflow.MlflowClient,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = tmp_path / "state" / "studies" / "s"
    parent = tracking.begin(folder, "study", tags={STUDY: "s", PLAN: "p"})
    finished, killed = (tracking.begin(folder / name, name, tags={STUDY: "s"}) for name in ("finished", "killed"))
    for child in (finished, killed):
        child.append("metrics", points=[("loss", 0.5, 1, 1)])
    delivery.record_end(finished, FINISHED)
    with journal.locked(killed.folder):  # one of its workers is not gone yet
        assert deliver() == "0 runs delivered, nothing is left; 1 run still being made"
    assert deliver() == "3 runs delivered, nothing is left"
    runs = {made.info.run_name: made for made in ready.search_runs([own(ready)])}
    assert {name: made.info.status for name, made in runs.items()} == {
        "study": "KILLED",
        "finished": "FINISHED",
        "killed": "KILLED",
    }
    for name in ("finished", "killed"):
        assert runs[name].data.tags["mlflow.parentRunId"] == runs["study"].info.run_id
    assert deliver() == "0 runs delivered, nothing is left"
    assert (Journal(folder).ending or {})["status"] == "KILLED"
    assert [known.folder.name for known in journal.journals(folder)] == ["s", "finished", "killed"]
    again = tracking.TrackedRun(RunConfig(), killed)
    again.journal.append("go_on", tags=journal.signs_of_life())
    again.finish()
    delivery.Delivery(folder, parent.header.tracking_uri).send()
    made = ready.get_run(runs["killed"].info.run_id)
    assert made.info.status == "FINISHED"
    assert "failure" not in made.data.tags


def test_an_ending_that_the_store_knows_is_not_replaced_by_a_guess(
    ready: mlflow.MlflowClient,  # noqa: F811
    tmp_path: Path,
) -> None:
    known = tracking.begin(tmp_path / "state", "a run")
    delivery.send(known)
    delivery.end_now(known, FINISHED, "", 5000)
    assert deliver() == "1 run delivered, nothing is left"
    (made,) = ready.search_runs([own(ready)])
    assert (made.info.status, made.info.end_time) == ("FINISHED", 5000)
    assert "failure" not in made.data.tags


def test_on_nfs_a_store_is_made_and_runs_are_delivered(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It locks nothing that is not open to be written, so no directory; SQLite's own locks are others."""
    flock = fcntl.flock

    def as_on_nfs(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    with (tmp_path / "x").open("w"), (tmp_path / "x").open() as file, pytest.raises(OSError, match="Bad file"):
        fcntl.flock(file, fcntl.LOCK_EX)
    require_reachable(store)
    known = tracking.begin(tmp_path / "state" / "run", "a run", experiment=tracking.Experiment("0", None))
    known.append("metrics", points=[("loss", 0.5, 1, 1)])
    with journal.locked(known.folder):
        assert deliver() == "0 runs delivered, nothing is left; 1 run still being made"
    delivery.record_end(known, FINISHED)
    assert deliver() == "1 run delivered, nothing is left"
    (made,) = mlflow.MlflowClient().search_runs(["0"])
    assert (made.info.status, made.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "state") == ["store.db", "x"]
