"""The options, progress and result of a deploy: values that cross processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Self, TypeVar

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import JsonValue
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.checkpoints import StopRequest
from airflow_provider_arroyo.monitoring.plan import Baseline, PipelineRef, WaitPlan
from airflow_provider_arroyo.pipelines.choices import OnFailure, Strategy
from airflow_provider_arroyo.pipelines.deploy_plan import Step
from airflow_provider_arroyo.pipelines.ownership import Deployment

T = TypeVar("T")

_UNREADABLE = (
    "How far this deploy got cannot be read: another version of airflow-provider-arroyo wrote it. Clear this task; "
    "it continues from what it finds."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOptions:
    """How to deploy.

    :param timeout: for the whole deploy, without a rollback.
    :param rollback_timeout: for a rollback, counted from its start.
    :param strategy: the order in which a replace stops and starts.
    :param on_failure: what to do if the new pipeline does not come up.
    :param keep_old: whether a replace keeps the old pipeline, stopped.
    :param adopt_unowned: whether to take over a pipeline of that name without a label, with the same SQL.
    :param until_checkpoint: whether a pipeline has proven itself only after it has finished a checkpoint.
    :param stable_for: how long ``Running`` must last in one run.
    :param max_restarts: how often it may restart before the deploy fails; None, any number.
    :param allow_state_loss: whether a replace may drop the state of a pipeline that has some.
    :param dry_run: whether to change nothing.
    :param is_retry: whether an earlier try of this task may have left unfinished work.
    :param outage_tolerance: how long Arroyo may be unreachable.
    """

    timeout: timedelta
    rollback_timeout: timedelta
    strategy: Strategy = Strategy.STOP_FIRST
    on_failure: OnFailure = OnFailure.ROLLBACK
    keep_old: bool = False
    adopt_unowned: bool = False
    until_checkpoint: bool = True
    stable_for: timedelta = timedelta(seconds=2)
    max_restarts: int | None = None
    allow_state_loss: bool = False
    dry_run: bool = False
    is_retry: bool = False
    outage_tolerance: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployProgress(JsonValue):
    """The progress of a deploy, for the process that continues it. Contains no SQL and no secret.

    :param action: the action that the deploy reports.
    :param steps: the remaining steps; the first one is in progress.
    :param deadline: of the deploy, or of a rollback once it has begun; seconds since the epoch.
    :param generation: the number of the wanted pipeline.
    :param deployment: what is deployed, whatever the task's arguments are by now.
    :param pipeline: the wanted pipeline, once it exists.
    :param request_id: of the request that created it, which tells it from a later one of its generation and id.
    :param old: the pipeline that a replace replaces.
    :param discard: a pipeline that an earlier try left, and that is removed first.
    :param can_roll_back: whether a failure now causes a rollback to the old pipeline.
    :param changes: what is changed, without secrets.
    :param not_applied: what differs but is not changed, without secrets.
    :param before: the pipeline's job before the change, so that its old state does not count as the effect.
    :param starts: whether this deploy creates, resumes or restarts the pipeline, so that it must stop it again if
        another deploy has created a higher generation.
    :param created_at: when the pipeline was created, seconds since the epoch; None if it was not.
    :param late_until: until when a duplicate may still appear, seconds since the epoch; None if none can.
    :param stop: what the proof of the old pipeline's final checkpoint needs; None if none was requested.
    :param checkpoint: that checkpoint, once it is proven.
    :param failure: the reason for the rollback.
    """

    action: str
    steps: tuple[Step, ...]
    deadline: float
    generation: int
    deployment: Deployment
    pipeline: PipelineRef | None = None
    request_id: str = ""
    old: PipelineRef | None = None
    discard: PipelineRef | None = None
    can_roll_back: bool = False
    changes: tuple[Mapping[str, str], ...] = ()
    not_applied: tuple[Mapping[str, str], ...] = ()
    before: Baseline | None = None
    starts: bool = False
    created_at: float | None = None
    late_until: float | None = None
    stop: StopRequest | None = None
    checkpoint: Mapping[str, int] | None = None
    failure: str | None = None

    @classmethod
    def read(cls, value: Any) -> Self:
        """Return the progress that another process wrote.

        :raises ArroyoError: if it cannot be read.
        """
        try:
            return cls.from_dict(value)
        except ValueError as err:
            raise ArroyoError(_UNREADABLE) from err

    @property
    def step(self) -> Step:
        """The step in progress."""
        return self.steps[0]

    def done(self, **changes: object) -> Self:
        """Return the progress after the current step is done, with other changed fields."""
        return replace(self, steps=self.steps[1:], **changes)  # type: ignore[arg-type]  # named by the caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A deploy that must wait before it can continue.

    :param progress: to be given back with the result of the wait.
    :param wait: what to wait for.
    """

    progress: DeployProgress
    wait: WaitPlan

    @property
    def may_defer(self) -> bool:
        """Whether another process may continue; it may not have the SQL of a pipeline that is still to be created."""
        return Step.CREATE not in self.progress.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A deploy that is complete.

    :param progress: its final progress.
    :param pipeline: the deployed pipeline; in a dry run the current one, or None if there is none.
    :param job: its job as last seen.
    """

    progress: DeployProgress
    pipeline: PipelineRef | None
    job: Job | None = None


def required(value: T | None) -> T:
    """Return a value that must be set at this step of a deploy."""
    if value is None:
        raise ArroyoError(_UNREADABLE)
    return value
