"""A study file: found by name or path, read as the study that it declares, its mistakes told by line and key.

`study.schema.json` beside the studies is made from both kinds of study (`python -m pipeline.study.files`), so that
editors complete and check a study file while it is written; a test keeps it true.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml.nodes import Node

from pipeline import cli, task
from pipeline.errors import UserError
from pipeline.study import document
from pipeline.study.existing import StudyOfRuns
from pipeline.study.options import Options
from pipeline.study.parts import FORMERLY, Declaration, MisplacedError, words
from pipeline.study.plan import DEFINITION, MOST_SEEDS, Study, as_seeds, varied
from pipeline.study.project import Source
from pipeline.task import Task
from pipeline.texts import command, did_you_mean, quoted, redacted, several

STUDIES = Path(__file__).parents[1] / "studies"
SCHEMA = STUDIES / "study.schema.json"
SUFFIX = ".yaml"

_SHOWN_SOURCE = 100  # characters of the file's path in an error
_MOST_BYTES = 500_000  # of a study file: far more than a study needs
_RUNS, _PROJECT = "runs", "project"  # the keys of studies that do not make their runs, and that run something else
_KEYS = list(dict.fromkeys((*Declaration.model_fields, *Source.model_fields, *Study.model_fields, _RUNS)))


def load(study: str) -> Study:
    """The study of that name in `pipeline/studies/`, or in the file of that path, which makes its runs.

    Raises:
        UserError: there is none, or it is not such a study; the line names the key, what was given and what is allowed.
    """
    return parse(read(study), str(_shipped().get(study, study)))


def declared(options: Options) -> Study:
    """The study that options name, with what they change.

    Raises:
        UserError: as `load`, or the options do not fit it.
    """
    wanted = [name.strip() for name in options.filter.split(",")] if options.filter else []
    study = load(options.study)
    if options.env_manager:
        study = study.run_by(study.task.with_environment(options.env_manager))
    seeds = as_seeds(options.seeds) if options.seeds else ()
    return study.narrowed(wanted, seeds).model_copy(update={"aa_test": options.aa_test or study.aa_test})


def load_any(study: str) -> Study | StudyOfRuns:
    """As `load`, also of runs that exist."""
    return parse_any(read(study), str(_shipped().get(study, study)))


def read(study: str) -> str:
    """The text of a study's file.

    Raises:
        UserError: there is none, or it is not text.
    """
    shipped = _shipped()
    wanted = f"{', '.join(shipped)}, or the path of a YAML file"
    hint = "" if study in shipped else did_you_mean(study, shipped)
    if hint and not Path(study).exists():
        raise UserError(f"study={quoted(study)} does not exist{hint}; give {wanted}")
    try:
        return cli.read_user_file(shipped.get(study, study), "study", _MOST_BYTES, wanted).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"study={quoted(study)} is not a text in UTF-8 ({error.reason}); give {wanted}") from None


def _shipped() -> dict[str, Path]:
    return {file.stem: file for file in sorted(STUDIES.glob(f"*{SUFFIX}"))}


def parse(text: str, source: str) -> Study:
    """The study that a YAML text declares, which makes its runs; `source` is what an error calls it.

    Raises:
        UserError: as `load`.
    """
    study = parse_any(text, source)
    if isinstance(study, StudyOfRuns):
        judge = command("compare")
        raise UserError(f"{source}: it is of runs that exist, and nothing is trained for it; {judge} --study judges it")
    return study


def parse_any(text: str, source: str) -> Study | StudyOfRuns:
    """As `parse`, also of runs that exist."""
    source = source if len(source) <= _SHOWN_SOURCE else f"...{source[3 - _SHOWN_SOURCE :]}"
    root, content = document.read(text, source)
    if root is None or not isinstance(content, dict):
        found = "empty" if root is None else f"a {type(content).__name__}"
        raise UserError(f"{source}: a study is a mapping with the keys {', '.join(_KEYS)}; this is {found}")
    former: dict[str, str] = {}
    kind: type[Study | StudyOfRuns] = StudyOfRuns if _RUNS in content else Study
    of: Task = task.load()
    if kind is Study and _PROJECT in content:
        with _mistakes_at(source, root, text, Source):
            of, content = _fetched(content)
    with _mistakes_at(source, root, text, kind):
        study = kind.model_validate(content, context={"task": of, "former": former})
    for name, now in former.items():
        print(f"{source}: {name} is now called {now}", file=sys.stderr)
    return study


def _fetched(content: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
    """The project that a study runs, and what its file says beyond that."""
    said = {name: value for name, value in content.items() if name in Source.model_fields}
    try:
        of = task.fetched(Source.model_validate(said))
    except UserError as error:
        raise MisplacedError(str(error), _PROJECT) from None
    others = {name: value for name, value in content.items() if name not in said}
    return of, {**others, _PROJECT: of.project}


@contextmanager
def _mistakes_at(source: str, root: Node, text: str, kind: type[BaseModel]) -> Iterator[None]:
    """Tell mistakes in here by line and key.

    Raises:
        UserError: there are some.
    """
    try:
        yield
    except ValidationError as error:
        problems: Sequence[Any] = error.errors(include_input=False)
    except MisplacedError as error:
        problems = [{"type": "value_error", "loc": error.keys, "msg": str(error)}]
    else:
        return
    # A list that lost its only item to a problem is reported as too short, too.
    within = {problem["loc"][:n] for problem in problems for n in range(len(problem["loc"]))}
    apart = [problem for problem in problems if not problem["loc"] or problem["loc"] not in within]
    raise UserError(f"{source}, {several([_line(problem, root, text, kind) for problem in apart])}")


def _line(problem: Any, root: Node, text: str, kind: type[BaseModel]) -> str:
    of_a_key = problem["loc"][-1:] == ("[key]",)
    keys = problem["loc"][: -1 if of_a_key else None] + getattr(problem.get("ctx", {}).get("error"), "keys", ())
    node = root
    for key in keys:
        node = document.child(node, key, FORMERLY.get(str(key))) or node
    what = words(problem)
    if problem["type"] == "extra_forbidden":
        known = _KEYS if kind is Study and len(keys) == 1 else list(_model_at(kind, keys[:-1]).model_fields)
        what = f"there is no such key{did_you_mean(str(keys[-1]), known)}; allowed: {', '.join(known)}"
    elif problem["type"] == "model_type":
        what = f"should be a mapping with the keys {', '.join(_model_at(kind, keys).model_fields)}"
    given = "" if of_a_key or problem["type"] == "missing" else redacted(document.given(node, text))
    return f"line {node.start_mark.line + 1}: {document.path_of(keys)}{given}: {what}"


def _model_at(kind: type[BaseModel], keys: Sequence[str | int]) -> type[BaseModel]:
    """The model of what lies at some keys of a study."""
    for key in keys:
        within = _models(kind.model_fields[str(key)].annotation) if key in kind.model_fields else []
        kind = next(iter(within), kind)
    return kind


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Those in `tuple[Variation, ...]`, `Published | None` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def json_schema() -> str:
    """The JSON Schema of a study file, of every kind."""
    made, finding = Study.model_json_schema(), StudyOfRuns.model_json_schema()
    count = {"type": "integer", "minimum": 1, "maximum": MOST_SEEDS}
    several = {**made["properties"]["seeds"], "uniqueItems": True}
    made["properties"]["seeds"] = {"anyOf": [count, several], "description": several.pop("description")}
    metrics = made["properties"].pop("metrics")
    del made["properties"]["project"], made["$defs"]["Project"], made["$defs"]["Parameter"]
    of_project = Source.model_json_schema()
    value = {"type": ["number", "string"]}
    running = _with_values({}, value, {"type": "string", "minLength": 1}, made, "OfProject")
    running["properties"] |= {**of_project["properties"], "metrics": metrics}
    running["required"] = [*of_project["required"], *running["required"]]
    of = task.load()
    making = _with_values(
        {name: of.schema[name] for name in varied(of)}, False, {"enum": [row.name for row in of.metrics]}, made, ""
    )
    definitions = {**making.pop("$defs"), **running.pop("$defs"), **finding.pop("$defs")}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": definitions,
        "if": {"required": [_RUNS]},
        "then": finding,
        "else": {"if": {"required": [_PROJECT]}, "then": running, "else": making},
    }
    return json.dumps(schema, indent=2) + "\n"


def _with_values(
    values: Mapping[str, Any], others: Any, metric: Mapping[str, Any], made: Mapping[str, Any], suffix: str
) -> dict[str, Any]:
    """The schema of a study that makes its runs, with what its parameters can be, and definitions of its own."""
    lists = {name: {"type": "array", "items": value, "minItems": 1} for name, value in values.items()}
    names = {"enum": list(values)} if values else {"type": "string"}
    more = {
        "Changes": {"type": "object", "properties": values, "additionalProperties": others},
        "Grid": {
            "type": "object",
            "properties": lists,
            "additionalProperties": others and {"type": "array", "items": others, "minItems": 1},
        },
        "Metric": metric,
        "Parameters": {"type": "array", "items": names, "minItems": 1},
    }
    text = json.dumps({**made, "$defs": {**made["$defs"], **more}})
    text = re.sub(f'"{re.escape(DEFINITION)}": "', '"$ref": "#/$defs/', text)
    found = json.loads(re.sub(r'"#/\$defs/(\w+)"', rf'"#/$defs/\1{suffix}"', text))
    return {**found, "$defs": {name + suffix: each for name, each in found["$defs"].items()}}


if __name__ == "__main__":
    SCHEMA.write_text(json_schema(), encoding="utf-8")
