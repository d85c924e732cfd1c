"""Locks between processes: a file beside what is locked, which is there no longer than the lock.

Beside it, so that a folder can be moved or deleted while it is locked; and open to be written, for NFS locks neither
directories nor files that are only read. Of filelock this takes `lock_descriptor` and not `FileLock`: that leaves a
file for every run there ever was (or, being deleted, trusts the count of its links, which NFS keeps at one), and where
a file system has no locks it takes a mere file for one, which a process that is killed elsewhere leaves for ever.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from filelock import lock_descriptor


@contextmanager
def alone_at(path: Path, patience: float) -> Iterator[None]:
    """Be the only process that works at `path`; the lock goes with the process, however that ends.

    Raises:
        TimeoutError: another process has it for longer than `patience` seconds.
        OSError: the lock cannot be written, or the file system has none.
    """
    lock, give_up = lock_of(path), time.monotonic() + patience
    while (file := _open_locked(lock)) is None:
        if time.monotonic() > give_up:
            raise TimeoutError(f"another process works at {path}")
        time.sleep(0.1)
    with file:
        try:
            yield
        finally:
            with suppress(OSError):  # Windows deletes no file that is open: it stays, and is locked by nobody
                if _lies_at(lock, file):
                    lock.unlink()


def lock_of(path: Path) -> Path:
    """The file by which a process is alone at `path`."""
    return path.with_name(f"{path.name}.lock")


def is_locked(path: Path) -> bool:
    """Whether a process works at `path` at this moment."""
    try:
        with lock_of(path).open("r+") as file:
            return not lock_descriptor(file.fileno(), blocking=False)
    except OSError:  # there is none, or not a file: `journal.locked` reports that
        return False


def _open_locked(lock: Path) -> TextIO | None:
    """A lock's file, held; None while another process has it, or has just deleted it."""
    with ExitStack() as opened:
        file = opened.enter_context(lock.open("w"))
        if lock_descriptor(file.fileno(), blocking=False) and _lies_at(lock, file):
            opened.pop_all()
            return file
    return None


def _lies_at(path: Path, file: TextIO) -> bool:
    """Whether an open file is still the one at `path`; its links, which NFS counts otherwise, would not tell."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
