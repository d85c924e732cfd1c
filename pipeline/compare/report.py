"""Rendering: a `Conclusion` as tables, as HTML, as Markdown and as CSV. The words are those of `sentences`."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pipeline.compare.conclusion import Claim, Conclusion, Metric, Pair, Variation
from pipeline.compare.evidence import Verdict
from pipeline.compare.sentences import (
    COMPLETENESS,
    LONGEST_NAME,
    MOST_LISTED,
    MOST_ROWS,
    THREATS,
    about_means,
    audits,
    best_of,
    cell_of,
    cell_text,
    chance_sentence,
    constants,
    counted,
    difference_interval,
    difference_text,
    distinct,
    label_of,
    listed,
    metric_of,
    name,
    other_notes,
    ours_text,
    p_value,
    pictures_sentences,
    plain,
    published_sentence,
    reproduced_text,
    scalar,
    seeds_compared,
    signed,
    summary,
    table_notes,
    taken_for_sentence,
    threats,
    verdict_sentence,
    wall_times,
    warnings,
    with_unit,
)

# The pictures of a report, by the names of their files; others are called after `Variation.file`.
FOREST, CURVES, DIGITS = "forest", "loss_curves", "digits"

_GAP = "\n"  # rich breaks a heading here; Markdown has a space instead
_METRICS_FIRST, _METRICS_MORE = 4, 7  # columns beside the verdict, and of each further table: as wide as paper
_MOST_BLOCKS = 20  # in the terminal, without --all
_MOST_LINES, _MOST_LINES_AT_FIRST = 20, 5  # of a section in the terminal, with and without --all
_NARROWEST_NAME = 12  # columns of a terminal, with the gap behind it
_MOST_NOTE = 8000  # characters of a tag, in MLflow
_MOST_LINKS = 20  # to the runs of one side of a claim
_TEMPLATE = "report.html.jinja"
_SIGNS = {
    Verdict.SUPPORTED: "\N{CHECK MARK}",
    Verdict.CONTRADICTED: "\N{MULTIPLICATION X}",
    Verdict.NEGLIGIBLE: "\N{ALMOST EQUAL TO}",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NOT_JUDGED: "\N{EN DASH}",
}
_STYLES: dict[str, str] = {
    Verdict.SUPPORTED: "bold green",
    Verdict.CONTRADICTED: "bold red",
    Verdict.NEGLIGIBLE: "bold cyan",
    Verdict.INCONCLUSIVE: "bold yellow",
}
# The sections of the page and of the Markdown: the anchor in the page, and the heading.
_SECTIONS = {
    "verdicts": "Verdicts",
    "threats": THREATS,
    "results": "Results",
    "differences": "Differences",
    "evidence": "Evidence",
    "pictures": "Pictures",
    "checks": "Checks",
    "published": "Published figures",
    "provenance": "Provenance",
}


# --- Tables ---------------------------------------------------------------------------------------------------------


def differences(conclusion: Conclusion) -> pd.DataFrame:
    """What `plots.forest` draws: the claims, then the main metric's difference of each variation in none of them."""
    shown: list[Pair] = [claim for claim in conclusion.claims if claim.why != "wall time"]
    claimed = {name for claim in shown for name in (claim.variation, claim.against)}
    shown += [pair for pair in conclusion.pairs if pair.asked == conclusion.metric and pair.variation not in claimed]
    rows = []
    for pair in shown:
        metric = metric_of(conclusion, pair.metric or pair.asked)
        row: dict[str, object] = {
            "variation": pair.variation,
            "against": pair.against,
            "metric": metric.label,
            "unit": metric.unit,
        }
        low, high = difference_interval(pair.difference, metric)
        row |= {"mean": pair.difference.mean, "low": low, "high": high}
        row["smallest"] = pair.smallest if isinstance(pair, Claim) else math.nan
        row["verdict"] = str(pair.verdict) if isinstance(pair, Claim) else pair.finding
        seen = difference_text(pair.difference, metric.model_copy(update={"unit": ""}))
        rows.append({**row, "note": "\n".join([seen, *warnings(pair, conclusion)[:2]])})
    columns = ["variation", "against", "metric", "unit", "mean", "low", "high", "smallest", "verdict", "note"]
    return pd.DataFrame(rows, columns=columns)


class Judged(NamedTuple):
    """What is said of a variation: a claim's verdict, or what was found against the baseline."""

    verdict: str
    against: str
    difference: str
    beside: tuple[str, ...]
    claim: int | None  # its number, counted from 0


