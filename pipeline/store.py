"""MLflow's tracking store: reach it, send it what journals hold, tell its living runs from its dead ones.

A journal is sent in order, and what was sent may be sent again: a metric with the same timestamp, a tag and a
file are stored once, and a run and a model are looked for before they are made. So a store that goes away in
the middle of a call is no reason to lose or to double anything.
"""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import socket
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import mlflow
import psutil
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric
from mlflow.entities.lifecycle_stage import LifecycleStage
from mlflow.entities.logged_model_status import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils import name_utils
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from mlflow.utils.rest_utils import http_request
from requests.exceptions import HTTPError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from pipeline.config import FAILURE, HEARTBEAT, JOURNAL, OWNER, PLAN, STUDY, Interrupted, UserError, first_line
from pipeline.journal import ARTIFACTS, END, FINISHED, HEADER, KILLED, MODEL, Journal, Sent, journals, replace_file

STORE_ERRORS = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)
_LATER = (429, 502, 503, 504)  # what servers answer that are overloaded, or that others stand before
_BEGIN_SECONDS = 10.0  # that the first attempt may keep a training from its beginning
_ANSWER_SECONDS = 5  # that a server may take to answer at all; one that is down is known at once
_PAUSES = (2.0, 4.0, 8.0, 15.0)  # between two attempts to send: a commit per epoch would slow short epochs down
_PATIENCE_SECONDS = 20.0  # at the end, without any progress
_AGAIN_SECONDS = 1.0  # between two attempts at the end
_LOCKED_SECONDS = 120.0  # that SQLite's other writers may take
_HEARTBEAT_SECONDS = 30.0
_STALE_SECONDS = 600.0  # without a heartbeat from another machine
_METRICS_IN_A_BATCH = 1000  # MLflow's own limit
_LONGEST_REASON = 5000  # what a tag of MLflow's holds on every store
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

Result = TypeVar("Result")


class StoreAwayError(UserError):
    """A tracking server that does not answer, and may again."""


