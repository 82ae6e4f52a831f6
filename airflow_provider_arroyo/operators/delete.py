"""The operator that deletes a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.checks import check_bool
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
)
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.arguments import (
    IF_MISSING,
    check_choice,
    check_early,
    check_one_of_id_and_name,
    check_stop_mode,
    rendered_id_and_name,
)
from airflow_provider_arroyo.operators.base import ArroyoOperator
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.client.models import Job
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.on_kill import WatchedRun


class ArroyoDeletePipelineOperator(ArroyoOperator):
    """Delete a pipeline and its state, after stopping it if it runs.

    :param pipeline_id: id of the pipeline. Give either this or ``pipeline_name``. Templated.
    :param pipeline_name: exact name of the pipeline, instead of its id. If several pipelines have this name, it means
        the one that is alive, or the newest if none is alive; if several are alive, the task fails and lists them.
        Templated.
    :param stop_first: whether to stop a running pipeline first, default True; with False, a running pipeline fails
        the task, and nothing is changed.
    :param mode: how to stop it: ``"checkpoint"`` (default: its sinks commit their open transactions), ``"graceful"``,
        ``"immediate"`` or ``"force"``. A ``Finishing`` pipeline, which takes no checkpoint, is stopped immediately.
        Templated.
    :param if_missing: what to do if there is no such pipeline: ``"fail"`` (default) or ``"succeed"``. In a retry, a
        missing ``pipeline_id`` is always a success, since an earlier try deleted it.
    :param timeout: how long the stop may take, deferred or not, default 2 minutes; a timedelta or seconds. If the
        pipeline becomes ``Finishing`` meanwhile, the immediate stop gets at least 10 seconds, even beyond that.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds.
    :param defer_after: with ``deferrable``, how long to wait in the worker before the wait moves to the triggerer,
        default 15 seconds; a timedelta or seconds.
    :param api_outage_tolerance: how long Arroyo may be unreachable before the task fails, default 10 minutes; a
        timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason`` as last seen, and
        ``missing`` (whether there was nothing to delete).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoTaskError: if the pipeline runs and ``stop_first`` is False, does not stop in time, is asked to run
        again meanwhile, or does not exist.
    """

    template_fields: Sequence[str] = ("pipeline_id", "pipeline_name", "mode", "arroyo_conn_id")
    ui_color = "#f6d0d0"

    def __init__(
        self,
        *,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        stop_first: bool = True,
        mode: str = StopMode.CHECKPOINT.value,
        if_missing: str = "fail",
        timeout: timedelta | float = timedelta(minutes=2),
        poll_interval: timedelta | float = 0.1,
        defer_after: timedelta | float = 15.0,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            arroyo_conn_id=arroyo_conn_id,
            timeout=timeout,
            poll_interval=poll_interval,
            defer_after=defer_after,
            api_outage_tolerance=api_outage_tolerance,
            deferrable=deferrable,
            **kwargs,
        )
        check_one_of_id_and_name(pipeline_id, pipeline_name)
        check_early(check_stop_mode, mode, "mode")
        self.pipeline_id = pipeline_id
        self.pipeline_name = pipeline_name
        self.stop_first = check_bool(stop_first, "stop_first")
        self.mode = mode
        self.if_missing = check_choice(if_missing, "if_missing", IF_MISSING)

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Stop the pipeline if it runs, then delete it.

        :returns: the task's result.
        """
        from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
        from airflow_provider_arroyo.pipelines.existing import effective_stop_mode, is_down

        self._ti = context["ti"]
        with self._rendered_arguments():
            pipeline_id, name = rendered_id_and_name(self.pipeline_id, self.pipeline_name)
            mode = check_stop_mode(self.mode)
        pipeline = PipelineRef(pipeline_id=pipeline_id or "", name=name)
        self._step = f"Deleting pipeline {pipeline.short!r}"
        try:
            pipeline = self._ref(self._find(context, pipeline_id, name))
            self._show_link(context, pipeline)
            job = self._client().get_job(pipeline.pipeline_id)
            if job is None or is_down(job):
                return self._delete(pipeline, job)
            if not self.stop_first:
                raise ArroyoError(
                    f"{pipeline.label} is {job.state}, and Arroyo deletes only stopped pipelines. Nothing was "
                    "changed. Stop it first, or set stop_first=True."
                )
            mode = effective_stop_mode(job, mode)
            began = self.clock()
            self._client().patch_pipeline(pipeline.pipeline_id, stop=mode)
        except (ArroyoNotFoundError, ArroyoNoSuchNameError) as err:
            return self._missing(err, pipeline)
        self._log_begin(f"Stop requested ({mode.value})", pipeline)
        deadline, argument = self._deadline(self.timeout)
        plan = WaitPlan.of_stop(
            pipeline,
            job,
            requested_at=began,
            deadline=deadline,
            deadline_argument=argument,
            finishing_is_final=mode in (StopMode.CHECKPOINT, StopMode.GRACEFUL),
            outage_tolerance=self.api_outage_tolerance,
        )
        return self._wait(context, plan, {"mode": mode.value})

    def _finish(
        self, result: WaitResult, pipeline: PipelineRef, resume_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        from airflow_provider_arroyo.monitoring.explain import explain

        if result.outcome in (Outcome.DELETED, Outcome.MISSING):
            return self._missing(explain(result, pipeline), pipeline)
        if result.outcome is Outcome.NO_CHECKPOINT and result.job is not None:
            return self._stop_immediately(pipeline, result.job, result.waited_seconds)
        if result.outcome is not Outcome.REACHED:
            self._fail_to_stop(result, pipeline, resume_context)
        return self._delete(pipeline, result.job)

    def _delete(self, pipeline: PipelineRef, job: Job | None) -> dict[str, Any]:
        try:
            self._client().delete_pipeline(pipeline.pipeline_id)
        except ArroyoNotFoundError:
            self.log.warning("Deleted externally meanwhile: %s", pipeline.short)
        except ArroyoApiError as err:
            if err.status != 400:
                raise
            raise ArroyoError(
                f"{pipeline.label} was not deleted; Arroyo says: {err.server_message}. It was restarted after it had "
                "stopped; check who restarted it."
            ) from err
        self.log.info("Deleted: %s, id %s", pipeline.short, pipeline.pipeline_id)
        return self._result(pipeline, job, missing=False)

    def _missing(self, error: ArroyoError, pipeline: PipelineRef) -> dict[str, Any]:
        was_deleted = self._ti.try_number > 1 and isinstance(error, ArroyoNotFoundError)
        if self.if_missing == "fail" and not was_deleted:
            raise error
        why = "An earlier try deleted it" if was_deleted else "There is nothing to delete"
        self.log.warning("%s: %s", why, error)
        return self._result(pipeline, None, missing=True)

    def _stop_on_kill(self, watched: WatchedRun, *, is_timeout: bool) -> None:
        self.log.info("The requested stop continues without this task: %s", watched.pipeline.label)
