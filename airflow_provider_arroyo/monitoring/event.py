"""A trigger's event for its waiting task: typed, versioned, never mistaken for a success, and held if it is early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from airflow_provider_arroyo.client.wire import JsonValue, from_json
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult

EVENT_VERSION = 1
"""Raise this if an older version would misread an event; not for a new optional field."""


class UnreadableEventError(ValueError):
    """The event does not say how a wait ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitEvent(JsonValue):
    """The result of a deferred wait.

    :param pipeline: the pipeline.
    :param result: the result of the wait.
    :param resume_context: JSON values that the task gave to its trigger; default none.
    :param server: the address of the polled server; empty if the task did not give it.
    :param version: version of the event's format.
    """

    pipeline: PipelineRef
    result: WaitResult
    resume_context: Mapping[str, Any] = field(default_factory=dict)
    server: str = ""
    version: int = EVENT_VERSION

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read the output of ``to_dict``, of this version or an older one; unknown fields are ignored.

        :raises UnreadableEventError: if it is not a mapping, has a newer version or an unknown outcome, or if the
            wait is not over.
        """
        try:
            event = from_json(cls, data)
            if event.version > EVENT_VERSION:
                raise ValueError(
                    f"it has version {event.version}, but this package reads up to {EVENT_VERSION}"
                )
            if not event.result.is_over:
                raise ValueError("its wait is not over")
        except ValueError as err:
            raise UnreadableEventError(
                f"The trigger's event cannot be read: {err}. Triggerer and worker must run the same version "
                "of airflow-provider-arroyo; a new try waits again. The pipeline was not touched."
            ) from err
        return event


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
