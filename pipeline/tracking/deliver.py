"""Deliver what a tracking store did not take while runs were made: everything that journals still hold.

python -m pipeline.deliver
python -m pipeline.deliver --to http://where.it.is.now:5000
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UserError
from pipeline.texts import command, redacted
from pipeline.tracking import journal, store
from pipeline.tracking import runs as tracking
from pipeline.tracking.delivery import Delivery, end_abandoned, require_run
from pipeline.tracking.journal import CHECKPOINT, FINISHED, Journal
from pipeline.tracking.locks import is_locked


def deliver(to: str = "") -> str:
    """Send all journals that no process works on; returns what to tell the user.

    Args:
        to: the address at which the store is found now, for what does not reach it at its own.

    A run whose process died without reporting an end is marked as KILLED; what cannot be read is moved aside and named.

    Raises:
        UserError: a store did not take everything, or something could not be read.
    """
    root = journal.state_folder()
    delivered, left, busy = 0, journal.set_aside_damaged(root), 0
    for known in _outermost(root):
        below = journal.journals(known.folder)
        if any(is_locked(each.folder) for each in below) or _is_being_made(known):
            busy += 1
            continue
        try:
            with journal.locked(known.folder):
                left += [told for told in [each.repair() for each in below] if told]
                waiting = [each for each in below if not each.all_sent or not each.ending]
                for each in waiting:
                    if not each.ending:
                        end_abandoned(each)
                _send(known, to)
                delivered += len(waiting)
        except UserError as error:
            left.append(f"{known.header.name} ({known.folder}): {error}")
    for known in journal.journals(root / journal.RUNS):
        if (known.folder / CHECKPOINT).exists() and known.status not in (None, FINISHED):
            print(f"{known.header.name} can go on: {tracking.how_to_go_on(known.sent.run_id or known.folder.name)}")
    if left:
        raise UserError(f"{_runs(delivered)} delivered; left: {'; '.join(left)}")
    still = f"; {_runs(busy)} still being made" if busy else ""
    return f"{_runs(delivered)} delivered, nothing is left{still}"


def _send(known: Journal, to: str) -> None:
    """Send a journal and those below it, to the store's own address or to the one where it is now."""
    otherwise = f"give its new address with {command('deliver')} --to ADDRESS"
    try:
        uri = store.with_password(known.header.tracking_uri)
        store.require_reachable(uri, otherwise=otherwise, seconds=store.SLOW_ANSWER_SECONDS)
    except UserError:
        if not to:
            raise
        uri = ""
    if not uri:
        uri = journal.absolute(to)
        store.require_reachable(uri, must_exist=True, otherwise="give another with --to")
        for each in journal.journals(known.folder):
            require_run(each, uri)
        for each in journal.journals(known.folder):
            each.move(redacted(uri))
    Delivery(known.folder, uri).send()


def _is_being_made(known: Journal) -> bool:
    """Whether this is of the run that `mlflow run` opened for a process that lives, and has not taken it up yet."""
    tags = known.header.tags
    launched = known.header.run_id == known.folder.name and known.ending is None
    return launched and journal.is_here(tags) and not store.is_dead(tags)


def _outermost(root: Path) -> list[Journal]:
    found = journal.journals(root)
    folders = {known.folder for known in found}
    return [known for known in found if known.folder.parent not in folders]


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"
