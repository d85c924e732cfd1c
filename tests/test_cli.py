"""The command line, and files that a user names: read, or refused in one line at once."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline
from pipeline import cli
from pipeline.__main__ import SUBCOMMANDS, call
from pipeline.errors import UserError
from pipeline.study.options import Options
from pipeline.texts import command
from tests.conftest import ROOT


def test_a_file_is_read_whole_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"1234")
    assert cli.read_user_file(path, "study", 4) == b"1234"
    with pytest.raises(UserError, match="is larger than 3 bytes; give the path of a file"):
        cli.read_user_file(path, "study", 3)


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return str(folder / "pipe")


def closed(folder: Path) -> str:
    (folder / "closed").mkdir(mode=0)
    return str(folder / "closed" / "file")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: str(folder / "missing"), "missing' does not exist; give a YAML file"),
        (lambda folder: str(folder), "is a directory; give a YAML file"),
        (lambda _: "/dev/zero", "study='/dev/zero' is a pipe or a device; give a YAML file"),
        (fifo, "is a pipe or a device; give a YAML file"),
        (lambda _: "x" * 5000, r"study='x{40,}\.\.\.x{40,}' cannot be opened \(File name too long\)"),
        (lambda _: "~nobody-of-this-name/file", "is in the home of a user that is not known here"),
        (lambda _: "a\0b", r"study='a\\x00b' cannot be opened \(embedded null byte\)"),
        (lambda _: "a\ud800b\n\x1b[31m", r"study='a\\ud800b\\n\\x1b\[31m' cannot be opened"),
        pytest.param(
            closed,
            r"cannot be opened \(Permission denied\); give a YAML file",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere"),
        ),
    ],
)
def test_what_is_no_readable_file_is_one_line(make: Callable[[Path], str], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says) as error:
        cli.read_user_file(make(tmp_path), "study", 1000, "a YAML file")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 300


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), r"there is not enough memory \(MemoryError\); free some, or raise the limit \(ulimit -v\)"),
        (ImportError("libx.so: failed to map segment from shared object"), r"there is not enough memory \(libx.*"),
        (RuntimeError("can't start new thread"), "there is not enough memory .*"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/file"), ".*No space left on device: '/a/file'; free .*"),
        (OSError(errno.EMFILE, "Too many open files"), r".*Too many open files; free some, .* \(ulimit -a\)"),
        (UserError("two\nlines\x1b[0m " + "x" * 5000 + " what to do"), r"two lines\\x1b\[0m x+ \.\.\. x+ what to do"),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    error: Exception, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)

    def call() -> str:
        raise error

    assert cli.run(call) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(f"error: {says}\n", line)
    assert len(line) <= 301


def test_a_mistake_of_ours_has_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: str(1 / 0))


@pytest.mark.parametrize("words", [["--a_a", "true"], ["--a-a=true"], ["--aa_test", "false", "--a_a", "true"]])
def test_an_option_goes_on_being_known_by_its_former_name(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The last one counts: `mlflow run -P a_a=true` adds it behind what MLproject says."""
    assert cli.parse_arguments(Options, words, "pipeline.study", "").aa_test
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith(" is now called --aa_test")


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_is_there_at_once(name: str) -> None:
    """Each subcommand's, called either way, without what takes seconds to import."""
    for words in ((f"pipeline.{name}",), ("pipeline", name)):
        command = (sys.executable, "-X", "importtime", "-m", *words, "--help")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0
        assert done.stdout.startswith(f"usage: python -m {' '.join(words)} [-h]")
        imported = set(re.findall(r"\| +(\w+)$", done.stderr, re.MULTILINE))
        assert "pydantic" in imported
        assert not imported & {"mlflow", "tensorflow", "keras", "numpy", "pandas", "scipy", "matplotlib"}


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        ("--version", 0, f"variations {pipeline.__version__}\n", ""),
        ("study --power 0.9", 2, "", "error: power and detect are questions to a dry run; give dry_run, too\n"),
        ("store --all", 2, "", "error: unknown parameter 'all'; there are no parameters\n"),
        (
            "trian --epochs 1",
            2,
            "",
            "error: unknown subcommand 'trian', did you mean 'train'?; the subcommands are train, study, compare, "
            "deliver, store\n",
        ),
    ],
)
def test_one_command_calls_every_other(
    words: str, code: int, out: str, err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(words.split()) == code
    assert capsys.readouterr() == (out, err)


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_its_help_lists_them(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(argv) == 0
    told = capsys.readouterr().out
    assert re.findall(r"^  (\w+) ", told, re.MULTILINE) == list(SUBCOMMANDS)


@pytest.mark.parametrize(
    ("called", "typed"),
    [
        ("/usr/bin/variations", "variations train"),
        ("/a/pipeline/__main__.py", "python -m pipeline train"),
        ("/a/pipeline/train/__main__.py", "python -m pipeline.train"),
        ("", "python -m pipeline.train"),
    ],
)
def test_a_command_is_shown_as_it_was_called(called: str, typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert command("train") == typed


_INTERRUPTED = """
import signal
from pipeline import cli
from pipeline.errors import Interrupted
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, cli.interrupt)
try:
    print("ready", flush=True)
    while True:
        sum(range(1000))
except (KeyboardInterrupt, Interrupted):
    sum(range(1000))
    print("ended")
"""


def test_two_signals_that_come_at_once_interrupt_once_and_print_nothing() -> None:
    """Ctrl-C of a terminal, and what `mlflow run` or a study sends after it."""
    words = [sys.executable, "-c", _INTERRUPTED]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):  # so that both wait for it
            process.send_signal(number)
        printed = process.communicate(timeout=60)
    assert printed == ("ended\n", "")


@pytest.mark.parametrize(
    ("body", "code", "printed", "taken_apart"),
    [
        ("return 2", 2, "said at the end", False),
        ("return 0", 0, "said at the end", False),
        ("raise SystemExit(3)", 3, "said at the end", True),
        ("raise ZeroDivisionError", 1, "ZeroDivisionError", True),
        ("sys.stdout.close(); sys.stdout = None; return 2", 2, "", False),
        ("raise KeyboardInterrupt", 130, "", False),
    ],
)
def test_it_leaves_behind_what_libraries_say_and_does_not_take_them_apart(
    body: str, code: int, printed: str, taken_apart: bool
) -> None:
    script = f"""
import atexit, sys
from pipeline import cli
atexit.register(print, "taken apart", file=sys.stderr)
def main():
    atexit.register(print, "said at the end")
    {body}
cli.leave(main)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code
    assert printed in done.stdout + done.stderr
    assert ("taken apart" in done.stderr) == taken_apart
    assert ("Traceback" in done.stderr) == (code == 1)
