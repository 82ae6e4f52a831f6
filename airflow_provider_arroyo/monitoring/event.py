"""What a trigger tells the task that waits for it: typed, versioned, and never taken for success by accident."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from airflow_provider_arroyo.monitoring.verdict import Verdict

EVENT_VERSION = 1
"""Raised when an older reader would misunderstand an event; new optional fields do not raise it."""


class UnreadableEventError(ValueError):
    """An event that does not say how a wait ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitEvent:
    """How a deferred wait ended.

    :param pipeline_id: the pipeline.
    :param verdict: how the wait ended.
    :param carry: what the task gave its trigger to have it back; JSON values.
    """

    pipeline_id: str
    verdict: Verdict
    carry: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, to be an event's payload."""
        return {
            "version": EVENT_VERSION,
            "pipeline_id": self.pipeline_id,
            "verdict": self.verdict.to_dict(),
            "carry": dict(self.carry),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read what :meth:`to_dict` wrote, in this version or an older one; unknown fields are ignored.

        :raises UnreadableEventError: on None, anything but a mapping, a newer version, an unknown outcome, or
            a wait that is not over.
        """
        try:
            if not isinstance(data, Mapping):
                raise TypeError(f"it is {type(data).__name__}, not a mapping")
            version = int(data.get("version", EVENT_VERSION))
            if version > EVENT_VERSION:
                raise ValueError(f"it has version {version}, this package reads up to {EVENT_VERSION}")
            pipeline_id = data["pipeline_id"]
            if not isinstance(pipeline_id, str):
                raise TypeError(f"its pipeline_id is {type(pipeline_id).__name__}, not a text")
            verdict = Verdict.from_dict(data["verdict"])
            if not verdict.is_over:
                raise ValueError("its wait is not over")
            return cls(pipeline_id=pipeline_id, verdict=verdict, carry=dict(data.get("carry") or {}))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as err:
            raise UnreadableEventError(
                f"The trigger's event cannot be read: {err!r}. Triggerer and worker must run the same version "
                "of airflow-provider-arroyo; clear the task to wait anew. The pipeline was not touched."
            ) from err
