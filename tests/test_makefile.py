"""What `make` does to an environment: it makes one, it updates its own, and it leaves alone what is not its own.

In a folder with a copy of the Makefile, where `python3` is a stub that writes down what it is called with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

STUB = """#!/bin/sh
echo "$0 $*" >> "{folder}/calls"
case "$*" in
    *version_info*) echo {version};;
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python;;
    *--editable*) ;;
    *install*)
        echo "Collecting x"
        echo "  Downloading x-1.0-py3-none-any.whl (620.1 MB)"
        echo "Installing collected packages: x"
        exit {code};;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what the rule needs."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").write_text("# a lock\na==1 ; python_full_version < '3.11'\na==2\nb[c]==3\n")
    (tmp_path / "requirements-dev.txt").write_text("a==2\n    # via d\ne==4\n")
    return tmp_path


def stub(project: Path, version: str = "3.11", code: int = 0, name: str = "python3") -> Path:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STUB.format(folder=project, version=version, code=code))
    path.chmod(0o755)
    return path


def make(project: Path) -> subprocess.CompletedProcess[str]:
    command = ("make", f"PYTHON={project}/python3", ".venv/installed")
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)


def calls(project: Path) -> str:
    return (project / "calls").read_text()


def test_an_environment_is_made_and_says_what_it_waits_for(project: Path) -> None:
    stub(project)
    done = make(project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "installing 3 packages into .venv; TensorFlow is the largest download (about 600 MB):\n"
        "  Downloading x-1.0-py3-none-any.whl (620.1 MB)\n"
        "  unpacking them\n"
    )
    assert "-m venv .venv\n" in calls(project)
    assert (project / ".venv" / "installed").is_file()


def test_one_of_the_same_python_is_updated_in_place(project: Path) -> None:
    stub(project)
    stub(project, name=".venv/bin/python")
    (project / ".venv" / "mine").write_text("kept")
    assert make(project).returncode == 0
    assert (project / ".venv" / "mine").read_text() == "kept"
    assert "-m venv" not in calls(project)
    assert ".venv/bin/python -m pip install" in calls(project)


@pytest.mark.parametrize("version", ["3.12", ""])
def test_one_of_another_python_is_refused(version: str, project: Path) -> None:
    stub(project)
    stub(project, version, name=".venv/bin/python")
    before = sorted(project.rglob("*"))
    done = make(project)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        f"error: .venv is not an environment of {project}/python3 and is left alone; remove it or choose its Python "
        "with make PYTHON=..."
    )
    assert [path for path in sorted(project.rglob("*")) if path.name != "calls"] == before


def test_a_link_is_refused_and_what_it_points_to_is_as_it_was(project: Path) -> None:
    stub(project)
    stub(project, name="elsewhere/bin/python")
    (project / "elsewhere" / "precious").write_text("kept")
    (project / ".venv").symlink_to("elsewhere")
    done = make(project)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "error: .venv is a symbolic link and what it points to is left alone; remove the link"
    )
    assert {path.name for path in (project / "elsewhere").iterdir()} == {"bin", "precious"}


def test_a_python_that_is_too_old_is_refused(project: Path) -> None:
    stub(project, "3.9")
    done = make(project)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {project}/python3 is not Python 3.10 to 3.13; choose one with make PYTHON=")
    assert not (project / ".venv").exists()


def test_an_installation_that_fails_is_done_once_more(project: Path) -> None:
    stub(project, code=1)
    assert make(project).returncode == 2
    assert not (project / ".venv" / "installed").exists()
    stub(project)
    stub(project, name=".venv/bin/python")
    assert make(project).returncode == 0