def judged(conclusion: Conclusion) -> dict[str, list[Judged]]:
    """By variation: the verdicts on its claims, else what was found against the baseline in the main metric."""
    found: dict[str, list[Judged]] = {}
    for number, claim in enumerate(conclusion.claims):
        found.setdefault(claim.variation, []).append(_judged(claim, str(claim.verdict), conclusion, number))
    claimed = set(found)
    for pair in conclusion.pairs:
        if pair.asked == conclusion.metric and pair.variation not in claimed:
            found.setdefault(pair.variation, []).append(_judged(pair, pair.finding, conclusion))
    return found


def _judged(pair: Pair, verdict: str, conclusion: Conclusion, claim: int | None = None) -> Judged:
    difference = difference_text(pair.difference, metric_of(conclusion, pair.metric))
    return Judged(verdict, pair.against, difference, tuple(warnings(pair, conclusion)), claim)


def _main_metrics(conclusion: Conclusion) -> list[Metric]:
    """Those in the conclusion table that any variation has, the one it is sorted by first."""
    having = {cell.metric for variation in conclusion.variations for cell in variation.cells if cell.n}
    shown = [metric for metric in conclusion.metrics if metric.main and metric.name in having]
    return sorted(shown, key=lambda metric: metric.name != conclusion.metric)


def runs_text(variation: Variation) -> str:
    """`5`, or `4 of 5` where some did not finish."""
    if variation.planned is None or variation.planned == variation.finished:
        return f"{variation.finished:,}"
    return f"{variation.finished:,} of {variation.planned:,}"


def conclusion_table(conclusion: Conclusion) -> pd.DataFrame:
    """One row of texts per variation: runs, verdict with what is beside it, flags, main metrics, what it changes."""
    metrics, verdicts = _main_metrics(conclusion), judged(conclusion)
    rows = []
    for variation in conclusion.variations:
        row = [plain(variation.name), runs_text(variation), _verdict_text(variation, verdicts.get(variation.name, []))]
        row.append(", ".join(flag.flag for flag in variation.flags))
        row += [" ".join(cell_text(cell_of(variation, metric.name), metric)).strip() for metric in metrics]
        rows.append([*row, *(scalar(variation.params.get(key)) for key in conclusion.differing)])
    headings = [plain(f"{metric.label} ({metric.unit})" if metric.unit else metric.label) for metric in metrics]
    columns = _unique(["variation", "runs", "verdict", "flags", *headings, *map(plain, conclusion.differing)])
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    flagged = any(variation.flags for variation in conclusion.variations)
    return table if flagged else table.drop(columns="flags")


def _unique(columns: Sequence[str]) -> list[str]:
    """A heading that is there already (a parameter may be called `runs`) gets a number."""
    seen: dict[str, int] = {}
    found = []
    for column in columns:
        seen[column] = seen.get(column, 0) + 1
        found.append(column if seen[column] == 1 else f"{column} ({seen[column]})")
    return found


def _verdict_text(variation: Variation, verdicts: Sequence[Judged]) -> str:
    texts = []
    for verdict in verdicts:
        against = f" against {plain(verdict.against, LONGEST_NAME)}" if len(verdicts) > 1 else ""
        texts.append(", ".join([f"{verdict.verdict}{against}", *verdict.beside]))
    return "; ".join(texts) or (variation.role if variation.role != "variation" else "")


def claims_table(conclusion: Conclusion) -> pd.DataFrame:
    """One row of texts per claim: verdict with what is beside it, the claim, the difference, p and the seeds."""
    rows = []
    for claim in conclusion.claims:
        metric = metric_of(conclusion, claim.metric)
        verdict = ", ".join([str(claim.verdict), *warnings(claim, conclusion)])
        difference = difference_text(claim.difference, metric)
        seen = difference if claim.metric is None else f"{label_of(metric)}: {difference}"
        certainty = (p_value(claim.p_holm), seeds_compared(claim.difference))
        rows.append([verdict, plain(claim.says), seen, *certainty])
    return pd.DataFrame(rows, columns=["verdict", "claim", "difference", "p (Holm)", "seeds"], dtype=object)


