"""A pipeline's metrics as the pages show them: rows per second and backpressure. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_arroyo.client.details import Metric, MetricGroup, OperatorMetrics, SubtaskMetrics
from airflow_provider_arroyo.monitoring.metrics import (
    HOLE_SECONDS,
    Aggregation,
    MetricName,
    Round,
    UnknownNameError,
    backpressure,
    rounds,
)

MAX_POINTS = 60
"""Number of points of a sparkline: two minutes, as Arroyo measures every two seconds."""

MAX_NODES = 1000
MAX_SUBTASKS = 10_000
"""How many subtasks are read, over all nodes. Further nodes count as not measured."""

_READ_SECONDS = 330
"""How many seconds before the newest value are read. Arroyo keeps slightly less."""

_POINT_SECONDS = 1.0
"""Values that are closer than this, in seconds, form one point."""

_GAP_SECONDS = 5.0
"""A longer time between two points, in seconds, is drawn as a gap."""

_DAY_SECONDS = 86_400
_DRAWN = frozenset({MetricName.MESSAGES_RECV, MetricName.MESSAGES_SENT, MetricName.BACKPRESSURE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The metrics of one response.

    :param nodes: the last ``in`` and ``out`` (rows per second) and ``backpressure`` (0 to 1) of each node; None if it
        was not measured.
    :param at: the times of the points, seconds since the epoch, oldest first, one about every two seconds.
    :param rows_in, rows_out: rows per second that the sources read and the sinks got; None for a gap.
    :param backpressure: the highest of all nodes; None for a gap.
    :param pressures: the last measured backpressure of each node, for a diagnosis.
    """

    nodes: tuple[dict[str, Any], ...] = ()
    at: tuple[float, ...] = ()
    rows_in: tuple[float | None, ...] = ()
    rows_out: tuple[float | None, ...] = ()
    backpressure: tuple[float | None, ...] = ()
    pressures: tuple[OperatorMetrics, ...] = ()

    def latest(self) -> dict[str, Any]:
        """Return what the list shows: rows per second in and out, and the highest backpressure.

        :returns: ``in`` and ``out`` (rows per second, None if nothing was measured), ``series`` (of ``in``, or of
            ``out`` if ``in`` was not measured; oldest first, without gaps), ``backpressure`` (0 to 1; None if nothing
            was measured).
        """
        has_in = any(value is not None for value in self.rows_in)
        drawn = [value for value in (self.rows_in if has_in else self.rows_out) if value is not None]
        pressures = [node["backpressure"] for node in self.nodes if node["backpressure"] is not None]
        return {
            "in": _newest(self.rows_in),
            "out": _newest(self.rows_out),
            "series": drawn[-MAX_POINTS:],
            "backpressure": max(pressures, default=None),
        }

    def to_json(self) -> dict[str, Any] | None:
        """Return the series; None if nothing was measured."""
        if not self.at:
            return None
        return {
            "at": self.at,
            "in": self.rows_in,
            "out": self.rows_out,
            "backpressure": self.backpressure,
        }


def _newest(series: Sequence[float | None]) -> float | None:
    # In the newest point, only the backpressure may have been measured yet.
    return next((value for value in reversed(series[-2:]) if value is not None), None)


def measured(
    metrics: Iterable[OperatorMetrics], *, sources: frozenset[int], sinks: frozenset[int], now: float
) -> Measured:
    """Return the metrics of a job as series.

    :param metrics: of every node of the graph, in any order; may contain gaps and invalid values.
    :param sources, sinks: the first and last nodes of the graph.
    :param now: seconds since the epoch; values with a time more than a day later are ignored.
    """
    found = _bounded(metrics, now)
    with_pressure = frozenset(
        node.node_id
        for node in found
        if any(one.name == MetricName.BACKPRESSURE for one in node.metric_groups)
    )
    series = (
        _rounds(found, sources, MetricName.MESSAGES_SENT),
        _rounds(found, sinks, MetricName.MESSAGES_RECV),
        _rounds(found, with_pressure, MetricName.BACKPRESSURE, Aggregation.WORST),
    )
    newest = max((one.at_micros for rounds_ in series for one in rounds_), default=0)
    nodes = []
    for node in found:
        itself = frozenset({node.node_id})
        pressure = backpressure(node)
        nodes.append(
            {
                "id": node.node_id,
                "in": _last(_rounds([node], itself, MetricName.MESSAGES_RECV), newest),
                "out": _last(_rounds([node], itself, MetricName.MESSAGES_SENT), newest),
                "backpressure": None if pressure is None else round(pressure, 3),
            }
        )
    at, (rows_in, rows_out, pressures) = _aligned(series)
    return Measured(
        nodes=tuple(nodes),
        at=at,
        rows_in=tuple(map(_rounded, rows_in)),
        rows_out=tuple(map(_rounded, rows_out)),
        backpressure=tuple(None if one is None else round(min(1.0, max(0.0, one)), 3) for one in pressures),
        pressures=tuple(_pressure(node.node_id, backpressure(node)) for node in found),
    )


