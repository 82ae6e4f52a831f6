"""May this pipeline be stopped? Only the very run that the task watched, and only if the task ended with this try."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.on_kill import (
    ENDED_STATES,
    WatchedRun,
    noted_wait,
    reason_not_ended,
    reason_not_to_stop,
    state_in,
)
from tests.monitoring.support import ORDERS, T0, job, wait
from tests.on_kill.support import ENDED, NOT_ENDED, TaskInstance

JOB = Job(id="job_1", state="Running", run_id=3, running_desired=True)


# -- the pipeline ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    ["Created", "Compiling", "Scheduling", "Running", "Rescaling", "Recovering", "Failing", "Hibernating"],
)
def test_the_run_that_was_watched_may_be_stopped(state: str) -> None:
    assert reason_not_to_stop(replace(JOB, state=state), JOB) is None
    assert reason_not_to_stop(JOB, replace(JOB, state=state)) is None


@pytest.mark.parametrize(
    "job, reason",
    [
        (None, "it no longer runs"),
        (replace(JOB, state=JobState.STOPPED, running_desired=False), "it no longer runs"),
        (replace(JOB, state=JobState.STOPPED), "it no longer runs"),
        (replace(JOB, state=JobState.FAILED), "it no longer runs"),
        (replace(JOB, state=JobState.FINISHED), "it no longer runs"),
        (replace(JOB, running_desired=False), "a stop was already requested"),
        (replace(JOB, state="CheckpointStopping", running_desired=False), "a stop was already requested"),
        (replace(JOB, run_id=4), "it is now at run 4 of job_1, but this task watched run 3 of job_1"),
        (replace(JOB, run_id=2), "it is now at run 2 of job_1, but this task watched run 3 of job_1"),
        (replace(JOB, id="job_2"), "it is now at run 3 of job_2, but this task watched run 3 of job_1"),
    ],
)
def test_any_other_run_may_not_be_stopped(job: Job | None, reason: str) -> None:
    assert reason_not_to_stop(job, JOB) == reason


def test_a_run_that_was_never_seen_may_not_be_stopped() -> None:
    assert reason_not_to_stop(JOB, None) == "this task never saw it run"


def test_the_first_run_of_a_job_seen_before_it_was_scheduled_may_be_stopped() -> None:
    created = replace(JOB, state="Created", run_id=0)
    assert reason_not_to_stop(replace(JOB, run_id=1), created) is None
    assert reason_not_to_stop(created, created) is None
    assert reason_not_to_stop(replace(JOB, run_id=2), created) is not None
    assert reason_not_to_stop(replace(JOB, id="job_2", run_id=1), created) is not None


RESUMED = replace(JOB, state="Stopped", running_desired=True)


@pytest.mark.parametrize(
    "job, reason",
    [
        (RESUMED, None),
        (replace(JOB, state="Failed"), None),
        (replace(JOB, state="Scheduling", run_id=4), None),
        (replace(JOB, run_id=4, running_desired=None), None),
        (replace(JOB, state="Failed", running_desired=False), "a stop was already requested"),
        (replace(JOB, state="Stopped", running_desired=False), "it no longer runs"),
        (replace(JOB, state="Finished"), "it no longer runs"),
        (replace(JOB, run_id=5), "it is now at run 5 of job_1, but this task watched run 3 of job_1"),
    ],
)
def test_a_run_that_this_task_requested_may_be_stopped_before_it_begins(job: Job, reason: str | None) -> None:
    watched = replace(JOB, state=job.state)
    assert reason_not_to_stop(job, watched, awaits_run=True) == reason


def test_a_wait_after_a_change_watches_the_run_that_follows() -> None:
    restart = wait("Running", before=job("Failed", 3))
    assert WatchedRun.of(restart).awaits_run
    assert WatchedRun.of(restart).job == job("Failed", 3)
    restart.observe(job("Failed", 3), T0)
    assert WatchedRun.of(restart).awaits_run
    restart.observe(job("Scheduling", 4), T0 + 1)
    assert WatchedRun.of(restart) == WatchedRun(pipeline=ORDERS, job=job("Scheduling", 4))
    assert WatchedRun.of(wait("Running")) == WatchedRun(pipeline=ORDERS)


def test_the_advice_says_how_to_stop_it() -> None:
    text = WatchedRun(pipeline=PipelineRef(pipeline_id="pl_1", name="orders"), job=JOB).advice
    assert text == (
        "Pipeline 'orders' (pl_1) keeps running; stop it with ArroyoStopPipelineOperator(pipeline_id='pl_1') "
        "or in Arroyo's console"
    )


# -- the task ----------------------------------------------------------------------------------------------------


def test_the_table_of_states_is_complete() -> None:
    from airflow.utils.state import TaskInstanceState

    assert frozenset(ENDED) == ENDED_STATES
    of_airflow = {state.value for state in TaskInstanceState}
    assert of_airflow <= {*ENDED, *NOT_ENDED}, "a new state of Airflow: has a task ended in it?"


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize(
    "noted, reason",
    [
        ({"try_number": 2}, None),
        ({"try_number": 2, "is_over": True}, "its task had ended by itself"),
        ({"try_number": 3}, "a later try of its task has begun"),
        ({"try_number": 1}, "a later try of its task has begun"),
        ({"try_number": None}, "a later try of its task has begun"),
        ({}, "a later try of its task has begun"),
    ],
)
def test_a_task_ended_with_this_try_only_if_this_try_was_noted_last(
    state: str, noted: dict[str, Any], reason: str | None
) -> None:
    assert reason_not_ended(state, noted, 2) == reason


@pytest.mark.parametrize("state", NOT_ENDED)
def test_a_task_in_any_other_state_has_not_ended(state: str | None) -> None:
    reason = reason_not_ended(state, {"try_number": 2}, 2)
    assert reason == f"the state of its task in Airflow is {state or 'none: it was cleared'}"


@pytest.mark.parametrize("noted", ["x", 5, [], {}, {"pipeline": 1}])
def test_a_note_of_another_shape_is_ignored(noted: Any) -> None:
    assert noted_wait(TaskInstance(noted=noted)) is None


@pytest.mark.parametrize(
    "response, state",
    [
        ({"manual__1": {"submit": "failed"}}, "failed"),
        ({"manual__1": {"submit": None}}, None),
        ({"manual__1": {"submit_0": "failed"}}, None),
        ({"manual__1": {}}, None),
        ({"manual__2": {"submit": "failed"}}, None),
        ({}, None),
    ],
)
def test_the_state_in_airflows_response(response: Any, state: str | None) -> None:
    assert state_in(response, TaskInstance()) == state


def test_a_state_that_is_an_enum() -> None:
    from airflow.utils.state import TaskInstanceState

    assert state_in({"manual__1": {"submit": TaskInstanceState.FAILED}}, TaskInstance()) == "failed"
