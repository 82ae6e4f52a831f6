"""Every state that real servers showed gets a diagnosis that fits it."""

from __future__ import annotations

import json

import pytest

from airflow_provider_arroyo.client.details import JobError
from airflow_provider_arroyo.client.models import Job, JobState, Pipeline
from airflow_provider_arroyo.monitoring.diagnosis import Evidence, Kind, diagnose
from tests.monitoring.timelines import EPOCH, RECORDINGS, VERSIONS, Timeline, moment

TIMELINES = [
    (version, path.stem)
    for version in VERSIONS
    for path in sorted((RECORDINGS / version / "timelines").glob("*.json"))
]
PIPELINE = Pipeline("pl_1", "orders", "SELECT 1")
AT_REST = {
    JobState.FINISHED: {Kind.FINISHED},
    JobState.STOPPED: {Kind.STOPPED, Kind.STARTING},
    JobState.FAILED: {Kind.FAILED, Kind.FILE_MISSING},
    JobState.FAILING: {Kind.FAILED, Kind.FILE_MISSING},
    JobState.FINISHING: {Kind.FINISHING, Kind.STOPPING},
    JobState.RECOVERING: {Kind.FLAPPING, Kind.STOPPING},
}
ALIVE = {Kind.STARTING, Kind.STOPPING, Kind.FLAPPING}


@pytest.mark.parametrize("version, name", TIMELINES)
def test_every_recorded_state_has_a_diagnosis_that_fits(version: str, name: str) -> None:
    jobs: list[Job] = []
    for row in Timeline(version, name).rows:
        if row.job is None:
            continue
        jobs = [*(job for job in jobs if job.id == row.job.id), row.job]
        # Up to the last ten seconds are observed.
        evidence = Evidence(pipeline=PIPELINE, now=moment(row.ms), jobs=tuple(jobs[-3:]))
        diagnosis = diagnose(evidence)
        assert diagnosis.kind in AT_REST.get(JobState(row.job.state), ALIVE), row
        assert diagnosis.summary.startswith(row.job.state)
        assert diagnosis.advice


def test_the_recorded_errors_of_a_missing_file() -> None:
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
    # It was recorded twice, and is said once.
    assert str(diagnosis).count("/nonexistent/input.json") == 1
