"""Studies of runs that exist, the step at which a metric is read, and defaults of parameters that appeared later."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import jsonschema  # type: ignore[import-untyped]
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.entities import Metric, Param

from pipeline.compare import run as compare
from pipeline.compare import steps, verify
from pipeline.compare.__main__ import main
from pipeline.compare.conclusion import Conclusion
from pipeline.compare.options import Options
from pipeline.compare.report import sentences
from pipeline.errors import UserError
from pipeline.study import files
from pipeline.study.existing import StudyOfRuns
from tests.conftest import copy_store

PEAKS = {"adam": (6, 0.93, "1e-3"), "sgd": (14, 0.91, "0.01"), "rmsprop": (9, 0.90, "0.001")}
EPOCHS, SEEDS = 15, 6

STUDY = """\
name: which-optimizer
description: Runs that our team made in March.
runs:
  experiments: [mine, team/mine 2]
  filter: "params.model = 'resnet18'"
  repetitions: seed
metrics:
  val_acc: {better: higher}
variations:
  - {name: adam, where: {optimizer: adam, lr: 0.001}}
  - {name: sgd, where: {optimizer: sgd}}
claims:
  - says: adam beats sgd
    variation: adam
    against: sgd
    about: [optimizer, lr]
    metric: val_acc
    direction: higher
    smallest_effect: 0.005
"""


def curve(optimizer: str, seed: int) -> list[float]:
    """Of the accuracy: highest at an epoch that is each optimizer's own."""
    peak, top, _ = PEAKS[optimizer]
    chance = random.Random(f"{optimizer} {seed}")
    return [top - 0.004 * abs(epoch - peak) + chance.gauss(0, 0.001) for epoch in range(1, EPOCHS + 1)]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A store with two experiments, of which the later one's runs have a parameter more."""
    folder = tmp_path_factory.mktemp("mine")
    client = mlflow.MlflowClient(copy_store(empty_store, folder))
    for name, seeds in (("mine", range(3)), ("team/mine 2", range(3, SEEDS))):
        experiment = client.create_experiment(name)
        for optimizer, (_, _, rate) in PEAKS.items():
            for seed in seeds:
                more = {"dropout": "0.1"} if seed >= 3 else {}
                params = {"optimizer": optimizer, "lr": rate, "model": "resnet18", "seed": str(seed), **more}
                make(client, experiment, f"{optimizer}-{seed}", params, {"val_acc": curve(optimizer, seed)})
    make(client, "0", "elsewhere", {"optimizer": "adam", "lr": "1e-3", "model": "resnet18"}, {"val_acc": [0.1]})
    return folder / "store.db"


