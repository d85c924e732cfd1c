"""The tables of a report, and a conclusion as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

import pandas as pd

from pipeline.compare.conclusion import Claim, Conclusion, Metric, Pair, Sweep, TuningPoint, Variation
from pipeline.compare.report import values
from pipeline.compare.report.blocks import SIGNS, Column, Line, Span, Table, text_of
from pipeline.compare.report.publications import misread_sentence, reproduced_text
from pipeline.compare.report.sentences import flag_name, verdict_sentence, warnings
from pipeline.progress import duration
from pipeline.study.tuning import point_text

_MOST_PANELS = 4  # of the plot of every seed
MOST_RUNS = 500  # of the page's list of runs


# What was found for a variation, a claim's verdict or a difference from the baseline, and the claim's number from 0.
Found = tuple[Pair, str, int | None]


def found_for(conclusion: Conclusion) -> dict[str, list[Found]]:
    """By variation: the verdicts on its claims, else what was found against the baseline in the main metric."""
    found: dict[str, list[Found]] = {}
    for number, claim in enumerate(conclusion.claims):
        found.setdefault(claim.variation, []).append((claim, str(claim.verdict), number))
    claimed = set(found)
    for pair in conclusion.pairs:
        if pair.asked == conclusion.metric and pair.variation not in claimed:
            found.setdefault(pair.variation, []).append((pair, pair.finding, None))
    return found


def differences(conclusion: Conclusion) -> pd.DataFrame:
    """What `plots.forest` plots: the claims, then the main metric's difference of each variation in none of them."""
    shown: list[Pair] = [claim for claim in conclusion.claims if claim.why != "wall time"]
    claimed = {side for claim in shown for side in (claim.variation, claim.against)}
    shown += [pair for pair in conclusion.pairs if pair.asked == conclusion.metric and pair.variation not in claimed]
    rows = []
    for pair in shown:
        metric = values.metric_of(conclusion, pair.metric or pair.asked)
        low, high = values.difference_interval(pair.difference, metric)
        smallest, verdict = (
            (pair.smallest_effect, str(pair.verdict)) if isinstance(pair, Claim) else (math.nan, pair.finding)
        )
        seen = values.difference_text(pair.difference, metric.model_copy(update={"unit": ""}))
        note = "\n".join([seen, *warnings(pair, conclusion)[:2]])
        sides = (pair.variation, pair.against, metric.label, metric.unit)
        own = _by_pair(pair, conclusion) if pair.difference.paired else ()
        rows.append((*sides, pair.difference.mean, low, high, own, smallest, verdict, note))
    columns = ["variation", "against", "metric", "unit", "mean", "low", "high", "seeds", "smallest", "verdict", "note"]
    return pd.DataFrame(rows, columns=columns)


def _by_pair(pair: Pair, conclusion: Conclusion) -> tuple[float, ...]:
    """The difference of each seed that both sides have."""
    sides = {each.name: values.cell_of(each, pair.metric or "") for each in conclusion.variations}
    a, b = (
        dict(zip(cell.seeds, cell.values, strict=True)) if cell else {}
        for cell in map(sides.get, (pair.variation, pair.against))
    )
    return tuple(a[seed] - b[seed] for seed in a if seed in b)