class Delivery:
    """Sends what the journals in a folder hold, in a thread of its own, for as long as the context lasts.

    A store that is away is tried again; what it has not got by the end stays on disk, and the user is told.
    """

    def __init__(self, root: Path, uri: str) -> None:
        self._root = root
        self._uri = uri
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._heartbeat = time.monotonic()
        self._thread = threading.Thread(target=self._keep_sending, daemon=True)
        # By the keys of the journals: these are deleted when they have done their duty.
        self.run_ids: dict[str, str] = {}

    def begin(self) -> None:
        """The first attempt, so that a mistake is known before anything long begins.

        Raises:
            UserError: the store cannot be used; one that is only away, or slow, is no error.
        """
        found: list[Exception] = []

        def attempt() -> None:
            try:
                require_reachable(self._uri)
                self.send()
                self._end_dead_runs()
            except Exception as error:
                found.append(error)

        first = threading.Thread(target=attempt, daemon=True)
        first.start()
        first.join(_BEGIN_SECONDS)
        away = StoreAwayError(f"the tracking store {self._uri} is slow")
        for error in found if not first.is_alive() else [away]:
            if not isinstance(error, StoreAwayError):
                raise error
            print(f"{error}; training goes on, and what it logs is kept in {self._root}", file=sys.stderr, flush=True)

    def __enter__(self) -> Delivery:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Send what is left.

        Raises:
            UserError: not everything could be sent; not raised over an error of the body.
        """
        self._over.set()
        try:
            self._thread.join()
            trouble = self._drain()
        except (KeyboardInterrupt, Interrupted):  # the user does not want to wait for the store
            print(self._kept("interrupted"), file=sys.stderr, flush=True)
            raise
        if trouble:
            if not isinstance(trouble, StoreAwayError):
                self._tell_endings()
            if error is None:
                raise UserError(self._kept(str(trouble)))
            print(self._kept(str(trouble)), file=sys.stderr, flush=True)

    def _kept(self, trouble: str) -> str:
        return (
            f"the tracking store did not take everything ({trouble}); what is left is kept in {self._root}: "
            "deliver it with python -m pipeline.deliver"
        )

    def _tell_endings(self) -> None:
        """A store that refuses something shall know at least how the runs ended."""
        for journal in journals(self._root):
            if not journal.all_sent:
                ending = journal.ending or {}
                end_now(journal, ending.get("status", KILLED), ending.get("reason", ""), ending.get("at"))

    def send(self) -> None:
        """Send what is there now. A journal that the store refuses does not keep the others back.

        Raises:
            StoreAwayError: the store is away.
            UserError: the store refuses a journal.
        """
        refused: UserError | None = None
        with self._turn:
            for journal in journals(self._root):
                try:
                    with tracking_store(self._uri):
                        self.run_ids[journal.header.key] = send(journal)
                except StoreAwayError:
                    raise
                except UserError as error:
                    refused = refused or error
            for journal in reversed(journals(self._root)):
                _tidy(journal)
        if refused:
            raise refused

    def _keep_sending(self) -> None:
        attempt = 0
        while not self._over.wait(_PAUSES[min(attempt, len(_PAUSES) - 1)]):
            try:
                self.send()
                attempt = 0
            except StoreAwayError:
                attempt += 1  # said at the end, should it last
                continue
            except Exception:  # also said at the end
                attempt += 1
            self._show_life()

    def _show_life(self) -> None:
        if time.monotonic() - self._heartbeat < _HEARTBEAT_SECONDS:
            return
        for journal in journals(self._root):
            if journal.ending is None and journal.sent.run_id:
                with suppress(*STORE_ERRORS):  # one that was deleted shall not keep the others from being alive
                    client_of(self._uri).set_tag(journal.sent.run_id, HEARTBEAT, int(time.time()))
        self._heartbeat = time.monotonic()

    def _end_dead_runs(self) -> None:
        with suppress(UserError), tracking_store(self._uri):  # it is not what this run is about
            client = client_of(self._uri)
            for journal in journals(self._root)[:1]:
                end_dead_runs(client, client.get_run(str(journal.sent.run_id)).info.experiment_id)

    def _drain(self) -> UserError | None:
        """What kept the store from taking everything."""
        sent, give_up = -1, 0.0
        while True:
            try:
                self.send()
                return None
            except StoreAwayError as away:
                by_now = sum(journal.sent.offset for journal in journals(self._root))
                if by_now > sent:
                    sent, give_up = by_now, time.monotonic() + _PATIENCE_SECONDS
                elif time.monotonic() > give_up:
                    return away
                time.sleep(_AGAIN_SECONDS)
            except UserError as refused:
                return refused


def send(journal: Journal) -> str:
    """Send what the store does not have yet of one journal; returns the ID of its run.

    Raises:
        one of STORE_ERRORS: the store did not take it.
        UserError: the artifact store did not take it, or the disk is full.
    """
    sent = journal.sent
    if not journal.all_sent:
        client = client_of(journal.header.tracking_uri)
        if sent.run_id is None:
            sent = journal.mark_sent(run_id=_make_run(client, journal, sent))
        _send_lines(client, journal, sent)
    return str(sent.run_id)


def _tidy(journal: Journal) -> None:
    """Delete what nobody needs once the store has it; a study that did not finish may go on with its runs."""
    ending = journal.ending
    if not ending or not journal.all_sent:
        return
    tags, finished = journal.header.tags, ending["status"] == FINISHED
    within = [other for other in journals(journal.folder) if other.folder != journal.folder]
    if STUDY not in tags or (PLAN in tags and finished and all(other.all_sent for other in within)):
        journal.remove()
    elif finished and PLAN not in tags:
        journal.remove_files()


def end(journal: Journal, status: str, reason: str = "") -> None:
    """Note how a run ended; tell the store itself where the disk has no room for a line."""
    reason = reason[:_LONGEST_REASON]
    try:
        journal.append(END, status=status, reason=reason, at=now())
    except UserError as full:
        print(full, file=sys.stderr, flush=True)
        end_now(journal, status, reason)


def end_abandoned(journal: Journal) -> None:
    """Note that a run's process is gone without a word, unless the store knows better how it ended."""
    reason = "its process ended without a word"
    journal.append(END, status=KILLED, reason=reason, at=journal.last_said, unless_known=True)


def end_now(journal: Journal, status: str, reason: str, at: int | None = None) -> None:
    """Have the store know how a run ended, whatever else it does not know of it; silent where it cannot."""
    uri, run_id = journal.header.tracking_uri, journal.sent.run_id
    if run_id:
        with suppress(UserError), tracking_store(uri):
            _end(client_of(uri), journal, run_id, status, reason[:_LONGEST_REASON], at or now())


def now() -> int:
    """As MLflow counts: milliseconds since 1970."""
    return int(time.time() * 1000)


