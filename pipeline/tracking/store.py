"""MLflow's tracking store: reach it, make it, report what is wrong with it, find its dead runs."""

from __future__ import annotations

import functools
import os
import re
import shlex
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import mlflow
import psutil
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from requests.exceptions import HTTPError, InvalidURL, TooManyRedirects
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from pipeline.errors import UserError, first_line
from pipeline.texts import quoted, redacted
from pipeline.tracking import mlflow_compat
from pipeline.tracking.journal import KILLED, Journal, absolute, journals, place, state_folder
from pipeline.tracking.locks import alone_at, is_locked
from pipeline.tracking.names import FAILURE, HEARTBEAT, MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_SOURCE_NAME, OWNER

STORE_ERRORS = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)
_LATER = (429, 502, 503, 504)  # what servers answer that are overloaded, or that others stand before
_NOT_LET_IN = (401, 403)  # nobody said who asks, or not somebody who may
_ANSWER_SECONDS = 5.0  # that a server may take to answer at all; one that is down is known at once
SLOW_ANSWER_SECONDS = 30.0  # the same where nobody waits for it but `deliver`
_LOCKED_SECONDS = 120.0  # that SQLite's other writers may take
_STALE_SECONDS = 600.0  # without a heartbeat from another machine
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

DIED = "the process died without reporting an end (killed, out of memory or power loss)"

Result = TypeVar("Result")


class StoreAwayError(UserError):
    """A tracking server that does not answer, and may again."""


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """What `call` returns or raises, in a thread that is left to itself where it takes longer.

    Raises:
        StoreAwayError: it does.
    """
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return outcome.result(seconds)
    except FutureTimeoutError:
        if outcome.done():  # it is the call's own
            raise
        raise StoreAwayError(f"it took longer than {seconds:.0f} s") from None


