"""The recorded timelines, replayed: polled at each change, at an interval, and from process to process."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.rules import WaitRules
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.replay_cases import CASES, Case, begin, call_of, sensor, submit
from tests.monitoring.replay_cases_of_changes import CASES_OF_CHANGES
from tests.monitoring.support import logged
from tests.monitoring.timelines import (
    RECORDINGS,
    VERSIONS,
    Timeline,
    moment,
    replay_changes,
    replay_polled,
)
from tests.monitoring.wait_histories import moved

PHASES = (0, 23, 51, 87)
"""Offsets of the polls at an interval of 100 ms, in milliseconds after the start."""

ALL_CASES = [*CASES, *CASES_OF_CHANGES]


def params(*, polled: bool = False) -> list[Any]:
    return [
        pytest.param(case, version, id=f"{version}-{case.timeline}-{case.goal.name}-{case.begins}")
        for case in ALL_CASES
        if case.polled or not polled
        for version in case.versions
    ]


def expected_end(case: Case, timeline: Timeline, start: float) -> float:
    state_seen = start if case.from_start else timeline.first(case.state, case.run, after=start - 1)
    return state_seen + case.after_ms


def check(case: Case, result: WaitResult) -> None:
    assert result.outcome is case.outcome
    assert result.job is not None
    assert (result.job.state, result.job.run_id) == (case.state, case.run)
    assert result.is_unchanged == case.is_unchanged


class MovingWait(PipelineWait):
    """A wait that another process continues, from JSON, before each poll."""

    def _move(self) -> None:
        other = moved(self)
        for name in (*WaitRules.__slots__, *PipelineWait.__slots__):
            setattr(self, name, getattr(other, name))

    def observe(self, job: Job | None, now: float) -> WaitResult:
        self._move()
        return super().observe(job, now)

    def observe_error(self, error: ArroyoError, now: float, **more: Any) -> WaitResult:
        self._move()
        return super().observe_error(error, now, **more)


@pytest.mark.parametrize("case, version", params())
def test_polling_at_each_change_ends_exactly_when_it_must(case: Case, version: str) -> None:
    timeline = Timeline(version, case.timeline)
    start = begin(case, timeline)
    plan = case.goal.plan(timeline, start)
    result, ended = replay_changes(PipelineWait(plan, now=moment(start)), timeline, start)
    check(case, result)
    assert result.restarts == case.restarts
    assert ended == pytest.approx(expected_end(case, timeline, start), abs=0.1)
    went, ended_there = replay_changes(MovingWait(plan, now=moment(start)), timeline, start)
    assert (went.to_dict(), ended_there) == (result.to_dict(), ended), (
        "moving it to another process changed the result"
    )


@pytest.mark.parametrize("case, version", params(polled=True))
@pytest.mark.parametrize("phase", PHASES)
def test_polling_at_an_interval_ends_within_two_polls_of_that(case: Case, version: str, phase: int) -> None:
    timeline = Timeline(version, case.timeline)
    start = begin(case, timeline)
    wait = PipelineWait(case.goal.plan(timeline, start), now=moment(start))
    result, ended = replay_polled(wait, timeline, start + phase)
    check(case, result)
    # A poll at an interval can miss the state that shows a request.
    assert case.restarts <= result.restarts <= case.restarts + case.missed
    expected = expected_end(case, timeline, start)
    assert expected - 0.1 <= ended <= expected + 200.1


@pytest.mark.parametrize(
    "name, tolerance_ms, unreachable_at",
    [
        # Unreachable from 2907 to 6010, and from 3065 to 9176; the last response is at most a poll older.
        ("server_killed_and_restarted", 2_000, 2_907 + 2_000),
        ("server_killed_and_restarted", 4_000, None),
        ("server_terminated_and_restarted", 5_000, 3_065 + 5_000),
        ("server_terminated_and_restarted", 7_000, None),
    ],
)
@pytest.mark.parametrize("phase", PHASES)
def test_an_outage_may_last_for_the_tolerance_and_no_longer(
    name: str, tolerance_ms: int, unreachable_at: float | None, phase: int
) -> None:
    timeline = Timeline("0.16-dev", name)
    plan = sensor("Running", 9_000).plan(timeline, 0)
    plan = replace(plan, outage_tolerance=timedelta(milliseconds=tolerance_ms))
    result, ended = replay_polled(PipelineWait(plan, now=moment(phase)), timeline, phase)
    assert result.job is not None
    if unreachable_at is None:
        assert (result.outcome, result.job.run_id) == (Outcome.REACHED, 2)
        return
    assert (result.outcome, result.job.run_id) == (Outcome.UNREACHABLE, 1)
    assert result.unreachable_seconds is not None
    assert result.unreachable_seconds >= tolerance_ms / 1000
    assert unreachable_at - 100 <= ended <= unreachable_at + 100


@pytest.mark.parametrize(
    "version, name, domain, words",
    [
        ("0.16-dev", "failing_source", "user", "failed to open file '/nonexistent/input.json'"),
        ("0.16-dev", "worker_killed_until_failed", "internal", "Exhausted retries"),
        ("0.15.0", "failing_source", None, "Job has restarted too many times"),
    ],
)
def test_a_failure_comes_with_arroyos_reason(version: str, name: str, domain: str | None, words: str) -> None:
    timeline = Timeline(version, name)
    wait = PipelineWait(submit("Running", 2_000).plan(timeline, 0), now=moment(0))
    result, _ = replay_polled(wait, timeline, 0)
    assert result.outcome is Outcome.FAILED
    assert result.job is not None
    assert result.job.failure is not None
    assert result.job.failure.domain == domain
    assert words in result.job.failure.error


@pytest.mark.parametrize("version", VERSIONS)
def test_each_change_of_a_timeline_is_logged_once(version: str) -> None:
    timeline = Timeline(version, "start_stop_modes_resume")
    wait = PipelineWait(sensor("Failed").plan(timeline, 0), now=moment(0))
    replay_changes(wait, timeline, 0)
    lines = logged(wait)
    assert len(lines) == len(timeline.rows)
    assert lines[0] == "Created: orders_per_minute (no run yet)"
    assert lines.count("Running, stop requested: orders_per_minute (run 1)") == 1
    assert lines.count("Stopped, stop request withdrawn: orders_per_minute (run 1)") == 1


def test_every_recorded_timeline_and_call_has_a_case() -> None:
    recorded: set[tuple[str, str, str, float]] = set()
    for version in VERSIONS:
        for path in (RECORDINGS / version / "timelines").glob("*.json"):
            recorded.add((version, path.stem, "all of it", 0))
            for call in Timeline(version, path.stem).calls:
                recorded.add((version, path.stem, call.text, call.ms))
    covered: set[tuple[str, str, str, float]] = set()
    for case in ALL_CASES:
        for version in case.versions:
            covered.add((version, case.timeline, "all of it", 0))
            if case.begins is not None:
                call = Timeline(version, case.timeline).call(*call_of(case))
                covered.add((version, case.timeline, call.text, call.ms))
    # Notes that are not requests for a change, and the only request that was refused with 409.
    assert {row[:3] for row in recorded - covered} == {
        *((version, "stop_asked_before_running", "checkpoints") for version in VERSIONS),
        *(
            (
                version,
                "rollback_resume_of_the_old",
                "(a second pipeline of the same name was made and failed)",
            )
            for version in VERSIONS
        ),
        ("0.16-dev", "controller_down", "controller killed (kill -9), API still up"),
        ("0.16-dev", "controller_down", "controller started again"),
        ("0.16-dev", "server_killed_and_restarted", "kill -9 of the whole server"),
        ("0.16-dev", "server_killed_and_restarted", "server started again"),
        ("0.16-dev", "server_terminated_and_restarted", "SIGTERM to the server"),
        ("0.16-dev", "server_terminated_and_restarted", "server started again"),
        ("0.16-dev", "worker_killed", "kill -9 of the worker process"),
        ("0.16-dev", "worker_killed_until_failed", "kill -9 of the worker process"),
        ("0.16-dev", "worker_mode_restart_ignore_state", 'POST restart {"ignore_state": true}'),
    }
