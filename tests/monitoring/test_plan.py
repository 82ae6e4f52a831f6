"""A plan crosses processes and versions: read where it can be, else refused with words."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo.models import JobState
from airflow_provider_arroyo.monitoring.plan import (
    PLAN_VERSION,
    Baseline,
    UnreadablePlanError,
    WaitPlan,
    check_states,
)
from tests.monitoring.support import T0, job, plan

spans = st.timedeltas(timedelta(0), timedelta(days=10_000))
moments = st.floats(0, 1e11)
texts = st.text(min_size=1, max_size=20)


@given(
    st.builds(
        WaitPlan,
        pipeline_id=texts,
        targets=st.frozensets(texts, min_size=1),
        deadline=moments,
        limit=texts,
        stable_for=spans,
        finished_is_success=st.booleans(),
        stopped_is_final=st.booleans(),
        baseline=st.none()
        | st.builds(Baseline, job_id=texts, run_id=st.integers(0), state=texts, asked_at=moments),
        outage_tolerance=spans,
        stale_grace=spans,
        heartbeat=spans,
    )
)
def test_a_plan_comes_out_as_it_went_in(original: WaitPlan) -> None:
    again = WaitPlan.from_dict(json.loads(json.dumps(original.to_dict())))
    # Seconds as a float keep microseconds for a few centuries; over millennia a rounding may show.
    for name in ("stable_for", "outage_tolerance", "stale_grace", "heartbeat"):
        assert abs(getattr(again, name) - getattr(original, name)) <= timedelta(microseconds=1)
    assert again.to_dict().keys() == original.to_dict().keys()
    assert (again.pipeline_id, again.targets, again.deadline, again.limit, again.baseline) == (
        original.pipeline_id,
        original.targets,
        original.deadline,
        original.limit,
        original.baseline,
    )
    assert (again.finished_is_success, again.stopped_is_final) == (
        original.finished_is_success,
        original.stopped_is_final,
    )


def test_the_wire_form_is_plain_and_versioned() -> None:
    written = plan("Running", "Stopped", stable_for=2, before=job("Failed", 3)).to_dict()
    assert written == {
        "version": PLAN_VERSION,
        "pipeline_id": "pl_1",
        "targets": ["Running", "Stopped"],
        "deadline": T0 + 600,
        "limit": "timeout",
        "stable_for_seconds": 2.0,
        "finished_is_success": False,
        "stopped_is_final": False,
        "baseline": {"job_id": "job_1", "run_id": 3, "state": "Failed", "asked_at": T0},
        "outage_tolerance_seconds": 600.0,
        "stale_grace_seconds": 5.0,
        "heartbeat_seconds": 300.0,
    }


def test_a_plan_of_an_older_version_gets_the_defaults() -> None:
    read = WaitPlan.from_dict({"pipeline_id": "pl_1", "targets": ["Running"], "deadline": T0})
    assert read == WaitPlan(pipeline_id="pl_1", targets=frozenset({"Running"}), deadline=T0)


def test_fields_and_states_of_a_newer_version_are_taken_along() -> None:
    newer = {**plan().to_dict(), "moon_phase": "full", "targets": ["Hibernating"]}
    assert WaitPlan.from_dict(newer).targets == {"Hibernating"}


@pytest.mark.parametrize(
    "changes",
    [
        {"version": PLAN_VERSION + 1},
        {"version": None},
        {"version": "new"},
        {"pipeline_id": None},
        {"pipeline_id": ""},
        {"pipeline_id": 7},
        {"targets": []},
        {"targets": None},
        {"targets": 5},
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
        {"heartbeat_seconds": []},
        {"finished_is_success": "false"},
        {"stopped_is_final": 1},
        {"baseline": "Running"},
        {"baseline": {"job_id": "job_1"}},
        {"baseline": {"job_id": None, "run_id": 1, "state": "Failed", "asked_at": T0}},
        {"baseline": {"job_id": "job_1", "run_id": 1, "state": None, "asked_at": T0}},
        {"baseline": {"job_id": "job_1", "run_id": float("inf"), "state": "Failed", "asked_at": T0}},
        {"baseline": {"job_id": "job_1", "run_id": 1, "state": "Failed", "asked_at": float("nan")}},
    ],
    ids=str,
)
def test_what_cannot_be_read_says_so_and_what_to_do(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadablePlanError, match=r"cannot read what this wait is for: .*clear the task"):
        WaitPlan.from_dict({**plan().to_dict(), **changes})


@pytest.mark.parametrize("missing", ["pipeline_id", "targets", "deadline"])
def test_what_every_version_has_must_be_there(missing: str) -> None:
    written = plan().to_dict()
    del written[missing]
    with pytest.raises(UnreadablePlanError, match=missing):
        WaitPlan.from_dict(written)


@pytest.mark.parametrize("garbage", [None, [], "plan", 7, {}], ids=repr)
def test_what_is_no_plan_is_refused(garbage: Any) -> None:
    with pytest.raises(UnreadablePlanError, match="cannot read what this wait is for"):
        WaitPlan.from_dict(garbage)


def test_a_single_state_written_as_text_is_one_state() -> None:
    assert WaitPlan.from_dict({**plan().to_dict(), "targets": "Running"}).targets == {"Running"}


@pytest.mark.parametrize(
    "argument,value",
    [
        ("pipeline_id", ""),
        ("targets", frozenset()),
        ("deadline", float("inf")),
        ("deadline", float("nan")),
        ("stable_for", timedelta(seconds=-1)),
        ("outage_tolerance", timedelta(seconds=-1)),
        ("stale_grace", timedelta(seconds=-1)),
        ("heartbeat", timedelta(seconds=-1)),
    ],
)
def test_a_plan_that_could_not_end_is_refused_by_name(argument: str, value: Any) -> None:
    arguments: dict[str, Any] = {"pipeline_id": "pl_1", "targets": frozenset({"Running"}), "deadline": T0}
    with pytest.raises(ValueError, match=f"^{argument}: "):
        WaitPlan(**{**arguments, argument: value})


def test_a_baseline_is_what_the_job_was() -> None:
    taken = Baseline.of(job("Failed", 4, job_id="job_9"), asked_at=T0)
    assert taken == Baseline(job_id="job_9", run_id=4, state="Failed", asked_at=T0)


def test_states_are_checked_by_name() -> None:
    assert check_states(["Running", JobState.STOPPED], "target_states") == {"Running", "Stopped"}
    assert check_states("Running", "wait_for") == {"Running"}
    assert all(type(name) is str for name in check_states(JobState, "target_states"))


@pytest.mark.parametrize("names,said", [([], "needs a state"), (["running", "Gone"], "'Gone', 'running'")])
def test_a_state_that_arroyo_lacks_is_refused_with_the_choices(names: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=r"^target_states: ") as raised:
        check_states(names, "target_states")
    assert said in str(raised.value)
    assert "CheckpointStopping" in str(raised.value)
