"""A task that needs no TensorFlow: the error of `method` is least at a rate of its own. For tests of studies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.errors import DivergenceError
from pipeline.metrics import Metric, Part
from pipeline.study.executors import Executor
from pipeline.task import Child
from pipeline.tracking import runs as tracking

BEST = {"plain": 0.1, "clever": 1.0}  # the best rate of each method
FLOOR = {"plain": 0.5, "clever": 0.25}  # and the error there
DIVERGES = 100.0  # from this rate on


class ToyConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "plain"
    rate: float = 0.01
    steps: int = 2
    held_out: int = 1
    seed: int = 0

    @property
    def params(self) -> dict[str, Any]:
        return self.model_dump()

    @property
    def logged(self) -> dict[str, Any]:
        return self.params

    data: ClassVar[str] = "toy data"

    @property
    def name(self) -> str:
        return f"{self.method} {self.rate}"

    @property
    def fingerprints(self) -> tuple[str, ...]:
        return (hashlib.sha256(json.dumps(self.params).encode()).hexdigest()[:12],)

    def error(self) -> float:
        """Twice as far from the best rate, in powers of ten, twice the distance from the floor."""
        return FLOOR[self.method] + abs(float(np.log10(self.rate / BEST[self.method]))) + self.seed % 10 / 1000


@dataclass
class ToyProgram:
    """Trains at once, and remembers what."""

    trained: list[str] = field(default_factory=list)
    room: int = 1000

    def require_surroundings(self) -> None:
        pass

    def data_hashes(self, configs: Sequence[Any]) -> dict[str, str]:
        return {config.data: "0" * 64 for config in configs}

    def fitting(self, configs: Sequence[Any], at_once: int) -> int:
        return min(at_once, self.room)

    def prepare(self, config: ToyConfig) -> None:
        pass

    def start_worker(self) -> None:
        pass

    def end_leftovers(self, folder: Path) -> None:
        pass

    def train_children(self, children: Sequence[Child]) -> None:
        for child in children:
            with tracking.journal_of(child) as known:
                run = tracking.TrackedRun(child.config, known)
                try:
                    self.trained.append(child.name)
                    self._train(run)
                    run.finish()
                except BaseException as error:
                    run.end(error)
                    raise

    def _train(self, run: tracking.TrackedRun[ToyConfig]) -> None:
        run.log_config(_Data())
        if run.config.rate >= DIVERGES:
            raise DivergenceError("training diverged")
        error = run.config.error()
        for step in range(1, run.config.steps + 1):
            run.log_epoch(step, {"error": error})
        measures = {"val_error": error, "test_error": error + 0.1, "training_seconds": 2.0}
        run.log_epoch(run.config.steps, measures, key="results")


class _Data:
    name, source, sha256 = "toy", "nowhere", "0" * 64
    forms: dict[str, NDArray[Any]] = {"train": np.zeros((2, 1))}  # noqa: RUF012


@dataclass
class Toy:
    """See `pipeline.task.Task`."""

    program: ToyProgram = field(default_factory=ToyProgram)

    repetition, repeats, goes_on, fills_a_core = "seed", True, True, False
    to_hold_out = "set held_out above 0"
    no_better: Mapping[str, float] = field(default_factory=dict)
    metrics = (
        Metric("error", "error", per_epoch=True, convergence=True),
        Metric("val_error", "error, validation", compared=True, primary=True),
        Metric("test_error", "error, test", compared=True),
        Metric("training_seconds", "training", "s"),
    )
    parameters = ToyConfig().params
    imports = "tests.toy"
    schema = ToyConfig.model_json_schema()["properties"]

    def with_environment(self, env_manager: str) -> Toy:
        return self

    def varied(self, params: Mapping[str, Any]) -> str:
        return "the noise"

    def measured_on(self, config: ToyConfig, metric: str) -> Part:
        if metric == "val_error":
            return "validation" if config.held_out else "test"
        return "test" if metric == "test_error" else "training"

    def configure(self, changes: Mapping[str, Any]) -> ToyConfig:
        return ToyConfig.model_validate(changes)

    def read(self, params: Mapping[str, str]) -> dict[str, Any] | None:
        return ToyConfig.model_validate(dict(params)).params

    def alike(self, config: ToyConfig) -> Hashable:
        return config

    def steps(self, config: ToyConfig) -> int:
        return config.steps

    def cost(self, config: ToyConfig) -> float:
        return config.steps

    def sizes(self, config: ToyConfig) -> Mapping[str, Any]:
        return {}

    def seconds(self, config: ToyConfig, params: Mapping[str, str], metrics: Mapping[str, float], _: float) -> float:
        return metrics.get("training_seconds", float("nan"))


class AtOnce(Executor):
    """Does what is submitted before it returns, up to a run at which somebody types Ctrl-C."""

    capacity = 1

    def __init__(self, interrupted_at: str = "") -> None:
        self._interrupted_at = interrupted_at

    def start(self, jobs: int, prepare: Callable[[], object]) -> None:
        pass

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        (children,) = args
        if children[0].name == self._interrupted_at:
            raise KeyboardInterrupt
        future: Future[Any] = Future()
        try:
            future.set_result(call(children))
        except Exception as error:
            future.set_exception(error)
        return future

    def give_up(self, job: Future[Any]) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass
