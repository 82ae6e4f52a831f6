"""Every recorded history of real servers has the right diagnoses, in order."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby

import pytest

from airflow_provider_arroyo.client.details import Checkpoint, JobError
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import FailureReason, Job, Pipeline
from airflow_provider_arroyo.monitoring.diagnosis import Diagnosis, Evidence, Kind, diagnose
from tests.monitoring.timelines import EPOCH, RECORDINGS, VERSIONS, Timeline, moment

TIMELINES = [
    (version, path.stem)
    for version in VERSIONS
    for path in sorted((RECORDINGS / version / "timelines").glob("*.json"))
]
PIPELINE = Pipeline("pl_1", "orders", "SELECT 1")
OBSERVED_MS = 10_000
T0 = 1_795_573_000

START_AND_STOP = "starting stopping stopped"
"""The timelines begin when a pipeline is created, and are too short for its first checkpoint. Requested changes, such
as a rescale, are not failures.
"""
HISTORIES = {
    "bounded_finishes_and_never_leaves": "starting finished",
    "preview_bounded": "starting finished",
    "short_bounded": "starting finished",
    "one_source_ends_sooner": "starting finishing finished",
    "one_source_of_two_ends": "starting finishing stopping finished",
    "controller_down": START_AND_STOP,
    "delete": START_AND_STOP,
    "patch_several_fields_at_once": START_AND_STOP,
    "restart_running_force_and_stopped": START_AND_STOP,
    "stop_asked_before_running": START_AND_STOP,
    "stop_twice_and_when_stopped": START_AND_STOP,
    "stop_while_rescaling": START_AND_STOP,
    "stop_while_restarting": START_AND_STOP,
    "start_stop_modes_resume": " ".join([START_AND_STOP] * 4),
    "restart_rescale_stop_resume": " ".join([START_AND_STOP] * 2),
    "worker_mode_restart_ignore_state": f"{START_AND_STOP} starting",
    "restart_then_force_stop": f"stopped {START_AND_STOP}",
    "stop_right_after_resume": "stopped starting stopped",
    "patch_stopped_then_resume": "stopped starting",
    "rollback_resume_of_the_old": "stopped starting",
    "stop_right_after_restart_of_failed": "failed stopped",
    "patch_failed_then_restart": "failed starting failed",
    "failing_source": "starting failed starting failed",
    "worker_killed": "starting recovering",
    "worker_killed_until_failed": "starting recovering failed",
    "server_killed_and_restarted": "starting recovering",
    "server_terminated_and_restarted": "starting recovering",
    "kafka_unreachable": "starting broker_unreachable",
}
ON_0_15 = {
    # It tries a failing source again and again before it gives up, within the seconds observed.
    "failing_source": "starting recovering flapping failed flapping failed",
    "failing_source_default_restarts": "starting recovering flapping failed",
    "patch_failed_then_restart": "failed starting recovering flapping failed",
}
ON_0_16 = {
    "resume_and_rescale_in_one_patch": "stopped starting",
    # This version reports the reason.
    "failing_source": "starting file_missing starting file_missing",
    "patch_failed_then_restart": "file_missing starting file_missing",
    "stop_right_after_restart_of_failed": "file_missing stopped",
}
KAFKA_ERROR_MS = 30_000
"""When the job's errors begin to name the broker."""


def diagnosed(version: str, name: str) -> list[Diagnosis]:
    """Return the diagnosis at each change of a timeline, after observing the seconds before it."""
    timeline, found = Timeline(version, name), []
    rows = [row for row in timeline.rows if row.job is not None]
    for number, row in enumerate(rows):
        before = [one.job for one in rows[: number + 1] if one.ms > row.ms - OBSERVED_MS]
        jobs = tuple(job for job in before if job and row.job and job.id == row.job.id)
        errors: tuple[JobError, ...] = ()
        if name == "kafka_unreachable" and row.ms >= KAFKA_ERROR_MS:
            at = int(moment(KAFKA_ERROR_MS) * 1e6)
            errors = (JobError(id="1", created_at_micros=at, message="Could not create Kafka consumer"),)
        checkpoints = tuple(timeline.checkpoints)
        evidence = Evidence(
            pipeline=PIPELINE, now=moment(row.ms), jobs=jobs, checkpoints=checkpoints, errors=errors
        )
        found.append(diagnose(evidence))
    return found


@pytest.mark.parametrize("version, name", TIMELINES)
def test_a_recorded_history_has_these_diagnoses(version: str, name: str) -> None:
    found = diagnosed(version, name)
    other = ON_0_15 if version == "0.15.0" else ON_0_16
    expected = other.get(name) or HISTORIES.get(name) or "starting"
    assert " ".join(kind for kind, _ in groupby(one.kind.value for one in found)) == expected
    assert all(one.advice and one.summary for one in found)


def test_recorded_errors_of_a_missing_file_are_diagnosed() -> None:
    recorded = json.loads((RECORDINGS / "0.16-dev" / "failed_pipeline.json").read_text())
    errors = next(
        item["response"]["body"]["data"] for item in recorded if item["note"] == "errors of a failed job"
    )
    job = Job("job_1", JobState.FAILED, 1)
    diagnosis = diagnose(
        Evidence(
            pipeline=PIPELINE,
            now=EPOCH,
            jobs=(job,),
            errors=tuple(JobError.from_api(error) for error in errors),
        )
    )
    assert diagnosis.kind is Kind.FILE_MISSING
    # It was recorded twice, and is listed once.
    assert str(diagnosis).count("/nonexistent/input.json") == 1


