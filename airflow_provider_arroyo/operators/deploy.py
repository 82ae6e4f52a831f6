"""The operator that deploys a pipeline: it makes the server match the arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.checks import (
    check_bool,
    check_duration,
    check_text,
    check_within,
)
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.names import check_pipeline_name
from airflow_provider_arroyo.operators.arguments import as_string, check_choice, check_early, optional
from airflow_provider_arroyo.operators.spec import ArroyoSpecOperator
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point
from airflow_provider_arroyo.pipelines.choices import OnFailure, Strategy
from airflow_provider_arroyo.text import duration, shorten

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.monitoring.event import WaitEvent
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.on_kill import WatchedRun
    from airflow_provider_arroyo.pipelines.deploy import Deploy
    from airflow_provider_arroyo.pipelines.deploy_progress import Done, Waiting
    from airflow_provider_arroyo.pipelines.ownership import Deployment, Namespace

DEFAULT_GROUP = "default"


class ArroyoDeployPipelineOperator(ArroyoSpecOperator):
    """Make a pipeline on the server match the arguments, whatever runs there now.

    You can run it as often as you like, on each merge or on a schedule. It compares the arguments with what the
    server has, logs a plan, and does only what is needed. A pipeline belongs to its ``group`` and name, not to a task
    or DAG run; all tries, clears and runs work with the same one.

    - No such pipeline: ``created``. A match that runs or has finished: ``unchanged``.
    - A different ``parallelism``, ``checkpoint_interval``, ``env_vars`` or ``scheduler_config``: ``updated``, in one
      request that keeps the state.
    - A stopped match: ``resumed``. A failed match: ``restarted``.
    - Different SQL or UDFs: ``replaced``. Arroyo cannot carry state over to changed SQL, so the new pipeline starts
      without state. The log says which state is dropped, and where each source will start to read.

    Arroyo cannot change the ``tags`` and ``state_url`` of an existing pipeline; such differences are reported, and
    take effect at the next replace. Spacing and line breaks in the SQL, and the order of UDFs, do not count as
    differences; a changed comment does.

    If a try is interrupted, the next one continues from what it finds. With ``deferrable``, the task stays in its
    worker while the old pipeline of a replace is stopped and the new one does not exist. If two deploys of one
    pipeline run at once, one wins; the other fails, and changes nothing more.

    :param pipeline_name: the pipeline's name, one line of at most 200 characters. Templated.
    :param query: the SQL or, if it is one line that ends in ``.sql``, the path of a file in the DAG's folder or its
        ``template_searchpath``. Templated.
    :param udfs: UDFs that the SQL uses, default none: each is its source in Rust, or a mapping with ``definition``
        and ``language``. Not templated, since source code contains braces.
    :param parallelism: number of subtasks of each operator, 1 or more, default 1. Templated.
    :param checkpoint_interval: time between checkpoints, 1 second to 24 hours, a timedelta or seconds. Default None
        keeps the server's value; for a new pipeline, also that of a replace, that is its default, 10 seconds.
    :param tags: labels of the pipeline, default none; Arroyo 0.15 stores them in the SQL's first line. Templated.
    :param env_vars: environment variables of the pipeline's workers (Arroyo 0.16); default None keeps the server's,
        also in a replace, and an empty mapping removes them. Everyone who can read Arroyo's API sees them, so put no
        secrets here. Templated.
    :param state_url: where checkpoints are stored (Arroyo 0.16); default None leaves that to the server. Templated.
    :param scheduler_config: passed to Arroyo's scheduler unchanged (Arroyo 0.16); default None keeps the server's,
        also in a replace, and an empty mapping removes it.
    :param group: which pipelines are deployed and pruned together, default ``"default"``. The same name in two groups
        means two pipelines. Templated.
    :param strategy: how to replace. ``"stop_first"`` (default): stop the old pipeline with a final checkpoint, start
        the new one, and delete the old one once the new one has proven itself. ``"start_first"``: start the new one,
        and stop the old one once the new one has proven itself. Both write in the meantime, so the output is
        duplicated for that time. If a source or sink is stuck, so that the final checkpoint has not finished after
        half of the time that is left, the old pipeline is stopped without it.
    :param on_failure: what to do if the new pipeline of a replace does not come up. ``"rollback"`` (default): delete
        it, resume the old one where it stopped, wait until that has proven itself, and fail without a retry.
        ``"leave"``: undo nothing, and fail.
    :param rollback_timeout: how long a rollback may take, default 5 minutes; a timedelta or seconds. It counts from
        the start of the rollback.
    :param keep_old: whether a replace keeps the old pipeline, stopped, for you to inspect; default False deletes it.
        It is only started again by a rollback, and is deleted by the next replace.
    :param until_checkpoint: whether a pipeline has proven itself only after it has finished a checkpoint, default
        True.
    :param stable_for: how long the pipeline must be ``Running`` in one run, default 2 seconds; a timedelta or
        seconds.
    :param max_restarts: how often the pipeline may restart before the deploy fails; default None, any number until
        ``timeout``.
    :param allow_state_loss: whether a replace may drop the state of a pipeline that has finished a checkpoint, or
        may have: with ``job-controller = "worker"``, Arroyo lists those of a run only while it lasts. Default False:
        the task then fails before it changes anything. Not needed for a ``Finished`` pipeline, which can never run
        again.
    :param adopt_unowned: whether to take over a pipeline of that name that carries no ownership label and has the
        same SQL and UDFs, default False: a running one then fails the task. Keep this argument as long as that
        pipeline runs, since it cannot get a label.
    :param dry_run: whether only to validate, plan and log the plan, default False.
    :param timeout: how long the deploy may take, deferred or not, without a rollback, default 10 minutes; a timedelta
        or seconds. An ``execution_timeout`` must not be shorter than ``timeout`` plus ``rollback_timeout``.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds.
    :param defer_after: with ``deferrable``, how long each wait stays in the worker before it moves to the triggerer,
        default 15 seconds; a timedelta or seconds.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason``, ``action``
        (``created``, ``unchanged``, ``updated``, ``resumed``, ``restarted`` or ``replaced``), ``generation`` (1 for
        the first pipeline), ``changes`` and ``not_applied`` (lists of ``{"argument", "difference"}``, without
        secrets), ``checkpoint`` (``{"epoch", "finish_time_micros"}`` of the old pipeline's proven final checkpoint,
        or None), ``finished`` (whether the pipeline has finished) and ``dry_run``.
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if no retry can succeed: Arroyo refuses the SQL, the pipeline belongs to another
        owner, or state would be dropped; also after a rollback, because each retry would interrupt the old pipeline
        again.
    :raises ArroyoTaskError: if the pipeline does not come up, another deploy came first, or Arroyo stays unreachable.
    """

    template_fields: Sequence[str] = (
        *ArroyoSpecOperator.template_fields,
        "state_url",
        "group",
        "arroyo_conn_id",
    )
    ui_color = "#d8f4e2"
    _check_name = staticmethod(check_pipeline_name)
    _deploying: Deploy | None = None

    def __init__(
        self,
        *,
        pipeline_name: str,
        query: str,
        udfs: Sequence[Any] = (),
        parallelism: int | str = 1,
        checkpoint_interval: timedelta | float | None = None,
        tags: Mapping[str, str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        state_url: str | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        group: str = DEFAULT_GROUP,
        strategy: str = "stop_first",
        on_failure: str = "rollback",
        rollback_timeout: timedelta | float = timedelta(minutes=5),
        keep_old: bool = False,
        until_checkpoint: bool = True,
        stable_for: timedelta | float = timedelta(seconds=2),
        max_restarts: int | None = None,
        allow_state_loss: bool = False,
        adopt_unowned: bool = False,
        dry_run: bool = False,
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
        self.state_url = check_early(optional(check_text), state_url, "state_url")
        self.group = check_early(check_pipeline_name, group, "group")
        self.strategy = check_choice(strategy, "strategy", tuple(Strategy))
        self.on_failure = check_choice(on_failure, "on_failure", tuple(OnFailure))
        self.rollback_timeout = check_duration(rollback_timeout, "rollback_timeout", positive=True)
        self.keep_old = check_bool(keep_old, "keep_old")
        self.until_checkpoint = check_bool(until_checkpoint, "until_checkpoint")
        self.allow_state_loss = check_bool(allow_state_loss, "allow_state_loss")
        self.adopt_unowned = check_bool(adopt_unowned, "adopt_unowned")
        # ``BaseOperator`` has a method of that name.
        self.is_dry_run = check_bool(dry_run, "dry_run")
        self._check_times()

    def _check_times(self) -> None:
        """Check that ``timeout`` leaves time for the proof, and ``execution_timeout`` for a rollback."""
        timeout, interval = self.timeout, self.checkpoint_interval
        check_within(self.stable_for, "stable_for", timeout, "timeout", "the task could not succeed")
        if self.until_checkpoint and interval is not None and interval >= timeout:
            raise ValueError(
                f"timeout must be longer than checkpoint_interval ({duration(interval.total_seconds())}), because "
                f"until_checkpoint=True waits for a checkpoint, got {duration(timeout.total_seconds())}. "
                "Set until_checkpoint=False to wait for none"
            )
        needed, what = timeout, "timeout"
        if self.on_failure == "rollback":
            needed, what = timeout + self.rollback_timeout, "timeout + rollback_timeout"
        if self.execution_timeout is not None and self.execution_timeout < needed:
            raise ValueError(
                f"execution_timeout must be {what} or more ({duration(needed.total_seconds())}), got "
                f"{duration(self.execution_timeout.total_seconds())}: it would cut off a rollback"
            )

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Plan, then deploy; return the task's result."""
        from airflow_provider_arroyo.pipelines.ownership import Deployment

        self._show_name()
        with self._rendered_arguments():
            spec = self._spec()
            group = check_pipeline_name(as_string(self.group, "group"), "group")
        namespace = self._namespace()
        deployment = Deployment(group=group, name=spec.name, namespace=namespace.name)
        self._deploying = self._deploy(deployment, namespace)
        return self._go_on(self._deploying.start(spec))

    def _resume(self, event: Any) -> WaitEvent:
        self._show_name()
        return super()._resume(event)

    def _show_name(self) -> None:
        """Let Airflow show the pipeline's name for a mapped task, instead of its index."""
        from airflow_provider_arroyo.on_kill import map_index_of

        context = self._context
        if map_index_of(self._ti) >= 0:
            context["map_index_template"] = context.get("map_index_template") or "{{ task.pipeline_name }}"

    def _deploy(self, deployment: Deployment, namespace: Namespace) -> Deploy:
        from airflow_provider_arroyo.pipelines.change_notes import ChangeNotes
        from airflow_provider_arroyo.pipelines.deploy import Deploy
        from airflow_provider_arroyo.pipelines.deploy_progress import DeployOptions

        self._step = f"Deploying pipeline {shorten(deployment.name, 80)!r}"
        return Deploy(
            lambda deadline: self._client(deadline=deadline),
            self._label(namespace, deployment=deployment, generation=1),
            namespace,
            DeployOptions(
                timeout=self.timeout,
                rollback_timeout=self.rollback_timeout,
                strategy=Strategy(self.strategy),
                on_failure=OnFailure(self.on_failure),
                keep_old=self.keep_old,
                adopt_unowned=self.adopt_unowned,
                until_checkpoint=self.until_checkpoint,
                stable_for=self.stable_for,
                max_restarts=self.max_restarts,
                allow_state_loss=self.allow_state_loss,
                dry_run=self.is_dry_run,
                is_retry=self._ti.try_number > 1,
                outage_tolerance=self.api_outage_tolerance,
            ),
            known=self._show_link,
            examine=self._examined,
            notes=ChangeNotes(self._state_store),
            clock=self.clock,
            log=self.log,
        )

    def _go_on(self, step: Waiting | Done) -> dict[str, Any]:
        """Wait if the deploy must, and return the task's result."""
        from airflow_provider_arroyo.monitoring.plan import PipelineRef
        from airflow_provider_arroyo.pipelines.deploy_progress import Waiting

        if isinstance(step, Waiting):
            resume_context = {"progress": step.progress.to_dict(), "seen": list(self._seen_earlier)}
            return self._wait(step.wait, resume_context, may_defer=step.may_defer)
        progress, job = step.progress, step.job
        pipeline = step.pipeline or PipelineRef(pipeline_id="", name=str(self.pipeline_name))
        self._replaced = progress.old
        result = self._result(pipeline, job, action=progress.action, generation=progress.generation)
        return {
            **result,
            "pipeline_id": pipeline.pipeline_id or None,
            "changes": [dict(one) for one in progress.changes],
            "not_applied": [dict(one) for one in progress.not_applied],
            "checkpoint": dict(progress.checkpoint) if progress.checkpoint else None,
            "finished": job is not None and job.state == JobState.FINISHED,
            "dry_run": self.is_dry_run,
        }

    def _finish(
        self, result: WaitResult, pipeline: PipelineRef, resume_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        from airflow_provider_arroyo.pipelines.deploy_progress import DeployProgress
        from airflow_provider_arroyo.pipelines.ownership import Namespace

        progress = DeployProgress.read(resume_context.get("progress"))
        self._seen_earlier = self._seen
        if self._deploying is None:
            self._deploying = self._deploy(progress.deployment, Namespace(name=progress.deployment.namespace))
        return self._go_on(self._deploying.resume(progress, result))

    def _half_done(self) -> str | None:
        if self._deploying is None or (stopped := self._deploying.stopped) is None:
            return None
        return (
            f"The deploy was interrupted when it had stopped {stopped.inline} and not yet created the new pipeline. "
            "The next try creates it; without one, resume the old one with "
            f"ArroyoRestartPipelineOperator(pipeline_id={stopped.pipeline_id!r})"
        )

    def _stop_on_kill(self, watched: WatchedRun, *, is_timeout: bool) -> None:
        self.log.warning(
            "The deploy was interrupted, and nothing is undone; the next try continues from what it finds: %s",
            watched.pipeline.label,
        )
