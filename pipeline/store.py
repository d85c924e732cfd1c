"""`python -m pipeline.store`: make the tracking store, before several runs start at once."""

from __future__ import annotations

from pydantic import BaseModel

from pipeline import cli
from pipeline.texts import redacted


class Options(BaseModel):
    """There is nothing to choose."""


def main(argv: list[str] | None = None) -> int:
    """Make the store where runs go; returns the exit code."""

    def call() -> str:
        cli.parse_arguments(Options, argv, "store", "Make the tracking store, before several runs start at once.")
        from pipeline.tracking import store

        store.require_reachable()
        return f"the tracking store is {redacted(store.tracking_uri())}"

    return cli.run(call)


if __name__ == "__main__":
    cli.leave(main)
