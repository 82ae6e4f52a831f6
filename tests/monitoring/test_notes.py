"""What a wait writes to the log, word for word."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_arroyo.monitoring.notes import Note, duration, log_notes, moment
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import REFUSED, T0, job, plan, said, wait


def test_the_life_of_a_pipeline_reads_like_a_story() -> None:
    sensor = wait("Finished")
    sensor.observe(job("Created", 0), T0)
    sensor.observe(job("Scheduling", 1), T0 + 0.44)
    for ms in range(600, 2800, 100):
        sensor.observe(job("Running", 1), T0 + ms / 1000)
    sensor.observe(job("Running", 2), T0 + 3)
    sensor.observe(job("Running", 2, desired=False), T0 + 3.1)
    sensor.observe(job("CheckpointStopping", 2, desired=False), T0 + 3.4)
    sensor.observe(job("Stopped", 2, desired=False), T0 + 3.5)
    sensor.observe(job("Stopped", 2, desired=True), T0 + 190)
    sensor.observe(job("Created", 0, job_id="job_2"), T0 + 191)
    sensor.observe(job("Failed", 1, job_id="job_2", reason="no such\n  file", domain="user"), T0 + 192)
    assert said(sensor) == [
        "P is Created (run 0)",
        "P: Created -> Scheduling after 0.44 s (run 1)",
        "P: Scheduling -> Running after 0.16 s (run 1)",
        "P: Running -> Running after 2.4 s (run 2)",
        "P was asked to stop (still Running, run 2)",
        "P: Running -> CheckpointStopping after 0.40 s (run 2, asked to stop)",
        "P: CheckpointStopping -> Stopped after 0.10 s (run 2)",
        "P is to run again (still Stopped, run 2)",
        "P has a new job job_2 in place of job_1: Created (run 0)",
        "P: Created -> Failed after 1.0 s (run 1): no such file",
    ]


def test_an_outage_is_a_warning_and_its_end_a_line() -> None:
    sensor = wait("Finished")
    sensor.observe(job(), T0)
    sensor.notes()
    for second in range(1, 8):
        sensor.observe_error(REFUSED, T0 + second)
    sensor.observe(job(), T0 + 8)
    notes = sensor.notes()
    assert [str(note) for note in notes] == [
        "P: Arroyo cannot be reached, which is tolerated for 10 min: Connection refused",
        "P: Arroyo can be reached again after 8.0 s",
    ]
    assert [note.level for note in notes] == [logging.WARNING, logging.INFO]


def test_a_heartbeat_says_what_is_waited_for_and_for_how_long_still() -> None:
    sensor = wait("Finished", "Stopped", heartbeat=300, deadline=T0 + 3600)
    sensor.observe(None, T0)
    sensor.observe(None, T0 + 300)
    sensor.observe(job(), T0 + 310)
    for second in range(320, 911, 10):
        sensor.observe(job(), T0 + second)
    sensor.observe_error(REFUSED, T0 + 920)
    sensor.tick(T0 + 1220)
    assert said(sensor) == [
        "P has no job yet; waiting for Finished or Stopped, 55 min left",
        "P is Running (run 1)",
        "P is still Running after 5 min (run 1); waiting for Finished or Stopped, 49 min 50 s left",
        "P is still Running after 10 min (run 1); waiting for Finished or Stopped, 44 min 50 s left",
        "P: Arroyo cannot be reached, which is tolerated for 10 min: Connection refused",
        "P: Arroyo has not been reachable for 5 min 10 s; waiting for Finished or Stopped, 39 min 40 s left",
    ]


def test_a_very_long_reason_is_cut() -> None:
    sensor = wait("Running")
    sensor.observe(job("Failed", reason="x" * 5000), T0)
    (line,) = said(sensor)
    assert len(line) < 400
    assert line.endswith("… (5000 characters)")


def test_notes_are_taken_once() -> None:
    sensor = wait("Finished")
    sensor.observe(job(), T0)
    assert len(sensor.notes()) == 1
    assert sensor.notes() == []


def test_a_wait_without_a_label_names_the_pipeline() -> None:
    sensor = PipelineWait(plan("Finished"), now=T0)
    sensor.observe(job(), T0)
    assert said(sensor) == ["Pipeline pl_1 is Running (run 1)"]


def test_notes_reach_a_logger_with_lazy_arguments(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test_notes")
    with caplog.at_level(logging.INFO, logger="test_notes"):
        log_notes(logger, [Note(logging.WARNING, "%s is 100%% %s", ("P", "gone"))])
    (record,) = caplog.records
    assert (record.levelno, record.msg, record.args) == (logging.WARNING, "%s is 100%% %s", ("P", "gone"))
    assert record.getMessage() == "P is 100% gone"


def test_a_label_with_percent_signs_is_taken_as_it_is() -> None:
    sensor = PipelineWait(plan("Finished"), now=T0, label="100%s done")
    sensor.observe(job(), T0)
    assert said(sensor) == ["100%s done is Running (run 1)"]


@pytest.mark.parametrize(
    "seconds,text",
    [
        (-1, "0.00 s"),
        (0.004, "0.00 s"),
        (0.26, "0.26 s"),
        (0.9999, "1.0 s"),
        (12.44, "12.4 s"),
        (59.94, "59.9 s"),
        (59.99, "1 min"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3599.6, "1 h"),
        (7800, "2 h 10 min"),
        (86400, "24 h"),
    ],
)
def test_lengths_of_time_are_written_as_people_read_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_moments_are_written_in_utc() -> None:
    assert moment(1_795_575_845) == "2026-11-25 03:04:05 UTC"
