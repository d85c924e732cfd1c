"""Studies from end to end: what they make, what they reuse, and what they survive."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil
import pytest
import yaml
from mlflow.entities import Run

from pipeline.compare import run as compare
from pipeline.compare import verify
from pipeline.errors import UserError
from pipeline.metrics import LOSSES, QUALITY
from pipeline.study import executors, files, plan
from pipeline.study import run as study
from pipeline.study.executors import Executor
from pipeline.study.run import Options
from pipeline.task import Child
from pipeline.tracking import delivery, journal, launched
from pipeline.tracking import runs as tracking
from pipeline.tracking.deliver import deliver
from pipeline.tracking.names import PLAN, VARIATION
from pipeline.train import run as train
from pipeline.train import training
from pipeline.train.config import RunConfig
from tests.conftest import HANGS, ROOT, Proxy, environment, no_hang, run, start, wait_for
from tests.test_store import over_proxy  # noqa: F401
from tests.toy import AtOnce

LOCAL = ("--env-manager", "local")
PARENT = "mlflow.parentRunId"


def declared(path: Path, data: Path, variations: dict[str, dict[str, Any]], **more: Any) -> Path:
    """A study file."""
    content = {
        "name": "small",
        "description": "a small one",
        "base": {"optimizer": "adam", "epochs": 3, "dataset": str(data)},
        "seeds": 1,
        "variations": [{"name": name, "changes": changes} for name, changes in variations.items()],
        **more,
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def make(file: Path, executor: Executor | None = None, **options: Any) -> str:
    return study.run(Options(study=str(file), **options), executor or AtOnce())


def runs_in(folder: Path) -> dict[str, Run]:
    """All active runs of a store by their names, which must be different."""
    found = mlflow.MlflowClient(environment(folder)["MLFLOW_TRACKING_URI"]).search_runs(["0"])
    by_name = {made.info.run_name: made for made in found}
    assert len(by_name) == len(found), [made.info.run_name for made in found]
    return by_name


def weights(made: Run) -> list[bytes]:
    model = mlflow.tensorflow.load_model(f"runs:/{made.info.run_id}/model")
    return [weight.tobytes() for weight in model.get_weights()]


def curves(made: Run, uri: str = "") -> dict[str, list[tuple[int, float]]]:
    """Steps and values of the losses, as they are stored."""
    client = mlflow.MlflowClient(uri or None)
    histories = {name: client.get_metric_history(made.info.run_id, name) for name in LOSSES}
    return {name: [(point.step, point.value) for point in history] for name, history in histories.items()}


def deterministic(made: Run) -> dict[str, float]:
    return {name: value for name, value in made.data.metrics.items() if not name.endswith("seconds")}


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_a_study_is_a_parent_with_named_and_tagged_runs(small_npz: Path, tmp_path: Path) -> None:
    file = declared(tmp_path / "s.yaml", small_npz, {"plain": {}, "sgd": {"optimizer": "sgd"}}, seeds=[3, 5])
    message = make(file)
    runs = runs_in(tmp_path)
    assert set(runs) == {"small", "plain seed 3", "plain seed 5", "sgd seed 3", "sgd seed 5"}
    parent = runs.pop("small")
    assert message.splitlines()[:2] == ["small is finished: 4 runs", f"run ID: {parent.info.run_id}"]
    assert parent.data.metrics == {"runs_planned": 4, "runs_finished": 4, "runs_reused": 0, "runs_failed": 0}
    assert parent.data.tags["study"] == "small"
    uri = parent.info.artifact_uri
    assert mlflow.artifacts.load_text(f"{uri}/study.yaml") == file.read_text()
    planned = plan.Study.model_validate(mlflow.artifacts.load_dict(f"{uri}/plan.json"))
    assert planned.runs() == files.load(str(file)).runs()
    for name, made in runs.items():
        variation, _, seed = name.split()
        config = RunConfig.from_params(made.data.params)
        assert made.info.status == "FINISHED"
        tags = made.data.tags
        assert tags[PARENT] == parent.info.run_id
        assert (tags["study"], tags["variation"], tags["seed"]) == ("small", variation, seed)
        assert tags["fingerprint"] == config.fingerprint
        assert config.seed == int(seed)
        assert set(QUALITY) < set(made.data.metrics)
        assert [step for step, _ in curves(made)["val_bce"]] == [1, 2, 3]
    assert not list((tmp_path / "state").rglob("*.jsonl")), "what is delivered is kept no longer"


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_runs_that_share_a_trajectory_are_what_separate_runs_are(small_npz: Path, tmp_path: Path) -> None:
    make(
        declared(tmp_path / "s.yaml", small_npz, {"long": {"epochs": 5}, "short": {"epochs": 2}, "mid": {"epochs": 3}})
    )
    together = runs_in(tmp_path)
    begun = {made.data.tags["owner"] for name, made in together.items() if name != "small"}
    assert len(begun) == 1
    for name, epochs in (("long seed 0", 5), ("mid seed 0", 3), ("short seed 0", 2)):
        alone = declared(tmp_path / "alone.yaml", small_npz, {"alone": {"epochs": epochs}}, name=f"alone-{epochs}")
        make(alone, retrain=True)
        separate = next(
            r
            for r in mlflow.MlflowClient().search_runs(["0"], f"tags.study = 'alone-{epochs}'")
            if PARENT in r.data.tags
        )
        shared = together[name]
        assert weights(shared) == weights(separate)
        assert curves(shared) == curves(separate)
        assert deterministic(shared) == deterministic(separate)
        assert shared.data.params == separate.data.params
        assert pictures(shared) == pictures(separate)


def pictures(made: Run) -> dict[str, bytes]:
    """The pixels of what the UI scrubs through, by epoch, and the names of the figures."""
    folder = Path(mlflow.artifacts.download_artifacts(made.info.artifact_uri))
    strips = {path.name.split("+step+")[1].split("+")[0]: path.read_bytes() for path in folder.glob("images/*.png")}
    return strips | {path.name: b"" for path in folder.glob("*.png")}


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_done_is_done_and_counts_once(small_npz: Path, tmp_path: Path) -> None:
    first = declared(tmp_path / "a.yaml", small_npz, {"plain": {}}, name="first")
    make(first)
    origin = runs_in(tmp_path)["plain seed 0"]
    assert make(first).startswith("first is finished: 1 run")
    assert set(runs_in(tmp_path)) == {"first", "plain seed 0"}, "a finished study is left as it is"

    second = declared(tmp_path / "b.yaml", small_npz, {"same": {}, "sgd": {"optimizer": "sgd"}}, name="second")
    assert "1 of them reused" in make(second)
    runs = runs_in(tmp_path)
    linked, parent = runs["same seed 0"], runs["second"]
    assert parent.data.metrics["runs_reused"] == 1
    assert linked.data.tags["reused_from"] == origin.info.run_id
    assert linked.data.tags[PARENT] == parent.info.run_id
    assert linked.data.params == origin.data.params
    assert linked.data.metrics == origin.data.metrics
    assert curves(linked) == curves(origin)
    assert linked.data.tags["fingerprint"] == origin.data.tags["fingerprint"]

    assert counted(tmp_path) == ["plain seed 0", "sgd seed 0"]
    assert counted(tmp_path, "tags.study = 'second'") == ["same seed 0", "sgd seed 0"]

    make(declared(tmp_path / "c.yaml", small_npz, {"new": {}}, name="third"), retrain=True)
    anew = runs_in(tmp_path)["new seed 0"]
    assert "reused_from" not in anew.data.tags
    assert deterministic(anew) == deterministic(origin)


def counted(folder: Path, filter_string: str = "") -> list[str]:
    """The names of the runs that a comparison uses."""
    compare.compare(compare.Options(out=folder / "out", filter=filter_string, format="json"))
    runs = verify.read_conclusion(str(folder / "out" / "conclusion.json")).runs
    return sorted(made.name for made in runs if made.used)


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_runs_of_the_version_before_are_known_by_their_fingerprints(small_npz: Path, tmp_path: Path) -> None:
    """Their study is finished as it is, and another study reuses them."""
    file = declared(tmp_path / "s.yaml", small_npz, {"a": {"epochs": 1}, "b": {"epochs": 1, "l1": 1e-3}})
    make(file)
    before = runs_in(tmp_path)
    client = mlflow.MlflowClient()
    for name, made in before.items():
        if name == "small":
            hashes = {str(small_npz): before["a seed 0"].data.tags["data_hash"]}
            client.set_tag(made.info.run_id, PLAN, files.load(str(file)).digests(hashes)[1])
        else:
            now, then = RunConfig.from_params(made.data.params).fingerprints
            assert made.data.tags["fingerprint"] == now
            client.set_tag(made.info.run_id, "fingerprint", then)
    shutil.rmtree(tmp_path / "state")
    assert make(file).splitlines()[:2] == ["small is finished: 2 runs", f"run ID: {before['small'].info.run_id}"]
    assert {made.info.run_id for made in runs_in(tmp_path).values()} == {each.info.run_id for each in before.values()}
    other = declared(tmp_path / "o.yaml", small_npz, {"c": {"epochs": 1}}, name="other")
    assert make(other).startswith("other is finished: 1 run, 1 of them reused from other studies or runs")
    assert runs_in(tmp_path)["c seed 0"].data.tags["reused_from"] == before["a seed 0"].info.run_id


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_the_baseline_against_itself(small_npz: Path, tmp_path: Path) -> None:
    make(declared(tmp_path / "s.yaml", small_npz, {"plain": {"epochs": 1}}, seeds=2), aa_test=True)
    runs = runs_in(tmp_path)
    expected = {"plain seed 0", "plain seed 1", "plain (A/A) seed 2", "plain (A/A) seed 3", "plain (again) seed 0"}
    assert set(runs) == {"small", *expected}
    again, first = runs["plain (again) seed 0"], runs["plain seed 0"]
    assert again.info.run_id != first.info.run_id
    assert deterministic(again) == deterministic(first)
    assert again.data.tags["fingerprint"] == first.data.tags["fingerprint"]


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_a_run_that_fails_does_not_take_the_others_along(small_npz: Path, tmp_path: Path) -> None:
    bad = {"optimizer": "sgd", "learning_rate": 1e38}
    file = declared(tmp_path / "s.yaml", small_npz, {"bad": bad, "good": {}})
    with pytest.raises(
        UserError, match=r"^1 of 2 runs failed \(bad seed 0: DivergenceError: .* in epoch 1 .*start the"
    ):
        make(file)
    runs = runs_in(tmp_path)
    assert runs["good seed 0"].info.status == "FINISHED"
    assert runs["bad seed 0"].info.status == runs["small"].info.status == "FAILED"
    assert runs["bad seed 0"].data.tags["failure"].startswith("DivergenceError: training diverged in epoch 1 ")
    assert runs["small"].data.metrics["runs_failed"] == 1
    with pytest.raises(UserError, match="1 of 2 runs failed"):
        make(file)
    assert {made.info.run_id for made in runs_in(tmp_path).values()} == {made.info.run_id for made in runs.values()}


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_runs_that_were_deleted_are_made_anew(small_npz: Path, tmp_path: Path) -> None:
    bad = {"optimizer": "sgd", "learning_rate": 1e38}
    file = declared(tmp_path / "s.yaml", small_npz, {"bad": bad, "good": {}, "gone": {"epochs": 2}})
    with pytest.raises(UserError, match="1 of 3 runs failed"):
        make(file)
    before = runs_in(tmp_path)
    for name in ("small", "gone seed 0"):
        mlflow.MlflowClient().delete_run(before[name].info.run_id)
    with pytest.raises(UserError, match="1 of 3 runs failed"):
        make(file)
    after = runs_in(tmp_path)
    assert set(after) == set(before)
    for name in ("bad seed 0", "good seed 0"):
        assert after[name].info.run_id == before[name].info.run_id
    for name in ("small", "gone seed 0"):
        assert after[name].info.run_id != before[name].info.run_id
    parent = after.pop("small").info.run_id
    assert {made.data.tags[PARENT] for made in after.values()} == {parent}
    assert after["gone seed 0"].info.status == "FINISHED"
    assert deterministic(after["gone seed 0"]) == deterministic(before["gone seed 0"])


@pytest.mark.usefixtures("db")
def test_a_store_that_refuses_a_study_leaves_nothing_behind(small_npz: Path, tmp_path: Path) -> None:
    client = mlflow.MlflowClient()
    client.delete_experiment(client.create_experiment("gone"))
    file = declared(tmp_path / "s.yaml", small_npz, {"plain": {}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "gone")
        with pytest.raises(
            UserError,
            match=r"experiment='gone' is deleted; restore it with `mlflow experiments restore --experiment-id \d+`, or",
        ):
            make(file)
    assert not list((tmp_path / "state").rglob("header.json"))


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_a_dry_run_tells_and_changes_nothing(small_npz: Path, tmp_path: Path) -> None:
    file = declared(tmp_path / "s.yaml", small_npz, {"plain": {}, "longer": {"epochs": 4}, "sgd": {"optimizer": "sgd"}})
    before = make(file, dry_run=True)
    assert not (tmp_path / "store.db").exists()
    assert "to train: longer seed 0" in before
    assert before.splitlines()[-1].startswith("0 done, 0 to reuse, 3 to train in 2 trainings, ")
    assert "estimated time: unknown; for 2 of 2 trainings no run of that size has finished here" in before
    make(file, filter="sgd")
    after = make(file, dry_run=True)
    assert "to reuse: sgd seed 0" in after
    assert after.splitlines()[-1].startswith("0 done, 1 to reuse, 2 to train in 1 training, ")
    assert "unknown" not in after
    assert set(runs_in(tmp_path)) == {"small", "sgd seed 0"}


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_a_dry_run_says_what_the_seeds_would_show(small_npz: Path, tmp_path: Path) -> None:
    claim = {"says": "It is.", "variation": "sgd", "against": "plain", "about": ["optimizer"], "direction": "higher"}
    claims = [{**claim, "metric": "last_val_bce", "smallest_effect": 0.001}]
    variations = {"plain": {}, "sgd": {"optimizer": "sgd"}}
    file = declared(tmp_path / "s.yaml", small_npz, variations, seeds=3, claims=claims)
    about = "  sgd minus plain in last_val_bce: 3 seeds would show"
    unknown = make(file, dry_run=True).splitlines()[-2:]
    assert unknown[0] == "with a power of 80%, at a level of 5 %:"
    # statsmodels' TTestPower().solve_power(nobs=3, alpha=0.05, power=0.8)
    assert unknown[1].startswith(f"{about} 3.3 standard deviations of a pair's difference; smallest effect of interest")
    make(file)
    runs = runs_in(tmp_path)
    a, b = ([runs[f"{name} seed {seed}"].data.metrics["last_val_bce"] for seed in range(3)] for name in variations)
    spread = float(np.std(np.subtract(a, b), ddof=1))
    shown = make(file, dry_run=True).splitlines()[-1]
    assert shown.startswith(f"{about} {3.264 * spread:.2g}; ")
    assert shown.endswith("(as 3 earlier seeds spread)")
    needed = make(file, dry_run=True, detect=3.27 * spread).splitlines()[-1]
    assert f": 3 seeds would show {3.27 * spread:g} (" in needed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"study": "contrlled"}, r"study='contrlled' does not exist, did you mean 'controlled'\?"),
        (
            {"study": "controlled", "filter": "adelta"},
            r"filter='adelta': there is no such .* did you mean 'adadelta'\?",
        ),
    ],
)
def test_a_mistake_is_told_before_anything_begins(
    options: dict[str, str], says: str, tmp_path: Path, store: str
) -> None:
    with pytest.raises(UserError, match=says):
        study.run(Options(**options), AtOnce())
    assert not (tmp_path / "store.db").exists()


def test_a_batch_that_the_data_cannot_fill(small_npz: Path, tmp_path: Path, store: str) -> None:
    with pytest.raises(UserError, match="batch_size=601 is larger than the data"):
        make(declared(tmp_path / "s.yaml", small_npz, {"plain": {"batch_size": 601}}))
    assert not (tmp_path / "store.db").exists()


# --- What a study survives ----------------------------------------------------------------------------------------


def begun(folder: Path, file: Path) -> subprocess.Popen[str]:
    """A study in a process of its own."""
    return start("python", "-m", "pipeline.study", "--study", str(file), folder=folder)


def epochs_said(folder: Path) -> int:
    """How many epochs the runs of all studies have said, in their journals."""
    lines = 0
    for known in journal.journals(folder / "state"):
        lines += sum(str(line.get("key", "")).startswith("metrics epoch") for line, _ in known.read())
    return lines


def checkpoints(folder: Path) -> list[Path]:
    return list((folder / "state").rglob("checkpoint.npz"))


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Those that train: they have forked from the one that has imported what they need."""
    below = psutil.Process(process.pid).children()
    servers = [child for child in below if "forkserver" in " ".join(words_of(child))]
    return [worker for server in servers for worker in children_of(server)]


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """Its children; none of one that has just gone."""
    with suppress(psutil.NoSuchProcess):
        return list(process.children())
    return []


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; none of one that has just gone."""
    with suppress(psutil.NoSuchProcess):
        return list(process.cmdline())
    return []


def alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def results(folder: Path) -> dict[str, Any]:
    uri = environment(folder)["MLFLOW_TRACKING_URI"]
    runs = {name: made for name, made in runs_in(folder).items() if name != "small"}
    assert {made.info.status for made in runs.values()} == {"FINISHED"}
    assert all("failure" not in made.data.tags for made in runs.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        return {name: (weights(made), curves(made), deterministic(made)) for name, made in runs.items()}


def undisturbed(file: Path, folder: Path) -> dict[str, Any]:
    """What the runs of a study give that nothing disturbs, on this machine, on one thread each."""
    folder.mkdir()
    made = run("python", "-m", "pipeline.study", "--study", str(file), folder=folder)
    assert made.returncode == 0, made.stderr
    return results(folder)


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_killed_at_random_moments_it_chooses_and_ends_as_if_never_interrupted(small_npz: Path, tmp_path: Path) -> None:
    """The study itself, then its workers while it tunes, and the study again later: a kill -9 behind a checkpoint."""
    file = declared(
        tmp_path / "s.yaml",
        small_npz,
        {"adam": {"epochs": 300}, "adam short": {"epochs": 150}},
        base={"dataset": str(small_npz), "optimizer": "adam", "validation": 100},
        nuisance={"learning_rate": [0.001, 0.01]},
        tuning={"seeds": 1},
        retries=0,
    )
    chance = random.Random(0)
    for victim, phase in (("study", "tuning"), ("workers", "tuning"), ("study", "reporting")):
        process = begun(tmp_path, file)
        wait_for(lambda process=process: workers_of(process), process)  # type: ignore[misc] # those before are gone
        before = epochs_said(tmp_path)
        wait_for(
            lambda before=before, phase=phase: (  # type: ignore[misc]
                checkpoints(tmp_path)
                and epochs_said(tmp_path) > before
                and bool(list((tmp_path / "state").rglob("tuned.json"))) == (phase == "reporting")
            ),
            process,
        )
        time.sleep(chance.uniform(0, 0.5))
        if victim == "study":
            killed(process)
        else:
            for worker in workers_of(process):
                worker.kill()
            assert process.wait(HANGS) == 2
    again = run("python", "-m", "pipeline.study", "--study", str(file), folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert results(tmp_path) == undisturbed(file, tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_a_worker_that_is_killed_fails_its_run_alone(small_npz: Path, tmp_path: Path) -> None:
    endless: dict[str, dict[str, Any]] = {"endless": {"epochs": 1_000_000}, "brief": {"optimizer": "sgd", "epochs": 2}}
    process = begun(tmp_path, declared(tmp_path / "s.yaml", small_npz, endless, retries=0))
    wait_for(lambda: "finished: brief" in (tmp_path / "output").read_text(), process)
    wait_for(lambda: any(worker.cpu_percent(0.3) > 20 for worker in workers_of(process)), process)
    for worker in workers_of(process):
        worker.kill()
    assert process.wait(HANGS) == 2
    runs = runs_in(tmp_path)
    assert {name: made.info.status for name, made in runs.items()} == {
        "small": "FAILED",
        "endless seed 0": "FAILED",
        "brief seed 0": "FINISHED",
    }
    reason = "its process was killed by SIGKILL; out of memory, perhaps"
    assert runs["endless seed 0"].data.tags["failure"] == reason
    assert f"error: 1 of 2 runs failed (endless seed 0: {reason})" in (tmp_path / "output").read_text()


@pytest.fixture
def interrupted(small_npz: Path, db: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A study whose two runs are in training, and have a checkpoint."""
    endless: dict[str, dict[str, Any]] = {
        "adam": {"epochs": 1_000_000},
        "sgd": {"optimizer": "sgd", "epochs": 1_000_000},
    }
    process = begun(tmp_path, declared(tmp_path / "s.yaml", small_npz, endless))
    try:
        wait_for(lambda: len(checkpoints(tmp_path)) == 2, process)
        yield process
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        killed(process)


