"""The definitions of pipelines whose own page is open: fetched once for all viewers, and kept for a short time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.models import Pipeline, PipelineGraph, PipelineNode
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.plugin.definition import definition, kept_generation
from airflow_provider_arroyo.plugin.snapshot import Row, Snapshot
from airflow_provider_arroyo.polling.threads import Run

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient

KEPT_SECONDS = 30.0
MAX_KEPT = 8
MAX_AT_ONCE = 2
"""How many are fetched at once from one Arroyo: one that hangs must not occupy every thread."""

_FAILURE_SECONDS = 5.0
"""How long a failure is kept, in seconds; requests before that get the same failure."""

Send = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Held:
    of: tuple[Any, ...]
    at: float
    task: asyncio.Task[dict[str, Any]]

    def seconds(self) -> float:
        has_failed = self.task.done() and (self.task.cancelled() or self.task.exception() is not None)
        return _FAILURE_SECONDS if has_failed else KEPT_SECONDS


class Definitions:
    """Fetches definitions, and keeps the last few.

    :param send: sends a request in a thread, at the pace of the watch.
    :param run: runs a blocking function in a thread.
    :param clock: a monotonic clock in seconds.
    """

    def __init__(self, send: Send, run: Run, *, clock: Callable[[], float]) -> None:
        self._send = send
        self._run = run
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def get(self, row: Row, snapshot: Snapshot, client: ArroyoClient) -> dict[str, Any]:
        """Return the definition of a pipeline.

        :raises ArroyoError: if the request fails.
        """
        other = kept_generation(row, snapshot.rows.values())
        facts, job = row.facts, row.job
        of = (
            snapshot.epoch,
            facts.created,
            facts.parallelism,
            facts.interval_seconds,
            job and job.id,
            other and other.pipeline_id,
        )
        now, held = self._clock(), self._held.pop(row.pipeline_id, None)
        if held is None or held.of != of or now - held.at > held.seconds():
            task = asyncio.get_running_loop().create_task(
                self._fetch(row, other, snapshot, client), name="arroyo-definition"
            )
            held = _Held(of, now, task)
        self._held[row.pipeline_id] = held
        while len(self._held) > MAX_KEPT:
            del self._held[next(iter(self._held))]
        # Others wait for the same result.
        return await asyncio.shield(held.task)

    async def _fetch(
        self, row: Row, other: Row | None, snapshot: Snapshot, client: ArroyoClient
    ) -> dict[str, Any]:
        async with self._turns:
            return await self._fetch_now(row, other, snapshot, client)

    async def _fetch_now(
        self, row: Row, other: Row | None, snapshot: Snapshot, client: ArroyoClient
    ) -> dict[str, Any]:
        pipeline: Pipeline = await self._send(endpoints.get_pipeline(row.pipeline_id), client)
        compared, missing = None, []
        if other is not None:
            number = other.facts.generation
            try:
                compared = await self._send(endpoints.get_pipeline(other.pipeline_id), client), number
            except ArroyoError as error:
                missing.append(f"Diff to generation {number}: {other.facts.shown(str(error), 500)}")
        facts = await self._run(lambda: row.facts.updated(pipeline))
        snapshot.take_facts(row, facts)
        result: dict[str, Any] = await self._run(lambda: definition(pipeline, facts, compared, missing))
        if row.job is not None:
            row.readings_of(row.job).graph = _graph(result["graph"]["nodes"])
        return result


def _graph(nodes: list[dict[str, Any]]) -> PipelineGraph:
    """Return the nodes of a graph with their shown names, for a diagnosis."""
    return PipelineGraph(
        tuple(
            PipelineNode(one["id"], one["operator"], one["description"], one["parallelism"]) for one in nodes
        )
    )
