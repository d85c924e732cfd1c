"""What a study finds of its own in the tracking store."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LifecycleStage
from mlflow.entities import Run as MlflowRun

from pipeline.errors import UserError
from pipeline.tracking import store
from pipeline.tracking.delivery import record_end
from pipeline.tracking.journal import FINISHED, HEADER, Journal
from pipeline.tracking.names import (
    DATA_HASH,
    FINGERPRINT,
    GIT_DIRTY,
    HARDWARE,
    LOCK_HASH,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    PLAN,
    REUSED_FROM,
    STUDY,
    VARIATION,
)
from pipeline.tracking.runs import Experiment, open_journal

_MADE_BY = (FINGERPRINT, DATA_HASH, LOCK_HASH, GIT_DIRTY, HARDWARE, MLFLOW_GIT_COMMIT)

_ONE_BY_ONE = 100  # configurations: 40 take a second in a store of 10,000 runs (`benchmarks/study.py`)

Identity = tuple[str, str, str]  # variation, fingerprint, data hash


@dataclass(frozen=True)
class Found:
    """What an experiment has of a study already.

    Attributes:
        parent: the study's run to go on in, if any.
        parent_finished: whether that is finished.
        finished: the study's own runs that are finished, by what tells them apart.
        elsewhere: by (fingerprint, data hash), finished runs that the study can reuse.
    """

    parent: str | None = None
    parent_finished: bool = False
    finished: Mapping[Identity, MlflowRun] = field(default_factory=dict)
    elsewhere: Mapping[tuple[str, str], MlflowRun] = field(default_factory=dict)


def experiment(make: bool) -> Experiment:
    """The experiment where runs go; without ID where it is not there yet, unless it is to be made.

    Raises:
        StoreAwayError: a server does not answer.
        UserError: the store cannot be used.
    """
    chosen = Experiment.chosen()
    if not make and not store.exists():
        return chosen
    store.require_reachable(must_exist=not make)
    with store.tracking_store():
        client = store.client_of()
        if chosen.id:
            return Experiment(chosen.id, str(client.get_experiment(chosen.id).name))
        if make:
            return Experiment(store.make_experiment(client, str(chosen.name)), chosen.name)
        found = client.get_experiment_by_name(chosen.name)
        return Experiment(found and str(found.experiment_id), chosen.name)


def find(
    experiment: str, study: str, plans: Sequence[str], wanted: Sequence[Sequence[Identity]] | None, look_only: bool
) -> Found:
    """What an experiment has of a study; runs whose process is gone are marked as KILLED first.

    Args:
        experiment: its ID.
        study, plans: its name, and the digests of what is to be run, this version's first.
        wanted: of each run the identities that it goes by, this version's first; None = find nothing.
        look_only: change nothing in the store.

    Raises:
        StoreAwayError: a server does not answer.
        UserError: the store cannot be used.
    """
    store.require_reachable()
    with store.tracking_store():
        client = store.client_of()
        if not look_only:
            store.end_dead_runs(client, experiment)
        if wanted is None:
            return Found()
        parents = [run for plan in plans for run in runs(client, experiment, {STUDY: study, PLAN: plan})]
        parent = parents[0].info.run_id if parents else None
        own = runs(client, experiment, {MLFLOW_PARENT_RUN_ID: parent}) if parent else []
        finished = {_identity(run): run for run in own if run.info.status == FINISHED}
        missing = [each for each in wanted if not any(identity in finished for identity in each)]
        pairs = list(dict.fromkeys((fingerprint, data) for each in missing for _, fingerprint, data in each))
        elsewhere = _originals(client, experiment, pairs)
        return Found(parent, bool(parents) and parents[0].info.status == FINISHED, finished, elsewhere)


def _originals(
    client: mlflow.MlflowClient, experiment: str, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], MlflowRun]:
    """By (fingerprint, data hash), the first finished run that stands for no other.

    MLflow has no `IN` for tags: a few are asked for one by one, and for many all runs on the same data are read.
    """
    asked = [(f"= '{fingerprint}'", data) for fingerprint, data in pairs]
    if len(pairs) > _ONE_BY_ONE:
        asked = [("LIKE '%'", data) for data in dict.fromkeys(data for _, data in pairs)]
    originals: dict[tuple[str, str], MlflowRun] = {}
    for which, data in asked:
        tags = {DATA_HASH: data} if data else {}  # a project's runs have none
        conditions = [f"tags.`{FINGERPRINT}` {which}", "attributes.status = 'FINISHED'"]
        for run in runs(client, experiment, tags, *conditions):  # the newest first
            if REUSED_FROM not in run.data.tags:
                originals[run.data.tags[FINGERPRINT], data] = run
    return {pair: originals[pair] for pair in pairs if pair in originals}


def _identity(run: MlflowRun) -> Identity:
    tags = run.data.tags
    return tags.get(VARIATION, ""), tags.get(FINGERPRINT, ""), tags.get(DATA_HASH, "")


def runs(client: mlflow.MlflowClient, experiment: str, tags: Mapping[str, str], *more: str) -> list[MlflowRun]:
    """All runs of an experiment, the newest first, that have some tags and fit more of MLflow's conditions."""
    conditions = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
    found: list[MlflowRun] = []
    token = None
    while True:
        page = client.search_runs([experiment], " and ".join([*conditions, *more]), page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def artifact(run_id: str, path: str) -> bytes | None:
    """An artifact's content; None where it cannot be had."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(store.client_of().download_artifacts(run_id, path, folder)).read_bytes()
        except Exception:  # as each cloud's own library has them: no such library, no credentials, no such bucket
            return None


def is_deleted(run_id: str) -> bool:
    """Whether somebody has deleted a run in the store.

    Raises:
        StoreAwayError: a server does not answer.
    """
    try:
        with store.tracking_store():
            return bool(store.client_of().get_run(run_id).info.lifecycle_stage != LifecycleStage.ACTIVE)
    except store.StoreAwayError:
        raise
    except UserError:
        return True  # it is not even in the bin


def nest(parent: Journal, folders: Sequence[Path]) -> None:
    """Have the runs of a study that the store has already lie within its run: the one before may have been deleted."""
    parent_id = parent.sent.run_id
    with suppress(store.StoreAwayError), store.tracking_store():
        for folder in folders:
            run_id = Journal(folder).sent.run_id if parent_id and (folder / HEADER).exists() else None
            if run_id and store.client_of().get_run(run_id).data.tags.get(MLFLOW_PARENT_RUN_ID) != parent_id:
                store.client_of().set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent_id)


def link(folder: Path, name: str, origin: MlflowRun, tags: Mapping[str, str]) -> None:
    """A run that stands for `origin`: with its params, its metrics and what made it, and the tag `REUSED_FROM`.

    Raises:
        UserError: the store cannot be used.
    """
    with store.tracking_store():
        client = store.client_of()
        points = [
            (point.key, point.value, point.timestamp, point.step)
            for key in origin.data.metrics
            for point in client.get_metric_history(origin.info.run_id, key)
        ]
    journal = open_journal(folder, name, {**tags, REUSED_FROM: origin.info.run_id})
    journal.append("params", params=origin.data.params)
    journal.append("tags", tags={key: origin.data.tags[key] for key in _MADE_BY if key in origin.data.tags})
    journal.append("metrics", points=points)
    record_end(journal, FINISHED)


def finished_runs(experiment: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> list[MlflowRun]:
    """The finished runs that have these tags and params.

    Raises:
        UserError: the store cannot be used.
    """
    conditions = [f"params.`{name}` = '{value}'" for name, value in params.items()]
    with store.tracking_store():
        return runs(store.client_of(), experiment, tags, "attributes.status = 'FINISHED'", *conditions)
