"""What the operators share: the arguments of a wait, its two halves, and what happens when a task is ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_arroyo.arroyo.models import StopMode
from airflow_provider_arroyo.hooks.compat import TaskDeferralError, TaskDeferralTimeout
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.links import ArroyoPipelineLink
from airflow_provider_arroyo.monitoring.explain import Subject
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict, job_from_dict
from airflow_provider_arroyo.monitoring.watched import Watched, how_to_stop
from airflow_provider_arroyo.operators.arguments import check_duration
from airflow_provider_arroyo.operators.waiting import WaitingTask

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.arroyo.models import Job
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

DEFAULT_CONN_ID = "arroyo_default"


class WaitingOperator(WaitingTask, BaseOperator):
    """What the operators share: their waiting arguments, and the two halves of a wait that may defer.

    :param arroyo_conn_id: the Airflow connection, default ``arroyo_default``. Templated.
    :param timeout: how long the wait may last in all, deferred or not; a timedelta or seconds.
    :param poll_interval: seconds between looks, default 0.1.
    :param defer_after: with ``deferrable``, seconds to wait in the worker before the wait moves to the
        triggerer, default 15; a deferral costs two to three seconds, and a pipeline mostly starts in less.
    :param api_outage_tolerance: for how long Arroyo may be out of reach before the task fails, default 10
        minutes; a timedelta or seconds. The pipeline is untouched by that.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    """

    operator_extra_links = (ArroyoPipelineLink(),)
    on_kill_mode: StopMode | None = None
    _waiting: PipelineWait | None = None
    _has_failed = False
    _ti: Any = None

    def __init__(
        self,
        *,
        arroyo_conn_id: str,
        timeout: timedelta | float,
        poll_interval: float,
        defer_after: float,
        api_outage_tolerance: timedelta | float,
        deferrable: bool | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arroyo_conn_id = arroyo_conn_id
        self.timeout = check_duration(timeout, "timeout")
        self.poll_interval = check_duration(poll_interval, "poll_interval", positive=True).total_seconds()
        self.defer_after = check_duration(defer_after, "defer_after").total_seconds()
        self.api_outage_tolerance = check_duration(api_outage_tolerance, "api_outage_tolerance")
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable

    def _wait(
        self, context: Context, plan: WaitPlan, subject: Subject, carry: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Wait, and return the task's result; with ``deferrable``, from ``defer_after`` on in the triggerer."""
        self._ti = context["ti"]
        wait = self._new_wait(plan, subject)
        if self.on_kill_mode is not None:
            self._note(subject, wait.job)
        self._waiting = wait
        until = self.clock() + self.defer_after if self.deferrable else None
        verdict = self._watch(wait, until=until)
        if not verdict.is_over:
            self._note(subject, wait.job)
            self._defer_wait(wait, subject, carry, on_kill=self.on_kill_mode)
        result = self._finish(verdict, subject, carry)
        self._waiting = None
        return result

    def _note(self, subject: Subject, job: Job | None, *, is_over: bool = False) -> None:
        """Note what is waited for where a later half of this task finds it, and what kills it."""
        from airflow_provider_arroyo.hooks.letting_go import note_wait

        note_wait(self._ti, subject, job, is_over=is_over)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on when the trigger has fired, with what it saw."""
        self._ti = context["ti"]
        with self._task_errors():
            verdict, subject, carry = self._resume(event)
            if self.on_kill_mode is not None:
                self._note(subject, verdict.job, is_over=True)
            return self._finish(verdict, subject, carry)

    def _finish(self, verdict: Verdict, subject: Subject, carry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the task's result, or raise how it failed."""
        raise NotImplementedError

    # -- letting go ------------------------------------------------------------------------------------------

    def on_kill(self) -> None:
        """See to the pipeline when Airflow kills the task in the worker: it goes on unless ``on_kill`` was given."""
        if self._has_failed:
            # Airflow's own alarm ends here too, after the error has seen to the pipeline.
            return
        if self._waiting is None:
            self.log.info("This task was interrupted while it waited for no pipeline; nothing was stopped")
            return
        wait, self._waiting = self._waiting, None
        self._let_go(
            Watched(pipeline_id=wait.plan.pipeline_id, label=wait.label, job=wait.job), is_timeout=False
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; where the deferral itself failed, see to the pipeline and say what became of it."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout) as err:
            self._ti = context["ti"]
            from airflow_provider_arroyo.hooks.letting_go import noted_wait

            told = noted_wait(self._ti)
            subject = Subject(pipeline_id=str(told.get("pipeline_id", "")), name=told.get("name"))
            job = job_from_dict(told["job"]) if told.get("job") else None
            watched = Watched(pipeline_id=subject.pipeline_id, label=subject.label, job=job)
            if isinstance(err, TaskDeferralTimeout) and subject.pipeline_id:
                self._let_go(watched, is_timeout=True)
            elif subject.pipeline_id:
                # What broke is the watching, of a pipeline that may be well; on_kill is for a task that ends.
                self.log.info("%s", how_to_stop(watched))
            raise ArroyoTaskError(
                f"The wait for {subject.label} broke off in the triggerer: {err}. "
                "Look at the triggerer's log, then clear this task; it takes up the same pipeline."
            ) from err

    def _fail(self, verdict: Verdict, subject: Subject) -> NoReturn:
        self._waiting, self._has_failed = None, True
        if verdict.outcome is Outcome.TIMED_OUT:
            watched = Watched(pipeline_id=subject.pipeline_id, label=subject.label, job=verdict.job)
            self._let_go(watched, is_timeout=True)
        super()._fail(verdict, subject)

    def _let_go(self, watched: Watched, *, is_timeout: bool) -> None:
        from airflow_provider_arroyo.arroyo.client import ArroyoClient
        from airflow_provider_arroyo.hooks.letting_go import let_go

        try:
            # Its own: the signal that led here may have interrupted the other one in the middle of a call.
            client = ArroyoClient(self.hook.settings)
        except ValueError as err:
            self.log.error("Arroyo cannot be asked for anything: %s. %s", err, how_to_stop(watched))
            return
        with client:
            let_go(
                client=client,
                watched=watched,
                mode=self.on_kill_mode,
                ti=self._ti,
                is_timeout=is_timeout,
                log=self.log,
            )
