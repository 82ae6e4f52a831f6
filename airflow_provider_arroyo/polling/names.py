"""Looking up a pipeline by its name. In a triggerer, all waits on a connection share one list of names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.lists import all_of
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoError,
    ArroyoNoSuchNameError,
    ArroyoUnreadableItemError,
)
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.pipelines.names import resolve_name
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.connection import Connection, single_try
from airflow_provider_arroyo.polling.waiters import Waiter

FIND_SECONDS = 2.0
"""Time between two look-ups of a name in seconds, if reading the list takes less than a tenth of that."""

FIND_REST = 10.0
"""Minimum pause after a look-up, as a multiple of its duration: lists of pipelines are large."""

Resolve = Callable[[ArroyoClient], PipelineRef]
"""Returns the pipeline that a name means; raises :class:`ArroyoNoSuchNameError` if there is none."""


def resolve_ref(client: ArroyoClient, *, name: str, rule: Mapping[str, Any]) -> PipelineRef:
    """Return the pipeline that a name means.

    :param client: sends the requests.
    :param name: the exact name.
    :param rule: further arguments of :func:`.resolve_name`.
    :raises ArroyoNoSuchNameError: if there is none.
    :raises ArroyoError: if the look-up fails, or several could be meant.
    """
    return PipelineRef.of(resolve_name(client, name, **rule).pipeline, client.settings)


def observe_look_up(
    wait: PipelineWait, clock: SteadyClock, look_up: Callable[[], PipelineRef]
) -> WaitResult | None:
    """Let a wait observe a look-up of its pipeline; return its result, None once the pipeline is found.

    :param wait: the wait.
    :param clock: the clock of the wait.
    :param look_up: returns the pipeline.
    :raises ArroyoError: if it is unknown whether there is one.
    """
    try:
        wait.found(look_up(), clock())
    except ArroyoNoSuchNameError as err:
        return wait.observe_missing(clock(), err.elsewhere)
    except ArroyoUnreadableItemError as err:
        if wait.plan.pipeline.name in err.names:
            raise
        # It most likely is another one, and a wait changes nothing.
        return wait.observe_missing(clock(), str(err))
    return None


def may_resolve_again(wait: PipelineWait) -> bool:
    """Return whether the name of a wait's pipeline may mean another one by now, and a look-up may tell."""
    # In an outage, the look-up would fail too, and the next polls would start over with their retries.
    return wait.may_be_replaced and wait.progress.outage_since is None


def means_another(client: ArroyoClient, wait: PipelineWait, resolve: Resolve) -> bool:
    """Return whether the name of a wait's pipeline now means another one, or several; False if unknown."""
    try:
        found = resolve(client)
    except ArroyoAmbiguousNameError:
        return True  # the next look-up reports it
    except ArroyoError:
        return False
    return found.pipeline_id != wait.plan.pipeline.pipeline_id


class SharedNames:
    """Looks up pipelines by name.

    :param connection: the connection, whose threads and clock it uses.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reading = asyncio.Lock()
        self._ids: Mapping[str, frozenset[str]] = {}
        self._unreadable: ArroyoUnreadableItemError | None = None
        self._error: ArroyoError | None = None
        """Why the list could not be read the last time, if so."""
        self._sent_at = self._fresh_until = float("-inf")

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
        found: PipelineRef = await self._connection.run(partial(resolve, single_try(client, tolerance)))
        return found

    async def look_again(self, waiter: Waiter, resolve: Resolve) -> None:
        """Look up the name of a wait, whose pipeline may be replaced, once more; note it if it was."""
        wait, pipeline = waiter.wait, waiter.wait.plan.pipeline
        with suppress(ArroyoError):
            client, ids = await self._ids_of(str(pipeline.name), 0.0)
            if not ids <= {pipeline.pipeline_id}:
                find = partial(means_another, single_try(client, 0.0), wait, resolve)
                waiter.is_replaced = await self._connection.run(find) and wait.may_be_replaced
        waiter.observe(lambda: wait.tick(waiter.clock()))

    async def _ids_of(
        self, name: str, tolerance_seconds: float, failures: int = 0
    ) -> tuple[ArroyoClient, frozenset[str]]:
        """Return the client, and the ids of the pipelines with a name, from a list at most a few seconds old.

        :raises ArroyoError: if the list cannot be read; the same for all who asked before it was requested.
        """
        asked_at = self._connection.monotonic()
        async with self._reading:
            client = await self._connection.client()
            await self._connection.reload(failures)
            if self._sent_at < asked_at and (failures or self._connection.monotonic() >= self._fresh_until):
                await self._read(single_try(client, tolerance_seconds))
        if self._error is not None and self._sent_at >= asked_at:
            raise self._error.with_traceback(None)
        return client, self._ids.get(name, frozenset())

    async def _read(self, client: ArroyoClient) -> None:
        sent_at = self._connection.monotonic()
        try:
            self._ids, self._unreadable = await self._connection.run(partial(_ids_by_name, client))
        except ArroyoError as err:
            self._error = err
        else:
            self._error, now = None, self._connection.monotonic()
            # However many names are looked up, the server gets a pause.
            self._fresh_until = now + max(FIND_SECONDS / 2, FIND_REST * (now - sent_at))
        self._sent_at = sent_at


def _ids_by_name(
    client: ArroyoClient,
) -> tuple[Mapping[str, frozenset[str]], ArroyoUnreadableItemError | None]:
    """Return the ids of all pipelines, by name, and the error if one of them cannot be read."""
    listed = all_of(client.iter_pipelines())
    ids: dict[str, set[str]] = {}
    for pipeline in listed.readable:
        ids.setdefault(pipeline.name, set()).add(pipeline.id)
    return {name: frozenset(found) for name, found in ids.items()}, listed.error