@pytest.fixture
def mine(store: str, made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The same as the test's own; returns the folder, the current one."""
    copy_store(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(
    client: mlflow.MlflowClient,
    experiment: str,
    name: str,
    params: dict[str, str],
    metrics: Mapping[str, Sequence[float]],
    tags: dict[str, str] | None = None,
    status: str = "FINISHED",
) -> str:
    run_id = str(client.create_run(experiment, run_name=name, tags=tags or {}).info.run_id)
    points = [Metric(key, v, 1, step) for key, values in metrics.items() for step, v in enumerate(values, 1)]
    client.log_batch(run_id, points, [Param(key, value) for key, value in params.items()])
    client.set_terminated(run_id, status)
    return run_id


def judged(text: str, **options: str) -> Conclusion:
    Path("mine.yaml").write_text(text)
    compare.compare(Options(study="mine.yaml", out=Path("out"), **{"format": "json", **options}))
    return verify.read_conclusion("out/conclusion.json")


def refused(text: str, **options: str) -> str:
    with pytest.raises(UserError) as error:
        judged(text, **options)
    return str(error.value)


def differences(at: int | None) -> list[float]:
    """adam minus sgd, seed by seed, at a step or at each side's best."""

    def value(optimizer: str, seed: int) -> float:
        values = curve(optimizer, seed)
        return max(values) if at is None else values[at - 1]

    return [value("adam", seed) - value("sgd", seed) for seed in range(SEEDS)]


# --- A study of runs that exist -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("mine")
def test_a_study_of_runs_that_exist_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    conclusion = judged(STUDY)
    (claim,) = conclusion.claims
    assert claim.verdict == "contradicted"  # the last epoch
    assert claim.difference.mean == pytest.approx(mean(differences(EPOCHS)))
    assert (claim.difference.paired, claim.difference.n_pairs) == (True, SEEDS)
    assert claim.confounded_by == ()
    assert claim.declared is None  # a file of today says nothing of when it was written
    assert (conclusion.title, conclusion.metric, conclusion.baseline) == ("which-optimizer", "val_acc", "adam")
    assert [(each.name, each.finished, each.params) for each in conclusion.variations] == [
        ("adam", SEEDS, {"optimizer": "adam", "lr": "1e-3"}),
        ("sgd", SEEDS, {"optimizer": "sgd", "lr": "0.01"}),
    ]
    assert conclusion.provenance.experiments == ("mine", "team/mine 2")
    assert conclusion.provenance.command.endswith("--study mine.yaml")
    assert "Claims: 1 of 1 contradicted." in capsys.readouterr().out
    left = [run for run in conclusion.runs if run.variation is None]
    assert {run.reason for run in left} == {"it fits no variation of the study"}
    assert len(left) == SEEDS  # those of rmsprop; the other experiment was not read
    assert {run.experiment_id for run in conclusion.runs} == {"1", "2"}
    assert verify.verify(conclusion) == []


@pytest.mark.usefixtures("mine")
def test_nothing_in_the_store_is_changed() -> None:
    def content() -> list[tuple[str, ...]]:
        runs = mlflow.MlflowClient().search_runs(["0", "1", "2"], max_results=1000)
        return sorted((run.info.run_id, str(run.data.to_dictionary()), run.info.status) for run in runs)

    before = content()
    judged(STUDY)
    assert content() == before


@pytest.mark.usefixtures("mine")
def test_what_changes_is_found_by_verify() -> None:
    conclusion = judged(STUDY)
    client = mlflow.MlflowClient()
    adam = next(run for run in conclusion.runs if run.variation == "adam")
    client.delete_run(adam.run_id)
    assert verify.verify(conclusion)[0].startswith("vanished: adam, seed ")
    client.restore_run(adam.run_id)
    (claim,) = conclusion.claims
    edited = conclusion.model_copy(update={"claims": (claim.model_copy(update={"smallest_effect": 0.5}),)})
    assert any("claims[0].smallest_effect says 0.5" in line for line in verify.verify(edited))


@pytest.mark.usefixtures("mine")
def test_a_claim_is_confounded_by_what_it_is_not_about() -> None:
    conclusion = judged(STUDY.replace("about: [optimizer, lr]", "about: [optimizer]"))
    (claim,) = conclusion.claims
    assert claim.verdict == "confounded"
    assert [other.name for other in claim.confounded_by] == ["lr"]


@pytest.mark.usefixtures("mine")
def test_values_are_those_of_the_texts() -> None:
    """`1e-3` and 0.001 are one number, several values are allowed, null is none, a tag counts, too."""
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("texts")
    for seed in range(2):
        for augment, layers, team in (("True", "[64, 32]", "a"), ("False", "[64]", "b"), ("None", "[8]", "a")):
            params = {"augment": augment, "layers": layers, "seed": str(seed)}
            make(client, experiment, "r", params, {"val_acc": [0.5 + seed / 10]}, {"team": team})
    text = """
name: t
description: d
runs: {experiments: texts}
metrics: {val_acc: }
variations:
  - {name: augmented, where: {augment: true, layers: "[64, 32]"}}
  - {name: plain, where: {augment: [false, null], layers: ["[64]", "[8]"], tags.team: [a, b]}}
"""
    conclusion = judged(text)
    assert {each.name: each.finished for each in conclusion.variations} == {"augmented": 2, "plain": 4}
    assert conclusion.variations[1].params["augment"] == "None or False"
    assert {each.name: each.finished for each in judged(text.replace("[a, b]", "b")).variations}["plain"] == 2


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "lr: 0.001",
            "lr: 0.1",
            r"variations\[0\].where: no run fits 'adam' \(optimizer: adam, lr: 0.1\); the runs have "
            r"optimizer: \w+ \(6\), \w+ \(6\), \w+ \(6\); lr: \S+ \(6\), \S+ \(6\), \S+ \(6\)",
        ),
        (
            "{optimizer: sgd}",
            "{optimiser: sgd}",
            r"variations\[1\].where.optimiser: no run has it, did you mean 'optimizer'\?; there are ",
        ),
        ("{optimizer: sgd}", "{model: resnet18}", r"variations: the run \w{32} fits 'adam', 'sgd'; narrow one's where"),
        (
            "metric: val_acc",
            "metric: val_loss",
            r"claims\[0\].metric: no finished run of a variation has a value of 'val_loss'; there are val_acc",
        ),
        (
            "  val_acc: {better",
            "  val_ac: {better",
            r"metrics.val_ac: no finished run of a variation has a value of 'val_ac', did you mean 'val_acc'\?",
        ),
        (
            "[optimizer, lr]",
            "[optimizer, rate]",
            r"claims\[0\].about: no run has the parameter 'rate'; there are .*dropout",
        ),
        ("repetitions: seed", "repetitions: sed", r"repetitions='sed' is a parameter or a tag of no run, did you mean"),
        ("[mine, team/mine 2]", "[mine, yours]", r"experiment='yours' does not exist"),
        ("'resnet18'", "'resnet19'", r"no run matches; look at runs.experiments and runs.filter of the study"),
    ],
)
def test_what_no_run_fits_is_an_error_that_says_what_the_runs_have(old: str, new: str, says: str) -> None:
    assert re.search(says, refused(STUDY.replace(old, new)))
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("better: higher", "better: hihger", "line 8: metrics.val_acc.better = hihger: should be 'lower' or 'higher'"),
        ("{better: higher}", "{at: 3.5}", "line 8: metrics.val_acc.at = 3.5: allowed: last, best, or a step"),
        ("name: sgd", "name: adam", "line 11: variations[1]: two are called 'adam'"),
        ("against: sgd", "against: sdg", "line 15: claims[0].against = sdg: there is no such variation, did you mean"),
        ("where: {optimizer: sgd}", "changes: {optimizer: sgd}", "line 11: variations[1].where: is missing"),
        ("filter:", "filtr:", "line 5: runs.filtr = \"params.model = 'resnet18'\": there is no such key, did you mean"),
        ("{optimizer: sgd}", "{}", "line 11: variations[1].where: "),
        ("{optimizer: sgd}", "{optimizer: {a: b}}", "line 11: variations[1].where.optimizer"),
        ("smallest_effect: 0.005", "smallest_effect: 0", "line 19: claims[0].smallest_effect = 0: "),
    ],
)
def test_a_mistake_in_the_file_has_its_line(old: str, new: str, says: str) -> None:
    assert old in STUDY
    with pytest.raises(UserError) as error:
        files.parse_any(STUDY.replace(old, new), "mine.yaml")
    assert str(error.value).startswith(f"mine.yaml, {says}"), error.value


