"""An MLflow Project as something that a study can run: the parameters that one of its entry points declares.

Nothing is known of what it logs: metrics are what its runs have, as with anybody's runs. Does not use MLflow.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from pipeline import metrics
from pipeline.metrics import Metric, Part
from pipeline.study.project import NO_REPETITION, Project, Value
from pipeline.task import Program
from pipeline.texts import listed, quoted


class ProjectConfig(BaseModel):
    """See `pipeline.task.Configuration`."""

    model_config = ConfigDict(frozen=True)

    project: Project
    values: tuple[tuple[str, Value], ...]  # all parameters in the order of the project, the repetition behind
    folder: str = ""  # where its files are on this machine
    env_manager: str = ""  # how its environment is made; empty = as MLflow chooses

    data: ClassVar[str] = "what the project reads"

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.values)

    @property
    def logged(self) -> dict[str, Any]:
        return {name: value for name, value in self.values if name != NO_REPETITION}

    @property
    def name(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.logged.items()) or self.project.entry_point

    @property
    def fingerprints(self) -> tuple[str, ...]:
        what = [self.project.content, self.project.entry_point, sorted((n, str(v)) for n, v in self.values)]
        return (hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12],)


@dataclass(frozen=True)
class ProjectTask:
    """See `pipeline.task.Task`."""

    project: Project
    folder: str = field(default="", compare=False)  # as of `ProjectConfig`
    env_manager: str = field(default="", compare=False)

    metrics: ClassVar[tuple[Metric, ...]] = ()
    no_better: ClassVar[Mapping[str, float]] = {}
    to_hold_out: ClassVar[str] = "have the project measure it on other data"
    goes_on: ClassVar[bool] = False
    fills_a_core: ClassVar[bool] = False  # it may wait for something

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        return {**{each.name: each.default for each in self.project.parameters}, self.repetition: 0}

    @property
    def schema(self) -> Mapping[str, Any]:
        return {
            each.name: {"type": ["number", "string"] if each.is_number else ["string", "number"]}
            for each in self.project.parameters
        }

    @property
    def repetition(self) -> str:
        return self.project.seed

    @property
    def repeats(self) -> bool:
        return bool(self.project.repetition)

    def with_environment(self, env_manager: str) -> ProjectTask:
        """The same with its environment made so."""
        return replace(self, env_manager=env_manager)

    def varied(self, params: Mapping[str, Any]) -> str:
        return f"what {self.project.repetition} decides" if self.repeats else ""

    def measured_on(self, config: Any, metric: str) -> Part:
        return metrics.part_of(metric)

    def configure(self, changes: Mapping[str, Any]) -> ProjectConfig:
        known = {each.name: each for each in self.project.parameters}
        problems = {name: known[name].problem(value) for name, value in changes.items() if name in known}
        unknown = [name for name in changes if name not in self.parameters]
        problems |= {name: f"is no parameter of the project; allowed: {', '.join(known)}" for name in unknown}
        values = {**self.parameters, **changes}
        missing = [name for name, value in values.items() if value is None]
        if missing:
            problems[""] = (
                f"the project has no default of {listed(map(quoted, missing))}; give a value in base or in changes"
            )
        errors = [
            InitErrorDetails(
                type=PydanticCustomError("parameter", "{why}", {"why": why}),
                loc=(name,) if name else (),
                input=changes.get(name),
            )
            for name, why in problems.items()
            if why
        ]
        if errors:
            raise ValidationError.from_exception_data(self.project.uri, errors)
        return ProjectConfig(
            project=self.project, values=tuple(values.items()), folder=self.folder, env_manager=self.env_manager
        )

    def read(self, params: Mapping[str, str]) -> dict[str, Any] | None:
        return None  # its runs log what they like: they are read as anybody's are

    def alike(self, config: ProjectConfig) -> Hashable:
        return config

    def steps(self, config: ProjectConfig) -> int:
        return 0  # nobody knows

    def cost(self, config: ProjectConfig) -> float:
        return 1.0

    def sizes(self, config: ProjectConfig) -> Mapping[str, Any]:
        return {name: value for name, value in config.logged.items() if name != self.repetition}

    def seconds(self, config: Any, params: Mapping[str, str], metrics: Mapping[str, float], seconds: float) -> float:
        return seconds if seconds > 0 else math.nan

    @property
    def imports(self) -> str:
        return "pipeline.project.run"

    @property
    def program(self) -> Program:
        from pipeline.project import run

        return run
