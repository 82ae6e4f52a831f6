"""The poll loop of a worker. It polls, tells the wait and sleeps; the wait decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.retry import POLL_RETRIES, poll_retry_seconds
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNoConnectionError
from airflow_provider_arroyo.monitoring.messages import log_messages
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.details import observe_now

FIRST_POLL_SECONDS = 2.0
"""What the first poll may take even when its wait's time is over: a wait always polls once."""

_LAST_POLL_SECONDS = 0.5
"""What the first poll may take where an outage has lasted for as long as is tolerated."""

LEAST_POLL_SECONDS = 5.0
"""What a poll may take though no outage is tolerated: a slow response is none."""


def single_try(client: ArroyoClient, tolerance_seconds: float, deadline: float | None = None) -> ArroyoClient:
    """Return a client that tries each request once, for as long as a poll may take.

    :param tolerance_seconds: how long an outage may last; a poll may take that long, and 5 seconds in any case.
    :param deadline: a moment of ``time.monotonic`` after which nothing is tried.
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

    :param failures: tries that failed in a row.
    :raises ArroyoSettingsError: where they lead to another server, or cannot be used.
    """
    if failures and failures % (POLL_RETRIES + 1) == 0:
        with suppress(ArroyoNoConnectionError):
            client.reload()


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
    :param wait: decides.
    :param clock: the clock of the wait's deadline.
    :param interval_seconds: from the beginning of one poll to that of the next; polls do not overlap.
    :param log: gets the messages of the wait.
    :param until: return at this moment of the clock, though the wait is not over.
    :param stop_when: return as soon as this is true of a result, though the wait is not over.
    :param sleep: how to sleep, in seconds.
    :returns: the result; ``WAITING`` only where ``until`` or ``stop_when`` ended it.
    """
    plan, failures = wait.plan, 0
    tolerance = plan.outage_tolerance.total_seconds()
    limit = max(plan.deadline, clock() + FIRST_POLL_SECONDS)
    if wait.unreachable_since is not None:
        limit = min(limit, max(wait.unreachable_since + tolerance, clock() + _LAST_POLL_SECONDS))
    while True:
        began = clock()
        try:
            reload_in_outage(client, failures)
            poll = single_try(client, tolerance, clock.to_monotonic(limit))
            wait.polled()
            result = wait.observe(poll.get_job(plan.pipeline.pipeline_id), clock())
            failures, limit, next_at = 0, plan.deadline, began + interval_seconds
        except ArroyoError as err:
            failures += 1
            pause = poll_retry_seconds(failures, interval_seconds, err)
            result = wait.observe_error(err, clock(), sent_at=began, retry_in=pause)
            next_at = clock() + pause
            if result.unreachable_since is not None:
                limit = min(plan.deadline, result.unreachable_since + tolerance)
        log_messages(log, wait.messages())
        while not result.is_over:
            reader = single_try(client, tolerance if plan.condition else 0.0, clock.to_monotonic(limit))
            if (found := observe_now(reader, wait, clock)) is not None:
                result = found
                log_messages(log, wait.messages())
                continue
            now, due = clock(), wait.next_due()
            if (until is not None and now >= until) or (stop_when is not None and stop_when(result)):
                return result
            if due <= now:
                result, due = wait.tick(now), wait.next_due()
                log_messages(log, wait.messages())
            if result.is_over or now >= next_at:
                break
            # What is still due only a poll can tell.
            ends = [next_at, due if due > now else plan.deadline, until, wait.details_due()]
            sleep(max(0.0, min(end for end in ends if end is not None) - now))
        if result.is_over:
            return result
