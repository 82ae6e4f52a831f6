"""The figures of a run, and their table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

MUST_BE_ZERO = (
    "duplicated",
    "lost",
    "false success",
    "unwanted stop",
    "unproven checkpoint",
    "not finished",
    "outcome not logged",
)


def _no_violations() -> dict[str, list[str]]:
    return {name: [] for name in MUST_BE_ZERO}


@dataclass
class Figures:
    """The figures of one run.

    :param title: names the run.
    :param wanted: pipelines that tasks were to create.
    :param created: pipelines that exist at the end.
    :param tasks: submits, clears and stops that were run until they succeeded.
    :param tries: tries of these tasks.
    :param violations: the violations, by the name of the figure: a line of text for each.
    :param events: what was done to the tasks, and how often.
    """

    title: str
    wanted: int = 0
    created: int = 0
    tasks: int = 0
    tries: int = 0
    violations: dict[str, list[str]] = field(default_factory=_no_violations)
    events: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def has_passed(self) -> bool:
        """Whether every figure that must be zero is, and anything was done at all."""
        return self.tasks > 0 and self.created == self.wanted and not any(self.violations.values())

    def add(self, other: Figures) -> None:
        """Add the figures of another run."""
        self.wanted += other.wanted
        self.created += other.created
        self.tasks += other.tasks
        self.tries += other.tries
        self.events.update(other.events)
        for name, lines in other.violations.items():
            self.violations[name].extend(lines)


def _count(run: Figures, name: str) -> str:
    return str(len(run.violations[name])) if name in run.violations else ""


def table(runs: Iterable[Figures]) -> str:
    """Return the figures as a table with a column for each run, and below it the events and violations."""
    runs = list(runs)
    names = dict.fromkeys(name for run in runs for name in run.violations)
    rows: list[tuple[str, list[str]]] = [
        ("pipelines wanted", [f"{run.wanted:,}" for run in runs]),
        ("pipelines created", [f"{run.created:,}" for run in runs]),
        *((name, [_count(run, name) for run in runs]) for name in names),
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
        row = "".join(f"  {cell:>{wide}}" for cell, wide in zip(cells, widths, strict=True))
        lines.append(f"{name:<{width}}{row}")
    for run in runs:
        events = ", ".join(f"{name} {count:,}" for name, count in run.events.most_common())
        lines.append(f"\n{run.title}: {events or 'no events'}")
        for name, found in run.violations.items():
            lines.extend(f"{run.title}: {name}: {line}" for line in found[:20])
    return "\n".join(lines)
