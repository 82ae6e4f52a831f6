"""The sensor that waits for a state of a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_arroyo.arroyo.models import JobState
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoUnreachableError
from airflow_provider_arroyo.links import ArroyoPipelineLink
from airflow_provider_arroyo.monitoring.explain import Subject
from airflow_provider_arroyo.monitoring.plan import WaitPlan, check_states
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict
from airflow_provider_arroyo.operators.arguments import (
    check_duration,
    check_one_of_id_and_name,
    is_final,
    is_reference,
    rendered_id_and_name,
)
from airflow_provider_arroyo.operators.base import DEFAULT_CONN_ID
from airflow_provider_arroyo.operators.waiting import BACKSTOP, WaitingTask

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.monitoring.wait import PipelineWait


LOOK_UP_SECONDS = 5.0
"""How long a pipeline is asked for before the wait for it begins all the same."""


class ArroyoPipelineSensor(WaitingTask, BaseSensorOperator):
    """Wait until a pipeline is in one of the wanted states. Looks only; changes nothing.

    It looks at once, then every ``poll_interval``, and logs each change once. ``Failing`` and ``Failed`` end
    it as an error at once, unless ``Failed`` is wanted; so does ``Finished`` unless it is wanted, since nothing
    leaves it. A ``Stopped`` pipeline may be resumed by somebody, so the sensor goes on waiting.

    :param pipeline_id: the pipeline. Templated. Either this or ``pipeline_name``.
    :param pipeline_name: its exact name instead; one that is alive goes before those at rest, and it is an
        error that lists them if several could be meant. Templated.
    :param target_states: names of states (wire strings or :class:`.JobState`), any of which ends the wait;
        default ``["Running"]``. Templated.
    :param stable_for: how long ``Running`` must last, in one run, before it counts; default 0.
    :param poll_interval: seconds between looks, default 0.1; in ``mode="reschedule"`` Airflow's own
        ``poke_interval`` says how often the task comes back.
    :param api_outage_tolerance: for how long Arroyo may be out of reach before the sensor fails, default 10
        minutes; a timedelta or seconds.
    :param arroyo_conn_id: the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :param defer_after: with ``deferrable``, seconds to wait in the worker first, default 0: one look.
    :param timeout: Airflow's own: how long it may last in all; the sensor then fails without a retry.
    :param soft_fail: Airflow's own: skip the task instead of failing it, here in every mode and for every
        error of Arroyo's or its pipelines.
    :return: ``pipeline_id, name, job_id, state, run_id, console_url``.
    :raises ValueError: on arguments out of range, before any call.
    :raises ArroyoTaskError: when the pipeline gets where it cannot be wanted, or Arroyo stays out of reach.
    :raises AirflowSensorTimeout: when the time is up.
    """

    template_fields: Sequence[str] = (
        "pipeline_id",
        "pipeline_name",
        "target_states",
        "arroyo_conn_id",
    )
    ui_color = "#e2f5df"
    operator_extra_links = (ArroyoPipelineLink(),)
    _execute_began: float | None = None
    _limit_seconds: float | None = None

    def __init__(
        self,
        *,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        target_states: Any = (JobState.RUNNING,),
        stable_for: timedelta | float = timedelta(0),
        poll_interval: float = 0.1,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        defer_after: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.poll_interval = check_duration(poll_interval, "poll_interval", positive=True).total_seconds()
        super().__init__(**kwargs)
        if not self.reschedule:
            # Only now, since the mode may come from the DAG's default_args.
            self.poke_interval = self.poll_interval
        check_one_of_id_and_name(pipeline_id, pipeline_name)
        self.pipeline_id = pipeline_id
        self.pipeline_name = pipeline_name
        self.target_states = _states_as_given(target_states)
        self.stable_for = check_duration(stable_for, "stable_for")
        self.api_outage_tolerance = check_duration(api_outage_tolerance, "api_outage_tolerance")
        self.arroyo_conn_id = arroyo_conn_id
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable
        self.defer_after = check_duration(defer_after, "defer_after").total_seconds()

    # -- the two ways of waiting -----------------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Wait: in the triggerer if ``deferrable``, else here, poke by poke."""
        self._execute_began, self._limit_seconds = self.clock(), float(self.timeout)
        if not self.deferrable:
            # Airflow's own time-out is the backstop: ours comes first, and says what was going on.
            self.timeout = self._limit_seconds + BACKSTOP.total_seconds()
            try:
                return super().execute(context)
            except AirflowTaskTimeout as err:
                # Airflow's own alarm for execution_timeout, between two looks.
                self._out_of_time(err)
            finally:
                self.timeout = self._limit_seconds
        with self._task_errors():
            wait, subject = self._begin(context)
            verdict = self._watch(wait, until=self.clock() + self.defer_after)
            if not verdict.is_over:
                self._defer_wait(wait, subject, {})
            return self._finish(verdict, subject)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on when the trigger has fired, with what it saw."""
        with self._task_errors():
            verdict, subject, _ = self._resume(event)
            return self._finish(verdict, subject)

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look once. A look that leaves the question open (an outage, a state that must last) looks on."""
        with self._task_errors():
            had_begun = bool(self._begun)
            wait, subject = self._poking(context)
            if had_begun and self.clock() >= wait.plan.deadline:
                # As in the triggerer, where the time is up without another look.
                return self._poked(wait.tick(self.clock()), subject)
            # A rescheduled task remembers nothing, so what takes several looks is seen to its end at once.
            verdict = self._watch(wait, until=None if self.reschedule else self.clock(), calm=self._is_calm)
            return self._poked(verdict, subject)

    def _poked(self, verdict: Verdict, subject: Subject) -> PokeReturnValue | bool:
        if not verdict.is_over:
            return False
        # With Airflow's silent_fail the next poke may do better.
        self._begun.clear()
        return PokeReturnValue(is_done=True, xcom_value=self._finish(verdict, subject))

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:
        """Let Airflow sleep until the deadline at most, which it looks at only after a poke."""
        usual = float(super()._get_next_poke_interval(*args, **kwargs))
        if self.reschedule or not self._begun:
            return usual
        return max(0.0, min(usual, self._begun[0][0].plan.deadline - self.clock()))

    def _is_calm(self, verdict: Verdict) -> bool:
        holding = (
            verdict.job is not None and verdict.job.state in verdict.wanted and verdict.job.running_desired
        )
        return verdict.unreachable_seconds is None and not holding

    # -- one wait --------------------------------------------------------------------------------------------

    @cached_property
    def _begun(self) -> list[tuple[PipelineWait, Subject]]:
        """The wait of this stretch of work, once its first poke has begun it."""
        return []

    def _poking(self, context: Context) -> tuple[PipelineWait, Subject]:
        if not self._begun:
            self._begun.append(self._begin(context))
        return self._begun[0]

    def _begin(self, context: Context) -> tuple[PipelineWait, Subject]:
        with self._rendered_arguments():
            pipeline_id, name = rendered_id_and_name(self.pipeline_id, self.pipeline_name)
            targets = check_states(self.target_states, "target_states")
        deadline, limit = self._sensor_deadline(context)
        # A poke that is followed by another one has had an answer.
        self._has_waited = self.reschedule and context["ti"].get_first_reschedule_date(context) is not None
        subject = self._named(str(name), deadline, limit) if pipeline_id is None else self._known(pipeline_id)
        self._show_link(context, subject)
        plan = WaitPlan(
            pipeline_id=subject.pipeline_id,
            targets=targets,
            deadline=deadline,
            limit=limit,
            stable_for=self.stable_for,
            outage_tolerance=self.api_outage_tolerance,
        )
        return self._new_wait(plan, subject), subject

    def _known(self, pipeline_id: str) -> Subject:
        """Return what there is to tell of a pipeline; its id alone while Arroyo is away, which the wait endures.

        :raises ArroyoNotFoundError: where there is none.
        """
        from airflow_provider_arroyo.arroyo import api

        limit = self.clock.monotonic(self.clock() + LOOK_UP_SECONDS)
        try:
            return self._subject(self.hook.client.call(api.get_pipeline(pipeline_id), deadline=limit))
        except ArroyoError as err:
            if not err.may_pass(has_answered=self._has_waited):
                raise
            self.log.warning("Arroyo cannot be reached, so the wait begins without a look: %s", err)
            return Subject(pipeline_id=pipeline_id, console_url=self.hook.console_url(pipeline_id))

    def _named(self, name: str, deadline: float, limit: str) -> Subject:
        """Return the pipeline of a name.

        :raises AirflowSensorTimeout: when Arroyo could not be asked in time.
        """
        from airflow_provider_arroyo.arroyo.listing import resolve_name

        try:
            return self._subject(resolve_name(self._patient(deadline=deadline), name))
        except ArroyoUnreachableError as err:
            if not err.is_out_of_time:
                raise
            self._raise(self._timeout_error(Verdict(outcome=Outcome.TIMED_OUT, limit=limit), err), err)

    def _out_of_time(self, alarm: BaseException) -> NoReturn:
        """Raise what Airflow's alarm means, in the same words as while looking."""
        if not self._begun:
            self._raise(AirflowTaskTimeout(f"execution_timeout ({self.execution_timeout}) is over"), alarm)
        wait, subject = self._begun[0]
        with self._task_errors():
            self._fail(wait.expire(self.clock(), "execution_timeout"), subject)

    def _sensor_deadline(self, context: Context) -> tuple[float, str]:
        seconds = float(self.timeout) if self._limit_seconds is None else self._limit_seconds
        deadline, limit = self._deadline(timedelta(seconds=seconds), began=self._execute_began)
        if self.reschedule and not self.deferrable:
            first = context["ti"].get_first_reschedule_date(context)
            if first is not None:
                since_first = first.timestamp() + seconds
                if since_first < deadline:
                    return since_first, "timeout"
        return deadline, limit

    def _finish(self, verdict: Verdict, subject: Subject) -> dict[str, Any]:
        if verdict.outcome is not Outcome.REACHED:
            self._fail(verdict, subject)
        return self._result(subject, verdict.job)

    # -- how it ends -----------------------------------------------------------------------------------------

    def _timeout_error(self, verdict: Verdict, error: ArroyoError) -> BaseException:
        if verdict.limit == "execution_timeout":
            return AirflowTaskTimeout(str(error))
        return AirflowSensorTimeout(str(error))

    def _raise(self, error: BaseException, cause: BaseException) -> NoReturn:
        """Raise what ends the task; a skip where ``soft_fail`` or ``never_fail`` asks for one, in every mode.

        Airflow itself makes a skip of other errors while poking than after a deferral.
        """
        if (self.soft_fail or self.never_fail) and isinstance(error, AirflowException | AirflowTaskTimeout):
            raise AirflowSkipException(str(error)) from error
        raise error from cause


def _states_as_given(names: Any) -> Any:
    """Return names of states for a templated field: plain strings, which render and serialise like any other.

    :raises ValueError: on one that is known already and wrong.
    """
    if is_reference(names):
        return names
    if not isinstance(names, Iterable):
        raise ValueError(f"target_states must be names of states, got {names!r}")
    given = names if isinstance(names, str) else [name if is_reference(name) else str(name) for name in names]
    final = [name for name in ([given] if isinstance(given, str) else given) if is_final(name)]
    if final or not given:
        check_states(final, "target_states")
    return given