def client_of(uri: str = "") -> Any:
    """An `mlflow.MlflowClient` that soon gives up a server that is away, but bears a SQLite that is locked."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # of every run that ends, amid our own
    mlflow_compat.be_quiet_about_databases()
    return _PatientClient(patiently(lambda: mlflow.MlflowClient(uri or tracking_uri())))


class _PatientClient:
    """Tries again whatever SQLite did not do because another was writing."""

    def __init__(self, client: mlflow.MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return patiently(lambda: method(*args, **kwargs))

        return call


def tracking_uri() -> str:
    """The one that MLflow would use, of a local store with an absolute path: it may be asked from another folder.

    Raises:
        UserError: the working directory is gone, so that a relative path leads nowhere.
    """
    uri = str(mlflow.get_tracking_uri())
    try:
        return absolute(uri)
    except FileNotFoundError:
        raise UserError(f"the tracking store {uri} is relative to a working directory that is gone") from None


def with_password(uri: str) -> str:
    """The address that stands redacted in a journal, with the password that MLflow itself would use.

    Raises:
        UserError: it is not known.
    """
    if redacted(uri) == redacted(tracking_uri()):
        return tracking_uri()
    if "***" not in uri:
        return uri
    user, password = mlflow_compat.user_and_password()
    if uri.startswith("http"):  # MLflow finds both itself
        if user:
            return re.sub("(?<=://)[^/]*@", "", uri)
    elif password and ":***@" in uri:
        return make_url(uri).set(password=password).render_as_string(hide_password=False)
    raise UserError(
        f"the password of {uri} is not kept: set MLFLOW_TRACKING_URI to the whole address, "
        "or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    )


def is_dead(tags: dict[str, str]) -> bool:
    """Whether the process that wrote a run is gone: by its ID in this very place, by its heartbeat elsewhere."""
    try:
        where, process, start = tags[OWNER].rsplit(" ", 2)
        if where != place() or "?" in where:
            return time.time() - float(tags[HEARTBEAT]) > _STALE_SECONDS
        alive = psutil.Process(int(process))
        if alive.status() == psutil.STATUS_ZOMBIE:
            return True
        fresh = time.time() - float(tags.get(HEARTBEAT, 0)) < _STALE_SECONDS and alive.pid != os.getpid()
        return abs(alive.create_time() - float(start)) > 1 and not fresh  # a clock that was set moves the start, too
    except (KeyError, ValueError):
        return False  # nobody can tell
    except psutil.NoSuchProcess:
        return True


def end_dead_runs(client: mlflow.MlflowClient, experiment_id: str) -> None:
    """Mark the runs of an experiment that are RUNNING without a process as KILLED.

    How a run ended whose journal some process has in its hands here, such as its study's, that process tells.
    """
    known = journals(state_folder())
    # Of what `mlflow run` opened, only the journal may know yet for which process.
    launched = {each.header.run_id: each.header.tags for each in known}
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        tags = {**launched.get(run.info.run_id, {}), **run.data.tags}
        gone = tags.get(OWNER, "the `mlflow run` that opened it")
        dead = (is_dead(tags) or _is_forsaken(run)) and not _is_in_hands(run.info.run_id, known)
        # It may have finished since the query, and only then have gone.
        if dead and client.get_run(run.info.run_id).info.status == "RUNNING":
            client.set_tag(run.info.run_id, FAILURE, f"{DIED}: {gone}")
            client.set_terminated(run.info.run_id, KILLED)


def _is_in_hands(run_id: str, known: list[Journal]) -> bool:
    """Whether a process works on the journal of a run, or on those of its study."""
    own = [each.folder for each in known if each.sent.run_id == run_id]
    return any(is_locked(place) for folder in own for place in (folder, folder.parent))


def _is_forsaken(run: Run) -> bool:
    """Whether `mlflow run` opened a run of this project, and was gone before the project's code could record that.

    It has shown no life for as long as a process elsewhere may be silent, and here nobody is launching anything.
    """
    tags, began = run.data.tags, run.info.start_time / 1000
    if OWNER in tags or MLFLOW_PROJECT_ENTRY_POINT not in tags or time.time() - began < _STALE_SECONDS:
        return False
    if Path(mlflow_compat.local_file_uri_to_path(tags.get(MLFLOW_SOURCE_NAME, ""))) != Path(__file__).parents[2]:
        return False
    return not any(
        process.info["create_time"] < began
        and {"mlflow", "run"} <= {Path(word).name for word in process.info["cmdline"]}
        for process in psutil.process_iter(["create_time", "cmdline"])
        if process.info["cmdline"]
    )


def exists(uri: str = "") -> bool:
    """Whether there is a store to ask: one of SQLite may not have been made yet."""
    uri = uri or tracking_uri()
    return not uri.startswith("sqlite") or _sqlite_path(uri).exists()


def _sqlite_path(uri: str) -> Path:
    return Path(unquote(uri.split(":///", 1)[-1].split("?")[0]))


def require_reachable(
    uri: str = "",
    must_exist: bool = False,
    otherwise: str = "set MLFLOW_TRACKING_URI",
    seconds: float | None = None,
) -> None:
    """Find out in a moment what MLflow would find out in four minutes of trying again; make a store of SQLite.

    Args:
        must_exist: make nothing, and refuse a store that is not there.
        otherwise: what to do where it cannot be used.
        seconds: that a server may take to answer; default: `_ANSWER_SECONDS`.

    Raises:
        StoreAwayError: a server does not answer.
        UserError: the store cannot be used, or was written by another MLflow, which would be upgraded by being asked.
    """
    uri, seconds = uri or tracking_uri(), seconds or _ANSWER_SECONDS
    try:
        parts = urlsplit(uri)
        port = parts.port  # which may be a word, or too large
        if re.search(r"[\x00-\x1f\x7f]", uri):
            raise ValueError("it has a control character")
    except ValueError as error:
        raise UserError(f"{uri!r} is not the address of a tracking store ({error}); {otherwise}") from None
    scheme = uri if uri in mlflow_compat.schemes() else parts.scheme  # `databricks`
    if scheme.startswith("sqlite"):
        if not parts.path.strip("/") or ":memory:" in uri:
            raise UserError(f"{uri!r} is a store in memory, which is gone with the run; {otherwise} to a file")
        _require_sqlite(uri, _sqlite_path(uri), must_exist, otherwise)
    elif scheme in ("", "file"):
        _require_folder(uri, must_exist, otherwise)
    elif not _is_server(scheme):
        if scheme not in mlflow_compat.schemes():
            raise UserError(
                f"the tracking store {uri} is of no kind that MLflow has here ({', '.join(mlflow_compat.schemes())}): "
                f"install the plug-in that reads it, or {otherwise}"
            )
    elif parts.hostname:
        _require_driver(uri)
        http = scheme in ("http", "https")

        def ask() -> None:
            if http:
                mlflow_compat.ask_health(uri, seconds)
            else:
                address = (parts.hostname, port or _DATABASE_PORTS[scheme.split("+")[0]])
                socket.create_connection(address, timeout=seconds).close()

        try:
            within(seconds + 1, ask)
        except (OSError, MlflowException, StoreAwayError) as error:
            kind = UserError if _is_mistake(error) else StoreAwayError
            raise kind(
                f"the tracking server {uri} does not answer ({first_line(root_cause(error))}); start it or {otherwise}"
            ) from None
        if not http:
            with tracking_store(uri):
                _require_schema(uri, uri, must_exist, otherwise)


def _is_server(scheme: str) -> bool:
    """Whether a host and a port of an address are those of a server; `databricks://profile` has none."""
    return scheme.split("+")[0] in ("http", "https", *_DATABASE_PORTS)


def _require_folder(uri: str, must_exist: bool, otherwise: str) -> None:
    """Refuse a folder that is not there, or that the MLflow that is installed does not read."""
    folder = Path(mlflow_compat.local_file_uri_to_path(uri))
    if folder.is_file():
        raise UserError(f"{uri!r} is a file, and no folder of runs; of SQLite, the address is sqlite:///{folder}")
    if must_exist and not folder.exists():
        raise UserError(f"there is no tracking store {uri}; make a run first, or {otherwise}")
    try:
        with tracking_store(uri):
            client_of(uri)
    except UserError as error:
        if not mlflow_compat.is_refusal_of_files(error.__cause__):
            raise
        copy = f"mlflow migrate-filestore --source {shlex.quote(str(folder))} --target sqlite:///mlflow.db"
        raise UserError(
            f"the tracking store is a folder of files; MLflow {mlflow.__version__} wants a database: `{copy}` makes a "
            "copy to set MLFLOW_TRACKING_URI to; or set MLFLOW_ALLOW_FILE_STORE=true"
        ) from None


def _require_driver(uri: str) -> None:
    with suppress(ArgumentError, NoSuchModuleError):  # no database, but a server
        try:
            make_url(uri).get_dialect().import_dbapi()
        except ImportError as error:
            raise UserError(f"the tracking store {uri} needs a driver: {first_line(error)}; install it") from None


@contextmanager
def tracking_store(uri: str = "") -> Iterator[None]:
    """What goes wrong in here is the tracking store's fault, and reported in one line.

    Raises:
        StoreAwayError: a server does not answer, or not now.
        UserError: the store cannot be used.
    """
    uri = uri or tracking_uri()
    try:
        yield
    except STORE_ERRORS as error:
        if is_away(error):
            raise StoreAwayError(
                f"the tracking server {uri} does not answer ({first_line(root_cause(error))})"
            ) from error
        if isinstance(error, MlflowException) and error.get_http_status_code() in _NOT_LET_IN:
            raise UserError(
                f"the tracking server {uri} does not let this user in ({first_line(error)}): set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            ) from error
        raise UserError(f"the tracking store {uri} cannot be used: {first_line(error)}") from error


def patiently(call: Callable[[], Result]) -> Result:
    """What `call` returns, tried again while another writer keeps SQLite locked; `call` must bear repetition.

    SQLite's own timeout does not serve: MLflow sets it to 20 s whatever the URI asks for, and Ctrl-C waits for it.
    """
    give_up = time.monotonic() + _LOCKED_SECONDS
    while True:
        try:
            return call()
        except STORE_ERRORS as error:
            if "database is locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.2)


def make_experiment(client: mlflow.MlflowClient, name: str) -> str:
    """The ID of the experiment of that name, which is made where there is none."""
    for _ in range(2):
        experiment = client.get_experiment_by_name(name)
        if experiment and experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            raise UserError(deleted(name, experiment.experiment_id))
        if experiment:
            return str(experiment.experiment_id)
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    raise MlflowException(f"the experiment {name!r} is made and deleted by others at this moment; choose another")


def deleted(name: str, experiment_id: str) -> str:
    """What to do about an experiment that is in the bin."""
    restore = f"mlflow experiments restore --experiment-id {experiment_id}"
    return f"experiment={quoted(name)} is deleted; restore it with `{restore}`, or choose another"


def _require_sqlite(uri: str, path: Path, must_exist: bool, otherwise: str) -> None:
    if must_exist and not path.exists():
        raise UserError(f"there is no tracking store {uri}; make a run first, or {otherwise}")
    try:
        if not must_exist:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                with alone_at(path, _LOCKED_SECONDS):
                    _make_sqlite(path)
        with path.open("rb"):
            pass  # for a file that cannot be read, a clearer error than SQLite's
        # Not to make it, but to write: what a kill has left of a transaction is to be rolled back before anybody reads.
        _require_schema(uri, f"sqlite:///file:{quote(str(path))}?mode=rw&uri=true", must_exist, otherwise)
        if not must_exist:
            with tracking_store(uri):
                client_of(uri)  # seconds, the first time: not to be taken for a store that is slow to answer
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        reason = first_line(error.orig if isinstance(error, DBAPIError) and error.orig else error)
        raise UserError(f"the tracking store {uri} cannot be opened ({reason}); {otherwise} to another") from None


def _make_sqlite(path: Path) -> None:
    """A store in a new file, which takes its name when it is whole: a kill in the middle would break it."""
    if path.exists():
        return  # by whoever had the lock before
    for left in path.parent.glob(f".{path.name}.*.new*"):  # by a kill
        left.unlink(missing_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        mlflow_compat.make_database(beside)
        try:
            os.link(beside, path)
        except FileExistsError:
            pass  # somebody else was as quick
        except OSError:  # a file system without links
            if not path.exists():
                beside.rename(path)
    finally:
        for left in path.parent.glob(f"{beside.name}*"):
            left.unlink(missing_ok=True)


def _require_schema(uri: str, look_at: str, must_exist: bool, otherwise: str) -> None:
    """Refuse a database that MLflow would silently upgrade, fill with its tables, or fail on at its first call.

    Raises:
        UserError: it is of another version of MLflow, of another program, or only half made.
    """
    engine = create_engine(look_at)

    def look() -> tuple[set[str], int, mlflow_compat.Schema]:
        with engine.connect() as connection:
            tables = set(inspect(connection).get_table_names())
            runs = connection.execute(text("SELECT COUNT(*) FROM runs")).scalar_one() if "runs" in tables else 0
            return tables, runs, mlflow_compat.schema(connection)

    try:
        tables, runs, schema = patiently(look)
    finally:
        engine.dispose()
    found, needed = schema.revision, schema.needed
    sqlite = uri.startswith("sqlite")
    if not tables & {"experiments", "runs"}:
        if tables and sqlite:
            raise UserError(f"{uri} is the database of another program; {otherwise} to a new file")
        if must_exist:
            raise UserError(f"there is no tracking store {uri}; make a run first, or {otherwise}")
    elif found == needed and schema.complete:
        return
    elif sqlite and not runs:
        raise UserError(
            f"the tracking store {uri} was only half made, or is of an older MLflow, and holds no runs: "
            f"delete {_sqlite_path(uri)} and start again, or {otherwise}"
        )
    elif schema.is_older:
        raise UserError(
            f"the tracking store is of an older MLflow than {mlflow.__version__} (schema {found}, not {needed}): "
            f"copy it, then run `mlflow db upgrade {shlex.quote(redacted(uri))}`, or {otherwise}"
        )
    else:
        raise UserError(
            f"the tracking store {uri} is of a newer MLflow than {mlflow.__version__} (schema {found}): "
            f"use that MLflow, or {otherwise}"
        )


def is_away(error: BaseException) -> bool:
    """Whether the store may answer again: no connection, no answer in time, or a server that asks to try later."""
    if any(isinstance(cause, SQLAlchemyError) for cause in _causes(error)):
        return False  # a database of ours, for which MLflow reports 503 whatever is wrong with it
    if isinstance(error, MlflowException) and error.get_http_status_code() in _LATER:
        return True
    if mlflow_compat.is_server_error(error):
        return False
    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code in _LATER
    networks = ("requests", "urllib3")
    return not _is_mistake(error) and any(
        isinstance(cause, (ConnectionError, TimeoutError)) or type(cause).__module__.split(".")[0] in networks
        for cause in _causes(error)
    )


def _is_mistake(error: BaseException) -> bool:
    """Whether no server can be there: its name is unknown, it does not speak TLS, or it leads in circles."""
    mistakes = (socket.gaierror, ssl.SSLError, TooManyRedirects, InvalidURL)
    return any(isinstance(cause, mistakes) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def root_cause(error: BaseException) -> BaseException:
    """What went wrong first, beneath what the HTTP libraries wrapped around it."""
    return list(_causes(error))[-1]
