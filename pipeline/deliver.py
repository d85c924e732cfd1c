"""Deliver what a tracking store did not take while runs were made: everything that journals still hold.

python -m pipeline.deliver
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline import cli, journal
from pipeline.config import UserError
from pipeline.journal import Journal


class Options(BaseModel):
    """There is nothing to choose: each journal knows its store."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def main(argv: list[str] | None = None) -> int:
    """Deliver; returns the exit code."""
    about = "Send to the tracking store what it has not got of earlier runs."
    return cli.run(lambda: deliver(cli.parse_arguments(Options, argv, "pipeline.deliver", about)))


def deliver(options: Options) -> str:
    """Send all journals that no process works on; returns what to tell the user.

    A run whose process is gone without a word is marked as KILLED.

    Raises:
        UserError: a store did not take everything.
    """
    from pipeline import store

    root = journal.state_folder()
    delivered, left, busy = 0, [], 0
    for known in _outermost(root):
        if any(journal.is_locked(each.folder) for each in journal.journals(known.folder)):
            busy += 1
            continue
        with journal.locked(known.folder):
            waiting = [each for each in journal.journals(known.folder) if not each.all_sent or not each.ending]
            for each in waiting:
                if not each.ending:
                    store.end_abandoned(each)
            try:
                store.require_reachable(known.header.tracking_uri)
                store.Delivery(known.folder, known.header.tracking_uri).send()
                delivered += len(waiting)
            except UserError as error:
                left.append(f"{known.header.name} ({known.folder}): {error}")
    if left:
        raise UserError(f"{_runs(delivered)} delivered, but not {'; '.join(left)}")
    still = f"; {_runs(busy)} still being made" if busy else ""
    return f"{_runs(delivered)} delivered, nothing is left{still}"


def _outermost(root: Path) -> list[Journal]:
    found = journal.journals(root)
    folders = {known.folder for known in found}
    return [known for known in found if known.folder.parent not in folders]


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


if __name__ == "__main__":
    cli.leave(main())
