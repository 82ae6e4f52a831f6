"""What the page in Airflow's UI takes with a thousand pipelines, measured in the browser."""

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


def pages_table(repeats: int) -> Table:
    """Open the list in a real API server as often as wanted, each time in a new window."""
    from tests.ui.site import Site, visiting
    from tests.ui.test_speed import measure

    table = Table(
        "The page in Airflow's UI with 1,000 pipelines, in Chromium",
        "first paint ≤ 1 s after the data is there, a filter ≤ 0.1 s, a steady refresh ≤ 20 kB and ≤ 5 % of a core",
        ["what", "median (least…greatest)"],
    )
    playwright: Playwright
    with (
        tempfile.TemporaryDirectory() as scratch,
        ArroyoSandbox(pipelines=1000) as many,
        Site(Path(scratch) / "site", {"arroyo_many": many.url}) as site,
        importlib.import_module("playwright.sync_api").sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        found: dict[str, list[float]] = {}
        for _ in range(repeats):
            with visiting(browser, site) as visitor:
                for name, value in measure(visitor, many).items():
                    found.setdefault(name, []).append(value)
    for name, values in found.items():
        table.add(name, spread(values, 0 if max(values) > 100 else 3))
    return table
