"""What the waits of an event loop on one connection share, from the first wait to the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from functools import partial
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.retry import POLL_RETRIES
from airflow_provider_arroyo.polling.poll import reload_in_outage, single_try
from airflow_provider_arroyo.polling.threads import Run

Connect = Callable[[], Awaitable[ArroyoClient]]

_RELOAD_SECONDS = 10.0
"""Minimum time between two look-ups of the connection while polls fail, in seconds."""


class PollerConnection:
    """The client: connected once, however many callers ask at the same time, and looked up again while polls fail.

    :param connect: returns the client.
    :param run: runs a blocking function in a thread.
    :param monotonic: a monotonic clock in seconds.
    """

    def __init__(self, connect: Connect, run: Run, monotonic: Callable[[], float]) -> None:
        self._connect = connect
        self._run = run
        self._monotonic = monotonic
        self._client: ArroyoClient | None = None
        self._connecting = asyncio.Lock()
        self._reloaded_at = float("-inf")

    @property
    def is_made(self) -> bool:
        """Whether there is a client; before that, a missing response says nothing about Arroyo."""
        return self._client is not None

    async def client(self) -> ArroyoClient:
        """Return the client.

        :raises Exception: any error of ``connect``.
        """
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def single_try(self) -> ArroyoClient:
        """Return the client that sends each request only once."""
        return single_try(await self.client(), 0.0)

    async def reload(self, failures: int) -> None:
        """Look up the connection again after each missed poll, in case it was edited to end an outage.

        :param failures: number of consecutive failed tries.
        :raises ArroyoSettingsError: if it now leads to another server, or cannot be used.
        """
        is_missed = failures > 0 and failures % (POLL_RETRIES + 1) == 0
        if not is_missed or self._monotonic() < self._reloaded_at + _RELOAD_SECONDS:
            return
        self._reloaded_at = self._monotonic()
        await self._run(partial(reload_in_outage, await self.client(), failures))

    def close(self) -> None:
        """Close the client. A request in progress ends by itself in its thread."""
        if self._client is not None:
            self._client.close()
            self._client = None


class Shareable(Protocol):
    """What counts its users, and is closed when there are none."""

    users: int

    async def aclose(self) -> None:
        """Close it."""


T = TypeVar("T", bound=Shareable)


class PerLoop(Generic[T]):
    """Keeps one object for each event loop and connection, as long as it is in use.

    :param make: makes one, given how to connect.
    """

    def __init__(self, make: Callable[[Connect], T]) -> None:
        self._make = make
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, T]] = WeakKeyDictionary()

    @asynccontextmanager
    async def join(self, key: Hashable, connect: Connect) -> AsyncIterator[T]:
        """Use the object of a connection; the last user closes its client.

        :param key: the connection and its address.
        :param connect: returns the client; only the first user's is called.
        """
        kept = self._loops.setdefault(asyncio.get_running_loop(), {})
        if key not in kept:
            kept[key] = self._make(connect)
        one = kept[key]
        one.users += 1
        try:
            yield one
        finally:
            one.users -= 1
            if not one.users:
                del kept[key]
                await one.aclose()