def seeds(conclusion: Conclusion) -> pd.DataFrame:
    """What `plots.seeds` plots, of the main metric and of those that are claimed: `metric, variation, seed, value`."""
    wanted = dict.fromkeys([conclusion.metric or "", *(claim.metric or "" for claim in conclusion.claims)])
    rows = [
        (metric, variation.name, *each)
        for metric in list(wanted)[:_MOST_PANELS]
        for variation in conclusion.variations
        if (cell := values.cell_of(variation, metric)) is not None
        for each in zip(cell.seeds, cell.values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["metric", "variation", "seed", "value"])


def _text(text: str) -> Line:
    return (Span(text),)


def _name(text: object, most: int = values.LONGEST_NAME) -> Line:
    return (Span(values.plain(text, most), "name"),)


def _verdict(verdict: str, pair: Pair, conclusion: Conclusion) -> Line:
    return (Span(verdict, "verdict"), *_beside(pair, conclusion))


def _beside(pair: Pair, conclusion: Conclusion) -> Line:
    return tuple(Span(warning, "warning") for warning in warnings(pair, conclusion))


def claims_table(conclusion: Conclusion) -> Table:
    """A row per claim: verdict with what is beside it, the claim, the difference and the test."""
    rows = []
    for number, claim in enumerate(conclusion.claims, 1):
        metric = values.metric_of(conclusion, claim.metric)
        judged = claim.metric is not None and not math.isnan(claim.difference.mean)
        seen = f"{values.label_of(metric)}: {values.difference_text(claim.difference, metric)}"
        seen, test = (seen, values.certainty(claim)) if judged else (verdict_sentence(claim, conclusion), "")
        evidence = Span("evidence", "detail", f"#evidence-{number}")
        row = (_verdict(str(claim.verdict), claim, conclusion), _name(claim.says, 200), _text(seen))
        rows.append((*row, (Span(test), evidence)))
    columns = [Column("verdict"), Column("claim"), Column("difference", "95 % interval, all at once"), Column("test")]
    return Table("Verdicts", columns, rows, cards=True, anchor="claim")


def overview_table(conclusion: Conclusion) -> Table:
    """Of a conclusion without claims, for the terminal: a row per variation with its difference from the baseline."""
    metric, found = values.metric_of(conclusion, conclusion.metric), found_for(conclusion)
    rows = []
    judged = {pair.variation for pair in conclusion.pairs if pair.finding != "not judged"}
    for variation in conclusion.variations:
        if conclusion.sweep and variation.name not in judged:
            continue
        mean = " ".join(values.cell_text(values.cell_of(variation, metric.name), metric)).strip()
        seen = f"{values.label_of(metric)}: {values.with_unit(mean, metric)}, " if mean != "-" else ""
        row: list[Line] = [_name(variation.name), _text(f"{seen}runs finished: {values.runs_text(variation)}")]
        label: Line = (Span(variation.role, "verdict"),)
        for pair, verdict, _ in found.get(variation.name, []):
            label = _verdict(verdict, pair, conclusion)
            difference = values.difference_text(pair.difference, values.metric_of(conclusion, pair.metric))
            row.append(_text(f"minus {values.name(pair.against)}: {difference}"))
        rows.append((label, *row, ())[:4])
    columns = [Column(heading) for heading in ("finding", "variation", "result", "difference")]
    return Table("Variations", columns, rows, cards=True)


def tuning_table(conclusion: Conclusion) -> Table:
    """A row per variation that was tuned: what was chosen, what each point of the grid gave, and what it took."""
    rows = []
    for each in conclusion.tuning:
        metric = values.metric_of(conclusion, each.metric)
        chosen = point_text(each.chosen) if each.chosen else "nothing"
        chosen += f" (at the edge: {values.listed(each.at_the_edge)})" if each.at_the_edge else ""
        chosen += f" (by its runs now: {point_text(each.best) if each.best else 'nothing'})" * (
            each.best != each.chosen
        )
        points = "; ".join(f"{point_text(point.values)}: {_mean_and_sd(point, metric)}" for point in each.points)
        took = f"{each.runs:,} runs, {each.steps:,} steps"
        took += "" if math.isnan(each.seconds) else f", {duration(each.seconds)}"
        told = (values.plain(text, 2000) for text in (chosen, values.label_of(metric), points, took))
        rows.append((_name(each.variation), *map(_text, told)))
    columns = [Column("variation"), Column("chosen"), Column("metric"), Column("grid", "mean ± sd"), Column("took")]
    return Table("Tuning", columns, rows)


def expected_table(conclusion: Conclusion, sweep: Sweep) -> Table:
    """What more and more tries of a sweep are expected to give at best."""
    metric = values.metric_of(conclusion, conclusion.metric)
    rows = [
        (
            _text(f"{each.n:,}"),
            _text(values.number(each.mean, metric.decimals)),
            _text(values.possible_interval(each.low, each.high, metric)),
        )
        for each in sweep.expected
    ]
    label = f"Expected best {values.label_of(metric)}"
    columns = [Column("tries", number=True), Column(label, number=True), Column("95 % interval", number=True)]
    return Table(label, columns, rows)


def sweep_table(conclusion: Conclusion, sweep: Sweep) -> Table:
    """A row per parameter of a sweep and setting of it."""
    metric = values.metric_of(conclusion, conclusion.metric)
    rows = []
    for each in sweep.parameters:
        for place, setting in enumerate(each.settings):
            first = (
                (values.plain(each.parameter, 100), "-" if math.isnan(each.share) else f"{100 * each.share:.0f} %")
                if not place
                else ("", "")
            )
            numbers = (values.number(value, metric.decimals) for value in (setting.mean, setting.best))
            rows.append(tuple(map(_text, (*first, values.plain(setting.value, 100), f"{setting.n:,}", *numbers))))
    label = values.label_of(metric)
    columns = [
        Column("parameter"),
        Column("share of variance", number=True),
        Column("value"),
        Column("runs", number=True),
        Column(f"mean {label}", number=True),
        Column(f"best {label}", number=True),
    ]
    return Table(f"{label} by parameter", columns, rows)


def searches_table(conclusion: Conclusion) -> Table:
    """A row per variation: what more and more tries of its search are expected to give at best."""
    metric = values.metric_of(conclusion, conclusion.metric)
    sizes = sorted({each.n for search in conclusion.searches for each in search.expected})
    rows = []
    for search in conclusion.searches:
        by_n = {each.n: each for each in search.expected}
        cells = []
        for n in sizes:
            span = values.possible_interval(by_n[n].low, by_n[n].high, metric) if n in by_n else ""
            mean = values.number(by_n[n].mean, metric.decimals) if n in by_n else "-"
            cells.append((Span(mean), *([Span(span, "below")] if span else [])))
        best = _text(values.plain(search.best or "none", 400))
        rows.append((_name(search.variation), _text(f"{search.tries:,}"), *cells, best))
    columns = [
        Column("variation"),
        Column("tries", number=True),
        *(Column(f"best of {n:,}", number=True) for n in sizes),
    ]
    return Table(f"Expected best {values.label_of(metric)} of n tries", [*columns, Column("best try")], rows)


def _mean_and_sd(point: TuningPoint, metric: Metric) -> str:
    if math.isnan(point.mean):
        return "no result"
    sd = "" if math.isnan(point.sd) else f" ± {values.number(point.sd, metric.decimals)}"
    return f"{values.number(point.mean, metric.decimals)}{sd}"


def results_table(conclusion: Conclusion) -> Table:
    """A row per variation: runs, verdict with what is beside it, flags, main metrics, and what it changes.

    The flags are left out where there are none.
    """
    metrics, found = values.main_metrics(conclusion), found_for(conclusion)
    compared = [metric for metric in metrics if metric.compared and not metric.wall_time]
    best = {m.name: winner[1].mean for m in compared if (winner := values.best_of(conclusion, m))}
    candidates = values.without_repeats(conclusion)
    flagged = any(variation.flags for variation in conclusion.variations)
    rows = []
    for variation in conclusion.variations:
        row = [_name(variation.name, 100), _text(values.runs_text(variation))]
        row.append(_verdict_cell(variation, found.get(variation.name, []), conclusion))
        row += [tuple(Span(flag_name(flag), "flag") for flag in variation.flags)] if flagged else []
        for metric in metrics:
            cell = values.cell_of(variation, metric.name)
            mean, span = values.cell_text(cell, metric)
            is_best = cell is not None and cell.mean == best.get(metric.name) and variation in candidates
            fewer = f"n = {cell.n}" if cell and cell.n and cell.n != variation.finished else ""
            worst = (
                f"worst {values.number(cell.worst, metric.decimals)}"
                if cell and cell.n > 1 and not math.isnan(cell.worst)
                else ""
            )
            spans = (
                Span(mean, "best" if is_best else ""),
                Span(span, "below"),
                Span(worst, "detail"),
                Span(fewer, "detail"),
            )
            row.append(tuple(each for each in spans if each.text))
        rows.append((*row, *(_name(values.scalar(variation.params.get(key))) for key in conclusion.differing)))
    columns = [Column("variation"), Column("runs", number=True), Column("verdict")]
    columns += [Column("flags")] if flagged else []
    columns += [Column(values.plain(metric.label), values.plain(metric.unit), number=True) for metric in metrics]
    columns += [Column(values.plain(parameter)) for parameter in conclusion.differing]
    return Table("Results by variation", columns, rows)


def _verdict_cell(variation: Variation, found: Sequence[Found], conclusion: Conclusion) -> Line:
    """Each verdict with what is beside it; against whom stands behind it, for all readers where there are several."""
    if not found:
        return (Span(variation.role, "role"),) if variation.role != "variation" else ()
    cell: list[Span] = []
    for pair, verdict, claim in found:
        against = f"against {values.plain(pair.against, values.LONGEST_NAME)}"
        link = f"#evidence-{claim + 1}" if claim is not None else ""
        beside = _beside(pair, conclusion)
        cell += [Span("", "next")] if cell else []
        if len(found) > 1:
            cell += [Span(verdict, "verdict"), Span(against, "below", link), *beside]
        else:
            cell += [Span(verdict, "verdict"), *beside, *([Span(against, "detail", link)] if verdict in SIGNS else [])]
    return tuple(cell)


def pairs_table(conclusion: Conclusion, main: bool | None = None) -> Table:
    """A row per variation and metric that is compared: its difference from the baseline, and what is beside it.

    Args:
        main: only of the main metric, or only of the others.
    """
    rows = []
    for pair in conclusion.pairs:
        if main is not None and main != (pair.asked == conclusion.metric):
            continue
        metric = values.metric_of(conclusion, pair.metric or pair.asked)
        size = 100 * pair.relative
        relative = f"{values.signed(size, 1 if abs(size) >= 1 else 2)} %" if math.isfinite(size) else "-"
        instead = pair.metric not in (None, pair.asked)
        asked = f", for {values.label_of(values.metric_of(conclusion, pair.asked))}" if instead else ""
        difference = values.difference_text(pair.difference, metric.model_copy(update={"unit": ""}))
        row = list(map(_text, (values.label_of(metric) + asked, difference, values.plain(metric.unit), relative)))
        finding = (Span(pair.finding), *_beside(pair, conclusion))
        rows.append((_name(pair.variation), *row, _text(values.p_value(pair.p_corrected)), finding))
    columns = [Column("variation"), Column("metric"), Column("difference", "95 % interval, all at once")]
    columns += [Column("unit"), Column("relative"), Column("p", "corrected"), Column("finding")]
    label = f"Differences from the baseline in {'other metrics' if main is False else 'the main metric'}"
    return Table(label, columns, rows)


def published_table(conclusion: Conclusion) -> Table:
    """A row per published figure: ours with its prediction interval, and whether it is reproduced."""
    published = conclusion.published
    rows = []
    for figure in published.values if published else ():
        metric = values.metric_of(conclusion, figure.metric)
        row = [values.label_of(metric), f"{figure.published:.{published.decimals if published else 4}f}"]
        row += [values.ours_text(figure.mean, figure.low, figure.high, metric), reproduced_text(figure.reproduced)]
        rows.append((_name(figure.variation), *map(_text, [*row, misread_sentence(figure, conclusion)])))
    columns = [Column("variation"), Column("metric"), Column("published"), Column("ours", "95 % prediction interval")]
    table = Table("Published values beside ours", [*columns, Column("reproduced?"), Column("as commonly read")], rows)
    return table if any(text_of(row[-1]) for row in rows) else table.part(1, 5)


def runs_table(conclusion: Conclusion) -> Table:
    """A row per run that was read."""
    rows = []
    for run in conclusion.runs:
        status = (Span(run.status), *([Span(values.plain(run.reason), "below")] if run.reason else []))
        seed, used = "none" if run.seed is None else str(run.seed), "yes" if run.used else "no"
        names = (_name(run.name), _name(run.variation or "none"))
        run_id = Span(run.run_id, "code", values.run_link(conclusion, run.run_id))
        rows.append(((run_id,), *names, _text(seed), status, _text(used)))
    columns = [Column(heading) for heading in ("run", "name", "variation", "seed", "status", "used")]
    return Table("Runs", columns, rows, anchor="run", most=MOST_RUNS)


# --- CSV ----------------------------------------------------------------------------------------------------------


def conclusion_csv(conclusion: Conclusion) -> str:
    """One row per variation in full precision: parameters, runs, verdicts, flags, what its seeds say of each metric.

    A parameter or a metric that is called like another column stands under `params.` or `metrics.` and its name.
    """
    found = found_for(conclusion)
    parameters = list(dict.fromkeys(key for variation in conclusion.variations for key in variation.params))
    statistics = ("n", "sd", "low", "high", "median", "worst", "worst_seed")
    before, behind = ("variation", "role"), ("planned", "finished", "seeds", "verdict", "flags")
    names = [metric.name for metric in conclusion.metrics]
    taken = {*before, *behind, *(f"{name}_{statistic}" for name in names for statistic in statistics)}
    names = [f"metrics.{name}" if name in taken else name for name in names]
    of_metrics = [f"{name}{end}" for name in names for end in ("", *(f"_{statistic}" for statistic in statistics))]
    taken |= {*of_metrics}
    columns = [*before, *(f"params.{key}" if key in taken else key for key in parameters), *behind, *of_metrics]
    rows: list[list[object]] = []
    for variation in conclusion.variations:
        row: list[object] = [variation.name, variation.role, *(variation.params.get(key) for key in parameters)]
        row += [variation.planned, variation.finished, " ".join(map(str, variation.seeds))]
        row += [text_of(_verdict_cell(variation, found.get(variation.name, []), conclusion))]
        row += [", ".join(map(flag_name, variation.flags))]
        for metric in conclusion.metrics:
            cell = values.cell_of(variation, metric.name)
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
