"""What is printed: readable in every encoding, never a command to the terminal, and not the end of what is at work."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from pipeline import terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("adam-50ep, l1=1e-05", "adam-50ep, l1=1e-05"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb\u2067c", r"a\u202eb\u2067c"),
        ("over\rwritten\x08", r"over\rwritten\x08"),
        ("no text: \udcff", r"no text: \udcff"),
        ("two\n\tlines", "two\n\tlines"),
        (
            "\u05e9\u05dc\u05d5\u05dd \u65e5\u672c\u8a9e \U0001f600",
            "\u05e9\u05dc\u05d5\u05dd \u65e5\u672c\u8a9e \U0001f600",
        ),
    ],
)
def test_only_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert terminal.printable(text) == shown


def test_a_console_styles_what_is_ours_and_writes_out_what_is_not() -> None:
    file = io.StringIO()
    table = Table()
    table.add_column("name")
    table.add_row(Text("\x1b[2Jgone", style="bold"))
    console = terminal.Console(file=file, force_terminal=True, width=60, color_system="standard", highlight=False)
    console.print(table)
    console.print("\x1b[2Jgone")
    assert "\x1b[1m" in file.getvalue()
    assert "\x1b[2J" not in file.getvalue()
    assert file.getvalue().count(r"\x1b[2J") == 2


def test_a_long_error_keeps_its_beginning_and_its_end() -> None:
    line = terminal.error_line(f"study='{'x' * 5000}' is too long;\n choose another")
    assert line.startswith("error: study='xxx")
    assert line.endswith("xxx' is too long; choose another")
    assert len(line) == terminal.LONGEST_LINE
    assert terminal.error_line("short") == "error: short"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is none here")
def test_what_cannot_be_written_is_noted_once_and_goes_nowhere() -> None:
    with open("/dev/full", "w") as full:
        output = terminal.Output(full)
        assert output.write("text") == 4
        assert output.error is None  # it is in the buffer
        output.flush()
        assert output.error is not None
        assert output.error.errno == errno.ENOSPC
        print("more", file=output, flush=True)


def test_a_minus_stays_one_where_there_is_no_such_character(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", shown)
    with terminal.outputs():
        print("\N{MINUS SIGN}0.35 \N{LEFT DOUBLE QUOTATION MARK}\u65e5\N{RIGHT DOUBLE QUOTATION MARK}", flush=True)
    assert shown.buffer.getvalue() == b'-0.35 "?"\n'
