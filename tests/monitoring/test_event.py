"""What a trigger tells its task: never taken for success by accident."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo.models import FailureReason, Job
from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoConnectionError
from airflow_provider_arroyo.monitoring.event import EVENT_VERSION, UnreadableEventError, WaitEvent
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict

JOB = Job(id="job_1", state="Running", run_id=2, running_desired=True, start_time_micros=5)

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)
jobs = st.builds(
    Job,
    id=st.text(min_size=1),
    state=st.text(min_size=1),
    run_id=st.integers(0, 2**31),
    running_desired=st.booleans(),
    start_time_micros=st.one_of(st.none(), st.integers(0, 2**60)),
    finish_time_micros=st.one_of(st.none(), st.integers(0, 2**60)),
    failure=st.one_of(
        st.none(),
        st.builds(FailureReason, st.text(), st.one_of(st.none(), st.sampled_from(["user", "internal"]))),
    ),
)
verdicts = st.builds(
    Verdict,
    outcome=st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.WAITING]),
    wanted=st.lists(st.text(), max_size=3).map(tuple),
    job=jobs,
    waited_seconds=st.floats(0, 1e9),
    stood_seconds=st.floats(0, 1e9),
    restarts=st.integers(0, 1000),
    unreachable_seconds=st.one_of(st.none(), st.floats(0, 1e9)),
    limit=st.sampled_from(["timeout", "execution_timeout"]),
    unchanged=st.booleans(),
)


def data(**changes: Any) -> dict[str, Any]:
    event = WaitEvent(
        pipeline_id="pl_1",
        verdict=Verdict(outcome=Outcome.REACHED, wanted=("Running",), job=JOB),
        carry={"a": 1},
    )
    return {**event.to_dict(), **changes}


@settings(deadline=None)
@given(pipeline_id=st.text(), verdict=verdicts, carry=st.dictionaries(st.text(), json_values, max_size=3))
def test_event_crosses_processes(pipeline_id: str, verdict: Verdict, carry: dict[str, Any]) -> None:
    event = WaitEvent(pipeline_id=pipeline_id, verdict=verdict, carry=carry)
    told = json.loads(json.dumps({**event.to_dict(), "of_a_later_version": [1]}))
    assert WaitEvent.from_dict(told) == event
    assert told["version"] == EVENT_VERSION


@pytest.mark.parametrize(
    "error",
    [
        ArroyoConnectionError("refused", method="GET", path="/jobs", was_sent=False),
        ArroyoApiError("no", status=418, method="GET", path="/jobs", server_message="teapot"),
    ],
)
def test_error_crosses_processes(error: Any) -> None:
    event = WaitEvent(pipeline_id="", verdict=Verdict(outcome=Outcome.ERROR, error=error))
    read = WaitEvent.from_dict(json.loads(json.dumps(event.to_dict()))).verdict.error
    assert type(read) is type(error)
    assert vars(read) == vars(error)


@pytest.mark.parametrize("missing", ["version", "carry"])
def test_event_of_an_older_version(missing: str) -> None:
    told = data()
    del told[missing]
    read = WaitEvent.from_dict(told)
    assert read.verdict.outcome is Outcome.REACHED
    assert read.carry == ({} if missing == "carry" else {"a": 1})


def test_carry_that_is_nothing() -> None:
    assert WaitEvent.from_dict(data(carry=None)).carry == {}


WAITING = Verdict(outcome=Outcome.WAITING, job=JOB).to_dict()
REACHED = Verdict(outcome=Outcome.REACHED, job=JOB).to_dict()

UNREADABLE: dict[str, Any] = {
    "None": None,
    "a text": "success",
    "a number": 1,
    "True": True,
    "a list": [data()],
    "empty": {},
    "of another provider": {"status": "success", "job_id": "x"},
    "a newer version": data(version=EVENT_VERSION + 1),
    "a version that is none": data(version="new"),
    "an infinite version": data(version=float("inf")),
    "no version at all": data(version=None),
    "without a verdict": {key: value for key, value in data().items() if key != "verdict"},
    "a verdict of nothing": data(verdict=None),
    "a verdict that is a text": data(verdict="reached"),
    "an empty verdict": data(verdict={}),
    "a wait that is not over": data(verdict=WAITING),
    "an outcome that nobody knows": data(verdict={**REACHED, "outcome": "triumph"}),
    "an outcome of nothing": data(verdict={**REACHED, "outcome": None}),
    "a goal that no job reached": data(verdict={**REACHED, "job": None}),
    "a job that is none": data(verdict={**REACHED, "job": {"id": "x"}}),
    "a job that is a text": data(verdict={**REACHED, "job": "job_1"}),
    "an infinite count": data(verdict={**REACHED, "restarts": float("inf")}),
    "no pipeline": {key: value for key, value in data().items() if key != "pipeline_id"},
    "a pipeline of nothing": data(pipeline_id=None),
    "a pipeline that is a number": data(pipeline_id=7),
    "a carry that is a text": data(carry="abc"),
    "a carry that is a list": data(carry=[1]),
}


@pytest.mark.parametrize("told", UNREADABLE.values(), ids=list(UNREADABLE))
def test_unreadable_event_says_what_to_do(told: Any) -> None:
    with pytest.raises(UnreadableEventError) as caught:
        WaitEvent.from_dict(told)
    assert isinstance(caught.value, ValueError)
    assert "must run the same version of airflow-provider-arroyo; clear the task" in str(caught.value)
    assert "The pipeline was not touched" in str(caught.value)


@settings(deadline=None)
@given(
    told=st.one_of(
        json_values,
        st.fixed_dictionaries(
            {},
            optional={
                "version": json_values,
                "pipeline_id": json_values,
                "carry": json_values,
                "verdict": st.one_of(
                    json_values,
                    st.fixed_dictionaries(
                        {"outcome": st.one_of(st.sampled_from([str(o) for o in Outcome]), json_values)},
                        optional={"job": json_values, "wanted": json_values, "error": json_values},
                    ),
                ),
            },
        ),
    )
)
def test_anything_is_unreadable_or_tells_a_pipeline_and_an_end(told: Any) -> None:
    try:
        event = WaitEvent.from_dict(told)
    except UnreadableEventError:
        return
    assert isinstance(event.pipeline_id, str)
    assert event.verdict.is_over
    assert event.verdict.outcome is not Outcome.REACHED or event.verdict.job is not None
