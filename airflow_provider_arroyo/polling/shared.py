"""The shared poller: all waits of a triggerer on one connection share its requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any, Self
from weakref import WeakKeyDictionary, WeakValueDictionary

from airflow_provider_arroyo.exceptions import ArroyoConnectionError
from airflow_provider_arroyo.monitoring.messages import log_messages
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.rules import CUT_SHORT_SECONDS
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.connection import (
    LEAST_POLL_SECONDS,
    Connect,
    Connection,
    DaemonThreads,
    Run,
    start,
)
from airflow_provider_arroyo.polling.details import DetailReader
from airflow_provider_arroyo.polling.job_polls import SLOW_SECONDS, JobPolls
from airflow_provider_arroyo.polling.names import (
    FIND_SECONDS,
    Resolve,
    SharedNames,
    may_resolve_again,
    observe_look_up,
)
from airflow_provider_arroyo.polling.poll import FIRST_POLL_SECONDS, Polls
from airflow_provider_arroyo.polling.waiters import Waiter
from airflow_provider_arroyo.text import duration


class SharedPoller:
    """Polls for its waits, and notifies each of what concerns it. Belongs to one event loop.

    :param connect: returns the client; awaited for the first poll.
    :param run: runs a blocking function in a thread.
    :param monotonic: a monotonic clock in seconds.
    """

    def __init__(
        self, connect: Connect, *, run: Run | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.is_closed = False
        """Whether its last user has left; something, such as a traceback, may keep it longer."""
        self._users = 0
        self._connection = Connection(connect, run or DaemonThreads("arroyo-poll").run, monotonic)
        self._jobs = JobPolls(self._connection)
        self._details = DetailReader(self._connection)
        self._names = SharedNames(self._connection)

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            self.is_closed = True
            self._connection.close()

    async def watch(
        self,
        wait: PipelineWait,
        *,
        interval_seconds: float,
        clock: SteadyClock,
        log: Any,
        resolve: Resolve | None = None,
        resolve_seconds: float = FIND_SECONDS,
        on_found: Callable[[PipelineRef], Awaitable[None]] | None = None,
    ) -> WaitResult:
        """Poll at once, then at the interval, until the wait is over. Log lines are written in the caller's context.

        A wait that knows only a name first looks up its pipeline, until there is one, see :func:`.poll_until`.

        :param wait: decides; it is notified of every change, and of the polls that it asks for by ``next_due``.
        :param interval_seconds: how often to poll for it; it also sees polls that were sent for others.
        :param clock: the clock of this wait.
        :param log: gets the messages of the wait.
        :param resolve: returns the pipeline that the name of the wait means; default None: its id is known.
        :param resolve_seconds: time between two look-ups while the pipeline may be replaced, default 2 seconds.
        :param on_found: awaited with each pipeline that was found; default None.
        :returns: the result, which is over.
        :raises Exception: any error of ``connect``.
        """
        # Airflow may be slow to look up the connection, which says nothing about Arroyo.
        connecting = asyncio.ensure_future(self._connection.client())
        polls = Polls(wait, clock, interval_seconds, log)
        if (result := await _over_before(connecting, polls, FIRST_POLL_SECONDS)) is not None:
            if (error := self._connection.look_up_error) is not None:
                result = replace(result, error=error, is_outage=True)
            return result
        client = connecting.result()
        if wait.progress.responded_at is not None:
            client.expect_arroyo()
        del client, connecting, polls  # those of a thousand waits take a megabyte
        while True:
            if resolve is not None and not wait.plan.pipeline.pipeline_id:
                polls = Polls(wait, clock, interval_seconds, log)
                if (result := await self._find(polls, resolve)) is not None:
                    return result
                del polls
                if on_found is not None:
                    await on_found(wait.plan.pipeline)
            waiter = Waiter(wait, clock, interval_seconds, self._connection.monotonic())
            if (result := await self._watch(waiter, log, resolve, resolve_seconds)) is not None:
                return result
            wait.find_again()

    async def _find(self, polls: Polls, resolve: Resolve) -> WaitResult | None:
        """Look up the pipeline of a wait until there is one; return the result if the wait is over before that."""
        wait, clock, seconds = polls.wait, polls.clock, FIRST_POLL_SECONDS
        while True:
            began = clock()
            look_up = asyncio.ensure_future(self._names.look_up(wait, resolve, polls.failures))
            if (result := await _over_before(look_up, polls, seconds)) is not None:
                return result
            result = polls.take(partial(observe_look_up, wait, clock, look_up.result), began)
            if result is None or result.is_over:
                return result
            pause = asyncio.ensure_future(asyncio.sleep(polls.next_at - clock()))
            if (result := await _over_before(pause, polls, polls.seconds_to())) is not None:
                return result
            seconds = polls.seconds_to()

    async def _watch(
        self, waiter: Waiter, log: Any, resolve: Resolve | None, resolve_seconds: float
    ) -> WaitResult | None:
        """Poll until the wait is over; return None once its name means another pipeline."""
        wait, clock, target = waiter.wait, waiter.clock, self._jobs.join(waiter)
        joined_at, polled = clock(), target.polls + self._jobs.list_polls
        # A poll that hung before this wait joined does not count for it, and meanwhile no other is sent.
        silent_until = joined_at + max(waiter.tolerance_seconds, LEAST_POLL_SECONDS)
        resolve_at = joined_at + resolve_seconds
        seconds = FIRST_POLL_SECONDS
        try:
            while True:
                result = await waiter.next(seconds)
                # Including those that showed no change, and those sent for others.
                before, polled = polled, target.polls + self._jobs.list_polls
                wait.polled(polled - before)
                now, since = clock(), float("inf")
                if now >= silent_until:
                    since = joined_at
                elif now >= wait.ends_at():
                    # As in a worker, the deadline cuts a poll off.
                    since = max(joined_at, clock.from_monotonic(self._jobs.pending_since(target)))
                if result is None and now - since >= CUT_SHORT_SECONDS:
                    error = f"No poll got a response within {duration(now - since)}."
                    result = wait.observe_error(ArroyoConnectionError(error), now, sent_at=since)
                if result is None:
                    # After what was due, the same job may count for more: the next poll is observed in any case.
                    target.wants_next = True
                    result = wait.tick(clock())
                else:
                    silent_until = float("inf")
                log_messages(log, wait.messages())
                if result.is_over:
                    # The polls were counted after it was observed.
                    return replace(result, stats=wait.progress.stats)
                if waiter.is_replaced:
                    return None
                now, due, read_at, job = clock(), wait.next_due(), wait.details_due(), wait.progress.job
                if due <= now:
                    # Only a poll can settle it, and may be slow; the deadline must not wait for it.
                    target.wants_next = True
                    due = min(wait.ends_at(), now + SLOW_SECONDS)
                due = min(due, silent_until)
                if job is not None and read_at is not None:
                    if read_at <= now:
                        self._read(waiter, partial(self._details.read, waiter, job))
                    else:
                        due = min(due, read_at)
                if resolve is not None and may_resolve_again(wait):
                    if resolve_at <= now:
                        self._read(waiter, partial(self._names.look_again, waiter, resolve))
                        resolve_at = now + resolve_seconds
                    due = min(due, resolve_at)
                seconds = max(0.0, due - now)
                del result  # those of a thousand waits take half a megabyte
        finally:
            if waiter.reading is not None:
                waiter.reading.cancel()
            self._jobs.leave(waiter, target)

    @staticmethod
    def _read(waiter: Waiter, work: Callable[[], Awaitable[None]]) -> None:
        """Read something for a waiter, in parallel to its polls; one read at a time for each waiter."""

        async def read() -> None:
            try:
                await work()
            except Exception as err:  # noqa: BLE001  # a bug; the wait raises it
                waiter.fail(err)
            finally:
                waiter.reading = None

        if waiter.reading is None:
            waiter.reading = start(read())


async def _over_before(task: asyncio.Future[Any], polls: Polls, seconds: float) -> WaitResult | None:
    """Return the result of a wait if it is over before a task is done; None once the task is done.

    :param task: the task; cancelled if the wait is over.
    :param polls: the polls of the wait.
    :param seconds: how long the task may take before the wait first gets a tick.
    """
    try:
        while not (await asyncio.wait({task}, timeout=seconds))[0]:
            if (result := polls.tick()).is_over:
                return result
            seconds = polls.seconds_to()
        return None
    finally:
        task.cancel()


_Pollers = WeakValueDictionary[Hashable, SharedPoller]

_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pollers] = WeakKeyDictionary()


def shared_poller(key: Hashable, connect: Connect) -> SharedPoller:
    """Return the poller of a connection on this event loop, a context manager: its last user closes its client.

    :param key: the connection and its address.
    :param connect: returns the client; only the first user's is called.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    poller = pollers.get(key)
    if poller is None or poller.is_closed:
        poller = pollers[key] = SharedPoller(connect)
    return poller
