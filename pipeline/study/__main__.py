"""`python -m pipeline.study`: variations over seeds."""

from __future__ import annotations

from pipeline import cli
from pipeline.study.options import Options


def main(argv: list[str] | None = None) -> int:
    """Run a study; returns the exit code."""

    def call() -> str:
        options = cli.parse_arguments(Options, argv, "study", "Run a study: its variations, over its seeds.")
        from pipeline.study import executors, files  # a mistake in the options should not wait for them

        executor = executors.chosen(options.executor, options.address, options.gpus_per_run, fork=True)
        study = files.declared(options)
        if not options.dry_run:
            executor.warm_up(study.task.imports, study.data)
        from pipeline.study import run  # while this one imports MLflow, that one imports TensorFlow

        return run.run(options, executor, study)

    return cli.run(call, "study")


if __name__ == "__main__":
    cli.leave(main)
