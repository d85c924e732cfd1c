"""A report as one page that needs no other file."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.compare.conclusion import Conclusion
from pipeline.compare.report.blocks import SIGNS, Picture, shown, stem, text_of
from pipeline.compare.report.sections import report

_PIXELS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}


def to_html(conclusion: Conclusion, pictures: Mapping[str, bytes]) -> str:
    """The report as one file.

    Args:
        pictures: PNG, JPEG, or SVG from `plots.svg`, by the name of its file with or without an ending: `forest`,
            `loss_curves`, `digits`; any other is shown among the reconstructions, under the name of the variation whose
            `file` it is.
    """
    files = {stem(file): picture for file, picture in pictures.items()}
    contents = report(conclusion, list(files))
    sections = [section for section in contents.sections if section.blocks]
    return _environment(files).get_template("report.html.jinja").render(report=contents, sections=sections)


def to_fragment(conclusion: Conclusion) -> str:
    """The answer, the verdicts and the results, as a notebook shows them: no script, no picture, no link within."""
    contents = report(conclusion)
    sections = [each for each in contents.sections if each.blocks and each.title in ("Verdicts", "Results")]
    template = _environment({}, anchors=False).get_template("fragment.html.jinja")
    return template.render(report=contents, sections=sections)


def _environment(files: Mapping[str, bytes], anchors: bool = True) -> Environment:
    """What templates are rendered in.

    Args:
        anchors: whether there are places in the page that links lead to.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"signs": SIGNS, "anchors": anchors}
    environment.filters |= {
        "whole": whole,
        "text_of": text_of,
        "kind": lambda block: type(block).__name__,
        "shown": lambda blocks: shown(blocks, "html"),
        "element": lambda picture: _element(picture, files[picture.stem]),
        "target": lambda span: span.link if anchors or not span.link.startswith("#") else "",
    }
    return environment


def whole(text: str) -> str:
    """A text in which no line of a page ends within an interval or a number such as `1e-05`."""
    glued = re.sub(r"\[([^\[\]\s]+), ([^\[\]\s]+)\]", "[\\1,\N{NO-BREAK SPACE}\\2]", text)
    glued = re.sub(r"\b([np]) ([<=]) (?=\d)", "\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}", glued)
    return re.sub(r"(?<=\de)-(?=\d)", "\N{NON-BREAKING HYPHEN}", glued)


def _element(picture: Picture, content: bytes) -> Markup:
    """A picture as an element of the page."""
    kind = next((kind for start, kind in _PIXELS.items() if content.startswith(start)), None)
    if kind:
        source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        return Markup('<img src="{}" alt="{}">').format(source, picture.alternative)
    text = content.decode()
    opening = Markup('<svg role="img" aria-label="{}"').format(picture.alternative)
    return Markup(text[text.index("<svg") :].replace("<svg", str(opening), 1))  # noqa: S704, made by plots.svg
