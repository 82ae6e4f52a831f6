"""How a job goes from state to state: the table that the engine obeys.

The times are those of the recordings of real servers, in milliseconds. A row reads: a job in ``state`` to
which ``cause`` happens goes to ``to`` and stays there for ``stays`` before it moves on by itself (the row
of ``to`` with the cause ``TIME``). No ``stays`` means: until something else happens.

The API only writes down what is wanted. The controller looks every 500 ms (a *glance*) and acts on the first
of the wanted things for which the job's state has a row; where it has none, nothing happens, however often
it was asked and whatever the API answered. That is why a restart of a stopped job is answered with 200 and
then forgotten, and why a stop that was asked too early waits until the job runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

from airflow_provider_arroyo.client.models import JobState as S

Flavour: TypeAlias = Literal["0.15", "0.16", "0.16-worker"]
"""The version of the server, and on 0.16 whether the controller or a worker leads the jobs."""

Millis: TypeAlias = tuple[int, int]
"""A time that differs from case to case: the shortest and the longest that was seen."""


class Cause(Enum):
    """What moves a job."""

    TIME = "it stayed as long as the row before said"
    # What a glance may find wanted, in the order in which the controller decides.
    STOP_CHECKPOINT = "stop: checkpoint"
    STOP_GRACEFUL = "stop: graceful"
    STOP_IMMEDIATE = "stop: immediate"
    STOP_FORCE = "stop: force"
    START = "stop: none, on a job that does not run"
    RESTART = "restart"
    RESTART_FORCE = "restart with force"
    RESTART_NO_STATE = "restart with ignore_state"
    ENV_CHANGED = "env_vars or scheduler_config changed"
    RESCALE = "parallelism changed"
    # What happens without being asked.
    SOURCES_DONE = "every source came to its end"
    TASK_FAILED = "a task failed for a reason of the user's or of the outside world's"
    TASK_FAILED_FOR_GOOD = "a task failed once more than the allowed restarts"
    WORKER_LOST = "a worker no longer answers"
    WORKER_LOST_FOR_GOOD = "a worker was lost once more than the allowed restarts"
    TTL_OVER = "a preview had its time"
    CONTROLLER_BACK = "the controller started and found the job as it was"
    CONTROLLER_BACK_STOP = "the controller started and found a stop wanted"


WANTED = (
    Cause.STOP_CHECKPOINT,
    Cause.STOP_GRACEFUL,
    Cause.STOP_IMMEDIATE,
    Cause.STOP_FORCE,
    Cause.START,
    Cause.RESTART,
    Cause.RESTART_FORCE,
    Cause.RESTART_NO_STATE,
    Cause.ENV_CHANGED,
    Cause.RESCALE,
)

GLANCE_MILLIS: Millis = (502, 505)
"""The controller sleeps for 500 ms between two looks at what is wanted, and takes a few more to look."""

TICK_MILLIS = 200
"""How often a running job looks at what its workers reported: end, failure, checkpoint done."""

WORKER_LOSS_NOTICED_MILLIS: Millis = (600, 680)
CONTROLLER_START_MILLIS: Millis = (100, 160)
PREVIEW_TTL_SECONDS = 60
HEALTHY_SECONDS = 120
"""A run that lasted longer clears the count of restarts."""

STUCK_SCHEDULING_MILLIS = 1000
"""A job that is scheduled for longer waits for workers that do not come; then a stop is obeyed."""


@dataclass(frozen=True, slots=True)
class Move:
    """One row of the table; see the module's text."""

    state: S
    cause: Cause
    to: S
    stays: Millis | None = None
    leaves_checkpoint: bool = False
    """The job takes a ``stopping`` checkpoint while it is in ``to``."""


_COMPILING: Millis = (1, 24)
_WORKERS: Millis = (115, 205)
_WORKERS_OF_WORKER_MODE: Millis = (230, 258)
_FAILING: Millis = (5010, 5016)

_STARTS = (
    Move(S.CREATED, Cause.START, S.COMPILING, _COMPILING),
    Move(S.STOPPED, Cause.START, S.COMPILING, _COMPILING),
    Move(S.FAILED, Cause.RESTART, S.COMPILING, _COMPILING),
    Move(S.FAILED, Cause.RESTART_FORCE, S.COMPILING, _COMPILING),
    Move(S.FAILED, Cause.RESTART_NO_STATE, S.COMPILING, _COMPILING),
)
# Finished has no row: it is never left. A stop of a job that was just created waits until the job runs.
_CREATED_STOPS = tuple(
    Move(S.CREATED, cause, S.COMPILING, _COMPILING)
    for cause in (Cause.STOP_CHECKPOINT, Cause.STOP_GRACEFUL, Cause.STOP_IMMEDIATE, Cause.STOP_FORCE)
)

_ON_THE_WAY = (
    Move(S.COMPILING, Cause.TIME, S.SCHEDULING, _WORKERS),
    Move(S.SCHEDULING, Cause.TIME, S.RUNNING),
    Move(S.RECOVERING, Cause.TIME, S.SCHEDULING, _WORKERS),
    Move(S.RESTARTING, Cause.TIME, S.SCHEDULING, _WORKERS),
    Move(S.RESCALING, Cause.TIME, S.SCHEDULING, _WORKERS),
    Move(S.CHECKPOINT_STOPPING, Cause.TIME, S.STOPPED),
    Move(S.STOPPING, Cause.TIME, S.STOPPED),
    Move(S.FINISHING, Cause.TIME, S.FINISHED),
    Move(S.FAILING, Cause.TIME, S.FAILED),
)

