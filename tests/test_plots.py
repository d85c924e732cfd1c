"""What the pictures show, read back from the figures."""

from __future__ import annotations

import io
import itertools
import math
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.text import Text

from pipeline import plots


@pytest.mark.parametrize("channels", [1, 3])
def test_originals_stand_above_reconstructions(channels: int) -> None:
    x = np.random.default_rng(0).random((10, 5, 4, channels), np.float32)
    figure = plots.reconstructions(x, 1 - x, "adam-50ep")
    (axis,) = figure.axes
    grid = np.asarray(axis.images[0].get_array())[::4, ::4]  # enlarged four times, two pixels between the pictures
    for row, images in enumerate((x, 1 - x)):
        picture = grid[row * 7 : row * 7 + 5, 3 * 6 : 3 * 6 + 4, :channels]
        np.testing.assert_allclose(picture, images[3], atol=1e-6)  # the same grey means the same everywhere
    assert [label.get_text() for label in axis.get_yticklabels()] == ["original", "reconstruction"]
    assert text_of(figure).count("adam-50ep") == 1


def history(penalty: float) -> pd.DataFrame:
    bce = np.array([0.3, 0.2])
    losses = {"loss": bce + penalty, "val_loss": bce + penalty + 0.1, "bce": bce, "val_bce": bce + 0.1}
    return pd.DataFrame(losses, index=[1, 2])


@pytest.mark.parametrize(("penalty", "lines"), [(0.0, 2), (0.01, 4)])
def test_the_penalty_is_plotted_where_there_is_one(penalty: float, lines: int) -> None:
    (axis,) = plots.loss_curve(history(penalty), "t").axes
    assert len(axis.lines) == lines
    assert np.asarray(axis.lines[0].get_xdata()).tolist() == [1, 2]
    assert np.asarray(axis.lines[0].get_ydata()).tolist() == pytest.approx([0.3 + penalty, 0.2 + penalty])
    assert axis.get_xlabel() == "epoch"


def test_a_strip_by_hand() -> None:
    x = np.array([[[[0.0]]], [[[1.0]]]], np.float32)  # two images of one pixel
    strip = plots.strip(x, np.array([[[[-3.0]]], [[[np.nan]]]], np.float32) + 0.5)
    assert strip.dtype == np.uint8
    assert strip.shape == (8, 8, 1)
    assert strip[::4, ::4, 0].tolist() == [[0, 255], [0, 0]]  # clipped, not stretched


# --- One grid, curves, forest -------------------------------------------------------------------------------------


def text_of(figure: Figure) -> list[str]:
    """Every text of a figure that is not empty."""
    return [text for each in figure.findobj(Text) if (text := each.get_text())]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid_has_a_row_per_variation(channels: int) -> None:
    x = np.random.default_rng(0).random((10, 5, 4, channels), np.float32)
    bad = x.copy()
    bad[2] = np.nan
    figure = plots.digit_grid(x, {"a": 1 - x, "b": x + 5, "c": bad})
    (axis,) = figure.axes
    grid = np.asarray(axis.images[0].get_array())[::4, ::4]  # enlarged four times, two pixels between the pictures
    assert grid.shape == (4 * 7 - 2, 10 * 6 - 2, 4)
    for row, images in enumerate((x, 1 - x, np.ones_like(x), np.nan_to_num(bad))):
        for column in range(10):
            picture = grid[row * 7 : row * 7 + 5, column * 6 : column * 6 + 4]
            np.testing.assert_allclose(picture[..., :channels], images[column], atol=1e-6)
            assert (picture[..., 3] == 1).all()
    assert (grid[5:7, :, 3] == 0).all()  # the page shows between them
    assert [label.get_text() for label in axis.get_yticklabels()] == ["input image", "a", "b", "c"]
    middles = axis.get_yticks() / 4
    assert middles.tolist() == [2.5, 9.5, 16.5, 23.5]


