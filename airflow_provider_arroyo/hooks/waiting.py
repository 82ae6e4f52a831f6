"""The synchronous wait: looks, tells the judge, sleeps. Every judgement is the judge's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.listing import newest_job
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.hooks.clock import SteadyClock
from airflow_provider_arroyo.monitoring.notes import log_notes
from airflow_provider_arroyo.monitoring.plan import FIRST_LOOK_SECONDS, LOOK_SECONDS, was_troubled
from airflow_provider_arroyo.monitoring.verdict import Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait

if TYPE_CHECKING:
    from airflow_provider_arroyo.arroyo.client import ArroyoClient


def look(client: ArroyoClient, wait: PipelineWait, clock: SteadyClock) -> Verdict:
    """Look once, with the client's retries but not past the wait's deadline, and return the verdict."""
    call = api.pipeline_jobs(wait.plan.pipeline_id)
    now = clock()
    most = min(LOOK_SECONDS, wait.plan.outage_tolerance.total_seconds())
    limit = max(min(wait.plan.deadline, now + most), now + FIRST_LOOK_SECONDS)
    try:
        answer = client.exchange(call, deadline=clock.monotonic(limit))
    except ArroyoError as err:
        return wait.observe_error(err, clock())
    after_trouble = was_troubled(answer.retries, clock() - now)
    return wait.observe(newest_job(answer.value), clock(), after_trouble=after_trouble)


def watch(
    client: ArroyoClient,
    wait: PipelineWait,
    *,
    clock: SteadyClock,
    poll_interval_seconds: float,
    log: Any,
    until: float | None = None,
    calm: Callable[[Verdict], bool] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Verdict:
    """Look at once, then at the interval, until the wait is over.

    :param client: looks.
    :param wait: judges.
    :param clock: the clock of the wait's deadline.
    :param poll_interval_seconds: from the beginning of one look to that of the next; looks do not overlap.
    :param log: gets what the wait has to say.
    :param until: give up waiting here, though not in the wait itself, at this moment of the clock.
    :param calm: give up waiting here as soon as this is true of a verdict.
    :param sleep: how to sleep, in seconds.
    :return: the verdict; ``WAITING`` only where ``until`` or ``calm`` ended it.
    """
    while True:
        began = clock()
        verdict = look(client, wait, clock)
        log_notes(log, wait.notes())
        if verdict.is_over:
            return verdict
        now = clock()
        if (until is not None and now >= until) or (calm is not None and calm(verdict)):
            return verdict
        limits = [began + poll_interval_seconds, wait.plan.deadline]
        if until is not None:
            limits.append(until)
        sleep(max(0.0, min(limits) - now))
        if clock() >= wait.plan.deadline:
            verdict = wait.tick(clock())
            log_notes(log, wait.notes())
            return verdict
