"""The notebook: it defines nothing, is committed with its output, and runs from top to bottom."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from pipeline.compare.conclusion import Conclusion
from tests.conftest import CHOICES_OF_A_LAUNCHER, ROOT

NOTEBOOK = ROOT / "notebooks" / "variations.ipynb"
PLACES = ("TMPDIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
# What the test asks of the notebook's kernel when all cells have run.
PROBE = """
import json
print(json.dumps({"conclusion": conclusion.model_dump_json(), "runs": json.loads(runs.to_json(orient="records"))}))
"""
ADAM, L1, AS_PRINTED = "adam_optimizer", "with_regularizationTerm", "L1_as_printed"


@pytest.fixture(scope="module")
def notebook() -> NotebookNode:
    """As it is committed."""
    return read(NOTEBOOK)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def cells(notebook: NotebookNode, kind: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def texts(cell: NotebookNode) -> list[str]:
    """All that a cell shows as text."""
    shown = [output.get("text", "") for output in cell.outputs]
    return shown + [text for output in cell.outputs for kind, text in output.get("data", {}).items() if "text" in kind]


def kinds(cell: NotebookNode) -> list[list[str]]:
    return [[output.output_type, *sorted(output.get("data", {}))] for output in cell.outputs]


def test_it_imports_the_pipeline_and_defines_nothing(notebook: NotebookNode) -> None:
    nodes = [node for cell in cells(notebook, "code") for node in ast.walk(ast.parse(cell.source))]
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert not [ast.unparse(node) for node in nodes if isinstance(node, definitions)]
    assert "pipeline.compare" in [node.module for node in nodes if isinstance(node, ast.ImportFrom)]


def test_its_text_asks_and_its_cells_answer(notebook: NotebookNode) -> None:
    """A number with decimals would be a result, or a published figure: both are shown by cells."""
    assert cells(notebook, "markdown")
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            assert not re.search(r"\d\.\d", cell.source), cell.source
            assert any(later.cell_type == "code" for later in notebook.cells[place + 1 :]), cell.source


def test_it_is_committed_with_its_output(notebook: NotebookNode) -> None:
    code = cells(notebook, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert cell.outputs or not isinstance(ast.parse(cell.source).body[-1], ast.Expr), cell.source
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source
        for text in texts(cell):
            assert not re.search(r"(?<![\w./<])/+\w+[/\w]*/\w", text), f"a path of some machine: {text}"


@pytest.mark.slow
def test_it_runs_and_its_runs_show_the_six_faults(
    notebook: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PLACES:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in (*CHOICES_OF_A_LAUNCHER, "MLFLOW_TRACKING_URI", "VARIATIONS_STATE"):
        monkeypatch.delenv(name, raising=False)
    ran = read(NOTEBOOK)
    ran.cells.append(nbformat.v4.new_code_cell(PROBE))
    before = set(NOTEBOOK.parent.iterdir())
    NotebookClient(
        ran, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    assert set(NOTEBOOK.parent.iterdir()) == before, "it leaves nothing where it lies"
    probe = json.loads(ran.cells.pop().outputs[0].text)
    for mine, committed in zip(cells(ran, "code"), cells(notebook, "code"), strict=True):
        assert kinds(mine) == kinds(committed), mine.source
    assert_six_faults(pd.DataFrame(probe["runs"]), Conclusion.model_validate_json(probe["conclusion"]))


def assert_six_faults(runs: pd.DataFrame, conclusion: Conclusion) -> None:
    """Each from the runs themselves, or from what the conclusion says of them."""
    assert runs.groupby("variation").size().tolist() == [3] * 6
    confounded, fair, _, penalised = conclusion.claims
    assert [other.name for other in confounded.confounded_by] == ["decoder_hidden"]
    assert fair.confounded_by == ()
    mean = runs.groupby("variation").mean(numeric_only=True)

    assert float(of(runs, L1, "params.l1")[0]) == 1e-4
    (stated,) = conclusion.published.paper_values if conclusion.published else ()
    assert (stated.paper_value, stated.code_value, stated.same, stated.alternative) == (1e-5, 1e-4, False, AS_PRINTED)

    published = 0.3846  # the first epoch's loss of adam_optimizer
    assert mean.loc[ADAM, "keras2_progressbar_loss"] == pytest.approx(published, abs=0.02)
    assert mean.loc[ADAM, "first_loss"] < published - 0.08

    penalty = mean["last_val_loss"] - mean["last_val_bce"]
    assert penalty[ADAM] == pytest.approx(0, abs=1e-7)  # as exact as single precision
    assert 0 < penalty[AS_PRINTED] < penalty[L1] / 4
    assert penalty[L1] > 3 * abs(mean.loc[L1, "last_val_bce"] - mean.loc[ADAM, "last_val_bce"])
    assert (penalised.why, penalised.metric) == ("penalty differs", "last_val_bce")

    collapsed = {each.name for each in conclusion.variations if "collapsed" in [flag.flag for flag in each.flags]}
    assert collapsed == {"Original", "adadelta_same_decoder"} == set(mean.index[mean["variance_ratio"] < 0.05])

    answers = [a - b for a in of(runs, AS_PRINTED, "last_val_bce") for b in of(runs, ADAM, "last_val_bce")]
    assert min(answers) < 0 < max(answers)


def of(runs: pd.DataFrame, variation: str, column: str) -> list[Any]:
    return list(runs.loc[runs["variation"] == variation, column])
