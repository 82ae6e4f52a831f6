"""Runs the tests on every supported Airflow with every supported Python, and shows a table: ``make matrix``.

A whole run writes the table into ``docs/reference/compatibility.md``. If this machine lacks a Python, uv
fetches it; if uv cannot, the table says that it is missing. A failure does not stop the other combinations.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO
from xml.etree import ElementTree  # what pytest wrote

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "compatibility.md"
BEGIN, END = "<!-- written by make matrix -->", "<!-- until here -->"
STAGE = ROOT / "build" / "stage"
LATEST = "latest"

# Test folders that need a package which the environments of older Airflows lack, and a module of that package.
NEEDS = {"openlineage": "openlineage.client", "typing": "pyright"}
# Once is enough.
ONCE = ("docs", "ui")
# Arroyo 0.15 is tested in one combination, since it does not depend on Airflow or Python.
OLD_ARROYO = "0.15"
AT_ONCE = 2
"""How many combinations are tested at the same time."""


@dataclass(frozen=True)
class Cell:
    """The result of one combination.

    :param airflow: its version.
    :param python: its version, such as ``3.12``.
    :param says: for the table.
    :param failed: whether tests failed.
    :param environment: in which they ran; None where they could not.
    """

    airflow: str
    python: str
    says: str
    failed: bool = False
    environment: Path | None = None


class Missing(Exception):  # noqa: N818  # no error: the table shows it
    """A combination cannot be tested; the message says why."""


class Matrix:
    """Tries combinations.

    :param uv: the program uv.
    :param wheel: the package.
    :param arguments: for pytest.
    """

    def __init__(self, uv: Path, wheel: Path, arguments: Sequence[str]) -> None:
        self._uv = uv
        self._wheel = wheel
        self._arguments = arguments

    def cell(self, airflow: str, python: str, *, is_whole: bool) -> Cell:
        """Run the unit and HTTP tests of one combination.

        :param airflow: its version, or ``latest`` for the newest, with the newest of all that it needs.
        :param python: the version of Python.
        :param is_whole: whether to test all versions of Arroyo, or only the newest.
        """
        try:
            environment = self._environment(airflow, python)
        except Missing as reason:
            say(f"== Airflow {airflow}, Python {python}: {reason}")
            return Cell(airflow, python, str(reason))
        shown = self._version(environment) if airflow == LATEST else airflow
        chosen = () if is_whole else ("-k", f"not {OLD_ARROYO}")
        marked = "not e2e and not ui and not docs"
        says, failed = self._suite(environment, "unit and HTTP", marked, "-n", "4", *chosen)
        return Cell(shown, python, says, failed, environment)

    def end_to_end(self, cell: Cell) -> Cell:
        """Run the end-to-end tests of a combination, and return it with the results of both suites."""
        if cell.environment is None:
            return cell
        says, failed = self._suite(cell.environment, "end to end", "e2e")
        return replace(cell, says="; ".join(filter(None, [cell.says, says])), failed=cell.failed or failed)

    def _suite(self, environment: Path, name: str, marked: str, *arguments: str) -> tuple[str, bool]:
        counted, failed = self._pytest(environment, "-m", marked, *arguments)
        return ("" if counted == "0" else f"{name}: {counted}"), failed

    def _environment(self, airflow: str, python: str) -> Path:
        """Return an environment with Airflow, what the tests need, and the package's wheel."""
        interpreter = find_python(self._uv, python)
        folder = ROOT / ".venvs" / f"matrix-{airflow}-{python}"
        lock = ROOT / "requirements" / f"airflow-{airflow}.txt"
        ready = (
            folder
            / f".ready-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16] if lock.exists() else LATEST}"
        )
        if not ready.exists() or airflow == LATEST:
            self._run([self._uv, "venv", "--quiet", "--clear", "--python", interpreter, folder])
            # On another Python than the lock's, Airflow may need packages that are not in the lock.
            if airflow == LATEST:
                self._pip(folder, f"{self._wheel}[sandbox]", "-r", ROOT / "requirements" / "dev.in")
            else:
                self._pip(folder, "-r", lock)
            ready.touch()
        self._pip(folder, "--no-deps", "--reinstall", "--compile-bytecode", self._wheel)
        return folder

    def _pip(self, folder: Path, *arguments: str | Path) -> None:
        self._run([self._uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *arguments])

    def _run(self, command: Sequence[str | Path]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Missing(f"cannot be installed: {_reason(done.stderr)}")
        return done.stdout

    def _version(self, environment: Path) -> str:
        script = "import importlib.metadata as m; print(m.version('apache-airflow'))"
        return self._run([environment / "bin" / "python", "-c", script]).strip()

    def _pytest(self, environment: Path, *arguments: str) -> tuple[str, bool]:
        """Return how many tests passed, in words, and whether some failed."""
        report = environment / "report.xml"
        report.unlink(missing_ok=True)
        python = environment / "bin" / "python"
        ignored = [f"--ignore=tests/{name}" for name in (*ONCE, *self._lacking(python))]
        began = time.monotonic()
        command: list[str | Path] = [
            python,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-q",
            f"--junitxml={report}",
        ]
        output = environment / "pytest.txt"
        with output.open("w") as file:
            code = self._call([*command, *ignored, *arguments, *self._arguments], environment, file)
        counts = _counts(report)
        say(f"== {environment.name}, {arguments[1]}: {counts} in {time.monotonic() - began:.0f} s")
        # 5: none of the selected tests is of this kind.
        is_failed = code not in (0, 5)
        if is_failed:
            say(output.read_text())
        passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
        failed = counts["failures"] + counts["errors"]
        if is_failed and not failed:
            return "**broke off**", True
        return f"{passed}, **{failed} failed**" if is_failed else str(passed), is_failed

    @staticmethod
    def _call(command: Sequence[str | Path], environment: Path, output: TextIO) -> int:
        """Run a command in the stage, where only the wheel can be imported; return its exit code."""
        env = {name: v for name, v in os.environ.items() if name not in ("PYTHONPATH", "AIRFLOW_HOME")}
        env["PATH"] = f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        env["ARROYO_PROVIDER_INSTALLED"] = str(environment)
        return subprocess.run(
            command, cwd=STAGE, env=env, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode

    def _lacking(self, python: Path) -> Iterator[str]:
        for folder, module in NEEDS.items():
            if subprocess.run(
                [python, "-c", f"import {module}"], capture_output=True, check=False
            ).returncode:
                yield folder


def find_python(uv: Path, version: str) -> Path:
    """Return the path of a Python.

    :param uv: the program uv.
    :param version: such as ``3.12``.
    :raises Missing: where there is none, and none can be fetched.
    """
    find: list[str | Path] = [uv, "python", "find", "--no-python-downloads", version]
    if path := _output(find):
        return Path(path)
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    for found in pyenv.glob(f"versions/{version}.*/bin/python{version}"):
        return found
    _output([uv, "python", "install", "--quiet", version])
    if path := _output(find):
        return Path(path)
    raise Missing("no such Python on the machine that ran this")


def _output(command: Sequence[str | Path]) -> str:
    """Return what a command printed; nothing where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    return done.stdout.strip() if done.returncode == 0 else ""


def _reason(text: str) -> str:
    """Return the line of uv's output that says why, for the table."""
    if re.search(r"apache-airflow\S* depends on Python|does not satisfy Python", " ".join(text.split())):
        return "this Airflow does not support it"
    lines = [line.strip(" │╰├▶─×") for line in text.splitlines() if line.strip()]
    return lines[-1][:100] if lines else "uv says no more"


def _counts(report: Path) -> dict[str, int]:
    """Return how many tests ran, failed, broke and were skipped."""
    names = ("tests", "failures", "errors", "skipped")
    if not report.exists():
        return dict.fromkeys(names, 0)
    suites = ElementTree.parse(report).getroot().iter("testsuite")  # what pytest wrote
    totals = dict.fromkeys(names, 0)
    for suite in suites:
        for name in names:
            totals[name] += int(suite.get(name, 0))
    return totals


def table(cells: Sequence[Cell]) -> str:
    """Return the cells as a table in Markdown: a row for each Airflow, a column for each Python."""
    pythons = list(dict.fromkeys(cell.python for cell in cells))
    rows = [
        f"| Airflow | {' | '.join(f'Python {python}' for python in pythons)} |",
        f"|{'---|' * (len(pythons) + 1)}",
    ]
    for airflow in dict.fromkeys(cell.airflow for cell in cells):
        says = {cell.python: cell.says or "no such tests" for cell in cells if cell.airflow == airflow}
        rows.append(f"| {airflow} | {' | '.join(says.get(python, 'not tried') for python in pythons)} |")
    return "\n".join(rows)


def write(page: Path, text: str) -> None:
    """Write a table into a page, between its two marks.

    :param page: a file in Markdown.
    :param text: the table.
    """
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uv", required=True, type=Path)
    parser.add_argument("--airflows", required=True, help="versions, from the oldest to the newest")
    parser.add_argument("--pythons", required=True, help="versions")
    parser.add_argument("--only", default="", help="combinations, such as 3.0.6/3.12; default all")
    parser.add_argument("--pytest", default="", help="arguments for pytest; then nothing is written")
    options = parser.parse_args()
    (wheel,) = (ROOT / "build" / "wheel").glob("*.whl")
    arguments = shlex.split(options.pytest)
    matrix = Matrix(options.uv, wheel, arguments)
    airflows, pythons, only = options.airflows.split(), options.pythons.split(), options.only.split()
    # On the first Python only, since a real Airflow hardly depends on it.
    ends = {(airflows[0], pythons[0]), (airflows[-1], pythons[0])}
    pairs = [(airflow, python) for airflow in airflows for python in pythons]
    pairs = [pair for pair in pairs if not only or "/".join(pair) in only]
    # Most tests spend their time waiting for a server, so two combinations fit on two cores.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        whole = (airflows[-1], pythons[0])
        cells = list(pool.map(lambda pair: matrix.cell(*pair, is_whole=pair == whole), pairs))
    # A real Airflow needs the machine for itself.
    cells = [
        matrix.end_to_end(cell) if pair in ends else cell for pair, cell in zip(pairs, cells, strict=True)
    ]
    shown = table(cells)
    say(f"\n{shown}")
    if not only and not arguments and LATEST not in airflows:
        write(PAGE, shown)
        say(f"\nwritten into {PAGE}")
    return 1 if any(cell.failed for cell in cells) else 0


if __name__ == "__main__":
    sys.exit(main())
