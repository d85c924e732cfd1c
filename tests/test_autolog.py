"""Runs as libraries log them by themselves: from a store to the verdicts, against what is true of them.

tests/autologged.py makes them with the libraries. Here they are read from what it recorded, and made anew with those
libraries that are there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pytest
from mlflow.entities import Metric, Param, RunTag

from pipeline.compare import autolog
from pipeline.compare import run as compare
from pipeline.compare.concluding import conclude
from pipeline.compare.conclusion import Conclusion
from pipeline.compare.options import Options
from pipeline.compare.report import sentences
from pipeline.metrics import unlikely
from pipeline.task import load
from tests.autologged import LIBRARIES, RECORDED, Truth
from tests.conftest import HANGS, ROOT

ALL = json.loads(RECORDED.read_text("utf-8"))


class Expected(NamedTuple):
    """What a comparison is to find by itself, or with options that are obvious to who made the runs."""

    metric: str
    higher: bool
    pairs: int  # of seeds or folds, in each difference; 0: the runs are tries, or one of each variation
    aside: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}


CASES = {
    "sklearn_seeds": Expected("RandomForestClassifier_score_X_test", True, 3),
    "sklearn_estimators": Expected("score_X_test", True, 3, ("verbose",)),
    "sklearn_pipelines": Expected("Pipeline_score_X_test", True, 3),
    "sklearn_grid": Expected("mean_test_score", True, 0),
    "sklearn_folds": Expected("SVC_score_X_val", True, 4),
    "keras_optimizers": Expected("val_loss", False, 3),
    "tensorflow_optimizers": Expected("val_loss", False, 3),
    "keras_tuner_search": Expected("val_loss", False, 0, ("opt_learning_rate",), {"nuisance": ("lr",)}),
    "xgboost_depths": Expected("valid-auc", True, 3),
    "lightgbm_leaves": Expected("valid-auc", True, 3),
    "optuna_callback": Expected("perf", True, 0, (), {"nuisance": ("lr",), "baseline": "model=bad"}),
    "optuna_storage": Expected("value", True, 0, (), {"nuisance": ("lr",), "baseline": "model=bad"}),
    "transformers_rates": Expected("eval_loss", False, 3, ("output_dir",)),
    "lightning_widths": Expected("val_loss", False, 3),
    "hydra_multirun": Expected("val/loss", False, 3, ("job_num", "output_dir")),
}


def write(case: str) -> None:
    """The recorded runs of an experiment, as they were."""
    client, recorded = mlflow.MlflowClient(), ALL[case]["runs"]
    experiment = client.create_experiment(case)
    ids = [client.create_run(experiment, start_time=n, tags=run["tags"]).info.run_id for n, run in enumerate(recorded)]
    for run_id, run in zip(ids, recorded, strict=True):
        params = ALL[case]["shared"][run["shared"]] | run["params"]  # in their order
        points = [Metric(name, value, 1, step) for name, (value, step) in run["metrics"].items()]
        told = [Param(name, value) for name, value in params.items()]
        parent = [RunTag("mlflow.parentRunId", ids[run["parent"]])] if "parent" in run else []
        client.log_batch(run_id, points, told[:100], parent)
        if told[100:]:  # a request has no more
            client.log_batch(run_id, params=told[100:])
        client.set_terminated(run_id, run["status"])


def last_of(case: str) -> str:
    """The ID of the last of them."""
    experiment = mlflow.get_experiment_by_name(case)
    assert experiment
    (run,) = mlflow.MlflowClient().search_runs([experiment.experiment_id], max_results=1)
    return str(run.info.run_id)


def concluded(case: str, **options: Any) -> Conclusion:
    found = compare.find(Options(experiment=case, **options), load())
    return conclude(found.grouped, compare.histories(found.grouped), None, found.origin)


def require(case: str, truth: Truth, conclusion: Conclusion) -> None:
    """The variations that there are, their means and differences, and the metric that counts."""
    expected = CASES[case]
    cells = {each.name: next(c for c in each.cells if c.metric == conclusion.metric) for each in conclusion.variations}
    means = {name: cell.mean for name, cell in cells.items()}
    assert (conclusion.metric, conclusion.aside) == (expected.metric, expected.aside)
    assert means == {name: pytest.approx(value, rel=1e-5) for name, value in truth.items()}
    main = next(each for each in conclusion.metrics if each.name == conclusion.metric)
    assert main.higher_is_better is expected.higher
    assert not any(
        caveat.kind in ("unequal budget", "runs not finished") for p in conclusion.pairs for caveat in p.caveats
    )
    assert [other for pair in conclusion.pairs for other in pair.confounded_by] == []
    for pair in conclusion.pairs:
        assert pair.difference.n_pairs == expected.pairs
        if expected.pairs:
            assert pair.difference.mean == pytest.approx(truth[pair.variation] - truth[pair.against], rel=1e-4)
    assert bool(conclusion.searches) is ("nuisance" in expected.options)


@pytest.mark.parametrize("case", CASES)
def test_what_a_library_logged_is_compared_as_its_user_meant_it(case: str, db: str) -> None:
    write(case)
    conclusion = concluded(case, **CASES[case].options)
    require(case, ALL[case]["truth"], conclusion)


def test_every_case_is_recorded_and_expected() -> None:
    assert set(CASES) == set(ALL) == {case.__name__ for cases in LIBRARIES.values() for case in cases}


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_that_are_here_still_log_so(library: str, db: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is of the extra `autolog`")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-m", "tests.autologged", library, "2"]  # scikit-learn's five take half a minute
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=HANGS
    )
    for case, truth in json.loads(done.stdout.splitlines()[-1]).items():
        require(case, truth, concluded(case, **CASES[case].options))


# --- What stands around the variations ----------------------------------------------------------------------------


def why(conclusion: Conclusion) -> list[str | None]:
    return [run.reason for run in conclusion.runs if not run.used]


def test_what_a_search_pruned_has_not_failed(db: str) -> None:
    write("optuna_storage")
    pruned = sum(run["status"] == "KILLED" for run in ALL["optuna_storage"]["runs"])
    by_default = concluded("optuna_storage")
    assert pruned > 5
    assert why(by_default).count("its search pruned it") == pruned
    assert all(run.state == "finished" for run in by_default.completeness)
    as_tries = concluded("optuna_storage", nuisance=("lr",))
    assert sum(search.tries for search in as_tries.searches) == len(ALL["optuna_storage"]["runs"]) - 1  # its parent


def test_a_killed_run_that_no_search_pruned_is_lost(db: str) -> None:
    write("hydra_multirun")
    mlflow.MlflowClient().set_terminated(last_of("hydra_multirun"), "KILLED")
    assert [run.state for run in concluded("hydra_multirun").completeness].count("killed") == 1


def test_a_direction_that_is_not_the_same_everywhere_says_nothing(db: str) -> None:
    write("optuna_callback")
    mlflow.MlflowClient().set_tag(last_of("optuna_callback"), "direction", "MINIMIZE")
    (metric,) = concluded("optuna_callback").metrics
    assert metric.higher_is_better is None


def test_who_compares_a_search_is_told_to_name_what_was_searched(db: str) -> None:
    for case in ("optuna_callback", "sklearn_grid"):
        write(case)
    sentence = "Each variation has one run, and nothing tells a difference from chance."
    assert sentences.summary(concluded("optuna_callback"))[:2] == [
        "Variations: 9, with one run each: nothing tells a difference from chance.",
        "If this is a search, name what was searched: --nuisance lr.",
    ]
    (of_grid,) = (each for each in sentences.summary(concluded("sklearn_grid")) if each.startswith(sentence))
    assert "max_tuning_runs=None" in of_grid
    assert "--nuisance" not in of_grid


def test_the_mean_of_the_folds_is_no_fold_and_the_best_of_a_search_no_try(db: str) -> None:
    for case, parents in (("sklearn_folds", 2), ("sklearn_grid", 1)):
        write(case)
        assert why(concluded(case)) == ["it is the parent of runs that are counted"] * parents


def test_folds_that_log_a_metric_alone_are_of_their_parents_configuration(db: str) -> None:
    client = mlflow.MlflowClient()
    for model, mean in (("tree", 0.7), ("forest", 0.8)):
        parent = client.create_run("0").info.run_id
        client.log_batch(parent, [Metric("f1", mean, 1, 0)], [Param("model", model)])
        client.set_terminated(parent)
        for fold in range(4):
            child = client.create_run("0", tags={"mlflow.parentRunId": parent}).info.run_id
            client.log_batch(child, [Metric("f1", mean + fold / 100, 1, 0)], [Param("fold", str(fold))])
            client.set_terminated(child)
    conclusion = concluded("Default", baseline="model=tree")
    assert {each.name: each.finished for each in conclusion.variations} == {"model=tree": 4, "model=forest": 4}
    (pair,) = (pair for pair in conclusion.pairs if pair.asked == "f1")
    assert pair.difference.mean == pytest.approx(0.1)
    assert pair.difference.paired


def test_what_is_nobodys_choice_is_compared_where_it_is_asked_for(db: str) -> None:
    write("hydra_multirun")
    conclusion = concluded("hydra_multirun", group_by=("job_num",))
    assert len(conclusion.variations) == 6
    assert conclusion.aside == ("output_dir",)


# --- Names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "likeliest_first",
    [
        ("val_loss", "val_acc", "loss", "accuracy", "train_loss", "epoch"),
        ("eval_loss", "eval_accuracy", "loss", "train_loss", "eval_runtime"),
        ("valid-auc", "test-logloss", "train-auc", "best_iteration"),
        ("SVC_score_X_test", "training_score", "my_own_number"),
        ("val/acc", "loss", "train/acc", "lr-Adam"),
        ("validation_loss", "test_loss", "training_loss"),
        ("mean_test_score", "rank_test_score", "mean_fit_time"),
        ("value", "intermediate_value"),
    ],
)
def test_the_metric_that_counts(likeliest_first: Sequence[str]) -> None:
    shuffled = sorted(likeliest_first)
    assert sorted(shuffled, key=unlikely) == list(likeliest_first)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (each, True)
        for each in ("lr", "base_lr", "opt_learning_rate", "learning_rate_init", "eta", "eta0", "optimizer.lr")
    ]
    + [(each, True) for each in ("mlpclassifier__learning_rate_init", "lr0", "cfg/optim/lr", "initial_lr")]
    + [(each, False) for each in ("beta", "theta", "lr_scheduler_type", "learning_rate_decay", "clr", "warmup")],
)
def test_learning_rates(name: str, is_one: bool) -> None:
    assert autolog.is_rate(name) is is_one


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("opt_name", "optimizer"), "optimizer"),
        (("lr", "opt_name"), "opt_name"),
        (("optimizer.lr", "optimizer.name"), "optimizer.name"),
        (("optimizer._target_",), "optimizer._target_"),
        (("mlpclassifier__solver",), "mlpclassifier__solver"),
        (("optim",), "optim"),
        (("optimizer_beta_1", "option"), "optimizer"),
    ],
)
def test_optimizers(names: Sequence[str], found: str) -> None:
    assert autolog.optimizer(names) == found


@pytest.mark.parametrize(
    ("name", "is_none"),
    [(each, True) for each in ("output_dir", "hydra.run.dir", "logging_dir", "run_name", "verbose", "svc__verbose")]
    + [(each, True) for each in ("job_num", "hydra.job.num", "n_jobs", "default_root_dir", "trainer/ckpt_path")]
    + [
        (each, False)
        for each in ("data_dir", "dataset.path", "rundir_depth", "model_name", "catalog_path", "num_layers")
    ],
)
def test_what_is_nobodys_choice(name: str, is_none: bool) -> None:
    assert autolog.is_no_choice(name) is is_none
