"""Bad input at every entry point: one line that says what was received, what is allowed and what to do; in seconds.

Two tables. A row of `ARGUMENTS` is a command line, called in this process. A row of `SURROUNDINGS` is a line for the
shell, for what only a process of its own can have: its output, its limits, its environment.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from pipeline import deliver
from pipeline.compare import __main__ as compare
from pipeline.compare import conclusion
from pipeline.study import __main__ as study
from pipeline.train import __main__ as train
from tests.conftest import HANGS, ROOT, copy_store, environment, no_hang
from tests.test_compare import make

MAIN: dict[str, Callable[[list[str]], int]] = {
    "train": train.main,
    "study": study.main,
    "compare": compare.main,
    "deliver": deliver.main,
    "conclusion": conclusion.main,
}
STUDY = "name: s\ndescription: d\nseeds: 1\nvariations:\n  - name: a\n"
GIVE_A_STUDY = "; give controlled, published, tuned, or the path of a YAML file"
GIVE_A_CONCLUSION = "; give the path of a conclusion.json"
CHOOSE_A_FOLDER = "; choose another folder with --out"
HOSTILE = "\x1b[31mred\u202e\nline"
WITHOUT_PROC = "unshare --user --map-root-user --mount bash -c 'mount -t tmpfs none /proc && "
LONG = "x" * 5000


def files(folder: Path) -> None:
    """What the rows name: in the folder where they are called."""
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "file").write_text("text")
    (folder / "picture.yaml").write_bytes(b"\x89PNG\r\n\x1a\n\0\xff")
    with (folder / "huge").open("wb") as huge:  # without a block on the disk
        huge.truncate(8 * 2**30)
    (folder / "mine.yaml").write_text(STUDY)
    (folder / "big.yaml").write_text(STUDY + "#" * 10_000_000)
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    (folder / "laughs.yaml").write_text(f"a0: &a0 [x, x]\n{laughs}{STUDY}")
    many = "".join(f"  - name: a{n}\n    changes: *wrong\n" for n in range(1000))
    (folder / "aliases.yaml").write_text(f"base: &wrong {{epochs: 0, l1: -1}}\n{STUDY}{many}")
    (folder / "nested.json").write_text("[" * 10_000)
    (folder / "empty.json").write_text("{}")
    (folder / "escape.yaml").write_text(STUDY.replace("name: a", r'name: "\e[31mred"'))
    (folder / "leftwards.yaml").write_text(STUDY.replace("name: a", "name: a\u202eb"))


# What is called, and what it says after `error: `, as a regular expression. The exit code is 2.
ARGUMENTS = [
    # what no entry point knows
    (
        "train --optimzer adam",
        "unknown parameter 'optimzer', did you mean 'optimizer'[?]; the parameters are optimizer, .*",
    ),
    ("study --filter adam,,sgd", "filter='adam,,sgd' cannot be used: there is nothing before or behind a comma; .*"),
    ("study --sedes 3", "unknown parameter 'sedes', did you mean 'seeds'[?]; the parameters are study, seeds, .*"),
    ("compare --experimnt x", "unknown parameter 'experimnt', did you mean 'experiment'[?]; the parameters are .*"),
    ("deliver --all", "unknown parameter 'all'; the parameters are to"),
    ("conclusion --all", "unknown parameter 'all'; there are no parameters"),
    (f"train --{LONG} 1", r"unknown parameter 'x+\.\.\.x+'; the parameters are .*"),
    ("train '--\x1b[31mred' 1", r"unknown parameter '\\x1b\[31mred'; the parameters are .*"),
    (f"train --epochs {LONG}", r"epochs='x+\.\.\.x+' cannot be used: should be a valid integer, .*"),
    # study files
    ("study --study publishd", f"study='publishd' does not exist, did you mean 'published'[?]{GIVE_A_STUDY}"),
    (f"study --study {LONG}", rf"study='x+\.\.\.x+' cannot be opened \(File name too long\){GIVE_A_STUDY}"),
    ("study --study '~nobody-known/x'", f"study='~nobody-known/x' is in the home of a user .*{GIVE_A_STUDY}"),
    ("study --study pipe", f"study='pipe' is a pipe or a device{GIVE_A_STUDY}"),
    ("study --study /dev/zero", f"study='/dev/zero' is a pipe or a device{GIVE_A_STUDY}"),
    ("study --study folder", f"study='folder' is a directory{GIVE_A_STUDY}"),
    ("study --study huge", f"study='huge' is larger than 500,000 bytes{GIVE_A_STUDY}"),
    ("study --study big.yaml", f"study='big.yaml' is larger than 500,000 bytes{GIVE_A_STUDY}"),
    (
        "study --study picture.yaml",
        rf"study='picture.yaml' is not a text in UTF-8 \(invalid start byte\){GIVE_A_STUDY}",
    ),
    ("study --study file", "file: a study is a mapping with the keys name, .*; this is a str"),
    ("study --study laughs.yaml", "laughs.yaml: with the aliases written out it has more than 100,000 values"),
    ("study --study aliases.yaml", r"aliases.yaml, line 1: base.epochs = 0: .*; and 998 more"),
    ("study --study escape.yaml", r'escape.yaml, line 5: variations\[0\].name = "\\e\[31mred": it has control .*'),
    ("study --study leftwards.yaml", r"leftwards.yaml, .* = a\\u202eb: it has control characters, which a terminal .*"),
    # conclusions
    ("compare --verify none", f"verify='none' does not exist{GIVE_A_CONCLUSION}"),
    (f"compare --verify {LONG}", rf"verify='x+\.\.\.x+' cannot be opened \(File name too long\){GIVE_A_CONCLUSION}"),
    ("compare --verify '~nobody-known/x'", f"verify='~nobody-known/x' is in the home of a user .*{GIVE_A_CONCLUSION}"),
    ("compare --verify pipe", f"verify='pipe' is a pipe or a device{GIVE_A_CONCLUSION}"),
    ("compare --verify /dev/zero", f"verify='/dev/zero' is a pipe or a device{GIVE_A_CONCLUSION}"),
    ("compare --verify folder", f"verify='folder' is a directory{GIVE_A_CONCLUSION}"),
    ("compare --verify huge", f"verify='huge' is larger than 536,870,912 bytes{GIVE_A_CONCLUSION}"),
    (
        "compare --verify picture.yaml",
        r"verify='picture.yaml' is no conclusion.json of this version \(Invalid JSON: .*",
    ),
    ("compare --verify nested.json", r"verify='nested.json' is no conclusion.json of this version \(Invalid JSON: .*"),
    ("compare --verify empty.json", r"verify='empty.json' is no .* \(kind: Field required\); make it again"),
    ("compare --verify file --study s --log", "verify='file' cannot be used: the file .*; leave out --study, --log"),
    # what else is asked of a comparison
    ("compare --study s --group-by a", "group_by='a' cannot be used: .*; leave out --group-by or --study"),
    ("compare --group-by a,,b", "group_by='a,,b' cannot be used: there is nothing before or behind a comma; give .*"),
    ("compare --metrics ,", "metrics=',' cannot be used: there is nothing before or behind a comma; give names, .*"),
    ("compare --out ''", "out='' cannot be used: it is empty; give a folder, `.` for this one .*"),
    ("compare --out '~nobody-known/x'", "out='~nobody-known/x' cannot be used: it is in the home of a user .*"),
    ("compare --out file", rf"out='file' cannot be written \(File exists\){CHOOSE_A_FOLDER}"),
    ("compare --out file/out", rf"out='file/out' cannot be written \(Not a directory\){CHOOSE_A_FOLDER}"),
    ("compare --out pipe", rf"out='pipe' cannot be written \(File exists\){CHOOSE_A_FOLDER}"),
    ("compare --out /dev/full", rf"out='/dev/full' cannot be written \(File exists\){CHOOSE_A_FOLDER}"),
    (f"compare --out new/{LONG}", rf"out='new/x+\.\.\.x+' cannot be written \(File name too long\){CHOOSE_A_FOLDER}"),
    ("compare --out new/out", "there is no tracking store .*; make a run first, or set MLFLOW_TRACKING_URI"),
    ("study --study mine.yaml --seeds 1,,2", "seeds='1,,2' cannot be used: a seed is a whole number from 0 to .*"),
]


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("words", "says"), ARGUMENTS, ids=[words[:60] for words, _ in ARGUMENTS])
def test_arguments(words: str, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files(tmp_path)
    before = everything(tmp_path)
    entry, *arguments = shlex.split(words)
    with no_hang():
        code = MAIN[entry](arguments)
    told = capfd.readouterr()
    assert (told.out, code) == ("", 2)
    require_line(told.err, says)
    assert everything(tmp_path) == before


def require_line(told: str, says: str) -> None:
    """One line, without anything that a terminal would obey, of at most 300 characters."""
    (line,) = told.splitlines()
    assert re.fullmatch(f"error: {says}", line)
    assert line.isprintable()
    assert len(line) <= 300


# A line for the shell, the exit code, and standard error as a regular expression.
SURROUNDINGS = [
    ("train >&-", 2, "error: standard output is closed; give it a place, such as > /dev/null"),
    ("study >&-", 2, "error: standard output is closed; .*"),
    ("compare >&-", 2, "error: standard output is closed; .*"),
    ("deliver >&-", 2, "error: standard output is closed; .*"),
    ("conclusion >&-", 2, "error: standard output is closed; .*"),
    ("train >&- 2>&-", 2, ""),
    ("mkdir d && cd d && rmdir ../d && train", 2, r"error: the working directory is gone \(No such file .*"),
    ("mkdir d && cd d && rmdir ../d && compare", 2, r"error: the working directory is gone \(No such file .*"),
    ("KERAS_BACKEND=torch train", 2, "error: KERAS_BACKEND='torch' cannot be used; unset it, or set it to .*"),
    ("KERAS_BACKEND=jax study", 2, "error: KERAS_BACKEND='jax' cannot be used; unset it, or set it to .*"),
    ("PYTHONOPTIMIZE=2 train", 2, r"error: PYTHONOPTIMIZE=2 \(python -OO\) removes docstrings that MLflow .*"),
    ("PYTHONOPTIMIZE=2 compare", 2, r"error: PYTHONOPTIMIZE=2 \(python -OO\) removes docstrings that MLflow .*"),
    (
        "ulimit -v 1500000; train",
        2,
        r"error: this process may use 1\.4 GiB of addresses, .* TensorFlow needs 4; raise the .*",
    ),
    (
        "ulimit -v 1500000; study",
        2,
        r"error: this process may use 1\.4 GiB of addresses, .* TensorFlow needs 4; raise the .*",
    ),
    ("ulimit -v 500000; deliver", 2, r"error: this process may use 0\.5 GiB of .* MLflow needs 1; raise the .*"),
    (f"{WITHOUT_PROC} train'", 2, r"error: /proc/self/exe is not there, without .*; mount /proc \(mount .*"),
    (f"{WITHOUT_PROC} study'", 2, r"error: /proc/self/exe is not there, without .*; mount /proc \(mount .*"),
    (f"{WITHOUT_PROC} deliver'", 0, ""),
    (
        "VARIATIONS_STATE='~nobody-known' deliver",
        2,
        "error: '~nobody-known' is in a home that is not known here; .*",
    ),
    (f"VARIATIONS_STATE={LONG} deliver", 2, r"error: 'x+\.\.\.x+' cannot be opened \(File name too long\); .*"),
    ("VARIATIONS_STATE=/dev/null deliver", 2, "error: '/dev/null' is not a directory; set VARIATIONS_STATE to .*"),
    (
        "VARIATIONS_STATE=s3://bucket/state deliver",
        2,
        "error: .s3://bucket/state. is an address: what runs keep is locked and added to, .*; set VARIATIONS_STATE .*",
    ),
    ("conclusion > /dev/full", 2, r"error: not all of the output could be written \(No space left on device\); .*"),
    ("conclusion | true; exit ${PIPESTATUS[0]}", 2, r"error: not all of the output .* \(Broken pipe\); .*"),
]


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line for the shell in a folder, with its own store; `train`, `study`, ... are the entry points."""
    modules = {name: main.__module__.removesuffix(".__main__") for name, main in MAIN.items()}
    commands = "".join(f'{n}() {{ {sys.executable} -m {of} "$@"; }}; export -f {n}; ' for n, of in modules.items())
    env = {**environment(folder), "PYTHONPATH": str(ROOT)}
    words = ["bash", "-c", commands + line]
    return subprocess.run(words, cwd=folder, env=env, timeout=HANGS, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(("line", "code", "says"), SURROUNDINGS, ids=[row[0][:60] for row in SURROUNDINGS])
def test_surroundings(line: str, code: int, says: str, tmp_path: Path) -> None:
    if "unshare" in line and shell(f"{WITHOUT_PROC} true'", tmp_path).returncode:
        pytest.skip("only root may hide /proc here")
    files(tmp_path)
    done = shell(line, tmp_path)
    assert (done.returncode, done.stderr.count("Traceback")) == (code, 0), done.stderr
    assert re.fullmatch(says, done.stderr.strip(), re.DOTALL), done.stderr


# What is no mistake, but has been the end of an entry point.


@pytest.fixture(scope="module")
def hostile_store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two variations, of a name that is a command to a terminal, and of numbers that are hardly any."""
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", copy_store(empty_store, folder))
        for side, value in ((HOSTILE, -1.7e308), ("plain", 1e308)):
            for seed in range(3):
                loss = 1.0 - seed * value / 1e308
                make({"side": side, "seed": seed}, {"m": [1.0, value], "loss": [3.0, loss]}, name=side)
    return folder / "store.db"


@pytest.fixture
def made(hostile_store: Path, store: str, tmp_path: Path) -> Path:
    """A folder with a copy of it."""
    shutil.copy(hostile_store, tmp_path / "store.db")
    return tmp_path


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_comparison_is_printed_in_every_encoding(
    encoding: str, made: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without an escape code, a mark that turns the direction of writing, or a warning of overflows."""
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    assert compare.main(["--group-by", "side", "--metric", "loss"]) == 0
    assert capfd.readouterr().err == ""
    out.flush()
    text = out.buffer.getvalue().decode(encoding)
    assert "[31mred" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert re.search("[-\N{MINUS SIGN}][0-9i]", text)
    assert not re.search("[?][0-9i]", text)  # without its minus a result would be a wrong one
    report = (made / "comparison" / "report.md").read_text(encoding="utf-8")
    assert "\N{MINUS SIGN}" in report


# What is asked of that store and what it says, as in `ARGUMENTS`.
QUESTIONS = [
    (
        "--group-by side --baseline '\x1b[2J\u202e\nx'",
        "baseline=.* fits no variation; give parameter=value, or one of .*",
    ),
    (f"--baseline {LONG}", r"baseline='x+\.\.\.x+' fits no variation; give parameter=value, or one of .*"),
    (f"--group-by {LONG}", r"group_by='x+\.\.\.x+' is a parameter of no run; there are side, seed"),
    (f"--metric {LONG}", r"metric='x+\.\.\.x+' has no value in any finished run; there are .*"),
    (f"--metrics m,{LONG}", r"metrics='x+\.\.\.x+' has no value in any finished run; there are .*"),
    (f"--experiment {LONG}", r"experiment='x+\.\.\.x+' does not exist in sqlite:.*; it has 'Default'"),
    ("--experiment 'a\nb\x1b[31m'", r"experiment='a\\nb\\x1b\[31m' does not exist in sqlite:.*; it has 'Default'"),
    (f"--study {LONG}", r"study='x+\.\.\.x+' has no run in this experiment; run it with mlflow run .*"),
    (
        "--filter 'bad filter'",
        r"filter='bad filter' cannot be used: Invalid clause.*; it is one of MLflow's, such as .*",
    ),
    ("--filter 'params.side > 1'", r"filter='params.side > 1' cannot be used: Expected a quoted .*; it is one of .*"),
    (
        f"--filter {LONG}",
        r"filter='x+\.\.\.x+' cannot be used: .*; it is one of MLflow's, such as params\.optimizer .*",
    ),
    ("--filter \"params.side = 'none'\"", "no run matches; make one with mlflow run .*, or widen --filter"),
]


@pytest.mark.parametrize(("words", "says"), QUESTIONS, ids=[words[:60] for words, _ in QUESTIONS])
def test_questions_that_the_runs_cannot_answer(
    words: str, says: str, made: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with no_hang():
        code = compare.main(shlex.split(words))
    told = capfd.readouterr()
    assert (told.out, code) == ("", 2)
    require_line(told.err, says)
    assert not (made / "comparison").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0", "compare --group-by side --metric loss"),
        ("PYTHONWARNINGS=error", "compare --group-by side --metric loss"),
    ],
)
def test_a_comparison_in_any_surroundings(setting: str, line: str, made: Path) -> None:
    done = shell(f"{setting} {line}", made)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\N{MINUS SIGN}" in (made / "comparison" / "report.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("PYTHONWARNINGS=error train {words} > /dev/full", 2, "error: not all of the output .* left on device.*\n"),
        ("PYTHONWARNINGS=error study --study tiny.yaml 2>&-", 0, ""),
    ],
)
def test_a_run_goes_on_without_anybody_who_reads(
    line: str, code: int, says: str, db: str, tmp_path: Path, small_npz: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(f"{STUDY}base: {{epochs: 1, dataset: {small_npz}}}\n")
    done = shell(line.format(words=f"--epochs 1 --dataset {small_npz}"), tmp_path)
    assert done.returncode == code
    assert re.fullmatch(says, done.stderr)
    runs = mlflow.MlflowClient(environment(tmp_path)["MLFLOW_TRACKING_URI"]).search_runs(["0"])
    assert {run.info.status for run in runs} == {"FINISHED"}
