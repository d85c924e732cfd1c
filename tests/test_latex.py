"""Verdicts and results as LaTeX, read back by a parser that knows what a `table` may contain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.compare import report
from pipeline.compare.conclusion import Conclusion
from pipeline.compare.report import latex, tables
from pipeline.compare.report.blocks import Column, Span, Table, text_of
from pipeline.compare.verify import read_conclusion
from tests.conftest import ROOT
from tests.test_report import hostile
from tests.test_sentences import NAMES, empty, sample

SPECIAL = r"50% a&b _c_ #1 ${x}$ ~ ^ \end{table} <|>` -- [z]"
PARTS = re.compile(r"\\[A-Za-z]+|\\.|[{}$&%#_^~\[\]]|[^\\{}$&%#_^~\[\]]+", re.DOTALL)
# What stands for one character, and for nothing that is seen.
LETTERS = {
    **{f"\\{each}": each for each in "{}$&#_%"},
    r"\textbackslash": "\\",
    r"\textasciitilde": "~",
    r"\textasciicircum": "^",
    r"\textless": "<",
    r"\textgreater": ">",
    r"\textbar": "|",
    r"\textasciigrave": "`",
    r"\infty": "inf",
    r"\pm": "\N{PLUS-MINUS SIGN}",
    **dict.fromkeys((r"\raggedright", r"\allowbreak", r"\mathbf", "{", "}", "$"), ""),
}


def conclusions() -> Iterator[Conclusion]:
    for folder in ("results", "results/controlled", "results/tuned"):
        yield read_conclusion(str(ROOT / folder / "conclusion.json"))
    yield from (sample(), sample(claims=()), hostile(), named(SPECIAL), empty())


def named(name: str) -> Conclusion:
    """The sample, a variation and a parameter of which has another name."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name if key == "l1" else key: renamed(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return tuple(map(renamed, value))
        return name if value == NAMES[1] else value

    return Conclusion.model_validate(renamed(sample().model_dump()) | {"title": name})


def seen(text: str) -> str:
    """What a reader sees of a piece of LaTeX, which has no character that LaTeX would take for something else."""
    assert "--" not in text  # which would be a dash
    found, formula, depth = "", False, 0
    for part in PARTS.findall(text):
        depth += (part == "{") - (part == "}")
        formula ^= part == "$"
        assert depth >= 0
        assert part in LETTERS or (formula and part in ("^", r"\times")) or not re.match(r"[\\&%#_^]", part), part
        own = part.replace("-", "\N{MINUS SIGN}") if formula else part.replace("~", "\N{NO-BREAK SPACE}")
        found += LETTERS.get(part, own)
    assert not formula
    assert depth == 0
    return found.replace(r" \times 10^", "e")


def read(text: str) -> Iterator[tuple[str, str, list[list[list[str]]]]]:
    """Of each `table` its label, its caption and its `tabular`s, each as rows of cells, as they are seen."""
    text = re.sub("^%.*\n", "", text, flags=re.MULTILINE)
    bodies = re.findall(r"^\\begin\{table\}\n(.*?)^\\end\{table\}$", text, re.MULTILINE | re.DOTALL)
    assert len(bodies) == len(re.findall(r"\\begin\{table\}", text)) == len(re.findall(r"\\end\{table\}", text))
    for body in bodies:
        style, caption, label, rest = body.split("\n", 3)
        assert style == r"\centering\footnotesize\setlength{\tabcolsep}{4pt}"
        tabulars = re.findall(
            r"^\\par\\medskip\n\\begin\{tabular\}\{@\{\}([^\n]*)@\{\}\}\n(.*?)^\\end\{tabular\}$",
            rest,
            re.MULTILINE | re.DOTALL,
        )
        assert len(tabulars) == rest.count("\\par\\medskip\n") > 0
        yield label[len(r"\label{") : -1], seen(caption[len(r"\caption{") : -1]), [rows_of(*each) for each in tabulars]


