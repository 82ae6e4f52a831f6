"""An event loop whose time advances only while it is idle: hours of waiting take milliseconds."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from airflow_provider_arroyo.polling.clock import SteadyClock

P = ParamSpec("P")

EPOCH = 1_800_000_000.0
"""The time when a loop begins, seconds since the epoch."""


class _NothingEverHappensError(RuntimeError):
    pass


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            raise _NothingEverHappensError("every task waits, and no timer is set")
        self.now += timeout
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Runs without any real waiting, and without threads."""

    def __init__(self) -> None:
        self.virtual = _Selector()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test in virtual time, on a loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def pass_time(seconds: float) -> None:
    """Advance the virtual time; everything that is due by then has happened when this returns."""
    await asyncio.sleep(seconds)


def turns() -> int:
    """Return how many turns the running loop has made; work within one turn delays everything else."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop.virtual.turns


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


class VirtualClock(SteadyClock):
    """A wait's clock in virtual time.

    :param ahead: how far the machine's clock was ahead when this one was created, in seconds.
    :param monotonic: a monotonic clock; default the running loop's time.
    """

    def __init__(self, ahead: float = 0.0, monotonic: Callable[[], float] = now) -> None:
        self._offset = EPOCH + ahead
        self._monotonic = monotonic

    def __call__(self) -> float:
        return self._monotonic() + self._offset


class ManualTime:
    """Time for a worker's loop, which advances only during sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds
