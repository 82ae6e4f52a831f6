"""How fast the pages in Airflow's UI are in a browser: a list of a thousand pipelines, and a pipeline's page."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from benchmarks.report import Table, spread

if TYPE_CHECKING:
    from playwright.sync_api import Playwright


def pages_tables(repeats: int) -> list[Table]:
    """Open the pages of a real API server repeatedly, each time in a new window."""
    from tests.ui.site import Site, id_of, visiting
    from tests.ui.test_speed import measure, measure_page

    listed = Table(
        "The page in Airflow's UI with 1,000 pipelines, in Chromium",
        "first paint ≤ 1 s after the data is there, a filter ≤ 0.1 s, a steady refresh ≤ 20 kB and ≤ 5 % of a core",
        ["what", "median (least…greatest)"],
    )
    own = Table(
        "A pipeline's own page in Airflow's UI, in Chromium",
        "first paint ≤ 1 s after the data is there, a layout ≤ 0.2 s, a steady refresh ≤ 20 kB and ≤ 5 % of a core",
        ["what", "median (least…greatest)"],
    )
    playwright: Playwright
    with (
        tempfile.TemporaryDirectory() as scratch,
        ArroyoSandbox(pipelines=1000) as many,
        ArroyoSandbox(demo=True) as demo,
        Site(Path(scratch) / "site", {"arroyo_many": many.url, "arroyo_default": demo.url}) as site,
        importlib.import_module("playwright.sync_api").sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        values: tuple[dict[str, list[float]], ...] = ({}, {})
        for _ in range(repeats):
            with visiting(browser, site) as visitor:
                _note(values[0], measure(visitor, many))
            with visiting(browser, site) as visitor:
                _note(values[1], measure_page(visitor, id_of(demo, "orders_per_minute")))
    for table, found in zip((listed, own), values, strict=True):
        for name, measured in found.items():
            table.add(name, spread(measured, 0 if max(measured) > 100 else 3))
    return [listed, own]


def _note(values: dict[str, list[float]], measured: dict[str, float]) -> None:
    for name, value in measured.items():
        values.setdefault(name, []).append(value)
