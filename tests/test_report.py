"""The report: its words by hand, its tables, and its documents read back by a parser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from pipeline import evidence
from pipeline.conclusion import (
    Caveat,
    Cell,
    Check,
    Claim,
    Conclusion,
    Confounder,
    Determinism,
    Difference,
    Figure,
    Finding,
    Flag,
    Metric,
    Noise,
    Pair,
    PlannedRun,
    Provenance,
    Published,
    RunRecord,
    Stated,
    Unequal,
    Variation,
)
from pipeline.evidence import Verdict

NATS = "nats per pixel"
LOSS, BCE, PSNR = "last_val_loss", "last_val_bce", "psnr"
METRICS = (
    Metric(name=LOSS, label="last val_loss", unit=NATS, digits=4, higher_is_better=False, main=True, judged=True),
    Metric(name=BCE, label="last val_bce", unit=NATS, digits=4, higher_is_better=False, main=True, judged=True),
    Metric(name=PSNR, label="PSNR", unit="dB", digits=2, higher_is_better=True, main=True, judged=True),
    Metric(
        name="first_displayed_loss",
        label="first displayed loss",
        unit=NATS,
        digits=4,
        higher_is_better=False,
        main=False,
        judged=False,
    ),
    Metric(
        name="first_loss", label="first loss", unit=NATS, digits=4, higher_is_better=False, main=False, judged=False
    ),
)
NAN = math.nan


def cell(metric: str, mean: float, sd: float = 0.0005, n: int = 5) -> Cell:
    low, high = (float(end) for end in evidence.mean_interval(np.array(mean), np.array(sd), np.array(n)))
    return Cell(
        metric=metric,
        n=n,
        mean=mean,
        sd=sd,
        low=low,
        high=high,
        median=mean,
        worst=mean + sd,
        worst_seed=3,
        run_ids=("r",) * n,
        digest="0" * 16,
    )


def variation(name: str, loss: float, bce: float, psnr: float, **more: Any) -> Variation:
    cells = (cell(LOSS, loss), cell(BCE, bce), cell(PSNR, psnr, 0.05))
    given = {
        "role": "variation",
        "params": {},
        "differs": {},
        "seeds": (0, 1, 2, 3, 4),
        "planned": 5,
        "finished": 5,
        "flags": (),
    }
    return Variation.model_validate({"name": name, "file": name, "cells": cells, **given, **more})


def difference(mean: float, half: float, p: float = 1e-6, **more: Any) -> Difference:
    given = {"n_a": 5, "n_b": 5, "n_pairs": 5, "paired": True, "dropped": ()}
    return Difference.model_validate({"mean": mean, "low": mean - half, "high": mean + half, "p": p, **given, **more})


def pair(name: str, against: str, metric: str | None, seen: Difference, **more: Any) -> Pair:
    return Pair.model_validate({**_pair(name, against, metric, seen), **more})


def _pair(name: str, against: str, metric: str | None, seen: Difference) -> dict[str, Any]:
    way = "lower" if seen.mean < 0 else "higher"
    return {
        "variation": name,
        "against": against,
        "asked": metric or LOSS,
        "metric": metric,
        "why": "as asked",
        "difference": seen,
        "p_holm": seen.p,
        "relative": seen.mean / 0.1,
        "finding": way if seen.p < 0.05 else "no difference shown",
        "confounded_by": (),
        "caveats": (),
        "unfinished": (),
    }


def claim(
    says: str, verdict: Verdict, name: str, against: str, metric: str | None, seen: Difference, **more: Any
) -> Claim:
    given = {
        "says": says,
        "about": ("optimizer",),
        "direction": "lower",
        "smallest": 0.001,
        "effect": seen.mean / 0.001,
        "verdict": verdict,
        "more_seeds": None,
    }
    return Claim.model_validate({**_pair(name, against, metric, seen), **given, **more})


def runs(names: tuple[str, ...]) -> tuple[PlannedRun, ...]:
    return tuple(
        PlannedRun(variation=name, seed=seed, state="finished", reason=None, run_id=f"{name}-{seed}")
        for name in names
        for seed in range(5)
    )


NAMES = ("Original", "adam_optimizer", "100_epochs", "with_regularizationTerm")
DEEP = Confounder(name="decoder_hidden", kind="parameter", variation=(0,), against=(784,))


def sample(**more: Any) -> Conclusion:
    """Such as the published study's; any part can be replaced."""
    original, adam, longer, l1 = NAMES
    variations = (
        variation(
            original,
            0.4398,
            0.4398,
            9.5,
            role="baseline",
            params={"optimizer": "adadelta", "epochs": 50, "l1": 0.0, "decoder_hidden": 784},
            flags=(
                Flag(flag="collapsed", seeds=(0, 1, 2, 3, 4), of=5, metric="collapse", worst=0.0003),
                Flag(flag="not converged", seeds=(1, 2), of=5, metric="val_loss", worst=NAN),
            ),
        ),
        variation(
            adam, 0.0922, 0.0922, 20.9, params={"optimizer": "adam", "epochs": 50, "l1": 0.0, "decoder_hidden": 0}
        ),
        variation(
            longer, 0.0919, 0.0919, 21.0, params={"optimizer": "adam", "epochs": 100, "l1": 0.0, "decoder_hidden": 0}
        ),
        variation(
            l1,
            0.0988,
            0.0935,
            20.6,
            params={"optimizer": "adam", "epochs": 50, "l1": 1e-4, "decoder_hidden": 0},
            finished=4,
            seeds=(0, 1, 2, 4),
        ),
    )
    lost = PlannedRun(
        variation=l1, seed=3, state="diverged", reason="DivergenceError: loss is nan in epoch 7", run_id="x"
    )
    claims = (
        claim(
            "Switching from adadelta to adam significantly improves the loss.",
            Verdict.SUPPORTED,
            adam,
            original,
            LOSS,
            difference(-0.3476, 0.0014),
            confounded_by=(DEEP,),
            caveats=(
                Caveat(kind="untuned learning rate", optimizers=("adam", "adadelta"), learning_rates=(0.001, 0.001)),
                Caveat(kind="flag", variation=original, flag="collapsed", seeds=(0, 1, 2, 3, 4)),
            ),
        ),
        claim(
            "100 epochs instead of 50 bring only a marginal improvement.",
            Verdict.INCONCLUSIVE,
            longer,
            adam,
            LOSS,
            difference(-0.0003, 0.0009, 0.4),
            direction="equal",
            more_seeds=2,
        ),
        claim(
            "L1 on the encoder slightly worsens the reconstruction.",
            Verdict.SUPPORTED,
            l1,
            adam,
            BCE,
            difference(0.0013, 0.0004, 0.002, n_a=4, n_pairs=4, dropped=(3,)),
            asked=LOSS,
            direction="higher",
            why="penalty differs",
            penalties=(1e-4, 0.0),
            asked_difference=difference(0.0066, 0.0005),
            unfinished=(lost,),
            caveats=(
                Caveat(kind="seeds dropped", seeds=(3,)),
                Caveat(kind="runs not finished", variation=l1, seeds=(3,)),
            ),
        ),
    )
    pairs = tuple(
        pair(name, original, metric, difference(mean, half))
        for name in NAMES[1:]
        for metric, mean, half in ((LOSS, -0.347, 0.001), (PSNR, 11.4, 0.2))
    )
    figures = (
        Figure(
            variation=original,
            metric=LOSS,
            published=0.4391,
            n=5,
            mean=0.4398,
            low=0.4377,
            high=0.4419,
            reproduced=True,
            taken_for=None,
        ),
        Figure(
            variation=adam,
            metric="first_displayed_loss",
            published=0.3846,
            n=5,
            mean=0.3852,
            low=0.379,
            high=0.391,
            reproduced=True,
            taken_for="first_loss",
            taken_for_mean=0.277,
            taken_for_low=0.274,
            taken_for_high=0.28,
            taken_for_reproduced=False,
        ),
        Figure(
            variation=l1,
            metric=LOSS,
            published=0.0979,
            n=4,
            mean=0.0988,
            low=0.0984,
            high=0.0992,
            reproduced=False,
            taken_for=None,
        ),
    )
    stated = (Stated(variation=l1, parameter="l1", stated=1e-5, ran=1e-4, same=False, alternative=None, figures=()),)
    given: dict[str, Any] = {
        "kind": "study",
        "title": "published",
        "description": "The four runs of the published study, exactly as they were run, with its figures and its three claims.",
        "baseline": original,
        "metric": LOSS,
        "constant": {"batch_size": 256, "dataset": "mnist", "encoding_dim": 32, "learning_rate": 0.001},
        "differing": ("optimizer", "epochs", "l1", "decoder_hidden"),
        "metrics": METRICS,
        "variations": variations,
        "completeness": (*(run for run in runs(NAMES) if run.run_id != f"{l1}-3"), lost),
        "pairs": pairs,
        "claims": claims,
        "noise": (
            Noise(
                metric=LOSS,
                variation=f"{original} (A/A)",
                against=original,
                n_a=5,
                n_b=5,
                limit=0.0008,
                observed=-0.0002,
                smallest=0.001,
            ),
        ),
        "determinism": (
            Determinism(variation=original, seed=0, run_id="a", again_id="b", same=True, compared=20, unequal=()),
        ),
        "checks": (
            Check(kind="best at the edge of the grid", passed=None, findings=()),
            Check(
                kind="untuned learning rate",
                passed=False,
                findings=(
                    Finding(
                        variation=adam, against=original, parameter="learning_rate", value="adadelta", tried=(0.001,)
                    ),
                ),
            ),
            Check(
                kind="still improving at the last epoch",
                passed=False,
                findings=(Finding(variation=original, metric="val_loss", seeds=(1, 2)),),
            ),
            Check(kind="selected on the reported data", passed=True, findings=()),
        ),
        "published": Published(
            source="the published study's own output, one run each", decimals=4, figures=figures, stated=stated
        ),
        "runs": tuple(
            RunRecord(
                run_id=f"{n}{'0' * 30}",
                name=f"run {n}",
                variation=NAMES[n % 4],
                seed=n // 4,
                status="FINISHED",
                reason=None,
                used=True,
                digest="1" * 16,
            )
            for n in range(20)
        ),
        "histories_of": NAMES,
        "provenance": Provenance(
            command="python -m pipeline.compare --study published",
            experiment="Default",
            filter="",
            study="published",
            study_run_id="f" * 32,
            group_by=(),
            metric="",
            metrics=(),
            baseline="",
            made="2026-11-24T20:03:11+00:00",
            versions={"python": "3.11.9", "mlflow": "3.17.2"},
            first_run="2026-11-24T18:00:00+00:00",
            last_run="2026-11-24T18:40:00+00:00",
            code_versions=("a" * 40,),
            dirty=1,
            lock_hashes=("b" * 64,),
            data_hashes=("c" * 64,),
            hardware=("a CPU, 2 cores",),
        ),
    }
    return Conclusion.model_validate({**given, **more})
