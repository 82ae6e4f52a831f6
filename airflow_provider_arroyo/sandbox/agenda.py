"""What is planned, and the server's time: an act lies in a heap until it is due."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from .clock import Clock, micros


class Agenda:
    """Acts by when they are due.

    Nothing runs in the background: :meth:`advance` does what is due, in order, before anything is read. So the
    same requests at the same times give the same result, on a clock that is real, scaled, or moved by hand.

    :param clock: whose time it is; the server's own may be ahead of it, or behind.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.now = clock.now_micros()
        self._heap: list[tuple[int, int, Callable[[], object]]] = []
        self._planned = 0
        self._skew = 0

    def advance(self) -> int:
        """Do everything that is due, and return the time."""
        until = self.clock.now_micros() + self._skew
        heap = self._heap
        while heap and heap[0][0] <= until:
            moment, _, act = heapq.heappop(heap)
            self.now = max(self.now, moment)
            act()
        self.now = max(self.now, until)
        return self.now

    def at(self, moment: int, act: Callable[[], object]) -> None:
        """Plan an act for a moment."""
        self._planned += 1
        heapq.heappush(self._heap, (moment, self._planned, act))

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Plan an act in so many seconds."""
        self.at(self.now + micros(seconds), act)

    @property
    def next_due(self) -> int | None:
        """When the next act is due; None: nothing is planned."""
        return self._heap[0][0] if self._heap else None

    def skew_by(self, skew: int) -> int:
        """Set how far the server's clock is ahead of the sandbox's; return by how much that moves it.

        What is planned comes when it would have come.
        """
        by = skew - self._skew
        self._skew = skew
        self.now += by
        self._heap = [(moment + by, number, act) for moment, number, act in self._heap]
        return by

    def on_clock(self, moment: int) -> int:
        """Return a moment of the server's time as one of the clock's."""
        return moment - self._skew
