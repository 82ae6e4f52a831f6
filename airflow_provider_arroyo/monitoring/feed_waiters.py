"""Who waits on a feed, for which pipeline, and when each has to be told something though nothing happened."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from airflow_provider_arroyo.arroyo.models import Job
from airflow_provider_arroyo.monitoring.notes import Note
from airflow_provider_arroyo.monitoring.verdict import Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait

_NEVER = float("inf")


class Waiter:
    """One wait on a feed, and the way to wake the task that waits.

    :param wait: the judge.
    :param interval_seconds: how often it wants a look.
    :param target: the pipeline that it waits for.
    """

    __slots__ = (
        "_notes",
        "_woken",
        "after_trouble",
        "alarm_at",
        "error",
        "interval_seconds",
        "target",
        "verdict",
        "wait",
        "wants_look",
        "was_told",
    )

    def __init__(self, wait: PipelineWait, interval_seconds: float, target: Target) -> None:
        self.wait = wait
        self.target = target
        self.interval_seconds = interval_seconds
        self.verdict: Verdict | None = None
        self.error: BaseException | None = None
        self.wants_look = True
        """Whether it must be told the next look, changed or not."""
        self.after_trouble = False
        """Whether that look is the first after one that had to be tried again."""
        self.was_told = False
        """Whether it was told of a look that succeeded."""
        self.alarm_at = _NEVER
        self._notes: list[Note] = []
        self._woken = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether it has its answer; the task may not have taken it yet."""
        return self.verdict is not None or self.error is not None

    def settle(self, verdict: Verdict) -> bool:
        """Take what the judge said; wake the task if there is something to log or the wait is over.

        :return: whether the wait goes on.
        """
        if notes := self.wait.notes():
            self._notes += notes
        if verdict.is_over:
            self.verdict = verdict
        if self._notes or verdict.is_over:
            self._woken.set()
        return not verdict.is_over

    def fail(self, error: BaseException) -> None:
        """End the wait with an exception."""
        if not self.is_over:
            self.error = error
            self._woken.set()

    async def woken(self) -> list[Note]:
        """Wait until there is something, and return the notes."""
        await self._woken.wait()
        self._woken.clear()
        taken, self._notes = self._notes, []
        return taken


class Target:
    """One pipeline, and all who wait for it.

    :param pipeline_id: the pipeline.
    """

    __slots__ = (
        "absences",
        "cadence",
        "is_listed",
        "item",
        "job",
        "job_id",
        "newcomers",
        "pipeline_id",
        "seen_at",
        "waiters",
    )

    def __init__(self, pipeline_id: str) -> None:
        self.pipeline_id = pipeline_id
        self.job_id: str | None = None
        self.job: Job | None = None
        self.item: Mapping[str, Any] | None = None
        """The job as the list showed it last, to see at a glance that nothing changed."""
        self.seen_at: float | None = None
        """When it was last looked at singly, seconds since the epoch."""
        self.cadence: Cadence | None = None
        self.is_listed = True
        """Whether ``GET /jobs`` is thought to show it; previews are not shown."""
        self.absences = 0
        """In how many lists in a row it was missing."""
        self.waiters: list[Waiter] = []
        self.newcomers: list[Waiter] = []
        """Joined since the look under way began, so that its answer is too old for them."""

    def admit(self) -> None:
        """Let the newcomers take part in the looks that begin from now on."""
        if self.newcomers:
            self.waiters += self.newcomers
            self.newcomers = []

    def everyone(self) -> Iterator[Waiter]:
        """Return all who wait for it."""
        yield from self.waiters
        yield from self.newcomers

    def interval_seconds(self) -> float:
        """Return the shortest interval that is wanted; infinite when nobody waits."""
        return min((waiter.interval_seconds for waiter in self.everyone()), default=_NEVER)


class Cadence:
    """The targets that are looked at in one rhythm.

    :param interval_seconds: the time from look to look.
    :param next_at: when the next one is due, by the event loop's clock.
    """

    __slots__ = ("interval_seconds", "next_at", "targets")

    def __init__(self, interval_seconds: float, next_at: float) -> None:
        self.interval_seconds = interval_seconds
        self.next_at = next_at
        self.targets: dict[str, Target] = {}

    def done(self, began: float, ended: float, pause_seconds: float) -> None:
        """Fix when the next look is due.

        At the interval; where the server is slow, it gets a pause as long as the look took, up to an interval,
        so that looks neither pile up nor fill the server's time.

        :param began: when the look began.
        :param ended: when it was answered.
        :param pause_seconds: the least pause after an answer.
        """
        rest = max(pause_seconds, min(self.interval_seconds, ended - began))
        self.next_at = max(began + self.interval_seconds, ended + rest)


class Alarms:
    """Wakes waiters at the moments that they named, whatever the looks do.

    Each waiter has at most one live entry; a moment that moved further away is found out when the old one
    comes, so that a busy feed does not fill the heap.

    :param clock: seconds since the epoch.
    :param ring: called with a waiter whose moment has come.
    """

    def __init__(self, clock: Callable[[], float], ring: Callable[[Waiter], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._heap: list[tuple[float, int, Waiter]] = []
        self._count = 0
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER

    def set(self, waiter: Waiter, moment: float) -> None:
        """Ring for the waiter at the moment at the latest."""
        if moment >= waiter.alarm_at:
            return
        waiter.alarm_at = moment
        self._count += 1
        heapq.heappush(self._heap, (moment, self._count, waiter))
        self._arm()

    def drop(self, waiter: Waiter) -> None:
        """Forget a waiter."""
        if waiter.alarm_at < _NEVER:
            waiter.alarm_at = _NEVER
            self._dropped += 1
        if 2 * self._dropped > len(self._heap):
            self._sweep()

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, _NEVER
        self._heap.clear()

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[0] == entry[2].alarm_at]
        heapq.heapify(self._heap)
        self._dropped = 0

    def _arm(self) -> None:
        moment = self._heap[0][0] if self._heap else _NEVER
        if moment >= self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, _NEVER
        if moment < _NEVER:
            self._timer_at = moment
            delay = max(0.0, moment - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer, self._timer_at = None, _NEVER
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            moment, _, waiter = heapq.heappop(self._heap)
            if moment != waiter.alarm_at:
                continue
            waiter.alarm_at = _NEVER
            self._ring(waiter)
        self._arm()
