"""What every task that waits for a pipeline shares: looking, deferring, resuming, and saying how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_arroyo.arroyo.models import Job, StopMode
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.hooks.clock import SteadyClock
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError, ArroyoTaskError, task_error
from airflow_provider_arroyo.links import ArroyoPipelineLink
from airflow_provider_arroyo.monitoring.event import UnreadableEventError, WaitEvent
from airflow_provider_arroyo.monitoring.explain import Subject, explain
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.arroyo.details import JobError
    from airflow_provider_arroyo.arroyo.pipeline import Pipeline
    from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
    from airflow_provider_arroyo.hooks.patience import PatientClient
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

BACKSTOP = timedelta(minutes=1)
"""How much later than our own deadline Airflow ends a wait; ours is exact and says what was going on."""


class WaitingTask:
    """Mixed into operators and the sensor; they say what to do, this does the waiting.

    Expects these attributes: ``arroyo_conn_id``, ``poll_interval`` (seconds), ``api_outage_tolerance``,
    ``execution_timeout``, ``log``, and ``defer`` of Airflow's base operator.
    """

    arroyo_conn_id: str
    poll_interval: float
    api_outage_tolerance: timedelta
    execution_timeout: timedelta | None
    log: Any
    _has_waited = False
    """Whether this task has waited for its pipeline before, in this process or another one."""
    defer: Callable[..., NoReturn]

    @cached_property
    def hook(self) -> ArroyoHook:
        """The hook of ``arroyo_conn_id``."""
        from airflow_provider_arroyo.hooks.arroyo import ArroyoHook

        return ArroyoHook(arroyo_conn_id=self.arroyo_conn_id)

    @cached_property
    def clock(self) -> SteadyClock:
        """The clock of this task's deadlines."""
        return SteadyClock()

    @cached_property
    def _arroyo(self) -> PatientClient:
        return self._patient()

    def _patient(self, *, deadline: float = float("inf")) -> PatientClient:
        """Return a client that outlasts outages, until a moment of the clock at most."""
        from airflow_provider_arroyo.hooks.patience import PatientClient

        return PatientClient(
            self.hook.client,
            clock=self.clock,
            tolerance=self.api_outage_tolerance,
            log=self.log,
            has_answered=self._has_waited,
            deadline=deadline,
        )

    # -- errors ----------------------------------------------------------------------------------------------

    @contextmanager
    def _task_errors(self) -> Iterator[None]:
        """Turn this package's errors into those that Airflow retries, or not."""
        try:
            yield
        except ArroyoError as err:
            self._raise(task_error(err, self.arroyo_conn_id), err)

    @contextmanager
    def _rendered_arguments(self) -> Iterator[None]:
        """Turn what is wrong with rendered arguments into an error that no retry follows."""
        try:
            yield
        except ValueError as err:
            if isinstance(err, ArroyoError):
                raise
            self._raise(ArroyoArgumentError(str(err)), err)

    def _raise(self, error: BaseException, cause: BaseException) -> NoReturn:
        """Raise what ends the task; the sensor makes a skip of it where it was asked to."""
        raise error from cause

    # -- the pipeline ----------------------------------------------------------------------------------------

    def _subject(self, pipeline: Pipeline) -> Subject:
        return Subject(
            pipeline_id=pipeline.id,
            name=pipeline.name,
            console_url=self.hook.console_url(pipeline.id),
        )

    def _pipeline(self, pipeline_id: str | None, pipeline_name: str | None) -> Pipeline:
        """Return the pipeline that one of the two arguments names.

        :raises ArroyoNotFoundError, ArroyoNoSuchNameError, ArroyoAmbiguousNameError: where it is not one.
        """
        from airflow_provider_arroyo.arroyo import api
        from airflow_provider_arroyo.arroyo.listing import resolve_name

        if pipeline_id is not None:
            return self._arroyo.call(api.get_pipeline(pipeline_id))
        return resolve_name(self._arroyo, str(pipeline_name))

    def _job(self, pipeline_id: str) -> Job | None:
        from airflow_provider_arroyo.arroyo import api
        from airflow_provider_arroyo.arroyo.listing import newest_job

        return newest_job(self._arroyo.call(api.pipeline_jobs(pipeline_id)))

    # -- waiting ---------------------------------------------------------------------------------------------

    def _deadline(self, timeout: timedelta, *, began: float | None = None) -> tuple[float, str]:
        """Return when a wait must end, and which argument says so.

        :param began: when it began; default now.
        """
        now = self.clock() if began is None else began
        if self.execution_timeout is not None and self.execution_timeout < timeout:
            return now + self.execution_timeout.total_seconds(), "execution_timeout"
        return now + timeout.total_seconds(), "timeout"

    def _new_wait(self, plan: WaitPlan, subject: Subject) -> PipelineWait:
        from airflow_provider_arroyo.monitoring.wait import PipelineWait

        return PipelineWait(plan, now=self.clock(), label=subject.label, has_answered=self._has_waited)

    def _watch(
        self,
        wait: PipelineWait,
        *,
        until: float | None = None,
        calm: Callable[[Verdict], bool] | None = None,
    ) -> Verdict:
        """Wait in the worker."""
        from airflow_provider_arroyo.hooks.waiting import watch

        try:
            return watch(
                self.hook.client,
                wait,
                clock=self.clock,
                poll_interval_seconds=self.poll_interval,
                log=self.log,
                until=until,
                calm=calm,
            )
        except AirflowTaskTimeout:
            # Airflow's own alarm for execution_timeout: said in the same words as in the triggerer.
            return wait.expire(self.clock(), "execution_timeout")

    def _defer_wait(
        self,
        wait: PipelineWait,
        subject: Subject,
        carry: Mapping[str, Any],
        *,
        on_kill: StopMode | None = None,
    ) -> NoReturn:
        """Hand the wait to the triggerer, with what was seen so far."""
        from airflow_provider_arroyo.triggers.pipelines import ArroyoPipelineTrigger

        plan = wait.plan
        left = timedelta(seconds=max(0.0, plan.deadline - self.clock()))
        self.log.info("%s: the wait goes on in the triggerer", subject.label)
        self.defer(
            trigger=ArroyoPipelineTrigger(
                arroyo_conn_id=self.arroyo_conn_id,
                plan=plan.to_dict(),
                poll_interval=self.poll_interval,
                label=subject.label,
                progress=wait.progress(),
                on_kill_mode=on_kill.value if on_kill else None,
                carry={**carry, "name": subject.name, "console_url": subject.console_url},
                server=self.hook.settings.base_url,
            ),
            method_name="execute_complete",
            timeout=left + BACKSTOP,
        )

    def _resume(self, event: Any) -> tuple[Verdict, Subject, Mapping[str, Any]]:
        """Read what the trigger said.

        :raises ArroyoTaskError: if it does not say how the wait ended. Never a silent success.
        """
        try:
            told = WaitEvent.from_dict(event)
        except UnreadableEventError as err:
            self._raise(ArroyoTaskError(str(err)), err)
        subject = Subject(
            pipeline_id=told.pipeline_id,
            name=told.carry.get("name"),
            console_url=told.carry.get("console_url"),
        )
        self._has_waited = True
        return told.verdict, subject, told.carry

    # -- the end ---------------------------------------------------------------------------------------------

    def _result(self, subject: Subject, job: Job | None, **more: Any) -> dict[str, Any]:
        """Return what the task leaves behind, the same keys in every mode, and say so in one line."""
        result = {
            "pipeline_id": subject.pipeline_id,
            "name": subject.name,
            "job_id": job.id if job else None,
            "state": str(job.state) if job else None,
            "run_id": job.run_id if job else None,
            "console_url": subject.console_url,
            **more,
        }
        self.log.info("Done: %s", result)
        return result

    def _fail(self, verdict: Verdict, subject: Subject) -> NoReturn:
        """Raise how a wait ended that did not reach its goal."""
        error = explain(verdict, subject, self._job_errors(verdict, subject))
        if verdict.outcome is Outcome.TIMED_OUT:
            self._raise(self._timeout_error(verdict, error), error)
        self._raise(task_error(error, self.arroyo_conn_id), error)

    def _timeout_error(self, verdict: Verdict, error: ArroyoError) -> BaseException:
        """Return what is raised when the time is up: Airflow's own error where its own limit said so."""
        if verdict.limit == "execution_timeout":
            return AirflowTaskTimeout(str(error))
        return task_error(error, self.arroyo_conn_id)

    def _job_errors(self, verdict: Verdict, subject: Subject) -> tuple[JobError, ...]:
        """Return the job's last errors, as far as they can be read; an error is told in any case."""
        if verdict.job is None or verdict.outcome not in (Outcome.FAILED, Outcome.TIMED_OUT):
            return ()
        if verdict.unreachable_seconds is not None:
            return ()
        try:
            return self.hook.job_errors(subject.pipeline_id, verdict.job.id, limit=5)
        except ArroyoError as err:
            self.log.warning("The job's errors cannot be read: %s", err)
            return ()

    def _show_link(self, context: Context, subject: Subject) -> None:
        if subject.console_url:
            ArroyoPipelineLink.push(context, subject.console_url)


def as_failure(verdict: Verdict, outcome: Outcome, wanted: tuple[str, ...]) -> Verdict:
    """Return a wait that reached its goal as the failure that this goal means to the task."""
    return replace(verdict, outcome=outcome, wanted=wanted)
