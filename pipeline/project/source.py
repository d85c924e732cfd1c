"""A project's files and what its MLproject file declares: fetched once for all runs of a study."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import git
from git.exc import GitError, InvalidGitRepositoryError
from mlflow.exceptions import MlflowException

from pipeline.errors import UserError, first_line
from pipeline.project.task import ProjectTask
from pipeline.study.project import Parameter, Project, Source
from pipeline.texts import did_you_mean, listed, quoted, redacted
from pipeline.tracking import mlflow_compat
from pipeline.tracking.journal import make_folder, state_folder

_PROJECTS = "projects"  # in the state folder: those that were fetched
# Of a folder that is in no repository: the files that decide what a run does, but not what runs write beside them.
_CODE = (".py", ".sh", ".r", ".jl", ".ipynb", ".yaml", ".yml", ".toml", ".cfg", ".ini")
_NOT_CODE = ("mlruns", "mlartifacts", "node_modules")


def fetch(source: Source) -> ProjectTask:
    """See `pipeline.task.fetched`."""
    uri = redacted(source.project)
    try:
        folder = _files(source)
        declared = mlflow_compat.parameters_of(folder, source.entry_point)
    except (MlflowException, GitError, OSError) as error:
        raise UserError(f"it cannot be used: {redacted(_reason(error))}") from None
    parameters = tuple(Parameter(name=name, type=kind, default=default) for name, kind, default in declared)
    names = [each.name for each in parameters]
    if source.repetitions and source.repetitions not in names:
        raise UserError(
            f"repetitions={quoted(source.repetitions)} is no parameter of its entry point {source.entry_point}"
            f"{did_you_mean(source.repetitions, names)}; it has {listed(names) or 'none'}"
        )
    commit, content, changed = _state(folder)
    project = Project(
        uri=uri,
        entry_point=source.entry_point,
        repetition=source.repetitions or "",
        commit=commit,
        content=content,
        changed=changed,
        parameters=parameters,
    )
    return ProjectTask(project, str(folder))


def _reason(error: Exception) -> str:
    """In one line; of git, what it has printed last."""
    printed = str(getattr(error, "stderr", "")).strip().strip("'").splitlines()
    return printed[-1] if printed else first_line(error)


def require_unchanged(project: Project, folder: str) -> None:
    """Refuse to make a run of files that are not those of which the study was planned.

    Raises:
        UserError: they have changed.
    """
    if _state(Path(folder))[1] != project.content:
        raise UserError(f"the files of the project in {folder} have changed since the study began; start it again")


def _files(source: Source) -> Path:
    """A folder of the user's as it is; anything else is fetched, and kept by what its files are."""
    if (
        "://" not in source.project
        and "@" not in source.project
        and not Path(source.project.partition("#")[0]).exists()
    ):
        raise FileNotFoundError(f"{source.project} does not exist")
    folder, is_new = mlflow_compat.fetch_project(source.project, source.version)
    if not is_new:
        return folder
    within = source.project.partition("#")[2].strip("'\"")
    root = folder.parents[len(Path(within).parts) - 1] if within else folder
    key = hashlib.sha256(source.project.encode()).hexdigest()[:8]
    kept = state_folder() / _PROJECTS / f"{key}-{_state(folder)[1]}"
    make_folder(kept.parent)
    if kept.exists():
        shutil.rmtree(root, ignore_errors=True)
    else:
        shutil.move(root, kept)
    return kept / within


def _state(folder: Path) -> tuple[str, str, bool]:
    """Of a project's files: the commit, a digest of what they are, and whether that is not what the commit has."""
    try:
        repository = git.Repo(folder, search_parent_directories=True)
        here = os.path.relpath(folder, repository.working_tree_dir or folder)
        tree = repository.git.rev_parse(f"HEAD:{'' if here == '.' else here + '/'}")
        changes = repository.git.diff("HEAD", "--binary", "--", str(folder))
        return repository.head.commit.hexsha, _digest([tree, changes] if changes else [tree]), bool(changes)
    except (InvalidGitRepositoryError, GitError, ValueError):
        return "", _digest(_code(folder)), False


def _code(folder: Path) -> Iterator[str]:
    for name, below, files in os.walk(folder):
        below[:] = sorted(each for each in below if not each.startswith((".", "__")) and each not in _NOT_CODE)
        for file in sorted(files):
            path = Path(name) / file
            if path.suffix.lower() in _CODE or file.lower() == "mlproject" or file.startswith("requirements"):
                yield str(path.relative_to(folder))
                yield hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(parts: Iterator[str] | list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
