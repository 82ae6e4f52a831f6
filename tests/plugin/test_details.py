"""What the list shows beyond a pipeline's state: rates, backpressure, checkpoints, errors without secrets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from airflow_provider_arroyo.client.details import (
    Checkpoint,
    JobError,
    Metric,
    MetricGroup,
    OperatorMetrics,
    SubtaskMetrics,
)
from airflow_provider_arroyo.plugin import details
from airflow_provider_arroyo.plugin.facts import Facts

S = 1_000_000


def node(number: int, **series: Sequence[Sequence[float]]) -> OperatorMetrics:
    """Return the metrics of a node: for each metric the values of each subtask, one every two seconds."""
    return OperatorMetrics(
        number,
        tuple(
            MetricGroup(
                name,
                tuple(
                    SubtaskMetrics(
                        index, tuple(Metric(100 * S + 2 * at * S, v) for at, v in enumerate(values))
                    )
                    for index, values in enumerate(subtasks)
                ),
            )
            for name, subtasks in series.items()
        ),
    )


def test_rates_are_those_of_the_sources_and_of_the_sinks_summed_over_subtasks() -> None:
    found = details.rates(
        [
            node(0, messages_sent=[[10, 20, 30], [1, 2, 3]]),
            node(
                1,
                messages_sent=[[500, 500, 500]],
                messages_recv=[[500, 500, 500]],
                backpressure=[[0.1], [0.9]],
            ),
            node(2, messages_recv=[[5, 6, 7]], backpressure=[[0.2]]),
        ],
        sources={0},
        sinks={2},
    )
    assert found == {
        "in": 22.0,
        "out": 6.0,
        "series": [11.0, 22.0, 33.0],
        "at": 104.0,
        "backpressure": 0.9,
    }


@pytest.mark.parametrize("metrics", [[], [node(0)], [node(0, messages_sent=[[]], backpressure=[[]])]])
def test_nothing_measured_is_none_and_not_zero(metrics: list[OperatorMetrics]) -> None:
    found = details.rates(metrics, sources={0}, sinks={1})
    assert found == {"in": None, "out": None, "series": [], "at": None, "backpressure": None}


def test_a_series_is_bounded() -> None:
    found = details.rates([node(0, messages_sent=[list(range(1000))])], sources={0}, sinks=set())
    assert len(found["series"]) == details.MAX_POINTS
    assert found["series"][-1] == 999.0


@pytest.mark.parametrize(
    "checkpoints, expected",
    [
        ([], None),
        ([(1, 10, None)], (None, None, None, 10.0)),
        ([(1, 10, 12)], (1, 12.0, 2.0, None)),
        ([(1, 10, 12), (2, 20, None)], (1, 12.0, 2.0, 20.0)),
        ([(1, 10, 12), (2, 20, 21)], (2, 21.0, 1.0, None)),
    ],
)
def test_the_last_checkpoint(
    checkpoints: list[tuple[int, int, int | None]], expected: tuple[object, ...] | None
) -> None:
    found = details.last_checkpoint(
        [Checkpoint(epoch, start * S, None if end is None else end * S) for epoch, start, end in checkpoints]
    )
    assert (
        tuple(found[name] for name in ("epoch", "at", "seconds", "under_way_since")) if found else None
    ) == (expected)


def test_the_last_error_is_the_newest_and_shortened() -> None:
    found = details.last_error(
        [JobError("2", 5 * S, "m" * 5000, "d", operator_id="source_1"), JobError("1")], Facts(pipeline_id="p")
    )
    assert found is not None
    assert (found["at"], found["operator"], len(found["message"])) == (5.0, "source_1", 1000)
    assert details.last_error([], Facts(pipeline_id="p")) is None
