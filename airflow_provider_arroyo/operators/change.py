"""The operators that change a pipeline and wait until it runs again: restart and update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_arroyo.client.checks import (
    check_bool,
    check_checkpoint_interval,
    check_duration,
    check_json_object,
    check_max_restarts,
    check_parallelism,
    check_string_map,
    check_within,
)
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.arguments import as_string_map, check_early, optional
from airflow_provider_arroyo.operators.existing import ArroyoExistingOperator
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point
from airflow_provider_arroyo.pipelines.choices import Action

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.client.models import Job
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.pipelines.change import Change, Changed

_KEPT = "It keeps the new settings for its next start; ArroyoRestartPipelineOperator starts it."


class ArroyoChangeOperator(ArroyoExistingOperator):
    """The base class of the operators that change a pipeline and wait until it runs again."""

    _changing: Change | None = None

    def __init__(
        self,
        *,
        stable_for: timedelta | float,
        until_checkpoint: bool,
        max_restarts: int | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stable_for = check_duration(stable_for, "stable_for")
        check_within(self.stable_for, "stable_for", self.timeout, "timeout", "the task could not succeed")
        self.until_checkpoint = check_bool(until_checkpoint, "until_checkpoint")
        self.max_restarts = check_max_restarts(max_restarts)

    def _request(self, change: Change) -> Changed:
        """Request the change."""
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        """Return the wanted settings, from the rendered arguments; a restart has none."""
        return {}

    def _requested(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that were requested, as far as they are known when the task resumes."""
        return {}

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Request the change, and wait for the new run if one begins; return the task's result."""
        from airflow_provider_arroyo.monitoring.plan import WaitPlan
        from airflow_provider_arroyo.pipelines.change import Change, ChangeNotes, settings_hash

        with self._rendered_arguments():
            wanted, settings = self._wanted(), self._settings()
        limits = self._limits(self.timeout)
        found = self._find(wanted)
        pipeline = self._ref(found)
        client = self._client(deadline=limits["deadline"])
        notes = ChangeNotes(self._state_store)
        self._changing = Change(client, found, notes=notes, clock=self.clock)
        changed = self._request(self._changing)
        action, before = changed.action, changed.before
        self._log_begin(f"Pipeline {action.value}", pipeline)
        for one in changed.changes:
            self.log.info("Changed %s", one["difference"])
        interval = settings.get("checkpoint_interval")
        known = {
            "action": action.value,
            "changes": [dict(one) for one in changed.changes],
            "wanted": settings_hash(settings),
            "parallelism": settings.get("parallelism"),
            "checkpoint_seconds": interval.total_seconds() if interval is not None else None,
        }
        if not changed.must_run:
            job = self._client().get_job(pipeline.pipeline_id)
            if job is not None and job.state == JobState.FINISHED:
                raise _finished(pipeline)
            return self._changed(pipeline, job, known)
        ran_before = before is not None and before.state == JobState.RUNNING
        plan = WaitPlan(
            pipeline=pipeline,
            target_states=frozenset({JobState.RUNNING.value}),
            **limits,
            stable_for=self.stable_for,
            until_checkpoint=self.until_checkpoint,
            max_restarts=self.max_restarts,
            finished_is_success=True,
            stopped_is_final=True,
            restart_requested=action is Action.RESTARTED and ran_before,
            baseline=before,
        )
        return self._wait(plan, {**known, "baseline": before.to_dict() if before else None})

    def on_kill(self) -> None:
        """Undo nothing when Airflow kills the task, and say how to start a pipeline that it has stopped."""
        left_stopped = self._changing.left_stopped if self._changing else None
        if left_stopped is None or self._has_failed:
            super().on_kill()
            return
        self._has_failed = True
        self.log.warning("%s", left_stopped)

    def _finish(
        self, result: WaitResult, pipeline: PipelineRef, resume_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        from airflow_provider_arroyo.monitoring.plan import Baseline
        from airflow_provider_arroyo.pipelines.change import still_different

        job, action = result.job, resume_context.get("action")
        if result.outcome is Outcome.STOPPED and result.is_unchanged and action == Action.RESTARTED:
            raise ArroyoError(
                f"Arroyo accepted the request but did nothing: {pipeline.inline} is still Stopped. This server can "
                "restart only a running pipeline without state: resume it first, or delete it and submit it again."
            )
        if result.outcome is not Outcome.REACHED or job is None:
            advice = None
            # A new try of an update finds it as wanted, and starts nothing.
            if action == Action.UPDATED and result.outcome is Outcome.STOPPED:
                advice = _KEPT
            elif action == Action.UPDATED and result.outcome is Outcome.FAILED and result.awaits_run:
                advice = f"Fix the cause. {_KEPT}"
            self._fail(result, pipeline, advice=advice)
        before = resume_context.get("baseline")
        has_new_run = Baseline.from_dict(before).is_before(job) if before else action != Action.UPDATED
        if job.state == JobState.FINISHED and not has_new_run:
            raise _finished(pipeline)
        requested = self._requested(resume_context)
        if requested and (names := still_different(self._client(), pipeline.pipeline_id, requested)):
            raise ArroyoError(
                f"Arroyo accepted the change of {pipeline.inline} but did not apply it: {', '.join(names)}. "
                "Another task may have changed it meanwhile, or it restarted by itself at that moment: try again."
            )
        return self._changed(pipeline, job, resume_context)

    def _changed(self, pipeline: PipelineRef, job: Job | None, known: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_arroyo.pipelines.change import ChangeNotes

        ChangeNotes(self._state_store).forget()
        result = self._result(pipeline, job, action=known.get("action"))
        return {**result, "changes": list(known.get("changes") or [])}


class ArroyoRestartPipelineOperator(ArroyoChangeOperator):
    """Begin a new run of a pipeline, by a restart or a resume, and wait until it runs.

    A running or failed pipeline is restarted, a stopped one is resumed. If it is between two runs or about to stop,
    the task first waits for that to end; a restart in which Arroyo is stuck is forced. A finished or ``Finishing``
    pipeline fails the task, since Arroyo ignores a restart of it. If a pipeline fails before the restart takes
    effect, the task waits for the new run all the same. Each try of the task begins another run.

    :param pipeline_id: id of the pipeline. Give either this or ``pipeline_name``. Templated.
    :param pipeline_name: exact name of the pipeline, instead of its id: the one that is alive, or else the newest. If
        several are alive, the task fails and lists them. Templated.
    :param force: whether a running or ``Restarting`` pipeline is restarted without a checkpoint, default False. It
        then continues from its last regular checkpoint.
    :param ignore_state: whether the new run starts without the state of the last checkpoint (Arroyo 0.16), default
        False. The log says which state is dropped. If the server requires that the pipeline is stopped first, the
        task stops it.
    :param until_checkpoint: whether a checkpoint of the new run must have finished, which proves that data flows;
        default False.
    :param stable_for: how long the pipeline must be ``Running`` in one run, default 2 seconds; a timedelta or
        seconds.
    :param max_restarts: how often it may restart by itself before the task fails; default None, any number until
        ``timeout``.
    :param timeout: how long the task may take, deferred or not, default 10 minutes; a timedelta or seconds.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds.
    :param defer_after: how long to wait in the worker before deferring, default 15 seconds; a timedelta or seconds.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason``, ``action``
        (``restarted`` or ``resumed``) and ``changes`` (an empty list).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if the pipeline has finished, or the server is too old for ``ignore_state``.
    :raises ArroyoTaskError: if the pipeline is ``Finishing``, is stopped externally or does not run again in time, or
        Arroyo stays unreachable.
    """

    ui_color = "#ffeccc"
    _step = "Restarting a pipeline"

    def __init__(
        self,
        *,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        force: bool = False,
        ignore_state: bool = False,
        until_checkpoint: bool = False,
        stable_for: timedelta | float = timedelta(seconds=2),
        max_restarts: int | None = None,
        timeout: timedelta | float = timedelta(minutes=10),
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
            until_checkpoint=until_checkpoint,
            stable_for=stable_for,
            max_restarts=max_restarts,
            timeout=timeout,
            poll_interval=poll_interval,
            defer_after=defer_after,
            api_outage_tolerance=api_outage_tolerance,
            arroyo_conn_id=arroyo_conn_id,
            deferrable=deferrable,
            **kwargs,
        )
        self.force = check_bool(force, "force")
        self.ignore_state = check_bool(ignore_state, "ignore_state")

    def _request(self, change: Change) -> Changed:
        return change.restart(force=self.force, ignore_state=self.ignore_state)


class ArroyoUpdatePipelineOperator(ArroyoChangeOperator):
    """Change settings of a pipeline in one request that contains only what differs.

    A new parallelism, environment or scheduler config begins a new run, and the task waits for it; so does the first
    new checkpoint interval after a restart. A running pipeline must meet ``stable_for`` and ``until_checkpoint``. If
    it is stopped or failed, the settings apply from its next start. What Arroyo already has is not requested again,
    but a parallelism that it dropped is applied by a restart. On Airflow 3.3 and later, a retry waits for the run
    that its first try requested.

    :param pipeline_id: id of the pipeline. Give either this or ``pipeline_name``. Templated.
    :param pipeline_name: exact name of the pipeline, instead of its id: the one that is alive, or else the newest. If
        several are alive, the task fails and lists them. Templated.
    :param parallelism: number of subtasks of each operator, 1 or more; default None does not change it. Templated.
    :param checkpoint_interval: time between checkpoints, 1 second to 24 hours, a timedelta or seconds; default None
        does not change it.
    :param env_vars: environment variables of the pipeline's workers (Arroyo 0.16); replaces all of them; default None
        does not change them. Everyone who can read Arroyo's API sees them, so put no secrets here. Templated.
    :param scheduler_config: passed to Arroyo's scheduler unchanged (Arroyo 0.16); default None does not change it.
    :param until_checkpoint: whether a checkpoint of the new run must have finished, which proves that data flows;
        default False.
    :param stable_for: how long the pipeline must be ``Running`` in one run, default 2 seconds; a timedelta or
        seconds.
    :param max_restarts: how often it may restart by itself before the task fails; default None, any number until
        ``timeout``.
    :param timeout: how long the task may take, deferred or not, default 10 minutes; a timedelta or seconds.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds.
    :param defer_after: how long to wait in the worker before deferring, default 15 seconds; a timedelta or seconds.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason``, ``action``
        (``updated`` or ``unchanged``) and ``changes`` (a list of ``{"argument", "difference"}``).
    :raises ValueError: if an argument is invalid, or there is nothing to change, before any request.
    :raises ArroyoFatalTaskError: if the pipeline has finished, or the server is too old for a setting.
    :raises ArroyoTaskError: if the pipeline is ``Finishing``, fails, is stopped externally or does not run again in
        time, or Arroyo accepts a change and does not make it.
    """

    template_fields: Sequence[str] = (*ArroyoExistingOperator.template_fields, "parallelism", "env_vars")
    template_fields_renderers: ClassVar[dict[str, str]] = {"env_vars": "json"}
    ui_color = "#ffeccc"
    _step = "Updating a pipeline"

    def __init__(
        self,
        *,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        parallelism: int | str | None = None,
        checkpoint_interval: timedelta | float | None = None,
        env_vars: Mapping[str, str] | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        until_checkpoint: bool = False,
        stable_for: timedelta | float = timedelta(seconds=2),
        max_restarts: int | None = None,
        timeout: timedelta | float = timedelta(minutes=10),
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
            until_checkpoint=until_checkpoint,
            stable_for=stable_for,
            max_restarts=max_restarts,
            timeout=timeout,
            poll_interval=poll_interval,
            defer_after=defer_after,
            api_outage_tolerance=api_outage_tolerance,
            arroyo_conn_id=arroyo_conn_id,
            deferrable=deferrable,
            **kwargs,
        )
        if all(value is None for value in (parallelism, checkpoint_interval, env_vars, scheduler_config)):
            raise ValueError(
                "nothing to update: give parallelism, checkpoint_interval, env_vars or scheduler_config"
            )
        self.parallelism = check_early(optional(check_parallelism), parallelism, "parallelism")
        self.checkpoint_interval = optional(check_checkpoint_interval)(
            checkpoint_interval, "checkpoint_interval"
        )
        self.env_vars = check_early(optional(check_string_map), env_vars, "env_vars")
        self.scheduler_config = optional(check_json_object)(scheduler_config, "scheduler_config")

    def _settings(self) -> dict[str, Any]:
        """Return the wanted settings, from the rendered arguments."""
        return {
            "parallelism": optional(check_parallelism)(self.parallelism, "parallelism"),
            "checkpoint_interval": self.checkpoint_interval,
            "env_vars": optional(check_string_map)(as_string_map(self.env_vars, "env_vars"), "env_vars"),
            "scheduler_config": self.scheduler_config,
        }

    def _requested(self, known: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_arroyo.pipelines.change import settings_hash

        # When a deferred task resumes, its DAG and what its templates render to may differ.
        with suppress(ValueError):
            if settings_hash(settings := self._settings()) == known.get("wanted"):
                return settings
        # The others are not kept, since they may contain secrets.
        seconds = known.get("checkpoint_seconds")
        return {
            "parallelism": known.get("parallelism"),
            "checkpoint_interval": None if seconds is None else timedelta(seconds=seconds),
        }

    def _request(self, change: Change) -> Changed:
        return change.update(self._settings())


def _finished(pipeline: PipelineRef) -> ArroyoError:
    what = f"{pipeline.label} is Finished and can never run again: the change has no effect."
    return ArroyoError(f"{what} Submit it again to run it once more.", is_fatal=True)
