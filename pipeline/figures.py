"""Arrays and frames in, pictures out; nothing here reads or writes a file.

Images are [images, height, width, channels] in [0, 1]; the first row shows the originals, the second their
reconstructions, as the published figures do.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

_TRAINING, _VALIDATION = "#0072B2", "#D55E00"  # Okabe and Ito's palette, which colour-blind readers can tell apart
_ENLARGED = 4  # pixels of a strip per pixel of an image


def reconstructions(originals: NDArray[np.float32], reconstructed: NDArray[np.float32], title: str) -> Figure:
    """Originals above reconstructions, one column per image."""
    columns = len(originals)
    figure = Figure(figsize=(max(columns, 4), 2.7), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(2, columns, squeeze=False)
    for row, images, label in ((0, originals, "original"), (1, reconstructed, "reconstruction")):
        for column, image in enumerate(images):
            axis = axes[row, column]
            axis.imshow(_as_picture(image), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(label, fontsize=9)
    return figure


def loss_curve(history: pd.DataFrame, title: str) -> Figure:
    """`loss` and `val_loss` by epoch; dashed beneath them `bce` and `val_bce` where a penalty sets them apart."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    penalised = bool((history["loss"] - history["bce"]).abs().max() > 1e-6)
    for prefix, label, colour in (("", "training", _TRAINING), ("val_", "test", _VALIDATION)):
        axis.plot(history.index, history[f"{prefix}loss"], color=colour, marker=".", label=f"{label}: loss")
        if penalised:
            bce = history[f"{prefix}bce"]
            axis.plot(history.index, bce, color=colour, linestyle="--", label=f"{label}: without the L1 penalty")
    axis.set(title=title, xlabel="epoch", ylabel="binary cross-entropy (nats per pixel)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def strip(originals: NDArray[np.float32], reconstructed: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The two rows as one array [height, width, channels] of pixels from 0 to 255, four times enlarged.

    Values are clipped to [0, 1], not stretched, so that the strips of two runs can be compared; NaN is black.
    """
    rows = [np.concatenate(list(images), axis=1) for images in (originals, reconstructed)]
    pixels = np.round(np.clip(np.nan_to_num(np.concatenate(rows)), 0, 1) * 255).astype(np.uint8)
    return pixels.repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)


def _as_picture(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(image[..., 0] if image.shape[-1] == 1 else image, 0, 1)
