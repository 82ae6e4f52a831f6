"""The status or result of a wait, and what it contains: values that worker, triggerer and sensor exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Self

from airflow_provider_arroyo.client.enums import AT_WORK, TERMINAL_STATES, JobState
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import JsonValue, from_json
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.condition import Detail
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.text import utc_iso

MAX_TRANSITIONS = 50
"""How many of the last changes of state a wait remembers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition(JsonValue):
    """A state that was seen for the first time.

    :param at: when it was first seen, as ISO 8601 in UTC.
    :param state: the state.
    :param run_id, job_id: its run and job.
    :param stop_requested: whether a stop was requested, or the pipeline was stopped.
    """

    at: str
    state: str
    run_id: int
    job_id: str
    stop_requested: bool = False

    @classmethod
    def of(cls, job: Job, now: float) -> Self:
        """Return the transition to a job's state, which was seen at ``now``, in seconds since the epoch."""
        is_asked = job.running_desired is False
        return cls(
            at=utc_iso(now), state=str(job.state), run_id=job.run_id, job_id=job.id, stop_requested=is_asked
        )

    def is_same(self, other: Transition) -> bool:
        """Return whether both are to the same state of the same run, at whatever time."""
        return replace(self, at=other.at) == other


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStats(JsonValue):
    """What a wait has counted and timed so far, for Airflow's metrics.

    Times are measured from the request for the change, or from the creation of the pipeline. A wait for neither, such
    as a sensor's, has no times.

    :param polls: how often Arroyo was asked for the pipeline's state, including retries. A poll that several waits
        share counts for each of them.
    :param retries: how many of these failed and were retried.
    :param outages: how often an outage of Arroyo was logged.
    :param restarts: how many new runs began by themselves, not counting those that an earlier poke saw.
    :param running_seconds: until the pipeline was first seen ``Running``; None if it was not, or should stop.
    :param checkpoint_seconds: until a finished checkpoint of its run was first seen; None if none was needed.
    :param stop_seconds: until it was seen ``Stopped``; None if it should run.
    """

    polls: int = 0
    retries: int = 0
    outages: int = 0
    restarts: int = 0
    running_seconds: float | None = None
    checkpoint_seconds: float | None = None
    stop_seconds: float | None = None

    def plus(self, *, polls: int = 0, retries: int = 0, outages: int = 0, restarts: int = 0) -> Self:
        """Return the stats with these counts added."""
        return replace(
            self,
            polls=self.polls + polls,
            retries=self.retries + retries,
            outages=self.outages + outages,
            restarts=self.restarts + restarts,
        )

    def with_state(self, plan: WaitPlan, job: Job, now: float) -> Self:
        """Return the stats with the time to a state that was just seen, if it is timed and was not seen before.

        :param plan: the plan of the wait.
        :param job: the job in that state; must not be stale.
        :param now: when it was seen, seconds since the epoch.
        """
        if plan.target_states == TERMINAL_STATES:
            return self._timed("stop_seconds", plan, now) if job.state == JobState.STOPPED else self
        is_running = job.state in AT_WORK and job.running_desired
        return self._timed("running_seconds", plan, now) if is_running else self

    def with_checkpoint(self, plan: WaitPlan, now: float) -> Self:
        """Return the stats with the time to the first finished checkpoint.

        :param plan: the plan of the wait.
        :param now: when it was seen, seconds since the epoch.
        """
        return self._timed("checkpoint_seconds", plan, now)

    def _timed(self, name: str, plan: WaitPlan, now: float) -> Self:
        began = plan.baseline.requested_at if plan.baseline is not None else plan.created_at
        if began is None or getattr(self, name) is not None:
            return self
        seconds: Any = max(0.0, now - began)
        return replace(self, **{name: seconds})


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitResult(JsonValue):
    """The status of a wait.

    :param outcome: its status, or how it ended.
    :param target_states: the wanted states; none for a condition.
    :param goal: the goal, in words.
    :param facts: what is added to the task's result, if a condition was wanted and is true.
    :param seen: what was last seen of the condition, in words that follow "It"; default None.
    :param advice: what to check if a condition does not become true: a sentence without its full stop.
    :param job: the job as last seen; None if none was seen.
    :param reached_at: when a wanted state was seen, seconds since the epoch; the task may resume later.
    :param waited_seconds: how long the wait has lasted.
    :param state_seconds: for how long the last state has been seen.
    :param restarts: how many new runs began by themselves during the wait, and before it in earlier pokes.
    :param restarts_seconds: for how long they have been counted, default None: since the wait began.
    :param restart_window: the time in which ``max_restarts`` counts them, default None: the whole wait.
    :param restarts_in_window: how many of them count.
    :param is_missing: whether there is no such pipeline yet, and the wait is for one.
    :param elsewhere: if it is missing: which other Airflow has one of that name; empty if none has.
    :param jobless_seconds: for how long the pipeline has had no job, after it had one; otherwise None.
    :param lacks_checkpoint: whether a finished checkpoint of its run is still needed.
    :param open_epoch: the checkpoint that began in its run and has not finished, if one was seen.
    :param detail: what is read about the job besides its state.
    :param details_error: why the last reading of that failed.
    :param unreachable_since: while polls fail: when Arroyo last responded, seconds since the epoch; otherwise None.
    :param unreachable_seconds: how long ago that was.
    :param is_outage: whether Arroyo is unreachable; a last poll that the deadline cut short is not an outage.
    :param has_responded: whether Arroyo itself has responded in this task.
    :param error: the error of the last poll, if it failed.
    :param stopped_by: who requested the stop, if the task knows; default None.
    :param transitions: the last changes of state that were seen.
    :param deadline_argument: name of the argument that set the deadline.
    :param awaits_run: whether the run that follows the change has yet to begin.
    :param is_unchanged: whether the job is still as it was before the change.
    :param stats: counts and times.
    """

    outcome: Outcome
    target_states: tuple[str, ...] = ()
    goal: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    seen: str | None = None
    advice: str = ""
    job: Job | None = None
    reached_at: float | None = None
    waited_seconds: float = 0.0
    state_seconds: float = 0.0
    restarts: int = 0
    restarts_seconds: float | None = None
    restart_window: timedelta | None = None
    restarts_in_window: int = 0
    is_missing: bool = False
    elsewhere: str = ""
    jobless_seconds: float | None = None
    lacks_checkpoint: bool = False
    open_epoch: int | None = None
    detail: Detail = Detail.CHECKPOINTS
    details_error: ArroyoError | None = None
    unreachable_since: float | None = None
    unreachable_seconds: float | None = None
    is_outage: bool = False
    has_responded: bool = True
    error: ArroyoError | None = None
    stopped_by: str | None = None
    transitions: tuple[Transition, ...] = ()
    deadline_argument: str = "timeout"
    awaits_run: bool = False
    is_unchanged: bool = False
    stats: WaitStats = WaitStats()

    @property
    def wanted(self) -> str:
        """What was wanted, in words."""
        return self.goal or " or ".join(self.target_states)

    @property
    def has_condition(self) -> bool:
        """Whether a condition was wanted, and not a state."""
        return bool(self.advice)

    @property
    def is_over(self) -> bool:
        """Whether the wait has ended."""
        return self.outcome is not Outcome.WAITING

    @property
    def is_own_failure(self) -> bool:
        """Whether Arroyo itself responds, although the last poll failed."""
        return self.error is not None and self.error.is_own_failure

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read the output of ``to_dict``, of this version or another one; unknown fields are ignored.

        :raises ValueError: if it is invalid, if this version does not know the outcome, or if a wanted state was
            reached without a job.
        """
        try:
            result = from_json(cls, data)
        except ValueError as err:
            raise ValueError(f"this is not the result of a wait: {err}") from err
        if result.outcome is Outcome.REACHED and result.job is None:
            raise ValueError("this is not the result of a wait: a wanted state was reached without a job")
        return result


def result_values(pipeline: PipelineRef, job: Job | None, **more: Any) -> dict[str, Any]:
    """Return a task's result: the common keys, the same for every task and in every mode, then those of the task.

    :param pipeline: the pipeline.
    :param job: its job as last seen; None if none was seen.
    :param more: the keys of the task.
    """
    return {
        "pipeline_id": pipeline.pipeline_id,
        "pipeline_name": pipeline.name,
        "job_id": job.id if job else None,
        "state": str(job.state) if job else None,
        "run_id": job.run_id if job else None,
        "console_url": pipeline.console_url,
        "failure_reason": (job.failure.error or None) if job and job.failure else None,
        **more,
    }
