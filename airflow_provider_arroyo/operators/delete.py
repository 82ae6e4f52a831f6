"""The operator that deletes a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.checks import check_bool
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.operators.arguments import check_stop_mode
from airflow_provider_arroyo.operators.existing import NOT_THERE, ArroyoStoppingOperator
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.client.models import Job
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.monitoring.result import WaitResult


class ArroyoDeletePipelineOperator(ArroyoStoppingOperator):
    """Delete a pipeline and its state, after stopping it if it runs.

    :param pipeline_id: id of the pipeline. Give either this or ``pipeline_name``. Templated.
    :param pipeline_name: exact name of the pipeline, instead of its id: the one that is alive, or else the newest. If
        several are alive, the task fails and lists them. A retry means the same pipeline as the first try. Airflow
        before 3.3 cannot remember it, so there a retry fails if none is alive, or if the one that is alive was
        created since the DAG run began, unless the run itself created it and there is no older one. Templated.
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
    :param defer_after: how long to wait in the worker before deferring, default 15 seconds; a timedelta or seconds.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason`` as last seen, and
        ``missing`` (whether there was nothing to delete).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if the first try finds no pipeline with this ``pipeline_id``, and ``if_missing`` is
        ``"fail"``.
    :raises ArroyoTaskError: if the pipeline runs and ``stop_first`` is False, does not stop in time, is asked to run
        again meanwhile, or does not exist.
    """

    template_fields: Sequence[str] = (*ArroyoStoppingOperator.template_fields, "mode")
    ui_color = "#f6d0d0"
    _deletes = True

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
            pipeline_id=pipeline_id,
            pipeline_name=pipeline_name,
            mode=mode,
            if_missing=if_missing,
            timeout=timeout,
            poll_interval=poll_interval,
            defer_after=defer_after,
            api_outage_tolerance=api_outage_tolerance,
            arroyo_conn_id=arroyo_conn_id,
            deferrable=deferrable,
            **kwargs,
        )
        self.stop_first = check_bool(stop_first, "stop_first")

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Stop the pipeline if it runs, then delete it; return the task's result."""
        from airflow_provider_arroyo.pipelines.existing import is_down
        from airflow_provider_arroyo.pipelines.stopping import effective_stop_mode

        with self._rendered_arguments():
            pipeline, mode = self._wanted(), check_stop_mode(self.mode)
        self._step = f"Deleting pipeline {pipeline.short!r}"
        try:
            pipeline = self._ref(self._find(pipeline))
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
        except NOT_THERE as err:
            return self._missing(err, pipeline)
        self._log_begin(f"Stop requested ({mode.value})", pipeline)
        return self._wait_for_stop(pipeline, job, mode, began, {})

    def _name_rule(self, name: str, *, is_changed: bool = False) -> dict[str, Any]:
        rule = super()._name_rule(name, is_changed=is_changed)
        # An earlier try may have deleted the one that was meant, and what is left may be older than the DAG run.
        return {**rule, "must_be_alive": rule["own_run"] is not None}

    def _stopped(self, result: WaitResult, job: Job, pipeline: PipelineRef, request: Any) -> dict[str, Any]:
        return self._delete(pipeline, job)

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
            if self.pipeline_id is not None and isinstance(error, ArroyoNotFoundError):
                # A retry would take it for deleted by this try.
                error.is_fatal = True
            raise error
        why = "An earlier try deleted it" if was_deleted else "There is nothing to delete"
        self.log.warning("%s: %s", why, error)
        return self._result(pipeline, None, missing=True)