def pairs_table(conclusion: Conclusion) -> pd.DataFrame:
    """One row of texts per variation and judged metric: the difference from the baseline, and what is beside it."""
    rows = []
    for pair in conclusion.pairs:
        metric = metric_of(conclusion, pair.metric or pair.asked)
        size = 100 * pair.relative
        relative = f"{signed(size, 1 if abs(size) >= 1 else 2)} %" if math.isfinite(size) else "-"
        found = ", ".join([pair.finding, *warnings(pair, conclusion)])
        instead = pair.metric not in (None, pair.asked)
        shown = (
            f"{label_of(metric)}, for {label_of(metric_of(conclusion, pair.asked))}" if instead else label_of(metric)
        )
        row = [plain(pair.variation), shown, difference_text(pair.difference, metric), relative]
        rows.append([*row, p_value(pair.p_holm), found])
    columns = ["variation", "metric", "difference from the baseline", "relative", "p (Holm)", "finding"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def published_table(conclusion: Conclusion) -> pd.DataFrame:
    """One row of texts per published figure: ours with its prediction interval, and whether it is reproduced."""
    rows = []
    published = conclusion.published
    for figure in published.figures if published else ():
        metric = metric_of(conclusion, figure.metric)
        ours = ours_text(figure.mean, figure.low, figure.high, metric)
        row = [
            plain(figure.variation),
            label_of(metric),
            f"{figure.published:.{published.decimals if published else 4}f}",
        ]
        rows.append([*row, ours, reproduced_text(figure.reproduced), taken_for_sentence(figure, conclusion)])
    columns = ["variation", "figure", "published", "ours [one more run]", "reproduced?", "as a reader takes it"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    return table if any(row[-1] for row in rows) else table.iloc[:, :-1]


def conclusion_csv(conclusion: Conclusion) -> str:
    """One row per variation in full precision: parameters, runs, verdicts, flags, what its seeds say of each metric."""
    verdicts = judged(conclusion)
    parameters = list(dict.fromkeys(key for variation in conclusion.variations for key in variation.params))
    statistics = ("n", "sd", "low", "high", "median", "worst", "worst_seed")
    columns = ["variation", "role", *parameters, "planned", "finished", "seeds", "verdict", "flags"]
    for metric in conclusion.metrics:
        columns += [metric.name, *(f"{metric.name}_{statistic}" for statistic in statistics)]
    rows: list[list[object]] = []
    for variation in conclusion.variations:
        row: list[object] = [variation.name, variation.role, *(variation.params.get(key) for key in parameters)]
        row += [variation.planned, variation.finished, " ".join(map(str, variation.seeds))]
        row += [_verdict_text(variation, verdicts.get(variation.name, []))]
        row += [", ".join(flag.flag for flag in variation.flags)]
        for metric in conclusion.metrics:
            cell = cell_of(variation, metric.name)
            row += [getattr(cell, statistic, None) for statistic in ("mean", *statistics)]
        rows.append(row)
    return to_csv(pd.DataFrame(rows, columns=columns, dtype=object))


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV (RFC 4180), numbers in full precision; a text that a spreadsheet would compute gets a quote."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(map(_csv_cell, table.columns))
    writer.writerows([[_csv_cell(cell) for cell in row] for row in table.astype(object).values.tolist()])
    return lines.getvalue()


def _csv_cell(cell: object) -> object:
    """See https://owasp.org/www-community/attacks/CSV_Injection; the last four are wide forms of the first."""
    if not isinstance(cell, str):
        return cell
    dangerous = cell.startswith(("\t", "\r", "\n")) or cell.lstrip().startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))
    return "'" + cell if dangerous else cell


# --- Terminal -----------------------------------------------------------------------------------------------------


def to_terminal(conclusion: Conclusion, console: Console, everything: bool = False) -> None:
    """Print the answer, then a block for each claim, or without claims for each variation, then what was lost.

    Args:
        console: no line is wider than it is; words and intervals are broken only where one alone is wider.
        everything: the tables, the threats and the checks, too.
    """
    say = partial(_say, console)
    for sentence in summary(conclusion):
        say(sentence)
    blocks = _claim_blocks(conclusion) if conclusion.claims else _variation_blocks(conclusion)
    for block in blocks[: MOST_ROWS if everything else _MOST_BLOCKS]:
        say("")
        say(f"{block.label}: {block.title}", style=_STYLES.get(block.verdict, "bold"), styled=len(block.label))
        for line in block.lines:
            say(line, indent="  ")
    sections = audits(conclusion)
    if everything:
        _print_tables(conclusion, console)
        sections = [(THREATS, [f"{what}: {why}" for what, why, _ in threats(conclusion)]), *sections]
    else:
        sections = [(heading, lines[1:]) for heading, lines in sections if heading == COMPLETENESS]
    for heading, lines in sections:
        if lines:
            say("")
            say(heading, style="bold", styled=len(heading))
            for sentence in _few(lines, _MOST_LINES if everything else _MOST_LINES_AT_FIRST):
                say(sentence, indent="  ")
    say("")
    if len(blocks) > _MOST_BLOCKS and not everything:
        say(f"And {len(blocks) - _MOST_BLOCKS:,} more, in report.html.")
    if not everything:
        say("Metrics by variation, threats to validity and checks: report.html, or --all.")


