"""The polls of a shared poller: of single pipelines, or of all together by ``GET /jobs``.

Coroutines decide when to poll, threads send the requests and parse the responses. A failure for one pipeline affects
only its own waits.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from itertools import islice
from statistics import median
from typing import TypeVar

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.request import get
from airflow_provider_arroyo.client.retry import poll_retry_seconds
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNotFoundError,
    Disposition,
)
from airflow_provider_arroyo.polling.connection import Connection, single_try, start, started
from airflow_provider_arroyo.polling.waiters import JobList, Target, Waiter, sleep_or_wake

T = TypeVar("T")

MAX_SINGLE_POLLS = 8
"""How many single polls are sent at the same time; for more pipelines, the list is polled."""

_JOBS_PER_SINGLE_POLL = 50
"""How many jobs make ``GET /jobs`` as expensive for the server as one additional single poll (measured)."""

LIST_PAUSE_SECONDS = 300.0
"""How long the list is not used, in seconds, after it failed twice while single polls succeeded."""

SLOW_SECONDS = 1.0
"""A single poll without a response for this many seconds gives its slot to another one."""

_MAX_SINGLE_POLLS_PER_SECOND = 300
"""Maximum single polls per second. More would cost a triggerer much of its core, so the intervals get longer."""

_MAX_LIST_INTERVAL_SECONDS = 1.0
_LIST_HUNG_SECONDS = 3.0
"""How long the list may take, in seconds, until single polls are tried; longer if it usually takes long."""

_PROBES = 3
_BATCH = 10


def prefers_list(intervals: list[float], jobs: int | None) -> bool:
    """Return whether polling the list costs the server less than polling each pipeline.

    :param intervals: the poll interval of each pipeline, in seconds.
    :param jobs: number of jobs on the server; None if unknown, so that the list is polled once to find out.
    """
    if len(intervals) > MAX_SINGLE_POLLS:
        return True
    polls = sum(min(intervals) / interval for interval in intervals)
    return polls > 1 and (jobs is None or polls > 1 + jobs / _JOBS_PER_SINGLE_POLL)


def may_concern_list_alone(error: BaseException | None) -> bool:
    """Return whether single polls may succeed although the list failed with this error; None means no failure."""
    if isinstance(error, ArroyoApiError):
        return error.status not in (401, 429)
    # What could not be sent as a list poll could not be sent as a single poll either.
    return isinstance(error, ArroyoConnectionError) and error.disposition is not Disposition.RETRY


class JobPolls:
    """Polls pipelines while there are waiters for them, and notifies each waiter of what concerns it.

    :param connection: the connection, whose threads and clock it uses.
    """

    def __init__(self, connection: Connection) -> None:
        self.list_polls = 0
        """How often the list was polled."""
        self._connection = connection
        self._monotonic = connection.monotonic
        self._targets: dict[str, Target] = {}
        self._limits: Counter[tuple[float, float]] = Counter()
        """How many waiters have each pair of interval and outage tolerance."""
        self._singles: dict[Target, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(MAX_SINGLE_POLLS)
        self._slow: set[Target] = set()
        """The pipelines whose last single poll got no response in time."""
        self._slots_for_slow = asyncio.Semaphore(MAX_SINGLE_POLLS)
        """For these, so that they delay only each other."""
        self._list_task: asyncio.Task[None] | None = None
        self._list_wake = asyncio.Event()
        self._list_seconds: deque[float] = deque([0.0], maxlen=5)
        """How long the last polls of the list took."""
        self._list_seen_at = float("-inf")
        self._list_pending_since = float("inf")
        """When the poll of the list was sent that is in progress; infinity if none is."""
        self._list_has_failed = False
        """Whether the last poll of the list failed although single polls succeeded."""
        self._list_resumes_at = float("-inf")
        self._must_parse = True
        """Whether the next list is parsed even if it is identical to the last one."""
        self._jobs: int | None = None

    # -- the waiters -------------------------------------------------------------------------------------------

    def join(self, waiter: Waiter) -> Target:
        """Poll the pipeline of a wait, now and at its interval; return the pipeline."""
        pipeline_id, job = waiter.wait.plan.pipeline.pipeline_id, waiter.wait.progress.job
        target = self._targets.get(pipeline_id)
        if target is None:
            target = self._targets[pipeline_id] = Target(pipeline_id, sent_at=waiter.joined_at, job=job)
            self._must_parse = True
        target.waiters.append(waiter)
        target.wants_next = True
        self._limits[waiter.interval_seconds, waiter.tolerance_seconds] += 1
        if len(target.waiters) == 1:
            self._choose()
        # At once, and singly if possible; many newcomers wait for the list.
        if self._list_task is None or (target.item is None and len(self._singles) < MAX_SINGLE_POLLS):
            self._poll_singly(target)
        elif target not in self._singles:
            self._list_wake.set()
        if target.wake is not None:
            target.wake.set()
        return target

    def leave(self, waiter: Waiter, target: Target) -> None:
        """Poll no longer for a waiter."""
        target.waiters.remove(waiter)
        self._limits[waiter.interval_seconds, waiter.tolerance_seconds] -= 1
        self._limits += Counter()  # keeps what is positive
        if not target.waiters:
            del self._targets[target.pipeline_id]
            self._end_single(target)
            self._choose()

    def pending_since(self, target: Target) -> float:
        """Return when the poll of a target was sent that is in progress; infinity if none is."""
        return target.pending_since if target in self._singles else self._list_pending_since

    def _choose(self) -> None:
        """Start or stop polling the list, depending on the numbers of pipelines and jobs."""
        some = islice(self._targets.values(), MAX_SINGLE_POLLS + 1)
        intervals = [target.interval_seconds for target in some]
        is_paused = self._monotonic() < self._list_resumes_at
        uses_list = not is_paused and prefers_list(intervals, self._jobs)
        if uses_list and self._list_task is None:
            self._list_task = start(self._poll_list())
        elif not uses_list and self._list_task is not None:
            self._list_task.cancel()
            self._list_task = None
            for target in self._targets.values():
                target.leave_list(self._list_seen_at)
                self._poll_singly(target)

    async def _give_error(
        self, targets: Sequence[Target], error: ArroyoError, sent_at: float, failures: int, interval: float
    ) -> float:
        """Notify the waits of targets that a poll failed; return how long to wait before the next one."""
        pause = poll_retry_seconds(failures, interval, error)

        async def give(error: ArroyoError, sent_at: float) -> None:
            async for target in _in_batches(targets):
                target.give_error(error, sent_at, self._monotonic(), self._list_seen_at, pause)

        await give(error, sent_at)
        try:
            await self._connection.reload(failures)  # may take a while
        except ArroyoError as err:
            await give(err, self._monotonic())
        return pause

    # -- single polls ------------------------------------------------------------------------------------------

    def _poll_singly(self, target: Target) -> None:
        if target not in self._singles and target.waiters:
            self._singles[target] = start(self._poll_single(target))

    def _end_single(self, target: Target) -> None:
        self._slow.discard(target)
        if task := self._singles.pop(target, None):
            target.wake = None
            task.cancel()

    async def _poll_single(self, target: Target) -> None:
        failures, wake = 0, asyncio.Event()
        target.wake = wake
        try:
            while True:
                wake.clear()
                try:
                    job = await self._get_job(target)
                except ArroyoError as err:
                    failures += 1
                    interval = target.interval_seconds
                    pause = await self._give_error([target], err, target.sent_at, failures, interval)
                else:
                    failures = 0
                    if target.give_job(job, target.sent_at, self._monotonic()):
                        self._must_parse = True
                    least = len(self._singles) / _MAX_SINGLE_POLLS_PER_SECOND
                    pause = target.sent_at + max(target.interval_seconds, least) - self._monotonic()
                await sleep_or_wake(pause, wake)
                self._choose()  # the pause of the list may be over
        except Exception as err:  # noqa: BLE001  # a bug; the waits raise it
            self._singles.pop(target, None)
            _fail([target], err)

    async def _get_job(self, target: Target) -> Job | None:
        """Poll a pipeline as soon as there is a slot for it."""
        client, is_slow = await self._connection.client(), target in self._slow
        try:
            async with self._slots_for_slow if is_slow else self._slots:
                # A poll without a response keeps a thread; if there are many, for a few seconds only.
                limit = target.tolerance_seconds if len(self._slow) - is_slow < MAX_SINGLE_POLLS else 0.0
                target.sent_at = target.pending_since = self._monotonic()
                target.polls += 1
                send = partial(single_try(client, limit).get_job, target.pipeline_id)
                poll = await started(self._connection.run(send), None if is_slow else SLOW_SECONDS)
            if not poll.done():
                self._slow.add(target)  # another poll has its slot
            job: Job | None = await poll
        except ArroyoError:
            if self._monotonic() < target.sent_at + SLOW_SECONDS:
                self._slow.discard(target)
            raise
        finally:
            target.pending_since = float("inf")
        self._slow.discard(target)
        return job

    # -- the list ----------------------------------------------------------------------------------------------

    async def _poll_list(self) -> None:
        failures, last_body = 0, None
        try:
            while True:
                self._list_wake.clear()
                if self._must_parse:
                    self._must_parse, last_body = False, None
                sent_at = self._monotonic()
                try:
                    listed = await self._get_list(last_body)
                except ArroyoError as err:
                    failures, last_body = failures + 1, None
                    shown = [target for target in self._targets.values() if target not in self._singles]
                    pause = await self._give_error(shown, err, sent_at, failures, self._list_interval())
                    await asyncio.sleep(pause)
                    continue
                if listed is None:
                    # Until its next poll, or for a while if it keeps failing, single polls replace it.
                    pause = LIST_PAUSE_SECONDS if self._list_has_failed else self._list_interval()
                    self._list_has_failed, self._list_resumes_at = True, self._monotonic() + pause
                    self._choose()
                    await asyncio.sleep(0)  # this task was cancelled, unless the pause is over already
                    continue
                failures, last_body, self._list_has_failed = 0, listed.body, False
                self._list_seconds.append(self._monotonic() - sent_at)
                await self._take_list(listed, sent_at)
                await sleep_or_wake(sent_at + self._list_interval() - self._monotonic(), self._list_wake)
                # However many join one after the other, the server gets a pause as long as the list poll took.
                await asyncio.sleep(sent_at + 2 * median(self._list_seconds) - self._monotonic())
        except Exception as err:  # noqa: BLE001  # as in a single poll
            self._list_task = None
            _fail(self._targets.values(), err)

    def _list_interval(self) -> float:
        """Return the time between two polls of the list in seconds: the longer it takes, the less often."""
        wanted = min(interval for interval, _ in self._limits)
        return max(wanted, min(5 * median(self._list_seconds), _MAX_LIST_INTERVAL_SECONDS))

    async def _get_list(self, last_body: bytes | None) -> JobList | None:
        """Poll the list; return None if only the list fails or hangs, while single polls succeed."""
        client = await self._connection.client()
        self.list_polls += 1
        self._list_pending_since = self._monotonic()
        read = partial(JobList.read, targets=list(self._targets.values()), last_body=last_body)
        limited = single_try(client, min(tolerance for _, tolerance in self._limits))
        request = get(endpoints.list_jobs().path, read)
        hung_after = max(_LIST_HUNG_SECONDS, 5 * median(self._list_seconds))
        poll: asyncio.Future[JobList] = await started(
            self._connection.run(lambda: limited.send(request).value), hung_after
        )
        try:
            is_suspect = not poll.done() or may_concern_list_alone(poll.exception())
            return None if is_suspect and await self._single_polls_succeed(client) else await poll
        finally:
            self._list_pending_since = float("inf")
            poll.cancel()

    async def _take_list(self, listed: JobList, sent_at: float) -> None:
        self._list_seen_at = self._monotonic()
        for target in listed.missing:
            target.leave_list(self._list_seen_at)
            self._poll_singly(target)
        async for target, item, job in _in_batches(listed.deliveries):
            if sent_at < target.sent_at and (target.wants_next or job != target.job):
                # A single poll was sent later and is more recent.
                self._must_parse = True
                continue
            target.item = item
            self._end_single(target)
            target.give_job(job, sent_at, self._monotonic())
        if listed.jobs is not None:
            self._jobs = listed.jobs
            self._choose()

    async def _single_polls_succeed(self, client: ArroyoClient) -> bool:
        """Return whether one of a few single polls succeeds soon; some may be the ones without a response."""
        get_job = single_try(client, 0.0).get_job
        some = random.sample(list(self._targets), min(_PROBES, len(self._targets)))
        probes = {asyncio.ensure_future(self._connection.run(partial(get_job, one))) for one in some}
        try:
            done, _ = await asyncio.wait(probes, timeout=SLOW_SECONDS)
        finally:
            for probe in probes:
                probe.cancel()
        errors = [probe.exception() for probe in done]
        # If there is no such pipeline, Arroyo itself has responded.
        return any(error is None or isinstance(error, ArroyoNotFoundError) for error in errors)


def _fail(targets: Iterable[Target], error: Exception) -> None:
    """End all waits for targets with an exception."""
    for target in targets:
        for waiter in target.waiters:
            waiter.fail(error)


async def _in_batches(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items in batches, between which other coroutines of the event loop can run."""
    for count, item in enumerate(items, 1):
        yield item
        if count % _BATCH == 0:
            await asyncio.sleep(0)
