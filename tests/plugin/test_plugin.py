"""What Airflow loads, and in which of its processes it finds the pages."""

from __future__ import annotations

import gzip
import importlib.metadata
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_arroyo.plugin import plugin

API_SERVER = ["/usr/bin/airflow", "api-server"]
HAS_PAGES = hasattr(AirflowPlugin, "react_apps")
with_pages = pytest.mark.skipif(not HAS_PAGES, reason="this Airflow has no pages of plugins")
needs_wheel = pytest.mark.skipif(
    not os.environ.get("ARROYO_PROVIDER_INSTALLED"), reason="only with make: no wheel is installed"
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "main.js"
    path.write_text("export {};")
    return path


@needs_wheel
def test_airflow_finds_the_plugin_by_its_entry_point() -> None:
    (found,) = importlib.metadata.entry_points(group="airflow.plugins", name="arroyo")
    assert found.load() is plugin.ArroyoPlugin


def test_loading_the_plugin_loads_nothing_of_the_api_server() -> None:
    code = (
        "import sys, airflow_provider_arroyo.plugin.plugin\n"
        "print('airflow_provider_arroyo.plugin.api' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("command", ["scheduler", "triggerer", "dag-processor", "tasks", ""])
def test_processes_other_than_the_api_server_get_nothing(bundle: Path, command: str) -> None:
    assert plugin.described(["/usr/bin/airflow", command], bundle) == {}


@with_pages
def test_the_api_server_gets_the_routes_and_the_pages_below_its_base_path(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://air.example.com/one/two/")
    found = plugin.described(API_SERVER, bundle)
    assert [app["url_prefix"] for app in found["fastapi_apps"]] == ["/arroyo"]
    pages = found["react_apps"]
    assert [page["destination"] for page in pages] == ["nav", "task_instance"]
    assert len({page["url_route"] for page in pages}) == 2
    assert all(page["bundle_url"].startswith("/one/two/arroyo/static/main.js?v=") for page in pages)


@with_pages
def test_a_changed_bundle_has_another_address(bundle: Path) -> None:
    before = plugin.react_apps(bundle)[0]["bundle_url"]
    bundle.write_text("export const changed = 1;")
    assert plugin.react_apps(bundle)[0]["bundle_url"] != before


@pytest.mark.skipif(HAS_PAGES, reason="this Airflow has pages of plugins")
def test_an_airflow_without_pages_gets_nothing(bundle: Path) -> None:
    assert plugin.described(API_SERVER, bundle) == {}


@with_pages
def test_an_installation_without_the_built_pages_logs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert plugin.described(API_SERVER, tmp_path / "main.js") == {}
    assert "has no main.js" in caplog.text
    assert "install a wheel" in caplog.text


@needs_wheel
def test_the_wheel_holds_the_built_pages_and_none_of_their_sources() -> None:
    package = Path(plugin.__file__).parent
    assert plugin.BUNDLE.stat().st_size > 50_000
    assert len(gzip.compress(plugin.BUNDLE.read_bytes())) <= 250_000
    licenses = (package / "static" / "licenses.md").read_text()
    for library in ("preact", "uplot", "@dagrejs/dagre", "lowlight", "highlight.js"):
        assert f"\n## {library} - " in licenses
    assert sorted(path.name for path in (package / "static").iterdir()) == [
        "icon-dark.svg",
        "icon.svg",
        "licenses.md",
        "main.js",
    ]
    assert not (package / "ui").exists()
