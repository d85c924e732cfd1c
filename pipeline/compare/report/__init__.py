"""A conclusion for people: one list of sections (`sections`), and renderers for the terminal, Markdown, HTML and LaTeX.

`values` and `sentences` are the words, `tables` the tables and the CSV, `blocks` what sections are made of. A section,
a table or a line that is added in `sections` is in all of them; LaTeX has the verdicts and the results alone.
"""

from pipeline.compare.report.html import to_fragment as to_fragment
from pipeline.compare.report.html import to_html as to_html
from pipeline.compare.report.latex import to_latex as to_latex
from pipeline.compare.report.markdown import note as note
from pipeline.compare.report.markdown import to_markdown as to_markdown
from pipeline.compare.report.sections import CURVES as CURVES
from pipeline.compare.report.sections import DIGITS as DIGITS
from pipeline.compare.report.sections import FOREST as FOREST
from pipeline.compare.report.sections import SEEDS as SEEDS
from pipeline.compare.report.tables import conclusion_csv as conclusion_csv
from pipeline.compare.report.tables import differences as differences
from pipeline.compare.report.tables import seeds as seeds
from pipeline.compare.report.terminal import to_terminal as to_terminal
