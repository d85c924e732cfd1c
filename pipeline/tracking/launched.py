"""The run that `mlflow run` opened before our code began, and that nobody else will end."""

from __future__ import annotations

import os
import shutil
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import mlflow

from pipeline.errors import UserError
from pipeline.tracking import store
from pipeline.tracking.delivery import Delivery, record_end
from pipeline.tracking.journal import FINISHED, HEADER, RUNS, Journal, state_folder
from pipeline.tracking.names import GOES_ON_IN, LAUNCHED, NOTE
from pipeline.tracking.runs import ending

_LONGEST_NAME = 80  # characters, where it is made of a reason


def take_up() -> None:
    """The run that `mlflow run` opened for this process has another journal now."""
    shutil.rmtree(_folder(), ignore_errors=True)


def link(run_id: str, name: str) -> None:
    """Have the run that `mlflow run` opened beside a study's own say where the study is."""
    if LAUNCHED in os.environ and run_id != os.environ[LAUNCHED] and (_folder() / HEADER).exists():
        journal = Journal(_folder())
        journal.append("tags", tags={GOES_ON_IN: run_id, NOTE: f"The study {name} is the run {run_id}."})
        journal.append("rename", name=f"{name}, see {run_id[:8]}")


def end(error: BaseException | None, name: str) -> None:
    """End the run that `mlflow run` opened for this process, where nobody has taken it up.

    Args:
        error: what went wrong, if anything did; it makes the name, too.
        name: what a run is called that has none but a random one.
    """
    if not (_folder() / HEADER).exists():
        return
    with suppress(UserError):
        journal = Journal(_folder())
        if not journal.ending:
            status, reason = ending(error) if error else (FINISHED, "")
            if error:
                name = textwrap.shorten(f"{status.lower()}: {reason.removeprefix('UserError: ')}", _LONGEST_NAME)
            journal.append("rename", name=name)
            record_end(journal, status, reason)
        uri = store.tracking_uri()
        store.require_reachable(uri)
        Delivery(journal.folder, uri).send()


def _folder() -> Path:
    return state_folder() / RUNS / os.environ[LAUNCHED]


def keep_killed(run_id: str, launcher: int) -> None:
    """Mark a run as KILLED, at its own end time, as soon as the process `launcher` is gone; see `cli`."""
    give_up = time.monotonic() + 60
    while _is_alive(launcher) and time.monotonic() < give_up:
        time.sleep(0.1)
    client = mlflow.MlflowClient()
    client.set_terminated(run_id, "KILLED", client.get_run(run_id).info.end_time)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
