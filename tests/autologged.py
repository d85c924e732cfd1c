"""Runs as libraries log them by themselves, each with what is true of them, which is worked out without a store.

    python -m tests.autologged xgboost       makes those of a library in MLFLOW_TRACKING_URI, prints what is true;
                                             with a number behind it, so many of its cases
    python -m tests.autologged --record all  records them: tests/autologged.json, from which no library is needed

The libraries are those of the extra `autolog`. What is recorded is what MLflow has of the runs, as it has it.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("autologged.json")
Truth = dict[str, float]  # by variation, the mean over its seeds or folds
SEEDS = range(3)


def _data(rows: int = 300) -> tuple[Any, Any]:
    from sklearn.datasets import make_classification  # type: ignore[import-untyped]

    return make_classification(rows, 12, n_informative=4, flip_y=0.15, random_state=0)


def _means(results: Mapping[str, list[float]]) -> Truth:
    return {name: math.fsum(values) / len(values) for name, values in results.items()}


def _fitted(make: Mapping[str, Callable[[int], Any]]) -> Truth:
    """Accuracies on what scikit-learn's autologging sees as X_test, another split for each seed."""
    import mlflow
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

    mlflow.sklearn.autolog(log_models=False)
    found: dict[str, list[float]] = {}
    for name, model in make.items():
        for seed in SEEDS:
            X_train, X_test, y_train, y_test = train_test_split(*_data(), random_state=seed)  # noqa: N806
            with mlflow.start_run():
                fitted = model(seed).fit(X_train, y_train)
                found.setdefault(name, []).append(fitted.score(X_test, y_test))
    return _means(found)


def _forest(depth: int) -> Callable[[int], Any]:
    from sklearn.ensemble import RandomForestClassifier  # type: ignore[import-untyped]

    return lambda seed: RandomForestClassifier(10, max_depth=depth, random_state=seed)


def sklearn_seeds() -> Truth:
    return _fitted({f"max_depth={depth}": _forest(depth) for depth in (1, 8)})


def sklearn_estimators() -> Truth:
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.svm import SVC  # type: ignore[import-untyped]

    made = (_forest(8), lambda seed: LogisticRegression(random_state=seed), lambda seed: SVC(random_state=seed))
    return _fitted({f"estimator_name={type(make(0)).__name__}": make for make in made})


def sklearn_pipelines() -> Truth:
    from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    def piped(depth: int) -> Callable[[int], Any]:
        return lambda seed: make_pipeline(StandardScaler(), _forest(depth)(seed))

    return _fitted({f"randomforestclassifier__max_depth={depth}": piped(depth) for depth in (1, 8)})


def sklearn_grid() -> Truth:
    import mlflow
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    mlflow.sklearn.autolog(log_models=False, max_tuning_runs=None)
    grid = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "kernel": ["linear", "rbf"]}, cv=3).fit(*_data())
    scores = zip(grid.cv_results_["params"], grid.cv_results_["mean_test_score"], strict=True)
    return {f"C={point['C']}, kernel={point['kernel']}": float(score) for point, score in scores}


def sklearn_folds() -> Truth:
    """Folds in nested runs; their parent logs the mean."""
    import mlflow
    from sklearn.model_selection import KFold
    from sklearn.svm import SVC

    mlflow.sklearn.autolog(log_models=False)
    X, y = _data()  # noqa: N806
    found: dict[str, list[float]] = {}
    for kernel in ("linear", "rbf"):
        scores = []
        with mlflow.start_run(run_name=kernel):
            for fold, (train, held_out) in enumerate(KFold(4, shuffle=True, random_state=0).split(X)):
                X_val, y_val = X[held_out], y[held_out]  # noqa: N806
                with mlflow.start_run(run_name=f"{kernel}-fold-{fold}", nested=True):
                    mlflow.log_param("fold", fold)
                    scores.append(SVC(kernel=kernel).fit(X[train], y[train]).score(X_val, y_val))
            mlflow.log_metric("cv_mean", math.fsum(scores) / len(scores))
        found[f"kernel={kernel}"] = scores
    return _means(found)