ALL_KILLED = dict.fromkeys(("small", "adam seed 0", "sgd seed 0"), "KILLED")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_runs_in_order(
    number: signal.Signals, interrupted: subprocess.Popen[str], tmp_path: Path
) -> None:
    if number == signal.SIGINT:
        os.killpg(interrupted.pid, number)  # as a terminal does
    else:
        interrupted.send_signal(number)
    assert interrupted.wait(HANGS) == 130
    runs = runs_in(tmp_path)
    assert {name: made.info.status for name, made in runs.items()} == ALL_KILLED
    assert all(made.data.tags["failure"].startswith("interrupted") for name, made in runs.items() if name != "small")
    printed = (tmp_path / "output").read_text()
    assert f"interrupted; go on with: python -m pipeline.study --study {tmp_path}/s.yaml" in printed
    assert "Traceback" not in printed
    for made in curves(runs["adam seed 0"], environment(tmp_path)["MLFLOW_TRACKING_URI"]).values():
        assert made
        assert [step for step, _ in made] == list(range(1, len(made) + 1))
    assert len(checkpoints(tmp_path)) == 2, "what it goes on with"


@pytest.mark.slow
def test_ctrl_c_twice_ends_them_at_once(interrupted: subprocess.Popen[str], tmp_path: Path) -> None:
    workers = workers_of(interrupted)
    assert len(workers) == 2
    for worker in workers:
        worker.suspend()  # so that they cannot end in order
    interrupted.send_signal(signal.SIGINT)
    wait_for(lambda: "ending the runs" in (tmp_path / "output").read_text(), interrupted)
    time.sleep(1)
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait(HANGS) == 130
    with no_hang():
        while any(alive(worker) for worker in workers):
            time.sleep(0.1)
    assert {name: made.info.status for name, made in runs_in(tmp_path).items()} == ALL_KILLED


