"""What variations of anybody's runs are called: short enough for a table, and told apart in it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.compare.columns import comparable, differing
from pipeline.plots import short

_SHOWN = 60  # characters of a name that every report shows; of a longer one it leaves out the middle
_AROUND = 12  # characters of what is alike, beside what differs


def of(configs: Sequence[Mapping[str, Any]], differing: Sequence[str]) -> list[str]:
    """`optimizer=adam, epochs=50`, for each of some configurations; no two are alike as reports show them.

    Args:
        configs: with the same parameters.
        differing: those of them that are not the same in all.
    """
    told = {name: _apart([config[name] for config in configs]) for name in differing}
    names: list[str] = []
    shown: set[str] = set()
    again: Counter[str] = Counter()
    for place, config in enumerate(configs):
        parts = [f"{name}={told[name][place]}" for name in differing]
        name = ", ".join(parts) or ", ".join(f"{key}={value}" for key, value in config.items()) or "all runs"
        unique = name
        while short(unique, _SHOWN) in shown:
            again[short(name, _SHOWN)] += 1
            unique = f"{name} ({again[short(name, _SHOWN)] + 1})"
        shown.add(short(unique, _SHOWN))
        names.append(unique)
    return names


def telling(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The parameters that tell configurations apart.

    What not all have, such as the trees of a forest, is left out where those that all have tell it; so are parameters
    whose words are those of another: `opt_name` is adam where `optimizer` is Adam.
    """
    values = [{name: comparable(value) for name, value in config.items()} for config in configs]
    unlike = _each_word_once(differing(configs), values)
    everywhere = [name for name in unlike if all(config[name] is not None for config in values)]
    keys = [tuple(config[name] for name in everywhere) for config in values]
    told = {n for n in unlike if len({(k, c[n]) for k, c in zip(keys, values, strict=True)}) == len(set(keys))}
    return [name for name in unlike if name in everywhere or name not in told]


def _each_word_once(names: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Without parameters whose words are those of another: `opt_name` is adam where `optimizer` is Adam."""
    found: dict[Any, str] = {}
    for name in names:
        values = [config[name] for config in configs]
        words = all(value is None or isinstance(value, str) for value in values)
        found.setdefault(tuple(str(value).casefold() for value in values) if words else name, name)
    return list(found.values())


def _apart(values: Sequence[Any]) -> list[str]:
    """Values as texts; of long ones that begin or end alike, what they differ in and a little of what is around it."""
    texts = ["(none)" if value is None else str(value) for value in values]
    if max(map(len, texts)) <= _SHOWN:
        return texts
    alike = _alike(texts)
    begin, end = alike - _AROUND, _alike([text[alike:][::-1] for text in texts]) - _AROUND
    cut = [text[max(begin, 0) : len(text) - max(end, 0)] for text in texts]
    return [f"{'…' * (begin > 0)}{text}{'…' * (end > 0)}" for text in cut]


def _alike(texts: Sequence[str]) -> int:
    """With how many characters they all begin: the first and the last of them, in order, differ soonest."""
    first, last = min(texts), max(texts)
    pairs = zip(first, last, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(first), len(last)))
