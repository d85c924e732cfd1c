"""Runs as they are written to a real store and read back from it."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import git
import mlflow
import numpy as np
import pytest
from mlflow.entities import Run

from pipeline.compare import reading
from pipeline.errors import Interrupted, UserError
from pipeline.task import load
from pipeline.tracking import delivery, journal, launched, store
from pipeline.tracking import runs as tracking
from pipeline.tracking.journal import journals, state_folder
from pipeline.train.config import RunConfig
from pipeline.train.dataset import Images
from tests.conftest import free_port, no_hang

CONFIG = RunConfig(optimizer="adam", epochs=2, l1=1e-5)


def latest() -> Run:
    return mlflow.search_runs(output_format="list")[0]


def launch(monkeypatch: pytest.MonkeyPatch, name: str | None = None, **params: str) -> str:
    """A run as `mlflow run` opens one for its child process."""
    client = mlflow.MlflowClient()
    run_id = client.create_run("0", run_name=name).info.run_id
    for key, value in params.items():
        client.log_param(run_id, key, value)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return run_id


@pytest.mark.usefixtures("db")
def test_a_run_says_what_went_into_it(small: Images) -> None:
    with tracking.track(CONFIG, small) as run:
        run.log_epoch(1, {"loss": 0.5})
    logged = latest()
    assert logged.info.run_name == run.name == "adam-2ep-l1=1e-05"
    assert logged.info.status == "FINISHED"
    assert logged.data.params == {**{k: str(v) for k, v in CONFIG.model_dump().items()}, "learning_rate_used": "0.001"}
    tags = logged.data.tags
    assert tags["fingerprint"] == CONFIG.fingerprint
    assert tags["data_hash"] == small.sha256
    lock = (tracking.ROOT / "requirements.txt").read_bytes()
    assert tags["lock_hash"] == hashlib.sha256(lock).hexdigest()[:12]
    assert tags["git_dirty"] == tracking._git_dirty()
    config = mlflow.artifacts.load_dict(f"{logged.info.artifact_uri}/config.json")
    assert config == json.loads(CONFIG.model_dump_json())
    assert logged.inputs
    (data,) = logged.inputs.dataset_inputs
    assert data.dataset.name == "small"
    assert data.dataset.digest == small.sha256[:16]
    assert "[600, 28, 28, 1]" in str(data.dataset.profile)


def test_dirty_is_what_makes_a_run_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "ROOT", tmp_path)
    assert tracking._git_dirty() == "unknown"
    repository = git.Repo.init(tmp_path)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model.py").write_text("1")
    assert tracking._git_dirty() == "unknown"  # a repository that lies around it knows nothing of it
    repository.git.add("--all")
    repository.git.execute(["git", "-c", "user.name=n", "-c", "user.email=e", "commit", "-m", "first"])
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "conclusion.csv").write_text("1")
    assert tracking._git_dirty() == "false"
    (tmp_path / "pipeline" / "model.py").write_text("2")
    assert tracking._git_dirty() == "true"


@pytest.mark.usefixtures("db")
def test_what_mlflow_run_has_logged_already_stays_as_typed(small: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = launch(monkeypatch, l1="0.00001", learning_rate="default", dataset="'my data'")
    with tracking.track(CONFIG, small):
        pass
    logged = latest()
    assert logged.info.run_id == run_id
    assert logged.data.params["l1"] == "0.00001"
    assert logged.data.params["learning_rate"] == "default"
    assert logged.data.params["learning_rate_used"] == "0.001"
    row = reading.runs("0", load()).iloc[0]
    assert row["params.l1"] == 1e-5
    assert row["params.learning_rate"] == 0.001
    assert row["params.dataset"] == "my data"
    assert row["params.epochs"] == 2


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(("given", "kept"), [(None, "adam-2ep-l1=1e-05"), ("mine", "mine"), ("my-run-1", "my-run-1")])
def test_a_made_up_name_gives_way_and_a_given_one_stays(
    given: str | None, kept: str, small: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(monkeypatch, given)
    with tracking.track(CONFIG, small) as run:
        assert run.name == kept
    assert latest().info.run_name == latest().data.tags["mlflow.runName"] == kept


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("too\nbad"), "FAILED", "ValueError: too"),
        (UserError("no"), "FAILED", "UserError: no"),
        (KeyboardInterrupt(), "KILLED", "interrupted by Ctrl-C"),
        (Interrupted(), "KILLED", "interrupted by SIGTERM"),
    ],
)
def test_a_run_that_does_not_finish_says_why(error: BaseException, status: str, reason: str, small: Images) -> None:
    with pytest.raises(type(error)), tracking.track(CONFIG, small) as run:  # noqa: PT012
        run.log_epoch(1, {"loss": 0.5})
        raise error
    assert latest().info.status == status
    assert latest().data.tags["failure"] == reason
    assert latest().data.metrics == {"loss": 0.5}
    assert mlflow.active_run() is None


@pytest.mark.usefixtures("db")
def test_every_epoch_arrives_once_at_its_own_step(small: Images) -> None:
    with tracking.track(CONFIG, small) as run:
        for epoch in range(1, 1202):
            run.log_epoch(epoch, {"loss": 1 / epoch})
    history = mlflow.MlflowClient().get_metric_history(str(run.id), "loss")
    assert [(point.step, point.value) for point in history] == [(n, 1 / n) for n in range(1, 1202)]


@pytest.mark.usefixtures("db")
def test_a_run_that_nobody_took_up_is_ended_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    journal.begin_launched(launch(monkeypatch), "main")
    launched.end(UserError("epochs='abc' cannot be used"), "main")
    assert journals(state_folder()) == []
    assert latest().info.run_name == "failed: epochs='abc' cannot be used"
    assert latest().info.status == "FAILED"
    assert latest().data.tags["failure"] == "UserError: epochs='abc' cannot be used"


def failing(small: Images) -> str:
    """The one line of the `UserError` that starting a run gives; without our own check MLflow tries for minutes."""
    with no_hang(), pytest.raises(UserError) as error, tracking.track(CONFIG, small):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("store")
def test_a_server_that_is_away_keeps_nothing_from_being_trained(
    small: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that refuses, one that is silent; what they did not take is on disk."""
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(store, "_ANSWER_SECONDS", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for number, port in enumerate([free_port(), silent.getsockname()[1]]):
            uri = f"http://127.0.0.1:{port}"
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            with pytest.raises(UserError) as error, tracking.track(CONFIG, small) as run:  # noqa: PT012
                (line,) = capsys.readouterr().err.splitlines()
                assert line.startswith(f"the tracking server {uri} does not answer (")
                assert f"training goes on, and what it logs is kept in {tmp_path}/state" in line
                run.log_epoch(1, {"loss": 0.5})
            assert "\n" not in str(error.value)
            assert str(error.value).endswith(f"sends the rest, which is kept in {run.journal.folder}")
            assert len(journals(tmp_path / "state")) == number + 1
            assert [line["points"][0][1] for line, _ in run.journal.read() if line["operation"] == "metrics"] == [0.5]
            assert run.journal.ending
            assert run.journal.ending["status"] == "FINISHED"


def test_a_store_that_cannot_be(small: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIATIONS_STATE", str(tmp_path / "state"))
    for uri, says in {
        "http://no-such-host.invalid:5000": "the tracking server http://no-such-host.invalid:5000 does not answer (",
        f"postgresql://127.0.0.1:{free_port()}/runs": "needs a driver: No module named 'psycopg",
        f"sqlite:///{tmp_path}/file/store.db": f"the tracking store sqlite:///{tmp_path}/file/store.db cannot be open",
        f"sqlite:///{tmp_path}/file": f"the tracking store sqlite:///{tmp_path}/file cannot be opened (",
    }.items():
        (tmp_path / "file").write_text("not a folder, and not a database" * 100)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert says in failing(small)
        assert journals(tmp_path / "state") == []


@pytest.mark.usefixtures("db")
def test_a_store_that_a_newer_mlflow_wrote(small: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking.track(CONFIG, small):
        pass
    newer = shutil.copy(tmp_path / "store.db", tmp_path / "newer.db")
    with closing(sqlite3.connect(newer)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'fffffffffffff'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{newer}")
    message = failing(small)
    assert "is of a newer MLflow than 3.17.2 (schema fffffffffffff): use that MLflow, or set MLFLOW_TRACKING" in message


@pytest.mark.usefixtures("db")
def test_no_right_to_write_artifacts(small: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    mlflow.MlflowClient().create_experiment("walled", artifact_location=f"{tmp_path}/file/artifacts")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "walled")
    message = failing(small)
    assert message.startswith("artifacts of adam-2ep-l1=1e-05 cannot be written to the store sqlite:///")
    assert f"Not a directory: '{tmp_path}/file/artifacts'" in message
    assert mlflow.search_runs(experiment_names=["walled"])["status"].tolist() == ["FAILED"]
    assert journals(tmp_path / "state") == []


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("full", "variable"), [("state", "VARIATIONS_STATE"), ("mlruns", "MLFLOW_TRACKING_URI")])
def test_no_room_for_artifacts(
    full: str, variable: str, small: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is known at the start, be it the one of the journal or the one of the artifacts."""
    for name in ("state", "mlruns"):
        (tmp_path / name).mkdir()

    def disk_usage(path: Path) -> object:
        return shutil._ntuple_diskusage(100, 99, 2**20 if (tmp_path / full) in (path, *path.parents) else 2**40)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    message = failing(small)
    assert message.startswith("no room for artifacts: 1 MiB are free")
    assert variable in message
    assert journals(tmp_path / "state") == []
    if full == "mlruns":
        assert latest().info.status == "FAILED"
        assert latest().data.tags["failure"] == f"UserError: {message}"
    else:
        assert not (tmp_path / "store.db").exists()


@pytest.mark.usefixtures("db")
def test_an_image_arrives_as_it_is(small: Images) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with tracking.track(CONFIG, small) as run:
        run.log_image("reconstructions", 7, image)
    (artifact,) = [
        file.path for file in mlflow.MlflowClient().list_artifacts(str(run.id), "images") if file.path.endswith(".png")
    ]
    assert artifact.startswith("images/reconstructions+step+7+")
    loaded = mlflow.artifacts.load_image(f"{latest().info.artifact_uri}/{artifact}")
    np.testing.assert_array_equal(np.asarray(loaded), image)
