"""Watches one Arroyo for everyone who looks at it: one request for all viewers, and none while nobody looks.

Everything here runs on the event loop of the API server, but for the requests themselves: they run in threads of
their own, few and with short time limits, so that a slow or dead Arroyo takes nothing from Airflow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.models import Job, JobState, Pipeline
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.plugin import details
from airflow_provider_arroyo.plugin.facts import Facts, facts_of
from airflow_provider_arroyo.plugin.snapshot import MAX_PIPELINES, Row, Snapshot

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.request import Request

T = TypeVar("T")

LIST_SECONDS = 2.0
"""How often the list is fetched while anyone looks."""

DETAIL_SECONDS = 5.0
"""How long details are kept before they are fetched again."""

PACE_SECONDS = 0.05
"""The least time between two requests: 20 a second."""

WAIT_SECONDS = 1.5
"""How long a page waits for the list before it gets the last one."""

SHOWN_SECONDS = 10.0
"""How long a pipeline counts as shown after a page asked for it."""

MAX_SHOWN = 100
"""How many pipelines may be shown at once, by all viewers together."""

_PAGE = 100
_SETTINGS_SECONDS = 30.0
_MAX_BACKOFF_SECONDS = 15.0
_STATES_WITH_ERRORS = frozenset({JobState.FAILED, JobState.FAILING, JobState.RECOVERING, JobState.RESTARTING})

log = logging.getLogger(__name__)

Run = Callable[[Callable[[], Any]], Awaitable[Any]]


class Watch:
    """The last known pipelines of one Arroyo, and what fetches them.

    :param connect: returns a client by the connection as it is now; called in a thread.
    :param run: runs a blocking function in one of few threads.
    :param clock: seconds that only grow.
    :param wall_clock: seconds since the epoch.
    :param sleep: waits for so many seconds.
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
        self._run = run
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._client: ArroyoClient | None = None
        self._connected_at = float("-inf")
        self._asked_at = float("-inf")
        self._due_at = float("-inf")
        self._slot = float("-inf")
        self._failures = 0
        self._list_task: asyncio.Task[None] | None = None
        self._detail_task: asyncio.Task[None] | None = None
        self._shown: dict[str, float] = {}
        self._detailed_at: dict[str, float] = {}
        self._not_listed: set[str] = set()
        self.snapshot = Snapshot(began=wall_clock())
        self.seen_at: float | None = None
        """When the list was last fetched, seconds since the epoch."""
        self.error: str | None = None
        """Why the last fetch failed; None where it succeeded."""

    @property
    def idle_seconds(self) -> float:
        """For how long nobody has looked."""
        return self._clock() - self._asked_at

    @property
    def client(self) -> ArroyoClient | None:
        """The client; None before the first fetch."""
        return self._client

    async def refresh(self, shown: Iterable[str] = ()) -> None:
        """Fetch what is due, and wait for the list, but not for long.

        :param shown: the pipelines whose details a page shows.
        """
        now = self._asked_at = self._clock()
        if self._list_task is None and now >= self._due_at:
            self._list_task = asyncio.get_running_loop().create_task(self._fetch_list(), name="arroyo-list")
        if self._list_task is not None:
            await asyncio.wait({self._list_task}, timeout=WAIT_SECONDS)
        for name in list(shown)[:MAX_SHOWN]:
            if name in self.snapshot.rows:
                self._shown[name] = now
        if self._detail_task is None and self._client is not None and self._shown and not self._failures:
            self._detail_task = asyncio.get_running_loop().create_task(
                self._fetch_details(self._client), name="arroyo-details"
            )

    def expect_change(self) -> None:
        """Have the list fetched at the next refresh: something was just changed."""
        self._due_at = float("-inf")

    def close(self) -> None:
        """End what is under way, and close the connections."""
        for task in (self._list_task, self._detail_task):
            if task is not None:
                task.cancel()
        if self._client is not None:
            self._client.close()

    async def send(self, request: Request[T], client: ArroyoClient) -> T:
        """Send a request in a thread, no sooner than the pace allows.

        :raises ArroyoError: as the client does.
        """
        self._slot = max(self._slot + PACE_SECONDS, self._clock())
        if (pause := self._slot - self._clock()) > 0:
            await self._sleep(pause)
        result: T = await self._run(lambda: client.send(request).value)
        return result

    async def _facts(self, pipelines: Sequence[Pipeline]) -> list[Facts]:
        found: list[Facts] = await self._run(lambda: [facts_of(pipeline) for pipeline in pipelines])
        return found

    # -- the list ----------------------------------------------------------------------------------------------

    async def _fetch_list(self) -> None:
        began = self._clock()
        try:
            client = await self.connected()
            jobs = await self.send(endpoints.list_jobs(), client)
            unknown = self.snapshot.take_jobs(jobs, self._wall_clock())
            if unknown:
                await self._fetch_pipelines(unknown, client)
                self.snapshot.take_jobs(jobs, self._wall_clock())
        except ArroyoError as error:
            self._failures += 1
            self.error = str(error)
        except Exception:
            # A secrets backend may raise anything, and its words may hold anything.
            self._failures += 1
            self.error = "Airflow could not look the connection up; the API server's log says why."
            log.exception("Looking up an Airflow connection to Arroyo failed")
        else:
            self._failures, self.error = 0, None
            self.seen_at = self._wall_clock()
        finally:
            pause = min(LIST_SECONDS * 2.0 ** min(self._failures, 5), _MAX_BACKOFF_SECONDS)
            # A little early, so that pages that ask every two seconds do not miss every other fetch.
            self._due_at = max(began + (pause if self._failures else LIST_SECONDS - 0.2), self._clock() + 0.5)
            self._list_task = None

    async def connected(self) -> ArroyoClient:
        """Return the client, by the connection as it was at most half a minute ago.

        :raises ArroyoError: where the connection is wrong.
        """
        if self._client is None or self._clock() - self._connected_at > _SETTINGS_SECONDS or self._failures:
            client: ArroyoClient = await self._run(self._connect)
            self._connected_at = self._clock()
            old = self._client
            if old is not None and old.settings == client.settings:
                client.close()
                return old
            if old is not None:
                if old.settings.base_url != client.settings.base_url:
                    self.snapshot = Snapshot(began=self._wall_clock())
                    self.seen_at = None
                    self._detailed_at.clear()
                    self._not_listed.clear()
                old.close()
            self._client = client
        return self._client

    async def _fetch_pipelines(self, unknown: list[Job], client: ArroyoClient) -> None:
        """List pipelines, newest first, until all are known that have a job."""
        missing = {job.pipeline_id or job.id for job in unknown} - self._not_listed
        is_old = any(job.pipeline_id is None for job in unknown)
        after: str | None = None
        while missing and len(self.snapshot.rows) < MAX_PIPELINES:
            page = await self.send(endpoints.list_pipelines(limit=_PAGE, starting_after=after), client)
            facts = await self._facts(page.data)
            some_known = self.snapshot.take_pipelines(facts)
            missing -= {pipeline.pipeline_id for pipeline in facts}
            # 0.15 does not tell which pipeline a job belongs to, so it is the list that says when to stop.
            if not page.has_more or not page.data or (is_old and some_known):
                break
            after = page.data[-1].id
        self._not_listed |= missing
        if is_old:
            await self._match_jobs(client)

    async def _match_jobs(self, client: ArroyoClient) -> None:
        """Ask for the job of pipelines on 0.15, a second's worth at a time, those that are shown first."""
        rows = [row for row in self.snapshot.rows.values() if row.job is None]
        rows.sort(key=lambda row: (row.pipeline_id not in self._shown, -row.facts.created))
        for row in rows[: round(1.0 / PACE_SECONDS)]:
            try:
                job = await self.send(endpoints.get_job(row.pipeline_id), client)
            except ArroyoNotFoundError:
                self.snapshot.drop(row.pipeline_id)
            else:
                if job is not None:
                    self.snapshot.pipeline_of_job[job.id] = row.pipeline_id
                    self._not_listed.discard(job.id)

    # -- details -----------------------------------------------------------------------------------------------

    async def _fetch_details(self, client: ArroyoClient) -> None:
        """Fetch details until none that is shown is due."""
        try:
            while (row := self._next_due()) is not None:
                began = self._clock()
                with suppress(ArroyoNotFoundError):  # deleted just now; the next list tells
                    self.snapshot.take_details(row.pipeline_id, await self._details_of(row, client))
                took = self._clock() - began
                # A pipeline with a long history of checkpoints is asked for less often.
                self._detailed_at[row.pipeline_id] = self._clock() + min(20 * max(0.0, took - 1), 60)
        except ArroyoError as error:
            log.debug("No details of pipelines: %s", error)
        finally:
            self._detail_task = None

    def _next_due(self) -> Row | None:
        """Return the pipeline whose details are most overdue."""
        now = self._clock()
        rows = self.snapshot.rows
        self._shown = {
            name: at for name, at in self._shown.items() if now - at < SHOWN_SECONDS and name in rows
        }
        self._detailed_at = {name: at for name, at in self._detailed_at.items() if name in rows}
        ages = {name: now - self._detailed_at.get(name, float("-inf")) for name in self._shown}
        due = [name for name, age in ages.items() if age >= DETAIL_SECONDS and rows[name].job is not None]
        return rows[max(due, key=ages.__getitem__)] if due else None

    async def _details_of(self, row: Row, client: ArroyoClient) -> dict[str, Any]:
        job = row.job
        if job is None:
            return {}
        before = row.details or {}
        # What has ended changes no more.
        if job.is_terminal and (before.get("state"), before.get("run")) == (job.state, job.run_id):
            return before
        where = row.pipeline_id, job.id
        if before.get("run", job.run_id) != job.run_id:
            # A new run may have another parallelism.
            pipeline = await self.send(endpoints.get_pipeline(row.pipeline_id), client)
            self.snapshot.take_pipelines(await self._facts([pipeline]))
        checkpoints = await self.send(endpoints.list_checkpoints(*where), client)
        found: dict[str, Any] = {
            "state": job.state,
            "run": job.run_id,
            "checkpoint": details.last_checkpoint(checkpoints),
            "rates": None,
            "error": None,
        }
        if not job.is_terminal:
            metrics = await self.send(endpoints.list_metrics(*where), client)
            found["rates"] = details.rates(metrics, sources=row.facts.sources, sinks=row.facts.sinks)
        if job.state in _STATES_WITH_ERRORS or row.restarts:
            errors = await self.send(endpoints.list_job_errors(*where, limit=1), client)
            found["error"] = details.last_error(errors.data, row.facts)
        return found