def refusals(version: str) -> list[str]:
    """Return every recorded refusal of SQL by the planner."""
    recorded = json.loads((RECORDINGS / version / "errors_and_validation.json").read_text())
    found = [
        error if isinstance(error, str) else error["message"]
        for item in recorded
        if isinstance(item["response"]["body"], dict)
        for error in item["response"]["body"].get("errors", [])
    ]
    assert found
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_refusal_of_sql_is_diagnosed(version: str) -> None:
    for text in refusals(version):
        for jobs in ((Job("job_1", JobState.FAILED, 1),), ()):
            diagnosis = diagnose(Evidence(pipeline=PIPELINE, now=EPOCH, jobs=jobs, refusals=(text,)))
            assert diagnosis.kind is Kind.SQL_REFUSED
            assert diagnosis.is_problem
            assert text[:20].split("\n")[0] in str(diagnosis)


@pytest.mark.parametrize(
    "reason",
    ["Failed to plan query:\n * table 'nowhere' not found", "Error during planning: Table nowhere not found"],
)
def test_a_job_that_failed_because_of_its_sql_is_diagnosed_from_its_reason(reason: str) -> None:
    job = Job("job_1", JobState.FAILED, 1, failure=FailureReason(reason, "user"))
    assert diagnose(Evidence(pipeline=PIPELINE, now=EPOCH, jobs=(job,))).kind is Kind.SQL_REFUSED
    # The reason of the failure takes precedence over other problems.
    missing = Job("job_1", JobState.FAILED, 1, failure=FailureReason("No such file or directory", "user"))
    now = Evidence(pipeline=PIPELINE, now=EPOCH, jobs=(missing,), refusals=("table 'x' not found",))
    assert diagnose(now).kind is Kind.FILE_MISSING


@pytest.mark.parametrize(
    "checkpoints, kind, words",
    [
        ((), Kind.STOPPED, "it has no checkpoint"),
        ((Checkpoint(epoch=1, start_time_micros=1),), Kind.STOPPED, "it has no checkpoint"),
        (
            (Checkpoint(epoch=4, start_time_micros=1, finish_time_micros=2),),
            Kind.PAUSED,
            "continues from checkpoint 4",
        ),
    ],
)
def test_an_externally_stopped_pipeline(checkpoints: tuple[Checkpoint, ...], kind: Kind, words: str) -> None:
    job = Job("job_1", JobState.STOPPED, 1, running_desired=False)
    found = diagnose(Evidence(pipeline=PIPELINE, now=EPOCH, jobs=(job,), checkpoints=checkpoints))
    assert (found.kind, found.is_problem) == (kind, False)
    assert words in found.summary


@pytest.mark.parametrize(
    "state, is_desired, way_out",
    [
        ("Restarting", True, "A restart with force=True ends that"),
        ("Rescaling", True, "Stop it with mode 'immediate', then resume it"),
        ("CheckpointStopping", False, "A stop with mode 'immediate' ends that"),
    ],
)
@pytest.mark.parametrize("finish", [T0 - 150, None])
def test_one_that_waits_in_vain_for_its_final_checkpoint(
    state: str, is_desired: bool, way_out: str, finish: int | None
) -> None:
    """Arroyo itself waits for ever."""
    micros = None if finish is None else finish * 1_000_000
    last = Checkpoint(epoch=3, start_time_micros=(T0 - 151) * 1_000_000, finish_time_micros=micros)
    stuck = Job("job_1", state, 2, is_desired)
    found = diagnose(Evidence(pipeline=PIPELINE, now=T0, jobs=(stuck, stuck), checkpoints=(last,)))
    assert (found.kind, found.is_problem) == (Kind.NO_CHECKPOINT, True)
    assert found.summary.startswith(f"{state}, run 2: it waits for its final checkpoint, for 2")
    assert found.details[0].startswith(way_out)
    for jobs, checkpoints, now in (
        ((replace(stuck, state="Running", running_desired=True), stuck), (last,), T0),
        ((stuck, stuck), (last,), T0 - 60),
        ((stuck, stuck), (), T0),
    ):
        others = Evidence(pipeline=PIPELINE, now=now, jobs=jobs, checkpoints=checkpoints)
        assert not diagnose(others).is_problem


def test_no_secret_is_shown() -> None:
    url = "kafka://user:hunter2@broker:9092"
    failure = FailureReason.from_api({"error": f"cannot reach {url}", "domain": "external"})
    job = Job("job_1", JobState.FAILED, 1, failure=failure)
    errors = (
        JobError.from_api({"id": "1", "created_at": 1, "message": "x", "details": f"no route to {url}"}),
    )
    found = diagnose(
        Evidence(pipeline=PIPELINE, now=EPOCH, jobs=(job,), errors=errors, refusals=(f"bad option {url}",))
    )
    assert "hunter2" not in str(found) + repr(found)


@pytest.mark.parametrize(
    "job, kind, summary",
    [
        (Job("job_1", "Failed", 0), Kind.FAILED, "Failed before its first run."),
        (Job("job_1", "Failed", 2), Kind.FAILED, "Failed in run 2."),
        (Job("job_1", "Created", 0), Kind.STARTING, "Created, no run yet."),
        (Job("job_1", "Scheduling", 1, None), Kind.STARTING, "Scheduling, run 1."),
        (Job("job_1", "Scheduling", 1, False), Kind.STOPPING, "Scheduling, and asked to stop."),
    ],
)
def test_the_summary_of_a_job_without_a_run_or_running_desired(job: Job, kind: Kind, summary: str) -> None:
    found = diagnose(Evidence(pipeline=PIPELINE, now=EPOCH, jobs=(job,)))
    assert (found.kind, found.summary) == (kind, summary)
