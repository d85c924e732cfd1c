"""What a study runs and a comparison reads: a training program with parameters, behind one small protocol.

The autoencoder of `pipeline.train` is one. Nothing in `study`, `tracking` and `compare` knows more of a program than
what stands here.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.metrics import Metric

Part = Literal["training", "validation", "test"]  # of the data, of which `test` is only reported on


class Configuration(Hashable, Protocol):
    """Every parameter of one run. Two are equal where their runs are the same."""

    @property
    def params(self) -> dict[str, Any]:
        """Values by name, defaults filled in, the repetition's among them."""

    @property
    def logged(self) -> dict[str, Any]:
        """What a run logs as params: at least the above."""

    @property
    def name(self) -> str:
        """For a person who has many such runs before him."""

    @property
    def data(self) -> str:
        """The name of what it is trained on."""

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """What tells it apart in a store: as runs are tagged now, and as versions before have tagged them."""


@dataclass(frozen=True)
class Child:
    """One run of a study: what it is, and the folder of its journal."""

    folder: Path
    name: str
    config: Any  # a `Configuration`, of the program's own type
    tags: dict[str, str]


class Program(Protocol):
    """What trains: a module whose functions a process can be sent to."""

    def require_surroundings(self) -> None:
        """Raise a UserError where this machine cannot train."""

    def data_hashes(self, configs: Sequence[Any], at_once: int) -> dict[str, str]:
        """The hash of what `configs` are trained on, by `Configuration.data`.

        Raises:
            UserError: something cannot be read, or so many of them cannot be trained at a time.
        """

    def start_worker(self) -> None:
        """Prepare a process that trains one run after another on one core."""

    def train_children(self, children: Sequence[Child]) -> None:
        """Make runs that `Task.alike` calls alike, each in its journal, which says how it ended."""


class Task(Protocol):
    """What can be declared, before anything heavy is imported."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Defaults by name, in the order in which they are shown; the repetition's among them."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """By parameter, the JSON Schema of its values."""

    @property
    def repetition(self) -> str:
        """The parameter that makes a repetition: the seed."""

    def varied(self, params: Mapping[str, Any]) -> str:
        """What differs between the repetitions of a configuration, in words: the variance that its intervals cover."""

    @property
    def no_better(self) -> Mapping[str, float]:
        """By parameter, a value beyond which there is none: no grid can go on there."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What a run logs, in the order in which it is shown."""

    @property
    def to_hold_out(self) -> str:
        """For a person: what to set so that choices are made on other data than results are reported on."""

    def measured_on(self, config: Any, metric: str) -> Part:
        """The part of the data of which a metric of such a run is."""

    def configure(self, changes: Mapping[str, Any]) -> Any:
        """The `Configuration` of some parameters, all others at their defaults.

        Raises:
            ValueError: one of them is not allowed.
        """

    def read(self, params: Mapping[str, str]) -> dict[str, Any] | None:
        """A run's MLflow params back through their types; None where they are of another program or version."""

    def alike(self, config: Any) -> Hashable:
        """What runs have in common that one job makes together."""

    def steps(self, config: Any) -> int:
        """How far a run goes, in the unit of its metrics' steps."""

    def cost(self, config: Any) -> float:
        """Work, roughly and compared with others: the longest job is begun first."""

    def sizes(self, config: Any) -> Mapping[str, Any]:
        """The parameters on which the time of a step depends."""

    def seconds(self, config: Any, params: Mapping[str, str], metrics: Mapping[str, float]) -> float:
        """How long a run will take, by what a finished one of the same sizes logged; NaN where that does not say."""

    @property
    def program(self) -> Program:
        """What trains. Heavy to import."""


@lru_cache(maxsize=1)
def load() -> Task:
    """The task of a study that names no other."""
    from pipeline.train.task import Autoencoder

    return Autoencoder()
