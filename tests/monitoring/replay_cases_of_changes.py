"""More recorded timelines: a source that ends or is unreachable, several changes at once, stops during other changes.

The table has the same columns as that in ``replay_cases.py``.
"""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_arroyo.monitoring.outcome import Outcome
from tests.monitoring.replay_cases import (
    ENV_VARS,
    FAILED,
    FINISHED,
    FIRST_POLL,
    FORCE,
    GRACE,
    INTERVAL,
    REACHED,
    RESCALE,
    RESTART,
    RESUME,
    STOP,
    STOP_CHECKPOINT,
    STOP_FORCE,
    STOP_GRACEFUL,
    STOP_IMMEDIATE,
    STOPPED,
    TIMED_OUT,
    TIMEOUT,
    V15,
    V16,
    Case,
    Goal,
    runs_again,
    sensor,
    submit,
)

FLAPPING, NO_CHECKPOINT = Outcome.FLAPPING, Outcome.NO_CHECKPOINT
RESUME_AND_MORE = 'PATCH {"stop": "none", "parallelism"'
SCHEDULER = 'PATCH {"scheduler_config"'
LONG = 90_000
SETTLED = 500


def proven(stable_ms: int = 2000, timeout_ms: int = TIMEOUT) -> Goal:
    goal = submit("Running", stable_ms)
    name = f"{goal.name}, with a checkpoint, for {timeout_ms} ms"
    return replace(goal, name=name, until_checkpoint=True, timeout_ms=timeout_ms)


def at_most(restarts: int, goal: Goal, timeout_ms: int = LONG) -> Goal:
    name = f"{goal.name}, at most {restarts} restarts"
    return replace(goal, name=name, max_restarts=restarts, timeout_ms=timeout_ms)


STOP_WITH_CHECKPOINT = replace(STOP, name="stop with a checkpoint", finishing_is_final=True)
FOR_A_MINUTE = replace(submit("Running", 60_000), timeout_ms=LONG)

