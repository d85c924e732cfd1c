"""How libraries write what somebody chose: what several say in their own ways is said in one. Frames in and out; pure.

MLflow's autologging, the loggers of Lightning and Hugging Face, Optuna and Hydra record all that they know. Most of
it is nobody's choice: where files go, how much is printed, the text of an object whose parts are logged as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np
import pandas as pd

from pipeline.metrics import Better
from pipeline.tracking.names import MLFLOW_PARENT_RUN_ID

ESTIMATOR = "estimator_name"  # scikit-learn's, a tag
_STATE, _DIRECTION, _STUDY_DIRECTION, _OF_A_TRIAL = "state", "direction", "optuna.study_direction", "param_directions"
TAGS = (ESTIMATOR, _STATE, _DIRECTION, _STUDY_DIRECTION, _OF_A_TRIAL)
_OBJECTIVES = ("value", "objective_value")  # what Optuna's own call the metric that they search for
_BETTER: dict[str, Better] = {"MAXIMIZE": "higher", "MINIMIZE": "lower"}
# Of the run, not of what is tried: nothing is better or worse for it.
_NO_CHOICE = re.compile(
    r"(?:^|[./:_])(?:"
    r"(?:out|output|log|logs|logging|run|save|work|checkpoint|ckpt|results?|root|trial)[._]?(?:dir|path|folder)|"
    r"default_root_dir|run[._]?(?:name|id)|(?:job|trial)[._]?(?:num|number|id)|hub_model_id|"
    r"verbose|verbosity|verbose_eval|silent|log_level|disable_tqdm|progress_bar|n_jobs|num_threads|nthreads?|thread_count"
    r")$",
    re.IGNORECASE,
)
# Where training stops early, its length is a result: early_stopping_rounds, patience, stopped_epoch.
_EARLY = re.compile(r"(?:^|[./:_])(?:early_stop\w*|patience|stopped_(?:epoch|iteration))$", re.IGNORECASE)
_OPTIMIZER = re.compile(
    r"(?:^|[./:_])(?:opt|optim|optimi[sz]er)(?:[._/](?:name|type|class|class_name|_target_))?$|(?:^|[./:]|__)solver$",
    re.IGNORECASE,
)
_RATE = re.compile(r"(?:^|[./:_])(?:(?:lr|learning_rate)(?:_?(?:init|initial|0))?|eta0?)$", re.IGNORECASE)
_LISTS = ("steps", "transformer_list", "estimators")  # of a pipeline, a union and an ensemble: [('svc', SVC(C=1))]


def is_no_choice(name: str) -> bool:
    """Whether a parameter says something of the run, not of what was tried: `output_dir`, `verbose`, `job_num`."""
    return bool(_NO_CHOICE.search(name.replace("__", ".")))


def optimizer(names: Collection[str]) -> str:
    """The parameter that names the optimizer; `optimizer` where none does."""
    return next(filter(_OPTIMIZER.search, sorted(names, key=lambda name: name != "optimizer")), "optimizer")


def is_rate(name: str) -> bool:
    """Whether a parameter is a learning rate by its name: `lr`, `optimizer.lr`, `opt_learning_rate`, `eta`."""
    return bool(_RATE.search(name))


def stops_early(runs: pd.DataFrame) -> bool:
    """Whether runs say that they were stopped early, or could have been."""
    columns = [c for c in runs if c.startswith(("params.", "metrics.")) and _EARLY.search(c.replace("__", "."))]
    could = any(not {str(each) for each in runs[c].dropna()} <= {"None", "False", "0", ""} for c in columns)
    return could or bool(pruned(runs).any())


def in_plain(runs: pd.DataFrame) -> pd.DataFrame:
    """The same runs, in which one thing has one name and one value.

    Keras numbers its optimizers in each process (`adam_3`) and has their numbers as float32 (0.009999999776482582).
    scikit-learn logs the text of a part (`SVC(C=1)`) beside the part's own parameters (`svc__C`), the class of what was
    fitted as a tag alone, and its score by that class (`SVC_score_X_test`), which several would not have in common.
    """
    changed: dict[str, pd.Series] = {}
    params = [name for name in runs if name.startswith("params.")]
    wholes = {name.rpartition("__")[0] for name in params if "__" in name}
    for name in params:
        column = runs[name]
        word = re.split(r"[./:]|__", name)[-1]
        if name in wholes:
            changed[name] = column.map(_class_of, na_action="ignore")
        elif word in _LISTS and "__" in "".join(params):
            changed[name] = column.map(_names_in, na_action="ignore")
        elif name.endswith("_name") and f"{name.removesuffix('name')}use_ema" in params:
            changed[name] = column.map(_unnumbered, na_action="ignore")
        elif column.map(_is_long).any():
            changed[name] = column.map(_shortest, na_action="ignore")
    runs = runs.assign(**changed)
    tag = f"tags.{ESTIMATOR}"
    estimators = runs[tag].dropna().unique() if tag in runs and f"params.{ESTIMATOR}" not in runs else ()
    if len(estimators) > 1:
        runs = _with_scores_in_common(runs, estimators)
        runs.insert(0, f"params.{ESTIMATOR}", runs[tag])  # before its own parameters
    return runs.copy()  # in one piece


def _with_scores_in_common(runs: pd.DataFrame, estimators: Collection[str]) -> pd.DataFrame:
    """`score_X_test` instead of `SVC_score_X_test`, of each estimator."""
    own = {
        f"metrics.{estimator}_score": [c for c in runs if re.match(rf"metrics\.{re.escape(estimator)}_score(?:_|$)", c)]
        for estimator in estimators
    }
    common: dict[str, pd.Series] = {}
    for prefix, columns in own.items():
        for column in columns:
            name = f"metrics.score{column.removeprefix(prefix)}"
            common[name] = common[name].fillna(runs[column]) if name in common else runs[column]
    return runs.drop(columns=[c for columns in own.values() for c in columns]).assign(**common)


def _class_of(text: object) -> object:
    found = re.match(r"(\w+)\(", str(text))
    return found[1] if found else text


def _unnumbered(text: object) -> object:
    return re.sub(r"_\d+$", "", str(text))


def _names_in(text: object) -> object:
    """`scaler, svc` of a list of named parts."""
    return ", ".join(re.findall(r"\('([^']+)',", str(text))) or text


def _is_long(text: object) -> bool:
    return isinstance(text, str) and len(text) > 10 and _shortest(text) != text


def _shortest(text: object) -> object:
    """The shortest text of a number that is one in 32 bits."""
    try:
        number = float(str(text))
    except ValueError:
        return text
    if not np.isfinite(number) or number.is_integer() or abs(number) > float(np.finfo(np.float32).max):
        return text
    short = np.float32(number)
    return str(short) if len(str(text)) > 10 and float(short) == number else text


def inherit(runs: pd.DataFrame, columns: Collection[str], repetitions: Collection[str]) -> None:
    """Gives those that log nothing of their own but which repetition they are the parameters of their parent, in place.

    Of a repeated cross-validation the parent may say the seed, and the runs below it the fold; and the parent itself
    may be such a run.

    Args:
        runs: with `seed`, None where it is not known.
        columns: the parameters that are no repetition.
        repetitions: the columns that tell repetitions apart, if any do.
    """
    parent = runs.get(f"tags.{MLFLOW_PARENT_RUN_ID}", pd.Series(None, runs.index, dtype=object))
    told_by = [column for column in repetitions if column in runs]
    says = runs["seed"].notna() | runs[told_by].notna().any(axis=1)
    while True:  # each time the next generation
        having = runs[list(columns)].notna().any(axis=1)
        silent = says & ~having & parent.isin(runs["run_id"][having])
        if not silent.any():
            return
        above = runs.set_index("run_id").loc[parent[silent]].set_index(runs.index[silent])
        runs.loc[silent, list(columns)] = above[list(columns)]
        for column in told_by:
            runs.loc[silent, column] = runs.loc[silent, column].where(runs.loc[silent, column].notna(), above[column])


def repeating(runs: pd.DataFrame, names: Collection[str], others: Collection[str]) -> list[str]:
    """The parameters that have the numbers of one of the others, as `opt_learning_rate` in 32 bits those of `lr`."""
    numbers = {name: pd.to_numeric(runs[f"params.{name}"], errors="coerce").astype(float) for name in others}

    def repeats(name: str) -> bool:
        own = pd.to_numeric(runs[f"params.{name}"], errors="coerce").astype(float)
        alike = (np.isclose(own, other, rtol=1e-6, atol=0, equal_nan=True) for other in numbers.values())
        return own.nunique() > 1 and any(map(np.all, alike))

    return [name for name in names if name not in others and repeats(name)]


def pruned(runs: pd.DataFrame) -> pd.Series:
    """Whether a search stopped the run as one that did not look good: of Optuna's storage, it is KILLED then."""
    nothing = pd.Series(None, runs.index, dtype=object)
    said = runs.get(f"tags.{_STATE}", nothing).astype(str).str.upper() == "PRUNED"
    return said | (runs.get(f"tags.{_OF_A_TRIAL}", nothing).notna() & (runs["status"] == "KILLED"))


def objective(runs: pd.DataFrame) -> dict[str, Better]:
    """Which way Optuna searched, by the metric that it was for; empty where it is not known, or several are."""
    columns = (f"tags.{name}" for name in (_DIRECTION, _STUDY_DIRECTION))
    said = {value for column in columns if column in runs for value in runs[column].dropna()}
    better = _BETTER.get(str(said.pop()).upper()) if len(said) == 1 else None
    there = [name.removeprefix("metrics.") for name in runs if name.startswith("metrics.")]
    of = [name for name in there if name in _OBJECTIVES] or (there if len(there) == 1 else [])
    return dict.fromkeys(of, better) if better else {}
