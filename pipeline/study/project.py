"""What a study says of the MLflow Project whose runs it makes, and what that was when it was planned."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.study.parts import Line, Part

Value = int | float | str
_NUMBERS = ("float", "int", "integer", "double", "number")  # types of MLproject files; of others a value is a text
NO_REPETITION = "no repetition"  # no parameter has a blank in its name


class Source(Part):
    """Where a project is, and how it is run."""

    project: Line = Field(description="an MLflow Project: a folder or a git URL, of which `#folder` is a part")
    version: Line | None = Field(None, description="a commit, tag or branch of a git URL; default: its main branch")
    entry_point: Line = Field("main", description="which of the project's commands is run")
    repetitions: Line | None = Field(
        None, description="the project's own parameter that takes the seed; without one there is one run of each"
    )


class Parameter(BaseModel):
    """As an MLproject file declares it; without a default it has to be given."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str = "string"
    default: Value | None = None

    @property
    def is_number(self) -> bool:
        """Whether the project declares it as one."""
        return self.type in _NUMBERS

    def problem(self, value: Any) -> str:
        """Why it cannot have a value; empty where it can."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return "should be a number or a text; put it in quotes"
        if self.is_number:
            try:
                float(value)
            except ValueError:
                return f"should be a number; the project declares it as {self.type}"
        return ""


class Project(BaseModel):
    """A project as it was when a study was planned.

    Attributes:
        uri: where it lies, without a password: a folder or a git URL.
        entry_point: which of its commands is run.
        repetition: its parameter that takes the seed; empty where it has none.
        commit: of the repository that it lies in; empty where it lies in none.
        content: 12 hexadecimal digits that are the same for the same files.
        changed: whether files differ from the commit.
        parameters: of the entry point.
    """

    model_config = ConfigDict(frozen=True)

    uri: str
    entry_point: str = "main"
    repetition: str = ""
    commit: str = ""
    content: str = ""
    changed: bool = False
    parameters: tuple[Parameter, ...] = ()

    @property
    def seed(self) -> str:
        """The name by which a configuration has its repetition."""
        return self.repetition or NO_REPETITION