class _Block(NamedTuple):
    verdict: str
    label: str  # the verdict with its sign
    title: str
    lines: list[str]


def _claim_blocks(conclusion: Conclusion) -> list[_Block]:
    blocks = []
    for claim in conclusion.claims:
        view = _claim_view(claim, conclusion)
        lines = [view["difference"], view["certainty"]] if view["difference"] else [view["sentence"]]
        lines += view["warnings"]
        blocks.append(_Block(claim.verdict, f"{_SIGNS[claim.verdict]} {claim.verdict}", view["says"], lines))
    return blocks


def _variation_blocks(conclusion: Conclusion) -> list[_Block]:
    metric, found = metric_of(conclusion, conclusion.metric), judged(conclusion)
    blocks = []
    for variation in conclusion.variations:
        mean = " ".join(cell_text(cell_of(variation, metric.name), metric)).strip()
        seen = f"{label_of(metric)}: {with_unit(mean, metric)}, " if mean != "-" else ""
        lines = [f"{seen}runs finished: {runs_text(variation)}"]
        verdicts = found.get(variation.name, [])
        for each in verdicts:
            lines += [f"minus {name(each.against)}: {each.difference}", *each.beside]
        verdict = verdicts[0].verdict if verdicts else variation.role
        blocks.append(_Block(verdict, verdict, plain(variation.name), lines))
    return blocks


def _print_tables(conclusion: Conclusion, console: Console) -> None:
    table = conclusion_table(conclusion).drop(columns="verdict")  # the blocks have it
    if len(table):
        terminal(table[:MOST_ROWS], list(table.columns[:1]), console)
    if len(table) > MOST_ROWS:
        _say(console, f"And {len(table) - MOST_ROWS:,} more variations, in conclusion.csv.")
    for sentence in table_notes(conclusion):
        _say(console, sentence)


def _say(console: Console, text: str, indent: str = "", style: str = "", styled: int = 0) -> None:
    """Print a text, its first characters in a style; what follows its first line is indented."""
    for number, line in enumerate(fill(text, console.width, indent)):
        shown = Text(line)
        if number == 0:
            shown.stylize(style, 0, styled)
        console.print(shown, soft_wrap=True)


def fill(text: str, width: int, indent: str = "") -> list[str]:
    """A text as lines of at most `width` cells, broken between words, but not within an interval such as `[0, 1]`.

    A word that is wider than a line is cut. All lines begin with `indent`, those after the first with two blanks more.
    """
    words = re.findall(r"\S*\[[^\[\]\s]+, [^\[\]\s]+\]\S*|\S+", text)
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


def _few(lines: Sequence[str], most: int) -> list[str]:
    more = len(lines) - most
    return [*lines[:most], *([f"And {more:,} more, in conclusion.json."] if more > 0 else [])]


def terminal(table: pd.DataFrame, keys: Sequence[str], console: Console) -> None:
    """Print a table of texts; where the terminal is too narrow, in parts that each begin with the columns `keys`."""
    rest = [column for column in table.columns if column not in keys]
    while rest:
        shown = len(rest)
        while shown > 1 and _width(_rich(table, [*keys, *rest[:shown]], console), console) > console.width:
            shown -= 1
        console.print(_rich(table, [*keys, *rest[:shown]], console))
        rest = rest[shown:]


def _rich(table: pd.DataFrame, columns: Sequence[str], console: Console) -> Table:
    """Names break where they must; what is shorter, such as a number with its interval, does not."""
    rendered = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        widest = max(map(cell_len, [*column.split(), *map(str, table[column])]))
        whole = column != columns[0] and widest <= console.width - _NARROWEST_NAME
        rendered.add_column(Text(column.replace(" ", _GAP)), justify="right", overflow="fold", no_wrap=whole)
    for row in table[list(columns)].values.tolist():
        rendered.add_row(*(Text(str(cell)) for cell in row))
    return rendered


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=10**6), table).maximum


