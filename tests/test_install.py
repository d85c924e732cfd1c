"""The project as a package: built, installed into a fresh environment without TensorFlow, and used from elsewhere.

Without a network: the wheel is built with the setuptools of this environment, and what it depends on is linked from
this environment into the fresh one. Linked is what the wheel says that it needs, with what that needs, and nothing
else: so a dependency that is not declared is missing, and TensorFlow is, which belongs to the extra `train`.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pipeline
from tests.conftest import ROOT, environment
from tests.test_compare import make

pytestmark = pytest.mark.slow


def needed(requirements: list[str]) -> dict[str, metadata.Distribution]:
    """The installed distributions that such requirements need, and what those need, by name."""
    found: dict[str, metadata.Distribution] = {}
    open_, seen = [Requirement(each) for each in requirements], set()
    while open_:
        requirement = open_.pop()
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) not in seen:
                seen.add((requirement.name, extra))
                known = found[canonicalize_name(requirement.name)] = metadata.distribution(requirement.name)
                more = [Requirement(each) for each in known.requires or ()]
                open_ += [each for each in more if not each.marker or each.marker.evaluate({"extra": extra})]
    return found


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment in which the project's wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):  # a copy, because setuptools writes into what it builds
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "source"))
    subprocess.run((*pip, *build), check=True)
    (wheel,) = folder.glob("*.whl")

    venv.create(folder / "environment", symlinks=True)
    python = folder / "environment" / "bin" / "python"
    subprocess.run((*pip, "--python", str(python), "install", "--no-index", "--no-deps", str(wheel)), check=True)
    (site,) = (folder / "environment").glob("lib/python*/site-packages")
    (own,) = metadata.distributions(name="autoencoder-variations", path=[str(site)])
    base = [each for each in own.requires or () if "extra ==" not in each]
    for known in needed(base).values():
        for top in {path.parts[0] for path in known.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(sysconfig.get_path("purelib"), top))
    return python.parent


def call(commands: Path, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of that environment, in a folder with a store of its own."""
    env = environment(folder)
    words = (str(commands / words[0]), *words[1:])
    return subprocess.run(words, cwd=folder, env=env, timeout=120, capture_output=True, text=True)


def test_the_installed_command_knows_its_version(commands: Path, tmp_path: Path) -> None:
    assert call(commands, "variations", "--version", folder=tmp_path).stdout == f"variations {pipeline.__version__}\n"
    code = "from importlib.metadata import version; print(version('autoencoder-variations'))"
    assert call(commands, "python", "-c", code, folder=tmp_path).stdout == f"{pipeline.__version__}\n"
    found = call(commands, "python", "-c", "import pipeline; print(pipeline.__file__)", folder=tmp_path).stdout
    assert Path(found).is_relative_to(commands.parent)


def test_studies_are_found_and_planned_without_tensorflow(commands: Path, tmp_path: Path) -> None:
    unknown = call(commands, "variations", "study", "--study", "publishd", folder=tmp_path)
    wanted = "give controlled, published, tuned, or the path of a YAML file"
    assert unknown.stderr == f"error: study='publishd' does not exist, did you mean 'published'?; {wanted}\n"
    planned = call(commands, "variations", "study", "--study", "published", "--dry-run", folder=tmp_path)
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "with_regularizationTerm" in planned.stdout


@pytest.mark.parametrize(
    "words", ["train --epochs 1", "study --study published", "train --resume x", "train --dataset fashion_mnist"]
)
def test_training_without_tensorflow_is_one_line_before_any_work(words: str, commands: Path, tmp_path: Path) -> None:
    done = call(commands, "variations", *words.split(), folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    how = "pip install 'autoencoder-variations[train]', or in a checkout pip install '.[train]'"
    assert done.stderr == f"error: tensorflow and keras must be installed to train: {how}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("store")
def test_a_store_is_compared_without_tensorflow(commands: Path, tmp_path: Path) -> None:
    for side, loss in (("a", 0.3), ("b", 0.2)):
        for seed in range(3):
            make({"side": side, "seed": seed}, {"loss": [0.5, loss + seed / 100]})
    words = ("compare", "--group-by", "side", "--metric", "loss", "--out", "report")
    done = call(commands, "variations", *words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "written to report: " in done.stdout
    assert "<html" in (tmp_path / "report" / "report.html").read_text()
    again = call(commands, "variations", "compare", "--verify", "report/conclusion.json", folder=tmp_path)
    assert (again.returncode, again.stdout.split(" (")[0]) == (0, "nothing differs"), again.stderr
