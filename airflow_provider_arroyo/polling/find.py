"""Looking for a pipeline by its name, until there is one: in a worker, and in a triggerer for all that look there.

The wait decides, as for any poll. Lists of pipelines are large, so they are read less often than a job is polled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.retry import poll_retry_seconds
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoError,
    ArroyoNoSuchNameError,
)
from airflow_provider_arroyo.monitoring.messages import log_messages
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.pipelines.names import resolve_name
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.connection import Connect, PollerConnection
from airflow_provider_arroyo.polling.per_loop import PerLoop
from airflow_provider_arroyo.polling.poll import FIRST_POLL_SECONDS, poll_until, reload_in_outage, single_try
from airflow_provider_arroyo.polling.threads import DaemonThreads

FIND_SECONDS = 2.0
"""How often a name is looked up, where the list of pipelines takes less than a tenth of that to read."""

LookUp = PipelineRef | ArroyoError
"""The pipeline; :class:`ArroyoNoSuchNameError` where none has the name; or why that is not known."""


Resolve = Callable[[ArroyoClient], PipelineRef]
"""Returns the pipeline that a name means; raises :class:`ArroyoNoSuchNameError` where there is none."""


def resolve_ref(client: ArroyoClient, *, name: str, rule: Mapping[str, Any]) -> PipelineRef:
    """Return the pipeline that a name means.

    :param rule: what else decides that, see :func:`.resolve_name`.
    :raises ArroyoNoSuchNameError: where there is none.
    :raises ArroyoError: where it cannot be known, or several could be meant.
    """
    return PipelineRef.of(resolve_name(client, name, **rule).pipeline, client.settings)


class _Search:
    """What follows from each look-up, in a worker as in a triggerer."""

    def __init__(self, wait: PipelineWait, clock: SteadyClock, interval_seconds: float, log: Any) -> None:
        self._wait, self._clock, self._log = wait, clock, log
        self._interval_seconds = max(interval_seconds, FIND_SECONDS)
        self.failures = 0
        self.limit = max(wait.plan.deadline, clock() + FIRST_POLL_SECONDS)
        """When a look-up must have ended."""
        self.next_at = clock()

    def take(self, seen: LookUp, began: float) -> WaitResult | None:
        """Tell the wait; return how it stands, None where its pipeline was found."""
        wait, now, plan = self._wait, self._clock(), self._wait.plan
        result: WaitResult | None = None
        wait.polled()
        if isinstance(seen, ArroyoError) and not isinstance(seen, ArroyoNoSuchNameError):
            self.failures += 1
            pause = poll_retry_seconds(self.failures, self._interval_seconds, seen)
            result = wait.observe_error(seen, now, sent_at=began, retry_in=pause)
            self.next_at = now + pause
            if result.unreachable_since is not None:
                self.limit = min(
                    plan.deadline, result.unreachable_since + plan.outage_tolerance.total_seconds()
                )
        else:
            self.failures, self.limit = 0, plan.deadline
            self.next_at = max(began + self._interval_seconds, now + 10 * (now - began))
            if isinstance(seen, ArroyoNoSuchNameError):
                result = wait.observe_missing(now, seen.elsewhere)
            else:
                wait.found(seen)
        log_messages(self._log, wait.messages())
        return result

    def tick(self) -> WaitResult:
        """Let time pass without a look-up; return how the wait stands."""
        result = self._wait.tick(self._clock())
        log_messages(self._log, self._wait.messages())
        return result

    def seconds_to(self, *ends: float | None) -> float:
        """Return for how many seconds nothing is due until one of these times, or something is due to the wait."""
        now = self._clock()
        due = (self._wait.next_due(), self._wait.plan.deadline, *ends)
        # What was due before now only a look-up can tell.
        return min((end - now for end in due if end is not None and end > now), default=0.05)


def find_until(
    client: ArroyoClient,
    wait: PipelineWait,
    resolve: Resolve,
    *,
    clock: SteadyClock,
    interval_seconds: float,
    log: Any,
    until: float | None = None,
    stop_when: Callable[[WaitResult], bool] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> WaitResult | None:
    """Look for the pipeline of a wait at once, then again and again, until there is one.

    :param resolve: looks the name up, once.
    :param interval_seconds: how often, 2 seconds or more.
    :param client, wait, clock, log, until, stop_when, sleep: as for :func:`.poll_until`.
    :returns: None once it is found; else the result, ``WAITING`` only where ``until`` or ``stop_when`` ended it.
    """
    search, tolerance = (
        _Search(wait, clock, interval_seconds, log),
        wait.plan.outage_tolerance.total_seconds(),
    )
    while True:
        began = clock()
        seen: LookUp
        try:
            reload_in_outage(client, search.failures)
            seen = resolve(single_try(client, tolerance, clock.to_monotonic(search.limit)))
        except ArroyoError as err:
            seen = err
        result = search.take(seen, began)
        while result is not None and not result.is_over:
            now = clock()
            if (until is not None and now >= until) or (stop_when is not None and stop_when(result)):
                return result
            if now >= search.next_at:
                break
            result = search.tick()
            if not result.is_over:
                sleep(search.seconds_to(search.next_at, until))
        if result is None or result.is_over:
            return result


def poll_named_until(
    client: ArroyoClient,
    wait: PipelineWait,
    resolve: Resolve,
    *,
    clock: SteadyClock,
    until: float | None = None,
    stop_when: Callable[[WaitResult], bool] | None = None,
    **options: Any,
) -> WaitResult | None:
    """Poll a pipeline that was found by its name, until the wait is over.

    :param client, wait, resolve, clock, until, stop_when: as for :func:`find_until`.
    :param options: the others of :func:`.poll_until`.
    :returns: the result; None once the name means another pipeline, which is to be found: this one was stopped when
        it was found, and stayed so.
    """
    looks_at = clock() + FIND_SECONDS

    def is_enough(result: WaitResult) -> bool:
        return (until is not None and clock() >= until) or (stop_when is not None and stop_when(result))

    def is_due(result: WaitResult) -> bool:
        # In an outage, the look-up would fail, too, and the next polls would begin anew with their retries.
        may_look = wait.may_be_replaced and wait.unreachable_since is None
        return is_enough(result) or (may_look and clock() >= looks_at)

    while True:
        result = poll_until(client, wait, clock=clock, until=until, stop_when=is_due, **options)
        if result.is_over or is_enough(result):
            return result
        began = clock()
        if _means_another(client, wait, resolve, clock.to_monotonic(wait.plan.deadline)):
            wait.find_again()
            return None
        looks_at = max(began + FIND_SECONDS, clock() + 10 * (clock() - began))


def _means_another(
    client: ArroyoClient, wait: PipelineWait, resolve: Resolve, deadline: float | None = None
) -> bool:
    """Return whether the name of a wait's pipeline means another one by now, or several; False where nobody knows."""
    try:
        found = resolve(single_try(client, 0.0, deadline))
    except ArroyoAmbiguousNameError:
        return True  # which the next look-up says
    except ArroyoError:
        return False
    return found.pipeline_id != wait.plan.pipeline.pipeline_id


