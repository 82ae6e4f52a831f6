"""The waits on a shared poller, their pipelines, and how they are notified. Times are of ``time.monotonic``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock

Observation = Callable[[PipelineWait, SteadyClock], WaitResult | None]
"""Passes the result of a request to a wait, with the wait's own clock. Returns the result of the wait; None if its
name means another pipeline.
"""


@dataclass(eq=False, slots=True)
class Waiter:
    """One wait on a poller.

    :param interval_seconds: its poll interval.
    :param tolerance_seconds: its outage tolerance.
    :param joined_at: only polls that were sent later count.
    :param reading: the task that reads something else for it; None if none is in progress.
    """

    interval_seconds: float
    tolerance_seconds: float
    joined_at: float
    reading: asyncio.Task[None] | None = None
    # An asyncio queue takes three kilobytes, too much for a thousand waits.
    _observations: list[Observation] = field(default_factory=list)
    _is_notified: asyncio.Future[None] | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """Its interval and outage tolerance."""
        return self.interval_seconds, self.tolerance_seconds

    def notify(self, observation: Observation) -> None:
        """Pass the result of a request to it."""
        self._observations.append(observation)
        if self._is_notified is not None and not self._is_notified.done():
            self._is_notified.set_result(None)

    def fail(self, error: BaseException) -> None:
        """End the wait with an exception."""

        def raise_error(wait: PipelineWait, clock: SteadyClock) -> WaitResult:
            raise error.with_traceback(None)

        self.notify(raise_error)

    async def next(self) -> Observation:
        """Return the oldest result that the wait has not observed yet; wait if there is none."""
        while not self._observations:
            self._is_notified = asyncio.get_running_loop().create_future()
            await self._is_notified
        return self._observations.pop(0)


@dataclass(eq=False, slots=True)
class Target:
    """One pipeline, and all its waiters.

    :param pipeline_id: id of the pipeline.
    :param sent_at: when the newest single poll was sent; an older list may be out of date.
    :param job: the job as last seen; its id identifies it in the list of 0.15.
    :param polls: how many single polls were sent.
    :param seen_at: when a poll last responded, except lists that showed no change.
    :param item: the job as last shown in the list; None if the list does not show it.
    :param is_hanging: whether its last single poll got no response in time.
    :param wants_next: whether to notify of the next poll even if it shows no change.
    :param waiters: its waiters.
    :param wake: set if it must be polled at once.
    """

    pipeline_id: str
    sent_at: float
    job: Job | None
    polls: int = 0
    seen_at: float = float("-inf")
    item: Mapping[str, Any] | None = None
    is_hanging: bool = False
    wants_next: bool = True
    waiters: set[Waiter] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def interval_seconds(self) -> float:
        """The shortest interval of its waiters."""
        return min(waiter.interval_seconds for waiter in self.waiters)

    @property
    def tolerance_seconds(self) -> float:
        """The shortest outage tolerance of its waiters."""
        return min(waiter.tolerance_seconds for waiter in self.waiters)

    def give_job(self, job: Job | None, sent_at: float, now: float) -> bool:
        """Process a successful poll, pass it to the waiters concerned, and return whether it showed a change."""
        has_changed = job != self.job
        self.job, self.seen_at = job, now
        if has_changed or self.wants_next:
            self.wants_next = False
            for waiter in self.waiters:
                if sent_at >= waiter.joined_at:
                    waiter.notify(lambda wait, clock: wait.observe(job, clock.from_monotonic(now)))
                else:
                    self.wants_next = True
        return has_changed

    def give_error(
        self, error: ArroyoError, sent_at: float, now: float, listed_at: float, retry_in: float
    ) -> None:
        """Pass a failed poll to the waiters.

        :param error: the error.
        :param sent_at: when the poll was sent.
        :param now: when it failed.
        :param listed_at: when the list was last read.
        :param retry_in: seconds until the next try.
        """
        self.wants_next = True
        responded_at = self.seen_at if self.item is None else max(self.seen_at, listed_at)

        def observe(wait: PipelineWait, clock: SteadyClock, *, knows_response: bool) -> WaitResult:
            return wait.observe_error(
                error,
                clock.from_monotonic(now),
                sent_at=clock.from_monotonic(sent_at),
                responded_at=clock.from_monotonic(responded_at) if knows_response else None,
                retry_in=retry_in,
            )

        for waiter in self.waiters:
            if sent_at >= waiter.joined_at:
                waiter.notify(partial(observe, knows_response=responded_at >= waiter.joined_at))

    def fail(self, error: BaseException) -> None:
        """End all waits with an exception."""
        for waiter in self.waiters:
            waiter.fail(error)

    def leave_list(self, listed_at: float) -> None:
        """Record that the list no longer shows it.

        :param listed_at: when the list was last read.
        """
        if self.item is not None:
            self.item, self.seen_at = None, max(self.seen_at, listed_at)
