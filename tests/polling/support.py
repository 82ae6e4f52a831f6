"""What the tests of the poller share: waits, and tasks that wait as a trigger does."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling import poll, shared
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.shared import SharedPoller
from tests.polling.fake_arroyo import FakeArroyo
from tests.polling.virtual_time import VirtualClock, now
from tests.support import Lines

INTERVAL = 0.1
LIMIT_SECONDS = 40.0
"""The limit for everything that takes real time, however slow the machine is."""

ALONE = 400
"""With this many jobs, the list costs more than eight single polls."""


def a_plan(pipeline_id: str, *targets: str, at: float, timeout: float = 3600.0, **plan: Any) -> WaitPlan:
    """A plan to wait for Running, or the targets."""
    return WaitPlan(
        pipeline=PipelineRef(pipeline_id=pipeline_id),
        target_states=frozenset(targets or ("Running",)),
        deadline=at + timeout,
        **plan,
    )


def a_logger(lines: Lines | None = None) -> logging.Logger:
    log = logging.Logger("tests.polling")
    if lines is not None:
        log.addHandler(lines)
    return log


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waits get their first response from a slow machine, even after their deadline."""
    for module in (poll, shared):
        monkeypatch.setattr(module, "FIRST_POLL_SECONDS", LIMIT_SECONDS)


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():  # noqa: ASYNC110  # the sandbox is in another thread, and sets no event of this loop
            await asyncio.sleep(0.005)


class Waits:
    """The waits of one triggerer on one connection.

    :param server: what they poll.
    """

    def __init__(self, server: FakeArroyo) -> None:
        self.server = server
        self.poller = SharedPoller(server.connect, run=server.run, monotonic=now)
        self.tasks: list[asyncio.Task[WaitResult]] = []

    def start(
        self,
        pipeline_id: str,
        *targets: str,
        interval: float = INTERVAL,
        clock: SteadyClock | None = None,
        log: Any = None,
        wait: PipelineWait | None = None,
        **plan: Any,
    ) -> asyncio.Task[WaitResult]:
        """Begin to wait for a pipeline."""
        clock = clock or VirtualClock()
        wait = wait or PipelineWait(a_plan(pipeline_id, *targets, at=clock(), **plan), now=clock())
        task = asyncio.create_task(
            self.poller.watch(wait, interval_seconds=interval, clock=clock, log=log or a_logger())
        )
        self.tasks.append(task)
        return task

    def start_all(
        self, pipeline_ids: Iterable[str], *targets: str, **options: Any
    ) -> list[asyncio.Task[WaitResult]]:
        """Begin to wait for each of the pipelines."""
        return [self.start(name, *targets, **options) for name in pipeline_ids]

    def done(self) -> list[str]:
        """Return the outcomes of the waits that are over."""
        return [task.result().outcome.value for task in self.tasks if task.done()]

    async def all_over(self) -> Counter[str]:
        """Wait for all, and count their outcomes."""
        return Counter(result.outcome.value for result in await asyncio.gather(*self.tasks))


def waiting(
    count: int, *targets: str, state: str = "Scheduling", version: str = "0.16", **options: Any
) -> tuple[FakeArroyo, Waits, list[str]]:
    """Return a server with pipelines, one wait for each of them, and the ids of the pipelines."""
    server = FakeArroyo(version=version)
    names, waits = server.many(count, state), Waits(server)
    waits.start_all(names, *targets, **options)
    return server, waits, names