def rows_of(columns: str, content: str) -> list[list[str]]:
    kinds = re.findall(r"[rl]|p\{0\.\d\d\\linewidth\}", columns)
    assert "".join(kinds) == columns
    assert sum(float(kind[2:6]) for kind in kinds if kind[0] == "p") < 1
    top, head, middle, *rows, bottom = content.splitlines()
    assert (top, middle, bottom) == (r"\toprule", r"\midrule", r"\bottomrule")
    assert rows[1::2] == [r"\addlinespace"] * (len(rows) // 2)
    cells = [row.removesuffix(r" \tabularnewline").split(" & ") for row in (head, *rows[::2])]
    assert {len(row) for row in cells} == {len(kinds)}
    assert not [row for row in cells if row[0].startswith(("[", "*"))]  # which the end of the row before would take
    return [[cell_of(cell) for cell in row] for row in cells]


def cell_of(cell: str) -> str:
    stacked = re.fullmatch(r"\\begin\{tabular\}\[[bt]\]\{@\{\}r@\{\}\}(.*)\\end\{tabular\}", cell)
    return " ".join(map(seen, stacked[1].split(r"\\"))) if stacked else seen(cell).strip()


def texts_of(table: Table) -> list[list[str]]:
    """The cells of a table, its heading first, as other reports have them."""
    rows = [[text_of(cell) for cell in row] for row in table.rows]
    return [[column.heading for column in table.columns], *(list(map(shown, row)) for row in rows)]


def shown(text: str) -> str:
    return re.sub("[\u2068\u2069]", "", text)


@pytest.mark.parametrize("conclusion", list(conclusions()), ids=lambda each: each.title[:12])
def test_its_tables_are_those_of_the_report(conclusion: Conclusion) -> None:
    found = list(read(report.to_latex(conclusion)))
    wanted = [tables.claims_table(conclusion) if conclusion.claims else tables.pairs_table(conclusion, main=True)]
    wanted = [table for table in (*wanted, tables.results_table(conclusion)) if table.rows]
    assert len(found) == len(wanted)
    for (label, caption, parts), table in zip(found, wanted, strict=True):
        assert re.fullmatch(r"tab(:[a-z0-9-]+)?:(verdicts|differences|results)", label)
        assert caption.startswith(f"{table.label}.")
        names = [row[0] for row in texts_of(table)]
        assert all([row[0] for row in part] == names for part in parts)
        columns = [column for part in parts for column in list(zip(*part, strict=True))[1:]]
        expected = list(zip(*texts_of(table), strict=True))[1 : len(columns) + 1]
        assert columns == expected
        assert len(columns) == len(table.columns) - 1 or table is wanted[-1]  # which has further metrics in a fold


@pytest.mark.parametrize(
    ("text", "typeset"),
    [
        ("\u22120.5 [\u22120.6, +1,000.4] nats", "$-0.5$ $[-0.6, +1{,}000.4]$ nats"),
        ("corrected p < 0.001, n = 5 and 3", "corrected $p < 0.001$, $n = 5$ and $3$"),
        ("1.20e-05 [\u2212inf, inf]", r"$1.20 \times 10^{-5}$ $[-\infty{}, \infty{}]$"),
        ("2.00e+07", r"$2.00 \times 10^{7}$"),
        ("f1@5, top5, last_1, info, lr=0.1, v1.2.3 and 2026-01-02", None),
        ("95 % of -", r"$95$ \% of -"),
    ],
)
def test_the_numbers_of_a_sentence_are_formulas_and_those_of_a_name_are_not(text: str, typeset: str | None) -> None:
    assert latex._text(text) == (latex.escaped(text) if typeset is None else typeset)


def test_a_wide_table_comes_in_parts_that_fit_a_line() -> None:
    conclusion = read_conclusion(str(ROOT / "results" / "conclusion.json"))
    (_, _, one), (_, _, parts) = read(report.to_latex(conclusion))
    assert [len(one), len(parts)] == [1, 2]
    for part in parts:
        assert sum(max(map(len, re.split(r" (?=[\[(])| ", cell))) for cell in map(max, zip(*part, strict=True))) <= 82


def test_a_row_that_begins_with_a_bracket_is_no_option_of_the_one_above() -> None:
    table = Table("t", [Column("a"), Column("b")], [((Span(each, "name"),),) * 2 for each in ("[x]", "*", "x")])
    content = latex._tabular(table).removesuffix("\n\\end{tabular}").partition("\n")[2]
    assert rows_of("ll", content) == [["a", "b"], ["[x]", "[x]"], ["*", "*"], ["x", "x"]]


def test_of_very_many_variations_the_others_are_counted() -> None:
    many = [
        sample().variations[1].model_copy(update={"name": f"v{place}", "file": f"v{place}"}) for place in range(130)
    ]
    text = report.to_latex(sample(variations=(sample().variations[0], *many), claims=(), pairs=()))
    (_, caption, parts), *_ = read(text)
    assert "31 more rows are in conclusion.csv." in caption
    assert {len(part) for part in parts} == {101}
