"""What Ray costs on one machine, beside our own processes:

python -m benchmarks.cluster

The study of eight runs of `benchmarks.study`, from the command to its end, by each executor in turns.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from benchmarks import machine
from benchmarks.study import RUNS, declared, launch, timed

AIM = 1.10
EXECUTORS = ("local", "ray")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=50, help="of each of the eight runs")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured")
    options = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in EXECUTORS}
    print(f"{RUNS} runs of adam, {options.epochs} epochs each, in turns, {machine.line()}:", flush=True)
    for _ in range(options.rounds):
        for name in EXECUTORS:
            taken[name].append(timed(lambda folder, name=name: study(folder, options.epochs, name)))  # type: ignore[misc]
            print(f"  {name:5s} {taken[name][-1]:7.1f} s", flush=True)
    local, ray = (statistics.median(taken[name]) for name in EXECUTORS)
    print(f"  ray / local: {ray / local:.2f} (aim: at most {AIM:.2f})")


def study(folder: Path, epochs: int, executor: str) -> None:
    """The eight runs."""
    launch(folder, ["-e", "study", "-P", f"study={declared(folder, epochs)}", "-P", f"executor={executor}"])


if __name__ == "__main__":
    main()
