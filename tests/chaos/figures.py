"""The figures, and the table that they are shown in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

MUST_BE_ZERO = (
    "doubled",
    "lost",
    "false success",
    "stopped by accident",
    "checkpoint claimed",
    "not ended",
    "fate not told",
)


def _nothing() -> dict[str, list[str]]:
    return {name: [] for name in MUST_BE_ZERO}


@dataclass
class Figures:
    """What a run came to.

    :param title: names the run.
    :param wanted: pipelines that were wanted.
    :param made: pipelines that are there at the end.
    :param tasks: submits, clears and stops that were run to their end.
    :param tries: how often they were tried.
    :param wrong: what must not be, by the name of the figure: a line of text for each.
    :param befell: what was done to them, by name.
    """

    title: str
    wanted: int = 0
    made: int = 0
    tasks: int = 0
    tries: int = 0
    wrong: dict[str, list[str]] = field(default_factory=_nothing)
    befell: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether every figure is zero that must be, and something was done at all."""
        return self.tasks > 0 and self.made == self.wanted and not any(self.wrong.values())

    def add(self, other: Figures) -> None:
        """Add what another run came to."""
        self.wanted += other.wanted
        self.made += other.made
        self.tasks += other.tasks
        self.tries += other.tries
        self.befell.update(other.befell)
        for name, lines in other.wrong.items():
            self.wrong[name].extend(lines)


def table(runs: Iterable[Figures]) -> str:
    """Return the figures as a table, a run in each column, and below it what was wrong."""
    runs = list(runs)
    rows: list[tuple[str, list[str]]] = [
        ("pipelines wanted", [f"{run.wanted:,}" for run in runs]),
        ("pipelines made", [f"{run.made:,}" for run in runs]),
        *((name, [str(len(run.wrong[name])) for run in runs]) for name in MUST_BE_ZERO),
        ("tasks", [f"{run.tasks:,}" for run in runs]),
        ("tries", [f"{run.tries:,}" for run in runs]),
        ("seconds", [f"{run.seconds:.0f}" for run in runs]),
    ]
    titles = [run.title for run in runs]
    width = max(len(name) for name, _ in rows)
    widths = [max(len(title), 8) for title in titles]
    lines = [
        " " * width + "".join(f"  {title:>{wide}}" for title, wide in zip(titles, widths, strict=True)),
    ]
    for name, cells in rows:
        told = "".join(f"  {cell:>{wide}}" for cell, wide in zip(cells, widths, strict=True))
        lines.append(f"{name:<{width}}{told}")
    for run in runs:
        befell = ", ".join(f"{name} {count:,}" for name, count in run.befell.most_common())
        lines.append(f"\n{run.title}: {befell or 'nothing befell them'}")
        for name, found in run.wrong.items():
            lines.extend(f"{run.title}: {name}: {line}" for line in found[:20])
    return "\n".join(lines)
