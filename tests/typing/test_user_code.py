"""Users' code as mypy and pyright see it: correct code passes, and each mistake is found on its line."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import airflow_provider_arroyo

USER = Path(__file__).with_name("user")
ROOT = Path(airflow_provider_arroyo.__file__).parents[1]
IS_INSTALLED = ROOT.name == "site-packages"

Problems = dict[tuple[str, int], str]
"""The errors of a type checker: file, line and message."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a user's project, to which the settings of our tests do not apply."""
    folder = tmp_path_factory.mktemp("user")
    for path in USER.glob("*.py"):
        shutil.copy(path, folder)
    extra = [] if IS_INSTALLED else [str(ROOT)]
    (folder / "pyrightconfig.json").write_text(json.dumps({"extraPaths": extra}))
    return folder


def mypy(folder: Path) -> Problems:
    out = _run(folder, "mypy", "--strict", f"--cache-dir={folder / 'cache'}", "--no-color-output", ".")
    found = re.findall(r"^([\w./]+):(\d+): error: (.*)$", out, re.MULTILINE)
    return {(name, int(line)): text for name, line, text in found}


def pyright(folder: Path) -> Problems:
    if os.environ.get("ARROYO_PROVIDER_INSTALLED") is None and importlib.util.find_spec("pyright") is None:
        pytest.skip("only with make: pyright is not installed here")
    out = _run(folder, "pyright", "--outputjson", "--pythonpath", sys.executable)
    return {
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1): one["message"]
        for one in json.loads(out)["generalDiagnostics"]
        if one["severity"] == "error"
    }


def _run(folder: Path, checker: str, *arguments: str) -> str:
    more = {} if IS_INSTALLED else {"MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", checker, *arguments],
        cwd=folder,
        # The second variable keeps pyright from checking for a newer version.
        env={**os.environ, **more, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # since one of the files has mistakes
    return done.stdout


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_each_mistake_is_found_and_no_other(folder: Path, checker: Callable[[Path], Problems]) -> None:
    problems = checker(folder)
    lines = (folder / "wrong.py").read_text().splitlines()
    wrong = {("wrong.py", number) for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(wrong) > 10
    found = {where: text for where, text in problems.items() if where not in wrong}
    assert found == {}
    assert wrong - problems.keys() == set()
