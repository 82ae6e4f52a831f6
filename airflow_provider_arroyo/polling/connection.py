"""The client that waits of a triggerer share: made for the first request, and looked up again while polls fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.retry import POLL_RETRIES
from airflow_provider_arroyo.polling.poll import reload_in_outage, single_try
from airflow_provider_arroyo.polling.threads import Run

Connect = Callable[[], Awaitable[ArroyoClient]]

_RELOAD_SECONDS = 10.0
"""How often the connection is looked up at most while polls fail."""


class PollerConnection:
    """Connects once, however many ask at the same time.

    :param connect: returns the client.
    :param run: runs a blocking function in a thread.
    :param monotonic: seconds that only grow.
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
        """Whether there is a client; until then, that nothing responds says nothing of Arroyo."""
        return self._client is not None

    async def client(self) -> ArroyoClient:
        """Return the client.

        :raises Exception: what ``connect`` raised.
        """
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def single_try(self) -> ArroyoClient:
        """Return the client that sends each request once."""
        return single_try(await self.client(), 0.0)

    async def reload(self, failures: int) -> None:
        """Look the connection up again after each missed poll, in case it was edited to end an outage.

        :param failures: tries that failed in a row.
        :raises ArroyoSettingsError: where it leads to another server now, or cannot be used.
        """
        if failures % (POLL_RETRIES + 1) or self._monotonic() < self._reloaded_at + _RELOAD_SECONDS:
            return
        self._reloaded_at = self._monotonic()
        await self._run(partial(reload_in_outage, await self.client(), failures))

    def close(self) -> None:
        """Close the client. A request under way ends by itself in its thread."""
        if self._client is not None:
            self._client.close()
            self._client = None
