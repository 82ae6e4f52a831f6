"""One clock for waits: absolute, so that deadlines cross processes, yet blind to the machine's clock being set."""

from __future__ import annotations

import time


class SteadyClock:
    """Seconds since the epoch that never step back or jump while the process lives."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time, in seconds since the epoch."""
        return time.monotonic() + self._offset

    def monotonic(self, moment: float) -> float:
        """Return a moment of this clock as a moment of ``time.monotonic``."""
        return moment - self._offset
