"""Studies of any MLflow Project: what its MLproject file declares, its runs, and what is concluded of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import mlflow
import psutil
import pytest
import yaml
from mlflow.entities import Run

from pipeline.compare import run as compare
from pipeline.compare import verify
from pipeline.compare.options import Options as CompareOptions
from pipeline.errors import UserError
from pipeline.project import run as project_run
from pipeline.project.source import require_unchanged
from pipeline.study import files
from pipeline.study.plan import Study
from pipeline.tracking import journal
from tests.conftest import HANGS, ROOT, environment, served_by_git, start, wait_for
from tests.conftest import run as typed

MLPROJECT = """\
name: small
entry_points:
  main:
    parameters:
      rate: {type: float, default: 0.5}
      seed: {type: int, default: 0}
      how: string
    command: "python train.py {rate} {seed} {how}"
  evaluate:
    command: "python train.py 1 0 well"
"""
TRAIN = """\
import os, sys, time
import mlflow
rate, seed, how = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with mlflow.start_run():
    mlflow.log_param("rate", rate)
    print("training", rate, flush=True)
    if how == "badly" and seed == 1:
        raise ValueError(f"no seed {seed}")
    mlflow.log_metric("val_rmse", rate + seed / 1000, step=0)
    while how == "slowly" and seed == 1 and not os.path.exists("go on"):
        time.sleep(0.1)
    mlflow.log_metric("val_rmse", rate + seed / 1000, step=1)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One that somebody else wrote."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "MLproject").write_text(MLPROJECT)
    (folder / "train.py").write_text(TRAIN)
    return folder


def declared(path: Path, project: Path | str, how: str = "well", **more: Any) -> Path:
    """A study file."""
    content = {
        "name": "rates",
        "description": "Does a smaller rate help?",
        "project": str(project),
        "repetitions": "seed",
        "base": {"how": how},
        "seeds": 2,
        "metrics": {"val_rmse": {"unit": "kg"}},
        "variations": [{"name": "small", "changes": {"rate": 0.10}}, {"name": "large", "changes": {"rate": 1}}],
        "claims": [
            {
                "says": "A larger rate is worse",
                "variation": "large",
                "against": "small",
                "about": ["rate"],
                "metric": "val_rmse",
                "direction": "higher",
                "smallest_effect": 0.1,
            }
        ],
        **more,
    }
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def words(file: Path, *more: str) -> list[str]:
    return ["python", "-m", "pipeline.study", "--study", str(file), "--env-manager", "local", *more]


