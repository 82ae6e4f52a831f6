"""The poll loop of a worker. It polls, passes the result to the wait and sleeps; the wait decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.retry import poll_retry_seconds
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.messages import log_messages
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.connection import is_missed, reload, single_try
from airflow_provider_arroyo.polling.details import observe_now
from airflow_provider_arroyo.polling.names import (
    FIND_REST,
    FIND_SECONDS,
    Resolve,
    may_resolve_again,
    means_another,
    observe_look_up,
)

T = TypeVar("T")

FIRST_POLL_SECONDS = 2.0
"""How long the first poll may take, in seconds, even if its wait has timed out: a wait always polls once."""

_LAST_POLL_SECONDS = 0.5
"""How long the first poll may take, in seconds, if an outage has already lasted longer than tolerated."""


class Polls:
    """The polls of one wait: when the next one is due, and when it must end.

    :param wait: decides.
    :param clock: the clock of the wait's deadline.
    :param interval_seconds: time from the start of one poll to the start of the next; polls do not overlap.
        If the wait looks up a name, it is at least 2 seconds.
    :param log: gets the messages of the wait.
    """

    __slots__ = ("_interval_seconds", "_log", "_rest", "clock", "failures", "limit", "next_at", "wait")

    def __init__(self, wait: PipelineWait, clock: SteadyClock, interval_seconds: float, log: Any) -> None:
        self.wait = wait
        self.clock = clock
        is_known = bool(wait.plan.pipeline.pipeline_id)
        self._interval_seconds = interval_seconds if is_known else max(interval_seconds, FIND_SECONDS)
        self._rest = 0.0 if is_known else FIND_REST
        self._log = log
        self.failures = 0
        """Number of consecutive failed tries."""
        self.next_at = clock()
        self.limit = max(wait.plan.deadline, clock() + FIRST_POLL_SECONDS)
        """When a poll must have ended."""
        if wait.progress.outage_since is not None:
            ends_at = max(wait.progress.outage_since + self.tolerance_seconds, clock() + _LAST_POLL_SECONDS)
            self.limit = min(self.limit, ends_at)

    @property
    def tolerance_seconds(self) -> float:
        """How long an outage may last."""
        return self.wait.plan.outage_tolerance.total_seconds()

    def take(self, poll: Callable[[], T], began: float) -> T | WaitResult:
        """Return the result of a poll, or that of the wait if the poll failed.

        :param poll: sends the poll, or takes its response, and lets the wait observe it.
        :param began: when it was sent.
        """
        wait, clock = self.wait, self.clock
        wait.polled()
        result: T | WaitResult
        try:
            result = poll()
            now = clock()
            self.failures, self.limit = 0, wait.ends_at()
            self.next_at = max(began + self._interval_seconds, now + self._rest * (now - began))
        except ArroyoError as err:
            self.failures += 1
            pause = poll_retry_seconds(self.failures, self._interval_seconds, err)
            result = wait.observe_error(err, clock(), sent_at=began, retry_in=pause)
            self.next_at = clock() + pause
            if result.unreachable_since is not None:
                self.limit = min(wait.plan.deadline, result.unreachable_since + self.tolerance_seconds)
        self.log()
        return result

    def tick(self) -> WaitResult:
        """Let time pass without a poll; return the result of the wait."""
        result = self.wait.tick(self.clock())
        self.log()
        return result

    def log(self) -> None:
        """Log the messages of the wait."""
        log_messages(self._log, self.wait.messages())

    def seconds_to(self, *ends: float | None) -> float:
        """Return how many seconds are left until one of these times, or until the wait needs a tick; at least 0."""
        now, due = self.clock(), self.wait.next_due()
        # What is still due after a tick needs a poll.
        times = (due if due > now else self.wait.ends_at(), *ends)
        return max(0.0, min(end - now for end in times if end is not None))


def poll_until(
    client: ArroyoClient,
    wait: PipelineWait,
    *,
    clock: SteadyClock,
    interval_seconds: float,
    log: Any,
    resolve: Resolve | None = None,
    on_found: Callable[[PipelineRef], None] | None = None,
    until: float | None = None,
    stop_when: Callable[[WaitResult], bool] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> WaitResult:
    """Poll at once, then at the interval, until the wait is over.

    A wait that knows only a name first looks up its pipeline, until there is one. A pipeline that was stopped when it
    was found, and stays stopped, may be replaced: then the name is looked up again.

    :param client: sends the polls.
    :param wait, clock, interval_seconds, log: see :class:`Polls`.
    :param resolve: returns the pipeline that the name of the wait means; default None: its id is known.
    :param on_found: called with each pipeline that was found; default None.
    :param until: return at this time of the clock even if the wait is not over; default None.
    :param stop_when: return as soon as this is true for a result, even if the wait is not over; default None.
    :param sleep: sleeps for a number of seconds.
    :returns: the result; ``WAITING`` only if ``until`` or ``stop_when`` ended it.
    """

    def send() -> WaitResult | None:
        if is_missed(polls.failures):
            reload(client)
        poll = single_try(client, polls.tolerance_seconds, clock.to_monotonic(polls.limit))
        if resolve is not None and not wait.plan.pipeline.pipeline_id:
            return observe_look_up(wait, clock, partial(resolve, poll))
        return wait.observe(poll.get_job(wait.plan.pipeline.pipeline_id), clock())

    polls, resolve_at = Polls(wait, clock, interval_seconds, log), 0.0
    while True:
        result = polls.take(send, clock())
        if result is None:
            if on_found is not None:
                on_found(wait.plan.pipeline)
            polls, resolve_at = Polls(wait, clock, interval_seconds, log), clock() + FIND_SECONDS
            continue
        while not result.is_over:
            read_seconds = polls.tolerance_seconds if wait.plan.condition else 0.0
            reader = single_try(client, read_seconds, clock.to_monotonic(polls.limit))
            if (found := observe_now(reader, wait, clock)) is not None:
                result = found
                polls.log()
                continue
            now = clock()
            if (until is not None and now >= until) or (stop_when is not None and stop_when(result)):
                return result
            if resolve is not None and now >= resolve_at and may_resolve_again(wait):
                if means_another(single_try(client, 0.0, clock.to_monotonic(polls.limit)), wait, resolve):
                    wait.find_again()
                    polls = Polls(wait, clock, interval_seconds, log)
                    break
                resolve_at = max(now + FIND_SECONDS, clock() + FIND_REST * (clock() - now))
            if wait.next_due() <= now:
                result = polls.tick()
            if result.is_over or now >= polls.next_at:
                break
            sleep(polls.seconds_to(polls.next_at, until, wait.details_due()))
        if result.is_over:
            return result
