"""Reads what a wait needs besides a job's state: in a worker between two polls, in a triggerer beside them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.reading import iter_items
from airflow_provider_arroyo.client.request import HttpResponse, Request
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.condition import Detail, Finding, Reading
from airflow_provider_arroyo.monitoring.metrics import MEASURED_EVERY_SECONDS, UnknownNameError
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.waiters import Waiter

MAX_READS = 2
"""How many waits of a triggerer read at the same time."""

MAX_READS_PER_SECOND = 100
"""Of checkpoints. More would cost a triggerer much of its core; where more are wanted, waits read more rarely."""

_SLOW_SECONDS = 1.0
_SHARED_SECONDS = 0.9 * MEASURED_EVERY_SECONDS
"""For how long the waits of a triggerer share the metrics of a job: there are no newer ones."""


def fetch(client: ArroyoClient, detail: Detail, pipeline_id: str, job: Job) -> Reading | ArroyoError:
    """Return what Arroyo reports of a job besides its state, or why that cannot be read.

    :param client: sends the request, once.
    :param detail: what to read.
    """
    request: Request[Any] = (
        replace(endpoints.list_checkpoints(pipeline_id, job.id), read=_without_spans)
        if detail is Detail.CHECKPOINTS
        else endpoints.list_metrics(pipeline_id, job.id)
    )
    try:
        response = client.send(request)
    except ArroyoError as err:
        return err
    date = response.server_date
    return Reading(response.value, None if date is None else date.timestamp())


def prepare(
    client: ArroyoClient, plan: WaitPlan, finding: Finding, fetched: Reading | ArroyoError
) -> Reading | ArroyoError:
    """Return what a wait is told of that. It may take a while, and is not for an event loop.

    :param client: requests the pipeline's graph where that is needed, once for each wait.
    :param plan, finding: of the wait.
    """
    if isinstance(fetched, ArroyoError) or plan.metric is None:
        return fetched
    try:
        is_known = plan.metric.knows_operators(finding)
        graph = None if is_known else client.get_pipeline(plan.pipeline.pipeline_id).graph
        return fetched._replace(value=plan.metric.measured(fetched.value, graph, finding))
    except ArroyoError as err:
        return err
    except UnknownNameError as err:
        return ArroyoError(f"{plan.pipeline.label}: {err}", is_fatal=True)


def _without_spans(response: HttpResponse) -> tuple[Checkpoint, ...]:
    """Return checkpoints without what each spent its time on, which is most of them, and no wait needs."""
    return tuple(Checkpoint.from_api({**item, "events": ()}) for item in iter_items(response.body))


def observe_now(client: ArroyoClient, wait: PipelineWait, clock: SteadyClock) -> WaitResult | None:
    """Read what the wait needs now, and tell it; None where it needs nothing.

    :param client: sends the request, once.
    :param clock: the clock of the wait.
    """
    job, due, sent_at, plan = wait.job, wait.details_due(), clock(), wait.plan
    if job is None or due is None or due > sent_at:
        return None
    fetched = fetch(client, plan.detail, plan.pipeline.pipeline_id, job)
    found = prepare(client, plan, wait.finding, fetched)
    return wait.observe_details(job, found, clock(), sent_at=sent_at)


class DetailReader:
    """Reads for the waits of a shared poller; no poll waits for that.

    :param connected: returns the client, which sends each request once.
    :param run: runs a blocking function in a thread.
    :param monotonic: seconds that only grow.
    """

    def __init__(
        self,
        connected: Callable[[], Awaitable[ArroyoClient]],
        run: Callable[[Callable[[], Any]], Awaitable[Any]],
        monotonic: Callable[[], float],
    ) -> None:
        self._connected = connected
        self._run = run
        self._monotonic = monotonic
        self._slots = asyncio.Semaphore(MAX_READS)
        self._metrics: dict[tuple[str, str], tuple[float, asyncio.Future[Reading | ArroyoError]]] = {}
        self._next_at = monotonic()

    def start(self, waiter: Waiter, wait: PipelineWait, job: Job) -> None:
        """Read and hand the waiter the outcome, one read at a time for each."""
        if waiter.reading is None:
            waiter.reading = asyncio.get_running_loop().create_task(
                self._read(waiter, wait.plan, wait.finding, job), context=contextvars.Context()
            )

    async def _read(self, waiter: Waiter, plan: WaitPlan, finding: Finding, job: Job) -> None:
        client = await self._connected()
        async with self._slots:
            if plan.detail is Detail.CHECKPOINTS:  # metrics are shared
                now = self._monotonic()
                pause, self._next_at = self._next_at - now, max(self._next_at, now) + 1 / MAX_READS_PER_SECOND
                await asyncio.sleep(max(0.0, pause))
            sent_at = self._monotonic()
            request = self._fetch(client, plan, job, sent_at)
            try:
                # One that gets no response makes room for another.
                await asyncio.wait({request}, timeout=_SLOW_SECONDS)
            except asyncio.CancelledError:
                if plan.detail is Detail.CHECKPOINTS:
                    request.cancel()
                raise
        await asyncio.wait({request})
        found = await self._run(partial(prepare, client, plan, finding, request.result()))
        now = self._monotonic()

        def observe(wait: PipelineWait, clock: SteadyClock) -> WaitResult:
            waiter.reading = None
            return wait.observe_details(
                job, found, clock.from_monotonic(now), sent_at=clock.from_monotonic(sent_at)
            )

        waiter.tell(observe)

    def _fetch(
        self, client: ArroyoClient, plan: WaitPlan, job: Job, now: float
    ) -> asyncio.Future[Reading | ArroyoError]:
        """Return the request, or one for the same metrics that was sent just before."""
        pipeline_id, is_shared = plan.pipeline.pipeline_id, plan.detail is Detail.METRICS
        self._metrics = {key: one for key, one in self._metrics.items() if now - one[0] < _SHARED_SECONDS}
        if is_shared and (pipeline_id, job.id) in self._metrics:
            return self._metrics[pipeline_id, job.id][1]
        request = asyncio.ensure_future(self._run(partial(fetch, client, plan.detail, pipeline_id, job)))
        if is_shared:
            self._metrics[pipeline_id, job.id] = now, request
        return request
