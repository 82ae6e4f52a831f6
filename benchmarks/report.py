"""Tables of figures: medians over the repeats, and their ranges."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

_HEAD = """\
# Results

Written by `{command}`. Each figure is a median over the repeats, with the least and the greatest in
brackets. What is compared in a table was measured in one go. Server and waits run on the same
machine, each in a process of its own; the server is the sandbox.
"""


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the median; if there are several figures, also the least and the greatest in brackets."""
    if not values:
        return "–"
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{digits}f}…{max(values):.{digits}f})"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all values does not exceed.

    :param share: 0 to 1.
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass
class Table:
    """One table of measurements, with what was promised.

    :param title: what is measured.
    :param promise: the target.
    :param columns: what stands in the columns.
    """

    title: str
    promise: str
    columns: Sequence[str]
    lines: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add a line, and print it."""
        self.lines.append(cells)
        print(
            "  " + "  ".join(f"{name}: {cell}" for name, cell in zip(self.columns, cells, strict=True)),
            flush=True,
        )

    def note(self, text: str) -> None:
        """Say something about the figures."""
        self.notes.append(text)
        print(f"  {text}", flush=True)

    def markdown(self) -> str:
        """Return it for the file of results."""
        rows = [self.columns, ["---"] * len(self.columns), *self.lines]
        table = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
        notes = "".join(f"\n{note}\n" for note in self.notes)
        return f"## {self.title}\n\nMust reach: {self.promise}\n\n{table}\n{notes}"


def machine() -> str:
    """Return what it was measured on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores of {model}, {memory:.0f} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; load average when it began: {os.getloadavg()[0]:.1f}"
    )


def versions(names: Iterable[str]) -> str:
    """Return the versions of the packages that are compared; those not installed are left out."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def commit() -> str:
    """Return the commit that was measured, where there is one."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def write(path: Path, tables: Sequence[Table], *, about: str, command: str) -> None:
    """Write tables into the file of results. Its head stays, and so do tables with other titles.

    :param about: machine and versions; written below each table, since tables may be from different days.
    """
    head, *there = path.read_text().split("\n## ") if path.exists() else [_HEAD.format(command=command)]
    measured = f"Measured on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}. {about}"
    sections = {one.partition("\n")[0]: f"## {one.rstrip()}\n" for one in there}
    sections |= {table.title: f"{table.markdown()}\n{measured}\n" for table in tables}
    path.write_text(f"{head.rstrip()}\n\n" + "\n".join(sections.values()))
