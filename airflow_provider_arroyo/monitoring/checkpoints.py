"""Proof that a stop took its final checkpoint. The state ``Stopped`` alone is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import CheckpointType, Job
from airflow_provider_arroyo.client.wire import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest(JsonValue):
    """What must be known when a stop is requested, to prove its checkpoint afterwards.

    :param after_epoch: the highest epoch before the request, finished or not; 0 without any.
    :param requested_at_micros: when it was requested, by the server's own clock; None where that is not known.
    """

    after_epoch: int
    requested_at_micros: int | None = None

    @classmethod
    def after(cls, checkpoints: Sequence[Checkpoint], requested_at_micros: int | None = None) -> Self:
        """Return the request for the checkpoints as they were before it."""
        highest = max((checkpoint.epoch for checkpoint in checkpoints), default=0)
        return cls(after_epoch=highest, requested_at_micros=requested_at_micros)


def checkpoint_of_stop(checkpoints: Sequence[Checkpoint], request: StopRequest) -> Checkpoint | None:
    """Return the checkpoint that belongs to a stop; None without proof.

    Restarts and rescales leave checkpoints of type ``stopping`` too, so the type alone proves nothing. Where
    the server sends types (0.16), it is a finished one of that type with a higher epoch than before. Where it
    does not (0.15), it is the last one, finished, with a higher epoch, begun after the stop was requested by
    the server's own clock.

    :param checkpoints: the job's checkpoints after it stopped.
    :param request: what was known when the stop was requested.
    """
    last = _last(checkpoints)
    if last is None or not last.is_finished or last.epoch <= request.after_epoch:
        return None
    if last.checkpoint_type is not None:
        return last if last.checkpoint_type == CheckpointType.STOPPING else None
    if request.requested_at_micros is None or last.start_time_micros < request.requested_at_micros:
        return None
    return last


def checkpoint_of_stopped(checkpoints: Sequence[Checkpoint], job: Job) -> Checkpoint | None:
    """Return the final checkpoint of a job that was found stopped; None without proof.

    Only servers that send types can prove it: the last checkpoint, finished, of type ``stopping``, begun in
    the run that the stop ended.

    :param checkpoints: the job's checkpoints.
    :param job: the job, stopped.
    """
    last = _last(checkpoints)
    if last is None or not last.is_finished or last.checkpoint_type != CheckpointType.STOPPING:
        return None
    if job.start_time_micros is None or last.start_time_micros < job.start_time_micros:
        return None
    return last


def _last(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    return max(checkpoints, key=lambda checkpoint: checkpoint.epoch, default=None)