# fmt: off
CASES_OF_CHANGES = [
    # One of two sources ends at once, the other never: Finishing counts as Running, takes no checkpoints, and obeys
    # only an immediate stop. (How long after Finishing was seen Running had lasted for two seconds, by version.)
    *(Case("one_source_of_two_ends", submit("Running", 2000), FIRST_POLL, REACHED, "Finishing", 1, after,
           versions=version) for version, after in ((V15, 1800), (V16, 1796))),
    *(Case("one_source_of_two_ends", goal, begins, outcome, state, 1, after, from_start, is_unchanged=is_unchanged)
      for goal, begins, outcome, state, after, from_start, is_unchanged in [
        (submit("Running", 0),     FIRST_POLL,      REACHED,       "Running",         0, False, False),
        (submit("Running", 9000),  FIRST_POLL,      REACHED,       "Finished",        0, False, False),
        (submit("Finished"),       FIRST_POLL,      REACHED,       "Finished",        0, False, False),
        (sensor("Running", 9000),  FIRST_POLL,      FINISHED,      "Finished",        0, False, False),
        (sensor("Finishing"),      FIRST_POLL,      REACHED,       "Finishing",       0, False, False),
        (sensor("Stopped"),        FIRST_POLL,      FINISHED,      "Finished",        0, False, False),
        (proven(),                 FIRST_POLL,      NO_CHECKPOINT, "Finishing", SETTLED, False, False),
        (proven(0),                FIRST_POLL,      NO_CHECKPOINT, "Finishing", SETTLED, False, False),
        (STOP,                     STOP_CHECKPOINT, REACHED,       "Finished",        0, False, False),
        (STOP_WITH_CHECKPOINT,     STOP_CHECKPOINT, NO_CHECKPOINT, "Finishing",   GRACE, True,  True),
        (STOP,                     STOP_GRACEFUL,   REACHED,       "Finished",        0, False, False),
        (STOP,                     STOP_IMMEDIATE,  REACHED,       "Finished",        0, False, False),
    ]),
    # The other source ends ten seconds later.
    *(Case("one_source_ends_sooner", submit("Running", 2000), FIRST_POLL, REACHED, "Finishing", 1, after,
           versions=version) for version, after in ((V15, 1798), (V16, 1796))),
    Case("one_source_ends_sooner", submit("Running", 12000), FIRST_POLL, REACHED,       "Finished",  1),
    Case("one_source_ends_sooner", sensor("Running", 12000), FIRST_POLL, FINISHED,      "Finished",  1),
    Case("one_source_ends_sooner", submit("Finished"),       FIRST_POLL, REACHED,       "Finished",  1),
    Case("one_source_ends_sooner", proven(),                 FIRST_POLL, NO_CHECKPOINT, "Finishing", 1, SETTLED),
    # A Kafka source whose broker is unreachable: Running for 30 s at a time, and no checkpoint ever finishes.
    Case("kafka_unreachable", submit("Running", 2000), FIRST_POLL, REACHED,   "Running", 1, 2000),
    Case("kafka_unreachable", proven(),                FIRST_POLL, TIMED_OUT, "Running", 1, TIMEOUT, True),
    Case("kafka_unreachable", proven(2000, LONG),      FIRST_POLL, TIMED_OUT, "Running", 3, LONG, True, restarts=2),
    Case("kafka_unreachable", FOR_A_MINUTE,            FIRST_POLL, TIMED_OUT, "Running", 3, LONG, True, restarts=2),
    Case("kafka_unreachable", at_most(1, proven()),     FIRST_POLL, FLAPPING, "Scheduling", 3, restarts=2),
    Case("kafka_unreachable", at_most(0, FOR_A_MINUTE), FIRST_POLL, FLAPPING, "Scheduling", 2, restarts=1),
    # Resumed, restarted, stopped by force.
    *(Case("restart_then_force_stop", runs_again(stable), begins, REACHED, "Running", run, stable)
      for stable in (0, 2000) for begins, run in ((RESUME, 2), (RESTART, 3))),
    Case("restart_then_force_stop", STOP, STOP_FORCE, REACHED, "Stopped", 3),
    # A stop 30 ms after a restart of a failed pipeline is obeyed: nothing runs.
    *(Case("stop_right_after_restart_of_failed", goal, begins, outcome, "Stopped", run, versions=version)
      for version, run in ((V15, 22), (V16, 1))
      for goal, begins, outcome in [
        (STOP,             STOP_CHECKPOINT, REACHED),
        (runs_again(0),    RESTART,         STOPPED),
        (runs_again(2000), RESTART,         STOPPED),
    ]),
    # The same after a resume: it remains Stopped, which counts after the grace time.
    *(Case("stop_right_after_resume", goal, begins, outcome, "Stopped", 1, GRACE, True, is_unchanged=True)
      for goal, begins, outcome in ((STOP, STOP_CHECKPOINT, REACHED), (runs_again(0), RESUME, STOPPED))),
    # A PATCH of a failed pipeline applies from the restart on; its file is still missing.
    Case("patch_failed_then_restart", sensor("Running"), RESCALE, FAILED,  "Failed", 21, 0, True, versions=V15),
    Case("patch_failed_then_restart", sensor("Running"), RESCALE, FAILED,  "Failed",  1, 0, True, versions=V16),
    Case("patch_failed_then_restart", runs_again(0),     RESTART, REACHED, "Running", 22, versions=V15),
    Case("patch_failed_then_restart", runs_again(0),     RESTART, REACHED, "Running",  2, versions=V16),
    Case("patch_failed_then_restart", runs_again(2000),  RESTART, FAILED,  "Failed",  42, restarts=20, versions=V15),
    Case("patch_failed_then_restart", runs_again(2000),  RESTART, FAILED,  "Failing",  2, versions=V16),
    Case("patch_failed_then_restart", at_most(3, runs_again(2000)), RESTART, FLAPPING, "Scheduling", 26, restarts=4,
         versions=V15),
    # Several fields at once are one change.
    *(Case("patch_several_fields_at_once", runs_again(stable), RESCALE, REACHED, "Running", 2, stable)
      for stable in (0, 2000)),
    Case("patch_several_fields_at_once", STOP, (RESCALE, 2), REACHED, "Stopped", 2),
    *(Case("resume_and_rescale_in_one_patch", runs_again(stable), RESUME_AND_MORE, REACHED, "Running", 2, stable)
      for stable in (0, 2000)),
    # A PATCH of a stopped pipeline applies from the resume on.
    Case("patch_stopped_then_resume", sensor("Stopped"), RESCALE,  REACHED, "Stopped", 1, 0, True),
    Case("patch_stopped_then_resume", sensor("Stopped"), INTERVAL, REACHED, "Stopped", 1, 0, True),
    *(Case("patch_stopped_then_resume", runs_again(stable), RESUME, REACHED, "Running", 2, stable)
      for stable in (0, 2000)),
    # The same values again change nothing; on 0.16, other env_vars start a run after eight seconds.
    *(Case("patch_with_the_same_values", sensor("Running", 2000), begins, REACHED, "Running", 1, 2000, True)
      for begins in (RESCALE, INTERVAL)),
    *(Case("patch_with_the_same_values", runs_again(0), begins, TIMED_OUT, "Running", 1, TIMEOUT, True,
           is_unchanged=True, versions=V15) for begins in (RESCALE, INTERVAL)),
    *(Case("patch_with_the_same_values", runs_again(0), begins, REACHED, "Running", 2, versions=V16)
      for begins in (RESCALE, INTERVAL, (ENV_VARS, 1), (ENV_VARS, 2))),
    *(Case("patch_with_the_same_values", runs_again(0), begins, TIMED_OUT, "Running", 2, TIMEOUT, True,
           is_unchanged=True, versions=V16) for begins in ((ENV_VARS, 3), SCHEDULER)),
    # Two restarts 20 ms apart count as one.
    *(Case("restart_twice_and_force", runs_again(stable), begins, REACHED, "Running", run, stable)
      for stable in (0, 2000) for begins, run in (((RESTART, 1), 2), ((RESTART, 2), 2), (FORCE, 3))),
    # A stop during a rescale or a restart takes effect once the new run has begun.
    *(Case(timeline, goal, begins, outcome, "Stopped", 2)
      for timeline, change in (("stop_while_rescaling", RESCALE), ("stop_while_restarting", RESTART))
      for goal, begins, outcome in [
        (STOP,          STOP_CHECKPOINT, REACHED),
        (runs_again(0), change,          STOPPED),
    ]),
    # An old deployment, resumed after its successor failed.
    Case("rollback_resume_of_the_old", sensor("Stopped"), FIRST_POLL, REACHED, "Stopped", 1),
    *(Case("rollback_resume_of_the_old", runs_again(stable), RESUME, REACHED, "Running", 2, stable)
      for stable in (0, 2000)),
    # With a parallelism of 0, it remains in Scheduling.
    Case("after_bad_patches", submit("Running"), FIRST_POLL, TIMED_OUT, "Scheduling", 2, TIMEOUT, True),
    Case("after_bad_patches", sensor("Stopped"), FIRST_POLL, TIMED_OUT, "Scheduling", 2, TIMEOUT, True),
]
# fmt: on