def client_of(uri: str = "") -> Any:
    """An `mlflow.MlflowClient` that soon gives up a server that is away, but bears a SQLite that is locked."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # of every run that ends, amid our own
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it shows what it raises, with a traceback
    return _PatientClient(mlflow.MlflowClient(uri or tracking_uri()))


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
    """The one that MLflow would use, of SQLite with an absolute path: a journal may be sent from another folder."""
    uri = str(mlflow.get_tracking_uri())
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri


def owner() -> str:
    """This process, in a form that can be asked later whether it still runs: host, process ID, start."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def signs_of_life() -> dict[str, str]:
    """The tags by which `is_dead` knows this process."""
    return {OWNER: owner(), HEARTBEAT: str(int(time.time()))}


def is_dead(tags: dict[str, str]) -> bool:
    """Whether the process that wrote a run is gone: by its ID on this machine, by its heartbeat on another."""
    try:
        host, process, start = tags[OWNER].rsplit(" ", 2)
        if host != socket.gethostname():
            return time.time() - float(tags[HEARTBEAT]) > _STALE_SECONDS
        alive = psutil.Process(int(process))
        return abs(alive.create_time() - float(start)) > 1 or alive.status() == psutil.STATUS_ZOMBIE
    except (KeyError, ValueError):
        return False  # nobody can tell
    except psutil.NoSuchProcess:
        return True


def end_dead_runs(client: mlflow.MlflowClient, experiment_id: str) -> None:
    """Mark the runs of an experiment that are RUNNING without a process as KILLED."""
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        if is_dead(run.data.tags):
            client.set_tag(run.info.run_id, FAILURE, f"its process ended without a word: {run.data.tags[OWNER]}")
            client.set_terminated(run.info.run_id, KILLED)


def exists(uri: str = "") -> bool:
    """Whether there is a store to ask: one of SQLite may not have been made yet."""
    uri = uri or tracking_uri()
    return not uri.startswith("sqlite") or _sqlite_path(uri).exists()


def _sqlite_path(uri: str) -> Path:
    return Path(unquote(uri.split(":///", 1)[-1].split("?")[0]))


def require_reachable(uri: str = "", must_exist: bool = False) -> None:
    """Find out in a moment what MLflow would find out in four minutes of trying again; make a store of SQLite.

    Raises:
        StoreAwayError: a server does not answer.
        UserError: the store cannot be used.
    """
    uri = uri or tracking_uri()
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise UserError(f"{uri!r} is no address of a tracking store ({error}); set MLFLOW_TRACKING_URI") from None
    if parts.scheme.startswith("sqlite"):
        _require_sqlite(uri, _sqlite_path(uri), must_exist)
    elif parts.hostname:
        _require_driver(uri)
        try:
            if parts.scheme in ("http", "https"):
                credentials = get_default_host_creds(uri)
                http_request(credentials, "/health", "GET", max_retries=0, timeout=_ANSWER_SECONDS)
            else:
                port = parts.port or _DATABASE_PORTS.get(parts.scheme.split("+")[0], 0)
                socket.create_connection((parts.hostname, port), timeout=_ANSWER_SECONDS).close()
        except (OSError, MlflowException) as error:
            kind = UserError if _is_mistake(error) else StoreAwayError
            raise kind(
                f"the tracking server {uri} does not answer ({first_line(_root(error))}); "
                "start it or set MLFLOW_TRACKING_URI"
            ) from None


def _require_driver(uri: str) -> None:
    with suppress(ArgumentError, NoSuchModuleError):  # no database, but a server
        try:
            make_url(uri).get_dialect().import_dbapi()
        except ImportError as error:
            raise UserError(f"the tracking store {uri} needs a driver: {first_line(error)}; install it") from None


@contextmanager
def tracking_store(uri: str = "") -> Iterator[None]:
    """What goes wrong in here is the tracking store's fault, and said in one line.

    Raises:
        StoreAwayError: a server does not answer, or not now.
        UserError: the store cannot be used.
    """
    uri = uri or tracking_uri()
    try:
        yield
    except STORE_ERRORS as error:
        reason = first_line(error)
        if _is_away(error):
            raise StoreAwayError(f"the tracking server {uri} does not answer ({first_line(_root(error))})") from error
        if "out-of-date database schema" not in reason:
            raise UserError(f"the tracking store {uri} cannot be used: {reason}") from error
        found = reason[reason.find("(") : reason.find(")") + 1]
        raise UserError(
            f"the tracking store {uri} was written by another MLflow than {mlflow.__version__} {found}: "
            "use that MLflow if it is newer, run `mlflow db upgrade` if it is older, or set MLFLOW_TRACKING_URI"
        ) from error


