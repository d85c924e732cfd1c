"""What this project uses of MLflow without being promised it: run this first with another MLflow.

Each test exercises what an entry of `mlflow_compat` relies on, on a real store.
"""

from __future__ import annotations

import ast
import base64
import http.server
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import Mock

import mlflow
import numpy as np
import psutil
import pytest
from mlflow.exceptions import MlflowException
from mlflow.projects import _maybe_set_run_terminated
from mlflow.utils import mlflow_tags, requirements_utils
from PIL import Image
from sqlalchemy import create_engine, text

from pipeline.tracking import mlflow_compat, names, store
from tests.conftest import ROOT, Server

UNPUBLISHED = {"environment_variables", "protos", "server", "store", "tracking", "utils"}  # modules of MLflow


@pytest.fixture
def local(store: str, empty_store: Path, tmp_path: Path) -> mlflow.MlflowClient:
    """Of a SQLite store of the test's own, which is the current one."""
    shutil.copy(empty_store, tmp_path / "store.db")
    return mlflow.MlflowClient(store)


@pytest.fixture(params=["local", "lasting_server"])
def client(request: pytest.FixtureRequest) -> mlflow.MlflowClient:
    """Of each kind of store."""
    found = request.getfixturevalue(request.param)
    return mlflow.MlflowClient(found.uri) if isinstance(found, Server) else found


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything with a status; its address, and the credentials that it was given."""
    given: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """It is quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", given
        server.shutdown()


