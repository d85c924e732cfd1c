"""A finished study in the real MLflow UI, seen by a headless Chromium: the clicks that docs/mlflow-ui.md names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml
from mlflow.entities import Run
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from pipeline.study import run as study
from tests.conftest import Server
from tests.toy import AtOnce

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # MLflow's pages ask for fonts and more from outside
    "--window-size=1600,1000",
)
SECONDS = 90  # a page of MLflow's takes 3 s on an idle machine, and this one may be busy
EPOCHS = 4

NAMES = "//*[@role='gridcell'][@col-id='attributes.`Run Name`']"
NAME = ".//a | .//span[@title]"
EXPANDER = ".//button"
INDENT = ".//div[not(node())][contains(@style, 'width')]"  # what a nested run's name stands behind
VIEWS = "//*[@role='radiogroup']//label[.//input[@value='{}']]"

# What Plotly has drawn beneath a heading, as MLflow hands it over: whose line, x and y.
LINES = """
    const plots = [...document.querySelectorAll("[data-testid='experiment-view-compare-runs-card']")]
        .filter(card => card.innerText.split("\\n")[0] === arguments[0])
        .map(card => card.querySelector(".js-plotly-plot"));
    return plots.length !== 1 || !plots[0] || !plots[0].data ? [] : plots[0].data
        .filter(line => line.uuid && line.x && line.x.length)
        .map(line => [line.uuid, Array.from(line.x), Array.from(line.y)]);
"""


class Page:
    """The UI in a browser, by what a person sees there; every step waits for what it needs."""

    def __init__(self, browser: Chrome, screenshots: list[Path]) -> None:
        self._browser = browser
        self._screenshots = screenshots

    def open(self, url: str) -> None:
        """Go to an address."""
        self._browser.get(url)

    def until(self, happened: Callable[[], Any], what: str) -> Any:
        """What `happened` returns as soon as that is true."""
        passing = (NoSuchElementException, StaleElementReferenceException, ElementClickInterceptedException)
        return WebDriverWait(self._browser, SECONDS, 0.2, passing).until(lambda _: happened(), f"not seen: {what}")

    def shown(self, path: str) -> list[WebElement]:
        """The elements at an XPath that can be seen."""
        return [element for element in self._browser.find_elements(By.XPATH, path) if element.is_displayed()]

    def click(self, path: str, within: WebElement | None = None) -> None:
        """Click the first element at an XPath, as soon as nothing lies above it."""

        def clicked() -> bool:
            found = within.find_elements(By.XPATH, path) if within else self.shown(path)
            if found:
                found[0].click()
            return bool(found)

        self.until(clicked, path)

    def press(self, key: str) -> None:
        """A key, wherever the focus is."""
        self._browser.switch_to.active_element.send_keys(key)

    def type_into(self, placeholder: str, text: str) -> None:
        """Type into the field that says so."""
        path = f"//input[@placeholder='{placeholder}']"
        self.until(lambda: self.shown(path), path)[0].send_keys(text)

    def names(self) -> list[str]:
        """The table's column of names, from top to bottom: of runs, and of groups of them."""
        rows = sorted(self.shown(NAMES), key=lambda cell: cell.location["y"])
        return [name.text for row in rows for name in row.find_elements(By.XPATH, NAME) if name.text]

    def row(self, name: str) -> WebElement:
        """The cell with the name of a run."""
        found: WebElement = self.until(
            lambda: [
                cell for cell in self.shown(NAMES) if name in [each.text for each in cell.find_elements(By.XPATH, NAME)]
            ],
            f"the run {name}",
        )[0]
        return found

    def chart(self, metric: str) -> dict[str, tuple[list[float], list[float]]]:
        """The lines of the one chart with that heading, by the run or group that they are of: steps and values."""
        return {whose: (x, y) for whose, x, y in self._browser.execute_script(LINES, metric)}

    def photograph(self, name: str) -> None:
        """A screenshot for a person to look at."""
        for folder in self._screenshots:
            folder.mkdir(parents=True, exist_ok=True)
            assert self._browser.save_screenshot(str(folder / f"{name}.png"))


