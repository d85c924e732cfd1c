"""A study that makes its runs: variations, seeds, claims and published figures, as `files` reads them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    FiniteFloat,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from pipeline import metrics, task
from pipeline.errors import UserError
from pipeline.study.parts import (
    Declaration,
    Line,
    Measures,
    MisplacedError,
    Part,
    Text,
    no_variation,
    require_variation,
    words,
)
from pipeline.study.project import Project
from pipeline.study.tuning import Point, Trial, point_text, points_of
from pipeline.task import Task
from pipeline.texts import did_you_mean, listed, quoted

A_A, AGAIN = " (A/A)", " (again)"  # behind the baseline's name: its runs with fresh seeds, its repeated run

_MOST_VARIATIONS, MOST_SEEDS = 1000, 10_000  # a grid grows fast; more are a mistake
_SEEDS_END = 2**32  # as `RunConfig.seed`
_FIRST_TUNING_SEED, _MOST_TRIALS = 1_000_000, 10_000

DEFINITION = "$definition"  # in place of `$ref`: pydantic looks those up itself


def _task(info: ValidationInfo) -> Task:
    return info.context["task"] if info.context else task.load()


def _known_metric(name: Any, info: ValidationInfo) -> Any:
    if not _task(info).metrics:  # what its runs log is seen when they are there
        return name
    now, known = metrics.current(str(name)), [row.name for row in _task(info).metrics]
    if now not in known:
        raise ValueError(f"allowed: {listed(known)}{did_you_mean(now, known)}")
    return now


def varied(of: Task) -> list[str]:
    """The parameters that a variation may change: the seeds are the study's own."""
    return [name for name in of.parameters if name != of.repetition]


def _require_parameter(of: Task, name: Any, *keys: str | int) -> None:
    known = varied(of)
    if name not in known:
        repeats = "; seeds are given once, by `seeds`" if name == of.repetition else did_you_mean(str(name), known)
        raise MisplacedError(
            f"{quoted(name)} is not a parameter that a variation may change; allowed: {', '.join(known)}{repeats}",
            *keys,
        )


def _require_value(of: Task, name: str, value: Any, *keys: str | int) -> None:
    if isinstance(value, bool):  # pydantic would take it for 1
        raise MisplacedError("true and false are not a parameter's value", *keys)
    try:
        of.configure({name: value})
    except ValidationError as error:
        for problem in error.errors():
            if problem["loc"][:1] == (name,):  # else it is the combination, and others may stand in the file
                raise MisplacedError(words(problem), *keys) from None


def _configure(of: Task, values: Mapping[str, Any], what: str, *keys: str | int) -> Any:
    """The configuration of values each of which is allowed, and which may not go together."""
    try:
        return of.configure(values)
    except ValidationError as error:
        raise MisplacedError(f"{what}: {words(error.errors()[0])}", *keys) from None


def _known_changes(changes: Any, info: ValidationInfo) -> Any:
    for name, value in changes.items() if isinstance(changes, dict) else ():
        _require_parameter(_task(info), name, name)
        _require_value(_task(info), name, value, name)
    return changes


def _known_grid(grid: Any, info: ValidationInfo) -> Any:
    for name, values in grid.items() if isinstance(grid, dict) else ():
        _require_parameter(_task(info), name, name)
        for i, value in enumerate(values if isinstance(values, list) else ()):
            _require_value(_task(info), name, value, name, i)
    return grid


def _known_parameters(names: Any, info: ValidationInfo) -> Any:
    for i, name in enumerate(names if isinstance(names, list | tuple) else ()):
        _require_parameter(_task(info), name, i)
    return names


def _defined(name: str) -> WithJsonSchema:
    """What `json_schema` defines, of the task's parameters and metrics."""
    return WithJsonSchema({DEFINITION: name})


_Metric = Annotated[str, BeforeValidator(_known_metric), _defined("Metric")]
_Changes = Annotated[dict[str, Any], BeforeValidator(_known_changes), _defined("Changes")]
_Grid = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], BeforeValidator(_known_grid), _defined("Grid")]
_Parameters = Annotated[tuple[str, ...], BeforeValidator(_known_parameters), _defined("Parameters")]


VariationName = Annotated[Line, Field(pattern=r"^[^,]*$")]


class Variation(Part):
    """What one variation changes; with a grid, one variation for each combination of its values."""

    name: VariationName = Field(
        description="as it shall stand in tables and in the UI, without commas; a grid adds ` learning_rate=0.01`"
    )
    changes: _Changes = Field({}, description="parameters in which it differs from `base`")
    grid: _Grid = Field({}, description="parameters and the values that they take, multiplied out")


