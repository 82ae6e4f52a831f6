"""A plan from another process or version is read, or refused with advice."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.checks import check_states
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.monitoring.plan import (
    Baseline,
    PipelineRef,
    UnreadablePlanError,
    WaitPlan,
)
from tests.monitoring.support import ORDERS, T0, UNNAMED, job, plan

# Seconds as a float are exact to the microsecond for a few centuries.
spans = st.timedeltas(timedelta(0), timedelta(days=10_000))
moments = st.floats(0, 1e11)
texts = st.text(min_size=1, max_size=20)
plans = st.builds(
    WaitPlan,
    pipeline=st.builds(PipelineRef, pipeline_id=texts, name=st.none() | texts, console_url=st.none() | texts),
    target_states=st.frozensets(texts, min_size=1),
    deadline=moments,
    deadline_argument=texts,
    stable_for=spans,
    finished_is_success=st.booleans(),
    stopped_is_final=st.booleans(),
    baseline=st.none()
    | st.builds(Baseline, job_id=texts, run_id=st.integers(0), state=texts, requested_at=moments),
    outage_tolerance=spans,
    stale_grace=spans,
    heartbeat=spans,
)


@settings(deadline=None)
@given(plans)
def test_a_plan_is_read_as_it_was_written(original: WaitPlan) -> None:
    assert WaitPlan.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_the_json_is_plain() -> None:
    assert plan("Running", "Stopped", stable_for=2, before=job("Failed", 3)).to_dict() == {
        "pipeline": {
            "pipeline_id": "pl_1",
            "name": "orders_per_minute",
            "console_url": "http://arroyo:5115/pipelines/pl_1",
        },
        "target_states": ["Running", "Stopped"],
        "deadline": T0 + 600,
        "deadline_argument": "timeout",
        "stable_for_seconds": 2.0,
        "until_checkpoint": False,
        "max_restarts": None,
        "restart_window": None,
        "timeout_is_success": False,
        "finished_is_success": False,
        "stopped_is_final": False,
        "finishing_is_final": False,
        "resume_is_final": False,
        "restart_requested": False,
        "baseline": {"job_id": "job_1", "run_id": 3, "state": "Failed", "requested_at": T0},
        "created_at": None,
        "may_be_missing": False,
        "outage_tolerance_seconds": 600.0,
        "stale_grace_seconds": 5.0,
        "checkpoint": None,
        "metric": None,
        "details_interval_seconds": 1.0,
        "heartbeat_seconds": 300.0,
    }


def test_a_plan_of_an_older_version_gets_the_defaults() -> None:
    older = {"pipeline": {"pipeline_id": "pl_1"}, "target_states": ["Running"], "deadline": T0}
    assert WaitPlan.from_dict(older) == WaitPlan(
        pipeline=UNNAMED, target_states=frozenset({"Running"}), deadline=T0
    )


def test_unknown_fields_and_states_are_read() -> None:
    newer = {**plan().to_dict(), "moon_phase": "full", "target_states": ["Hibernating"]}
    assert WaitPlan.from_dict(newer).target_states == {"Hibernating"}


BASELINE = {"job_id": "job_1", "run_id": 1, "state": "Failed", "requested_at": T0}


@pytest.mark.parametrize(
    "changes",
    [
        {"pipeline": None},
        {"pipeline": "pl_1"},
        {"pipeline": {"name": "orders"}},
        {"pipeline": {"pipeline_id": ""}},
        {"pipeline": {"pipeline_id": 7}},
        {"target_states": []},
        {"target_states": None},
        {"target_states": 5},
        {"target_states": "Running"},
        {"deadline": None},
        {"deadline": "soon"},
        {"deadline": float("nan")},
        {"deadline": float("inf")},
        {"stable_for_seconds": -1},
        {"stable_for_seconds": float("nan")},
        {"stable_for_seconds": 1e300},
        {"stable_for_seconds": None},
        {"outage_tolerance_seconds": "long"},
        {"stale_grace_seconds": -0.1},
        {"checkpoint": None, "details_interval_seconds": 1.0, "heartbeat_seconds": []},
        {"finished_is_success": "false"},
        {"stopped_is_final": 1},
        {"baseline": "Running"},
        {"baseline": {"job_id": "job_1"}},
        {"baseline": {**BASELINE, "job_id": None}},
        {"baseline": {**BASELINE, "state": None}},
        {"baseline": {**BASELINE, "run_id": float("inf")}},
        {"baseline": {**BASELINE, "requested_at": float("nan")}},
    ],
    ids=str,
)
def test_an_unreadable_plan_is_an_error_with_advice(changes: dict[str, Any]) -> None:
    with pytest.raises(
        UnreadablePlanError, match=r"of this wait cannot be read: .*a new try starts the wait"
    ):
        WaitPlan.from_dict({**plan().to_dict(), **changes})


@pytest.mark.parametrize("missing", ["pipeline", "target_states", "deadline"])
def test_missing_required_fields_are_named(missing: str) -> None:
    written = plan().to_dict()
    del written[missing]
    with pytest.raises(UnreadablePlanError, match=missing):
        WaitPlan.from_dict(written)


@pytest.mark.parametrize("garbage", [None, [], "plan", 7, {}], ids=repr)
def test_anything_but_a_plan_is_refused(garbage: Any) -> None:
    with pytest.raises(UnreadablePlanError, match="arguments of this wait cannot be read"):
        WaitPlan.from_dict(garbage)


@pytest.mark.parametrize(
    "argument, value",
    [
        ("pipeline", PipelineRef(pipeline_id="")),
        ("target_states", frozenset()),
        ("deadline", float("inf")),
        ("deadline", float("nan")),
        *(
            (name, timedelta(seconds=-1))
            for name in ("stable_for", "outage_tolerance", "stale_grace", "heartbeat")
        ),
    ],
)
def test_a_plan_that_could_not_end_is_refused(argument: str, value: Any) -> None:
    arguments: dict[str, Any] = {
        "pipeline": ORDERS,
        "target_states": frozenset({"Running"}),
        "deadline": T0,
        argument: value,
    }
    with pytest.raises(ValueError, match=rf"^{argument}\b"):
        WaitPlan(**arguments)


def test_a_baseline_is_the_job_before_the_request() -> None:
    taken = Baseline.of(job("Failed", 4, job_id="job_9"), requested_at=T0)
    assert taken == Baseline(job_id="job_9", run_id=4, state="Failed", requested_at=T0)


def test_a_pipeline_is_named_by_name_and_id_or_by_the_id_alone() -> None:
    assert (ORDERS.label, ORDERS.short) == ("Pipeline 'orders_per_minute' (pl_1)", "orders_per_minute")
    assert (UNNAMED.label, UNNAMED.short) == ("Pipeline pl_1", "pl_1")
    long = PipelineRef(pipeline_id="pl_1", name="a\nb" + "c" * 500)
    assert long.short.startswith("a bccc")
    assert len(long.short) < 110
    assert "\n" not in long.label


def test_states_are_checked_by_name() -> None:
    assert check_states(["Running", JobState.STOPPED], "target_states") == {"Running", "Stopped"}
    assert check_states("Running", "wait_for") == {"Running"}
    assert all(type(name) is str for name in check_states(JobState, "target_states"))


@pytest.mark.parametrize(
    "names, shown", [([], "needs at least one state"), (["running", "Gone"], "'Gone', 'running'")]
)
def test_an_error_about_unknown_states_lists_the_choices(names: list[str], shown: str) -> None:
    with pytest.raises(ValueError, match=rf"^target_states: {shown}.*; allowed: .*CheckpointStopping"):
        check_states(names, "target_states")
