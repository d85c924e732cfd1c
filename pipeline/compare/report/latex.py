r"""The verdicts and the results of a report as LaTeX, for a paper: nothing is needed but `\usepackage{booktabs}`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pipeline.compare.conclusion import Conclusion
from pipeline.compare.report import blocks
from pipeline.compare.report.blocks import shown, text_of
from pipeline.compare.report.sections import report

_LINE = 82  # characters of \footnotesize on a line of an article
_LEAST, _MOST, _SHORT = 15, 60, 12  # of a column of text: how narrow and how wide it may be, and what is never broken
_GAP = 2  # characters between two columns
_LONG_WORD = 10  # characters: a longer one may be broken where it is joined

_MINUS = "\N{MINUS SIGN}"
_SPECIAL = {
    **{character: f"\\{character}" for character in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # In the encoding that LaTeX begins with, these are other characters.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    _MINUS: "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{NO-BREAK SPACE}": "~",
    # Marks of `values.plain` around a name that runs from right to left.
    "\u2068": "",
    "\u2069": "",
}
_NUMBER = rf"[+{_MINUS}-]?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?|[+{_MINUS}]?\binf\b"
_NUMBERS = re.compile(
    rf"\[(?:{_NUMBER}), (?:{_NUMBER})\]"  # an interval
    rf"|\b[np] [<=] (?:{_NUMBER})"
    rf"|(?<![\w.:@/=+{_MINUS}-])(?:{_NUMBER})(?![\w@/=-]|[.:,]\d)"  # alone, and no part of a name
)


def to_latex(conclusion: Conclusion) -> str:
    r"""The verdicts, or without claims the differences from the baseline, and the results: a `table` for each.

    Letters that pdfLaTeX does not know, as of Chinese, need LuaLaTeX or XeLaTeX with a font that has them.
    """
    contents = report(conclusion)
    sections = {section.title: section for section in contents.sections}
    made = " ".join(f"{contents.title}: {conclusion.provenance.command}".split())
    texts = [f"% {made}\n% It needs \\usepackage{{booktabs}}."]
    for titles in (("Verdicts", "Differences"), ("Results",)):
        found = (sections[title] for title in titles if title in sections)
        section = next((each for each in found if any(_tables(each.blocks))), None)
        if section:
            texts.append(_float(section, contents.title))
    return "\n\n".join(texts) + "\n"


def _tables(content: Sequence[blocks.Block]) -> Iterator[blocks.Table]:
    """Those that stand in a section itself; of one that has none, those of its first fold."""
    own = [block for block in shown(content, "latex") if isinstance(block, blocks.Table)]
    folds = [block for block in content if isinstance(block, blocks.Fold)]
    yield from own or (_tables(folds[0].blocks) if folds else ())


def _float(section: blocks.Section, title: str) -> str:
    """A section's first table, what is said beneath it as its caption, and a label of both titles."""
    table = next(_tables(section.blocks))
    told = [text_of(block.line) for block in shown(section.blocks, "latex") if isinstance(block, blocks.Paragraph)]
    more = len(table.rows) - table.most
    told += [f"{more:,} more rows are in conclusion.csv."] if more > 0 else []
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    label = ":".join(filter(None, ("tab", words, section.title.lower())))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{_text(' '.join([f'{table.label}.', *told]))}}}",
            rf"\label{{{label}}}",
            *(f"\\par\\medskip\n{part}" for part in _parts(table)),
            r"\end{table}",
        ]
    )


def _parts(table: blocks.Table) -> Iterator[str]:
    """A `tabular`; where a line has no room for all of its columns, several that each begin with the names."""
    place, count = 1, len(table.columns)
    while place < count:
        narrow = (end for end in range(count, place, -1) if _least(table.part(place, end)) <= _LINE)
        end = next(narrow, place + 1)
        yield _tabular(table.part(place, end))
        place = end


def _least(table: blocks.Table) -> int:
    return sum(
        _GAP + (width if column.number else min(width, _LEAST))
        for column, width in zip(table.columns, _characters(table), strict=True)
    )


def _characters(table: blocks.Table) -> list[int]:
    """The longest line of each column; in one of numbers, an interval is a line of its own."""
    found = []
    for place, column in enumerate(table.columns):
        heading = [column.name, f"({column.unit})"] if column.number else [column.heading]
        cells = [row[place] for row in table.rows[: table.most]]
        lines = (
            (span.text for cell in cells for span in _kept(cell))
            if column.number
            else (text_of(cell) for cell in cells)
        )
        found.append(max(map(len, [*heading, *lines])))
    return found


