"""What importing the package loads, and which parts work without Airflow."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import airflow_provider_arroyo
from tests.packaging.test_layers import imports, imports_at_load

PACKAGE = "airflow_provider_arroyo"
ROOT = Path(airflow_provider_arroyo.__file__).parent
PUBLIC = ("exceptions", "hooks.arroyo", "links", "operators.arroyo", "sensors.arroyo", "triggers.arroyo")
HTTP_LIBRARIES = ("requests", "urllib3", "aiohttp", "httpx")
# Imported when a task runs, not when its DAG is parsed: this takes longer than everything else together.
NOT_WITH_A_DAG = {
    "client": "client connection_errors details endpoints models request responses retry tls transport",
    "pipelines": "existing ownership spec sql_errors submit",
    "monitoring": "condition event messages metric_condition plan progress result rules wait watch",
    "polling": "poll shared",
}


def modules_added(before: str, code: str) -> set[str]:
    """Return the modules that code loads in a fresh interpreter, after other code has run."""
    script = (
        f"{before}\nimport sys, json\nhad = set(sys.modules)\n{code}\n"
        "print(json.dumps(sorted(set(sys.modules) - had)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_else() -> None:
    assert modules_added("", f"import {PACKAGE}") == {PACKAGE}


def test_reading_the_provider_info_loads_nothing_else() -> None:
    added = modules_added(
        "from __future__ import annotations\nimport typing",
        f"from {PACKAGE}.get_provider_info import get_provider_info; get_provider_info()",
    )
    assert added == {PACKAGE, f"{PACKAGE}.get_provider_info"}


def test_public_modules_load_no_http_client() -> None:
    modules = [f"{PACKAGE}.{one}" for one in PUBLIC]
    added = modules_added(
        "from airflow.sdk import DAG, BaseSensorOperator\nfrom airflow.triggers.base import BaseTrigger",
        "\n".join(f"import {one}" for one in modules),
    )
    assert added >= set(modules)
    assert not {name.split(".")[0] for name in added} & {*HTTP_LIBRARIES, "openlineage", "sqlglot"}
    ours = {name.removeprefix(f"{PACKAGE}.") for name in added if name.startswith(PACKAGE)}
    later = {f"{room}.{name}" for room, names in NOT_WITH_A_DAG.items() for name in names.split()}
    assert all((ROOT / name.replace(".", "/")).with_suffix(".py").exists() for name in later)
    assert not ours & later
    assert not {name for name in ours if name.split(".")[0] in ("sandbox", "on_kill", "openlineage", "sql")}


def test_what_dag_files_import_compiles_no_patterns() -> None:
    """Each would cost every process that parses a DAG some time. Only a task uses the hook."""
    count = (
        "import re, sys\n"
        "compile, callers = re.compile, []\n"
        "def counted(*given, **flags):\n"
        "    callers.append(sys._getframe(1).f_globals['__name__'])\n"
        "    return compile(*given, **flags)\n"
        "re.compile = counted"
    )
    load = "\n".join(f"import {PACKAGE}.{one}" for one in PUBLIC if one != "hooks.arroyo")
    ours = f"[name for name in callers if name.startswith('{PACKAGE}')]"
    modules_added(count, f"{load}\nassert callers and not {ours}, {ours}")


@pytest.mark.parametrize("name", ["arroyo", "events"])
def test_a_trigger_imports_nothing_on_the_event_loop(name: str) -> None:
    path, module = ROOT / "triggers" / f"{name}.py", f"{PACKAGE}.triggers.{name}"
    tree = ast.parse(path.read_text())
    in_functions = {
        one
        for one in set(imports(tree, module)) - set(imports_at_load(tree, module))
        if one.startswith(PACKAGE) and (ROOT.parent / one.replace(".", "/")).with_suffix(".py").exists()
    }
    assert len(in_functions) > 5
    assert in_functions <= modules_added("", f"import {module} as trigger; trigger._import_polling()")


def requirements_without_airflow() -> set[str]:
    """Return the distributions that the package and its sandbox depend on, directly or not, without Airflow."""
    wanted: set[str] = set()
    pending = [name for name in importlib.metadata.requires(PACKAGE) or () if "airflow" not in name]
    while pending:
        requirement = Requirement(pending.pop())
        if requirement.name in wanted or (
            requirement.marker and not requirement.marker.evaluate({"extra": "sandbox"})
        ):
            continue
        wanted.add(requirement.name)
        pending.extend(importlib.metadata.requires(requirement.name) or ())
    return wanted


@pytest.fixture(scope="module")
def folder_without_airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with this package and its dependencies, but without Airflow."""
    folder = tmp_path_factory.mktemp("without_airflow")
    for name in requirements_without_airflow():
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            top = file.parts[0]
            source = Path(str(distribution.locate_file(top)))
            if not top.startswith("..") and not (folder / top).exists():
                (folder / top).symlink_to(source)
    (folder / PACKAGE).symlink_to(Path(airflow_provider_arroyo.__file__).parent)
    return folder


def run_without_airflow(folder: Path, code: str) -> str:
    """Run code in an interpreter that has only the standard library and a folder."""
    script = f"import sys; sys.path.append({str(folder)!r})\n{code}"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_folder_without_airflow_has_none(folder_without_airflow: Path) -> None:
    code = "import importlib.util as u; print(u.find_spec('airflow'), u.find_spec('requests') is not None)"
    assert run_without_airflow(folder_without_airflow, code) == "None True\n"


@pytest.mark.parametrize("room", ["client", "pipelines", "monitoring", "polling", "sandbox", "sql"])
def test_every_module_below_the_hooks_loads_without_airflow(room: str, folder_without_airflow: Path) -> None:
    root = Path(airflow_provider_arroyo.__file__).parent / room
    names = [
        ".".join((PACKAGE, room, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
        # Other programs load a __main__ and a pytest plugin.
        for path in root.rglob("*.py")
        if path.stem not in ("__main__", "pytest_plugin")
    ]
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)\nprint('loaded')"
    assert run_without_airflow(folder_without_airflow, code) == "loaded\n"