# --- Markdown -----------------------------------------------------------------------------------------------------


def markdown(table: pd.DataFrame) -> str:
    """A table of texts as a GitHub table; nothing in a cell can end the cell or the row."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
    return "".join("| " + " | ".join(markdown_text(str(cell)) for cell in row) + " |\n" for row in rows)


def markdown_text(text: str) -> str:
    """A text as one line of Markdown that stands as it is: no cell, tag, link, picture or emphasis begins or ends."""
    line = " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())
    escaped = re.sub(r"([\\`*|~$])", r"\\\1", line)
    escaped = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)  # not within a word
    # Only so does a bracket make a link, a picture or a definition.
    escaped = re.sub(r"^\[", r"\\[", re.sub(r"\](?=[(\[])", r"\\]", escaped))
    escaped = re.sub(r"<(?=[\w/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", escaped))
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")  # which GitHub makes links of


def markdown_report(conclusion: Conclusion, pictures: Collection[str] = ()) -> str:
    """The report for GitHub.

    Args:
        pictures: names of the files beside it, such as `forest.png` and `Original.png`; no other is shown.
    """
    sections = [(_SECTIONS[key], body) for key, body in _markdown_sections(conclusion, pictures).items() if body]
    contents = " · ".join(f"[{heading}](#{heading.lower().replace(' ', '-')})" for heading, _ in sections)
    answer, others = _markdown_answer(conclusion)
    blocks = [f"# {markdown_text(plain(conclusion.title))}", *answer, *others, contents]
    for heading, body in sections:
        blocks += [f"## {heading}", *body]
    return "\n\n".join(block.rstrip() for block in blocks) + "\n"


def note(conclusion: Conclusion) -> str:
    """What MLflow's page of the study's run says: its description, the answer and the verdicts, as Markdown.

    No longer than a tag of MLflow's can be; claims that do not fit are counted.
    """
    (answer, others), table = _markdown_answer(conclusion), claims_table(conclusion)
    for shown in range(len(table), -1, -1):
        rest = len(table) - shown
        blocks = [*answer, *([markdown(table[:shown])] if shown else [])]
        blocks += [f"{counted(rest, 'more claim')} in report.html."] if rest else []
        blocks += others
        text = "\n\n".join(block.rstrip() for block in blocks)
        if len(text) <= _MOST_NOTE:
            break
    return text[:_MOST_NOTE]


def _markdown_answer(conclusion: Conclusion) -> tuple[list[str], list[str]]:
    """The description and the answer; what else to know first."""
    headline, *rest = summary(conclusion)
    first = [_paragraph(conclusion.description)] if conclusion.description else []
    return [*first, f"**{markdown_text(headline)}**"], [markdown_text(" ".join(rest))] if rest else []


def _markdown_sections(conclusion: Conclusion, pictures: Collection[str]) -> dict[str, list[str]]:
    """Paragraphs by section."""

    def images(*stems: str) -> list[str]:
        named = {_stem(picture): picture for picture in pictures}
        return [f"![{_alternative(stem, conclusion)}]({quote(named[stem])})" for stem in stems if stem in named]

    own = images(*(variation.file for variation in conclusion.variations))
    table = conclusion_table(conclusion)
    first = [column for column in table.columns[:4] if column in ("variation", "verdict", "runs", "flags")]
    metrics = list(table.columns[len(first) : len(table.columns) - len(conclusion.differing)])
    params = list(table.columns[len(first) + len(metrics) :])
    verdicts = _table_block(claims_table(conclusion))
    every = _table_block(pairs_table(conclusion))
    return {
        "verdicts": [*verdicts, "What each verdict rests on: [Evidence](#evidence)."] if verdicts else [],
        "threats": _some_bullets([f"{what}: {why}" for what, why, _ in threats(conclusion)]),
        "results": [
            *_table_block(table[[*first, *metrics[:_METRICS_FIRST]]]),
            *_lines(about_means(conclusion)),
            *_fold("More metrics", _table_blocks(table, metrics[_METRICS_FIRST:])),
            *_lines(wall_times(_main_metrics(conclusion))),
            *_fold("What the variations change", _table_blocks(table, params)),
            *_lines(constants(conclusion)),
        ],
        "differences": [*images(FOREST), *_fold("Every difference from the baseline", every)],
        "evidence": [_evidence_list(conclusion)] if conclusion.claims else [],
        "pictures": [
            *images(CURVES),
            *images(DIGITS),
            *_lines(pictures_sentences(conclusion)),
            *_fold("Each variation's own picture", own),
        ],
        "checks": [
            block for heading, sentences in audits(conclusion) for block in (f"### {heading}", _bullets(sentences))
        ],
        "published": _published_block(conclusion),
        "provenance": _provenance_block(conclusion),
    }


def _fold(heading: str, blocks: Sequence[str]) -> list[str]:
    return [f"<details><summary>{heading}</summary>", *blocks, "</details>"] if blocks else []


def _alternative(stem: str, conclusion: Conclusion) -> str:
    return re.sub(r"([\[\]])", r"\\\1", markdown_text(alternative_text(stem, conclusion)).replace("\\]", "]"))


def _lines(sentences: Iterable[str]) -> list[str]:
    return [_paragraph(sentence) for sentence in sentences]


def _paragraph(text: str) -> str:
    """A text that may begin in any way, without becoming a heading, a list or a quotation."""
    return re.sub(r"^([#>+=-]|\d+(?=[.)]))", lambda start: f"&#{ord(start[0][0])};{start[0][1:]}", markdown_text(text))


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_paragraph(sentence)}" for sentence in sentences)


def _some_bullets(sentences: Sequence[str]) -> list[str]:
    return [_bullets(sentences)] if sentences else []


def _table_block(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return []
    rest = len(table) - MOST_ROWS
    more = [f"{counted(rest, 'more row')} in conclusion.csv and conclusion.json."] if rest > 0 else []
    return [markdown(table.iloc[:MOST_ROWS]), *more]


def _table_blocks(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """A wide table as several, each with the variation's name; none without a column."""
    parts = [columns[start : start + _METRICS_MORE] for start in range(0, len(columns), _METRICS_MORE)]
    return [block for part in parts for block in _table_block(table[["variation", *part]])]


