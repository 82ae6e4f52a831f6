"""Reads the details of a job that a wait needs: in a worker between two polls, in a triggerer in parallel to them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.lists import Listed, read_items
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.reading import iter_items
from airflow_provider_arroyo.client.request import HttpResponse, Request
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.checkpoints import WRITTEN
from airflow_provider_arroyo.monitoring.condition import Finding, Reading
from airflow_provider_arroyo.monitoring.metrics import MEASURED_EVERY_SECONDS, UnknownNameError
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.connection import Connection, single_try, started
from airflow_provider_arroyo.polling.waiters import Waiter

MAX_READS = 2
"""How many waits of a triggerer read at the same time."""

MAX_READS_PER_SECOND = 100
"""Maximum checkpoint reads per second. More would cost a triggerer much of its core; waits then read less often."""

MAX_SLOW_READS = 16
"""While this many reads have no response, further ones may take only a few seconds, since each keeps a thread."""

_SLOW_SECONDS = 1.0
_SHARED_SECONDS = 0.9 * MEASURED_EVERY_SECONDS
"""How long the waits of a triggerer share the metrics of a job, in seconds: there are no newer ones."""

Fetched = Reading | ArroyoError


def fetch(client: ArroyoClient, plan: WaitPlan, job: Job) -> Fetched:
    """Return the checkpoints or the metrics of a job, whichever a plan needs, or the error.

    :param client: sends the request once.
    :param plan: the plan.
    :param job: the job.
    """
    where = plan.pipeline.pipeline_id, job.id
    request: Request[Any] = replace(endpoints.list_checkpoints(*where), read=_read_checkpoints)
    if plan.metric is not None:
        request = endpoints.list_metrics(*where)
    try:
        response = client.send(request)
        # A proof needs all checkpoints, so one that cannot be read is an error here.
        value = tuple(response.value) if plan.metric is None else response.value
    except ArroyoError as err:
        return err
    date = response.server_date
    return Reading(value, None if date is None else date.timestamp())


def measure(client: ArroyoClient, plan: WaitPlan, finding: Finding, fetched: Fetched) -> Fetched:
    """Return the value of a plan's metric, measured from the metrics of its job; anything else as it is.

    May take a while, so do not call it on an event loop.

    :param client: sends each request once.
    :param plan, finding: of the wait.
    :param fetched: from :func:`fetch`.
    """
    if plan.metric is None or isinstance(fetched, ArroyoError):
        return fetched
    pipeline = plan.pipeline
    try:
        value = plan.metric.measured(
            fetched.value, lambda: client.get_pipeline(pipeline.pipeline_id).graph, finding
        )
    except ArroyoError as err:
        return err
    except UnknownNameError as err:
        return ArroyoError(f"{pipeline.label}: {err}", is_fatal=True)
    return fetched._replace(value=value)


def _read_checkpoints(response: HttpResponse) -> Listed[Checkpoint]:
    """Return checkpoints without the phases that no wait needs, which are most of the data."""
    # What is not an object describes no checkpoint.
    items = (item for item in iter_items(response.body) if isinstance(item, Mapping))
    return read_items(items, Checkpoint, lambda item: Checkpoint.from_api({**item, "events": _needed(item)}))


def _needed(item: Mapping[str, Any]) -> list[Any]:
    """Return the phases that tell whether an unfinished checkpoint was written."""
    phases = item.get("events")
    if item.get("finish_time") or not isinstance(phases, list):
        return []
    return [one for one in phases if isinstance(one, Mapping) and one.get("event") == WRITTEN]


def observe_now(client: ArroyoClient, wait: PipelineWait, clock: SteadyClock) -> WaitResult | None:
    """Read what the wait needs now, and pass it to the wait; None if it needs nothing.

    :param client: sends each request once.
    :param wait: the wait.
    :param clock: the clock of the wait.
    """
    job, due, sent_at = wait.progress.job, wait.details_due(), clock()
    if job is None or due is None or due > sent_at:
        return None
    found = measure(client, wait.plan, wait.progress.finding, fetch(client, wait.plan, job))
    return wait.observe_details(job, found, clock(), sent_at=sent_at)


class DetailReader:
    """Reads for the waits of a shared poller, without delaying any poll.

    :param connection: the connection, whose threads and clock it uses.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._slots = asyncio.Semaphore(MAX_READS)
        self._slow = 0
        """How many reads got no response in time."""
        self._metrics: dict[tuple[str, int], asyncio.Future[Fetched]] = {}
        self._next_at = self._connection.monotonic()

    async def read(self, waiter: Waiter, job: Job) -> None:
        """Read what a wait needs of a job, and let it observe that."""
        wait, at = waiter.wait, waiter.clock.from_monotonic
        client = await self._connection.client()
        async with self._slots:
            if wait.plan.metric is None:  # metrics are shared
                now = self._connection.monotonic()
                pause, self._next_at = self._next_at - now, max(self._next_at, now) + 1 / MAX_READS_PER_SECOND
                await asyncio.sleep(max(0.0, pause))
            may_be_slow = wait.plan.condition is not None and self._slow < MAX_SLOW_READS
            reader = single_try(client, waiter.tolerance_seconds if may_be_slow else 0.0)
            sent_at = self._connection.monotonic()
            # A read without a response makes room for another one.
            request = await started(self._read(reader, wait, job), _SLOW_SECONDS)
        is_slow = not request.done()
        self._slow += is_slow
        try:
            found, now = await request, self._connection.monotonic()
        finally:
            self._slow -= is_slow
        waiter.observe(lambda: wait.observe_details(job, found, at(now), sent_at=at(sent_at)))

    async def _read(self, client: ArroyoClient, wait: PipelineWait, job: Job) -> Fetched:
        plan, finding, run = wait.plan, wait.progress.finding, (job.id, job.run_id)
        if plan.metric is None:
            checkpoints: Fetched = await self._connection.run(partial(fetch, client, plan, job))
            return checkpoints
        if run not in self._metrics:
            self._metrics[run] = asyncio.ensure_future(
                self._connection.run(partial(fetch, client, plan, job))
            )
            asyncio.get_running_loop().call_later(_SHARED_SECONDS, self._metrics.pop, run)
        metrics = await asyncio.shield(self._metrics[run])
        measured: Fetched = await self._connection.run(partial(measure, client, plan, finding, metrics))
        return measured
