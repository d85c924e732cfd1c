"""A report on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap
from typing import Literal

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from pipeline.compare.conclusion import Conclusion
from pipeline.compare.report import blocks
from pipeline.compare.report.blocks import SIGNS, shown, text_of
from pipeline.compare.report.sections import report
from pipeline.compare.report.values import first
from pipeline.inference import Verdict

_STYLES: dict[str, str] = {
    Verdict.SUPPORTED: "bold green",
    Verdict.UNDECIDED: "bold green",
    Verdict.CONTRADICTED: "bold red",
    Verdict.NEGLIGIBLE: "bold cyan",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.CONFOUNDED: "bold magenta",
}
_MOST_CARDS, _MOST_LINES = 20, 5  # without --all
_MOST_LINES_OF_ALL = 20  # of a list
_NARROWEST_NAME = 12  # columns of a terminal, with the gap behind it
_WRAPPED = 24  # a cell without an interval that is wider may be broken


def to_terminal(
    conclusion: Conclusion,
    console: Console,
    everything: bool = False,
    where: str = "report.html",
    hint: bool = True,
) -> None:
    """Print the answer, then a block for each claim, or without claims for each variation, then what was lost.

    Args:
        console: no line is wider than it is; words and intervals are broken only where one alone is wider.
        everything: all sections of the report, but for its pictures.
        where: the file that has all of it; empty where none is written.
        hint: whether to say at the end where the rest is, that file and `--all`.
    """
    contents, printer = report(conclusion), Printer(console, everything, where)
    for sentence in (contents.headline, *contents.rest):
        printer.say(sentence)
    for section in contents.sections:
        printer.section(section)
    if not hint:
        return
    printer.say("")
    if not everything:
        places = f"{where}, or --all" if where else "--all"
        printer.say(f"Metrics by variation, threats to validity and checks: {places}.")


class Printer:
    """Prints sections; without `everything` only what is brief of them."""

    def __init__(self, console: Console, everything: bool, where: str = "report.html") -> None:
        self.console, self.everything, self.where = console, everything, where

    def section(self, section: blocks.Section) -> None:
        """A section, if it has anything for a terminal, then its parts; cards are headings of their own."""
        chosen = section.blocks if self.everything and section.blocks else section.brief
        content = [
            b for b in shown(chosen, "terminal") if not isinstance(b, blocks.Section | blocks.Picture | blocks.Gallery)
        ]
        if content and not (isinstance(content[0], blocks.Table) and content[0].cards):
            self.say("")
            self.say(section.title, style="bold", styled=len(section.title))
        for block in content:
            self.block(block)
        for part in section.blocks:
            if isinstance(part, blocks.Section):
                self.section(part)

    def block(self, block: blocks.Block) -> None:
        if isinstance(block, blocks.Paragraph):
            self.say(text_of(block.line), "  ")
        elif isinstance(block, blocks.Code):
            self.say(block.text, "  ")
        elif isinstance(block, blocks.Items):
            most = _MOST_LINES_OF_ALL if self.everything else _MOST_LINES
            for text in first(list(map(_text_of, block.items)), most):
                self.say(text, "  ")
        elif isinstance(block, blocks.Table):
            (self.cards if block.cards else self.table)(block)
        elif isinstance(block, blocks.Fold):
            self.say(f"{block.title}:", "  ")
            for inner in shown(block.blocks, "terminal"):
                self.block(inner)

    def cards(self, table: blocks.Table) -> None:
        """Of each row the verdict and the title, then its other cells and what stands beside the verdict."""
        most = table.most if self.everything else _MOST_CARDS
        for (verdict, *beside), title, *cells in table.rows[:most]:
            label = f"{SIGNS[verdict.text]} {verdict.text}" if verdict.text in SIGNS else verdict.text
            self.say("")
            self.say(f"{label}: {text_of(title)}", style=_STYLES.get(verdict.text, "bold"), styled=len(label))
            for text in [*map(text_of, cells), *(span.text for span in beside)]:
                if text:
                    self.say(text, "  ")
        if len(table.rows) > most:
            self.say("")
            self.say(f"And {len(table.rows) - most:,} more{self.where and f', in {self.where}'}.")

    def table(self, table: blocks.Table) -> None:
        """A table; where the terminal is too narrow, in parts that each begin with the names of the rows."""
        place, unlimited = 1, self.console.options.update(max_width=10**6)

        def fits(end: int) -> bool:
            grid = self._grid(table.part(place, end))
            return Measurement.get(self.console, unlimited, grid).minimum <= self.console.width

        while place < len(table.columns):
            end = next(filter(fits, range(len(table.columns), place, -1)), place + 1)
            self.console.print(self._grid(table.part(place, end)))
            place = end
        if len(table.rows) > table.most:
            self.say(f"And {len(table.rows) - table.most:,} more rows, in conclusion.csv and conclusion.json.")

    def _grid(self, table: blocks.Table) -> Grid:
        """Names break where they must, and so does what is long; a number with its interval does not."""
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
        rows = [list(map(text_of, row)) for row in table.rows[: table.most]]
        for place, column in enumerate(table.columns):
            cells = [row[place] for row in rows]
            unit = [f"({column.unit})"] if column.unit else []
            widest = max(map(cell_len, [*column.name.split(), *unit, *cells]))
            room = self.console.width // 3 if place == 0 else self.console.width - _NARROWEST_NAME
            whole = place == 0 or widest <= _WRAPPED or any("[" in cell for cell in cells)
            fits = whole and widest <= room
            least = widest if fits else min(widest, _NARROWEST_NAME - 2)
            heading = Text("\n".join([*wrap(column.name, widest), *unit]))
            side: Literal["right", "left"] = "right" if column.number else "left"
            grid.add_column(heading, justify=side, overflow="fold", no_wrap=fits, min_width=least)
        for row in rows:
            grid.add_row(*map(Text, row))
        return grid

    def say(self, text: str, indent: str = "", style: str = "", styled: int = 0) -> None:
        """Print a text, its first characters in a style; what follows its first line is indented."""
        for number, line in enumerate(fill(text, self.console.width, indent)):
            words = Text(line)
            if number == 0:
                words.stylize(style, 0, styled)
            self.console.print(words, soft_wrap=True)


def _text_of(item: blocks.Item) -> str:
    label = f"{item.label.text}: " if item.label else ""
    return " ".join([f"{label}{item.title.text if item.title else ''}".strip(), item.text, *item.notes]).strip()


def fill(text: str, width: int, indent: str = "") -> list[str]:
    """A text as lines of at most `width` cells, broken between words, but not within `[0, 1]` or `n = 5`.

    A word that is wider than a line is cut. All lines begin with `indent`, those after the first with two blanks more.
    """
    words: Sequence[str] = re.findall(r"\S*\[[^\[\]\s]+, [^\[\]\s]+\]\S*|\(?\b[np] [<=] \S+|\S+", text)
    lines, line, begin = [], "", indent
    for word in words:
        if line and cell_len(begin + line) + 1 + cell_len(word) > width:
            lines.append(begin + line)
            line, begin = "", f"{indent}  "
        while not line and cell_len(word) > (room := max(2, width - cell_len(begin))):
            part = chop_cells(word, room)[0]
            lines.append(begin + part)
            word, begin = word[len(part) :], f"{indent}  "
        line = f"{line} {word}" if line else word
    return [*lines, begin + line] if line else [*lines, ""]
