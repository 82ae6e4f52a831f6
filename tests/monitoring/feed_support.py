"""What the tests of the feed have in common: waits, and tasks that wait as a trigger does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from airflow_provider_arroyo.monitoring.feed import shared_feed
from airflow_provider_arroyo.monitoring.notes import Note
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.fake_arroyo import FakeArroyo
from tests.monitoring.virtual_time import clock

INTERVAL = 0.1


def a_wait(pipeline_id: str, *targets: str, timeout: float = 3600.0, **plan: Any) -> PipelineWait:
    """A wait for Running, or the targets, that begins now."""
    now = clock()
    goal = frozenset(targets or ("Running",))
    return PipelineWait(
        WaitPlan(pipeline_id=pipeline_id, targets=goal, deadline=now + timeout, **plan), now=now
    )


async def watch(
    server: FakeArroyo,
    wait: PipelineWait,
    *,
    interval: float = INTERVAL,
    feed_interval: float = INTERVAL,
    notes: list[Note] | None = None,
) -> Verdict:
    """Do what a trigger does."""
    async with shared_feed(
        key=("arroyo",), interval_seconds=feed_interval, connect=server.connect, clock=clock
    ) as feed:
        return await feed.watch(
            wait, interval_seconds=interval, on_notes=notes.extend if notes is not None else None
        )


def start(server: FakeArroyo, waits: Iterable[PipelineWait], **options: Any) -> list[asyncio.Task[Verdict]]:
    """Begin to wait, each in a task of its own."""
    return [asyncio.create_task(watch(server, wait, **options)) for wait in waits]


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel what still waits."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def many(server: FakeArroyo, count: int, state: str = "Scheduling") -> list[str]:
    """Let the server have pipelines ``pl_0``, ``pl_1``, …"""
    names = [f"pl_{number}" for number in range(count)]
    for name in names:
        server.set(name, state)
    return names


def outcomes(verdicts: Iterable[Verdict]) -> Counter[str]:
    """Count how waits ended."""
    return Counter(verdict.outcome.value for verdict in verdicts)
