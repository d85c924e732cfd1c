"""Arrays and frames in, pictures out; nothing here reads or writes a file.

Images are [images, height, width, channels] in [0, 1]; the first row shows the originals, the second their
reconstructions, as the published figures do.

Text in a picture is text: a `$` starts no formula, and a name of any length or language takes one line.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

Array = NDArray[Any]

# Okabe and Ito's palette (2008), which colour-blind readers can tell apart, without its yellow, too pale for a line.
_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
_TRAINING, _VALIDATION = _BLUE, _VERMILION
_LINES = [(colour, style) for style in ("-", (0, (5, 2))) for colour in (_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE)]
_GREY = "#8c8c8c"
_INK = "#1d2125"  # text and axes; `svg` turns it into the colour of the page's text
_MARKS = {  # by verdict
    "supported": (_GREEN, "o"),
    "supported, size undecided": (_GREEN, "^"),
    "contradicted": (_VERMILION, "X"),
    "negligible": (_SKY, "s"),
    "inconclusive": (_ORANGE, "D"),
    "confounded": (_PURPLE, "P"),
    "not judged": (_GREY, "v"),
}
_NO_VERDICT = (_BLUE, "o")

_ENLARGEMENT = 4  # pixels of a strip per pixel of an image
_GAP = 2  # pixels of an image between the pictures of a grid
_LONGEST, _LONGEST_NOTE = 34, 40  # characters of a name in a picture, and of a line beside it
_DIRECTIONS = dict.fromkeys(map(ord, "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"))
LARGEST = 1e100  # of larger values there is no axis: matplotlib's own arithmetic overflows
MOST_LINES, MOST_PAIRS, MOST_ROWS = len(_LINES), 30, 30  # what one picture names; the rest it counts
_RATIO_FOR_LOG = 4.0  # of the largest value to the smallest: above that a linear axis hides the small ones
_AXIS_INCHES, _DIGIT_INCHES = 3.0, 0.08  # of a forest: how wide its axis is at least, and a character beside it
_CROWDED = 0.25  # of an axis: lines that end within less of it, and further than that from the others
_LABEL_INCHES = 0.19  # between the labels of two lines


def reconstructions(originals: NDArray[np.float32], reconstructed: NDArray[np.float32], title: str) -> Figure:
    """Originals above reconstructions, one column per image; values are clipped to [0, 1], not stretched."""
    figure = _grid([("original", originals), ("reconstruction", reconstructed)])
    figure.suptitle(short(title, 80), fontsize=11, parse_math=False)
    return figure


def loss_curve(history: pd.DataFrame, title: str, validated_on: str = "test") -> Figure:
    """`loss` and `val_loss` by epoch; dashed beneath them `bce` and `val_bce` where a penalty sets them apart.

    Args:
        validated_on: which images `val_loss` is of.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    penalised = bool((history["loss"] - history["bce"]).abs().max() > 1e-6)
    for prefix, label, colour in (("", "training", _TRAINING), ("val_", validated_on, _VALIDATION)):
        axis.plot(history.index, history[f"{prefix}loss"], color=colour, marker=".", label=f"{label}: loss")
        if penalised:
            bce = history[f"{prefix}bce"]
            axis.plot(history.index, bce, color=colour, linestyle="--", label=f"{label}: without the L1 penalty")
    axis.set(xlabel="epoch", ylabel="binary cross-entropy (nats per pixel)")
    axis.set_title(short(title, 80), parse_math=False)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def strip(originals: NDArray[np.float32], reconstructed: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The two rows as one array [height, width, channels] of pixels from 0 to 255, four times enlarged.

    Values are clipped to [0, 1], not stretched, so that the strips of two runs can be compared; NaN is black.
    """
    rows = [np.concatenate(list(images), axis=1) for images in (originals, reconstructed)]
    return pixels(np.concatenate(rows)).repeat(_ENLARGEMENT, axis=0).repeat(_ENLARGEMENT, axis=1)


def pixels(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values from 0 to 255, clipped and not stretched; NaN is 0."""
    return np.round(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)


def digit_grid(originals: NDArray[np.float32], reconstructed: Mapping[str, NDArray[np.float32]]) -> Figure:
    """The same images as every variation reconstructs them: the originals on top, one row per variation.

    Values are clipped to [0, 1], not stretched; NaN is black. Of more than `MOST_ROWS` variations the first are shown
    and the others counted.
    """
    shown = list(reconstructed.items())[:MOST_ROWS]
    figure = _grid([("input image", originals), *shown])
    if len(reconstructed) > len(shown):
        figure.axes[0].set_xlabel(f"not shown: {len(reconstructed) - len(shown):,} more", color=_INK)
    return figure


def _grid(named: Sequence[tuple[str, NDArray[np.float32]]]) -> Figure:
    """A row of pictures for each name, all in one axis: to draw one takes as long as to draw any number in it."""
    rows = [_row(images) for _, images in named]
    grid = np.concatenate(rows)[:-_GAP]  # [height, width, RGBA]
    columns, height = named[0][1].shape[:2]
    inches = 0.55 * columns / grid.shape[1] * grid.shape[0]  # 0.55 inches a picture
    figure = Figure(figsize=(0.55 * columns + 2.4, inches + 0.5), layout="compressed")
    axis = figure.subplots()
    axis.imshow(grid.repeat(_ENLARGEMENT, axis=0).repeat(_ENLARGEMENT, axis=1), interpolation="none")
    middle = [_ENLARGEMENT * (row * (height + _GAP) + height / 2) for row in range(len(rows))]
    axis.set_yticks(middle, [short(name) for name, _ in named], color=_INK, parse_math=False)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def _row(images: NDArray[np.float32]) -> Array:
    """Pictures side by side, a transparent gap to the right of each and below: [height, width, 4]."""
    pictures = np.clip(np.nan_to_num(images.astype(float)), 0, 1)
    colours = pictures if pictures.shape[-1] == 3 else pictures[..., :1].repeat(3, axis=-1)
    framed = np.zeros((len(images), images.shape[1] + _GAP, images.shape[2] + _GAP, 4))
    framed[:, :-_GAP, :-_GAP, :3] = colours
    framed[:, :-_GAP, :-_GAP, 3] = 1
    return np.concatenate(list(framed), axis=1)[:, :-_GAP]


def curves(histories: pd.DataFrame, metric: str, unit: str = "") -> Figure:
    """A metric by epoch: the mean over the seeds of each variation, and the band from the lowest to the highest seed.

    Args:
        histories: one row per run and epoch: `variation, seed, epoch, value`. Values that are not finite are left out,
            and a variation without any is not plotted.
        metric, unit: what the value is called; the unit is empty where it has none.

    The first `MOST_LINES` variations have their names beside the plot, in the order in which their lines end; the
    others are grey and counted. Where a few lines press all others together, a second panel shows those others.
    """
    finite = histories[np.isfinite(histories["value"].astype(float))]
    lines = {
        str(name): rows.groupby("epoch")["value"].agg(["mean", "min", "max"]).sort_index()
        for name, rows in finite.groupby("variation", sort=False)
    }
    plotted = dict(zip(lines, _LINES, strict=False))
    names = [list(plotted)]
    if crowded := _crowded({name: lines[name] for name in plotted}):
        names.append(crowded)
    heights = [max(2.8, _LABEL_INCHES * (len(each) + 1)) for each in names]
    figure = Figure(figsize=(7.6, sum(heights) + 1), layout="constrained")
    panels = list(figure.subplots(len(names), 1, squeeze=False, height_ratios=heights)[:, 0])
    for axis in panels:
        _style_axes(axis)
        axis.set_ylabel(_with_unit(metric, unit))
    panels[-1].set_xlabel("epoch")
    if not lines:
        return _empty(figure, panels[0], "no epochs were recorded")
    for line in list(lines.values())[MOST_LINES:]:
        panels[0].plot(line.index, line["mean"], color=_GREY, linewidth=0.6, alpha=0.5, zorder=1)
    first = min(int(line.index.min()) for line in lines.values())
    last = max(int(line.index.max()) for line in lines.values())
    for place, (axis, shown, height) in enumerate(zip(panels, names, heights, strict=True)):
        begin = -(-min(int(lines[name].index.max()) for name in shown) // 5) if place else first
        _plot_lines(axis, {name: lines[name].loc[begin:] for name in shown}, plotted)
        axis.set_xlim(begin - 0.01 * max(1, last - first), last)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        _name_lines(axis, {name: lines[name] for name in shown}, plotted, _LABEL_INCHES / height)
        closer = f"the {len(shown)} lines that end close together, from epoch {begin}"
        about = closer if place else _legend(finite, len(lines))
        scale = "; logarithmic axis" if axis.get_yscale() == "log" else ""
        axis.set_title(about + scale, fontsize=9, loc="left", color=_INK)
    return figure


_Style = Mapping[str, tuple[str, Any]]  # by variation: colour and dashes


def _plot_lines(axis: Axes, lines: Mapping[str, pd.DataFrame], style: _Style) -> None:
    for name, line in lines.items():
        colour, dashes = style[name]
        axis.fill_between(line.index, line["min"], line["max"], color=colour, alpha=0.18, linewidth=0)
        axis.plot(line.index, line["mean"], color=colour, linestyle=dashes, label=name, linewidth=1.8)
    every = pd.concat([line[["min", "max"]].stack() for line in lines.values()])
    _scale(axis, every.astype(float))


def _crowded(lines: Mapping[str, pd.DataFrame]) -> list[str]:
    """The lines that end so near to one another, and so far from the rest, that an axis for all hides what they do."""
    if len(lines) < 3:
        return []
    ends = pd.Series({name: float(line["mean"].iloc[-1]) for name, line in lines.items()}).sort_values()
    lowest = min(float(line["min"].min()) for line in lines.values())
    highest = max(float(line["max"].max()) for line in lines.values())
    if _needs_log(lowest, highest):  # as `_scale` plots them
        ends, lowest, highest = np.log(ends), np.log(lowest), np.log(highest)
    heights = (ends - lowest) / (highest - lowest or 1)
    gaps = heights.diff().to_numpy()
    cut = int(np.nanargmax(gaps))
    groups = [group for group in (heights.iloc[:cut], heights.iloc[cut:]) if len(group) > 1]
    crowded = [group for group in groups if group.max() - group.min() < _CROWDED]
    if gaps[cut] < _CROWDED or not crowded:
        return []
    found = max(crowded, key=len)
    return [name for name in lines if name in found.index]


def _legend(finite: pd.DataFrame, lines: int) -> str:
    most = int(finite.groupby("variation", sort=False)["seed"].nunique(dropna=False).max())
    about = "mean over the seeds; band: lowest to highest seed" if most > 1 else "one seed each"
    return about + (f"; grey: {lines - MOST_LINES:,} more" if lines > MOST_LINES else "")


def _needs_log(lowest: float, highest: float) -> bool:
    return lowest > 0 and highest / lowest >= _RATIO_FOR_LOG


def _scale(axis: Axes, values: pd.Series) -> None:
    """Logarithmic where the values span too much for a linear axis, with ticks that read as plain numbers."""
    if _needs_log(values.min(), values.max()):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if values.max() / values.min() < 1000 else (1,)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.autoscale_view()


def _name_lines(axis: Axes, lines: Mapping[str, pd.DataFrame], style: _Style, gap: float) -> None:
    """Names to the right of the plot, each behind a piece of its line, as high as its line ends or nearly so.

    Args:
        gap: between two names, as a share of the axis.
    """
    to_axes = axis.transData + axis.transAxes.inverted()
    axis.autoscale(False)
    ends = np.array([to_axes.transform((line.index[-1], line["mean"].iloc[-1]))[1] for line in lines.values()])
    for name, height in zip(lines, spread(ends, gap), strict=True):
        colour, dashes = style[name]
        piece: dict[str, Any] = {"transform": axis.transAxes, "clip_on": False}
        axis.plot([1.02, 1.065], [height, height], color=colour, linestyle=dashes, linewidth=1.8, **piece)
        axis.text(
            1.08, height, short(name), transform=axis.transAxes, va="center", fontsize=9, color=_INK, parse_math=False
        )


def spread(wanted: Array, gap: float) -> Array:
    """Positions in [0, 1], at least `gap` apart and in the order of those wanted, and as near to them as can be.

    Least squares: positions less their share of the gaps must ascend, which is isotonic regression.
    """
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    from scipy.optimize import isotonic_regression  # which takes long to import, and a run does not need it

    ascending = isotonic_regression(wanted[order] - steps).x
    placed = np.empty(len(wanted))
    placed[order] = np.clip(ascending, 0, max(1 - steps[-1], 0)) + steps
    return placed


def forest(differences: pd.DataFrame) -> Figure:
    """Differences with their intervals, a panel for each metric, and the band below the smallest effect of interest.

    Args:
        differences: one row per pair: `variation, against, metric, mean, low, high`, and what may be empty: `unit`,
            `seeds` (each seed's own difference: dots), `smallest` (0 or NaN: no band),
            `verdict` (a `Verdict`'s text, or another) and `note` (lines beside it). A mean without an interval (NaN) is
            a hollow mark; without a finite mean there is none.

    Where an interval reaches far beyond the band, the axis is linear inside it and logarithmic outside. Of more than
    `MOST_PAIRS` pairs the first are shown and the others counted.
    """
    shown = differences.iloc[:MOST_PAIRS]
    panels = [(str(metric), rows) for metric, rows in shown.groupby("metric", sort=False)]
    heights = [len(rows) + 1.2 for _, rows in panels] or [1.0]
    notes = [str(note).splitlines() for note in shown["note"]]
    row = max(0.44, 0.17 * (1 + max(map(len, notes), default=0)))  # inches
    names = [short(name) for side in ("variation", "against") for name in shown[side]]
    texts = [short(line, _LONGEST_NOTE) for note in notes for line in note]
    beside = _DIGIT_INCHES * (max(map(len, names), default=0) + 6 + max(map(len, texts), default=0))
    figure = Figure(figsize=(max(7.6, beside + _AXIS_INCHES), row * sum(heights) + 0.5), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis in axes:
        _style_axes(axis)
    if not panels:
        return _empty(figure, axes[0], "nothing to compare")
    for axis, (metric, rows) in zip(axes, panels, strict=True):
        _panel(axis, metric, rows)
    if len(differences) > len(shown):
        figure.supxlabel(f"not shown: {len(differences) - len(shown):,} more", fontsize=9, color=_INK)
    return figure


def _panel(axis: Axes, metric: str, rows: pd.DataFrame) -> None:
    """One metric's differences, the first row on top."""
    places = np.arange(len(rows))
    axis.set_ylim(len(rows) - 0.5, -0.5)
    names = [f"{short(a)}\nminus {short(b)}" for a, b in zip(rows["variation"], rows["against"], strict=True)]
    axis.set_yticks(places, names, fontsize=8.5, color=_INK, parse_math=False)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")
    smallest = rows["smallest"].astype(float).where(lambda size: np.isfinite(size) & (size > 0), 0.0).to_numpy()
    _difference_scale(axis, rows, smallest)
    axis.barh(places, 2 * smallest, left=-smallest, height=1, color=_GREY, alpha=0.22, linewidth=0, zorder=0)
    axis.axvline(0, color=_INK, linewidth=0.8, zorder=1)
    for place, row in zip(places, rows.to_dict("records"), strict=True):
        _interval(axis, int(place), row)
    about = f"difference in {_with_unit(metric, str(rows['unit'].iloc[0]))}"
    about += "; shaded: below the smallest effect of interest" if smallest.any() else ""
    if axis.get_xscale() == "symlog":
        about += f"\naxis: linear up to \N{PLUS-MINUS SIGN}{smallest.max():g}, logarithmic beyond"
    axis.set_xlabel(about, fontsize=9)


def _interval(axis: Axes, place: int, row: Mapping[Any, Any]) -> None:
    verdict = short(row["verdict"] or "")
    colour, marker = _MARKS.get(verdict, _NO_VERDICT)
    mean, low, high = (float(row[name]) for name in ("mean", "low", "high"))
    known = bool(np.isfinite([low, high]).all())
    if known:
        # The ends are taller than the mark, so that they show where the interval is narrower than it.
        ends: dict[str, Any] = {"marker": "|", "markersize": 15, "markeredgewidth": 1.2}
        axis.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt", **ends)
    if np.isfinite(mean):
        axis.plot([mean], [place], color=colour, marker=marker, markersize=5, markerfacecolor=None if known else "none")
    _dots(axis, place, row["seeds"])
    lines = [(verdict, "bold")] if verdict else []
    lines += [(short(line, _LONGEST_NOTE), "normal") for line in str(row["note"] or "").splitlines()]
    where: dict[str, Any] = {"xycoords": axis.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
    for number, (text, weight) in enumerate(lines):
        down = 11 * ((len(lines) - 1) / 2 - number)
        axis.annotate(
            text, (1.02, place), (0, down), weight=weight, fontsize=8.5, color=_INK, parse_math=False, **where
        )


def _dots(axis: Axes, place: float, values: Sequence[float]) -> None:
    """Every seed's own value, below its row's mean."""
    drawn = [value for value in values if abs(value) < LARGEST]  # no NaN either
    axis.plot(drawn, [place + 0.22] * len(drawn), ".", color=_INK, markersize=4, alpha=0.6, markeredgewidth=0)


def _difference_scale(axis: Axes, rows: pd.DataFrame, smallest: Array) -> None:
    values = np.concatenate([rows[["mean", "low", "high"]].to_numpy(float).ravel(), *map(np.asarray, rows["seeds"])])
    values = values[np.abs(values) < LARGEST]
    edges = [*values.tolist(), *smallest.tolist(), *(-smallest).tolist(), 0.0]
    left, right = min(edges), max(edges)
    linear = float(smallest.max()) if len(smallest) else 0.0
    reach = max(-left, right)
    if linear > 0 and reach > 15 * linear:
        axis.set_xscale("symlog", linthresh=linear, linscale=1)
        axis.set_xlim(min(1.6 * left, -1.6 * linear), max(1.6 * right, 1.6 * linear))
        axis.xaxis.set_major_locator(FixedLocator(_not_touching(axis, _decades(linear, left, right), linear)))
        axis.xaxis.set_minor_locator(NullLocator())
    else:
        pad = 0.08 * (right - left) or 1.0
        axis.set_xlim(left - pad, right + pad)
        axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _not_touching(axis: Axes, ticks: list[float], linear: float) -> list[float]:
    """Those of the ticks whose labels do not touch: 0 and the band's borders first, then from the outermost inwards."""
    to_axes = axis.transData + axis.transAxes.inverted()
    kept: list[tuple[float, float, float]] = []
    for tick in sorted(ticks, key=lambda tick: (abs(tick) > linear, -abs(tick))):
        middle = _AXIS_INCHES * float(to_axes.transform((tick, 0))[0])
        half = _DIGIT_INCHES * (len(_tick(tick)) + 1) / 2
        if all(abs(middle - other) >= half + other_half for _, other, other_half in kept):
            kept.append((tick, middle, half))
    return sorted(tick for tick, _, _ in kept)


def _decades(linear: float, left: float, right: float) -> list[float]:
    """0, the borders of the band and the powers of ten beyond them, at most three to a side."""
    powers = [
        10.0**n for n in range(int(np.floor(np.log10(linear))) + 1, int(np.ceil(np.log10(max(-left, right)))) + 1)
    ]
    powers = powers[:: max(1, -(-len(powers) // 3))]
    positive = [power for power in powers if power <= 1.6 * right and power > 2 * linear]
    negative = [-power for power in powers if power <= -1.6 * left and power > 2 * linear]
    return sorted([*negative, -linear, 0.0, linear, *positive])


def seeds(values: pd.DataFrame, labels: Mapping[str, tuple[str, str]]) -> Figure:
    """Every seed's own value by variation, and their mean: how far one run tells of the next.

    Args:
        values: one row per run and metric: `metric, variation, seed, value`. Of more than `MOST_ROWS` variations the
            first are shown.
        labels: of each metric its label and its unit; one panel for each.
    """
    names = list(dict.fromkeys(values["variation"]))
    shown = names[:MOST_ROWS]
    hidden = f"; not shown: {len(names) - len(shown):,} more variations" if len(names) > len(shown) else ""
    figure = Figure(figsize=(7.6, (0.3 * len(shown) + 0.9) * len(labels)), layout="constrained")
    for axis, (metric, label) in zip(figure.subplots(len(labels), squeeze=False)[:, 0], labels.items(), strict=True):
        _style_axes(axis)
        ticks = [short(str(name)) for name in shown]
        axis.set_yticks(range(len(shown)), ticks, fontsize=8.5, color=_INK, parse_math=False)
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(len(shown) - 0.4, -0.6)
        of = values[values["metric"] == metric]
        for place, name in enumerate(shown):
            own = of.loc[of["variation"] == name, "value"].to_numpy(float)
            drawn = own[np.abs(own) < LARGEST]
            axis.plot(drawn, [place] * len(drawn), "o", color=_BLUE, markersize=4.5, alpha=0.55, markeredgewidth=0)
            if len(drawn):
                axis.plot([drawn.mean()], [place], "|", color=_INK, markersize=13, markeredgewidth=1.4)
        axis.set_xlabel(f"{_with_unit(*label)}: a dot is a run, a line their mean{hidden}", fontsize=9)
    return figure


# --- As files -----------------------------------------------------------------------------------------------------


def png(figure: Figure, dpi: int = 150) -> bytes:
    """A figure on white, as PNG."""
    buffer = io.BytesIO()
    with _any_language():
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, prefix: str = "figure") -> bytes:
    """A figure as an `<svg>` element to stand in a page: no background, text as text and in the page's colour.

    The same figure gives the same bytes; `prefix` keeps the ids of several figures of a page apart.
    """
    buffer = io.StringIO()
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(w_pad=0.15)  # inches, for a page whose font is wider than Matplotlib's
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}), _any_language():
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    element = text[text.index("<svg") :]

    def inside_a_tag(tag: re.Match[str]) -> str:  # text has no < or >
        own = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", tag[0])
        return own.replace(_INK, "currentColor")

    element = re.sub(r"<!--.*?-->\s*", "", element, flags=re.DOTALL)
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    return re.sub(r"<[^>]*>", inside_a_tag, element).encode()


@contextmanager
def _any_language() -> Iterator[None]:
    """Without a warning for each character that Matplotlib's own font lacks; the browser's fonts have it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def short(text: object, most: int = _LONGEST) -> str:
    """A text on one line; the middle of a long one is left out.

    Without control characters, and without those that turn the direction of the text around them (Unicode Annex 9).
    """
    directed = str(text).translate(_DIRECTIONS)
    printable = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in directed)
    line = " ".join(printable.split())
    if len(line) <= most:
        return line
    tail = (most - 1) // 2
    return f"{line[: most - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{line[-tail:]}"


def _with_unit(metric: str, unit: str) -> str:
    return f"{short(metric)} ({short(unit)})" if unit else short(metric)


def _style_axes(axis: Axes) -> None:
    """Without a box, and in ink."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(_INK)
    axis.tick_params(colors=_INK, labelsize=9)
    axis.xaxis.label.set_color(_INK)
    axis.yaxis.label.set_color(_INK)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_parse_math(False)
    axis.grid(color=_INK, alpha=0.12, linewidth=0.8)
    axis.set_axisbelow(True)


def _empty(figure: Figure, axis: Axes, why: str) -> Figure:
    axis.clear()
    axis.set_axis_off()
    axis.text(0.5, 0.5, why, ha="center", va="center", color=_INK)
    return figure
