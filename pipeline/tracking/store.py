"""MLflow's tracking store: reach it, send it what journals hold, tell its living runs from its dead ones.

A journal is sent in order, and what was sent may be sent again: a metric with the same timestamp, a tag and a
file are stored once, and a run and a model are looked for before they are made. So a store that goes away in
the middle of a call is no reason to lose or to double anything.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import socket
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import mlflow
import psutil
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Run,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from requests.exceptions import HTTPError, InvalidURL, TooManyRedirects
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from pipeline.errors import Interrupted, UserError, first_line
from pipeline.texts import command, redacted
from pipeline.tracking import mlflow_compat
from pipeline.tracking.journal import (
    ARTIFACTS,
    CHECKPOINT,
    END,
    FAILED,
    FINISHED,
    HEADER,
    KILLED,
    MODEL,
    RUNS,
    DamagedJournalError,
    Journal,
    Sent,
    absolute,
    journals,
    now,
    place,
    replace_file,
    state_folder,
)
from pipeline.tracking.names import (
    FAILURE,
    HEARTBEAT,
    JOURNAL,
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_SOURCE_NAME,
    OWNER,
    PLAN,
    STUDY,
)

STORE_ERRORS = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)
_LATER = (429, 502, 503, 504)  # what servers answer that are overloaded, or that others stand before
_BEGIN_SECONDS = 10.0  # that the first attempt may keep a training from its beginning
_ANSWER_SECONDS = 5.0  # that a server may take to answer at all; one that is down is known at once
SLOW_ANSWER_SECONDS = 30.0  # the same where nobody waits for it but `deliver`
_PAUSES = (2.0, 4.0, 8.0, 15.0)  # between two attempts to send: a commit per epoch would slow short epochs down
_END_SECONDS = 120.0  # that the end may wait for the store in all
_SAID_SECONDS = 3.0  # of which so many pass before it is said
_PATIENCE_SECONDS = 20.0  # at the end, without any progress
_AGAIN_SECONDS = 1.0  # between two attempts at the end
_REFUSED = 3  # times that something is tried at the end which a store refuses: some refuse by chance
_LOCKED_SECONDS = 120.0  # that SQLite's other writers may take
_HEARTBEAT_SECONDS = 30.0
_STALE_SECONDS = 600.0  # without a heartbeat from another machine
_METRICS_IN_A_BATCH = 1000  # MLflow's own limit
_LONGEST_REASON = 5000  # what a tag of MLflow's holds on every store
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

Result = TypeVar("Result")


class StoreAwayError(UserError):
    """A tracking server that does not answer, and may again."""


def _within(seconds: float, call: Callable[[], Result]) -> Result:
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

        if not exists(self._uri):  # making its tables is no slowness of the store's
            require_reachable(self._uri)

        def attempt() -> None:
            require_reachable(self._uri)
            self.send()
            self._end_dead_runs()

        try:
            _within(_BEGIN_SECONDS, attempt)
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
        try:
            trouble = self._wait_for_the_rest()
            if trouble:
                if not isinstance(trouble, StoreAwayError):
                    self._tell_endings(trouble)
                if error is None:
                    raise UserError(self._kept(str(trouble)))
                print(self._kept(str(trouble)), file=sys.stderr, flush=True)
        except (KeyboardInterrupt, Interrupted):  # the user does not want to wait for the store
            print(self._kept("interrupted"), file=sys.stderr, flush=True)
            raise

    def _wait_for_the_rest(self) -> UserError | None:
        """What kept the store from taking everything; a wait that a person would notice is said, with its bound."""
        said = threading.Timer(
            _SAID_SECONDS,
            lambda: print(
                f"sending the rest to {redacted(self._uri)}: {_END_SECONDS:.0f} s at most; Ctrl-C keeps it for later",
                file=sys.stderr,
                flush=True,
            ),
        )
        said.daemon = True
        said.start()
        try:
            return _within(_END_SECONDS, self._drain)
        except StoreAwayError as slow:
            return slow
        finally:
            said.cancel()

    def _kept(self, trouble: str) -> str:
        return (
            f"the tracking store did not take everything ({redacted(trouble)}): "
            f"{command('deliver')} sends the rest, which is kept in {self._root}"
        )

    def _tell_endings(self, trouble: UserError) -> None:
        """A store that refuses something shall know at least how the runs ended, and that something is missing."""
        for journal in journals(self._root):
            if not journal.all_sent:
                ending = journal.ending or {}
                status, reason = ending.get("status", KILLED), ending.get("reason", "")
                if status == FINISHED:
                    status, reason = FAILED, f"trained, but not everything is here: {self._kept(str(trouble))}"
                end_now(journal, status, reason, ending.get("at"))

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
                        self.run_ids[journal.header.key] = send(journal, self._uri)
                except StoreAwayError:
                    raise
                except UserError as error:
                    refused = refused or error
            for journal in reversed(journals(self._root)):
                with suppress(DamagedJournalError), tracking_store(self._uri):
                    _tidy(journal, self._uri)
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
        self._thread.join()
        sent, give_up, refused = -1, 0.0, 0
        while True:
            try:
                if give_up:  # it was away: whether it is back is asked sooner than a call would know
                    require_reachable(self._uri)
                self.send()
                return None
            except StoreAwayError as away:
                by_now = sum(journal.sent.offset for journal in journals(self._root))
                if by_now > sent:
                    sent, give_up = by_now, time.monotonic() + _PATIENCE_SECONDS
                elif time.monotonic() > give_up:
                    return away
            except UserError as error:
                refused += 1
                if refused == _REFUSED:
                    return error
            time.sleep(_AGAIN_SECONDS)


def send(journal: Journal, uri: str = "") -> str:
    """Send to its store, or to the one at `uri`, what it does not have yet of a journal; returns the ID of its run.

    Raises:
        one of STORE_ERRORS: the store did not take it.
        UserError: the artifact store did not take it, the disk is full, or the journal cannot be read.
    """
    sent = journal.sent
    if not journal.all_sent:
        client = client_of(uri or with_password(journal.header.tracking_uri))
        if sent.run_id is None:
            sent = journal.mark_sent(**_made_run(client, journal))
        _send_lines(client, journal, sent)
    return str(sent.run_id)


def require_run(journal: Journal, uri: str) -> None:
    """Refuse a store that is not the one in which the run of a journal was begun.

    Raises:
        UserError: the store does not know the run.
    """
    if journal.sent.run_id:
        with tracking_store(uri):
            try:
                client_of(uri).get_run(journal.sent.run_id)
            except MlflowException as error:
                if _is_away(error):
                    raise
                raise UserError(f"the store {uri} does not have the run {journal.sent.run_id}; give another") from None


def _tidy(journal: Journal, uri: str) -> None:
    """Delete what nobody needs once the store has it; a training that did not finish may go on with it."""
    tags, ending = journal.header.tags, journal.ending
    if not ending or not journal.all_sent:
        return
    finished = ending["status"] == FINISHED
    if STUDY in tags:
        within = [other for other in journals(journal.folder) if other.folder != journal.folder]
        done = PLAN in tags and finished and all(other.all_sent and other.ending for other in within)
    else:
        done = finished or not (journal.folder / CHECKPOINT).exists()
    if not done and not (finished and PLAN not in tags and (journal.folder / ARTIFACTS).exists()):
        return
    if not has_ended(journal, uri):
        journal.mark_sent(offset=0, ask=True)  # whatever was noted, the store has not heard of it
    elif done:
        journal.remove()
    else:
        journal.remove_files()


def has_ended(journal: Journal, uri: str) -> bool:
    """Whether the store at `uri`, being asked, knows how a run ended, and everything else that its journal says.

    Raises:
        one of STORE_ERRORS: the store does not answer.
    """
    return bool(
        journal.ending and journal.all_sent and client_of(uri).get_run(journal.sent.run_id).info.status != "RUNNING"
    )


def end(journal: Journal, status: str, reason: str = "") -> None:
    """Note how a run ended; tell the store itself where the disk has no room for a line."""
    reason = reason[:_LONGEST_REASON]
    try:
        journal.append(END, status=status, reason=reason, at=now())
    except UserError as full:
        print(full, file=sys.stderr, flush=True)
        lacking = status == FINISHED and not journal.all_sent
        end_now(journal, FAILED if lacking else status, f"trained, but {full}" if lacking else reason)


def end_abandoned(journal: Journal) -> None:
    """Note that a run's process is gone without a word, unless the store knows better how it ended."""
    reason = "its process ended without a word"
    if journal.header.run_id:  # `mlflow run` opened it, and made a name up
        journal.append("rename", name=journal.header.name)
    journal.append(END, status=KILLED, reason=reason, at=journal.last_said, unless_known=True)


