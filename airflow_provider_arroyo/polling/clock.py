"""One clock for waits: absolute, so that deadlines cross processes, but steady if the machine's clock changes."""

from __future__ import annotations

import time


class SteadyClock:
    """Seconds since the epoch that never step back or jump during the life of the process."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time, in seconds since the epoch."""
        return time.monotonic() + self._offset

    def to_monotonic(self, seconds: float) -> float:
        """Return a time of this clock as a time of ``time.monotonic``."""
        return seconds - self._offset

    def from_monotonic(self, seconds: float) -> float:
        """Return a time of ``time.monotonic`` as a time of this clock."""
        return seconds + self._offset
