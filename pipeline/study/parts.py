"""What every study file is made of: texts, parts whose empty keys mean the default, mistakes that know their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from pipeline.metrics import At, read_at
from pipeline.terminal import printable
from pipeline.texts import did_you_mean, listed, quoted

# Pydantic's words for its own types, in those of a YAML file.
_WORDS = {
    "missing": "is missing",
    "dict_type": "should be a mapping",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "too_short": "should have at least one item",
    "string_type": "should be a text; put it in quotes",
}


# Keys by their former names.
_NOW = {
    "a_a": "aa_test",
    "smallest": "smallest_effect",
    "figures": "values",
    "taken_for": "commonly_read_as",
    "stated": "paper_values",
}
FORMERLY = {now: former for former, now in _NOW.items()}


class MisplacedError(ValueError):
    """A mistake that lies further in than where pydantic looks for it: at `keys` from there."""

    def __init__(self, what: str, *keys: str | int) -> None:
        super().__init__(what)
        self.keys = keys


def _is_printable(text: str) -> str:
    if printable(text) != text:
        raise ValueError("it has control characters, which a terminal would obey; leave them out")
    return text


def _is_one_line(text: str) -> str:
    if len(text.splitlines()) > 1 or "\t" in text:
        raise ValueError("it should be one line, without tabs")
    return _is_printable(text)


Text = Annotated[str, Field(min_length=1), AfterValidator(_is_printable)]
Line = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_is_one_line)]


class Part(BaseModel):
    """A mapping in a study file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _default_where_empty(cls, values: Any, info: ValidationInfo) -> Any:
        """A key that is left empty, which is null in YAML, means the default; one may have its former name."""
        if not isinstance(values, dict):
            return values
        former = {key: _NOW[key] for key in values if key in _NOW and _NOW[key] in cls.model_fields}
        if info.context:
            info.context["former"].update(former)
        known = {former.get(key, key): value for key, value in values.items()}
        return {key: value for key, value in known.items() if value is not None or key not in cls.model_fields}


_STEP = {"type": "string", "pattern": "^(step )?[0-9]+$"}
_At = Annotated[
    At,
    BeforeValidator(read_at),
    WithJsonSchema({"anyOf": [{"enum": ["last", "best"]}, _STEP, {"type": "integer", "minimum": 0}]}),
]


class Measure(Part):
    """What is known of a metric beyond its name."""

    better: Literal["lower", "higher"] | None = Field(
        None, description="which way is better; default: as its name says"
    )
    at: _At = Field("last", description="which of the values that a run logged: `last`, `best`, or `step 10`")
    label: Line | None = Field(None, description="as it shall stand in tables; default: its name")
    unit: Line | None = Field(None, description="such as `dB` or `s`")
    decimals: Annotated[int, Field(ge=0, le=15)] | None = Field(None, description="how many decimals say something")


def _default_where_empty(measures: Any) -> Any:
    """A metric of which nothing is said has a name all the same."""
    if not isinstance(measures, dict):
        return measures
    return {name: {} if said is None else said for name, said in measures.items()}


Measures = Annotated[dict[Line, Measure], BeforeValidator(_default_where_empty)]


class Declaration(Part):
    """What every study declares, whether it makes its runs or finds them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        description="letters, digits, `.`, `_` and `-`"
    )
    description: Text = Field(description="what it is for, in a sentence")
    baseline: str | None = Field(
        None, description="the variation that the others are compared with; default: the first"
    )
    looks: int = Field(
        1,
        ge=1,
        le=10,
        description="how often verdicts are to be read, with more runs each time: the looks share the level",
    )


def require_variation(name: str, names: Sequence[str], *keys: str | int) -> None:
    if name not in names:
        raise MisplacedError(no_variation(name, names), *keys)


def no_variation(name: str, names: Sequence[str]) -> str:
    return f"there is no such variation{did_you_mean(name, names)}; allowed: {listed(map(quoted, names))}"


def words(problem: Any) -> str:
    """What pydantic finds wrong, in the words of a YAML file."""
    return _WORDS.get(problem["type"]) or problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
