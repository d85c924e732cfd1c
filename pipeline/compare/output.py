"""The files of a comparison: its pictures, its tables and reports, and the conclusion that they are made of."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import plots
from pipeline.compare import reading, report
from pipeline.compare.columns import in_order, plain
from pipeline.compare.conclusion import Conclusion
from pipeline.compare.grouping import GroupedRuns
from pipeline.compare.options import CONCLUSION, FILES, Format
from pipeline.compare.report import values
from pipeline.errors import UserError, first_line
from pipeline.texts import quoted
from pipeline.tracking.names import REUSED_FROM

# By file name: what is written, and what the page shows (SVG where it is a drawing).
Drawn = dict[str, tuple[bytes, bytes]]


def named(names: Sequence[str]) -> str:
    """What was written, in half a line: `report.html and .md, conclusion.json, pictures: 2`."""
    endings: dict[str, list[str]] = {}
    for file in (file for file in FILES.values() if file in names):
        stem, dot, ending = file.partition(".")
        endings.setdefault(stem, []).append(dot + ending)
    texts = [f"{stem}{values.listed(found)}" for stem, found in endings.items()]
    pictures = len(names) - sum(map(len, endings.values()))
    return ", ".join([*texts, *([f"pictures: {pictures}"] if pictures else [])])


def left(out: Path, names: Sequence[str]) -> str:
    """What an earlier comparison has left there, and this one has not written anew; empty without."""
    old = [file for file in FILES.values() if file not in names and (out / file).exists()]
    return f"left there as they were, of an earlier comparison: {', '.join(old)}" if old else ""


def pictures(
    grouped: GroupedRuns, conclusion: Conclusion, histories: pd.DataFrame, logged: str = ""
) -> tuple[Drawn, dict[str, str]]:
    """What is drawn, and the variations without a picture, each with why the one that there is was not used.

    Args:
        logged: the artifact to show of each variation; empty = the task's own.
    """
    found: Drawn = {}

    def draw(name: str, figure: Any, drawing: bool = True) -> None:
        png = plots.png(figure)
        found[f"{name}.png"] = (png, plots.svg(figure, name) if drawing else png)

    differences = _drawable(report.differences(conclusion), ["mean", "low", "high", "smallest"])
    if len(differences):
        draw(report.FOREST, plots.forest(differences))
    seeds = report.seeds(conclusion)
    if seeds["seed"].nunique() > 1:
        shown = [values.metric_of(conclusion, metric) for metric in dict.fromkeys(seeds["metric"])]
        draw(report.SEEDS, plots.seeds(seeds, {each.name: (each.label, each.unit) for each in shown}))
    if len(histories) and histories["epoch"].nunique() > 1:
        metric = values.metric_of(conclusion, grouped.followed[0])
        order = {name: place for place, name in enumerate(grouped.plotted)}
        lines = histories.rename(columns={f"metrics.{metric.name}": "value"})
        lines = lines.merge(grouped.used[["run_id", "variation", "seed"]], on="run_id")
        lines = lines[lines["variation"].isin(grouped.plotted)]
        lines = _drawable(lines, ["value"])
        lines = lines.sort_values("variation", key=lambda names: names.map(order), kind="stable")
        if lines["value"].notna().any():
            draw(report.CURVES, plots.curves(lines, metric.name, metric.unit))
    if logged:
        pictured, missing = _logged(grouped, conclusion, logged)
        return found | pictured, missing
    return found, _draw_digits(grouped, conclusion, draw)


def _drawable(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Without the values that no axis can show."""
    values = frame[columns].astype(float)
    return frame.assign(**values.where(values.abs() < plots.LARGEST))


def _draw_digits(grouped: GroupedRuns, conclusion: Conclusion, draw: Any) -> dict[str, str]:
    """Each variation's picture, of its first seed, and all of them on one; returns what `pictures` does."""
    files = {variation.name: variation.file for variation in conclusion.variations}
    originals, reconstructed, missing = None, {}, {}
    for name in grouped.plotted if grouped.by_task else ():
        rows = grouped.by_variation[name].sort_index()
        if rows.empty:
            continue
        try:
            pictures = _pictured(rows.iloc[0])
        except reading.PictureError as why:
            missing[name] = str(why)
            continue
        if pictures is None:
            missing[name] = ""
            continue
        draw(files[name], plots.reconstructions(*pictures, f"{name}, seed {rows.index[0]}"), drawing=False)
        originals = pictures[0] if originals is None else originals
        if pictures[0].shape == originals.shape:
            reconstructed[name] = pictures[1]
        else:
            missing[name] = "its images are of another size than those of the first variation"
    if originals is not None:
        draw(report.DIGITS, plots.digit_grid(originals, reconstructed))
    return missing


def _logged(grouped: GroupedRuns, conclusion: Conclusion, path: str) -> tuple[Drawn, dict[str, str]]:
    """An artifact of the first repetition of each variation that is drawn; the others, each with why not."""
    files = {variation.name: variation.file for variation in conclusion.variations}
    found: Drawn = {}
    missing = {}
    for name in grouped.plotted:
        rows = grouped.by_variation[name]
        seeds = in_order(rows.index)
        rows = rows[[plain(seed) == seeds[0] for seed in rows.index]] if seeds else rows
        if rows.empty:
            missing[name] = "none of its runs is finished"
            continue
        run = rows.iloc[-1]  # the newest comes first
        origin = run.get(f"tags.{REUSED_FROM}")
        try:
            content, ending = reading.picture([run["run_id"], *([origin] if isinstance(origin, str) else [])], path)
        except reading.PictureError as why:
            missing[name] = str(why)
            continue
        found[f"{files[name]}{ending}"] = (content, content)
    return found, missing


def _pictured(run: pd.Series) -> reading.Pictures | None:
    """What `reading.digits` finds, of a run or of the one that it stands for."""
    origin = run.get(f"tags.{REUSED_FROM}")
    found = reading.digits(run["run_id"])
    return reading.digits(origin) if found is None and isinstance(origin, str) else found


def write(folder: Path, conclusion: Conclusion, pictures: Drawn, formats: Sequence[Format]) -> list[str]:
    """Write files, and the pictures that there are, into an empty folder; returns the names, `conclusion.json` last."""
    make: dict[Format, Callable[[], str]] = {
        "html": lambda: report.to_html(conclusion, {name: shown for name, (_, shown) in pictures.items()}),
        "md": lambda: report.to_markdown(conclusion, list(pictures)),
        "csv": lambda: report.conclusion_csv(conclusion),
        "latex": lambda: report.to_latex(conclusion),
        "json": lambda: conclusion.model_dump_json(indent=1) + "\n",
    }
    texts = {FILES[each]: text() for each, text in make.items() if each in formats}
    for name, (content, _) in pictures.items():
        (folder / name).write_bytes(content)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return [*pictures, *texts]


@contextmanager
def folder(out: Path) -> Iterator[Path]:
    """A new folder whose files are moved into `out` when all of them are whole; `out` is there if it has files.

    Raises:
        UserError: it cannot be written.
    """
    new: Path | None = None
    missing: list[Path] = []
    try:
        missing = [folder for folder in (out, *out.parents) if not folder.exists()]
        out.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=out))
        yield new
        # The conclusion last: where it is, what belongs to it is there, too.
        for file in sorted(new.iterdir(), key=lambda file: file.name == CONCLUSION):
            os.replace(file, out / file.name)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UserError(f"out={quoted(out)} cannot be written ({reason}); choose another folder with --out") from None
    finally:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
        for folder in missing:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
