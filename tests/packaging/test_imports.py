"""What importing the package costs, and what of it works without Airflow."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import airflow_provider_arroyo

PACKAGE = "airflow_provider_arroyo"
HTTP_LIBRARIES = ("requests", "aiohttp", "httpx", "urllib3")


def modules_added(before: str, code: str) -> set[str]:
    """Return the modules that some code loads in a fresh interpreter in which other code ran before."""
    script = (
        f"{before}\nimport sys, json\nhad = set(sys.modules)\n{code}\n"
        "print(json.dumps(sorted(set(sys.modules) - had)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_the_package_imports_nothing_else() -> None:
    assert modules_added("", f"import {PACKAGE}") == {PACKAGE}


def test_reading_the_provider_info_imports_nothing_else() -> None:
    added = modules_added(
        "from __future__ import annotations\nimport typing",
        f"from {PACKAGE}.get_provider_info import get_provider_info; get_provider_info()",
    )
    assert added == {PACKAGE, f"{PACKAGE}.get_provider_info"}


def test_public_modules_bring_no_http_library_and_nothing_that_speaks_to_arroyo() -> None:
    modules = [
        f"{PACKAGE}.{one}"
        for one in ("exceptions", "hooks.arroyo", "links", "operators.pipelines", "sensors.pipelines")
    ]
    modules.append(f"{PACKAGE}.triggers.pipelines")
    added = modules_added(
        "from airflow.sdk import DAG, BaseSensorOperator\nfrom airflow.triggers.base import BaseTrigger",
        "\n".join(f"import {one}" for one in modules),
    )
    assert added >= set(modules)
    assert not {name.split(".")[0] for name in added} & set(HTTP_LIBRARIES)
    # They take longer than all the rest, and a DAG file needs none of them.
    assert not added & {f"{PACKAGE}.arroyo.{one}" for one in ("api", "client", "details", "pipeline", "tls")}


def requirements_without_airflow() -> set[str]:
    """Return the distributions that the package needs, and what they need, Airflow left out."""
    wanted: set[str] = set()
    pending = [name for name in importlib.metadata.requires(PACKAGE) or () if "airflow" not in name]
    while pending:
        requirement = Requirement(pending.pop())
        if requirement.name in wanted or (
            requirement.marker and not requirement.marker.evaluate({"extra": ""})
        ):
            continue
        wanted.add(requirement.name)
        pending.extend(importlib.metadata.requires(requirement.name) or ())
    return wanted


@pytest.fixture(scope="module")
def place_without_airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of packages that holds this one and what it needs, but no Airflow."""
    place = tmp_path_factory.mktemp("without_airflow")
    for name in requirements_without_airflow():
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            top = file.parts[0]
            source = Path(str(distribution.locate_file(top)))
            if not top.startswith("..") and not (place / top).exists():
                (place / top).symlink_to(source)
    (place / PACKAGE).symlink_to(Path(airflow_provider_arroyo.__file__).parent)
    return place


def run_without_airflow(place: Path, code: str) -> str:
    """Run code in an interpreter that sees nothing but the standard library and a folder."""
    script = f"import sys; sys.path.append({str(place)!r})\n{code}"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_place_without_airflow_has_none(place_without_airflow: Path) -> None:
    code = "import importlib.util as u; print(u.find_spec('airflow'), u.find_spec('requests') is not None)"
    assert run_without_airflow(place_without_airflow, code) == "None True\n"


@pytest.mark.parametrize("part", ["arroyo", "monitoring", "sandbox"])
def test_every_module_of_a_part_loads_without_airflow(part: str, place_without_airflow: Path) -> None:
    folder = Path(airflow_provider_arroyo.__file__).parent / part
    names = [
        ".".join((PACKAGE, part, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
        # A __main__ and a pytest plugin are for other programs to load.
        for path in folder.rglob("*.py")
        if path.stem not in ("__main__", "pytest_plugin")
    ]
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)\nprint('loaded')"
    assert run_without_airflow(place_without_airflow, code) == "loaded\n"
