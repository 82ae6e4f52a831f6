"""Reads the details of jobs for the waits of a triggerer, in parallel to their polls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.monitoring.condition import Finding, Reading
from airflow_provider_arroyo.monitoring.metrics import MEASURED_EVERY_SECONDS
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.polling.connection import Connection
from airflow_provider_arroyo.polling.details import read
from airflow_provider_arroyo.polling.poll import single_try
from airflow_provider_arroyo.polling.threads import Run
from airflow_provider_arroyo.polling.waiters import Observation

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


class DetailReader:
    """Reads for the waits of a shared poller, without delaying any poll.

    :param connection: the connection.
    :param run: runs a blocking function in a thread.
    :param monotonic: a monotonic clock in seconds.
    """

    def __init__(self, connection: Connection, run: Run, monotonic: Callable[[], float]) -> None:
        self._connection = connection
        self._run = run
        self._monotonic = monotonic
        self._slots = asyncio.Semaphore(MAX_READS)
        self._shared = SharedMetrics(monotonic)
        self._next_at = monotonic()

    async def read(self, plan: WaitPlan, finding: Finding, job: Job) -> Observation:
        """Read as :func:`read` does; return what the wait observes."""
        client = single_try(await self._connection.client(), 0.0)
        async with self._slots:
            if plan.metric is None:  # metrics are shared
                now = self._monotonic()
                pause, self._next_at = self._next_at - now, max(self._next_at, now) + 1 / MAX_READS_PER_SECOND
                await asyncio.sleep(max(0.0, pause))
            sent_at = self._monotonic()
            request = asyncio.ensure_future(
                self._run(partial(read, client, plan, finding, job, self._shared.get))
            )
            try:
                # A read without a response makes room for another one.
                await asyncio.wait({request}, timeout=_SLOW_SECONDS)
            except asyncio.CancelledError:
                request.cancel()
                raise
        found, now = await request, self._monotonic()
        return lambda wait, clock: wait.observe_details(
            job, found, clock.from_monotonic(now), sent_at=clock.from_monotonic(sent_at)
        )
