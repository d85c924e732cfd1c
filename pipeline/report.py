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
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pipeline.conclusion import Claim, Conclusion, Metric, Pair, Variation
from pipeline.evidence import Verdict
from pipeline.sentences import (
    LONGEST_NAME,
    MOST_LISTED,
    MOST_ROWS,
    UNFAIR,
    about_means,
    audits,
    best_of,
    cell_of,
    cell_text,
    chance_sentence,
    constants,
    counted,
    difference_text,
    distinct,
    label_of,
    listed,
    metric_of,
    name,
    notes,
    ours_text,
    p_value,
    pictures_sentence,
    plain,
    published_sentence,
    reproduced_text,
    scalar,
    seeds_compared,
    signed,
    summary,
    taken_for_sentence,
    unfair,
    verdict_sentence,
    warnings,
)

# The pictures of a report, by the names of their files; others are called after `Variation.file`.
FOREST, CURVES, DIGITS = "forest", "loss_curves", "digits"

_GAP = "\n"  # rich breaks a heading here; Markdown has a space instead
_METRICS_FIRST, _METRICS_MORE = 4, 7  # columns beside the verdict, and of each further table: as wide as paper
_TEMPLATE = "report.html.jinja"
_SIGNS = {
    Verdict.SUPPORTED: "\N{CHECK MARK}",
    Verdict.CONTRADICTED: "\N{MULTIPLICATION X}",
    Verdict.NEGLIGIBLE: "\N{ALMOST EQUAL TO}",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NOT_JUDGED: "\N{EN DASH}",
}


# --- Tables ---------------------------------------------------------------------------------------------------------


def differences(conclusion: Conclusion) -> pd.DataFrame:
    """What `figures.forest` draws: the claims, then the main metric's other differences from the baseline."""
    shown: list[Pair] = list(conclusion.claims)
    claimed = {(claim.variation, claim.against, claim.metric) for claim in conclusion.claims}
    for pair in conclusion.pairs:
        if pair.asked == conclusion.metric and (pair.variation, pair.against, pair.metric) not in claimed:
            shown.append(pair)
    rows = []
    for pair in shown:
        metric = metric_of(conclusion, pair.metric or pair.asked)
        row: dict[str, object] = {
            "variation": pair.variation,
            "against": pair.against,
            "metric": metric.label,
            "unit": metric.unit,
        }
        row |= {"mean": pair.difference.mean, "low": pair.difference.low, "high": pair.difference.high}
        row["smallest"] = pair.smallest if isinstance(pair, Claim) else math.nan
        row["verdict"] = str(pair.verdict) if isinstance(pair, Claim) else pair.finding
        rows.append({**row, "note": "\n".join(warnings(pair, conclusion)[:2])})
    columns = ["variation", "against", "metric", "unit", "mean", "low", "high", "smallest", "verdict", "note"]
    return pd.DataFrame(rows, columns=columns)


class Judged(NamedTuple):
    """What is said of a variation: a claim's verdict, or what was found against the baseline."""

    verdict: str
    against: str
    difference: str
    beside: tuple[str, ...]


def judged(conclusion: Conclusion) -> dict[str, list[Judged]]:
    """By variation: the verdicts on its claims, else what was found against the baseline in the main metric."""
    found: dict[str, list[Judged]] = {}
    for claim in conclusion.claims:
        found.setdefault(claim.variation, []).append(_judged(claim, str(claim.verdict), conclusion))
    claimed = set(found)
    for pair in conclusion.pairs:
        if pair.asked == conclusion.metric and pair.variation not in claimed:
            found.setdefault(pair.variation, []).append(_judged(pair, pair.finding, conclusion))
    return found


def _judged(pair: Pair, verdict: str, conclusion: Conclusion) -> Judged:
    difference = difference_text(pair.difference, metric_of(conclusion, pair.metric))
    return Judged(verdict, pair.against, difference, tuple(warnings(pair, conclusion)))


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


def terminal(table: pd.DataFrame, keys: Sequence[str], console: Console) -> None:
    """Print a table of texts; where the terminal is too narrow, in parts that each begin with the columns `keys`."""
    rest = [column for column in table.columns if column not in keys]
    while rest:
        shown = len(rest)
        while shown > 1 and _width(_rich(table, [*keys, *rest[:shown]]), console) > console.width:
            shown -= 1
        console.print(_rich(table, [*keys, *rest[:shown]]))
        rest = rest[shown:]


def _rich(table: pd.DataFrame, columns: Sequence[str]) -> Table:
    rendered = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        rendered.add_column(Text(column.replace(" ", _GAP)), justify="right", no_wrap=True)
    for row in table[list(columns)].values.tolist():
        rendered.add_row(*(Text(str(cell)) for cell in row))
    return rendered


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=10**6), table).maximum


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
    headline, *rest = summary(conclusion)
    blocks = [f"# {markdown_text(plain(conclusion.title))}"]
    if conclusion.description:
        blocks.append(_paragraph(conclusion.description))
    blocks += [f"**{markdown_text(headline)}**", *([markdown_text(" ".join(rest))] if rest else [])]
    for heading, body in _markdown_sections(conclusion, pictures):
        blocks += [f"## {heading}", *body] if body else []
    return "\n\n".join(block.rstrip() for block in blocks) + "\n"


