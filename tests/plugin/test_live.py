"""A pipeline's current status on its page: a sentence for each state, and a diagnosis if enough is known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_arroyo.client.details import Checkpoint, JobError
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import FailureReason, Job
from airflow_provider_arroyo.plugin.live import absent, live
from airflow_provider_arroyo.plugin.metrics import Measured
from airflow_provider_arroyo.plugin.readings import Part, kept_checkpoints
from airflow_provider_arroyo.plugin.snapshot import Row, Snapshot

from .support import facts, job

S = 1_000_000
NOW = 10_000.0


def row(one: Job | None, **fields: Any) -> Row:
    """Return a pipeline after its parts were read."""
    if one is not None and one.start_time_micros is None:
        one = replace(one, start_time_micros=int(NOW - 1000) * S)
    found = Row(facts(1, **fields), job=one)
    if one is not None:
        readings = found.readings_of(one)
        readings.measured = Measured(
            nodes=({"id": 1, "in": 5.0, "out": 5.0, "backpressure": 0.0},),
            at=(NOW - 2,),
            rows_in=(1234.0,),
            rows_out=(5.0,),
            backpressure=(0.0,),
        )
        readings.checkpoints = kept_checkpoints([Checkpoint(1, int(NOW - 5) * S, int(NOW - 4) * S)])
        readings.checkpoints_at = NOW
    return found


def shown(one: Row) -> dict[str, Any]:
    found = live(one, now=NOW, server_time=NOW)
    json.dumps(found, allow_nan=False)
    return found


@pytest.mark.parametrize("state", [*JobState, "Hibernating", "x" * 5000, "{run}{rates}"])
def test_every_state_has_a_sentence(state: str) -> None:
    sentence = shown(row(job(1, state, run=7)))["sentence"]
    assert sentence.endswith(".")
    assert len(sentence) < 200
    assert "{" not in sentence or "{" in state


def test_a_running_pipeline_shows_its_rates() -> None:
    assert shown(row(job(1)))["sentence"] == "Running (run 1): reading 1,234 rows/s and writing 5 rows/s."
    idle = row(job(1))
    assert idle.readings is not None
    idle.readings.measured = Measured(
        at=(NOW,), rows_in=(9.96,), rows_out=(0.24,), nodes=shown(idle)["nodes"]
    )
    assert shown(idle)["sentence"] == "Running (run 1): reading 10 rows/s and writing 0.24 rows/s."
    idle.readings.measured = Measured(at=(NOW,), rows_in=(0.0,), rows_out=(0.0,), nodes=shown(idle)["nodes"])
    assert shown(idle)["sentence"] == "Running (run 1): no rows at the moment."
    for unknown in (
        Measured(at=(NOW,), rows_in=(None,), rows_out=(None,), nodes=shown(idle)["nodes"]),
        None,
    ):
        idle.readings.measured = unknown
        assert shown(idle)["sentence"] == "Running (run 1)."


@pytest.mark.parametrize(
    "state, wanted, expected",
    [
        ("Running", False, "Running (run 1); a stop was requested."),
        ("Finishing", False, "Running (run 1); a stop was requested."),
        ("Stopped", True, "Stopped; a resume was requested."),
    ],
)
def test_a_pending_request_is_shown(state: str, wanted: bool, expected: str) -> None:
    assert shown(row(job(1, state, running_desired=wanted)))["sentence"] == expected


def test_a_pipeline_that_never_ran_does_not_continue_from_a_checkpoint() -> None:
    assert shown(row(job(1, "Failed", run=0)))["sentence"] == "Failed before its first run."
    assert shown(row(job(1, "Failed", run=1)))["sentence"].endswith("continues from the last checkpoint.")


def test_a_pipeline_without_a_job_is_neither_healthy_nor_unhealthy() -> None:
    found = shown(row(None))
    assert found["sentence"].startswith("No job yet")
    assert found["diagnosis"] is None


@pytest.mark.parametrize("state", ["Stopped", "Failed", "Recovering", "Scheduling"])
def test_a_stopped_pipeline_has_no_current_metrics_although_arroyo_keeps_the_last_values(state: str) -> None:
    found = shown(row(job(1, state)))
    assert found["nodes"] == []
    assert found["rates"]["in"] == (1234.0,)


def test_old_measurements_are_not_shown_as_current() -> None:
    assert live(row(job(1)), now=NOW, server_time=NOW + 60)["nodes"] == []


def test_an_outage_does_not_worsen_the_diagnosis() -> None:
    found = live(row(job(1)), now=NOW + 3600, server_time=NOW + 3600)
    assert found["diagnosis"]["kind"] == "healthy"


def test_without_checkpoints_its_health_is_unknown() -> None:
    unread = row(job(1))
    assert shown(unread)["diagnosis"]["kind"] == "healthy"
    assert unread.readings is not None
    unread.readings.failed(Part.CHECKPOINTS, "Arroyo responded 500")
    found = shown(unread)
    assert found["diagnosis"] is None
    assert found["missing"] == ["Checkpoints: Arroyo responded 500"]
    assert found["checkpoints"]
    # A failed pipeline has a diagnosis without them.
    failed = row(job(1, "Failed"))
    assert failed.readings is not None
    failed.readings.checkpoints = None
    assert shown(failed)["diagnosis"]["is_fault"]


def test_the_diagnosis_shows_no_secret() -> None:
    snapshot = Snapshot(began=0)
    snapshot.take_pipelines([facts(1, secrets=frozenset({"hunter2hunter"}))])
    snapshot.take_jobs([job(1, "Failed", failure=FailureReason("no login with hunter2hunter", "user"))], NOW)
    failed = snapshot.rows["pl_1"]
    assert failed.job is not None
    failed.readings_of(failed.job).errors = (JobError("1", message="shown already"),)
    found = shown(failed)
    assert any("no login with ***" in line for line in found["diagnosis"]["details"])
    assert "hunter2hunter" not in json.dumps(found)


def test_one_restart_is_not_flapping_but_many_recent_ones_are() -> None:
    asked = row(job(1, run=3))
    asked.changes.extend([(NOW - 20, "Running", 2), (NOW - 10, "Running", 3)])
    assert shown(asked)["diagnosis"]["kind"] == "healthy"
    flapping = row(job(1, run=9))
    flapping.changes.extend((NOW - 100 + run, "Running", run) for run in range(4, 10))
    assert shown(flapping)["diagnosis"]["kind"] == "flapping"
    long_ago = row(job(1, run=9))
    long_ago.changes.extend((NOW - 1000 + run, "Running", run) for run in range(4, 10))
    assert shown(long_ago)["diagnosis"]["kind"] == "healthy"


@pytest.mark.parametrize("micros", [10**400, -(10**400)])
def test_invalid_times_break_nothing(micros: int) -> None:
    found = shown(row(job(1, "Created", run=0, created_at_micros=micros, start_time_micros=micros)))
    assert found["sentence"]


def test_readings_of_another_job_are_not_shown() -> None:
    other = row(job(1))
    other.job = job(2)
    found = shown(other)
    assert (found["checkpoints"], found["rates"], found["diagnosis"]) == ([], None, None)


def test_the_reason_for_a_missing_pipeline_depends_on_what_is_known() -> None:
    assert "it was deleted" in absent("pl_1", known=0)
    assert "among the 5,000" in absent("pl_1", known=5000)
    assert "not been listed yet" in absent("pl_1", known=None)
    assert len(absent("x" * 1000, known=1)) < 300
