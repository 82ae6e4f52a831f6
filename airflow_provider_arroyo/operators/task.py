"""What all tasks that wait for a pipeline share: client, polling, deferral, resuming, errors and results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError, task_error
from airflow_provider_arroyo.links import pipeline_xcoms
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.connected import ConnectedTask, TaskEnd, hidden
from airflow_provider_arroyo.operators.deferral import AIRFLOW_GRACE, deferral_hold_seconds
from airflow_provider_arroyo.text import duration

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.details import JobError
    from airflow_provider_arroyo.client.enums import StopMode
    from airflow_provider_arroyo.client.models import FailureReason, Job
    from airflow_provider_arroyo.monitoring.diagnosis import Diagnosis
    from airflow_provider_arroyo.monitoring.event import WaitEvent
    from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

P = ParamSpec("P")
T = TypeVar("T")
Task = TypeVar("Task", bound="ArroyoTask")

DEFAULT_CONN_ID = "arroyo_default"

_EXAMINED = (Outcome.FAILED, Outcome.FLAPPING, Outcome.STOPPED, Outcome.TIMED_OUT)
"""The outcomes for which the error shows the job's last errors or a diagnosis."""


def entry_point(method: Callable[Concatenate[Task, P], T]) -> Callable[Concatenate[Task, P], T]:
    """Wrap a method of a task that Airflow calls.

    It keeps the context, and the result for lineage, raises errors as Airflow expects them, and sends the metrics.
    """

    @wraps(method)
    def wrapper(task: Task, /, *args: P.args, **kwargs: P.kwargs) -> T:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Mapping) and "ti" in value:  # the context
                task._given_context = hidden(value)
        try:
            result = method(task, *args, **kwargs)
            task._returned = hidden(result)
            return result
        except BaseException as err:
            error = task._task_error(err)
            if error is err and err is not task._raised:
                raise
        finally:
            task._emit_stats()
        # Without the frames below: the message is enough, and the log shows it once.
        task._raised = error
        raise error.with_traceback(None) from None

    return wrapper


