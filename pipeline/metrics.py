"""The metrics that runs log."""

from __future__ import annotations

# Per-epoch metrics. `loss` is what was minimised, penalty included; `bce` the reconstruction alone.
LOSSES = ("loss", "val_loss", "bce", "val_bce")
EPOCH_SECONDS = "epoch_seconds"
# End-of-run metrics: `first_loss`, `last_val_bce`, ... and the quality of the test reconstructions.
FIRST, LAST = "first_", "last_"
DISPLAYED_LOSS = "displayed_loss"
FIRST_DISPLAYED_LOSS = FIRST + DISPLAYED_LOSS
TRAINING_SECONDS = "training_seconds"
QUALITY = ("mse", "psnr", "ssim", "dark_noise", "thin_stroke_error", "collapse", "dead_units")
