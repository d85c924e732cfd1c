"""The autoencoder as a task that a study can run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pipeline.errors import UserError
from pipeline.metrics import FIRST, LAST, METRICS, QUALITY, TEST, TRAINING_SECONDS, Part
from pipeline.task import Program, Task
from pipeline.texts import quoted
from pipeline.train.config import RunConfig
from pipeline.train.size import FILTERS, KERNEL

_ALWAYS = {"optimizer", "epochs", "seed"}  # params that runs of every version have logged


class Autoencoder:
    """See `pipeline.task.Task`."""

    repetition, repeats, goes_on, fills_a_core = "seed", True, True, True
    to_hold_out = "set validation above 0"
    metrics = METRICS
    no_better: Mapping[str, float] = {"l1": 0.0, "decoder_hidden": 0.0}

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return RunConfig().params

    @cached_property
    def schema(self) -> dict[str, Any]:
        return dict(RunConfig.model_json_schema()["properties"])

    def with_environment(self, env_manager: str) -> Task:
        raise UserError(f"env_manager={quoted(env_manager)} is said of a study of another project; leave it out")

    def varied(self, params: Mapping[str, Any]) -> str:
        names = {"init": "first weights", "order": "order of the images", "split": "which images are held out"}
        return ", ".join(names[source] for source in str(params["vary"]).split("+"))

    def measured_on(self, config: RunConfig, metric: str) -> Part:
        """Where no images are held out, the test images are what training is watched on."""
        row = metric.removeprefix(FIRST).removeprefix(LAST)
        if row.startswith(TEST):
            return "test"
        if row not in QUALITY and not row.startswith("val_"):
            return "training"
        return "validation" if config.validation else "test"

    def configure(self, changes: Mapping[str, Any]) -> RunConfig:
        return RunConfig.model_validate(changes)

    def read(self, params: Mapping[str, str]) -> dict[str, Any] | None:
        if not params.keys() >= _ALWAYS:
            return None  # somebody else's, whose runs have a fingerprint, too
        try:
            return RunConfig.from_params(params).params
        except (ValueError, IndexError):
            return None

    def alike(self, config: RunConfig) -> RunConfig:
        """A shorter run is what a longer one was after so many epochs."""
        return config.model_copy(update={"epochs": 1})

    def steps(self, config: RunConfig) -> int:
        return config.epochs

    def cost(self, config: RunConfig) -> float:
        """In multiplications for each pixel."""
        wide = max(config.decoder_hidden, config.encoding_dim)
        # One convolution works on a sixteenth of the pixels, and so does its transpose.
        return config.epochs * (wide + (config.architecture == "conv") * KERNEL**2 * math.prod(FILTERS) / 8)

    def sizes(self, config: RunConfig) -> dict[str, Any]:
        sizes = {name: getattr(config, name) for name in ("batch_size", "encoding_dim", "decoder_hidden")}
        # Runs of versions before, all of them dense, have no such param.
        return sizes if config.architecture == "dense" else {**sizes, "architecture": config.architecture}

    def seconds(
        self, config: RunConfig, params: Mapping[str, str], metrics: Mapping[str, float], seconds: float
    ) -> float:
        return metrics.get(TRAINING_SECONDS, float("nan")) / RunConfig.from_params(params).epochs * config.epochs

    @property
    def imports(self) -> str:
        return "pipeline.train.imports"

    @property
    def program(self) -> Program:
        from pipeline.train import run

        return run
