"""Runs of every kind as they are read back from a real store."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from pipeline.compare import reading
from pipeline.errors import UserError
from pipeline.task import load
from pipeline.tracking import runs as tracking
from pipeline.train.config import RunConfig
from pipeline.train.dataset import Images

CONFIG = RunConfig(optimizer="adam", epochs=2, l1=1e-5)


@pytest.mark.usefixtures("db")
def test_every_run_of_every_kind_is_read_and_nothing_changed(small: Images, tmp_path: Path) -> None:
    with tracking.track(CONFIG, small):
        pass
    with pytest.raises(ZeroDivisionError), tracking.track(CONFIG, small):
        raise ZeroDivisionError
    with mlflow.start_run(run_name="by hand"):
        mlflow.log_params({"epochs": "some", "depth": "3"})
    for entry_point in ("compare", "study", "train"):  # the last one of somebody else's project
        with mlflow.start_run(run_name=entry_point, tags={"mlflow.project.entryPoint": entry_point}):
            pass
    before = (tmp_path / "store.db").read_bytes()
    runs = reading.runs([reading.experiments("")[0].id], load())
    assert (tmp_path / "store.db").read_bytes() == before
    assert list(runs["status"]) == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]
    assert list(runs["name"]) == ["train", "by hand", CONFIG.name, CONFIG.name]
    assert list(runs["ours"]) == [False, False, True, True]
    assert list(runs["params.epochs"][1:]) == ["some", 2, 2]
    assert list(runs["params.depth"][1:2]) == ["3"]
    assert len(reading.runs("0", load(), "params.optimizer = 'adam' and attributes.status = 'FAILED'")) == 1


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/experiments/7"),
        ("https://me:secret@tracking.example:8443/mlflow/?x=1", "https://tracking.example:8443/mlflow/#/experiments/7"),
        ("sqlite:///store.db", ""),
        ("mlruns", ""),
        ("databricks", ""),
    ],
)
def test_the_address_of_the_ui_is_known_of_a_server_and_has_no_password(
    uri: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    assert reading.ui(reading.Experiment("e", "7")) == address


def test_it_says_what_is_wrong(store: str, small: Images, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no tracking store sqlite.*make a run first"):
        reading.experiments("")
    assert not (tmp_path / "store.db").exists()
    with tracking.track(CONFIG, small):
        pass
    with pytest.raises(UserError, match=r"experiment='other' does not exist in .*; it has 'Default'"):
        reading.experiments("other")
    with pytest.raises(UserError, match="filter='optimizer is adam' cannot be used: Invalid clause"):
        reading.runs("0", load(), "optimizer is adam")
