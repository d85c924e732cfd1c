"""What a run records, kept on disk until the tracking store has it. Does not use MLflow.

The folder of a run:

    header.json     which run of which store it is, and the version of this format; written once
    journal.jsonl   what is to be sent, one `Line` each; only ever appended to
    sent.json       how much of that the store has
    artifacts/      files, as they shall lie in the artifact store
    model/          an MLflow model
    checkpoint.npz  where the training stands; see `training.Checkpoint`
    writer          of a study's run: the number of the process that may write; see `claim`

Beside it lies `<folder>.lock`, as long as a process works in it.

Whatever is killed at whatever moment: a line is whole or it does not count, and a file is replaced as a whole. A
power cut takes the last seconds of whatever was not made durable, so the order is: files, then the lines that name
them, then the checkpoint, then `sent.json`; nothing is believed that the journal does not hold.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any

import psutil
from platformdirs import user_state_path
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import NotRequired, TypedDict

from pipeline.errors import UserError, first_line
from pipeline.texts import quoted, redacted
from pipeline.tracking.locks import alone_at, is_locked
from pipeline.tracking.names import HEARTBEAT, OWNER

HEADER, LINES, SENT, CHECKPOINT = "header.json", "journal.jsonl", "sent.json", "checkpoint.npz"
ARTIFACTS, MODEL = "artifacts", "model"
WRITER = "writer"  # the number of the process that may write
RUNS, STUDIES, ASIDE, DAMAGED = "runs", "studies", "aside", "damaged"  # in the state folder
END = "end"  # the operation that records how a run ended
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
FORMAT = 2  # of a journal; 1 had no number, and fewer fields
_APPLICATION = "autoencoder-variations"
_END_BEGINS = json.dumps({"operation": END}).rstrip("}").encode()
_LAST_LINE = 2**16  # bytes that hold the line which records how a run ended
_LOCK_SECONDS = 30.0  # a process that was killed releases it at once; one that was asked to end, soon


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Header:
    """Which run a journal is about. `run_id` is None where the run is yet to be made in the store.

    An experiment is known by its ID, its name or both: while the store is away, nobody can ask for the other.
    `tracking_uri` is without a password.
    """

    key: str
    tracking_uri: str
    experiment_id: str | None
    experiment_name: str | None
    run_id: str | None
    name: str
    started: int  # milliseconds since 1970
    tags: dict[str, str] = field(default_factory=dict)
    version: Annotated[int, Field(le=FORMAT)] = 1


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Sent:
    """How much of a journal the store has: bytes of its lines, and what the store called the run and its model.

    `ask` is whether it may have more than `offset` says, so that it must be asked what it has before a metric is sent.
    """

    offset: Annotated[int, Field(ge=0)] = 0
    run_id: str | None = None
    model_id: str | None = None
    ask: bool = False


def _within(path: str) -> str:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError("it leaves the folder of artifacts")
    return path


_Path = Annotated[str, AfterValidator(_within)]
_Point = tuple[str, float, int, int]  # name, value, milliseconds since 1970, step
_CONTENT: dict[str, dict[str, Any]] = {
    "params": {"params": dict[str, Any]},
    "tags": {"tags": dict[str, Any]},
    "go_on": {"tags": dict[str, Any]},
    "metrics": {"points": list[_Point]},
    "dataset": {
        **dict.fromkeys(("context", "name", "digest", "source_type", "source"), str),
        **dict.fromkeys(("schema", "profile"), NotRequired[str | None]),
    },
    "artifacts": {"paths": list[_Path]},
    "model": {},
    "rename": {"name": str},
    END: {"status": str, "reason": str, "at": int, "unless_known": NotRequired[bool]},
}
_LINES: dict[str, TypeAdapter[Any]] = {
    operation: TypeAdapter(TypedDict(operation, {"operation": str, "key": NotRequired[str], **content}))  # type: ignore[operator]
    for operation, content in _CONTENT.items()
}


class DamagedJournalError(UserError):
    """A journal, or a line of one, that cannot be read."""


class SupersededError(Exception):
    """Another process has taken over what this one makes, and nobody wants to hear of it any more.

    So it was cut off from the others, which could not know whether it lived.
    """


class Journal:
    """The journal in a folder. One process writes it, any number read.

    Attributes:
        writer: the number that `claim` gave to this process; 0 = it needs none, being the only one.

    Raises:
        FileNotFoundError: there is none.
        DamagedJournalError: it cannot be read.
    """

    def __init__(self, folder: Path, writer: int = 0) -> None:
        self.folder, self.writer = folder, writer
        try:
            self.header = Header(**json.loads((folder / HEADER).read_bytes()))
        except FileNotFoundError:
            raise
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise DamagedJournalError(f"{folder / HEADER} cannot be read: {_reason(error)}") from None

    @classmethod
    def begin(cls, folder: Path, header: Header) -> Journal:
        """A new journal in `folder`; one that was there is forgotten.

        Raises:
            UserError: the folder cannot be written.
        """
        with writing(folder):
            make_folder(folder)
            for name in (LINES, SENT):
                (folder / name).unlink(missing_ok=True)
            replace_file(folder / HEADER, json.dumps(asdict(header)))
            _sync(folder.parent)
        return cls(folder)

    def append(self, operation: str, **content: Any) -> None:
        """Add an operation; the one that ends the run is durable when this returns, and all before it.

        Raises:
            UserError: the disk is full, or cannot be written; the journal stays as it was.
            SupersededError: another process writes it now.
        """
        require_newest(self.folder, self.writer)
        line = (json.dumps({"operation": operation, **content}) + "\n").encode()
        with writing(self.folder), (self.folder / LINES).open("ab", buffering=0) as file:
            require_newest(self.folder, self.writer)  # still: `claim` puts another file in the place of this one
            file.truncate(self._whole())
            before = file.seek(0, os.SEEK_END)
            if file.write(line) != len(line):
                file.truncate(before)
                raise OSError("the disk is full")
            if operation == END:
                os.fsync(file.fileno())

    def sync(self) -> None:
        """Make durable what has been recorded so far.

        Raises:
            UserError: the disk cannot be written.
        """
        with writing(self.folder), suppress(FileNotFoundError):
            _sync(self.folder / LINES)

    def read(self, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """The operations from byte `offset` on, each with the byte where it ends.

        Raises:
            DamagedJournalError: a line cannot be read.
        """
        try:
            with (self.folder / LINES).open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # being written, or what a kill left
                    content = self._parsed(line, offset)
                    offset += len(line)
                    yield content, offset
        except FileNotFoundError:
            return

    def _parsed(self, line: bytes, offset: int) -> dict[str, Any]:
        try:
            content = json.loads(line)
            return dict(_LINES[content["operation"]].validate_python(content))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            where = f"the line at byte {offset} of {self.folder / LINES}"
            raise DamagedJournalError(f"{where} cannot be read: {_reason(error)}") from None

    def repair(self) -> str | None:
        """Take out the lines that cannot be read, or whose files are gone; returns what was done, if anything.

        To be called before anything is appended to a journal of an earlier process.

        What is left is not a finished run, so that whoever can records what is missing again. The journal as it was is
        kept in the state folder's `DAMAGED`. To be called by the process that has the lock.

        Raises:
            UserError: the disk cannot be written.
        """
        aside = _unique(state_folder() / DAMAGED / self.folder.name)
        with writing(self.folder):
            if (self.folder / SENT).is_dir():
                make_folder(aside)
                (self.folder / SENT).rename(aside / SENT)
            path = self.folder / LINES
            lines = path.read_bytes()[: self._whole()].splitlines(keepends=True) if path.exists() else []
        if self.sent.ask:  # noted now: what is appended from here on might seem to bear out what was noted before
            self.mark_sent()
        kept, offset, trusted = [], 0, self.sent.offset
        for line in lines:
            with suppress(DamagedJournalError):
                content = self._parsed(line, offset)
                if offset < trusted or self._has_files_of(content):
                    kept.append(line)
            offset += len(line)
        if len(kept) == len(lines):
            return None
        with writing(self.folder):
            make_folder(aside)
            for name in (HEADER, LINES, SENT):
                if (self.folder / name).is_file():
                    shutil.copy(self.folder / name, aside)
        self.mark_sent(offset=0, ask=True)
        with writing(self.folder):
            replace_file(path, b"".join(line for line in kept if not line.startswith(_END_BEGINS)))
        lost = len(lines) - len(kept)
        return f"{self.header.name}: {lost} of {len(lines)} lines of its journal could not be read (kept in {aside})"

    def _has_files_of(self, line: dict[str, Any]) -> bool:
        if line["operation"] == "model":
            return (self.folder / MODEL / "MLmodel").is_file()
        return all((self.folder / ARTIFACTS / path).is_file() for path in line.get("paths", ()))

    @property
    def ending(self) -> dict[str, Any] | None:
        """The last operation, where that records how the run ended."""
        end = self._whole()
        try:
            with (self.folder / LINES).open("rb") as file:
                file.seek(max(0, end - _LAST_LINE))
                lines = file.read(min(end, _LAST_LINE)).splitlines()
        except FileNotFoundError:
            return None
        return self._parsed(lines[-1], end - len(lines[-1])) if lines and lines[-1].startswith(_END_BEGINS) else None

    @property
    def status(self) -> str | None:
        """How the run ended; None where it did not, or that was not recorded."""
        return (self.ending or {}).get("status")

    @property
    def sent(self) -> Sent:
        """How much of it the store has. What the journal does not bear out is not believed, and sent once more."""
        try:
            sent = Sent(**json.loads((self.folder / SENT).read_bytes()))
        except FileNotFoundError:
            return Sent(run_id=self.header.run_id, ask=self.header.run_id is not None)
        except (OSError, ValueError, TypeError, RecursionError):  # what a power cut left
            return Sent(run_id=self.header.run_id, ask=True)
        return sent if self._begins_a_line(sent.offset) else replace(sent, offset=0, ask=True)

    def _begins_a_line(self, offset: int) -> bool:
        if offset == 0:
            return True
        try:
            with (self.folder / LINES).open("rb") as file:
                file.seek(offset - 1)
                return file.read(1) == b"\n"
        except FileNotFoundError:
            return False

    def mark_sent(self, **changes: Any) -> Sent:
        """Note what the store has by now.

        Raises:
            UserError: the folder cannot be written.
        """
        sent = replace(self.sent, **changes)
        self.sync()
        with writing(self.folder):
            replace_file(self.folder / SENT, json.dumps(asdict(sent)))
        return sent

    @property
    def last_written(self) -> int:
        """When it was written to for the last time, in milliseconds since 1970."""
        lines = self.folder / LINES
        return int((lines if lines.exists() else self.folder / HEADER).stat().st_mtime * 1000)

    @property
    def all_sent(self) -> bool:
        """Whether the store has the run and every line."""
        sent = self.sent
        return sent.run_id is not None and sent.offset >= self._whole()

    def remove(self) -> None:
        """Delete the folder: the store has all of it, and nobody will resume it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def move(self, tracking_uri: str) -> None:
        """Note that the store is found at another address from now on.

        Raises:
            UserError: the folder cannot be written.
        """
        self.header = replace(self.header, tracking_uri=tracking_uri)
        with writing(self.folder):
            replace_file(self.folder / HEADER, json.dumps(asdict(self.header)))

    def forget_sent(self) -> None:
        """Have everything sent once more, to a new run."""
        (self.folder / SENT).unlink(missing_ok=True)

    def remove_files(self) -> None:
        """Delete the files that the store has now, and keep the lines."""
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


