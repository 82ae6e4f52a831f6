"""When each part of a pipeline is read: for the list, for its own page, and after failures."""

from __future__ import annotations

from itertools import pairwise

import pytest

from airflow_provider_arroyo.client.details import Checkpoint, JobError, Span
from airflow_provider_arroyo.plugin import readings as plugin_readings
from airflow_provider_arroyo.plugin.facts import Facts
from airflow_provider_arroyo.plugin.readings import (
    MAX_CHECKPOINTS,
    MAX_IN_ROUND,
    Part,
    Readings,
    kept_checkpoints,
)

from .support import job

S = 1_000_000


def read(readings: Readings, parts: list[Part], now: float, state: str = "Running") -> None:
    for part in parts:
        readings.parts[part].tried_at = now
        readings.succeeded(part, job(1, state), 0.1)


def test_a_page_reads_everything_first_and_then_a_few_parts_in_turn() -> None:
    readings, asked = Readings(job_id="job_1"), []
    for number in range(60):
        now = 100.0 + 2 * number
        asked.append(readings.due_for_page(job(1), now))
        read(readings, asked[-1], now)
    assert set(asked[0]) == set(Part)
    later = asked[1:]
    assert max(map(len, later)) == MAX_IN_ROUND
    assert all(Part.METRICS in parts for parts in later)
    for part, most_seconds in ((Part.CHECKPOINTS, 6), (Part.ERRORS, 10)):
        rounds = [number for number, parts in enumerate(asked) if part in parts]
        assert max(b - a for a, b in pairwise(rounds)) * 2 <= most_seconds
    # This leaves room for the sizes of checkpoints.
    assert sum(len(parts) < MAX_IN_ROUND for parts in later) >= 20


@pytest.mark.parametrize("state", ["Stopped", "Finished", "Failed"])
def test_an_ended_pipeline_is_read_once(state: str) -> None:
    readings, ended = Readings(job_id="job_1"), job(1, state)
    read(readings, readings.due_for_page(job(1), 100.0), 100.0)
    parts = readings.due_for_page(ended, 150.0) + readings.due_for_page(ended, 150.0)
    assert parts
    for now in (150.0, 152.0):
        read(readings, readings.due_for_page(ended, now), now, state)
    assert readings.due_for_page(ended, 1000.0) == []
    assert readings.due_for_list(ended, 0, 1000.0) == []
    assert readings.due_for_page(job(1, "Running", run=2), 1000.0)


def test_what_was_never_read_is_told_with_the_reason() -> None:
    readings = Readings(job_id="job_1")
    assert readings.summary(job(1), 0)["unread"] == {"metrics": "", "checkpoints": "", "errors": ""}
    readings.failed(Part.METRICS, "Arroyo responded 500")
    readings.succeeded(Part.CHECKPOINTS, job(1), 0.1)
    readings.succeeded(Part.ERRORS, job(1), 0.1)
    readings.failed(Part.ERRORS, "Arroyo responded 404")
    assert readings.summary(job(1), 0)["unread"] == {"metrics": "Arroyo responded 500"}


def test_a_failing_part_is_read_less_and_less_often_and_affects_no_other() -> None:
    readings, tried = Readings(job_id="job_1"), []
    for number in range(300):
        now = 100.0 + 2 * number
        for part in readings.due_for_page(job(1), now):
            readings.parts[part].tried_at = now
            if part is Part.METRICS:
                tried.append(now)
                readings.failed(part, "away")
            else:
                readings.succeeded(part, job(1), 0.1)
    pauses = [b - a for a, b in pairwise(tried)]
    assert pauses[0] <= 4
    assert pauses[-1] == 60
    assert readings.problems == [(Part.METRICS, "away")]
    assert readings.parts[Part.CHECKPOINTS].tried_at > 690
    readings.succeeded(Part.METRICS, job(1), 0.1)
    assert readings.problems == []


@pytest.mark.parametrize("took, least_pause", [(0.1, 0), (1.0, 10), (3.0, 50), (100.0, 60)])
def test_a_slow_part_is_read_less_often(took: float, least_pause: float) -> None:
    readings = Readings(job_id="job_1")
    readings.parts[Part.METRICS].tried_at = 100.0
    readings.succeeded(Part.METRICS, job(1), took)
    assert (Part.METRICS in readings.due_for_page(job(1), 101.0)) is (least_pause == 0)
    assert Part.METRICS in readings.due_for_page(job(1), 101.0 + least_pause)


def test_the_list_reads_errors_only_if_they_explain_the_state() -> None:
    readings = Readings(job_id="job_1")
    assert Part.ERRORS not in readings.due_for_list(job(1), 0, 100.0)
    assert Part.ERRORS in readings.due_for_list(job(1), 1, 100.0)
    assert Part.ERRORS in readings.due_for_list(job(1, "Recovering"), 0, 100.0)
    assert Part.METRICS not in readings.due_for_list(job(1, "Stopped"), 0, 100.0)


def test_checkpoint_sizes_are_read_once_the_newest_first() -> None:
    readings = Readings(job_id="job_1")
    assert readings.next_size() is None
    readings.checkpoints = kept_checkpoints([Checkpoint(n, n * S, n * S + 1) for n in range(200)])
    asked = []
    while (epoch := readings.next_size()) is not None:
        asked.append(epoch)
        readings.take_size(epoch, None if epoch % 2 else 7)
    assert asked == list(range(199, 199 - MAX_CHECKPOINTS, -1))
    readings.checkpoints = kept_checkpoints([Checkpoint(n, n * S, n * S + 1) for n in range(202)])
    assert readings.next_size() == 201
    readings.take_size(201, 5)
    assert len(readings.sizes) <= MAX_CHECKPOINTS


def test_the_size_of_an_unfinished_checkpoint_is_not_read() -> None:
    readings = Readings(job_id="job_1")
    readings.checkpoints = kept_checkpoints([Checkpoint(1, S, None)])
    assert readings.next_size() is None


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
    found = plugin_readings.last_checkpoint(
        [Checkpoint(epoch, start * S, None if end is None else end * S) for epoch, start, end in checkpoints]
    )
    assert (
        tuple(found[name] for name in ("epoch", "at", "seconds", "under_way_since")) if found else None
    ) == (expected)


def test_the_newest_errors_are_shown_shortened_and_without_secrets() -> None:
    facts = Facts(pipeline_id="p", secrets=frozenset({"hunter2hunter"}))
    errors = [JobError("2", 5 * S, "m" * 5000, "tried hunter2hunter", operator_id="source_1", task_index=3)]
    found = [plugin_readings.error_to_json(one) for one in plugin_readings.shown_errors(errors * 100, facts)]
    assert len(found) == plugin_readings.MAX_ERRORS
    assert found[0] == {
        "at": 5.0,
        "operator": "source_1",
        "message": "m" * 1000,
        "details": "tried ***",
        "domain": None,
        "task": 3,
    }


def test_only_the_newest_checkpoints_are_kept() -> None:
    events = (Span("write", 0),)
    kept = kept_checkpoints([Checkpoint(n, n * S, n * S + 1, events=events) for n in range(5000)])
    assert (len(kept), kept[-1].epoch, kept[-1].events) == (MAX_CHECKPOINTS, 4999, ())


@pytest.mark.parametrize("micros", [-1, 10**400, 2**63])
def test_an_invalid_time_is_replaced_by_a_valid_one(micros: int) -> None:
    found = plugin_readings.checkpoint_to_json(Checkpoint(1, micros, micros), None)
    assert 0 <= found["began"] == found["finished"] <= 1e10
