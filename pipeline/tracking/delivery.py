"""What journals hold, sent to MLflow's tracking store.

A journal is sent in order, and what was sent may be sent again: a metric with the same timestamp, a tag and a
file are stored once, and a run and a model are looked for before they are made. So a store that goes away in
the middle of a call is no reason to lose or to double anything.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model

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
    DamagedJournalError,
    Journal,
    Sent,
    journals,
    now,
    replace_file,
    written,
)
from pipeline.tracking.names import (
    FAILURE,
    HEARTBEAT,
    JOURNAL,
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_PARENT_RUN_ID,
    PLAN,
    STUDY,
)
from pipeline.tracking.store import (
    DIED,
    STORE_ERRORS,
    StoreAwayError,
    client_of,
    end_dead_runs,
    exists,
    is_away,
    make_experiment,
    require_reachable,
    root_cause,
    tracking_store,
    with_password,
    within,
)

_BEGIN_SECONDS = 10.0  # that the first attempt may keep a training from its beginning
_PAUSES = (2.0, 4.0, 8.0, 15.0)  # between two attempts to send: a commit per epoch would slow short epochs down
_END_SECONDS = 120.0  # that the end may wait for the store in all
_NOTICE_SECONDS = 3.0  # of which so many pass before the user is told
_PATIENCE_SECONDS = 20.0  # at the end, without any progress
_AGAIN_SECONDS = 1.0  # between two attempts at the end
_REFUSED = 3  # times that something is tried at the end which a store refuses: some refuse by chance
_HEARTBEAT_SECONDS = 30.0
_METRICS_IN_A_BATCH = 1000  # MLflow's own limit
_LONGEST_REASON = 5000  # what a tag of MLflow's holds on every store


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
        self._settled: dict[Path, tuple[int, int]] = {}  # by folder, what `written` was

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
            within(_BEGIN_SECONDS, attempt)
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
        """What kept the store from taking everything; a wait that one would notice is announced, with its bound."""
        notice = threading.Timer(
            _NOTICE_SECONDS,
            lambda: print(
                f"sending the rest to {redacted(self._uri)}: {_END_SECONDS:.0f} s at most; Ctrl-C keeps it for later",
                file=sys.stderr,
                flush=True,
            ),
        )
        notice.daemon = True
        notice.start()
        try:
            return within(_END_SECONDS, self._drain)
        except StoreAwayError as slow:
            return slow
        finally:
            notice.cancel()

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
            unsettled = [(journal, written(journal.folder)) for journal in self._unsettled()]
            for journal, _ in unsettled:
                try:
                    with tracking_store(self._uri):
                        self.run_ids[journal.header.key] = send(journal, self._uri)
                except StoreAwayError:
                    raise
                except UserError as error:
                    refused = refused or error
            for journal, before in reversed(unsettled):
                with suppress(DamagedJournalError), tracking_store(self._uri):
                    _tidy(journal, self._uri)
                    if PLAN not in journal.header.tags and journal.ending and journal.all_sent:
                        self._settled[journal.folder] = before
        if refused:
            raise refused

    def _unsettled(self) -> list[Journal]:
        """Those of which something may be left to do: of a study's thousands, most have ended, and were sent."""
        return journals(self._root, lambda folder: self._settled.get(folder) == written(folder))

    def _keep_sending(self) -> None:
        attempt = 0
        while not self._over.wait(_PAUSES[min(attempt, len(_PAUSES) - 1)]):
            try:
                self.send()
                attempt = 0
            except StoreAwayError:
                attempt += 1  # reported at the end, should it last
                continue
            except Exception:  # also reported at the end
                attempt += 1
            self._show_life()

    def _show_life(self) -> None:
        if time.monotonic() - self._heartbeat < _HEARTBEAT_SECONDS:
            return
        for journal in self._unsettled():
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
                if is_away(error):
                    raise
                raise UserError(f"the store {uri} does not have the run {journal.sent.run_id}; give another") from None


def _tidy(journal: Journal, uri: str) -> None:
    """Delete what nobody needs once the store has it; a training that did not finish may go on with it."""
    tags, ending = journal.header.tags, journal.ending
    if not ending or not journal.all_sent:
        return
    finished = ending["status"] == FINISHED
    if STUDY in tags:
        within = (other for other in journals(journal.folder) if other.folder != journal.folder)
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
    """Whether the store at `uri`, being asked, knows how a run ended, and has everything else of its journal.

    Raises:
        one of STORE_ERRORS: the store does not answer.
    """
    return bool(
        journal.ending and journal.all_sent and client_of(uri).get_run(journal.sent.run_id).info.status != "RUNNING"
    )


def record_end(journal: Journal, status: str, reason: str = "") -> None:
    """Note how a run ended; tell the store itself where the disk has no room for a line."""
    reason = reason[:_LONGEST_REASON]
    try:
        journal.append(END, status=status, reason=reason, at=now())
    except UserError as full:
        print(full, file=sys.stderr, flush=True)
        lacking = status == FINISHED and not journal.all_sent
        end_now(journal, FAILED if lacking else status, f"trained, but {full}" if lacking else reason)


def end_abandoned(journal: Journal) -> None:
    """Note that a run's process died without reporting an end, unless the store knows better how it ended."""
    if journal.header.run_id:  # `mlflow run` opened it, and made a name up
        journal.append("rename", name=journal.header.name)
    journal.append(END, status=KILLED, reason=DIED, at=journal.last_written, unless_known=True)


def end_now(journal: Journal, status: str, reason: str, at: int | None = None) -> None:
    """Have the store know how a run ended, whatever else it does not know of it; silent where it cannot."""
    run_id = journal.sent.run_id
    if run_id:
        with suppress(UserError):
            uri = with_password(journal.header.tracking_uri)
            with tracking_store(uri):
                _end(client_of(uri), journal, run_id, status, reason[:_LONGEST_REASON], at or now())


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
        if line["operation"] == "metrics":
            metrics += [Metric(*point) for point in line["points"] if known is None or point not in known]
        else:
            flush()
            content = {name: value for name, value in line.items() if name not in ("operation", "key")}
            _HANDLERS[line["operation"]](client, journal, run_id, **content)
        offset = end
    flush()
    if known is not None:
        journal.mark_sent(ask=False)


class _KnownPoints:
    """The points that a run has in the store, by name and step: one that is recorded again has another time."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._steps: dict[str, set[int]] = {}

    def __contains__(self, point: tuple[str, float, int, int]) -> bool:
        name, _, _, step = point
        if name not in self._steps:
            self._steps[name] = {each.step for each in self._client.get_metric_history(self._run_id, name)}
        return step in self._steps[name]


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
        if is_away(error):
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
        if is_away(error):
            raise
        where = f"artifacts of {journal.header.name} cannot be written to the store {journal.header.tracking_uri}"
        reason = first_line(root_cause(error) if isinstance(error, MlflowException) else error)
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


_HANDLERS: dict[str, Callable[..., None]] = {
    "params": _params,
    "tags": _tags,
    "dataset": _dataset,
    "artifacts": _artifacts,
    "model": _model,
    "rename": _rename,
    "go_on": _go_on,
    END: _end,
}
