"""Carries out the plan of a deploy, step by step, until a step must wait.

It never waits for long itself: it returns what to wait for, and gets the result, in this process or in another one.
Data for later steps is passed on as :class:`.DeployProgress`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from airflow_provider_arroyo.exceptions import ArroyoDeployError, ArroyoError, ArroyoPipelineError
from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import Baseline
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.pipelines.change_notes import ChangeNote
from airflow_provider_arroyo.pipelines.choices import Action, OnFailure
from airflow_provider_arroyo.pipelines.compare import shown
from airflow_provider_arroyo.pipelines.deploy_checks import DeployChecks
from airflow_provider_arroyo.pipelines.deploy_plan import Generation, Step, plan_deploy
from airflow_provider_arroyo.pipelines.deploy_progress import DeployProgress, Done, Waiting, required
from airflow_provider_arroyo.pipelines.deploy_steps import DeploySteps, request_id_of
from airflow_provider_arroyo.pipelines.existing import Existing
from airflow_provider_arroyo.pipelines.generations import RETIRE_SECONDS
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.pipelines.tags import check_tags

_NOT_ROLLED_BACK = frozenset({Outcome.STOPPED.value, Outcome.UNREACHABLE.value})
"""Outcomes of the wait for a new pipeline that cause no rollback. After an external stop, the decision is left to
whoever stopped it; an unreachable server says nothing about the pipeline.
"""


class Deploy(DeploySteps):
    """One deploy. Any try of its task can start it, and any process can resume it.

    Has the parameters of :class:`.DeploySteps`.
    """

    # -- entry points ------------------------------------------------------------------------------------------

    def start(self, spec: PipelineSpec) -> Waiting | Done:
        """List what the server has, plan, log the plan, and carry it out until a step must wait.

        :param spec: what is wanted.
        :raises ValueError: when the user's tags collide with ours.
        :raises ArroyoError: an ``ArroyoOwnershipError``, ``ArroyoQueryError`` or ``ArroyoUnsupportedError`` comes
            before anything was changed; an ``ArroyoDeployError`` says what was.
        """
        check_tags(spec.tags)
        options, self._spec = self._options, spec
        deadline = self._clock() + options.timeout.total_seconds()
        plan = self._plan = plan_deploy(
            spec,
            self._generations.to_plan(spec, deadline),
            strategy=options.strategy,
            keep_old=options.keep_old,
            is_retry=options.is_retry,
            until_checkpoint=options.until_checkpoint,
        )
        for line in plan.lines(self._name):
            self._log.info("%s", line)
        DeployChecks(self._client_until(deadline), self._label, options, log=self._log).check(spec, plan)
        current = plan.current if Step.CREATE not in plan.steps else None
        pipeline = self._ref(current.pipeline) if current else None
        progress = DeployProgress(
            action=plan.action.value,
            steps=tuple(step for step in plan.steps if step is not Step.VALIDATE),
            deadline=deadline,
            generation=plan.generation,
            deployment=self._deployment,
            pipeline=pipeline,
            request_id=request_id_of(current.pipeline) if current else "",
            old=self._ref(plan.old.pipeline) if plan.old else None,
            discard=self._ref(plan.discard.pipeline) if plan.discard else None,
            can_roll_back=plan.can_roll_back,
            changes=shown(plan.changes),
            not_applied=shown(plan.not_applied),
        )
        if pipeline is not None:
            self._known(pipeline)
            noted = self._notes.read(ChangeNote.of(pipeline.pipeline_id, spec.settings))
            if noted is not None and plan.action is Action.UNCHANGED:
                # Only the run before it tells whether the new run has begun.
                self._log.info("An earlier try of this task requested the change: %s", self._name)
                progress = replace(
                    progress, action=Action.UPDATED.value, changes=noted.changes, before=noted.before
                )
        self._job = plan.current.job if plan.current else None
        if options.dry_run:
            self._log.info("Nothing is changed (dry_run): %s", self._name)
            return Done(
                progress=progress,
                pipeline=self._ref(plan.current.pipeline) if plan.current else None,
                job=self._job,
            )
        return self._go(progress)

    def resume(self, progress: DeployProgress, result: WaitResult) -> Waiting | Done:
        """Continue after a wait, in this process or another one.

        :param progress: from the ``Waiting``.
        :param result: the result of its wait.
        :raises ArroyoError: see :meth:`start`.
        """
        self._has_changed = True
        return self._go(progress, result)

    def _go(self, progress: DeployProgress, result: WaitResult | None = None) -> Waiting | Done:
        """Carry out the remaining steps until one must wait; a given result is that of the first step's wait."""
        while progress.steps:
            try:
                reached = self._do(progress) if result is None else self._after(progress, result)
            except ArroyoError as err:
                reached = self._failed(progress, err)
            if isinstance(reached, Waiting):
                return reached
            progress, result = reached, None
        pipeline = required(progress.pipeline)
        if self._job is None:
            # The process that saw it running has ended.
            self._job = self._client_until(self._clock() + RETIRE_SECONDS).get_job(pipeline.pipeline_id)
        self._notes.forget()
        return Done(progress=progress, pipeline=pipeline, job=self._job)

    def _do(self, progress: DeployProgress) -> DeployProgress | Waiting:
        steps: Mapping[Step, Callable[[DeployProgress], DeployProgress | Waiting]] = {
            Step.STOP_OLD: self._stop_old,
            Step.DISCARD: self._discard,
            Step.CREATE: self._create,
            Step.CHANGE: self._change,
            Step.PROVE: self._prove,
            Step.RETIRE: self._retire,
            Step.ROLL_BACK: self._roll_back,
        }
        return steps[progress.step](progress)

    def _after(self, progress: DeployProgress, result: WaitResult) -> DeployProgress | Waiting:
        after = {
            Step.STOP_OLD: self._after_stop,
            Step.PROVE: self._after_proof,
            Step.ROLL_BACK: self._after_rollback,
        }
        return after[progress.step](progress, result)

    # -- rollback ----------------------------------------------------------------------------------------------

    def _failed(self, progress: DeployProgress, error: ArroyoError) -> DeployProgress:
        """Return the progress of the rollback after a failure; raise the error if there is no rollback."""
        is_lost_race = isinstance(error, ArroyoDeployError) and error.is_lost_race
        if progress.step is Step.ROLL_BACK:
            if is_lost_race:
                raise ArroyoDeployError(f"{progress.failure}\n{error}", is_lost_race=True)
            if isinstance(error, ArroyoDeployError):
                raise error
            raise ArroyoDeployError(
                f"{progress.failure}\nThe rollback to {required(progress.old).inline} failed: {error}\n"
                "A new try continues from what it finds."
            )
        if is_lost_race:
            # The other deploy's pipeline runs in its place.
            self.stopped = None
            raise error
        is_left = isinstance(error, ArroyoPipelineError) and error.outcome in _NOT_ROLLED_BACK
        if not progress.can_roll_back or not self._has_changed or is_left:
            if self.stopped is None:
                if progress.old is None or progress.pipeline is None or Step.STOP_OLD not in progress.steps:
                    raise error
                raise error.adding(
                    f"{progress.old.label} may still run beside {progress.pipeline.inline}, so that both write. The "
                    "next try of this task stops one of them; without one, stop it yourself."
                ) from error.__cause__
            raise error.adding(
                f"{self.stopped.label} was asked to stop, and nothing was created in its place. The next try does "
                "that; without one, bring it back by "
                f"ArroyoRestartPipelineOperator(pipeline_id={self.stopped.pipeline_id!r})."
            ) from error.__cause__
        old = required(progress.old)
        if self._options.on_failure is OnFailure.LEAVE:
            new = progress.pipeline.pipeline_id if progress.pipeline else "not created"
            raise ArroyoDeployError(
                f"{error}\nNothing was undone (on_failure='leave'): the old pipeline is {old.pipeline_id}, the new "
                f"one is {new}."
            )
        self._log.warning("Rolling back to %s: %s", old.inline, str(error).partition("\n")[0])
        return replace(
            progress,
            steps=(Step.ROLL_BACK,),
            deadline=self._clock() + self._options.rollback_timeout.total_seconds(),
            can_roll_back=False,
            failure=str(error),
        )

    def _roll_back(self, progress: DeployProgress) -> Waiting | DeployProgress:
        """Remove the new pipeline and resume the old one, unless another deploy has taken over."""
        old, client = required(progress.old), self._client_until(progress.deadline)
        existing = Existing(client)
        others: list[Generation] = []
        for one in self._generations.find(client):
            if one.number >= progress.generation and self._generations.is_mine(one, progress):
                existing.remove(one.pipeline.id)
                self._log.info("Deleted: %s of %s", one, self._name)
            elif one.number >= progress.generation:
                others.append(one)
        if others:
            raise self._generations.lost(str(others[0]))
        # The new one, which the task has shown so far, is gone.
        self._known(old)
        began = self._clock()
        stored = client.get_pipeline(old.pipeline_id)
        _, before = existing.adopt(old.pipeline_id, client.get_job(old.pipeline_id), withdraw_stop=True)
        self.stopped = None
        progress = replace(
            progress,
            starts=True,
            before=Baseline.of(before, requested_at=began) if before else None,
            created_at=None,
        )
        return Waiting(progress=progress, wait=self._running(old, progress, rolled_back=stored))

    def _after_rollback(self, progress: DeployProgress, result: WaitResult) -> DeployProgress:
        old = required(progress.old)
        if result.outcome is not Outcome.UNREACHABLE:
            # Also if it was stopped or deleted: perhaps to be replaced.
            self._generations.give_way(progress, progress.generation - 1, old)
        if result.outcome is not Outcome.REACHED or result.job is None:
            raise explain(result, old, *self._examine(result, old))
        raise ArroyoDeployError(
            f"{progress.failure}\nRolled back: {old.inline} is {result.job.state} again (run {result.job.run_id}).",
            is_fatal=True,
            was_rolled_back=True,
        )