@pytest.mark.parametrize("rows", [1, 8])
def test_the_names_beside_the_grid_are_whole(rows: int) -> None:
    x = np.ones((10, 28, 28, 1), np.float32)
    figure = plots.digit_grid(x, {f"{n} adadelta with deep decoder WWWWW": x for n in range(rows)})
    pixels = imread(io.BytesIO(plots.png(figure)))
    assert (pixels[:, :3] == 1).all()  # white at the left edge
    assert (pixels[:, : pixels.shape[1] // 4] < 0.5).any()


def test_of_many_variations_the_grid_counts_the_rest() -> None:
    x = np.zeros((2, 3, 3, 1), np.float32)
    figure = plots.digit_grid(x, {str(n): x for n in range(1000)})
    assert len(figure.axes[0].get_yticks()) == 1 + plots.MOST_ROWS
    assert f"not shown: {1000 - plots.MOST_ROWS} more" in text_of(figure)


def histories(**losses: list[list[float]]) -> pd.DataFrame:
    """By variation, the losses of each of its seeds, from epoch 1 on."""
    rows = [
        (name, seed, epoch, loss)
        for name, seeds in losses.items()
        for seed, curve in enumerate(seeds)
        for epoch, loss in enumerate(curve, 1)
    ]
    return pd.DataFrame(rows, columns=["variation", "seed", "epoch", "value"])


def line_of(figure: Figure, name: str) -> Line2D:
    return next(line for line in figure.axes[0].lines if line.get_label() == name)


def test_curves_are_means_with_the_spread_of_the_seeds() -> None:
    figure = plots.curves(
        histories(a=[[0.5, 0.3], [0.7, 0.4], [0.6]], b=[[0.9, 0.8, 0.7]]), "val_bce", "nats per pixel"
    )
    (axis,) = figure.axes
    line = line_of(figure, "a")
    assert np.asarray(line.get_xdata()).tolist() == [1, 2]
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx([0.6, 0.35])  # of three seeds, then of two
    band = axis.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((0.3, 0.7))
    assert np.asarray(line_of(figure, "b").get_ydata()).tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert axis.get_ylabel() == "val_bce (nats per pixel)"
    assert axis.get_xlabel() == "epoch"
    assert "mean over the seeds; band: lowest to highest seed" in text_of(figure)
    assert "one seed each" in text_of(plots.curves(histories(a=[[0.5, 0.3]]), "val_bce"))


def test_curves_leave_out_non_finite_values() -> None:
    figure = plots.curves(histories(a=[[0.5, math.nan, 0.3], [0.7, 0.4, math.inf]], gone=[[math.nan]]), "val_bce")
    assert np.asarray(line_of(figure, "a").get_ydata()).tolist() == pytest.approx([0.6, 0.4, 0.3])
    assert "gone" not in text_of(figure)


def test_every_line_has_its_name_at_its_end() -> None:
    names = [f"variation {n}" for n in range(plots.MOST_LINES)]
    same = plots.curves(histories(**{name: [[0.5, 0.3 + n * 1e-4]] for n, name in enumerate(names)}), "val_bce")
    same.draw_without_rendering()
    (axis,) = same.axes
    labels = {text.get_text(): text for text in axis.texts}
    assert list(labels) == names
    inside = [line for line in axis.lines if not str(line.get_label()).startswith("_")]
    pieces = [line for line in axis.lines if line not in inside]
    assert len(inside) == len(pieces) == len(names)
    assert all(min(np.asarray(piece.get_xdata())) > 1 for piece in pieces)  # nothing but data within the plot
    for line, piece in zip(inside, pieces, strict=True):
        assert (piece.get_color(), piece.get_linestyle()) == (line.get_color(), line.get_linestyle())
    boxes = sorted((label.get_window_extent() for label in labels.values()), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))
    heights = [labels[name].get_position()[1] for name in names]
    assert heights == sorted(heights)  # in the order of the lines
    assert all(label.get_position()[0] > 1 for label in labels.values())  # beside the plot
    colours = {(line_of(same, name).get_color(), str(line_of(same, name).get_linestyle())) for name in names}
    assert len(colours) == len(names)


def test_a_wide_range_gets_a_logarithmic_axis_with_plain_numbers() -> None:
    wide = plots.curves(histories(a=[[0.7, 0.09]]), "val_bce")
    assert wide.axes[0].get_yscale() == "log"
    wide.draw_without_rendering()
    ticks = [label.get_text() for label in wide.axes[0].get_yticklabels()]
    assert {"0.1", "0.2", "0.5"} <= set(ticks)
    assert plots.curves(histories(a=[[0.7, 0.6]]), "val_bce").axes[0].get_yscale() == "linear"
    assert plots.curves(histories(a=[[0.7, 0.0]]), "val_bce").axes[0].get_yscale() == "linear"


def test_a_collapsed_variation_does_not_crowd_the_others() -> None:
    falling = [0.2 + 0.5 / epoch for epoch in range(1, 51)]
    near = {f"v{n}": [[each - 0.1 + n * 1e-3 for each in falling]] for n in range(3)}
    figure = plots.curves(histories(collapsed=[[0.7] * 50], **near), "val_bce", "nats")
    whole, closer = figure.axes
    assert [text.get_text() for text in whole.texts] == ["collapsed", *near]
    assert [text.get_text() for text in closer.texts] == list(near)
    assert closer.get_title(loc="left") == "the 3 lines that end close together, from epoch 10"
    line = next(line for line in closer.lines if line.get_label() == "v0")
    assert np.asarray(line.get_xdata())[[0, -1]].tolist() == [10, 50]
    low, high = closer.get_ylim()
    assert (near["v2"][0][-1] - near["v0"][0][-1]) / (high - low) > 10 * 0.002 / (0.7 - 0.1)
    # Where the lines are spread over the axis, or are two, one panel is enough.
    for few in (histories(a=[[0.9]], b=[[0.5]], c=[[0.1]]), histories(a=[[0.9]], b=[[0.1]])):
        assert len(plots.curves(few, "val_bce").axes) == 1


def test_of_many_curves_the_rest_is_grey_and_counted() -> None:
    figure = plots.curves(histories(**{f"v{n}": [[1.0, 0.9]] for n in range(1000)}), "val_bce")
    grey = [line for line in figure.axes[0].lines if line.get_color() == "#8c8c8c"]
    assert len(grey) == 1000 - plots.MOST_LINES
    assert f"one seed each; grey: {1000 - plots.MOST_LINES} more" in text_of(figure)


def test_without_an_epoch_there_is_a_sentence() -> None:
    assert text_of(plots.curves(histories(), "val_bce")) == ["no epochs were recorded"]
    assert text_of(plots.forest(DIFFERENCES[:0])) == ["nothing to compare"]


@pytest.mark.parametrize(
    ("wanted", "placed"),
    [
        ([0.5], [0.5]),
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.0, 0.0], [0.0, 0.1]),
        ([1.0, 0.99], [1.0, 0.9]),  # the order stays
        ([0.5, 0.52, 0.9], [0.46, 0.56, 0.9]),
    ],
)
def test_labels_move_apart_as_little_as_can_be(wanted: list[float], placed: list[float]) -> None:
    assert plots.spread(np.array(wanted), 0.1).tolist() == pytest.approx(placed)


