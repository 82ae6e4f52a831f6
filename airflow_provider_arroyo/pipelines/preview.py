"""Runs SQL for a short time to read its rows, and makes sure that it is stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import OutputBatch
from airflow_provider_arroyo.client.enums import AT_WORK, TERMINAL_STATES, JobState, StopMode
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNotFoundError,
    Disposition,
)
from airflow_provider_arroyo.text import shorten

MAX_BYTES = 1_000_000
"""How many characters of rows are kept: they become an XCom, which most deployments store in their database."""

_POLL_SECONDS = 0.1
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    """The result of a preview.

    :param job: its job as last seen; None if it had none.
    :param rows: the rows that were read, in order of arrival.
    :param has_run: whether it was seen running, or ended.
    :param missed_rows: how many rows were produced before the output could be read, or between two reads.
    """

    job: Job | None
    rows: list[dict[str, Any]]
    missed_rows: int = 0
    has_run: bool = True

    @property
    def has_failed(self) -> bool:
        """Whether it has failed, or keeps failing and starting again without any rows, as on Arroyo 0.15."""
        if self.job is None or self.job.state in (JobState.FAILING, JobState.FAILED):
            return self.job is not None
        if self.rows or self.job.state in (JobState.STOPPED, JobState.FINISHED):
            return False
        # Nobody restarts a preview.
        return self.job.run_id > 1 or self.job.state == JobState.RECOVERING


class Preview:
    """One preview: started, read, stopped.

    :param client: sends the requests; its log gets a line if the stop fails.
    """

    def __init__(self, client: ArroyoClient) -> None:
        self._client = client
        self._pipeline: Pipeline | None = None
        self._job: Job | None = None
        self._next_ids: dict[tuple[str, int], int] = {}
        self._missed = 0
        self._has_run = False

    def start(self, query: str, *, udfs: Iterable[Udf] = (), enable_sinks: bool = False) -> Pipeline:
        """Start the preview.

        :param query: the SQL.
        :param udfs: UDFs that it uses, default none.
        :param enable_sinks: whether its sinks are written to, default False.
        """
        self._pipeline = self._client.preview_query(query, udfs=tuple(udfs), enable_sinks=enable_sinks)
        return self._pipeline

    def read(self, *, max_rows: int, seconds: float) -> Previewed:
        """Read rows until there are enough, the preview ends, or the time is over. The caller stops it.

        :param max_rows: how many rows are enough.
        :param seconds: how long to read, from now on.
        """
        rows: list[dict[str, Any]] = []
        size = 0
        deadline = self._client.clock() + seconds
        for batch in self._batches(deadline):
            for row in self._rows(batch):
                size += len(json.dumps(row))
                if size > MAX_BYTES:
                    self._client.log.warning("Only the first %d rows are kept: they are large", len(rows))
                    return self._previewed(rows)
                rows.append(row)
                if len(rows) >= max_rows:
                    return self._previewed(rows)
        return self._previewed(rows)

    def stop(self, client: ArroyoClient | None = None) -> None:
        """Request that the preview stops, if it may still be running. Never raises: it ends by itself after a minute.

        :param client: sends the request; default the one that started it.
        """
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None or (self._job is not None and self._job.state in TERMINAL_STATES):
            return
        limited = (client or self._client).with_limits(
            max_elapsed_seconds=_STOP_SECONDS, deadline=self._client.clock() + _STOP_SECONDS
        )
        try:
            with suppress(ArroyoNotFoundError):
                limited.patch_pipeline(pipeline.id, stop=StopMode.IMMEDIATE)
        except ArroyoError as err:
            self._client.log.warning(
                "The stop of preview %s failed; it ends by itself within a minute: %s", pipeline.id, err
            )

    def _previewed(self, rows: list[dict[str, Any]]) -> Previewed:
        return Previewed(job=self._job, rows=rows, missed_rows=self._missed, has_run=self._has_run)

    def _batches(self, deadline: float) -> Iterator[OutputBatch]:
        """Yield the output until the job ends or the time is over; a broken stream is opened again."""
        client = self._client.with_limits(deadline=deadline)
        while (pipeline := self._pipeline) is not None and self._client.clock() < deadline:
            try:
                self._job = job = client.get_job(pipeline.id)
                if job is not None and job.state in AT_WORK | TERMINAL_STATES:
                    self._has_run = True
                if job is not None and job.state in TERMINAL_STATES:
                    return
                if job is not None and job.state in AT_WORK:
                    yield from client.stream_output(pipeline.id, job.id)
            except ArroyoError as err:
                # Arroyo refuses the output with 400 until the job really runs; reading ends at the deadline.
                is_early = isinstance(err, ArroyoApiError) and err.status == 400
                is_lost = (
                    isinstance(err, ArroyoConnectionError) and err.disposition is not Disposition.PERMANENT
                )
                if not is_early and not is_lost and self._client.clock() < deadline:
                    raise
            self._client.sleep(min(_POLL_SECONDS, max(0.0, deadline - self._client.clock())))

    def _rows(self, batch: OutputBatch) -> list[dict[str, Any]]:
        try:
            # JSON has no NaN and no infinity, and neither has Airflow's database.
            rows = json.loads(batch.batch, parse_constant=lambda name: None, parse_float=_finite_or_none)
            if not isinstance(rows, list):
                raise TypeError("not a list")
        except (RecursionError, TypeError, ValueError) as err:
            raise ArroyoError(
                f"The preview's output cannot be read: {err}. It begins with {shorten(batch.batch, 200)!r}"
            ) from err
        source = (batch.operator_id, batch.subtask_index)
        self._missed += max(0, batch.start_id - self._next_ids.get(source, 0))
        self._next_ids[source] = batch.start_id + len(rows)
        return [row if isinstance(row, dict) else {"value": row} for row in rows]


def _finite_or_none(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