def end_now(journal: Journal, status: str, reason: str, at: int | None = None) -> None:
    """Have the store know how a run ended, whatever else it does not know of it; silent where it cannot."""
    run_id = journal.sent.run_id
    if run_id:
        with suppress(UserError):
            uri = with_password(journal.header.tracking_uri)
            with tracking_store(uri):
                _end(client_of(uri), journal, run_id, status, reason[:_LONGEST_REASON], at or now())


def client_of(uri: str = "") -> Any:
    """An `mlflow.MlflowClient` that soon gives up a server that is away, but bears a SQLite that is locked."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # of every run that ends, amid our own
    mlflow_compat.be_quiet_about_databases()
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
    """Mark the runs of an experiment that are RUNNING without a process as KILLED."""
    # Of what `mlflow run` opened, only the journal may know yet for which process.
    launched = {known.header.run_id: known.header.tags for known in journals(state_folder() / RUNS)}
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        tags = {**launched.get(run.info.run_id, {}), **run.data.tags}
        gone = tags.get(OWNER, "the `mlflow run` that opened it")
        if is_dead(tags) or _is_forsaken(run):
            client.set_tag(run.info.run_id, FAILURE, f"its process ended without a word: {gone}")
            client.set_terminated(run.info.run_id, KILLED)


def _is_forsaken(run: Run) -> bool:
    """Whether `mlflow run` opened a run of this project, and was gone before the project's code could say so.

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
    if parts.scheme.startswith("sqlite"):
        if not parts.path.strip("/") or ":memory:" in uri:
            raise UserError(f"{uri!r} is a store in memory, which is gone with the run; {otherwise} to a file")
        _require_sqlite(uri, _sqlite_path(uri), must_exist, otherwise)
    elif parts.hostname:
        _require_driver(uri)
        http = parts.scheme in ("http", "https")

        def ask() -> None:
            if http:
                mlflow_compat.ask_health(uri, seconds)
            else:
                address = (parts.hostname, port or _DATABASE_PORTS.get(parts.scheme.split("+")[0], 0))
                socket.create_connection(address, timeout=seconds).close()

        try:
            _within(seconds + 1, ask)
        except (OSError, MlflowException, StoreAwayError) as error:
            kind = UserError if _is_mistake(error) else StoreAwayError
            raise kind(
                f"the tracking server {uri} does not answer ({first_line(_root(error))}); start it or {otherwise}"
            ) from None
        if not http:
            with tracking_store(uri):
                _require_schema(uri, uri, must_exist, otherwise)


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
        if _is_away(error):
            raise StoreAwayError(f"the tracking server {uri} does not answer ({first_line(_root(error))})") from error
        raise UserError(f"the tracking store {uri} cannot be used: {first_line(error)}") from error


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


