"""Tables as people and spreadsheets see them."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from rich.console import Console

from pipeline import report

TABLE = pd.DataFrame({"optimizer": ["adam", "a|b\n<i>"], "runs": ["1", "2"], "last loss": ["0.1", "-"]})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.09264, "0.0926"),
        (0.0, "0.0000"),
        (1e-5, "1.00e-05"),
        (-2.5, "-2.5000"),
        (float("nan"), "-"),
        (3e7, "3.00e+07"),
    ],
)
def test_a_number_for_a_person(value: float, text: str) -> None:
    assert report.number(value) == text
    assert report.number(float("inf")) == "inf"


def test_markdown_keeps_a_row_a_row() -> None:
    assert report.markdown(TABLE).splitlines() == [
        "| optimizer | runs | last loss |",
        "| --- | --- | --- |",
        "| adam | 1 | 0.1 |",
        "| a\\|b &lt;i> | 2 | - |",
    ]


def test_csv_keeps_numbers_whole_and_formulas_dead() -> None:
    table = pd.DataFrame({"name": ["=1+1", 'a,b\n"c"'], "loss": [0.1 + 0.2, float("nan")]})
    rows = list(csv.reader(io.StringIO(report.to_csv(table))))
    assert rows == [["name", "loss"], ["'=1+1", "0.30000000000000004"], ['a,b\n"c"', "nan"]]


def printed(width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    report.terminal(TABLE.assign(optimizer=["adam", "sgd"]), ["optimizer"], console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_narrow_terminal_gets_the_table_in_parts() -> None:
    assert sum("adam" in line for line in printed(80)) == 1
    narrow = printed(17)
    assert sum("adam" in line for line in narrow) == 2
    assert max(len(line) for line in narrow) <= 17
