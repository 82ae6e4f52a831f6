"""The steps of a deploy, one method each: what it requests, and how it handles the end of a wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import JobError
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.client.models import FailureReason, Job, Pipeline
from airflow_provider_arroyo.exceptions import (
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoUnreachableError,
)
from airflow_provider_arroyo.monitoring.diagnosis import Diagnosis
from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import Baseline, PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.pipelines.change_notes import ChangeNote, ChangeNotes
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.pipelines.compare import begins_new_run, compare
from airflow_provider_arroyo.pipelines.create import PipelineCreator, naming
from airflow_provider_arroyo.pipelines.deploy_plan import DeployPlan, Step
from airflow_provider_arroyo.pipelines.deploy_progress import DeployOptions, DeployProgress, Waiting, required
from airflow_provider_arroyo.pipelines.existing import Existing, is_down, is_going_down
from airflow_provider_arroyo.pipelines.generations import RETIRE_SECONDS, Generations, interval_seconds
from airflow_provider_arroyo.pipelines.ownership import Namespace, OwnershipLabel
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.pipelines.stopping import (
    LACKS_FINAL_CHECKPOINT,
    StopProof,
    effective_stop_mode,
    lacks_final_checkpoint,
)
from airflow_provider_arroyo.text import duration, shorten

_LEAST_SECONDS = 5.0
"""How much time a repeated stop needs at least."""


class DeploySteps:
    """The steps of a deploy, and what they share.

    :param client_until: returns a client whose requests end at a moment, in seconds since the epoch.
    :param label: of this deploy; the generation is filled in.
    :param namespace: of this Airflow.
    :param options: how to deploy.
    :param known: called with the wanted pipeline as soon as it is known; in a rollback, with the old one once the
        wanted one is deleted.
    :param examine: returns what :func:`.explain` needs about a pipeline for the error of a wait, as far as it can be
        found out.
    :param notes: stores for a later try what is changed in place.
    :param clock: seconds since the epoch.
    :param log: gets the plan, and a line for whatever is done.
    """

    def __init__(
        self,
        client_until: Callable[[float], ArroyoClient],
        label: OwnershipLabel,
        namespace: Namespace,
        options: DeployOptions,
        *,
        known: Callable[[PipelineRef], None],
        examine: Callable[
            [WaitResult, PipelineRef], tuple[Sequence[JobError], Diagnosis | None, FailureReason | None]
        ],
        notes: ChangeNotes,
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._client_until = client_until
        self._spec: PipelineSpec | None = None
        """What is wanted; only in the process that made the plan."""
        self._label = label
        self._deployment = required(label.deployment)
        self._generations = Generations(client_until, label, namespace, options, clock)
        self._options = options
        self._known = known
        self._examine = examine
        self._notes = notes
        self._clock = clock
        self._log = log
        self._name = shorten(self._deployment.name, 80)
        self._plan: DeployPlan | None = None
        self._job: Job | None = None
        self._has_changed = False
        """Whether anything was changed, so that a failure leaves something to undo."""
        self.stopped: PipelineRef | None = None
        """The old pipeline, while it is stopped and none was created in its place; for a task that is killed."""

    # -- the steps ---------------------------------------------------------------------------------------------

    def _stop_old(
        self, progress: DeployProgress, *, late: WaitResult | None = None
    ) -> DeployProgress | Waiting:
        """Request the stop of the old pipeline.

        :param progress: the progress.
        :param late: the result of an earlier stop that took too long; if only the final checkpoint is missing, the
            pipeline is stopped without it. Default None, the first stop.
        """
        old, client = required(progress.old), self._client_until(progress.deadline)
        began = self._clock()

        def sending() -> None:
            nonlocal began
            began, self._has_changed = self._clock(), True
            self.stopped = old if Step.CREATE in progress.steps else None

        try:
            job = client.get_job(old.pipeline_id)
            if job is None or is_down(job):
                # It may have stopped just now, after all.
                has_stopped = late is not None and job is not None and job.state == JobState.STOPPED
                return self._stopped_old(progress, required(job)) if has_stopped else progress.done()
            mode = effective_stop_mode(job)
            if late is not None and lacks_final_checkpoint(job):
                # It never finishes once a source or sink is stuck, which this deploy may be about to fix.
                self._log.warning(LACKS_FINAL_CHECKPOINT, old.label, duration(late.waited_seconds))
                mode = StopMode.IMMEDIATE
            stop = StopProof(client, old).request_stop(job, mode, sending=sending)
        except ArroyoNotFoundError:
            self._log.warning("%s was deleted externally", old.label)
            return progress.done()
        self._log.info("Stop requested (%s): %s, id %s", mode.value, old.short, old.pipeline_id)
        may_repeat = mode is StopMode.CHECKPOINT and late is None
        wait = WaitPlan.of_stop(
            old,
            job,
            requested_at=began,
            deadline=(began + progress.deadline) / 2 if may_repeat else progress.deadline,
            finishing_is_final=mode is StopMode.CHECKPOINT,
            outage_tolerance=self._options.outage_tolerance,
        )
        return Waiting(progress=replace(progress, stop=stop), wait=wait)

    def _after_stop(self, progress: DeployProgress, result: WaitResult) -> DeployProgress | Waiting:
        old, job = required(progress.old), result.job
        if result.outcome is Outcome.NO_CHECKPOINT:
            return self._stop_old(progress)
        if result.outcome is Outcome.TIMED_OUT and self._clock() < progress.deadline - _LEAST_SECONDS:
            return self._stop_old(progress, late=result)
        if result.outcome in (Outcome.DELETED, Outcome.MISSING):
            self._log.warning("%s was deleted externally", old.label)
            return progress.done()
        if result.outcome is not Outcome.REACHED or job is None:
            raise explain(result, old)
        return self._stopped_old(progress, job)

    def _stopped_old(self, progress: DeployProgress, job: Job) -> DeployProgress:
        """Look for the proof of its final checkpoint.

        :param progress: the progress.
        :param job: its job after the stop.
        """
        if progress.stop is None or job.state == JobState.FINISHED:
            return progress.done()
        client = self._client_until(progress.deadline)
        checkpoint = StopProof(client, required(progress.old)).of_stop(job, progress.stop)
        return progress.done(checkpoint=checkpoint)

    def _discard(self, progress: DeployProgress) -> DeployProgress:
        discard, client = required(progress.discard), self._client_until(progress.deadline)
        self._log.warning("Removing a pipeline that an earlier try left: %s", discard.label)
        self._has_changed = True
        Existing(client).remove(discard.pipeline_id)
        return progress.done()

    def _create(self, progress: DeployProgress) -> DeployProgress:
        spec, label = self._spec_to_create(), replace(self._label, generation=progress.generation)
        if progress.can_roll_back and Step.STOP_OLD in progress.steps:
            self._log.warning(
                "Both pipelines run and write until the new one is proven: %s (start_first)", self._name
            )
        client, self._has_changed = self._client_until(progress.deadline), True
        began, creator = client.clock(), PipelineCreator(client, spec, label)
        try:
            created = creator.create()
        except ArroyoError as err:
            if (exists := creator.created) is None:
                raise
            self._known(self._ref(exists))
            self._log.warning("The create failed, but its pipeline exists: %s, id %s", self._name, exists.id)
            raise naming(err, exists) from err.__cause__
        if created.action is not Action.CREATED:
            theirs = OwnershipLabel.of(created.pipeline)
            is_same_task = theirs is not None and theirs.task == label.task
            if not is_same_task or compare(spec, created.pipeline).definition:
                # Without PUT (0.15) both were created, and the younger is deleted by now.
                overlap = duration(client.clock() - began) if created.pipeline.id != label.pipeline_id else ""
                raise self._generations.lost(
                    f"generation {progress.generation} ({created.pipeline.id}, by {theirs and theirs.task})",
                    f" This one's was deleted; both existed for up to {overlap}." if overlap else "",
                )
        pipeline, self.stopped = self._ref(created.pipeline), None
        self._log.info(
            "Created generation %s: %s, id %s, %s",
            progress.generation,
            pipeline.short,
            pipeline.pipeline_id,
            pipeline.console_url,
        )
        self._known(pipeline)
        now, late = self._clock(), created.late_seconds
        return progress.done(
            pipeline=pipeline,
            request_id=request_id_of(created.pipeline),
            starts=True,
            created_at=now,
            late_until=None if late is None else now + late,
        )

    def _spec_to_create(self) -> PipelineSpec:
        """Return what is wanted; an environment or scheduler config that is not given is that of the old pipeline."""
        spec, old = required(self._spec), required(self._plan).old
        if old is None or old.job is None:
            return spec
        kept: dict[str, Any] = {
            name: value
            for name in ("env_vars", "scheduler_config")
            if getattr(spec, name) is None and (value := getattr(old.job, name))
        }
        for name, value in kept.items():
            # Only the names: values may be secrets.
            self._log.info("Keeps %s (%s) of %s: %s", name, shorten(", ".join(value), 200), old, self._name)
        return replace(spec, **kept)

    def _change(self, progress: DeployProgress) -> DeployProgress:
        """Request what makes the pipeline run as wanted, in as few requests as possible."""
        pipeline, plan = required(progress.pipeline), required(self._plan)
        existing = Existing(self._client_until(progress.deadline))
        began, job = self._clock(), required(plan.current).job
        is_new_run = job is not None and job.state == JobState.RUNNING and begins_new_run(plan.changes)
        note = ChangeNote.of(
            pipeline.pipeline_id,
            required(self._spec).settings,
            plan.changes,
            Baseline.of(job, requested_at=began) if job and is_new_run else None,
        )
        if plan.changes:
            self._notes.write(note)
        progress = replace(progress, starts=job is not None and (is_down(job) or is_going_down(job)))
        try:
            done, before = existing.adopt(pipeline.pipeline_id, job, patch=plan.comparison.patch)
        except ArroyoError:
            if progress.starts:
                # It may have taken effect although its response was lost, even after another deploy.
                with suppress(ArroyoConnectionError, ArroyoUnreachableError):
                    self._generations.give_way(progress, progress.generation, pipeline)
            raise
        self._log.info("Requested (%s): %s, id %s", progress.action, pipeline.short, pipeline.pipeline_id)
        baseline = Baseline.of(before, requested_at=began) if before else None
        if plan.changes and not is_new_run and before is not None and before.state == JobState.RUNNING:
            # It was between two runs until the request.
            self._notes.write(replace(note, before=baseline))
        starts = progress.starts or done in (Action.RESUMED, Action.RESTARTED)
        return progress.done(before=baseline, starts=starts)

    def _prove(self, progress: DeployProgress) -> Waiting:
        return Waiting(progress=progress, wait=self._running(required(progress.pipeline), progress))

    def _after_proof(self, progress: DeployProgress, result: WaitResult) -> DeployProgress | Waiting:
        pipeline = required(progress.pipeline)
        # It may have been stopped or deleted to be replaced.
        is_gone = result.outcome in (Outcome.STOPPED, Outcome.DELETED)
        if is_gone or (progress.starts and result.outcome is not Outcome.UNREACHABLE):
            self._generations.give_way(progress, progress.generation, pipeline)
        if result.outcome is Outcome.REACHED:
            self._job = result.job
            return progress.done(can_roll_back=False)
        raise explain(result, pipeline, *self._examine(result, pipeline))

    def _retire(self, progress: DeployProgress) -> DeployProgress:
        """Delete older generations, or keep the last one, stopped. Lists them again: others may have resumed one."""
        client = self._client_until(max(progress.deadline, self._clock() + RETIRE_SECONDS))
        existing = Existing(client)
        older = [one for one in self._generations.find(client) if one.number < progress.generation]
        for at, one in enumerate(older):
            if at == 0 and self._options.keep_old:
                existing.stop(one.pipeline.id)
                self._log.info("Kept, stopped: %s of %s", one, self._name)
            else:
                existing.remove(one.pipeline.id)
                self._log.info("Deleted: %s of %s", one, self._name)
        return progress.done()

    # -- what the steps share ----------------------------------------------------------------------------------

    def _ref(self, pipeline: Pipeline) -> PipelineRef:
        return PipelineRef.of(pipeline, self._client_until(self._clock()).settings)

    def _running(
        self, pipeline: PipelineRef, progress: DeployProgress, rolled_back: Pipeline | None = None
    ) -> WaitPlan:
        """Return the wait for the deployed pipeline to run; or, in a rollback, for the old one."""
        options = self._options
        left = progress.deadline - self._clock()
        until_checkpoint = options.until_checkpoint
        if rolled_back is not None and interval_seconds(rolled_back) >= left:
            # No checkpoint can finish in that time.
            until_checkpoint = False
        return WaitPlan(
            pipeline=pipeline,
            target_states=frozenset({JobState.RUNNING.value}),
            deadline=progress.deadline,
            deadline_argument="timeout" if rolled_back is None else "rollback_timeout",
            stable_for=options.stable_for,
            until_checkpoint=until_checkpoint,
            max_restarts=options.max_restarts,
            finished_is_success=True,
            stopped_is_final=True,
            baseline=progress.before,
            created_at=progress.created_at,
            outage_tolerance=min(options.outage_tolerance, timedelta(seconds=max(left, 1.0))),
        )


def request_id_of(pipeline: Pipeline) -> str:
    """Return the id of the request that created a pipeline; empty for one without a label."""
    label = OwnershipLabel.of(pipeline)
    return label.request_id if label else ""