def test_the_schema_covers_it() -> None:
    schema = jsonschema.Draft202012Validator(json.loads(files.json_schema()))
    content = yaml.safe_load(STUDY)
    assert schema.is_valid(content)
    assert not schema.is_valid({**content, "seeds": 3})  # they are there, or they are not
    assert not schema.is_valid({**content, "variations": [{"name": "adam", "changes": {"optimizer": "adam"}}]})
    assert not schema.is_valid({**content, "metrics": {"val_acc": {"better": "hihger"}}})


def test_it_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(STUDY)
    with pytest.raises(UserError, match="it is of runs that exist, and nothing is trained for it"):
        files.load(str(tmp_path / "mine.yaml"))


@pytest.mark.usefixtures("mine")
def test_what_the_study_says_is_not_also_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(STUDY)
    for option in ("--experiment mine", "--filter x", "--better higher", "--at best", "--group-by lr", "--default a=1"):
        assert main(["--study", "mine.yaml", *option.split()]) == 2
        assert "leave out" in capsys.readouterr().err


def test_a_study_that_makes_its_runs_is_compared_by_its_name() -> None:
    with pytest.raises(UserError, match="give its name, published, and it is compared by what it has run"):
        compare.study_of_runs(str(files.STUDIES / "published.yaml"))
    assert compare.study_of_runs("published") is None


