"""Proves that a stop took its final checkpoint. The state ``Stopped`` alone does not prove it.

Restarts and rescales also leave checkpoints of type ``stopping``, and change only the ``run_id``. The order of events
is derived from epochs; the server's clock, which a gateway may overwrite, is used only if they leave it open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import CheckpointType, Job, JobState
from airflow_provider_arroyo.client.wire import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest(JsonValue):
    """What must be recorded when a stop is requested, to prove its checkpoint afterwards.

    :param after_epoch: the highest epoch before the request, finished or not; 0 if there was no checkpoint.
    :param requested_at_micros: when it was requested, by the ``date`` of the response; None if unknown.
    :param accepted_epoch: if the server sends no checkpoint types: the highest epoch after it accepted the request; a
        higher one began later. None if it was not read.
    :param run_id: the run in which it was requested; None if unknown.
    """

    after_epoch: int
    requested_at_micros: int | None = None
    accepted_epoch: int | None = None
    run_id: int | None = None

    @classmethod
    def after(
        cls,
        checkpoints: Sequence[Checkpoint],
        requested_at_micros: int | None = None,
        *,
        accepted: Sequence[Checkpoint] | None = None,
        job: Job | None = None,
    ) -> Self:
        """Return the record of a stop request, from the checkpoints before it.

        :param checkpoints: the job's checkpoints before the request.
        :param requested_at_micros: when it was requested, by the ``date`` of the response; None if unknown.
        :param accepted: the checkpoints after the server accepted the request.
        :param job: the job before the request.
        """
        # Before the first run, there can be no checkpoint.
        highest, run_id = highest_epoch(checkpoints), None if job is None else max(1, job.run_id)
        last = _last(checkpoints)
        if job is not None and last is not None and last.checkpoint_type == CheckpointType.STOPPING:
            if job.state == JobState.CHECKPOINT_STOPPING and not last.is_finished:
                # An earlier stop request is in progress; this is its checkpoint.
                highest = highest_epoch(one for one in checkpoints if one is not last)
            elif job.state in (JobState.RESTARTING, JobState.RESCALING):
                # The checkpoint of the next run is already here.
                run_id = job.run_id + 1
        return cls(
            after_epoch=highest,
            requested_at_micros=requested_at_micros,
            accepted_epoch=None if accepted is None else highest_epoch(accepted),
            run_id=run_id,
        )


def checkpoint_of_stop(
    checkpoints: Sequence[Checkpoint], request: StopRequest, job: Job | None = None
) -> Checkpoint | None:
    """Return the checkpoint that a stop took; None without proof.

    It is the last checkpoint, it is finished, and its epoch is higher than any before the request. If the server
    sends types (0.16), its type is ``stopping``. Otherwise (0.15), it began after the request: by its epoch or, if
    that leaves it open, by the server's clock. If runs began since the request, each of them may have taken one of
    the checkpoints.

    :param checkpoints: the job's checkpoints after it stopped.
    :param request: the record of the stop request.
    :param job: the stopped job; default None, if no run began since.
    """
    last = _last(checkpoints)
    if last is None or not last.is_finished or last.epoch <= request.after_epoch:
        return None
    if last.checkpoint_type not in (None, CheckpointType.STOPPING):
        return None
    if last.checkpoint_type is None and not _began_after(last, request):
        return None
    runs = 0 if job is None or request.run_id is None else max(0, job.run_id - request.run_id)
    later = [one for one in checkpoints if one.epoch > request.after_epoch and one.is_finished]
    return last if sum(one.checkpoint_type == last.checkpoint_type for one in later) > runs else None


def checkpoint_of_stopped(checkpoints: Sequence[Checkpoint], job: Job) -> Checkpoint | None:
    """Return the final checkpoint of a job that was found stopped; None without proof.

    Only the first run can prove it, and only if the server sends types: by its last checkpoint, finished and of type
    ``stopping``. After a restart, that checkpoint may be the restart's, since nothing tells when the last run began.

    :param checkpoints: the job's checkpoints.
    :param job: the stopped job.
    """
    last = _last(checkpoints)
    if last is None or not last.is_finished or last.checkpoint_type != CheckpointType.STOPPING:
        return None
    is_first_run = job.run_id <= 1 and job.start_time_micros is not None
    return last if is_first_run and last.start_time_micros >= (job.start_time_micros or 0) else None


def highest_epoch(checkpoints: Iterable[Checkpoint]) -> int:
    """Return the highest epoch, finished or not; 0 if there is no checkpoint."""
    return max((checkpoint.epoch for checkpoint in checkpoints), default=0)


def _began_after(checkpoint: Checkpoint, request: StopRequest) -> bool:
    if request.accepted_epoch is not None and checkpoint.epoch > request.accepted_epoch:
        return True
    at = request.requested_at_micros
    return at is not None and checkpoint.start_time_micros >= at


def _last(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    return max(checkpoints, key=lambda checkpoint: checkpoint.epoch, default=None)