def begin_launched(run_id: str, name: str) -> None:
    """Keep on disk, as the first thing of all, that `mlflow run` opened a run for this process: so it will be ended.

    Raises:
        UserError: the folder cannot be written.
    """
    life = signs_of_life()
    uri, experiment = absolute(os.environ.get("MLFLOW_TRACKING_URI", "")), os.environ.get("MLFLOW_EXPERIMENT_ID")
    header = Header(uuid.uuid4().hex, redacted(uri), experiment, None, run_id, name, now(), life, FORMAT)
    journal = Journal.begin(state_folder() / RUNS / run_id, header)
    journal.append("tags", tags=life)


def absolute(uri: str) -> str:
    """The URI of a tracking store, of a local one with an absolute path: it may be asked from another folder.

    Raises:
        FileNotFoundError: the working directory is gone.
    """
    scheme, colon, rest = uri.partition(":")
    if scheme.startswith("sqlite"):
        path = rest.removeprefix("///")
        relative = path != rest and path and not path.startswith(("/", ":memory:", "?"))
        return f"{scheme}:///{Path(path).absolute()}" if relative else uri
    if scheme == "file" and not rest.startswith("/"):
        return Path(rest).absolute().as_uri()
    return uri if colon or not uri or uri.startswith(("/", "databricks")) else str(Path(uri).absolute())


