"""Damaged journals, as power cuts, full disks and strangers leave them: nothing is believed that they do not hold.

python -m tests.test_damage 200    # truncates journals at so many random bytes, and counts what came of it
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from pipeline.errors import UserError
from pipeline.tracking import delivery, journal, store
from pipeline.tracking import runs as tracking
from pipeline.tracking.deliver import deliver as deliver_all
from pipeline.tracking.journal import ARTIFACTS, END, FINISHED, HEADER, KILLED, LINES, MODEL, SENT
from pipeline.tracking.locks import lock_of
from pipeline.train.dataset import Images
from tests.test_store import CONFIG, assert_whole, doubling, own, ready, said, say  # noqa: F401

pytestmark = pytest.mark.usefixtures("ready")


def deliver() -> str:
    """What `python -m pipeline.deliver` says: one line, whatever is wrong."""
    try:
        told = deliver_all()
    except UserError as error:
        told = str(error)
    assert "\n" not in told
    return told


def finished_or_said(client: mlflow.MlflowClient, images: Images) -> str:
    """The status of the one run that the store has: FINISHED only with everything, and nothing twice."""
    (run,) = client.search_runs([own(client)])
    for name in run.data.metrics:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps)), name
    pictures = [file.path.split("+timestamp")[0] for file in client.list_artifacts(run.info.run_id, "images")]
    assert max(Counter(pictures).values(), default=2) == 2
    if run.info.status == FINISHED:
        assert_whole(client.tracking_uri, images)
    else:
        assert run.data.tags["failure"]
    return str(run.info.status)


def go_on(folder: Path, images: Images, model: Path) -> None:
    """What a study that is started again does about a run: it is trained once more, and says what is missing."""
    known = tracking.open_journal(folder, CONFIG.name, {})
    if known.status == FINISHED:
        return
    run = tracking.TrackedRun(CONFIG, known)
    run.log_config(images)
    shutil.rmtree(folder / MODEL, ignore_errors=True)
    say(run, images, model)
    run.finish()


def lines(folder: Path) -> list[bytes]:
    return (folder / LINES).read_bytes().splitlines(keepends=True)


def change(place: int, line: bytes) -> Callable[[Path], object]:
    """Another line in the place of one."""

    def damage(folder: Path) -> None:
        known = lines(folder)
        known[place] = line
        (folder / LINES).write_bytes(b"".join(known))

    return damage


def cut(share: float, whole_line: bool = False) -> Callable[[Path], object]:
    """The journal ends after a share of its bytes."""

    def damage(folder: Path) -> None:
        content = (folder / LINES).read_bytes()[: int(share * (folder / LINES).stat().st_size)]
        (folder / LINES).write_bytes(content[: content.rfind(b"\n") + 1] if whole_line else content)

    return damage


def note(**changes: object) -> Callable[[Path], object]:
    """Another `sent.json`."""

    def damage(folder: Path) -> None:
        known = json.loads((folder / SENT).read_text()) if (folder / SENT).exists() else {}
        (folder / SENT).write_text(json.dumps({**known, **changes}))

    return damage


LINES_DAMAGED = {
    "a journal that ends in a line": cut(0.5),
    "a journal that ends after a line": cut(0.5, whole_line=True),
    "a journal without its end": cut(0.999, whole_line=True),
    "no journal": lambda folder: (folder / LINES).unlink(),
    "an empty journal": lambda folder: (folder / LINES).write_bytes(b""),
    "a line that is no JSON": change(7, b"{oops}\n"),
    "a line of zeros": change(7, b"\0" * 100 + b"\n"),
    "a line that is no UTF-8": change(7, b'{"operation": "tags", "tags": {"\xff": "x"}}\n'),
    "a line without an operation": change(7, b'{"tags": {}}\n'),
    "a line of another kind": change(7, b'["tags"]\n'),
    "an unknown operation": change(7, b'{"operation": "dance"}\n'),
    "an operation without what it needs": change(7, b'{"operation": "metrics", "points": [["loss"]]}\n'),
    "an artifact outside": change(7, b'{"operation": "artifacts", "paths": ["../../secret"]}\n'),
    "an artifact that is gone": change(7, b'{"operation": "artifacts", "paths": ["gone.png"]}\n'),
    "artifacts that are gone": lambda folder: shutil.rmtree(folder / ARTIFACTS, ignore_errors=True),
    "a model that is gone": lambda folder: shutil.rmtree(folder / MODEL, ignore_errors=True),
    "an end that is none": change(-1, b'{"operation": "end", "status": 7}\n'),
}
SENT_DAMAGED = {
    "no note of what was sent": lambda folder: (folder / SENT).unlink(missing_ok=True),
    "an empty note": lambda folder: (folder / SENT).write_bytes(b""),
    "a note of another kind": lambda folder: (folder / SENT).write_text("[1, 2]"),
    "a note that is a folder": lambda folder: ((folder / SENT).unlink(missing_ok=True), (folder / SENT).mkdir()),
    "an offset in a line": note(offset=77),
    "an offset behind the end": note(offset=10**9),
    "an offset before the beginning": note(offset=-5),
    "an offset that is a text": note(offset="x"),
    "fields of another version": note(surprise=1),
}
KINDS = {**LINES_DAMAGED, **SENT_DAMAGED}
HEADER_DAMAGED = {
    "no header": lambda folder: (folder / HEADER).unlink(),
    "an empty header": lambda folder: (folder / HEADER).write_bytes(b""),
    "a header that is no JSON": lambda folder: (folder / HEADER).write_text("{oops"),
    "a header that is no UTF-8": lambda folder: (folder / HEADER).write_bytes(b'{"key": "\xff"}'),
    "a header of something else": lambda folder: (folder / HEADER).write_text('{"name": "a package"}'),
    "a header of a newer version": lambda folder: (folder / HEADER).write_text(
        json.dumps({**json.loads((folder / HEADER).read_text()), "version": journal.FORMAT + 1})
    ),
    "a header that is a folder": lambda folder: ((folder / HEADER).unlink(), (folder / HEADER).mkdir()),
}


@pytest.mark.slow
@pytest.mark.parametrize("delivered", [False, True], ids=["nothing was sent", "everything was sent"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_with_a_damaged_journal_is_whole_or_not_finished_and_can_become_whole(
    kind: str,
    delivered: bool,
    ready: mlflow.MlflowClient,  # noqa: F811
    small: Images,
    doubling: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = tmp_path / "state" / "studies" / "s" / "run"
    known = said(small, doubling, folder)
    if delivered:
        delivery.send(known)
        assert_whole(ready.tracking_uri, small)
    KINDS[kind](folder)
    shutil.copytree(folder, tmp_path / "state" / "aside" / "run")  # for `deliver`, where the other is trained once more
    shutil.rmtree(folder)

    deliver()
    status = finished_or_said(ready, small)
    # The store knows better than what is left of the journal.
    assert status == (FINISHED if delivered or kind in SENT_DAMAGED else KILLED)
    assert deliver() == "0 runs delivered, nothing is left"
    assert finished_or_said(ready, small) == status


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "delivered"), list(zip(KINDS, itertools.cycle((False, True)), strict=False)))
def test_a_damaged_run_that_is_trained_once_more_is_whole_and_stored_once(
    kind: str,
    delivered: bool,
    ready: mlflow.MlflowClient,  # noqa: F811
    small: Images,
    doubling: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = tmp_path / "state" / "studies" / "s" / "run"
    known = said(small, doubling, folder)
    if delivered:
        delivery.send(known)
    KINDS[kind](folder)
    go_on(folder, small, doubling)
    assert deliver().endswith("delivered, nothing is left")
    assert finished_or_said(ready, small) == FINISHED


@pytest.mark.parametrize("kind", HEADER_DAMAGED)
def test_what_cannot_be_read_is_named_and_kept_and_does_not_hold_back_the_rest(
    kind: str,
    ready: mlflow.MlflowClient,  # noqa: F811
    small: Images,
    doubling: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    root = tmp_path / "state"
    broken = said(small, doubling, root / "runs" / "a").folder
    said(small, doubling, root / "runs" / "b")
    kept = (broken / LINES).read_bytes()
    HEADER_DAMAGED[kind](broken)
    told = deliver()
    assert told.startswith("1 run delivered; left: ")
    assert str(broken / HEADER) in told
    assert finished_or_said(ready, small) == FINISHED
    (aside,) = (root / "damaged").iterdir()
    assert str(aside) in told
    assert (aside / LINES).read_bytes() == kept
    assert deliver() == "0 runs delivered, nothing is left"


def test_a_lock_that_is_a_folder_is_named_and_does_not_hold_back_the_rest(
    ready: mlflow.MlflowClient,  # noqa: F811
    small: Images,
    doubling: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    for name in "ab":
        said(small, doubling, tmp_path / "state" / "runs" / name)
    lock_of(tmp_path / "state" / "runs" / "a").mkdir()
    told = deliver()
    assert told.startswith("1 run delivered; left: ")
    assert f"{tmp_path}/state/runs/a cannot be written: Is a directory" in told
    assert finished_or_said(ready, small) == FINISHED


def test_a_linked_folder_of_runs_is_delivered(
    ready: mlflow.MlflowClient,  # noqa: F811
    small: Images,
    doubling: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    said(small, doubling, tmp_path / "elsewhere" / "a")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "runs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "state")
    assert deliver() == "1 run delivered, nothing is left"
    assert finished_or_said(ready, small) == FINISHED


def test_a_journal_is_not_deleted_before_the_store_was_asked(
    ready: mlflow.MlflowClient,  # noqa: F811
    small: Images,
    doubling: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """A note that everything was sent, of which the store has heard nothing: a backup that was brought back, say."""
    known = said(small, doubling, tmp_path / "state" / "runs" / "a")
    end = len((known.folder / LINES).read_bytes())
    made = ready.create_run(own(ready), tags={"journal": known.header.key}, run_name=CONFIG.name)
    known.mark_sent(run_id=made.info.run_id, offset=end)
    delivery.Delivery(known.folder, store.tracking_uri()).send()
    assert known.folder.exists()
    delivery.Delivery(known.folder, store.tracking_uri()).send()
    assert not known.folder.exists()
    assert finished_or_said(ready, small) == FINISHED


def test_what_was_noted_last_is_never_ahead_of_what_it_speaks_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut there is what was made durable: the journal before what was sent of it, the end at once."""
    durable: list[str] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        durable.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split(".json.")[0])
        sync(descriptor)

    known = tracking.begin(tmp_path / "run", "a run")
    monkeypatch.setattr(os, "fsync", noted)
    known.append("tags", tags={})
    assert durable == []
    known.mark_sent(offset=0)
    assert durable == [LINES, "sent", "run"]
    durable.clear()
    known.append(END, status=FINISHED, reason="", at=0)
    assert durable == [LINES]


