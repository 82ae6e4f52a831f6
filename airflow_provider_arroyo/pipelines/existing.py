"""Actions on an existing pipeline: adopt it, or stop and delete it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import AT_WORK, TERMINAL_STATES, JobState, StopMode
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.retry import may_have_taken_effect
from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoError, ArroyoNotFoundError, Disposition
from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.pipelines.restarting import StuckRestart
from airflow_provider_arroyo.pipelines.stopping import (
    LACKS_FINAL_CHECKPOINT,
    effective_stop_mode,
    for_checkpoints,
    lacks_final_checkpoint,
)
from airflow_provider_arroyo.text import duration

T = TypeVar("T")

SETTLE_SECONDS = 2.0
"""How long the server may still work on a request whose response was lost, in seconds."""
_POLL_SECONDS = 0.25
_MAX_POLL_SECONDS = 2.0
_ENDED = TERMINAL_STATES | {JobState.FAILING}
_SETTLED = _ENDED | AT_WORK
_BETWEEN_RUNS_SECONDS = 30.0
"""How long a pipeline may be between two runs until its settings are changed all the same, in seconds."""
_STOP_SECONDS = 120.0
"""How long a pipeline may take to reach a terminal state before it is deleted, resumed or restarted, in seconds."""
_REQUEST_SECONDS = 1.0
"""Minimum time reserved for a request, in seconds."""
_RESTART_SECONDS = 120.0
"""How long a requested restart is watched in case Arroyo gets stuck in it, in seconds; a checkpoint may take long."""
PICKED_UP_SECONDS = 5.0
"""How long the controller may take to begin what was requested, in seconds; it polls every half second."""
_TRIES = 5
_LEAST_SECONDS = 5.0
"""How long the second step of a stop may take at least, however long the first one took."""


class Existing:
    """Acts on existing pipelines; a later try may repeat each step.

    :param client: sends the requests.
    """

    def __init__(self, client: ArroyoClient) -> None:
        self._client = client

    def adopt(
        self,
        pipeline_id: str,
        job: Job | None,
        *,
        patch: Mapping[str, Any] | None = None,
        withdraw_stop: bool = False,
    ) -> tuple[Action, Job | None]:
        """Make sure that a pipeline is asked to run; return what was done, and its job before that.

        If it is on its way to ``Stopped`` or ``Failed``, this waits for the end: an earlier request might only undo
        the stop, and the next run could not be told apart from the last one.

        :param pipeline_id: id of the pipeline.
        :param job: its job as last seen.
        :param patch: settings to change in the same request: arguments of ``patch_pipeline``. If they restart a
            running pipeline, its job before that is also returned.
        :param withdraw_stop: whether to withdraw a stop in progress instead of waiting for it, because the caller
            requested it and need not tell the runs apart; also if the job shows none. Default False.
        :raises ArroyoError: if it does not reach a terminal state.
        """
        patch = dict(patch or {})
        if withdraw_stop and job is not None and job.state not in _ENDED:
            # Even if it seems to be wanted: the response may be from before the stop.
            self._client.patch_pipeline(pipeline_id, stop=StopMode.NONE)
            return Action.RESUMED, None
        job = self.wait_while_going_down(pipeline_id, job)
        if patch and job is not None and job.state not in _SETTLED:
            # A parallelism that Arroyo gets while it schedules a run is shown, but not used by that run. The change
            # and the next run need time, too.
            seconds = min(_BETWEEN_RUNS_SECONDS, self.seconds_left() / 2)
            job = self.poll_while(pipeline_id, lambda latest: latest.state not in _SETTLED, seconds)
            job = self.wait_while_going_down(pipeline_id, job)
        if job is None or job.state == JobState.FINISHED:
            return Action.ADOPTED, None
        if job.state == JobState.FAILED:
            if patch or not job.running_desired:
                # Otherwise the earlier stop request would stop the new run.
                self._client.patch_pipeline(pipeline_id, stop=StopMode.NONE, **patch)
            self.restart(pipeline_id, job)
            return Action.RESTARTED, job
        if job.state == JobState.FINISHING and not job.running_desired:
            self._client.patch_pipeline(pipeline_id, stop=StopMode.NONE, **patch)
            return Action.RESUMED, None
        if job.state != JobState.STOPPED:
            if not patch:
                return Action.ADOPTED, None
            patched = self._client.patch_pipeline(pipeline_id, **patch)
            # A new checkpoint interval restarts nothing, nor does a parallelism that the server does not accept. A
            # pipeline that stays between two runs may begin the next one with it.
            is_rescaled = "parallelism" in patch and patched.graph.parallelism == patch["parallelism"]
            restarts = is_rescaled or not patch.keys().isdisjoint({"env_vars", "scheduler_config"})
            is_new_run = job.state == JobState.RUNNING and restarts
            if is_new_run:
                self.see_restart(pipeline_id, job)
            return Action.UPDATED, job if is_new_run else None
        if patch or not job.running_desired:
            self._client.patch_pipeline(pipeline_id, stop=StopMode.NONE, **patch)
        return Action.RESUMED, job

    def seconds_left(self) -> float:
        """Return the time until the client's deadline, without what the next request needs; at least 0."""
        deadline = self._client.limits.deadline
        left = float("inf") if deadline is None else deadline - self._client.clock()
        return max(0.0, left - _REQUEST_SECONDS)

    def see_restart(self, pipeline_id: str, before: Job) -> None:
        """Wait until a requested restart takes its course, and free it if Arroyo is stuck in it.

        :param pipeline_id: id of the pipeline.
        :param before: its running job before the request.
        """
        stuck, began = StuckRestart(self._client, pipeline_id), self._client.clock()

        def is_over() -> bool:
            job = for_checkpoints(self._client).get_job(pipeline_id)
            if job is None or (job.id, job.run_id) != (before.id, before.run_id):
                return True
            if job.state == JobState.RUNNING:
                return self._client.clock() - began >= PICKED_UP_SECONDS
            return not stuck.poll(job)

        # The wait for the new run tells what is wrong.
        with suppress(ArroyoError):
            self.retry_until(is_over, min(self.seconds_left(), _RESTART_SECONDS))

    def wait_while_going_down(self, pipeline_id: str, job: Job | None) -> Job | None:
        """Return the job as soon as it is not on its way to ``Stopped`` or ``Failed``.

        :param pipeline_id: id of the pipeline.
        :param job: its job as last seen.
        :raises ArroyoError: if it does not reach a terminal state.
        """
        if job is not None and is_going_down(job):
            # A server that is restarted meanwhile runs it anew, so that it never stops.
            job = self.poll_while(pipeline_id, is_going_down, _STOP_SECONDS)
            if job is not None and is_going_down(job):
                raise _not_stopped(pipeline_id, job)
        return job

    def stop(self, pipeline_id: str, mode: StopMode = StopMode.CHECKPOINT) -> None:
        """Stop a pipeline, by default with a checkpoint, without proof of it; nothing is done if it is down or gone.

        It is stopped immediately if it becomes ``Finishing``, which such a stop cannot end, or if the checkpoint does
        not finish in time: if a source or sink is stuck, Arroyo waits for it for ever.

        :param pipeline_id: id of the pipeline.
        :param mode: how to stop it, default with a checkpoint.
        :raises ArroyoError: if it does not stop.
        """
        ends_at = self._client.clock() + _STOP_SECONDS
        with suppress(ArroyoNotFoundError):
            job = self._client.get_job(pipeline_id)
            if job is None or is_down(job):
                return
            result = self._stop_and_wait(pipeline_id, job, effective_stop_mode(job, mode), ends_at)
            if result.outcome is Outcome.TIMED_OUT:
                self._client.log.warning(
                    LACKS_FINAL_CHECKPOINT, f"Pipeline {pipeline_id!r}", duration(_STOP_SECONDS)
                )
                ends_at += _STOP_SECONDS
            if result.outcome in (Outcome.NO_CHECKPOINT, Outcome.TIMED_OUT):
                self._stop_and_wait(pipeline_id, result.job or job, StopMode.IMMEDIATE, ends_at)

    def remove(self, pipeline_id: str, *, may_stop: bool = True) -> None:
        """Stop and delete a pipeline; nothing is done if it is gone.

        :param pipeline_id: id of the pipeline.
        :param may_stop: whether a running pipeline may be stopped, default True.
        :raises ArroyoError: if it does not stop, or is running and may not be stopped.
        """
        # Another try may do the same, and finish first.
        with suppress(ArroyoNotFoundError):
            for attempt in range(_TRIES):
                job = self._client.get_job(pipeline_id)
                if job is not None and not is_down(job):
                    if not may_stop:
                        raise ArroyoError(
                            f"Pipeline {pipeline_id!r} was started externally just before it was to be replaced. It "
                            "was not touched; the next try of this task makes a new decision."
                        )
                    ends_at = self._client.clock() + _STOP_SECONDS
                    self._stop_and_wait(pipeline_id, job, StopMode.IMMEDIATE, ends_at)
                try:
                    self._client.delete_pipeline(pipeline_id)
                    break
                except ArroyoApiError as err:
                    # A requested restart shows only when it begins, which may be just now.
                    if err.status not in (400, 409) or attempt == _TRIES - 1:
                        raise
                self._client.sleep(_POLL_SECONDS)

    def poll_while(self, pipeline_id: str, condition: Callable[[Job], bool], seconds: float) -> Job | None:
        """Poll a pipeline's job while a condition holds; return it as last seen, None if there is none.

        A restart in which Arroyo is stuck is forced.

        :param pipeline_id: id of the pipeline.
        :param condition: returns whether to poll again.
        :param seconds: for how long; 0 polls once.
        """
        job: Job | None = None
        stuck = StuckRestart(self._client, pipeline_id)

        def is_over() -> bool:
            nonlocal job
            job = self._client.get_job(pipeline_id)
            if job is None:
                return True
            stuck.poll(job)
            return not condition(job)

        self.retry_until(is_over, seconds)
        return job

    def retry_until(self, find: Callable[[], T], seconds: float) -> T:
        """Return the first true value of ``find``, or its last value when the time is over.

        :param find: returns a value, which counts if it is true.
        :param seconds: for how long; 0 calls it once.
        """
        began = self._client.clock()
        while True:
            found, elapsed = find(), self._client.clock() - began
            if found or elapsed >= seconds:
                return found
            self._client.sleep(min(seconds - elapsed, _MAX_POLL_SECONDS, max(_POLL_SECONDS, elapsed / 4)))

    def _stop_and_wait(self, pipeline_id: str, job: Job, mode: StopMode, ends_at: float) -> WaitResult:
        """Request a stop, and wait for it by the rules of every wait; return the result.

        :param pipeline_id: id of the pipeline.
        :param job: its job before the stop.
        :param mode: how to stop; a wait for a stop with a checkpoint also ends in ``Finishing``, and if only the
            checkpoint is missing in time.
        :param ends_at: when it must have stopped, by the client's clock.
        :raises ArroyoError: if it does not stop, or the stop is withdrawn.
        """
        began = self._client.clock()
        self._client.patch_pipeline(pipeline_id, stop=mode)
        pipeline = PipelineRef(pipeline_id=pipeline_id)
        plan = WaitPlan.of_stop(
            pipeline,
            job,
            requested_at=began,
            deadline=max(ends_at, began + _LEAST_SECONDS),
            finishing_is_final=mode is StopMode.CHECKPOINT,
        )
        wait = PipelineWait(plan, now=began)

        def ended() -> WaitResult | None:
            latest = self._client.get_job(pipeline_id)
            if latest is None:
                return WaitResult(outcome=Outcome.REACHED)
            result = wait.observe(latest, self._client.clock())
            return result if result.is_over else None

        result = self.retry_until(ended, plan.deadline - self._client.clock()) or wait.tick(plan.deadline)
        if result.outcome is Outcome.TIMED_OUT and not (
            mode is StopMode.CHECKPOINT and lacks_final_checkpoint(result.job)
        ):
            raise _not_stopped(pipeline_id, result.job)
        if result.outcome is Outcome.WITHDRAWN:
            raise explain(result, pipeline)
        return result

    def restart(
        self, pipeline_id: str, before: Job, *, force: bool = False, ignore_state: bool = False
    ) -> None:
        """Restart a running or failed pipeline; if the response is lost, its run tells whether it took effect.

        :param pipeline_id: id of the pipeline.
        :param before: its job as last seen.
        :param force: whether to skip the checkpoint, default False.
        :param ignore_state: whether to start without the state of the last checkpoint (0.16), default False.
        """

        def has_changed() -> bool:
            job = self._client.get_job(pipeline_id)
            now = (job.id, job.run_id, job.state) if job else None
            return now != (before.id, before.run_id, before.state)

        for attempt in range(_TRIES):
            try:
                self._client.restart_pipeline(pipeline_id, force=force, ignore_state=ignore_state)
            except ArroyoError as err:
                if not may_have_taken_effect(err) or attempt == _TRIES - 1:
                    raise
                if self.retry_until(has_changed, SETTLE_SECONDS):
                    return
                if err.disposition is Disposition.PERMANENT:
                    raise
            else:
                return


def _not_stopped(pipeline_id: str, job: Job | None) -> ArroyoError:
    advice = "Check Arroyo's controller."
    if lacks_final_checkpoint(job):
        advice = "Arroyo waits for its final checkpoint; a stop with mode='immediate' does without."
    return ArroyoError(
        f"Pipeline {pipeline_id!r} has not stopped within {_STOP_SECONDS:.0f} s; it is "
        f"{job.state if job else 'without a job'}. {advice}"
    )


def is_down(job: Job) -> bool:
    """Return whether nothing is running; a stopped pipeline that was asked to run is about to start."""
    return job.state in TERMINAL_STATES and not (job.state == JobState.STOPPED and job.running_desired)


def is_going_down(job: Job) -> bool:
    """Return whether it is on its way to ``Stopped`` or ``Failed``; from ``Finishing``, no stop leads there."""
    not_stopped = TERMINAL_STATES | {JobState.FINISHING}
    return job.state == JobState.FAILING or (not job.running_desired and job.state not in not_stopped)