def owner() -> str:
    """This process, in a form that can be asked later whether it still runs: where, process ID, start."""
    return f"{place()} {os.getpid()} {psutil.Process().create_time():.2f}"


def place() -> str:
    """Where process IDs mean the same: a boot of a host, and in it a container; `?` where that cannot be known."""
    boot, namespace = "?", "?"
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()} {boot} {namespace}"


def is_here(tags: dict[str, str]) -> bool:
    """Whether the process that gave these signs of life is or was one whose ID means something here."""
    return tags.get(OWNER, "").startswith(f"{place()} ")


def signs_of_life() -> dict[str, str]:
    """The tags by which `is_dead` knows this process."""
    return {OWNER: owner(), HEARTBEAT: str(int(time.time()))}


def claim(folder: Path) -> int:
    """The number of a process that is going to write the journal in a folder: those before may not write any more.

    What one of them has begun to write by now goes into a file that is none any more, whenever it arrives there. To be
    called by the process that has the study's lock.

    Raises:
        UserError: the folder cannot be written.
    """
    with writing(folder):
        make_folder(folder)
        number = _writer_of(folder) + 1
        replace_file(folder / WRITER, str(number))
        lines = folder / LINES
        if lines.exists():
            before = lines.stat()
            replace_file(lines, lines.read_bytes())
            os.utime(lines, ns=(before.st_atime_ns, before.st_mtime_ns))  # `last_written`: nothing is written here
    return number


