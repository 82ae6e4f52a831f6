"""The poll loop of a worker. It polls, passes the result to the wait and sleeps; the wait decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.retry import POLL_RETRIES, poll_retry_seconds
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNoConnectionError
from airflow_provider_arroyo.monitoring.messages import log_messages
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.details import observe_now

T = TypeVar("T")

FIRST_POLL_SECONDS = 2.0
"""How long the first poll may take, in seconds, even if its wait has timed out: a wait always polls once."""

_LAST_POLL_SECONDS = 0.5
"""How long the first poll may take, in seconds, if an outage has already lasted longer than tolerated."""

LEAST_POLL_SECONDS = 5.0
"""How long a poll may take, in seconds, if no outage is tolerated: a slow response is not an outage."""


def single_try(client: ArroyoClient, tolerance_seconds: float, deadline: float | None = None) -> ArroyoClient:
    """Return a client that tries each request once, for as long as a poll may take.

    :param client: the client.
    :param tolerance_seconds: how long an outage may last; a poll may take as long, but at least 5 seconds.
    :param deadline: a time of ``time.monotonic`` after which nothing is tried; default None, no deadline.
    """
    settings = client.settings
    allowed = settings.connect_timeout_seconds + settings.read_timeout_seconds
    return client.with_limits(
        max_elapsed_seconds=0.0,
        first_try_seconds=min(allowed, max(LEAST_POLL_SECONDS, tolerance_seconds)),
        deadline=deadline,
    )


def reload_in_outage(client: ArroyoClient, failures: int) -> None:
    """Load the client's settings again after each missed poll, in case the connection was edited to end an outage.

    :param client: the client.
    :param failures: number of consecutive failed tries.
    :raises ArroyoSettingsError: if they now lead to another server, or cannot be used.
    """
    if failures and failures % (POLL_RETRIES + 1) == 0:
        with suppress(ArroyoNoConnectionError):
            client.reload()


class Polls:
    """The polls of one wait: when the next one is due, and when it must end.

    :param wait: decides.
    :param clock: the clock of the wait's deadline.
    :param interval_seconds: time from the start of one poll to the start of the next; polls do not overlap.
    :param log: gets the messages of the wait.
    :param rest: minimum pause after a poll, as a multiple of its duration; default 0.
    """

    def __init__(
        self, wait: PipelineWait, clock: SteadyClock, interval_seconds: float, log: Any, *, rest: float = 0.0
    ) -> None:
        self.wait = wait
        self.clock = clock
        self._interval_seconds = interval_seconds
        self._log = log
        self._rest = rest
        self.failures = 0
        """Number of consecutive failed tries."""
        self.next_at = clock()
        self.limit = max(wait.plan.deadline, clock() + FIRST_POLL_SECONDS)
        """When a poll must have ended."""
        if wait.unreachable_since is not None:
            ends_at = max(wait.unreachable_since + self.tolerance_seconds, clock() + _LAST_POLL_SECONDS)
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
    until: float | None = None,
    stop_when: Callable[[WaitResult], bool] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> WaitResult:
    """Poll at once, then at the interval, until the wait is over.

    :param client: sends the polls.
    :param wait, clock, interval_seconds, log: see :class:`Polls`.
    :param until: return at this time of the clock even if the wait is not over; default None.
    :param stop_when: return as soon as this is true for a result, even if the wait is not over; default None.
    :param sleep: sleeps for a number of seconds.
    :returns: the result; ``WAITING`` only if ``until`` or ``stop_when`` ended it.
    """

    def observe(poll: ArroyoClient) -> WaitResult:
        return wait.observe(poll.get_job(wait.plan.pipeline.pipeline_id), clock())

    polls = Polls(wait, clock, interval_seconds, log)
    return poll_by(observe, client, polls, until=until, stop_when=stop_when, sleep=sleep)


def poll_by(
    observe: Callable[[ArroyoClient], T],
    client: ArroyoClient,
    polls: Polls,
    *,
    until: float | None,
    stop_when: Callable[[WaitResult], bool] | None,
    sleep: Callable[[float], None],
) -> T | WaitResult:
    """Poll at once, then repeatedly, until the wait is over.

    :param observe: sends a poll and lets the wait observe it; a value that is not a :class:`.WaitResult` ends the
        loop.
    :param polls: the polls of the wait.
    :param client, until, stop_when, sleep: see :func:`poll_until`.
    """
    wait, clock = polls.wait, polls.clock

    def send() -> T:
        reload_in_outage(client, polls.failures)
        return observe(single_try(client, polls.tolerance_seconds, clock.to_monotonic(polls.limit)))

    while True:
        result = polls.take(send, clock())
        if not isinstance(result, WaitResult):
            return result
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
            if wait.next_due() <= now:
                result = polls.tick()
            if result.is_over or now >= polls.next_at:
                break
            sleep(polls.seconds_to(polls.next_at, until, wait.details_due()))
        if result.is_over:
            return result
