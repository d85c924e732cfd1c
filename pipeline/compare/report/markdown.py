"""A report as Markdown, for GitHub and for MLflow's page of a run."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from urllib.parse import quote

from pipeline.compare.conclusion import Conclusion
from pipeline.compare.report import blocks
from pipeline.compare.report.blocks import shown, stem, text_of
from pipeline.compare.report.sections import Report, report
from pipeline.compare.report.tables import claims_table

_MOST_NOTE = 8000  # characters of a tag, in MLflow
_BESIDE = 3  # pictures in a row


def to_markdown(conclusion: Conclusion, pictures: Collection[str] = ()) -> str:
    """The report for GitHub.

    Args:
        pictures: names of the files beside it, such as `forest.png` and `Original.png`; no other is shown.
    """
    files = {stem(picture): picture for picture in pictures}
    contents = report(conclusion, list(files))
    sections = [section for section in contents.sections if section.blocks]
    links = " · ".join(f"[{each.title}](#{each.anchor})" for each in sections)
    first, rest = _answer(contents)
    texts = [f"# {escaped(contents.title)}", *first, *rest, links]
    for section in sections:
        texts += [f"## {section.title}", *_rendered(section.blocks, files)]
    return _joined(texts) + "\n"


def note(conclusion: Conclusion, where: str = "report.html") -> str:
    """What MLflow's page of the study's run says: its description, the answer and the verdicts, as Markdown.

    No longer than a tag of MLflow's can be; claims that do not fit are counted.

    Args:
        where: the file that has them; empty where none is written.
    """
    (first, rest), claims = _answer(report(conclusion)), claims_table(conclusion)
    for count in range(len(claims.rows), -1, -1):
        more = len(claims.rows) - count
        tables = [table(claims, count)] if count else []
        text = _joined([*first, *tables, *([f"And {more:,} more{where and f', in {where}'}."] if more else []), *rest])
        if len(text) <= _MOST_NOTE:
            break
    return text[:_MOST_NOTE]


def _answer(contents: Report) -> tuple[list[str], list[str]]:
    """The description and the answer; what else to know first."""
    first = [_started(escaped(contents.description))] if contents.description else []
    rest = [escaped(" ".join(contents.rest))] if contents.rest else []
    return [*first, f"**{escaped(contents.headline)}**"], rest


def _joined(texts: Sequence[str]) -> str:
    return "\n\n".join(text.rstrip() for text in texts)


def _rendered(content: Sequence[blocks.Block], files: Mapping[str, str]) -> Iterator[str]:
    for block in shown(content, "markdown"):
        if isinstance(block, blocks.Paragraph):
            yield _started(_line(block.line))
        elif isinstance(block, blocks.Items):
            yield "\n".join(line for item in block.items for line in _item(item))
        elif isinstance(block, blocks.Table):
            yield table(block, block.most)
            if (more := len(block.rows) - block.most) > 0:
                yield f"And {more:,} more rows, in conclusion.csv and conclusion.json."
        elif isinstance(block, blocks.Code):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", block.text)), default=0))
            yield f"{fence}sh\n{block.text}\n{fence}"
        elif isinstance(block, blocks.Picture):
            yield f"{_picture(block, files)}<br>\n{_started(escaped(block.caption))}"
        elif isinstance(block, blocks.Gallery):
            for place in range(0, len(block.pictures), _BESIDE):
                row = block.pictures[place : place + _BESIDE]
                cells = [_picture(each, files) for each in row], [":---:"] * len(row), [escaped(p.caption) for p in row]
                yield "".join(f"| {' | '.join(line)} |\n" for line in cells)
        elif isinstance(block, blocks.Fold):
            yield f"<details><summary>{escaped(block.title)}</summary>"
            yield from _rendered(block.blocks, files)
            yield "</details>"
        elif isinstance(block, blocks.Section):
            yield f"### {block.title}"
            yield from _rendered(block.blocks, files)


def _picture(picture: blocks.Picture, files: Mapping[str, str]) -> str:
    alternative = re.sub(r"([\[\]])", r"\\\1", escaped(picture.alternative).replace("\\]", "]"))
    return f"![{alternative}]({quote(files[picture.stem])})"


def _item(item: blocks.Item) -> Iterator[str]:
    label = [f"**{escaped(item.label.text)}**:"] if item.label else []
    title = [escaped(item.title.text)] if item.title else []
    yield f"- {_started(' '.join([*label, *title, escaped(item.text)]))}"
    for each in item.notes:
        yield f"  - {_started(escaped(each))}"


def _line(line: blocks.Line) -> str:
    """A line with its links and its best values; of links only those that lead somewhere in Markdown."""
    return text_of(tuple(span._replace(text=_marked(span, first=number == 0)) for number, span in enumerate(line)))


def _marked(span: blocks.Span, first: bool) -> str:
    text = escaped(span.text) if first else _inline(span.text)
    text = f"**{text}**" if span.kind == "best" else text
    return f"[{text}]({span.link})" if span.link == "#evidence" or span.link.startswith("http") else text


def table(rows: blocks.Table, most: int | None = None) -> str:
    """The first rows as a GitHub table; nothing in a cell can end the cell or the row."""
    lines = [
        [escaped(column.heading) for column in rows.columns],
        ["---"] * len(rows.columns),
        *([_line(cell) for cell in row] for row in rows.rows[:most]),
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _started(text: str) -> str:
    """Markdown that may begin in any way, without becoming a heading, a list or a quotation."""
    return re.sub(r"^([#>+=-]|\d+(?=[.)]))", lambda start: f"&#{ord(start[0][0])};{start[0][1:]}", text)


def escaped(text: str) -> str:
    """A text as one line of Markdown that stands as it is: no cell, tag, link, picture or emphasis begins or ends."""
    return re.sub(r"^\[", r"\\[", _inline(text))  # or it may be a definition


def _inline(text: str) -> str:
    line = " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())
    safe = re.sub(r"([\\`*|~$])", r"\\\1", line)
    safe = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", safe)  # not within a word
    safe = re.sub(r"\](?=[(\[])", r"\\]", safe)  # only so does a bracket make a link or a picture
    safe = re.sub(r"<(?=[\w/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", safe))
    return safe.replace("://", "&#58;//").replace("www.", "www&#46;")  # which GitHub makes links of
