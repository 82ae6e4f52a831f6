"""Reads the details of a job that a wait needs: in a worker between two polls, in a triggerer in parallel to them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
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
from airflow_provider_arroyo.monitoring.condition import Finding, Reading
from airflow_provider_arroyo.monitoring.metrics import MEASURED_EVERY_SECONDS, UnknownNameError
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.proof import WRITTEN
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.waiters import Waiter

MAX_READS = 2
"""How many waits of a triggerer read at the same time."""

MAX_READS_PER_SECOND = 100
"""Maximum checkpoint reads per second. More would cost a triggerer much of its core; waits then read less often."""

_SLOW_SECONDS = 1.0
_SHARED_SECONDS = 0.9 * MEASURED_EVERY_SECONDS
"""How long the waits of a triggerer share the metrics of a job, in seconds: there are no newer ones."""


class SharedMetrics:
    """Lets the waits of a triggerer share the metrics of a job. Called in threads.

    :param monotonic: a monotonic clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._sent: dict[tuple[str, int], tuple[float, Future[Reading]]] = {}

    def get(self, job: Job, fetch: Callable[[], Reading]) -> Reading:
        """Return metrics of the same run that were just fetched or are being fetched; otherwise fetch them."""
        run = job.id, job.run_id
        with self._lock:
            now = self._monotonic()
            self._sent = {one: sent for one, sent in self._sent.items() if now - sent[0] < _SHARED_SECONDS}
            is_first = run not in self._sent
            _, response = self._sent.setdefault(run, (now, Future()))
        if is_first:
            try:
                response.set_result(fetch())
            except BaseException as err:
                response.set_exception(err)
                raise
        return response.result()


def read(
    client: ArroyoClient, plan: WaitPlan, finding: Finding, job: Job, shared: SharedMetrics | None = None
) -> Reading | ArroyoError:
    """Return the details of a job that a wait needs, or the error.

    May take a while even after the response has arrived, so do not call it on an event loop.

    :param client: sends each request once.
    :param plan, finding: of the wait.
    :param job: the job.
    :param shared: the metrics that other waits share; default None, none.
    """
    try:
        if plan.metric is None:
            request = endpoints.list_checkpoints(plan.pipeline.pipeline_id, job.id)
            return _fetch(client, replace(request, read=_read_checkpoints))

        def fetch() -> Reading:
            return _fetch(client, endpoints.list_metrics(plan.pipeline.pipeline_id, job.id))

        fetched = fetch() if shared is None else shared.get(job, fetch)
        measured = plan.metric.measured(
            fetched.value, lambda: client.get_pipeline(plan.pipeline.pipeline_id).graph, finding
        )
        return fetched._replace(value=measured)
    except ArroyoError as err:
        return err
    except UnknownNameError as err:
        return ArroyoError(f"{plan.pipeline.label}: {err}", is_fatal=True)


def _fetch(client: ArroyoClient, request: Request[Any]) -> Reading:
    response = client.send(request)
    date = response.server_date
    return Reading(response.value, None if date is None else date.timestamp())


def _read_checkpoints(response: HttpResponse) -> tuple[Checkpoint, ...]:
    """Return checkpoints without the phases that no wait needs, which are most of the data."""
    return tuple(Checkpoint.from_api({**item, "events": _needed(item)}) for item in iter_items(response.body))


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
    job, due, sent_at = wait.job, wait.details_due(), clock()
    if job is None or due is None or due > sent_at:
        return None
    found = read(client, wait.plan, wait.finding, job)
    is_cut_short = isinstance(found, ArroyoError) and clock() >= wait.ends_at()
    if is_cut_short and wait.finding.seen is not None:
        return None  # the end of the wait interrupted it, so it says nothing about the job
    return wait.observe_details(job, found, clock(), sent_at=sent_at)


class DetailReader:
    """Reads for the waits of a shared poller, without delaying any poll.

    :param connected: returns the client, which sends each request once.
    :param run: runs a blocking function in a thread.
    :param monotonic: a monotonic clock in seconds.
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
        self._shared = SharedMetrics(monotonic)
        self._next_at = monotonic()

    def start(self, waiter: Waiter, wait: PipelineWait, job: Job) -> None:
        """Read, and pass the result to the waiter; one read at a time for each waiter."""
        if waiter.reading is None:
            waiter.reading = asyncio.get_running_loop().create_task(
                self._read(waiter, wait.plan, wait.finding, job), context=contextvars.Context()
            )

    async def _read(self, waiter: Waiter, plan: WaitPlan, finding: Finding, job: Job) -> None:
        client = await self._connected()
        async with self._slots:
            if plan.metric is None:  # metrics are shared
                now = self._monotonic()
                pause, self._next_at = self._next_at - now, max(self._next_at, now) + 1 / MAX_READS_PER_SECOND
                await asyncio.sleep(max(0.0, pause))
            sent_at = self._monotonic()
            request = asyncio.ensure_future(
                self._run(partial(read, client, plan, finding, job, self._shared))
            )
            try:
                # A read without a response makes room for another one.
                await asyncio.wait({request}, timeout=_SLOW_SECONDS)
            except asyncio.CancelledError:
                request.cancel()
                raise
        found, now = await request, self._monotonic()

        def observe(wait: PipelineWait, clock: SteadyClock) -> WaitResult:
            waiter.reading = None
            return wait.observe_details(
                job, found, clock.from_monotonic(now), sent_at=clock.from_monotonic(sent_at)
            )

        waiter.tell(observe)
