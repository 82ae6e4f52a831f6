"""What sends polls: a client that tries each once, its connection, looked up again while polls fail, and threads."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.retry import FIRST_CONTACT_SECONDS, POLL_RETRIES
from airflow_provider_arroyo.exceptions import ArroyoNoConnectionError

T = TypeVar("T")

Connect = Callable[[], Coroutine[Any, Any, ArroyoClient]]

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a blocking function in a thread."""

Work = tuple[Future[Any], Callable[[], Any]]

LEAST_POLL_SECONDS = 5.0
"""How long a poll may take, in seconds, if no outage is tolerated: a slow response is not an outage."""

_RELOAD_SECONDS = 10.0
"""Minimum time between two look-ups of a shared connection while polls fail, in seconds."""

_RECONNECT_SECONDS = 2.0
"""Time between two tries to look up a connection that Airflow does not find, in seconds."""

_IDLE_SECONDS = 10.0
"""How long a thread without work lives, in seconds."""


def single_try(client: ArroyoClient, tolerance_seconds: float, deadline: float | None = None) -> ArroyoClient:
    """Return a client that tries each request once, for as long as a poll may take.

    :param client: the client.
    :param tolerance_seconds: how long an outage may last; a poll may take as long, but at least 5 seconds.
    :param deadline: a time of ``time.monotonic`` after which nothing is tried; default None, no deadline.
    """
    allowed = client.settings.try_seconds
    return client.with_limits(
        max_elapsed_seconds=0.0,
        first_try_seconds=min(allowed, max(LEAST_POLL_SECONDS, tolerance_seconds)),
        deadline=deadline,
    )


def is_missed(failures: int) -> bool:
    """Return whether a poll was just missed, after that many consecutive failed tries."""
    return failures > 0 and failures % (POLL_RETRIES + 1) == 0


def reload(client: ArroyoClient) -> None:
    """Load the client's settings again, in case the connection was edited to end an outage.

    :raises ArroyoSettingsError: if they now lead to another server, or cannot be used.
    """
    with suppress(ArroyoNoConnectionError):
        client.reload()


def start(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start work for several waits: without the context of its first caller, whose log would get what follows."""
    return asyncio.get_running_loop().create_task(work, name="arroyo-poll", context=contextvars.Context())


async def started(work: Awaitable[T], seconds: float | None) -> asyncio.Future[T]:
    """Start work, and return its task once it is done, or after some seconds without a result.

    :param work: the work; cancelled if this is cancelled.
    :param seconds: how long to wait at most; None without a limit.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    return task


class Connection:
    """The client that all waits of a poller share: connected once, and looked up again while polls fail.

    :param connect: returns the client.
    :param run: runs a blocking function in a thread.
    :param monotonic: a monotonic clock in seconds.
    """

    def __init__(self, connect: Connect, run: Run, monotonic: Callable[[], float]) -> None:
        self._connect = connect
        self.run = run
        self.monotonic = monotonic
        self.look_up_error: ArroyoNoConnectionError | None = None
        """Why Airflow did not find the connection, while it is looked up again."""
        self._connecting: asyncio.Task[ArroyoClient] | None = None
        self._reloaded_at = float("-inf")

    async def client(self) -> ArroyoClient:
        """Return the client.

        :raises Exception: any error of ``connect``; the next call connects again.
        """
        connecting = self._connecting
        if connecting is None or connecting.cancelled():
            # Only ``connect`` itself cancels it: its callers wait behind a shield.
            connecting = self._connecting = start(self._connected())
        try:
            return await asyncio.shield(connecting)
        except Exception:
            if self._connecting is connecting:
                self._connecting = None
            raise

    async def _connected(self) -> ArroyoClient:
        """Connect. Airflow may fail to look up the connection for a moment, as when a triggerer restarts."""
        gives_up_at, self.look_up_error = self.monotonic() + FIRST_CONTACT_SECONDS, None
        while True:
            try:
                return await self._connect()
            except ArroyoNoConnectionError as err:
                self.look_up_error = err.with_traceback(None)
                if self.monotonic() >= gives_up_at:
                    raise
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def reload(self, failures: int) -> None:
        """Look up the connection again after each missed poll, but not for each wait.

        :param failures: number of consecutive failed tries.
        :raises ArroyoSettingsError: see :func:`reload`.
        """
        now = self.monotonic()
        if is_missed(failures) and now >= self._reloaded_at + _RELOAD_SECONDS:
            self._reloaded_at = now
            await self.run(partial(reload, await self.client()))

    def close(self) -> None:
        """Close the client. A request in progress ends by itself in its thread."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None and not connecting.cancel():
            with suppress(Exception, asyncio.CancelledError):  # it was never made
                connecting.result().close()


class DaemonThreads:
    """A pool with as many threads as there are running functions; the caller must limit their number.

    :param name: name of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: list[queue.SimpleQueue[Work]] = []

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function in a thread and return its result; if cancelled, it continues and its result is dropped."""
        future: Future[T] = Future()
        try:
            # The thread that became idle last, so that the others end and return their memory.
            work = self._idle.pop()
        except IndexError:
            work = queue.SimpleQueue()
            threading.Thread(target=self._loop, args=[work], name=self._name, daemon=True).start()
        work.put((future, function))
        return await asyncio.wrap_future(future)

    def _loop(self, work: queue.SimpleQueue[Work]) -> None:
        while True:
            try:
                future, function = work.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                try:
                    self._idle.remove(work)
                except ValueError:
                    continue  # a function for it is about to be added
                return
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as err:  # noqa: BLE001  # handed to the coroutine that waits
                    future.set_exception(err)
            # An idle thread keeps no references.
            del future, function
            self._idle.append(work)