def runs_of(folder: Path) -> list[Run]:
    client = mlflow.MlflowClient(environment(folder)["MLFLOW_TRACKING_URI"])
    return [each for each in client.search_runs(["0"]) if "variation" in each.data.tags]


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_its_runs_are_made_once_and_judged(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = declared(tmp_path / "s.yaml", project, aa_test=True)
    planned = typed(*words(file, "--dry_run"), folder=tmp_path)
    assert "rates: 7 runs, 2 variations x 2 seeds" in planned.stdout
    assert "to train: small seed 1\n" in planned.stdout
    once = declared(tmp_path / "once.yaml", project, repetitions=None, seeds=1)
    assert "to train: small\n" in typed(*words(once, "--dry_run"), folder=tmp_path).stdout, "it has no seed"
    assert not runs_of(tmp_path)

    made = typed(*words(file), folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "rates is finished: 7 runs" in made.stdout
    assert "finished: large seed 1: val_rmse 1.0010" in made.stdout
    runs = {each.info.run_name: each for each in runs_of(tmp_path)}
    large = runs["large seed 1"]
    assert large.info.status == "FINISHED"
    # What the project logs itself stays as it is; what it does not log, the study does.
    assert large.data.params == {"rate": "1.0", "seed": "1", "how": "well"}
    tags = large.data.tags
    assert (tags["study"], tags["variation"], tags["seed"]) == ("rates", "large", "1")
    assert (tags["mlflow.source.type"], tags["mlflow.source.name"]) == ("PROJECT", str(project))
    assert "mlflow.source.git.commit" not in tags  # it lies in no repository
    client = mlflow.MlflowClient()
    assert "training 1.0" in Path(client.download_artifacts(large.info.run_id, "output.log")).read_text()

    again = typed(*words(file), folder=tmp_path)
    assert "0 waiting" not in again.stdout
    assert {each.info.run_id for each in runs_of(tmp_path)} == {each.info.run_id for each in runs.values()}

    compare.compare(CompareOptions(study="rates", out=tmp_path / "out", format="json"))
    conclusion = verify.read_conclusion(str(tmp_path / "out" / "conclusion.json"))
    (claim,) = conclusion.claims
    assert (claim.verdict, claim.against, claim.metric) == ("supported", "small", "val_rmse")
    assert [metric.unit for metric in conclusion.metrics if metric.name == "val_rmse"] == ["kg"]
    assert [each.same for each in conclusion.determinism] == [True]
    assert verify.verify(conclusion) == []


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_a_run_that_fails_is_started_again_and_told_with_what_it_printed(project: Path, tmp_path: Path) -> None:
    file = declared(tmp_path / "s.yaml", project, "badly", variations=[{"name": "only"}], claims=[])
    made = typed(*words(file), folder=tmp_path)
    assert made.returncode == 2
    assert "ValueError: no seed 1; it is started again" in made.stdout
    assert re.search(r"error: 1 of 2 runs failed \(only seed 1: .*ValueError: no seed 1\)", made.stderr)
    runs = [(each.info.run_name, each.info.status, each.data.tags.get("attempt")) for each in runs_of(tmp_path)]
    failed = [("only seed 1", "FAILED", "2"), ("only seed 1", "FAILED", None)]
    assert sorted(runs, key=str) == sorted([*failed, ("only seed 0", "FINISHED", None)], key=str)


@pytest.mark.slow
@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_what_was_interrupted_is_made_anew_and_counts_once(how: str, project: Path, tmp_path: Path) -> None:
    file = declared(tmp_path / "s.yaml", project, "slowly", variations=[{"name": "only"}], claims=[])
    process = start(*words(file, "--jobs", "1"), folder=tmp_path)
    wait_for(lambda: "only seed 1" in {r.info.run_name for r in runs_of(tmp_path) if r.data.metrics}, process)
    assert processes_of(project)
    if how == "killed":
        process.kill()
        process.wait()
    else:
        process.send_signal(signal.SIGINT)
        assert process.wait(HANGS) == 130
        assert not processes_of(project)
        assert sorted(each.info.status for each in runs_of(tmp_path)) == ["FINISHED", "KILLED"]
    before = {each.pid for each in processes_of(project)}
    again = start(*words(file), folder=tmp_path)
    wait_for(lambda: {each.pid for each in processes_of(project)} - before, again)
    assert not before & {each.pid for each in processes_of(project)}, "what was left is ended before another is begun"
    (project / "go on").touch()
    assert again.wait(HANGS) == 0
    assert not processes_of(project)
    runs = sorted((r.info.run_name, r.info.status, r.data.tags.get("attempt", "")) for r in runs_of(tmp_path))
    assert runs == [("only seed 0", "FINISHED", ""), ("only seed 1", "FINISHED", "2"), ("only seed 1", "KILLED", "")]


def processes_of(project: Path) -> list[psutil.Process]:
    """Those that run in its folder."""
    return [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(project)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"base": {"hwo": "well"}}, "base.hwo = well: 'hwo' is not a parameter that a variation may change; allowed: "),
        ({"base": {"seed": 1}}, "seeds are given once, by `seeds`"),
        ({"base": {"how": "well", "rate": "fast"}}, "base.rate = fast: should be a number; the project declares it"),
        ({"base": {"how": [1]}}, "should be a number or a text"),
        ({"base": {}}, "the project has no default of 'how'; give a value in base or in changes"),
        ({"repetitions": "sed"}, "'sed' is no parameter of its entry point main, did you mean 'seed'?; it has"),
        ({"repetitions": None}, "without `repetitions`, the project's parameter for a seed, it can only be 1"),
        ({"entry_point": "evalate"}, "Could not find evalate among entry points"),
        ({"version": "v1"}, "Setting a version is only supported for Git"),
        ({"nuisance": {"rate": [1, 2]}, "variations": [{"name": "a"}]}, "it is of the validation data, on which"),
        ({"metrics": {"val_rmse": {"better": "up"}}}, "metrics.val_rmse.better = up: should be 'lower' or 'higher'"),
        ({"nonsense": 1}, "there is no such key; allowed:"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_told_before_anything_runs(
    change: dict[str, Any], says: str, project: Path, tmp_path: Path
) -> None:
    if "variations" in change:
        claim = yaml.safe_load(declared(tmp_path / "s.yaml", project).read_text())["claims"][0]
        change = {
            **change,
            "variations": [{"name": "small"}, {"name": "large", "changes": {"how": "x"}}],
            "claims": [claim],
        }
    file = declared(tmp_path / "s.yaml", project, **{"base": {"how": "well"}, **change})
    with pytest.raises(UserError) as error:
        files.load(str(file))
    assert says in str(error.value)
    assert re.match(rf"{file}, line \d+: ", str(error.value))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "it cannot be used: .*missing does not exist"),
        ("empty", "has no MLproject file"),
        ("broken", "cannot be read"),
    ],
)
def test_what_is_no_project(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "MLproject").write_text("entry_points: [")
    with pytest.raises(UserError, match=says) as error:
        files.load(str(declared(tmp_path / "s.yaml", tmp_path / name)))
    assert "\n" not in str(error.value)


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=n@example.org")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.usefixtures("store")
def test_a_repository_is_fetched_once_and_known_by_its_files(project: Path, tmp_path: Path) -> None:
    git(project, "init", "--quiet", "--initial-branch", "main")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "one")
    commit = git(project, "rev-parse", "HEAD")
    here = files.load(str(declared(tmp_path / "s.yaml", project)))
    with served_by_git(project, tmp_path) as url:
        there = files.load(str(declared(tmp_path / "t.yaml", url)))
        first = files.load(str(declared(tmp_path / "t.yaml", url, version=commit)))
        with pytest.raises(UserError, match="it cannot be used: Unable to checkout version 'none'"):
            files.load(str(declared(tmp_path / "t.yaml", url, version="none")))
    for study in (here, there, first):
        assert study.project is not None
        assert (study.project.commit, study.project.changed) == (commit, False)
    # Wherever it lies, and with whatever history: the same files are the same runs.
    assert prints(here) == prints(there) == prints(first)
    (kept,) = (tmp_path / "state" / "projects").iterdir()
    assert (kept / "MLproject").read_text() == MLPROJECT
    assert (project / "MLproject").is_file(), "somebody's own folder stays where it is"
    git(project, "commit", "--quiet", "--allow-empty", "--message", "two")
    assert prints(files.load(str(tmp_path / "s.yaml"))) == prints(here)
    (project / "train.py").write_text(TRAIN + "#")
    changed = files.load(str(tmp_path / "s.yaml"))
    assert changed.project is not None
    assert changed.project.changed
    assert prints(changed) != prints(here)
    (project / "output.txt").write_text("what a run has written")
    assert prints(files.load(str(tmp_path / "s.yaml"))) == prints(changed)


