"""Rendering: a table of results as text for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_GAP = "\n"  # rich breaks a heading here; Markdown has a space instead


def number(value: float, digits: int = 4) -> str:
    """A number for a person: fixed digits where they say something, else an exponent; `-` where there is none."""
    if math.isnan(value):
        return "-"
    if value == 0 or (10**-digits <= abs(value) < 1e6):
        return f"{value:.{digits}f}"
    return f"{value:.2e}"


def terminal(table: pd.DataFrame, keys: Sequence[str], console: Console) -> None:
    """Print a table of texts; where the terminal is too narrow, in parts that each begin with the columns `keys`."""
    rest = [column for column in table.columns if column not in keys]
    while rest:
        shown = len(rest)
        while shown > 1 and _width(_rich(table, [*keys, *rest[:shown]]), console) > console.width:
            shown -= 1
        console.print(_rich(table, [*keys, *rest[:shown]]))
        rest = rest[shown:]


def markdown(table: pd.DataFrame) -> str:
    """A table of texts as a GitHub table; nothing in a cell can end the cell or the row."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
    return "".join("| " + " | ".join(markdown_text(str(cell)) for cell in row) + " |\n" for row in rows)


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV (RFC 4180), numbers in full precision; a text that a spreadsheet would compute gets a quote."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([[_csv_cell(cell) for cell in row] for row in table.astype(object).values.tolist()])
    return lines.getvalue()


def _rich(table: pd.DataFrame, columns: Sequence[str]) -> Table:
    rendered = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        rendered.add_column(Text(column.replace(" ", _GAP)), justify="right", no_wrap=True)
    for row in table[list(columns)].values.tolist():
        rendered.add_row(*(Text(str(cell)) for cell in row))
    return rendered


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=10**6), table).maximum


def markdown_text(text: str) -> str:
    """A text as one line of Markdown that stands as it is: no cell, no tag and no line ends in it."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())


def _csv_cell(cell: object) -> object:
    """See https://owasp.org/www-community/attacks/CSV_Injection."""
    return "'" + cell if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
