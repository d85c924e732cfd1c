"""A YAML text (1.2, as editors read it) as what it means and where it says so."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline.errors import UserError, first_line

_MOST_NODES = 100_000  # far more than a person writes, read in seconds
_SHOWN = 60  # characters of what was given, in an error
_TEXTS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")  # a key's tags: `name`, and `<<`


class _Constructor(SafeConstructor):
    """Keeps how a number is written."""


class _Written(float):
    """A number that is shown as it stands in the file: a grid names its variations after it."""

    def __new__(cls, value: float, text: str) -> _Written:
        number = super().__new__(cls, value)
        number.text = text
        return number

    text: str

    def __str__(self) -> str:
        return self.text


def _written(constructor: SafeConstructor, node: ScalarNode) -> float:
    return _Written(constructor.construct_yaml_float(node), node.value)


_Constructor.add_constructor("tag:yaml.org,2002:float", _written)


def read(text: str, source: str) -> tuple[Node | None, Any]:
    """A YAML text as nodes, which know their lines, and as what they mean; `source` is what an error calls it.

    Raises:
        UserError: it is not YAML, a key is not a text or stands there twice, or with its aliases it is endless.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        root = yaml.compose(text)
        if root is None:
            return None, None
        _require_plain_keys(root)
        if _written_out(root, {}) > _MOST_NODES:
            raise MarkedYAMLError(problem=f"with the aliases written out it has more than {_MOST_NODES:,} values")
        return root, yaml.constructor.construct_document(root)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{source}{where}: {getattr(error, 'problem', None) or first_line(error)}") from None
    except RecursionError:
        raise UserError(f"{source}: it is nested too deeply") from None
    except (ValueError, LookupError, AttributeError, TypeError) as error:  # of a value such as 2026-02-30
        raise UserError(f"{source}: a value cannot be read: {first_line(error)}; put it in quotes") from None


def path_of(keys: Iterable[str | int]) -> str:
    """`variations[1].changes.l1`, and `values['a name']` where a key is not a plain word."""
    parts = (f".{key}" if re.fullmatch(r"\w+", str(key)) and isinstance(key, str) else f"[{key!r}]" for key in keys)
    return "".join(parts).removeprefix(".")


def given(node: Node, text: str) -> str:
    """What stands there, as it was written; nothing for what is too long to be said."""
    if isinstance(node, MappingNode) or (isinstance(node, SequenceNode) and not node.flow_style):
        return ""
    written = " ".join(text[node.start_mark.index : node.end_mark.index].split()) or "nothing"
    return f" = {written if len(written) <= _SHOWN else written[: _SHOWN - 3] + '...'}"


def child(node: Node, part: str | int, former: str | None = None) -> Node | None:
    """What lies at a key, by this name or by its former one, or at a place of a list; None where nothing does."""
    if isinstance(node, MappingNode):
        return next((value for key, value in node.value if key.value in (part, former)), None)
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part]
    return None


def _require_plain_keys(root: Node) -> None:
    """Every key is a text and stands there once: YAML takes the last of two equal keys in silence."""
    left: list[tuple[Node, tuple[str | int, ...]]] = [(root, ())]
    known = set()
    while left:
        node, path = left.pop()
        if id(node) in known:  # an alias
            continue
        known.add(id(node))
        if isinstance(node, SequenceNode):
            left += [(child, (*path, i)) for i, child in enumerate(node.value)]
        elif isinstance(node, MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                what = f"the key {key.value}" if isinstance(key, ScalarNode) and key.value else "a key"
                if key.tag not in _TEXTS:
                    where = f"{path_of(path)}: " if path else ""
                    raise MarkedYAMLError(
                        problem=f"{where}{what} is not a text; put it in quotes", problem_mark=key.start_mark
                    )
                if key.value in keys:
                    raise MarkedYAMLError(
                        problem=f"{path_of((*path, key.value))} stands there twice; leave one",
                        problem_mark=key.start_mark,
                    )
                keys.add(key.value)
                left.append((value, (*path, key.value)))


def _written_out(node: Node, known: dict[int, int]) -> int:
    """How many nodes it is with every alias written out: a few lines of them can be more than a memory holds.

    Args:
        known: the sizes of those that were counted, by `id`; 0 while one is being counted.
    """
    if id(node) not in known:
        known[id(node)] = 0
        parts = itertools.chain(*node.value) if isinstance(node, MappingNode) else node.value
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts if isinstance(part, Node))
    elif not known[id(node)]:
        raise MarkedYAMLError(problem="an alias stands within what it stands for", problem_mark=node.start_mark)
    return known[id(node)]