def _evidence_list(conclusion: Conclusion) -> str:
    lines = []
    for claim in conclusion.claims[:MOST_ROWS]:
        says = markdown_text(_ended(plain(claim.says)))
        lines.append(f"- **{claim.verdict}**: {says} {markdown_text(verdict_sentence(claim, conclusion))}")
        lines += [f"  - {_paragraph(note)}" for note in other_notes(claim)]
    return "\n".join(lines)


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", "\N{IDEOGRAPHIC FULL STOP}")) else f"{sentence}."


def _published_block(conclusion: Conclusion) -> list[str]:
    if conclusion.published is None:
        return []
    published = conclusion.published
    first = f"{published_sentence(published.figures)} Source: {plain(published.source)}."
    return [*_lines([first]), *_table_block(published_table(conclusion)), *_some_bullets(_chances(conclusion))]


def _chances(conclusion: Conclusion) -> list[str]:
    """What chance does to each published difference, where that is no threat."""
    published = conclusion.published
    if published is None:
        return []
    told = {threat.why for threat in threats(conclusion)}
    every = (chance_sentence(each, conclusion, published.decimals) for each in published.differences)
    return [sentence for sentence in every if sentence not in told]


def _provenance_block(conclusion: Conclusion) -> list[str]:
    rows = pd.DataFrame(provenance(conclusion), columns=["what", "value"])
    command = conclusion.provenance.command
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    link = _run_link(conclusion, conclusion.provenance.study_run_id or "")
    linked = [f"[The study's run in MLflow]({link})"] if link else []
    return [markdown(rows), *linked, "Reproduce with", f"{fence}sh\n{command}\n{fence}"]


def _run_link(conclusion: Conclusion, run_id: str) -> str:
    """The address of a run in MLflow's UI; empty where that is not known."""
    ui = conclusion.provenance.ui
    return f"{ui}/runs/{quote(run_id)}" if run_id and re.fullmatch(r"https?://[^\s()<>\"']+", ui) else ""


