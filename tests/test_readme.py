"""README.md and docs/: their commands and outputs, their tables, their links are true.

A block of `console` is called, in a folder with the files that README.md shows (their names stand behind the language)
and with a store of its own, unless a comment above it says that it takes minutes.
"""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from docs import generate
from pipeline.study import files
from tests.conftest import ROOT, environment

README = (ROOT / "README.md").read_text()
PAGES = README + (ROOT / "docs" / "your-own-runs.md").read_text()
FILES = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGES, re.MULTILINE | re.DOTALL))
LONG = "<!-- takes minutes -->\n"
CONSOLE = [
    (command, output)
    for mark, block in re.findall(rf"({LONG})?^```console\n(.*?)^```$", PAGES, re.MULTILINE | re.DOTALL)
    if not mark
    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of README.md and docs/, whose programs have been called, and the command `variations`."""
    folder = tmp_path_factory.mktemp("readme")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    command = folder / "bin" / "variations"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nfrom pipeline.__main__ import main\n\nif __name__ == '__main__':\n    main()\n"
    )
    command.chmod(0o755)
    for experiment, program in {
        "Default": "own.py",
        "folds": "folds.py",
        "search": "search.py",
        "forests": "forests.py",
    }.items():
        assert call(f"MLFLOW_EXPERIMENT_NAME={experiment} python {program}", folder).returncode == 0
    return folder


def call(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = environment(folder)
    env |= {"PATH": f"{folder}/bin:{env['PATH']}", "PYTHONPATH": str(ROOT)}
    out = subprocess.PIPE
    words = ("bash", "-c", command)
    return subprocess.run(words, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "output"), CONSOLE, ids=[command for command, _ in CONSOLE])
def test_a_command_prints_what_the_readme_says(command: str, output: str, folder: Path) -> None:
    printed = call(command, folder).stdout
    assert doctest.OutputChecker().check_output(output, printed, doctest.ELLIPSIS), printed


def test_what_is_called_is_what_matters() -> None:
    assert [command.split()[1] for command, _ in CONSOLE] == ["train", "study", *["compare"] * 4]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) == 150


@pytest.mark.parametrize("path", generate.documents(), ids=lambda path: path.name)
def test_tables_are_those_of_the_code_and_of_the_results(path: Path) -> None:
    """`make docs` writes them."""
    text = path.read_text()
    assert generate.filled(text) == text


def test_there_are_such_tables() -> None:
    marks = re.findall(r"<!-- (\S+: \w+) -->", "".join(path.read_text() for path in generate.documents()))
    assert set(marks) >= {
        "results/conclusion.json: claims",
        "results/controlled/conclusion.json: claims",
        "pipeline.train.__main__: parameters",
        "pipeline.study.options: parameters",
        "pipeline.compare.options: parameters",
        "pipeline.deliver: parameters",
        "pipeline.metrics: metrics",
    }


@pytest.mark.parametrize("path", generate.documents(), ids=lambda path: path.name)
def test_every_file_that_is_linked_is_there(path: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", path.read_text()) if not link.startswith("https://")]
    assert [link for link in links if not (path.parent / link).is_file()] == []


def test_every_document_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(([^)]+)\)", README))
    assert {str(path.relative_to(ROOT)) for path in generate.documents()[1:]} <= linked


def test_every_file_that_the_architecture_shows_is_there() -> None:
    (tree,) = re.findall(r"(?:^ {4}.*\n)+", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    named = re.findall(r"^ {4}( {4})?([\w./]+)(?:, ([\w.]+))*", tree, re.MULTILINE)
    assert len(named) > 12
    for inner, first, second in named:
        for name in filter(None, (first, second)):
            assert (ROOT / ("pipeline" if inner else "") / name).exists(), name


def test_the_study_of_the_readme_loads_and_fits_the_schema() -> None:
    declared = FILES["wider.yaml"]
    assert list(files.parse(declared, "README.md").configurations()) == [
        "narrow",
        "wide encoding_dim=64",
        "wide encoding_dim=128",
    ]
    jsonschema.validate(yaml.safe_load(declared), json.loads(files.SCHEMA.read_text()))
