"""MLflow's tracking store: reach it, send it what journals hold, tell its living runs from its dead ones.

A journal is sent in order, and what was sent may be sent again: a metric with the same timestamp, a tag and a
file are stored once, and a run and a model are looked for before they are made. So a store that goes away in
the middle of a call is no reason to lose or to double anything.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
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
from mlflow.entities.logged_model_status import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils import name_utils
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from pipeline.config import FAILURE, HEARTBEAT, JOURNAL, OWNER, PLAN, STUDY, UserError, first_line
from pipeline.journal import ARTIFACTS, END, FINISHED, HEADER, KILLED, MODEL, Journal, Sent, journals

STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError)
_ANSWER_SECONDS = 5  # that a server may take to answer at all; one that is down is known at once
_PAUSES = (2.0, 4.0, 8.0, 15.0)  # between two attempts to send: a commit per epoch would slow short epochs down
_PATIENCE_SECONDS = 20.0  # at the end, without any progress
_LOCKED_SECONDS = 120.0  # that SQLite's other writers may take
_HEARTBEAT_SECONDS = 30.0
_STALE_SECONDS = 600.0  # without a heartbeat from another machine
_METRICS_IN_A_BATCH = 1000  # MLflow's own limit
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

    def begin(self) -> None:
        """The first attempt, so that a mistake is known before anything long begins.

        Raises:
            UserError: the store cannot be used; one that is only away is no error.
        """
        try:
            require_reachable(self._uri)
            self.send()
        except StoreAwayError as away:
            print(f"{away}; training goes on, and what it logs is kept in {self._root}", file=sys.stderr, flush=True)

    def __enter__(self) -> Delivery:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Send what is left.

        Raises:
            UserError: not everything could be sent; not raised over an error of the body.
        """
        self._over.set()
        self._thread.join()
        trouble = self._drain()
        if trouble:
            for journal in journals(self._root):
                ending = journal.ending or {}
                end_now(journal, ending.get("status", KILLED), ending.get("reason", ""))
            kept = (
                f"the tracking store did not take everything ({trouble}); what is left is kept in {self._root}: "
                "deliver it with python -m pipeline.deliver"
            )
            if error is None:
                raise UserError(kept)
            print(kept, file=sys.stderr, flush=True)

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
                        send(journal)
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
                self._show_life()
                attempt = 0
            except (*STORE_ERRORS, UserError):
                attempt += 1  # said at the end, should it last

    def _show_life(self) -> None:
        if time.monotonic() - self._heartbeat < _HEARTBEAT_SECONDS:
            return
        for journal in journals(self._root):
            if journal.ending is None and journal.sent.run_id:
                client_of(self._uri).set_tag(journal.sent.run_id, HEARTBEAT, int(time.time()))
        self._heartbeat = time.monotonic()

    def _drain(self) -> str:
        """What kept the store from taking everything; empty where it did."""
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self.send()
                return ""
            except StoreAwayError as away:
                if time.monotonic() > give_up:
                    return str(away)
                time.sleep(1)
            except UserError as refused:
                return str(refused)


def send(journal: Journal) -> None:
    """Send what the store does not have yet of one journal.

    Raises:
        one of STORE_ERRORS: the store did not take it.
    """
    if not journal.all_sent:
        sent = journal.sent
        client = client_of(journal.header.tracking_uri)
        if sent.run_id is None:
            sent = journal.mark_sent(run_id=_make_run(client, journal, sent))
        _send_lines(client, journal, sent)


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
    try:
        journal.append(END, status=status, reason=reason, at=now())
    except UserError as full:
        print(full, file=sys.stderr, flush=True)
        end_now(journal, status, reason)


def end_now(journal: Journal, status: str, reason: str) -> None:
    """Have the store know how a run ended, whatever else it does not know of it; silent where it cannot."""
    uri, run_id = journal.header.tracking_uri, journal.sent.run_id
    if run_id:
        with suppress(UserError), tracking_store(uri):
            _end(client_of(uri), journal, run_id, status, reason, now())


def now() -> int:
    """As MLflow counts: milliseconds since 1970."""
    return int(time.time() * 1000)


def client_of(uri: str = "") -> mlflow.MlflowClient:
    """A client that gives up early instead of waiting for minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    return mlflow.MlflowClient(uri or tracking_uri())


def tracking_uri() -> str:
    """The one that MLflow would use, of SQLite with an absolute path: a journal may be sent from another folder."""
    uri = str(mlflow.get_tracking_uri())
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri


def owner() -> str:
    """This process, in a form that can be asked later whether it still runs: host, process ID, start."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def is_dead(tags: dict[str, str]) -> bool:
    """Whether the process that wrote a run is gone: by its ID on this machine, by its heartbeat on another."""
    try:
        host, process, start = tags[OWNER].rsplit(" ", 2)
    except (KeyError, ValueError):
        return False  # nobody can tell
    if host != socket.gethostname():
        return time.time() - float(tags.get(HEARTBEAT, "inf")) > _STALE_SECONDS
    try:
        return abs(psutil.Process(int(process)).create_time() - float(start)) > 1
    except psutil.NoSuchProcess:
        return True