def prints(study: Study) -> list[str]:
    return [config.fingerprints[0] for _, config in study.runs()]


def test_files_that_change_while_it_runs_are_refused(project: Path, tmp_path: Path) -> None:
    task = files.load(str(declared(tmp_path / "s.yaml", project))).task
    config = task.configure({"how": "well"})
    require_unchanged(config.project, config.folder)
    (project / "train.py").write_text("")
    with pytest.raises(UserError, match="have changed since the study began; start it again"):
        require_unchanged(config.project, config.folder)


def test_a_plan_is_read_back_without_the_project(project: Path, tmp_path: Path) -> None:
    study = files.load(str(declared(tmp_path / "s.yaml", project)))
    text = study.model_dump_json()
    assert str(tmp_path / "state") not in text
    shutil.rmtree(project)
    again = Study.recorded(text)
    assert again == study
    assert prints(again) == prints(study)
    assert again.main_metric == "val_rmse"


def test_no_password_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        files.load(str(declared(tmp_path / "s.yaml", "https://me:hush@127.0.0.1:9/x.git")))
    assert "https://me:***@127.0.0.1:9/x.git" in str(error.value)
    assert "hush" not in str(error.value)


def test_an_environment_is_that_of_another_project(project: Path, tmp_path: Path) -> None:
    task = files.load(str(declared(tmp_path / "s.yaml", project))).task.with_environment("uv")
    assert task.configure({"how": "well"}).env_manager == "uv"
    with pytest.raises(UserError, match="env_manager='uv' is said of a study of another project; leave it out"):
        files.load("published").task.with_environment("uv")


