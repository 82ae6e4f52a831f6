"""What the list shows of a pipeline beyond its state: rates, backpressure, checkpoints, errors. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from airflow_provider_arroyo.client.details import Checkpoint, JobError, MetricGroup, OperatorMetrics
from airflow_provider_arroyo.monitoring.metrics import backpressure
from airflow_provider_arroyo.plugin.facts import Facts

MAX_POINTS = 60
"""Points of a series: two minutes, as Arroyo measures every two seconds."""

_SLOT_SECONDS = 2
_MAX_TEXT = 1000


def rates(
    metrics: Iterable[OperatorMetrics], *, sources: Collection[int], sinks: Collection[int]
) -> dict[str, Any]:
    """Return rows per second in and out, now and as a series, and the highest backpressure.

    :param metrics: of every node of the graph.
    :param sources, sinks: which nodes the graph begins and ends with.
    :returns: ``in`` and ``out`` (rows per second, None where nothing was measured), ``series`` (of ``in``, where
        nothing was measured of ``out``; oldest first), ``at`` (of the last point, seconds since the epoch),
        ``backpressure`` (0 to 1; None where nothing was measured).
    """
    came: dict[int, float] = defaultdict(float)
    went: dict[int, float] = defaultdict(float)
    pressures: list[float] = []
    for node in metrics:
        if (pressure := backpressure(node)) is not None:
            pressures.append(pressure)
        for group in node.metric_groups:
            if group.name == "messages_sent" and node.node_id in sources:
                _add(came, group)
            elif group.name == "messages_recv" and node.node_id in sinks:
                _add(went, group)
    series = came or went
    slots = sorted(series)[-MAX_POINTS:]
    return {
        "in": _last(came),
        "out": _last(went),
        "series": [_rounded(series[slot]) for slot in slots],
        "at": float(slots[-1] * _SLOT_SECONDS) if slots else None,
        "backpressure": round(max(pressures), 3) if pressures else None,
    }


def _add(total: dict[int, float], group: MetricGroup) -> None:
    """Add up what a node's subtasks measured at about the same time."""
    for subtask in group.subtasks:
        for metric in subtask.metrics[-MAX_POINTS:]:
            total[int(metric.time_micros // (_SLOT_SECONDS * 1_000_000))] += metric.value


def _last(series: dict[int, float]) -> float | None:
    # In the newest slot some subtasks may not have measured yet.
    slots = sorted(series)
    return _rounded(series[slots[-2] if len(slots) > 1 else slots[-1]]) if slots else None


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def last_checkpoint(checkpoints: Sequence[Checkpoint]) -> dict[str, Any] | None:
    """Return the last finished checkpoint, and since when another one is under way; None where there is none.

    :param checkpoints: oldest first.
    """
    finished = next((one for one in reversed(checkpoints) if one.finish_time_micros is not None), None)
    last = checkpoints[-1] if checkpoints else None
    under_way = last.start_time_micros / 1e6 if last is not None and not last.is_finished else None
    if finished is None or finished.finish_time_micros is None:
        return {"epoch": None, "at": None, "seconds": None, "under_way_since": under_way} if last else None
    took = (finished.finish_time_micros - finished.start_time_micros) / 1e6
    return {
        "epoch": finished.epoch,
        "at": finished.finish_time_micros / 1e6,
        "seconds": round(max(0.0, took), 3),
        "under_way_since": under_way,
    }


def last_error(errors: Sequence[JobError], facts: Facts) -> dict[str, Any] | None:
    """Return the newest error of a job as it may be shown; None where there is none.

    :param errors: newest first.
    :param facts: of its pipeline.
    """
    if not errors:
        return None
    error = errors[0]
    return {
        "at": error.created_at_micros / 1e6,
        "operator": error.operator_id[:_MAX_TEXT],
        "message": facts.shown(error.message, _MAX_TEXT),
        "details": facts.shown(error.details, _MAX_TEXT),
        "domain": error.error_domain,
    }
