"""What the pages outside of ``docs/`` link to, and the commands that the documentation names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import airflow_provider_arroyo

from .blocks import PAGES, ROOT

TEXTS = [
    path.relative_to(ROOT).as_posix() for path in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
]


def anchors(path: Path) -> set[str]:
    """Return what a link to a heading of a page may say."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> list[str]:
    """Return the addresses that a page links to, pictures included."""
    inline = [
        child
        for token in MarkdownIt("gfm-like", {"linkify": False}).parse(path.read_text())
        for child in token.children or []
    ]
    return [
        str(child.attrs.get("href") or child.attrs.get("src"))
        for child in inline
        if child.type in ("link_open", "image")
    ]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_inside_the_repository_lead_somewhere(name: str) -> None:
    page = ROOT / name
    found = [link for link in links(page) if not link.startswith(("http://", "https://"))]
    for link in found:
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@pytest.mark.parametrize("name", TEXTS)
def test_commands_of_make_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {*re.findall(r"^([\w-]+):", makefile, re.MULTILINE), *re.findall(r"\bexecutors-\w+", makefile)}
    named = set(re.findall(r"(?:^|`|=\S* )make ([a-z][\w-]*)", (ROOT / name).read_text(), re.MULTILINE))
    assert named <= targets


def test_the_readme_is_a_screen_and_a_half() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_readme_says_how_everything_is_tested() -> None:
    assert "make test" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def words_of_the_package() -> set[str]:
    """Return every text that stands in the package's source, and every part of one between its placeholders."""
    sources = Path(airflow_provider_arroyo.__file__).parent.rglob("*.py")
    trees = [ast.parse(path.read_text()) for path in sources]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_the_messages_that_are_explained_are_the_packages_own() -> None:
    page = (ROOT / "docs" / "how-to" / "troubleshoot.md").read_text()
    own, _, airflows = page.partition("## Messages of Airflow")
    cells = re.findall(r"^\| (`.*?`) \|", own, re.MULTILINE)
    assert len(cells) > 30
    words = words_of_the_package()
    parts = [part for cell in cells for part in re.findall(r"`(.+?)`", cell)]
    assert [part for part in parts if not any(part in text for text in words)] == []
    assert any("The Arroyo pages are left out of Airflow's UI" in text for text in words)
    assert "The Arroyo pages are left out of Airflow's UI" in airflows


DIRECTIVES = {
    "{include}",
    "{public}",
    "{generated}",
    "{help}",
    "{states}",
    "{steps}",
    "{toctree}",
    "{literalinclude}",
    "{warning}",
}
LANGUAGES = {"python", "sql", "yaml", "bash", "text", "dockerfile", "json"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_code_escapes_the_test_of_the_blocks(path: Path) -> None:
    tokens = MarkdownIt().parse(path.read_text())
    assert [token.content for token in tokens if token.type == "code_block"] == []
    kinds = {(token.info.split() or [""])[0] for token in tokens if token.type == "fence"}
    assert kinds <= DIRECTIVES | LANGUAGES


def test_every_example_dag_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "how-to" / "examples.md").read_text()
    examples = [path.stem for path in (ROOT / "example_dags").glob("*.py")]
    assert len(examples) > 5
    assert [name for name in examples if f"`{name}`" not in page] == []