def patiently(call: Callable[[], Result]) -> Result:
    """What `call` returns, tried again while another writer keeps SQLite locked; `call` must bear repetition."""
    give_up = time.monotonic() + _LOCKED_SECONDS
    while True:
        try:
            return call()
        except STORE_ERRORS as error:
            if "database is locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.2)


def _make_run(client: mlflow.MlflowClient, journal: Journal, sent: Sent) -> str:
    """Make the run of a journal, or find the one that a lost answer was about; a study's runs lie within its own."""
    header = journal.header
    experiment_id = header.experiment_id or make_experiment(client, header.experiment_name)
    if sent.tried:
        ours = f"tags.{JOURNAL} = '{header.key}'"
        for run in client.search_runs([experiment_id], ours, max_results=1):
            return str(run.info.run_id)
    tags = {**header.tags, JOURNAL: header.key}
    above = journal.folder.parent
    if (above / HEADER).exists():
        parent = Journal(above).sent.run_id
        if parent is None:
            raise UserError("the run of its study is not there yet")
        tags[MLFLOW_PARENT_RUN_ID] = parent
    journal.mark_sent(tried=True)
    return str(client.create_run(experiment_id, header.started, tags, header.name).info.run_id)


def make_experiment(client: mlflow.MlflowClient, name: str) -> str:
    """The ID of the experiment of that name, which is made where there is none."""
    for _ in range(2):
        experiment = client.get_experiment_by_name(name)
        if experiment and experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            break
        if experiment:
            return str(experiment.experiment_id)
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    raise MlflowException(f"the experiment {name!r} is deleted; restore it, or choose another")


def _send_lines(client: mlflow.MlflowClient, journal: Journal, sent: Sent) -> None:
    run_id = str(sent.run_id)
    metrics: list[Metric] = []
    offset = sent.offset

    def flush() -> None:
        while metrics:
            client.log_batch(run_id, metrics=metrics[:_METRICS_IN_A_BATCH], synchronous=True)
            del metrics[:_METRICS_IN_A_BATCH]
        journal.mark_sent(offset=offset)

    for line, end in journal.read(sent.offset):
        operation = line.pop("operation")
        line.pop("key", None)
        if operation == "metrics":
            metrics += [Metric(*point) for point in line["points"]]
        else:
            flush()
            _say(client, journal, run_id, operation, line)
        offset = end
    flush()


def _say(client: mlflow.MlflowClient, journal: Journal, run_id: Any, operation: str, content: dict[str, Any]) -> None:
    sayers: dict[str, Callable[..., None]] = {
        "params": _params,
        "tags": _tags,
        "dataset": _dataset,
        "artifacts": _artifacts,
        "model": _model,
        "rename": _rename,
        "go_on": _go_on,
        "end": _end,
    }
    sayers[operation](client, journal, run_id, **content)


def _params(client: mlflow.MlflowClient, journal: Journal, run_id: str, params: dict[str, Any]) -> None:
    """Those that are not there yet: `mlflow run` logs its own as typed, and MLflow refuses a changed one."""
    known = client.get_run(run_id).data.params
    new = [mlflow.entities.Param(key, str(value)) for key, value in params.items() if key not in known]
    client.log_batch(run_id, params=new, synchronous=True)


def _tags(client: mlflow.MlflowClient, journal: Journal, run_id: str, tags: dict[str, str]) -> None:
    entities = [mlflow.entities.RunTag(key, str(value)) for key, value in tags.items()]
    client.log_batch(run_id, tags=entities, synchronous=True)


def _dataset(client: mlflow.MlflowClient, journal: Journal, run_id: str, context: str, **fields: str) -> None:
    given = DatasetInput(Dataset(**fields), [InputTag(MLFLOW_DATASET_CONTEXT, context)])
    try:
        client.log_inputs(run_id, [given])
    except MlflowException as error:  # another writer was the first in this experiment to have these images
        if _is_away(error):
            raise
        client.log_inputs(run_id, [given])


def _artifacts(client: mlflow.MlflowClient, journal: Journal, run_id: str, paths: list[str]) -> None:
    with _artifact_store(journal):
        for path in paths:
            parent = str(Path(path).parent)
            client.log_artifact(run_id, str(journal.folder / ARTIFACTS / path), None if parent == "." else parent)


@contextmanager
def _artifact_store(journal: Journal) -> Iterator[None]:
    """What goes wrong in here is the artifact store's fault, which need not be on the server."""
    try:
        yield
    except (MlflowException, OSError) as error:
        if _is_away(error):
            raise
        where = f"artifacts of {journal.header.name} cannot be written to the store {journal.header.tracking_uri}"
        reason = first_line(_root(error) if isinstance(error, MlflowException) else error)
        raise UserError(f"{where}: {reason}") from error


