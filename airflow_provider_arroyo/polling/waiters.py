"""The waits on a shared poller, their pipelines, and what the list of jobs shows of these.

Times are of ``time.monotonic``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.reading import iter_items_with_text
from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock


async def sleep_or_wake(seconds: float, wake: asyncio.Event) -> None:
    """Sleep until the time is over or the event is set."""
    if seconds <= 0:
        # A timeout that has expired would swallow a cancellation that the task requested for itself.
        await asyncio.sleep(0)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()


@dataclass(eq=False, slots=True)
class Waiter:
    """One wait on a poller, which lets it observe; the coroutine that waits logs its messages and ends it.

    :param wait: decides.
    :param clock: the clock of the wait.
    :param interval_seconds: its poll interval.
    :param joined_at: only polls that were sent later count.
    :param reading: the task that reads something else for it; None if none is in progress.
    :param is_replaced: whether its name was found to mean another pipeline.
    """

    wait: PipelineWait
    clock: SteadyClock
    interval_seconds: float
    joined_at: float
    reading: asyncio.Task[None] | None = None
    is_replaced: bool = False
    _result: WaitResult | None = None
    _error: BaseException | None = None
    # An asyncio event takes 800 bytes, a megabyte for a thousand waits.
    _woken: asyncio.Future[None] | None = None

    @property
    def tolerance_seconds(self) -> float:
        """How long an outage may last."""
        return self.wait.plan.outage_tolerance.total_seconds()

    def observe(self, observe: Callable[[], WaitResult]) -> None:
        """Let the wait observe something; an exception ends only this wait."""
        try:
            self._result = observe()
        except Exception as err:  # noqa: BLE001  # raised by next()
            self.fail(err)
        self._wake()

    def fail(self, error: BaseException) -> None:
        """End the wait with an exception."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def next(self, seconds: float) -> WaitResult | None:
        """Return the result of the wait after it observed something; None if it did not within some seconds.

        :raises Exception: what ended the wait.
        """
        if self._result is None and self._error is None:
            loop = asyncio.get_running_loop()
            self._woken = loop.create_future()
            timer = loop.call_later(seconds, self._wake)
            try:
                await self._woken
            finally:
                timer.cancel()
        if self._error is not None:
            raise self._error.with_traceback(None)
        result, self._result = self._result, None
        return result


@dataclass(eq=False, slots=True)
class Target:
    """One pipeline, and all its waiters.

    :param pipeline_id: id of the pipeline.
    :param sent_at: when the newest single poll was sent; an older list may be out of date.
    :param job: the job as last seen; its id identifies it in the list of 0.15.
    :param pending_since: when the single poll was sent that is in progress; infinity if none is.
    :param polls: how many single polls were sent.
    :param seen_at: when a poll last responded, except lists that showed no change.
    :param item: the hash of the job's JSON as last shown in the list, which takes less memory than the JSON itself;
        None if it is not there.
    :param wants_next: whether the waits must observe the next poll even if it shows no change.
    :param waiters: its waiters.
    :param wake: while it is polled singly: set if it must be polled at once; otherwise None. A thousand of these
        events would take a megabyte.
    """

    pipeline_id: str
    sent_at: float
    job: Job | None
    pending_since: float = float("inf")
    polls: int = 0
    seen_at: float = float("-inf")
    item: int | None = None
    wants_next: bool = True
    waiters: list[Waiter] = field(default_factory=list)
    wake: asyncio.Event | None = None

    @property
    def interval_seconds(self) -> float:
        """The shortest interval of its waiters."""
        return min(waiter.interval_seconds for waiter in self.waiters)

    @property
    def tolerance_seconds(self) -> float:
        """The shortest outage tolerance of its waiters."""
        return min(waiter.tolerance_seconds for waiter in self.waiters)

    def give_job(self, job: Job | None, sent_at: float, now: float) -> bool:
        """Process a successful poll, let the waits concerned observe it, and return whether it showed a change."""
        self.seen_at = now
        if has_changed := job != self.job:
            self.job = job
        if has_changed or self.wants_next:
            self.wants_next = False
            for waiter in self.waiters:
                if sent_at >= waiter.joined_at:
                    waiter.observe(partial(waiter.wait.observe, self.job, waiter.clock.from_monotonic(now)))
                else:
                    self.wants_next = True
        return has_changed

    def give_error(
        self, error: ArroyoError, sent_at: float, now: float, listed_at: float, retry_in: float
    ) -> None:
        """Let the waits observe a failed poll.

        :param error: the error.
        :param sent_at: when the poll was sent.
        :param now: when it failed.
        :param listed_at: when the list was last read.
        :param retry_in: seconds until the next try.
        """
        self.wants_next = True
        responded_at = self.seen_at if self.item is None else max(self.seen_at, listed_at)
        for waiter in self.waiters:
            at = waiter.clock.from_monotonic
            if sent_at >= waiter.joined_at:
                observe = partial(
                    waiter.wait.observe_error,
                    error,
                    at(now),
                    sent_at=at(sent_at),
                    responded_at=at(responded_at) if responded_at >= waiter.joined_at else None,
                    retry_in=retry_in,
                )
                waiter.observe(observe)

    def leave_list(self, listed_at: float) -> None:
        """Record that the list no longer shows it.

        :param listed_at: when the list was last read.
        """
        if self.item is not None:
            self.item, self.seen_at = None, max(self.seen_at, listed_at)


class JobList(NamedTuple):
    """What ``GET /jobs`` showed of the targets.

    :param body: the response's body, to compare the next one with.
    :param deliveries: the targets to notify, each with its item and its job.
    :param missing: the targets that need a single poll.
    :param jobs: number of jobs on the server; None if nothing was parsed.
    """

    body: bytes
    deliveries: Sequence[tuple[Target, int, Job | None]]
    missing: Sequence[Target]
    jobs: int | None

    @classmethod
    def read(cls, response: HttpResponse, targets: list[Target], last_body: bytes | None) -> JobList:
        """Read a response; it is not parsed if it is identical to the last one, byte for byte."""
        if response.body == last_body:
            wanting = [(t, t.item, t.job) for t in targets if t.wants_next and t.item is not None]
            # Not the new body: megabytes that move with each poll fragment the memory of the thread.
            return cls(last_body, wanting, [], None)
        by_pipeline = {target.pipeline_id: target for target in targets}
        # Read once, since the event loop may change it meanwhile.
        by_job = {job.id: target for target in targets if (job := target.job) is not None}
        deliveries: dict[Target, tuple[int, Job]] = {}
        missing, seen, jobs = set(targets), set[Target](), 0
        for item, text in iter_items_with_text(response.body):
            jobs += 1
            if not isinstance(item, Mapping):
                continue  # it describes no job; the others still count
            pipeline_id = item.get("pipeline_id")
            # 0.15 does not name the pipeline.
            target = (
                by_job.get(str(item.get("id"))) if pipeline_id is None else by_pipeline.get(str(pipeline_id))
            )
            if target is None:
                continue
            if target in seen:
                # Of several jobs, a single poll shows which one is the newest.
                deliveries.pop(target, None)
                missing.add(target)
                continue
            seen.add(target)
            if (shown := hash(text)) != target.item or target.wants_next:
                try:
                    deliveries[target] = shown, Job.from_api(item)
                except (KeyError, TypeError, ValueError, AttributeError):
                    continue  # a single poll reports what is wrong with it
            missing.discard(target)
        delivered = [(target, shown, job) for target, (shown, job) in deliveries.items()]
        return cls(response.body, delivered, list(missing), jobs)