@pytest.mark.usefixtures("mine")
def test_what_is_said_of_a_metric_counts() -> None:
    """Of a metric whose name says nothing, which way is better is said; of any, how it is shown."""
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("named")
    for seed in range(4):
        for model, middle in (("a", 1.0), ("b", 2.0)):
            make(client, experiment, "r", {"model": model, "seed": str(seed)}, {"zorp": [middle + seed / 100]})
    text = """
name: t
description: d
runs: {experiments: named}
metrics: {zorp: {better: %s, label: Zorp, unit: zorps, decimals: 1}}
variations:
  - {name: a, where: {model: a}}
  - {name: b, where: {model: b}}
"""
    for better, best in (("lower", "a"), ("higher", "b")):
        conclusion = judged(text % better)
        (metric,) = conclusion.metrics
        assert (metric.label, metric.unit, metric.decimals) == ("Zorp", "zorps", 1)
        assert f"est Zorp: “{best}”" in " ".join(sentences.summary(conclusion))
        assert verify.verify(conclusion) == []


@pytest.mark.usefixtures("mine")
def test_runs_of_one_parent_are_repetitions_of_each_other_s_variations() -> None:
    """`repetitions: parent`: what was run together is compared with each other."""
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("sweeps")
    for sweep in range(4):
        parent = make(client, experiment, f"sweep {sweep}", {}, {})
        for model, middle in (("a", 1.0), ("b", 1.1)):
            value = [middle + 3 * sweep + random.Random(f"{model}{sweep}").gauss(0, 0.01)]
            make(client, experiment, model, {"model": model}, {"loss": value}, {"mlflow.parentRunId": parent})
    text = """
name: t
description: d
runs: {experiments: sweeps, repetitions: parent}
variations:
  - {name: a, where: {model: a}}
  - {name: b, where: {model: b}}
"""
    (pair,) = judged(text).pairs
    assert (pair.difference.n_pairs, pair.finding) == (4, "higher")
    (pair,) = judged(text.replace("parent}", "none}")).pairs
    assert (pair.difference.paired, pair.finding) == (False, "no difference shown")


# --- Last, best, at a step ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mine")
def test_best_and_a_step_are_read_from_the_history() -> None:
    for at, step in (("best", None), ("step 10", 10), ("15", 15)):
        conclusion = judged(STUDY.replace("{better: higher}", f"{{better: higher, at: {at}}}"))
        (claim,) = conclusion.claims
        assert claim.difference.mean == pytest.approx(mean(differences(step)), abs=1e-12)
        assert claim.verdict == ("contradicted" if step == EPOCHS else "supported")
        assert conclusion.metrics[0].at == ("best" if step is None else step)
        assert verify.verify(conclusion) == []
        optimistic = (
            "val_acc (best): the best of a run's steps is chosen on what is reported, which makes it optimistic."
        )
        assert (optimistic in sentences.interval_notes(conclusion)) == (step is None)


@pytest.mark.usefixtures("mine")
def test_runs_that_still_got_higher_were_stopped_early() -> None:
    """sgd is at its best one epoch before the end; stopped at 10, it had not arrived."""
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("short")
    for optimizer in ("adam", "sgd"):
        for seed in range(4):
            values = {"val_acc": curve(optimizer, seed)[:10]}
            make(client, experiment, "r", {"optimizer": optimizer, "seed": str(seed)}, values)
    compare.compare(Options(experiment="short", out=Path("out")))
    conclusion = verify.read_conclusion("out/conclusion.json")
    flagged = {each.name: [flag.flag for flag in each.flags] for each in conclusion.variations}
    assert flagged == {"optimizer=sgd": ["not converged"], "optimizer=adam": []}