_RUNNING = (
    Move(S.RUNNING, Cause.STOP_CHECKPOINT, S.CHECKPOINT_STOPPING, (45, 140), leaves_checkpoint=True),
    Move(S.RUNNING, Cause.STOP_GRACEFUL, S.STOPPING, (43, 46)),
    Move(S.RUNNING, Cause.STOP_IMMEDIATE, S.STOPPING, (22, 60)),
    Move(S.RUNNING, Cause.RESTART, S.RESTARTING, (65, 75), leaves_checkpoint=True),
    Move(S.RUNNING, Cause.RESTART_FORCE, S.RESTARTING, (110, 115)),
    Move(S.RUNNING, Cause.RESTART_NO_STATE, S.RESTARTING, (44, 48)),
    Move(S.RUNNING, Cause.ENV_CHANGED, S.RESTARTING, (44, 48), leaves_checkpoint=True),
    Move(S.RUNNING, Cause.RESCALE, S.RESCALING, (48, 70), leaves_checkpoint=True),
    Move(S.RUNNING, Cause.SOURCES_DONE, S.FINISHING, (1, 4)),
    Move(S.RUNNING, Cause.TTL_OVER, S.STOPPING, (22, 60)),
    Move(S.RUNNING, Cause.WORKER_LOST, S.RECOVERING, (580, 700)),
    Move(S.RUNNING, Cause.WORKER_LOST_FOR_GOOD, S.FAILED),
)

# Not seen on a real server: stops asked in states that mostly last too short to be met.
_STOPS_IN_BETWEEN = (
    Move(S.CHECKPOINT_STOPPING, Cause.STOP_IMMEDIATE, S.STOPPING, (22, 60)),
    Move(S.CHECKPOINT_STOPPING, Cause.STOP_FORCE, S.STOPPING, (22, 60)),
    Move(S.CHECKPOINT_STOPPING, Cause.WORKER_LOST, S.FAILED),
    Move(S.CHECKPOINT_STOPPING, Cause.WORKER_LOST_FOR_GOOD, S.FAILED),
    *(
        Move(S.SCHEDULING, cause, S.STOPPING, (22, 60))  # only after STUCK_SCHEDULING_MILLIS
        for cause in (Cause.STOP_CHECKPOINT, Cause.STOP_GRACEFUL, Cause.STOP_IMMEDIATE, Cause.STOP_FORCE)
    ),
)

ACTIVE = (
    S.COMPILING,
    S.SCHEDULING,
    S.RUNNING,
    S.RESCALING,
    S.RESTARTING,
    S.RECOVERING,
    S.CHECKPOINT_STOPPING,
    S.STOPPING,
    S.FINISHING,
    S.FAILING,
)
"""The states in which a controller that starts finds workers, or their traces."""

_CONTROLLER_RESTARTS = tuple(
    move
    for state in ACTIVE
    for move in (
        Move(state, Cause.CONTROLLER_BACK, S.SCHEDULING, _WORKERS),
        Move(state, Cause.CONTROLLER_BACK_STOP, S.STOPPED),
    )
)

_ONLY_015 = (
    # A forced stop goes the same way as the others; a failed task is tried again without a word.
    Move(S.RUNNING, Cause.STOP_FORCE, S.STOPPING, (22, 25)),
    Move(S.RUNNING, Cause.TASK_FAILED, S.RECOVERING, (20, 28)),
    Move(S.RUNNING, Cause.TASK_FAILED_FOR_GOOD, S.FAILED),
)
_ONLY_016 = (
    Move(S.RUNNING, Cause.STOP_FORCE, S.STOPPED),
    Move(S.RUNNING, Cause.TASK_FAILED, S.FAILING, _FAILING),
    Move(S.RUNNING, Cause.TASK_FAILED_FOR_GOOD, S.FAILING, _FAILING),
)
# A job that a worker leads: the same moves, other times.
_ONLY_016_WORKER = (
    Move(S.COMPILING, Cause.TIME, S.SCHEDULING, _WORKERS_OF_WORKER_MODE),
    Move(S.RECOVERING, Cause.TIME, S.SCHEDULING, _WORKERS_OF_WORKER_MODE),
    Move(S.RESTARTING, Cause.TIME, S.SCHEDULING, _WORKERS_OF_WORKER_MODE),
    Move(S.RESCALING, Cause.TIME, S.SCHEDULING, _WORKERS_OF_WORKER_MODE),
    Move(S.RUNNING, Cause.RESTART, S.RESTARTING, (190, 205), leaves_checkpoint=True),
    Move(S.RUNNING, Cause.STOP_CHECKPOINT, S.CHECKPOINT_STOPPING, (200, 220), leaves_checkpoint=True),
)

_COMMON = (
    *_STARTS,
    *_CREATED_STOPS,
    *_ON_THE_WAY,
    *_RUNNING,
    *_STOPS_IN_BETWEEN,
    *_CONTROLLER_RESTARTS,
)
_ROWS: Mapping[Flavour, tuple[Move, ...]] = {
    "0.15": (*_COMMON, *_ONLY_015),
    "0.16": (*_COMMON, *_ONLY_016),
    "0.16-worker": (*_COMMON, *_ONLY_016, *_ONLY_016_WORKER),
}


def moves(flavour: Flavour) -> dict[tuple[str, Cause], Move]:
    """Return the table of one kind of server, by state and cause; later rows replace earlier ones."""
    return {(move.state.value, move.cause): move for move in _ROWS[flavour]}
