"""The conclusion table: query the runs of an experiment and print one row per configuration.

python -m pipeline.compare --experiment Default --filter "params.optimizer = 'adam'"

Reads the store and changes nothing in it. Never imports TensorFlow.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from pipeline import cli
from pipeline.config import (
    DATA_HASH,
    FAILURE,
    FINGERPRINT,
    FIRST,
    FIRST_DISPLAYED_LOSS,
    LAST,
    LOSSES,
    QUALITY,
    TRAINING_SECONDS,
    RunConfig,
    UserError,
)
from pipeline.evidence import COUNT, differing_columns, summarise

TABLE_MARKDOWN = "conclusion.md"
TABLE_CSV = "conclusion.csv"

# A configuration is what a run was asked to do, apart from its seed, on the same images.
_PARAMETERS = [name for name in RunConfig.model_fields if name != "seed"]
_METRICS = [
    *(edge + loss for loss in LOSSES for edge in (FIRST, LAST)),
    FIRST_DISPLAYED_LOSS,
    *QUALITY,
    TRAINING_SECONDS,
]
_FINISHED = "FINISHED"

# Heading and metric of the columns that people see; the CSV has all of them.
_SHOWN = {
    "first loss": "first_loss",
    "last loss": "last_loss",
    "first val_loss": "first_val_loss",
    "last val_loss": "last_val_loss",
    "last val_bce": "last_val_bce",
    "MSE": "mse",
    "PSNR (dB)": "psnr",
    "SSIM": "ssim",
    "dark noise": "dark_noise",
    "thin-stroke error": "thin_stroke_error",
    "collapse (0=blob)": "collapse",
    "dead units": "dead_units",
    "training (s)": TRAINING_SECONDS,
}
_DIGITS = {"psnr": 2, "collapse": 3, "dead_units": 1, TRAINING_SECONDS: 1}


class Options(BaseModel):
    """What to compare, and where to write it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str = Field("", description="the experiment's name; empty = MLFLOW_EXPERIMENT_NAME, or Default")
    filter: str = Field("", description="an MLflow filter string, such as params.optimizer = 'adam'")
    out: Path = Field(Path("results"), description=f"the folder for {TABLE_MARKDOWN} and {TABLE_CSV}")
    log: bool = Field(False, description="true = log the two files to MLflow, as artifacts of a run of their own")


def main(argv: list[str] | None = None) -> int:
    """Print the conclusion table; returns the exit code."""
    about = "The conclusion table of the runs made so far."
    return cli.run(lambda: compare(cli.parse_arguments(Options, argv, "pipeline.compare", about)))


def compare(options: Options) -> str:
    """Print and write the conclusion table; returns what to tell the user about the files.

    Raises:
        UserError: the store, the experiment or the filter cannot be used, or there is nothing to compare.
    """
    from pipeline import report, tracking  # here, because a mistake in the arguments should not wait for MLflow

    runs = tracking.read_runs(options.experiment or None, options.filter)
    if runs.empty:
        raise UserError("no run matches; make one with mlflow run . -P optimizer=adam, or widen --filter")
    table = conclusion(runs)
    differing = differing_columns(table, [*_PARAMETERS, DATA_HASH])
    shown = _displayed(table, differing or _PARAMETERS[:1])
    facts = [_count(runs, table), *_constants(table, differing), *_left_out(runs)]

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 10**4, highlight=False, markup=False, soft_wrap=True)
    console.print(facts[0])
    if len(table):
        report.terminal(shown, [*(differing or _PARAMETERS[:1]), COUNT], console)
    for fact in facts[1:]:
        console.print(fact)

    paragraphs = [report.markdown_text(fact) for fact in facts]
    if len(table):
        paragraphs.insert(1, report.markdown(shown).rstrip())
    files = _write(options.out, "\n\n".join(paragraphs) + "\n", report.to_csv(table))
    written = f"written: {', '.join(map(str, files))}"
    return f"{written}\nlogged to run {tracking.log_files(files)}" if options.log else written


def conclusion(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per configuration of the finished runs of `tracking.read_runs`, lowest `last_val_bce` first.

    Columns: the parameters (all but the seed), the data's hash, the number of runs, and the mean of each metric.
    """
    finished = runs[_ours(runs) & (runs["status"] == _FINISHED)]
    sources = {
        **{name: f"params.{name}" for name in _PARAMETERS},
        DATA_HASH: f"tags.{DATA_HASH}",
        **{name: f"metrics.{name}" for name in _METRICS},
    }
    frame = pd.DataFrame({name: _column(finished, source) for name, source in sources.items()})
    table = summarise(frame, [*_PARAMETERS, DATA_HASH], _METRICS)
    return table.sort_values(LAST + "val_bce", kind="stable", ignore_index=True)


def _ours(runs: pd.DataFrame) -> pd.Series:
    return _column(runs, f"tags.{FINGERPRINT}").notna()


def _column(runs: pd.DataFrame, name: str) -> pd.Series:
    """A column that MLflow leaves out where no run has the tag, param or metric."""
    return runs.get(name, pd.Series(None, runs.index, dtype=object))


def _displayed(table: pd.DataFrame, differing: list[str]) -> pd.DataFrame:
    from pipeline import report

    shown = table[[*differing, COUNT]].astype(object).map(lambda value: str(value)[:60])
    for heading, metric in _SHOWN.items():
        shown[heading] = [report.number(value, _DIGITS.get(metric, 4)) for value in table[metric]]
    return shown


def _count(runs: pd.DataFrame, table: pd.DataFrame) -> str:
    statuses = ", ".join(f"{count} {status.lower()}" for status, count in runs["status"].value_counts().items())
    return f"{_plural(len(runs), 'run')} ({statuses}), {_plural(len(table), 'configuration')} with finished runs"


def _constants(table: pd.DataFrame, differing: list[str]) -> list[str]:
    same = [f"{name} {table[name].iloc[0]}" for name in _PARAMETERS if len(table) > 0 and name not in differing]
    means = ["A row with several runs shows their means."] if (table[COUNT] > 1).any() else []
    return [f"The same in every row: {', '.join(same)}.", *means] if same else means


def _left_out(runs: pd.DataFrame) -> list[str]:
    """What the table does not show, by name: nothing is mixed in or dropped in silence."""
    lines = []
    foreign = runs[~_ours(runs) & (runs["status"] == _FINISHED)]
    if len(foreign):
        lines.append(f"Not in the table: {_plural(len(foreign), 'finished run')} that this project did not make.")
    reasons = _column(runs, f"tags.{FAILURE}").fillna("no reason recorded")
    for row, run in runs[runs["status"] != _FINISHED].iterrows():
        reason = "still running, or its process is gone" if run["status"] == "RUNNING" else reasons[row]
        name = run.get("tags.mlflow.runName", "")
        lines.append(f"Not in the table: {name} ({run['run_id']}) is {run['status']}: {reason}")
    return [" ".join(line.split()) for line in lines]  # names may have line breaks


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _write(folder: Path, markdown: str, csv: str) -> list[Path]:
    files = {TABLE_MARKDOWN: markdown, TABLE_CSV: csv}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"out={str(folder)!r} cannot be written: {error}; choose another folder with --out") from None
    return [folder / name for name in files]


if __name__ == "__main__":
    sys.exit(main())
