"""What `compare` is asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from pipeline.metrics import PRIMARY, THE_MAIN_ONE, At, read_at
from pipeline.texts import listed, quoted

CONCLUSION, REPORT_HTML = "conclusion.json", "report.html"
Format = Literal["html", "md", "csv", "json", "latex"]
FILES: dict[Format, str] = {
    "html": REPORT_HTML,
    "md": "report.md",
    "csv": "conclusion.csv",
    "json": CONCLUSION,
    "latex": "conclusion.tex",
}
PICTURED = ("html", "md")  # what shows pictures, which are then written, too


def _split(value: Any) -> Any:
    if not isinstance(value, str) or not value:
        return value or ()
    parts = tuple(part.strip() for part in value.split(","))
    if "" in parts:
        raise ValueError("there is nothing before or behind a comma; give names, with a comma between two")
    return parts


def _as_names(value: Any) -> Any:
    """One text may be the name of an experiment with commas: it is not split here."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError("it should be a text, or a list of texts")
    return value


def _expanded(value: Any) -> Any:
    if value == "":
        raise ValueError("it is empty; give a folder, `.` for this one")
    try:
        return Path(value).expanduser()
    except TypeError:
        raise ValueError("it is no path") from None
    except RuntimeError:
        raise ValueError("it is in the home of a user that is not known here") from None


_Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Options(BaseModel):
    """What to compare, and where to write it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: Annotated[str | tuple[str, ...], BeforeValidator(_as_names)] = Field(
        "",
        description="the experiment's name or ID, or several, with commas; empty = MLFLOW_EXPERIMENT_NAME, or Default",
        json_schema_extra={"also": "experiments"},
    )
    filter: str = Field("", description="an MLflow filter string, such as params.optimizer = 'adam'")
    study: str = Field(
        "",
        description="the name of a study that was run: its latest run, against its plan and claims; or the file of a "
        "study of runs that exist",
    )
    group_by: _Names = Field(
        (), description="parameters, with commas, that make a variation; empty = all that differ, but for the seed"
    )
    metric: str = Field("", description=f"the metric that counts; empty = {PRIMARY}, else {THE_MAIN_ONE}")
    better: Literal["", "lower", "higher"] = Field(
        "", description="which way of the main metric is better; empty = as its name says, or not known"
    )
    at: Annotated[At, BeforeValidator(read_at)] = Field(
        "last", description="which value of the main metric counts, of those that a run logged: last, best, or step 10"
    )
    metrics: _Names = Field((), description="metrics, with commas, to show and compare; empty = all that are known")
    baseline: str = Field("", description="a variation's name, or parameter=value; empty = the study's, or the first")
    repetitions: _Names = Field(
        (),
        description="parameters or tags, with commas, that tell repetitions apart; `name` = a number in a run's name, "
        "`none`; empty = found by their names",
    )
    default: _Names = Field(
        (), description="parameter=value, with commas: what runs had that were made before there was the parameter"
    )
    nuisance: _Names = Field(
        (),
        description="parameters, with commas, that somebody searched: variations are compared by the best that equally "
        "many tries are expected to give",
    )
    out: Annotated[Path, BeforeValidator(_expanded)] = Field(
        Path("comparison"), description=f"the folder for {CONCLUSION}, {REPORT_HTML} and the others"
    )
    format: Annotated[tuple[Format, ...], BeforeValidator(_split)] = Field(
        (),
        description=f"the files to write, with commas, of {', '.join(FILES)}; pictures come with html and md; empty = "
        "all but latex",
    )
    pictures: str = Field(
        "", description="the path of a PNG or JPEG among a run's artifacts: that of each variation, side by side"
    )
    log: bool = Field(
        False, description="true = log the files to the study's run, or to one in the experiment that is compared"
    )
    all: bool = Field(False, description="true = print the whole report, not only the answer and the verdicts")
    suggest: bool = Field(
        False, description="true = print a study file for the runs that are found, to start from, and write nothing"
    )
    verify: str = Field("", description=f"a {CONCLUSION} to check against the store, instead of writing one")

    @property
    def formats(self) -> tuple[Format, ...]:
        """The files that are to be written."""
        return self.format or tuple(each for each in FILES if each != "latex")

    @field_validator("better", "at", "group_by", "repetitions", "default", "nuisance", "suggest")
    @classmethod
    def _without_a_study(cls, asked: Any, given: ValidationInfo) -> Any:
        name = str(given.field_name)
        if asked != cls.model_fields[name].default and given.data.get("study"):
            raise ValueError(f"a study says that itself; leave out --{name.replace('_', '-')} or --study")
        return asked

    @field_validator("at")
    @classmethod
    def _of_a_metric(cls, at: At, given: ValidationInfo) -> At:
        if at != "last" and not given.data.get("metric"):
            raise ValueError("say of which metric, by --metric")
        return at

    @field_validator("default")
    @classmethod
    def _has_values(cls, defaults: tuple[str, ...]) -> tuple[str, ...]:
        for each in defaults:
            if not re.fullmatch(r"[^=]+=.+", each):
                raise ValueError(f"{quoted(each)} is not parameter=value")
        return defaults

    @field_validator("repetitions", "nuisance")
    @classmethod
    def _is_one_thing(cls, names: tuple[str, ...], given: ValidationInfo) -> tuple[str, ...]:
        both = set(names) & set(given.data.get("group_by", ()))
        if both:
            raise ValueError(f"{listed(sorted(both))} cannot also make variations; give it to one option only")
        return names

    @field_validator("pictures")
    @classmethod
    def _where_they_are_shown(cls, pictures: str, given: ValidationInfo) -> str:
        formats = given.data.get("format")
        if pictures and formats and not set(PICTURED) & set(formats):
            raise ValueError(f"pictures are shown in {' and '.join(PICTURED)}; add one of them to --format")
        return pictures

    @field_validator("verify")
    @classmethod
    def _alone(cls, verify: str, given: ValidationInfo) -> str:
        others = [name for name, value in given.data.items() if value != cls.model_fields[name].default]
        if verify and others:
            raise ValueError(f"the file says what to compare; leave out {listed(f'--{name}' for name in others)}")
        return verify
