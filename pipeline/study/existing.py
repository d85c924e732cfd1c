"""A study of runs that exist: where they are, which of them are which variation, and what is claimed about them.

Nothing is trained for it. What no file can know (that a parameter or a metric is one of the runs) is asked of the runs
when they are read: `pipeline.compare.existing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from pipeline.study import plan
from pipeline.study.parts import Declaration, Line, Measures, MisplacedError, Part, require_variation


def _as_value(value: Any) -> Any:
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError("should be a text, a number, true, false or null; put what is none of them in quotes")
    return value


# Of a parameter: as MLflow's text of it reads; None = the run has none. YAML makes a date of 2024-01-01.
Value = Annotated[bool | int | float | str | None, BeforeValidator(_as_value)]


def _as_list(value: Any) -> Any:
    """A single one as a list; of what is no text, the item is what is told of."""
    return value if isinstance(value, list | tuple) else [value]


def _as_choices(where: Any) -> Any:
    """A single value as a list of one."""
    if not isinstance(where, dict):
        return where
    return {name: value if isinstance(value, list | tuple) else [value] for name, value in where.items()}


def _one_or_several(of: Mapping[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [of, {"type": "array", "items": of, "minItems": 1}]})


_Names = Annotated[tuple[Line, ...], BeforeValidator(_as_list), _one_or_several({"type": "string"})]
_Choices = Annotated[
    tuple[Value, ...], Field(min_length=1), _one_or_several({"type": ["boolean", "number", "string", "null"]})
]


class Source(Part):
    """Where runs are, and what is known of them."""

    experiments: _Names = Field((), description="their names or IDs; empty = MLFLOW_EXPERIMENT_NAME, or Default")
    filter: str = Field("", description="an MLflow filter string, such as params.model = 'resnet18'")
    repetitions: _Names = Field(
        (),
        description="parameters or tags that tell repetitions apart; `parent` = the run above, `name` = a number in a "
        "run's name, `none`; empty = found by their names",
    )
    nuisance: _Names = Field(
        (),
        description="parameters that somebody searched: variations are compared by the best that equally many tries "
        "are expected to give",
    )
    defaults: dict[Line, bool | int | float | str] = Field(
        {}, description="values of parameters in the runs that do not have them, made before there was such a parameter"
    )


class Selection(Part):
    """A variation: the runs that have some values."""

    name: plan.VariationName = Field(description="as it shall stand in tables, without commas")
    where: Annotated[dict[Line, _Choices], BeforeValidator(_as_choices)] = Field(
        min_length=1,
        description="parameters, or tags as `tags.name`, and the value of each, or several of which it has one; null = "
        "the run has none",
    )


class ClaimOfRuns(plan.Claim):
    """A sentence about two variations that the evidence shall judge."""

    about: tuple[Line, ...] = Field(
        min_length=1,
        description="the parameters, or tags of `where` as `tags.name`, that are claimed to make the difference",
    )
    metric: Line = Field(description="the metric that shows it")


class StudyOfRuns(Declaration):
    """A study of runs that exist."""

    runs: Source
    metrics: Measures = Field({}, description="by name; the first is the main metric")
    variations: tuple[Selection, ...] = Field(min_length=1)
    claims: tuple[ClaimOfRuns, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> StudyOfRuns:
        names: list[str] = []
        for i, variation in enumerate(self.variations):
            if variation.name in names:
                raise MisplacedError(f"two are called {variation.name!r}; give each a name of its own", "variations", i)
            if variation.name.endswith((plan.A_A, plan.AGAIN)):
                raise MisplacedError("it ends like a name of `aa_test`; give it another", "variations", i, "name")
            names.append(variation.name)
        if self.baseline is not None:
            require_variation(self.baseline, names, "baseline")
        plan.require_two_sides(self.claims, names)
        return self

    @property
    def baseline_name(self) -> str:
        """The variation that the others are compared with."""
        return self.baseline or self.variations[0].name

    @property
    def main_metric(self) -> str:
        """By which variations are ranked; empty = chosen among those that the runs have."""
        return next(iter([*self.metrics, *(claim.metric for claim in self.claims)]), "")

    @property
    def claimed_parameters(self) -> tuple[str, ...]:
        """Those that some claim is about."""
        return tuple(dict.fromkeys(name for claim in self.claims for name in claim.about))
