"""A study as it is declared: variations, seeds, claims and published figures, from a YAML file in `pipeline/studies/`.

`study.schema.json` beside the studies is made from `Study` (`python -m pipeline.plan`), so that editors complete and
check a study file while it is written; a test keeps it true.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from pipeline.config import (
    DISPLAYED_LOSS,
    EPOCH_SECONDS,
    FIRST,
    LAST,
    LOSSES,
    QUALITY,
    TRAINING_SECONDS,
    RunConfig,
    UserError,
    did_you_mean,
)

STUDIES = Path(__file__).parent / "studies"
SCHEMA = STUDIES / "study.schema.json"
SUFFIX = ".yaml"
A_A, AGAIN = " (A/A)", " (again)"  # behind the baseline's name: its runs with fresh seeds, its repeated run

# What a run logs and a claim may be about.
METRICS = (
    *LOSSES,
    *(edge + loss for edge in (FIRST, LAST) for loss in LOSSES),
    FIRST + DISPLAYED_LOSS,
    *QUALITY,
    EPOCH_SECONDS,
    TRAINING_SECONDS,
)
HIGHER_IS_BETTER = ("psnr", "ssim", "collapse")
_VARIED = [name for name in RunConfig.model_fields if name != "seed"]  # the seeds are the study's own
_RUN = RunConfig.model_json_schema()["properties"]


def _known_metric(name: Any) -> Any:
    if name not in METRICS:
        raise ValueError(f"allowed: {', '.join(METRICS)}{did_you_mean(str(name), METRICS)}")
    return name


def _known_parameters(values: Any) -> Any:
    for name in values if isinstance(values, Mapping | list | tuple) else ():
        if name not in _VARIED:
            hint = " (seeds are given once, by `seeds`)" if name == "seed" else did_you_mean(str(name), _VARIED)
            raise ValueError(
                f"{name!r} is no parameter that a variation may change; allowed: {', '.join(_VARIED)}{hint}"
            )
    return values


_Metric = Annotated[str, BeforeValidator(_known_metric), WithJsonSchema({"enum": list(METRICS)})]
_Changes = Annotated[
    dict[str, Any],
    BeforeValidator(_known_parameters),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {name: _RUN[name] for name in _VARIED},
            "additionalProperties": False,
        }
    ),
]
_Grid = Annotated[
    dict[str, Annotated[list[Any], Field(min_length=1)]],
    BeforeValidator(_known_parameters),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {name: {"type": "array", "items": _RUN[name], "minItems": 1} for name in _VARIED},
            "additionalProperties": False,
        }
    ),
]
_Parameters = Annotated[
    tuple[str, ...],
    BeforeValidator(_known_parameters),
    WithJsonSchema({"type": "array", "items": {"enum": _VARIED}, "minItems": 1}),
]
_Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variation(_Declared):
    """What one variation changes; with a grid, one variation for each combination of its values."""

    name: _Name = Field(description="as it shall stand in tables and in the UI; a grid adds `, l1=0.0001`")
    changes: _Changes = Field({}, description="parameters in which it differs from `base`")
    grid: _Grid = Field({}, description="parameters and the values that they take, multiplied out")


class Claim(_Declared):
    """A sentence about two variations that the evidence shall judge."""

    says: _Name = Field(description="the claim, in words")
    variation: str = Field(description="the variation that it is about")
    against: str = Field(description="the variation that it is compared with")
    about: _Parameters = Field(min_length=1, description="the parameters that are claimed to make the difference")
    metric: _Metric = Field(description="the metric that shows it")
    direction: Literal["lower", "higher", "equal"] = Field(
        description="what the metric of `variation` is, compared with that of `against`"
    )
    smallest: float = Field(
        gt=0, allow_inf_nan=False, description="the smallest difference that matters, in the metric's unit"
    )


class Published(_Declared):
    """Figures that somebody else has published, to be set beside ours."""

    source: str = Field(min_length=1, description="where they stand")
    decimals: int = Field(4, ge=0, le=15, description="with how many decimals they are printed")
    figures: dict[str, dict[_Metric, float]] = Field(
        description="by variation, then by the metric that they really are"
    )
    taken_for: dict[_Metric, _Metric] = Field(
        {}, description="a metric that the publication prints, and the one that its reader takes it for"
    )
    stated: dict[str, _Changes] = Field(
        {}, description="by variation, parameters as the publication's text states them, where its code does otherwise"
    )


class Study(_Declared):
    """A study file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        description="letters, digits, `.`, `_` and `-`"
    )
    description: str = Field(min_length=1, description="what it is for, in a sentence")
    base: _Changes = Field({}, description="the configuration that the variations change")
    grid: _Grid = Field({}, description="a grid for every variation that has none of its own")
    variations: tuple[Variation, ...] = Field(min_length=1)
    baseline: str | None = Field(
        None, description="the variation that the others are compared with; default: the first"
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(
        description="a list of seeds, or how many: 3 is [0, 1, 2]", min_length=1
    )
    a_a: bool = Field(
        False,
        description="also run the baseline against itself: with as many fresh seeds, and once more with the first seed",
    )
    claims: tuple[Claim, ...] = ()
    published: Published | None = None

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, seeds: Any) -> Any:
        return as_seeds(seeds)

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed may stand there once")
        return seeds

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        """Every configuration is valid and different, and every name that is mentioned exists."""
        configs = self.configurations()  # a bad value is named here
        for claim in self.claims:
            for name in (claim.variation, claim.against):
                self._require_variation(name, f"the claim {claim.says!r} names")
            if claim.variation == claim.against:
                raise ValueError(f"the claim {claim.says!r} compares {claim.variation!r} with itself")
        for name in (
            *(self.published.figures if self.published else ()),
            *(self.published.stated if self.published else ()),
        ):
            self._require_variation(name, "published names")
        self._require_variation(self.baseline or next(iter(configs)), "baseline names")
        return self

    def _require_variation(self, name: str, whose: str) -> None:
        names = [variation.name for variation in self.expanded()]
        if name not in names:
            raise ValueError(f"{whose} the variation {name!r}{did_you_mean(name, names)}; there are {', '.join(names)}")

    def expanded(self) -> list[Variation]:
        """The variations with the grids multiplied out, in the order of the file."""
        found = []
        for variation in self.variations:
            grid = variation.grid or self.grid
            for values in itertools.product(*grid.values()):
                point = dict(zip(grid, values, strict=True))
                name = ", ".join([variation.name, *(f"{key}={value}" for key, value in point.items())])
                found.append(Variation(name=name, changes={**variation.changes, **point}))
        return found

    def configurations(self) -> dict[str, RunConfig]:
        """The configuration of each variation, with seed 0, by its name.

        Raises:
            ValueError: a value is not allowed, or two variations have one name or one configuration.
        """
        configs: dict[str, RunConfig] = {}
        for variation in self.expanded():
            changes = {**self.base, **variation.changes}
            try:
                config = RunConfig.model_validate(changes)
            except ValidationError as error:
                problem = error.errors()[0]
                reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
                raise ValueError(
                    f"the variation {variation.name!r} has {problem['loc'][0]}={problem['input']!r}: {reason}"
                ) from None
            for name, other in configs.items():
                if name == variation.name:
                    raise ValueError(f"two variations are called {name!r}; give each a name of its own")
                if other == config:
                    raise ValueError(f"the variations {name!r} and {variation.name!r} are the same configuration")
            configs[variation.name] = config
        return configs

    @property
    def baseline_name(self) -> str:
        """The variation that the others are compared with."""
        return self.baseline or self.expanded()[0].name

    def narrowed(self, variations: Sequence[str] = (), seeds: Sequence[int] = ()) -> Study:
        """This study with some of its variations only, and with other seeds; the claims that are left come along.

        Raises:
            UserError: there is no such variation.
        """
        names = list(self.configurations())
        for name in variations:
            if name not in names:
                raise UserError(
                    f"filter={name!r} is no variation of {self.name}{did_you_mean(name, names)}; "
                    f"there are {', '.join(names)}"
                )
        kept = [name for name in names if not variations or name in variations]
        published = self.published and self.published.model_copy(
            update={
                part: {k: v for k, v in getattr(self.published, part).items() if k in kept}
                for part in ("figures", "stated")
            }
        )
        return self.model_copy(
            update={
                "grid": {},
                "variations": tuple(v for v in self.expanded() if v.name in kept),
                "baseline": self.baseline_name if self.baseline_name in kept else kept[0],
                "seeds": tuple(seeds) or self.seeds,
                "claims": tuple(c for c in self.claims if {c.variation, c.against} <= set(kept)),
                "published": published,
            }
        )

    def runs(self) -> list[tuple[str, RunConfig]]:
        """Every run of the study: the variation's name and the configuration with its seed, seed after seed.

        With `a_a`, the baseline's name with `A_A` stands for its fresh seeds, with `AGAIN` for the repeated one.
        """
        configs = self.configurations()
        runs = [(name, _seeded(config, seed)) for seed in self.seeds for name, config in configs.items()]
        if self.a_a:
            name, config = self.baseline_name, configs[self.baseline_name]
            fresh = [seed for seed in range(2 * len(self.seeds)) if seed not in self.seeds][: len(self.seeds)]
            runs += [(name + A_A, _seeded(config, seed)) for seed in fresh]
            runs.append((name + AGAIN, _seeded(config, self.seeds[0])))
        return runs

    def digest(self, data_hashes: Mapping[str, str]) -> str:
        """12 hexadecimal digits that are the same for the same runs on the same images; words do not count."""
        runs = [(name, config.fingerprint, data_hashes[config.dataset]) for name, config in self.runs()]
        return hashlib.sha256(json.dumps([self.name, sorted(runs)]).encode()).hexdigest()[:12]


