"""How long a trigger holds an event that would resume its task too soon after the deferral."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_arroyo.client.wire import JsonValue

SLOWEST_DEFERRAL_SECONDS = 5.0
"""How many seconds a worker's request to defer may take on a busy machine until the trigger starts; measured: 2.7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(JsonValue):
    """Prevents a task from resuming too soon after it deferred.

    A worker's process outlives its deferral by up to ``[workers] min_heartbeat_interval``. If the task has been
    queued again by then, Airflow's scheduler mistakes the end of that process for the end of the resumed task, and
    fails it (apache/airflow#72716).

    :param deferred_at: when the task deferred, seconds since the epoch by the worker's clock.
    :param seconds: how long after that the task may resume at the earliest.
    """

    deferred_at: float
    seconds: float

    def left(self, *, started_at: float, now: float) -> float:
        """Return how many seconds an event must still be held; 0 if it is late enough.

        :param started_at: when the trigger started, by its own clock. An event is held at most ``seconds`` from then,
            even if the worker's clock is far ahead.
        :param now: the time by the trigger's clock.
        """
        # The trigger starts only after the worker's request to defer has reached Airflow.
        took_effect_at = min(started_at, self.deferred_at + SLOWEST_DEFERRAL_SECONDS)
        return max(0.0, took_effect_at + self.seconds - now)