def _kept(line: blocks.Line) -> blocks.Line:
    return tuple(span for span in line if span.kind != "detail" and (span.text or span.kind == "next"))


def _tabular(table: blocks.Table) -> str:
    longest = _characters(table)
    more = [
        0 if column.number else max(min(width, _MOST) - _LEAST, 0)
        for column, width in zip(table.columns, longest, strict=True)
    ]
    share = min(1.0, max(_LINE - _least(table), 0) / max(sum(more), 1))  # of what texts take beyond the least
    columns = [
        "r" if column.number else "l" if width <= _SHORT else _broken(min(width, _LEAST) + share * beyond)
        for column, width, beyond in zip(table.columns, longest, more, strict=True)
    ]
    heading = [_heading(column, kind) for column, kind in zip(table.columns, columns, strict=True)]
    rows = [[_cell(cell, kind) for cell, kind in zip(row, columns, strict=True)] for row in table.rows[: table.most]]
    # Not `\\`, which \raggedright in a row's last cell would change.
    lines = [" & ".join(cells) + r" \tabularnewline" for cells in (heading, *rows)]
    begin = rf"\begin{{tabular}}{{@{{}}{''.join(columns)}@{{}}}}"
    body = "\n\\addlinespace\n".join(lines[1:])
    return "\n".join([begin, r"\toprule", lines[0], r"\midrule", body, r"\bottomrule", r"\end{tabular}"])


def _broken(characters: float) -> str:
    return rf"p{{{characters / _LINE:.2f}\linewidth}}"


def _heading(column: blocks.Column, kind: str) -> str:
    if column.number:
        return _stacked([_text(column.name), *([_text(f"({column.unit})")] if column.unit else [])], "b")
    return _started(_text(column.heading), kind)


def _cell(line: blocks.Line, kind: str) -> str:
    """Of numbers, each part on a line of its own; a text as the other reports have it."""
    spans = [span._replace(text=_marked(span)) for span in _kept(line)]
    return _stacked([span.text for span in spans], "t") if kind == "r" else _started(text_of(tuple(spans)), kind)


def _stacked(lines: Sequence[str], place: str) -> str:
    if len(lines) < 2:
        return "".join(lines)
    return rf"\begin{{tabular}}[{place}]{{@{{}}r@{{}}}}" + r"\\".join(lines) + r"\end{tabular}"


def _started(text: str, kind: str) -> str:
    """A cell of text: a bracket or a star at its beginning would be an option of what ends the row above."""
    text = f"{{}}{text}" if text.startswith(("[", "*")) else text
    return rf"\raggedright {text}" if kind.startswith("p") and text else text


def _marked(span: blocks.Span) -> str:
    return escaped(span.text) if span.kind == "name" else _text(span.text, span.kind == "best")


def _text(text: str, best: bool = False) -> str:
    """A sentence of ours: its numbers, with their intervals, are formulas."""
    parts, place = [], 0
    for found in _NUMBERS.finditer(text):
        formula = _formula(found[0])
        parts += [escaped(text[place : found.start()]), rf"$\mathbf{{{formula}}}$" if best else f"${formula}$"]
        place = found.end()
    return "".join([*parts, escaped(text[place:])])


def _formula(numbers: str) -> str:
    text = numbers.replace(_MINUS, "-").replace("inf", r"\infty{}")
    text = re.sub(r"(?<=\d),(?=\d)", "{,}", text)
    return re.sub(r"(?<=\d)e([+-]?)0*(\d+)", lambda e: rf" \times 10^{{{e[1].strip('+')}{e[2]}}}", text)


def escaped(text: str) -> str:
    """A text that stands as it is: no command, formula, comment or column begins or ends in it."""
    return " ".join(_word(word) for word in text.split(" "))


def _word(word: str) -> str:
    joints = "_=/,.:" if len(word) > _LONG_WORD else ""
    safe = [_SPECIAL.get(each, each) + (r"\allowbreak{}" if each in joints else "") for each in word]
    return re.sub("-(?=-)", "-{}", "".join(safe)).removesuffix(r"\allowbreak{}")
