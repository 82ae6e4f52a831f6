"""The wheel: its contents, and that the tests import it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import airflow_provider_arroyo

PACKAGE = "airflow_provider_arroyo"
ROOT = Path(__file__).parent.parent.parent
INSTALLED = os.environ.get("ARROYO_PROVIDER_INSTALLED")
needs_wheel = pytest.mark.skipif(
    not INSTALLED,
    reason="only with make: no wheel is installed, the package is imported from its sources",
)


@pytest.fixture
def wheel_names() -> list[str]:
    """Return the names of the files in the wheel."""
    (wheel,) = (ROOT.parent / "wheel").glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


@needs_wheel
def test_the_tests_import_the_installed_wheel() -> None:
    imported = Path(airflow_provider_arroyo.__file__).resolve()
    assert imported.is_relative_to(Path(str(INSTALLED)).resolve() / "lib")
    assert not (ROOT / PACKAGE).exists()


@needs_wheel
def test_the_wheel_contains_the_package_and_nothing_else(wheel_names: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {PACKAGE}
    assert f"{PACKAGE}/py.typed" in wheel_names
    assert not [name for name in wheel_names if "test" in name.lower().split("/") or "/tests/" in name]
    assert not [name for name in wheel_names if name.endswith(".pyc")]


@needs_wheel
def test_the_wheel_contains_its_license(wheel_names: list[str]) -> None:
    assert any(name.endswith("/licenses/LICENSE") for name in wheel_names)


@needs_wheel
def test_the_wheel_contains_the_licenses_of_its_pages_libraries() -> None:
    text = (Path(airflow_provider_arroyo.__file__).parent / "plugin" / "static" / "licenses.md").read_text()
    for library in ("@tanstack/preact-table", "@tanstack/virtual-core", "preact", "uplot"):
        assert re.search(rf"^#+ {library} ", text, re.MULTILINE), library
    assert text.count("Permission is hereby granted, free of charge") >= 4


@needs_wheel
def test_the_installed_version_is_the_packages() -> None:
    assert importlib.metadata.version(PACKAGE) == airflow_provider_arroyo.__version__


def airflow(*arguments: str, home: Path) -> str:
    env = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False"}
    result = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=env,
        cwd=home,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@needs_wheel
def test_airflow_starts_with_the_wheel_installed(tmp_path: Path) -> None:
    assert airflow("version", home=tmp_path).strip().splitlines()[-1][0].isdigit()


@needs_wheel
def test_airflow_lists_the_provider(tmp_path: Path) -> None:
    listed = airflow("providers", "list", "--output", "json", home=tmp_path)
    assert "airflow-provider-arroyo" in listed
    assert airflow_provider_arroyo.__version__ in listed