def _made_run(client: mlflow.MlflowClient, journal: Journal) -> dict[str, Any]:
    """What is noted of the run of a journal: it is made, or the one that a lost answer or a lost note was about.

    A study's runs lie within its own.
    """
    header = journal.header
    experiment_id = header.experiment_id or make_experiment(client, header.experiment_name or "Default")
    for run in client.search_runs([experiment_id], f"tags.{JOURNAL} = '{header.key}'", max_results=1):
        return {"run_id": str(run.info.run_id), "ask": True}
    tags = {**header.tags, JOURNAL: header.key}
    above = journal.folder.parent
    if (above / HEADER).exists():
        parent = Journal(above).sent.run_id
        if parent is None:
            raise UserError("the run of its study is not there yet")
        tags[MLFLOW_PARENT_RUN_ID] = parent
    return {"run_id": str(client.create_run(experiment_id, header.started, tags, header.name).info.run_id)}


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
    known = _KnownPoints(client, run_id) if sent.ask else None

    def flush() -> None:
        while metrics:
            client.log_batch(run_id, metrics=metrics[:_METRICS_IN_A_BATCH], synchronous=True)
            del metrics[:_METRICS_IN_A_BATCH]
        journal.mark_sent(offset=offset)

    for line, end in journal.read(sent.offset):
        operation = line.pop("operation")
        line.pop("key", None)
        if operation == "metrics":
            metrics += [Metric(*point) for point in line["points"] if known is None or point not in known]
        else:
            flush()
            _say(client, journal, run_id, operation, line)
        offset = end
    flush()
    if known is not None:
        journal.mark_sent(ask=False)