@contextmanager
def browser(folder: Path) -> Iterator[Chrome]:
    """A fresh browser that keeps its files in that folder."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("chromium and chromedriver are needed: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    opened = Chrome(options=options, service=ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A fresh browser; screenshots go to the test's folder, and to the one that `SCREENSHOTS` names."""
    wanted = os.environ.get("SCREENSHOTS")
    with browser(tmp_path / "browser") as opened:
        yield Page(opened, [tmp_path / "screenshots", *([Path(wanted)] if wanted else [])])


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)], ids=["by hand", "in CI"]
)
def test_without_a_browser_its_tests_are_skipped_but_not_in_ci(
    ci: str, outcome: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(outcome, match="apt-get install chromium chromium-driver"), browser(tmp_path):
        pass


@pytest.fixture
def runs(store: str, server: Server, small_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """A finished study on a server: two variations of two seeds, and their parent."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    content = {
        "name": "optimizers",
        "description": "two of them",
        "base": {"epochs": EPOCHS, "dataset": str(small_npz)},
        "seeds": 2,
        "variations": [{"name": name, "changes": {"optimizer": name}} for name in ("adam", "adadelta")],
    }
    file = tmp_path / "optimizers.yaml"
    file.write_text(yaml.safe_dump(content))
    assert "optimizers is finished: 4 runs" in study.run(study.Options(study=str(file)), AtOnce())
    return list(mlflow.MlflowClient(server.uri).search_runs(["0"]))


def curves(runs: list[Run], uri: str) -> dict[str, np.ndarray]:
    """`val_bce` by epoch of each run that has it, by the run's name, as MLflow has stored it."""
    client = mlflow.MlflowClient(uri)
    found = {run.info.run_name: client.get_metric_history(run.info.run_id, "val_bce") for run in runs}
    return {name: np.array([point.value for point in points]) for name, points in found.items() if points}


@pytest.mark.slow
def test_a_finished_study_in_the_ui(page: Page, runs: list[Run], server: Server) -> None:
    nested = {f"{variation} seed {seed}" for variation in ("adam", "adadelta") for seed in (0, 1)}
    stored = curves(runs, server.uri)
    assert set(stored) == nested

    # The way there: from the first page to the experiment's runs. The assistant beside them can be closed.
    page.open(server.uri)
    page.click("//*[@role='button'][normalize-space()='Model training']")
    page.click("//a[normalize-space()='Default']")
    page.click("//button[@aria-label='Close']")

    # The study is one row; its runs are beneath it, and further to the right.
    study_row = page.row("optimizers")
    assert page.names() == ["optimizers"]
    assert not study_row.find_elements(By.XPATH, INDENT)
    page.click(EXPANDER, study_row)
    page.until(lambda: len(page.names()) == 5, "the nested runs")
    assert page.names()[0] == "optimizers"
    assert set(page.names()[1:]) == nested
    for name in nested:
        assert page.row(name).find_elements(By.XPATH, INDENT)
        assert not page.row(name).find_elements(By.XPATH, EXPANDER)
    page.photograph("1-nested-runs")

    # The chart of every run: what is drawn is what is stored.
    page.click(VIEWS.format("CHART"))
    page.type_into("Search metric charts", "^val_bce$")
    ids = {run.info.run_name: run.info.run_id for run in runs}
    wanted = {ids[name] for name in nested}
    drawn = page.until(lambda: wanted <= set(lines := page.chart("val_bce")) and lines, "a line for each run")
    for name, values in stored.items():
        steps, drawn_values = drawn[ids[name]]
        assert steps == list(range(1, EPOCHS + 1))
        np.testing.assert_allclose(drawn_values, values, rtol=1e-12)
    page.photograph("2-chart-of-every-run")

    # Grouped by the tag `variation`: a line for each, which is the mean over its seeds.
    page.click("//button[starts-with(normalize-space(), 'Group by')]")
    page.click("//*[@role='menuitemcheckbox'][normalize-space()='variation']")
    page.press(Keys.ESCAPE)
    groups = {variation: f"tag.variation.{variation}" for variation in ("adam", "adadelta")}
    wanted = set(groups.values())
    drawn = page.until(lambda: wanted <= set(lines := page.chart("val_bce")) and lines, "a line for each variation")
    for variation, group in groups.items():
        seeds = [stored[f"{variation} seed {seed}"] for seed in (0, 1)]
        np.testing.assert_allclose(drawn[group][1], np.mean(seeds, axis=0), rtol=1e-12)
    page.photograph("3-chart-of-every-variation")
    page.click(VIEWS.format("TABLE"))
    page.until(lambda: {"Group: adam", "Group: adadelta"} <= set(page.names()), "the groups")
    names = page.names()
    for variation in ("adam", "adadelta"):
        first = names.index(f"Group: {variation}") + 1
        assert set(names[first : first + 2]) == {f"{variation} seed {seed}" for seed in (0, 1)}
    page.photograph("4-grouped-by-variation")
