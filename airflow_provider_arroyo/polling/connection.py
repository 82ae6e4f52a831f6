"""The connection that all waits of a poller share."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.retry import POLL_RETRIES
from airflow_provider_arroyo.polling.poll import reload_in_outage
from airflow_provider_arroyo.polling.threads import Run

T = TypeVar("T")

Connect = Callable[[], Awaitable[ArroyoClient]]

_RELOAD_SECONDS = 10.0
"""Minimum time between two look-ups of the connection while polls fail, in seconds."""


def start(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start work for several waits: without the context of its first caller, whose log would get what follows."""
    return asyncio.get_running_loop().create_task(work, name="arroyo-poll", context=contextvars.Context())


class Connection:
    """The client: connected once, however many waits need it, and looked up again while polls fail.

    :param connect: returns the client.
    :param run: runs a blocking function in a thread.
    :param monotonic: a monotonic clock in seconds.
    """

    def __init__(self, connect: Connect, run: Run, monotonic: Callable[[], float]) -> None:
        self._connect = connect
        self._run = run
        self._monotonic = monotonic
        self._connecting: asyncio.Task[ArroyoClient] | None = None
        self._reloaded_at = float("-inf")

    async def client(self) -> ArroyoClient:
        """Return the client.

        :raises Exception: any error of ``connect``; the next call connects again.
        """

        async def connect() -> ArroyoClient:
            return await self._connect()

        connecting = self._connecting = self._connecting or start(connect())
        try:
            return await asyncio.shield(connecting)
        except Exception:
            if self._connecting is connecting:
                self._connecting = None
            raise

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
        connecting, self._connecting = self._connecting, None
        if connecting is not None and not connecting.cancel():
            with suppress(Exception):  # it was never made
                connecting.result().close()
