"""The look-ups of names in a triggerer: all waits on a connection share one list of names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.reading import all_of
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNoSuchNameError, ArroyoUnreadableItemError
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.connection import Connection
from airflow_provider_arroyo.polling.poll import (
    FIND_REST,
    FIND_SECONDS,
    Resolve,
    means_another,
    single_try,
)
from airflow_provider_arroyo.polling.threads import Run
from airflow_provider_arroyo.polling.waiters import Observation


class SharedNames:
    """Looks up pipelines by name.

    :param connection: the connection.
    :param run: runs a blocking function in a thread.
    :param monotonic: a monotonic clock in seconds.
    """

    def __init__(self, connection: Connection, run: Run, monotonic: Callable[[], float]) -> None:
        self._connection = connection
        self._run = run
        self._monotonic = monotonic
        self._reading = asyncio.Lock()
        self._ids: Mapping[str, frozenset[str]] = {}
        self._unreadable: ArroyoUnreadableItemError | None = None
        self._fresh_until = float("-inf")

    async def look_up(self, wait: PipelineWait, resolve: Resolve, failures: int) -> PipelineRef:
        """Return the pipeline that the name of a wait means.

        :param wait: the wait.
        :param resolve: looks up the name once.
        :param failures: number of consecutive failed look-ups.
        :raises ArroyoNoSuchNameError: if there is none.
        :raises ArroyoError: if that is unknown.
        """
        name, tolerance = str(wait.plan.pipeline.name), wait.plan.outage_tolerance.total_seconds()
        client, ids = await self._ids_of(name, tolerance, failures)
        if not ids:
            if self._unreadable is not None and self._unreadable.may_include(name):
                raise self._unreadable
            raise ArroyoNoSuchNameError.of(name)
        found: PipelineRef = await self._run(partial(resolve, single_try(client, tolerance)))
        return found

    async def look_again(self, wait: PipelineWait, resolve: Resolve) -> Observation:
        """Look up the name of a wait's pipeline, which may be replaced, again; return what the wait observes."""
        pipeline, is_another = wait.plan.pipeline, False
        with suppress(ArroyoError):
            client, ids = await self._ids_of(str(pipeline.name), 0.0)
            if not ids <= {pipeline.pipeline_id}:
                is_another = await self._run(partial(means_another, single_try(client, 0.0), wait, resolve))

        def observe(wait: PipelineWait, clock: SteadyClock) -> WaitResult | None:
            return None if is_another and wait.may_be_replaced else wait.tick(clock())

        return observe

    async def _ids_of(
        self, name: str, tolerance_seconds: float, failures: int = 0
    ) -> tuple[ArroyoClient, frozenset[str]]:
        """Return the client, and the ids of the pipelines with a name, from a list at most a few seconds old."""
        async with self._reading:
            client = await self._connection.client()
            if failures or self._monotonic() >= self._fresh_until:
                await self._connection.reload(failures)
                began = self._monotonic()
                listed = partial(_ids_by_name, single_try(client, tolerance_seconds))
                self._ids, self._unreadable = await self._run(listed)
                now = self._monotonic()
                # However many names are looked up, the server gets a pause.
                self._fresh_until = now + max(FIND_SECONDS / 2, FIND_REST * (now - began))
        return client, self._ids.get(name, frozenset())


def _ids_by_name(
    client: ArroyoClient,
) -> tuple[Mapping[str, frozenset[str]], ArroyoUnreadableItemError | None]:
    """Return the ids of all pipelines, by name, and the error if one of them cannot be read."""
    listed = all_of(client.iter_pipelines())
    ids: dict[str, set[str]] = {}
    for pipeline in listed.readable:
        ids.setdefault(pipeline.name, set()).add(pipeline.id)
    return {name: frozenset(found) for name, found in ids.items()}, listed.error
