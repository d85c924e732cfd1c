"""A conclusion for people: one list of sections (`sections`) of which the terminal, Markdown and HTML are renderers.

`values` and `sentences` are the words, `tables` the tables and the CSV, `blocks` what sections are made of. A section,
a table or a line that is added in `sections` is in all three.
"""

from pipeline.compare.report.html import to_html
from pipeline.compare.report.markdown import note, to_markdown
from pipeline.compare.report.sections import CURVES, DIGITS, FOREST
from pipeline.compare.report.tables import conclusion_csv, differences
from pipeline.compare.report.terminal import to_terminal

__all__ = [
    "CURVES",
    "DIGITS",
    "FOREST",
    "conclusion_csv",
    "differences",
    "note",
    "to_html",
    "to_markdown",
    "to_terminal",
]