# --- Outside CI


def main(times: int) -> None:
    """Truncate journals at random bytes, sent in full, in part or not at all, and deliver or train what is left."""
    outcomes: Counter[str] = Counter()
    images = Images("small", "file:///small", "0" * 64, *__import__("numpy").zeros((2, 4, 28, 28, 1), "f4"))
    root = Path(tempfile.mkdtemp())
    store.require_reachable(f"sqlite:///{root}/empty.db")
    mlflow.pyfunc.save_model(str(root / MODEL), python_model=_double, pip_requirements=["numpy"])
    chance = random.Random(0)
    for n, trained in itertools.product(range(times), (False, True)):
        folder = root / f"{n} {trained}"
        folder.mkdir()
        shutil.copy(root / "empty.db", folder / "store.db")
        os.chdir(folder)
        os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/store.db", "VARIATIONS_STATE": f"{folder}/state"}
        os.environ["MLFLOW_EXPERIMENT_NAME"] = "own"
        client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
        client.create_experiment("own", artifact_location=f"{folder}/artifacts")
        known = said(images, root / MODEL, folder / "state" / "studies" / "s" / "run")
        content = (known.folder / LINES).read_bytes()
        if n % 3:
            if n % 3 == 1:  # in part
                (known.folder / LINES).write_bytes(content[: content.find(b"\n", chance.randrange(len(content))) + 1])
            delivery.send(known)
            (known.folder / LINES).write_bytes(content)
        (known.folder / LINES).write_bytes(content[: chance.randrange(len(content))])
        try:
            if trained:
                go_on(known.folder, images, root / MODEL)
            deliver()
            told = deliver()
            outcomes[finished_or_said(client, images)] += 1
            outcomes["undeliverable"] += told != "0 runs delivered, nothing is left"
        except Exception as error:
            outcomes[f"WRONG: {type(error).__name__}: {str(error)[:200]}"] += 1
            print(folder, n, trained)
    print(dict(outcomes))


@mlflow.pyfunc.utils.pyfunc
def _double(model_input: list[float]) -> list[float]:
    return [2 * x for x in model_input]


if __name__ == "__main__":
    begin = time.monotonic()
    main(int(sys.argv[1]))
    print(f"{time.monotonic() - begin:.0f} s")