class ArroyoTask(ConnectedTask):
    """Mixin for the operators and sensors; ``poll_interval`` and ``defer_after`` are in seconds."""

    poll_interval: float
    deferrable: bool
    defer_after: float
    execution_timeout: timedelta | None
    defer: Callable[..., NoReturn]
    execute: Callable[..., Any]
    _step = "This task"
    """What the task does before its wait begins; shown if ``execution_timeout`` is reached."""
    _returned: Callable[[], Any] | None = None
    """Returns the task's result, as soon as it has one."""
    _raised: BaseException | None = None
    _is_timed_out = False
    """Whether Airflow's own alarm for ``execution_timeout`` has ended the task."""
    _results: tuple[WaitResult, ...] = ()
    """Results of waits that have ended or left the worker, whose metrics are not sent yet."""
    _seen_earlier: Sequence[Any] = ()
    """The transitions that earlier waits of this task saw."""
    _seen: Sequence[Any] = ()
    """These, and those that this wait has seen so far."""
    _pipeline: PipelineRef | None = None
    """The task's pipeline, once it is known."""
    _is_resumed = False
    """Whether the task was deferred before, in another process."""

    # -- errors ----------------------------------------------------------------------------------------------

    def _task_error(self, error: BaseException) -> BaseException:
        """Return the exception that the task raises for an error; an error that is not ours is returned unchanged."""
        if error is self._raised:
            return error
        if isinstance(error, TaskEnd):
            error = error.error
        elif isinstance(error, ArroyoError):
            error = task_error(error, self.arroyo_conn_id, self._context.get("ti"))
        elif isinstance(error, AirflowTaskTimeout) and self.execution_timeout is not None:
            # Airflow's own alarm, whose message says only that the time is over. Airflow calls on_kill next.
            self._is_timed_out = True
            limit = duration(self.execution_timeout.total_seconds())
            error = AirflowTaskTimeout(
                f"{self._step} was not completed within {limit} (execution_timeout). "
                "Check the server and the connection, or allow more time."
            )
        return self._as_raised(error)

    def _as_raised(self, error: BaseException) -> BaseException:
        """Return the exception to raise for an error; sensors may return a skip instead."""
        return error

    # -- the pipeline ----------------------------------------------------------------------------------------

    def _show_link(self, pipeline: PipelineRef) -> None:
        """Show the task's pipeline now, not only when the task ends, because it may fail."""
        self._pipeline = pipeline
        for key, value in pipeline_xcoms(pipeline).items():
            self._ti.xcom_push(key=key, value=value)

    @property
    def has_stored_pipeline(self) -> bool:
        """Whether the XComs that identify the task's pipeline may exist; for :mod:`.links`."""
        return self._pipeline is not None or self._is_resumed

    def _log_begin(self, what: str, pipeline: PipelineRef, *, level: int = logging.INFO) -> None:
        where = pipeline.short, pipeline.pipeline_id, pipeline.console_url
        self.log.log(level, "%s: %s, id %s, %s", what, *where)

    # -- waiting ---------------------------------------------------------------------------------------------

    def _limits(self, timeout: timedelta, began: float | None = None) -> dict[str, Any]:
        """Return the fields of a :class:`.WaitPlan` that limit a wait of this task.

        :param timeout: how long the wait may take.
        :param began: when ``timeout`` began to count, default now. ``execution_timeout`` always counts from now,
            because Airflow restarts it for each stretch of work.
        """
        now = self.clock()
        ends = [((now if began is None else began) + timeout.total_seconds(), "timeout")]
        if self.execution_timeout is not None:
            ends.append((now + self.execution_timeout.total_seconds(), "execution_timeout"))
        deadline, argument = min(ends, key=lambda end: end[0])
        tolerance = self.api_outage_tolerance
        return {"deadline": deadline, "deadline_argument": argument, "outage_tolerance": tolerance}

    def _new_wait(self, plan: WaitPlan, began: float | None = None, **more: Any) -> PipelineWait:
        """Return a new wait, which began at a time of the clock, default now."""
        from airflow_provider_arroyo.monitoring.wait import PipelineWait

        has_responded = self._has_waited or self._shared_client().has_responded
        now = self.clock() if began is None else began
        return PipelineWait(plan, now=now, has_responded=has_responded, **more)

    def _poll(
        self,
        wait: PipelineWait,
        *,
        until: float | None = None,
        stop_when: Callable[[WaitResult], bool] | None = None,
    ) -> WaitResult:
        """Wait in the worker."""
        from airflow_provider_arroyo.polling.poll import poll_until

        pipeline = wait.plan.pipeline

        def resolve(client: ArroyoClient) -> PipelineRef:
            return self._ref(self._resolve_name(client, str(pipeline.name)))

        try:
            result = poll_until(
                self._shared_client(),
                wait,
                clock=self.clock,
                interval_seconds=self.poll_interval,
                log=self.log,
                resolve=None if pipeline.pipeline_id else resolve,
                on_found=self._show_link,
                until=until,
                stop_when=stop_when,
            )
        except AirflowTaskTimeout:
            # Airflow's own alarm for execution_timeout: reported in the same words as in the triggerer.
            result = wait.expire(self.clock(), "execution_timeout")
        self._push_transitions(result)
        if result.is_over or stop_when is not None:
            # Otherwise the wait continues in the triggerer, which gets the counts.
            self._results = (*self._results, result)
        return result

    def _push_transitions(self, result: WaitResult) -> None:
        """Push the transitions that the task has seen so far, in all its waits."""
        from airflow_provider_arroyo.links import TRANSITIONS_XCOM_KEY
        from airflow_provider_arroyo.monitoring.result import MAX_TRANSITIONS

        seen = [*self._seen_earlier, *(one.to_dict() for one in result.transitions)]
        self._seen = seen[-MAX_TRANSITIONS:]
        if self._seen:
            self._ti.xcom_push(key=TRANSITIONS_XCOM_KEY, value=self._seen)

    def _defers_at(self, wait: PipelineWait) -> float | None:
        """Return when the wait moves to the triggerer; None if it stays in the worker.

        It also stays if it must end before a deferred task may resume: a success would be held until after the
        deadline, and a timeout would come late.
        """
        if not self.deferrable:
            return None
        at = self.clock() + self.defer_after
        return at if at + deferral_hold_seconds() < wait.plan.deadline else None

    def _defer_wait(
        self,
        wait: PipelineWait,
        resume_context: Mapping[str, Any],
        *,
        stop_on_kill: StopMode | None = None,
        **more: Any,
    ) -> NoReturn:
        """Move the wait to the triggerer, with everything seen so far."""
        from airflow_provider_arroyo.monitoring.event import Hold
        from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineTrigger
        from airflow_provider_arroyo.triggers.progress import PROGRESS_XCOM_KEY, keep_interval, progress_note

        now = self.clock()
        hold = Hold(deferred_at=now, seconds=deferral_hold_seconds())
        left = timedelta(seconds=max(0.0, wait.plan.deadline - now) + hold.seconds)
        self.log.info("Waiting in the triggerer: %s", wait.plan.pipeline.short)
        if keep_interval(wait) is not None:
            # The first trigger also reads this key, and Airflow logs an error if it is missing.
            self._ti.xcom_push(key=PROGRESS_XCOM_KEY, value=progress_note(self._ti, wait.progress.to_dict()))
        self.defer(
            trigger=ArroyoPipelineTrigger(
                arroyo_conn_id=self.arroyo_conn_id,
                plan=wait.plan.to_dict(),
                poll_interval=self.poll_interval,
                progress=wait.progress.to_dict(),
                stop_on_kill=stop_on_kill.value if stop_on_kill else None,
                resume_context=dict(resume_context),
                server=self.hook.settings.server,
                hold=hold.to_dict(),
                **more,
            ),
            method_name="execute_complete",
            timeout=left + AIRFLOW_GRACE,
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; start from the beginning if the trigger has not fired.

        This happens if a task is cleared just while it defers: Airflow resumes its new try without an event.

        :returns: the task's result.
        """
        if next_method == "execute_complete" and "event" not in (next_kwargs or {}):
            self.log.info("Airflow resumed this task although its trigger has not fired. It starts over")
            # Airflow's own wrapper would warn that its task runner did not call it.
            execute = type(self).execute
            return getattr(execute, "__wrapped__", execute)(self, context)
        self._is_resumed = True
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]  # Airflow's

    def _resume(self, event: Any) -> WaitEvent:
        """Read the trigger's event. If it does not say how the wait ended, that is an error, never a silent
        success.
        """
        from airflow_provider_arroyo.monitoring.event import UnreadableEventError, WaitEvent

        try:
            ended = WaitEvent.from_dict(event)
        except UnreadableEventError as err:
            raise TaskEnd(ArroyoTaskError(str(err))) from err
        self._has_waited, self._server, self._pipeline = True, ended.server, ended.pipeline
        self._results, self._seen_earlier = (ended.result,), ended.resume_context.get("seen", ())
        self._push_transitions(ended.result)
        return ended

    # -- the end ---------------------------------------------------------------------------------------------

    def _emit_stats(self) -> None:
        """Send the metrics recorded since the last call; if that fails, the task does not."""
        results, self._results = self._results, ()
        try:
            from airflow_provider_arroyo.operators.stats import emit

            client = vars(self.hook).get("client") if "hook" in vars(self) else None
            counts = client.counts.take() if client is not None else None
            emit(results, counts, operator=type(self).__name__, connection=str(self.arroyo_conn_id))
        except Exception as err:  # noqa: BLE001  # Airflow's backends for stats may raise anything
            self.log.debug("The metrics cannot be sent: %r", err)

    def _result(self, pipeline: PipelineRef, job: Job | None, **more: Any) -> dict[str, Any]:
        """Return the task's result, with the same keys in every mode, and log it."""
        from airflow_provider_arroyo.monitoring.messages import done
        from airflow_provider_arroyo.monitoring.result import result_values

        self.log.info("%s", done(pipeline, job, **more))
        return result_values(pipeline, job, **more)

    def _fail(self, result: WaitResult, pipeline: PipelineRef, *, advice: str | None = None) -> NoReturn:
        """Raise the error of a wait that did not reach its goal.

        :param result: the result of the wait.
        :param pipeline: its pipeline.
        :param advice: what to do next, if the task knows better than the wait; default None.
        """
        from airflow_provider_arroyo.monitoring.explain import explain

        error = explain(result, pipeline, *self._examined(result, pipeline), advice=advice)
        if result.outcome is Outcome.TIMED_OUT:
            raise TaskEnd(self._timeout_error(result, error))
        raise error

    def _timeout_error(self, result: WaitResult, error: ArroyoError) -> BaseException:
        """Return the exception for a timeout: Airflow's own if Airflow's own limit was reached."""
        if result.deadline_argument == "execution_timeout":
            return AirflowTaskTimeout(str(error))
        return task_error(error, self.arroyo_conn_id, self._context.get("ti"))

    def _examined(
        self, result: WaitResult, pipeline: PipelineRef
    ) -> tuple[tuple[JobError, ...], Diagnosis | None, FailureReason | None]:
        """Return the job's last errors, a diagnosis, and the reason of a failure, as far as they can be read.

        One round of requests, a few seconds at most; the task's error is raised in any case.
        """
        if result.job is None or result.outcome not in _EXAMINED or result.is_outage:
            return (), None, None
        from airflow_provider_arroyo.evidence import gather_for_error
        from airflow_provider_arroyo.monitoring.diagnosis import diagnose

        try:
            evidence = gather_for_error(self._shared_client(), pipeline, result.job)
            for reason in list(evidence.unread.values())[:1]:
                self.log.warning("Not everything about the pipeline can be read: %s", reason)
            return evidence.errors, diagnose(evidence), evidence.jobs[-1].failure
        except (Exception, AirflowTaskTimeout) as err:  # noqa: BLE001  # nothing must stand in the way of the error
            self.log.warning("The pipeline cannot be diagnosed: %r", err)
            return (), None, None
