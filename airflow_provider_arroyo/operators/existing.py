"""The base classes of the operators that act on an existing pipeline, and of those among them that stop it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNoSuchNameError, ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.arguments import (
    IF_MISSING_OF_OPERATORS,
    IF_MISSING_OF_SENSORS,
    check_choice,
    check_early,
    check_one_of_id_and_name,
    check_stop_mode,
    rendered_id_and_name,
)
from airflow_provider_arroyo.operators.base import ArroyoWaitingOperator
from airflow_provider_arroyo.operators.connected import hidden
from airflow_provider_arroyo.text import shorten

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.models import Job, Pipeline
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.on_kill import WatchedRun

NOT_THERE = (ArroyoNotFoundError, ArroyoNoSuchNameError)

_LEAST_SECONDS = 10.0
"""Minimum time for a second stop request, even if less of ``timeout`` is left."""


class ArroyoExistingOperator(ArroyoWaitingOperator):
    """The base class of the operators that act on an existing pipeline."""

    template_fields: Sequence[str] = ("pipeline_id", "pipeline_name", "arroyo_conn_id")
    _requests = "change"
    """What the task requests; it continues if the task is killed."""

    def __init__(self, *, pipeline_id: str | None, pipeline_name: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_one_of_id_and_name(pipeline_id, pipeline_name)
        self.pipeline_id = pipeline_id
        self.pipeline_name = pipeline_name

    def _wanted(self) -> PipelineRef:
        """Return the id or the name of the pipeline, from the rendered arguments."""
        from airflow_provider_arroyo.monitoring.plan import PipelineRef

        pipeline_id, name = rendered_id_and_name(self.pipeline_id, self.pipeline_name)
        return PipelineRef(pipeline_id=pipeline_id or "", name=name)

    def _find(self, wanted: PipelineRef) -> Pipeline:
        """Find the pipeline with this id or name, and show it.

        A name means the same pipeline in every try, so a change never reaches a newer pipeline of that name.
        """
        client, name = self._client(), wanted.name
        pipeline_id = wanted.pipeline_id or self._note(str(name)).get("pipeline_id")
        try:
            found = (
                client.get_pipeline(pipeline_id)
                if pipeline_id
                else self._resolve_name(client, str(name), is_changed=True)
            )
        except ArroyoNotFoundError:
            if name is not None and pipeline_id:
                self.log.info(
                    "In an earlier try, the name %r meant pipeline %s; use pipeline_id for another one of that name",
                    shorten(name, 80),
                    pipeline_id,
                )
            raise
        self._found_query = hidden(found.query)
        self._show_link(self._ref(found))
        return found

    def _stop_on_kill(self, watched: WatchedRun, *, is_timeout: bool) -> None:
        self.log.info(
            "The requested %s continues without this task: %s", self._requests, watched.pipeline.label
        )


class ArroyoStoppingOperator(ArroyoExistingOperator):
    """The base class of the operators that stop a pipeline."""

    if_finishing = "immediate"
    _requests = "stop"

    def __init__(self, *, mode: str, if_missing: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mode = check_early(check_stop_mode, mode, "mode")
        self.if_missing = check_choice(
            if_missing, "if_missing", IF_MISSING_OF_OPERATORS, IF_MISSING_OF_SENSORS
        )

    def _wait_for_stop(
        self,
        pipeline: PipelineRef,
        job: Job | None,
        mode: StopMode,
        requested_at: float,
        resume_context: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Wait for a requested stop, and return the task's result."""
        from airflow_provider_arroyo.monitoring.plan import WaitPlan

        plan = WaitPlan.of_stop(
            pipeline,
            job,
            requested_at=requested_at,
            **self._limits(self.timeout),
            finishing_is_final=mode is StopMode.CHECKPOINT
            or (mode is not StopMode.IMMEDIATE and self._ends_finishing(mode)),
        )
        return self._wait(plan, {**resume_context, "mode": mode.value})

    def _finish(
        self, result: WaitResult, pipeline: PipelineRef, resume_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        from airflow_provider_arroyo.monitoring.explain import explain

        job = result.job
        if result.outcome in (Outcome.DELETED, Outcome.MISSING):
            return self._missing(explain(result, pipeline), pipeline)
        ends_finishing = self._ends_finishing(resume_context.get("mode"))
        if result.outcome is Outcome.NO_CHECKPOINT and job is not None and ends_finishing:
            return self._stop_immediately(pipeline, job, result.waited_seconds)
        if result.outcome is not Outcome.REACHED or job is None:
            self._fail_to_stop(result, pipeline, resume_context)
        return self._stopped(result, job, pipeline, resume_context.get("request"))

    def _ends_finishing(self, mode: str | None) -> bool:
        """Return whether a pipeline that is ``Finishing`` is stopped immediately, which is all it obeys."""
        # No mode means more haste than force.
        return self.if_finishing == "immediate" or mode == StopMode.FORCE

    def _stopped(self, result: WaitResult, job: Job, pipeline: PipelineRef, request: Any) -> dict[str, Any]:
        """Return the task's result, after the stop; ``request`` is its record, if a checkpoint was requested."""
        raise NotImplementedError

    def _missing(self, error: ArroyoError, pipeline: PipelineRef) -> dict[str, Any]:
        """Return the task's result if there is no such pipeline, or raise the error that says so."""
        raise NotImplementedError

    def _stop_immediately(self, pipeline: PipelineRef, job: Job, waited_seconds: float) -> dict[str, Any]:
        """Stop a pipeline that became ``Finishing`` after the stop request; return the task's result."""
        from airflow_provider_arroyo.monitoring.plan import WaitPlan

        self._log_immediate_stop(pipeline)
        began = self.clock()
        left = max(_LEAST_SECONDS, self.timeout.total_seconds() - waited_seconds)
        limits = self._limits(timedelta(seconds=left))
        self._client(deadline=limits["deadline"]).patch_pipeline(
            pipeline.pipeline_id, stop=StopMode.IMMEDIATE
        )
        plan = WaitPlan.of_stop(pipeline, job, requested_at=began, **limits)
        # The time counts from the first request; a timeout reports all of it.
        result = self._poll(self._new_wait(plan, began - waited_seconds))
        return self._finish(result, pipeline, {"mode": StopMode.IMMEDIATE.value})

    def _log_immediate_stop(self, pipeline: PipelineRef) -> None:
        self.log.warning("Finishing, obeys no other stop, so it is stopped immediately: %s", pipeline.short)

    def _fail_to_stop(
        self, result: WaitResult, pipeline: PipelineRef, resume_context: Mapping[str, Any]
    ) -> NoReturn:
        """Raise the error of a stop that had no effect."""
        mode, job, advice = resume_context.get("mode"), result.job, None
        is_stuck = result.outcome is Outcome.TIMED_OUT and not result.is_outage
        is_stuck = is_stuck and job is not None and job.state == JobState.FINISHING
        if is_stuck and mode == StopMode.IMMEDIATE:
            advice = (
                "A stop with mode 'immediate' was requested, and Arroyo should obey it in that state. Check Arroyo's "
                f"controller, or allow more time ({result.deadline_argument})."
            )
        self._fail(result, pipeline, advice=advice)