def end_dead_runs(client: mlflow.MlflowClient, experiment_id: str) -> None:
    """Mark the runs of an experiment that are RUNNING without a process as KILLED."""
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        if is_dead(run.data.tags):
            client.set_tag(run.info.run_id, FAILURE, f"its process ended without a word: {run.data.tags[OWNER]}")
            client.set_terminated(run.info.run_id, KILLED)


def require_reachable(uri: str = "", must_exist: bool = False) -> None:
    """Find out in a moment what MLflow would find out in four minutes of trying again; make a store of SQLite.

    Raises:
        StoreAwayError: a server does not answer.
        UserError: the store cannot be used.
    """
    uri = uri or tracking_uri()
    parts = urlsplit(uri)
    if parts.scheme.startswith("sqlite"):
        _require_sqlite(uri, Path(unquote(uri.split(":///", 1)[-1].split("?")[0])), must_exist)
    elif parts.hostname:
        try:
            if parts.scheme in ("http", "https"):
                credentials = get_default_host_creds(uri)
                http_request(credentials, "/health", "GET", max_retries=0, timeout=_ANSWER_SECONDS)
            else:
                port = parts.port or _DATABASE_PORTS.get(parts.scheme.split("+")[0], 0)
                socket.create_connection((parts.hostname, port), timeout=_ANSWER_SECONDS).close()
        except (OSError, MlflowException) as error:
            kind = UserError if _has_cause(error, socket.gaierror) else StoreAwayError
            raise kind(
                f"the tracking server {uri} does not answer ({first_line(_root(error))}); "
                "start it or set MLFLOW_TRACKING_URI"
            ) from None


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
    journal.mark_sent(tried=True)
    tags = {**header.tags, JOURNAL: header.key}
    above = journal.folder.parent
    if (above / HEADER).exists():
        tags[MLFLOW_PARENT_RUN_ID] = str(Journal(above).sent.run_id)
    run = patiently(lambda: client.create_run(experiment_id, header.started, tags, header.name))
    return str(run.info.run_id)


def make_experiment(client: mlflow.MlflowClient, name: str) -> str:
    """The ID of the experiment of that name, which is made where there is none."""
    for _ in range(2):
        experiment = client.get_experiment_by_name(name)
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
            patiently(lambda: client.log_batch(run_id, metrics=metrics[:_METRICS_IN_A_BATCH], synchronous=True))
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
    patiently(lambda: sayers[operation](client, journal, run_id, **content))


def _params(client: mlflow.MlflowClient, journal: Journal, run_id: str, params: dict[str, Any]) -> None:
    """Those that are not there yet: `mlflow run` logs its own as typed, and MLflow refuses a changed one."""
    known = client.get_run(run_id).data.params
    new = [mlflow.entities.Param(key, str(value)) for key, value in params.items() if key not in known]
    client.log_batch(run_id, params=new, synchronous=True)


def _tags(client: mlflow.MlflowClient, journal: Journal, run_id: str, tags: dict[str, str]) -> None:
    entities = [mlflow.entities.RunTag(key, str(value)) for key, value in tags.items()]
    client.log_batch(run_id, tags=entities, synchronous=True)


def _dataset(client: mlflow.MlflowClient, journal: Journal, run_id: str, context: str, **fields: str) -> None:
    tags = [InputTag(MLFLOW_DATASET_CONTEXT, context)]
    client.log_inputs(run_id, [DatasetInput(Dataset(**fields), tags)])


def _artifacts(client: mlflow.MlflowClient, journal: Journal, run_id: str, paths: list[str]) -> None:
    for path in paths:
        local = journal.folder / ARTIFACTS / path
        parent = str(Path(path).parent)
        client.log_artifact(run_id, str(local), None if parent == "." else parent)


def _model(client: mlflow.MlflowClient, journal: Journal, run_id: str) -> None:
    """What `mlflow.tensorflow.log_model` does, from a model that lies on disk, in steps that can be repeated."""
    model_id = journal.sent.model_id or _make_model(client, journal, run_id)
    journal.mark_sent(model_id=model_id)
    logged = client.get_logged_model(model_id)
    folder = journal.folder / MODEL
    description = Model.load(str(folder))
    description.run_id, description.model_id, description.model_uuid = run_id, model_id, model_id
    description.artifact_path = logged.artifact_location
    description.save(str(folder / "MLmodel"))
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


def _end(client: mlflow.MlflowClient, journal: Journal, run_id: str, status: str, reason: str, at: int) -> None:
    if reason:
        client.set_tag(run_id, FAILURE, reason[:5000])  # what a tag of MLflow's holds on every store
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
            connection.execute("PRAGMA schema_version")
        with _alone_in(path.parent), tracking_store(uri):
            patiently(client_of(uri).search_experiments)
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
    if (
        isinstance(error, MlflowException)
        and hasattr(error, "json")
        and error.get_http_status_code() in (429, 502, 503, 504)
    ):
        return True
    networks = ("requests", "urllib3")
    chain = list(_causes(error))
    return any(
        isinstance(cause, (ConnectionError, TimeoutError)) or type(cause).__module__.split(".")[0] in networks
        for cause in chain
    ) and not any(isinstance(cause, socket.gaierror) for cause in chain)


def _has_cause(error: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _root(error: BaseException) -> BaseException:
    """What went wrong first, beneath what the HTTP libraries wrapped around it."""
    return list(_causes(error))[-1]
