"""What a conclusion says in words, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pipeline import inference
from pipeline.compare.conclusion import (
    Beats,
    Caveat,
    Cell,
    Check,
    Claim,
    Conclusion,
    Confounder,
    Determinism,
    Difference,
    Effort,
    Finding,
    Flag,
    Metric,
    Noise,
    Pair,
    PaperValue,
    Provenance,
    Published,
    PublishedDifference,
    PublishedValue,
    RunOutcome,
    RunRecord,
    Uncounted,
    Unequal,
    Variation,
)
from pipeline.compare.report import audits, publications, sentences, values
from pipeline.inference import Verdict

NATS = "nats per pixel"
LOSS, BCE, PSNR = "last_val_loss", "last_val_bce", "psnr"
METRICS = (
    Metric(name=LOSS, label="last val_loss", unit=NATS, decimals=4, higher_is_better=False, shown=True, compared=True),
    Metric(name=BCE, label="last val_bce", unit=NATS, decimals=4, higher_is_better=False, shown=True, compared=True),
    Metric(name=PSNR, label="PSNR", unit="dB", decimals=2, higher_is_better=True, shown=True, compared=True),
    Metric(
        name="first_displayed_loss",
        label="first displayed loss",
        unit=NATS,
        decimals=4,
        higher_is_better=False,
        shown=False,
        compared=False,
    ),
    Metric(
        name="first_loss",
        label="first loss",
        unit=NATS,
        decimals=4,
        higher_is_better=False,
        shown=False,
        compared=False,
    ),
)
NAN = math.nan


def cell(metric: str, mean: float, sd: float = 0.0005, n: int = 5) -> Cell:
    low, high = (float(end) for end in inference.mean_interval(np.array(mean), np.array(sd), np.array(n)))
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
    given = {"n_a": 5, "n_b": 5, "n_pairs": 5, "paired": True, "dropped": (), "confidence": 1 - 0.05 / 3}
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
        "p_corrected": seen.p,
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
        "smallest_effect": 0.001,
        "effect": seen.mean / 0.001,
        "verdict": verdict,
        "declared": "before",
    }
    return Claim.model_validate({**_pair(name, against, metric, seen), **given, **more})


def runs(names: tuple[str, ...]) -> tuple[RunOutcome, ...]:
    return tuple(
        RunOutcome(variation=name, seed=seed, state="finished", reason=None, run_id=f"{name}-{seed}")
        for name in names
        for seed in range(5)
    )


NAMES = ("Original", "adam_optimizer", "100_epochs", "with_regularizationTerm")
DEEP = Confounder(name="decoder_hidden", kind="parameter", variation=(0,), against=(784,))


SEEN = PublishedDifference(
    variation="100_epochs",
    against="adam_optimizer",
    metric=LOSS,
    published=-0.0002,
    difference=difference(-0.0003, 0.0001),
    chance=0.00038,
)


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
    lost = RunOutcome(
        variation=l1, seed=3, state="diverged", reason="DivergenceError: loss is nan in epoch 7", run_id="x"
    )
    claims = (
        claim(
            "Switching from adadelta to adam significantly improves the loss.",
            Verdict.CONFOUNDED,
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
        PublishedValue(
            variation=original,
            metric=LOSS,
            published=0.4391,
            n=5,
            mean=0.4398,
            low=0.4377,
            high=0.4419,
            reproduced=True,
            commonly_read_as=None,
        ),
        PublishedValue(
            variation=adam,
            metric="first_displayed_loss",
            published=0.3846,
            n=5,
            mean=0.3852,
            low=0.379,
            high=0.391,
            reproduced=True,
            commonly_read_as="first_loss",
            commonly_read_as_mean=0.277,
            commonly_read_as_low=0.274,
            commonly_read_as_high=0.28,
            commonly_read_as_reproduced=False,
        ),
        PublishedValue(
            variation=l1,
            metric=LOSS,
            published=0.0979,
            n=4,
            mean=0.0988,
            low=0.0984,
            high=0.0992,
            reproduced=False,
            commonly_read_as=None,
        ),
    )
    stated = (
        PaperValue(
            variation=l1, parameter="l1", paper_value=1e-5, code_value=1e-4, same=False, alternative=None, values=()
        ),
    )
    given: dict[str, Any] = {
        "kind": "study",
        "title": "published",
        "description": "The four runs of the published study, exactly as they were run.",
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
                smallest_effect=0.001,
            ),
        ),
        "determinism": (
            Determinism(variation=original, seed=0, run_id="a", again_id="b", same=True, compared=20, unequal=()),
        ),
        "checks": (
            Check(kind="best at the edge of the grid", passed=None, applies=False, findings=()),
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
            source="the published study's own output, one run each",
            decimals=4,
            values=figures,
            paper_values=stated,
            differences=(SEEN,),
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
            experiments=("Default",),
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
            requirements_hashes=("b" * 64,),
            data_hashes=("c" * 64,),
            hardware=("a CPU, 2 cores",),
        ),
    }
    return Conclusion.model_validate({**given, **more})


def empty() -> Conclusion:
    nothing: dict[str, Any] = dict.fromkeys(
        (
            "variations",
            "completeness",
            "pairs",
            "claims",
            "noise",
            "determinism",
            "checks",
            "runs",
            "metrics",
            "differing",
            "histories_of",
        ),
        (),
    )
    return sample(kind="groups", description="", baseline=None, metric=None, constant={}, published=None, **nothing)


# --- Numbers and words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.09264, "0.0926"),
        (0.0, "0.0000"),
        (1e-5, "1.00e-05"),
        (-2.5, "\u22122.5000"),
        (-1e-5, "\u22121.00e-05"),
        (NAN, "-"),
        (3e7, "3.00e+07"),
        (math.inf, "inf"),
    ],
)
def test_a_number_for_a_person(value: float, text: str) -> None:
    assert values.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00123, "+0.0012"), (-0.34, "\u22120.3400"), (0.0, "0.0000"), (NAN, "-"), (-1e-6, "\u22121.00e-06")],
)
def test_a_difference_has_a_sign(value: float, text: str) -> None:
    assert values.signed(value) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "p < 0.001"),
        (0.00099, "p < 0.001"),
        (0.001, "p = 0.001"),
        (0.0321, "p = 0.032"),
        (1.0, "p = 1"),
        (NAN, "no p value"),
    ],
)
def test_p_as_it_is_read(p: float, text: str) -> None:
    assert values.p_value(p) == text


def test_lists_and_values_in_words() -> None:
    assert [values.listed("abc"[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert values.listed("abcdef", 3) == "a, b, c and 3 more"
    assert values.listed("abcd", 3) == "a, b, c and d"  # naming it is as short as counting it
    assert [values.seeds_text(s) for s in ((3,), (0, 2), (0, 1, 2, 3), ("x",))] == [
        "seeds: 3",
        "seeds: 0 and 2",
        "seeds: 0 to 3",
        "seeds: x",
    ]
    assert [values.scalar(v) for v in (None, 1e-5, 0.1 + 0.2, 50, True, "a" * 40)] == [
        "none",
        "1e-05",
        "0.30000000000000004",
        "50",
        "True",
        "a" * 12,
    ]


def test_a_metric_of_epochs_has_the_unit_of_its_last_value() -> None:
    assert values.metric_of(sample(), LOSS).label == "last val_loss"
    shown = values.metric_of(sample(), "val_loss")
    assert (shown.label, shown.unit) == ("val_loss", NATS)
    assert (values.metric_of(sample(), "else").label, values.metric_of(sample(), "else").unit) == ("else", "")


def test_a_name_is_one_line_and_turns_nothing_around() -> None:
    assert values.name(" a\n b\x00") == "\u201ca b\u201d"
    assert len(values.name("x" * 10_000)) == 62
    assert values.plain("\u202eabc") == "abc"
    assert values.plain("عربي") == "\u2068عربي\u2069"


# --- Sentences ----------------------------------------------------------------------------------------------------


def judged(verdict: Verdict, mean: float, half: float, **more: Any) -> str:
    return sentences.verdict_sentence(
        claim("It is so.", verdict, "a", "b", BCE, difference(mean, half, 0.01), **more), sample()
    )


def test_a_verdict_and_its_evidence() -> None:
    seen = (
        "In last val_bce, \u201ca\u201d minus \u201cb\u201d is {} nats per pixel ({}corrected p = 0.010, "
        "paired by seed, n = 5)."
    )
    by = "By smallest effect of interest (nats per pixel): "
    one = "the smallest effect of interest (0.001 nats per pixel)"
    lower = seen.format("\u22120.0200 [\u22120.0250, \u22120.0150]", "")
    assert judged(Verdict.SUPPORTED, -0.02, 0.005) == (
        f"{lower} Lower, as claimed, by 20 times {one}. "
        f"{by}supported up to 0.0150, size undecided up to 0.0250, negligible above."
    )
    assert judged(Verdict.UNDECIDED, -0.02, 0.005, smallest_effect=0.016) == (
        f"{lower} Lower, as claimed; by more or by less than the smallest effect of interest (0.016 nats per pixel) is "
        f"not decided. {by}supported up to 0.0150, size undecided up to 0.0250, negligible above."
    )
    assert judged(Verdict.CONTRADICTED, -0.02, 0.005, direction="higher") == (
        f"{lower} The opposite of the claim: lower by 20 times {one}. {by}contradicted up to 0.0250, negligible above."
    )
    larger = seen.format("\u22120.0200 [\u22120.0250, \u22120.0150]", "larger than the smallest effect: ")
    assert judged(Verdict.CONTRADICTED, -0.02, 0.005, direction="equal", test="larger") == (
        f"{larger} Not equivalent: lower by 20 times {one}. "
        f"{by}contradicted up to 0.0150, inconclusive up to 0.0250, supported above."
    )
    small = seen.format("+0.00020 [+0.00010, +0.00030]", "equivalence: ")
    within = f"The whole interval lies within \u00b1{one}"
    assert judged(Verdict.SUPPORTED, 0.0002, 0.0001, direction="equal", test="equivalence") == (
        f"{small} {within}: equivalent, as claimed. "
        f"{by}contradicted up to 0.00010, inconclusive up to 0.00030, supported above."
    )
    assert judged(Verdict.NEGLIGIBLE, 0.0002, 0.0001, test="equivalence") == (
        f"{small} {within}: any difference is smaller; that it is higher is shown. "
        f"{by}contradicted up to 0.00030, negligible above."
    )
    none = judged(Verdict.NEGLIGIBLE, 0.0001, 0.0002, test="equivalence")
    assert none.endswith(f"any difference is smaller. {by}inconclusive up to 0.00030, negligible above.")
    assert judged(Verdict.INCONCLUSIVE, 0.0, 0.005).endswith(
        " Inconclusive: the interval contains both a difference that matters and none. "
        f"{by}inconclusive up to 0.0050, negligible above."
    )
    confounded = judged(Verdict.CONFOUNDED, -0.02, 0.005, confounded_by=(DEEP,))
    assert confounded == f"{lower} No test of the claim: the two sides also differ in decoder_hidden."
    alone = difference(-0.02, 0.005, 0.01, confidence=0.95)  # the only claim: nothing is corrected
    assert values.certainty(pair("a", "b", BCE, alone)) == "p = 0.010, paired by seed, n = 5"


def test_what_chance_makes_of_one_run_and_of_seeds_that_are_not_normal() -> None:
    beats = Beats(probability=0.92, low=0.546, high=0.99)
    claimed = claim("It is so.", Verdict.SUPPORTED, "a", "b", BCE, difference(-0.02, 0.005), beats=beats)
    one_run = "One run of \u201ca\u201d is better than one of \u201cb\u201d with probability 0.92 [0.55, 0.99]."
    before = "Declared before the first run that it is judged on."
    assert sentences.other_notes(claimed) == [one_run, before]
    far = Caveat(kind="not normal", variation="a", seeds=(3,))
    paired = claimed.model_copy(update={"caveats": (far,), "p_permutation": 0.0625})
    assert sentences.other_notes(paired) == [
        "The seeds of \u201ca\u201d are visibly not normal; the farthest off: seeds: 3.",
        "A sign-flip test, which supposes no distribution: p = 0.062, and no less than 0.062 with 5 pairs.",
        one_run,
        before,
    ]
    seen = difference(-0.02, 0.005, n_pairs=0, paired=False)
    unpaired = claimed.model_copy(update={"p_permutation": 0.008, "difference": seen, "beats": None})
    test = "A permutation test, which supposes no distribution: p = 0.008."
    assert sentences.other_notes(unpaired) == [test, before]


def test_when_a_claim_was_declared() -> None:
    conclusion = sample()

    def said(**when: Any) -> tuple[list[str], list[str]]:
        """Names of its own threats, and what else is said of the declaration."""
        claimed = claim("It is so.", Verdict.SUPPORTED, *NAMES[1:3], BCE, difference(-0.02, 0.005), **when)
        notes = [note for note in sentences.other_notes(claimed) if "eclared" in note]
        return [note for note in sentences.notes(claimed, conclusion) if "judged on" in note], notes

    assert said(declared="before") == ([], ["Declared before the first run that it is judged on."])
    assert said(declared=None) == ([], ["Whether it was declared before its runs is not known."])
    late, why = "after the first run that it is judged on", ": who has seen results can choose what to claim."
    assert said(declared="after") == ([f"Declared {late}{why}"], [])
    changed = said(declared="changed", changed=("direction", "smallest_effect"))
    assert changed == ([f"Changed {late} (its direction and its smallest effect){why}"], [])
    after = sample(claims=[each.model_copy(update={"declared": "after"}) for each in conclusion.claims])
    assert [threat.claims for threat in sentences.threats(after) if threat.what == "claimed afterwards"] == [
        (0,),
        (1,),
        (2,),
    ]


def test_what_it_took_and_what_was_tried_beside_it() -> None:
    took = [Effort(state="finished", runs=20, seconds=3780.0), Effort(state="reused", runs=5, seconds=0.0)]
    took += [Effort(state="failed", runs=1, seconds=120.0), Effort(state="killed", runs=2, seconds=NAN)]
    sizes = (50992.0, 50992.0, NAN, 101770.0)
    sized = zip(sample().variations, sizes, strict=True)
    variations = [each.model_copy(update={"model_size": size}) for each, size in sized]
    assert audits.efforts(sample(efforts=took, variations=variations)) == [
        "Runs, with their times from start to end added up: 20 finished (1.1 h), 5 reused, 1 failed (2.0 min), "
        "2 killed.",
        "Numbers that are trained in a model: 50,992 (“Original” and “adam_optimizer”); "
        "101,770 (“with_regularizationTerm”).",
    ]
    assert audits.tried(sample(uncounted=None)) == []
    assert audits.tried(sample(uncounted=())) == ["None: of what was read, no other run of the experiment is finished."]
    other = [
        Uncounted(study="s", name="adam", mean=0.1, run_ids=("a", "b")),
        Uncounted(study=None, name="by hand", mean=NAN, run_ids=("c",)),
    ]
    assert audits.tried(sample(uncounted=other)) == [
        "Finished runs of the experiment that the study does not count: 3.",
        "Study “s”, “adam”: 2; mean last val_loss 0.1000.",
        "“by hand”: 1.",
    ]


def test_what_the_intervals_cover_and_at_which_look() -> None:
    three = "Each interval is one of 98.33 %, so that with 95 % all 3 are right at once."
    assert sentences.interval_notes(sample()) == [three]
    once = sample(claims=sample().claims[:1], varied="first weights")
    alone = once.claims[0].model_copy(update={"difference": difference(-0.3476, 0.0014, confidence=0.95)})
    assert sentences.interval_notes(once.model_copy(update={"claims": (alone,)})) == [
        "The intervals cover what differs between seeds (first weights), and nothing else."
    ]
    assert sentences.interval_notes(sample(looks=1, looks_planned=2))[1:] == [
        "Look 1 at this study, planned: 2; each is judged at 2.5 %."
    ]
    assert sentences.interval_notes(sample(looks=2, looks_planned=2))[1:] == [
        "Look 2 at this study, planned: 2; each is judged at 2.5 %."
    ]
    # 5 % at the first look, which nobody planned to be one of two, and 2.5 % now.
    assert sentences.interval_notes(sample(looks=2))[1:] == [
        "Look 2 at this study, planned: 1; each is judged at 2.5 %.",
        "Earlier looks were judged at more: a false verdict at any look has a chance of up to 7.5 %.",
    ]
    assert sentences.interval_notes(sample(claims=(), pairs=())) == []


def not_judged(n_a: int, n_b: int, metric: str | None = BCE, mean: float = -0.1, **more: Any) -> str:
    seen = difference(mean, NAN, NAN, n_a=n_a, n_b=n_b, n_pairs=0, paired=False)
    return sentences.verdict_sentence(claim("It is so.", Verdict.NOT_JUDGED, "a", "b", metric, seen, **more), sample())


def test_without_a_judgement_it_says_why() -> None:
    chance = "The observed difference, \u22120.1000 nats per pixel, may be chance."
    assert not_judged(1, 5) == f"Only one seed: \u201ca\u201d. {chance}"
    assert not_judged(1, 1) == f"Only one seed: \u201ca\u201d and \u201cb\u201d. {chance}"
    assert not_judged(5, 0, mean=NAN) == "No finished run of \u201cb\u201d has a value of last val_bce."
    absent = "No finished run of one side has a value of last_val_loss."
    assert not_judged(0, 0, None, NAN, why="absent") == absent
    unequal = "last_val_loss is not comparable (it contains the L1 penalty), and there is no metric to use instead."
    assert not_judged(0, 0, None, NAN, why="penalty differs") == unequal
    nothing = pair(
        "a", "b", None, difference(NAN, NAN, NAN, n_a=0, n_b=0, paired=False), why="absent", finding="not judged"
    )
    assert sentences.pair_sentence(nothing, sample()) == f"Not judged: {absent}"
    assert sentences.notes(nothing, sample()) == []  # it is said already
    assert values.seeds_compared(nothing.difference) == "unpaired, n = 0 and 0"


def test_what_is_beside_a_verdict() -> None:
    confounded, inconclusive, penalised = sample().claims
    assert sentences.warnings(confounded, sample()) == ["by decoder_hidden", "learning rate not tuned"]
    as_before = confounded.model_copy(update={"verdict": Verdict.SUPPORTED})  # by code of another version, say
    assert sentences.warnings(as_before, sample()) == ["confounded by decoder_hidden", "learning rate not tuned"]
    assert sentences.warnings(inconclusive, sample()) == []
    assert sentences.warnings(penalised, sample()) == ["last val_loss not comparable", "runs not finished: 1"]
    assert sentences.notes(inconclusive, sample()) == []
    assert sentences.notes(confounded, sample()) == [
        "The two sides also differ in decoder_hidden (0 against 784), which may explain the difference.",
        "Not shown to be tuned (the best of three or more tried, and not the first or last of them): the learning rate "
        "of adam (0.001) and adadelta (0.001); this also compares that choice.",
        "\u201cOriginal\u201d collapsed to nearly the same picture for every input (seeds: 0 to 4).",
    ]
    before = "Declared before the first run that it is judged on."
    assert sentences.other_notes(confounded) == [before]  # all else is among the threats
    rising = Caveat(kind="flag", variation="Original", flag="not converged", seeds=(1, 2))
    assert sentences.other_notes(confounded.model_copy(update={"caveats": (rising,)})) == [
        "\u201cOriginal\u201d was still improving at its last epoch (seeds: 1 and 2).",
        before,
    ]
    incomparable, *others = sentences.notes(penalised, sample())
    assert incomparable == (
        "Last val_loss is not comparable (it contains the L1 penalty, of strength 0.0001 against 0); last val_bce is "
        "used. In last val_loss, the difference would read +0.0066 [+0.0061, +0.0071] nats per pixel."
    )
    assert [*others, before] == sentences.other_notes(penalised)
    assert others == [
        "Left out, because only one side has them (seeds: 3).",
        "Runs that did not finish and could have changed this: \u201cwith_regularizationTerm\u201d, "
        "seed 3: diverged (DivergenceError: loss is nan in epoch 7).",
    ]


def test_the_answer_comes_first() -> None:
    claims = sample().claims
    assert (
        sentences.summary(sample())[0]
        == "Claims: 1 of 3 supported; 1 of 3 inconclusive; 1 of 3 confounded (by decoder_hidden)."
    )
    assert sentences.summary(sample(claims=claims[:1]))[0] == "Claims: 1 of 1 confounded (by decoder_hidden)."
    assert sentences.summary(sample(claims=claims[1:2]))[0] == "Claims: 1 of 1 inconclusive."
    assert (
        sentences.summary(sample(claims=claims[::2]))[0]
        == "Claims: 1 of 2 supported; 1 of 2 confounded (by decoder_hidden)."
    )
    assert (
        sentences.summary(sample(claims=claims[:2]))[0]
        == "Claims: 1 of 2 inconclusive; 1 of 2 confounded (by decoder_hidden)."
    )
    assert sentences.summary(sample())[1:] == [
        "Lowest last val_loss: \u201c100_epochs\u201d, 0.0919 [0.0913, 0.0925] nats per pixel (n = 5).",
        "Planned runs not finished: 1 of 20.",
        "Flagged: \u201cOriginal\u201d (collapsed and not converged).",
    ]
    assert sentences.summary(sample(metric=PSNR))[1].startswith(
        "Highest PSNR: \u201c100_epochs\u201d, 21.00 [20.94, 21.06] dB"
    )


def test_claims_that_cannot_be_judged() -> None:
    blind = sample().claims[1].model_copy(update={"verdict": Verdict.NOT_JUDGED})
    assert sentences.summary(sample(claims=(blind,)))[0] == "Claims: 1 of 1 not judged."
    assert sentences.summary(sample(claims=(blind, blind)))[0] == "Claims: 2 of 2 not judged."
    waiting = tuple(each.model_copy(update={"finished": 0, "cells": (), "flags": ()}) for each in sample().variations)
    assert sentences.summary(sample(variations=waiting)) == ["No run has finished yet: there is nothing to conclude."]


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        (["lower"] * 2, "2 (lower: 2)"),
        (["higher"] * 3, "3 (higher: 3)"),
        (["no difference shown"] * 3, "3 (no difference shown: 3)"),
        (["not judged"] * 3, "3 (not judged: 3)"),
        (["lower", "no difference shown", "not judged"], "3 (lower: 1, no difference shown: 1, not judged: 1)"),
        (["higher"] * 2 + ["not judged"] * 1002, "1,004 (higher: 2, not judged: 1,002)"),
    ],
)
def test_how_many_differ(findings: list[str], said: str) -> None:
    pairs = tuple(pair(f"v{n}", "base", LOSS, difference(1, 0.1), finding=each) for n, each in enumerate(findings))
    first = sentences.summary(sample(claims=(), pairs=pairs, baseline="base"))[0]
    assert first == f"Variations compared with \u201cbase\u201d in last val_loss: {said}."


def test_without_claims_the_differences_are_the_answer() -> None:
    pairs = [
        pair(name, "Original", LOSS, difference(mean, 0.01, p))
        for name, mean, p in (("x", -1, 0.01), ("y", 1, 0.01), ("z", 0, 1))
    ]
    first = sentences.summary(sample(claims=(), pairs=pairs))[0]
    assert first == (
        "Variations compared with \u201cOriginal\u201d in last val_loss: 3 (lower: 1, higher: 1, no difference shown: "
        "1)."
    )
    singly = sentences.summary(sample(claims=(), pairs=pairs[:1]))[0]
    assert singly == (
        "\u201cx\u201d is lower than \u201cOriginal\u201d in last val_loss: \u22121.0000 [\u22121.0100, \u22120.9900] "
        "nats per pixel (corrected p = 0.010, paired by seed, n = 5)."
    )
    singly = sentences.summary(sample(claims=(), pairs=pairs[2:]))[0]
    assert singly.startswith("\u201cz\u201d shows no difference from \u201cOriginal\u201d in last val_loss: 0.0000 [")
    assert sentences.summary(sample(claims=(), pairs=()))[0] == "Variations: 4; comparisons: none."
    assert (
        sentences.summary(sample(claims=(), pairs=(), variations=sample().variations[1:2]))[0]
        == "Variations: 1; comparisons: none."
    )
    assert sentences.summary(empty()) == ["No run has finished yet: there is nothing to conclude."]


def test_what_became_of_the_runs() -> None:
    def said(completeness: tuple[RunOutcome, ...]) -> list[str]:
        return audits.completeness_sentences(sample(completeness=completeness))

    finished, lost = sample().completeness[:2], sample().completeness[-1]
    assert said(finished) == ["Planned runs finished: 2 of 2."]
    assert said(finished[:1]) == ["Planned runs finished: 1 of 1."]
    assert said(()) == ["Planned runs finished: 0 of 0."]
    fate = "\u201cwith_regularizationTerm\u201d, seed 3: diverged (DivergenceError: loss is nan in epoch 7)."
    assert said((*finished, lost)) == ["Planned runs finished: 2 of 3 (diverged: 1).", fate]
    assert said((lost,)) == ["Planned runs finished: 0 of 1 (diverged: 1).", fate]
    both = "Planned runs finished: 0 of 2 (diverged: 2)."
    assert said((lost, lost)) == [both, fate, fate]
    stray = sample().runs[0].model_copy(update={"variation": None, "used": False})
    unplanned = sample(completeness=finished, kind="groups", runs=(stray,))
    assert audits.completeness_sentences(unplanned) == [
        "Repetitions finished: 2 of 2.",
        "Runs in no variation: 1.",
        f"Not in the table: run 0, seed 0 ({stray.run_id}): no reason known.",
    ]
    alike = f"run 0, seed 0 ({stray.run_id})"
    assert audits.left_out(sample(runs=(stray,) * 102)) == [
        "Runs in no variation: 102.",
        f"Not in the table: {alike}, {alike}, {alike} and 99 more: no reason known.",
    ]
    unlike = (stray.model_copy(update={"reason": f"reason {n}"}) for n in range(102))
    many = audits.left_out(sample(runs=tuple(unlike)))
    assert (many[0], many[-1], len(many)) == ("Runs in no variation: 102.", "And 2 more, in conclusion.json.", 102)
    assert audits.left_out(sample()) == []
    extra = finished[0].model_copy(update={"planned": False})
    assert said((*finished, extra))[1:] == ["Runs that were read and are not in the plan: 1."]
    assert said((*finished, extra, extra))[1:] == ["Runs that were read and are not in the plan: 2."]


def test_flags_name_the_seeds() -> None:
    original = sample().variations[0]
    collapsed, rising = original.flags

    def said(flag: Flag, **more: Any) -> str:
        return sentences.flag_sentence(original, flag.model_copy(update=more), sample())

    collapse = (
        "\u201cOriginal\u201d collapsed to nearly the same picture for every input (collapse: 0.0003 at worst); {}."
    )
    assert said(collapsed) == collapse.format("seeds: 5 of 5")
    assert said(collapsed, seeds=(3,), of=1) == collapse.format("seeds: 1 of 1")
    assert said(collapsed, seeds=(), runs=5) == collapse.format("runs: 5 of 5")
    assert said(collapsed, seeds=(3,), runs=2) == collapse.format("runs: 2 of 5")  # of one the seed is not known
    improving = "\u201cOriginal\u201d was still improving at its last epoch (val_loss); seeds: {}."
    assert said(rising) == improving.format("2 of 5 (1 and 2)")
    assert said(rising, seeds=(4,)) == improving.format("1 of 5 (4)")
    clean = sample(variations=sample().variations[1:2], histories_of=NAMES[1:2])
    assert dict(audits.audits(clean))["Flags"] == [
        "None: no collapse, dead units or non-finite losses in what was read."
    ]
    unread = dict(audits.audits(sample(histories_of=NAMES[:1])))["Flags"][-1]
    assert unread == "Not known to have converged, as their epochs were not read: 3 of 4 variations."


def test_chance_and_determinism() -> None:
    (noise,), (same,) = sample().noise, sample().determinism
    chance = (
        "In last val_loss, chance alone makes two groups of seeds of \u201cOriginal\u201d (n = 5 and 5) differ by less "
        "than {} nats per pixel in 95 % of cases; observed: \u22120.0002."
    )
    effect = "the smallest effect of interest (0.001 nats per pixel)"
    assert audits.noise_sentence(noise, sample()) == (f"{chance.format('0.0008')} The noise floor is below {effect}.")
    loud = noise.model_copy(update={"limit": 0.005})
    assert audits.noise_sentence(loud, sample()) == f"{chance.format('0.0050')} The noise floor is not below {effect}."
    assert audits.noise_sentence(noise.model_copy(update={"smallest_effect": NAN}), sample()) == chance.format("0.0008")
    assert audits.noise_sentence(noise.model_copy(update={"limit": NAN}), sample()).startswith(
        "In last val_loss, unknown: too few values"
    )

    none = noise.model_copy(update={"limit": 0.0, "observed": 0.0})
    same_seeds = "In last val_loss, the seeds of \u201cOriginal\u201d do not differ: the noise floor is 0."
    assert audits.noise_sentence(none, sample()) == same_seeds
    unlucky = audits.noise_sentence(noise.model_copy(update={"observed": 0.0009, "smallest_effect": NAN}), sample())
    assert unlucky.endswith("observed: +0.0009, which is more.")

    run = "Seed 0 of \u201cOriginal\u201d, run twice: metrics identical to the last digit:"
    assert audits.determinism_sentence(same, sample()) == f"{run} 20 of 20."
    unequal = same.model_copy(update={"same": False, "unequal": (Unequal(metric="loss", first=0.1, again=0.2),)})
    assert audits.determinism_sentence(unequal, sample()) == f"{run} 19 of 20; different: loss (0.1 and 0.2)."
    unknown = same.model_copy(update={"same": None})
    assert ": unknown, as one of the two" in audits.determinism_sentence(unknown, sample())
    silent = dict(audits.audits(sample(noise=(), determinism=())))
    assert silent["Determinism check"] == ["Unknown: no run was repeated with the same seed."]
    assert "Determinism check" not in dict(audits.audits(sample(noise=(), determinism=(), kind="groups")))


def test_checks_of_a_good_study() -> None:
    edge = Check(
        kind="best at the edge of the grid",
        passed=False,
        findings=(Finding(parameter="l1", value=1e-4, tried=(0.0, 1e-5, 1e-4), metric=BCE),),
    )
    chosen = Check(
        kind="selected on the reported data",
        passed=False,
        findings=(
            Finding(parameter="l1", value=0.0, tried=(0.0, 1e-4), metric=BCE),
            Finding(variation="a", metric=BCE),
        ),
    )
    assert audits.check_sentence(edge, sample()) == (
        "Best at the edge of the grid: failed: the best last val_bce is at l1 = 0.0001, the edge of the values tried "
        "(0, 1e-05 and 0.0001): a better one may lie beyond."
    )
    assert audits.check_sentence(chosen, sample()) == (
        "Selected on the reported data: failed: of 0 and 0.0001, l1 = 0 has the best last val_bce on the data that is "
        "reported: choosing and reporting on the same data makes this figure optimistic. "
        "\u201ca\u201d was chosen for its last val_bce on the data that is reported: choosing and reporting on the "
        "same data makes this figure optimistic."
    )
    assert dict(audits.audits(sample()))["Design checks"] == [
        "Best at the edge of the grid: does not apply: no numeric parameter has more than two values tried with all "
        "else equal.",
        "Untuned learning rate: failed: see \u201clearning rate not tuned\u201d under Threats to validity.",
        "Still improving at the last epoch: failed: see Flags.",
        "Selected on the reported data: passed: nothing was selected on the data that is reported.",
    ]


@pytest.mark.parametrize(
    ("kind", "no_case", "untold"),
    [
        ("best at the edge of the grid", "no numeric parameter has more than two values", "no finished run has"),
        (
            "untuned learning rate",
            "no two variations that are compared differ",
            "the runs that are compared do not say",
        ),
        ("still improving at the last epoch", "each run has one epoch.", "no losses by epoch were read."),
        ("selected on the reported data", "of no parameter were several values tried", "the runs do not say on which"),
    ],
)
def test_a_check_without_an_answer_says_which_of_the_two_and_why(kind: str, no_case: str, untold: str) -> None:
    for applies, outcome, why in ((False, "does not apply", no_case), (True, "unknown", untold)):
        check = Check.model_validate({"kind": kind, "passed": None, "applies": applies, "findings": ()})
        (said,) = dict(audits.audits(sample(checks=(check,))))["Design checks"]
        assert said.startswith(f"{kind.capitalize()}: {outcome}: {why}")


def test_what_is_among_the_threats_is_not_said_once_more() -> None:
    sections = dict(audits.audits(sample()))
    told = " ".join(threat.why for threat in sentences.threats(sample()))
    assert "\u201cOriginal\u201d collapsed to nearly the same picture" in told
    assert sections["Flags"] == [
        "\u201cOriginal\u201d was still improving at its last epoch (val_loss); seeds: 2 of 5 (1 and 2)."
    ]


def test_against_published_figures() -> None:
    published = sample().published
    assert published is not None
    yes, taken, no = published.values
    unjudged = no.model_copy(update={"reproduced": None})
    assert publications.published_sentence(published.values) == "Published values reproduced: 2 of 3."
    assert publications.published_sentence((yes, taken)) == "Published values reproduced: 2 of 2."
    assert publications.published_sentence((no, no)) == "Published values reproduced: 0 of 2."
    assert publications.published_sentence((no,)) == "Published values reproduced: 0 of 1."
    assert (
        publications.published_sentence((yes, no, unjudged))
        == "Published values reproduced: 1 of 2; not judged, for too few seeds: 1."
    )
    assert publications.published_sentence((unjudged, unjudged)) == (
        "Published values reproduced: 0 of 0; not judged, for too few seeds: 2."
    )
    assert publications.published_sentence(()) == "Published values reproduced: 0 of 0."
    assert publications.misread_sentence(yes, sample()) == ""
    assert (
        publications.misread_sentence(taken, sample())
        == "Read as first loss, ours is 0.2770 [0.2740, 0.2800]: not reproduced."
    )
    said = (
        "The paper states l1 = 1e-05 for \u201cwith_regularizationTerm\u201d; its code ran with 0.0001, 10 times that. "
        "Published values reproduced with the code's value: 0 of 1; with the paper's value"
    )
    (stated,) = published.paper_values
    assert publications.stated_sentence(stated, published) == f"{said}: unknown (no run has it)."
    other = stated.model_copy(update={"alternative": "l1 as printed", "values": (yes, no)})
    assert publications.stated_sentence(other, published) == f"{said}, \u201cl1 as printed\u201d: 1 of 2."
    blind = stated.model_copy(update={"alternative": "x", "values": (unjudged,)})
    assert publications.stated_sentence(blind, published).endswith("\u201cx\u201d: 0 of 0.")


def test_what_the_numbers_are() -> None:
    same = "The same in every variation: batch_size 256, dataset mnist, encoding_dim 32 and learning_rate 0.001."
    assert sentences.table_notes(sample()) == [
        "Means over the seeds [95 % confidence interval of the mean].",
        same,
    ]
    once = variation("a", 1, 1, 1).model_copy(update={"cells": (cell(LOSS, 0.1, NAN, 1),)})
    assert sentences.table_notes(sample(variations=(once,))) == ["One seed each: no interval.", same]
    assert sentences.table_notes(empty()) == []


def test_a_figure_that_is_taken_for_another() -> None:
    published = sample().published
    assert published is not None
    taken = published.values[1]
    both = taken.model_copy(update={"commonly_read_as_reproduced": True})
    assert publications.misread_summary((taken,), sample()) == (
        "Published values commonly read as first loss, but in fact first displayed loss: 1; reproduced as first "
        "displayed loss: 1 of 1, as first loss: 0 of 1."
    )
    assert publications.misread_summary((taken, both), sample()) == (
        "Published values commonly read as first loss, but in fact first displayed loss: 2; reproduced as first "
        "displayed loss: 2 of 2, as first loss: 1 of 2."
    )
    blind = taken.model_copy(update={"reproduced": None, "commonly_read_as_reproduced": None})
    assert publications.misread_summary((blind,), sample()).endswith("; reproduced: unknown, for too few seeds.")


def test_a_published_difference_beside_what_chance_makes() -> None:
    ours = (
        "In last val_loss, \u201c100_epochs\u201d minus \u201cadam_optimizer\u201d is \u22120.00030 [\u22120.00040, "
        "\u22120.00020] nats per pixel (paired by seed, n = 5); published, from one run each: \u22120.0002."
    )
    moves = "Chance alone moves the difference of two single runs by up to"

    def said(**more: Any) -> str:
        return publications.chance_sentence(SEEN.model_copy(update=more), sample(), 4)

    assert said() == f"{ours} {moves} 0.00038, more than that."
    assert said(chance=0.0001) == f"{ours} {moves} 0.00010, less than that."
    assert said(chance=NAN) == f"{ours} We have too few seeds to say how far chance moves it."


def test_what_was_not_fair_in_few_words() -> None:
    published = sample().published
    assert published is not None
    small, large = SEEN, SEEN.model_copy(update={"published": -0.35})
    found = sentences.threats(sample(published=published.model_copy(update={"differences": (small, large)})))
    assert [(what, claims) for what, _, claims in found] == [
        ("confounded", (0,)),
        ("learning rate not tuned", (0,)),
        ("metric not comparable", (2,)),
        ("collapsed", (0,)),
        ("figure is another metric than it seems", ()),
        ("paper and code disagree", ()),
        ("one run each", ()),  # the other is larger than chance makes it
    ]
    said = {what: why for what, why, _ in found}
    assert said["confounded"] == (
        "\u201cadam_optimizer\u201d against \u201cOriginal\u201d: the two sides also differ in decoder_hidden (0 "
        "against 784), which may explain the difference."
    )
    assert said["metric not comparable"].endswith(
        "In last val_loss, the difference would read +0.0066 [+0.0061, +0.0071] nats per pixel."
    )
    assert said["one run each"] == publications.chance_sentence(small, sample(), 4)
    assert sentences.threats(empty()) == []
    unequal = pair("x", "Original", LOSS, difference(1, 0.1), confounded_by=(DEEP,))
    many = sentences.threats(sample(claims=(), pairs=(unequal,) * 130, published=None, variations=()))
    assert (len(many), many[-1]) == (101, ("more", "And 30 more, in conclusion.json.", ()))


def rated(optimizer: str, rate: float) -> Variation:
    named = variation(f"{optimizer} {rate}", 1, 1, 1)
    return named.model_copy(update={"params": {"optimizer": optimizer, "learning_rate": rate}})


def remains(*others: Claim, here: float = -0.5) -> list[str]:
    first = claim("It is.", Verdict.SUPPORTED, "adam 0.001", "sgd 0.001", BCE, difference(here, 0.1))
    first = first.model_copy(update={"at_better_rates": tuple(range(1, 1 + len(others)))})
    sides = tuple(rated(*side) for side in (("adam", 0.001), ("sgd", 0.001), ("sgd", 1.0), ("adam", 0.1)))
    return sentences.remains(first, sample(claims=(first, *others), variations=sides))


def test_what_remains_at_better_learning_rates() -> None:
    other = claim("So it is.", Verdict.SUPPORTED, "adam 0.001", "sgd 1.0", BCE, difference(-0.01, 0.001))
    said = (
        "With sgd at learning rate 1 instead of 0.001, \u201cadam 0.001\u201d minus \u201csgd 1.0\u201d is "
        "\u22120.0100 [\u22120.0110, \u22120.0090] nats per pixel in last val_bce{}; the claim about that, "
        "\u201cSo it is\u201d, is {}."
    )
    assert remains() == []
    assert remains(other) == [said.format(", 2 % of the difference here", "supported")]
    turned = difference(0.01, 0.001)
    against = other.model_copy(update={"difference": turned, "verdict": Verdict.CONTRADICTED})
    assert (
        ", in the opposite direction; the claim about that, \u201cSo it is\u201d, is contradicted."
        in remains(against)[0]
    )
    swapped = against.model_copy(update={"variation": "sgd 1.0", "against": "adam 0.001"})
    assert "\u201csgd 1.0\u201d minus \u201cadam 0.001\u201d is +0.0100 " in remains(swapped)[0]
    assert ", 2 % of the difference here;" in remains(swapped)[0]
    assert "in last val_loss; the claim" in remains(other.model_copy(update={"metric": LOSS}))[0]  # nothing to divide
    assert remains(other, here=0.0) == [said.format("", "supported")]
    both = other.model_copy(update={"variation": "adam 0.1", "says": "Both"})
    assert [each.split(",")[0] for each in remains(other, both)] == [
        "With sgd at learning rate 1 instead of 0.001",
        "With adam at learning rate 0.1 instead of 0.001 and sgd at learning rate 1 instead of 0.001",
    ]
    assert sentences.warnings(other, sample()) == []
    assert sentences.warnings(other.model_copy(update={"at_better_rates": (0,)}), sample()) == [
        "learning rate not tuned"
    ]


def test_pictures_that_cannot_be_read() -> None:
    unread = (
        "No picture of \u201ca\u201d and \u201cb\u201d could be read: the runs logged none, or the artifact store does "
        "not give it."
    )
    assert sentences.pictures_sentences(sample()) == []
    assert sentences.pictures_sentences(sample(without_pictures=("a", "b"))) == [unread]
    both = sample(without_pictures=("a", "b", "c"), unused_pictures={"c": "it is too large"})
    assert sentences.pictures_sentences(both) == [
        "The picture of \u201cc\u201d was not used in the grid: it is too large.",
        unread,
    ]


TRAINING = Metric(
    name="training_seconds",
    label="training",
    unit="s",
    decimals=1,
    higher_is_better=False,
    shown=True,
    compared=False,
    least=0.0,
    wall_time=True,
)


def test_an_interval_ends_where_the_metrics_values_do() -> None:
    share = METRICS[0].model_copy(update={"unit": "", "least": 0.0, "most": 1.0})
    assert values.cell_text(cell("training_seconds", 39.3, 45.0), TRAINING) == ("39.3", "[0.0, 95.2]")
    assert values.cell_text(cell(LOSS, 39.3, 45.0), METRICS[0])[1].startswith("[\u221216.")  # nothing is known
    assert values.cell_text(cell("share", 0.9, 0.2), share)[1].endswith(", 1.0000]")
    assert values.cell_text(cell("share", 0.1, 0.2), share)[1].startswith("[0.0000, ")
    assert values.cell_text(cell("share", 0.1, NAN, 1), share) == ("0.1000", "")  # no interval stays none
    assert values.ours_text(0.9, 0.7, 1.1, share) == "0.9000 [0.7000, 1.0000]"
    assert values.difference_text(difference(0.5, 0.8), share) == "+0.5000 [\u22120.3000, +1.0000]"
    assert values.difference_text(difference(5.0, 8.0), TRAINING) == "+5.0 [\u22123.0, +13.0] s"


def test_wall_time_is_no_finding() -> None:
    timed = tuple(
        each.model_copy(update={"cells": (*each.cells, cell("training_seconds", 10.0 + n))})
        for n, each in enumerate(sample().variations)
    )
    conclusion = sample(metrics=(*METRICS, TRAINING), variations=timed, metric="training_seconds", pairs=())
    assert not any("Lowest" in sentence for sentence in sentences.summary(conclusion))
    said = "Wall time (training) depends on the machine's load and is not evidence."
    assert said in sentences.table_notes(conclusion)
    assert sentences.wall_times(METRICS) == []
    claimed = claim("Faster.", Verdict.NOT_JUDGED, "a", "b", None, difference(NAN, NAN, NAN), why="wall time")
    claimed = claimed.model_copy(update={"asked": "training_seconds"})
    assert sentences.verdict_sentence(claimed, conclusion) == (
        "training_seconds is a wall time, which depends on the machine's load."
    )
    assert sentences.warnings(claimed, conclusion) == ["wall time is not evidence"]


def test_the_best_of_equals_is_none() -> None:
    alike = tuple(variation(name, 0.1, 0.1, 20.0) for name in "ab")
    assert values.best_of(sample(variations=alike), METRICS[0]) is None
    best = values.best_of(sample(), METRICS[0])
    assert best is not None
    assert best[0].name == "100_epochs"