_COLUMNS = ["variation", "against", "metric", "unit", "mean", "low", "high", "smallest", "verdict", "note"]
DIFFERENCES = pd.DataFrame(
    [
        (
            "adam",
            "adadelta",
            "val_loss",
            "nats",
            -0.3,
            -0.4,
            -0.2,
            0.001,
            "supported",
            "confounded by x\nval_loss absent",
        ),
        ("longer", "adam", "val_loss", "nats", 0.0002, -0.0005, 0.0009, 0.002, "negligible", ""),
        ("one seed", "adam", "val_loss", "nats", 0.05, math.nan, math.nan, math.nan, "not judged", ""),
        ("l1", "adam", "PSNR", "dB", 1.0, 0.5, 1.5, 0.5, "inconclusive", ""),
        ("none", "adam", "PSNR", "dB", math.nan, math.nan, math.nan, 0.5, "not judged", ""),
    ],
    columns=_COLUMNS,
).assign(seeds=[(-0.31, -0.25, -0.34), (), (), (0.9, 1.7), ()])


def test_the_forest_has_a_panel_per_metric_and_a_row_per_pair() -> None:
    loss, psnr = plots.forest(DIFFERENCES).axes
    assert [label.get_text() for label in loss.get_yticklabels()] == [
        "adam\nminus adadelta",
        "longer\nminus adam",
        "one seed\nminus adam",
    ]
    assert loss.get_ylim() == (2.5, -0.5)  # the first on top
    whiskers = [line for line in loss.lines if len(np.asarray(line.get_xdata())) == 2 and line.get_linewidth() > 2]
    assert [np.asarray(line.get_xdata()).tolist() for line in whiskers] == [[-0.4, -0.2], [-0.0005, 0.0009]]
    means = [line for line in loss.lines if len(np.asarray(line.get_xdata())) == 1]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in means] == [(-0.3, 0), (0.0002, 1), (0.05, 2)]  # type: ignore[index]
    assert [line.get_markerfacecolor() == "none" for line in means] == [False, False, True]  # no interval: hollow
    assert len({(line.get_color(), str(line.get_marker())) for line in means}) == 3
    dots = [np.asarray(line.get_xdata()).tolist() for line in loss.lines if line.get_marker() == "."]
    assert dots == [[-0.31, -0.25, -0.34], [], []]  # each seed's own difference
    bands = [(bar.get_x(), bar.get_width()) for bar in loss.patches]  # type: ignore[attr-defined]
    assert bands == [(-0.001, 0.002), (-0.002, 0.004), (0, 0)]
    texts = [(text.get_text(), text.xy[1]) for text in loss.texts]  # type: ignore[attr-defined]
    assert texts == [
        ("supported", 0),
        ("confounded by x", 0),
        ("val_loss absent", 0),
        ("negligible", 1),
        ("not judged", 2),
    ]
    assert loss.get_xlabel().splitlines() == [
        "difference in val_loss (nats); shaded: below the smallest effect of interest",
        "axis: linear up to \N{PLUS-MINUS SIGN}0.002, logarithmic beyond",
    ]
    assert psnr.get_xlabel() == "difference in PSNR (dB); shaded: below the smallest effect of interest"
    assert len([line for line in psnr.lines if len(np.asarray(line.get_xdata())) == 1]) == 1  # one has no value


