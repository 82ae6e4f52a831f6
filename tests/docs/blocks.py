"""The fenced blocks of the documentation, and how each is tested.

A fence may say more than its language: ``run`` lets a DAG run by ``dag.test()``, and ``no-run: "reason"`` says why a
block cannot run here. A first line that is a comment with a path alone, such as ``# dags/orders.py``, names the file
that the block is. A block without a path is part of a DAG file, or a test if it defines one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_NO_RUN = re.compile(r'no-run: "(.{10,})"$')
_FILE = re.compile(r"(?:#|--|//) ([\w-][\w./-]*\.(?:py|sql|yaml|rs))$")
LANGUAGES = ("python", "sql", "bash")
"""Those that are run."""

SETTINGS = ("yaml", "dockerfile", "json")
"""Those that something else has to read."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    :param page: the page, from the root of the repository.
    :param line: of its first line of text, counted from 1.
    :param language: the first word of the fence.
    :param options: what else the fence says.
    :param text: what is in it.
    """

    page: str
    line: int
    language: str
    options: str
    text: str

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.page}:{self.line}"

    @property
    def why_not(self) -> str | None:
        """Why it cannot run, if it says so."""
        found = _NO_RUN.match(self.options)
        return found[1] if found else None

    @property
    def is_run(self) -> bool:
        """Whether its DAG is to run."""
        return self.options == "run"

    @property
    def file(self) -> str | None:
        """The path of the file that it is, if it says so; one without a folder of its own is among the DAGs."""
        found = _FILE.match(self.text.partition("\n")[0])
        if not found:
            return None
        return found[1] if found[1].startswith(("dags/", "tests/")) else f"dags/{found[1]}"

    @property
    def is_test(self) -> bool:
        """Whether it belongs to pytest."""
        return (self.file or "").startswith("tests/") or re.search(r"^def test_", self.text, re.M) is not None

    @property
    def has_dag(self) -> bool:
        """Whether it is a whole DAG file."""
        imports = any(isinstance(one, ast.Import | ast.ImportFrom) for one in ast.parse(self.text).body)
        return imports and re.search(r"\bDAG\(|^@dag\b", self.text, re.M) is not None

    def problem(self) -> str | None:
        """Return what is wrong with the fence itself."""
        if self.options and not self.is_run and self.why_not is None:
            return f'{self.place}: a fence says run, or no-run: "and why"; this one says {self.options!r}'
        if self.language in SETTINGS and self.file is None and self.why_not is None:
            return f'{self.place}: nothing reads this; its fence must say so: no-run: "and why"'
        return None


def blocks_of(path: Path) -> Iterator[Block]:
    """Yield the blocks of a page that can run, in their order; a directive of Sphinx is none.

    :param path: the page.
    """
    for token in MarkdownIt().parse(path.read_text()):
        if token.type == "fence" and token.map:
            language, _, options = token.info.strip().partition(" ")
            if language in (*LANGUAGES, *SETTINGS, "text"):
                yield Block(
                    page=path.relative_to(ROOT).as_posix(),
                    line=token.map[0] + 2,
                    language=language,
                    options=options.strip(),
                    text=token.content,
                )


def all_blocks() -> list[Block]:
    """Return the blocks of all pages."""
    return [block for page in PAGES for block in blocks_of(page)]
