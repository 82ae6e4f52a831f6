"""The operator that submits a pipeline."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.client.names import check_pipeline_id
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.arguments import (
    as_string,
    check_choice,
    check_early,
    check_stop_mode,
    check_until_checkpoint,
    optional,
)
from airflow_provider_arroyo.operators.spec import ArroyoSpecOperator
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point
from airflow_provider_arroyo.pipelines.choices import Action, OnExisting
from airflow_provider_arroyo.text import shorten

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.models import Job
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.on_kill import WatchedRun
    from airflow_provider_arroyo.pipelines.create import Submitted
    from airflow_provider_arroyo.pipelines.spec import PipelineSpec
    from airflow_provider_arroyo.pipelines.submit import Submission

WAIT_FOR = (JobState.RUNNING, JobState.FINISHED)


class ArroyoSubmitPipelineOperator(ArroyoSpecOperator):
    """Submit a streaming SQL pipeline once, and wait until it runs or has finished.

    One task of one DAG run creates one pipeline, however often it is tried: each try first looks for the pipeline
    that an earlier try created for this task, run and map index, in this Airflow's namespace. If the task is killed,
    cleared or times out, the pipeline keeps running, and the next try adopts it.

    :param pipeline_name: the pipeline's name. Templated.
    :param query: the SQL or, if it is one line that ends in ``.sql``, the path of a file in the DAG's folder or its
        ``template_searchpath``. Templated. Write ``{% raw %}{{ NAME }}{% endraw %}`` for one of Arroyo's own
        variables, or wrap SQL without templates in ``literal(...)`` of ``airflow.sdk``.
    :param parallelism: number of subtasks of each operator, 1 or more, default 1. Templated.
    :param checkpoint_interval: time between checkpoints, 1 second to 24 hours, a timedelta or seconds; default None
        uses the server's default (10 seconds).
    :param udfs: UDFs that the SQL uses, default none: each is its source in Rust, or a mapping with ``definition``
        and ``language``. Not templated, since source code contains braces.
    :param tags: labels of the pipeline, default none; on Arroyo 0.15 they are stored in the first line of the SQL.
        Templated.
    :param env_vars: environment variables of the pipeline's workers (Arroyo 0.16); default None, which leaves
        those of an adopted pipeline, while an empty mapping removes them. Everyone who can read Arroyo's API sees
        them, so put no secrets here. Templated.
    :param scheduler_config: passed to Arroyo's scheduler unchanged (Arroyo 0.16); default None, and empty, as above.
    :param pipeline_id: an id of your own for the pipeline (Arroyo 0.16); default None derives one from the task.
        Templated.
    :param wait_for: ``"Running"`` (default), ``"Finished"`` for a pipeline whose sources are all bounded, or None not
        to wait.
    :param stable_for: how long the pipeline must be ``Running`` in one run, default 2 seconds; a timedelta or
        seconds. ``Finishing``, where some of several sources have ended, counts as ``Running``.
    :param until_checkpoint: whether ``Running`` counts only after a checkpoint that began in its run has finished,
        default False. Without this, a pipeline that cannot reach its Kafka broker counts as running, because Arroyo
        shows it as ``Running`` for 30 seconds at a time. The wait takes up to a checkpoint interval longer. A
        pipeline that is ``Finishing`` before its first checkpoint fails the task, since it will take none;
        ``Finished`` is a success.
    :param max_restarts: how often the pipeline may restart by itself during the wait. After one more, the task fails
        with the job's last errors. 0 or more; default None, any number until ``timeout``.
    :param on_existing: what to do with the pipeline of an earlier try. ``"adopt"`` (default): use it if it runs or
        has finished, resume it if it is stopped, restart it if it failed; a different parallelism, interval or
        environment is applied, with a warning. If this try has a different name, SQL or UDFs, ``"adopt"`` replaces a
        pipeline that is not running, with a warning, and fails without touching one that runs. ``"replace"``: stop,
        delete and create it again; its state is lost. Use this to repeat a backfill by clearing its task. ``"fail"``:
        fail the task.
    :param stop_on_kill: how to stop the pipeline if this task is marked or times out while it waits:
        ``"checkpoint"``, ``"graceful"``, ``"immediate"`` or ``"force"``. Default None: the pipeline keeps running,
        and the log says how to stop it. If the task is only moved or cleared, the pipeline always keeps running, and
        the next try adopts it.
    :param timeout: how long the wait may take, deferred or not, default 10 minutes; a timedelta or seconds.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds.
    :param defer_after: how long to wait in the worker before deferring, default 15 seconds; a timedelta or seconds.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason``, ``action``
        (``created``, ``adopted``, ``resumed``, ``restarted`` or ``replaced``) and ``finished`` (whether the pipeline
        has finished).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if no retry can succeed, for example if Arroyo refuses the SQL or the API key.
    :raises ArroyoTaskError: if the pipeline fails, restarts too often, is stopped or deleted externally, or does not
        reach that state within ``timeout``, or if Arroyo stays unreachable.
    """

    template_fields: Sequence[str] = (*ArroyoSpecOperator.template_fields, "pipeline_id", "arroyo_conn_id")
    ui_color = "#d8e9ff"
    _submission: Submission | None = None
    """The submit in progress, until a wait has seen the pipeline."""

    def __init__(
        self,
        *,
        pipeline_name: str,
        query: str,
        parallelism: int | str = 1,
        checkpoint_interval: timedelta | float | None = None,
        udfs: Sequence[Any] = (),
        tags: Mapping[str, str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        pipeline_id: str | None = None,
        wait_for: str | None = JobState.RUNNING.value,
        stable_for: timedelta | float = timedelta(seconds=2),
        until_checkpoint: bool = False,
        max_restarts: int | None = None,
        on_existing: str = "adopt",
        stop_on_kill: str | StopMode | None = None,
        timeout: timedelta | float = timedelta(minutes=10),
        poll_interval: timedelta | float = 0.1,
        defer_after: timedelta | float = 15.0,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pipeline_name=pipeline_name,
            query=query,
            parallelism=parallelism,
            checkpoint_interval=checkpoint_interval,
            udfs=udfs,
            tags=tags,
            env_vars=env_vars,
            scheduler_config=scheduler_config,
            stable_for=stable_for,
            max_restarts=max_restarts,
            arroyo_conn_id=arroyo_conn_id,
            timeout=timeout,
            poll_interval=poll_interval,
            defer_after=defer_after,
            api_outage_tolerance=api_outage_tolerance,
            deferrable=deferrable,
            **kwargs,
        )
        self.pipeline_id = check_early(optional(check_pipeline_id), pipeline_id, "pipeline_id")
        # A template may render None; that is different from giving no argument.
        self._has_users_id = pipeline_id is not None
        self.wait_for = None if wait_for is None else check_choice(wait_for, "wait_for", WAIT_FOR)
        self.on_existing = check_choice(on_existing, "on_existing", tuple(OnExisting))
        self.until_checkpoint = check_until_checkpoint(until_checkpoint, [self.wait_for])
        if max_restarts is not None and wait_for is None:
            raise ValueError(
                "max_restarts counts the restarts during the wait, and wait_for=None waits for nothing"
            )
        self.stop_on_kill = None if stop_on_kill is None else check_stop_mode(stop_on_kill, "stop_on_kill")

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Submit, then wait for ``wait_for``; return the task's result."""
        from airflow_provider_arroyo.monitoring.plan import Baseline, WaitPlan

        with self._rendered_arguments():
            spec, users_id = self._spec(), self._users_id()
        self._step = f"Submitting pipeline {shorten(spec.name, 80)!r}"
        began = self.clock()
        submitted = self._submit(spec, users_id)
        pipeline, before = self._ref(submitted.pipeline), submitted.before
        late = None
        if submitted.late_seconds is not None:
            late = {
                "namespace": self.hook.namespace.name,
                "created_at_micros": submitted.pipeline.created_at_micros,
                "until": self.clock() + submitted.late_seconds,
            }
        self._show_link(pipeline)
        action = submitted.action.value
        self._log_begin(f"Pipeline {action}", pipeline)
        if self.wait_for is None:
            self._remove_late(pipeline, late)
            return self._submitted(pipeline, self._client().get_job(pipeline.pipeline_id), action)
        plan = WaitPlan(
            pipeline=pipeline,
            target_states=frozenset({self.wait_for}),
            **self._limits(self.timeout),
            stable_for=self.stable_for,
            until_checkpoint=self.until_checkpoint,
            max_restarts=self.max_restarts,
            finished_is_success=True,
            stopped_is_final=True,
            baseline=Baseline.of(before, requested_at=began) if before else None,
            created_at=self.clock() if submitted.action in (Action.CREATED, Action.REPLACED) else None,
        )
        return self._wait(plan, {"action": action, "late": late})

    def _users_id(self) -> str | None:
        if self.pipeline_id is None and not self._has_users_id:
            return None
        return check_pipeline_id(as_string(self.pipeline_id, "pipeline_id"))

    def _submit(self, spec: PipelineSpec, users_id: str | None) -> Submitted:
        from airflow_provider_arroyo.on_kill import note_wait
        from airflow_provider_arroyo.pipelines.submit import Submission

        namespace = self._namespace()
        self._submission = submission = Submission(
            self._client(),
            spec,
            self._label(namespace),
            users_id=users_id,
            namespace=namespace,
            on_existing=OnExisting(self.on_existing),
        )
        if self.stop_on_kill is not None and (watched := self._watched()) is not None:
            note_wait(self._ti, watched)
        try:
            return submission.run()
        except (Exception, AirflowTaskTimeout) as err:
            self._show_failed(submission)
            if isinstance(err, Exception):
                self._submission = None  # after a timeout, Airflow calls on_kill
            raise

    def _show_failed(self, submission: Submission) -> None:
        """Show the pipeline that exists although its submit failed, if one is known."""
        if submission.pipeline is not None:
            pipeline = self._ref(submission.pipeline)
            with suppress(Exception):  # the error of the submit matters more
                self._show_link(pipeline)
            self._log_begin("The submit failed, but its pipeline exists", pipeline, level=logging.WARNING)

    def _remove_late(self, pipeline: PipelineRef, late: Any) -> None:
        """Remove a duplicate that was created meanwhile, on a server that does not refuse it."""
        if not isinstance(late, Mapping):
            return
        from airflow_provider_arroyo.pipelines.owned import OwnedPipelines
        from airflow_provider_arroyo.pipelines.ownership import Namespace

        owned = OwnedPipelines(self._client(), self._label(Namespace(name=late["namespace"])))
        left = max(0.0, late["until"] - self.clock())
        owned.remove_late(pipeline.pipeline_id, late["created_at_micros"], left)

    def _finish(
        self, result: WaitResult, pipeline: PipelineRef, resume_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        ignores = result.outcome is Outcome.NO_CHECKPOINT and result.awaits_run
        if ignores and not self.until_checkpoint:
            # Without the change, this would have been a success.
            self.log.warning("Finishing, ignores other settings and is used as it is: %s", pipeline.short)
        elif result.outcome is not Outcome.REACHED:
            self._fail(result, pipeline)
        self._remove_late(pipeline, resume_context.get("late"))
        return self._submitted(pipeline, result.job, resume_context.get("action"))

    def _submitted(self, pipeline: PipelineRef, job: Job | None, action: Any) -> dict[str, Any]:
        self._submission = None
        is_finished = job is not None and job.state == JobState.FINISHED
        return self._result(pipeline, job, action=action, finished=is_finished)

    # -- if the task ends while it creates or adopts the pipeline -------------------------------------------------

    def _watched(self) -> WatchedRun | None:
        """Return the run that the task watches, even if its pipeline does not exist yet."""
        from airflow_provider_arroyo.monitoring.plan import PipelineRef
        from airflow_provider_arroyo.on_kill import WatchedRun

        if self._submission is None or self._waiting is not None:
            return super()._watched()
        known, name = self._submission.pipeline, str(self.pipeline_name)
        unborn = PipelineRef(pipeline_id=str(self.pipeline_id or ""), name=name)
        return WatchedRun(pipeline=unborn if known is None else self._ref(known))

    def _request_stop(self, client: ArroyoClient, watched: WatchedRun, **more: Any) -> bool:
        submission, self._submission = self._submission, None
        if (
            watched.job is None
            and submission is not None
            and (submission.is_pending or submission.has_created)
        ):
            # Killed before its first poll: the label tells which pipeline it created.
            more["submission"] = submission
        return super()._request_stop(client, watched, **more)