class Claim(Part):
    """A sentence about two variations that the evidence shall judge."""

    says: Line = Field(description="the claim, in words")
    variation: str = Field(description="the variation that it is about")
    against: str = Field(description="the variation that it is compared with")
    about: _Parameters = Field(min_length=1, description="the parameters that are claimed to make the difference")
    metric: _Metric = Field(description="the metric that shows it")
    direction: Literal["lower", "higher", "equal"] = Field(
        description="what the metric of `variation` is, compared with that of `against`"
    )
    smallest_effect: float = Field(
        gt=0, allow_inf_nan=False, description="the smallest effect of interest, in the metric's unit"
    )


class Published(Part):
    """Values that somebody else has published, to be set beside ours."""

    source: Text = Field(description="where they stand")
    decimals: int = Field(4, ge=0, le=15, description="with how many decimals they are printed")
    values: dict[str, dict[_Metric, FiniteFloat]] = Field(
        description="by variation, then by the metric that they really are"
    )
    commonly_read_as: dict[_Metric, _Metric] = Field(
        {}, description="a metric that the publication prints, and the one that its readers take it for"
    )
    paper_values: dict[str, _Changes] = Field(
        {}, description="by variation, parameters as the publication's text states them, where its code does otherwise"
    )


class Tuning(Part):
    """How each variation's nuisance parameters are chosen."""

    seeds: int = Field(2, ge=1, le=1000, description="how many, for each point of the grid; none of them is reported")
    metric: _Metric | None = Field(None, description="by whose mean the best point is chosen; default: the main metric")


