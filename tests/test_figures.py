"""What the pictures show, read back from the figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline import figures


@pytest.mark.parametrize("channels", [1, 3])
def test_originals_stand_above_reconstructions(channels: int) -> None:
    x = np.random.default_rng(0).random((10, 5, 4, channels), np.float32)
    figure = figures.reconstructions(x, 1 - x, "adam-50ep")
    pictures = [np.squeeze(np.asarray(axis.images[0].get_array())) for axis in figure.axes]
    assert len(pictures) == 20
    np.testing.assert_array_equal(pictures[3], np.squeeze(x[3]))
    np.testing.assert_array_equal(pictures[13], np.squeeze(1 - x[3]))
    assert {axis.images[0].get_clim() for axis in figure.axes} == {(0, 1)}  # the same grey means the same everywhere
    assert [figure.axes[n].get_ylabel() for n in (0, 10)] == ["original", "reconstruction"]


def history(penalty: float) -> pd.DataFrame:
    bce = np.array([0.3, 0.2])
    losses = {"loss": bce + penalty, "val_loss": bce + penalty + 0.1, "bce": bce, "val_bce": bce + 0.1}
    return pd.DataFrame(losses, index=[1, 2])


@pytest.mark.parametrize(("penalty", "lines"), [(0.0, 2), (0.01, 4)])
def test_the_penalty_is_drawn_where_there_is_one(penalty: float, lines: int) -> None:
    (axis,) = figures.loss_curve(history(penalty), "t").axes
    assert len(axis.lines) == lines
    assert np.asarray(axis.lines[0].get_xdata()).tolist() == [1, 2]
    assert np.asarray(axis.lines[0].get_ydata()).tolist() == pytest.approx([0.3 + penalty, 0.2 + penalty])
    assert axis.get_xlabel() == "epoch"


def test_a_strip_by_hand() -> None:
    x = np.array([[[[0.0]]], [[[1.0]]]], np.float32)  # two images of one pixel
    strip = figures.strip(x, np.array([[[[-3.0]]], [[[np.nan]]]], np.float32) + 0.5)
    assert strip.dtype == np.uint8
    assert strip.shape == (8, 8, 1)
    assert strip[::4, ::4, 0].tolist() == [[0, 255], [0, 0]]  # clipped, not stretched
