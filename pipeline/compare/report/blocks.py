"""What a report is made of, as data: marked texts, tables, lists, folds, pictures. Each renderer knows all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import pandas as pd

from pipeline.compare.report.values import MOST_ROWS
from pipeline.inference import Verdict

SIGNS: dict[str, str] = {
    Verdict.SUPPORTED: "\N{CHECK MARK}",
    Verdict.UNDECIDED: "\N{CHECK MARK}",
    Verdict.CONTRADICTED: "\N{MULTIPLICATION X}",
    Verdict.NEGLIGIBLE: "\N{ALMOST EQUAL TO}",
    Verdict.INCONCLUSIVE: "?",
    Verdict.CONFOUNDED: "\N{WARNING SIGN}",
    Verdict.NOT_JUDGED: "\N{EN DASH}",
}


class Span(NamedTuple):
    """A piece of text with a mark.

    Its kinds: `name` is a user's text, `warning` and `flag` stand beside what is before them, `below` stands beneath
    it in the page, `detail` is shown only by the page, which has room for it, and `next` begins another entry.
    """

    text: str
    kind: Literal["", "name", "verdict", "role", "warning", "flag", "best", "below", "detail", "code", "next"] = ""
    link: str = ""  # an address, or `#` and an anchor of the page


Line = tuple[Span, ...]


def text_of(line: Line) -> str:
    """A line without its marks: `supported, confounded by decoder_hidden`."""
    text = ""
    for span in line:
        if span.kind not in ("detail", "next"):
            gap = "" if not text or text.endswith("; ") else ", " if span.kind in ("warning", "flag") else " "
            text += gap + span.text
        elif span.kind == "next":
            text += "; "
    return text


@dataclass(frozen=True)
class Paragraph:
    """One or more sentences."""

    line: Line
    only: str = ""  # the one renderer that shows it; empty = all


@dataclass(frozen=True)
class Item:
    """An item of a list: a title and a text behind a label, any of which may be empty, and what stands beneath."""

    text: str = ""
    title: Span | None = None
    label: Span | None = None
    notes: Sequence[str] = ()
    details: Sequence[tuple[str, Line]] = ()  # what they are and a list of them, on the page only


@dataclass(frozen=True)
class Items:
    """A list. With an anchor, its items are `#anchor-1` and so on in the page."""

    items: Sequence[Item]
    anchor: str = ""


@dataclass(frozen=True)
class Column:
    """The heading of a column, and whether it has numbers."""

    name: str
    unit: str = ""
    number: bool = False

    @property
    def heading(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    As cards, which the terminal and the page show in place of the table, a row is a verdict, a title and lines.
    """

    label: str
    columns: Sequence[Column]
    rows: Sequence[tuple[Line, ...]]
    cards: bool = False
    anchor: str = ""
    most: int = MOST_ROWS  # rows that are shown
    unfold: bool = False  # whether the page shows the others in a fold; else it counts them
    only: str = ""

    def part(self, first: int, last: int | None = None) -> Table:
        """The first column and some of the others."""
        places = [0, *range(first, len(self.columns) if last is None else min(last, len(self.columns)))]
        rows = [tuple(row[place] for place in places) for row in self.rows]
        return replace(self, columns=[self.columns[place] for place in places], rows=rows)

    def frame(self) -> pd.DataFrame:
        """As a frame of texts; a heading that is there already (a parameter may be called `runs`) gets a number."""
        names = [column.heading for column in self.columns]
        unique = [
            name if (n := names[: place + 1].count(name)) == 1 else f"{name} ({n})" for place, name in enumerate(names)
        ]
        return pd.DataFrame([[text_of(cell) for cell in row] for row in self.rows], columns=unique, dtype=object)


@dataclass(frozen=True)
class Fold:
    """What a reader opens: blocks behind a title. Paper shows them all, but for what is on the screen only."""

    title: str
    blocks: Sequence[Block]
    only: str = ""
    screen: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture by the name of its file without an ending, what it shows in words, and what stands beneath."""

    stem: str
    alternative: str
    caption: str
    only: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Code:
    """A command."""

    text: str


@dataclass(frozen=True)
class Section:
    """Blocks under a heading; `brief` is what the terminal shows of it without `--all`."""

    title: str
    blocks: Sequence[Block]
    brief: Sequence[Block] = ()

    @property
    def anchor(self) -> str:
        """As GitHub makes it."""
        return self.title.lower().replace(" ", "-")


Block = Paragraph | Items | Table | Fold | Picture | Gallery | Code | Section


def stem(file: str) -> str:
    """The name of a picture's file without its ending."""
    return re.sub(r"\.(png|svg|jpg)$", "", file)


def paragraphs(sentences: Iterable[str]) -> list[Block]:
    """One for each."""
    return [Paragraph((Span(sentence),)) for sentence in sentences]


def bullets(sentences: Sequence[str]) -> list[Block]:
    """A list, or of one sentence a paragraph."""
    return [Items([Item(sentence) for sentence in sentences])] if len(sentences) > 1 else paragraphs(sentences)


def shown(blocks: Sequence[Block], renderer: str) -> list[Block]:
    """Those that a renderer shows."""
    return [block for block in blocks if getattr(block, "only", "") in ("", renderer)]
