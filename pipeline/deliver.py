"""`python -m pipeline.deliver`: send to the tracking store what it has not got of earlier runs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pipeline import cli


class Options(BaseModel):
    """Each journal knows its store, but not where that has moved to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: str = Field(
        "", description="the address at which the store is found now, for what does not reach it at its own"
    )


def main(argv: list[str] | None = None) -> int:
    """Deliver; returns the exit code."""
    about = "Send to the tracking store what it has not got of earlier runs."

    def call() -> str:
        options = cli.parse_arguments(Options, argv, "deliver", about)
        from pipeline.tracking.deliver import deliver  # a mistake above should not wait for MLflow

        return deliver(options.to)

    return cli.run(call)


if __name__ == "__main__":
    cli.leave(main)
