"""The metrics of a job as series for charts: sums over subtasks that measure at different times, gaps, bad values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from airflow_provider_arroyo.client.details import Metric, MetricGroup, OperatorMetrics, SubtaskMetrics
from airflow_provider_arroyo.plugin import metrics as plugin_metrics
from airflow_provider_arroyo.plugin.metrics import Measured, measured
from tests.monitoring.metrics import VERSIONS, recorded

NOW = 1_000_000.0
START = 999_000
"""When the first slot begins, seconds since the epoch."""

Values = Sequence[Mapping[float, float]]


def node(number: int, **groups: Values) -> OperatorMetrics:
    """Return the metrics of a node: for each metric the values of each subtask, by seconds since the start."""
    return OperatorMetrics(
        number,
        tuple(
            MetricGroup(
                name,
                tuple(
                    SubtaskMetrics(
                        index,
                        tuple(Metric(round((START + at) * 1e6), value) for at, value in values.items()),
                    )
                    for index, values in enumerate(subtasks)
                ),
            )
            for name, subtasks in groups.items()
        ),
    )


def found(*nodes: OperatorMetrics) -> Measured:
    return measured(nodes, sources=frozenset({0}), sinks=frozenset({2}), now=NOW)


def test_rates_are_those_of_the_sources_and_of_the_sinks_summed_over_subtasks() -> None:
    result = found(
        node(0, messages_sent=[{0: 10, 2: 20, 4: 30}, {0: 1, 2: 2, 4: 3}]),
        node(
            1,
            messages_sent=[{0: 500, 2: 500, 4: 500}],
            messages_recv=[{0: 400, 2: 400, 4: 400}],
            backpressure=[{2: 0.5, 4: 0.9}],
        ),
        node(2, messages_recv=[{0: 5, 2: 6, 4: 7}], backpressure=[{2: 0.1, 4: 0.2}]),
    )
    assert result.to_json() == {
        "at": (START, START + 2.0, START + 4.0),
        "in": (11.0, 22.0, 33.0),
        "out": (5.0, 6.0, 7.0),
        "backpressure": (None, 0.5, 0.9),
    }
    assert result.nodes == (
        {"id": 0, "in": None, "out": 33.0, "backpressure": None},
        {"id": 1, "in": 400.0, "out": 500.0, "backpressure": 0.9},
        {"id": 2, "in": 7.0, "out": None, "backpressure": 0.2},
    )
    assert [one.metric_groups[0].subtasks[0].metrics for one in result.pressures] == [
        (),
        (Metric(0, 0.9),),
        (Metric(0, 0.2),),
    ]


def test_all_series_share_their_times_and_a_gap_is_none() -> None:
    result = found(
        node(0, messages_sent=[{0: 10, 2.1: 11, 12: 12}]), node(2, messages_recv=[{0.2: 1, 2.3: 2, 12.2: 3}])
    )
    assert [round(at - START, 3) for at in result.at] == [0, 2.1, 7.05, 12]
    assert list(result.rows_in) == [10, 11, None, 12]
    assert list(result.rows_out) == [1, 2, None, 3]


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        [node(0)],
        [node(0, messages_sent=[{}], backpressure=[{}])],
        [node(0, messages_sent=[{0: math.nan, 2: math.inf, 4: -math.inf}])],
        [node(0, tx_queue_size=[{0: 1}])],
        # Long before the epoch, and far in the future.
        [node(0, messages_sent=[{-START: 1, 10**15: 1, -(10**12): 1}])],
    ],
)
def test_without_measurements_there_is_no_series(metrics: list[OperatorMetrics]) -> None:
    result = found(*metrics)
    assert result.to_json() is None
    assert all(one["in"] is one["out"] is one["backpressure"] is None for one in result.nodes)


def test_sums_that_overflow_are_none() -> None:
    result = found(node(0, messages_sent=[{0: 1e308}, {0: 1e308}], backpressure=[{0: 1e308}, {0: -5}]))
    assert result.rows_in == (None,)
    assert result.backpressure == (1.0,)
    json.dumps(result.to_json(), allow_nan=False)


def test_old_values_are_not_shown_as_current() -> None:
    result = found(
        node(0, messages_sent=[{-1000: 1, 0: 2}]),
        node(1, messages_sent=[{-20: 5}]),
        node(2, messages_recv=[{-6: 4}]),
    )
    assert len(result.at) < 10
    assert [(one["id"], one["in"], one["out"]) for one in result.nodes] == [
        (0, None, 2),
        (1, None, None),
        (2, 4, None),
    ]


def test_the_number_of_nodes_and_points_is_limited() -> None:
    nodes = [node(number, messages_sent=[{0: 1}]) for number in range(3000)]
    # Each of thousands of subtasks is measured at different times.
    drifting = [{2 * at - number / 2000: 1.0 for at in range(-9, 1)} for number in range(2000)]
    result = found(node(0, messages_sent=drifting, backpressure=drifting), *nodes)
    assert len(result.nodes) == plugin_metrics.MAX_NODES
    assert len(result.at) <= 100


def test_a_duplicate_node_counts_once() -> None:
    result = found(*[node(0, messages_sent=[{0: 1}])] * 2)
    assert (result.rows_in, len(result.nodes)) == ((1.0,), 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_metrics_have_no_gaps(version: str) -> None:
    pipeline, running, _ = recorded(version)
    result = measured(running, sources=pipeline.graph.sources, sinks=pipeline.graph.sinks, now=1_795_574_400)
    assert {one["id"] for one in result.nodes} == {one.node_id for one in pipeline.graph.nodes}
    # The backpressure is measured first, and the rates two seconds later.
    assert len(result.at) == 11
    assert result.rows_in[-1] == pytest.approx(1000, rel=0.01)
    assert None not in result.rows_in[1:]
    assert None not in result.rows_out[1:]
    assert None not in result.backpressure


def test_the_list_shows_the_current_rates_and_a_short_series() -> None:
    many = Measured(
        nodes=(
            {"id": 0, "in": None, "out": 30.0, "backpressure": 0.1},
            {"id": 1, "in": 7.0, "out": None, "backpressure": 0.9},
        ),
        at=(100.0, 102.0, 104.0, 106.0),
        rows_in=(10.0, None, 30.0, None),
        rows_out=(5.0, 6.0, 7.0, None),
    )
    assert many.latest() == {
        "in": 30.0,
        "out": 7.0,
        "series": [10.0, 30.0],
        "backpressure": 0.9,
    }
    without_sources = replace(many, rows_in=(None,) * 4).latest()
    assert (without_sources["in"], without_sources["series"]) == (None, [5.0, 6.0, 7.0])


def test_missing_measurements_are_none_and_not_zero() -> None:
    assert Measured().latest() == {
        "in": None,
        "out": None,
        "series": [],
        "backpressure": None,
    }


def test_the_length_of_a_series_is_limited() -> None:
    many = tuple(map(float, range(1000)))
    found = Measured(at=many, rows_in=many, rows_out=many).latest()
    assert len(found["series"]) == plugin_metrics.MAX_POINTS
    assert found["series"][-1] == 999.0
