"""Reads the checkpoints that a wait needs: in a worker between two polls, in a triggerer beside them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.waiters import Waiter

MAX_READS = 2
"""How many waits of a triggerer read checkpoints at the same time."""

_SLOW_SECONDS = 1.0


def read(client: ArroyoClient, pipeline_id: str, job: Job) -> Sequence[Checkpoint] | ArroyoError:
    """Return a job's checkpoints, or why they cannot be read.

    :param client: sends the request, once.
    """
    try:
        return client.list_checkpoints(pipeline_id, job.id)
    except ArroyoError as err:
        return err


def observe_now(client: ArroyoClient, wait: PipelineWait, clock: SteadyClock) -> WaitResult | None:
    """Read the checkpoints if the wait needs them now, and tell it; None where it needs none.

    :param client: sends the request, once.
    :param clock: the clock of the wait.
    """
    job, due, sent_at = wait.job, wait.checkpoints_due(), clock()
    if job is None or due is None or due > sent_at:
        return None
    found = read(client, wait.plan.pipeline.pipeline_id, job)
    return wait.observe_checkpoints(job, found, clock(), sent_at=sent_at)


class CheckpointReader:
    """Reads checkpoints for the waits of a shared poller; no poll waits for that.

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

    def start(self, waiter: Waiter, pipeline_id: str, job: Job) -> None:
        """Read a job's checkpoints and put them into the waiter's inbox, one read at a time for each."""
        if waiter.reading is None:
            waiter.reading = asyncio.get_running_loop().create_task(
                self._read(waiter, pipeline_id, job), context=contextvars.Context()
            )

    async def _read(self, waiter: Waiter, pipeline_id: str, job: Job) -> None:
        client = await self._connected()
        async with self._slots:
            sent_at = self._monotonic()
            request = asyncio.ensure_future(self._run(partial(read, client, pipeline_id, job)))
            try:
                # One that gets no response makes room for another.
                await asyncio.wait({request}, timeout=_SLOW_SECONDS)
            except asyncio.CancelledError:
                request.cancel()
                raise
        found, now = await request, self._monotonic()

        def observe(wait: PipelineWait, clock: SteadyClock) -> WaitResult:
            waiter.reading = None
            return wait.observe_checkpoints(
                job, found, clock.from_monotonic(now), sent_at=clock.from_monotonic(sent_at)
            )

        waiter.inbox.put_nowait(observe)
