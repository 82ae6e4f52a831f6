"""Every recorded timeline of real servers, and how each sensible wait must end in it.

Read the table together with the timelines: each row has a wait, where it begins, and how it must end: with which
outcome, in which state and run, and how long after that state was first seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from airflow_provider_arroyo.client.enums import TERMINAL_STATES
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import Baseline, WaitPlan
from tests.monitoring.support import ORDERS
from tests.monitoring.timelines import VERSIONS, Timeline, moment

BOTH = VERSIONS
V15 = ("0.15.0",)
V16 = ("0.16-dev",)
TIMEOUT = 30_000
GRACE = 5_000


@dataclass(frozen=True)
class Goal:
    """What to wait for, and how, as operators and sensors set it."""

    name: str
    target_states: frozenset[str]
    stable_ms: int = 0
    finished_is_success: bool = False
    stopped_is_final: bool = False
    follows_change: bool = False
    until_checkpoint: bool = False
    max_restarts: int | None = None
    finishing_is_final: bool = False
    resume_is_final: bool = False
    timeout_ms: int = TIMEOUT

    def plan(self, timeline: Timeline, start: float) -> WaitPlan:
        baseline = None
        if self.follows_change:
            before = timeline.shown_at(start)
            assert before is not None
            assert before.job is not None
            baseline = Baseline.of(before.job, requested_at=moment(start))
        return WaitPlan(
            pipeline=ORDERS,
            target_states=self.target_states,
            deadline=moment(start + self.timeout_ms),
            stable_for=timedelta(milliseconds=self.stable_ms),
            finished_is_success=self.finished_is_success,
            stopped_is_final=self.stopped_is_final,
            until_checkpoint=self.until_checkpoint,
            max_restarts=self.max_restarts,
            finishing_is_final=self.finishing_is_final,
            resume_is_final=self.resume_is_final,
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


STOP = Goal("stop", frozenset(TERMINAL_STATES), follows_change=True, resume_is_final=True)
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
FIRST_POLL = None

WORKER_MODE = "worker_mode_restart_ignore_state"
KILLED_TWICE = "worker_killed_until_failed"
BUSY = "restart_rescale_stop_resume"


@dataclass(frozen=True)
class Case:
    timeline: str
    goal: Goal
    begins: str | tuple[str, int] | None
    """The call that the wait follows, with a number if the timeline has several."""
    outcome: Outcome
    state: str
    run: int
    after_ms: float = 0
    """How long after the state was first seen the wait must end; with ``from_start``, after the wait began."""
    from_start: bool = False
    restarts: int = 0
    missed: int = 0
    """How many requests polls at an interval may miss, and count as restarts."""
    is_unchanged: bool = False
    versions: tuple[str, ...] = BOTH
    polled: bool = True
    """False if the decisive states are shorter than a poll interval of 100 ms."""


REACHED, FAILED, FINISHED = Outcome.REACHED, Outcome.FAILED, Outcome.FINISHED
STOPPED, DELETED, TIMED_OUT = Outcome.STOPPED, Outcome.DELETED, Outcome.TIMED_OUT

# fmt: off
CASES = [
    # A bounded source that runs for a bit over two seconds. Later requests have no effect.
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
    Case("bounded_finishes_and_never_leaves", STOP, STOP_CHECKPOINT, REACHED, "Finished", 1, 0, True,
         is_unchanged=True),
    *(Case("bounded_finishes_and_never_leaves", goal, begins, FINISHED, "Finished", 1, 0, True, is_unchanged=True)
      for begins in (RESTART, RESUME) for goal in (runs_again(0), runs_again(2000), RUNS_AGAIN_EVENTUALLY)),
    # For a wait, a preview is an ordinary job; its recording begins with the first poll.
    Case("preview_bounded", submit("Running", 2000), FIRST_POLL, REACHED,  "Running",  1, 2000),
    Case("preview_bounded", submit("Finished"),      FIRST_POLL, REACHED,  "Finished", 1),
    Case("preview_bounded", sensor("Stopped"),       FIRST_POLL, FINISHED, "Finished", 1),
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
        # Resuming a failed pipeline does nothing; the new run comes from the restart 2 s later.
        (runs_again(2000),        RESUME,          FAILED,  "Failing", 2, 0, False),
    ]),
    # The same on 0.15: no Failing, but three runs within a second; and again after a restart.
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
    # Stopping a failed pipeline has no effect either: it remains Failed, which counts after the grace time.
    Case("failing_source", STOP, STOP_CHECKPOINT, REACHED, "Failed", 2, GRACE, True, is_unchanged=True, versions=V16),
    Case("failing_source", STOP, STOP_CHECKPOINT, REACHED, "Failed", 6, GRACE, True, is_unchanged=True, versions=V15),
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
    Case("rescale_and_interval", runs_again(0), INTERVAL, TIMED_OUT, "Running", 2, TIMEOUT, True, is_unchanged=True),
    # Changes that follow quickly: requests of others end a wait for a stable state.
    Case(BUSY, submit("Running", 2000), CREATE,          REACHED, "Running", 1, 2000),
    Case(BUSY, runs_again(0),           RESTART,         REACHED, "Running", 2),
    Case(BUSY, runs_again(2000),        RESTART,         STOPPED, "Stopped", 3, polled=False),
    Case(BUSY, runs_again(0),           RESCALE,         REACHED, "Running", 3, polled=False),
    Case(BUSY, runs_again(2000),        RESCALE,         STOPPED, "Stopped", 3, polled=False),
    Case(BUSY, STOP,                    STOP_CHECKPOINT, REACHED, "Stopped", 3),
    Case(BUSY, runs_again(0),           RESUME,          REACHED, "Running", 4),
    Case(BUSY, runs_again(2000),        RESUME,          STOPPED, "Stopped", 4),
    Case(BUSY, STOP,                    STOP_IMMEDIATE,  REACHED, "Stopped", 4),
    Case(BUSY, sensor("Stopped"),       CREATE,          REACHED, "Stopped", 3,
         missed=2),
    # Restarted, restarted by force a second later, stopped; restarting a stopped pipeline does nothing.
    Case("restart_running_force_and_stopped", submit("Running", 2000), CREATE,  REACHED, "Running", 1, 2000),
    Case("restart_running_force_and_stopped", runs_again(0),           RESTART, REACHED, "Running", 2),
    Case("restart_running_force_and_stopped", runs_again(2000),        RESTART, STOPPED, "Stopped", 3, missed=1),
    Case("restart_running_force_and_stopped", runs_again(0),           FORCE,   REACHED, "Running", 3),
    Case("restart_running_force_and_stopped", runs_again(2000),        FORCE,   STOPPED, "Stopped", 3),
    Case("restart_running_force_and_stopped", STOP, STOP_CHECKPOINT,   REACHED, "Stopped", 3),
    Case("restart_running_force_and_stopped", runs_again(0), (RESTART, 2), STOPPED, "Stopped", 3, GRACE, True,
         is_unchanged=True),
    Case("restart_running_force_and_stopped", RUNS_AGAIN_EVENTUALLY, (RESTART, 2), TIMED_OUT, "Stopped", 3,
         TIMEOUT, True, is_unchanged=True),
    # Every way to stop, each resumed, each run stopped again after a second.
    Case("start_stop_modes_resume", submit("Running", 2000), CREATE,          REACHED, "Running", 1, 2000),
    Case("start_stop_modes_resume", submit("Running", 3000), CREATE,          STOPPED, "Stopped", 1),
    Case("start_stop_modes_resume", sensor("Running", 3000), CREATE,        TIMED_OUT, "Stopped", 4, TIMEOUT, True),
    Case("start_stop_modes_resume", STOP,                    STOP_CHECKPOINT, REACHED, "Stopped", 1),
    Case("start_stop_modes_resume", STOP,                    STOP_GRACEFUL,   REACHED, "Stopped", 2),
    Case("start_stop_modes_resume", STOP,                    STOP_IMMEDIATE,  REACHED, "Stopped", 3),
    Case("start_stop_modes_resume", STOP,                    STOP_FORCE,      REACHED, "Stopped", 4),
    *(Case("start_stop_modes_resume", runs_again(0),    (RESUME, n), REACHED, "Running", n + 1) for n in (1, 2, 3)),
    *(Case("start_stop_modes_resume", runs_again(500),  (RESUME, n), REACHED, "Running", n + 1, 500)
      for n in (1, 2, 3)),
    *(Case("start_stop_modes_resume", runs_again(2000), (RESUME, n), STOPPED, "Stopped", n + 1) for n in (1, 2, 3)),
    # Stop requested 50 ms after the create: it still runs, but is about to stop, which is not a success.
    Case("stop_asked_before_running", submit("Running", 0),    CREATE, STOPPED,   "Stopped", 1),
    Case("stop_asked_before_running", submit("Running", 2000), CREATE, STOPPED,   "Stopped", 1),
    Case("stop_asked_before_running", submit("Finished"),      CREATE, STOPPED,   "Stopped", 1),
    Case("stop_asked_before_running", sensor("Running"),       CREATE, TIMED_OUT, "Stopped", 1, TIMEOUT, True),
    Case("stop_asked_before_running", sensor("Stopped"),       CREATE, REACHED,   "Stopped", 1),
    Case("stop_asked_before_running", sensor("Stopped", 9000), CREATE, REACHED,   "Stopped", 1),
    Case("stop_asked_before_running", STOP, STOP_CHECKPOINT,           REACHED,   "Stopped", 1),
    # Stopped twice within 3 ms, and once more when it was Stopped: an old Stopped counts after the grace time.
    Case("stop_twice_and_when_stopped", submit("Running", 0), CREATE,        REACHED, "Running", 1),
    Case("stop_twice_and_when_stopped", STOP, (STOP_CHECKPOINT, 1),          REACHED, "Stopped", 1),
    Case("stop_twice_and_when_stopped", STOP, (STOP_CHECKPOINT, 2),          REACHED, "Stopped", 1),
    Case("stop_twice_and_when_stopped", STOP, (STOP_CHECKPOINT, 3),          REACHED, "Stopped", 1, GRACE, True,
         is_unchanged=True),
    # The controller is down when the stop is requested: it remains Running for six more seconds.
    Case("controller_down", submit("Running", 2000), CREATE,          REACHED, "Running", 1, 2000, versions=V16),
    Case("controller_down", STOP,                    STOP_CHECKPOINT, REACHED, "Stopped", 1, versions=V16),
    # Other settings of 0.16 that start a new run of the same job.
    Case("patch_env_vars", submit("Running", 0),    CREATE,   REACHED, "Running", 1, versions=V16),
    Case("patch_env_vars", submit("Running", 2000), CREATE,   REACHED, "Running", 2, 2000, missed=1, versions=V16),
    Case("patch_env_vars", runs_again(0),           ENV_VARS, REACHED, "Running", 2, versions=V16),
    Case("patch_env_vars", runs_again(2000),        ENV_VARS, REACHED, "Running", 2, 2000, versions=V16),
    Case("restart_ignore_state", submit("Running", 2000), CREATE, REACHED, "Running", 1, 2000, versions=V16),
    Case("restart_ignore_state", runs_again(0),     IGNORE_STATE, REACHED, "Running", 2, versions=V16),
    Case("restart_ignore_state", runs_again(2000),  IGNORE_STATE, REACHED, "Running", 2, 2000, versions=V16),
    # The whole server is killed, or terminated, and started again: an outage that the wait survives, and a new run.
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
    """When the wait begins: at its call, or with the first poll."""
    if case.begins is None:
        return timeline.rows[0].ms
    return max(timeline.call(*call_of(case)).ms, timeline.rows[0].ms)


def call_of(case: Case) -> tuple[str, int]:
    assert case.begins is not None
    return (case.begins, 1) if isinstance(case.begins, str) else case.begins
