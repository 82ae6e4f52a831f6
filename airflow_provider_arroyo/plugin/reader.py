"""Reads what the list does not contain: metrics, checkpoints and errors of the pipelines in view.

One request serves all viewers. A pipeline's own page costs a few requests after each fetch of the list. A page of the
list costs what its rows in view need every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoError
from airflow_provider_arroyo.plugin.metrics import measured
from airflow_provider_arroyo.plugin.readings import (
    MAX_ERRORS,
    MAX_IN_ROUND,
    Part,
    Readings,
    kept_checkpoints,
    shown_errors,
)
from airflow_provider_arroyo.plugin.snapshot import Row

if TYPE_CHECKING:
    from airflow_provider_arroyo.plugin.watch import Watch

SHOWN_SECONDS = 10.0
"""How long a pipeline counts as shown after a page asked for it, in seconds."""

MAX_SHOWN = 100
"""How many pipelines may be shown at once, by all viewers together."""

MAX_OPEN = 8
"""How many pipelines' own pages are updated every two seconds; further ones like rows of the list."""

NO_RESPONSE_SECONDS = 10.0
"""How long the list does without a part for which there was no response, in seconds: it would delay the others."""

ROUND_WAIT_SECONDS = 1.0
"""How long a pipeline's own page waits for its readings, in seconds."""

log = logging.getLogger(__name__)


