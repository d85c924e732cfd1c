"""`python -m pipeline.train`: one run."""

from __future__ import annotations

from pydantic import Field

from pipeline import cli
from pipeline.errors import UserError
from pipeline.texts import command
from pipeline.train.config import RunConfig


class Options(RunConfig):
    """A new run of this configuration, or one that goes on."""

    resume: str = Field("", description="the ID of a run that was interrupted, to go on with; given alone")


def main(argv: list[str] | None = None) -> int:
    """Make one run, or go on with one; returns the exit code."""
    about = "Train one autoencoder, tracked in MLflow."

    def call() -> str:
        options = cli.parse_arguments(Options, argv, "train", about)
        if "resume" in options.model_fields_set and options.model_fields_set != {"resume"}:
            raise UserError(f"resume goes on with the run's own parameters: give it alone, to {command('train')}")
        cli.require_installed("train", "tensorflow", "keras")
        from pipeline.train import run  # a mistake above should not wait for MLflow

        if options.resume:
            return run.resume(options.resume)
        return run.run(RunConfig.model_validate(options.model_dump(exclude={"resume"})))

    return cli.run(call, "main")


if __name__ == "__main__":
    cli.leave(main)
