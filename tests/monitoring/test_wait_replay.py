"""Every recorded timeline of real servers, and what each sensible wait must make of it.

The table below is meant to be read beside the timelines: each row says which wait begins where, and how it
must end: with which outcome, in which state and run, and how long after that state was first seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, Job
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.plan import Baseline, WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.timelines import (
    RECORDINGS,
    VERSIONS,
    Timeline,
    moment,
    replay_polled,
    replay_rows,
)

BOTH = VERSIONS
V15 = ("0.15.0",)
V16 = ("0.16-dev",)
TIMEOUT = 30_000
GRACE = 5_000
PHASES = (0, 23, 51, 87)
"""Milliseconds by which the polls of the 100 ms replays are shifted against the start."""


@dataclass(frozen=True)
class Goal:
    """What is waited for, and how, as the operators and the sensor ask for it."""

    name: str
    targets: frozenset[str]
    stable_ms: int = 0
    finished_is_success: bool = False
    stopped_is_final: bool = False
    follows_change: bool = False

    def plan(self, timeline: Timeline, start: float) -> WaitPlan:
        baseline = None
        if self.follows_change:
            before = timeline.shown_at(start)
            assert before is not None
            assert before.job is not None
            baseline = Baseline.of(before.job, asked_at=moment(start))
        return WaitPlan(
            pipeline_id="pl_1",
            targets=self.targets,
            deadline=moment(start + TIMEOUT),
            stable_for=timedelta(milliseconds=self.stable_ms),
            finished_is_success=self.finished_is_success,
            stopped_is_final=self.stopped_is_final,
            baseline=baseline,
        )


def submit(state: str, stable_ms: int = 0) -> Goal:
    return Goal(
        f"submit and wait for {state}, stable for {stable_ms} ms",
        frozenset({state}),
        stable_ms,
        finished_is_success=True,
        stopped_is_final=True,
    )


def sensor(state: str, stable_ms: int = 0) -> Goal:
    return Goal(f"sensor for {state}, stable for {stable_ms} ms", frozenset({state}), stable_ms)


def runs_again(stable_ms: int = 0) -> Goal:
    return Goal(
        f"change, then wait for Running, stable for {stable_ms} ms",
        frozenset({"Running"}),
        stable_ms,
        stopped_is_final=True,
        follows_change=True,
    )


STOP = Goal("stop", frozenset(TERMINAL_STATES), follows_change=True)
RUNS_AGAIN_EVENTUALLY = replace(runs_again(), name="change, then Running", stopped_is_final=False)

CREATE = "POST /pipelines"
RESTART = "POST restart {}"
FORCE = 'POST restart {"force"'
IGNORE_STATE = 'POST restart {"ignore_state"'
STOP_CHECKPOINT = 'PATCH {"stop": "checkpoint"}'
STOP_GRACEFUL = 'PATCH {"stop": "graceful"}'
STOP_IMMEDIATE = 'PATCH {"stop": "immediate"}'
STOP_FORCE = 'PATCH {"stop": "force"}'
RESUME = 'PATCH {"stop": "none"}'
RESCALE = 'PATCH {"parallelism"'
INTERVAL = 'PATCH {"checkpoint_interval_micros"'
ENV_VARS = 'PATCH {"env_vars"'
FIRST_LOOK = None

WORKER_MODE = "worker_mode_restart_ignore_state"
KILLED_TWICE = "worker_killed_until_failed"
BUSY = "restart_rescale_stop_resume"


@dataclass(frozen=True)
class Case:
    timeline: str
    goal: Goal
    begins: str | tuple[str, int] | None
    """The call that the wait follows; with a number where the timeline has several."""
    outcome: Outcome
    state: str
    run: int
    after_ms: float = 0
    """How long after the state was first seen (``from_start``: after the wait began) the wait must end."""
    from_start: bool = False
    restarts: int = 0
    unchanged: bool = False
    versions: tuple[str, ...] = BOTH
    polled: bool = True
    """False where the moments that decide are shorter than a poll of 100 ms."""


REACHED, FAILED, FINISHED = Outcome.REACHED, Outcome.FAILED, Outcome.FINISHED
STOPPED, DELETED, TIMED_OUT = Outcome.STOPPED, Outcome.DELETED, Outcome.TIMED_OUT

# fmt: off
CASES = [
    # A source with an end, that runs for a bit over two seconds. Nothing that is asked afterwards has an effect.
    *(Case("bounded_finishes_and_never_leaves", goal, begins, outcome, state, 1, after, from_start)
      for goal, begins, outcome, state, after, from_start in [
        (submit("Running", 2000),  CREATE,          REACHED,   "Running",  2000, False),
        (submit("Running", 0),     CREATE,          REACHED,   "Running",     0, False),
        (submit("Running", 5000),  CREATE,          REACHED,   "Finished",    0, False),
        (submit("Finished"),       CREATE,          REACHED,   "Finished",    0, False),
        (sensor("Running"),        CREATE,          REACHED,   "Running",     0, False),
        (sensor("Running", 5000),  CREATE,          FINISHED,  "Finished",    0, False),
        (sensor("Finished"),       CREATE,          REACHED,   "Finished",    0, False),
        (sensor("Finished", 9000), CREATE,          REACHED,   "Finished",    0, False),
        (sensor("Stopped"),        CREATE,          FINISHED,  "Finished",    0, False),
        (sensor("Failed"),         CREATE,          FINISHED,  "Finished",    0, False),
    ]),
    Case("bounded_finishes_and_never_leaves", STOP, STOP_CHECKPOINT, REACHED, "Finished", 1, 0, True, unchanged=True),
    *(Case("bounded_finishes_and_never_leaves", goal, begins, FINISHED, "Finished", 1, 0, True, unchanged=True)
      for begins in (RESTART, RESUME) for goal in (runs_again(0), runs_again(2000), RUNS_AGAIN_EVENTUALLY)),
    # A preview is an ordinary job to a wait; its recording begins with the first look.
    Case("preview_bounded", submit("Running", 2000), FIRST_LOOK, REACHED,  "Running",  1, 2000),
    Case("preview_bounded", submit("Finished"),      FIRST_LOOK, REACHED,  "Finished", 1),
    Case("preview_bounded", sensor("Stopped"),       FIRST_LOOK, FINISHED, "Finished", 1),
    # Ten rows: Running for 210 ms.
    Case("short_bounded", submit("Running", 2000), CREATE, REACHED,  "Finished", 1),
    Case("short_bounded", submit("Running", 0),    CREATE, REACHED,  "Running",  1),
    Case("short_bounded", submit("Finished"),      CREATE, REACHED,  "Finished", 1),
    Case("short_bounded", sensor("Running", 2000), CREATE, FINISHED, "Finished", 1),
    Case("short_bounded", sensor("Finished"),      CREATE, REACHED,  "Finished", 1),
    # Stopped as soon as it ran, then deleted (what follows the deletion was recorded on 0.15 only).
    Case("delete", submit("Running", 0),    CREATE,         REACHED, "Running", 1, polled=False),
    Case("delete", submit("Running", 2000), CREATE,         STOPPED, "Stopped", 1, polled=False),
    Case("delete", submit("Finished"),      CREATE,         STOPPED, "Stopped", 1, polled=False),
    Case("delete", STOP,                    STOP_IMMEDIATE, REACHED, "Stopped", 1, polled=False),
    Case("delete", sensor("Stopped"),       CREATE,         REACHED, "Stopped", 1, polled=False),
    Case("delete", sensor("Failed"),        CREATE, DELETED,   "Stopped", 1, 21,      versions=V15, polled=False),
    Case("delete", sensor("Running", 2000), CREATE, DELETED,   "Stopped", 1, 21,      versions=V15, polled=False),
    Case("delete", sensor("Running", 2000), CREATE, TIMED_OUT, "Stopped", 1, TIMEOUT, True, versions=V16),
    # A missing input file on 0.16: 260 ms of Running, Failing for 5 s, then Failed; the same after a restart.
    *(Case("failing_source", goal, begins, outcome, state, run, after, from_start, versions=V16)
      for goal, begins, outcome, state, run, after, from_start in [
        (submit("Running", 2000), CREATE,          FAILED,  "Failing", 1, 0, False),
        (submit("Running", 0),    CREATE,          REACHED, "Running", 1, 0, False),
        (submit("Finished"),      CREATE,          FAILED,  "Failing", 1, 0, False),
        (sensor("Running", 2000), CREATE,          FAILED,  "Failing", 1, 0, False),
        (sensor("Stopped"),       CREATE,          FAILED,  "Failing", 1, 0, False),
        (sensor("Finished"),      CREATE,          FAILED,  "Failing", 1, 0, False),
        (sensor("Failed"),        CREATE,          REACHED, "Failed",  1, 0, False),
        (runs_again(0),           RESTART,         REACHED, "Running", 2, 0, False),
        (runs_again(2000),        RESTART,         FAILED,  "Failing", 2, 0, False),
        # Resuming a failed one does nothing; the run that is seen comes from the restart 2 s later.
        (runs_again(2000),        RESUME,          FAILED,  "Failing", 2, 0, False),
    ]),
    # The same on 0.15: no Failing, but three runs within a second; then the same after a restart.
    *(Case("failing_source", goal, begins, outcome, state, run, after, from_start, restarts, versions=V15)
      for goal, begins, outcome, state, run, after, from_start, restarts in [
        (submit("Running", 2000), CREATE,          FAILED,  "Failed",  3, 0, False, 2),
        (submit("Running", 0),    CREATE,          REACHED, "Running", 1, 0, False, 0),
        (sensor("Stopped"),       CREATE,          FAILED,  "Failed",  3, 0, False, 2),
        (sensor("Finished"),      CREATE,          FAILED,  "Failed",  3, 0, False, 2),
        (sensor("Failed"),        CREATE,          REACHED, "Failed",  3, 0, False, 2),
        (runs_again(0),           RESTART,         REACHED, "Running", 4, 0, False, 0),
        (runs_again(2000),        RESTART,         FAILED,  "Failed",  6, 0, False, 2),
        (runs_again(2000),        RESUME,          FAILED,  "Failed",  6, 0, False, 2),
    ]),
    # Stopping a failed one does nothing either: it stays as it was, and after the grace time we believe it.
    Case("failing_source", STOP, STOP_CHECKPOINT, REACHED, "Failed", 2, GRACE, True, unchanged=True, versions=V16),
    Case("failing_source", STOP, STOP_CHECKPOINT, REACHED, "Failed", 6, GRACE, True, unchanged=True, versions=V15),
    Case("failing_source_default_restarts", submit("Running", 2000), CREATE, FAILED, "Failed", 21,
         restarts=20, versions=V15),
    Case("failing_source_default_restarts", submit("Running", 200), CREATE, REACHED, "Running", 1, 200,
         versions=V15, polled=False),
    Case("failing_source_default_restarts", submit("Running", 300), CREATE, FAILED, "Failed", 21,
         restarts=20, versions=V15),
    # Parallelism 1 -> 2, then another checkpoint interval, which starts no new run.
    Case("rescale_and_interval", submit("Running", 2000), CREATE,   REACHED, "Running", 1, 2000),
    Case("rescale_and_interval", runs_again(0),           RESCALE,  REACHED, "Running", 2),
    Case("rescale_and_interval", runs_again(2000),        RESCALE,  REACHED, "Running", 2, 2000),
    Case("rescale_and_interval", sensor("Running", 2000), INTERVAL, REACHED, "Running", 2, 2000, True),
    Case("rescale_and_interval", runs_again(0), INTERVAL, TIMED_OUT, "Running", 2, TIMEOUT, True, unchanged=True),
    # Each change before the last one had lasted: what is asked meanwhile by others ends a stable wait.
    Case(BUSY, submit("Running", 2000), CREATE,          REACHED, "Running", 1, 2000),
    Case(BUSY, runs_again(0),           RESTART,         REACHED, "Running", 2),
    Case(BUSY, runs_again(2000),        RESTART,         STOPPED, "Stopped", 3, restarts=1, polled=False),
    Case(BUSY, runs_again(0),           RESCALE,         REACHED, "Running", 3, polled=False),
    Case(BUSY, runs_again(2000),        RESCALE,         STOPPED, "Stopped", 3, polled=False),
    Case(BUSY, STOP,                    STOP_CHECKPOINT, REACHED, "Stopped", 3),
    Case(BUSY, runs_again(0),           RESUME,          REACHED, "Running", 4),
    Case(BUSY, runs_again(2000),        RESUME,          STOPPED, "Stopped", 4),
    Case(BUSY, STOP,                    STOP_IMMEDIATE,  REACHED, "Stopped", 4),
    Case(BUSY, sensor("Stopped"),       CREATE,          REACHED, "Stopped", 3,
         restarts=2),
    # Restarted, restarted by force a second later, stopped; a restart of what is stopped does nothing, for ever.
    Case("restart_running_force_and_stopped", submit("Running", 2000), CREATE,  REACHED, "Running", 1, 2000),
    Case("restart_running_force_and_stopped", runs_again(0),           RESTART, REACHED, "Running", 2),
    Case("restart_running_force_and_stopped", runs_again(2000),        RESTART, STOPPED, "Stopped", 3, restarts=1),
    Case("restart_running_force_and_stopped", runs_again(0),           FORCE,   REACHED, "Running", 3),
    Case("restart_running_force_and_stopped", runs_again(2000),        FORCE,   STOPPED, "Stopped", 3),
    Case("restart_running_force_and_stopped", STOP, STOP_CHECKPOINT,   REACHED, "Stopped", 3),
    Case("restart_running_force_and_stopped", runs_again(0), (RESTART, 2), STOPPED, "Stopped", 3, GRACE, True,
         unchanged=True),
    Case("restart_running_force_and_stopped", RUNS_AGAIN_EVENTUALLY, (RESTART, 2), TIMED_OUT, "Stopped", 3,
         TIMEOUT, True, unchanged=True),
    # Every way to stop, each resumed, each run stopped again after a second.
    Case("start_stop_modes_resume", submit("Running", 2000), CREATE,          REACHED, "Running", 1, 2000),
    Case("start_stop_modes_resume", submit("Running", 3000), CREATE,          STOPPED, "Stopped", 1),
    Case("start_stop_modes_resume", sensor("Running", 3000), CREATE,        TIMED_OUT, "Stopped", 4, TIMEOUT, True,
         restarts=3),
    Case("start_stop_modes_resume", STOP,                    STOP_CHECKPOINT, REACHED, "Stopped", 1),
    Case("start_stop_modes_resume", STOP,                    STOP_GRACEFUL,   REACHED, "Stopped", 2),
    Case("start_stop_modes_resume", STOP,                    STOP_IMMEDIATE,  REACHED, "Stopped", 3),
    Case("start_stop_modes_resume", STOP,                    STOP_FORCE,      REACHED, "Stopped", 4),
    *(Case("start_stop_modes_resume", runs_again(0),    (RESUME, n), REACHED, "Running", n + 1) for n in (1, 2, 3)),
    *(Case("start_stop_modes_resume", runs_again(500),  (RESUME, n), REACHED, "Running", n + 1, 500)
      for n in (1, 2, 3)),
    *(Case("start_stop_modes_resume", runs_again(2000), (RESUME, n), STOPPED, "Stopped", n + 1) for n in (1, 2, 3)),
    # Stop asked 50 ms after it was made: it runs all the same, on its way down, which is no success.
    Case("stop_asked_before_running", submit("Running", 0),    CREATE, STOPPED,   "Stopped", 1),
    Case("stop_asked_before_running", submit("Running", 2000), CREATE, STOPPED,   "Stopped", 1),
    Case("stop_asked_before_running", submit("Finished"),      CREATE, STOPPED,   "Stopped", 1),
    Case("stop_asked_before_running", sensor("Running"),       CREATE, TIMED_OUT, "Stopped", 1, TIMEOUT, True),
    Case("stop_asked_before_running", sensor("Stopped"),       CREATE, REACHED,   "Stopped", 1),
    Case("stop_asked_before_running", sensor("Stopped", 9000), CREATE, REACHED,   "Stopped", 1),
    Case("stop_asked_before_running", STOP, STOP_CHECKPOINT,           REACHED,   "Stopped", 1),
    # Asked twice within 3 ms, and once more when it had stopped: an old Stopped is believed after the grace time.
    Case("stop_twice_and_when_stopped", submit("Running", 0), CREATE,        REACHED, "Running", 1),
    Case("stop_twice_and_when_stopped", STOP, (STOP_CHECKPOINT, 1),          REACHED, "Stopped", 1),
    Case("stop_twice_and_when_stopped", STOP, (STOP_CHECKPOINT, 2),          REACHED, "Stopped", 1),
    Case("stop_twice_and_when_stopped", STOP, (STOP_CHECKPOINT, 3),          REACHED, "Stopped", 1, GRACE, True,
         unchanged=True),
    # The controller is away while the stop is asked: Running for six more seconds.
    Case("controller_down", submit("Running", 2000), CREATE,          REACHED, "Running", 1, 2000, versions=V16),
    Case("controller_down", STOP,                    STOP_CHECKPOINT, REACHED, "Stopped", 1, versions=V16),
    # Other settings of 0.16 that start a new run of the same job.
    Case("patch_env_vars", submit("Running", 0),    CREATE,   REACHED, "Running", 1, versions=V16),
    Case("patch_env_vars", submit("Running", 2000), CREATE,   REACHED, "Running", 2, 2000, restarts=1, versions=V16),
    Case("patch_env_vars", runs_again(0),           ENV_VARS, REACHED, "Running", 2, versions=V16),
    Case("patch_env_vars", runs_again(2000),        ENV_VARS, REACHED, "Running", 2, 2000, versions=V16),
    Case("restart_ignore_state", submit("Running", 2000), CREATE, REACHED, "Running", 1, 2000, versions=V16),
    Case("restart_ignore_state", runs_again(0),     IGNORE_STATE, REACHED, "Running", 2, versions=V16),
    Case("restart_ignore_state", runs_again(2000),  IGNORE_STATE, REACHED, "Running", 2, 2000, versions=V16),
    # The whole server is killed, or ended, and started again: an outage that the wait outlasts, and a new run.
    *(Case(name, goal, CREATE, REACHED, "Running", run, after, restarts=run - 1, versions=V16)
      for name in ("server_killed_and_restarted", "server_terminated_and_restarted")
      for goal, run, after in [
        (submit("Running", 2000),  1, 2000),
        (submit("Running", 9000),  2, 9000),
        (sensor("Running", 3000),  2, 3000),
    ]),
    # A worker process is killed.
    Case("worker_killed", submit("Running", 2000), CREATE, REACHED, "Running", 1, 2000, versions=V16),
    Case("worker_killed", submit("Running", 4000), CREATE, REACHED, "Running", 2, 4000, restarts=1, versions=V16),
    Case(KILLED_TWICE, submit("Running", 0),    CREATE, REACHED, "Running", 1, versions=V16),
    Case(KILLED_TWICE, submit("Running", 2000), CREATE, FAILED,  "Failed",  2, restarts=1, versions=V16),
    Case(KILLED_TWICE, sensor("Finished"),      CREATE, FAILED,  "Failed",  2, restarts=1, versions=V16),
    Case(KILLED_TWICE, sensor("Failed"),        CREATE, REACHED, "Failed",  2, restarts=1, versions=V16),
    # Job-controller "worker": a restart without state replaces the job; its runs count from 1 again.
    Case(WORKER_MODE, submit("Running", 2000), CREATE,  REACHED, "Running", 1, 2000, versions=V16),
    Case(WORKER_MODE, runs_again(0),           RESTART, REACHED, "Running", 2, versions=V16),
    Case(WORKER_MODE, runs_again(1500),        RESTART, REACHED, "Running", 2, 1500, versions=V16),
    Case(WORKER_MODE, STOP, STOP_CHECKPOINT,            REACHED, "Stopped", 2, versions=V16),
    Case(WORKER_MODE, runs_again(0),    (IGNORE_STATE, 2), REACHED, "Running", 1, versions=V16),
    Case(WORKER_MODE, runs_again(2000), (IGNORE_STATE, 2), REACHED, "Running", 1, 2000, versions=V16),
]
# fmt: on


def begin(case: Case, timeline: Timeline) -> float:
    """When the wait begins: at the call that it follows, or with the first look."""
    if case.begins is None:
        return timeline.rows[0].ms
    text, number = (case.begins, 1) if isinstance(case.begins, str) else case.begins
    return max(timeline.call(text, number).ms, timeline.rows[0].ms)


def expected_end(case: Case, timeline: Timeline, start: float) -> float:
    seen = start if case.from_start else timeline.first(case.state, case.run, after=start - 1)
    return seen + case.after_ms


def check(case: Case, verdict: Verdict) -> None:
    assert verdict.outcome is case.outcome
    assert verdict.job is not None
    assert (verdict.job.state, verdict.job.run_id) == (case.state, case.run)
    assert verdict.unchanged is case.unchanged


def _id(case: Case, version: str) -> str:
    return f"{version}-{case.timeline}-{case.goal.name}-{case.begins}"


ALL = [pytest.param(case, version, id=_id(case, version)) for case in CASES for version in case.versions]
POLLED = [
    pytest.param(case, version, id=_id(case, version))
    for case in CASES
    if case.polled
    for version in case.versions
]


@pytest.mark.parametrize("case,version", ALL)
def test_looking_at_each_change_ends_exactly_when_it_must(case: Case, version: str) -> None:
    timeline = Timeline(version, case.timeline)
    start = begin(case, timeline)
    wait = PipelineWait(case.goal.plan(timeline, start), now=moment(start))
    verdict, ended = replay_rows(wait, timeline, start)
    check(case, verdict)
    assert verdict.restarts == case.restarts
    assert ended == pytest.approx(expected_end(case, timeline, start), abs=0.1)


@pytest.mark.parametrize("case,version", POLLED)
@pytest.mark.parametrize("phase", PHASES)
def test_polling_ends_within_two_polls_of_that(case: Case, version: str, phase: int) -> None:
    timeline = Timeline(version, case.timeline)
    start = begin(case, timeline)
    wait = PipelineWait(case.goal.plan(timeline, start), now=moment(start))
    verdict, ended = replay_polled(wait, timeline, start + phase)
    check(case, verdict)
    assert verdict.restarts == case.restarts
    expected = expected_end(case, timeline, start)
    assert expected - 0.1 <= ended <= expected + 200.1


@pytest.mark.parametrize("case,version", ALL)
def test_moving_to_another_process_at_every_look_changes_nothing(case: Case, version: str) -> None:
    timeline = Timeline(version, case.timeline)
    start = begin(case, timeline)
    plan = case.goal.plan(timeline, start)
    stayed, ended = replay_rows(PipelineWait(plan, now=moment(start)), timeline, start)
    moved, ended_moved = replay_rows(MovingWait(plan, start), timeline, start)
    assert (moved.to_dict(), ended_moved) == (stayed.to_dict(), ended)


class MovingWait(PipelineWait):
    """A wait that is taken down and built again, by way of JSON, before each look."""

    def __init__(self, plan: WaitPlan, start: float) -> None:
        super().__init__(plan, now=moment(start))

    def _move(self) -> None:
        plan = WaitPlan.from_dict(json.loads(json.dumps(self.plan.to_dict())))
        progress = json.loads(json.dumps(self.progress()))
        super().__init__(plan, now=progress["now"], progress=progress)

    def observe(self, job: Job | None, now: float, **more: Any) -> Verdict:
        self._move()
        return super().observe(job, now, **more)

    def observe_error(self, error: ArroyoError, now: float, *, answered_at: float | None = None) -> Verdict:
        self._move()
        return super().observe_error(error, now, answered_at=answered_at)


@pytest.mark.parametrize(
    "name,tolerance_ms,unreachable_at",
    [
        # Away from 2907 to 6010, and from 3065 to 9176; the last answer before that is at most a poll older.
        ("server_killed_and_restarted", 2_000, 2_907 + 2_000),
        ("server_killed_and_restarted", 4_000, None),
        ("server_terminated_and_restarted", 5_000, 3_065 + 5_000),
        ("server_terminated_and_restarted", 7_000, None),
    ],
)
@pytest.mark.parametrize("phase", PHASES)
def test_an_outage_is_tolerated_for_as_long_as_was_asked(
    name: str, tolerance_ms: int, unreachable_at: float | None, phase: int
) -> None:
    timeline = Timeline("0.16-dev", name)
    plan = sensor("Running", 9_000).plan(timeline, 0)
    plan = replace(plan, outage_tolerance=timedelta(milliseconds=tolerance_ms))
    verdict, ended = replay_polled(PipelineWait(plan, now=moment(phase)), timeline, phase)
    assert verdict.job is not None
    if unreachable_at is None:
        assert (verdict.outcome, verdict.job.run_id) == (REACHED, 2)
    else:
        assert (verdict.outcome, verdict.job.run_id) == (Outcome.UNREACHABLE, 1)
        assert verdict.unreachable_seconds is not None
        assert verdict.unreachable_seconds >= tolerance_ms / 1000
        assert unreachable_at - 100 <= ended <= unreachable_at + 100


@pytest.mark.parametrize(
    "version,name,domain,words",
    [
        ("0.16-dev", "failing_source", "user", "failed to open file '/nonexistent/input.json'"),
        ("0.16-dev", "worker_killed_until_failed", "internal", "Exhausted retries"),
        ("0.15.0", "failing_source", None, "Job has restarted too many times"),
    ],
)
def test_a_failure_brings_arroyos_reason_along(
    version: str, name: str, domain: str | None, words: str
) -> None:
    timeline = Timeline(version, name)
    wait = PipelineWait(submit("Running", 2_000).plan(timeline, 0), now=moment(0))
    verdict, _ = replay_polled(wait, timeline, 0)
    assert verdict.outcome is FAILED
    assert verdict.job is not None
    assert verdict.job.failure is not None
    assert verdict.job.failure.domain == domain
    assert words in verdict.job.failure.error


@pytest.mark.parametrize("version", VERSIONS)
def test_each_change_of_a_timeline_is_noted_once(version: str) -> None:
    timeline = Timeline(version, "start_stop_modes_resume")
    wait = PipelineWait(sensor("Failed").plan(timeline, 0), now=moment(0), label="P")
    replay_rows(wait, timeline, 0)
    said = [str(note) for note in wait.notes()]
    changes = len(timeline.rows) - 1
    assert len(said) == changes + 1
    assert said[0] == "P is Created (run 0)"
    assert said.count("P was asked to stop (still Running, run 1)") == 1
    assert said.count("P is to run again (still Stopped, run 1)") == 1


def test_every_recorded_timeline_and_call_is_judged() -> None:
    recorded: set[tuple[str, str, float | None]] = set()
    judged: set[tuple[str, str, float | None]] = set()
    for version in VERSIONS:
        for path in sorted((RECORDINGS / version / "timelines").glob("*.json")):
            timeline = Timeline(version, path.stem)
            recorded |= {(version, path.stem, call.ms) for call in timeline.calls} | {
                (version, path.stem, None)
            }
    for case in CASES:
        for version in case.versions:
            judged.add((version, case.timeline, None))
            if case.begins is not None:
                text, number = (case.begins, 1) if isinstance(case.begins, str) else case.begins
                judged.add((version, case.timeline, Timeline(version, case.timeline).call(text, number).ms))
    left_out = {
        (version, name, text)
        for version, name, ms in recorded - judged
        for text in ([call.text for call in Timeline(version, name).calls if call.ms == ms] or ["all of it"])
    }
    # What is no request for a change, and the one request that was refused with 409.
    assert left_out == {
        *((version, "stop_asked_before_running", "checkpoints") for version in VERSIONS),
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