def provenance(conclusion: Conclusion) -> list[tuple[str, str]]:
    """What it was made from, name and value; what is not known is left out."""
    source = conclusion.provenance
    used = sum(run.used for run in conclusion.runs)
    commits = listed(map(scalar, source.code_versions))
    if source.dirty:
        changed = f"{counted(source.dirty, 'run')} with changes that the commit does not have"
        commits = f"{commits} ({changed})" if commits else changed
    rows = {
        "Experiment": source.experiment,
        "Filter": source.filter,
        "Study": source.study,
        "Study's run": source.study_run_id or "",
        "Grouped by": listed(source.group_by, 30),
        "Runs": f"{len(conclusion.runs):,} read, {used:,} used",
        "Ran": " to ".join(_time(moment) for moment in (source.first_run, source.last_run) if moment),
        "Code": commits,
        "Lock": listed(map(scalar, source.lock_hashes)),
        "Data": listed(map(scalar, source.data_hashes)),
        "Hardware": listed(map(plain, source.hardware)),
        "Computed with": listed((f"{package} {version}" for package, version in source.versions.items()), 30),
        "Made": _time(source.made),
    }
    return [(what, plain(value, 400)) for what, value in rows.items() if value]


def _time(moment: str) -> str:
    try:
        return f"{datetime.fromisoformat(moment.replace('Z', '+00:00')):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return moment


def alternative_text(picture: str, conclusion: Conclusion) -> str:
    """A picture in words, by the name of its file without the ending."""
    names = listed(name(variation.name) for variation in conclusion.variations)
    if picture == FOREST:
        rows = differences(conclusion).head(MOST_LISTED).to_dict("records")
        pairs = "; ".join(f"{name(row['variation'])} minus {name(row['against'])}: {row['verdict']}" for row in rows)
        return f"Differences with their 95 % intervals. {pairs}."
    if picture.startswith(CURVES):
        return f"Curves by epoch, mean and spread over the seeds, of {names}."
    if picture == DIGITS:
        return f"The same test images, and below them their reconstructions by {names}."
    return f"Test images above their reconstructions by {name(_called(picture, conclusion))}."


def _stem(file: str) -> str:
    """Without the ending of a picture; `lr=0.1` has none."""
    return file.removesuffix(".png").removesuffix(".svg")


def _called(picture: str, conclusion: Conclusion) -> str:
    return next((variation.name for variation in conclusion.variations if variation.file == picture), picture)


# --- HTML ---------------------------------------------------------------------------------------------------------