def _net(optimizer: Any, units: int = 8) -> Any:
    import keras

    layers = [keras.Input((12,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential(layers)
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
    return model


def _trained(model: Any, epochs: int = 3) -> float:
    X, y = _data()  # noqa: N806
    history = model.fit(X[:200], y[:200], epochs=epochs, validation_data=(X[200:], y[200:]), verbose=0).history
    return float(history["val_loss"][-1])


def _by_keras(flavor: str, prefix: str) -> Truth:
    import keras
    import mlflow

    getattr(mlflow, flavor).autolog(log_models=False)
    found: dict[str, list[float]] = {}
    for optimizer, rate in ((keras.optimizers.SGD, 0.001), (keras.optimizers.Adam, 0.01)):
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            with mlflow.start_run():
                mlflow.log_param("seed", seed)
                loss = _trained(_net(optimizer(rate)))
            name = f"{prefix}_name={optimizer.__name__.lower()}, {prefix}_learning_rate={rate}"
            found.setdefault(name, []).append(loss)
    return _means(found)


def keras_optimizers() -> Truth:
    return _by_keras("keras", "optimizer")


def tensorflow_optimizers() -> Truth:
    return _by_keras("tensorflow", "opt")  # which needs TensorBoard


def keras_tuner_search() -> Truth:
    import keras
    import keras_tuner
    import mlflow

    mlflow.tensorflow.autolog(log_models=False)
    found: dict[str, list[float]] = {}

    class Tuner(keras_tuner.RandomSearch):
        def run_trial(self, trial: Any, *arguments: Any, **options: Any) -> float:
            point = trial.hyperparameters.values
            keras.utils.set_random_seed(0)
            with mlflow.start_run(run_name=f"trial {trial.trial_id}"):
                mlflow.log_params(point)
                build = {"SGD": keras.optimizers.SGD, "Adam": keras.optimizers.Adam}[point["opt"]]
                found.setdefault(f"opt={point['opt']}", []).append(_trained(_net(build(point["lr"]))))
            return found[f"opt={point['opt']}"][-1]

    def space(hp: Any) -> Any:
        hp.Choice("opt", ["SGD", "Adam"])
        hp.Float("lr", 1e-4, 1e-1, sampling="log")
        return _net("sgd")

    objective = keras_tuner.Objective("val_loss", "min")
    Tuner(space, objective, max_trials=10, seed=0, directory=".", project_name="tuned").search()
    return _means(found)


def xgboost_depths() -> Truth:
    import mlflow
    import xgboost

    mlflow.xgboost.autolog(log_models=False)
    X, y = _data()  # noqa: N806
    found: dict[str, list[float]] = {}
    train, valid = xgboost.DMatrix(X[:200], y[:200]), xgboost.DMatrix(X[200:], y[200:])
    for depth in (1, 5):
        for seed in SEEDS:
            seen: dict[str, Any] = {}
            params = {"max_depth": depth, "seed": seed, "subsample": 0.7, "eta": 0.1, "eval_metric": ["auc", "logloss"]}
            with mlflow.start_run():
                booster = xgboost.train(
                    {**params, "objective": "binary:logistic"},
                    *(train, 60),
                    evals=[(train, "train"), (valid, "valid")],
                    early_stopping_rounds=8,
                    verbose_eval=False,
                    evals_result=seen,
                )
            found.setdefault(f"max_depth={depth}", []).append(seen["valid"]["auc"][booster.best_iteration])
    return _means(found)


def lightgbm_leaves() -> Truth:
    import lightgbm
    import mlflow

    mlflow.lightgbm.autolog(log_models=False)
    X, y = _data()  # noqa: N806
    found: dict[str, list[float]] = {}
    for leaves in (2, 31):
        for seed in SEEDS:
            seen: dict[str, Any] = {}
            train = lightgbm.Dataset(X[:200], y[:200])
            valid = lightgbm.Dataset(X[200:], y[200:], reference=train)
            params = {"num_leaves": leaves, "seed": seed, "bagging_fraction": 0.7, "bagging_freq": 1, "verbose": -1}
            with mlflow.start_run():
                booster = lightgbm.train(
                    {**params, "objective": "binary", "metric": ["auc", "binary_logloss"]},
                    *(train, 60, [train, valid], ["train", "valid"]),
                    callbacks=[lightgbm.early_stopping(8, verbose=False), lightgbm.record_evaluation(seen)],
                )
            found.setdefault(f"num_leaves={leaves}", []).append(seen["valid"]["auc"][booster.best_iteration - 1])
    return _means(found)


def _searched(study: Any, **options: Any) -> Truth:
    """Of a search in which more is better, by variation the mean of all tries, what each had reached when pruned."""
    import optuna

    def objective(trial: Any) -> float:
        model, rate = trial.suggest_categorical("model", ["good", "bad"]), trial.suggest_float("lr", 1e-4, 1, log=True)
        for step in range(3):
            value = 0.8 + 0.1 * (model == "good") - 0.05 * abs(math.log10(rate) + 2) + 0.01 * step
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(value)

    study.optimize(objective, 24, **options)
    found: dict[str, list[float]] = {}
    for trial in study.trials:
        found.setdefault(f"model={trial.params['model']}", []).append(trial.value)
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}
    return _means(found)


def _random_search() -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    return {"direction": "maximize", "sampler": optuna.samplers.RandomSampler(seed=1), "pruner": pruner}


def optuna_callback() -> Truth:
    import mlflow
    import optuna
    from optuna_integration import MLflowCallback

    callback = MLflowCallback(mlflow.get_tracking_uri(), "perf", create_experiment=False)
    return _searched(optuna.create_study(**_random_search()), callbacks=[callback])


def optuna_storage() -> Truth:
    import mlflow
    import optuna
    from mlflow.optuna.storage import MlflowStorage

    experiment = mlflow.set_experiment("optuna_storage").experiment_id
    return _searched(optuna.create_study(storage=MlflowStorage(experiment), study_name="search", **_random_search()))


def transformers_rates() -> Truth:
    """The evaluation behind a training is a run of its own, without parameters: so Hugging Face's callback has it."""
    import mlflow
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    os.environ |= {"HF_MLFLOW_LOG_ARTIFACTS": "0", "MLFLOW_EXPERIMENT_NAME": "transformers_rates"}
    X, _ = _data()  # noqa: N806
    rows = [{"input_ids": torch.tensor((x * 3 + 15).clip(0, 29).astype(int)), "labels": int(x[0] > 0)} for x in X]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    found: dict[str, list[float]] = {}
    for rate in (1e-6, 1e-2):
        for seed in SEEDS:
            transformers.set_seed(seed)
            model = transformers.BertForSequenceClassification(
                transformers.BertConfig(vocab_size=30, max_position_embeddings=16, **sizes)
            )
            arguments = transformers.TrainingArguments(
                output_dir=f"out/{rate}-{seed}",
                learning_rate=rate,
                seed=seed,
                num_train_epochs=3,
                per_device_train_batch_size=16,
                eval_strategy="epoch",
                logging_strategy="epoch",
                save_strategy="no",
                report_to=["mlflow"],
                disable_tqdm=True,
                use_cpu=True,
            )
            trainer = transformers.Trainer(model, arguments, train_dataset=rows[:200], eval_dataset=rows[200:])
            trainer.train()
            loss = trainer.evaluate()["eval_loss"]
            mlflow.end_run()
            found.setdefault(f"learning_rate={rate}", []).append(loss)
    return _means(found)


def lightning_widths() -> Truth:
    import lightning
    import mlflow
    import torch
    from lightning.pytorch.loggers import MLFlowLogger

    class Net(lightning.LightningModule):
        def __init__(self, hidden: int, lr: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = torch.nn.Sequential(torch.nn.Linear(12, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 2))

        def _step(self, batch: Any, part: str) -> Any:
            loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.log(f"{part}_loss", loss, on_step=part == "train", on_epoch=True)
            return loss

        def training_step(self, batch: Any, _: int) -> Any:
            return self._step(batch, "train")

        def validation_step(self, batch: Any, _: int) -> None:
            self._step(batch, "val")

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), self.hparams.lr)

    X, y = _data()  # noqa: N806
    rows = torch.utils.data.TensorDataset(torch.tensor(X).float(), torch.tensor(y))
    parts = [torch.utils.data.Subset(rows, range(*each)) for each in ((200,), (200, 300))]
    train, valid = (torch.utils.data.DataLoader(part, 32) for part in parts)
    found: dict[str, list[float]] = {}
    for hidden in (1, 16):
        for seed in SEEDS:
            lightning.seed_everything(seed, verbose=False)
            logger = MLFlowLogger("lightning_widths", f"hidden{hidden}-seed{seed}", mlflow.get_tracking_uri())
            quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
            monitor = lightning.pytorch.callbacks.LearningRateMonitor()
            trainer = lightning.Trainer(
                max_epochs=4, logger=logger, accelerator="cpu", log_every_n_steps=3, callbacks=[monitor], **quiet
            )
            trainer.fit(Net(hidden), train, valid)
            found.setdefault(f"hidden={hidden}", []).append(float(trainer.callback_metrics["val_loss"]))
    return _means(found)


_HYDRA_CONFIG = {
    "c.yaml": "defaults: [{optimizer: sgd}, _self_]\nseed: 0\noutput_dir: ${hydra:runtime.output_dir}\n",
    "optimizer/sgd.yaml": "name: sgd\nlr: 0.1\nmomentum: 0.9\n",
    "optimizer/adam.yaml": "name: adam\nlr: 0.001\nbetas: [0.9, 0.999]\n",
}


def _loss_of(optimizer: str, seed: int) -> float:
    return 0.8 - 0.05 * (optimizer == "adam") + random.Random(f"{optimizer} {seed}").gauss(0, 0.01)


def hydra_multirun() -> Truth:
    for name, text in _HYDRA_CONFIG.items():
        Path("conf", name).parent.mkdir(parents=True, exist_ok=True)
        Path("conf", name).write_text(text, encoding="utf-8")
    words = (
        "-m",
        "--config-dir",
        "conf",
        "optimizer=sgd,adam",
        "seed=1,2,3",
        "hydra.run.dir=out",
        "hydra.sweep.dir=out",
    )
    program = "from tests.autologged import hydra_job; hydra_job()"
    subprocess.run([sys.executable, "-c", program, *words], check=True, stdout=sys.stderr)
    losses = {name: [_loss_of(name, seed) for seed in (1, 2, 3)] for name in ("sgd", "adam")}
    rates = {"sgd": 0.1, "adam": 0.001}
    return _means({f"optimizer.name={name}, optimizer.lr={rates[name]}": each for name, each in losses.items()})


def hydra_job() -> None:
    """One job of a multirun, which logs its whole configuration."""
    import hydra
    import mlflow
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    def flat(config: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in config.items():
            yield from flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]

    @hydra.main(version_base=None, config_name="c")
    def job(config: Any) -> None:
        mlflow.set_experiment("hydra_multirun")
        with mlflow.start_run(run_name=HydraConfig.get().job.override_dirname):
            mlflow.log_params(dict(flat(OmegaConf.to_container(config, resolve=True))))
            mlflow.log_param("job_num", HydraConfig.get().job.num)
            loss = _loss_of(config.optimizer.name, config.seed)
            mlflow.log_metrics({"train/loss": loss - 0.2, "val/loss": loss, "val/acc": 1 - loss})

    job()


LIBRARIES: dict[str, tuple[Callable[[], Truth], ...]] = {
    "sklearn": (sklearn_seeds, sklearn_grid, sklearn_estimators, sklearn_pipelines, sklearn_folds),
    "keras": (keras_optimizers,),
    "tensorboard": (tensorflow_optimizers,),
    "keras_tuner": (keras_tuner_search,),
    "xgboost": (xgboost_depths,),
    "lightgbm": (lightgbm_leaves,),
    "optuna_integration": (optuna_callback, optuna_storage),
    "transformers": (transformers_rates,),
    "lightning": (lightning_widths,),
    "hydra": (hydra_multirun,),
}
_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "hydra": "hydra-core",
    "xgboost": "xgboost-cpu",
    "tensorboard": "tensorflow",
    "keras_tuner": "keras-tuner",
    "optuna_integration": "optuna",
}