def require_newest(folder: Path, writer: int) -> None:
    """Refuse a process to write for which another one was started.

    Raises:
        SupersededError: `writer` is not the number that was claimed last.
    """
    if writer and writer != _writer_of(folder):
        raise SupersededError(f"another process has taken over what is made in {folder}")


def _writer_of(folder: Path) -> int:
    try:
        return int((folder / WRITER).read_text())
    except (FileNotFoundError, ValueError):
        return 0


@contextmanager
def locked(folder: Path, patience: float = _LOCK_SECONDS) -> Iterator[None]:
    """Be the only process that works in `folder`; the lock goes with the process, however that ends.

    Raises:
        UserError: another process has it for longer than `patience` seconds.
    """
    with ExitStack() as lock:
        with writing(folder):
            make_folder(folder.parent)
            try:
                lock.enter_context(alone_at(folder, patience))
            except TimeoutError:
                raise UserError(f"{folder} is in use by another process; wait for it, or end it") from None
        yield


def journals(root: Path, skip: Callable[[Path], bool] = lambda folder: False) -> list[Journal]:
    """The journals in `root` and in the folders below it that can be read, a study's own before those of its runs.

    Other processes may delete theirs in the meantime.

    Args:
        skip: folders whose journals are not even looked at.
    """
    found = []
    for folder in _folders(root):
        if not skip(folder):
            with suppress(FileNotFoundError, DamagedJournalError):
                found.append(Journal(folder))
    return found


def written(folder: Path) -> tuple[int, int]:
    """What changes with every line of a journal: when it was written, in nanoseconds, and the bytes of all of them."""
    with suppress(FileNotFoundError):
        found = (folder / LINES).stat()
        return found.st_mtime_ns, found.st_size
    return 0, 0


