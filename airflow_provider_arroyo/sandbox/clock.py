"""The sandbox's time, which is real, scaled or manual, and the actions that are planned.

Microseconds since the epoch, as in Arroyo's API.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

_MAX_SPEED = 1_000_000


def micros(seconds: float) -> int:
    """Return a duration of so many seconds in microseconds."""
    return round(seconds * 1_000_000)


class Clock:
    """A clock that runs at some speed, and can be advanced.

    :param speed: seconds of the sandbox in one real second; 0: it stands still until it is advanced.
    :param start_seconds: its first time, in seconds since the epoch; None: now.
    :param seconds_per_request: by how much each request to the API advances it.
    """

    def __init__(
        self, *, speed: float, start_seconds: float | None = None, seconds_per_request: float = 0.0
    ) -> None:
        self._speed = speed
        self._seconds_per_request = seconds_per_request
        self._moved_to = micros(time.time() if start_seconds is None else start_seconds)
        self._started = time.perf_counter_ns()
        self._lock = threading.Lock()
        self.on_advance: list[Callable[[], object]] = []
        """Called after it was advanced, and when a time passed for which it was asked to call."""

    def now_micros(self) -> int:
        """Return its time, which never goes back, even if the computer's clock is set."""
        elapsed = (time.perf_counter_ns() - self._started) / 1000
        return self._moved_to + int(elapsed * self._speed)

    def advance(self, seconds: float) -> None:
        """Move the clock on, and let everything happen that is due by then.

        :param seconds: how far; not below 0.
        """
        if seconds < 0:
            raise ValueError(f"time cannot go back: advance({seconds!r})")
        with self._lock:
            self._moved_to += micros(seconds)
        for act in self.on_advance:
            act()

    def tell_after(self, seconds: float) -> None:
        """Call ``on_advance`` after so many seconds, by a thread; not if the clock stands still."""
        if self._speed:
            # A little later, since a timer has another clock.
            timer = threading.Timer(seconds / self._speed + 0.001, self.advance, (0,))
            timer.daemon = True
            timer.start()

    def request_received(self) -> None:
        """Note that the API received a request."""
        if self._seconds_per_request:
            self.advance(self._seconds_per_request)


class RealClock(Clock):
    """The computer's clock, or one that runs faster or slower.

    :param speed: seconds of the sandbox per real second, more than 0 and at most 1,000,000; default 1.
    :param start_seconds: the time at which it starts, seconds since the epoch; default None: now.
    :raises ValueError: if ``speed`` is out of range.
    """

    def __init__(self, *, speed: float = 1.0, start_seconds: float | None = None) -> None:
        if not 0 < speed <= _MAX_SPEED:
            raise ValueError(f"speed must be above 0 and at most {_MAX_SPEED:,}, not {speed!r}")
        super().__init__(speed=speed, start_seconds=start_seconds)


class ManualClock(Clock):
    """A clock that stands still until it is advanced, so that a test of minutes takes milliseconds.

    :param start_seconds: the time that it shows first, seconds since the epoch; default None: now.
    :param seconds_per_request: by how much each request to the API advances it, so that time passes for a client
        that polls; default 0: not at all.
    :raises ValueError: if ``seconds_per_request`` is less than 0.
    """

    def __init__(self, *, start_seconds: float | None = None, seconds_per_request: float = 0.0) -> None:
        if seconds_per_request < 0:
            raise ValueError(f"seconds_per_request must not be below 0, not {seconds_per_request!r}")
        super().__init__(speed=0.0, start_seconds=start_seconds, seconds_per_request=seconds_per_request)


class Agenda:
    """Planned actions.

    Nothing runs in the background: :meth:`advance` does what is due, in order, before anything is read. So the
    same requests at the same times have the same results on every clock.

    :param clock: the clock of the sandbox; that of the server may be ahead of it, or behind.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.now = clock.now_micros()
        self._heap: list[tuple[int, int, Callable[[], object]]] = []
        self._planned = 0
        self._skews: list[tuple[int, int]] = []
        """Since when the server's clock has been ahead of the sandbox's, and by how much."""

    def advance(self) -> int:
        """Carry out everything that is due, and return the time."""
        until = self.clock.now_micros()
        heap = self._heap
        while heap and heap[0][0] <= until:
            moment, _, act = heapq.heappop(heap)
            self.now = max(self.now, moment)
            act()
        self.now = max(self.now, until)
        return self.now

    def at(self, moment: int, act: Callable[[], object]) -> None:
        """Plan an action for a moment."""
        self._planned += 1
        heapq.heappush(self._heap, (moment, self._planned, act))

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Plan an action in so many seconds."""
        self.at(self.now + micros(seconds), act)

    @property
    def next_due(self) -> int | None:
        """When the next action is due; None: nothing is planned."""
        return self._heap[0][0] if self._heap else None

    def set_skew(self, skew: int) -> None:
        """Set the server's clock ahead of the sandbox's from now on, or behind it, in microseconds."""
        self._skews.append((self.advance(), skew))

    def server_time(self, moment: int) -> int:
        """Return what the server's clock shows at a moment."""
        return moment + next((skew for since, skew in reversed(self._skews) if since <= moment), 0)

    @property
    def server_now(self) -> int:
        """What the server's clock shows now."""
        return self.server_time(self.now)
