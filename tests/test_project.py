"""The project's own files: what they promise to `mlflow run`, to conda and to a reader."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import mlflow
import pytest
import yaml
from mlflow.utils.environment import _PythonEnv

import pipeline
from docs.generate import documents
from pipeline import cli, deliver, store, task
from pipeline.compare import __main__ as compare
from pipeline.compare import report
from pipeline.compare.verify import read_conclusion
from pipeline.study import __main__ as study
from pipeline.train import __main__ as train
from tests.conftest import ROOT


def test_conda_yaml_is_what_conda_and_mlflow_take() -> None:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert set(environment) == {"name", "channels", "dependencies"}
    python, pip, with_pip = environment["dependencies"]
    assert re.fullmatch(r"python=3\.1[0-3]", python)
    assert pip == "pip"  # conda warns about a `pip:` list without it
    assert with_pip == {"pip": ["-r requirements.txt"]}
    read = _PythonEnv.from_conda_yaml(str(ROOT / "conda.yaml"))
    assert read.python == python.removeprefix("python=")
    assert read.dependencies == ["-r requirements.txt"]


@pytest.mark.parametrize("folder", ["results", "results/controlled", "results/tuned"])
def test_the_reports_are_what_their_conclusions_say(folder: str) -> None:
    conclusion = read_conclusion(str(ROOT / folder / "conclusion.json"))
    pictures = {path.name for path in (ROOT / folder).glob("*.png")}
    assert (ROOT / folder / "report.md").read_text() == report.to_markdown(conclusion, pictures)
    assert (ROOT / folder / "conclusion.csv").read_text() == report.conclusion_csv(conclusion)
    linked = set(re.findall(r"\]\(([^)]+\.png)\)", (ROOT / folder / "report.md").read_text()))
    assert {unquote(name) for name in linked} == pictures != set()


def test_the_lock_is_exact() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "benchmarks/requirements.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.lstrip().startswith("#")]
        assert lines, name
        assert [line for line in lines if not re.match(r"[\w.-]+(\[\w+\])?==\S+", line)] == []


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "".join(path.read_text() for path in documents())
    named = set(re.findall(r"(?:^ {4}|^\$ |`)make ([a-z]+)", text, re.MULTILINE))
    assert {"run", "test", "ui", "bench", "store", "study", "results"} <= named <= targets
    assert subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True).returncode == 0


def commands(text: str) -> list[list[str]]:
    """Each call of an entry point in a text, as words, up to a comment, an `&` or the end of its quotation."""
    text = re.sub(r"variations (train|study|compare|deliver|store)\b", r"python -m pipeline.\1", text)
    text = text.replace('"$head"', "10.0.0.1:6399")  # a variable of a script for Slurm
    found = re.findall(r"(?:mlflow run|python -m pipeline\.)[^`&\n]*", text)
    return [words for words in (shlex.split(line, comments=True) for line in found) if len(words) > 2]


def test_every_command_of_the_documents_and_of_the_makefile_has_parameters_that_there_are() -> None:
    entries = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    modules = {"train": train, "study": study, "compare": compare, "deliver": deliver}
    checked = 0
    for path in (*documents(), ROOT / "Makefile"):
        for first, _, target, *words in commands(path.read_text()):
            if "--optimzer" in words:  # the mistake that the README shows
                continue
            if first == "python" and target.removeprefix("pipeline.") in modules:
                cli.parse_arguments(modules[target.removeprefix("pipeline.")].Options, words, target, "")
                checked += 1
            elif first == "mlflow":
                entry = words[words.index("-e") + 1] if "-e" in words else "main"
                given = {word.split("=")[0] for flag, word in itertools.pairwise(words) if flag == "-P"}
                assert given <= set(entries[entry]["parameters"]), words
                checked += 1
    assert checked > 25


def test_the_version_stands_once_and_is_named_where_it_is_cited() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == pipeline.__version__
    newest, *_ = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest == pipeline.__version__


def test_only_make_results_writes_over_the_committed_reports() -> None:
    """Everything else writes to a folder that git ignores."""
    assert f"{compare.Options().out}/" in (ROOT / ".gitignore").read_text().splitlines()
    recipes = re.findall(r"^([a-z]+):.*\n((?:\t.*\n)*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    written = {name: found for name, recipe in recipes if (found := re.findall(r"out=(\S+)", recipe))}
    assert written == {"results": ["results", "results/controlled", "results/tuned"]}


@pytest.mark.usefixtures("store")
def test_the_store_is_made_before_anything_is_run_and_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert store.main([]) == 0
        assert capsys.readouterr().out == f"the tracking store is sqlite:///{tmp_path}/store.db\n"
    assert mlflow.MlflowClient().search_runs(["0"]) == []
    (tmp_path / "store.db").write_bytes(b"")
    with closing(sqlite3.connect(tmp_path / "store.db")) as half:  # as a kill may leave it that hits MLflow
        half.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    assert store.main([]) == 2
    assert re.search(r"^error: .* was only half made, .*: delete .+ and start again, or ", capsys.readouterr().err)


def test_the_architecture_shows_every_room_and_module() -> None:
    (tree,) = re.findall(r"(?:^ {4}.*\n)+", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    there = {path.name for path in (ROOT / "pipeline").iterdir()} - {"__init__.py", "__pycache__"}
    assert there - set(re.findall(r"[\w.]+", tree)) == set()


# Words of the autoencoder that any task may have.
_ANYBODYS = {"optimizer", "epochs", "learning_rate", "batch_size", "seed", "dataset", "loss", "val_loss", "validation"}


def words_of_the_autoencoder(room: Path) -> dict[str, set[str]]:
    """By module, the parameters, metrics and flags of the autoencoder that its code names, and imports of its modules.

    Comments and docstrings, which give examples, are left out.
    """
    own = task.load()
    flags = [row.flag for row in own.metrics if row.flag]
    words = {*own.parameters, *(name for row in own.metrics for name in (row.name, row.formerly) if name)} - _ANYBODYS
    words |= {"nats", "784", *(word for flag in flags for word in (flag.name, flag.noun))}
    either = "|".join(re.escape(word.replace("_", " ")) for word in words)
    pattern = re.compile(rf"(?<![a-z0-9])(?:{either}|pipeline(?:\.| import )train)(?![a-z0-9])")
    found = {}
    for module in sorted(room.rglob("*.py")):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        found[module.name] = set(pattern.findall(ast.unparse(tree).lower().replace("_", " ")))
    return {name: named for name, named in found.items() if named}


@pytest.mark.parametrize("room", ["study", "tracking", "compare"])
def test_the_autoencoder_is_known_to_its_own_room_alone(room: str) -> None:
    assert words_of_the_autoencoder(ROOT / "pipeline" / room) == {}
    named = words_of_the_autoencoder(ROOT / "pipeline" / "train")
    assert {"l1", "decoder hidden", "pipeline.train"} <= named["config.py"] | named["run.py"]
