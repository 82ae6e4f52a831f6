"""Metrics for the tests: series as Arroyo reports them, and recorded ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from airflow_provider_arroyo.client.details import Metric, MetricGroup, OperatorMetrics, SubtaskMetrics
from airflow_provider_arroyo.client.models import Pipeline

RECORDED = Path(__file__).parent.parent / "data" / "arroyo"
VERSIONS = ("0.15.0", "0.16-dev")

S = 1_000_000
T0 = 1_795_574_000 * S
STEP = 2 * S


def series(*values: float | None, start: int = 0, step: int = STEP) -> tuple[Metric, ...]:
    """Return metrics, one value every two seconds; None leaves a value out.

    :param start: when the first value was measured, microseconds after T0.
    """
    return tuple(
        Metric(T0 + start + number * step, value) for number, value in enumerate(values) if value is not None
    )


def operator(
    node_id: int, *subtasks: Sequence[Metric], metric: str = "messages_sent", more: Sequence[MetricGroup] = ()
) -> OperatorMetrics:
    """Return the metrics of an operator's subtasks."""
    found = tuple(SubtaskMetrics(index, tuple(values)) for index, values in enumerate(subtasks))
    return OperatorMetrics(node_id, (MetricGroup(metric, found), *more))


@cache
def recorded(version: str) -> tuple[Pipeline, tuple[OperatorMetrics, ...], tuple[OperatorMetrics, ...]]:
    """Return a recorded pipeline, its metrics while it ran, and those after it had stopped."""
    steps = json.loads((RECORDED / version / "metrics.json").read_text())
    bodies = {step["note"]: step["response"]["body"] for step in steps}
    running, stopped = (
        tuple(map(OperatorMetrics.from_api, bodies[note]["data"]))
        for note in ("metrics after 25 s at 1000 rows a second", "metrics after it stopped")
    )
    return Pipeline.from_api(bodies["the pipeline"]), running, stopped