@pytest.mark.slow
@pytest.mark.usefixtures("db")
def test_under_mlflow_run_a_study_that_goes_on_has_one_parent(small_npz: Path, tmp_path: Path) -> None:
    file = declared(tmp_path / "s.yaml", small_npz, {"adam": {"epochs": 800}, "sgd": {"optimizer": "sgd", "epochs": 5}})
    words = ("mlflow", "run", str(ROOT), "-e", "study", "-P", f"study={file}", *LOCAL)
    process = start(*words, folder=tmp_path)
    try:
        wait_for(lambda: epochs_said(tmp_path) > 20 and "adam seed 0" in runs_in(tmp_path), process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    first = runs_in(tmp_path)
    done = run(*words, folder=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = runs_in(tmp_path)
    parent = runs.pop("small").info.run_id
    second = runs.pop(f"small, see {parent[:8]}")  # the launcher's, which opened it before it could know
    assert second.data.tags["goes_on_in"] == parent
    assert set(runs) == {"adam seed 0", "sgd seed 0"}
    assert {made.info.status for made in (second, *runs.values())} == {"FINISHED"}
    assert first["small"].info.run_id == parent
    assert {made.data.tags[PARENT] for made in runs.values()} == {parent}
    assert "adam seed 0" in first
    for name in set(first) - {"small"}:
        assert first[name].info.run_id == runs[name].info.run_id


@pytest.mark.slow
def test_training_goes_on_from_any_checkpoint(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    config = RunConfig(optimizer="adam", epochs=4, batch_size=100)
    whole = training.train(config, small)
    for last in (1, 2, 3):
        path = tmp_path / f"{last}.npz"
        checkpoint = training.Checkpoint(path)

        def stop(trained: training.Trained, last: int = last) -> None:
            if len(trained.epochs) > last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            training.train(config, small, stop, checkpoint)
        seen: list[int] = []
        resumed = training.train(config, small, lambda t, seen=seen: seen.append(len(t.epochs)), checkpoint)  # type: ignore[misc]
        assert seen == list(range(last, 5))
        for mine, theirs in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert resumed.history.drop(columns="epoch_seconds").equals(whole.history.drop(columns="epoch_seconds"))
    other = config.model_copy(update={"seed": 1})
    assert training.train(other, small, checkpoint=checkpoint).history.iloc[0]["loss"] != whole.history.iloc[0]["loss"]
    unbacked = training.Checkpoint(path, lambda epochs: epochs == 0)  # of an epoch that nobody has heard of
    seen = []
    training.train(config, small, lambda trained: seen.append(len(trained.epochs)), unbacked)
    assert seen == [0, 1, 2, 3, 4]


TWO_EPOCHS = RunConfig(optimizer="adam", epochs=2, batch_size=100)


def _changed(path: Path, **changes: Any) -> None:
    with np.load(path) as known:
        content = dict(known)
    np.savez(path, **content | {name: change(content[name]) for name, change in changes.items()})


@pytest.fixture(scope="module")
def kept(small: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A checkpoint of a training of two epochs, and the weights in which it ended."""
    path = tmp_path_factory.mktemp("kept") / "checkpoint.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", 0)
        whole = training.train(TWO_EPOCHS, small, checkpoint=training.Checkpoint(path))
    return path, whole.model.get_weights()


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x80\x04not a checkpoint"),
        lambda path: path.write_bytes(path.read_bytes().replace(b"PK", b"KP")),
        lambda path: path.write_bytes(np.lib.format.magic(1, 0)),
        lambda path: _changed(path, **{"0": lambda weights: weights[:1]}),
        lambda path: _changed(path, **{"0": lambda weights: weights.astype(float)}),
        lambda path: _changed(path, epochs=lambda epochs: "[1]"),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_what_is_no_checkpoint_means_training_from_the_beginning(
    damage: Any, kept: tuple[Path, list[Any]], small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", float("inf"))
    path, weights = kept
    checkpoint = training.Checkpoint(Path(shutil.copy(path, tmp_path)))
    damage(checkpoint.path)
    seen: list[int] = []
    anew = training.train(TWO_EPOCHS, small, lambda trained: seen.append(len(trained.epochs)), checkpoint)
    assert seen == [0, 1, 2]
    for mine, theirs in zip(anew.model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


# --- Whether the server is there or not ---------------------------------------------------------------------------


def studies_kept(folder: Path) -> list[Path]:
    return list((folder / "state" / "studies").glob("*/header.json"))


def stored() -> tuple[list[Run], list[Run]]:
    """The studies and their runs that the store has."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return [made for made in runs if PLAN in made.data.tags], [made for made in runs if PARENT in made.data.tags]


def assert_one_whole_study(variations: int) -> None:
    (parent,), children = stored()
    assert parent.info.status == "FINISHED"
    assert len(children) == len({child.data.tags[VARIATION] for child in children}) == variations
    assert {child.data.tags[PARENT] for child in children} == {parent.info.run_id}
    for child in children:
        assert child.info.status == "FINISHED"
        steps = [p.step for p in mlflow.MlflowClient().get_metric_history(child.info.run_id, "loss")]
        assert steps == list(range(1, int(child.data.params["epochs"]) + 1))


@pytest.mark.slow
def test_a_study_that_is_begun_without_the_server_goes_on_with_it(
    over_proxy: Proxy,  # noqa: F811
    small_npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 0.1)
    file = declared(tmp_path / "s.yaml", small_npz, {"adam": {}, "sgd": {"optimizer": "sgd"}})
    over_proxy.close()
    with pytest.raises(UserError, match="did not take everything"):
        make(file)
    assert len(studies_kept(tmp_path)) == 1
    over_proxy.open()
    assert make(file).startswith("small is finished: 2 runs")
    assert studies_kept(tmp_path) == []
    assert_one_whole_study(2)


@pytest.mark.slow
def test_a_study_that_was_begun_with_the_server_goes_on_without_it(
    over_proxy: Proxy,  # noqa: F811
    small_npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 0.1)
    file = declared(tmp_path / "s.yaml", small_npz, {"adam": {}, "sgd": {"optimizer": "sgd"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "train_children", _failing)
        with pytest.raises(UserError, match="2 of 2 runs failed"):
            make(file)
    over_proxy.close()
    with pytest.raises(UserError, match="did not take everything"):
        make(file)
    assert len(studies_kept(tmp_path)) == 1
    over_proxy.open()
    deliver()
    assert_one_whole_study(2)
    assert make(file).startswith("small is finished: 2 runs")
    assert_one_whole_study(2)


def _failing(children: list[Child]) -> None:
    for child in children:
        known = tracking.open_journal(child.folder, child.name, child.tags)
        delivery.record_end(known, "FAILED", "on purpose")
    raise UserError("on purpose")


@pytest.mark.slow
def test_a_fresh_study_deletes_nothing_that_the_store_does_not_have(
    over_proxy: Proxy,  # noqa: F811
    small_npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE_SECONDS", 0.1)
    file = declared(tmp_path / "s.yaml", small_npz, {"adam": {}})
    over_proxy.close()
    for _ in range(2):
        with pytest.raises(UserError, match="did not take everything"):
            make(file, retrain=True)
    (aside,) = (tmp_path / "state" / "aside").iterdir()
    assert f"the rest is kept in {aside}; deliver it with python -m pipeline.deliver" in capsys.readouterr().err
    over_proxy.open()
    assert deliver() == "4 runs delivered, nothing is left"
    parents, children = stored()
    assert len({child.data.tags[PARENT] for child in children}) == len(parents) == len(children) == 2
    assert {made.info.status for made in (*parents, *children)} == {"FINISHED"}
    assert make(file, retrain=True).startswith("small is finished: 1 run")
    assert not (tmp_path / "state" / "aside").exists() or not list((tmp_path / "state" / "aside").iterdir())
    assert len(stored()[0]) == 3


@pytest.mark.slow
def test_a_finished_study_stays_and_a_launchers_run_says_where_it_is(
    over_proxy: Proxy,  # noqa: F811
    small_npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = declared(tmp_path / "s.yaml", small_npz, {"adam": {}})
    make(file)
    (parent,), (child,) = stored()
    client = mlflow.MlflowClient()
    client.log_text(parent.info.run_id, "a report", "results/report.md")
    opened = client.create_run(parent.info.experiment_id, tags={"mlflow.project.entryPoint": "study"}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    journal.begin_launched(opened, "study")
    assert f"run ID: {parent.info.run_id}" in make(file)
    launched.end(None, "study")
    again = client.get_run(opened)
    assert (again.info.status, again.info.run_name) == ("FINISHED", f"small, see {parent.info.run_id[:8]}")
    assert again.data.tags["goes_on_in"] == parent.info.run_id
    ((still,), (same,)) = stored()
    assert still.to_dictionary() == parent.to_dictionary()
    assert same.info.run_id == child.info.run_id
    assert [point.step for point in client.get_metric_history(parent.info.run_id, "runs_planned")] == [0]
    assert journal.journals(tmp_path / "state") == []


def data_sets_loaded() -> int:
    return train.load.cache_info().currsize


@pytest.mark.slow
@pytest.mark.parametrize("fork", [True, False])
def test_the_workers_end_and_no_other_process_of_the_program(fork: bool) -> None:
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(120,))
    other.start()
    workers = executors.Workers(fork)
    workers.warm_up("pipeline.train.imports", "mnist")
    assert "VARIATIONS_DATA" not in os.environ
    workers.start(1, train.start_worker)
    assert workers.submit(data_sets_loaded).result(HANGS) == fork, "those that fork share the images"
    future = workers.submit(time.sleep, HANGS)
    with no_hang():
        while not (future.running() and workers._processes[0].is_alive()):
            time.sleep(0.1)
        workers.interrupt()
    assert [worker.is_alive() for worker in workers._processes] == [False]
    assert other.is_alive()
    other.terminate()
    other.join()
