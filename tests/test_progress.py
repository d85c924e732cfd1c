"""What a person is told while runs train."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline import progress
from pipeline.progress import Counts, StudyDisplay, Watched


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 s"), (90, "1.5 min"), (7200, "2.0 h"), (129600, "1.5 days"), (1e9, "31.7 years")]
)
def test_a_time_for_a_person(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_the_time_left_is_that_of_the_last_ten_epochs() -> None:
    run = Watched("a", 20)
    for epoch, seconds in enumerate([60.0, *[2.0] * 9, *[3.0] * 2], start=1):
        run.update(epoch, {"loss": 0.5, "val_loss": 0.25, "epoch_seconds": seconds})
    assert run.line == "epoch 12/20  loss 0.5000  val_loss 0.2500  16 s left"  # 8 epochs, median 2 s
    run.update(20, {"loss": 0.5, "val_loss": 0.25, "epoch_seconds": 2.0})
    assert run.line.endswith("  done")


def test_a_task_need_not_say_how_long_an_epoch_took() -> None:
    run = Watched("a", 20)
    run.update(3, {"error": 0.5})
    assert run.line == "epoch 3/20  error 0.5000"
    run.update(20, {"loss": 0.5})
    assert run.line == "epoch 20/20  loss 0.5000  done"


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (Counts(20, 7, 4, 1, 2), "7 of 20 done (4 reused), 1 failed, 2 running, 10 waiting"),
        (Counts(3, 3), "3 of 3 done"),
        (Counts(2), "0 of 2 done, 2 waiting"),
    ],
)
def test_what_became_of_the_runs(counts: Counts, line: str) -> None:
    assert counts.line == line


def test_a_study_on_a_terminal_shows_its_runs_as_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "Console", lambda: console)
    run = Watched("[bold]odd[/] seed 0", 10)
    run.update(4, {"loss": 0.5, "val_loss": 0.25, "epoch_seconds": 1.0})
    with StudyDisplay() as display:
        display.say("failed: [red]x")
        display.show(Counts(2, running=1), [run], 2)
    shown = screen.getvalue()
    assert "failed: [red]x" in shown
    assert "0 of 2 done, 1 running, 1 waiting; at least 3 s left" in shown
    assert "[bold]odd[/] seed 0" in shown
    assert "epoch 4/10" in shown