def make(library: str, most: int | None = None) -> dict[str, Truth]:
    """Makes the runs of a library, an experiment for each of its first cases, in a folder that is the current one."""
    import mlflow

    found = {}
    for case in LIBRARIES[library][:most]:
        mlflow.set_experiment(case.__name__)
        found[case.__name__] = case()
    return found


# --- Recording ----------------------------------------------------------------------------------------------------


def _recorded(case: str, here: str) -> dict[str, Any]:
    """The runs of an experiment, the first made first.

    Parameters that all with the same names share stand once, in their order; those that differ are null there.
    """
    import mlflow

    client = mlflow.MlflowClient()
    runs = client.search_runs([mlflow.set_experiment(case).experiment_id], order_by=["start_time ASC"])
    number = {run.info.run_id: n for n, run in enumerate(runs)}
    shared: dict[tuple[str, ...], dict[str, str | None]] = {}
    for run in runs:
        known = shared.setdefault(tuple(run.data.params), dict(run.data.params))
        shared[tuple(run.data.params)] = {k: v if run.data.params[k] == v else None for k, v in known.items()}
    names, told = list(shared), []
    for run in runs:
        common = shared[tuple(run.data.params)]
        tags = {
            k: v for k, v in run.data.tags.items() if not k.startswith(("mlflow.source", "mlflow.user", "mlflow.log"))
        }
        parent = tags.pop("mlflow.parentRunId", None)
        steps = {metric.key: metric.step for metric in run.data._metric_objs}
        told.append(
            {
                "status": run.info.status,
                "shared": names.index(tuple(run.data.params)),
                "params": {k: v.replace(here, "/home/me") for k, v in run.data.params.items() if common[k] is None},
                "metrics": {k: [float(f"{v:.7g}"), steps[k]] for k, v in run.data.metrics.items()},
                "tags": {k: v.replace(here, "/home/me") for k, v in tags.items()},
                **({} if parent is None else {"parent": number[parent]}),
            }
        )
    return {"shared": list(shared.values()), "runs": told}


def _record(libraries: list[str]) -> None:
    known = json.loads(RECORDED.read_text("utf-8")) if RECORDED.exists() else {}
    for library in libraries:
        with tempfile.TemporaryDirectory() as folder:
            uri = f"sqlite:///{folder}/store.db"
            os.environ["MLFLOW_TRACKING_URI"] = uri
            words = [sys.executable, "-m", "tests.autologged", library]
            path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
            done = subprocess.run(
                words, check=True, cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
            )
            import mlflow

            mlflow.set_tracking_uri(uri)
            packages = ("mlflow", _DISTRIBUTIONS.get(library, library))
            for case, truth in json.loads(done.stdout.splitlines()[-1]).items():
                made = {"made_with": {name: version(name) for name in packages}, "truth": truth}
                known[case] = {**made, **_recorded(case, folder)}
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in sorted(known.items())]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def main(words: list[str]) -> None:
    if words[0] == "--record":
        _record(list(LIBRARIES) if words[1] == "all" else words[1:])
    else:
        print(json.dumps(make(words[0], *map(int, words[1:]))))


if __name__ == "__main__":
    main(sys.argv[1:])
