"""The tables in README.md and docs/ that are made of code and of results: `python -m docs.generate`, or `make docs`.

A table stands below a comment that says of what it is made, such as `<!-- pipeline.study.options: parameters -->`.
A test holds each of them true.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel

from pipeline.compare.report import markdown, tables
from pipeline.compare.verify import read_conclusion

ROOT = Path(__file__).parents[1]

_TABLE = re.compile(r"(<!-- (\S+): (\w+) -->\n\n)((?:\|.*\n)*)")


def documents() -> list[Path]:
    """README.md and docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """A document with its tables made anew."""
    return _TABLE.sub(lambda found: found[1] + _MAKE[found[3]](found[2]), text)


def _claims(path: str) -> str:
    return markdown.table(tables.claims_table(read_conclusion(str(ROOT / path))))


def _parameters(module: str) -> str:
    options: type[BaseModel] = import_module(module).Options
    rows = [
        (f"`{name}`", _code(field.default), field.description or "") for name, field in options.model_fields.items()
    ]
    return _table(("parameter", "default", ""), rows)


def _metrics(module: str) -> str:
    rows = [
        (
            f"`{row.name}`",
            row.label,
            row.unit,
            row.better,
            "per epoch" if row.per_epoch else "at the end",
            ", ".join(f"`{name}`" for name in row.contains),
            f"`{row.formerly}`" if row.formerly else "",
        )
        for row in import_module(module).METRICS
    ]
    return _table(("metric", "label", "unit", "better", "logged", "contains a term of", "formerly"), rows)


def _code(default: object) -> str:
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    return "" if default in ("", ()) else f"`{shown}`"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


_MAKE = {"claims": _claims, "parameters": _parameters, "metrics": _metrics}


def main() -> None:
    """Write every document with its tables made anew."""
    for path in documents():
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