class _KnownPoints:
    """The points that a run has in the store, by name and step: one that is said again has another time."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._steps: dict[str, set[int]] = {}

    def __contains__(self, point: tuple[str, float, int, int]) -> bool:
        name, _, _, step = point
        if name not in self._steps:
            self._steps[name] = {each.step for each in self._client.get_metric_history(self._run_id, name)}
        return step in self._steps[name]


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
    """Only a name that MLflow made up gives way, or the journal's own: one that somebody gave stays."""
    known = str(client.get_run(run_id).info.run_name)
    if known == journal.header.name or mlflow_compat.is_random_name(known):
        client.update_run(run_id, name=name)


def _go_on(client: mlflow.MlflowClient, journal: Journal, run_id: str, tags: dict[str, str]) -> None:
    if not journal.sent.ask:  # else the store may know better how it ended than what is left of the journal
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


def _require_sqlite(uri: str, path: Path, must_exist: bool, otherwise: str) -> None:
    if must_exist and not path.exists():
        raise UserError(f"there is no tracking store {uri}; make a run first, or {otherwise}")
    try:
        if not must_exist:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone_in(path.parent):
                if not path.exists():
                    _make_sqlite(path)
        with path.open("rb"):
            pass  # what is not to be read is said in fewer words than SQLite's
        _require_schema(uri, f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true", must_exist, otherwise)
        if not must_exist:
            with closing(sqlite3.connect(path)) as connection:
                patiently(lambda: connection.execute("PRAGMA schema_version"))
            with _alone_in(path.parent), tracking_store(uri):
                client_of(uri).search_experiments()
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        reason = first_line(error.orig if isinstance(error, DBAPIError) and error.orig else error)
        raise UserError(f"the tracking store {uri} cannot be opened ({reason}); {otherwise} to another") from None


def _make_sqlite(path: Path) -> None:
    """MLflow's tables in a new file, which takes its name when it is whole: a kill in the middle would break it."""
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
    """Refuse a database that MLflow, being asked, would upgrade without a word, fill with its tables, or stumble over.

    Raises:
        UserError: it is of another version of MLflow, of another program, or only half made.
    """
    engine = create_engine(look_at)
    try:
        with patiently(engine.connect) as connection:
            tables = set(patiently(lambda: inspect(connection).get_table_names()))
            schema = mlflow_compat.schema(connection)
            runs = connection.execute(text("SELECT COUNT(*) FROM runs")).scalar() if "runs" in tables else 0
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
            f"the tracking store {uri} is of an older MLflow than {mlflow.__version__} (schema {found}, not {needed}): "
            f"copy it, then run `mlflow db upgrade {redacted(uri)}`, or {otherwise}"
        )
    else:
        raise UserError(
            f"the tracking store {uri} is of a newer MLflow than {mlflow.__version__} (schema {found}): "
            f"use that MLflow, or {otherwise}"
        )


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


def _root(error: BaseException) -> BaseException:
    """What went wrong first, beneath what the HTTP libraries wrapped around it."""
    return list(_causes(error))[-1]
