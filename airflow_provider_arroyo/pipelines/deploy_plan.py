"""Plans a deploy, from the wanted pipeline and those on the server. Sends no requests.

A try may end after any step. The next try makes a new plan from what the server has then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from airflow_provider_arroyo.client.enums import AT_WORK, JobState
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.pipelines.choices import Action, Strategy
from airflow_provider_arroyo.pipelines.compare import Comparison, Difference, begins_new_run, compare
from airflow_provider_arroyo.pipelines.existing import is_down
from airflow_provider_arroyo.pipelines.spec import PipelineSpec

_STARTING = (JobState.CREATED, JobState.COMPILING, JobState.SCHEDULING)


class Step(StrEnum):
    """A step of a deploy; the value says what it does."""

    VALIDATE = "validate the SQL on the server"
    STOP_OLD = "stop the old pipeline with a checkpoint"
    DISCARD = "remove a generation that an earlier try left"
    CREATE = "create the pipeline"
    CHANGE = "request the change"
    PROVE = "wait until it has proven itself"
    RETIRE = "retire older generations"
    ROLL_BACK = "roll back to the old pipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One pipeline of a deployment, as found on the server.

    :param number: 1 or more; 0 for a pipeline that was adopted without a label.
    :param pipeline: the pipeline.
    :param job: its job; None if it has none.
    :param has_checkpoint: whether it ever finished a checkpoint, or may have; None if it was not read.
    :param is_fresh: whether its last checkpoint finished recently; None if unknown.
    """

    number: int
    pipeline: Pipeline
    job: Job | None
    has_checkpoint: bool | None = None
    is_fresh: bool | None = None

    @property
    def is_down(self) -> bool:
        """Whether nothing of it is running."""
        return self.job is None or is_down(self.job)

    @property
    def has_finished(self) -> bool:
        """Whether it can never run again."""
        return self.job is not None and self.job.state == JobState.FINISHED

    def __str__(self) -> str:
        state = self.job.state if self.job else "without a job"
        return f"generation {self.number} ({self.pipeline.id}, {state})"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployPlan:
    """What a deploy has to do.

    :param action: the action that it reports.
    :param steps: the steps, in order.
    :param generation: the number of the wanted pipeline.
    :param current: the pipeline that is compared with the wanted one; None if there is none.
    :param old: the pipeline that a replace replaces.
    :param can_roll_back: whether a failure causes a rollback to the old pipeline.
    :param discard: a pipeline that is removed first: the current one if it never came up, or one before it that an
        earlier try should have removed.
    :param comparison: how the current pipeline differs from the wanted one.
    """

    action: Action
    steps: tuple[Step, ...]
    generation: int
    current: Generation | None = None
    old: Generation | None = None
    can_roll_back: bool = False
    discard: Generation | None = None
    comparison: Comparison = field(default_factory=Comparison)

    @property
    def changes(self) -> tuple[Difference, ...]:
        """What this deploy changes."""
        if Step.CREATE in self.steps:
            return self.comparison.definition + self.comparison.settings + self.comparison.labels
        return self.comparison.settings if Step.CHANGE in self.steps else ()

    @property
    def not_applied(self) -> tuple[Difference, ...]:
        """Differences that remain, because Arroyo cannot change them in an existing pipeline."""
        if Step.CREATE in self.steps:
            return ()
        return self.comparison.labels + (() if Step.CHANGE in self.steps else self.comparison.settings)

    def left_behind(self, name: str) -> str | None:
        """Return in words what an earlier try left half done, in case this one changes nothing; None for nothing."""
        old, left = self.old, self.discard
        if old is None or old.has_finished:
            return None
        if old.is_down:
            return (
                f"No version of {name!r} that has proven itself runs now; the last is {old}. Deploy again once the "
                f"cause is fixed, or bring it back by ArroyoRestartPipelineOperator(pipeline_id={old.pipeline.id!r})."
            )
        if left is None or left.is_down:
            return None
        return (
            f"Two versions of {name!r} run and write now: {old}, and {left}. The next deploy that succeeds "
            "removes one of them."
        )

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines that say what will be done."""
        found = f"found {self.current}" if self.current else "found none"
        steps = "; ".join(self.steps) or "nothing to do"
        yield f"Plan, {self.action}: {name} ({found}; generation {self.generation} is wanted): {steps}"
        for one in self.changes:
            yield f"Changes {one}"
        for one in self.not_applied:
            yield f"Differs, but is only applied at the next replace: {one}"


def plan_deploy(
    spec: PipelineSpec,
    generations: Sequence[Generation],
    *,
    strategy: Strategy = Strategy.STOP_FIRST,
    keep_old: bool = False,
    is_retry: bool = False,
    until_checkpoint: bool = True,
) -> DeployPlan:
    """Decide what a deploy has to do.

    :param spec: the wanted pipeline.
    :param generations: the deployment's own pipelines, in any order. If there are several, ``has_checkpoint`` of the
        highest must be known: without one, it is the unfinished work of an earlier try, unless it is ``Finished``.
    :param strategy: for a replace.
    :param keep_old: whether the pipeline before the current one is kept, stopped.
    :param is_retry: whether an earlier try may have left the current pipeline before it had proven itself.
    :param until_checkpoint: whether a pipeline has proven itself only after it has finished a checkpoint.
    """
    if not generations:
        return DeployPlan(action=Action.CREATED, steps=(Step.CREATE, Step.PROVE), generation=1)
    current, *retired = sorted(generations, key=lambda one: one.number, reverse=True)
    comparison = compare(spec, current.pipeline, current.job)
    # One that has finished has proven itself, even without a checkpoint.
    is_unfinished = bool(retired) and not (current.has_checkpoint or current.has_finished)
    has_proof_without = not until_checkpoint and current.job is not None and current.job.state in AT_WORK
    old = retired[0] if is_unfinished else current
    if comparison.definition and is_unfinished and not compare(spec, old.pipeline).definition:
        # The change that an earlier deploy began was reverted: the old pipeline still has its state.
        proven = replace(old, has_checkpoint=True)
        found = plan_deploy(spec, [proven, *retired[1:]], keep_old=keep_old, is_retry=is_retry)
        found = replace(found, steps=(Step.DISCARD, *found.steps), discard=current)
        return replace(found, action=Action.REPLACED) if found.action is Action.UNCHANGED else found
    if comparison.definition:
        running = [one for one in retired if not one.is_down]
        if has_proof_without and not running:
            # A rollback must not go back to one before it.
            old = current
        # After a try that was cut short, the one before the current one may run beside it.
        may_run_beside = current.has_finished or not current.is_down
        beside = next(iter(running), None) if may_run_beside else None
        discard = current if old is not current else beside
        return DeployPlan(
            action=Action.REPLACED,
            steps=_replace_steps(old, discard, strategy),
            generation=current.number + 1,
            current=current,
            old=old,
            discard=discard,
            can_roll_back=True,
            comparison=comparison,
        )
    action, steps = _in_place(current, comparison, is_retry=is_retry, is_first=not retired)
    has_leftovers = _has_leftovers(retired, keep_old=keep_old)
    if has_proof_without and not is_retry and not has_leftovers:
        is_unfinished = False
    if is_unfinished or has_leftovers:
        action = Action.REPLACED
        if is_unfinished and Step.PROVE not in steps:
            steps = (*steps, Step.PROVE)
        stop = () if retired[0].is_down else (Step.STOP_OLD,)
        steps = (*steps, *stop, Step.RETIRE)
    return DeployPlan(
        action=action,
        steps=steps,
        generation=current.number,
        current=current,
        old=retired[0] if is_unfinished or Step.STOP_OLD in steps else None,
        can_roll_back=is_unfinished,
        comparison=comparison,
    )


def _replace_steps(old: Generation, discarded: Generation | None, strategy: Strategy) -> tuple[Step, ...]:
    discard = (Step.DISCARD,) if discarded is not None else ()
    stop = () if old.is_down else (Step.STOP_OLD,)
    if strategy is Strategy.STOP_FIRST:
        return (Step.VALIDATE, *discard, *stop, Step.CREATE, Step.PROVE, Step.RETIRE)
    return (Step.VALIDATE, *discard, Step.CREATE, Step.PROVE, *stop, Step.RETIRE)


def _has_leftovers(retired: Sequence[Generation], *, keep_old: bool) -> bool:
    """Return whether retired pipelines exist, or run, that an earlier try should have stopped or deleted."""
    allowed = 1 if keep_old else 0
    return len(retired) > allowed or any(not one.is_down for one in retired)


def _in_place(
    current: Generation, comparison: Comparison, *, is_retry: bool, is_first: bool
) -> tuple[Action, tuple[Step, ...]]:
    """Return the action and steps that make a pipeline with the wanted SQL run with the wanted settings."""
    job = current.job
    if job is None:
        return Action.UNCHANGED, (Step.PROVE,)
    if job.state == JobState.FINISHED or (
        job.state == JobState.FINISHING and comparison.settings and job.running_desired
    ):
        # It never runs again, so settings have no effect any more.
        return Action.UNCHANGED, ()
    if job.state in (JobState.FAILED, JobState.FAILING):
        return Action.RESTARTED, (Step.CHANGE, Step.PROVE)
    if not job.running_desired or job.state == JobState.STOPPED:
        return Action.RESUMED, (Step.CHANGE, Step.PROVE)
    is_running = job.state in AT_WORK
    if comparison.settings:
        waits = begins_new_run(comparison.settings) or is_retry or not is_running
        return Action.UPDATED, (Step.CHANGE, Step.PROVE) if waits else (Step.CHANGE,)
    if job.state in _STARTING and job.run_id <= 1 and is_first:
        # An earlier try created it, but did not get further.
        return Action.CREATED, (Step.PROVE,)
    needs_proof = is_retry or not is_running or current.is_fresh is False
    return Action.UNCHANGED, (Step.PROVE,) if needs_proof else ()
