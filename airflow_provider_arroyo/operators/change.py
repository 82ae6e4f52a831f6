"""The base class of the operators that change a pipeline and wait until it runs again: restart and update."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.checks import (
    check_bool,
    check_duration,
    check_max_restarts,
)
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.existing import ArroyoExistingOperator
from airflow_provider_arroyo.operators.task import entry_point
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
        from airflow_provider_arroyo.pipelines.change import Change
        from airflow_provider_arroyo.pipelines.change_notes import ChangeNotes, settings_hash

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

    def _half_done(self) -> str | None:
        return self._changing.left_stopped if self._changing else None

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
        from airflow_provider_arroyo.pipelines.change_notes import ChangeNotes

        ChangeNotes(self._state_store).forget()
        result = self._result(pipeline, job, action=known.get("action"))
        return {**result, "changes": list(known.get("changes") or [])}


def _finished(pipeline: PipelineRef) -> ArroyoError:
    what = f"{pipeline.label} is Finished and can never run again: the change has no effect."
    return ArroyoError(f"{what} Submit it again to run it once more.", is_fatal=True)
