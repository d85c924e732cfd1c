"""What a run has to say, kept on disk until the tracking store has it. Knows no MLflow.

The folder of a run:

    header.json     which run of which store it is; written once
    journal.jsonl   what is to be sent, one operation a line; only ever appended to
    sent.json       how much of that the store has
    artifacts/      files, as they shall lie in the artifact store
    model/          an MLflow model
    checkpoint.npz  where the training stands; see `training.Checkpoint`
    lock            held by the process that writes the journal

Whatever is killed at whatever moment: a line is whole or it does not count, and a file is replaced as a whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from pipeline.config import UserError

HEADER, LINES, SENT, LOCK = "header.json", "journal.jsonl", "sent.json", "lock"
ARTIFACTS, MODEL = "artifacts", "model"
END = "end"  # the operation that says how a run ended
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
_END_BEGINS = json.dumps({"operation": END}).rstrip("}").encode()
_LAST_LINE = 2**16  # bytes that hold the line which says how a run ended
_LOCK_SECONDS = 30.0  # a process that was killed lets go at once; one that was told to end, soon


@dataclass(frozen=True)
class Header:
    """Which run a journal is about. `run_id` is None where the run is yet to be made in the store.

    An experiment is named by its ID or by its name: while the store is away, nobody knows the ID.
    """

    key: str
    tracking_uri: str
    experiment_id: str | None
    experiment_name: str
    run_id: str | None
    name: str
    started: int  # milliseconds since 1970
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sent:
    """How much of a journal the store has: bytes of its lines, and what the store called the run and its model."""

    offset: int = 0
    run_id: str | None = None
    model_id: str | None = None
    tried: bool = False  # whether the store was ever asked to make the run


class Journal:
    """The journal in a folder. One process writes it, any number read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header = Header(**json.loads((folder / HEADER).read_text()))

    @classmethod
    def begin(cls, folder: Path, header: Header) -> Journal:
        """A new journal in `folder`; one that was there is forgotten.

        Raises:
            UserError: the folder cannot be written.
        """
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in (HEADER, SENT, LINES):
                (folder / name).unlink(missing_ok=True)
            replace_file(folder / HEADER, json.dumps(asdict(header)))
        return cls(folder)

    def append(self, operation: str, **content: Any) -> None:
        """Add an operation.

        Raises:
            UserError: the disk is full, or cannot be written; the journal stays as it was.
        """
        line = (json.dumps({"operation": operation, **content}) + "\n").encode()
        with writing(self.folder), (self.folder / LINES).open("ab", buffering=0) as file:
            file.truncate(self._whole())
            before = file.seek(0, os.SEEK_END)
            if file.write(line) != len(line):
                file.truncate(before)
                raise OSError("the disk is full")

    def read(self, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """The operations from byte `offset` on, each with the byte where it ends."""
        try:
            with (self.folder / LINES).open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # being written, or what a kill left
                    offset += len(line)
                    yield json.loads(line), offset
        except FileNotFoundError:
            return

    @property
    def ending(self) -> dict[str, Any] | None:
        """The last operation, where that says how the run ended."""
        end = self._whole()
        try:
            with (self.folder / LINES).open("rb") as file:
                file.seek(max(0, end - _LAST_LINE))
                lines = file.read(min(end, _LAST_LINE)).splitlines()
        except FileNotFoundError:
            return None
        return dict(json.loads(lines[-1])) if lines and lines[-1].startswith(_END_BEGINS) else None

    @property
    def sent(self) -> Sent:
        """How much of it the store has."""
        try:
            return Sent(**json.loads((self.folder / SENT).read_text()))
        except FileNotFoundError:
            return Sent(run_id=self.header.run_id)
        except (ValueError, TypeError):  # what a power cut left; whatever is sent again is stored once
            return Sent(run_id=self.header.run_id, tried=True)

    def mark_sent(self, **changes: Any) -> Sent:
        """Note what the store has by now.

        Raises:
            UserError: the folder cannot be written.
        """
        sent = replace(self.sent, **changes)
        with writing(self.folder):
            replace_file(self.folder / SENT, json.dumps(asdict(sent)))
        return sent

    @property
    def last_said(self) -> int:
        """When it was written to for the last time, in milliseconds since 1970."""
        lines = self.folder / LINES
        return int((lines if lines.exists() else self.folder / HEADER).stat().st_mtime * 1000)

    @property
    def all_sent(self) -> bool:
        """Whether the store has the run and every line."""
        sent = self.sent
        return sent.run_id is not None and sent.offset >= self._whole()

    def remove(self) -> None:
        """Delete the folder: what it says is in the store, and nobody will go on with it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget_sent(self) -> None:
        """Have everything sent once more, to a new run."""
        (self.folder / SENT).unlink(missing_ok=True)

    def remove_files(self) -> None:
        """Delete what the store has now, and keep what was said."""
        for name in (ARTIFACTS, MODEL):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _whole(self) -> int:
        """The bytes of the whole lines: a kill may have left a part of one behind them."""
        try:
            with (self.folder / LINES).open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                if end == 0 or file.read(1) == b"\n":
                    return end
                file.seek(0)
                return file.read().rfind(b"\n") + 1
        except FileNotFoundError:
            return 0


@contextmanager
def locked(folder: Path, patience: float = _LOCK_SECONDS) -> Iterator[None]:
    """Be the only process that works in `folder`; the lock goes with the process, however that ends.

    Raises:
        UserError: another process has it for longer than `patience` seconds.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + patience
    while (file := _open_locked(folder)) is None:
        if time.monotonic() > give_up:
            raise UserError(f"{folder} is in use by another process; wait for it, or end it")
        time.sleep(0.1)
    with file:
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process works in `folder` at this moment."""
    try:
        with (folder / LOCK).open() as file:
            return not _try_lock(file.fileno())
    except FileNotFoundError:
        return False


def journals(root: Path) -> list[Journal]:
    """The journals in `root` and in the folders below it, a study's own before those of its runs.

    Other processes may delete theirs in the meantime.
    """
    folders = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in (ARTIFACTS, MODEL)]
        if HEADER in files:
            folders.append(Path(folder))
    found = []
    for place in sorted(folders, key=lambda path: (len(path.parts), path)):
        with suppress(FileNotFoundError):
            found.append(Journal(place))
    return found


def state_folder() -> Path:
    """Where journals lie: `$VARIATIONS_STATE`, else where the user's programs keep their state (XDG).

    Raises:
        UserError: it is a file.
    """
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "autoencoder-variations"
    folder = Path(os.environ.get("VARIATIONS_STATE") or base).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f"{folder} is no folder; set VARIATIONS_STATE to one where runs can keep what is yet to be sent"
        )
    return folder


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there as a whole or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _open_locked(folder: Path) -> TextIO | None:
    """The lock of a folder, held; None while another process has it, or has just deleted the folder."""
    path = folder / LOCK
    with writing(folder), suppress(FileNotFoundError):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
        with suppress(FileNotFoundError):
            if _try_lock(file.fileno()) and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
    return None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What goes wrong in here is the fault of the disk, and said in one line.

    Raises:
        UserError: the disk is full, or cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror or error}; "
            "make room, or set VARIATIONS_STATE to another folder"
        ) from error
