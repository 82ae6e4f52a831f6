"""The base class of the operators that wait: common arguments, both halves of a wait, and what happens on a kill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_arroyo.client.checks import check_duration
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError, TaskDeferralError, TaskDeferralTimeout
from airflow_provider_arroyo.links import ArroyoPageLink, ArroyoPipelineLink
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.connected import TaskEnd
from airflow_provider_arroyo.operators.deferral import deferrable_or_default
from airflow_provider_arroyo.operators.lineage import OpenLineageMixin
from airflow_provider_arroyo.operators.rendering import RenderedFields
from airflow_provider_arroyo.operators.task import (
    DEFAULT_CONN_ID,
    ArroyoTask,
    entry_point,
)
from airflow_provider_arroyo.text import shorten

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.client.models import Job, Pipeline
    from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.monitoring.wait import PipelineWait
    from airflow_provider_arroyo.on_kill import WatchedRun

_LEAST_SECONDS = 10.0
"""Minimum time for a second stop request, even if less of ``timeout`` is left."""


class ArroyoOperator(OpenLineageMixin, RenderedFields, ArroyoTask, BaseOperator):
    """The base class of the operators that wait.

    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param timeout: how long the wait may take, deferred or not; a timedelta or seconds.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds.
    :param defer_after: with ``deferrable``, how long to wait in the worker before the wait moves to the triggerer,
        default 15 seconds; a timedelta or seconds. A deferral takes about ten seconds (``[arroyo] deferral_hold``),
        and most pipelines start faster.
    :param api_outage_tolerance: how long Arroyo may be unreachable before the task fails, default 10 minutes; a
        timedelta or seconds. The pipeline is not touched.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    """

    operator_extra_links = (ArroyoPipelineLink(), ArroyoPageLink())
    stop_on_kill: StopMode | None = None
    _context: Context
    _waiting: PipelineWait | None = None
    _has_failed = False
    _stopped_by: str | None = None

    def __init__(
        self,
        *,
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        timeout: timedelta | float,
        poll_interval: timedelta | float = 0.1,
        defer_after: timedelta | float = 15.0,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arroyo_conn_id = arroyo_conn_id
        self.timeout = check_duration(timeout, "timeout")
        self.poll_interval = check_duration(poll_interval, "poll_interval", positive=True).total_seconds()
        self.defer_after = check_duration(defer_after, "defer_after").total_seconds()
        self.api_outage_tolerance = check_duration(api_outage_tolerance, "api_outage_tolerance")
        self.deferrable = deferrable_or_default(deferrable)

    def _find(self, context: Context, pipeline_id: str | None, name: str | None) -> Pipeline:
        """Return the pipeline with this id or name.

        A name means the same pipeline in every try, so a change never reaches a newer pipeline of that name.
        """
        client = self._client()
        if pipeline_id is None and (pipeline_id := self._noted_id(context, str(name))) is None:
            return self._keep(self._resolve_name(context, str(name), client, is_changed=True))
        try:
            return self._keep(client.get_pipeline(pipeline_id))
        except ArroyoNotFoundError:
            if name is not None:
                self.log.info(
                    "In an earlier try, the name %r meant pipeline %s; use pipeline_id for another one of that name",
                    shorten(name, 80),
                    pipeline_id,
                )
            raise

    def _keep(self, found: Pipeline) -> Pipeline:
        # A closure, because OpenLineage may show every attribute of a task, and the SQL may hold secrets.
        self._found_query = lambda: found.query
        return found

    def _wait(
        self,
        context: Context,
        plan: WaitPlan,
        resume_context: Mapping[str, Any],
        *,
        may_defer: bool = True,
    ) -> dict[str, Any]:
        """Wait, and return the task's result; with ``deferrable``, from ``defer_after`` on in the triggerer."""
        self._context, self._ti = context, context["ti"]
        wait = self._new_wait(plan)
        if self.stop_on_kill is not None:
            self._note(self._watched(wait))
        self._waiting = wait
        result = self._poll(wait, until=self._defers_at(wait) if may_defer else None)
        if not result.is_over:
            self._note(self._watched(wait))
            resume_context = {**resume_context, "arroyo_conn_id": self.arroyo_conn_id}
            self._defer_wait(wait, resume_context, stop_on_kill=self.stop_on_kill)
        value = self._finish(result, plan.pipeline, resume_context)
        self._waiting = None
        return value

    @entry_point
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Resume with the trigger's event.

        :returns: the task's result.
        """
        from airflow_provider_arroyo.on_kill import WatchedRun

        self._context, self._ti = context, context["ti"]
        ended = self._resume(event)
        # That of the wait, whatever the DAG says by now.
        self.arroyo_conn_id = ended.resume_context.get("arroyo_conn_id", self.arroyo_conn_id)
        self._pipeline = ended.pipeline
        self._prepare_lineage()
        if self.stop_on_kill is not None:
            self._note(WatchedRun(pipeline=ended.pipeline, job=ended.result.job), is_over=True)
        return self._finish(ended.result, ended.pipeline, ended.resume_context)

    def _finish(
        self, result: WaitResult, pipeline: PipelineRef, resume_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the task's result, or raise the error of the wait."""
        raise NotImplementedError

    def _stop_immediately(self, pipeline: PipelineRef, job: Job, waited_seconds: float) -> dict[str, Any]:
        """Stop a pipeline that became ``Finishing`` after the stop request; return the task's result."""
        from airflow_provider_arroyo.monitoring.plan import WaitPlan

        self._log_immediate_stop(pipeline)
        began = self.clock()
        left = max(_LEAST_SECONDS, self.timeout.total_seconds() - waited_seconds)
        deadline, argument = self._deadline(timedelta(seconds=left))
        self._client(deadline=deadline).patch_pipeline(pipeline.pipeline_id, stop=StopMode.IMMEDIATE)
        plan = WaitPlan.of_stop(
            pipeline,
            job,
            requested_at=began,
            deadline=deadline,
            deadline_argument=argument,
            outage_tolerance=self.api_outage_tolerance,
        )
        # The time counts from the first request; a timeout reports all of it.
        result = self._poll(self._new_wait(plan, began - waited_seconds))
        return self._finish(result, pipeline, {"mode": StopMode.IMMEDIATE.value})

    def _fail_to_stop(
        self, result: WaitResult, pipeline: PipelineRef, resume_context: Mapping[str, Any]
    ) -> NoReturn:
        """Raise the error of a stop that had no effect."""
        mode, job, advice = resume_context.get("mode"), result.job, None
        is_stuck = result.outcome is Outcome.TIMED_OUT and not result.is_outage
        is_stuck = is_stuck and job is not None and job.state == JobState.FINISHING
        if is_stuck and mode in (StopMode.IMMEDIATE, StopMode.FORCE):
            advice = (
                f"A stop with mode {mode!r} was requested, and Arroyo should obey it in that state. Check Arroyo's "
                f"controller, or allow more time ({result.deadline_argument})."
            )
        self._fail(result, pipeline, advice=advice)

    def _log_immediate_stop(self, pipeline: PipelineRef) -> None:
        self.log.warning("Finishing, takes no checkpoints, so it is stopped immediately: %s", pipeline.short)

    # -- the pipeline when the task ends -----------------------------------------------------------------------

    def on_kill(self) -> None:
        """Apply ``stop_on_kill`` when Airflow kills the task; without it, the pipeline keeps running."""
        if self._has_failed:
            # Also called by Airflow's own timeout alarm, after the error was handled, and by a second signal.
            return
        if self._waiting is None:
            self.log.info("This task was killed while it was not waiting for a pipeline; nothing was stopped")
            return
        wait, self._waiting, self._has_failed = self._waiting, None, True
        self._stop_on_kill(self._watched(wait), is_timeout=self._is_timed_out)

    @entry_point
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; if the deferral itself failed, apply ``stop_on_kill`` and raise an error."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout) as err:
            raise TaskEnd(self._deferral_failed(err, context)) from err

    def _deferral_failed(self, error: Exception, context: Context) -> ArroyoTaskError:
        from airflow_provider_arroyo.on_kill import noted_wait

        self._ti = context["ti"]
        watched = noted_wait(self._ti)
        if watched is not None and isinstance(error, TaskDeferralTimeout):
            self._stop_on_kill(watched, is_timeout=True)
        elif watched is not None:
            # Only the polling failed, and the pipeline may be fine; stop_on_kill is for a task that ends.
            self.log.info("%s", watched.advice)
        what = watched.pipeline.inline if watched is not None else "its pipeline"
        return ArroyoTaskError(
            f"The wait for {what} was interrupted in the triggerer: {error}. "
            "Check the triggerer's log. A new try continues with the same pipeline."
        )

    def _fail(self, result: WaitResult, pipeline: PipelineRef, *, advice: str | None = None) -> NoReturn:
        from airflow_provider_arroyo.on_kill import WatchedRun

        if result.outcome is Outcome.TIMED_OUT:
            self._waiting, self._has_failed = None, True
            watched = WatchedRun(pipeline=pipeline, job=result.job, awaits_run=result.awaits_run)
            self._stop_on_kill(watched, is_timeout=True)
        try:
            # The poll loop keeps running while Airflow ends the process of a killed task.
            super()._fail(replace(result, stopped_by=self._stopped_by), pipeline, advice=advice)
        finally:
            # Only now: until the error is complete, a kill must still apply stop_on_kill.
            self._waiting, self._has_failed = None, True

    def _watched(self, wait: PipelineWait) -> WatchedRun:
        from airflow_provider_arroyo.on_kill import WatchedRun

        return WatchedRun.of(wait)

    def _note(self, watched: WatchedRun, *, is_over: bool = False) -> None:
        """Record which run is waited for, for the second half of this task and for a kill."""
        from airflow_provider_arroyo.on_kill import note_wait

        note_wait(self._ti, watched, is_over=is_over)

    def _stop_on_kill(self, watched: WatchedRun, *, is_timeout: bool) -> None:
        from airflow_provider_arroyo.on_kill import stop_on_kill

        try:
            client = self._new_client()
        except ValueError as err:
            self.log.error("No stop can be requested: %s. %s", err, watched.advice)
            return
        with client:
            requested = stop_on_kill(
                client, watched, self.stop_on_kill, ti=self._ti, is_timeout=is_timeout, log=self.log
            )
        if requested and self.stop_on_kill is not None:
            self._stopped_by = f"this task, which was killed (stop_on_kill={self.stop_on_kill.value!r})"
