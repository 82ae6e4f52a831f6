"""For how long a trigger keeps an event back that would resume its task too soon after the deferral."""

from __future__ import annotations

import math
from dataclasses import dataclass

from airflow_provider_arroyo.client.wire import JsonValue

SLOWEST_DEFERRAL_SECONDS = 5.0
"""How long a worker's request to defer may take on a busy machine, until the trigger starts; measured: 2.7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(JsonValue):
    """Keeps a task from being resumed too soon after it was deferred.

    A worker's process outlives its deferral by up to ``[workers] min_heartbeat_interval``. Where the task has been
    queued again by then, Airflow's scheduler takes the end of that process for the end of the resumed task, and fails
    it (apache/airflow#72716).

    :param deferred_at: the moment of the deferral, seconds since the epoch by the worker's clock.
    :param seconds: how long after it the task may be resumed at the earliest.
    :raises ValueError: if either is not finite, or ``seconds`` is negative.
    """

    deferred_at: float
    seconds: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.deferred_at) and math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"deferred at {self.deferred_at}, held for {self.seconds} s: not a time")

    def left(self, *, started_at: float, now: float) -> float:
        """Return for how many seconds an event is still held; 0 where it is due late enough.

        :param started_at: when the trigger started, by its own clock. No event is held for longer than from there,
            however far the worker's clock is ahead.
        :param now: by the trigger's clock.
        """
        # Airflow has the task as deferred only when the worker's request has got through; the trigger starts then.
        took_effect_at = min(started_at, self.deferred_at + SLOWEST_DEFERRAL_SECONDS)
        return max(0.0, took_effect_at + self.seconds - now)
