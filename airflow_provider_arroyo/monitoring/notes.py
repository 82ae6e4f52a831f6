"""What a wait has to say for the log: changes once, outages, a rare heartbeat. Same words in every mode."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from airflow_provider_arroyo.arroyo.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError, shorten
from airflow_provider_arroyo.monitoring.plan import WaitPlan


class Note(NamedTuple):
    """One line for the log, with lazy arguments."""

    level: int
    text: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return self.text % self.args


def log_notes(log: Any, notes: Iterable[Note]) -> None:
    """Write notes to a logger.

    :param log: a logger with the standard ``log(level, text, *args)``; structlog's loggers have it too.
    """
    for note in notes:
        log.log(note.level, note.text, *note.args)


def duration(seconds: float) -> str:
    """Return a length of time as people read it: ``0.26 s``, ``12.4 s``, ``3 min 5 s``, ``2 h 10 min``."""
    seconds = max(0.0, seconds)
    if round(seconds, 2) < 1:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def moment(epoch_seconds: float) -> str:
    """Return a moment as ``2026-11-25 03:04:05 UTC``."""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class Notes:
    """Collects notes about one pipeline until they are taken.

    :param label: what to call the pipeline.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._pending: list[Note] = []

    def take(self) -> list[Note]:
        """Return the notes since the last call."""
        if not self._pending:
            return []
        taken, self._pending = self._pending, []
        return taken

    def _say(self, level: int, text: str, *args: Any) -> None:
        self._pending.append(Note(level, text, args))

    def changed(self, before: Job | None, job: Job, stood_seconds: float | None) -> None:
        """Say that the state, the run or the job is another one."""
        why = f": {shorten(job.failure.error)}" if job.failure else ""
        down = "" if job.running_desired or job.is_terminal else ", asked to stop"
        if before is None:
            self._say(logging.INFO, "%s is %s (run %d%s)%s", self._label, job.state, job.run_id, down, why)
        elif before.id != job.id:
            self._say(
                logging.INFO,
                "%s has a new job %s in place of %s: %s (run %d%s)%s",
                self._label,
                job.id,
                before.id,
                job.state,
                job.run_id,
                down,
                why,
            )
        else:
            self._say(
                logging.INFO,
                "%s: %s -> %s after %s (run %d%s)%s",
                self._label,
                before.state,
                job.state,
                duration(stood_seconds or 0.0),
                job.run_id,
                down,
                why,
            )

    def desire_changed(self, job: Job) -> None:
        """Say that the pipeline was asked to stop, or that the request was taken back."""
        what = "is to run again" if job.running_desired else "was asked to stop"
        self._say(logging.INFO, "%s %s (still %s, run %d)", self._label, what, job.state, job.run_id)

    def unreachable(self, error: ArroyoError, tolerance: timedelta) -> None:
        """Say that looks fail from now on, and for how long that is tolerated."""
        self._say(
            logging.WARNING,
            "%s: Arroyo cannot be reached, which is tolerated for %s: %s",
            self._label,
            duration(tolerance.total_seconds()),
            error,
        )

    def reachable_again(self, seconds: float) -> None:
        """Say that an outage is over."""
        self._say(logging.INFO, "%s: Arroyo can be reached again after %s", self._label, duration(seconds))

    def still(
        self,
        job: Job | None,
        stood_seconds: float,
        unreachable_seconds: float | None,
        plan: WaitPlan,
        now: float,
    ) -> None:
        """Say that the wait goes on."""
        wanted = " or ".join(sorted(plan.targets))
        left = duration(plan.deadline - now)
        if unreachable_seconds is not None:
            self._say(
                logging.WARNING,
                "%s: Arroyo has not been reachable for %s; waiting for %s, %s left",
                self._label,
                duration(unreachable_seconds),
                wanted,
                left,
            )
        elif job is None:
            self._say(logging.INFO, "%s has no job yet; waiting for %s, %s left", self._label, wanted, left)
        else:
            self._say(
                logging.INFO,
                "%s is still %s after %s (run %d); waiting for %s, %s left",
                self._label,
                job.state,
                duration(stood_seconds),
                job.run_id,
                wanted,
                left,
            )
