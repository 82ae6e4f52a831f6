"""One poll loop for all waiters of a process that look through the same connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.listing import newest_job
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.notes import Note
from airflow_provider_arroyo.monitoring.verdict import Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait

Clock = Callable[[], float]


class JobFeed:
    """Looks for its waiters.

    :param client: makes the calls.
    :param clock: seconds since the epoch.
    """

    def __init__(self, client: Any, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def watch(
        self, wait: PipelineWait, *, interval_seconds: float, on_notes: Callable[[list[Note]], None]
    ) -> Verdict:
        """Look at once, then at the interval, until the wait is over."""
        while True:
            began = self._clock()
            left = max(wait.plan.deadline - began, 0.0)
            try:
                jobs = await asyncio.wait_for(
                    self._client.call(api.pipeline_jobs(wait.plan.pipeline_id)), timeout=left + 0.5
                )
                verdict = wait.observe(newest_job(jobs), self._clock())
            except ArroyoError as err:
                verdict = wait.observe_error(err, self._clock())
            except TimeoutError:
                verdict = wait.tick(self._clock())
            if notes := wait.notes():
                on_notes(notes)
            if verdict.is_over:
                return verdict
            await asyncio.sleep(max(0.0, began + interval_seconds - self._clock()))


@asynccontextmanager
async def shared_feed(
    *,
    key: tuple[Hashable, ...],
    interval_seconds: float,
    connect: Callable[[], Awaitable[Any]],
    clock: Clock,
) -> AsyncIterator[JobFeed]:
    """Join the feed of a connection, and leave it."""
    client = await connect()
    try:
        yield JobFeed(client, clock)
    finally:
        await client.aclose()
