"""Journals on disk: whatever is killed, and whatever is full, they hold whole lines and say so."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.tracking import journal, locks
from pipeline.tracking.journal import END, FINISHED, HEADER, LINES, SENT, Header, Journal
from tests.conftest import ROOT

HEAD = Header("key", "sqlite:////nowhere.db", None, "Default", None, "a name", 1234, {"tag": "value"})


@pytest.fixture
def known(tmp_path: Path) -> Journal:
    """A journal of three operations."""
    new = Journal.begin(tmp_path / "run", HEAD)
    for n in range(3):
        new.append("tags", tags={"n": str(n), "ä\n": "two\nlines"})
    return new


def line_end(known: Journal) -> int:
    """Where the first line of a journal ends."""
    return next(end for _, end in known.read())


def operations(known: Journal, offset: int = 0) -> list[dict[str, Any]]:
    return [line for line, _ in known.read(offset)]


def test_what_was_said_is_read_back_from_any_line_on(known: Journal) -> None:
    lines = list(known.read())
    assert [line["tags"]["n"] for line, _ in lines] == ["0", "1", "2"]
    assert lines[0][0] == {"operation": "tags", "tags": {"n": "0", "ä\n": "two\nlines"}}
    assert lines[-1][1] == (known.folder / LINES).stat().st_size
    assert operations(known, lines[0][1]) == [line for line, _ in lines[1:]]
    assert operations(known, lines[-1][1]) == []
    assert Journal(known.folder).header == HEAD


def test_numbers_that_json_does_not_have_come_back(known: Journal) -> None:
    known.append("metrics", points=[("loss", value, 1, 1) for value in (float("nan"), float("inf"), -float("inf"))])
    values = [point[1] for point in operations(known)[-1]["points"]]
    assert str(values) == "[nan, inf, -inf]"


def test_a_line_that_a_kill_cut_at_any_byte_does_not_count_and_is_written_over(known: Journal) -> None:
    path = known.folder / LINES
    whole = path.read_bytes()
    before = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(before, len(whole)):
        path.write_bytes(whole[:cut])
        assert len(operations(known)) == 2, cut
        known.mark_sent(run_id="id", offset=before)
        assert known.all_sent
        assert known.ending is None
        known.append(END, status=FINISHED, reason="", at=5)
        assert not known.all_sent
        assert [line["operation"] for line in operations(known)] == ["tags", "tags", END]
        assert known.ending == {"operation": END, "status": FINISHED, "reason": "", "at": 5}


def test_a_first_line_that_was_cut_leaves_an_empty_journal(known: Journal) -> None:
    (known.folder / LINES).write_bytes(b'{"operation": "ta')
    assert operations(known) == []
    assert known.ending is None
    known.append("tags", tags={})
    assert operations(known) == [{"operation": "tags", "tags": {}}]


def test_the_ending_is_the_last_word_only(known: Journal) -> None:
    assert known.ending is None
    known.append(END, status="KILLED", reason="x" * 5000, at=1)
    known.append("tags", tags={"long": "y" * 2**17})  # longer than what is read of the end of the file
    assert known.ending is None
    known.append(END, status="FAILED", reason="ä" * 5000, at=2)
    assert known.ending
    assert (known.ending["status"], known.ending["reason"]) == ("FAILED", "ä" * 5000)


def test_a_journal_begun_again_is_another_one(known: Journal) -> None:
    known.mark_sent(run_id="old", offset=line_end(known))
    new = Journal.begin(known.folder, HEAD)
    assert operations(new) == []
    assert new.sent == journal.Sent()


def test_what_a_power_cut_left_of_sent_is_no_error_and_makes_no_second_run(known: Journal) -> None:
    known.mark_sent(run_id="id", offset=line_end(known))
    for content in (
        b"",
        b"{",
        b'{"unknown": 1}',
        b"\0\0\0",
        b"\xff",
        b"[1]",
        b'{"offset": -1}',
        b'{"offset": "x"}',
        b"null",
    ):
        (known.folder / SENT).write_bytes(content)
        assert known.sent == journal.Sent(ask=True)


def test_what_was_noted_of_lines_that_are_gone_is_not_borne_out_by_new_ones_of_their_length(known: Journal) -> None:
    content = (known.folder / LINES).read_bytes()
    known.mark_sent(run_id="id", offset=len(content))
    (known.folder / LINES).write_bytes(content[:-1])
    assert known.repair() is None
    known.append("tags", tags={"n": "9", "ä\n": "two\nlines"})
    assert (known.folder / LINES).stat().st_size == len(content)
    assert known.sent == journal.Sent(run_id="id", ask=True)


_FULL = """
import resource, sys
from pathlib import Path
from pipeline.errors import UserError
from pipeline.tracking.journal import LINES, Journal
known = Journal(Path(sys.argv[1]))
path = known.folder / LINES
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + int(sys.argv[2]),) * 2)
try:
    known.append("tags", tags={"name": "value" * 100})
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_is_said_and_leaves_the_journal_as_it_was(room: int, known: Journal) -> None:
    """The kernel lets the file grow by so many bytes: by none, or by a part of the line."""
    before = (known.folder / LINES).read_bytes()
    words = [sys.executable, "-c", _FULL, str(known.folder), str(room)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{known.folder} cannot be written: ")
    assert line.endswith("make room, or set VARIATIONS_STATE to another folder")
    assert (known.folder / LINES).read_bytes() == before
    known.append("tags", tags={"there": "is room again"})
    assert [line["tags"].get("there") for line in operations(known)] == [None, None, None, "is room again"]


def test_a_full_disk_while_it_is_noted_what_was_sent(known: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    end = line_end(known)
    known.mark_sent(run_id="id", offset=end)

    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device; make room"):
        known.mark_sent(offset=0)
    assert known.sent == journal.Sent(offset=end, run_id="id")
    assert sorted(path.name for path in known.folder.iterdir()) == [HEADER, LINES, SENT]


def test_a_short_write_is_taken_back(known: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (known.folder / LINES).read_bytes()

    class Short(FileIO):
        def write(self, content: Any) -> int:
            return super().write(content[:10])

    monkeypatch.setattr(Path, "open", lambda path, mode, **_: Short(path, mode.replace("b", "")))
    with pytest.raises(UserError, match="the disk is full"):
        known.append("tags", tags={})
    monkeypatch.undo()
    assert (known.folder / LINES).read_bytes() == before


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A process that replaces it again and again is killed; whoever reads it sees one of the two, never a part."""
    path = tmp_path / "file"
    contents = {b"a" * 300_000, b"b" * 300_000}
    code = (
        "import sys; from pathlib import Path; from pipeline.tracking.journal import replace_file\n"
        "while True:\n  for c in 'ab': replace_file(Path(sys.argv[1]), c * 300_000)"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT)
        try:
            while not path.exists():
                time.sleep(0.01)
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                assert path.read_bytes() in contents
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        assert path.read_bytes() in contents


def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert not locks.is_locked(folder)
    with journal.locked(folder):
        assert locks.is_locked(folder)
        with pytest.raises(UserError, match="is in use by another process"), journal.locked(folder, patience=0.2):
            pass
    assert not locks.is_locked(folder)
    with journal.locked(folder, patience=0):
        pass


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pipeline.tracking import journal\n"
        "with journal.locked(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        other.stdout.readline()
        assert locks.is_locked(tmp_path)
        other.kill()
        other.wait()
        with journal.locked(tmp_path, patience=5):
            pass


def test_a_lock_that_was_deleted_locks_nobody_out_and_lets_only_one_in(tmp_path: Path) -> None:
    """One waits while the holder deletes it, and is at work when the holder leaves; others come later."""
    folder, inside, most = tmp_path / "run", [0], [0]
    there: list[bool] = []

    def work(seconds: float) -> None:
        with journal.locked(folder, patience=10):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(seconds)
            there.append(locks.lock_of(folder).exists())
            inside[0] -= 1

    with journal.locked(folder):
        waiting = threading.Thread(target=work, args=(0.5,))
        waiting.start()
        time.sleep(0.3)
        locks.lock_of(folder).unlink()
        time.sleep(0.3)
    others = [threading.Thread(target=work, args=(0.3,)) for _ in range(3)]
    for other in others:
        other.start()
    for thread in (waiting, *others):
        thread.join()
    assert most == [1]
    assert there == [True] * 4
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_deleted_at_the_last_moment_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try_lock = locks.lock_descriptor
    deleted: list[bool] = []

    def deleting(descriptor: int, blocking: bool) -> bool:
        if not deleted:
            locks.lock_of(tmp_path).unlink()
            deleted.append(True)
        return try_lock(descriptor, blocking=blocking)

    monkeypatch.setattr(locks, "lock_descriptor", deleting)
    with journal.locked(tmp_path):
        assert locks.is_locked(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_where_a_file_system_has_no_locks_that_is_said(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no file is taken for a lock, which would outlive a process that is killed."""

    def without(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", without)
        says = f"run cannot be written: {os.strerror(number)}; make room, or set VARIATIONS_STATE to another folder"
        with pytest.raises(UserError, match=says), journal.locked(tmp_path / "run"):
            pass
        assert not locks.is_locked(tmp_path / "run")
    with journal.locked(tmp_path / "run", patience=0):
        pass


def test_a_folder_that_is_moved_or_deleted_while_it_is_locked_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARIATIONS_STATE", str(tmp_path / "state"))
    for leave in (lambda known: known.remove(), lambda known: journal.set_aside(known.folder)):
        folder = tmp_path / "runs" / "run"
        with journal.locked(folder):
            leave(Journal.begin(folder, HEAD))
            assert not folder.exists()
            assert locks.is_locked(folder)
        assert list((tmp_path / "runs").iterdir()) == []
    assert len(journal.journals(tmp_path / "state")) == 1


def test_a_study_comes_before_its_runs_and_what_vanishes_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("b/2", "b", "a", "b/1", "b/1/artifacts/not-one", "b/1/model/not-one"):
        Journal.begin(tmp_path / place, HEAD)
    assert [str(j.folder.relative_to(tmp_path)) for j in journal.journals(tmp_path)] == ["a", "b", "b/1", "b/2"]
    assert journal.journals(tmp_path / "nowhere") == []
    walk = os.walk

    def vanishing(root: Path, **how: Any) -> Any:
        yield from walk(root, **how)
        Journal(tmp_path / "a").remove()

    monkeypatch.setattr(os, "walk", vanishing)
    assert [j.folder.name for j in journal.journals(tmp_path)] == ["b", "1", "2"]


def _append_many(folder: Path) -> None:
    known = Journal(folder)
    for n in range(2000):
        known.append("tags", tags={"n": n, "filling": "x" * (n % 50)})
    known.append(END, status=FINISHED, reason="", at=0)


def test_a_reader_never_sees_half_a_line_while_another_process_writes(tmp_path: Path) -> None:
    known = Journal.begin(tmp_path, HEAD)
    writer = multiprocessing.get_context("spawn").Process(target=_append_many, args=(tmp_path,))
    writer.start()
    seen: list[int] = []
    offset, end = 0, time.monotonic() + 60.0
    while known.ending is None:
        assert time.monotonic() < end
        for line, after in known.read(offset):
            seen.append(line.get("tags", {}).get("n"))
            offset = after
    seen += [line.get("tags", {}).get("n") for line, _ in known.read(offset)]
    writer.join()
    assert seen == [*range(2000), None]


def test_where_journals_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VARIATIONS_STATE", str(tmp_path))
    assert journal.state_folder() == tmp_path
    monkeypatch.setenv("VARIATIONS_STATE", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert journal.state_folder() == tmp_path / "xdg" / "autoencoder-variations"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert journal.state_folder() == tmp_path / ".local" / "state" / "autoencoder-variations"


def test_where_journals_lie_on_another_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And where they lay before, which is not forgotten."""
    library = tmp_path / "Library" / "Application Support"
    monkeypatch.setattr(journal, "user_state_path", lambda name, appauthor: library / name)
    for variable in ("VARIATIONS_STATE", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert journal.state_folder() == library / "autoencoder-variations"
    (tmp_path / ".local" / "state" / "autoencoder-variations").mkdir(parents=True)
    assert journal.state_folder() == tmp_path / ".local" / "state" / "autoencoder-variations"
    monkeypatch.setenv("XDG_STATE_HOME", "~/mine")  # which platformdirs does not take for a path
    assert journal.state_folder() == library / "autoencoder-variations"
    (tmp_path / "mine" / "autoencoder-variations").mkdir(parents=True)
    assert journal.state_folder() == tmp_path / "mine" / "autoencoder-variations"


def test_when_it_was_last_written_to(known: Journal) -> None:
    os.utime(known.folder / LINES, (1000, 1000.5))
    assert known.last_written == 1000_500
    (known.folder / LINES).unlink()
    os.utime(known.folder / HEADER, (1000, 900.25))
    assert known.last_written == 900_250


def test_the_lines_are_json_that_others_can_read(known: Journal) -> None:
    for line in (known.folder / LINES).read_text().splitlines():
        assert json.loads(line)["operation"] == "tags"
    assert json.loads((known.folder / HEADER).read_text())["started"] == 1234
