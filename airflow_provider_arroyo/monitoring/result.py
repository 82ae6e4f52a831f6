"""How a wait stands or ended: a value that worker, triggerer and sensor hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import JsonValue, from_json
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.condition import Detail
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.stats import WaitStats
from airflow_provider_arroyo.monitoring.transitions import Transition

__all__ = ["Outcome", "WaitResult", "result_values"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitResult(JsonValue):
    """How a wait stands.

    :param outcome: how it stands, or ended.
    :param target_states: the states that were wanted; none where it was a condition.
    :param goal: what was wanted, in words.
    :param facts: what the task's result adds, where a condition was wanted and holds.
    :param seen: what of the condition was seen last, in words that follow "It"; default None.
    :param advice: what to check where a condition does not come true: a sentence without its end.
    :param is_unsettled: whether the next reading, which is about to come, may end the wait.
    :param job: the job as it was last seen; None if it never was.
    :param reached_at: when a wanted state was seen to be reached, seconds since the epoch; the task may resume later.
    :param waited_seconds: how long the wait has lasted.
    :param state_seconds: for how long the last state has been seen.
    :param restarts: how many new runs began by themselves during the wait.
    :param restart_window: the time in which ``max_restarts`` counts them, default None: the whole wait.
    :param restarts_in_window: how many of them count.
    :param is_missing: whether there is no such pipeline yet, and that is waited for.
    :param elsewhere: which other Airflow has one of that name then; empty if none has.
    :param jobless_seconds: for how long the pipeline has had no job, after it had one; else None.
    :param lacks_checkpoint: whether a finished checkpoint of its run is still wanted.
    :param open_epoch: the checkpoint that began in its run and has not finished, where one was seen.
    :param detail: what is read of the job besides its state.
    :param details_error: why that could not be read last.
    :param unreachable_since: when Arroyo last responded, seconds since the epoch, while polls fail; else None.
    :param unreachable_seconds: how long ago that was.
    :param has_responded: whether Arroyo itself has responded in this task.
    :param error: the failure of the last poll, if it failed.
    :param stopped_by: who asked for the stop, where the task knows; default None.
    :param transitions: the last changes of state that were seen.
    :param deadline_argument: name of the argument that set the wait's deadline.
    :param awaits_run: whether the run that follows the change is still to begin.
    :param is_unchanged: whether the job is still as it was before the change that is waited for.
    :param stats: what was counted and timed.
    """

    outcome: Outcome
    target_states: tuple[str, ...] = ()
    goal: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    seen: str | None = None
    advice: str = ""
    is_unsettled: bool = False
    job: Job | None = None
    reached_at: float | None = None
    waited_seconds: float = 0.0
    state_seconds: float = 0.0
    restarts: int = 0
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
    has_responded: bool = True
    error: ArroyoError | None = None
    stopped_by: str | None = None
    transitions: tuple[Transition, ...] = ()
    deadline_argument: str = "timeout"
    awaits_run: bool = False
    is_unchanged: bool = False
    stats: WaitStats = field(default_factory=WaitStats)

    @property
    def wanted(self) -> str:
        """What was wanted, in words."""
        return self.goal or " or ".join(self.target_states)

    @property
    def is_over(self) -> bool:
        """Whether the wait has ended."""
        return self.outcome is not Outcome.WAITING

    @property
    def is_own_failure(self) -> bool:
        """Whether Arroyo itself responds, and the last poll failed all the same."""
        return self.error is not None and self.error.is_own_failure

    @property
    def is_outage(self) -> bool:
        """Whether Arroyo is unreachable; a last poll that the deadline itself cut short is no outage."""
        seconds = self.unreachable_seconds
        return seconds is not None and (seconds > 1 or self.job is None)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read what ``to_dict`` wrote, in this version or another one; unknown fields are ignored.

        :raises ValueError: on anything else, on an outcome that this version does not know, and on a wanted state
            that was reached without a job.
        """
        try:
            result = from_json(cls, data)
        except ValueError as err:
            raise ValueError(f"this is not the result of a wait: {err}") from err
        if result.outcome is Outcome.REACHED and result.job is None:
            raise ValueError("this is not the result of a wait: a wanted state was reached without a job")
        return result


def result_values(pipeline: PipelineRef, job: Job | None, **more: Any) -> dict[str, Any]:
    """Return a task's result: the same keys for every task and in every mode, then those of the task.

    :param pipeline: the pipeline.
    :param job: its job as it was last seen; None where it was not.
    :param more: what the task adds.
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
