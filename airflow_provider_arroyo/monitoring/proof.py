"""Whether a pipeline really left a final checkpoint behind. "Stopped" alone does not say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from airflow_provider_arroyo.arroyo.details import Checkpoint
from airflow_provider_arroyo.arroyo.models import CheckpointType, Job


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest:
    """What must be remembered when a stop is asked, to prove its checkpoint afterwards.

    :param after_epoch: the highest epoch before asking, finished or not; 0 without any.
    :param asked_at_micros: when it was asked, by the server's own clock; None where it did not tell.
    """

    after_epoch: int = 0
    asked_at_micros: int | None = None

    @classmethod
    def after(cls, checkpoints: Sequence[Checkpoint], asked_at_micros: int | None = None) -> Self:
        """Remember the checkpoints as they were before asking."""
        highest = max((checkpoint.epoch for checkpoint in checkpoints), default=0)
        return cls(after_epoch=highest, asked_at_micros=asked_at_micros)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"after_epoch": self.after_epoch, "asked_at_micros": self.asked_at_micros}

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read what :meth:`to_dict` wrote; unknown fields are ignored.

        :raises ValueError: on anything else. Nothing could be proven by guesses.
        """
        try:
            after_epoch, asked_at = data["after_epoch"], data.get("asked_at_micros")
        except (AttributeError, KeyError, TypeError) as err:
            raise ValueError(f"this does not say what was asked to stop, and when: {data!r}") from err
        for value in (after_epoch, 0 if asked_at is None else asked_at):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"this does not say what was asked to stop, and when: {data!r}")
        return cls(after_epoch=after_epoch, asked_at_micros=asked_at)


def checkpoint_of_stop(checkpoints: Sequence[Checkpoint], request: StopRequest) -> Checkpoint | None:
    """Return the checkpoint that belongs to a stop; None without proof.

    Restarts and rescales leave checkpoints of type ``stopping`` too, so the type alone proves nothing. Where
    the server tells types (0.16), it is a finished one of that type with a higher epoch than before. Where it
    does not (0.15), it is the last one, finished, with a higher epoch, begun after the stop was asked by the
    server's own clock.

    :param checkpoints: the job's checkpoints after it stopped.
    :param request: what was remembered when the stop was asked.
    """
    if not checkpoints:
        return None
    last = max(checkpoints, key=lambda checkpoint: checkpoint.epoch)
    if not last.is_finished or last.epoch <= request.after_epoch:
        return None
    if last.checkpoint_type is not None:
        return last if last.checkpoint_type == CheckpointType.STOPPING else None
    if request.asked_at_micros is None or last.start_time_micros < request.asked_at_micros:
        return None
    return last


def checkpoint_of_stopped(checkpoints: Sequence[Checkpoint], job: Job) -> Checkpoint | None:
    """Return the final checkpoint of a job that was found stopped; None without proof.

    Only servers that tell types can prove it: the last checkpoint, finished, of type ``stopping``, begun in
    the run that the stop ended.

    :param checkpoints: the job's checkpoints.
    :param job: the job, stopped.
    """
    if not checkpoints or job.start_time_micros is None:
        return None
    last = max(checkpoints, key=lambda checkpoint: checkpoint.epoch)
    proven = (
        last.is_finished
        and last.checkpoint_type == CheckpointType.STOPPING
        and last.start_time_micros >= job.start_time_micros
    )
    return last if proven else None
