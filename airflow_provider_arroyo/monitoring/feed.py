"""One poll loop for all waiters of a process that look through the same connection.

However many wait, a tick costs the server one ``GET /jobs``, or a look at each pipeline where that is cheaper,
and costs this process next to nothing while nothing changes.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from airflow_provider_arroyo.monitoring.feed_cost import LookCosts
from airflow_provider_arroyo.monitoring.feed_looks import Connect, Looks
from airflow_provider_arroyo.monitoring.feed_rounds import Rounds
from airflow_provider_arroyo.monitoring.notes import Note
from airflow_provider_arroyo.monitoring.verdict import Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait

Clock = Callable[[], float]

REMEMBERED_COSTS = 64
"""Of how many connections it is remembered what looks cost."""


class JobFeed:
    """Looks for its waiters, and gives each the answers that concern it.

    Made by :func:`shared_feed`. It belongs to one event loop. It keeps its client until it ends, the server
    answers 401 or 403, or gives no answer for longer than one look is tried: then a connection that was edited
    meanwhile counts.

    :param interval_seconds: the usual time from look to look.
    :param connect: makes the client; awaited for the first look, and anew as said above.
    :param clock: seconds since the epoch, steady.
    :param costs: what is known of the server already.
    :param own_seconds: how long this thread has worked, in seconds; taken off the time of a look.
    """

    def __init__(
        self,
        *,
        interval_seconds: float,
        connect: Connect,
        clock: Clock,
        costs: LookCosts | None = None,
        own_seconds: Callable[[], float] = time.thread_time,
    ) -> None:
        costs = costs or LookCosts()
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._looks = Looks(connect, costs, own_seconds)
        self._rounds = Rounds(self._looks, costs, self._now)
        self._task: asyncio.Task[None] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether it looks no more."""
        return self._task is not None and self._task.done()

    def follow(self, clock: Clock) -> None:
        """Go by another clock from now on: one that was made since the machine's own was set, for example."""
        self._clock = clock

    def _now(self) -> float:
        return self._clock()

    async def watch(
        self,
        wait: PipelineWait,
        *,
        interval_seconds: float | None = None,
        on_notes: Callable[[list[Note]], None] | None = None,
    ) -> Verdict:
        """Look at once, then at the interval, until the wait is over.

        Nothing is asked of Arroyo when the task that waits is cancelled; it is just not told any more.

        :param wait: the judge; brought here every change, and what it asked to be told by ``next_due``.
        :param interval_seconds: how often to look for it; default the feed's. Others' looks come for free.
        :param on_notes: gets what the wait has to say, in the context of the waiting task.
        :return: the verdict, which is over.
        :raises Exception: what ``connect`` raised.
        """
        if self.is_closed:
            raise RuntimeError("this feed has ended; enter shared_feed() again")
        if self._task is None:
            # Without the context of whoever comes first, to whose log all that follows would go.
            self._task = asyncio.get_running_loop().create_task(
                self._rounds.run(), name="arroyo-job-feed", context=contextvars.Context()
            )
        waiter = self._rounds.join(wait, interval_seconds or self._interval_seconds)
        try:
            while True:
                notes = await waiter.woken()
                if notes and on_notes is not None:
                    on_notes(notes)
                if waiter.error is not None:
                    raise waiter.error.with_traceback(None)
                if waiter.verdict is not None:
                    return waiter.verdict
        finally:
            self._rounds.leave(waiter)

    async def aclose(self) -> None:
        """Stop looking, and close the client."""
        if self._task is not None:
            self._task.cancel()
            # Not awaited itself: the client is closed also where the caller is cancelled meanwhile.
            await asyncio.wait({self._task})


@dataclass(slots=True)
class _Shared:
    feed: JobFeed
    users: int = 0


@dataclass(slots=True)
class _Loop:
    """What one event loop shares."""

    feeds: dict[tuple[Hashable, float], _Shared] = field(default_factory=dict)
    costs: dict[Hashable, LookCosts] = field(default_factory=dict)

    def costs_of(self, key: Hashable) -> LookCosts:
        costs = self.costs.pop(key, None) or LookCosts()
        self.costs[key] = costs
        if len(self.costs) > REMEMBERED_COSTS:
            del self.costs[next(iter(self.costs))]
        return costs


_LOOPS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()


@asynccontextmanager
async def shared_feed(
    *,
    key: tuple[Hashable, ...],
    interval_seconds: float,
    connect: Connect,
    clock: Clock,
) -> AsyncIterator[JobFeed]:
    """Join the feed that looks through a connection at an interval, and leave it.

    The first who comes makes it, with its own ``connect``; the clock is that of who came last. The last one out
    ends it: the look under way is given up and the client closed.

    :param key: names the connection.
    :param interval_seconds: the usual time from look to look.
    :param connect: makes the client.
    :param clock: seconds since the epoch, steady.
    """
    if not interval_seconds > 0:
        raise ValueError(f"interval_seconds must be positive, got {interval_seconds!r}")
    loop = asyncio.get_running_loop()
    here = _LOOPS.setdefault(loop, _Loop())
    place = (key, interval_seconds)
    shared = here.feeds.get(place)
    if shared is None or shared.feed.is_closed:
        feed = JobFeed(
            interval_seconds=interval_seconds, connect=connect, clock=clock, costs=here.costs_of(key)
        )
        shared = here.feeds[place] = _Shared(feed)
    shared.feed.follow(clock)
    shared.users += 1
    try:
        yield shared.feed
    finally:
        shared.users -= 1
        if not shared.users:
            if here.feeds.get(place) is shared:
                del here.feeds[place]
            await shared.feed.aclose()
