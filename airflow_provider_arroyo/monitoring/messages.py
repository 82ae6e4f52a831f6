"""The log lines of a wait: each change once, outages, a rare heartbeat. The same in every mode, the state first."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.retry import POLL_RETRIES
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.text import duration, shorten


class Message(NamedTuple):
    """One log line, with lazy arguments."""

    level: int
    text: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return self.text % self.args


def log_messages(log: Any, messages: Iterable[Message]) -> None:
    """Write messages to a logger.

    :param log: a logger with the standard ``log(level, text, *args)``; structlog's loggers have it, too.
    """
    for message in messages:
        log.log(message.level, message.text, *message.args)


class Messages:
    """Collects the messages of one wait until they are taken.

    :param plan: what is waited for.
    """

    def __init__(self, plan: WaitPlan) -> None:
        self._plan = plan
        self._name = plan.pipeline.short
        self._pending: list[Message] = []

    def take(self) -> list[Message]:
        """Return the messages since the last call."""
        if not self._pending:
            return []
        taken, self._pending = self._pending, []
        return taken

    def _add(self, level: int, text: str, *args: Any) -> None:
        self._pending.append(Message(level, text, args))

    def changed(self, before: Job | None, job: Job, state_seconds: float) -> None:
        """Another state, run or job was seen."""
        why = f". Reason: {shorten(job.failure.error)}" if job.failure else ""
        if before is None:
            self._add(logging.INFO, "%s: %s (%s)%s", job.state, self._name, _run(job), why)
        elif before.id != job.id:
            self._add(
                logging.INFO,
                "%s → %s after %s: %s (%s, new job %s instead of %s)%s",
                before.state,
                job.state,
                duration(state_seconds),
                self._name,
                _run(job),
                job.id,
                before.id,
                why,
            )
        else:
            self._add(
                logging.INFO,
                "%s → %s after %s: %s (%s)%s",
                before.state,
                job.state,
                duration(state_seconds),
                self._name,
                _run(job),
                why,
            )

    def desire_changed(self, job: Job) -> None:
        """A stop was requested, or such a request withdrawn."""
        what = "stop request withdrawn" if job.running_desired else "stop requested"
        self._add(logging.INFO, "%s, %s: %s (run %d)", job.state, what, self._name, job.run_id)

    def poll_failed(self, error: ArroyoError, retry: int, retry_in: float | None, *, is_outage: bool) -> None:
        """A poll failed and is tried again; a WARNING each time until the outage is announced."""
        when = "" if retry_in is None else f" in {retry_in:.1f} s"
        self._add(
            logging.DEBUG if is_outage else logging.WARNING,
            "Poll failed, retry %d of %d%s: %s: %s",
            retry,
            POLL_RETRIES,
            when,
            self._name,
            shorten(str(error)),
        )

    def unreachable(self, error: ArroyoError, seconds: float, limit_seconds: float) -> None:
        """Arroyo is unreachable; polls are retried until the limit, which is shorter before the first response."""
        is_shorter = limit_seconds < self._plan.outage_tolerance.total_seconds()
        self._add(
            logging.WARNING,
            "Arroyo unreachable for %s, retrying for up to %s in all (%s): %s: %s",
            duration(seconds),
            duration(limit_seconds),
            "Arroyo has not responded yet" if is_shorter else "api_outage_tolerance",
            self._name,
            error,
        )

    def reachable_again(self, seconds: float) -> None:
        """An outage is over."""
        self._add(logging.INFO, "Arroyo reachable again after %s: %s", duration(seconds), self._name)

    def still(
        self, job: Job | None, state_seconds: float, unreachable_seconds: float | None, now: float
    ) -> None:
        """The wait goes on without a change."""
        wanted = " or ".join(sorted(self._plan.target_states))
        left = duration(self._plan.deadline - now)
        if unreachable_seconds is not None:
            self._add(
                logging.WARNING,
                "Arroyo still unreachable after %s: %s; waiting for %s, %s left",
                duration(unreachable_seconds),
                self._name,
                wanted,
                left,
            )
        elif job is None:
            self._add(logging.INFO, "No job yet: %s; waiting for %s, %s left", self._name, wanted, left)
        else:
            self._add(
                logging.INFO,
                "Still %s after %s: %s (%s); waiting for %s, %s left",
                job.state,
                duration(state_seconds),
                self._name,
                _run(job),
                wanted,
                left,
            )


def _run(job: Job) -> str:
    asked = "" if job.running_desired or job.is_terminal else ", stop requested"
    return f"run {job.run_id}{asked}"
