"""Every block of Python, SQL and shell commands in the documentation, as a reader would use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .blocks import ROOT, Block, all_blocks
from .run import folder_of, write_files
from .shell import START, lines_missing, run_others, run_start

pytestmark = pytest.mark.docs

ALL = all_blocks()
BLOCKS = [block for block in ALL if block.language in ("python", "sql")]
SHELL = [block for block in ALL if block.language == "bash" and block.why_not is None]
SHELL += [block for block in ALL if block.language == "text" and block.page in START]
LIMIT_SECONDS = 900
"""It takes a minute on an idle machine, and up to ten on a busy one."""


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """Run all blocks, and return what went wrong, by place."""
    with ThreadPoolExecutor() as pool:
        tests = pool.submit(_run_tests, tmp_path_factory.mktemp("tests"))
        start = pool.submit(run_start, tmp_path_factory.mktemp("start"))
        found = _run_blocks(tmp_path_factory.mktemp("blocks"))
        found |= run_others(tmp_path_factory.mktemp("shell"), ALL)
        return {**found, **tests.result(), **start.result()}


def _run_blocks(folder: Path) -> dict[str, str | None]:
    airflow = {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # There is no scheduler that an early event could confuse.
        "AIRFLOW__ARROYO__DEFERRAL_HOLD": "0",
    }
    ran = _python("-m", "tests.docs.run", str(folder / "dags"), cwd=ROOT, env=airflow)
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"place"')]
    found = {line["place"]: line["problem"] for line in lines}
    return {block.place: found.get(block.place, ran.stderr[-3000:]) for block in BLOCKS}


def _run_tests(folder: Path) -> dict[str, str | None]:
    """Run the tests of the pages that have some, each page's in its folder."""
    blocks = all_blocks()
    write_files(folder, blocks)
    found: dict[str, str | None] = {}
    for page in sorted({block.page for block in blocks if block.is_test and block.why_not is None}):
        home = folder_of(folder, page)
        pytest_ = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
        ran = _python(*pytest_, cwd=home, env={"AIRFLOW_HOME": str(home / "airflow")})
        problem = None if ran.returncode == 0 else f"{ran.stdout[-5000:]}{ran.stderr[-1000:]}"
        found |= {block.place: problem for block in blocks if block.page == page and block.is_test}
    return found


def _python(*arguments: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return subprocess.run(  # our own blocks
        [sys.executable, *arguments],
        cwd=cwd,
        env={**inherited, **env},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def test_every_block_runs_or_says_why_not() -> None:
    assert [block.problem() for block in ALL if block.problem()] == []


def test_what_is_shown_as_printed_must_be_printed() -> None:
    shown = "Created → Running after 0.30 s: orders (run 1)\nDone, Running: orders, id af-…-g1 (run 1)"
    printed = "12:00 Created: orders (run 0)\n12:01 Done, Running: orders, id af-6f1-g1 (run 2)"
    assert list(lines_missing(shown, printed)) == []
    # A first state that no poll has seen.
    assert list(lines_missing(f"Created: orders (no run yet)\n{shown}", printed)) == []
    assert list(lines_missing(shown, printed.replace("Done", "Gone"))) == shown.splitlines()[-1:]


@pytest.mark.parametrize("block", [*BLOCKS, *SHELL], ids=lambda block: block.place)
def test_a_block_works_as_the_reader_expects(block: Block, problems: dict[str, str | None]) -> None:
    assert problems[block.place] is None, problems[block.place]


def test_what_cannot_run_says_why() -> None:
    def problem(options: str, language: str = "python") -> str | None:
        return Block(page="a.md", line=1, language=language, options=options, text="").problem()

    assert problem("") is problem("run") is problem('no-run: "it needs a Kubernetes cluster"') is None
    for wrong in ("no-run", 'no-run: ""', "norun", "skip"):
        assert "a.md:1" in str(problem(wrong))
    assert "a.md:1" in str(problem("", "yaml"))