def html(conclusion: Conclusion, figures: Mapping[str, bytes]) -> str:
    """The report as one file that needs no other.

    Args:
        figures: PNG, or SVG from `plots.svg`, by the name of its file with or without an ending: `forest`,
            `loss_curves`, `digits`; any other is shown among the reconstructions, under the name of the variation whose
            `file` it is.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": plain, "whole": whole}
    pictures = {_stem(file): picture for file, picture in figures.items()}
    drawn = {stem: _element(stem, picture, conclusion) for stem, picture in pictures.items()}
    headline, *rest = summary(conclusion)
    risks = threats(conclusion)
    listed_runs = conclusion.runs[: MOST_ROWS * 5]
    claims = [_claim_view(claim, conclusion) for claim in conclusion.claims]
    for number, view in enumerate(claims):
        view["threats"] = [(place, risk.what) for place, risk in enumerate(risks) if number in risk.claims]
        view["runs"] = _runs_of(conclusion.claims[number], conclusion, [run.run_id for run in listed_runs])
    content: dict[str, Any] = {
        "conclusion": conclusion,
        "headline": headline,
        "rest": rest,
        "claims": claims,
        "signs": {str(verdict): sign for verdict, sign in _SIGNS.items()},
        "columns": _main_metrics(conclusion),
        "differing": conclusion.differing,
        "threats": risks,
        "rows": _row_views(conclusion),
        "about_means": about_means(conclusion),
        "constants": constants(conclusion),
        "forest": drawn.pop(FOREST, None),
        "digits": drawn.pop(DIGITS, None),
        "without_pictures": pictures_sentences(conclusion),
        "curves": [drawn.pop(stem) for stem in list(drawn) if stem.startswith(CURVES)],
        "reconstructions": [(_called(stem, conclusion), element) for stem, element in drawn.items()],
        "pairs": pairs_table(conclusion),
        "pairs_first": sum(pair.asked == conclusion.metric for pair in conclusion.pairs),
        "audits": audits(conclusion),
        "published": published_table(conclusion),
        "published_first": published_sentence(conclusion.published.figures) if conclusion.published else "",
        "chances": _chances(conclusion),
        "provenance": provenance(conclusion),
        "wall_times": wall_times(_main_metrics(conclusion)),
        "runs": [(run, _run_link(conclusion, run.run_id)) for run in listed_runs],
        "study_link": _run_link(conclusion, conclusion.provenance.study_run_id or ""),
        "most": MOST_ROWS,
        "metrics_first": _METRICS_FIRST,
        "metrics_more": _METRICS_MORE,
    }
    there = {
        "verdicts": claims,
        "threats": risks,
        "results": content["rows"],
        "differences": content["forest"] or len(content["pairs"]),
        "evidence": claims,
        "pictures": any(content[key] for key in ("curves", "digits", "without_pictures", "reconstructions")),
        "checks": content["audits"],
        "published": conclusion.published,
        "provenance": True,
    }
    content["sections"] = {key: heading for key, heading in _SECTIONS.items() if there[key]}
    return environment.get_template(_TEMPLATE).render(content)


def whole(text: str) -> str:
    """A text in which no line of a page ends within an interval or a number such as `1e-05`."""
    glued = re.sub(r"\[([^\[\]\s]+), ([^\[\]\s]+)\]", "[\\1,\N{NO-BREAK SPACE}\\2]", text)
    glued = re.sub(r"\bp ([<=]) (?=\d)", "p\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", glued)
    return re.sub(r"(?<=\de)-(?=\d)", "\N{NON-BREAKING HYPHEN}", glued)


def _claim_view(claim: Claim, conclusion: Conclusion) -> dict[str, Any]:
    metric = metric_of(conclusion, claim.metric)
    judged = claim.metric is not None and not math.isnan(claim.difference.mean)
    return {
        "verdict": str(claim.verdict),
        "says": plain(claim.says),
        "difference": f"{label_of(metric)}: {difference_text(claim.difference, metric)}" if judged else "",
        "certainty": f"{p_value(claim.p_holm)} (Holm), {seeds_compared(claim.difference)}" if judged else "",
        "warnings": warnings(claim, conclusion),
        "sentence": verdict_sentence(claim, conclusion),
        "notes": other_notes(claim),
    }


def _runs_of(
    claim: Claim, conclusion: Conclusion, shown: Sequence[str]
) -> list[tuple[str, list[tuple[str, str]], int]]:
    """Of both sides the name, the first runs that the difference was computed from with their links, and the rest."""
    places = {run_id: f"#run-{place}" for place, run_id in enumerate(shown)}
    found = []
    for variation in conclusion.variations:
        cell = cell_of(variation, claim.metric or "") if variation.name in (claim.variation, claim.against) else None
        if cell and cell.run_ids:
            ids = cell.run_ids[:_MOST_LINKS]
            links = [(run_id, _run_link(conclusion, run_id) or places.get(run_id, "")) for run_id in ids]
            found.append((plain(variation.name, LONGEST_NAME), links, len(cell.run_ids) - len(ids)))
    return found


def _row_views(conclusion: Conclusion) -> list[dict[str, Any]]:
    metrics, verdicts = _main_metrics(conclusion), judged(conclusion)
    winners = {metric.name: best_of(conclusion, metric) for metric in metrics if metric.judged and not metric.wall_time}
    best = {metric: cell.mean for metric, winner in winners.items() if winner and (cell := cell_of(winner, metric))}
    candidates = distinct(conclusion)
    views = []
    for variation in conclusion.variations:
        cells = []
        for metric in metrics:
            cell = cell_of(variation, metric.name)
            mean, span = cell_text(cell, metric)
            fewer = f"n = {cell.n}" if cell and cell.n and cell.n != variation.finished else ""
            is_best = cell is not None and cell.mean == best.get(metric.name) and variation in candidates
            cells.append({"mean": mean, "span": span, "fewer": fewer, "best": is_best})
        views.append(
            {
                "name": plain(variation.name, 100),
                "role": variation.role if variation.role != "variation" else "",
                "flags": [flag.flag for flag in variation.flags],
                "params": [scalar(variation.params.get(key)) for key in conclusion.differing],
                "runs": runs_text(variation),
                "verdicts": verdicts.get(variation.name, []),
                "cells": cells,
            }
        )
    return views


def _element(stem: str, picture: bytes, conclusion: Conclusion) -> Markup:
    """A picture as an element of the page."""
    alternative = alternative_text(stem, conclusion)
    if picture.startswith(b"\x89PNG"):
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        return Markup('<img src="{}" alt="{}">').format(source, alternative)
    text = picture.decode()
    opening = Markup('<svg role="img" aria-label="{}"').format(alternative)
    return Markup(text[text.index("<svg") :].replace("<svg", str(opening), 1))  # noqa: S704, drawn by plots.svg
