"""A verdict crosses from the triggerer to the worker, and is never taken for a success by accident."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo.models import FailureReason, Job, JobState
from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoConnectionError, ArroyoError
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict, job_from_dict, job_to_dict
from tests.monitoring.support import REFUSED, T0, api_error, job

texts = st.text(max_size=20)
times = st.floats(0, 1e11)
jobs = st.builds(
    Job,
    id=texts,
    state=st.sampled_from([*map(str, JobState), "Hibernating"]),
    run_id=st.integers(0, 10**9),
    running_desired=st.booleans(),
    start_time_micros=st.none() | st.integers(0),
    finish_time_micros=st.none() | st.integers(0),
    failure=st.none() | st.builds(FailureReason, texts, st.none() | texts),
)
verdicts = st.builds(
    Verdict,
    outcome=st.sampled_from(Outcome),
    wanted=st.lists(texts, max_size=3).map(tuple),
    job=jobs,
    waited_seconds=times,
    stood_seconds=times,
    restarts=st.integers(0, 10**6),
    unreachable_seconds=st.none() | times,
    unreachable_since=st.none() | times,
    limit=texts,
    unchanged=st.booleans(),
)


def through_json(verdict: Verdict) -> Verdict:
    return Verdict.from_dict(json.loads(json.dumps(verdict.to_dict())))


@given(verdicts)
def test_a_verdict_comes_out_as_it_went_in(verdict: Verdict) -> None:
    assert through_json(verdict) == verdict


@pytest.mark.parametrize("error", [REFUSED, api_error(503), ArroyoError("no idea")], ids=str)
def test_its_error_comes_along_with_its_data(error: ArroyoError) -> None:
    again = through_json(Verdict(outcome=Outcome.ERROR, error=error)).error
    assert type(again) is type(error)
    assert str(again) == str(error)
    if isinstance(again, ArroyoApiError):
        assert again.status == 503
        assert again.is_transient
    if isinstance(again, ArroyoConnectionError):
        assert again.path == REFUSED.path


def test_an_error_that_this_version_does_not_know_is_still_an_error() -> None:
    written = Verdict(outcome=Outcome.ERROR).to_dict()
    written["error"] = {"type": "ArroyoQuotaError", "message": "too much", "quota": 5}
    error = Verdict.from_dict(written).error
    assert type(error) is ArroyoError
    assert str(error) == "too much"


def test_only_waiting_is_not_over() -> None:
    assert [outcome for outcome in Outcome if not Verdict(outcome=outcome).is_over] == [Outcome.WAITING]


def test_a_verdict_of_another_version_is_read_as_far_as_it_goes() -> None:
    assert Verdict.from_dict({"outcome": "timed_out"}) == Verdict(outcome=Outcome.TIMED_OUT)
    newer = {
        "outcome": "failed",
        "job": job_to_dict(job("Failed")),
        "moon_phase": "full",
        "wanted": "Running",
    }
    assert Verdict.from_dict(newer) == Verdict(outcome=Outcome.FAILED, job=job("Failed"), wanted=("Running",))


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
        {"outcome": "reached", "job": {**job_to_dict(job()), "run_id": float("inf")}},
        {"outcome": "failed", "job": {**job_to_dict(job()), "failure": "no such file"}},
        {"outcome": "failed", "waited_seconds": "long"},
        {"outcome": "unreachable", "unreachable_since": "yesterday"},
        {"outcome": "failed", "wanted": 5},
        {"outcome": "error", "error": "refused"},
    ],
    ids=str,
)
def test_what_is_no_verdict_is_refused_and_never_a_success(garbage: Any) -> None:
    with pytest.raises(ValueError, match="this does not say how a wait stands"):
        Verdict.from_dict(garbage)


def test_a_job_leaves_behind_what_may_be_secret() -> None:
    secretive = replace(job(), env_vars={"PASSWORD": "hunter2"}, scheduler_config={"token": "hunter2"})
    assert "hunter2" not in json.dumps(job_to_dict(secretive))
    assert "hunter2" not in repr(secretive)
    assert job_from_dict(job_to_dict(secretive)) == job()


def test_times_since_the_epoch_stay_exact() -> None:
    verdict = Verdict(outcome=Outcome.UNREACHABLE, unreachable_since=T0 + 0.123456, unreachable_seconds=600.5)
    assert through_json(verdict) == verdict