@pytest.mark.usefixtures("mine")
def test_the_same_by_options(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--experiments mine,team/mine§2 --group-by optimizer,lr --baseline optimizer=sgd --metric val_acc --at best"
    assert main([word.replace("§", " ") for word in words.split()]) == 0
    conclusion = verify.read_conclusion("comparison/conclusion.json")
    pair = next(pair for pair in conclusion.pairs if "adam" in pair.variation)
    assert pair.difference.mean == pytest.approx(mean(differences(None)), abs=1e-12)
    assert "--experiment 'mine,team/mine 2'" in conclusion.provenance.command
    assert "--at best" in conclusion.provenance.command
    assert verify.verify(conclusion) == []
    assert main(["--at", "best"]) == 2
    assert "at='best' cannot be used: say of which metric, by --metric" in capsys.readouterr().err


@pytest.mark.usefixtures("mine")
def test_the_best_of_a_metric_that_nobody_knows_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    client = mlflow.MlflowClient()
    for seed in range(2):
        make(client, "1", "r", {"optimizer": "x", "seed": str(seed)}, {"zorp": [1.0, 2.0, 1.5]})
    assert main(["--experiment", "mine", "--metric", "zorp", "--at", "best", "--filter", "params.optimizer = 'x'"]) == 2
    assert "which way of 'zorp' is better is not known" in capsys.readouterr().err
    words = ["--metric", "zorp", "--at", "best", "--better", "lower", "--group-by", "optimizer"]
    assert main(["--experiment", "mine", *words]) == 0
    conclusion = verify.read_conclusion("comparison/conclusion.json")
    cells = {each.name: each.cells for each in conclusion.variations}
    (cell,) = (cell for cell in cells["optimizer=x"] if cell.metric == "zorp")
    assert cell.mean == 1.0


@pytest.mark.usefixtures("mine")
def test_runs_that_were_better_before_their_end_are_said() -> None:
    """adam lost 0.036 since epoch 6, sgd 0.004 since epoch 14, of which 0.005 matters."""
    conclusion = judged(STUDY)
    (claim,) = conclusion.claims
    (caveat,) = (each for each in claim.caveats if each.kind == "past its best")
    best = mean(max(curve("adam", seed)) for seed in range(SEEDS))
    last = mean(curve("adam", seed)[-1] for seed in range(SEEDS))
    assert caveat.variation == "adam"
    assert caveat.values == pytest.approx((best, last))
    assert caveat.steps == (6, EPOCHS)
    assert "past its best" in sentences.warnings(claim, conclusion)
    (threat,) = (each for each in sentences.threats(conclusion) if each.what == "past its best")
    assert threat.why.startswith(
        "“adam” against “sgd”: val_acc of “adam” was highest at step 6 of 15 and has fallen since, from 0.9298"
    )
    for silent in (judged(STUDY.replace("0.005", "0.05")), judged(STUDY.replace("r}", "r, at: best}"))):
        assert all(each.kind != "past its best" for each in silent.claims[0].caveats)


def test_values_of_a_history() -> None:
    history = pd.DataFrame(
        {
            "run_id": ["a"] * 4 + ["b"] * 2 + ["c"],
            "epoch": [3, 0, 1, 2, 5, 6, 0],
            "loss": [0.7, 0.9, np.nan, 0.4, np.inf, 0.6, np.nan],
        }
    )
    assert steps.value_at(history, "loss", "last", None).to_dict() == {"a": 0.7, "b": 0.6}
    assert steps.value_at(history, "loss", "best", "lower").to_dict() == {"a": 0.4, "b": 0.6}
    assert steps.value_at(history, "loss", "best", "higher").to_dict() == {"a": 0.9, "b": 0.6}
    assert steps.value_at(history, "loss", 0, None).to_dict() == {"a": 0.9}
    peak = steps.peak(history[history["run_id"] == "a"], "loss", "lower")
    assert peak == pytest.approx((0.4, 2, 0.7, 3))
    assert steps.peak(history[history["run_id"] == "c"], "loss", "lower") is None  # nothing finite
    assert steps.peak(history[history["run_id"] == "b"], "loss", "lower") is None  # one finite value
    assert steps.peak(history, "loss", None) is None


# --- A parameter that appeared later ------------------------------------------------------------------------------


@pytest.mark.usefixtures("mine")
def test_a_parameter_that_appeared_later_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    asked = "not in all of the runs: dropout; if the others had a default, say it: --default dropout=VALUE."
    words = ["--experiments", "mine,team/mine 2", "--metric", "val_acc"]
    assert main(words) == 0
    apart = verify.read_conclusion("comparison/conclusion.json")
    assert len(apart.variations) == 6
    assert [each.why for each in sentences.threats(apart) if each.what == "parameter missing"] == [asked]
    assert main([*words, "--default", "dropout=0.1"]) == 0
    together = verify.read_conclusion("comparison/conclusion.json")
    assert [each.finished for each in together.variations] == [SEEDS] * 3
    assert not [each for each in sentences.threats(together) if each.what == "parameter missing"]
    assert verify.verify(together) == []
    assert main([*words, "--default", "dropuot=0.1"]) == 2
    assert "default='dropuot' is a parameter of no run, did you mean 'dropout'?" in capsys.readouterr().err


@pytest.mark.usefixtures("mine")
def test_a_parameter_that_only_one_side_has_confounds_until_its_default_is_said() -> None:
    text = STUDY.replace("where: {optimizer: adam, lr: 0.001}", "where: {optimizer: adam, dropout: 0.1}")
    text = text.replace("where: {optimizer: sgd}", "where: {optimizer: sgd, dropout: null}")
    (claim,) = judged(text).claims
    assert claim.verdict == "confounded"
    said = text.replace("  repetitions: seed", "  repetitions: seed\n  defaults: {dropout: 0.1}")
    said = said.replace("sgd, dropout: null", "sgd, dropout: 0.1")
    (claim,) = judged(said).claims
    assert (claim.verdict, claim.difference.n_pairs) == ("contradicted", SEEDS)


# --- A study file to start from -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("mine")
def test_what_is_suggested_can_be_judged(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--experiments", "mine,team/mine 2", "--default", "dropout=0.1", "--filter", "params.model = 'resnet18'"]
    assert main([*words, "--suggest"]) == 0
    text = capsys.readouterr().out
    assert not Path("comparison").exists()
    study = files.parse_any(text, "suggested")
    assert isinstance(study, StudyOfRuns)
    assert study.runs.experiments == ("mine", "team/mine 2")
    assert study.runs.repetitions == ("seed",)
    assert study.claims == ()
    conclusion = judged(text)
    assert main(words) == 0
    found = verify.read_conclusion("comparison/conclusion.json")
    assert [each.finished for each in conclusion.variations] == [each.finished for each in found.variations]
    assert [each.cells for each in conclusion.variations] == [each.cells for each in found.variations]
    claimed = text.replace("#  - ", "  - ").replace("#    ", "    ")  # the example is one to start from
    (claim,) = judged(claimed).claims
    assert claim.about == ("optimizer",)  # `0.001` is `1e-3`


@pytest.mark.usefixtures("db")
def test_a_suggestion_keeps_odd_texts_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient()
    odd = ["yes", "None", "{'a': [1, 2]}", 'a "quoted"\nline', "# no comment", "- x", "0.10", "größer: ja", "x" * 300]
    for value in odd:
        for seed in range(2):
            make(client, "0", "r", {"odd key: 1": value, "seed": str(seed)}, {"loss": [len(value) + seed / 10]})
    assert main(["--suggest"]) == 0
    conclusion = judged(capsys.readouterr().out)
    assert [each.finished for each in conclusion.variations] == [2] * len(odd)
    assert {each.params["odd key: 1"] for each in conclusion.variations} == set(odd)


@pytest.mark.usefixtures("db")
def test_there_is_nothing_to_suggest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--suggest"]) == 2
    assert "no run matches" in capsys.readouterr().err
    make(mlflow.MlflowClient(), "0", "r", {}, {"loss": [1.0]})
    assert main(["--suggest"]) == 2
    assert "the runs have no parameter by which variations could be told apart" in capsys.readouterr().err


# --- What some runs lack ------------------------------------------------------------------------------------------

TWO = """\
name: two
description: Two models.
runs: {experiments: Default}
variations:
  - {name: A, where: {model: a}}
  - {name: B, where: {model: b}}
"""


@pytest.mark.usefixtures("db")
def test_a_claimed_metric_that_some_runs_have_no_number_of_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient()
    for model, level in (("a", 0.5), ("b", 0.4)):
        for seed in range(6):
            value = level + random.Random(f"{model} {seed}").gauss(0, 0.01)
            lost = {"nan": [float("nan")], "inf": [float("inf")]}.get({0: "nan", 1: "inf"}.get(seed, ""), [value])
            metrics = {"val_loss": [value], "test_loss": lost if model == "b" else [value], "f1": [value]}
            if model == "b":
                del metrics["f1"]  # of another kind than the other side: it has lost none
            make(client, "0", "r", {"model": model, "seed": str(seed)}, metrics)
    claim = "{says: B is lower, variation: B, against: A, about: [model], direction: lower, smallest_effect: 0.01"
    claims = "".join(f"  - {claim}, metric: {name}}}\n" for name in ("test_loss", "val_loss"))
    conclusion = judged(f"{TWO}metrics: {{val_loss: {{}}, f1: {{}}}}\nclaims:\n{claims}")
    flags = {each.name: [(flag.flag, flag.seeds, flag.metric) for flag in each.flags] for each in conclusion.variations}
    assert flags == {"A": [], "B": [("not a number", (0, 1), "test_loss")]}
    of_test, of_validation = (sentences.warnings(claim, conclusion) for claim in conclusion.claims)
    assert "non-finite losses: 2 of 6" in of_test
    assert "non-finite losses: 2 of 6" not in of_validation


@pytest.mark.usefixtures("db")
def test_runs_below_a_parent_are_of_its_variation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient()
    for model in "ab":
        top = make(client, "0", "top", {"model": model}, {})
        for seed in range(2):
            tags = {"mlflow.parentRunId": top}
            parent = make(client, "0", "cv", {"seed": str(seed)}, {"f1": [0.5]}, tags)
            for fold in range(3):
                value = random.Random(f"{model} {seed} {fold}").random()
                make(client, "0", "fold", {"fold": str(fold)}, {"f1": [value]}, {"mlflow.parentRunId": parent})
    assert main([]) == 0
    found = verify.read_conclusion("comparison/conclusion.json")
    assert {each.name: each.finished for each in found.variations} == {"model=a": 6, "model=b": 6}
    assert found.pairs[0].difference.n_pairs == 6
    capsys.readouterr()
    assert main(["--suggest"]) == 0
    conclusion = judged(capsys.readouterr().out)
    assert [each.cells for each in conclusion.variations] == [each.cells for each in found.variations]


@pytest.mark.usefixtures("mine")
def test_a_tag_can_be_claimed_and_confounds_what_does_not_name_it() -> None:
    client = mlflow.MlflowClient()
    for run in client.search_runs(["1", "2"], max_results=1000):
        client.set_tag(run.info.run_id, "data", "new" if run.data.params["optimizer"] == "adam" else "old")
    text = STUDY.replace("where: {optimizer: adam, lr: 0.001}", "where: {optimizer: adam, tags.data: new}")
    text = text.replace("where: {optimizer: sgd}", "where: {optimizer: sgd, tags.data: old}")
    (claim,) = judged(text).claims
    assert (claim.verdict, [each.name for each in claim.confounded_by]) == ("confounded", ["tags.data"])
    (claim,) = judged(text.replace("about: [optimizer, lr]", "about: [optimizer, lr, tags.data]")).claims
    assert (claim.verdict, claim.confounded_by) == ("contradicted", ())
    line = refused(text.replace("about: [optimizer, lr]", "about: [tags.date]"))
    assert "no run has the parameter 'tags.date', did you mean 'tags.data'?" in line


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("there", "instead", "line"),
    [
        ("[mine, team/mine 2]", "1", r"line 4: runs.experiments\[0\] = 1: should be a text; put it in quotes$"),
        ("lr: 0.001", "lr: 2024-01-01", r"where.lr\[0\] = 2024-01-01: should be a text, a number, true, .* in quotes$"),
        ("{better: higher}", "{at: step 99}", r"has a value of 'val_acc' at step 99;"),
        ("lr: 0.001", "tags.optimiser: adam", r"where.tags.optimiser: no run has it$"),
    ],
)
def test_a_line_says_what_is_wrong_and_no_more(there: str, instead: str, line: str) -> None:
    assert re.search(line, refused(STUDY.replace(there, instead)))


@pytest.mark.usefixtures("mine")
def test_an_example_is_not_chosen_by_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    for better in ("higher", "lower"):
        words = ["--experiment", "mine", "--metric", "val_acc", "--better", better, "--baseline", "optimizer=rmsprop"]
        assert main([*words, "--suggest"]) == 0
        assert '#    variation: "optimizer=adam, lr=1e-3"' in capsys.readouterr().out.replace(" lr", ", lr")


@pytest.mark.usefixtures("db")
def test_a_run_whose_last_value_is_no_number_was_best_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient()
    for model in "ab":
        for seed in range(3):
            end = 0.3 if model == "a" and seed else float("nan")
            make(client, "0", "r", {"model": model, "seed": str(seed)}, {"val_loss": [0.2 + seed / 10, end]})
    for at in ("best", "step 1"):
        conclusion = judged(f"{TWO}metrics: {{val_loss: {{at: {at}}}}}\n")
        assert [each.cells[0].n for each in conclusion.variations] == [3, 3]
        assert conclusion.variations[1].cells[0].mean == pytest.approx(0.3)
