"""Reads what a wait needs besides a job's state: in a worker between two polls, in a triggerer beside them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.condition import Detail, Reading
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.waiters import Waiter

MAX_READS = 2
"""How many waits of a triggerer read at the same time."""

_SLOW_SECONDS = 1.0


def read(client: ArroyoClient, detail: Detail, pipeline_id: str, job: Job) -> Reading | ArroyoError:
    """Return what is known of a job besides its state, or why that cannot be read.

    :param client: sends the request, once.
    :param detail: what to read.
    """
    try:
        return _READERS[detail](client, pipeline_id, job)
    except ArroyoError as err:
        return err


def _checkpoints(client: ArroyoClient, pipeline_id: str, job: Job) -> Reading:
    response = client.send(endpoints.list_checkpoints(pipeline_id, job.id))
    date = response.server_date
    return Reading(response.value, None if date is None else date.timestamp())


_READERS: dict[Detail, Callable[[ArroyoClient, str, Job], Reading]] = {Detail.CHECKPOINTS: _checkpoints}


def observe_now(client: ArroyoClient, wait: PipelineWait, clock: SteadyClock) -> WaitResult | None:
    """Read what the wait needs now, and tell it; None where it needs nothing.

    :param client: sends the request, once.
    :param clock: the clock of the wait.
    """
    job, due, sent_at = wait.job, wait.details_due(), clock()
    if job is None or due is None or due > sent_at:
        return None
    found = read(client, wait.plan.detail, wait.plan.pipeline.pipeline_id, job)
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

    def start(self, waiter: Waiter, detail: Detail, pipeline_id: str, job: Job) -> None:
        """Read and put the outcome into the waiter's inbox, one read at a time for each."""
        if waiter.reading is None:
            waiter.reading = asyncio.get_running_loop().create_task(
                self._read(waiter, detail, pipeline_id, job), context=contextvars.Context()
            )

    async def _read(self, waiter: Waiter, detail: Detail, pipeline_id: str, job: Job) -> None:
        client = await self._connected()
        async with self._slots:
            sent_at = self._monotonic()
            request = asyncio.ensure_future(self._run(partial(read, client, detail, pipeline_id, job)))
            try:
                # One that gets no response makes room for another.
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

        waiter.inbox.put_nowait(observe)
