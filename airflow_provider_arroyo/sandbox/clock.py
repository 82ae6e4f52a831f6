"""The sandbox's time: real, scaled, or moved by hand. Micros since the epoch, as on Arroyo's wire."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Protocol

MICROS = 1_000_000


def micros(seconds: float) -> int:
    """Return a duration of so many seconds in microseconds."""
    return round(seconds * MICROS)


class Clock(Protocol):
    """What the engine asks of a clock."""

    def now_micros(self) -> int:
        """Return the sandbox's time of day, in microseconds since the epoch."""
        ...

    async def sleep_until(self, moment_micros: int) -> None:
        """Return once the sandbox's time has reached the moment; at once where it is past."""
        ...

    def looked_at(self) -> None:
        """Take note that a request came in."""
        ...


class RealClock:
    """The computer's clock, or one that runs faster or slower from its start on.

    :param speed: seconds of the sandbox in one real second; above 0.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed!r}")
        self._speed = speed
        self._origin_micros = time.time_ns() // 1000
        self._started = time.perf_counter_ns()

    def now_micros(self) -> int:
        """Return the time of day; never goes back, even where the computer's clock is set."""
        elapsed = (time.perf_counter_ns() - self._started) / 1000
        return self._origin_micros + int(elapsed * self._speed)

    async def sleep_until(self, moment_micros: int) -> None:
        """Return once the moment has come."""
        while (left := moment_micros - self.now_micros()) > 0:  # noqa: ASYNC110 - it waits for a time, no event
            await asyncio.sleep(left / MICROS / self._speed)

    def looked_at(self) -> None:
        """Do nothing: real time needs no help."""


class ManualClock:
    """A clock that stands until it is moved: tests of minutes take milliseconds, and nothing sleeps.

    :param start_seconds: where it stands at first, in seconds since the epoch; None: now.
    :param seconds_per_request: how far each request to the API moves it, so that a client which polls
        sees time pass without a test that moves the clock beside it. Default 0: only by hand.
    """

    def __init__(self, *, start_seconds: float | None = None, seconds_per_request: float = 0.0) -> None:
        if seconds_per_request < 0:
            raise ValueError(f"seconds_per_request must not be below 0, not {seconds_per_request!r}")
        self._now = micros(time.time() if start_seconds is None else start_seconds)
        self._step = micros(seconds_per_request)
        self._lock = threading.Lock()
        self._sleepers: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []

    def now_micros(self) -> int:
        """Return where the clock stands."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock on.

        :param seconds: how far; not below 0.
        """
        if seconds < 0:
            raise ValueError(f"time cannot go back: advance({seconds!r})")
        self._move(micros(seconds))

    def looked_at(self) -> None:
        """Move by ``seconds_per_request``."""
        if self._step:
            self._move(self._step)

    async def sleep_until(self, moment_micros: int) -> None:
        """Return once the clock was moved to the moment or past it."""
        event = asyncio.Event()
        with self._lock:
            if moment_micros <= self._now:
                return
            entry = (moment_micros, asyncio.get_running_loop(), event)
            self._sleepers.append(entry)
        try:
            await event.wait()
        finally:
            with self._lock:
                if entry in self._sleepers:
                    self._sleepers.remove(entry)

    def _move(self, by_micros: int) -> None:
        with self._lock:
            self._now += by_micros
            due = [entry for entry in self._sleepers if entry[0] <= self._now]
            self._sleepers = [entry for entry in self._sleepers if entry[0] > self._now]
        for _, loop, event in due:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
