"""The rounds of a feed: when to look, how to look, and what to tell whom."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from typing import Any

from airflow_provider_arroyo.arroyo.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.feed_cost import Look, LookCosts
from airflow_provider_arroyo.monitoring.feed_looks import ConnectFailedError, Looks, concerns_all
from airflow_provider_arroyo.monitoring.feed_roster import Roster
from airflow_provider_arroyo.monitoring.feed_waiters import Alarms, Cadence, Target, Waiter
from airflow_provider_arroyo.monitoring.plan import FIRST_LOOK_SECONDS
from airflow_provider_arroyo.monitoring.verdict import Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait

SINGLE_LOOKS_AT_A_TIME = 8

OVERDUE_SECONDS = 1.0
"""How soon a waiter whose moment has come, but whose look has not, is asked again."""

RECONNECT_SECONDS = 30.0
"""How often in an outage the connection is looked up anew, in case it was edited to mend that."""

PAUSES_SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
"""The least pause after so many rounds in a row that Arroyo did not answer, beyond the client's own retries."""

EARLY_SECONDS = 0.001
"""What is due so soon is due now: timers are not more exact."""


class Rounds:
    """Looks for all waiters, round after round, one round at a time.

    :param looks: makes the requests.
    :param costs: chooses the kind of look.
    :param clock: seconds since the epoch, for the judges.
    """

    def __init__(self, looks: Looks, costs: LookCosts, clock: Callable[[], float]) -> None:
        self._looks = looks
        self._costs = costs
        self._clock = clock
        self._time = asyncio.get_running_loop().time
        self._roster = Roster()
        self._alarms = Alarms(clock, self._ring)
        self._wake = asyncio.Event()
        self._listed_at: float | None = None
        self._absent: list[Target] = []
        self._reread = False
        self._failures = 0
        self._reconnect_at = 0.0

    # -- who waits -------------------------------------------------------------------------------------------

    def join(self, wait: PipelineWait, interval_seconds: float) -> Waiter:
        """Add a waiter; it is told a look that begins from now on."""
        waiter = self._roster.join(wait, interval_seconds, self._time())
        self._alarms.set(waiter, max(wait.next_due(), self._clock() + FIRST_LOOK_SECONDS))
        self._wake.set()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter. Nothing is asked of Arroyo."""
        self._alarms.drop(waiter)
        self._roster.leave(waiter, self._time())

    def fail(self, error: BaseException) -> None:
        """End every wait with an exception."""
        for waiter in self._roster.everyone():
            waiter.fail(error)

    # -- when ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look until cancelled, then close the client."""
        try:
            while True:
                await self._pause()
                try:
                    await self._round()
                except ConnectFailedError as err:
                    self._roster.admit()
                    self.fail(err.cause)
                    self._failures += 1
                await self._looks.close_retired()
        except Exception as err:
            self.fail(err)
            raise
        finally:
            self._alarms.close()
            await self._looks.aclose()

    async def _pause(self) -> None:
        while (due := self._roster.next_at()) > self._time() + EARLY_SECONDS:
            self._wake.clear()
            timer = None
            if due < float("inf"):
                timer = asyncio.get_running_loop().call_at(due, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    async def _round(self) -> None:
        began = self._time()
        listed, single = self._roster.due(began + EARLY_SECONDS)
        is_calm = not (self._roster.joined or self._roster.wanting or self._failures)
        joined = self._roster.admit()
        took_list = False
        try:
            took_list = await self._look(listed, single, joined, is_calm=is_calm)
        finally:
            ended = self._time()
            pause = PAUSES_SECONDS[min(self._failures, len(PAUSES_SECONDS) - 1)]
            for cadence in chain(self._roster.listed() if took_list else listed, single):
                cadence.done(began, ended, pause)
        if is_calm and not self._failures and self._costs.wants_ping(ended):
            await self._looks.ping()

    # -- how -------------------------------------------------------------------------------------------------

    async def _look(
        self, listed: list[Cadence], single: list[Cadence], joined: list[Target], *, is_calm: bool
    ) -> bool:
        """Make the looks of one round; return whether one of them was a list that succeeded."""
        knows_by_pipeline = self._looks.names_pipelines is not False
        new = [target for target in joined if target.cadence not in listed and target.cadence not in single]
        singly = [target for cadence in single for target in cadence.targets.values()]
        listable: list[Target] = []
        for target in new:
            fits = target.is_listed and (knows_by_pipeline or target.job_id is not None)
            (listable if fits else singly).append(target)
        count = sum(len(cadence.targets) for cadence in listed) + len(listable)
        if not count:
            await self._look_singly(singly)
            return False
        if self._failures and not await self._is_back(listed, [*listable, *singly]):
            return False
        kind = self._costs.choose(count, self._time(), is_regular=bool(listed), may_explore=is_calm)
        if kind is Look.SINGLE:
            await self._look_singly([*_targets_of(listed), *listable, *singly])
            return False
        return await self._look_at_list(listed, listable, singly, is_calm=is_calm)

    async def _is_back(self, listed: list[Cadence], others: list[Target]) -> bool:
        """Look with one single look whether Arroyo answers again; else tell everybody whose turn it is."""
        everyone = [*_targets_of(listed), *others]
        if self._failures > 1 and self._time() >= self._reconnect_at:
            self._reconnect_at = self._time() + RECONNECT_SECONDS
            await self._looks.reconnect()
        # Another one each time, in case it is this pipeline only that gets no answer.
        probe = everyone[self._failures % len(everyone)]
        error = await self._look_at(probe, is_alone=True, doubt=ArroyoError)
        if error is not None:
            self._is_away(error, everyone)
        return error is None

    async def _look_at_list(
        self, listed: list[Cadence], listable: list[Target], singly: list[Target], *, is_calm: bool
    ) -> bool:
        # Of whom nothing was read yet, an answer that is the same as the last one may tell something all the same.
        reread = self._reread or any(target.item is None for target in self._roster.wanting)
        try:
            seen = await self._looks.list_jobs(self._roster.targets, self._roster.by_job, reread=reread)
        except ArroyoError as err:
            self._costs.list_failed(self._time())
            everyone = [*_targets_of(listed), *listable, *singly]
            if concerns_all(err):
                self._is_away(err, everyone)
            else:
                # The list alone may be what fails, so that it does not count for anybody yet.
                await self._look_singly(everyone, doubt=type(err))
            return False
        now = self._listed_at = self._clock()
        self._failures = 0
        if seen.after_trouble:
            self._doubt(self._roster.targets.values())
        if seen.value.items is not None:
            self._reread = False
            self._take_list(seen.value.items, now)
        for target in self._absent:
            self._roster.was_missing_in_list(target, self._time())
        singly += self._absent
        self._absent = [target for target in self._absent if target.is_listed and target.cadence]
        for target in tuple(self._roster.wanting):
            if target.item is not None:
                self._tell(target, now, is_new=False)
        if is_calm and not singly and self._costs.wants_single(self._time()):
            singly += islice(_targets_of(listed), 1)
        await self._look_singly(singly)
        return True

    def _take_list(self, items: Mapping[Target, Mapping[str, Any]], now: float) -> None:
        missing = []
        for target in self._roster.targets.values():
            item = items.get(target)
            if item is None:
                if target.is_listed and target.waiters:
                    missing.append(target)
                continue
            self._roster.was_in_list(target, self._time())
            if item == target.item:
                continue
            try:
                job = Job.from_api(item)
            except (KeyError, TypeError, ValueError, AttributeError):
                # A look at the pipeline has the words for what is wrong with it.
                missing.append(target)
                continue
            target.item = item
            self._roster.learn_job(target, job)
            if job != target.job:
                target.job = job
                self._tell(target, now, is_new=True)
        self._absent = missing

    async def _look_singly(
        self, targets: Iterable[Target], *, doubt: type[ArroyoError] | None = None
    ) -> None:
        """Look at each; the first alone, to see what a look costs and whether Arroyo answers at all.

        :param doubt: a kind of error that is taken to concern all, after something else failed in that way.
        """
        queue = deque(dict.fromkeys(targets))
        errors: list[ArroyoError] = []

        async def work(*, is_alone: bool = False) -> None:
            while queue and not errors:
                target = queue.popleft()
                error = await self._look_at(target, is_alone=is_alone, doubt=doubt)
                if error is not None:
                    errors.append(error)
                    queue.append(target)
                if is_alone:
                    return

        await work(is_alone=True)
        workers = min(SINGLE_LOOKS_AT_A_TIME, len(queue))
        if workers == 1:
            await work()
        elif workers:
            await asyncio.gather(*(work() for _ in range(workers)))
        if errors:
            self._is_away(errors[0], queue)

    async def _look_at(
        self, target: Target, *, is_alone: bool, doubt: type[ArroyoError] | None
    ) -> ArroyoError | None:
        """Look at one pipeline and tell who waits for it; return an error that concerns all instead."""
        if target.cadence is None:
            return None
        try:
            job, after_trouble = await self._looks.pipeline_job(target.pipeline_id, is_alone=is_alone)
        except ArroyoNotFoundError as err:
            self._failures = 0
            self._tell_error(target, err, self._clock())
            return None
        except ArroyoError as err:
            if concerns_all(err) or (doubt is not None and isinstance(err, doubt)):
                return err
            self._tell_error(target, err, self._clock())
            return None
        self._failures = 0
        if after_trouble:
            self._doubt([target])
        now = target.seen_at = self._clock()
        is_new = job != target.job
        if is_new:
            target.job, target.item = job, None
        if job is not None:
            self._roster.learn_job(target, job)
            # What the list showed is behind this look, even if the next list is the same as the last.
            self._reread = self._reread or (target.item is None and (target.is_listed or is_new))
        self._tell(target, now, is_new=is_new)
        return None

    # -- what to tell ----------------------------------------------------------------------------------------

    def _is_away(self, error: ArroyoError, targets: Iterable[Target]) -> None:
        """Tell everybody whose turn it is that Arroyo does not answer."""
        self._failures += 1
        now = self._clock()
        for target in dict.fromkeys(targets):
            self._tell_error(target, error, now)

    def _doubt(self, targets: Iterable[Target]) -> None:
        """Let all who wait know that their next look came after trouble, however little it shows."""
        for target in targets:
            for waiter in target.waiters:
                waiter.wants_look = waiter.after_trouble = True
            if target.waiters:
                self._roster.wanting.add(target)

    def _tell(self, target: Target, now: float, *, is_new: bool) -> None:
        self._roster.wanting.discard(target)
        for waiter in target.waiters:
            if (is_new or waiter.wants_look) and not waiter.is_over:
                after_trouble, waiter.after_trouble = waiter.after_trouble, False
                waiter.wants_look, waiter.was_told = False, True
                judge = partial(waiter.wait.observe, target.job, now, after_trouble=after_trouble)
                self._settle(waiter, judge, now)

    def _tell_error(self, target: Target, error: ArroyoError, now: float) -> None:
        seen_at = target.seen_at
        if target.item is not None and self._listed_at is not None:
            seen_at = max(self._listed_at, seen_at or 0.0)
        for waiter in target.waiters:
            if not waiter.is_over:
                waiter.wants_look = True
                answered_at = seen_at if waiter.was_told else None
                self._settle(
                    waiter, partial(waiter.wait.observe_error, error, now, answered_at=answered_at), now
                )
        if target.waiters:
            self._roster.wanting.add(target)

    def _settle(self, waiter: Waiter, judge: Callable[[], Verdict], now: float) -> None:
        try:
            if waiter.settle(judge()):
                due = waiter.wait.next_due()
                if due <= now:
                    # Only a look can tell, and may be long in coming; the deadline must not wait for it.
                    waiter.wants_look = True
                    self._roster.wanting.add(waiter.target)
                    due = min(waiter.wait.plan.deadline, now + OVERDUE_SECONDS)
                self._alarms.set(waiter, due)
        except Exception as err:  # noqa: BLE001  # whatever breaks in one wait, the others share the look
            waiter.fail(err)

    def _ring(self, waiter: Waiter) -> None:
        """Let a waiter's moment come, without a look."""
        if waiter.is_over:
            return
        now, due = self._clock(), waiter.wait.next_due()
        if due > now:
            self._alarms.set(waiter, due)
        else:
            self._settle(waiter, partial(waiter.wait.tick, now), now)


def _targets_of(cadences: Iterable[Cadence]) -> Iterator[Target]:
    return (target for cadence in cadences for target in cadence.targets.values())
