"""What a trigger tells the task that waits for it: typed, versioned, and never taken for success by accident."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from airflow_provider_arroyo.client.wire import JsonValue, from_json
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult

EVENT_VERSION = 1
"""Raised when an older reader would misunderstand an event; new optional fields do not raise it."""


class UnreadableEventError(ValueError):
    """An event that does not say how a wait ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitEvent(JsonValue):
    """How a deferred wait ended.

    :param pipeline: the pipeline.
    :param result: how the wait ended.
    :param resume_context: what the task gave its trigger to have it back; JSON values.
    :param server: the address of the Arroyo that was polled; empty where the task did not say.
    :param version: of the event's format.
    """

    pipeline: PipelineRef
    result: WaitResult
    resume_context: Mapping[str, Any] = field(default_factory=dict)
    server: str = ""
    version: int = EVENT_VERSION

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read what ``to_dict`` wrote, in this version or an older one; unknown fields are ignored.

        :raises UnreadableEventError: on None, anything but a mapping, a newer version, an unknown outcome, or
            a wait that is not over.
        """
        try:
            event = from_json(cls, data)
            if event.version > EVENT_VERSION:
                raise ValueError(f"it has version {event.version}, this package reads up to {EVENT_VERSION}")
            if not event.result.is_over:
                raise ValueError("its wait is not over")
        except ValueError as err:
            raise UnreadableEventError(
                f"The trigger's event cannot be read: {err}. Triggerer and worker must run the same version "
                "of airflow-provider-arroyo; a new try waits again. The pipeline was not touched."
            ) from err
        return event
