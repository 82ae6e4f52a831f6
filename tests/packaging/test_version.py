"""The check of ``make lint`` that the version is written in one place only."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_version import CHANGELOG, SOURCE, problems, version

ELSEWHERE = {
    "a static version": ("pyproject.toml", 'version = "7.8.9"'),
    "the documentation's own": ("docs/conf.py", 'release = "7.8.9"'),
    "a file's name": ("README.md", "pip install dist/airflow_provider_arroyo-7.8.9-py3-none-any.whl"),
    "a requirement": ("docs/start.md", "airflow_provider_arroyo==7.8.9"),
    "prose": ("README.md", "Since v7.8.9 is out."),
}
HARMLESS = {
    "another version": ("pyproject.toml", 'requires = ["x>=7.8.90", "y==17.8.9", "z==7.8.9.1"]'),
    "since when": ("airflow_provider_arroyo/get_provider_info.py", '"version_added": "7.8.9",'),
    "a lock": ("requirements/tools.txt", "other==7.8.9"),
    "what was recorded": ("tests/data/arroyo.json", '"version": "7.8.9"'),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a project of version 7.8.9."""
    write(tmp_path, SOURCE, '__version__ = "7.8.9"\n')
    write(tmp_path, CHANGELOG, "# Changelog\n\n## 7.8.9 - 2026-01-01\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def found(root: Path) -> list[str]:
    return list(problems(root, [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]))


def test_one_place_is_accepted(root: Path) -> None:
    assert version(root) == "7.8.9"
    assert found(root) == []


@pytest.mark.parametrize("case", ELSEWHERE)
def test_a_second_place_is_found(root: Path, case: str) -> None:
    name, line = ELSEWHERE[case]
    write(root, name, f"first line\n{line}\n")
    (problem,) = found(root)
    assert problem.startswith(f"{name}:2: ")


@pytest.mark.parametrize("case", HARMLESS)
def test_similar_text_is_not_found(root: Path, case: str) -> None:
    write(root, *HARMLESS[case])
    assert found(root) == []


def test_a_version_that_the_changelog_does_not_name_is_found(root: Path) -> None:
    write(root, CHANGELOG, "# Changelog\n\n## 7.8.8 - 2026-01-01\n")
    (problem,) = found(root)
    assert "7.8.9" in problem
