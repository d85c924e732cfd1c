"""The report: its tables, and its documents read back by a parser."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console
from selenium.webdriver import Chrome

from pipeline import plots
from pipeline.compare import report
from pipeline.compare.conclusion import Conclusion
from pipeline.compare.report import audits, markdown, publications, sentences, tables, terminal, values
from pipeline.compare.report.blocks import Column, Span, Table
from tests.test_sentences import (
    BCE,
    LOSS,
    METRICS,
    NAMES,
    NAN,
    NATS,
    cell,
    difference,
    empty,
    pair,
    runs,
    sample,
    variation,
)
from tests.test_ui import browser

# --- Tables -------------------------------------------------------------------------------------------------------


def test_the_conclusion_table_has_what_confounds_beside_the_verdict() -> None:
    table = tables.results_table(sample()).frame().set_index("variation")
    assert table["verdict"].tolist() == [
        "baseline",
        "confounded, by decoder_hidden, learning rate not tuned",
        "inconclusive",
        "supported, last val_loss not comparable, runs not finished: 1",
    ]
    assert table.loc["with_regularizationTerm", "runs"] == "4 of 5"
    assert table.loc["adam_optimizer", "last val_loss (nats per pixel)"] == "0.0922 [0.0916, 0.0928]"
    assert table.loc["Original", "flags"] == "collapsed, not converged"
    assert "flags" not in tables.results_table(sample(variations=sample().variations[1:])).frame()
    assert "first loss (nats per pixel)" not in table  # no run has it


def test_a_parameter_may_have_the_name_of_a_column() -> None:
    one = variation("a", 1, 1, 1).model_copy(update={"params": {"runs": 7, "verdict": "x"}})
    table = tables.results_table(sample(variations=(one,), differing=("runs", "verdict"), claims=(), pairs=())).frame()
    assert table.loc[0, ["runs", "runs (2)", "verdict", "verdict (2)"]].tolist() == ["5", "7", "", "x"]


def test_a_difference_in_another_metric_than_asked_says_so() -> None:
    other = pair("a", "b", BCE, difference(1, 0.1), asked=LOSS, why="penalty differs")
    table = tables.pairs_table(sample(pairs=(other, sample().pairs[0]))).frame()
    assert table["metric"].tolist() == ["last val_bce, for last val_loss", "last val_loss"]
    assert table["finding"].tolist() == ["higher, last val_loss not comparable", "lower"]
    assert table["relative"].tolist()[0] == "+1000.0 %"


def test_a_variation_of_several_claims_and_one_of_none() -> None:
    first, second, _ = sample().claims
    also = second.model_copy(update={"variation": "adam_optimizer", "against": "100_epochs"})
    table = tables.results_table(sample(claims=(first, also))).frame().set_index("variation")
    assert (
        table.loc["adam_optimizer", "verdict"]
        == "confounded against Original, by decoder_hidden, learning rate not tuned; "
        "inconclusive against 100_epochs"
    )
    assert table.loc["100_epochs", "verdict"] == "lower"  # than the baseline


def test_the_forest_gets_the_claims_then_the_variations_of_none() -> None:
    frame = report.differences(sample())
    assert frame["verdict"].tolist() == ["confounded", "inconclusive", "supported"]
    assert frame["smallest"].tolist() == [0.001] * 3
    assert frame.loc[2, "metric"] == "last val_bce"
    assert frame.loc[0, "note"].splitlines() == [
        "\u22120.3476 [\u22120.3490, \u22120.3462]",
        "by decoder_hidden",
        "learning rate not tuned",
    ]
    frame = report.differences(sample(claims=sample().claims[:1]))  # of adam_optimizer against Original
    assert frame["verdict"].tolist() == ["confounded", "lower", "lower"]
    assert frame["variation"].tolist()[1:] == ["100_epochs", "with_regularizationTerm"]
    assert frame["smallest"].isna().tolist() == [False, True, True]
    assert report.differences(empty()).empty


def test_what_the_forest_draws_is_possible_and_no_wall_time() -> None:
    share = METRICS[0].model_copy(update={"least": 0.0, "most": 1.0})
    wide = sample().claims[0].model_copy(update={"difference": difference(-0.5, 0.9)})
    timed = sample().claims[1].model_copy(update={"asked": "training_seconds", "metric": None, "why": "wall time"})
    frame = report.differences(sample(metrics=(share, *METRICS[1:]), claims=(wide, timed), pairs=()))
    assert frame["metric"].tolist() == ["last val_loss"]
    assert (frame.loc[0, "low"], frame.loc[0, "high"]) == (-1.0, pytest.approx(0.4))


def test_csv_keeps_numbers_whole_and_formulas_dead() -> None:
    cells = ["\tx", "=1+1", " @x", "\uff1d1", "-1", 'a,b\n"c"', "plain"]
    table = pd.DataFrame({"=name": cells, "loss": [7, 0.1 + 0.2, NAN, math.inf, -1.0, 1, 0]})
    rows = list(csv.reader(io.StringIO(tables.to_csv(table))))
    assert rows[0] == ["'=name", "loss"]
    assert [row[0] for row in rows[1:]] == ["'\tx", "'=1+1", "' @x", "'\uff1d1", "'-1", 'a,b\n"c"', "plain"]
    assert [row[1] for row in rows[1:]] == ["7.0", "0.30000000000000004", "nan", "inf", "-1.0", "1.0", "0.0"]


def test_the_csv_of_a_conclusion() -> None:
    rows = list(csv.DictReader(io.StringIO(report.conclusion_csv(sample()))))
    assert [row["variation"] for row in rows] == list(NAMES)
    assert rows[1]["verdict"] == "confounded, by decoder_hidden, learning rate not tuned"
    assert float(rows[1][LOSS]) == 0.0922
    assert float(rows[1][f"{LOSS}_low"]) == sample().variations[1].cells[0].low  # not rounded
    assert (rows[3]["planned"], rows[3]["finished"], rows[3]["seeds"], rows[3]["l1"]) == ("5", "4", "0 1 2 4", "0.0001")
    assert report.conclusion_csv(empty()).count("\n") == 1
    hostile_rows = list(csv.reader(io.StringIO(report.conclusion_csv(hostile()))))
    assert len({len(row) for row in hostile_rows}) == 1
    assert hostile_rows[1][0] == HOSTILE[0]
    assert hostile_rows[2][0] == "'" + HOSTILE[1]


def texts_table(columns: list[str], *rows: tuple[str, ...]) -> Table:
    return Table("t", [Column(column) for column in columns], [tuple((Span(cell),) for cell in row) for row in rows])


def printed(width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    table = texts_table(["optimizer", "runs", "last loss"], ("adam", "1", "0.1"), ("sgd", "2", "-"))
    terminal.Printer(console, everything=True).table(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_narrow_terminal_gets_the_table_in_parts() -> None:
    assert sum("adam" in line for line in printed(80)) == 1
    narrow = printed(17)
    assert sum("adam" in line for line in narrow) == 2
    assert max(len(line) for line in narrow) <= 17


# --- Terminal -----------------------------------------------------------------------------------------------------


def shown(conclusion: Conclusion, width: int, everything: bool = False, colours: bool = False) -> list[str]:
    """The lines on a terminal."""
    console = Console(
        width=width, file=io.StringIO(), force_terminal=colours, color_system="standard" if colours else None
    )
    report.to_terminal(conclusion, console, everything)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_terminal_says_the_claims_first_one_block_each() -> None:
    lines = shown(sample(), 80)
    assert lines[:3] == [
        "Claims: 1 of 3 supported; 1 of 3 inconclusive; 1 of 3 confounded (by",
        "  decoder_hidden).",
        "Lowest last val_loss: \u201c100_epochs\u201d, 0.0919 [0.0913, 0.0925] nats per pixel",
    ]
    first = lines.index("")
    assert lines[first + 1 : first + 8] == [
        "\u26a0 confounded: Switching from adadelta to adam significantly improves the loss.",
        "  last val_loss: \u22120.3476 [\u22120.3490, \u22120.3462] nats per pixel",
        "  corrected p < 0.001, paired by seed, n = 5",
        "  by decoder_hidden",
        "  learning rate not tuned",
        "",
        "? inconclusive: 100 epochs instead of 50 bring only a marginal improvement.",
    ]
    assert lines[-5:-1] == [
        "Completeness",
        "  \u201cwith_regularizationTerm\u201d, seed 3: diverged (DivergenceError: loss is nan in",
        "    epoch 7).",
        "",
    ]
    text = "\n".join(lines)
    assert "variation" not in text.split("Completeness")[0]  # no table
    assert lines[-1].endswith(": report.html, or --all.")


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("conclusion", ["sample", "hostile", "without claims", "empty"])
def test_no_line_is_wider_than_the_terminal_and_every_interval_is_whole(
    conclusion: str, everything: bool, width: int
) -> None:
    made = {"hostile": hostile(), "empty": empty(), "without claims": sample(claims=())}.get(conclusion, sample())
    lines = shown(made, width, everything)
    assert max(cell_len(line) for line in lines) <= width
    for line in lines:
        if "\u22120.34" in line or "0.09" in line:
            assert line.count("[") == line.count("]"), line
    if conclusion == "sample":
        text = " ".join(" ".join(lines).split())
        assert all(values.difference_text(each.difference, METRICS[1]) in text for each in made.claims)
        words = {word for line in lines for word in line.split()}
        assert {"pixel", "significantly", "\u201cwith_regularizationTerm\u201d,"} <= words  # none of them broken


def test_all_adds_the_tables_the_threats_and_the_checks() -> None:
    lines = shown(sample(), 80, everything=True)
    for heading in (sentences.THREATS, *dict(audits.audits(sample()))):
        assert heading in lines
    assert any(line.split()[:2] == ["adam_optimizer", "5"] for line in lines)
    assert not any("--all" in line for line in lines)


def test_without_claims_each_variation_is_a_block() -> None:
    lines = shown(sample(claims=()), 80)
    place = lines.index("lower: adam_optimizer")
    assert lines[place + 1 : place + 3] == [
        "  last val_loss: 0.0922 [0.0916, 0.0928] nats per pixel, runs finished: 5",
        "  minus \u201cOriginal\u201d: \u22120.3470 [\u22120.3480, \u22120.3460] nats per pixel",
    ]
    assert "baseline: Original" in lines
    many = sample(claims=(), variations=tuple(variation(f"v{n}", 0.1, 0.1, 20.0) for n in range(50)), pairs=())
    assert "And 30 more, in report.html." in shown(many, 80)


def test_a_verdict_has_its_colour_on_a_terminal_only() -> None:
    coloured = shown(sample(), 80, colours=True)
    assert (
        "\x1b[1;35m\u26a0 confounded\x1b[0m: Switching from adadelta to adam significantly improves the loss."
        in coloured
    )
    assert any(line.startswith("\x1b[1;33m? inconclusive\x1b[0m: ") for line in coloured)
    assert not any("\x1b" in line for line in shown(sample(), 80))


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("a bc def", 5, ["a bc", "  def"]),
        ("x [0.1, 0.2] y", 12, ["x [0.1, 0.2]", "  y"]),
        ("xy [0.1, 0.2] y", 12, ["xy", "  [0.1, 0.2]", "  y"]),
        ("abcdefgh", 4, ["abcd", "  ef", "  gh"]),
        ("\u81ea\u7f16\u7801", 4, ["\u81ea\u7f16", "  \u7801"]),  # two columns each
        ("", 80, [""]),
    ],
)
def test_lines_are_filled_by_whole_words_and_intervals(text: str, width: int, lines: list[str]) -> None:
    assert terminal.fill(text, width) == lines


# --- Markdown -----------------------------------------------------------------------------------------------------

SCRIPT = (
    "<script>alert(1)</script>\"'|\n=cmd|`x` **b** [l](https://evil.example) ![i](https://evil.example/i.png) "
    "$a$ & &lt; </td></svg>"
)
HOSTILE = (SCRIPT, "=HYPERLINK(1)", "\u202eعربي 自编码器", "very_long_" * 60)


def hostile() -> Conclusion:
    """The sample with names that try to be something else, wherever a user can put a text."""
    names = dict(zip(NAMES, HOSTILE, strict=True))

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return tuple(map(renamed, value))
        return names.get(value, value) if isinstance(value, str) else value

    given = renamed(sample().model_dump())
    given |= {"title": SCRIPT, "description": SCRIPT, "constant": {SCRIPT: SCRIPT}}
    given["provenance"] |= {
        "command": f"python {SCRIPT}\n```",
        "filter": SCRIPT,
        "experiments": (SCRIPT,),
        "hardware": (SCRIPT,),
    }
    given["published"]["source"] = SCRIPT
    for number, each in enumerate(given["variations"]):
        each["file"] = f"variation{number}"
    for each in given["claims"]:
        each["says"] = SCRIPT
    for each in given["runs"]:
        each["name"] = each["reason"] = SCRIPT
    return Conclusion.model_validate(given)


def cells_of(row: str) -> list[str]:
    """As GitHub splits a row: at every pipe that has no backslash before it."""
    return re.split(r"(?<!\\)\|", row)[1:-1]


def test_markdown_keeps_a_row_a_row() -> None:
    table = texts_table(["optimizer", "last loss"], ("adam", "0.1 [0.0, 0.2]"), ("a|b\n<i>", "p < 0.001"))
    assert markdown.table(table).splitlines() == [
        "| optimizer | last loss |",
        "| --- | --- |",
        "| adam | 0.1 [0.0, 0.2] |",
        "| a\\|b &lt;i> | p < 0.001 |",
    ]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("with_regularizationTerm", "with_regularizationTerm"),  # nothing begins within a word
        ("_a_ *b* ~c~ `d` $e$ \\", "\\_a\\_ \\*b\\* \\~c\\~ \\`d\\` \\$e\\$ \\\\"),
        ("[e]: f [a](b) ![c](d) [0, 1]", "\\[e]: f [a\\](b) ![c\\](d) [0, 1]"),
        ("&lt; & a<b < c", "&amp;lt; & a&lt;b < c"),
        ("https://a.b www.c.d", "https&#58;//a.b www&#46;c.d"),
        ("a\x00\r\n\tb", "a b"),
    ],
)
def test_markdown_text_stands_as_it_is(text: str, escaped: str) -> None:
    assert markdown.escaped(text) == escaped


@pytest.mark.parametrize("conclusion", [sample(), hostile(), empty()], ids=["sample", "hostile", "empty"])
def test_tables_in_markdown_are_whole(conclusion: Conclusion) -> None:
    text = report.to_markdown(conclusion, ["forest.png", "variation0.png"])
    assert "<script" not in text.split("```")[0]
    tables = [
        list(lines)
        for is_row, lines in itertools.groupby(text.splitlines(), lambda line: line.startswith("| "))
        if is_row
    ]
    assert tables
    for table in tables:
        assert cells_of(table[1]) == [" --- "] * len(cells_of(table[0]))
        assert {len(cells_of(row)) for row in table} == {len(cells_of(table[0]))}


def test_the_report_in_markdown() -> None:
    text = report.to_markdown(sample(), ["forest.png", "loss curves.png", "Original.png", "secret.png"])
    lines = text.splitlines()
    assert lines[0] == "# published"
    assert "**Claims: 1 of 3 supported; 1 of 3 inconclusive; 1 of 3 confounded (by decoder_hidden).**" in lines
    assert [line for line in lines if line.startswith("## ")] == [
        f"## {heading}"
        for heading in (
            "Verdicts",
            "Threats to validity",
            "Results",
            "Differences",
            "Evidence",
            "Pictures",
            "Checks",
            "Published values",
            "Provenance",
        )
    ]
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert [link for link in links if not link.startswith("#")] == ["forest.png", "Original.png"]  # known, and there
    anchors = ["#" + line.removeprefix("## ").lower().replace(" ", "-") for line in lines if line.startswith("## ")]
    assert [link for link in links if link.startswith("#")] == [*anchors, "#evidence"]
    assert text.count("<details>") == text.count("</details>") == 4
    assert "```sh\npython -m pipeline.compare --study published\n```" in text


def test_many_metrics_are_several_tables_in_markdown() -> None:
    metrics = tuple(METRICS[0].model_copy(update={"name": f"m{n}", "label": f"metric {n}"}) for n in range(13))
    cells = tuple(cell(metric.name, n / 10) for n, metric in enumerate(metrics))
    one = variation("x", 1, 1, 1).model_copy(update={"cells": cells, "params": {"l1": 0.5}})
    text = report.to_markdown(
        sample(metrics=metrics, metric="m0", variations=(one,), claims=(), pairs=(), differing=("l1",))
    )
    headings = [row.split(" | ") for row in text.splitlines() if row.startswith("| variation | ")]
    assert [len(heading) - 1 for heading in headings[:4]] == [2 + 4, 7, 2, 1]
    assert headings[0][1:3] == ["runs", "verdict"]
    assert headings[3][1] == "l1 |"


def test_a_claim_ends_before_its_evidence_begins() -> None:
    first = sample().claims[1].model_copy(update={"says": "it is so"})
    assert "- **inconclusive**: it is so. In last val_loss, " in report.to_markdown(sample(claims=(first,)))


def test_a_command_cannot_end_its_block() -> None:
    text = report.to_markdown(hostile())
    opening, *command, closing = text.rstrip().splitlines()[-5:]
    assert (opening, closing) == ("````sh", "````")
    assert "```" in command


def test_a_paragraph_begins_nothing() -> None:
    for text in ("# a", "> a", "- a", "1. a", "+ a", "=== a"):
        text_of = report.to_markdown(sample(description=text)).splitlines()[2]
        assert text_of == f"&#{ord(text[0])};{text[1:]}"


def test_nothing_to_report_is_said_in_few_words() -> None:
    text = report.to_markdown(empty())
    assert "**No run has finished yet: there is nothing to conclude.**" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Checks", "## Provenance"]


def test_the_note_of_a_study_is_its_description_its_answer_and_its_verdicts() -> None:
    text = report.note(sample())
    assert text.startswith("The four runs of the published study, exactly as they were run.\n\n**Claims: 1 of 3 supp")
    assert f"\n\n{markdown.table(tables.claims_table(sample()))}\nLowest last val_loss: " in text
    many = sample(claims=sample().claims * 50)
    text = report.note(many)
    assert 7000 < len(text) <= 8000  # as long as a tag may be
    rows = sum(line.startswith("| ") for line in text.splitlines()) - 2
    assert f"\n\nAnd {150 - rows} more, in report.html.\n\nLowest" in text


# --- HTML ---------------------------------------------------------------------------------------------------------

_VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags with their attributes, texts by the tag around them; nesting is checked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            text = " ".join(data.split()).replace("\N{NON-BREAKING HYPHEN}", "-")
            self.texts.append((self.stack[-1] if self.stack else "", text))

    def all(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag in names]

    def inside(self, *names: str) -> list[str]:
        return [text for tag, text in self.texts if tag in names]


def plotted(conclusion: Conclusion) -> dict[str, bytes]:
    """Real pictures, small, under the names of the conclusion."""
    x = np.linspace(0, 1, 2 * 9, dtype=np.float32).reshape(2, 3, 3, 1)
    names = [each.name for each in conclusion.variations]
    epochs = pd.DataFrame(
        [(name, seed, epoch, 1 / epoch + seed / 9) for name in names for seed in (0, 1) for epoch in (1, 2, 3)],
        columns=["variation", "seed", "epoch", "value"],
    )
    return {
        "forest.svg": plots.svg(plots.forest(report.differences(conclusion)), "forest"),
        "loss_curves.svg": plots.svg(plots.curves(epochs, "val_loss", NATS), "curves"),
        "digits.svg": plots.svg(plots.digit_grid(x, dict.fromkeys(names, x)), "digits"),
        **{f"{each.file}.png": plots.png(plots.reconstructions(x, x, each.name), 30) for each in conclusion.variations},
    }


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(report.to_html(sample(), plotted(sample())))


def test_the_page_says_the_answer_first(page: Page) -> None:
    body = page.texts[[text for _, text in page.texts].index("published", 1) :]
    assert body[1][1] == "Claims: 1 of 3 supported; 1 of 3 inconclusive; 1 of 3 confounded (by decoder_hidden)."
    texts = [text for _, text in body]
    first = texts.index("Switching from adadelta to adam significantly improves the loss.")
    assert texts[first - 1] == "confounded"
    assert texts[first + 1 : first + 5] == [
        "by decoder_hidden",
        "learning rate not tuned",
        "last val_loss: \u22120.3476 [\u22120.3490, \u22120.3462] nats per pixel (corrected p < 0.001, paired by "
        "seed, n = 5)",
        "evidence",
    ]
    results = texts.index("Results")
    row = texts.index("adam_optimizer", results)
    assert texts[row : row + 8] == [
        "adam_optimizer",
        "5",
        "\u26a0",
        "confounded",
        "by decoder_hidden",
        "learning rate not tuned",
        "against Original",
        "0.0922",
    ]


def test_the_page_has_the_evidence(page: Page) -> None:
    texts = [text for _, text in page.texts]
    for each in sample().claims:
        assert sentences.verdict_sentence(each, sample()) in page.inside("p")
        assert set(sentences.other_notes(each)) <= set(page.inside("li"))
    for heading, lines in audits.audits(sample()):
        place = texts.index(heading)
        assert texts[place + 1 : place + 1 + len(lines)] == lines
    place = texts.index(sentences.THREATS, texts.index("Verdicts", texts.index("Verdicts") + 1))
    assert place < texts.index("Results", place)
    threats = [text for what, why, _ in sentences.threats(sample()) for text in (what, why)]
    assert texts[place + 1 : place + 1 + len(threats)] == threats
    published = sample().published
    assert published is not None
    chance = publications.chance_sentence(published.differences[0], sample(), 4)
    assert sum(chance in text for text in texts) == 1  # among the threats, and not once more
    assert page.inside("td").count("not reproduced") == 0  # names and texts of tables are isolated
    assert page.inside("bdi").count("not reproduced") == 1


def test_the_numbers_of_the_page_are_in_its_tables(page: Page) -> None:
    texts = [text for _, text in page.texts]
    row = texts.index("100_epochs", texts.index("Results"))
    best = [["0.0919", "(best)", "[0.0913, 0.0925]", "worst 0.0924"]] * 2
    best += [["21.00", "(best)", "[20.94, 21.06]", "worst 21.05"]]
    assert texts[row : row + 5] == ["100_epochs", "5", "?", "inconclusive", "against adam_optimizer"]
    assert texts[row + 5 : row + 17] == [text for each in best for text in each]
    assert texts.count("(best)") == 3
    row = texts.index("with_regularizationTerm", texts.index("What the variations change"))
    assert texts[row : row + 5] == ["with_regularizationTerm", "adam", "50", "0.0001", "0"]


def test_the_page_is_built_for_every_reader(page: Page) -> None:
    assert next(tag for tag, _ in page.tags if tag in ("h1", "h2", "h3")) == "h1"
    assert len(page.all("h1")) == 1
    assert page.inside("h2") == [
        "Verdicts",
        "Threats to validity",
        "Results",
        "Differences",
        "Evidence",
        "Pictures",
        "Checks",
        "Published values",
        "Provenance",
    ]
    assert page.inside("h3") == list(dict(audits.audits(sample())))
    assert [summary for summary in page.inside("summary") if "more" not in summary] == [
        "What the variations change",
        "Every difference from the baseline Original",
        "Each variation's own picture",
        "Every run that was read (20)",
    ]
    assert {attributes.get("scope") for attributes in page.all("th")} == {"col", "row"}
    assert len(page.all("caption")) == len(page.all("table")) == 7
    assert len(page.all("img")) == 4
    assert page.all("img")[0]["alt"] == "Test images above their reconstructions by \u201cOriginal\u201d."
    drawings = [attributes for attributes in page.all("svg") if "viewbox" in attributes]
    assert [attributes["role"] for attributes in drawings] == ["img"] * 3
    assert drawings[0]["aria-label"].startswith(
        "Differences with their 95 % intervals. \u201cadam_optimizer\u201d minus \u201cOriginal\u201d: confounded;"
    )
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = [attributes["aria-labelledby"] for attributes in page.all("section")]
    assert len(labels) == len(page.all("h2"))
    assert set(labels) <= set(ids)


def test_every_link_of_the_page_leads_somewhere(page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [attributes["href"] for attributes in page.all("a")]
    assert all(link.removeprefix("#") in ids for link in links)
    headings = [attributes["id"] for attributes in page.all("h2")]
    assert links[: len(headings)] == [f"#{heading}" for heading in headings]  # the contents, first of all
    for number in (1, 2, 3):
        assert f"#evidence-{number}" in links
        assert f"#claim-{number}" in links
    assert "#threat-1" in links


def test_a_run_of_several_experiments_leads_to_its_own() -> None:
    first, *rest = sample().runs
    known = sample().provenance.model_copy(
        update={"experiments": ("a", "b"), "ui": "http://127.0.0.1:5000/#/experiments/7"}
    )
    several = sample(runs=(first.model_copy(update={"experiment_id": "12"}), *rest), provenance=known)
    assert values.run_link(several, first.run_id) == f"http://127.0.0.1:5000/#/experiments/12/runs/{first.run_id}"
    assert values.run_link(several, rest[0].run_id) == f"http://127.0.0.1:5000/#/experiments/7/runs/{rest[0].run_id}"
    nowhere = several.model_copy(update={"provenance": known.model_copy(update={"ui": ""})})
    assert values.run_link(nowhere, first.run_id) == ""


def test_a_run_leads_to_its_row_or_to_mlflows_ui() -> None:
    ids, known_ui = tuple(run.run_id for run in sample().runs), "http://127.0.0.1:5000/#/experiments/7"

    def links(ui: str) -> list[str]:
        cells = tuple(each.model_copy(update={"run_ids": ids[:5]}) for each in sample().variations[1].cells)
        adam = sample().variations[1].model_copy(update={"cells": cells})
        known = sample().provenance.model_copy(update={"ui": ui})
        changed = sample(variations=(adam,), provenance=known)
        assert ("](http" in report.to_markdown(changed)) == (ui == known_ui)
        return [attributes["href"] for attributes in Page(report.to_html(changed, {})).all("a")]

    linked = links(known_ui)
    assert f"{known_ui}/runs/{ids[4]}" in linked  # from the claim's evidence, and from the table
    assert f"{known_ui}/runs/{ids[19]}" in linked
    assert f"{known_ui}/runs/{'f' * 32}" in linked  # the study's run
    for unknown in ("", "javascript:alert(1)//", 'http://x" onclick="', "http://x y"):
        linked = links(unknown)
        assert all(link.startswith("#") for link in linked)
        assert "#run-4" in linked


def test_the_page_needs_no_other(page: Page) -> None:
    """Nothing is fetched, and nothing would be: the page forbids it."""
    fetched = [
        value
        for tag, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "srcset", "action", "data", "poster", "background")
    ]
    assert fetched
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in fetched)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    styles = " ".join(page.inside("style"))
    assert "@import" not in styles
    assert not re.search(r"url\((?!#)", styles)
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_pictures_are_in_the_page_bit_by_bit() -> None:
    pictures = plotted(sample())
    images = Page(report.to_html(sample(), pictures)).all("img")
    sources = [base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in images]
    assert sources == [pictures[f"{name}.png"] for name in NAMES]


def test_a_picture_finds_its_variation_by_its_file() -> None:
    dotted = variation("rate 0.1", 0.1, 0.1, 20.0, file="rate_0.1")
    pixel = plots.png(plots.forest(report.differences(empty())), 10)
    page = Page(report.to_html(sample(variations=(dotted,)), {"rate_0.1": pixel, "stray.png": pixel}))
    assert "stray" in page.inside("bdi")
    assert [image["alt"] for image in page.all("img")] == [
        "Test images above their reconstructions by \u201crate 0.1\u201d.",
        "Test images above their reconstructions by \u201cstray\u201d.",
    ]
    assert report.to_markdown(sample(variations=(dotted,)), ["rate_0.1.png"]).count("](rate_0.1.png)") == 1


def test_hostile_names_are_text() -> None:
    conclusion = hostile()
    page = Page(report.to_html(conclusion, plotted(conclusion)))
    plain = Page(report.to_html(sample(), plotted(sample())))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags}
    assert {key for _, attributes in page.tags for key in attributes} <= {
        key for _, attributes in plain.tags for key in attributes
    }
    line = " ".join(SCRIPT.split())
    assert page.inside("title") == [line]
    assert line in page.inside("bdi")
    assert f"python {line} ```" in page.inside("code")
    assert any(text.startswith("<script>alert(1)") for text in page.inside("text"))  # in a picture
    assert not any("\u202e" in text for _, text in page.texts)


def test_what_could_not_be_read_and_what_was_left_out_is_said() -> None:
    stray = sample().runs[0].model_copy(update={"variation": None, "used": False, "reason": "nobody's\n<b>"})
    conclusion = sample(without_pictures=("Original",), runs=(stray,))
    page, text = Page(report.to_html(conclusion, {})), report.to_markdown(conclusion)
    (unread,) = sentences.pictures_sentences(conclusion)
    assert unread in page.inside("p")
    assert f"## Pictures\n\n{unread}\n" in text
    left_out = f"Not in the table: run 0, seed 0 ({stray.run_id}): nobody's <b>."
    assert left_out in page.inside("li")
    assert f"- {left_out.replace('<b>', '&lt;b>')}" in text.splitlines()


def test_the_differences_in_other_metrics_are_folded() -> None:
    page = Page(report.to_html(sample(), {}))
    assert "3 more, in other metrics" in page.inside("summary")
    texts = [text for _, text in page.texts]
    assert texts.index("last val_loss", texts.index("finding")) < texts.index("3 more, in other metrics")


def test_sections_without_content_are_not_there() -> None:
    page = Page(report.to_html(empty(), {}))
    assert page.inside("h2") == ["Checks", "Provenance"]
    assert [link["href"] for link in page.all("a")] == ["#checks", "#provenance"]
    assert "No run has finished yet: there is nothing to conclude." in page.inside("p")
    assert page.inside("caption") == ["Provenance"]
    assert not page.all("img", "svg")


def test_a_thousand_variations() -> None:
    names = [f"lr={n}" for n in range(1000)]
    variations = tuple(variation(name, 0.1, 0.1, 20.0) for name in names)
    pairs = tuple(pair(name, names[0], LOSS, difference(0.0, 0.1, 1.0)) for name in names[1:])
    many = sample(variations=variations, pairs=pairs, claims=(), completeness=runs(tuple(names)), published=None)
    text = report.to_html(many, {})
    assert len(text) < 2**20
    page = Page(text)
    assert "900 more rows" in page.inside("summary")
    assert page.inside("bdi").count("lr=999") >= 1  # there, if folded
    assert "Variations compared with “Original” in last val_loss: 999 (no difference shown: 999)." in text
    short = report.to_markdown(many)
    assert len(short) < 2**16
    assert "And 900 more rows, in conclusion.csv and conclusion.json." in short
    assert report.conclusion_csv(many).count("\n") == 1001


def test_more_metrics_than_a_page_is_wide() -> None:
    metrics = tuple(METRICS[0].model_copy(update={"name": f"m{n}", "label": f"metric {n}"}) for n in range(13))
    one = variation("x", 1, 1, 1).model_copy(
        update={"cells": tuple(cell(metric.name, n / 10) for n, metric in enumerate(metrics))}
    )
    page = Page(report.to_html(sample(metrics=metrics, metric="m7", variations=(one,), claims=(), pairs=()), {}))
    shown = [text for text in page.inside("th") if text.startswith("metric ")]
    assert shown == [f"metric {n}" for n in (7, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12)]  # the main one first, each once
    assert "More metrics" in page.inside("summary")


def test_wall_times_carry_their_note_and_no_highlight() -> None:
    timed = METRICS[0].model_copy(update={"name": "t", "label": "training", "unit": "s", "wall_time": True})
    names = ("slow", "fast")
    variations = tuple(
        variation(name, 0.1, 0.1, 20.0).model_copy(update={"cells": (cell("t", 10.0 + n),)})
        for n, name in enumerate(names)
    )
    conclusion = sample(metrics=(timed,), metric="t", variations=variations, claims=(), pairs=(), published=None)
    page = Page(report.to_html(conclusion, {}))
    assert "(best)" not in [text for _, text in page.texts]
    (said,) = sentences.wall_times((timed,))
    assert said in page.inside("p")
    assert said in report.to_markdown(conclusion).splitlines()


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.mark.parametrize("conclusion", ["sample", "hostile", "empty"])
def test_the_page_is_as_wide_as_a_phone(conclusion: str, chrome: Chrome, tmp_path: Path) -> None:
    """Also with all folds open: what is wider, such as a table, scrolls by itself."""
    made = {"hostile": hostile(), "empty": empty()}.get(conclusion, sample())
    file = tmp_path / "report.html"
    file.write_text(report.to_html(made, plotted(made) if made.variations else {}), encoding="utf-8")
    for width in (420, 1400):
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == 420}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        chrome.get(file.as_uri())
        opened = "document.querySelectorAll('details').forEach(each => each.open = true);"
        assert chrome.execute_script(f"{opened} return document.documentElement.scrollWidth") <= width


def test_a_link_to_a_folded_row_opens_the_fold(chrome: Chrome, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report.to_html(sample(), {}), encoding="utf-8")
    chrome.get(f"{file.as_uri()}#run-3")
    assert chrome.execute_script("return document.getElementById('run-3').closest('details').open")


def palettes() -> list[dict[str, str]]:
    style = Page(report.to_html(empty(), {})).inside("style")[0]
    found = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block)) for block in re.findall(r":root \{[^}]*\}", style)
    ]
    assert len(found) == 3  # light, dark, paper
    return found


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    channels = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_contrast_is_enough_in_light_and_dark_and_on_paper() -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    pairs = [("ink", "page"), ("muted", "page"), ("ink", "card"), ("red", "page"), ("blue", "page")]
    pairs += [(colour, f"{colour}-bg") for colour in ("green", "red", "blue", "amber", "grey")]
    for palette in palettes():
        for front, back in pairs:
            light, dark = sorted((luminance(palette[front]), luminance(palette[back])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back, palette)
