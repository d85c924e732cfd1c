"""How far it is, shown to a person: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.metrics import EPOCH_SECONDS
from pipeline.terminal import Console, printable

Report = Callable[[int, Mapping[str, float]], None]

_PLAIN_SECONDS = 5.0  # between two lines of a run's progress where there is no terminal
_PLAIN_STUDY_SECONDS = 20.0  # the same for a study
_MOST_SHOWN = 3  # metrics of a run of which nobody knows what it logs
_NOTE = "progress.json"  # in the folder of such a run's journal


@dataclass
class Watched:
    """A run in training, as `watch` and `study` see it."""

    name: str
    epochs: int  # 0 = nobody knows
    epoch: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def update(self, epoch: int, losses: Mapping[str, float]) -> None:
        """Note an epoch."""
        self.epoch, self.losses = epoch, losses
        if EPOCH_SECONDS in losses:  # not every task logs it
            self.seconds = [*self.seconds[-9:], losses[EPOCH_SECONDS]]

    @property
    def seconds_left(self) -> float:
        """From the median of the last ten epochs: the first one compiles, and says little."""
        return (self.epochs - self.epoch) * statistics.median(self.seconds) if self.seconds else float("nan")

    @property
    def line(self) -> str:
        """Epoch, losses and time left, as far as they are known."""
        left = f"{duration(self.seconds_left)} left" if self.seconds else ""
        how_far = f"epoch {self.epoch}/{self.epochs}" if self.epochs else f"step {self.epoch}"
        parts = (how_far, self.loss_text, "done" if self.epoch == self.epochs else left)
        return "  ".join(part for part in parts if part)

    @property
    def loss_text(self) -> str:
        """The two losses, or else the first of what there is."""
        names = [name for name in ("loss", "val_loss") if name in self.losses] or sorted(self.losses)[:_MOST_SHOWN]
        return "  ".join(f"{name} {self.losses[name]:.4f}" for name in names)


@dataclass
class Counts:
    """What became of the runs of a study so far."""

    planned: int
    finished: int = 0
    reused: int = 0
    failed: int = 0
    running: int = 0
    phase: str = ""

    @property
    def line(self) -> str:
        """As `7 of 20 done (4 reused), 1 failed, 2 running, 10 waiting`."""
        waiting = self.planned - self.finished - self.failed - self.running
        parts = [f"{self.finished} of {self.planned} done" + (f" ({self.reused} reused)" if self.reused else "")]
        parts += [f"{n} {what}" for n, what in ((self.failed, "failed"), (self.running, "running")) if n]
        line = ", ".join([*parts, f"{waiting} waiting"] if waiting else parts)
        return f"{self.phase}: {line}" if self.phase else line


@contextmanager
def watch(name: str, epochs: int) -> Iterator[Report]:
    """One run: a live line on a terminal; elsewhere a line every few seconds, for the first and last epoch always."""
    console = Console()
    run = Watched(name, epochs)
    if not console.is_terminal:
        printed = -_PLAIN_SECONDS

        def plain(epoch: int, losses: Mapping[str, float]) -> None:
            nonlocal printed
            run.update(epoch, losses)
            if epoch in (1, epochs) or time.monotonic() - printed > _PLAIN_SECONDS:
                print(run.line, flush=True)
                printed = time.monotonic()

        print(printable(f"training {name}"), flush=True)
        yield plain
        return

    with Progress(TextColumn("{task.description}", markup=False), BarColumn(), console=console) as progress:
        task = progress.add_task(f"training {name}: compiling", total=epochs)

        def live(epoch: int, losses: Mapping[str, float]) -> None:
            run.update(epoch, losses)
            progress.update(task, completed=epoch, description=run.line)

        yield live


class StudyDisplay:
    """All runs of a study that train at this moment, beneath what became of the others."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._printed = time.monotonic()

    def __enter__(self) -> StudyDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(Text(line), soft_wrap=True)

    def show(self, counts: Counts, running: Sequence[Watched], jobs: int) -> None:
        """How far it is now."""
        left = sum(run.seconds_left for run in running if run.seconds) / jobs
        head = counts.line + (f"; at least {duration(left)} left" if left else "")
        if self._live:
            table = Table.grid(padding=(0, 2))
            for run in running:
                bar = ProgressBar(total=run.epochs or None, completed=run.epoch, width=20)
                begun = run.line if run.epoch or run.losses else "compiling" if run.epochs else "running"
                table.add_row(Text(run.name[:60]), bar, Text(begun))
            self._live.update(Group(Text(head), table), refresh=True)
        elif time.monotonic() - self._printed > _PLAIN_STUDY_SECONDS:
            self.say("; ".join([head, *(f"{run.name}: {run.line}" for run in running if run.epoch)]))
            self._printed = time.monotonic()


def note(folder: Path, step: int, metrics: Mapping[str, float]) -> None:
    """Keep for `noted` how far a run is that says so to nobody but the store."""
    beside = folder / f"{_NOTE}.new"
    beside.write_text(json.dumps([step, dict(metrics)]))
    beside.replace(folder / _NOTE)


def noted(folder: Path) -> tuple[int, dict[str, float]] | None:
    """The last step of a run, and its last metrics; None where nothing was noted."""
    try:
        step, metrics = json.loads((folder / _NOTE).read_bytes())
    except FileNotFoundError:
        return None
    return step, metrics


def duration(seconds: float) -> str:
    """A time for a person: `12 s`, `3.5 min`, `2.0 h`, `1.5 days`, `31.7 years`."""
    for unit, length in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"
