"""The counts and times of a wait for Airflow's metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.enums import TERMINAL_STATES
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.retry import POLL_RETRIES
from airflow_provider_arroyo.monitoring.condition import Reading
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.result import WaitResult, WaitStats
from airflow_provider_arroyo.monitoring.wait import PipelineWait

from .support import GONE, REFUSED, T0, job, move, wait

Seen = list[tuple[float, Job]]

TIMES: dict[str, tuple[PipelineWait, Seen, dict[str, Any]]] = {
    "created, then Running": (
        wait(created_at=T0 - 0.5, stable_for=60),
        [(0, job("Created", 0)), (1, job("Scheduling")), (1.5, job())],
        {"running_seconds": 2.0},
    ),
    "the first of two runs counts": (
        wait(created_at=T0, stable_for=60),
        [(1, job()), (2, job("Recovering")), (3, job(run_id=2))],
        {"running_seconds": 1.0, "restarts": 1},
    ),
    "a restart: the old Running does not count": (
        wait(before=job(), stable_for=60),
        [(0.1, job()), (0.3, job("Restarting")), (2.5, job(run_id=2))],
        {"running_seconds": 2.5},
    ),
    "Running, and about to stop": (
        wait(created_at=T0, stable_for=60),
        [(1, job(desired=False))],
        {},
    ),
    "finished before a poll saw it running": (
        wait(created_at=T0, stable_for=60, finished_is_success=True),
        [(1, job("Finished"))],
        {},
    ),
    "waits for the end, and sees it run": (
        wait("Finished", created_at=T0),
        [(1, job()), (9, job("Finished"))],
        {"running_seconds": 1.0},
    ),
    "adopted as it ran": (wait(stable_for=60), [(1, job())], {}),
    "a stop": (
        wait(*TERMINAL_STATES, before=job()),
        [
            (0.1, job()),
            (0.2, job("CheckpointStopping", desired=False)),
            (1.25, job("Stopped", desired=False)),
        ],
        {"stop_seconds": 1.25},
    ),
    "a stop that ends in a failure": (
        wait(*TERMINAL_STATES, before=job()),
        [(0.2, job("CheckpointStopping", desired=False)), (1, job("Failed"))],
        {},
    ),
    "a sensor that waits for a stop": (
        wait("Stopped"),
        [(0, job()), (1, job("Stopped", desired=False))],
        {},
    ),
}


@pytest.mark.parametrize("case", TIMES)
def test_the_times_of_a_wait(case: str) -> None:
    one, seen, expected = TIMES[case]
    for after, shown in seen:
        result = one.observe(shown, T0 + after)
    assert result.stats == WaitStats(**expected)


def test_the_first_finished_checkpoint_is_timed() -> None:
    one = wait(created_at=T0, until_checkpoint=True)
    one.observe(job(), T0 + 1)
    shown = one.progress.job
    assert shown is not None
    open_one: Any = Checkpoint(epoch=1, start_time_micros=1, finish_time_micros=None)
    one.observe_details(shown, Reading([open_one]), T0 + 2, sent_at=T0 + 2)
    finished = Checkpoint(epoch=1, start_time_micros=1, finish_time_micros=2)
    result = one.observe_details(shown, Reading([finished]), T0 + 3, sent_at=T0 + 3)
    assert result.outcome is Outcome.REACHED
    assert result.stats == WaitStats(running_seconds=1.0, checkpoint_seconds=3.0)


def test_each_retried_failure_is_a_retry_and_each_announcement_an_outage() -> None:
    one = wait(outage_tolerance=600)
    one.observe(job("Created", 0), T0)
    for outage in range(2):
        for number in range(POLL_RETRIES + 3):
            result = one.observe_error(REFUSED, T0 + 100 * outage + number + 1)
        assert result.stats == WaitStats(retries=(POLL_RETRIES + 3) * (outage + 1), outages=outage + 1)
        one.observe(job("Created", 0), T0 + 100 * outage + 50)


@pytest.mark.parametrize(
    "error, more, at, outcome",
    [(REFUSED, {"deadline": T0 + 1}, 1, Outcome.TIMED_OUT), (GONE, {}, 1, Outcome.DELETED)],
)
def test_the_failure_that_ends_a_wait_is_not_a_retry(
    error: Any, more: dict[str, Any], at: float, outcome: Outcome
) -> None:
    one = wait(**more)
    one.observe(job("Created", 0), T0)
    result = one.observe_error(error, T0 + at)
    assert (result.outcome, result.stats.retries) == (outcome, 0)


def test_stats_survive_json_with_the_wait_and_with_its_result() -> None:
    one = wait(created_at=T0, stable_for=60)
    one.polled()
    one.observe(job(), T0 + 1)
    other = move(one, T0 + 5)
    other.polled(7)
    other.observe_error(REFUSED, T0 + 6)
    result = other.observe(job(), T0 + 70)
    assert result.stats == WaitStats(polls=8, retries=1, running_seconds=1.0)
    assert WaitResult.from_dict(json.loads(json.dumps(result.to_dict()))).stats == result.stats
