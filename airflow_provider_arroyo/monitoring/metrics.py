"""Reads Arroyo's metrics: of which operators, at which times, and summed or the worst of their subtasks.

According to Arroyo's source (``job_metrics.rs``, the same in 0.15 and 0.16), and confirmed by recordings:

- Arroyo measures about every 2 seconds, all subtasks in one round, and keeps the last 150 values of each: 5 minutes.
  If a worker does not respond, the round is skipped for all. A new run begins without values; after a stop, the last
  values remain.
- Rates are per second and smoothed: a new value is 0.9 of the last one plus 0.1 of the measured one. After a source
  falls silent, its rate takes 44 seconds to drop to a hundredth, and never reaches 0.
- Backpressure is the used share of an operator's output queue when it last sent something.
  The backpressure of an operator, as in Arroyo's console, is that of its worst subtask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_arroyo.text import shorten

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.details import OperatorMetrics
    from airflow_provider_arroyo.client.models import PipelineGraph, PipelineNode

MEASURED_EVERY_SECONDS = 2.0
"""Minimum time between two measurements of Arroyo, in seconds."""

KEPT_SECONDS = 240.0
"""How far back the values reach at least, in seconds: Arroyo keeps 150, slightly more than 2 seconds apart."""

HOLE_SECONDS = 10.0
"""A longer time without values, in seconds, is a gap; Arroyo skipped several rounds."""

HOLE_MICROS = int(HOLE_SECONDS * 1e6)
_ROUND_MICROS = 1_000_000
"""Values whose times are closer than this are from the same round."""
_SMOOTHING = 0.1
_ROUNDING = 1e-9
"""As a share of a value: what remains of a rate of 0 after the smoothing is undone."""
_SHOWN_OPERATORS = 30
_LAST_MICROS = 2**53
"""The latest valid time, in the year 2255."""


class MetricName(StrEnum):
    """The metrics that Arroyo reports."""

    MESSAGES_RECV = "messages_recv"
    MESSAGES_SENT = "messages_sent"
    BYTES_RECV = "bytes_recv"
    BYTES_SENT = "bytes_sent"
    BACKPRESSURE = "backpressure"


class Measure(StrEnum):
    """Which value of a metric is used: the reported value, or the unsmoothed rate between two values."""

    VALUE = "value"
    RATE = "rate"


class Aggregation(StrEnum):
    """How the subtasks of the operators are combined into one number."""

    SUM = "sum"
    WORST = "worst"


class Operators(StrEnum):
    """A selection of operators, other than a single one."""

    SOURCES = "sources"
    SINKS = "sinks"
    ALL = "all"


class UnknownNameError(ValueError):
    """A pipeline has no such operator, or an operator no such metric; the message lists those that exist."""


class Round(NamedTuple):
    """One number for all subtasks.

    :param at_micros: when Arroyo measured it, by its own clock.
    :param value: None if a subtask was not measured.
    """

    at_micros: int
    value: float | None


def find_operators(operator: str, graph: PipelineGraph) -> frozenset[int]:
    """Return the ids of the selected nodes.

    :param operator: one of :class:`Operators`, or a single operator: the id of its node, its description, or its
        type.
    :param graph: the pipeline's graph.
    :raises UnknownNameError: if none or several match; lists those that exist.
    """
    nodes = {node.node_id: node for node in graph.nodes}
    several = {"sources": graph.sources, "sinks": graph.sinks, "all": frozenset(nodes)}
    if (found := several.get(operator)) is None:
        found = frozenset(one for one in nodes if str(one) == operator) or frozenset(
            one for one, node in nodes.items() if operator in (node.description, node.operator)
        )
        if len(found) > 1:
            names = _listed(nodes[one] for one in sorted(found))
            raise UnknownNameError(f"operator: several are named {operator!r}; use the id of one: {names}")
    if not found:
        names = _listed(nodes[one] for one in sorted(nodes)) or "none"
        wanted = ", ".join(map(repr, map(str, Operators)))
        raise UnknownNameError(
            f"operator: the pipeline has no {shorten(operator, 80)!r}. It has {names}; or use {wanted}"
        )
    return found


def _listed(nodes: Iterable[PipelineNode]) -> str:
    names = [f"{node.node_id} ({shorten(node.label, 80)})" for node in nodes]
    more = len(names) - _SHOWN_OPERATORS
    return ", ".join(names[:_SHOWN_OPERATORS]) + (f" and {more} more" if more > 0 else "")


def rounds(
    metrics: Iterable[OperatorMetrics],
    operators: frozenset[int],
    *,
    metric: str,
    measure: str = Measure.VALUE,
    aggregation: str = Aggregation.SUM,
) -> tuple[Round, ...]:
    """Return the rounds of a metric, oldest first, each combined into one number.

    If a subtask was not measured for :data:`HOLE_SECONDS`, the number is None: a sum without it would be too low, and
    it might be the worst.

    :param metrics: the metrics of all operators, in any order.
    :param operators: ids of the selected nodes.
    :param metric: a :class:`MetricName`.
    :param measure: a :class:`Measure`.
    :param aggregation: an :class:`Aggregation`. The worst is the highest backpressure, or the lowest rate.
    :raises UnknownNameError: if one of the operators has metrics, but not this one; lists those that it has.
    """
    meant = [node for node in metrics if node.node_id in operators]
    for node in meant:
        names = {group.name for group in node.metric_groups}
        if names and metric not in names:
            listed = ", ".join(sorted(shorten(name, 80) for name in names))
            raise UnknownNameError(f"metric: operator {node.node_id} has no {str(metric)!r}. It has {listed}")
    series = _series(meant, metric)
    if measure == Measure.RATE:
        series = {subtask: _unsmoothed(values) for subtask, values in series.items()}
    if {node for node, _ in series} != operators:
        return ()
    worst = max if metric == MetricName.BACKPRESSURE else min
    combine = sum if aggregation == Aggregation.SUM else worst
    measured = sorted(
        (at, subtask, value) for subtask, values in series.items() for at, value in values.items()
    )
    latest: dict[_Subtask, tuple[int, float]] = {}
    found: list[Round] = []
    began: float = measured[0][0] if measured else 0
    following = [*(one[0] for one in measured[1:]), math.inf]
    for (at, subtask, value), next_at in zip(measured, following, strict=False):
        latest[subtask] = at, value
        if next_at - began > _ROUND_MICROS:
            fresh = [one for since, one in latest.values() if at - since <= HOLE_MICROS]
            total = combine(fresh) if len(fresh) == len(series) else math.inf
            found.append(Round(at, total if math.isfinite(total) else None))
            began = next_at
    return tuple(found)


def backpressure(metrics: OperatorMetrics) -> float | None:
    """Return an operator's current backpressure, as Arroyo's console shows it: the highest of its subtasks.

    :param metrics: the operator's metrics.
    :returns: 0 to 1; None if nothing was measured.
    """
    series = _series([metrics], MetricName.BACKPRESSURE)
    latest = [values[max(values)] for values in series.values() if values]
    return min(1.0, max(0.0, *latest)) if latest else None


_Subtask = tuple[int, int]
"""A node's id and the index of one of its subtasks."""


def _series(metrics: Iterable[OperatorMetrics], metric: str) -> dict[_Subtask, dict[int, float]]:
    """Return the values of each subtask by time; a subtask without this metric has no values."""
    found: dict[_Subtask, dict[int, float]] = {}
    for node in metrics:
        for group in node.metric_groups:
            for subtask in group.subtasks:
                values = found.setdefault((node.node_id, subtask.index), {})
                for one in subtask.metrics if group.name == metric else ():
                    if math.isfinite(one.value) and 0 <= one.time_micros <= _LAST_MICROS:
                        values[one.time_micros] = one.value
    return found


def _unsmoothed(values: Mapping[int, float]) -> dict[int, float]:
    """Return the unsmoothed values by time, except the first, whose smoothing cannot be undone."""
    times = sorted(values)
    found = {}
    for before, at in pairwise(times):
        rate = (values[at] - (1 - _SMOOTHING) * values[before]) / _SMOOTHING
        found[at] = rate if rate > _ROUNDING * values[before] else 0.0
    return found
