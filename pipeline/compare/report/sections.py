"""A conclusion as a list of sections: the one place that says what stands in a report, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from pipeline.compare.conclusion import Claim, Conclusion
from pipeline.compare.report import audits, publications, sentences, tables, values
from pipeline.compare.report.blocks import (
    Block,
    Code,
    Column,
    Fold,
    Gallery,
    Item,
    Items,
    Line,
    Paragraph,
    Picture,
    Section,
    Span,
    Table,
    bullets,
    paragraphs,
)

# The pictures of a report, by the names of their files; others are called after `Variation.file`.
FOREST, SEEDS, CURVES, DIGITS = "forest", "seeds", "loss_curves", "digits"

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
    headline, *rest = sentences.summary(conclusion)
    risks = sentences.threats(conclusion)
    sections = [
        _verdicts(conclusion),
        Section(sentences.THREATS, [Items([Item(r.why, label=Span(r.what, "warning")) for r in risks], "threat")]),
        _results(conclusion, pictures),
        _differences(conclusion, pictures),
        _evidence(conclusion, risks),
        _tuning(conclusion),
        _searches(conclusion),
        _sweep(conclusion),
        _pictures(conclusion, pictures),
        _checks(conclusion),
        _published(conclusion, risks),
        _provenance(conclusion),
    ]
    there = [each for each in sections if each.brief or any(not isinstance(b, Items) or b.items for b in each.blocks)]
    description = values.plain(conclusion.description, 1000)
    return Report(values.plain(conclusion.title), description, headline, rest, there)


def _verdicts(conclusion: Conclusion) -> Section:
    if not conclusion.claims:
        overview = [tables.overview_table(conclusion)] if conclusion.variations else []
        return Section("Verdicts", paragraphs(sentences.interval_notes(conclusion)), brief=overview)
    table = tables.claims_table(conclusion)
    evidence = Paragraph((Span("What each verdict rests on:"), Span("Evidence", link="#evidence")), only="markdown")
    level = paragraphs(sentences.interval_notes(conclusion))
    return Section("Verdicts", [table, *level, evidence], brief=[table])


def _results(conclusion: Conclusion, pictures: Collection[str]) -> Section:
    table = tables.results_table(conclusion)
    if not table.rows:
        return Section("Results", [])
    metrics = values.main_metrics(conclusion)
    begin = len(table.columns) - len(metrics) - len(conclusion.differing)
    first, params = begin + min(len(metrics), _METRICS_FIRST), begin + len(metrics)

    def parts(begin: int, end: int) -> list[Block]:
        places = range(begin, end, _COLUMNS_MORE)
        return [table.part(place, min(place + _COLUMNS_MORE, end)) for place in places]

    blocks: list[Block] = [replace(table.part(1, first), unfold=True), *paragraphs(sentences.table_notes(conclusion))]
    blocks += (
        [Picture(SEEDS, "The main metric and those that are claimed, of every run.", "Every run's own value.")]
        if SEEDS in pictures
        else []
    )
    blocks += _fold("More metrics", parts(first, params))
    blocks += _fold("What the variations change", parts(params, len(table.columns)))
    return Section("Results", blocks)


def _fold(title: str, blocks: Sequence[Block], only: str = "", screen: bool = False) -> list[Block]:
    return [Fold(title, blocks, only, screen)] if blocks else []


def _differences(conclusion: Conclusion, pictures: Collection[str]) -> Section:
    shown = tables.differences(conclusion).head(values.MOST_LISTED).to_dict("records")
    pairs = "; ".join(f"{values.name(r['variation'])} minus {values.name(r['against'])}: {r['verdict']}" for r in shown)
    caption = (
        "Means with 95 % intervals, all at once; dots: each seed's own difference; shaded: below the smallest effect."
    )
    forest = Picture(FOREST, f"Differences with their 95 % intervals. {pairs}.", caption)
    main, others = (tables.pairs_table(conclusion, main) for main in (True, False))
    baseline = f" {values.plain(conclusion.baseline, values.LONGEST_NAME)}" if conclusion.baseline else ""
    blocks: list[Block] = [forest] if FOREST in pictures else []
    blocks += _fold(f"Every difference from the baseline{baseline}", [main] if main.rows else [])
    blocks += _fold(f"{len(others.rows):,} more, in other metrics", [others] if others.rows else [])
    return Section("Differences", blocks)


def _evidence(conclusion: Conclusion, risks: Sequence[sentences.Threat]) -> Section:
    shown = [run.run_id for run in conclusion.runs[: tables.MOST_RUNS]]
    rows = {run_id: f"#run-{place}" for place, run_id in enumerate(shown, 1)}
    items = []
    for number, claim in enumerate(conclusion.claims):
        own = [(place, risk) for place, risk in enumerate(risks, 1) if number in risk.claims]
        links = tuple(Span(risk.what, link=f"#threat-{place}") for place, risk in own)
        details = [*([("Threats", links)] if links else []), *_runs_of(claim, conclusion, rows)]
        title = Span(_ended(values.plain(claim.says)), "name", f"#claim-{number + 1}")
        sentence = sentences.verdict_sentence(claim, conclusion)
        items.append(Item(sentence, title, Span(str(claim.verdict), "verdict"), sentences.other_notes(claim), details))
    return Section("Evidence", [Items(items, "evidence")])


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", "\N{IDEOGRAPHIC FULL STOP}")) else f"{sentence}."


def _runs_of(claim: Claim, conclusion: Conclusion, rows: dict[str, str]) -> list[tuple[str, Line]]:
    """Of both sides the name, and the first runs that the difference was computed from with their links."""
    found = []
    for variation in conclusion.variations:
        cell = values.cell_of(variation, claim.metric or "")
        if cell and cell.run_ids and variation.name in (claim.variation, claim.against):
            ids, more = cell.run_ids[:_MOST_LINKS], len(cell.run_ids) - _MOST_LINKS
            links = [Span(i[:8], "code", values.run_link(conclusion, i) or rows.get(i, "")) for i in ids]
            links += [Span(f"{more:,} more")] if more > 0 else []
            found.append((f"Runs of {values.plain(variation.name, values.LONGEST_NAME)}", tuple(links)))
    return found


def _tuning(conclusion: Conclusion) -> Section:
    if not conclusion.tuning:
        return Section("Tuning", [])
    seeds = len(conclusion.tuning[0].seeds)
    how = f"Each variation is its own best point of the grid, over {seeds} seeds that are not reported."
    return Section("Tuning", [*paragraphs([how]), tables.tuning_table(conclusion)])


def _searches(conclusion: Conclusion) -> Section:
    if not conclusion.searches:
        return Section("Search", [])
    table = tables.searches_table(conclusion)
    how = [f"{table.label} [95 % interval, where so few of them say anything of chance]."]
    return Section("Search", [*paragraphs(how), table], brief=[table])


def _sweep(conclusion: Conclusion) -> Section:
    sweep = conclusion.sweep
    if sweep is None:
        return Section("One run each", [])
    parts = [tables.sweep_table(conclusion, sweep), tables.expected_table(conclusion, sweep)]
    blocks = [*paragraphs(sentences.sweep_notes(conclusion)), *(table for table in parts if table.rows)]
    return Section("One run each", blocks, brief=blocks)


def _pictures(conclusion: Conclusion, pictures: Collection[str]) -> Section:
    names = values.listed(values.name(variation.name) for variation in conclusion.variations)
    curves = [stem for stem in pictures if stem.startswith(CURVES)]
    alternative = f"Curves by epoch, mean and spread over the seeds, of {names}."
    blocks: list[Block] = [Picture(stem, alternative, "The metric by epoch.") for stem in curves]
    if DIGITS in pictures:
        alternative = f"The same test images, and below them their reconstructions by {names}."
        blocks.append(Picture(DIGITS, alternative, "The same test images, reconstructed by every variation."))
    called = {each.file: each.name for each in conclusion.variations if each.file in pictures}
    known = {*called, *curves, FOREST, SEEDS, DIGITS}
    asked = conclusion.provenance.pictures
    what = f"{values.plain(asked)} of" if asked else "Test images above their reconstructions by"
    own = [
        Picture(
            stem,
            f"{what} {values.name(called.get(stem, stem))}.",
            values.plain(called.get(stem, stem)),
            only="" if stem in called else "html",
        )
        for stem in [*called, *(stem for stem in pictures if stem not in known)]
    ]
    blocks += paragraphs(sentences.asked_pictures_sentences(conclusion, len(called)))
    blocks += [Gallery(own)] if asked and own else []
    blocks += paragraphs(sentences.pictures_sentences(conclusion))
    return Section("Pictures", [*blocks, *_fold("Each variation's own picture", [] if asked else own, screen=True)])


def _checks(conclusion: Conclusion) -> Section:
    """The terminal shows of these, without `--all`, which runs are missing: how many, the answer has said."""
    parts = []
    for heading, found in audits.audits(conclusion):
        missing = found[1:] if heading == sentences.COMPLETENESS else []
        parts.append(Section(heading, bullets(found), [Items([Item(each) for each in missing])] if missing else []))
    return Section("Checks", parts)


def _published(conclusion: Conclusion, risks: Sequence[sentences.Threat]) -> Section:
    published = conclusion.published
    if published is None:
        return Section("Published values", [])
    first = f"{publications.published_sentence(published.values)} Source: {values.plain(published.source)}."
    every = (publications.chance_sentence(each, conclusion, published.decimals) for each in published.differences)
    chances = [sentence for sentence in every if sentence not in {risk.why for risk in risks}]
    table = tables.published_table(conclusion)
    beside = [table] if table.rows else []
    return Section("Published values", [*paragraphs([first]), *beside, *bullets(chances)])


def _provenance(conclusion: Conclusion) -> Section:
    rows = [((Span(what),), (Span(value, "name"),)) for what, value in provenance(conclusion)]
    facts = Table("Provenance", [Column("what"), Column("value")], rows)
    link = values.run_link(conclusion, conclusion.provenance.study_run_id)
    linked = [Paragraph((Span("The study's run in MLflow", link=link),))] if link else []
    command = [*paragraphs(["Reproduce with"]), Code(conclusion.provenance.command)]
    table = tables.runs_table(conclusion)
    title = f"Every run that was read ({len(table.rows):,})"
    runs = _fold(title, [table] if table.rows else [], only="html", screen=True)
    return Section("Provenance", [facts, *linked, *command, *runs])


def provenance(conclusion: Conclusion) -> list[tuple[str, str]]:
    """What it was made from, name and value; what is not known is left out."""
    source = conclusion.provenance
    commits = values.listed(map(values.scalar, source.code_versions))
    changed = f"runs with uncommitted changes: {source.dirty:,}" if source.dirty else ""
    rows = {
        "Experiment": values.listed(source.experiments),
        "Filter": source.filter,
        "Study": source.study,
        "Study's run": source.study_run_id or "",
        "Repetitions": _repetitions(conclusion),
        "Grouped by": values.listed(source.group_by, 30),
        "Left aside": _aside(conclusion),
        "Runs": f"{len(conclusion.runs):,} read, {sum(run.used for run in conclusion.runs):,} used",
        "Run dates": " to ".join(_time(moment) for moment in (source.first_run, source.last_run) if moment),
        "Code version": "; ".join(part for part in (commits, changed) if part),
        "Requirements": values.listed(map(values.scalar, source.requirements_hashes)),
        "Data": values.listed(map(values.scalar, source.data_hashes)),
        "Hardware": values.listed(map(values.plain, source.hardware)),
        "Computed with": values.listed((f"{package} {version}" for package, version in source.versions.items()), 30),
        "Written": _time(source.made),
    }
    return [(what, values.plain(value, 400)) for what, value in rows.items() if value]


def _repetitions(conclusion: Conclusion) -> str:
    """What tells them apart: `tag seed`, of the column `tags.seed`."""
    parts = [column.partition(".") for column in conclusion.repetitions]
    told = [f"{kind.removesuffix('s')} {name}" if name else "number in the run's name" for kind, _, name in parts]
    return values.listed(told) or "not told apart by any parameter, tag or name: each run counts as one"


def _aside(conclusion: Conclusion) -> str:
    if not conclusion.aside:
        return ""
    what = "where and how runs ran, what they are called, where they write; --group-by makes them count"
    return f"{values.listed(map(values.plain, conclusion.aside), 30)}: {what}"


def _time(moment: str) -> str:
    try:
        return f"{datetime.fromisoformat(moment.replace('Z', '+00:00')):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return moment