def _model(client: mlflow.MlflowClient, journal: Journal, run_id: str) -> None:
    """What `mlflow.tensorflow.log_model` does, from a model that lies on disk, in steps that can be repeated."""
    model_id = journal.sent.model_id or _make_model(client, journal, run_id)
    journal.mark_sent(model_id=model_id)
    logged = client.get_logged_model(model_id)
    folder = journal.folder / MODEL
    description = Model.load(str(folder))
    description.run_id, description.model_id, description.model_uuid = run_id, model_id, model_id
    description.artifact_path = logged.artifact_location
    replace_file(folder / "MLmodel", description.to_yaml())  # a kill must not leave half of it
    for left in folder.glob("MLmodel.*.new"):  # by a kill
        left.unlink()
    with _artifact_store(journal):
        client.log_model_artifacts(model_id, str(folder))
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs
    if model_id not in {output.model_id for output in (outputs.model_outputs if outputs else [])}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _make_model(client: mlflow.MlflowClient, journal: Journal, run_id: str) -> str:
    run = client.get_run(run_id)
    for model in client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'"):
        return str(model.model_id)
    made = client.create_logged_model(run.info.experiment_id, MODEL, run_id, params=run.data.params)
    return str(made.model_id)


def _rename(client: mlflow.MlflowClient, journal: Journal, run_id: str, name: str) -> None:
    """Only a name that MLflow made up gives way: one that was given stays."""
    if is_random_name(client.get_run(run_id).info.run_name):
        client.update_run(run_id, name=name)


def _go_on(client: mlflow.MlflowClient, journal: Journal, run_id: str, tags: dict[str, str]) -> None:
    client.update_run(run_id, status="RUNNING")
    if FAILURE in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, FAILURE)
    _tags(client, journal, run_id, tags)


def _end(
    client: mlflow.MlflowClient,
    journal: Journal,
    run_id: str,
    status: str,
    reason: str,
    at: int,
    unless_known: bool = False,
) -> None:
    if unless_known and client.get_run(run_id).info.status != "RUNNING":
        return
    if reason:
        client.set_tag(run_id, FAILURE, reason)
    elif FAILURE in client.get_run(run_id).data.tags:  # it was interrupted once
        client.delete_tag(run_id, FAILURE)
    client.set_terminated(run_id, status, at)


def is_random_name(name: str) -> bool:
    """Whether MLflow made the name up, as it does where none is given: `bold-fox-123`."""
    words = name.split("-")
    return (
        len(words) == 3
        and words[0] in {word.lower() for word in name_utils._GENERATOR_PREDICATES}
        and words[1] in {word.lower() for word in name_utils._GENERATOR_NOUNS}
        and words[2].isdigit()
    )


def _require_sqlite(uri: str, path: Path, must_exist: bool) -> None:
    if must_exist and not path.exists():
        raise UserError(f"there is no tracking store {uri}; make a run first, or set MLFLOW_TRACKING_URI")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            patiently(lambda: connection.execute("PRAGMA schema_version"))
        with _alone_in(path.parent), tracking_store(uri):
            client_of(uri).search_experiments()
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"the tracking store {uri} cannot be opened ({first_line(error)}); set MLFLOW_TRACKING_URI to another"
        ) from None


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time: of several that make the tables of one new database, all but one would fail."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_away(error: BaseException) -> bool:
    """Whether the store may answer again: no connection, no answer in time, or a server that says `later`."""
    if any(isinstance(cause, SQLAlchemyError) for cause in _causes(error)):
        return False  # a database of ours, of which MLflow says 503 whatever is wrong with it
    if isinstance(error, MlflowException) and error.get_http_status_code() in _LATER:
        return True
    if "failed with error code 502" in str(error):  # which MLflow takes for 500
        return True
    if "too many 500 error responses" in str(error):  # which MLflow takes for something that passes
        return False
    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code in _LATER
    networks = ("requests", "urllib3")
    return not _is_mistake(error) and any(
        isinstance(cause, (ConnectionError, TimeoutError)) or type(cause).__module__.split(".")[0] in networks
        for cause in _causes(error)
    )


def _is_mistake(error: BaseException) -> bool:
    """Whether no server can be there: its name is unknown, or it does not show who it is."""
    return any(isinstance(cause, (socket.gaierror, ssl.SSLCertVerificationError)) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _root(error: BaseException) -> BaseException:
    """What went wrong first, beneath what the HTTP libraries wrapped around it."""
    return list(_causes(error))[-1]
