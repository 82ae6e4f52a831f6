"""The operator that stops a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.checks import check_bool
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.arguments import check_choice, check_stop_mode, is_final
from airflow_provider_arroyo.operators.existing import NOT_THERE, ArroyoStoppingOperator
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.client.models import Job
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.pipelines.stopping import StopProof

IF_FINISHING = ("fail", "immediate")


class ArroyoStopPipelineOperator(ArroyoStoppingOperator):
    """Stop a pipeline, and wait until it has stopped.

    If the pipeline is already stopped or finished, the task succeeds at once. A failed pipeline is also asked to
    stop, since Arroyo may be about to restart it.

    :param pipeline_id: id of the pipeline. Give either this or ``pipeline_name``. Templated.
    :param pipeline_name: exact name of the pipeline, instead of its id. If several pipelines have this name, it means
        the one that is alive, or the newest if none is alive; if several are alive, the task fails and lists them. A
        retry means the same pipeline as the first try. Airflow before 3.3 cannot remember it, so there a retry fails
        if a pipeline of that name was created since the DAG run began, unless the run itself created it and there is
        no older one. Templated.
    :param mode: ``"checkpoint"`` (default: take a final checkpoint, from which it can be resumed), ``"graceful"``,
        ``"immediate"`` or ``"force"``. Templated.
    :param wait_for_completion: whether to wait until it has stopped, default True.
    :param require_checkpoint: whether the task fails if nothing proves that the final checkpoint was taken, default
        False: then ``checkpoint`` in the result is None, and the task logs a warning. If the pipeline was already
        stopped, this can be proven only for its first run, on Arroyo 0.16. Only with ``mode="checkpoint"`` and
        ``wait_for_completion``.
    :param if_finishing: what to do if the pipeline is ``Finishing``: one of its sources has ended, the others are
        still running, and Arroyo takes no checkpoint and obeys only an immediate stop. ``"fail"`` (default): fail at
        once if ``mode`` is ``"checkpoint"``. ``"immediate"``: stop it immediately instead of with ``"checkpoint"`` or
        ``"graceful"``; it ends ``Finished``, so it can never be resumed. Not with ``require_checkpoint``. With
        ``"force"``, it is always stopped immediately. If it becomes ``Finishing`` while the task waits, the immediate
        stop gets at least 10 seconds, even beyond ``timeout``.
    :param accept_failed: whether the task succeeds, with a warning, if the pipeline ends ``Failed``; default False.
    :param if_missing: what to do if there is no such pipeline: ``"fail"`` (default) or ``"succeed"``.
    :param timeout: how long the wait may take, deferred or not, default 2 minutes; a timedelta or seconds.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds.
    :param defer_after: how long to wait in the worker before deferring, default 15 seconds; a timedelta or seconds.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason``, ``checkpoint``
        (``{"epoch", "finish_time_micros"}`` of the proven final checkpoint, or None) and ``missing`` (whether there
        was no such pipeline).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoTaskError: if the pipeline failed, did not stop in time, was asked to run again meanwhile, took no
        provable checkpoint although one is required, or does not exist.
    """

    template_fields: Sequence[str] = (*ArroyoStoppingOperator.template_fields, "mode")
    ui_color = "#ffe3d8"

    def __init__(
        self,
        *,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        mode: str = StopMode.CHECKPOINT.value,
        wait_for_completion: bool = True,
        require_checkpoint: bool = False,
        if_finishing: str = "fail",
        accept_failed: bool = False,
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
        self.if_finishing = check_choice(if_finishing, "if_finishing", IF_FINISHING)
        if require_checkpoint and if_finishing != "fail":
            raise ValueError(
                "require_checkpoint needs if_finishing='fail': a Finishing pipeline takes no checkpoints"
            )
        if require_checkpoint and is_final(mode) and mode != StopMode.CHECKPOINT:
            raise ValueError(f"require_checkpoint needs mode='checkpoint', got {str(mode)!r}")
        if require_checkpoint and not wait_for_completion:
            raise ValueError(
                "require_checkpoint needs wait_for_completion=True: otherwise nothing can be proven"
            )
        self.wait_for_completion = check_bool(wait_for_completion, "wait_for_completion")
        self.require_checkpoint = check_bool(require_checkpoint, "require_checkpoint")
        self.accept_failed = check_bool(accept_failed, "accept_failed")

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Request the stop, and wait for it; return the task's result."""
        with self._rendered_arguments():
            pipeline, mode = self._wanted(), check_stop_mode(self.mode)
            if self.require_checkpoint and mode is not StopMode.CHECKPOINT:
                raise ValueError(f"require_checkpoint needs mode 'checkpoint', got {mode.value!r}")
        self._step = f"Stopping pipeline {pipeline.short!r}"
        try:
            pipeline = self._ref(self._find(pipeline))
            job = self._client().get_job(pipeline.pipeline_id)
            # A failed one may be about to restart.
            is_down = job is not None and job.state == JobState.STOPPED and job.running_desired is False
            if job is not None and (is_down or job.state == JobState.FINISHED):
                return self._found_down(pipeline, job, mode)
            if job is not None and job.state == JobState.FINISHING:
                mode = self._mode_in_finishing(pipeline, job, mode)
            began = self.clock()
            request = self._proof(pipeline).request_stop(job, mode)
        except NOT_THERE as err:
            return self._missing(err, pipeline)
        self._log_begin(f"Stop requested ({mode.value})", pipeline)
        if not self.wait_for_completion:
            return self._result(pipeline, job, checkpoint=None, missing=False)
        noted = {"request": request.to_dict() if request else None}
        return self._wait_for_stop(pipeline, job, mode, began, noted)

    def _mode_in_finishing(self, pipeline: PipelineRef, job: Job, mode: StopMode) -> StopMode:
        """Return the stop mode for a pipeline that is ``Finishing``, where only an immediate stop works."""
        from airflow_provider_arroyo.monitoring.explain import explain
        from airflow_provider_arroyo.monitoring.result import WaitResult

        if mode is StopMode.IMMEDIATE:
            return mode
        if self._ends_finishing(mode):
            self._log_immediate_stop(pipeline)
            return StopMode.IMMEDIATE
        result = WaitResult(outcome=Outcome.NO_CHECKPOINT, target_states=(JobState.STOPPED.value,), job=job)
        if mode is StopMode.CHECKPOINT:
            self._fail(result, pipeline)
        self.log.warning("%s", explain(result, pipeline))
        return mode

    def _proof(self, pipeline: PipelineRef) -> StopProof:
        from airflow_provider_arroyo.pipelines.stopping import StopProof

        return StopProof(self._client(), pipeline, is_required=self.require_checkpoint)

    def _found_down(self, pipeline: PipelineRef, job: Job, mode: StopMode) -> dict[str, Any]:
        self.log.info("%s already: %s, id %s", job.state, pipeline.short, pipeline.pipeline_id)
        checkpoint = None if job.state == JobState.FINISHED else self._proof(pipeline).of_stopped(job, mode)
        return self._proven(pipeline, job, checkpoint)

    def _stopped(self, result: WaitResult, job: Job, pipeline: PipelineRef, request: Any) -> dict[str, Any]:
        from airflow_provider_arroyo.monitoring.checkpoints import StopRequest

        if job.state == JobState.FAILED:
            return self._ended_failed(result, pipeline)
        if request is None or job.state == JobState.FINISHED:
            return self._proven(pipeline, job, None)
        stop = None
        # One that this version cannot read proves nothing.
        with suppress(ValueError):
            stop = StopRequest.from_dict(request)
        return self._proven(pipeline, job, self._proof(pipeline).of_stop(job, stop))

    def _proven(self, pipeline: PipelineRef, job: Job, checkpoint: dict[str, int] | None) -> dict[str, Any]:
        if job.state == JobState.STOPPED and job.running_desired:
            self.log.warning("Stopped, but since asked to run again: %s", pipeline.short)
        return self._result(pipeline, job, checkpoint=checkpoint, missing=False)

    def _ended_failed(self, result: WaitResult, pipeline: PipelineRef) -> dict[str, Any]:
        from airflow_provider_arroyo.monitoring.explain import explain

        failure = replace(
            result, outcome=Outcome.FAILED, goal=JobState.STOPPED.value, target_states=(), is_unchanged=False
        )
        if not self.accept_failed:
            self._fail(failure, pipeline)
        self.log.warning("%s", explain(failure, pipeline, *self._examined(failure, pipeline)))
        return self._result(pipeline, result.job, checkpoint=None, missing=False)

    def _missing(self, error: ArroyoError, pipeline: PipelineRef) -> dict[str, Any]:
        if self.if_missing == "fail":
            raise error
        self.log.warning("There is nothing to stop: %s", error)
        return self._result(pipeline, None, checkpoint=None, missing=True)
