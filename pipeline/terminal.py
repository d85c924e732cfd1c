"""What is printed: readable in every encoding, never a command to the terminal, and not the end of what is at work."""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from rich import console
from rich.segment import Segment

LONGEST_LINE = 300  # characters of an error

# Escape codes and other control characters, marks that turn the direction of writing, and bytes that are no text.
# The isolates U+2068 and U+2069, which `sentences` puts around a name that runs leftwards, turn nothing beyond it.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066\u2067\ud800-\udfff]")
# What an output without UTF-8 shows instead: a minus must not become a question mark.
_PLAIN = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{ALMOST EQUAL TO}": "~",
}


def printable(text: str) -> str:
    """A text without anything that a terminal would obey: such characters as Python writes them, `\\x1b` for Escape."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def error_line(text: str) -> str:
    """A message as one line of at most `LONGEST_LINE` characters; of a longer one the middle is left out."""
    line = f"error: {printable(' '.join(text.split()))}"
    if len(line) <= LONGEST_LINE:
        return line
    end = LONGEST_LINE // 3  # what to do stands there
    return f"{line[: LONGEST_LINE - end - 5]} ... {line[-end:]}"


class Console(console.Console):
    """Rich's, to which texts are printable whatever is in them."""

    def render(
        self, renderable: console.RenderableType, options: console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Lines and their styles, as Rich asks for them."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


class Output:
    """A standard stream. Where it cannot be written any more, `error` says why, and what follows goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self.error: OSError | None = None
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, and never fail."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, and never fail."""
        self._attempt(self._stream.flush)

    def _attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
        except OSError as error:  # nobody reads it any more, or the disk is full
            self.error = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # for what is in its buffer, and for Python's last flush
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def outputs() -> Iterator[Output | None]:
    """Make standard output and standard error such streams; yields the first, None where it was closed."""
    codecs.register_error("plain", _plain)
    closed = sys.stdout is None
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # or a file that is opened later takes its number
        os.set_inheritable(descriptor, True)  # a process that trains needs them, too
    os.close(descriptor)
    out, err = (
        Output(stream or open(descriptor, "w", closefd=False))  # noqa: SIM115
        for descriptor, stream in ((1, sys.stdout), (2, sys.stderr))
    )
    for stream in (out, err):
        if hasattr(stream, "reconfigure"):  # a notebook's cannot, and need not
            stream.reconfigure(errors="plain")
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        yield None if closed else out


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end