def _markdown_sections(conclusion: Conclusion, pictures: Collection[str]) -> list[tuple[str, list[str]]]:
    """Heading and paragraphs; a section without any is left out."""

    def images(*stems: str) -> list[str]:
        named = {_stem(picture): picture for picture in pictures}
        return [f"![{_alternative(stem, conclusion)}]({quote(named[stem])})" for stem in stems if stem in named]

    own, unseen = [variation.file for variation in conclusion.variations], pictures_sentence(conclusion)
    table = conclusion_table(conclusion)
    first = [column for column in table.columns[:4] if column in ("variation", "verdict", "runs", "flags")]
    metrics = list(table.columns[len(first) : len(table.columns) - len(conclusion.differing)])
    params = list(table.columns[len(first) + len(metrics) :])
    return [
        ("Verdicts", _table_block(claims_table(conclusion))),
        (UNFAIR, _some_bullets([f"{what}: {why}" for what, why in unfair(conclusion)])),
        ("Results", [*_table_block(table[[*first, *metrics[:_METRICS_FIRST]]]), *_lines(about_means(conclusion))]),
        ("Differences", images(FOREST)),
        ("Evidence", [_evidence_list(conclusion)] if conclusion.claims else []),
        ("Every difference from the baseline", _table_block(pairs_table(conclusion))),
        ("More metrics", _table_blocks(table, metrics[_METRICS_FIRST:])),
        ("What the variations change", [*_table_blocks(table, params), *_lines(constants(conclusion))]),
        ("Curves", images(CURVES)),
        ("The same images, by every variation", [*images(DIGITS), *_lines(filter(None, [unseen]))]),
        ("Each variation's reconstructions", images(*own)),
        *((heading, [_bullets(sentences)]) for heading, sentences in audits(conclusion)),
        ("Against the published figures", _published_block(conclusion)),
        ("Where this comes from", _provenance_block(conclusion)),
    ]


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
        lines += [f"  - {_paragraph(note)}" for note in notes(claim, conclusion)]
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
    """What chance does to each published difference."""
    published = conclusion.published
    every = published.differences if published else ()
    return [chance_sentence(each, conclusion, published.decimals) for each in every if published]


def _provenance_block(conclusion: Conclusion) -> list[str]:
    rows = pd.DataFrame(provenance(conclusion), columns=["what", "value"])
    command = conclusion.provenance.command
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    return [markdown(rows), "Made again by", f"{fence}sh\n{command}\n{fence}"]


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
        figures: PNG, or SVG from `figures.svg`, by the name of its file with or without an ending: `forest`,
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
    environment.filters["shown"] = plain
    pictures = {_stem(file): picture for file, picture in figures.items()}
    drawn = {stem: _element(stem, picture, conclusion) for stem, picture in pictures.items()}
    headline, *rest = summary(conclusion)
    content: dict[str, Any] = {
        "conclusion": conclusion,
        "headline": headline,
        "rest": rest,
        "claims": [_claim_view(claim, conclusion) for claim in conclusion.claims],
        "signs": {str(verdict): sign for verdict, sign in _SIGNS.items()},
        "columns": _main_metrics(conclusion),
        "differing": conclusion.differing,
        "unfair_heading": UNFAIR,
        "unfair": unfair(conclusion),
        "rows": _row_views(conclusion),
        "about_means": about_means(conclusion),
        "constants": constants(conclusion),
        "forest": drawn.pop(FOREST, None),
        "digits": drawn.pop(DIGITS, None),
        "without_pictures": pictures_sentence(conclusion),
        "curves": [drawn.pop(stem) for stem in list(drawn) if stem.startswith(CURVES)],
        "reconstructions": [(_called(stem, conclusion), element) for stem, element in drawn.items()],
        "pairs": pairs_table(conclusion),
        "pairs_first": sum(pair.asked == conclusion.metric for pair in conclusion.pairs),
        "audits": audits(conclusion),
        "published": published_table(conclusion),
        "published_first": published_sentence(conclusion.published.figures) if conclusion.published else "",
        "chances": _chances(conclusion),
        "provenance": provenance(conclusion),
        "made": _time(conclusion.provenance.made),
        "most": MOST_ROWS,
        "metrics_first": _METRICS_FIRST,
        "metrics_more": _METRICS_MORE,
    }
    return environment.get_template(_TEMPLATE).render(content)


def _claim_view(claim: Claim, conclusion: Conclusion) -> dict[str, Any]:
    metric = metric_of(conclusion, claim.metric)
    judged = claim.metric is not None and not math.isnan(claim.difference.mean)
    return {
        "verdict": str(claim.verdict),
        "says": plain(claim.says),
        "difference": f"{label_of(metric)}: {difference_text(claim.difference, metric)}" if judged else "",
        "certainty": f"{p_value(claim.p_holm)}, {seeds_compared(claim.difference)}" if judged else "",
        "warnings": warnings(claim, conclusion),
        "sentence": verdict_sentence(claim, conclusion),
        "notes": notes(claim, conclusion),
    }


def _row_views(conclusion: Conclusion) -> list[dict[str, Any]]:
    metrics, verdicts = _main_metrics(conclusion), judged(conclusion)
    winners = {metric.name: best_of(conclusion, metric) for metric in metrics if metric.judged}
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
    return Markup(text[text.index("<svg") :].replace("<svg", str(opening), 1))  # noqa: S704, drawn by figures.svg