def _bounded(metrics: Iterable[OperatorMetrics], now: float) -> list[OperatorMetrics]:
    """Return each node once, with the values to draw: limited in number, valid and recent."""
    nodes: dict[int, OperatorMetrics] = {}
    left = MAX_SUBTASKS * len(_DRAWN)
    until = (now + _DAY_SECONDS) * 1e6
    for node in metrics:
        if node.node_id in nodes or len(nodes) >= MAX_NODES:
            continue
        groups = []
        for group in node.metric_groups:
            if group.name in _DRAWN and len(group.subtasks) <= left:
                left -= len(group.subtasks)
                groups.append(replace(group, subtasks=tuple(_until(one, until) for one in group.subtasks)))
        nodes[node.node_id] = replace(node, metric_groups=tuple(groups))
    times = (
        subtask.metrics[-1].time_micros
        for node in nodes.values()
        for group in node.metric_groups
        for subtask in group.subtasks
        if subtask.metrics
    )
    since = max(times, default=0) - _READ_SECONDS * 1_000_000
    return [
        replace(
            node,
            metric_groups=tuple(
                replace(group, subtasks=tuple(_since(one, since) for one in group.subtasks))
                for group in node.metric_groups
            ),
        )
        for node in nodes.values()
    ]


def _until(subtask: SubtaskMetrics, until: float) -> SubtaskMetrics:
    values = [one for one in subtask.metrics if 0 < one.time_micros < until and math.isfinite(one.value)]
    return replace(subtask, metrics=tuple(sorted(values, key=lambda one: one.time_micros)))


def _since(subtask: SubtaskMetrics, since: int) -> SubtaskMetrics:
    return replace(subtask, metrics=tuple(one for one in subtask.metrics if one.time_micros > since))


def _rounds(
    metrics: list[OperatorMetrics],
    operators: frozenset[int],
    metric: MetricName,
    aggregation: Aggregation = Aggregation.SUM,
) -> tuple[Round, ...]:
    try:
        return rounds(metrics, operators, metric=metric, aggregation=aggregation)
    except UnknownNameError:
        return ()


def _aligned(
    series: tuple[tuple[Round, ...], ...],
) -> tuple[tuple[float, ...], list[list[float | None]]]:
    """Return the times of all series together, and their values at those times; None for a gap."""
    points = [
        (one.at_micros / 1e6, number, one.value) for number, rounds_ in enumerate(series) for one in rounds_
    ]
    points.sort(key=lambda point: point[:2])
    at: list[float] = []
    values: list[list[float | None]] = [[] for _ in series]

    def begin(moment: float) -> None:
        at.append(round(moment, 3))
        for column in values:
            column.append(None)

    for moment, number, value in points:
        if at and moment - at[-1] > _GAP_SECONDS:
            begin((moment + at[-1]) / 2)
        if not at or moment - at[-1] >= _POINT_SECONDS:
            begin(moment)
        values[number][-1] = value
    return tuple(at), values


def _last(found: tuple[Round, ...], newest: int) -> float | None:
    """Return the last value; None if it was measured long before the newest of all."""
    if not found or newest - found[-1].at_micros > HOLE_SECONDS * 1e6:
        return None
    return _rounded(found[-1].value)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _pressure(node_id: int, value: float | None) -> OperatorMetrics:
    values = () if value is None else (Metric(0, value),)
    return OperatorMetrics(node_id, (MetricGroup(MetricName.BACKPRESSURE, (SubtaskMetrics(0, values),)),))
