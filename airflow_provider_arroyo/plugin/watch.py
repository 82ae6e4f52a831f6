"""Watches one Arroyo for all its viewers: one request serves all of them, and without viewers there is none.

Everything here runs on the event loop of the API server, except the requests: they run in a few threads of
their own, with short time limits, so that a slow or dead Arroyo does not slow down Airflow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.request import seconds_ahead
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoSettingsError
from airflow_provider_arroyo.plugin.definition import Definitions
from airflow_provider_arroyo.plugin.facts import Facts
from airflow_provider_arroyo.plugin.listing import Listing
from airflow_provider_arroyo.plugin.reader import Reader
from airflow_provider_arroyo.plugin.snapshot import Row, Snapshot
from airflow_provider_arroyo.polling.connection import Run

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.request import Request

T = TypeVar("T")

LIST_SECONDS = 2.0
"""How often the list is fetched while there are viewers, in seconds."""

PACE_SECONDS = 0.05
"""Minimum time between two requests, in seconds: at most 20 requests per second."""

WAIT_SECONDS = 1.5
"""How long a page waits for the list before it gets the last one, in seconds."""

_SETTINGS_SECONDS = 30.0
_MAX_BACKOFF_SECONDS = 15.0
_EARLY_SECONDS = 0.2

log = logging.getLogger(__name__)


class Watch:
    """The last known pipelines of one Arroyo, and the fetching of them.

    :param connect: returns a client for the current settings of the connection; called in a thread.
    :param run: runs a blocking function in one of a few threads.
    :param clock: a monotonic clock in seconds.
    :param wall_clock: seconds since the epoch.
    :param sleep: sleeps for a number of seconds.
    """

    def __init__(
        self,
        connect: Callable[[], ArroyoClient],
        run: Run,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connect = connect
        self.run = run
        """Runs a blocking function in one of the threads of this Arroyo."""
        self.clock = clock
        """A monotonic clock in seconds."""
        self._wall_clock = wall_clock
        self._sleep = sleep
        self.client: ArroyoClient | None = None
        """The client; None before the first request."""
        self._connected_at = float("-inf")
        self._asked_at = float("-inf")
        self._due_at = float("-inf")
        self._slot = float("-inf")
        self._failures = 0
        self._list_task: asyncio.Task[None] | None = None
        self._server_ahead = 0.0
        self._reader = Reader(self)
        self._listing = Listing(self, self._reader.is_shown)
        self._definitions = Definitions(self)
        self.snapshot = Snapshot(began=wall_clock())
        self.seen_at: float | None = None
        """When the list was last fetched, seconds since the epoch."""
        self.error: str | None = None
        """Why the last fetch failed; None if it succeeded."""
        self.listeners: set[Callable[[], None]] = set()
        """Called after each successful fetch of the list."""

    @property
    def idle_seconds(self) -> float:
        """How long there have been no viewers."""
        return self.clock() - self._asked_at

    @property
    def server(self) -> str:
        """The server's address, without secrets; empty before the first request."""
        return self.client.settings.shown_url if self.client else ""

    @property
    def server_time(self) -> float:
        """The time by the server's clock, as far as its responses tell, seconds since the epoch."""
        return self._wall_clock() + self._server_ahead

    async def refresh(self, shown: Iterable[str] = (), *, opened: str | None = None) -> None:
        """Fetch what is due, and wait for the list and for an open page's own data, but not for long.

        :param shown: the pipelines whose details a list shows.
        :param opened: the pipeline whose own page is open; None if none is.
        """
        now = self._asked_at = self.clock()
        # Pages ask every two seconds, and some a little early: they must not miss every second fetch.
        if self._list_task is None and now >= self._due_at - _EARLY_SECONDS:
            fetch = self._fetch_list(max(0.0, self._due_at - now))
            self._list_task = asyncio.get_running_loop().create_task(fetch, name="arroyo-list")
        if self._list_task is not None:
            await asyncio.wait({self._list_task}, timeout=WAIT_SECONDS)
        self._reader.show(shown)
        if opened is not None:
            self._reader.open(opened)
        if self.client is not None and not self._failures:
            self._reader.start()
            if opened is not None:
                await self._reader.wait(opened)

    async def definition(self, pipeline_id: str) -> dict[str, Any] | None:
        """Return the definition of a pipeline, for its own page; None if there is no such pipeline.

        :raises ArroyoError: if it cannot be read.
        """
        await self.refresh(opened=pipeline_id)
        row = self.snapshot.rows.get(pipeline_id)
        return None if row is None else await self._definitions.get(row)

    def expect_change(self) -> None:
        """Fetch the list at the next refresh, because something was just changed."""
        self._due_at = float("-inf")

    def close(self) -> None:
        """Cancel what is in progress, and close the connections."""
        if self._list_task is not None:
            self._list_task.cancel()
        self._reader.close()
        if self.client is not None:
            self.client.close()

    async def send(self, request: Request[T], shape: Callable[[T], Any] | None = None) -> Any:
        """Send a request in a thread, no sooner than the pace allows.

        :param request: the request.
        :param shape: converts the response to what is kept of it, in the same thread.
        :raises ArroyoError: if the connection is invalid, or the request fails.
        """
        client = await self.next_slot()

        def sent() -> tuple[Any, datetime | None]:
            response = client.send(request)
            return (shape(response.value) if shape else response.value), response.server_date

        value, date = await self.run(sent)
        if date is not None:
            self._server_ahead = seconds_ahead(date, self._wall_clock())
        return value

    async def next_slot(self) -> ArroyoClient:
        """Return the client, no sooner than the pace allows another request.

        :raises ArroyoError: if the connection is invalid.
        """
        client = await self._connected()
        self._slot = max(self._slot + PACE_SECONDS, self.clock())
        if (pause := self._slot - self.clock()) > 0:
            await self._sleep(pause)
        return client

    async def describe(self, row: Row) -> bool:
        """Read a pipeline's description again; return whether it could be read."""
        try:
            facts: Facts = await self.send(endpoints.get_pipeline(row.pipeline_id), row.facts.updated)
        except (ArroyoError, ValueError) as error:
            log.debug("No description of pipeline %s: %s", row.pipeline_id, error)
            return False
        self.snapshot.take_facts(row, facts)
        return True

    # -- the list ----------------------------------------------------------------------------------------------

    async def _fetch_list(self, pause: float) -> None:
        if pause > 0:
            await self._sleep(pause)
        began = self.clock()
        try:
            jobs = await self.send(endpoints.list_jobs())
            error, snapshot = jobs.error, self.snapshot

            def take() -> list[Job]:
                return snapshot.take_jobs(jobs.readable, self._wall_clock(), is_complete=jobs.error is None)

            if unknown := take():
                error = await self._listing.find(unknown, take) or error
            if await self._listing.match_jobs():
                take()
            await self._listing.describe_replaced()
            self.error = None if error is None else await self._shown(error)
        except ArroyoError as error:
            self._failures += 1
            self.error = await self._shown(error)
        except Exception:
            # A server may send anything.
            self._failures += 1
            self.error = "Arroyo's list of jobs could not be used. See the API server's log."
            log.exception("Arroyo's list of jobs could not be used")
        else:
            self._failures = 0
            self.seen_at = self._wall_clock()
            self._reader.listed()
            for listener in tuple(self.listeners):
                listener()
        finally:
            if self._failures:
                # The settings may be the cause, so they are looked up again.
                self._connected_at = float("-inf")
            pause = min(LIST_SECONDS * 2.0 ** min(self._failures, 5), _MAX_BACKOFF_SECONDS)
            self._due_at = max(began + pause, self.clock() + 0.5)
            self._list_task = None

    async def _shown(self, error: ArroyoError) -> str:
        """Return an error for the page. The server's message may repeat any pipeline's SQL."""
        text, redact = str(error), self.snapshot.redactor()
        shown: str = await self.run(lambda: redact(text))
        return shown

    async def _connected(self) -> ArroyoClient:
        """Return the client, by the settings of the connection as of at most half a minute ago.

        :raises ArroyoError: if Airflow has no such connection, or its settings are invalid.
        """
        if self.client is None or self.clock() - self._connected_at > _SETTINGS_SECONDS:
            try:
                client: ArroyoClient = await self.run(self._connect)
            except ArroyoError:
                raise
            except Exception as error:
                # A secrets backend may raise anything, with any message.
                log.exception("Looking up an Airflow connection to Arroyo failed")
                raise ArroyoSettingsError(
                    "Airflow could not look up the connection. See the API server's log."
                ) from error
            self._connected_at = self.clock()
            old = self.client
            if old is not None and old.settings == client.settings:
                client.close()
                return old
            if old is not None:
                if old.settings.base_url != client.settings.base_url:
                    self.snapshot = Snapshot(began=self._wall_clock())
                    self.seen_at = None
                    self._listing = Listing(self, self._reader.is_shown)
                old.close()
            self.client = client
        return self.client
