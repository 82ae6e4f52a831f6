"""What the list shows beyond a pipeline's state: rates, backpressure, checkpoints, errors without secrets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_arroyo.client.details import Checkpoint, JobError, Span
from airflow_provider_arroyo.plugin import details
from airflow_provider_arroyo.plugin.facts import Facts
from airflow_provider_arroyo.plugin.series import Measured

S = 1_000_000


def test_the_list_shows_the_rates_as_they_are_now_and_a_short_series() -> None:
    measured = Measured(
        nodes=(
            {"id": 0, "in": None, "out": 30.0, "backpressure": 0.1},
            {"id": 1, "in": 7.0, "out": None, "backpressure": 0.9},
        ),
        at=(100.0, 102.0, 104.0, 106.0),
        rows_in=(10.0, None, 30.0, None),
        rows_out=(5.0, 6.0, 7.0, None),
    )
    assert details.rates(measured) == {
        "in": 30.0,
        "out": 7.0,
        "series": [10.0, 30.0],
        "at": 104.0,
        "backpressure": 0.9,
    }
    without_sources = details.rates(replace(measured, rows_in=(None,) * 4))
    assert (without_sources["in"], without_sources["series"]) == (None, [5.0, 6.0, 7.0])


def test_nothing_measured_is_none_and_not_zero() -> None:
    assert details.rates(Measured()) == {
        "in": None,
        "out": None,
        "series": [],
        "at": None,
        "backpressure": None,
    }


def test_a_series_is_bounded() -> None:
    many = tuple(map(float, range(1000)))
    found = details.rates(Measured(at=many, rows_in=many, rows_out=many))
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


def test_errors_are_the_newest_shortened_and_without_the_secrets_of_the_sql() -> None:
    facts = Facts(pipeline_id="p", secrets=frozenset({"hunter2hunter"}))
    errors = [JobError("2", 5 * S, "m" * 5000, "tried hunter2hunter", operator_id="source_1", task_index=3)]
    found = [details.error_to_json(one) for one in details.shown_errors(errors * 100, facts)]
    assert len(found) == details.MAX_ERRORS
    assert found[0] == {
        "at": 5.0,
        "operator": "source_1",
        "message": "m" * 1000,
        "details": "tried ***",
        "domain": None,
        "task": 3,
    }


def test_the_newest_checkpoints_are_kept_and_all_are_counted() -> None:
    events = (Span("write", 0),)
    kept = details.kept_checkpoints([Checkpoint(n, n * S, n * S + 1, events=events) for n in range(5000)])
    assert (kept.listed, len(kept.newest), kept.newest[-1].epoch) == (5000, details.MAX_CHECKPOINTS, 4999)
    assert kept.last is not None
    assert kept.last["epoch"] == 4999
    assert kept.newest[0].events == ()


@pytest.mark.parametrize("micros", [-1, 10**400, 2**63])
def test_an_invalid_time_is_shown_as_some_time(micros: int) -> None:
    found = details.checkpoint_to_json(Checkpoint(1, micros, micros), None)
    assert 0 <= found["began"] == found["finished"] <= 1e10
