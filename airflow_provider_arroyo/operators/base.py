"""The base classes of the operators: of all, and of those that wait, with what happens on a kill."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_arroyo.client.checks import check_duration
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError, TaskDeferralError, TaskDeferralTimeout
from airflow_provider_arroyo.hooks.masking import hide_values
from airflow_provider_arroyo.links import ArroyoPageLink, ArroyoPipelineLink
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.connected import TaskEnd
from airflow_provider_arroyo.operators.deferral import deferrable_or_default
from airflow_provider_arroyo.operators.lineage import OpenLineageMixin
from airflow_provider_arroyo.operators.task import ArroyoTask, entry_point

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.monitoring.wait import PipelineWait
    from airflow_provider_arroyo.on_kill import WatchedRun


class ArroyoOperator(ArroyoTask, BaseOperator):
    """The base class of all operators. They document the common arguments, and define the defaults."""

    def __init__(
        self, *, arroyo_conn_id: str, api_outage_tolerance: timedelta | float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.arroyo_conn_id = arroyo_conn_id
        self.api_outage_tolerance = check_duration(api_outage_tolerance, "api_outage_tolerance")

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        """Render fields of this task one by one, or those of an object in one of its fields.

        Unlike its public method, Airflow calls this for mapped tasks, too.
        """
        if parent is self:
            for field in template_fields:
                self._render_field(field, context, jinja_env, seen_oids)
        else:
            super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)

    def _render_field(
        self, field: str, context: Context, jinja_env: jinja2.Environment, seen_oids: set[int]
    ) -> None:
        """Render one field, and mask what is secret in settings such as ``env_vars``."""
        super()._do_render_template_fields(self, [field], context, jinja_env, seen_oids)
        if isinstance(value := getattr(self, field, None), Mapping):
            from airflow_provider_arroyo.client.body_secrets import setting_secret_values

            hide_values(setting_secret_values(value))


class ArroyoWaitingOperator(OpenLineageMixin, ArroyoOperator):
    """The base class of the operators that wait."""

    operator_extra_links: Collection[BaseOperatorLink] = (ArroyoPipelineLink(), ArroyoPageLink())
    stop_on_kill: StopMode | None = None
    _waiting: PipelineWait | None = None
    _has_failed = False
    _stopped_by: str | None = None

    def __init__(
        self,
        *,
        timeout: timedelta | float,
        poll_interval: timedelta | float,
        defer_after: timedelta | float,
        deferrable: bool | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.timeout = check_duration(timeout, "timeout")
        self.poll_interval = check_duration(poll_interval, "poll_interval", positive=True).total_seconds()
        self.defer_after = check_duration(defer_after, "defer_after").total_seconds()
        self.deferrable = deferrable_or_default(deferrable)

    def _wait(
        self, plan: WaitPlan, resume_context: Mapping[str, Any], *, may_defer: bool = True
    ) -> dict[str, Any]:
        """Wait, and return the task's result; with ``deferrable``, from ``defer_after`` on in the triggerer."""
        from airflow_provider_arroyo.on_kill import WatchedRun, note_wait

        wait = self._new_wait(plan)
        if self.stop_on_kill is not None:
            note_wait(self._ti, WatchedRun.of(wait))
        self._waiting = wait
        result = self._poll(wait, until=self._defers_at(wait) if may_defer else None)
        if not result.is_over:
            note_wait(self._ti, WatchedRun.of(wait))
            resume_context = {**resume_context, "arroyo_conn_id": self.arroyo_conn_id}
            self._defer_wait(wait, resume_context, stop_on_kill=self.stop_on_kill)
        value = self._finish(result, plan.pipeline, resume_context)
        self._waiting = None
        return value

    @entry_point
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Resume with the trigger's event; return the task's result."""
        from airflow_provider_arroyo.on_kill import WatchedRun, note_wait

        ended = self._resume(event)
        # That of the wait, whatever the DAG says by now.
        self.arroyo_conn_id = ended.resume_context.get("arroyo_conn_id", self.arroyo_conn_id)
        self._prepare_lineage()
        if self.stop_on_kill is not None:
            note_wait(self._ti, WatchedRun(pipeline=ended.pipeline, job=ended.result.job), is_over=True)
        return self._finish(ended.result, ended.pipeline, ended.resume_context)

    def _finish(
        self, result: WaitResult, pipeline: PipelineRef, resume_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the task's result, or raise the error of the wait."""
        raise NotImplementedError

    # -- the pipeline when the task ends -----------------------------------------------------------------------

    def on_kill(self) -> None:
        """Apply ``stop_on_kill`` when Airflow kills the task; without it, the pipeline keeps running."""
        if self._has_failed:
            # Also called by Airflow's own timeout alarm, after the error was handled, and by a second signal.
            return
        if (left := self._half_done()) is not None:
            self._has_failed = True
            self.log.warning("%s", left)
            return
        if (watched := self._watched()) is None:
            self.log.info("This task was killed while it was not waiting for a pipeline; nothing was stopped")
            return
        self._waiting, self._has_failed = None, True
        self._stop_on_kill(watched, is_timeout=self._is_timed_out)

    def _half_done(self) -> str | None:
        """Return what the task leaves half done if it is killed now, and what to do about it; None for nothing."""
        return None

    def _watched(self) -> WatchedRun | None:
        """Return the run that the task watches now; None if it waits for none."""
        from airflow_provider_arroyo.on_kill import WatchedRun

        return None if self._waiting is None else WatchedRun.of(self._waiting)

    @entry_point
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; if the deferral itself failed, apply ``stop_on_kill`` and raise an error."""
        from airflow_provider_arroyo.on_kill import noted_wait

        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout) as err:
            watched, what = noted_wait(self._ti), "its pipeline"
            if watched is not None:
                what = watched.pipeline.inline
                if isinstance(err, TaskDeferralTimeout):
                    self._stop_on_kill(watched, is_timeout=True)
                else:
                    # Only the polling failed, and the pipeline may be fine; stop_on_kill is for a task that ends.
                    self.log.info("%s", watched.advice)
            error = ArroyoTaskError(
                f"The wait for {what} was interrupted in the triggerer: {err}. "
                "Check the triggerer's log. A new try continues with the same pipeline."
            )
            raise TaskEnd(error) from err

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

    def _stop_on_kill(self, watched: WatchedRun, *, is_timeout: bool) -> None:
        try:
            client = self._new_client()
        except ValueError as err:
            self.log.error("No stop can be requested: %s. %s", err, watched.advice)
            return
        with client:
            is_requested = self._request_stop(
                client, watched, ti=self._ti, is_timeout=is_timeout, log=self.log
            )
        if is_requested and self.stop_on_kill is not None:
            self._stopped_by = f"this task, which was killed (stop_on_kill={self.stop_on_kill.value!r})"

    def _request_stop(self, client: ArroyoClient, watched: WatchedRun, **more: Any) -> bool:
        """Stop the pipeline if wanted and allowed, see :func:`.stop_on_kill`; return whether a stop was requested."""
        from airflow_provider_arroyo.on_kill import stop_on_kill

        return stop_on_kill(client, watched, self.stop_on_kill, **more)
