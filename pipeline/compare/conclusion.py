"""What a comparison concludes, as data: everything that a report shows, and enough to check it again later.

`conclusion.json` is `Conclusion.model_dump_json()`, and `Conclusion.model_json_schema()` its documented schema
(`python -m pipeline.compare.conclusion` prints it). No sentence about a result stands in here: `report` makes them
from this.

Numbers: a value that there is none of is NaN in Python and null in JSON; the infinities are "inf" and "-inf" in JSON.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator

from pipeline import cli
from pipeline.inference import CONFIDENCE, Verdict

SCHEMA_VERSION = 4


def _from_json(value: Any) -> Any:
    return math.nan if value is None else value


def _to_json(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")


Number = Annotated[
    float,
    BeforeValidator(_from_json),
    PlainSerializer(_to_json, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}, {"enum": ["inf", "-inf"]}]}),
]
# A parameter's value or a seed; of runs that this project did not make, the text that MLflow has.
Scalar = Annotated[
    bool | int | float | str | None,
    PlainSerializer(lambda value: _to_json(value) if isinstance(value, float) else value, when_used="json"),
    WithJsonSchema({"type": ["boolean", "number", "string", "null"]}),
]


class _Part(BaseModel):
    """A part of a conclusion; of one that an earlier version of the schema describes, by the names of then."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    formerly: ClassVar[Mapping[str, str | None]] = {}  # earlier names, and those of now; None of what is no more

    @model_validator(mode="before")
    @classmethod
    def _by_its_names_of_now(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {now: value for key, value in values.items() if (now := cls.formerly.get(key, key)) is not None}


class Metric(_Part):
    """How a metric is to be shown."""

    formerly = {"digits": "decimals", "main": "shown", "judged": "compared"}

    name: str = Field(description="as in MLflow")
    label: str = Field(description="for a person; the name itself where nothing better is known")
    unit: str = Field(description="such as `dB` or `s`; empty where it has none or it is not known")
    decimals: int = Field(description="decimals that say something")
    higher_is_better: bool | None = Field(
        description="whether a high value is a good one; null where neither its name says so nor anybody"
    )
    shown: bool = Field(description="whether it stands in the conclusion table; the others are in the CSV")
    compared: bool = Field(description="whether each variation is compared with the baseline in it")
    least: Number = Field(-math.inf, description="the least value that is possible; an interval ends there")
    most: Number = Field(math.inf, description="the largest")
    at: str | int = Field("last", description="which of the values that a run logged: `last`, `best`, or of that step")
    wall_time: bool = Field(
        False, description="whether it depends on what else the machine did: shown, and no evidence of anything"
    )


class Cell(_Part):
    """What the seeds of one variation say about one metric, in the metric's unit; NaN where too few say anything."""

    metric: str = Field(description="its name")
    n: int = Field(description="seeds with a value")
    mean: Number = Field(description="over the seeds")
    sd: Number = Field(description="standard deviation over the seeds, with the divisor n - 1")
    low: Number = Field(description="lower end of the 95 % interval of the mean; see `inference.mean_interval`")
    high: Number = Field(description="its upper end")
    median: Number = Field(description="over the seeds")
    worst: Number = Field(description="the worst seed's value")
    worst_seed: Scalar = Field(description="that seed; null where no seed has a value, or it is not known")
    seeds: tuple[Scalar, ...] = Field((), description="of a metric that is compared: the seeds with a value")
    values: tuple[Number, ...] = Field((), description="and their values, in that order")
    p_normal: Number = Field(
        math.nan, description="that these are normal: `inference.p_normal`; NaN of fewer than three"
    )
    part: str = Field(
        "", description="of the data that it was measured on, as the task calls it; empty where not known"
    )
    run_ids: tuple[str, ...] = Field(description="the finished runs that it was computed from")
    digest: str = Field(description="of those runs' params and metrics: 16 hexadecimal digits")


class Flag(_Part):
    """Something wrong with runs of a variation."""

    flag: str = Field(
        description="`not a number`, `not converged`, `identical repetitions`, or a metric's own (`metrics`)"
    )
    seeds: tuple[Scalar, ...] = Field(description="the seeds concerned; those that are not known are not listed")
    runs: int | None = Field(None, description="how many runs it concerns, where not all of their seeds are known")
    of: int = Field(description="how many seeds the variation has in all")
    metric: str = Field(description="the metric that shows it; several, separated by commas")
    worst: Number = Field(description="the most telling value of that metric, where it has one")


class Variation(_Part):
    """Runs that differ in nothing but their seed."""

    name: str = Field(description="from the plan, or made of the parameters in which variations differ")
    file: str = Field(description="the name, made safe as the name of a file without ending; unique in the conclusion")
    role: Literal["baseline", "variation", "A/A", "again"] = Field(
        description="`A/A`: the baseline once more with fresh seeds; `again`: one run of it repeated"
    )
    params: dict[str, Scalar] = Field(description="its configuration, but for the seed")
    differs: dict[str, Scalar] = Field(description="those of `params` that are not the baseline's")
    seeds: tuple[Scalar, ...] = Field(description="of its finished runs, ascending")
    planned: int | None = Field(description="runs that were planned; null where there is no plan")
    finished: int = Field(description="runs that finished")
    model_size: Number = Field(
        math.nan, description="the numbers that are trained in its model, where its runs say it, and all the same"
    )
    cells: tuple[Cell, ...] = Field(description="one for each metric of the conclusion that any run has")
    flags: tuple[Flag, ...] = Field(description="what is wrong with its runs")


class Difference(_Part):
    """The difference of two variations in one metric, `variation` minus `against`: `inference.Difference`."""

    n_a: int = Field(description="seeds of `variation` with a value")
    n_b: int = Field(description="seeds of `against` with a value")
    n_pairs: int = Field(description="seeds that both have, if `paired`, else 0")
    paired: bool = Field(description="whether the two were compared seed by seed; Student's paired t, else Welch's")
    mean: Number = Field(description="the difference of the means")
    standard_error: Number = Field(math.nan, description="of that difference")
    degrees_of_freedom: Number = Field(math.nan, description="of Student's t")
    confidence: float = Field(
        CONFIDENCE, description="of the interval; so high that all intervals of its family hold at once with 95 %"
    )
    low: Number = Field(description="lower end of the interval")
    high: Number = Field(description="its upper end")
    p: Number = Field(description="two-sided, against no difference; not corrected")
    dropped: tuple[Scalar, ...] = Field(description="seeds left out because only one side has them")


class Beats(_Part):
    """How probably one run of `variation` is better than one run of `against`: `inference.beats`."""

    probability: Number = Field(description="a tie counts half")
    low: Number = Field(description="lower end of its 95 % interval")
    high: Number = Field(description="its upper end")


class Confounder(_Part):
    """Something beyond what is compared in which the two sides differ."""

    name: str = Field(description="a parameter, `data_hash`, `code version`, `git_dirty`, `lock_hash` or `hardware`")
    kind: Literal["parameter", "data", "code", "environment", "hardware"] = Field(
        description="what sort of thing it is"
    )
    variation: tuple[Scalar, ...] = Field(description="the values on the side of `variation`")
    against: tuple[Scalar, ...] = Field(description="the values on the other side")


class Caveat(_Part):
    """Something to know beside a result."""

    kind: Literal[
        "untuned learning rate",
        "flag",
        "unpaired",
        "seeds dropped",
        "not normal",
        "runs not finished",
        "unequal tuning",
        "unequal budget",
        "past its best",
        "folds",
    ] = Field(description="what it is about")
    variation: str | None = Field(None, description="the side concerned; null = both")
    flag: str | None = Field(None, description="for `flag`: which one")
    seeds: tuple[Scalar, ...] = Field((), description="the seeds concerned")
    optimizers: tuple[str, ...] = Field((), description="for an untuned learning rate: whose")
    learning_rates: tuple[Scalar, ...] = Field((), description="the learning rates that they ran with, in that order")
    tuning_runs: tuple[int, ...] = Field(
        (), description="for `unequal tuning`: the runs by which `variation` and `against` of the pair were tuned"
    )
    steps: tuple[Number, ...] = Field(
        (),
        description="for `unequal budget`: over how many steps the two logged, a mean over their runs; for `unequal "
        "tuning`: the steps of all runs by which they were tuned; for `past its best`: the step at which `variation` "
        "was best, and its last, medians of its runs",
    )
    values: tuple[Number, ...] = Field((), description="for `past its best`: the means of the metric at these steps")


class RunOutcome(_Part):
    """What became of one run."""

    variation: str = Field(description="its name")
    seed: Scalar = Field(description="null where it is not known")
    state: Literal["finished", "incomplete", "running", "diverged", "failed", "killed", "missing"] = Field(
        description="incomplete = finished with epochs missing; missing = planned, and there is no such run"
    )
    reason: str | None = Field(description="as recorded; null where nothing is")
    run_id: str | None = Field(description="null where it is missing")
    planned: bool = Field(True, description="false for a run of a variation and seed that the plan does not have")


class Pair(_Part):
    """Two variations compared in one metric."""

    formerly = {"p_holm": "p_corrected"}

    variation: str = Field(description="the one that it is about")
    against: str = Field(description="the one that it is compared with")
    asked: str = Field(description="the metric that was asked for")
    metric: str | None = Field(description="the metric that was used; null where none can be compared")
    why: Literal["as asked", "penalty differs", "absent", "wall time", "other data"] = Field(
        description="why that one: `penalty differs` = the metric asked for contains a penalty of other strength "
        "on the two sides, so that it is not comparable; `other data` = the two sides have measured it on different "
        "parts of the data; `absent` = no run of one side has it; `wall time` = it "
        "depends on what else the machine did"
    )
    penalties: tuple[Scalar, Scalar] | None = Field(
        None, description="where the penalty differs: its strengths, of `variation` and of `against`"
    )
    asked_difference: Difference | None = Field(
        None, description="where another metric was used: the difference in the metric asked for, which is no evidence"
    )
    difference: Difference = Field(description="in the metric that was used")
    p_corrected: Number = Field(
        description="of the pair's own test, times the size of its family: the pairs of this metric, or all claims, "
        "times the looks; below 0.05 exactly where the interval of `difference` shows it"
    )
    test: Literal["difference", "equivalence", "larger"] = Field(
        "difference",
        description="what `p_corrected` is of: `difference` = against no difference; `equivalence` = against one of at "
        "least the smallest effect; `larger` = against one that is smaller",
    )
    p_permutation: Number = Field(
        math.nan,
        description="where a side is not normal: against no difference, without a distribution: "
        "`inference.p_permutation`; not corrected",
    )
    beats: Beats | None = Field(None, description="null where a side has fewer than two seeds")
    best_of: int | None = Field(
        None,
        description="of a search: `difference` is of the best that so many tries are expected to give, and what tells "
        "repetitions apart is what was tried: `inference.best_difference`; null without",
    )
    relative: Number = Field(description="the difference as a share of the mean of `against`; 0.01 = 1 %")
    finding: Literal["lower", "higher", "no difference shown", "not judged"] = Field(
        description="lower or higher where the interval does not contain 0; not judged where a side has fewer than two "
        "seeds"
    )
    confounded_by: tuple[Confounder, ...] = Field(
        description="beyond the parameters that are claimed; for a pair with the baseline, beyond all parameters"
    )
    caveats: tuple[Caveat, ...] = Field(description="what to know beside it")
    unfinished: tuple[RunOutcome, ...] = Field(
        description="runs of either side that did not finish whole, and could have changed the result"
    )


class Claim(Pair):
    """A sentence about two variations, judged."""

    formerly = {**Pair.formerly, "smallest": "smallest_effect", "more_seeds": None}

    says: str = Field(description="the claim, in the words of its author")
    about: tuple[str, ...] = Field(description="the parameters that are claimed to make the difference")
    direction: Literal["lower", "higher", "equal"] = Field(
        description="what the metric of `variation` is claimed to be, compared with that of `against`"
    )
    smallest_effect: float = Field(description="the smallest effect of interest, in the metric's unit")
    effect: Number = Field(description="the difference in units of the smallest one that matters")
    verdict: Verdict = Field(
        description="see `inference.judge`; `confounded` where a parameter or the data differ beyond what is claimed"
    )
    at_better_rates: tuple[int, ...] = Field(
        (),
        description="of two optimizers: the claims (counted from 0) that compare the same, all else equal, but with "
        "learning rates at which a side does better: what remains of this one",
    )
    declared: Literal["before", "after", "changed"] | None = Field(
        None,
        description="whether it was declared before the first run that it is judged on; `changed` = it was, but not as "
        "it now is; null where the store does not tell",
    )
    changed: tuple[str, ...] = Field((), description="for `changed`: what: `direction`, `smallest_effect`, `about`")


class Noise(_Part):
    """How large a difference pure chance makes: the baseline against itself, with other seeds."""

    formerly = {"smallest": "smallest_effect"}

    metric: str = Field(description="its name")
    variation: str = Field(description="the runs with fresh seeds")
    against: str = Field(description="the baseline")
    n_a: int = Field(description="seeds of `variation`")
    n_b: int = Field(description="seeds of `against`")
    limit: Number = Field(description="19 of 20 such differences are smaller in size")
    observed: Number = Field(description="the one seen")
    smallest_effect: Number = Field(description="the smallest effect of interest, of the claims about it; NaN without")


class Unequal(_Part):
    """A metric in which a run and its repetition differ."""

    metric: str = Field(description="its name")
    first: Number = Field(description="the value of the first run")
    again: Number = Field(description="the value of the second")


class Determinism(_Part):
    """The same configuration and seed twice: the same numbers?"""

    variation: str = Field(description="whose run was repeated")
    seed: Scalar = Field(description="its seed")
    run_id: str | None = Field(description="the first run; null where it has not finished")
    again_id: str | None = Field(description="the second")
    same: bool | None = Field(description="null where one of the two is missing")
    compared: int = Field(description="metrics that were compared: all of them but times")
    unequal: tuple[Unequal, ...] = Field(description="the metrics that differ")


class Finding(_Part):
    """One thing that a check found."""

    variation: str | None = Field(None, description="the variation concerned")
    against: str | None = Field(None, description="and the one that it is compared with")
    parameter: str | None = Field(None, description="the parameter concerned")
    value: Scalar = Field(None, description="its value; for an untuned learning rate, whose it is")
    tried: tuple[Scalar, ...] = Field((), description="the values tried")
    metric: str | None = Field(None, description="the metric that shows it")
    seeds: tuple[Scalar, ...] = Field((), description="the seeds concerned")


class Check(_Part):
    """A check of a good study (after Google's Deep Learning Tuning Playbook)."""

    kind: str = Field(description="what was checked: one of `checks.CHECKS`")
    passed: bool | None = Field(description="null where it does not apply, or the runs do not tell")
    applies: bool | None = Field(
        None, description="false where nothing in the study could fail it: `passed` is null then; null where not kept"
    )
    findings: tuple[Finding, ...] = Field(description="what was found")


class TuningPoint(_Part):
    """One point of a grid of nuisance parameters."""

    values: dict[str, Scalar] = Field(description="the parameters")
    results: tuple[Number, ...] = Field(description="of each tuning seed, the metric; NaN of a run that did not finish")
    mean: Number = Field(description="over the tuning seeds; NaN where one has no result: it cannot be chosen")
    sd: Number = Field(description="standard deviation over them, with the divisor n - 1")
    run_ids: tuple[str, ...] = Field(description="the finished runs, of which no other figure is computed")


class Tuning(_Part):
    """How the nuisance parameters of one variation were chosen, on seeds and data that are not reported."""

    variation: str = Field(description="its name")
    metric: str = Field(description="by whose mean the best point was chosen")
    seeds: tuple[int, ...] = Field(description="with which each point was tried")
    points: tuple[TuningPoint, ...] = Field(description="the whole grid")
    chosen: dict[str, Scalar] | None = Field(description="as the study's run records it; null where nothing is chosen")
    best: dict[str, Scalar] | None = Field(description="as the runs now say; null where no point has all results")
    at_the_edge: tuple[str, ...] = Field(
        description="parameters whose chosen value is the smallest or the largest tried: a better one may lie beyond"
    )
    runs: int = Field(description="how many it was to take: points times seeds")
    steps: int = Field(description="of all of them together, in the unit of the metrics' steps")
    seconds: Number = Field(description="from start to end, of all of them together; NaN where some were reused")


class ExpectedBest(_Part):
    """The best value of the main metric that so many tries of a search are expected to give."""

    n: int = Field(description="tries")
    mean: Number = Field(description="`inference.expected_best`")
    low: Number = Field(description="lower end of its 95 % interval; NaN where so few tries say nothing of it")
    high: Number = Field(description="its upper end")


class Search(_Part):
    """Tries of one variation, each with other values of the parameters that were searched."""

    variation: str = Field(description="its name")
    tries: int = Field(description="how many; one without a finite value of the main metric counts as the worst of any")
    best: str | None = Field(description="the values of the best one, such as `lr=0.01`; null without")
    expected: tuple[ExpectedBest, ...] = Field(description="of 1, 2, 4, 8, ... tries, up to all of them")


class Setting(_Part):
    """The configurations of a sweep that have one value of a parameter."""

    value: str = Field(description="the value, or from which to which, in words")
    n: int = Field(description="how many configurations have it")
    mean: Number = Field(description="of the main metric, over these")
    best: Number = Field(description="the best of these; NaN where it is not known which way is better")


class Marginal(_Part):
    """How far the main metric goes with a parameter of a sweep, whatever the others are."""

    parameter: str = Field(description="its name")
    share: Number = Field(
        description="of the variance of the ranks that goes with its settings: (H - k + 1) / (n - k), at least 0, with "
        "Kruskal and Wallis's H, k settings and n configurations (Tomczak and Tomczak, 2014)"
    )
    p_corrected: Number = Field(description="that they are no matter: Kruskal and Wallis's, times the parameters")
    settings: tuple[Setting, ...] = Field(description="ascending")


class Sweep(_Part):
    """Configurations with one run each, of which no difference can be judged, taken together."""

    tries: int = Field(description="configurations with a value of the main metric")
    single: int = Field(description="those with one run")
    parameters: tuple[Marginal, ...] = Field(description="the one that matters most first")
    expected: tuple[ExpectedBest, ...] = Field(description="of 1, 2, 4, 8, ... of them, up to all")
    repeat: tuple[str, ...] = Field(description="the best variations, whose repetition would tell most")


class PublishedValue(_Part):
    """A published value beside ours."""

    formerly = {
        "taken_for": "commonly_read_as",
        "taken_for_mean": "commonly_read_as_mean",
        "taken_for_low": "commonly_read_as_low",
        "taken_for_high": "commonly_read_as_high",
        "taken_for_reproduced": "commonly_read_as_reproduced",
    }

    variation: str = Field(description="the variation that it stands for")
    metric: str = Field(description="what the value really is")
    published: float = Field(description="as printed")
    n: int = Field(description="our seeds")
    mean: Number = Field(description="over our seeds")
    low: Number = Field(description="lower end of the 95 % prediction interval for one more run of ours")
    high: Number = Field(description="its upper end; `evidence.reproduction`")
    reproduced: bool | None = Field(description="whether it lies in there; null with fewer than two seeds")
    commonly_read_as: str | None = Field(description="the metric that readers take the value for")
    commonly_read_as_mean: Number = Field(math.nan, description="over our seeds, of that metric")
    commonly_read_as_low: Number = Field(math.nan, description="its prediction interval")
    commonly_read_as_high: Number = Field(math.nan, description="its upper end")
    commonly_read_as_reproduced: bool | None = Field(None, description="whether the value lies in that one")


class PaperValue(_Part):
    """A parameter as a publication's text states it, and as its code ran."""

    formerly = {"stated": "paper_value", "ran": "code_value", "figures": "values"}

    variation: str = Field(description="the variation that it is about")
    parameter: str = Field(description="its name")
    paper_value: Scalar = Field(description="as the text has it")
    code_value: Scalar = Field(description="null where the variation is not among the runs")
    same: bool = Field(description="whether they are")
    alternative: str | None = Field(
        description="a variation among the runs that is like it, but with the stated value; null without"
    )
    values: tuple[PublishedValue, ...] = Field(
        description="the published values of `variation` beside the alternative's"
    )


class PublishedDifference(_Part):
    """The difference of two published values, one run each, and how far chance moves such a difference."""

    variation: str = Field(description="as in the claim that it stands for")
    against: str = Field(description="and the other side")
    metric: str = Field(description="the metric that was asked for")
    published: float = Field(description="the value of `variation` minus that of `against`")
    difference: Difference = Field(description="ours")
    chance: Number = Field(
        description="19 of 20 differences between one run of each side lie within this of the true one; "
        "`evidence.chance_of_one_run`"
    )


class Published(_Part):
    """Somebody else's values."""

    formerly = {"figures": "values", "stated": "paper_values"}

    source: str = Field(description="where they stand")
    decimals: int = Field(description="with how many decimals they are printed")
    values: tuple[PublishedValue, ...] = Field(description="each beside ours")
    paper_values: tuple[PaperValue, ...] = Field(description="parameters as the text states them")
    differences: tuple[PublishedDifference, ...] = Field(
        (), description="one for each claim of which both sides have a published value"
    )


class RunRecord(_Part):
    """A run that was read, and what it takes to see later whether it has changed."""

    run_id: str = Field(description="MLflow's")
    name: str = Field(description="MLflow's")
    variation: str | None = Field(description="null for a run that belongs to none")
    seed: Scalar = Field(description="null where it is not known")
    status: str = Field(description="MLflow's")
    reason: str | None = Field(description="why it did not finish, or was left out")
    used: bool = Field(description="whether the table contains it")
    digest: str = Field(description="of its params and metrics: 16 hexadecimal digits")
    reused_from: str | None = Field(None, description="the run that it stands for")
    experiment_id: str | None = Field(None, description="MLflow's, where the runs are of several experiments")


class Effort(_Part):
    """What became of runs, and what they took."""

    state: Literal["finished", "reused", "failed", "killed", "running"] = Field(
        description="`reused`: a run that stands for one that was there before, and took nothing"
    )
    runs: int = Field(description="how many")
    seconds: Number = Field(description="from start to end of each, in all; NaN where one does not say")
    again: int = Field(0, description="how many of them were started again by their study after a failure")


class Uncounted(_Part):
    """Finished runs of the experiment that a study does not count: what was tried and is not shown."""

    study: str | None = Field(description="of which study they are; null without")
    name: str = Field(description="their variation there, or their name")
    mean: Number = Field(description="of the conclusion's main metric")
    run_ids: tuple[str, ...] = Field(description="the runs")


class Provenance(_Part):
    """Where it comes from and how to make it again."""

    formerly = {"lock_hashes": "requirements_hashes", "experiment": "experiments"}

    command: str = Field(description="makes it again, where the store is MLflow's current one")
    experiments: Annotated[tuple[str, ...], BeforeValidator(lambda name: [name] if isinstance(name, str) else name)] = (
        Field(description="their names")
    )
    filter: str = Field(description="MLflow's own; empty without")
    study: str = Field(description="empty without")
    study_run_id: str | None = Field(description="the study's parent run")
    group_by: tuple[str, ...] = Field(description="as asked for")
    metric: str = Field(description="as asked for; empty = chosen")
    metrics: tuple[str, ...] = Field(description="as asked for; empty = all that the runs have")
    baseline: str = Field(description="as asked for; empty = chosen")
    repetitions: tuple[str, ...] = Field((), description="as asked for: what tells repetitions apart")
    better: Literal["", "lower", "higher"] = Field(
        "", description="as asked for: which way of the main metric is better"
    )
    nuisance: tuple[str, ...] = Field((), description="parameters that were searched, as asked for")
    at: str | int = Field("last", description="as asked for: which value of the main metric counts")
    defaults: dict[str, str] = Field({}, description="as asked for: of parameters that some runs do not have")
    declaration: dict[str, Any] | None = Field(
        None, description="a study of runs that exist, as it was declared; null without one"
    )
    pictures: str = Field("", description="the artifact that is shown of each variation, as asked for")
    made: str = Field(description="when: ISO 8601, UTC")
    ui: str = Field("", description="the experiment in MLflow's UI; empty where the store is no server")
    versions: dict[str, str] = Field(description="of Python and the packages that computed it")
    first_run: str | None = Field(description="when the first of the runs started: ISO 8601, UTC")
    last_run: str | None = Field(description="when the last of them ended")
    code_versions: tuple[str, ...] = Field(description="git commits of the runs")
    dirty: int = Field(description="runs whose code had changes that the commit does not have")
    requirements_hashes: tuple[str, ...] = Field(description="of the locks of the environments of the runs")
    data_hashes: tuple[str, ...] = Field(description="of the images")
    hardware: tuple[str, ...] = Field(description="of the runs")


class Conclusion(_Part):
    """What the runs say."""

    schema_version: int = Field(SCHEMA_VERSION, description="of this schema")
    kind: Literal["study", "configurations", "groups"] = Field(
        description="variations from a study's plan; from the configurations of this project's runs; or from the "
        "parameters by which anybody's runs were grouped"
    )
    title: str = Field(description="the study's name, or the experiment's")
    description: str = Field(description="the study's own; empty without")
    baseline: str | None = Field(description="the variation that the others are compared with; null without runs")
    metric: str | None = Field(description="the main metric, by which the table is sorted; null where there is none")
    constant: dict[str, Scalar] = Field(description="parameters that are the same in every variation")
    differing: tuple[str, ...] = Field(description="parameters in which variations differ")
    metrics: tuple[Metric, ...] = Field(description="the metrics of the cells")
    variations: tuple[Variation, ...] = Field(description="in the plan's order; without a plan, the best first")
    completeness: tuple[RunOutcome, ...] = Field(
        description="every planned run, then every unplanned one; without a plan, every run that belongs to a variation"
    )
    pairs: tuple[Pair, ...] = Field(
        description="each variation against the baseline, for each metric that is `compared`"
    )
    claims: tuple[Claim, ...] = Field(description="the study's")
    looks: int = Field(1, description="how often the study was looked at: this time, and each time with fewer seeds")
    looks_planned: int = Field(1, description="how often it was to be; the level is shared out over the larger number")
    varied: str = Field("", description="what differs between repetitions; empty where that is not known")
    noise: tuple[Noise, ...] = Field(description="of a study with `aa_test`")
    determinism: tuple[Determinism, ...] = Field(description="of a study with `aa_test`")
    checks: tuple[Check, ...] = Field(description="each once")
    tuning: tuple[Tuning, ...] = Field((), description="of each variation of a study that was tuned on its own")
    published: Published | None = Field(description="somebody else's values; null without")
    repetitions: tuple[str, ...] = Field(
        (),
        description="what tells repetitions apart: `params.seed`, `tags.fold`, `name` = a number in a run's name",
    )
    aside: tuple[str, ...] = Field(
        (),
        description="parameters that make no variations and confound nothing: where and how a run ran, what it is "
        "called, its ID, where it writes",
    )
    cut: tuple[str, ...] = Field(
        (),
        description="parameters of which several runs have a text as long as MLflow keeps: they may differ behind it",
    )
    searches: tuple[Search, ...] = Field((), description="of each variation, where parameters were searched")
    sweep: Sweep | None = Field(None, description="of many configurations with one run each; null without")
    efforts: tuple[Effort, ...] = Field((), description="what all runs that were read took; of a study, its own")
    uncounted: tuple[Uncounted, ...] | None = Field(
        None, description="finished runs of the experiment that are not the study's; null without a study"
    )
    runs: tuple[RunRecord, ...] = Field(description="every run that was read, by ID")
    histories_of: tuple[str, ...] = Field(
        (), description="the variations whose epochs were read: of no other can it be said that it was not converged"
    )
    without_pictures: tuple[str, ...] = Field(
        (), description="the variations of which a picture was wanted and not used"
    )
    unused_pictures: dict[str, str] = Field(
        {}, description="of those of which it is known: by variation, why its picture was not used"
    )
    provenance: Provenance = Field(description="where it comes from")


class Options(BaseModel):
    """There is nothing to choose."""


def main(argv: list[str] | None = None) -> int:
    """Print the schema of a conclusion; returns the exit code."""

    def call() -> str:
        cli.parse_arguments(Options, argv, "compare.conclusion", "Print the JSON Schema of conclusion.json.")
        return json.dumps(Conclusion.model_json_schema(), indent=2)

    return cli.run(call)


if __name__ == "__main__":
    sys.exit(main())
