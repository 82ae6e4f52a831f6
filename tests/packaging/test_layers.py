"""The arrows between the layers, read from the sources: nothing imports upwards."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_arroyo

PACKAGE = "airflow_provider_arroyo"
ROOT = Path(airflow_provider_arroyo.__file__).parent

# What each part may import of this package, besides itself. `top` is all that Airflow loads:
# operators, sensors, triggers, plugin and the modules beside them.
ARROWS = {
    "top": {"top", "hooks", "monitoring", "arroyo", "provider_info"},
    "hooks": {"monitoring", "arroyo", "provider_info"},
    "monitoring": {"arroyo"},
    "arroyo": set[str](),
    "sandbox": set[str](),
    "provider_info": set[str](),
}
WITHOUT_AIRFLOW = {"arroyo", "monitoring", "sandbox", "provider_info"}
# What the sandbox knows of the rest: the words of the API, so that it cannot agree with a client's mistake.
SANDBOX_MAY = {f"{PACKAGE}.arroyo.models"}
MODULES_OF_TASKS = ("operators", "sensors")
HTTP_LIBRARIES = {"requests", "aiohttp", "httpx", "urllib3"}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py"))


def part_of(module: str) -> str:
    """Return which part of the house a module of this package belongs to."""
    name = module.removeprefix(PACKAGE).lstrip(".").split(".")[0]
    if name in ("hooks", "monitoring", "arroyo", "sandbox"):
        return name
    if name == "exceptions":
        # The errors speak of what Arroyo says, and everything may raise them.
        return "arroyo"
    if name == "get_provider_info":
        return "provider_info"
    return "shared" if name == "" else "top"


def module_name(path: Path) -> str:
    """Return the dotted name; that of a package keeps its ``__init__``, from which it counts dots."""
    return ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts))


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Yield every module that a tree of a module's sources imports, in functions too."""
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


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    part = part_of(module_name(path).removesuffix(".__init__"))
    ours = {
        name
        for name in imports(ast.parse(path.read_text()), module_name(path))
        if name.startswith(f"{PACKAGE}.")
    }
    upwards = {name for name in ours if part_of(name) not in {part, "shared", *ARROWS.get(part, ())}}
    if part == "sandbox":
        # Names in a module that it may import, and the package that such a module is in.
        upwards = {
            name
            for name in upwards
            if not any(name.startswith(may) or may.startswith(f"{name}.") for may in SANDBOX_MAY)
        }
    assert upwards == set()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_knows_arroyo_knows_no_airflow(path: Path) -> None:
    if part_of(module_name(path).removesuffix(".__init__")) not in WITHOUT_AIRFLOW:
        return
    names = {name.split(".")[0] for name in imports(ast.parse(path.read_text()), module_name(path))}
    assert "airflow" not in names


@pytest.mark.parametrize("folder", MODULES_OF_TASKS)
def test_modules_of_tasks_load_no_http_library(folder: str) -> None:
    paths = list((ROOT / folder).glob("*.py"))
    assert paths
    for path in paths:
        loaded = {
            name.split(".")[0] for name in imports_at_load(ast.parse(path.read_text()), module_name(path))
        }
        assert not loaded & HTTP_LIBRARIES, path.name


def test_the_test_sees_an_arrow_that_points_up() -> None:
    tree = ast.parse("def f():\n    from ..hooks import arroyo\n")
    assert f"{PACKAGE}.hooks.arroyo" in set(imports(tree, f"{PACKAGE}.monitoring.wait"))
    assert part_of(f"{PACKAGE}.hooks.arroyo") == "hooks"
    assert list(imports_at_load(tree, f"{PACKAGE}.monitoring.wait")) == []