def _seeded(config: RunConfig, seed: int) -> RunConfig:
    return config.model_copy(update={"seed": seed})


def as_seeds(seeds: Any) -> Any:
    """A count of seeds as the seeds from 0 on; a list, or a text with commas, as it is."""
    if isinstance(seeds, str):
        seeds = [seed.strip() for seed in seeds.split(",")] if "," in seeds else seeds.strip()
        if isinstance(seeds, str) and seeds.isdigit():
            seeds = int(seeds)
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if not 1 <= seeds <= 10_000:
            raise ValueError("a count of seeds is from 1 to 10000")
        return tuple(range(seeds))
    if not isinstance(seeds, list | tuple):
        raise ValueError("allowed: a count such as 5, or a list such as [0, 1, 2]")
    return seeds


def load(study: str) -> Study:
    """The study of that name in `pipeline/studies/`, or in the file of that path.

    Raises:
        UserError: there is none, or it is not a study; the line names the key, what was given and what is allowed.
    """
    path = STUDIES / f"{study}{SUFFIX}" if re.fullmatch(r"[\w.-]+", study) else Path(study).expanduser()
    if not path.is_file():
        path = Path(study).expanduser()
    if not path.is_file():
        names = sorted(file.stem for file in STUDIES.glob(f"*{SUFFIX}"))
        raise UserError(
            f"study={study!r} does not exist{did_you_mean(study, names)}; give {', '.join(names)}, or the path of a file"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"study={study!r} cannot be read: {error}") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Study:
    """The study that a YAML text declares; `source` is what an error calls it.

    Raises:
        UserError: as `load`.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        _require_unique_keys(root)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{source}{where}: {getattr(error, 'problem', None) or error}; write it as YAML") from None
    if not isinstance(content, dict):
        keys = ", ".join(Study.model_fields)
        raise UserError(f"{source}: a study is a mapping with the keys {keys}; this is {type(content).__name__}")
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
        # A list that lost its only item to a problem is reported as too short, too.
        within = {problem["loc"][:n] for problem in problems for n in range(len(problem["loc"]))}
        lines = [
            _line(problem, root, source) for problem in problems if not problem["loc"] or problem["loc"] not in within
        ]
        raise UserError("; ".join(lines)) from None


def _line(problem: Any, root: yaml.Node, source: str) -> str:
    location = [part for part in problem["loc"] if part != "[key]"]
    node, path = root, ""
    for part in location:
        node = _child(node, part) or node
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    what = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        known = list(_model_at(location[:-1]).model_fields)
        what = f"there is no such key{did_you_mean(str(location[-1]), known)}; allowed: {', '.join(known)}"
    given = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
    if problem["type"] == "missing":
        given, what = "", "is missing"
    return f"{source}, line {node.start_mark.line + 1}: {path}{given}: {what}" if path else f"{source}: {what}"


def _child(node: yaml.Node, part: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part]
    return None


def _model_at(location: Sequence[str | int]) -> type[BaseModel]:
    parts = {"variations": Variation, "claims": Claim, "published": Published}
    return parts.get(str(location[0]), Study) if location else Study


def _require_unique_keys(node: yaml.Node | None) -> None:
    """YAML takes the last of two equal keys in silence; a study must not lose one."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
            _require_unique_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _require_unique_keys(child)


def json_schema() -> str:
    """The JSON Schema of a study file."""
    schema = Study.model_json_schema()
    several = schema["properties"]["seeds"]
    count = {"type": "integer", "minimum": 1, "maximum": 10_000}
    about = several.pop("description")
    schema["properties"]["seeds"] = {"anyOf": [count, several], "description": about}
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(json_schema(), encoding="utf-8")
