from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .site import Site, Visitor, logged_in, window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ui)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not chromium:
        pytest.skip("Chromium is not installed")
    # The machine may be busy, and these tests do not measure speed.
    playwright.expect.set_options(timeout=30_000)
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@pytest.fixture(scope="session")
def demo() -> Iterator[ArroyoSandbox]:
    """Return an Arroyo with a pipeline in each common situation."""
    with ArroyoSandbox(demo=True, seed=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def many() -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(pipelines=1000, seed=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, demo: ArroyoSandbox, many: ArroyoSandbox
) -> Iterator[Site]:
    connections = {"arroyo_default": demo.url, "arroyo_many": many.url}
    with Site(tmp_path_factory.mktemp("site"), connections) as found:
        yield found


@pytest.fixture(scope="session")
def admins(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    """Return the browser context in which all windows of the admin open."""
    with logged_in(browser, site) as context:
        yield context


@pytest.fixture
def admin(admins: BrowserContext, site: Site) -> Iterator[Visitor]:
    with window(admins, site) as visitor:
        yield visitor
