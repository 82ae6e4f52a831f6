"""Only the run that a task watched is ever stopped for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_arroyo.arroyo.models import Job, JobState
from airflow_provider_arroyo.monitoring.watched import Watched, how_to_stop, refusal

JOB = Job(id="job_1", state="Running", run_id=3, running_desired=True)
WATCHED = Watched(pipeline_id="pl_1", label="Pipeline 'orders' (pl_1)", job=JOB)


@pytest.mark.parametrize(
    "state",
    ["Created", "Compiling", "Scheduling", "Running", "Rescaling", "Recovering", "Failing", "Hibernating"],
)
def test_the_run_that_was_watched_may_be_stopped(state: str) -> None:
    assert refusal(replace(JOB, state=state), WATCHED) is None
    assert refusal(JOB, replace(WATCHED, job=replace(JOB, state=state))) is None


@pytest.mark.parametrize(
    "job, why_not",
    [
        (None, "it does not run any more"),
        (replace(JOB, state=JobState.STOPPED, running_desired=False), "it does not run any more"),
        (replace(JOB, state=JobState.STOPPED), "it does not run any more"),
        (replace(JOB, state=JobState.FAILED), "it does not run any more"),
        (replace(JOB, state=JobState.FINISHED), "it does not run any more"),
        (replace(JOB, running_desired=False), "it was asked to stop already"),
        (
            replace(JOB, state=JobState.CHECKPOINT_STOPPING, running_desired=False),
            "it was asked to stop already",
        ),
        (replace(JOB, run_id=4), "it is at run 4 of job_1 now, and this task watched run 3 of job_1"),
        (replace(JOB, run_id=2), "it is at run 2 of job_1 now, and this task watched run 3 of job_1"),
        (replace(JOB, id="job_2"), "it is at run 3 of job_2 now, and this task watched run 3 of job_1"),
    ],
)
def test_others_may_not(job: Job | None, why_not: str) -> None:
    assert refusal(job, WATCHED) == why_not


def test_one_that_was_never_seen_may_not() -> None:
    assert refusal(JOB, replace(WATCHED, job=None)) == "this task never saw it run"


def test_first_run_of_the_job_that_was_seen_unscheduled_may() -> None:
    created = replace(WATCHED, job=replace(JOB, state="Created", run_id=0))
    assert refusal(replace(JOB, run_id=1), created) is None
    assert refusal(replace(JOB, run_id=0, state="Created"), created) is None
    assert refusal(replace(JOB, run_id=2), created) is not None
    assert refusal(replace(JOB, id="job_2", run_id=1), created) is not None


def test_what_a_person_can_do() -> None:
    text = how_to_stop(WATCHED)
    assert text.startswith("Pipeline 'orders' (pl_1) goes on")
    assert "ArroyoStopPipelineOperator(pipeline_id='pl_1')" in text
    assert "console" in text
