"""Rules for the files of the repository and the folders of the package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_arroyo

ROOT = Path(__file__).parent.parent.parent
PACKAGE = Path(airflow_provider_arroyo.__file__).parent
TEXTS = {
    *("", ".py", ".md", ".toml", ".txt", ".in", ".sh", ".sql", ".json", ".cfg"),
    *(".html", ".js", ".ts", ".tsx", ".css"),
}
FOREIGN = {"__pycache__", "node_modules"}
# Built from pieces, so that this file does not match itself.
HOMES = re.compile("|".join("/" + name + "/" for name in ("home", "Users", "root", "work")))
# Addresses of package indexes do not belong in a lock file.
INDEX = re.compile(r"https?://|--index|--find-links|--hash|@ file")
LOCKS = (
    *(f"airflow-{version}.txt" for version in ("3.0.6", "3.1.8", "3.2.2", "3.3.2")),
    "tools.txt",
    "ui.txt",
)


# The folders of the package.
ROOMS = {
    *("client", "sql", "pipelines", "monitoring", "polling"),
    *("hooks", "operators", "sensors", "triggers", "sandbox"),
}
MODULES = {"__init__", "get_provider_info", "exceptions", "text", "links", "on_kill", "evidence"}
OPTIONAL = {"assets", "decorators", "openlineage", "__main__", "plugin"}


def ours(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") and part != ".ci" for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix in TEXTS and not FOREIGN & set(path.parts):
            yield path


def files() -> list[Path]:
    """Return the text files of the repository, and of the package that the tests import."""
    beside = (path for path in ours(ROOT) if path.relative_to(ROOT).parts[0] not in ("build", "dist"))
    return sorted({*beside, *ours(PACKAGE)})


def test_the_top_level_of_the_package_is_as_designed() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert folders | modules >= ROOMS | MODULES
    assert folders - ROOMS <= OPTIONAL
    assert modules - MODULES <= OPTIONAL


def test_every_folder_has_a_docstring() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path.parent.name


def test_no_file_names_a_folder_of_a_developers_machine() -> None:
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if HOMES.search(line)
    ]
    assert found == []


def test_the_search_finds_such_a_folder() -> None:
    assert HOMES.search("see " + "/" + "home/me/project")


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_plain_lists_of_names_and_versions(name: str) -> None:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    assert lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
        assert not INDEX.search(line)


def test_every_skipped_check_has_its_reason() -> None:
    bare = re.compile(r"#\s*(?:type:\s*ignore(?:\[[^\]]*\])?|noqa(?::\s*[A-Z0-9, ]+)?)\s*$")
    found = [
        f"{path.name}:{number}"
        for path in files()
        if path.suffix == ".py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if bare.search(line)
    ]
    assert found == []


def test_no_test_sleeps_instead_of_waiting_for_a_condition() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    ]
    assert found == []
