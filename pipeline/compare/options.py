"""What `compare` is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from pipeline.metrics import PRIMARY, THE_MAIN_ONE
from pipeline.texts import listed

CONCLUSION, REPORT_HTML = "conclusion.json", "report.html"


def _split(value: Any) -> Any:
    if not isinstance(value, str) or not value:
        return value or ()
    parts = tuple(part.strip() for part in value.split(","))
    if "" in parts:
        raise ValueError("there is nothing before or behind a comma; give names, with a comma between two")
    return parts


def _expanded(value: Any) -> Any:
    if value == "":
        raise ValueError("it is empty; give a folder, `.` for this one")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("it is in the home of a user that is not known here") from None


_Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Options(BaseModel):
    """What to compare, and where to write it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str = Field("", description="the experiment's name; empty = MLFLOW_EXPERIMENT_NAME, or Default")
    filter: str = Field("", description="an MLflow filter string, such as params.optimizer = 'adam'")
    study: str = Field("", description="the name of a study that was run: its latest run, against its plan and claims")
    group_by: _Names = Field(
        (), description="parameters, with commas, that make a variation; empty = all that differ, but for the seed"
    )
    metric: str = Field("", description=f"the metric that counts; empty = {PRIMARY}, else {THE_MAIN_ONE}")
    better: Literal["", "lower", "higher"] = Field(
        "", description="which way of the main metric is better; empty = as its name says, or not known"
    )
    metrics: _Names = Field((), description="metrics, with commas, to show and compare; empty = all that are known")
    baseline: str = Field("", description="a variation's name, or parameter=value; empty = the study's, or the first")
    repetitions: _Names = Field(
        (),
        description="parameters or tags, with commas, that tell repetitions apart; `name` = a number in a run's name, "
        "`none`; empty = found by their names",
    )
    nuisance: _Names = Field(
        (),
        description="parameters, with commas, that somebody searched: variations are compared by the best that equally "
        "many tries are expected to give",
    )
    out: Annotated[Path, BeforeValidator(_expanded)] = Field(
        Path("comparison"), description=f"the folder for {CONCLUSION}, {REPORT_HTML} and the others"
    )
    log: bool = Field(False, description="true = log the files to the study's run, or to one of this comparison")
    all: bool = Field(False, description="true = print the whole report, not only the answer and the verdicts")
    verify: str = Field("", description=f"a {CONCLUSION} to check against the store, instead of writing one")

    @field_validator("group_by", "repetitions", "nuisance")
    @classmethod
    def _without_a_study(cls, names: tuple[str, ...], given: ValidationInfo) -> tuple[str, ...]:
        option = f"--{str(given.field_name).replace('_', '-')}"
        if names and given.data.get("study"):
            raise ValueError(f"the variations of a study are its own; leave out {option} or --study")
        both = set(names) & set(given.data.get("group_by", ()))
        if both:
            raise ValueError(f"{listed(sorted(both))} cannot also make variations; give it to one option only")
        return names

    @field_validator("verify")
    @classmethod
    def _alone(cls, verify: str, given: ValidationInfo) -> str:
        others = [name for name, value in given.data.items() if value != cls.model_fields[name].default]
        if verify and others:
            raise ValueError(f"the file says what to compare; leave out {listed(f'--{name}' for name in others)}")
        return verify
