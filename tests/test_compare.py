"""The conclusion table against runs whose numbers are known."""

from __future__ import annotations

import csv
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from pipeline import compare, evidence, tracking
from pipeline.compare import Options
from pipeline.config import LOSSES, RunConfig, UserError
from pipeline.dataset import Images
from tests.conftest import ROOT, run


def finished(images: Images, bce: float, **changes: object) -> str:
    """A finished run with `bce` as its last losses and twice that as its first."""
    config = RunConfig.model_validate(changes)
    with tracking.track(config, images) as tracked:
        tracked.log_epoch(config.epochs, {f"last_{name}": bce for name in LOSSES})
        tracked.log_epoch(config.epochs, {f"first_{name}": 2 * bce for name in LOSSES})
        tracked.log_epoch(config.epochs, {"mse": bce / 10, "dead_units": 1, "training_seconds": 20})
    return tracked.id


@pytest.fixture
def experiment(store: str, small: Images) -> str:
    """Two seeds of adam, one of them typed otherwise, one run of sgd, one failed and one running; some by others."""
    finished(small, 0.10, optimizer="adam", l1=1e-5)
    finished(small, 0.14, optimizer="adam", l1="0.00001", seed=1)
    finished(small, 0.3, optimizer="sgd", epochs=7)
    with pytest.raises(MemoryError), tracking.track(RunConfig(), small):
        raise MemoryError("no memory")
    mlflow.MlflowClient().create_run("0", run_name="hanging\n|[bold]<b>")
    with mlflow.start_run(run_name="by hand"):
        mlflow.log_metric("last_loss", 1.0)
    return store


@pytest.mark.usefixtures("experiment")
def test_one_row_per_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = compare.compare(Options(out=tmp_path / "out"))
    assert message == f"written: {tmp_path}/out/conclusion.md, {tmp_path}/out/conclusion.csv"
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == "6 runs (4 finished, 1 running, 1 failed), 2 configurations with finished runs"
    rows = [line.split() for line in lines if line.startswith(("adam", "sgd"))]
    assert rows[0][:9] == ["adam", "50", "1e-05", "0.001", "2", "0.2400", "0.1200", "0.2400", "0.1200"]
    assert rows[1][:7] == ["sgd", "7", "0.0", "0.01", "1", "0.6000", "0.3000"]
    text = "\n".join(lines)
    assert "The same in every row: batch_size 256, encoding_dim 32, decoder_hidden 0, dataset mnist." in text
    assert "A row with several runs shows their means." in text
    assert "Not in the table: 1 finished run that this project did not make." in text
    assert "is FAILED: MemoryError: no memory" in text
    assert "Not in the table: hanging |[bold]<b> (" in text
    assert "is RUNNING: still running, or its process is gone" in text

    markdown = (tmp_path / "out" / "conclusion.md").read_text()
    assert "| adam | 50 | 1e-05 | 0.001 | 2 | 0.2400 | 0.1200 |" in markdown
    assert "Not in the table: hanging \\|[bold]&lt;b> (" in markdown
    with (tmp_path / "out" / "conclusion.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["optimizer"] for row in table] == ["adam", "sgd"]
    assert float(table[0]["last_val_bce"]) == pytest.approx(0.12)
    assert table[0]["psnr"] == "nan"


@pytest.mark.usefixtures("experiment")
def test_the_filter_is_mlflows_and_the_store_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (tmp_path / "store.db").read_bytes()
    compare.compare(Options(filter="params.optimizer = 'sgd'", out=tmp_path / "out"))
    assert capsys.readouterr().out.startswith("1 run (1 finished), 1 configuration with finished runs")
    with pytest.raises(UserError, match="no run matches"):
        compare.compare(Options(filter="params.optimizer = 'ftrl'"))
    assert (tmp_path / "store.db").read_bytes() == before


@pytest.mark.usefixtures("experiment")
def test_the_files_are_logged_when_asked(tmp_path: Path) -> None:
    message = compare.compare(Options(out=tmp_path / "out", log=True))
    run_id = message.split("logged to run ")[1]
    assert [file.path for file in mlflow.MlflowClient().list_artifacts(run_id)] == ["conclusion.csv", "conclusion.md"]
    assert run_id not in set(tracking.read_runs()["run_id"])


@pytest.mark.usefixtures("store")
def test_only_unfinished_runs(small: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), tracking.track(RunConfig(), small):
        raise KeyboardInterrupt
    compare.compare(Options(out=tmp_path / "out"))
    printed = capsys.readouterr().out
    assert printed.startswith("1 run (1 killed), 0 configurations with finished runs")
    assert "is KILLED: interrupted by Ctrl-C" in printed


@pytest.mark.usefixtures("store")
def test_only_runs_by_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mlflow.start_run():
        mlflow.log_metric("epochs", 3)
    compare.compare(Options(out=tmp_path / "out"))
    printed = capsys.readouterr().out
    assert printed.startswith("1 run (1 finished), 0 configurations with finished runs")
    assert "Not in the table: 1 finished run that this project did not make." in printed


@pytest.mark.usefixtures("store")
def test_the_same_path_with_other_images_is_another_configuration(small: Images) -> None:
    changed = Images("small", small.source, "1" * 64, small.shape, small.train, small.test)
    finished(small, 0.1)
    finished(changed, 0.2)
    table = compare.conclusion(tracking.read_runs())
    assert list(table["data_hash"]) == [small.sha256, changed.sha256]
    assert list(table["runs"]) == [1, 1]


@pytest.mark.usefixtures("store")
def test_a_folder_that_cannot_be_written(small: Images, tmp_path: Path) -> None:
    finished(small, 0.1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written: .*choose another folder with --out"):
        compare.compare(Options(out=tmp_path / "file" / "out"))


@pytest.mark.usefixtures("experiment")
def test_it_runs_under_mlflow_run_and_leaves_itself_out(tmp_path: Path) -> None:
    for _ in range(2):
        words = ("mlflow", "run", str(ROOT), "-e", "compare", "-P", f"out={tmp_path}/out", "--env-manager", "local")
        done = run(*words, folder=tmp_path, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("6 runs (4 finished, 1 running, 1 failed), 2 configurations")


def test_the_summary_by_hand() -> None:
    runs = pd.DataFrame({"a": ["x", "y", "x"], "loss": [1.0, 5.0, 2.0], "mse": [np.nan, np.nan, 4.0]})
    table = evidence.summarise(runs, ["a"], ["loss", "mse", "absent"])
    assert table["a"].tolist() == ["x", "y"]
    assert table["runs"].tolist() == [2, 1]
    assert table["loss"].tolist() == [1.5, 5.0]
    assert table["mse"].tolist()[0] == 4.0
    assert table[["mse", "absent"]].isna().to_numpy().tolist() == [[False, True], [True, True]]
    assert evidence.differing_columns(table, ["a", "absent"]) == ["a"]
