"""What a comparison is asked, whoever asks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pipeline.study.existing import StudyOfRuns
from pipeline.study.parts import Measure
from pipeline.study.plan import Study


class Declared(NamedTuple):
    """A plan, and when a study was started with it, in milliseconds since 1970."""

    at: float
    study: Study


@dataclass(frozen=True)
class CompareRequest:
    """What is asked: a study's questions, at so many looks at it, or each variation against a baseline."""

    study: Study | StudyOfRuns | None = None
    looks: int = 1
    plans: tuple[Declared, ...] = ()  # every one that the study was started with
    group_by: tuple[str, ...] = ()
    metric: str = ""
    metrics: tuple[str, ...] = ()
    baseline: str = ""
    better: Literal["", "lower", "higher"] = ""  # which way of the main metric is, where its name does not tell
    repetitions: tuple[str, ...] = ()  # parameters or tags that tell them apart; empty = found; `name`, `none`
    nuisance: tuple[str, ...] = ()  # parameters that were searched: each of their values is a try
    measures: Mapping[str, Measure] = field(default_factory=dict)  # what was said of metrics, by name
    defaults: Mapping[str, str] = field(default_factory=dict)  # of parameters that older runs do not have

    @property
    def plan(self) -> Study | None:
        """The study, where it made its runs."""
        return self.study if isinstance(self.study, Study) else None