@pytest.mark.usefixtures("store")
def test_an_environment_that_cannot_be_made_is_told(project: Path, tmp_path: Path) -> None:
    (project / "python_env.yaml").write_text("python: '2.7'\n")
    task = files.load(str(declared(tmp_path / "s.yaml", project))).task.with_environment("conda")
    with pytest.raises(UserError, match=r"the environment of .*theirs cannot be made: .*conda"):
        project_run.prepare(task.configure({"how": "well"}))
    assert [each.name for each in (journal.state_folder() / "environments").iterdir()] == ["making"]


@pytest.mark.usefixtures("store")
def test_an_environment_that_is_not_whole_is_made_anew(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{sys.base_prefix}/bin", prepend=os.pathsep)  # where uv finds this very Python
    version = ".".join(map(str, sys.version_info[:3]))
    (project / "python_env.yaml").write_text(f"python: '{version}'\n")
    config = files.load(str(declared(tmp_path / "s.yaml", project))).task.with_environment("uv").configure({"how": ""})
    project_run.prepare(config)
    root = journal.state_folder() / "environments"
    (made,) = root.iterdir()
    python = made / "bin" / "python"
    assert python.exists()
    python.unlink()
    (root / "making").touch()  # as a kill leaves it, while it is made
    project_run.prepare(config)
    assert python.exists()
    (made / "used").touch()
    (root / "another").mkdir()  # which a run has made by itself
    project_run.prepare(config)
    assert (made / "used").exists(), "what is whole is made once"
    assert (root / "another").exists()


def test_what_a_run_starts_sees_its_environment_and_nothing_of_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENV_ROOT", "the user's")
    monkeypatch.delenv("VARIATIONS_JOURNAL", raising=False)
    with project_run._within({"MLFLOW_ENV_ROOT": "ours", "VARIATIONS_JOURNAL": "a folder"}):
        assert (os.environ["MLFLOW_ENV_ROOT"], os.environ["VARIATIONS_JOURNAL"]) == ("ours", "a folder")
    assert os.environ["MLFLOW_ENV_ROOT"] == "the user's"
    assert "VARIATIONS_JOURNAL" not in os.environ


def test_the_schema_covers_it(project: Path, tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(files.SCHEMA.read_text()))
    content = yaml.safe_load(declared(tmp_path / "s.yaml", project).read_text())
    assert not list(validator.iter_errors(content))
    for wrong in ({"sed": 1}, {"claims": [{"says": "x"}]}, {"metrics": {"m": {"better": "up"}}}, {"retries": -1}):
        assert list(validator.iter_errors({**content, **wrong})), wrong
    own = {"name": "s", "description": "d", "seeds": 1, "variations": [{"name": "a", "changes": {"rate": 1}}]}
    assert list(validator.iter_errors(own)), "this project has no such parameter"


def test_the_last_lines_of_what_was_printed() -> None:
    output = (
        "begun\n  File x\n    f(y)\n    ^^^^\nValueError: no\n2026/11/26 INFO mlflow.projects: === Run failed ===\n"
    )
    assert project_run._end_of(output) == "f(y) / ValueError: no"


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "projects.md").read_text()
    mlproject, train, study = re.findall(r"```(?:yaml|python)\n(.*?)```", page, re.DOTALL)
    (console,) = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    folder = tmp_path / "elasticnet"
    folder.mkdir()
    for path, text in (
        (folder / "MLproject", mlproject),
        (folder / "train.py", train),
        (tmp_path / "alpha.yaml", study),
    ):
        path.write_text(text)
    for part in console.split("$ ")[1:]:
        command, *shown = part.splitlines()
        done = typed("python", "-m", "pipeline", *command.split()[1:], folder=tmp_path, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        missing = [line for line in shown if line not in done.stdout.splitlines()]
        assert not missing or all("at a time" in line for line in missing), done.stdout  # by how many cores there are
