"""Who waits on a shared poller, for which pipeline, and what each is told. Times are those of ``time.monotonic``."""

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

Observation = Callable[[PipelineWait, SteadyClock], WaitResult]
"""Tells a wait, by its own clock, what a poll showed."""


@dataclass(eq=False, slots=True)
class Waiter:
    """One wait on a poller.

    :param joined_at: only polls that were sent later count.
    :param reading: reads what it needs besides the job's state; None while nothing is on its way.
    """

    interval_seconds: float
    tolerance_seconds: float
    joined_at: float
    reading: asyncio.Task[None] | None = None
    # A queue of asyncio takes three kilobytes, of which a thousand waits have no use.
    _told: list[Observation] = field(default_factory=list)
    _is_told: asyncio.Future[None] | None = None

    def tell(self, observation: Observation) -> None:
        """Hand it what a poll showed."""
        self._told.append(observation)
        if self._is_told is not None and not self._is_told.done():
            self._is_told.set_result(None)

    async def next_told(self) -> Observation:
        """Return what it was handed and has not observed yet, the oldest first; wait where there is nothing."""
        while not self._told:
            self._is_told = asyncio.get_running_loop().create_future()
            await self._is_told
        return self._told.pop(0)


@dataclass(eq=False, slots=True)
class Target:
    """One pipeline, and all who wait for it.

    :param sent_at: when the newest single poll was sent; what an older list shows may be out of date.
    :param polls: how many single polls were sent.
    :param seen_at: when a poll last responded, the lists that showed no change left out.
    :param job: as it was last seen.
    :param job_id: by which the list of 0.15 shows it.
    :param item: the job as the list showed it last; None while the list does not show it.
    :param is_hanging: whether its last single poll got no response in time.
    :param wants_next: whether the next poll is told even if it shows no change.
    :param wake: set when it is to be polled at once.
    """

    pipeline_id: str
    sent_at: float
    polls: int = 0
    seen_at: float = float("-inf")
    job: Job | None = None
    job_id: str | None = None
    item: Mapping[str, Any] | None = None
    is_hanging: bool = False
    wants_next: bool = True
    waiters: set[Waiter] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def interval_seconds(self) -> float:
        """The shortest interval that is wanted."""
        return min(waiter.interval_seconds for waiter in self.waiters)

    @property
    def tolerance_seconds(self) -> float:
        """The shortest outage tolerance of those who wait."""
        return min(waiter.tolerance_seconds for waiter in self.waiters)

    def give_job(self, job: Job | None, sent_at: float, now: float) -> bool:
        """Take a poll that succeeded, hand it to whom it concerns, and return whether it showed a change."""
        has_changed = job != self.job
        self.job, self.seen_at = job, now
        self.job_id = self.job_id if job is None else job.id
        if has_changed or self.wants_next:
            self.wants_next = False
            for waiter in self.waiters:
                if sent_at >= waiter.joined_at:
                    waiter.tell(lambda wait, clock: wait.observe(job, clock.from_monotonic(now)))
                else:
                    self.wants_next = True
        return has_changed

    def give_error(
        self, error: ArroyoError, sent_at: float, now: float, listed_at: float, retry_in: float
    ) -> None:
        """Hand a poll that failed to those who wait.

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
                waiter.tell(partial(observe, knows_response=responded_at >= waiter.joined_at))

    def fail(self, error: BaseException) -> None:
        """End all waits with an exception."""

        def raise_error(wait: PipelineWait, clock: SteadyClock) -> WaitResult:
            raise error.with_traceback(None)

        for waiter in self.waiters:
            waiter.tell(raise_error)

    def leave_list(self, listed_at: float) -> None:
        """Take note that the list shows it no longer.

        :param listed_at: when the list was last read.
        """
        if self.item is not None:
            self.item, self.seen_at = None, max(self.seen_at, listed_at)
