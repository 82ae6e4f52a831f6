"""The table of transitions between the states of a job, which the engine applies.

The times are those of the recordings of real servers, in milliseconds. A row reads: when ``cause`` happens
to a job in ``state``, it goes to ``to`` and stays there for ``stays``; then it moves on by itself (the row of
``to`` with the cause ``TIME``). Without ``stays`` it stays until something else happens.

The API only stores requests. The controller polls every 500 ms, and acts on the first request for which the
job's state has a row. If there is no such row, nothing happens, whatever the API responded: a restart of a
stopped job gets status 200 and is ignored, and a stop that is requested during a restart waits until the job
runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal, TypeAlias

from airflow_provider_arroyo.client.enums import JobState as S

if TYPE_CHECKING:
    from .records import Job

Version: TypeAlias = Literal["0.15", "0.16"]
Variant: TypeAlias = Literal[Version, "0.16-worker"]
"""The version of the server, and on 0.16 whether the controller or a worker controls the jobs."""

Millis: TypeAlias = tuple[int, int]
"""A time that varies: the shortest and the longest that was seen."""


class Cause(Enum):
    """What moves a job."""

    TIME = "it stayed as long as the row before said"
    # What may be requested.
    STOP_UNREACHED = "a stop that was requested before the controller picked the job up"
    STOP_BLOCKED = "a stop while a source blocks"
    STOP_CHECKPOINT = "stop: checkpoint"
    STOP_GRACEFUL = "stop: graceful"
    STOP_IMMEDIATE = "stop: immediate"
    STOP_FORCE = "stop: force"
    START = "stop: none, on a job that does not run"
    RESTART_AND_STOP = "a restart and a stop in the same poll"
    RESTART = "restart"
    RESTART_FORCE = "restart with force"
    RESTART_NO_STATE = "restart with ignore_state"
    ENV_CHANGED = "env_vars or scheduler_config changed"
    RESCALE = "parallelism changed"
    # What happens without a request.
    SOURCE_ENDED = "a source has ended"
    SOURCES_ENDED = "all sources have ended"
    SOURCE_LOST = "a source gave up on its server"
    TASK_FAILED = "a task failed"
    TASK_FAILED_FOR_GOOD = "a task failed, and no restarts are left"
    WORKER_LOST = "a worker no longer responds"
    WORKER_LOST_FOR_GOOD = "a worker was lost, and no restarts are left"
    TTL_OVER = "the time of a preview is over"
    CONTROLLER_BACK = "the controller started"
    CONTROLLER_BACK_STOP = "the controller started, and a stop was requested"


STOPS = {mode: Cause[f"STOP_{mode.upper()}"] for mode in ("checkpoint", "graceful", "immediate", "force")}
RESTARTS = frozenset({Cause.RESTART, Cause.RESTART_FORCE, Cause.RESTART_NO_STATE})

POLL_MILLIS: Millis = (502, 505)
"""The controller sleeps for 500 ms between two polls, and a poll takes a few milliseconds."""
TICK_MILLIS = 200
"""How often a running job reads what its workers reported: end, failure, checkpoint done."""
WORKER_LOSS_NOTICED_MILLIS: Millis = (600, 680)
CONTROLLER_START_MILLIS: Millis = (100, 160)
KAFKA_GIVES_UP_MILLIS: Millis = (30_290, 30_380)
PREVIEW_TTL_SECONDS = 60
HEALTHY_SECONDS = 120
"""A run that lasted longer clears the count of restarts."""
STUCK_SCHEDULING_MILLIS = 1000
"""A job that is in Scheduling for longer waits for workers that do not come; then it obeys a stop."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A row of the table; see the module's text.

    :param leaves_checkpoint: the job takes a ``stopping`` checkpoint while it is in ``to``.
    :param counts_run: the run_id rises although nothing runs.
    """

    state: S
    cause: Cause
    to: S
    stays: Millis | None = None
    leaves_checkpoint: bool = False
    counts_run: bool = False


_T = Transition
_COMPILING: Millis = (1, 24)
_WORKERS: Millis = (115, 205)
_WORKERS_OF_WORKER_MODE: Millis = (230, 258)
_STOPPING: Millis = (22, 60)
_FAILING: Millis = (5010, 5016)
_BEFORE_SCHEDULING = (S.COMPILING, S.RECOVERING, S.RESTARTING, S.RESCALING)

# Finished has no row, since nothing leaves it.
_STARTS = (
    _T(S.CREATED, Cause.START, S.COMPILING, _COMPILING),
    # A stop waits until the job runs, unless the controller picks the job up late.
    *(_T(S.CREATED, stop, S.COMPILING, _COMPILING) for stop in STOPS.values()),
    _T(S.CREATED, Cause.STOP_UNREACHED, S.STOPPED),
    _T(S.STOPPED, Cause.START, S.COMPILING, _COMPILING),
    *(_T(S.FAILED, restart, S.COMPILING, _COMPILING) for restart in RESTARTS),
)
_IN_BETWEEN = (
    *(_T(state, Cause.TIME, S.SCHEDULING, _WORKERS) for state in _BEFORE_SCHEDULING),
    _T(S.SCHEDULING, Cause.TIME, S.RUNNING),
    _T(S.CHECKPOINT_STOPPING, Cause.TIME, S.STOPPED),
    _T(S.STOPPING, Cause.TIME, S.STOPPED),
    _T(S.FAILING, Cause.TIME, S.FAILED),
)
_RUNNING = (
    _T(S.RUNNING, Cause.STOP_CHECKPOINT, S.CHECKPOINT_STOPPING, (45, 140), leaves_checkpoint=True),
    _T(S.RUNNING, Cause.STOP_GRACEFUL, S.STOPPING, (43, 46)),
    _T(S.RUNNING, Cause.STOP_IMMEDIATE, S.STOPPING, _STOPPING),
    _T(S.RUNNING, Cause.STOP_FORCE, S.STOPPING, (22, 25)),
    _T(S.RUNNING, Cause.STOP_BLOCKED, S.STOPPING, (5000, 8000)),
    _T(S.RUNNING, Cause.RESTART, S.RESTARTING, (65, 110), leaves_checkpoint=True),
    _T(S.RUNNING, Cause.RESTART_FORCE, S.RESTARTING, (92, 115)),
    _T(S.RUNNING, Cause.RESTART_NO_STATE, S.RESTARTING, (44, 48)),
    _T(S.RUNNING, Cause.ENV_CHANGED, S.RESTARTING, (44, 89), leaves_checkpoint=True),
    _T(S.RUNNING, Cause.RESCALE, S.RESCALING, (48, 112), leaves_checkpoint=True),
    _T(S.RUNNING, Cause.SOURCE_ENDED, S.FINISHING),
    _T(S.RUNNING, Cause.TTL_OVER, S.STOPPING, _STOPPING),
    _T(S.RUNNING, Cause.WORKER_LOST, S.RECOVERING, (580, 700)),
    _T(S.RUNNING, Cause.WORKER_LOST_FOR_GOOD, S.FAILED),
)
# Some sources have ended. Only an immediate stop has an effect, and leads to Finished; not even force
# has one (the sources of 0.15 and 0.16 say so).
_FINISHING = (
    _T(S.FINISHING, Cause.SOURCES_ENDED, S.FINISHED),
    _T(S.FINISHING, Cause.STOP_IMMEDIATE, S.FINISHED),
)
# Not seen on a real server: what meets states that mostly last too short for it.
_NOT_SEEN = (
    _T(S.FINISHING, Cause.WORKER_LOST, S.RECOVERING, (580, 700)),
    _T(S.FINISHING, Cause.WORKER_LOST_FOR_GOOD, S.FAILED),
    _T(S.FINISHING, Cause.TTL_OVER, S.STOPPING, _STOPPING),
    _T(S.CHECKPOINT_STOPPING, Cause.STOP_IMMEDIATE, S.STOPPING, _STOPPING),
    _T(S.CHECKPOINT_STOPPING, Cause.STOP_FORCE, S.STOPPING, _STOPPING),
    _T(S.CHECKPOINT_STOPPING, Cause.WORKER_LOST, S.FAILED),
    _T(S.CHECKPOINT_STOPPING, Cause.WORKER_LOST_FOR_GOOD, S.FAILED),
    # Only if the final checkpoint never begins, because another one was in progress, or never finishes.
    _T(S.RESTARTING, Cause.RESTART_FORCE, S.RESTARTING, (92, 115)),
    *(_T(S.RESTARTING, stop, S.STOPPING, _STOPPING) for stop in STOPS.values()),
    *(_T(S.RESCALING, stop, S.STOPPING, _STOPPING) for stop in STOPS.values()),
    # Only after STUCK_SCHEDULING_MILLIS.
    *(_T(S.SCHEDULING, stop, S.STOPPING, _STOPPING) for stop in STOPS.values()),
)

ACTIVE = frozenset(S) - {S.CREATED, S.STOPPED, S.FINISHED, S.FAILED}
"""The states in which a controller that starts finds workers, or their traces."""

_CONTROLLER_RESTARTS = (
    *(_T(state, Cause.CONTROLLER_BACK, S.SCHEDULING, _WORKERS) for state in ACTIVE),
    *(_T(state, Cause.CONTROLLER_BACK_STOP, S.STOPPED) for state in (S.CREATED, *ACTIVE)),
)
_ONLY_015 = (
    # A failed task is restarted, and no reason is reported.
    _T(S.RUNNING, Cause.TASK_FAILED, S.RECOVERING, (20, 28)),
    _T(S.RUNNING, Cause.TASK_FAILED_FOR_GOOD, S.FAILED),
    _T(S.RUNNING, Cause.SOURCE_LOST, S.RECOVERING, (20, 28)),
    _T(S.FAILED, Cause.RESTART_AND_STOP, S.STOPPED, counts_run=True),
)
_ONLY_016 = (
    _T(S.RUNNING, Cause.TASK_FAILED, S.FAILING, _FAILING),
    _T(S.RUNNING, Cause.TASK_FAILED_FOR_GOOD, S.FAILING, _FAILING),
    _T(S.RUNNING, Cause.SOURCE_LOST, S.RECOVERING, (5930, 6230)),
    _T(S.FAILED, Cause.RESTART_AND_STOP, S.STOPPED),
)
# A job that a worker controls: the same rows with other times.
_ONLY_016_WORKER = (
    *(_T(state, Cause.TIME, S.SCHEDULING, _WORKERS_OF_WORKER_MODE) for state in _BEFORE_SCHEDULING),
    _T(S.RUNNING, Cause.RESTART, S.RESTARTING, (190, 205), leaves_checkpoint=True),
    _T(S.RUNNING, Cause.STOP_CHECKPOINT, S.CHECKPOINT_STOPPING, (200, 220), leaves_checkpoint=True),
)

_COMMON = (*_STARTS, *_IN_BETWEEN, *_RUNNING, *_FINISHING, *_NOT_SEEN, *_CONTROLLER_RESTARTS)
_ROWS: Mapping[Variant, tuple[Transition, ...]] = {
    "0.15": (*_COMMON, *_ONLY_015),
    "0.16": (*_COMMON, *_ONLY_016),
    "0.16-worker": (*_COMMON, *_ONLY_016, *_ONLY_016_WORKER),
}


def transitions(variant: Variant) -> dict[tuple[str, Cause], Transition]:
    """Return the table of one kind of server, by state and cause; later rows replace earlier ones."""
    return {(row.state.value, row.cause): row for row in _ROWS[variant]}


def wanted(job: Job) -> Iterator[Cause]:
    """Yield what the controller finds wanted of a job at a poll, in the order in which it decides."""
    wanted, seen = job.wanted, job.seen
    restarts, rescales = wanted.restarts != seen.restarts, wanted.parallelism != seen.parallelism
    is_final = wanted.stop == "checkpoint"
    if wanted.stop != "none":
        if job.state == S.CREATED and job.picked_up_at is not None:
            yield Cause.STOP_UNREACHED
        elif job.state == S.RUNNING and job.kafka_away and not (is_final and job.has_endless_checkpoint):
            yield Cause.STOP_BLOCKED
        elif job.state == S.FAILED and restarts:
            yield Cause.RESTART_AND_STOP
            return
        yield STOPS[wanted.stop]
    elif not (job.pipeline.preview and job.state == S.STOPPED):
        yield Cause.START
    is_plain = not (wanted.ignore_state or wanted.restart_force)
    has_new_env = (wanted.env_vars, wanted.scheduler_config) != (seen.env_vars, seen.scheduler_config)
    is_changed = rescales or has_new_env or wanted.interval_micros != seen.interval_micros
    # The controller notes the restart before the last one as done, so any change repeats it.
    if (restarts and is_plain) or (is_changed and job.restarted):
        yield Cause.RESTART
    if restarts and not is_plain:
        yield Cause.RESTART_FORCE if wanted.restart_force else Cause.RESTART_NO_STATE
    if has_new_env:
        yield Cause.ENV_CHANGED
    if rescales and not job.restarted:
        yield Cause.RESCALE
