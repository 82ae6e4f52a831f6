"""The shared poller: all waits of a triggerer on one connection share its requests.

Pipelines are polled singly, or all together by ``GET /jobs``. Coroutines decide when to poll, threads send the
requests and parse the responses, and waits are notified of changes. A failure for one pipeline affects only its own
waits.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import get
from airflow_provider_arroyo.client.retry import poll_retry_seconds
from airflow_provider_arroyo.exceptions import ArroyoConnectionError, ArroyoError
from airflow_provider_arroyo.monitoring.messages import log_messages
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.connection import Connect, PerLoop, PollerConnection
from airflow_provider_arroyo.polling.details import DetailReader
from airflow_provider_arroyo.polling.joblist import (
    MAX_SINGLE_POLLS,
    JobList,
    ListPace,
    may_concern_list_alone,
    prefers_list,
)
from airflow_provider_arroyo.polling.pauses import in_batches, sleep_or_wake
from airflow_provider_arroyo.polling.poll import FIRST_POLL_SECONDS, LEAST_POLL_SECONDS, single_try
from airflow_provider_arroyo.polling.single_polls import SLOW_SECONDS, SinglePolls
from airflow_provider_arroyo.polling.threads import DaemonThreads, Run
from airflow_provider_arroyo.polling.waiters import Target, Waiter
from airflow_provider_arroyo.text import duration

LIST_PAUSE_SECONDS = 300.0
"""How long the list is not used, in seconds, after it failed twice while single polls succeeded."""

_MAX_SINGLE_POLLS_PER_SECOND = 300
"""Maximum single polls per second. More would cost a triggerer much of its core, so the intervals get longer."""


class _OnlyListFailsError(Exception):
    """The list fails or hangs, but single polls succeed."""


class SharedPoller:
    """Polls for its waits, and notifies each of what concerns it. Belongs to one event loop.

    :param connect: returns the client; awaited for the first poll.
    :param run: runs a blocking function in a thread.
    :param monotonic: a monotonic clock in seconds.
    """

    def __init__(
        self, connect: Connect, *, run: Run | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.users = 0
        self._run: Run = run or DaemonThreads("arroyo-poll").run
        self._monotonic = monotonic
        self._connection = PollerConnection(connect, self._run, monotonic)
        self._targets: dict[str, Target] = {}
        self._singles: dict[Target, asyncio.Task[None]] = {}
        self._single_polls = SinglePolls(self._run, monotonic)
        self._list_task: asyncio.Task[None] | None = None
        self._list_wake = asyncio.Event()
        self._list_polls = 0
        self._list_pace = ListPace()
        self._list_limits: tuple[float, float] | None = None
        self._list_body: bytes | None = None
        self._list_seen_at = float("-inf")
        self._list_is_paused = False
        self._reread = False
        """Whether the next list is parsed even if it is identical to the last one."""
        self._jobs: int | None = None
        self._details = DetailReader(self._connection.single_try, self._run, monotonic)

    async def watch(
        self, wait: PipelineWait, *, interval_seconds: float, clock: SteadyClock, log: Any
    ) -> WaitResult:
        """Poll at once, then at the interval, until the wait is over. Log lines are written in the caller's context.

        :param wait: decides; it is notified of every change, and of the polls that it asks for by ``next_due``.
        :param interval_seconds: how often to poll for it; it also sees polls that were sent for others.
        :param clock: the clock of this wait.
        :param log: gets the messages of the wait.
        :returns: the result, which is over.
        :raises Exception: any error of ``connect``.
        """
        plan = wait.plan
        waiter = Waiter(interval_seconds, plan.outage_tolerance.total_seconds(), self._monotonic())
        target = self._join(waiter, wait)
        polls = target.polls + self._list_polls
        joined_at = clock()
        due = max(wait.next_due(), joined_at + FIRST_POLL_SECONDS)
        # A poll that hung before this wait joined does not count for it, and meanwhile no other is sent.
        silent_until = joined_at + max(waiter.tolerance_seconds, LEAST_POLL_SECONDS)
        try:
            while True:
                observe = None
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, min(due, silent_until) - clock())):
                        observe = await waiter.next_told()
                # Including those that showed no change, and those sent for others.
                before, polls = polls, target.polls + self._list_polls
                wait.polled(polls - before)
                if observe is None:
                    # A tick can settle what next_due named; otherwise only a poll can.
                    target.wants_next = True
                    result = wait.tick(clock())
                    if not self._connection.is_made and clock() >= silent_until:
                        # Airflow may be slow to look up the connection, which says nothing about Arroyo.
                        silent_until = clock() + LEAST_POLL_SECONDS
                    elif not result.is_over and clock() >= silent_until:
                        error = _no_response(clock() - joined_at)
                        result = wait.observe_error(error, clock(), sent_at=joined_at)
                        silent_until = float("inf")
                else:
                    silent_until = float("inf")
                    result = observe(wait, clock)
                log_messages(log, wait.messages())
                if result.is_over:
                    return result
                now, due = clock(), wait.next_due()
                if due <= now:
                    # Only a poll can settle it, and may be slow; the deadline must not wait for it.
                    target.wants_next = True
                    due = min(wait.ends_at(), now + SLOW_SECONDS)
                reads_at = wait.details_due()
                if reads_at is not None and reads_at > now:
                    due = min(due, reads_at)
                elif reads_at is not None and wait.job is not None:
                    self._details.start(waiter, wait, wait.job)
        finally:
            self._leave(waiter, target)

    async def aclose(self) -> None:
        """Close the client."""
        self._connection.close()

    def _join(self, waiter: Waiter, wait: PipelineWait) -> Target:
        pipeline_id = wait.plan.pipeline.pipeline_id
        target = self._targets.get(pipeline_id)
        if target is None:
            target = self._targets[pipeline_id] = Target(pipeline_id, sent_at=waiter.joined_at)
            target.job_id = None if wait.job is None else wait.job.id
            self._reread = True
        target.waiters.add(waiter)
        target.wants_next = True
        self._list_limits = None
        if len(target.waiters) == 1:
            self._choose()
        # At once, and singly if possible; many newcomers wait for the list.
        if self._list_task is None or (target.item is None and len(self._singles) < MAX_SINGLE_POLLS):
            self._poll_singly(target)
        elif target not in self._singles:
            self._list_wake.set()
        target.wake.set()
        return target

    def _leave(self, waiter: Waiter, target: Target) -> None:
        target.waiters.discard(waiter)
        if waiter.reading is not None:
            waiter.reading.cancel()
        self._list_limits = None
        if not target.waiters:
            del self._targets[target.pipeline_id]
            self._end_single(target)
            self._choose()

    def _choose(self) -> None:
        """Start or stop polling the list, depending on the numbers of pipelines and jobs."""
        some = islice(self._targets.values(), MAX_SINGLE_POLLS + 1)
        intervals = [target.interval_seconds for target in some]
        uses_list = not self._list_is_paused and prefers_list(intervals, self._jobs)
        if uses_list and self._list_task is None:
            self._reread = True
            self._list_task = self._start(self._poll_list())
        elif not uses_list and self._list_task is not None:
            self._list_task.cancel()
            self._list_task = None
            for target in self._targets.values():
                target.leave_list(self._list_seen_at)
                self._poll_singly(target)

    def _pause_list(self, is_paused: bool) -> None:
        self._list_is_paused = is_paused
        self._choose()

    def _poll_singly(self, target: Target) -> None:
        if target not in self._singles and target.waiters:
            self._singles[target] = self._start(self._poll_single(target))

    def _end_single(self, target: Target) -> None:
        if task := self._singles.pop(target, None):
            task.cancel()

    @staticmethod
    def _start(work: Any) -> asyncio.Task[None]:
        # Without the context of the first caller, whose log would get everything that follows.
        return asyncio.get_running_loop().create_task(work, name="arroyo-poll", context=contextvars.Context())

    async def _poll_single(self, target: Target) -> None:
        failures = 0
        try:
            client = await self._connection.client()
            while True:
                target.wake.clear()
                try:
                    job = await self._single_polls.get_job(client, target)
                except ArroyoError as err:
                    failures += 1
                    interval = target.interval_seconds
                    pause = await self._give_error([target], err, target.sent_at, failures, interval)
                else:
                    failures = 0
                    if target.give_job(job, target.sent_at, self._monotonic()):
                        self._reread = True
                    least = len(self._singles) / _MAX_SINGLE_POLLS_PER_SECOND
                    pause = target.sent_at + max(target.interval_seconds, least) - self._monotonic()
                await sleep_or_wake(pause, target.wake)
        except Exception as err:  # noqa: BLE001  # the connection's look-up may raise anything; the waits raise it
            self._singles.pop(target, None)
            target.fail(err)

    async def _poll_list(self) -> None:
        failures = 0
        try:
            client = await self._connection.client()
            while True:
                self._list_wake.clear()
                sent_at = self._monotonic()
                self._list_polls += 1
                try:
                    listed = await self._get_list(client)
                except (_OnlyListFailsError, ArroyoError) as err:
                    failures += 1
                    self._reread = True
                    pause = self._list_interval()
                    if isinstance(err, ArroyoError):
                        shown = [target for target in self._targets.values() if target not in self._singles]
                        pause = await self._give_error(shown, err, sent_at, failures, pause)
                    else:
                        self._replace_list(is_paused=failures > 1)
                    await asyncio.sleep(pause)
                    continue
                failures = 0
                self._list_pace.add(self._monotonic() - sent_at)
                await self._take_list(listed, sent_at)
                await sleep_or_wake(sent_at + self._list_interval() - self._monotonic(), self._list_wake)
                # However many join one after the other, the server gets a pause as long as the list poll took.
                await asyncio.sleep(sent_at + self._list_pace.least_interval - self._monotonic())
        except Exception as err:  # noqa: BLE001  # as in a single poll
            self._list_task = None
            for target in self._targets.values():
                target.fail(err)

    def _list_interval(self) -> float:
        return max(self._limits()[0], self._list_pace.interval)

    def _limits(self) -> tuple[float, float]:
        """Return the shortest interval and outage tolerance of all waiters."""
        if self._list_limits is None:
            targets = self._targets.values()
            interval = min(target.interval_seconds for target in targets)
            self._list_limits = interval, min(target.tolerance_seconds for target in targets)
        return self._list_limits

    async def _get_list(self, client: ArroyoClient) -> JobList:
        last_body = None if self._reread else self._list_body
        self._reread = False
        read = partial(JobList.read, targets=list(self._targets.values()), last_body=last_body)
        request = get(endpoints.list_jobs().path, read)
        limited = single_try(client, self._limits()[1])
        poll: asyncio.Future[JobList] = asyncio.ensure_future(self._run(lambda: limited.send(request).value))
        try:
            await asyncio.wait({poll}, timeout=self._list_pace.hung_after)
            if poll.done() and not may_concern_list_alone(poll.exception()):
                return poll.result()
            if await self._single_polls.succeed(client, self._targets):
                raise _OnlyListFailsError
            return await poll
        finally:
            poll.cancel()

    async def _take_list(self, listed: JobList, sent_at: float) -> None:
        self._list_body, self._list_seen_at = listed.body, self._monotonic()
        for target in listed.missing:
            target.leave_list(self._list_seen_at)
            self._poll_singly(target)
        async for target, item, job in in_batches(listed.deliveries):
            if sent_at < target.sent_at and (target.wants_next or job != target.job):
                # A single poll was sent later and is more recent.
                self._reread = True
                continue
            target.item = item
            self._end_single(target)
            target.give_job(job, sent_at, self._monotonic())
        if listed.jobs is not None:
            self._jobs = listed.jobs
            self._choose()

    def _replace_list(self, *, is_paused: bool) -> None:
        """Poll singly until the list succeeds; if it keeps failing, do not try it for a while."""
        if is_paused:
            self._pause_list(True)
            asyncio.get_running_loop().call_later(LIST_PAUSE_SECONDS, self._pause_list, False)
            return
        for target in self._targets.values():
            target.leave_list(self._list_seen_at)
            self._poll_singly(target)

    async def _give_error(
        self, targets: list[Target], error: ArroyoError, sent_at: float, failures: int, interval: float
    ) -> float:
        """Notify the waits of targets that a poll failed; return how long to wait before the next one."""
        pause = poll_retry_seconds(failures, interval, error)
        async for target in in_batches(targets):
            target.give_error(error, sent_at, self._monotonic(), self._list_seen_at, pause)
        try:
            await self._connection.reload(failures)
        except ArroyoError as err:
            now = self._monotonic()
            async for target in in_batches(targets):
                target.give_error(err, now, now, self._list_seen_at, pause)
        return pause


def _no_response(seconds: float) -> ArroyoConnectionError:
    return ArroyoConnectionError(f"No poll got a response within {duration(seconds)}.")


shared_poller = PerLoop(SharedPoller).join
"""Joins the poller of a connection on this event loop, and leaves it; see :meth:`.PerLoop.join`."""