def test_the_axis_shows_the_band_and_what_is_far_from_it() -> None:
    figure = plots.forest(DIFFERENCES)
    figure.draw_without_rendering()
    loss, psnr = figure.axes
    assert (loss.get_xscale(), psnr.get_xscale()) == ("symlog", "linear")
    for axis, reach in ((loss, 0.4), (psnr, 1.5)):
        left, right = axis.get_xlim()
        assert left < min(-0.0005, -reach if axis is loss else -0.5)
        assert right > (0.05 if axis is loss else 1.7)  # no dot is cut off
    ticks = [label.get_text() for label in loss.get_xticklabels()]
    assert ticks == ["\N{MINUS SIGN}0.1", "\N{MINUS SIGN}0.002", "0", "0.002"]


@pytest.mark.parametrize("smallest", [0.001, 0.002, 0.01, 1e-5])
@pytest.mark.parametrize("reach", [(-0.6, -0.5), (-0.4, 0.4), (0.3, 9.0), (-0.02, 0.0001)])
@pytest.mark.parametrize("name", ["adam", "a name that is as long as any can be"])
def test_the_labels_of_a_forest_do_not_touch(smallest: float, reach: tuple[float, float], name: str) -> None:
    rows = [(name, name, "m", "", sum(reach) / 2, *reach, smallest, "supported", "confounded by something long, too")]
    figure = plots.forest(pd.DataFrame(rows, columns=_COLUMNS).assign(seeds=[reach]))
    figure.draw_without_rendering()
    (axis,) = figure.axes
    boxes = [label.get_window_extent() for label in axis.get_xticklabels() if label.get_text()]
    boxes = sorted(boxes, key=lambda box: box.x0)
    assert len(boxes) >= 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_the_ends_of_an_interval_are_seen_above_its_mark() -> None:
    narrow = DIFFERENCES.iloc[:1].assign(mean=-0.3, low=-0.3000001, high=-0.2999999)
    (axis,) = plots.forest(narrow).axes
    whisker, mark = [line for line in axis.lines if line.get_marker() not in ("None", None, ".")]
    assert whisker.get_marker() == "|"
    assert whisker.get_markersize() > 2 * mark.get_markersize()


def test_a_forest_of_negative_differences_has_no_positive_half() -> None:
    (axis,) = plots.forest(DIFFERENCES.iloc[:1]).axes
    assert axis.get_xlim()[1] == pytest.approx(1.6 * 0.001)  # the band, and room to see where it ends


def test_a_forest_without_bands_shades_nothing() -> None:
    (axis,) = plots.forest(DIFFERENCES.iloc[3:4].assign(smallest=math.nan, verdict="higher")).axes
    assert axis.get_xlabel() == "difference in PSNR (dB)"
    assert sum(bar.get_width() for bar in axis.patches) == 0  # type: ignore[attr-defined]


def test_of_many_pairs_the_forest_counts_the_rest() -> None:
    many = pd.concat([DIFFERENCES.iloc[3:4]] * 1000)
    figure = plots.forest(many)
    assert len(figure.axes[0].get_yticks()) == plots.MOST_PAIRS
    assert f"not shown: {1000 - plots.MOST_PAIRS} more" in text_of(figure)


