"""A study file for runs that exist, to start from. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.compare.columns import comparable, differing
from pipeline.compare.grouping import GroupedRuns
from pipeline.errors import UserError
from pipeline.tracking.names import DATA_HASH

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*( [\w./()=+-]+)*|-?\d+(\.\d+)?(e-?\d+)?")  # what YAML takes as it stands
_WORDS = {"null", "true", "false", "yes", "no", "on", "off"}  # but for these
_LONGEST_NAME = 100
_MOST_METRICS = 6


def text(grouped: GroupedRuns, experiments: Sequence[str], filter_string: str) -> str:
    """YAML that `study.files` reads, with the variations, the repetitions and the metrics that were found.

    Raises:
        UserError: the runs have no parameter by which they could be told apart.
    """
    if not grouped.configs or not next(iter(grouped.configs.values())):
        raise UserError("the runs have no parameter by which variations could be told apart; log what they differ in")
    names = _names(list(grouped.configs))
    title = re.sub(r"[^A-Za-z0-9._-]+", "-", experiments[0]).strip("._-")[:_LONGEST_NAME] or "study"
    called = ", ".join(map(_scalar, experiments))
    lines = [
        "# A study of runs that exist. Change what is not as it should be, claim what you expect, then:",
        "#   variations compare --study THIS_FILE",
        f"name: {title}",
        f"description: {_scalar('Runs of ' + ' and '.join(experiments) + '.')}",
        "runs:",
        f"  experiments: [{called}]",
        *([f"  filter: {_scalar(filter_string)}"] if filter_string else []),
        "  # What tells repetitions apart: parameters or tags; name, parent or none. Left out, it is found each time.",
        f"  repetitions: {_repetitions(grouped)}",
        *([f"  nuisance: [{', '.join(map(_scalar, grouped.request.nuisance))}]"] if grouped.request.nuisance else []),
        *([f"  defaults: {_mapping(grouped.request.defaults)}"] if grouped.request.defaults else []),
        "metrics:",
        "  # The first is the main one; at: last, best, or step 10.",
        *_metrics(grouped),
        f"baseline: {_scalar(names[grouped.baseline or ''])}",
        "variations:",
        *(f"  - {{name: {_scalar(names[name])}, where: {where}}}" for name, where in _where(grouped).items()),
        "claims:",
        *_example(grouped, names),
    ]
    return "\n".join(lines)


def _names(variations: Sequence[str]) -> dict[str, str]:
    """Without commas, not too long, and each once."""
    found: dict[str, str] = {}
    for place, name in enumerate(variations, 1):
        short = re.sub(r"[,\s]+", " ", name).strip()
        short = short if len(short) <= _LONGEST_NAME else f"{short[: _LONGEST_NAME - 8]} {place}"
        found[name] = short if short not in found.values() else f"{short} {place}"
    return found


def _repetitions(grouped: GroupedRuns) -> str:
    columns = [column.removeprefix("params.") for column in grouped.repetitions]
    return f"[{', '.join(map(_scalar, columns))}]" if len(columns) > 1 else _scalar(columns[0] if columns else "none")


def _metrics(grouped: GroupedRuns) -> Iterable[str]:
    primary = grouped.primary_metric
    names = [*([primary] if primary else []), *(name for name in grouped.metrics if name != primary)]
    for name in names[:_MOST_METRICS]:
        row = grouped.metric(name)
        said = grouped.request.measures.get(name)
        parts = [*([f"better: {row.better}"] if row.better else []), f"at: {said.at if said else 'last'}"]
        unknown = "" if row.better or row.is_wall_time else "  # better: lower or higher; its name does not say it"
        yield f"  {'' if name == primary else '# '}{_scalar(name)}: {{{', '.join(parts)}}}{unknown}"


def _where(grouped: GroupedRuns) -> dict[str, str]:
    configs = grouped.configs
    keys = differing(list(configs.values())) or list(next(iter(configs.values())))[:1]
    column = {DATA_HASH: f"tags.{DATA_HASH}"}
    return {name: _mapping({column.get(key, key): config[key] for key in keys}) for name, config in configs.items()}


def _mapping(values: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{_scalar(name)}: {_scalar(value)}' for name, value in values.items())}}}"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    written = str(value)
    is_plain = _PLAIN.fullmatch(written) and written.lower() not in _WORDS
    return written if is_plain and not isinstance(value, bool) else json.dumps(written, ensure_ascii=False)


def _example(grouped: GroupedRuns, names: Mapping[str, str]) -> Iterable[str]:
    """A claim as a comment: what is claimed is for a person to say.

    Of the first name, not of the best result: a claim that its own result has chosen would be judged as if it had not.
    """
    other = min((name for name in grouped.configs if name != grouped.baseline), default=None)
    if other is None or grouped.primary_metric is None:
        return
    differs = [
        key
        for key, value in grouped.configs[other].items()
        if comparable(value) != comparable(grouped.configs[grouped.baseline or ""][key]) and key != DATA_HASH
    ]
    better = grouped.metric(grouped.primary_metric).better or "lower"
    claim = {
        "says": f"{names[other]} is {better} than {names[grouped.baseline or '']}",
        "variation": names[other],
        "against": names[grouped.baseline or ""],
        "metric": grouped.primary_metric,
        "direction": better,
    }
    yield f"#  - about: [{', '.join(map(_scalar, differs))}]  # the parameters that are claimed to make the difference"
    yield from (f"#    {key}: {_scalar(value)}" for key, value in claim.items())
    yield "#    smallest_effect: 0.01  # the smallest difference that matters, in the metric's unit"
