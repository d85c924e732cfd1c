"""What a study runs and a comparison reads: a training program with parameters, behind one small protocol.

The autoencoder of `pipeline.train` is one. Nothing in `study`, `tracking` and `compare` knows more of a program than
what stands here.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.metrics import Metric, Part

if TYPE_CHECKING:
    from pipeline.project.task import ProjectTask
    from pipeline.study.project import Project, Source


DATA = "VARIATIONS_DATA"  # in the environment of `Task.imports`


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
    writer: int = 0  # see `journal.claim`


class Program(Protocol):
    """What trains: a module whose functions a process can be sent to."""

    def require_surroundings(self) -> None:
        """Raise a UserError where this machine cannot train."""

    def data_hashes(self, configs: Sequence[Any]) -> dict[str, str]:
        """The hash of what `configs` are trained on, by `Configuration.data`.

        Raises:
            UserError: something cannot be read.
        """

    def fitting(self, configs: Sequence[Any], at_once: int) -> int:
        """How many of `configs` this machine has memory for at a time, `at_once` at most.

        Raises:
            UserError: not for one.
        """

    def prepare(self, config: Any) -> None:
        """Make what the runs of a study share, before several of them start at once.

        Raises:
            UserError: it cannot be made.
        """

    def start_worker(self) -> None:
        """Prepare a process that trains one run after another on one core."""

    def train_children(self, children: Sequence[Child]) -> None:
        """Make runs that `Task.alike` calls alike, each in its journal, which says how it ended."""

    def end_leftovers(self, folder: Path) -> None:
        """End what runs with journals in a folder have started, where it has outlived the process that made them."""


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

    @property
    def repeats(self) -> bool:
        """Whether there is such a parameter: else a configuration has one run."""

    @property
    def goes_on(self) -> bool:
        """Whether a run that was interrupted goes on where it was; else it is made anew, as another run."""

    @property
    def fills_a_core(self) -> bool:
        """Whether a run keeps a core busy: so more of them at a time than there are cores end later, not earlier."""

    def with_environment(self, env_manager: str) -> Task:
        """The same, whose runs have an environment of their own that is made so.

        Raises:
            UserError: they have this one.
        """

    def varied(self, params: Mapping[str, Any]) -> str:
        """What differs between the repetitions of a configuration, in words: the variance that its intervals cover."""

    @property
    def no_better(self) -> Mapping[str, float]:
        """By parameter, a value beyond which there is none: no grid can go on there."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What a run logs, in the order in which it is shown; empty where that is not known before."""

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
        """How far a run goes, in the unit of its metrics' steps; 0 = not known."""

    def cost(self, config: Any) -> float:
        """Work, roughly and compared with others: the longest job is begun first."""

    def sizes(self, config: Any) -> Mapping[str, Any]:
        """The parameters on which the time of a step depends."""

    def seconds(self, config: Any, params: Mapping[str, str], metrics: Mapping[str, float], seconds: float) -> float:
        """How long a run will take, by one of the same sizes: what that logged, and its time; NaN where unknown."""

    @property
    def imports(self) -> str:
        """A module that imports what a process needs that makes runs; processes that fork from it have that in common.

        What else they can share it loads by `$VARIATIONS_DATA`, a `Configuration.data`.
        """

    @property
    def program(self) -> Program:
        """What trains. Heavy to import."""


@lru_cache(maxsize=1)
def load() -> Task:
    """The task of a study that names no other."""
    from pipeline.train.task import Autoencoder

    return Autoencoder()


def of(project: Project | None) -> Task:
    """The task of a study of a project, or else the one above."""
    if project is None:
        return load()
    from pipeline.project.task import ProjectTask

    return ProjectTask(project)


def fetched(source: Source) -> ProjectTask:
    """The task of a project, whose files are there when this returns.

    Raises:
        UserError: it cannot be had, or is no project with such an entry point and parameter.
    """
    from pipeline.project import source as projects

    return projects.fetch(source)