class NameFinder:
    """Looks for pipelines by name, for all triggers of an event loop on one connection.

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
        """Look for the pipeline of a wait at once, then again and again, until there is one.

        :param wait, resolve, clock, interval_seconds, log: as for :func:`find_until`.
        :returns: None once it is found; else the result, which is over.
        :raises Exception: what ``connect`` raised.
        """
        search = _Search(wait, clock, interval_seconds, log)
        while True:
            began = clock()
            looking = asyncio.ensure_future(self._look_up(wait, resolve, search.failures))
            try:
                # The deadline does not wait for a response.
                while not (await asyncio.wait({looking}, timeout=search.seconds_to()))[0]:
                    result = search.tick()
                    if result.is_over:
                        return result
            finally:
                looking.cancel()
            found = search.take(looking.result(), began)
            while found is not None and not found.is_over and clock() < search.next_at:
                found = search.tick()
                if not found.is_over:
                    await asyncio.sleep(search.seconds_to(search.next_at))
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
        """Wait for the result of polling; None once the name means another pipeline, see :func:`poll_named_until`.

        :param wait, resolve: as for :func:`find_until`.
        :param polling: polls until the wait is over; cancelled where this returns None.
        :param every_seconds: how often the name is looked up while the pipeline may be replaced.
        :param is_endless: whether one that was seen to run may be replaced later, too.
        """
        task = asyncio.ensure_future(polling)
        looking: asyncio.Future[bool] | None = None
        try:
            while not (await asyncio.wait({task}, timeout=every_seconds))[0]:
                if wait.may_be_replaced:
                    if wait.unreachable_since is not None and not is_endless:
                        continue  # the look-up would fail, too, and be sent anew for each who waits
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
        return bool(await self._run(partial(_means_another, client, wait, resolve)))

    async def _look_up(self, wait: PipelineWait, resolve: Resolve, failures: int) -> LookUp:
        name, tolerance = str(wait.plan.pipeline.name), wait.plan.outage_tolerance.total_seconds()
        try:
            client, ids = await self._ids_of(name, tolerance, failures)
            if not ids:
                return ArroyoNoSuchNameError.of(name)
            return await self._run(partial(resolve, single_try(client, tolerance)))
        except ArroyoError as err:
            return err

    async def _ids_of(
        self, name: str, tolerance_seconds: float, failures: int = 0
    ) -> tuple[ArroyoClient, frozenset[str]]:
        """Return the client, and the ids of the pipelines of a name, from a list that is a few seconds old."""
        async with self._reading:
            client = await self._connection.client()
            if failures or time.monotonic() >= self._read_at + self._pause_seconds:
                await self._run(partial(reload_in_outage, client, failures))
                began = time.monotonic()
                self._ids = await self._run(partial(_ids, single_try(client, tolerance_seconds)))
                self._read_at = time.monotonic()
                # However many names are looked for, the server gets a rest.
                self._pause_seconds = max(FIND_SECONDS / 2, 10 * (self._read_at - began))
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


_FINDERS: PerLoop[NameFinder] = PerLoop()


@asynccontextmanager
async def name_finder(key: Hashable, connect: Connect) -> AsyncIterator[NameFinder]:
    """Join those who look for names on a connection, and leave them; the last one out closes the client.

    :param key: names the connection and the address that it led to.
    :param connect: returns the client.
    """
    async with _FINDERS.join(key, lambda: NameFinder(connect)) as finder:
        yield finder
