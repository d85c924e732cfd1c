"""RunConfig against MLproject, Keras, and what people type."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from pipeline import cli
from pipeline.compare import run as compare
from pipeline.errors import UserError
from pipeline.study import run as study
from pipeline.train.config import DEFAULT, OPTIMIZERS, SOURCES, RunConfig, path_and_white
from tests.conftest import ROOT


def parse(*words: str) -> RunConfig:
    return cli.parse_arguments(RunConfig, words, "pipeline.train", "")


@pytest.mark.parametrize(
    ("entry_point", "options"), [("main", RunConfig), ("study", study.Options), ("compare", compare.Options)]
)
def test_mlproject_states_the_same_parameters(entry_point: str, options: type[BaseModel]) -> None:
    entry = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"][entry_point]
    of_a_dry_run = {"dry_run", "power", "detect"}  # which makes no run
    fields = {name: field for name, field in options.model_fields.items() if name not in of_a_dry_run}
    assert list(entry["parameters"]) == list(fields)
    for name, stated in entry["parameters"].items():
        number = isinstance(fields[name].default, (int, float)) and not isinstance(fields[name].default, bool)
        assert stated["type"] == ("float" if number else "string"), name
        default = fields[name].default
        assert str(stated["default"]) == (",".join(default) if isinstance(default, tuple) else str(default)), name
        assert f"--{name} {{{name}}}" in entry["command"], name


def test_the_table_of_optimizers_is_keras_own() -> None:
    import keras

    wrappers = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}
    shipped = {
        name.lower(): inspect.signature(cls).parameters["learning_rate"].default
        for name, cls in vars(keras.optimizers).items()
        if inspect.isclass(cls) and issubclass(cls, keras.optimizers.Optimizer) and name not in wrappers
    }
    known = OPTIMIZERS if keras.__version__ >= "3.15" else {name: OPTIMIZERS[name] for name in shipped}
    assert shipped == known


def test_defaults_are_the_published_base_with_the_shallow_decoder() -> None:
    assert RunConfig().model_dump() == {
        "optimizer": "adadelta",
        "epochs": 50,
        "l1": 0.0,
        "learning_rate": 0.001,
        "batch_size": 256,
        "architecture": "dense",
        "encoding_dim": 32,
        "decoder_hidden": 0,
        "validation": 0,
        "vary": "init+order",
        "seed": 0,
        "dataset": "mnist",
    }


@pytest.mark.parametrize("typed", ["1e-5", "1e-05", "0.00001", " 1e-5"])
def test_one_value_is_one_configuration_however_it_is_typed(typed: str) -> None:
    config = RunConfig.from_params({"optimizer": "adam", "l1": typed, "learning_rate": DEFAULT, "epochs": "50"})
    assert config == RunConfig(optimizer="adam", l1=1e-5, learning_rate=0.001)
    assert config.fingerprint == RunConfig(optimizer="Adam", l1=0.00001).fingerprint
    assert config.fingerprint != RunConfig(optimizer="adam", l1=1e-4).fingerprint


def test_the_default_learning_rate_is_the_optimizers_own() -> None:
    assert RunConfig(optimizer="sgd").learning_rate == 0.01
    assert RunConfig(optimizer="sgd").fingerprint == RunConfig(optimizer="sgd", learning_rate=0.01).fingerprint


def test_params_are_read_back_as_the_shell_quoted_them() -> None:
    assert RunConfig.from_params({"dataset": "'/my data/it'\"'\"'s.npz'"}).dataset == "/my data/it's.npz"
    assert RunConfig.from_params({"dataset": "mnist", "else": "x"}) == RunConfig()
    typed = {"optimizer": "sgd", "learning_rate": "default", "learning_rate_used": "0.1"}
    assert RunConfig.from_params(typed).learning_rate == 0.1  # whatever Keras's default is by now
    with pytest.raises(ValidationError):
        RunConfig.from_params({"epochs": "many"})


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (RunConfig(), "adadelta-50ep"),
        (RunConfig(optimizer="adam", l1=1e-5), "adam-50ep-l1=1e-05"),
        (RunConfig(optimizer="sgd", learning_rate=1, epochs=3, seed=2), "sgd-3ep-learning_rate=1.0-seed=2"),
        (RunConfig(architecture="conv"), "adadelta-50ep-architecture=conv"),
        (RunConfig(decoder_hidden=784, dataset="/a/b/c.npz"), "adadelta-50ep-decoder_hidden=784-dataset=c.npz"),
    ],
)
def test_a_name_says_what_is_not_the_default(config: RunConfig, name: str) -> None:
    assert config.name == name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--optimizer", "adm"], ["'adm'", "adadelta, ", "sgd", "did you mean 'adam'?"]),
        (["--optimizer", "adam; touch x"], ["'adam; touch x'", "allowed: adadelta"]),
        (["--optimzer", "sgd"], ["unknown parameter 'optimzer', did you mean 'optimizer'?"]),
        (["--optimzer=sgd"], ["unknown parameter 'optimzer', did you mean 'optimizer'?"]),
        (["--epoch", "3"], ["unknown parameter 'epoch', did you mean 'epochs'?"]),
        (["--epochs"], ["--epochs: expected one argument"]),
        (["--epochs", "0"], ["epochs='0'", "greater than or equal to 1"]),
        (["--epochs", "-3"], ["epochs='-3'", "greater than or equal to 1"]),
        (["--epochs", str(10**30)], ["epochs='1000000000000000000000000000000'", "less than or equal to 1000000000"]),
        (["--epochs", "abc"], ["epochs='abc'", "integer"]),
        (["--epochs", "1.5"], ["epochs='1.5'", "integer"]),
        (["--l1", "-1e-5"], ["l1='-1e-5'", "greater than or equal to 0"]),
        (["--l1", "nan"], ["l1='nan'", "finite"]),
        (["--l1", ""], ["l1=''", "number"]),
        (["--l1", "1e308"], ["l1='1e308'", "0 or from 1.2e-38 to 3.4e+38"]),
        (["--learning_rate", "1e39"], ["learning_rate='1e39'", "0 or from 1.2e-38 to 3.4e+38"]),
        (["--learning_rate", "1e-50"], ["learning_rate='1e-50'", "0 or from 1.2e-38 to 3.4e+38"]),
        (["--learning_rate", "0"], ["learning_rate='0'", "greater than 0"]),
        (["--learning_rate", "inf"], ["learning_rate='inf'", "finite"]),
        (["--batch_size", "0"], ["batch_size='0'"]),
        (["--architecture", "cnn"], ["architecture='cnn'", "'dense' or 'conv'"]),
        (["--seed", "-1"], ["seed='-1'", "greater than or equal to 0"]),
        (["--dataset", ""], ["dataset=''"]),
        (["--dataset", "a.npz#max=white"], ["dataset='a.npz#max=white'", "a number above 0, such as 16"]),
        (["--dataset", "a.npz#max=0"], ["dataset='a.npz#max=0'", "a number above 0"]),
        (["--dataset", "a.npz#max=nan"], ["dataset='a.npz#max=nan'", "a number above 0"]),
        (["--dataset", "a.npz#max=1e309"], ["dataset='a.npz#max=1e309'", "a number above 0"]),
        (["--dataset", "#max=16"], ["dataset='#max=16'", "what follows a path"]),
        (["surplus"], ["unknown parameter 'surplus'"]),
    ],
)
def test_a_mistake_is_one_clear_line(words: list[str], says: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parse(*words)
    assert "\n" not in str(error.value)
    for text in says:
        assert text in str(error.value)


def test_the_value_of_white_is_part_of_the_configuration_however_it_is_typed() -> None:
    said = RunConfig(dataset="/a/digits.npz#max=16")
    assert RunConfig(dataset="/a/digits.npz#max=16.0") == said
    assert said.fingerprint not in (
        RunConfig(dataset="/a/digits.npz").fingerprint,
        RunConfig(dataset="/a/digits.npz#max=15").fingerprint,
    )
    assert path_and_white(said.dataset) == ("/a/digits.npz", 16)
    assert path_and_white("/a#b/c.npz#max=0.5") == ("/a#b/c.npz", 0.5)
    assert path_and_white("/a#b/c.npz") == ("/a#b/c.npz", None)


def test_the_fingerprints_of_runs_that_were_made_are_unchanged() -> None:
    """They stand in stores and in the conclusions of `results/`: another one would train all of it anew."""
    assert RunConfig().fingerprints == ("babe9dc92b1d", "85a82cce4646")
    changed = RunConfig(optimizer="adam", l1=1e-5, decoder_hidden=784, seed=4)
    assert changed.fingerprints == ("e036b1776429", "2581a8e7cf58")


def test_a_new_parameter_changes_no_fingerprint_but_where_it_is_used() -> None:
    class Wider(RunConfig):
        dropout: float = 0.0

    assert Wider(epochs=3).fingerprint == RunConfig(epochs=3).fingerprint
    assert Wider(dropout=0.5).fingerprint != RunConfig().fingerprint
    assert len(Wider(dropout=0.5).fingerprints) == 1  # versions before had nothing like it


@pytest.mark.parametrize("module", ["train.run", "compare.run", "study.run", "tracking.runs"])
def test_tensorflow_is_not_imported_before_it_is_needed(module: str) -> None:
    code = f"import sys, pipeline.{module}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.slow
def test_training_imports_nothing_that_only_others_need() -> None:
    """Keras imports scikit-learn for a wrapper; whoever imports it later has it."""
    code = (
        "import sys; from pipeline.train import run; run.import_training(); "
        "assert not {'sklearn', 'matplotlib.pyplot', 'scipy.stats'} & set(sys.modules); "
        "import sklearn, matplotlib.pyplot; sys.exit(sklearn.__name__ != 'sklearn')"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_what_varies_is_named_in_one_order_and_stands_still_otherwise() -> None:
    assert RunConfig(vary="order+init") == RunConfig(vary=["init", "order"]) == RunConfig()
    held = RunConfig(vary="order", seed=7)
    assert [held.seed_of(source) for source in SOURCES] == [0, 7, 0]
    assert [RunConfig(seed=7).seed_of(source) for source in SOURCES] == [7, 7, 0]
    assert RunConfig(seed=7, validation=10, vary="split").seed_of("split") == 7
    assert RunConfig().fingerprint == RunConfig(validation=0, vary="init+order").fingerprint
    assert len({RunConfig(validation=n, vary=v).fingerprint for n in (0, 10) for v in ("init", "order")}) == 4
    for vary in ("", "seed", "init+init"):
        with pytest.raises(ValueError, match="one or several of init, order, split"):
            RunConfig(vary=vary)
    with pytest.raises(UserError, match=r"^vary=init\+split wants a split to vary: set validation above 0, or leave"):
        parse("--vary", "split+init")
