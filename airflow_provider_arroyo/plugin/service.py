"""All watched Arroyos: a few threads for each, short time limits, limited memory.

Each API server process has its own. Most installations run one or two such processes. Sharing would save a request
every two seconds, but would need a store between them that can also fail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.exceptions import ArroyoSettingsError
from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.plugin.watch import Watch
from airflow_provider_arroyo.polling.connection import DaemonThreads, Run

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient

MAX_THREADS = 4
"""Threads for each Arroyo, so that one that hangs in every request takes no thread from another one."""

MAX_WATCHES = 16
MAX_IDLE_SECONDS = 900.0
REQUEST_SECONDS = 5.0
"""How long a request to Arroyo may take, in seconds."""

# Pages ask again every two seconds and show an outage themselves, so failed requests are not logged.
_quiet = logging.getLogger(f"{__name__}.requests")
_quiet.setLevel(logging.ERROR)


class Service:
    """The watches of this process, by connection, each with a few threads of its own."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}

    def watch(self, connection_id: str) -> Watch:
        """Return the watch of a connection. If there are too many, the least recently used one is dropped."""
        for name, watch in list(self._watches.items()):
            if name != connection_id and watch.idle_seconds > MAX_IDLE_SECONDS:
                self._watches.pop(name).close()
        if connection_id not in self._watches:
            if len(self._watches) >= MAX_WATCHES:
                longest = max(self._watches, key=lambda name: self._watches[name].idle_seconds)
                self._watches.pop(longest).close()
            self._watches[connection_id] = Watch(lambda: connect(connection_id), in_few_threads())
        return self._watches[connection_id]


def in_few_threads() -> Run:
    """Return a function that runs blocking functions, a few at once; each must limit its own time."""
    threads, slots = DaemonThreads("arroyo-ui"), asyncio.Semaphore(MAX_THREADS)

    async def run(function: Callable[[], Any]) -> Any:
        await slots.acquire()
        work = asyncio.ensure_future(threads.run(function))
        # A thread is busy until the function returns, even if nobody waits for the result.
        work.add_done_callback(lambda _: slots.release())
        return await asyncio.shield(work)

    return run


class _Hook(ArroyoHook):
    """A hook that refuses connections of other types, which users may read for another purpose."""

    @classmethod
    def get_connection(cls, conn_id: str) -> Any:
        """Return a connection.

        :raises ArroyoSettingsError: if it is of another type.
        """
        connection = super().get_connection(conn_id)
        if connection.conn_type != cls.conn_type:
            raise ArroyoSettingsError(f"Airflow connection {conn_id!r} is not of type Arroyo.")
        return connection


def connect(connection_id: str) -> ArroyoClient:
    """Return a client for a connection that gives up soon, since a user waits for it.

    :raises ArroyoSettingsError: if the connection is missing, invalid, or of another type.
    """
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.retry import Limits

    limits = Limits(max_elapsed_seconds=0.0, first_try_seconds=REQUEST_SECONDS)
    return ArroyoClient(_Hook(connection_id).settings, limits=limits, log=_quiet)
