"""Details of a pipeline for the pages: rates, backpressure, checkpoints, errors. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_arroyo.client.details import Checkpoint, JobError
from airflow_provider_arroyo.plugin.facts import Facts, seconds
from airflow_provider_arroyo.plugin.series import Measured

MAX_POINTS = 60
"""Number of points in a series: two minutes, as Arroyo measures every two seconds."""

MAX_CHECKPOINTS = 60
MAX_ERRORS = 20
_MAX_TEXT = 1000
_MAX_DETAILS = 2000
_MAX_WORD = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """The checkpoints of a job.

    :param listed: how many there are.
    :param newest: the last of them, oldest first, without their events.
    :param last: the last finished one, as :func:`last_checkpoint` returns it.
    """

    listed: int
    newest: tuple[Checkpoint, ...]
    last: dict[str, Any] | None


def rates(measured: Measured) -> dict[str, Any]:
    """Return rows per second in and out, now and as a series, and the highest backpressure.

    :param measured: the metrics.
    :returns: ``in`` and ``out`` (rows per second, None if nothing was measured), ``series`` (of ``in``, or of ``out``
        if ``in`` was not measured; oldest first, without gaps), ``at`` (of the last point, seconds since the epoch),
        ``backpressure`` (0 to 1; None if nothing was measured).
    """
    has_in = any(value is not None for value in measured.rows_in)
    drawn = measured.rows_in if has_in else measured.rows_out
    points = [(at, value) for at, value in zip(measured.at, drawn, strict=True) if value is not None]
    pressures = [node["backpressure"] for node in measured.nodes if node["backpressure"] is not None]
    return {
        "in": _last(measured.rows_in),
        "out": _last(measured.rows_out),
        "series": [value for _, value in points[-MAX_POINTS:]],
        "at": points[-1][0] if points else None,
        "backpressure": max(pressures, default=None),
    }


def _last(series: Sequence[float | None]) -> float | None:
    # In the newest slot, only the backpressure may have been measured yet.
    return next((value for value in reversed(series[-2:]) if value is not None), None)


def last_checkpoint(checkpoints: Sequence[Checkpoint]) -> dict[str, Any] | None:
    """Return the last finished checkpoint, and since when another one is in progress; None if there is none.

    :param checkpoints: oldest first.
    """
    finished = next((one for one in reversed(checkpoints) if one.finish_time_micros is not None), None)
    last = checkpoints[-1] if checkpoints else None
    under_way = seconds(last.start_time_micros) if last is not None and not last.is_finished else None
    if finished is None or finished.finish_time_micros is None:
        return {"epoch": None, "at": None, "seconds": None, "under_way_since": under_way} if last else None
    took = seconds(finished.finish_time_micros) - seconds(finished.start_time_micros)
    return {
        "epoch": finished.epoch,
        "at": seconds(finished.finish_time_micros),
        "seconds": round(max(0.0, took), 3),
        "under_way_since": under_way,
    }


def kept_checkpoints(checkpoints: Sequence[Checkpoint]) -> Checkpoints:
    """Return the part of a job's checkpoints that is kept.

    :param checkpoints: oldest first.
    """
    newest = tuple(replace(one, events=(), backend="") for one in checkpoints[-MAX_CHECKPOINTS:])
    return Checkpoints(listed=len(checkpoints), newest=newest, last=last_checkpoint(checkpoints))


def checkpoint_to_json(checkpoint: Checkpoint, size_bytes: int | None) -> dict[str, Any]:
    """Return a checkpoint as the pages show it.

    :param checkpoint: the checkpoint.
    :param size_bytes: what all operators wrote to it; None if unknown.
    """
    finished = checkpoint.finish_time_micros
    return {
        "epoch": checkpoint.epoch,
        "type": checkpoint.checkpoint_type and checkpoint.checkpoint_type[:_MAX_WORD],
        "began": seconds(checkpoint.start_time_micros),
        "finished": None if finished is None else seconds(finished),
        "bytes": size_bytes,
    }


def shown_errors(errors: Sequence[JobError], facts: Facts) -> tuple[JobError, ...]:
    """Return the errors of a job without secrets.

    :param errors: newest first.
    :param facts: the pipeline's facts.
    """
    return tuple(
        replace(
            error,
            operator_id=error.operator_id[:_MAX_TEXT],
            error_domain=error.error_domain and error.error_domain[:_MAX_WORD],
            message=facts.shown(error.message, _MAX_TEXT),
            details=facts.shown(error.details, _MAX_DETAILS),
        )
        for error in errors[:MAX_ERRORS]
    )


def error_to_json(error: JobError) -> dict[str, Any]:
    """Return an error as the pages show it."""
    return {
        "at": seconds(error.created_at_micros),
        "operator": error.operator_id,
        "message": error.message,
        "details": error.details,
        "domain": error.error_domain,
        "task": error.task_index,
    }
