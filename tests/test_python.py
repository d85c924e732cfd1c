"""A comparison from Python: what docs/python.md shows, and that nothing is printed, written or left behind."""

from __future__ import annotations

import doctest
import inspect
import io
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

import pipeline.compare
from pipeline.compare import compare, report
from pipeline.compare.conclusion import Conclusion
from pipeline.compare.options import Options
from pipeline.compare.python import Comparison
from pipeline.compare.verify import read_conclusion
from pipeline.errors import UserError
from tests.conftest import ROOT
from tests.test_compare import VALUES, logged_results, make, published, study
from tests.test_report import Page, hostile
from tests.test_sentences import empty, sample

# The package imports nothing before the function is asked for: every one of its modules imports the package.
PROGRAM = """
import sys
import pipeline.compare
assert not {"mlflow", "pandas", "numpy", "pydantic"} & set(sys.modules)
from pipeline.compare import compare, options
found = compare(group_by=["side"], metric="loss")
assert repr(found) and found._repr_html_() and len(found.table) == 2
"""
DOCUMENT = (ROOT / "docs" / "python.md").read_text()


@pytest.mark.usefixtures("db")
def test_what_the_document_shows_is_so(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```(python|pycon)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "pycon", "pycon"]
    names: dict[str, Any] = {}
    exec(blocks[0][1], names)  # noqa: S102, the document's own
    for _, session in blocks[1:]:
        test = doctest.DocTestParser().get_doctest(session, names, "docs/python.md", None, 0)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        said = io.StringIO()
        runner.run(test, out=said.write, clear_globs=False)
        assert not said.getvalue(), said.getvalue()
        assert runner.tries == len(test.examples) > 1
        names = test.globs
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("db")
def test_it_prints_and_writes_nothing_and_changes_no_run(tmp_path: Path) -> None:
    """In a process of its own, whose streams nobody has taken away."""
    for side, loss in (("a", 0.3), ("b", 0.2)):
        for seed in range(3):
            make({"side": side, "seed": seed}, {"loss": [0.5, loss + seed / 100]})
    before = sorted(tmp_path.rglob("*"))
    runs = [run.to_dictionary() for run in mlflow.MlflowClient().search_runs(["0"])]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(tmp_path.rglob("*")) == before
    assert [run.to_dictionary() for run in mlflow.MlflowClient().search_runs(["0"])] == runs


@pytest.mark.usefixtures("db")
def test_what_is_written_and_logged_is_what_the_command_writes(tmp_path: Path) -> None:
    study(published(), VALUES)
    found = compare(study="small", out=tmp_path / "out", format=["json", "latex"], log=True)
    assert [file.name for file in found.files] == ["conclusion.tex", "conclusion.json"]
    assert all(file.parent == tmp_path / "out" and file.exists() for file in found.files)
    kept = read_conclusion(str(tmp_path / "out" / "conclusion.json"))
    assert kept.model_dump_json() == found.conclusion.model_dump_json()
    assert kept.provenance.command == "python -m pipeline.compare --experiment Default --study small"
    parent = mlflow.MlflowClient().search_runs(["0"], "tags.plan = 'p'")[0].info.run_id
    assert found.logged_to == parent
    assert logged_results(parent) == {"conclusion.tex", "conclusion.json"}
    again = compare(study="small", format="csv", log=True)  # the files lie in the store alone
    assert (again.files, again.logged_to) == ((), parent)
    assert "conclusion.csv" in logged_results(parent)
    assert not (tmp_path / "comparison").exists()


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"grup_by": "x"}, r"^unknown parameter 'grup_by', did you mean 'group_by'\?; the parameters are experiment, "),
        ({"all": True}, r"^unknown parameter 'all'"),
        ({"verify": "conclusion.json"}, r"^unknown parameter 'verify'"),
        ({"study": "x", "group_by": ["a"]}, r"a study says that itself; leave out --group-by or --study$"),
        ({"experiment": "Defalt"}, r"^experiment='Defalt' does not exist in .*, did you mean 'Default'\?"),
        ({"experiment": [1]}, r"^experiment='\[1\]' cannot be used: it should be a text, or a list of texts$"),
        ({"format": ["pdf"], "out": "x"}, r"^format='pdf' cannot be used: should be 'html', "),
        ({"format": "md", "pictures": "a.png"}, "^without out nothing is written; .* leave out format and pictures$"),
        ({"out": 3}, r"^out='3' cannot be used: it is no path"),
        ({"better": "up"}, r"^better='up' cannot be used: should be '', 'lower' or 'higher'$"),
        ({}, r"^no run matches"),
    ],
)
def test_what_cannot_be_used_is_raised_in_one_line(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why) as raised:
        compare(**options)
    assert "\n" not in str(raised.value)


def test_its_options_are_those_of_the_command_but_for_what_is_of_a_terminal() -> None:
    named = inspect.signature(compare).parameters
    assert [*named, "all", "suggest", "verify"] == list(Options.model_fields)
    assert {name: each.default for name, each in named.items() if name != "out"} == {
        name: Options.model_fields[name].default for name in named if name != "out"
    }
    assert named["out"].default is None


@pytest.mark.usefixtures("db")
def test_experiments_are_a_list_too() -> None:
    ids = {}
    for name in ("one", "two, three"):
        ids[name] = mlflow.create_experiment(name)
        for seed in range(2):
            with mlflow.start_run(experiment_id=ids[name]):
                mlflow.log_params({"optimizer": name[:3], "seed": seed})
                mlflow.log_metric("loss", len(name) + seed / 10)
    found = compare(experiment=["one", "two, three"])
    assert found.conclusion.provenance.experiments == ("one", "two, three")
    assert len(found.runs) == 4
    again = found.conclusion.provenance.command.split("--experiment ")[1]
    assert again == f"one,{ids['two, three']}"
    assert compare(experiment=again).conclusion.provenance.experiments == ("one", "two, three")


@pytest.mark.usefixtures("db")
def test_none_is_what_was_not_given(tmp_path: Path) -> None:
    make({"x": 1}, {"loss": 1.0})
    assert compare(study=None, metric=None, out=None).files == ()
    assert not (tmp_path / "comparison").exists()


def test_the_package_has_that_function_and_no_module_that_hides_it() -> None:
    assert pipeline.compare.compare is compare
    assert not (ROOT / "pipeline" / "compare" / "compare.py").exists()
    with pytest.raises(AttributeError, match=r"^module 'pipeline.compare' has no attribute 'compere'$"):
        pipeline.compare.compere  # noqa: B018


# --- What it found ------------------------------------------------------------------------------------------------


def conclusions() -> list[Conclusion]:
    paths = [f"{folder}/conclusion.json" for folder in ("results", "results/controlled", "results/tuned")]
    return [*(read_conclusion(str(ROOT / path)) for path in paths), sample(), sample(claims=()), hostile(), empty()]


def same(found: Any, wanted: Any) -> bool:
    missing = wanted is None or (isinstance(wanted, float) and math.isnan(wanted))
    return bool(pd.isna(found)) if missing else bool(found == wanted)


@pytest.mark.parametrize("conclusion", conclusions(), ids=lambda each: each.title[:12])
def test_the_frames_are_the_conclusion(conclusion: Conclusion) -> None:
    found = Comparison(conclusion)
    cells = [(variation.name, cell) for variation in conclusion.variations for cell in variation.cells]
    assert len(found.table) == len(cells)
    units = {metric.name: metric.unit for metric in conclusion.metrics}
    for row, (name, cell) in zip(found.table.to_dict("records"), cells, strict=True):
        assert (row.pop("variation"), row.pop("unit")) == (name, units[cell.metric])
        assert set(row) == {"metric", "mean", "low", "high", "n", "sd", "median", "worst"}
        assert all(same(value, getattr(cell, column)) for column, value in row.items())
    of_the_difference = {"mean", "low", "high", "confidence", "paired", "n_a", "n_b"}
    for frame, pairs in ((found.pairs, conclusion.pairs), (found.claims, conclusion.claims)):
        assert len(frame) == len(pairs)
        for row, pair in zip(frame.to_dict("records"), pairs, strict=True):
            assert of_the_difference < set(row)
            assert all(isinstance(text, str) for text in row.pop("warnings"))
            for column, value in row.items():
                assert same(value, getattr(pair.difference if column in of_the_difference else pair, column)), column
    assert list(found.claims.columns[:2]) == ["says", "verdict"]
    assert found.runs.to_dict("records") == [record.model_dump() for record in conclusion.runs]
    assert not (set(found.table["mean"].map(type)) - {float, np.float64})


def test_the_warnings_of_a_frame_are_those_of_the_report() -> None:
    found = Comparison(read_conclusion(str(ROOT / "results" / "conclusion.json"))).claims.set_index("verdict")[
        "warnings"
    ]
    assert found["confounded"] == ("by decoder_hidden", "learning rate not tuned")
    assert found["supported"] == ()


@pytest.mark.parametrize("conclusion", conclusions(), ids=lambda each: each.title[:12])
def test_a_notebook_shows_verdicts_and_results_and_nothing_that_runs_or_leads_away(conclusion: Conclusion) -> None:
    text = Comparison(conclusion)._repr_html_()
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= {
        *(
            "style",
            "div",
            "p",
            "h3",
            "ol",
            "ul",
            "li",
            "span",
            "a",
            "table",
            "caption",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
        ),
        *("b", "bdi", "br", "details", "summary"),
    }
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "id"]
    assert all(link["href"].startswith(("http://", "https://")) for link in page.all("a"))
    whole = Page(report.to_html(conclusion, {}))
    assert page.inside("p")[0] == whole.inside("p")[0]  # the answer
    assert len(page.all("table")) >= bool(conclusion.variations)
    texts = {each for _, each in page.texts}
    for claim in conclusion.claims:
        assert str(claim.verdict) in texts
    rows = {" ".join(variation.name.split()) for variation in conclusion.variations}
    assert not rows or len(page.inside("th")) > 0
    assert texts - {each for _, each in whole.texts} <= {each for each in texts if "{" in each}  # its style alone


def test_the_style_of_a_notebook_is_left_as_it_is() -> None:
    """Every rule stands within the one for what is shown."""
    (style,) = re.findall(r"<style>(.*?)</style>", Comparison(sample())._repr_html_(), re.DOTALL)
    depth, outside = 0, ""
    for character in style:
        depth += (character == "{") - (character == "}")
        outside += character if depth == 0 and character not in "{}" else ""
        assert depth >= 0
    assert depth == 0
    assert outside.split() == [".variations.variations"]


def test_it_reads_as_the_command_prints_without_what_is_of_the_command() -> None:
    text = repr(Comparison(sample()))
    assert text.startswith("Claims: 1 of 3 supported; 1 of 3 inconclusive; 1 of 3 confounded (by decoder_hidden).\n")
    assert "✓ supported: L1" in text
    assert "--all" not in text
    assert "report.html" not in text
    assert "\x1b" not in text
    assert str(Comparison(sample())) == text
