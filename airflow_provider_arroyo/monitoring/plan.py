"""The plan of a wait: pipeline, goal, the state before it, limits. Plain values that cross processes."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_arroyo.client.checks import check_duration, check_max_restarts
from airflow_provider_arroyo.client.enums import TERMINAL_STATES, JobState
from airflow_provider_arroyo.client.wire import JsonValue, from_json
from airflow_provider_arroyo.monitoring.condition import CheckpointCondition, Condition, Detail
from airflow_provider_arroyo.monitoring.metric_condition import MetricCondition
from airflow_provider_arroyo.text import pipeline_label, shorten

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.models import Job, Pipeline
    from airflow_provider_arroyo.client.settings import ClientSettings


class UnreadablePlanError(ValueError):
    """The arguments of a wait come from another version of this package and cannot be read.

    :param why: what is wrong with them.
    """

    # Not in ``__init__``: a copy in another process is made from the arguments.
    def __str__(self) -> str:
        return (
            f"The arguments of this wait cannot be read: {super().__str__()}. Another version of "
            "airflow-provider-arroyo wrote them; a new try starts the wait again."
        )


def is_wanted(state: str, target_states: Collection[str]) -> bool:
    """Return whether a state is wanted; ``Finishing`` counts as ``Running``."""
    return state in target_states or (state == JobState.FINISHING and JobState.RUNNING in target_states)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRef(JsonValue):
    """A pipeline as logs, errors and results name it.

    :param pipeline_id: its id; empty if only a name is known.
    :param name: its name; None if unknown.
    :param console_url: its page in Arroyo's console.
    """

    pipeline_id: str
    name: str | None = None
    console_url: str | None = None

    @classmethod
    def of(cls, pipeline: Pipeline, settings: ClientSettings) -> Self:
        """Return the reference to a pipeline that was found.

        :param pipeline: the pipeline.
        :param settings: settings of the client that found it.
        """
        url = settings.pipeline_console_url(pipeline.id)
        return cls(pipeline_id=pipeline.id, name=pipeline.name, console_url=url)

    @property
    def label(self) -> str:
        """Its name and id to begin a sentence with: ``Pipeline 'orders' (pl_1)``."""
        if self.name is None:
            return f"Pipeline {self.pipeline_id}"
        if not self.pipeline_id:
            return f"Pipeline {shorten(self.name, 80)!r}"
        return pipeline_label(self.name, self.pipeline_id)

    @property
    def inline(self) -> str:
        """The same within a sentence."""
        return f"p{self.label[1:]}"

    @property
    def described(self) -> str:
        """What it was looked up by, if it may not exist: ``pipeline named 'orders'``."""
        return f"pipeline {self.pipeline_id!r}" if self.pipeline_id else f"pipeline named {self.name!r}"

    @property
    def short(self) -> str:
        """Its name for a log line; its id if it has no name."""
        return shorten(self.name, 80) if self.name else self.pipeline_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline(JsonValue):
    """The job when a change was requested, so that its old state does not count as the effect.

    :param job_id, run_id, state: the job before the request.
    :param requested_at: when the request was sent, seconds since the epoch by the waiter's clock.
    """

    job_id: str
    run_id: int
    state: str
    requested_at: float

    @classmethod
    def of(cls, job: Job, *, requested_at: float) -> Self:
        """Return the baseline of a job before a request."""
        return cls(job_id=job.id, run_id=job.run_id, state=job.state, requested_at=requested_at)

    def is_before(self, job: Job) -> bool:
        """Return whether a job is in a run that began after the request."""
        return job.id != self.job_id or job.run_id > self.run_id

    def was_left(self, job: Job) -> bool:
        """Return whether a job shows that something happened since the request."""
        if job.state == self.state:
            return False
        # Failing that ends in Failed is still the old failure.
        return (self.state, job.state) != (JobState.FAILING, JobState.FAILED) or self.is_before(job)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPlan(JsonValue):
    """The goal and the limits of one wait.

    :param pipeline: the pipeline; only its name if it must still be found, see :meth:`.PipelineWait.found`.
    :param target_states: names of the wanted states; each of them ends the wait. None for a wait for a condition.
    :param deadline: when the wait ends at the latest, seconds since the epoch.
    :param deadline_argument: name of the argument that sets the deadline, default ``timeout``.
    :param stable_for: how long a wanted state that is not terminal must last in one run, default 0.
    :param until_checkpoint: whether ``Running`` counts only with a finished checkpoint that began in its run, which
        proves that data can flow; default False.
    :param checkpoint: the checkpoint to wait for instead of a state; default None.
    :param metric: the metric to wait for instead of a state; default None.
    :param details_interval: minimum time between two readings of what the condition needs, default 1 second. Slow
        readings are repeated less often.
    :param max_restarts: how many new runs may begin by themselves before the wait fails; default None, any number.
    :param restart_window: the time in which they are counted; default None, the whole wait.
    :param timeout_is_success: whether the wait succeeds if the deadline passes and the pipeline is running; for a
        guard, this means that nothing has happened. Default False.
    :param finished_is_success: whether ``Finished`` is a success if another state is wanted; default False: an error,
        since a finished pipeline never runs again.
    :param stopped_is_final: whether ``Stopped`` is an error if another state is wanted; default False: the wait
        continues, since a stopped pipeline may be resumed.
    :param finishing_is_final: whether the wait fails once ``Finishing``, in which Arroyo takes no checkpoints, has
        lasted for ``stale_grace``; default False.
    :param resume_is_final: whether the wait fails once the pipeline has been asked to run for ``stale_grace``,
        because the awaited stop was withdrawn. Default False.
    :param restart_requested: whether a restart of a running pipeline was requested. Arroyo carries it out even if
        that run fails meanwhile, so ``Failed`` counts only after it has lasted for ``stale_grace``. Default False.
    :param baseline: the job before the change whose effect is awaited; default None: nothing was changed.
    :param created_at: when this task created the pipeline, seconds since the epoch by the waiter's clock. For
        ``stale_grace`` from then on, a response that there is no such pipeline counts as stale. Default None.
    :param may_be_missing: whether the pipeline may not exist yet, so that the wait continues until it does; default
        False: a missing pipeline ends the wait.
    :param outage_tolerance: how long Arroyo may be unreachable before the wait fails, default 10 minutes.
    :param stale_grace: how long the baseline's own terminal state must last before it counts, default 5 seconds (ten
        rounds of Arroyo's controller).
    :param heartbeat: how often a wait without changes logs that it continues, default 5 minutes.
    :raises ValueError: if the wait could not end or not succeed; names the argument.
    """

    pipeline: PipelineRef
    target_states: frozenset[str]
    deadline: float
    deadline_argument: str = "timeout"
    stable_for: timedelta = timedelta(0)
    until_checkpoint: bool = False
    checkpoint: CheckpointCondition | None = None
    metric: MetricCondition | None = None
    details_interval: timedelta = timedelta(seconds=1)
    max_restarts: int | None = None
    restart_window: timedelta | None = None
    timeout_is_success: bool = False
    finished_is_success: bool = False
    stopped_is_final: bool = False
    finishing_is_final: bool = False
    resume_is_final: bool = False
    restart_requested: bool = False
    baseline: Baseline | None = None
    created_at: float | None = None
    may_be_missing: bool = False
    outage_tolerance: timedelta = timedelta(minutes=10)
    stale_grace: timedelta = timedelta(seconds=5)
    heartbeat: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        if not self.pipeline.pipeline_id and not self.pipeline.name:
            raise ValueError("pipeline: needs an id or a name")
        if not self.target_states and self.condition is None:
            raise ValueError("target_states: needs at least one state")
        if self.target_states and self.condition is not None:
            raise ValueError(f"target_states: not with a condition of the {self.detail}")
        if not math.isfinite(self.deadline):
            raise ValueError(f"deadline: {self.deadline} is not a time; every wait must end")
        check_max_restarts(self.max_restarts)
        if self.restart_window is not None:
            check_duration(self.restart_window, "restart_window", positive=True)
        if self.until_checkpoint and JobState.RUNNING not in self.target_states:
            raise ValueError("until_checkpoint: needs Running among the wanted states")
        for name in ("stable_for", "outage_tolerance", "stale_grace", "heartbeat", "details_interval"):
            check_duration(getattr(self, name), name)

    @classmethod
    def of_stop(cls, pipeline: PipelineRef, job: Job | None, *, requested_at: float, **more: Any) -> Self:
        """Return the plan of a wait for a stop that was requested.

        :param pipeline: the pipeline.
        :param job: its job before the request; None if it had none.
        :param requested_at: when the request was sent, seconds since the epoch by the waiter's clock.
        :param more: the other fields.
        """
        return cls(
            pipeline=pipeline,
            target_states=TERMINAL_STATES,
            resume_is_final=True,
            baseline=None if job is None else Baseline.of(job, requested_at=requested_at),
            **more,
        )

    @property
    def condition(self) -> Condition | None:
        """The condition to wait for instead of a state; None for a wait for a state."""
        return self.checkpoint or self.metric

    @property
    def goal(self) -> str:
        """The goal, in words."""
        return " or ".join(sorted(self.target_states)) if self.condition is None else self.condition.goal

    @property
    def detail(self) -> Detail:
        """What is read about the job besides its state, if needed."""
        return Detail.CHECKPOINTS if self.condition is None else self.condition.detail

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read the output of ``to_dict``, of this version or an older one; unknown fields are ignored.

        :raises UnreadablePlanError: if a field is invalid, or one that every version has is missing.
        """
        try:
            return from_json(cls, data)
        except ValueError as err:
            raise UnreadablePlanError(str(err)) from err
