"""The actions that a user can request in the UI: the request to Arroyo, and what its response and effect mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.retry import may_have_taken_effect
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import Baseline, PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.plugin.facts import Facts

Action = Literal["stop", "resume", "restart", "rescale", "delete"]
StopModes = Literal["checkpoint", "graceful", "immediate", "force"]

MAX_PARALLELISM = 10_000

FOLLOW_SECONDS = 120.0
"""How long to wait for the effect of an action."""

_OPTIONS_OF: dict[Action, tuple[str, ...]] = {
    "stop": ("mode",),
    "rescale": ("parallelism",),
    "restart": ("force",),
}
_DOWN = frozenset({JobState.STOPPED, JobState.FINISHED})


class ActionOptions(BaseModel):
    """The options of an action.

    :param mode: for a stop.
    :param parallelism: for a rescale.
    :param force: for a restart: whether to skip the checkpoint.
    """

    model_config = ConfigDict(extra="forbid")

    mode: StopModes = "checkpoint"
    parallelism: int | None = Field(default=None, ge=1, le=MAX_PARALLELISM)
    force: bool = False


def request_for(action: Action, pipeline_id: str, options: ActionOptions) -> Request[Any]:
    """Return the request that carries out an action.

    :raises ValueError: if an option is missing; names it.
    """
    requests: dict[Action, Callable[[], Request[Any]]] = {
        "stop": lambda: endpoints.patch_pipeline(pipeline_id, stop=options.mode),
        "resume": lambda: endpoints.patch_pipeline(pipeline_id, stop=StopMode.NONE),
        "restart": lambda: endpoints.restart_pipeline(pipeline_id, force=options.force),
        "rescale": lambda: _rescale(pipeline_id, options.parallelism),
        "delete": lambda: endpoints.delete_pipeline(pipeline_id),
    }
    return requests[action]()


def _rescale(pipeline_id: str, parallelism: int | None) -> Request[Any]:
    if parallelism is None:
        raise ValueError("parallelism must be given: subtasks of each operator, 1 or more")
    return endpoints.patch_pipeline(pipeline_id, parallelism=parallelism)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """An action of a user, and Arroyo's response to it.

    :param action: the action.
    :param options: its options.
    :param connection_id: id of the Airflow connection.
    :param user_name: who requested it.
    :param facts: the pipeline's facts when the action was requested.
    :param before: its job at that time.
    :param at: when the action was requested, seconds since the epoch.
    :param failure: why the request failed; None if Arroyo accepted it.
    :param owner: the task instance of this Airflow that owns the pipeline; default None: there is none.
    """

    action: Action
    options: ActionOptions
    connection_id: str
    user_name: str
    facts: Facts
    before: Job | None
    at: float
    failure: ArroyoError | None
    owner: dict[str, Any] | None = None

    @property
    def response(self) -> str:
        """Arroyo's response, without secrets."""
        return "accepted" if self.failure is None else self.facts.shown(str(self.failure))

    @property
    def outcome(self) -> str:
        """What the response shows: ``requested``, ``not_done``, ``unknown``; ``reached`` if nothing is to follow."""
        if self.failure is not None:
            return "unknown" if self.is_unknown else "not_done"
        return Outcome.REACHED.value if self._is_done else "requested"

    @property
    def is_unknown(self) -> bool:
        """Whether the response was lost, so that the action may have been carried out."""
        return self.failure is not None and may_have_taken_effect(self.failure)

    @property
    def _is_done(self) -> bool:
        """Whether an accepted request has no further effect."""
        if self.action == "rescale":
            # A pipeline that does not run uses it from its next start; its current parallelism restarts nothing.
            return not self._runs or self.options.parallelism == self.facts.parallelism
        return self.action == "delete"

    @property
    def _runs(self) -> bool:
        return self.before is not None and not self.before.is_terminal

    def wait(self) -> PipelineWait | None:
        """Return the wait for its effect; None if no effect is to follow."""
        if self.outcome not in ("requested", "unknown") or self.before is None or self._is_done:
            return None
        # A resume before the pipeline has stopped withdraws the stop, and may begin no new run.
        is_withdrawal = self.action == "resume" and self._runs
        plan = WaitPlan(
            pipeline=PipelineRef(pipeline_id=self.facts.pipeline_id, name=self.facts.name or None),
            target_states=_DOWN if self.action == "stop" else frozenset({JobState.RUNNING}),
            deadline=self.at + FOLLOW_SECONDS,
            finished_is_success=True,
            # If the response was lost, there may have been no stop to withdraw.
            resume_is_final=self.action == "stop" and self.failure is None,
            finishing_is_final=self.action == "stop" and self.options.mode != "immediate",
            restart_requested=self.action == "restart" and self.before.state == JobState.RUNNING,
            baseline=None if is_withdrawal else Baseline.of(self.before, requested_at=self.at),
        )
        return PipelineWait(plan, now=self.at, has_responded=True)

    def requested(self) -> dict[str, Any]:
        """Return the first row's values."""
        job = self.before
        return {
            **self._what(),
            "state_before": job.state if job else None,
            "run_before": job.run_id if job else None,
            "arroyo_response": self.response,
            "outcome": self.outcome,
        }

    def ended(self, result: WaitResult) -> dict[str, Any]:
        """Return the second row's values."""
        job = result.job
        return {
            **self._what(),
            "outcome": result.outcome.value,
            "state_after": job.state if job else None,
            "run_after": job.run_id if job else None,
            "failure_reason": self.facts.shown(job.failure.error) if job and job.failure else None,
            "seconds": round(result.waited_seconds, 1),
        }

    def _what(self) -> dict[str, Any]:
        return {
            "connection_id": self.connection_id,
            "pipeline_id": self.facts.pipeline_id,
            "pipeline_name": self.facts.name,
            **{name: getattr(self.options, name) for name in _OPTIONS_OF.get(self.action, ())},
        }
