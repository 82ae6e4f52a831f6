"""Waits for pipelines by name in a triggerer; all waits on a connection share one list of names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNoSuchNameError
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.connection import Connect, PerLoop, PollerConnection
from airflow_provider_arroyo.polling.poll import (
    FIND_REST,
    FIND_SECONDS,
    Polls,
    Resolve,
    means_another,
    observe_look_up,
    single_try,
)
from airflow_provider_arroyo.polling.shared import shared_poller
from airflow_provider_arroyo.polling.threads import DaemonThreads


class NameFinder:
    """Looks up pipelines by name, for all triggers of an event loop on one connection.

    :param connect: returns the client; awaited for the first look-up.
    """

    def __init__(self, connect: Connect) -> None:
        self.users = 0
        self._run = DaemonThreads("arroyo-find").run
        self._connection = PollerConnection(connect, self._run, time.monotonic)
        self._reading = asyncio.Lock()
        self._ids: Mapping[str, frozenset[str]] = {}
        self._read_at = float("-inf")
        self._pause_seconds = FIND_SECONDS

    async def find(
        self, wait: PipelineWait, resolve: Resolve, *, clock: SteadyClock, interval_seconds: float, log: Any
    ) -> WaitResult | None:
        """Look up the pipeline of a wait at once, then repeatedly, until it exists.

        :param wait, resolve, clock, interval_seconds, log: see :func:`.poll_until`.
        :returns: None once it is found; otherwise the result, which is over.
        :raises Exception: any error of ``connect``.
        """
        polls = Polls(wait, clock, interval_seconds, log)
        while True:
            began = clock()
            looking = asyncio.ensure_future(self._look_up(wait, resolve, polls.failures))
            try:
                # The deadline does not wait for a response.
                while not (await asyncio.wait({looking}, timeout=polls.seconds_to()))[0]:
                    if (result := polls.tick()).is_over:
                        return result
            finally:
                looking.cancel()
            found = polls.take(partial(observe_look_up, wait, clock, looking.result), began)
            while found is not None and not found.is_over and clock() < polls.next_at:
                found = polls.tick()
                if not found.is_over:
                    await asyncio.sleep(polls.seconds_to(polls.next_at))
            if found is None or found.is_over:
                return found

    async def follow(
        self,
        wait: PipelineWait,
        resolve: Resolve,
        polling: Awaitable[WaitResult],
        *,
        every_seconds: float,
        is_endless: bool = False,
    ) -> WaitResult | None:
        """Wait for the result of polling; None once the name means another pipeline, see :func:`.poll_until`.

        :param wait, resolve: see :func:`.poll_until`.
        :param polling: polls until the wait is over; cancelled if this returns None.
        :param every_seconds: time between two look-ups of the name while the pipeline may be replaced.
        :param is_endless: whether a pipeline that was seen running may also be replaced later.
        """
        task = asyncio.ensure_future(polling)
        looking: asyncio.Future[bool] | None = None
        try:
            while not (await asyncio.wait({task}, timeout=every_seconds))[0]:
                if wait.may_be_replaced:
                    if wait.unreachable_since is not None and not is_endless:
                        continue  # the look-up would fail too, and would be sent again for each waiter
                    looking = asyncio.ensure_future(self._means_another(wait, resolve))
                    await asyncio.wait({task, looking}, return_when=asyncio.FIRST_COMPLETED)
                    if not task.done() and looking.result():
                        return None
                elif wait.job is not None and not is_endless:
                    break
            return await task
        finally:
            started: list[asyncio.Future[Any]] = [task] if looking is None else [task, looking]
            for one in started:
                one.cancel()
            await asyncio.gather(*started, return_exceptions=True)

    async def _means_another(self, wait: PipelineWait, resolve: Resolve) -> bool:
        pipeline = wait.plan.pipeline
        try:
            client, ids = await self._ids_of(str(pipeline.name), 0.0)
        except ArroyoError:
            return False
        if ids <= {pipeline.pipeline_id}:
            return False
        return bool(await self._run(partial(means_another, single_try(client, 0.0), wait, resolve)))

    async def _look_up(self, wait: PipelineWait, resolve: Resolve, failures: int) -> PipelineRef:
        name, tolerance = str(wait.plan.pipeline.name), wait.plan.outage_tolerance.total_seconds()
        client, ids = await self._ids_of(name, tolerance, failures)
        if not ids:
            raise ArroyoNoSuchNameError.of(name)
        found: PipelineRef = await self._run(partial(resolve, single_try(client, tolerance)))
        return found

    async def _ids_of(
        self, name: str, tolerance_seconds: float, failures: int = 0
    ) -> tuple[ArroyoClient, frozenset[str]]:
        """Return the client, and the ids of the pipelines with a name, from a list at most a few seconds old."""
        async with self._reading:
            client = await self._connection.client()
            if failures or time.monotonic() >= self._read_at + self._pause_seconds:
                await self._connection.reload(failures)
                began = time.monotonic()
                self._ids = await self._run(partial(_ids, single_try(client, tolerance_seconds)))
                self._read_at = time.monotonic()
                # However many names are looked up, the server gets a pause.
                self._pause_seconds = max(FIND_SECONDS / 2, FIND_REST * (self._read_at - began))
        return client, self._ids.get(name, frozenset())

    async def aclose(self) -> None:
        """Close the client."""
        self._connection.close()


def _ids(client: ArroyoClient) -> Mapping[str, frozenset[str]]:
    """Return the ids of all pipelines, by name."""
    ids: dict[str, set[str]] = {}
    for pipeline in client.iter_pipelines():
        ids.setdefault(pipeline.name, set()).add(pipeline.id)
    return {name: frozenset(found) for name, found in ids.items()}


name_finder = PerLoop(NameFinder).join
"""Joins the name finder of a connection, and leaves it; see :meth:`.PerLoop.join`."""


async def poll_named(
    key: Hashable,
    connect: Connect,
    wait: PipelineWait,
    resolve: Resolve,
    *,
    every_seconds: float,
    is_endless: bool = False,
    on_found: Callable[[PipelineRef], Awaitable[None]] | None = None,
    **options: Any,
) -> WaitResult | None:
    """Look up the pipeline of a wait if it is unknown, then poll it until the wait is over.

    :param key, connect: see :meth:`.PerLoop.join`.
    :param wait, resolve, every_seconds, is_endless: see :meth:`NameFinder.follow`.
    :param on_found: awaited with the pipeline that was found.
    :param options: further arguments of :meth:`.SharedPoller.watch`.
    :returns: the result; None once the name means another pipeline.
    :raises Exception: any error of ``connect``.
    """
    async with name_finder(key, connect) as finder:
        if not wait.plan.pipeline.pipeline_id:
            if (result := await finder.find(wait, resolve, **options)) is not None:
                return result
            if on_found is not None:
                await on_found(wait.plan.pipeline)
        async with shared_poller(key, connect) as poller:
            polling = poller.watch(wait, **options)
            return await finder.follow(
                wait, resolve, polling, every_seconds=every_seconds, is_endless=is_endless
            )