def set_aside_damaged(root: Path) -> list[str]:
    """Move what is left of journals without a header that can be read to the state folder's `DAMAGED`.

    Returns:
        A line each: what was moved, why, and where to.

    Raises:
        UserError: the disk cannot be written.
    """
    told = []
    for folder in _folders(root):
        try:
            Journal(folder)
        except (FileNotFoundError, DamagedJournalError) as error:
            if is_locked(folder) or not folder.exists():
                continue
            aside = _unique(state_folder() / DAMAGED / folder.name)
            reason = str(error) if isinstance(error, UserError) else f"{folder / HEADER} is gone"
            with writing(folder):
                make_folder(aside)
                for name in (HEADER, LINES, SENT, ARTIFACTS, MODEL, CHECKPOINT):
                    with suppress(FileNotFoundError):
                        (folder / name).rename(aside / name)
            told.append(f"{reason}; what was there is in {aside}")
    return told


def set_aside(folder: Path) -> Path:
    """Move the journals in a folder out of the way, to be delivered later; returns where to.

    Raises:
        UserError: the disk cannot be written.
    """
    aside = _unique(state_folder() / ASIDE / folder.name)
    with writing(folder):
        make_folder(aside.parent)
        folder.rename(aside)
    return aside


def now() -> int:
    """As MLflow counts: milliseconds since 1970."""
    return int(time.time() * 1000)


def _unique(path: Path) -> Path:
    return path.with_name(f"{path.name}-{uuid.uuid4().hex[:8]}")


def _folders(root: Path) -> list[Path]:
    """Those in which a journal lies or lay; links to folders are followed."""
    found, seen, damaged = [], set(), state_folder() / DAMAGED
    for name, below, files in os.walk(root, followlinks=True):
        folder, real = Path(name), os.path.realpath(name)
        if real in seen or folder == damaged:
            below.clear()
            continue
        seen.add(real)
        below[:] = [name for name in below if name not in (ARTIFACTS, MODEL, HEADER, LINES)]
        if {HEADER, LINES} & set(files) or any((folder / name).exists() for name in (HEADER, LINES)):
            found.append(folder)
    return sorted(found, key=lambda path: (len(path.parts), path))


def state_folder() -> Path:
    """Where journals lie: `$VARIATIONS_STATE`, else where a user's programs keep their state on this system.

    Raises:
        UserError: it is a file, an address, or no path at all.
    """
    chosen = os.environ.get("VARIATIONS_STATE")
    # Where it was on every system, before this followed macOS's customs: what lies there is yet to be delivered.
    before = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / _APPLICATION
    given = chosen or before
    try:
        folder = Path(given).expanduser().absolute()
        if not chosen and not folder.exists():
            folder = user_state_path(_APPLICATION, appauthor=False)
        reason = "is not a directory" if folder.exists() and not folder.is_dir() else ""
        if "://" in str(chosen):  # S3 and its like
            reason = "is an address: what runs keep is locked and added to, which takes a file system"
    except RuntimeError:  # `~`, where there is no such user, or this one has no home
        reason = "is in a home that is not known here"
    except OSError as error:
        reason = f"cannot be opened ({error.strerror})"
    if reason:
        raise UserError(
            f"{quoted(given)} {reason}; set VARIATIONS_STATE to a directory where runs can keep what is yet to be sent"
        )
    return folder


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, for nobody but the user to read."""
    for missing in [each for each in (*reversed(folder.parents), folder) if not each.exists()]:
        missing.mkdir(mode=0o700, exist_ok=True)


def _sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path, paths: Iterable[str]) -> None:
    """Make files durable that a line is going to name, and the folders that they lie in."""
    files = [folder / path for path in paths]
    for path in (*files, *{above for file in files for above in file.parents if above.is_relative_to(folder)}):
        _sync(path)


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there as a whole or not at all, after a power cut, too."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        _sync(beside)
        beside.replace(path)
        _sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What goes wrong in here is the fault of the disk, and reported in one line.

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


def _reason(error: BaseException) -> str:
    """Without what pydantic adds for programmers."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