def unpublished(path: Path) -> Iterator[str]:
    """What a file uses of MLflow that is not published: modules, private attributes of its objects, addresses."""
    tree = ast.parse(path.read_text())
    own = {each.name for each in ast.walk(tree) if isinstance(each, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if not is_published(alias.name))
        elif isinstance(node, ast.ImportFrom):
            yield from (full for each in node.names if not is_published(full := f"{node.module}.{each.name}"))
        elif isinstance(node, ast.Attribute):
            whole = ast.unparse(node)
            of_another = re.match("_[^_]", node.attr) and node.attr not in own
            if not is_published(whole) or (of_another and not whole.startswith(("self.", "cls."))):
                yield whole
        elif isinstance(node, ast.Constant) and "ajax-api" in str(node.value):
            yield str(node.value)


def is_published(name: str) -> bool:
    """Whether a dotted name is not MLflow's, or is described in its reference."""
    package, _, rest = name.partition(".")
    first = rest.split(".")[0]
    return package != "mlflow" or not (first in UNPUBLISHED or any(re.match("_[^_]", part) for part in rest.split(".")))


def test_no_other_file_uses_what_mlflow_does_not_publish() -> None:
    compat = ROOT / "pipeline" / "tracking" / "mlflow_compat.py"
    files = [file for file in (ROOT / "pipeline").rglob("*.py") if file != compat and "mlflow" in file.read_text()]
    found = {(file.name, use) for file in files for use in unpublished(file)} - {("cli.py", "os._exit")}
    of_named_tuples = ("._replace", "._asdict")
    assert {(file, use) for file, use in found if not use.endswith(of_named_tuples)} == set()
    assert {"run.data._metric_objs", "mlflow.store.db.utils", "client._tracking_client"} <= {*unpublished(compat)}


def test_a_server_is_asked_with_mlflows_own_credentials(
    lasting_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    mlflow_compat.ask_health(lasting_server.uri, 10)
    with answering(200) as (address, given):
        mlflow_compat.ask_health(address, 10)
    assert given == [f"Basic {base64.b64encode(b'ada:secret').decode()}"]
    with pytest.raises(MlflowException):
        mlflow_compat.ask_health(address, 10)  # nobody listens any more


def test_credentials_are_read_from_the_environment_then_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mlflow_compat.user_and_password() == (None, None)
    (tmp_path / ".mlflow").mkdir()
    lines = "[mlflow]\nmlflow_tracking_username = ada\nmlflow_tracking_password = in the file\n"
    (tmp_path / ".mlflow" / "credentials").write_text(lines)
    assert mlflow_compat.user_and_password() == ("ada", "in the file")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "in the environment")
    assert mlflow_compat.user_and_password() == ("ada", "in the environment")


@pytest.mark.parametrize(("status", "server_error"), [(500, True), (502, False), (503, False), (504, False)])
def test_a_server_error_is_told_from_a_server_that_is_away(status: int, server_error: bool) -> None:
    with answering(status) as (address, _), pytest.raises(MlflowException) as error:
        store.client_of(address).search_experiments()
    assert mlflow_compat.is_server_error(error.value) == server_error
    assert error.value.get_http_status_code() == 500  # or the published way serves by now


def test_the_schema_of_a_database_is_compared_to_mlflows_own(empty_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    def found(*statements: str) -> mlflow_compat.Schema:
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        engine = create_engine(f"sqlite:///{path}")
        with closing(engine.connect()) as connected:
            schema = mlflow_compat.schema(connected)
        engine.dispose()
        return schema

    empty = found()
    assert (empty.revision, empty.complete, empty.is_older) == (None, False, True)
    shutil.copy(empty_store, path)
    assert found() == mlflow_compat.Schema(empty.needed, empty.needed, True)
    assert re.fullmatch("[0-9a-f]{12}", empty.needed)
    first = found("UPDATE alembic_version SET version_num = '451aebb31d03'")  # of MLflow 1.0
    assert first.is_older
    assert not found("UPDATE alembic_version SET version_num = 'abcdef012345'").is_older
    assert not found("DROP TABLE metrics").complete


def test_a_database_is_made_quietly_and_let_go(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mlflow_compat.make_database(tmp_path / "new")
    assert [each.path for each in psutil.Process().open_files() if str(tmp_path) in each.path] == []
    (tmp_path / "new").rename(tmp_path / "store.db")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/store.db")
    assert [each.name for each in client.search_experiments()] == ["Default"]
    assert capfd.readouterr() == ("", "")


def test_mlflow_is_quiet_about_database_errors(
    local: mlflow.MlflowClient, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        connection.execute("DROP TABLE runs")
    mlflow_compat.be_quiet_about_databases()
    with pytest.raises(MlflowException, match="no such table: runs"):
        local.search_runs(["0"])
    assert capfd.readouterr() == ("", "")


def test_mlflow_waits_20_seconds_for_a_locked_database_whatever_it_is_told(empty_store: Path) -> None:
    """Where it waits as long as it is told, `store.patiently` can go."""
    client = mlflow.MlflowClient(f"sqlite:///{empty_store}?timeout=120")
    with client._tracking_client.store.ManagedSessionMaker() as session:
        assert session.execute(text("PRAGMA busy_timeout")).scalar() == 20_000


def test_many_histories_in_one_request_are_those_that_mlflow_gives_one_by_one(client: mlflow.MlflowClient) -> None:
    runs = [client.create_run("0").info.run_id for _ in range(3)]
    for number, run_id in enumerate(runs):
        for step in (1, 2, 3):
            client.log_metric(run_id, "loss", number + step / 10, timestamp=1000 * step, step=step)
    published = [
        (run_id, each.step, "loss", each.timestamp, each.value)
        for run_id in runs
        for each in client.get_metric_history(run_id, "loss")
    ]
    assert len(published) == 9
    assert sorted(mlflow_compat.histories(client, runs, "loss", 100) or []) == sorted(published)
    assert len(mlflow_compat.histories(client, runs, "loss", 5) or []) == 5
    assert mlflow_compat.histories(client, runs, "absent", 5) == []


def test_a_server_without_bulk_histories_is_told_apart() -> None:
    with answering(404) as (address, _):
        assert mlflow_compat.histories(mlflow.MlflowClient(address), ["0" * 32], "loss", 5) is None


def test_the_last_metrics_have_their_steps(client: mlflow.MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    for step in (1, 2, 3):
        client.log_metric(run_id, "loss", step / 10, timestamp=1000 * step, step=step)
    for run in (client.get_run(run_id), *client.search_runs(["0"], f"attributes.run_id = '{run_id}'")):
        assert [(each.key, each.value, each.step) for each in mlflow_compat.last_metrics(run)] == [("loss", 0.3, 3)]


@pytest.mark.usefixtures("local")
def test_a_run_gets_the_tags_that_mlflow_gives_to_its_own() -> None:
    with mlflow.start_run() as run:
        given = {key: value for key, value in run.data.tags.items() if key != "mlflow.runName"}
    assert mlflow_compat.resolve_tags() == given
    assert "mlflow.user" in given


def test_a_name_that_mlflow_made_up_is_known(client: mlflow.MlflowClient) -> None:
    made_up = [client.create_run("0").info.run_name for _ in range(20)]
    assert [name for name in made_up if not mlflow_compat.is_random_name(name)] == []
    given = ("adam-seed-3", "bold-fox", "bold-fox-1x", "my-fox-123", "Bold fox 123")
    assert not any(map(mlflow_compat.is_random_name, given))


def test_pictures_are_what_mlflow_makes_of_them(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    """`TrackedRun.log_image` names them as `MlflowClient.log_image` does, which sets the same tag."""
    run_id = client.create_run("0").info.run_id
    image = np.random.default_rng(0).integers(0, 256, (30, 400, 3), dtype=np.uint8)
    client.log_image(run_id, image, key="digits", step=3, timestamp=1234, synchronous=True)
    names_of = re.compile(r"images/digits\Wstep\W3\Wtimestamp\W1234\W[0-9a-f-]{36}(\.png|\Wcompressed\.webp)")
    files = {names_of.fullmatch(each.path): each.path for each in client.list_artifacts(run_id, "images")}
    assert sorted(found[1][-5:] for found in files if found) == [".png", ".webp"]
    ours = mlflow_compat.convert_to_pil_image(image)
    for found, path in files.items():
        assert found
        wanted = ours if found[1] == ".png" else mlflow_compat.compress_image_size(ours)
        wanted.save(tmp_path / f"ours{found[1][-5:]}")
        with (
            Image.open(client.download_artifacts(run_id, path, str(tmp_path))) as theirs,
            Image.open(tmp_path / f"ours{found[1][-5:]}") as same,
        ):
            assert np.array_equal(np.asarray(theirs), np.asarray(same))
    assert client.get_run(run_id).data.tags[names.MLFLOW_LOGGED_IMAGES] == "True"


def test_requirements_that_are_known_are_not_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements_utils, "_MODULES_TO_PACKAGES", None)
    searched = Mock(return_value={})
    monkeypatch.setattr(requirements_utils.importlib_metadata, "packages_distributions", searched)
    with mlflow_compat.trusting_requirements():
        requirements_utils.warn_dependency_requirement_mismatches([f"numpy=={np.__version__}"])
    searched.assert_not_called()
    requirements_utils.warn_dependency_requirement_mismatches([f"numpy=={np.__version__}"])
    searched.assert_called_once()  # nothing is left behind for others


def test_local_addresses(tmp_path: Path) -> None:
    folder = tmp_path / "My Documents, 100 %"
    for address in (folder.as_uri(), str(folder)):
        assert mlflow_compat.is_local_uri(address)
    assert mlflow_compat.local_file_uri_to_path(folder.as_uri()) == str(folder)
    assert mlflow_compat.local_file_uri_to_path("/usr/local") == "/usr/local"
    assert not any(map(mlflow_compat.is_local_uri, ("s3://bucket/x", "https://host/x", "mlflow-artifacts://host/x")))


def test_the_names_of_mlflows_own_tags() -> None:
    ours = {name: value for name, value in vars(names).items() if name.startswith("MLFLOW_")}
    assert len(ours) == 9
    assert ours == {name: getattr(mlflow_tags, name) for name in ours}
    assert mlflow_tags.MLFLOW_RUN_NOTE == names.NOTE


def test_mlflow_run_still_writes_failed_over_killed(local: mlflow.MlflowClient) -> None:
    """Where it no longer does, `cli._keep_killed` and `launched.keep_killed` can go."""
    run = local.create_run("0")
    local.set_terminated(run.info.run_id, "KILLED")
    _maybe_set_run_terminated(run, "FAILED")
    assert local.get_run(run.info.run_id).info.status == "FAILED"


def test_the_kinds_of_stores_and_the_refusal_of_files_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"sqlite", "http", "https", "postgresql", "file", "databricks"} <= set(mlflow_compat.schemes())
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(MlflowException) as refusal:
        mlflow.MlflowClient(f"{tmp_path}/runs")
    assert mlflow_compat.is_refusal_of_files(refusal.value)
    assert not mlflow_compat.is_refusal_of_files(None)
    assert not (tmp_path / "runs").exists()
