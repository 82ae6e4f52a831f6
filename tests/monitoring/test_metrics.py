"""How Arroyo's metrics become one number for each round: which operators, subtasks, times."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.details import Metric, MetricGroup, OperatorMetrics, SubtaskMetrics
from airflow_provider_arroyo.client.models import PipelineEdge, PipelineGraph, PipelineNode
from airflow_provider_arroyo.monitoring.metrics import (
    MetricName,
    UnknownNameError,
    backpressure,
    find_operators,
    rounds,
)

from .metrics import T0, VERSIONS, S, operator, recorded, series

GRAPH = PipelineGraph(
    nodes=(
        PipelineNode(0, "kafka", "KafkaSource<orders>"),
        PipelineNode(1, "kafka", "KafkaSource<users>"),
        PipelineNode(4, "chained_op", "join -> sink projection"),
        PipelineNode(6, "filesystem", "FileSystem<out>"),
        PipelineNode(7, "chained_op", "12"),
        PipelineNode(12, "blackhole", "Blackhole"),
    ),
    edges=(
        PipelineEdge(0, 4),
        PipelineEdge(1, 4),
        PipelineEdge(4, 6),
        PipelineEdge(4, 7),
        PipelineEdge(7, 12),
    ),
)


@pytest.mark.parametrize(
    "name, found",
    [
        ("sources", {0, 1}),
        ("sinks", {6, 12}),
        ("all", {0, 1, 4, 6, 7, 12}),
        ("4", {4}),
        ("KafkaSource<users>", {1}),
        ("filesystem", {6}),
        # An id takes precedence over a description.
        ("12", {12}),
    ],
)
def test_operators_by_role_id_description_or_type(name: str, found: set[int]) -> None:
    assert find_operators(name, GRAPH) == found


@pytest.mark.parametrize(
    "name, graph, message",
    [
        (
            "KafkaSource<clicks>",
            GRAPH,
            ("no 'KafkaSource<clicks>'", "0 (KafkaSource<orders>)", "6 (FileSystem<out>)"),
        ),
        ("04", GRAPH, ("no '04'", "4 (join -> sink projection)", "'sources', 'sinks', 'all'")),
        ("", GRAPH, ("no ''",)),
        ("chained_op", GRAPH, ("several are named 'chained_op'", "4 (join", "7 (12)")),
        ("sources", PipelineGraph(), ("no 'sources'", "It has none")),
        # A cycle has neither a start nor an end.
        (
            "sinks",
            replace(GRAPH, edges=tuple(PipelineEdge(n.node_id, 0) for n in GRAPH.nodes)),
            ("0 (Kafka",),
        ),
        ("x", PipelineGraph(nodes=tuple(PipelineNode(n, "op") for n in range(40))), ("29 (op) and 10 more",)),
    ],
)
def test_an_unknown_operator_lists_the_known(name: str, graph: PipelineGraph, message: Sequence[str]) -> None:
    with pytest.raises(UnknownNameError, match=r"^operator: ") as caught:
        find_operators(name, graph)
    for piece in message:
        assert piece in str(caught.value)


def test_an_unknown_metric_lists_those_that_exist() -> None:
    metrics = [operator(3, (), metric="queue"), operator(1, series(1.0), metric="lag")]
    with pytest.raises(UnknownNameError, match=r"^metric: operator 3 has no 'messages_sent'. It has queue$"):
        rounds(metrics, frozenset({3}), metric=MetricName.MESSAGES_SENT)
    # Operators that are not listed yet, or not measured, cannot be checked.
    for later in ([], [OperatorMetrics(3)], [operator(3)]):
        assert rounds(later, frozenset({3}), metric="messages_sent") == ()


def values(metrics: Sequence[OperatorMetrics], nodes: set[int], **more: str) -> list[float | None]:
    given = {"metric": "messages_sent", **more}
    return [one.value for one in rounds(metrics, frozenset(nodes), **given)]


SHIFTED = series(5, 6, 7, start=300)
"""Measured in the same rounds, a moment later."""


@pytest.mark.parametrize(
    "metrics, nodes, expected",
    [
        pytest.param([operator(1, series(1, 2, 3))], {1}, [1, 2, 3], id="one subtask"),
        pytest.param([operator(1, series(1, 2, 3), SHIFTED)], {1}, [6, 8, 10], id="subtasks are summed"),
        pytest.param(
            [operator(1, series(1, 2, 3)), operator(2, SHIFTED)], {1, 2}, [6, 8, 10], id="operators, too"
        ),
        pytest.param(
            [operator(1, series(1, 2, 3)), operator(2, SHIFTED)], {2}, [5, 6, 7], id="others are not"
        ),
        pytest.param([operator(1, series(1, 2, 3), SHIFTED[1:])], {1}, [None, 8, 10], id="one came later"),
        pytest.param([operator(1, series(1, 2, 3), SHIFTED[:2])], {1}, [6, 8, 9], id="one was left out"),
        pytest.param(
            [operator(1, series(*range(9)), series(5))],
            {1},
            [5, 6, 7, 8, 9, 10, None, None, None],
            id="one is not measured any more",
        ),
        pytest.param([operator(1, series(1, None, None, 4))], {1}, [1, 4], id="rounds that were left out"),
        pytest.param([operator(1, series(1, 2), ())], {1}, [None, None], id="one that was never measured"),
        pytest.param([operator(1, series(1, 2))], {1, 2}, [], id="an operator without metrics"),
        pytest.param([operator(1, series(1, 2)), operator(1, series(1, 2))], {1}, [1, 2], id="listed twice"),
        pytest.param([operator(1, series(1, 2) + series(1, 2))], {1}, [1, 2], id="values twice"),
        pytest.param([operator(1, series(3, 1, 2)[::-1])], {1}, [3, 1, 2], id="newest first"),
        pytest.param([operator(1, series(1, float("nan"), float("inf"), 2))], {1}, [1, 2], id="no numbers"),
        pytest.param(
            [operator(1, series(1e308), series(1e308))], {1}, [None], id="more than a number can be"
        ),
        pytest.param([operator(1, (Metric(-5, 1.0), Metric(2**70, 1.0)))], {1}, [], id="times that are none"),
        pytest.param([operator(1, ())], {1}, [], id="not measured yet"),
        pytest.param([], {1}, [], id="nothing"),
        pytest.param([OperatorMetrics(1)], {1}, [], id="no metrics"),
    ],
)
def test_values_are_combined_by_round(
    metrics: Sequence[OperatorMetrics], nodes: set[int], expected: list[float | None]
) -> None:
    assert values(metrics, nodes) == expected


def test_a_subtask_with_other_metrics_only_leaves_the_number_open() -> None:
    pressures = MetricGroup("backpressure", (SubtaskMetrics(0, series(0.5)), SubtaskMetrics(1, series(0.7))))
    assert values([operator(1, series(1, 2), more=[pressures])], {1}) == [None, None]


@pytest.mark.parametrize(
    "metric, expected", [("messages_sent", [1, 2]), ("bytes_recv", [1, 2]), ("backpressure", [5, 6])]
)
def test_the_worst_value_is_the_lowest_rate_or_highest_backpressure(
    metric: str, expected: list[float]
) -> None:
    metrics = [operator(1, series(1, 6), series(5, 2), metric=metric)]
    assert values(metrics, {1}, metric=metric, aggregation="worst") == expected


def test_a_round_lasts_less_than_the_pause_between_two() -> None:
    late = [operator(1, series(1, 2), series(1, 2, start=900_000))]
    assert [one.at_micros - T0 for one in rounds(late, frozenset({1}), metric="messages_sent")] == [
        900_000,
        2_900_000,
    ]
    apart = [operator(1, series(1, 2), series(10, 20, start=S + 1))]
    assert values(apart, {1}) == [None, 12, 22]


# -- the smoothing --------------------------------------------------------------------------------------------


def smoothed(measured: Sequence[float]) -> list[float]:
    found: list[float] = []
    for rate in measured:
        found.append(0.9 * found[-1] + 0.1 * rate if found else rate)
    return found


@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e9)), min_size=1, max_size=150))
@settings(max_examples=30, deadline=None)
def test_the_rate_is_what_was_measured_before_it_was_smoothed(measured: list[float]) -> None:
    found = values([operator(1, series(*smoothed(measured)))], {1}, measure="rate")
    for rate, expected in zip(found, measured[1:], strict=True):
        assert rate == pytest.approx(expected, rel=1e-6, abs=1e-5 * max(measured))


def test_a_source_that_falls_silent_has_a_rate_of_zero_at_once() -> None:
    metrics = [operator(1, series(*smoothed([1000.0] * 5 + [0.0] * 60)))]
    assert values(metrics, {1}, measure="rate") == pytest.approx([1000] * 4 + [0] * 60, abs=0)
    assert values(metrics, {1})[-1] == pytest.approx(1.797, abs=0.001)
    # Also if a gateway has rounded the numbers.
    rounded = [float(f"{value:.12g}") for value in smoothed([1000.0] * 5 + [0.0] * 60)]
    assert values([operator(1, series(*rounded))], {1}, measure="rate")[4:] == [0.0] * 60


@pytest.mark.parametrize("version", VERSIONS)
def test_the_recorded_rates_are_whole_numbers_of_rows(version: str) -> None:
    for node_id, metric in ((0, "messages_sent"), (4, "messages_recv"), (6, "messages_recv")):
        _, running, stopped = recorded(version)
        for metrics in (running, stopped):
            reported = rounds(metrics, frozenset({node_id}), metric=metric)
            measured = rounds(metrics, frozenset({node_id}), metric=metric, measure="rate")
            assert [one.at_micros for one in measured] == [one.at_micros for one in reported[1:]]
            for before, one in zip(reported, measured, strict=False):
                rows = (one.value or 0.0) * (one.at_micros - before.at_micros) / 1e6
                assert rows == pytest.approx(round(rows), abs=0.01)


# -- recorded, and hostile --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_rounds_of_recorded_metrics(version: str) -> None:
    pipeline, running, stopped = recorded(version)

    def last(name: str, metrics: Sequence[OperatorMetrics], **more: str) -> float | None:
        return rounds(metrics, find_operators(name, pipeline.graph), **{"metric": "messages_sent", **more})[
            -1
        ].value

    assert last("sources", running) == pytest.approx(1000, rel=0.01)
    assert last("sinks", running, metric="messages_recv") == pytest.approx(0.5, rel=0.02)
    assert last("sliding window -> sink projection", running, metric="bytes_sent") == pytest.approx(
        133, rel=0.01
    )
    assert last("all", running, metric="backpressure", aggregation="worst") == pytest.approx(0.0122, rel=0.01)
    # The last values remain after the stop.
    assert last("sources", stopped) == pytest.approx(1000, rel=0.01)


def test_the_order_of_the_lists_does_not_matter() -> None:
    _, metrics, _ = recorded("0.16-dev")
    expected = rounds(metrics, frozenset({0, 1, 4, 6}), metric="backpressure", aggregation="worst")
    rng = random.Random(7)
    for _ in range(5):
        shuffled = [
            replace(node, metric_groups=tuple(rng.sample(node.metric_groups, len(node.metric_groups))))
            for node in rng.sample(metrics, len(metrics))
        ]
        assert (
            rounds(shuffled, frozenset({0, 1, 4, 6}), metric="backpressure", aggregation="worst") == expected
        )


@pytest.mark.parametrize(
    "node, expected",
    [
        (operator(1, series(0.1, 0.9), series(0.2, 0.3), metric="backpressure"), 0.9),
        # The latest value of each subtask, in any order.
        (operator(1, series(0.9, 0.1), series(0.2, 0.3)[::-1], metric="backpressure"), 0.3),
        (operator(1, (), series(0.2), metric="backpressure"), 0.2),
        (operator(1, series(7.0), metric="backpressure"), 1.0),
        (operator(1, series(-7.0), metric="backpressure"), 0.0),
        (operator(1, (), metric="backpressure"), None),
        (operator(1, series(5.0)), None),
        (OperatorMetrics(1), None),
    ],
)
def test_the_backpressure_of_an_operator(node: OperatorMetrics, expected: float | None) -> None:
    assert backpressure(node) == expected


MEASURED = st.builds(Metric, st.integers(T0, T0 + 60 * S), st.floats(allow_nan=True))
SUBTASKS = st.builds(
    SubtaskMetrics, st.integers(0, 3), st.lists(MEASURED, max_size=6).map(lambda found: tuple(found))
)
GROUPS = st.builds(
    MetricGroup, st.just("messages_sent"), st.lists(SUBTASKS, max_size=4).map(lambda s: tuple(s))
)
NODES = st.builds(OperatorMetrics, st.integers(0, 3), st.lists(GROUPS, max_size=2).map(lambda g: tuple(g)))


@given(st.lists(NODES, max_size=5), st.sampled_from(["value", "rate"]), st.sampled_from(["sum", "worst"]))
@settings(max_examples=60, deadline=None)
def test_for_any_metrics_the_rounds_are_in_order_and_apart(
    metrics: list[OperatorMetrics], measure: str, aggregation: str
) -> None:
    found = rounds(
        metrics, frozenset({0, 1}), metric="messages_sent", measure=measure, aggregation=aggregation
    )
    times = [one.at_micros for one in found]
    assert times == sorted(set(times))
    assert all(one.value is None or abs(one.value) < float("inf") for one in found)
