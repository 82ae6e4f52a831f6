"""The layers of the package, read from the sources: no module imports from a layer above its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_arroyo

PACKAGE = "airflow_provider_arroyo"
ROOT = Path(airflow_provider_arroyo.__file__).parent

# From top to bottom. A room is a top-level folder or module. It may import itself and the rooms in the rows below.
# The sandbox has its own rule.
ROWS = (
    {"decorators", "__main__"},
    {"operators", "sensors", "triggers", "plugin"},
    {"on_kill", "hooks", "evidence", "polling", "links", "assets", "openlineage"},
    {"monitoring", "pipelines"},
    {"client"},
    {"exceptions", "text", "get_provider_info", "sql"},
)
# Rooms that a room may import from the same row.
SIDEWAYS = {
    "operators": {"triggers"},
    # A deploy describes its waits and gets their results.
    "pipelines": {"monitoring"},
    "sensors": {"operators", "triggers"},
    "exceptions": {"text"},
    "hooks": {"evidence"},
}
# The sandbox uses only the names in Arroyo's API and the grammar of its SQL, so that it cannot share a
# mistake of the client.
SANDBOX_MAY = (f"{PACKAGE}.client.enums.", f"{PACKAGE}.sql.")

WITHOUT_AIRFLOW = {"client", "pipelines", "monitoring", "evidence", "polling", "sandbox", *ROWS[-1]}
AIRFLOW_IN_FUNCTIONS = {"on_kill"}
# The client's HTTP library. Nothing else in the package sends requests, and the client uses no other.
HTTP_LIBRARIES = {"requests", "urllib3"}
OTHER_HTTP_LIBRARIES = {"aiohttp", "yarl", "httpx"}

MODULES = sorted(ROOT.rglob("*.py"))


def room_of(module: str) -> str:
    """Return the room of a module of this package; empty for the package itself, which holds the version."""
    return module.removeprefix(PACKAGE).lstrip(".").split(".")[0].removesuffix("__init__")


def module_name(path: Path) -> str:
    """Return the dotted name; that of a package keeps its ``__init__``, from which relative imports count."""
    return ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts))


def may_import(room: str) -> set[str]:
    """Return the rooms that a room may import, itself included."""
    row = next(number for number, rooms in enumerate(ROWS) if room in rooms)
    return {room, "", *SIDEWAYS.get(room, ()), *(below for rooms in ROWS[row + 1 :] for below in rooms)}


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Yield every module that a module's syntax tree imports, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = module.split(".")[: -node.level] if node.level else []
            origin = ".".join((*start, *((node.module,) if node.module else ())))
            yield origin
            # `from package import module` imports the module too.
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imports_at_load(tree: ast.Module, module: str) -> Iterator[str]:
    """Yield what is imported when the module is loaded: not in functions, not for type checkers."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node, module)
        pending.extend(ast.iter_child_nodes(node))


def all_imports(path: Path) -> set[str]:
    return set(imports(ast.parse(path.read_text()), module_name(path)))


def is_allowed(room: str, name: str) -> bool:
    """Whether a module of a room may import a module of this package, or something in one."""
    if room == "":
        return False
    if room == "sandbox":
        return room_of(name) == room or f"{name}.".startswith(SANDBOX_MAY)
    return room_of(name) in may_import(room) or name == f"{PACKAGE}.__version__"


def test_a_module_imports_only_modules_below_it() -> None:
    found = [
        f"{module_name(path)} imports {name}"
        for path in MODULES
        for name in all_imports(path)
        if name.startswith(f"{PACKAGE}.") and not is_allowed(room_of(module_name(path)), name)
    ]
    assert found == []


def test_modules_that_know_arroyo_know_no_airflow() -> None:
    for path in MODULES:
        room, names = room_of(module_name(path)), set[str]()
        if room in WITHOUT_AIRFLOW:
            names = all_imports(path)
        elif room in AIRFLOW_IN_FUNCTIONS:
            names = set(imports_at_load(ast.parse(path.read_text()), module_name(path)))
        assert "airflow" not in {name.split(".")[0] for name in names}, path


def test_only_the_client_uses_an_http_library() -> None:
    for path in MODULES:
        room = room_of(module_name(path))
        if room != "sandbox":
            names = {name.split(".")[0] for name in all_imports(path)}
            assert not names & OTHER_HTTP_LIBRARIES, path
            assert room == "client" or not names & HTTP_LIBRARIES, path


@pytest.mark.parametrize("folder", ["operators", "sensors", "triggers"])
def test_modules_of_tasks_load_no_http_library(folder: str) -> None:
    paths = list((ROOT / folder).glob("*.py"))
    assert paths
    for path in paths:
        loaded = {
            name.split(".")[0] for name in imports_at_load(ast.parse(path.read_text()), module_name(path))
        }
        assert not loaded & (HTTP_LIBRARIES | OTHER_HTTP_LIBRARIES), path.name


def test_an_upward_import_is_found() -> None:
    tree = ast.parse("def f():\n    from ..hooks import arroyo\n")
    assert f"{PACKAGE}.hooks.arroyo" in set(imports(tree, f"{PACKAGE}.monitoring.wait"))
    assert room_of(f"{PACKAGE}.hooks.arroyo") == "hooks"
    assert "hooks" not in may_import("monitoring")
    assert "monitoring" in may_import("hooks")
    assert list(imports_at_load(tree, f"{PACKAGE}.monitoring.wait")) == []
