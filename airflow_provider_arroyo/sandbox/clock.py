"""The sandbox's time: real, scaled, or moved by hand. Microseconds since the epoch, as in Arroyo's API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeAlias

MICROS = 1_000_000
_NOTICE_SECONDS = 0.1
_MAX_SPEED = 1_000_000


def micros(seconds: float) -> int:
    """Return a duration of so many seconds in microseconds."""
    return round(seconds * MICROS)


class RealClock:
    """The computer's clock, or one that runs faster or slower from its start on.

    :param speed: seconds of the sandbox in one real second; above 0, at most 1,000,000.
    :raises ValueError: where ``speed`` is not.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        if not 0 < speed <= _MAX_SPEED:
            raise ValueError(f"speed must be above 0 and at most {_MAX_SPEED:,}, not {speed!r}")
        self._speed = speed
        self._origin_micros = time.time_ns() // 1000
        self._started = time.perf_counter_ns()

    def now_micros(self) -> int:
        """Return the time of day; never goes back, even where the computer's clock is set."""
        elapsed = (time.perf_counter_ns() - self._started) / 1000
        return self._origin_micros + int(elapsed * self._speed)

    def _seconds_until(self, moment: int) -> float:
        return max(0.0, (moment - self.now_micros()) / MICROS / self._speed)

    def call_at(self, moment: int, act: Callable[[], None]) -> Callable[[], None]:
        """Call the function from a timer's thread."""
        timer = threading.Timer(self._seconds_until(moment), act)
        timer.daemon = True
        timer.start()
        return timer.cancel

    def wait_until(self, moment: int, cancelled: threading.Event) -> None:
        """Return once the moment has come, or the wait was cancelled."""
        cancelled.wait(self._seconds_until(moment))

    def request_received(self) -> None:
        """Do nothing: real time passes by itself."""


class ManualClock:
    """A clock that stands until it is moved: tests of minutes take milliseconds, and nothing sleeps.

    :param start_seconds: where it stands at first, in seconds since the epoch; None (default): now.
    :param seconds_per_request: how far each request to the API moves it, so that a client that polls sees
        time pass. Default 0: it moves only by hand.
    :raises ValueError: where ``seconds_per_request`` is below 0.
    """

    def __init__(self, *, start_seconds: float | None = None, seconds_per_request: float = 0.0) -> None:
        if seconds_per_request < 0:
            raise ValueError(f"seconds_per_request must not be below 0, not {seconds_per_request!r}")
        self._now = micros(time.time() if start_seconds is None else start_seconds)
        self._step = micros(seconds_per_request)
        self._moved = threading.Condition()
        self._calls: dict[int, tuple[int, Callable[[], None]]] = {}
        self._number = 0

    def now_micros(self) -> int:
        """Return where the clock stands."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock on, and call what is due by then.

        :param seconds: how far; not below 0.
        """
        if seconds < 0:
            raise ValueError(f"time cannot go back: advance({seconds!r})")
        self._move(micros(seconds))

    def call_at(self, moment: int, act: Callable[[], None]) -> Callable[[], None]:
        """Call the function from the thread that moves the clock past the moment."""
        with self._moved:
            self._number += 1
            number = self._number
            self._calls[number] = (moment, act)
        return lambda: self._calls.pop(number, None) and None

    def wait_until(self, moment: int, cancelled: threading.Event) -> None:
        """Return once the clock was moved to the moment or past it, or the wait was cancelled."""
        with self._moved:
            while self._now < moment and not cancelled.is_set():
                self._moved.wait(_NOTICE_SECONDS)

    def request_received(self) -> None:
        """Move by ``seconds_per_request``."""
        if self._step:
            self._move(self._step)

    def _move(self, by: int) -> None:
        with self._moved:
            self._now += by
            due = [number for number, (moment, _) in self._calls.items() if moment <= self._now]
            calls = [self._calls.pop(number)[1] for number in due]
            self._moved.notify_all()
        for act in calls:
            act()


Clock: TypeAlias = RealClock | ManualClock
