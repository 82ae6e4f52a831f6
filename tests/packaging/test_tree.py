"""Rules for the files of the repository."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_arroyo

ROOT = Path(__file__).parent.parent.parent
PACKAGE = Path(airflow_provider_arroyo.__file__).parent
TEXTS = {".py", ".md", ".toml", ".txt", ".in", ".sh", ".sql", ".json", ".html", ".js", ".css", ".cfg", ""}
# Put together from pieces, so that this file does not contain what it looks for.
HOMES = re.compile("|".join("/" + name + "/" for name in ("home", "Users", "root", "work")))
# Addresses of package indexes belong to whoever installs, not to a lock file.
INDEX = re.compile(r"https?://|--index|--find-links|--hash|@ file")
LOCKS = ("airflow-3.3.2.txt", "airflow-3.0.6.txt", "tools.txt")


def ours(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") and part != ".ci" for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix in TEXTS and "__pycache__" not in path.parts:
            yield path


def files() -> list[Path]:
    """Return the text files of the repository: beside the tests, and of the package that they import."""
    beside = (path for path in ours(ROOT) if path.relative_to(ROOT).parts[0] not in ("build", "dist"))
    return sorted({*beside, *ours(PACKAGE)})


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if HOMES.search(line)
    ]
    assert found == []


def test_the_search_finds_such_a_folder() -> None:
    assert HOMES.search("see " + "/" + "home/somebody/project")


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_plain_lists_of_names_and_versions(name: str) -> None:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    assert lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
        assert not INDEX.search(line)


def test_the_version_stands_in_one_place() -> None:
    version = airflow_provider_arroyo.__version__
    stated = re.compile(rf"""(?:__version__|\bversion)\s*[:=]+\s*["']{re.escape(version)}["']""")
    found = [path.name for path in sorted(PACKAGE.rglob("*.py")) if stated.search(path.read_text())]
    assert found == ["__init__.py"]
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()


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


def test_no_test_sleeps_and_hopes() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    ]
    assert found == []
