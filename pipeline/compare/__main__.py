"""`python -m pipeline.compare`: what the runs made so far say."""

from __future__ import annotations

from pipeline import cli
from pipeline.compare.options import Options


def main(argv: list[str] | None = None) -> int:
    """Compare, or verify; returns the exit code: 1 where something is no longer as a conclusion has it."""
    differs: list[str] = []

    def call() -> str:
        options = cli.parse_arguments(Options, argv, "compare", "What the runs made so far say.")
        from pipeline.compare import run, verify  # a mistake above should not wait for MLflow

        if not options.verify:
            return run.compare(options)
        known = verify.read_conclusion(options.verify)
        differs.extend(verify.verify(known))
        return "\n".join(differs) or f"nothing differs ({verify.counted(known)})"

    return cli.run(call, "compare") or int(bool(differs))


if __name__ == "__main__":
    cli.leave(main)
