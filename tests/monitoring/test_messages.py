"""The log lines of a wait, word for word. For failed polls, see test_failed_polls."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_provider_arroyo.client.details import JobError
from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.messages import Message, done, log_messages
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import result_values
from airflow_provider_arroyo.text import duration, utc_time
from tests.monitoring.support import T0, UNNAMED, job, logged, wait

ORDERS = PipelineRef(pipeline_id="pl_1", name="orders")


def test_each_change_is_one_line_that_begins_with_the_state() -> None:
    sensor = wait("Finished", pipeline=ORDERS)
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
    assert logged(sensor) == [
        "Created: orders (no run yet)",
        "Created → Scheduling after 0.44 s: orders (run 1)",
        "Scheduling → Running after 0.16 s: orders (run 1)",
        "Running → Running after 2.4 s: orders (run 2)",
        "Running, stop requested: orders (run 2)",
        "Running → CheckpointStopping after 0.40 s: orders (run 2, stop requested)",
        "CheckpointStopping → Stopped after 0.10 s: orders (run 2)",
        "Stopped, stop request withdrawn: orders (run 2)",
        "Stopped → Created after 3 min 8 s: orders (no run yet, new job job_2 instead of job_1)",
        "Created → Failed after 1.0 s: orders (run 1). Reason: no such file",
    ]
    assert logged(sensor) == [], "take_messages returned lines twice"


def test_the_first_line_about_a_stopping_or_failed_pipeline() -> None:
    stopping, failed = wait("Finished", pipeline=ORDERS), wait("Running", pipeline=ORDERS)
    stopping.observe(job("Running", 3, desired=False), T0)
    failed.observe(job("Failed", 3, reason="x" * 5000), T0)
    assert logged(stopping) == ["Running: orders (run 3, stop requested)"]
    (line,) = logged(failed)
    assert line == f"Failed: orders (run 3). Reason: {'x' * 300}… (5000 characters)"


def test_no_secret_that_arroyo_quotes_is_logged() -> None:
    said = "cannot connect to postgres://me:hunter2@db:5432/shop"
    failed = wait("Running", pipeline=ORDERS)
    result = failed.observe(job("Failed", 1, reason=said), T0)
    errors = [JobError.from_api({"id": "1", "message": "task failed", "details": said})]
    error = explain(result, ORDERS, errors=errors)
    texts = [*logged(failed), str(error), str(vars(error)), str(result_values(ORDERS, result.job))]
    for text in texts:
        assert "hunter2" not in text
        assert "cannot connect to postgres://" in text


def test_a_heartbeat_names_the_goal_and_the_time_left() -> None:
    sensor = wait("Finished", "Stopped", pipeline=ORDERS, heartbeat=300, deadline=T0 + 3600)
    sensor.observe(None, T0)
    sensor.observe(None, T0 + 300)
    sensor.observe(job(), T0 + 310)
    for second in range(320, 911, 10):
        sensor.observe(job(), T0 + second)
    assert logged(sensor) == [
        "No job yet: orders; waiting for Finished or Stopped, 55 min left",
        "Running: orders (run 1)",
        "Still Running after 5 min: orders (run 1); waiting for Finished or Stopped, 49 min 50 s left",
        "Still Running after 10 min: orders (run 1); waiting for Finished or Stopped, 44 min 50 s left",
    ]


def test_the_id_is_shown_only_if_the_name_is_unknown() -> None:
    unnamed, percent = wait(pipeline=UNNAMED), wait(pipeline=PipelineRef(pipeline_id="x", name="100%s done"))
    unnamed.observe(job(), T0)
    percent.observe(job(), T0)
    assert logged(unnamed) == ["Running: pl_1 (run 1)"]
    assert logged(percent) == ["Running: 100%s done (run 1)"]


def test_messages_reach_a_logger_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="test_messages"):
        log_messages(logging.getLogger("test_messages"), [Message(logging.WARNING, "P is 100% %s")])
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "P is 100% %s")


@pytest.mark.parametrize(
    "seconds, text",
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
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times_are_written_in_utc() -> None:
    assert utc_time(1_795_575_845) == "2026-11-25 03:04:05 UTC"


@pytest.mark.parametrize(
    "more, shown",
    [
        ({"checkpoint": {"epoch": 3, "finish_time_micros": 1795929012676140}}, "checkpoint: epoch 3"),
        ({"checkpoint": None, "action": "created"}, "action: created"),
        (
            {"metric": {"name": "bytes_sent", "value": 2.5, "time_micros": 1}},
            "metric: name bytes_sent value 2.5",
        ),
    ],
)
def test_the_last_line_shows_no_python_and_no_microseconds(more: dict[str, Any], shown: str) -> None:
    assert done(ORDERS, job("Stopped", 1), **more) == f"Done, Stopped: orders (run 1, {shown})"