class Study(Declaration):
    """A study that makes its runs."""

    project: Project | None = Field(None, description="the MLflow Project that is run; empty = this project itself")
    metrics: Measures = Field({}, description="of a project: what is known of its metrics; the first is the main one")
    base: _Changes = Field({}, description="the configuration that the variations change")
    grid: _Grid = Field({}, description="a grid for every variation that has none of its own")
    variations: tuple[Variation, ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, lt=_SEEDS_END)], ...] = Field(
        description="a list of seeds, or how many: 3 is [0, 1, 2]", min_length=1
    )
    nuisance: _Grid = Field(
        {},
        description="parameters that no claim is about, and the values among which each variation has its own best "
        "ones chosen, on seeds that are not reported; a variation that sets one keeps what it sets",
    )
    tuning: Tuning = Tuning()
    aa_test: bool = Field(
        False,
        description="also run the baseline against itself: with as many fresh seeds, and once more with the first seed",
    )
    retries: int = Field(
        1, ge=0, le=10, description="how often a run that fails or is lost is started again before it counts as failed"
    )
    stop_after: int = Field(
        5, ge=1, description="after so many runs in a row that failed the study ends, and says what they have in common"
    )
    claims: tuple[Claim, ...] = ()
    published: Published | None = None

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, seeds: Any) -> Any:
        return as_seeds(seeds)

    _task: Task = PrivateAttr()
    _points: Mapping[str, Point] = PrivateAttr({})

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Study:
        """Every configuration is different, and every name that is mentioned exists."""
        self._task = _task(info)
        if len(self.seeds) > 1 and not self.task.repeats:
            raise MisplacedError("without `repetitions`, the project's parameter for a seed, it can only be 1", "seeds")
        if self.metrics and not self.project:
            raise MisplacedError(
                "what is known of metrics is said of a `project` or of `runs`; leave it out", "metrics"
            )
        points = sum(math.prod(map(len, (v.grid or self.grid).values())) for v in self.variations)
        if points > _MOST_VARIATIONS:
            raise MisplacedError(
                f"with the grids these are {points:,} variations; at most {_MOST_VARIATIONS}", "variations"
            )
        self._require_difference()
        configs = self.configurations()
        names = list(configs)
        if self.nuisance:
            self._require_fair_tuning()
        if self.baseline is not None:
            require_variation(self.baseline, names, "baseline")
        require_two_sides(self.claims, names)
        for part in ("values", "paper_values") if self.published else ():
            for name in getattr(self.published, part):
                require_variation(name, names, "published", part, name)
        for name, stated in self.published.paper_values.items() if self.published else ():
            for parameter, value in stated.items():
                values = {**configs[name].params, parameter: value}
                _configure(self.task, values, quoted(name), "published", "paper_values", name, parameter)
        return self

    def expanded(self) -> list[Variation]:
        """The variations with the grids multiplied out, in the order of the file."""
        found = []
        for variation in self.variations:
            grid = variation.grid or self.grid
            for values in itertools.product(*grid.values()):
                point = dict(zip(grid, values, strict=True))
                name = f"{variation.name} {point_text(point)}" if point else variation.name
                changes = {**variation.changes, **point}
                found.append(variation.model_copy(update={"name": name, "changes": changes, "grid": {}}))
        return found

    @classmethod
    def recorded(cls, text: bytes | str) -> Study:
        """A study as it was recorded when it was run.

        Raises:
            ValueError: it is of another version of this package.
        """
        project = json.loads(text).get("project")
        of = task.of(Project.model_validate(project) if project else None)
        return cls.model_validate_json(text, context={"task": of, "former": {}})

    @property
    def task(self) -> Task:
        """What it runs."""
        return self._task

    def run_by(self, of: Task) -> Study:
        """This study with what it runs as it is on this machine."""
        placed = self.model_copy()
        placed._task = of
        return placed

    @property
    def main_metric(self) -> str:
        """By which variations are ranked; empty = chosen among those that the runs have."""
        primary = [row.name for row in self.task.metrics if row.primary]
        return next(iter([*primary, *self.metrics, *(claim.metric for claim in self.claims)]), "")

    def configurations(self) -> dict[str, Any]:
        """The `Configuration` of each variation, of the first repetition there is, by its name.

        Of one that is tuned, it has the nuisance parameters of `at`, and before that its own.
        """
        return {v.name: self._chosen(v) for v in self.expanded()}

    @property
    def data(self) -> str:
        """`Configuration.data` of the first one: of most studies, of all of them."""
        return str(self._chosen(self.expanded()[0]).data)

    def _chosen(self, variation: Variation) -> Any:
        return self._configured(variation, self._points.get(variation.name, {}))

    def _configured(self, variation: Variation, more: Mapping[str, Any]) -> Any:
        values = {**self.base, **variation.changes, **more}
        return _configure(self.task, values, quoted(variation.name), "variations")

    def _require_difference(self) -> None:
        names: dict[Any, str] = {}
        for variation in self.expanded():
            name, grid = variation.name, self._tuned_over(variation)
            if name in names.values():
                raise MisplacedError(f"two are called {name!r}; give each a name of its own", "variations")
            if name.endswith((A_A, AGAIN)):
                raise MisplacedError(f"{name!r} ends like a name of `aa_test`; give it another", "variations")
            alike = self._configured(variation, {}), tuple(grid)
            if alike in names:
                raise MisplacedError(
                    f"{names[alike]!r} and {name!r} are the same configuration; leave one of them", "variations"
                )
            names[alike] = name

    # --- Tuning

    def _tuned_over(self, variation: Variation) -> dict[str, list[Any]]:
        return {name: values for name, values in self.nuisance.items() if name not in variation.changes}

    @property
    def tuned(self) -> dict[str, dict[str, list[Any]]]:
        """By variation that is tuned, the grid."""
        return {v.name: grid for v in self.expanded() if (grid := self._tuned_over(v))}

    @property
    def tuning_metric(self) -> str:
        """By which the points of the grids are compared."""
        return self.tuning.metric or self.main_metric

    @property
    def tuning_seeds(self) -> tuple[int, ...]:
        """Far from the others, so that more of those change nothing that was tuned."""
        reported = {*self.seeds, *self._fresh_seeds}
        others = (seed for seed in itertools.count(_FIRST_TUNING_SEED) if seed not in reported)
        return tuple(itertools.islice(others, self.tuning.seeds))

    def trials(self) -> list[Trial]:
        """Every run by which a variation is tuned, seed after seed."""
        variations = {variation.name: variation for variation in self.expanded()}
        return [
            Trial(name, point, self._repeated(self._configured(variations[name], point), seed))
            for seed in self.tuning_seeds
            for name, grid in self.tuned.items()
            for point in points_of(grid)
        ]

    @property
    def points(self) -> Mapping[str, Point]:
        """What was chosen, by variation that is tuned; empty before that."""
        return self._points

    def at(self, points: Mapping[str, Point]) -> Study:
        """This study with the nuisance parameters that were chosen, by variation."""
        tuned = self.model_copy()
        tuned._points = points
        return tuned

    def _require_fair_tuning(self) -> None:
        """What is chosen is not reported on the data that it was chosen on."""
        tuned, metric = self.tuned, self.tuning_metric
        if not metric:
            raise MisplacedError("by which metric is not said; give tuning.metric", "nuisance")
        if not tuned:
            raise MisplacedError("every variation sets these parameters itself; leave them out in one", "nuisance")
        count = sum(math.prod(map(len, grid.values())) for grid in tuned.values()) * self.tuning.seeds
        if count > _MOST_TRIALS:
            raise MisplacedError(f"these are {count:,} runs to tune by; at most {_MOST_TRIALS:,}", "nuisance")
        if len({(trial.variation, trial.config) for trial in self.trials()}) < count:
            raise MisplacedError("a value stands there twice; leave one", "nuisance")
        ends = [row.name for row in self.task.metrics if not row.per_epoch and not row.is_wall_time]
        for name, config in self.configurations().items():
            parts = {each: self.task.measured_on(config, each) for each in (*ends, metric)}
            if name in tuned and parts[metric] == "test":
                others = listed(each for each in ends if parts[each] != "test") or "such as val_loss"
                raise MisplacedError(
                    f"{name!r} would be chosen by {metric} on the test data, on which it is reported; "
                    f"{self.task.to_hold_out}, or give a tuning.metric of other data: {others}",
                    "nuisance",
                )
            for i, claim in enumerate(self.claims):
                part = self.task.measured_on(config, claim.metric)
                same = claim.metric == metric or part == parts[metric] != "unknown"
                if name in tuned and name in (claim.variation, claim.against) and same:
                    allowed = listed(each for each in ends if parts[each] == "test") or "a metric of other data"
                    data = "data" if part == "unknown" else f"{part} data"
                    raise MisplacedError(
                        f"it is of the {data}, on which {name!r} is tuned; allowed: {allowed}", "claims", i, "metric"
                    )

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
                raise UserError(f"filter={name!r}: {no_variation(name, names)}")
        kept = [name for name in names if not variations or name in variations]
        published = self.published and self.published.model_copy(
            update={
                part: {k: v for k, v in getattr(self.published, part).items() if k in kept}
                for part in ("values", "paper_values")
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

    def runs(self) -> list[tuple[str, Any]]:
        """Every run of the study: the variation's name and the configuration with its seed, seed after seed.

        With `aa_test`, the baseline's name with `A_A` stands for its fresh seeds, with `AGAIN` for the repeated one.
        """
        configs = self.configurations()
        runs = [(name, self._repeated(config, seed)) for seed in self.seeds for name, config in configs.items()]
        if self.aa_test:
            name, config = self.baseline_name, configs[self.baseline_name]
            runs += [(name + A_A, self._repeated(config, seed)) for seed in self._fresh_seeds]
            runs.append((name + AGAIN, self._repeated(config, self.seeds[0])))
        return runs

    @property
    def _fresh_seeds(self) -> list[int]:
        return [seed for seed in range(2 * len(self.seeds)) if seed not in self.seeds][: len(self.seeds)]

    def _repeated(self, config: Any, seed: int) -> Any:
        return self.task.configure({**config.params, self.task.repetition: seed})

    def digests(self, data_hashes: Mapping[str, str]) -> tuple[str, ...]:
        """12 hexadecimal digits that are the same for the same runs on the same data; words do not count.

        The first is of now; the others are what versions before have called the same runs.
        """
        every = self.runs() + [(trial.variation, trial.config) for trial in self.trials()]
        runs = [(name, config.fingerprints, data_hashes[config.data]) for name, config in every]
        how = [self.tuning_metric] if self.nuisance else []
        versions = min(len(fingerprints) for _, fingerprints, _ in runs)
        return tuple(
            _digest([self.name, sorted((name, prints[version], data) for name, prints, data in runs), *how])
            for version in range(versions)
        )


def require_two_sides(claims: Sequence[Claim], names: Sequence[str]) -> None:
    """Refuse a claim that is not about two of the variations."""
    for i, claim in enumerate(claims):
        require_variation(claim.variation, names, "claims", i, "variation")
        require_variation(claim.against, names, "claims", i, "against")
        if claim.variation == claim.against:
            raise MisplacedError("a variation cannot be compared with itself", "claims", i, "against")


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def as_seeds(seeds: Any) -> tuple[int, ...]:
    """A count of seeds as the seeds from 0 on, a list of them as it is, and a text (`3`, or `0,7,8`) as what it says.

    Raises:
        ValueError: it is none of them, or a seed is none or stands there twice.
    """
    if isinstance(seeds, str):
        text = seeds.strip()
        inner = text[1:-1] if (text[:1], text[-1:]) == ("[", "]") else text.removesuffix(",")
        parts = [int(part) if part.strip().isdecimal() else part for part in inner.split(",")]
        seeds = parts if inner != text or len(parts) > 1 else parts[0]
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if not 1 <= seeds <= MOST_SEEDS:
            raise ValueError(f"a count of seeds is from 1 to {MOST_SEEDS}; a single seed is [{seeds}]")
        return tuple(range(seeds))
    if not isinstance(seeds, list | tuple) or not 1 <= len(seeds) <= MOST_SEEDS:
        raise ValueError(f"allowed: a count of seeds such as 5, or a list of 1 to {MOST_SEEDS} such as [0, 1, 2]")
    known: set[int] = set()
    for i, seed in enumerate(seeds):
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < _SEEDS_END:
            raise MisplacedError(f"a seed is a whole number from 0 to {_SEEDS_END - 1}", i)
        if seed in known:
            raise MisplacedError("each seed may stand there once", i)
        known.add(seed)
    return tuple(seeds)
