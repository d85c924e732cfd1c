"""What `study` is asked."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.study import plan


class Options(BaseModel):
    """Which study to run, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str = Field("published", min_length=1, description="a study in pipeline/studies/, or the path of a file")
    seeds: str = Field("", description="other seeds than the file's: a count, or a list such as 0,3,4")
    filter: str = Field("", description="variations, separated by commas; empty = all of them")
    jobs: int = Field(
        0,
        ge=0,
        description="how many runs train at a time, each on a core of its own; 0 = one for every core",
    )
    env_manager: Literal["", "local", "uv", "virtualenv", "conda"] = Field(
        "",
        description="of a study of another project: how its environment is made, once for all runs; empty = as `mlflow "
        "run` chooses, `local` = this one",
    )
    executor: Literal["local", "ray"] = Field(
        "local",
        description="what makes the runs: `local` = processes of this machine, `ray` = those of a cluster of Ray",
    )
    address: str = Field(
        "",
        description="of the cluster: `auto`, or HOST:PORT as `ray start` has said; empty = a Ray on this machine alone",
    )
    gpus_per_run: float = Field(
        0.0,
        ge=0,
        description="of a cluster: how many GPUs a run is given, such as 0.25 for four runs on each; 0 = none",
    )
    retrain: bool = Field(
        False,
        description="true = train what has finished before once more",
        json_schema_extra={"formerly": "fresh"},
    )
    aa_test: bool = Field(
        False,
        description="true = also run the baseline against itself, to see what chance does (A/A test)",
        json_schema_extra={"formerly": "a_a"},
    )
    dry_run: bool = Field(False, description="show what would be run and what it could find, and run nothing")
    power: float = Field(0.8, gt=0, lt=1, description="of a dry run: how probably a true difference is to be found")
    detect: float = Field(
        0.0,
        ge=0,
        description="of a dry run: a true difference, to be told how many seeds find it; 0 = what those planned find",
    )

    @field_validator("seeds")
    @classmethod
    def _are_seeds(cls, seeds: str) -> str:
        if seeds:
            plan.as_seeds(seeds)
        return seeds

    @model_validator(mode="after")
    def _asked_before(self) -> Options:
        if not self.dry_run and self.model_fields_set & {"power", "detect"}:
            raise ValueError("power and detect are questions to a dry run; give dry_run, too")
        return self

    @model_validator(mode="after")
    def _of_a_cluster(self) -> Options:
        if self.executor != "ray" and (self.address or self.gpus_per_run):
            raise ValueError("address and gpus_per_run are said of a cluster; give executor=ray, too")
        return self

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        if address not in ("", "auto") and not re.fullmatch(r"[^\s:/@]+:\d+", address):
            raise ValueError(f"{address!r} is no address of a cluster; give `auto` or HOST:PORT, such as 10.0.0.1:6379")
        return address

    @field_validator("filter")
    @classmethod
    def _are_names(cls, names: str) -> str:
        if names and not all(name.strip() for name in names.split(",")):
            raise ValueError("there is nothing before or behind a comma; give names, with a comma between two")
        return names
