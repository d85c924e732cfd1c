"""`variations`, or `python -m pipeline`: one command for every entry point; each is imported only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import pipeline
from pipeline import cli
from pipeline.errors import UserError
from pipeline.texts import command, did_you_mean, quoted

SUBCOMMANDS = {
    "train": ("pipeline.train.__main__", "train one autoencoder, tracked in MLflow"),
    "study": ("pipeline.study.__main__", "run a study: its variations, over its seeds"),
    "compare": ("pipeline.compare.__main__", "say what the runs made so far show, with verdicts and a report"),
    "deliver": ("pipeline.deliver", "send to the tracking store what it has not got of earlier runs"),
    "store": ("pipeline.store", "make the tracking store, before several runs start at once"),
}


def call(argv: list[str]) -> int:
    """Call the subcommand that the first word names, with the others; returns its exit code."""
    name, *rest = argv or ["--help"]
    if name in SUBCOMMANDS:
        module, _ = SUBCOMMANDS[name]
        return int(import_module(module).main(rest))
    return cli.run(lambda: _about(name))


def _about(word: str) -> str:
    if word in ("-h", "--help"):
        lines = [f"usage: {command('')} SUBCOMMAND [--help] [--name VALUE ...]", "", pipeline.__doc__ or "", ""]
        lines += [f"  {name:8} {about}" for name, (_, about) in SUBCOMMANDS.items()]
        return "\n".join([*lines, "", "  --version  print the version"])
    if word == "--version":
        return f"variations {pipeline.__version__}"
    known = ", ".join(SUBCOMMANDS)
    raise UserError(f"unknown subcommand {quoted(word)}{did_you_mean(word, SUBCOMMANDS)}; the subcommands are {known}")


def main() -> None:
    """Call what the command line names, and exit with its code."""
    cli.leave(lambda: call(sys.argv[1:]))


if __name__ == "__main__":
    main()
