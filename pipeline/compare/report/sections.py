"""A conclusion as a list of sections: the one place that says what stands in a report, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from pipeline.compare.conclusion import Claim, Conclusion
from pipeline.compare.report.blocks import (
    Block,
    Code,
    Column,
    Fold,
    Item,
    Items,
    Line,
    Paragraph,
    Part,
    Picture,
    Section,
    Span,
    Table,
    bullets,
    paragraphs,
)
from pipeline.compare.report.sentences import (
    COMPLETENESS,
    THREATS,
    Threat,
    about_means,
    audits,
    chances,
    constants,
    other_notes,
    pictures_sentences,
    published_sentence,
    summary,
    threats,
    verdict_sentence,
    wall_times,
)
from pipeline.compare.report.tables import (
    MOST_RUNS,
    claims_table,
    differences,
    overview_table,
    pairs_table,
    published_table,
    results_table,
    runs_table,
)
from pipeline.compare.report.values import (
    LONGEST_NAME,
    MOST_LISTED,
    MOST_ROWS,
    cell_of,
    listed,
    main_metrics,
    name,
    plain,
    run_link,
    scalar,
)

# The pictures of a report, by the names of their files; others are called after `Variation.file`.
FOREST, CURVES, DIGITS = "forest", "loss_curves", "digits"

_METRICS_FIRST, _COLUMNS_MORE = 4, 7  # columns beside the verdict, and of each further table: as wide as paper
_MOST_LINKS = 20  # to the runs of one side of a claim


class Report(NamedTuple):
    """What all renderers show."""

    title: str
    description: str
    headline: str
    rest: list[str]  # what else to know first
    sections: list[Section]


def report(conclusion: Conclusion, pictures: Collection[str] = ()) -> Report:
    """Everything that a report shows.

    Args:
        pictures: names of the files that there are, without their endings.
    """
    headline, *rest = summary(conclusion)
    risks = threats(conclusion)
    sections = [
        _verdicts(conclusion),
        Section("threats", THREATS, [Items([Item(r.why, label=Span(r.what, "warning")) for r in risks], "threat")]),
        _results(conclusion),
        _differences(conclusion, pictures),
        _evidence(conclusion, risks),
        _pictures(conclusion, pictures),
        _checks(conclusion),
        _published(conclusion),
        _provenance(conclusion),
    ]
    there = [each for each in sections if each.brief or any(not isinstance(b, Items) or b.items for b in each.blocks)]
    description = plain(conclusion.description, 1000)
    return Report(plain(conclusion.title), description, headline, rest, there)


def _verdicts(conclusion: Conclusion) -> Section:
    if not conclusion.claims:
        overview = [overview_table(conclusion)] if conclusion.variations else []
        return Section("verdicts", "Verdicts", [], brief=overview)
    table = claims_table(conclusion)
    evidence = Paragraph((Span("What each verdict rests on:"), Span("Evidence", link="#evidence")), only="markdown")
    return Section("verdicts", "Verdicts", [table, evidence], brief=[table])


def _results(conclusion: Conclusion) -> Section:
    table = results_table(conclusion)
    if not table.rows:
        return Section("results", "Results", [])
    metrics = main_metrics(conclusion)
    begin = len(table.columns) - len(metrics) - len(conclusion.differing)
    first, params = begin + min(len(metrics), _METRICS_FIRST), begin + len(metrics)

    def parts(begin: int, end: int) -> list[Block]:
        places = range(begin, end, _COLUMNS_MORE)
        return [table.part(place, min(place + _COLUMNS_MORE, end)) for place in places]

    blocks: list[Block] = [replace(table.part(1, first), unfold=True), *paragraphs(about_means(conclusion))]
    blocks += _fold("More metrics", parts(first, params))
    blocks += paragraphs(wall_times(metrics))
    blocks += _fold("What the variations change", parts(params, len(table.columns)))
    return Section("results", "Results", [*blocks, *paragraphs(constants(conclusion))])


def _fold(title: str, blocks: Sequence[Block], only: str = "", screen: bool = False) -> list[Block]:
    return [Fold(title, blocks, only, screen)] if blocks else []


def _differences(conclusion: Conclusion, pictures: Collection[str]) -> Section:
    caption = "The first variation minus the second: means with 95 % intervals; shaded: below the smallest effect of "
    rows = differences(conclusion).head(MOST_LISTED).to_dict("records")
    pairs = "; ".join(f"{name(row['variation'])} minus {name(row['against'])}: {row['verdict']}" for row in rows)
    forest = Picture(FOREST, f"Differences with their 95 % intervals. {pairs}.", f"{caption}interest.")
    main, others = (pairs_table(conclusion, main) for main in (True, False))
    baseline = f" {plain(conclusion.baseline, LONGEST_NAME)}" if conclusion.baseline else ""
    blocks: list[Block] = [forest] if FOREST in pictures else []
    blocks += _fold(f"Every difference from the baseline{baseline}", [main] if main.rows else [])
    blocks += _fold(f"{len(others.rows):,} more, in other metrics", [others] if others.rows else [])
    return Section("differences", "Differences", blocks)


def _evidence(conclusion: Conclusion, risks: Sequence[Threat]) -> Section:
    shown = [run.run_id for run in conclusion.runs[:MOST_RUNS]]
    rows = {run_id: f"#run-{place}" for place, run_id in enumerate(shown, 1)}
    items = []
    for number, claim in enumerate(conclusion.claims[:MOST_ROWS]):
        own = [(place, risk) for place, risk in enumerate(risks, 1) if number in risk.claims]
        links = tuple(Span(risk.what, link=f"#threat-{place}") for place, risk in own)
        details = [*([("Threats", links)] if links else []), *_runs_of(claim, conclusion, rows)]
        title = Span(_ended(plain(claim.says)), "name", f"#claim-{number + 1}")
        sentence = verdict_sentence(claim, conclusion)
        items.append(Item(sentence, title, Span(str(claim.verdict), "verdict"), other_notes(claim), details))
    return Section("evidence", "Evidence", [Items(items, "evidence")])


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", "\N{IDEOGRAPHIC FULL STOP}")) else f"{sentence}."


def _runs_of(claim: Claim, conclusion: Conclusion, rows: dict[str, str]) -> list[tuple[str, Line]]:
    """Of both sides the name, and the first runs that the difference was computed from with their links."""
    found = []
    for variation in conclusion.variations:
        cell = cell_of(variation, claim.metric or "") if variation.name in (claim.variation, claim.against) else None
        if cell and cell.run_ids:
            ids = cell.run_ids[:_MOST_LINKS]
            links = [Span(run_id[:8], "code", run_link(conclusion, run_id) or rows.get(run_id, "")) for run_id in ids]
            more = [Span(f"{len(cell.run_ids) - len(ids):,} more")] if len(cell.run_ids) > len(ids) else []
            found.append((f"Runs of {plain(variation.name, LONGEST_NAME)}", (*links, *more)))
    return found


def _pictures(conclusion: Conclusion, pictures: Collection[str]) -> Section:
    names = listed(name(variation.name) for variation in conclusion.variations)
    curves = f"Curves by epoch, mean and spread over the seeds, of {names}."
    grid = f"The same test images, and below them their reconstructions by {names}."
    called = {each.file: each.name for each in conclusion.variations if each.file in pictures}
    plotted = [stem for stem in pictures if stem in (FOREST, DIGITS) or stem.startswith(CURVES)]
    strangers = [stem for stem in pictures if stem not in called and stem not in plotted]
    own = [
        Picture(stem, f"Test images above their reconstructions by {name(whose)}.", plain(whose), only)
        for whose, stem, only in [
            *((whose, stem, "") for stem, whose in called.items()),
            *((stem, stem, "html") for stem in strangers),
        ]
    ]
    blocks: list[Block] = [Picture(stem, curves, "The metric by epoch.") for stem in plotted if stem.startswith(CURVES)]
    blocks += (
        [Picture(DIGITS, grid, "The same test images, reconstructed by every variation.")] if DIGITS in plotted else []
    )
    blocks += paragraphs(pictures_sentences(conclusion))
    return Section("pictures", "Pictures", [*blocks, *_fold("Each variation's own picture", own, screen=True)])


def _checks(conclusion: Conclusion) -> Section:
    """The terminal shows of these, without `--all`, which runs are missing: how many, the answer has said."""
    parts = []
    for heading, sentences in audits(conclusion):
        brief = [Items([Item(each) for each in sentences[1:]])] if heading == COMPLETENESS and sentences[1:] else []
        parts.append(Part(heading, bullets(sentences), brief))
    return Section("checks", "Checks", parts)


def _published(conclusion: Conclusion) -> Section:
    published = conclusion.published
    if published is None:
        return Section("published", "Published values", [])
    first = f"{published_sentence(published.figures)} Source: {plain(published.source)}."
    table = published_table(conclusion)
    tables = [table] if table.rows else []
    return Section("published", "Published values", [*paragraphs([first]), *tables, *bullets(chances(conclusion))])


def _provenance(conclusion: Conclusion) -> Section:
    rows = [((Span(what),), (Span(value, "name"),)) for what, value in provenance(conclusion)]
    facts = Table("Provenance", [Column("what"), Column("value")], rows)
    link = run_link(conclusion, conclusion.provenance.study_run_id)
    linked = [Paragraph((Span("The study's run in MLflow", link=link),))] if link else []
    command = [*paragraphs(["Reproduce with"]), Code(conclusion.provenance.command)]
    table = runs_table(conclusion)
    title = f"Every run that was read ({len(table.rows):,})"
    runs = _fold(title, [table] if table.rows else [], only="html", screen=True)
    return Section("provenance", "Provenance", [facts, *linked, *command, *runs])


def provenance(conclusion: Conclusion) -> list[tuple[str, str]]:
    """What it was made from, name and value; what is not known is left out."""
    source = conclusion.provenance
    commits = listed(map(scalar, source.code_versions))
    changed = f"runs with uncommitted changes: {source.dirty:,}" if source.dirty else ""
    rows = {
        "Experiment": source.experiment,
        "Filter": source.filter,
        "Study": source.study,
        "Study's run": source.study_run_id or "",
        "Grouped by": listed(source.group_by, 30),
        "Runs": f"{len(conclusion.runs):,} read, {sum(run.used for run in conclusion.runs):,} used",
        "Run dates": " to ".join(_time(moment) for moment in (source.first_run, source.last_run) if moment),
        "Code version": "; ".join(part for part in (commits, changed) if part),
        "Requirements": listed(map(scalar, source.lock_hashes)),
        "Data": listed(map(scalar, source.data_hashes)),
        "Hardware": listed(map(plain, source.hardware)),
        "Computed with": listed((f"{package} {version}" for package, version in source.versions.items()), 30),
        "Written": _time(source.made),
    }
    return [(what, plain(value, 400)) for what, value in rows.items() if value]


def _time(moment: str) -> str:
    try:
        return f"{datetime.fromisoformat(moment.replace('Z', '+00:00')):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return moment