class Reader:
    """Reads about the pipelines in view, one request at a time, into the rows of the watch's snapshot.

    :param watch: sends the requests, and has the rows.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._shown: dict[str, float] = {}
        self._open: dict[str, float] = {}
        self._without: dict[Part, float] = {}
        """Until when the list does without these parts, by the monotonic clock."""
        self._rounds: dict[str, asyncio.Future[None]] = {}
        """What must still be read for pipelines' own pages."""
        self.task: asyncio.Task[None] | None = None

    def is_shown(self, pipeline_id: str) -> bool:
        """Return whether anyone is viewing a pipeline."""
        return pipeline_id in self._shown or pipeline_id in self._open

    def show(self, names: Iterable[str]) -> None:
        """Record that a list shows these pipelines."""
        now = self._watch.clock()
        for name in list(names)[:MAX_SHOWN]:
            if name in self._watch.snapshot.rows:
                self._shown[name] = now

    def open(self, name: str) -> None:
        """Record that a pipeline's own page is open. If it was not open before, its data is read at once."""
        self._forget_left()
        if name not in self._watch.snapshot.rows:
            return
        if name not in self._open:
            if len(self._open) >= MAX_OPEN:
                self.show([name])
                return
            self._begin_round(name)
        self._open[name] = self._watch.clock()

    def listed(self) -> None:
        """Record that the list was fetched, so that the next round for the open pages is due."""
        self._forget_left()
        for name in self._open:
            self._begin_round(name)

    def start(self) -> None:
        """Begin to read what is due, unless that is already in progress."""
        if self.task is None and (self._shown or self._rounds):
            self.task = asyncio.get_running_loop().create_task(self._run(), name="arroyo-details")

    async def wait(self, name: str) -> None:
        """Wait for the round of a pipeline's own page, but not for long."""
        if (round_ := self._rounds.get(name)) is not None:
            await asyncio.wait({round_}, timeout=ROUND_WAIT_SECONDS)

    def close(self) -> None:
        """Cancel what is in progress."""
        if self.task is not None:
            self.task.cancel()

    def _begin_round(self, name: str) -> None:
        self._rounds.setdefault(name, asyncio.get_running_loop().create_future())

    def _forget_left(self) -> None:
        now, rows = self._watch.clock(), self._watch.snapshot.rows
        for names in (self._shown, self._open):
            for name in [n for n, at in names.items() if now - at >= SHOWN_SECONDS or n not in rows]:
                del names[name]

    async def _run(self) -> None:
        try:
            while True:
                self._forget_left()
                if (name := next(iter(self._rounds), None)) is not None:
                    await self._round(name)
                elif (row := self._next_due()) is not None:
                    await self._read_for_list(row)
                else:
                    return
        finally:
            self.task = None

    # -- a pipeline's own page ---------------------------------------------------------------------------------

    async def _round(self, name: str) -> None:
        """Read what is due for a pipeline's own page; each part is read even if others fail."""
        try:
            row = self._watch.snapshot.rows.get(name)
            if row is None or row.job is None or name not in self._open:
                return
            job, readings = row.job, row.readings_of(row.job)
            left = MAX_IN_ROUND
            if self._has_new_run(row, job):
                await self._describe(row, job)
                left -= 1
            parts = readings.due_for_page(job, self._watch.clock())
            is_first = len(parts) > MAX_IN_ROUND
            for part in parts if is_first else parts[:left]:
                await self._read(part, row, job)
                left -= 1
            while left > 0 and (epoch := readings.next_size()) is not None:
                await self._read_size(epoch, row, readings)
                left -= 1
        finally:
            if (round_ := self._rounds.pop(name, None)) is not None:
                round_.set_result(None)

    async def _read_size(self, epoch: int, row: Row, readings: Readings) -> None:
        try:
            request = endpoints.list_operator_checkpoints(row.pipeline_id, readings.job_id, epoch)
            size = await self._watch.send(request, lambda groups: sum(one.size_bytes for one in groups))
        except (ArroyoError, ValueError) as error:
            log.debug("No bytes of checkpoint %s: %s", epoch, error)
            size = None
        readings.take_size(epoch, size)

    # -- the list ----------------------------------------------------------------------------------------------

    def _due(self, row: Row) -> dict[Part, float]:
        """Return the parts of a pipeline that the list needs now, each with when it was last requested."""
        # For those whose own page is open, the rounds read everything.
        if row.job is None or row.pipeline_id in self._open:
            return {}
        now, readings = self._watch.clock(), row.readings_of(row.job)
        due = readings.due_for_list(row.job, row.restarts, now)
        return {part: readings.parts[part].tried_at for part in due if self._without.get(part, now) <= now}

    def _next_due(self) -> Row | None:
        """Return the pipeline in view whose details are most overdue."""
        rows = self._watch.snapshot.rows
        due = {name: min(parts.values()) for name in self._shown if (parts := self._due(rows[name]))}
        return rows[min(due, key=due.__getitem__)] if due else None

    async def _read_for_list(self, row: Row) -> None:
        """Read what is due of a pipeline for the list."""
        job = row.job
        if job is None:
            return
        if self._has_new_run(row, job):
            await self._describe(row, job)
        for part in self._due(row):
            await self._read(part, row, job)

    # -- both --------------------------------------------------------------------------------------------------

    @staticmethod
    def _has_new_run(row: Row, job: Job) -> bool:
        """Return whether a pipeline's parallelism may have changed since it was described."""
        readings = row.readings_of(job)
        if readings.described_run is None:
            readings.described_run = job.run_id
        return readings.described_run != job.run_id

    async def _describe(self, row: Row, job: Job) -> None:
        row.readings_of(job).described_run = job.run_id
        await self._watch.describe(row)

    async def _read(self, part: Part, row: Row, job: Job) -> None:
        """Read one part of a pipeline."""
        readings = row.readings_of(job)
        began = readings.parts[part].tried_at = self._watch.clock()
        try:
            unreadable = await self._READERS[part](self, row, readings)
        except ArroyoError as error:
            if not isinstance(error, ArroyoApiError):
                self._without[part] = self._watch.clock() + NO_RESPONSE_SECONDS
            readings.failed(part, row.facts.shown(str(error), 500))
        except Exception:
            # A server may send anything.
            log.exception("The %s of pipeline %s could not be used", part, row.pipeline_id)
            readings.failed(part, "Arroyo's response could not be used. See the API server's log.")
        else:
            readings.succeeded(part, job, self._watch.clock() - began)
            if unreadable is not None:
                readings.parts[part].problem = row.facts.shown(str(unreadable), 500)
        self._watch.snapshot.take_details(row, readings.summary(job, row.restarts))

    async def _read_metrics(self, row: Row, readings: Readings) -> ArroyoError | None:
        facts, now = row.facts, self._watch.server_time
        error: ArroyoError | None
        readings.measured, error = await self._watch.send(
            endpoints.list_metrics(row.pipeline_id, readings.job_id),
            lambda found: (
                measured(found.readable, sources=facts.sources, sinks=facts.sinks, now=now),
                found.error,
            ),
        )
        return error

    async def _read_checkpoints(self, row: Row, readings: Readings) -> ArroyoError | None:
        request = endpoints.list_checkpoints(row.pipeline_id, readings.job_id)
        asked_at = self._watch.server_time
        error: ArroyoError | None
        readings.checkpoints, error = await self._watch.send(
            request, lambda found: (kept_checkpoints(found.readable), found.error)
        )
        readings.checkpoints_at = asked_at
        return error

    async def _read_errors(self, row: Row, readings: Readings) -> ArroyoError | None:
        facts = row.facts
        error: ArroyoError | None
        readings.errors, error = await self._watch.send(
            endpoints.list_job_errors(row.pipeline_id, readings.job_id, limit=MAX_ERRORS),
            lambda found: (shown_errors(found.readable, facts), found.error),
        )
        return error

    _READERS: ClassVar = {
        Part.METRICS: _read_metrics,
        Part.CHECKPOINTS: _read_checkpoints,
        Part.ERRORS: _read_errors,
    }
