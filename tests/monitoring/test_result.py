"""An unreadable result from a triggerer is never mistaken for a success."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import FailureReason, Job
from airflow_provider_arroyo.client.wire import from_json, to_json
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoSettingsError
from airflow_provider_arroyo.monitoring.event import Hold
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.result import WaitResult
from tests.monitoring.support import FOREIGN, REFUSED, T0, api_error, job

JOB = to_json(job())
texts = st.text(max_size=20)
times = st.floats(0, 1e11)
results = st.builds(
    WaitResult,
    outcome=st.sampled_from(Outcome),
    target_states=st.lists(texts, max_size=3).map(tuple),
    job=st.builds(
        Job,
        id=texts,
        state=st.sampled_from([*map(str, JobState), "Hibernating"]),
        run_id=st.integers(0, 10**9),
        running_desired=st.booleans(),
        start_time_micros=st.none() | st.integers(0),
        finish_time_micros=st.none() | st.integers(0),
        failure=st.none() | st.builds(FailureReason, texts, st.none() | texts),
    ),
    waited_seconds=times,
    state_seconds=times,
    restarts=st.integers(0, 10**6),
    unreachable_seconds=st.none() | times,
    unreachable_since=st.none() | times,
    has_responded=st.booleans(),
    deadline_argument=texts,
    is_unchanged=st.booleans(),
)


def through_json(result: WaitResult) -> WaitResult:
    return WaitResult.from_dict(json.loads(json.dumps(result.to_dict())))


@settings(deadline=None)
@given(results)
def test_a_result_is_read_as_it_was_written(result: WaitResult) -> None:
    assert through_json(result) == result


def test_times_since_the_epoch_stay_exact() -> None:
    result = WaitResult(
        outcome=Outcome.UNREACHABLE, unreachable_since=T0 + 0.123456, unreachable_seconds=600.5
    )
    assert through_json(result) == result


@pytest.mark.parametrize(
    "error",
    [REFUSED, FOREIGN, api_error(503), ArroyoSettingsError("no host"), ArroyoError("no idea")],
    ids=repr,
)
def test_its_error_keeps_kind_text_and_data(error: ArroyoError) -> None:
    read = through_json(WaitResult(outcome=Outcome.ERROR, error=error)).error
    assert type(read) is type(error)
    assert (str(read), vars(read)) == (str(error), vars(error))
    assert (read.disposition, read.is_fatal) == (error.disposition, error.is_fatal)


def test_an_error_that_this_version_does_not_know_is_still_an_error() -> None:
    written = WaitResult(outcome=Outcome.ERROR).to_dict()
    written["error"] = {"type": "ArroyoQuotaError", "message": "too much", "quota": 5}
    error = WaitResult.from_dict(written).error
    assert type(error) is ArroyoError
    assert str(error) == "too much"


def test_every_outcome_but_waiting_is_over() -> None:
    assert [outcome for outcome in Outcome if not WaitResult(outcome=outcome).is_over] == [Outcome.WAITING]


def test_a_result_of_another_version_is_read_as_far_as_possible() -> None:
    assert WaitResult.from_dict({"outcome": "timed_out"}) == WaitResult(outcome=Outcome.TIMED_OUT)
    failed = job("Failed")
    newer = {
        "outcome": "failed",
        "job": to_json(failed),
        "moon_phase": "full",
        "target_states": ["Running"],
    }
    assert WaitResult.from_dict(newer) == WaitResult(
        outcome=Outcome.FAILED, job=failed, target_states=("Running",)
    )


@pytest.mark.parametrize(
    "garbage",
    [
        None,
        [],
        "reached",
        7,
        {},
        {"outcome": None},
        {"outcome": "succeeded"},
        {"outcome": "reached"},
        {"outcome": "reached", "job": None},
        {"outcome": "reached", "job": {"state": "Running"}},
        {"outcome": "reached", "job": "Running"},
        {"outcome": "reached", "job": {**JOB, "run_id": float("inf")}},
        {"outcome": "failed", "job": {**JOB, "failure_reason": "no such file"}},
        {"outcome": "failed", "waited_seconds": "long"},
        {"outcome": "failed", "restarts": float("inf")},
        {"outcome": "unreachable", "unreachable_since": "yesterday"},
        {"outcome": "failed", "target_states": 5},
        {"outcome": "error", "error": "refused"},
    ],
    ids=str,
)
def test_anything_else_is_refused_and_never_a_success(garbage: Any) -> None:
    with pytest.raises(ValueError, match="this is not the result of a wait"):
        WaitResult.from_dict(garbage)


def test_possible_secrets_of_a_job_are_left_out() -> None:
    secretive = replace(job(), env_vars={"PASSWORD": "hunter2"}, scheduler_config={"token": "hunter2"})
    assert "hunter2" not in json.dumps(to_json(secretive)) + repr(secretive)
    assert from_json(Job, to_json(secretive)) == job()


# -- the hold --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "started_at, now, left",
    [
        (100.0, 100.2, 7.8),
        # The worker's request took a second.
        (101.0, 101.2, 7.8),
        (101.0, 108.9, 0.1),
        (101.0, 109.0, 0.0),
        (101.0, 5000.0, 0.0),
        # Started again, by another triggerer.
        (106.0, 106.5, 6.5),
        (900.0, 900.1, 0.0),
        # The worker's clock is an hour ahead, which does not lengthen the hold.
        (-3500.0, -3500.0, 8.0),
        (-3500.0, -3495.0, 3.0),
    ],
)
def test_the_remaining_time_of_the_hold(started_at: float, now: float, left: float) -> None:
    hold = Hold(deferred_at=100.0, seconds=8.0)
    assert hold.left(started_at=started_at, now=now) == pytest.approx(left)
    assert Hold.from_dict(json.loads(json.dumps(hold.to_dict()))) == hold


@pytest.mark.parametrize(
    "fields",
    [
        {"deferred_at": math.nan, "seconds": 8},
        {"deferred_at": 1, "seconds": math.inf},
    ],
)
def test_invalid_times_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        Hold.from_dict(fields)