def test_every_seed_is_a_dot_and_their_mean_a_line() -> None:
    values = pd.DataFrame({"variation": ["b", "b", "a", "b"], "seed": [0, 1, 0, 2], "value": [0.1, 0.2, 0.5, 1e200]})
    other = pd.DataFrame({"metric": "psnr", "variation": ["b"], "seed": [0], "value": [20.0]})
    labels = {"val_bce": ("val_bce", "nats"), "psnr": ("PSNR", "dB")}
    axis, second = plots.seeds(pd.concat([values.assign(metric="val_bce"), other]), labels).axes
    assert [label.get_text() for label in second.get_yticklabels()] == ["b", "a"]  # the same in each panel
    assert [np.asarray(line.get_xdata()).tolist() for line in second.lines] == [[20.0], [20.0], []]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["b", "a"]
    drawn = [(str(line.get_marker()), np.asarray(line.get_xdata()).tolist()) for line in axis.lines]
    assert drawn == [("o", [0.1, 0.2]), ("|", [pytest.approx(0.15)]), ("o", [0.5]), ("|", [0.5])]
    assert axis.get_xlabel() == "val_bce (nats): a dot is a run, a line their mean"
    many = pd.DataFrame({"variation": [f"v{n}" for n in range(plots.MOST_ROWS + 2)], "seed": 0, "value": 1.0})
    (axis,) = plots.seeds(many.assign(metric="m"), {"m": ("m", "")}).axes
    assert axis.get_xlabel().endswith("; not shown: 2 more variations")


# --- Files --------------------------------------------------------------------------------------------------------

HOSTILE = "<script>\n$\\frac{$ & 自编码 عربي\x00"


def pictures() -> dict[str, Figure]:
    x = np.ones((2, 3, 3, 1), np.float32)
    return {
        "forest": plots.forest(DIFFERENCES.assign(variation=HOSTILE, verdict=HOSTILE, metric=HOSTILE, unit=HOSTILE)),
        "curves": plots.curves(histories(**{HOSTILE: [[1.0, 0.5]]}), "val_bce", HOSTILE),
        "seeds": plots.seeds(
            pd.DataFrame({"metric": [HOSTILE], "variation": [HOSTILE], "seed": [0], "value": [0.5]}),
            {HOSTILE: (HOSTILE, HOSTILE)},
        ),
        "digits": plots.digit_grid(x, {HOSTILE: x}),
        "reconstructions": plots.reconstructions(x, x, HOSTILE),
        "loss": plots.loss_curve(history(0), HOSTILE),
    }


@pytest.mark.parametrize("name", list(pictures()))
def test_any_name_can_be_plotted(name: str) -> None:
    """No formula, no tag, no warning about a character."""
    element = ElementTree.fromstring(plots.svg(pictures()[name], name))  # noqa: S314, our own
    texts = [text for each in element.iter("{http://www.w3.org/2000/svg}text") if (text := "".join(each.itertext()))]
    assert any("<script> $\\frac{$ & 自编码 عربي" in text for text in texts)
    assert plots.png(pictures()[name], 40).startswith(b"\x89PNG")


def test_a_drawing_takes_the_colour_of_its_page() -> None:
    drawing = plots.svg(pictures()["forest"], "forest").decode()
    assert drawing.startswith("<svg")
    assert "currentColor" in drawing
    assert "#1d2125" not in drawing
    assert drawing == plots.svg(pictures()["forest"], "forest").decode()  # the same bytes
    ids = re.findall(r'\bid="([^"]*)"', drawing)
    assert len(ids) == len(set(ids))
    assert ids
    assert all(each.startswith("forest-") for each in ids)
    assert set(re.findall(r'(?:url\(|href=")#([^)"]*)', drawing)) <= set(ids)
    assert not re.search(r"<path d=[^>]*style=\"fill: #ffffff", drawing)  # no background


def test_a_png_is_on_white() -> None:
    pixels = imread(io.BytesIO(plots.png(pictures()["curves"], 40)))
    assert pixels[0, 0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\r\n\tb\x00c", "a b c"),
        ("x" * 34, "x" * 34),
        ("a" * 20 + "b" * 20, "a" * 17 + "\N{HORIZONTAL ELLIPSIS}" + "b" * 16),
        ("\u202eabc\u2066", "abc"),
        (5, "5"),
    ],
)
def test_a_name_takes_one_line(text: object, line: str) -> None:
    assert plots.short(text) == line
