"""The base class of the operators that change an existing pipeline and wait until it runs again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.checks import check_bool, check_duration, check_max_restarts
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.existing import ArroyoExistingOperator
from airflow_provider_arroyo.operators.task import entry_point

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.client.models import Job
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.pipelines.change import Change, Changed

_KEPT = "It keeps the new settings for its next start; ArroyoRestartPipelineOperator starts it."


class ArroyoChangeOperator(ArroyoExistingOperator):
    """The base class of the operators that change a pipeline and wait until it runs again."""

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

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Request the change, and wait for the new run if one begins; return the task's result."""
        from airflow_provider_arroyo.monitoring.plan import Baseline, WaitPlan
        from airflow_provider_arroyo.pipelines.change import Change, ChangeNote, ChangeNotes
        from airflow_provider_arroyo.pipelines.deploy_progress import shown
        from airflow_provider_arroyo.pipelines.existing import Action

        with self._rendered_arguments():
            wanted = self._wanted()
            self._settings()
        deadline, argument = self._deadline(self.timeout)
        found = self._find(wanted)
        pipeline = self._ref(found)
        began, notes = self.clock(), ChangeNotes(context.get("task_state_store"))

        def note_of(changed: Changed) -> ChangeNote:
            before = changed.before
            return ChangeNote(
                pipeline_id=found.id,
                wanted=changed.wanted,
                changes=shown(changed.differences),
                before=Baseline.of(before, requested_at=began) if before else None,
            )

        changed = self._request(
            Change(
                self._client(deadline=deadline),
                found,
                log=self.log,
                deadline=self.clock.to_monotonic(deadline),
                note=lambda changed: notes.write(note_of(changed)),
            )
        )
        action, note = changed.action, note_of(changed)
        noted = notes.read(note) if action is Action.UNCHANGED else None
        if noted is not None:
            # Whether the run that follows from it has begun is told by the run before it alone.
            self.log.info("An earlier try of this task requested the change: %s", pipeline.short)
            action, note = Action.UPDATED, noted
        self._log_begin(f"Pipeline {action.value}", pipeline)
        for one in note.changes:
            self.log.info("Changed %s", one["difference"])
        more = {"action": action.value, "changes": [dict(one) for one in note.changes]}
        if not changed.must_run:
            job = self._client().get_job(pipeline.pipeline_id)
            if job is not None and job.state == JobState.FINISHED:
                raise _finished(pipeline)
            return self._changed(pipeline, job, more)
        before = note.before
        ran_before = before is not None and before.state == JobState.RUNNING
        plan = WaitPlan(
            pipeline=pipeline,
            target_states=frozenset({JobState.RUNNING.value}),
            deadline=deadline,
            deadline_argument=argument,
            stable_for=self.stable_for,
            until_checkpoint=self.until_checkpoint,
            max_restarts=self.max_restarts,
            finished_is_success=True,
            stopped_is_final=True,
            restart_requested=action is Action.RESTARTED and ran_before,
            baseline=before,
            outage_tolerance=self.api_outage_tolerance,
        )
        return self._wait(plan, {**more, "baseline": before.to_dict() if before else None})

    def _finish(
        self, result: WaitResult, pipeline: PipelineRef, resume_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        from airflow_provider_arroyo.monitoring.plan import Baseline
        from airflow_provider_arroyo.pipelines.change import still_different

        job, action = result.job, resume_context.get("action")
        if result.outcome is Outcome.STOPPED and result.is_unchanged and action == "restarted":
            raise ArroyoError(
                f"Arroyo accepted the request but did nothing: {pipeline.inline} is still Stopped. This server can "
                "restart only a running pipeline without state: resume it first, or delete it and submit it again."
            )
        if result.outcome is not Outcome.REACHED or job is None:
            advice = None
            # A new try of an update finds it as wanted, and starts nothing.
            if action == "updated" and result.outcome is Outcome.STOPPED:
                advice = _KEPT
            elif action == "updated" and result.outcome is Outcome.FAILED and result.awaits_run:
                advice = f"Fix the cause. {_KEPT}"
            self._fail(result, pipeline, advice=advice)
        before = resume_context.get("baseline")
        if job.state == JobState.FINISHED and before and not Baseline.from_dict(before).is_before(job):
            raise _finished(pipeline)
        settings = self._settings()
        if settings and (names := still_different(self._client(), pipeline.pipeline_id, settings)):
            raise ArroyoError(
                f"Arroyo accepted the change of {pipeline.inline} but did not apply it: {', '.join(names)}. "
                "Another task may have changed it meanwhile; check Arroyo's console."
            )
        more = {key: value for key, value in resume_context.items() if key != "baseline"}
        return self._changed(pipeline, job, more)

    def _changed(self, pipeline: PipelineRef, job: Job | None, more: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_arroyo.pipelines.change import ChangeNotes

        ChangeNotes(self._context.get("task_state_store")).forget()
        result = self._result(pipeline, job, action=more.get("action"))
        return {**result, "changes": list(more.get("changes") or [])}


def _finished(pipeline: PipelineRef) -> ArroyoError:
    return ArroyoError(
        f"{pipeline.label} is Finished and can never run again: the change has no effect. "
        "Submit it again to run it once more.",
        is_fatal=True,
    )
