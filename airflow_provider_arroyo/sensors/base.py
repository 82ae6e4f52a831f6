"""The base class of the sensors: their common arguments, and the three ways to wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_arroyo.client.checks import check_bool, check_duration
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.hooks.errors import (
    ArroyoFatalTaskError,
    ArroyoTaskError,
    TaskDeferralError,
)
from airflow_provider_arroyo.links import ArroyoPageLink, ArroyoPipelineLink
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.arguments import (
    IF_MISSING_OF_OPERATORS,
    IF_MISSING_OF_SENSORS,
    check_choice,
    check_one_of_id_and_name,
    rendered_id_and_name,
)
from airflow_provider_arroyo.operators.connected import TaskEnd
from airflow_provider_arroyo.operators.deferral import deferrable_or_default
from airflow_provider_arroyo.operators.task import ArroyoTask, entry_point
from airflow_provider_arroyo.sensors.end_from_trigger import check_end_from_trigger, take_result_back
from airflow_provider_arroyo.sensors.pokes import PokeMemory, may_reschedule
from airflow_provider_arroyo.text import duration

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

_LAST_MOMENT_SECONDS = 0.2
"""A rescheduled task always takes longer than this to come back."""

_AIRFLOW_POKE_SECONDS = 60.0
"""Airflow's own default of ``poke_interval``."""

_FAILURES = (ArroyoTaskError, ArroyoFatalTaskError, AirflowSensorTimeout, AirflowTaskTimeout)


class ArroyoSensor(ArroyoTask, BaseSensorOperator):
    """The base class of the sensors: they wait for a pipeline in the worker, rescheduled or in the triggerer.

    The sensors document the arguments and define the defaults themselves, so that editors and type checkers show
    them.
    """

    ui_color = "#e2f5df"
    operator_extra_links: Collection[BaseOperatorLink] = (ArroyoPipelineLink(), ArroyoPageLink())
    _began: float | None = None
    _first_poke: float | None = None
    """In a later poke: when the first poke was, in seconds since the epoch."""

    def __init__(
        self,
        *,
        pipeline_id: str | None,
        pipeline_name: str | None,
        if_missing: str | None,
        poll_interval: timedelta | float,
        poke_interval: timedelta | float | None,
        api_outage_tolerance: timedelta | float,
        arroyo_conn_id: str,
        deferrable: bool | None,
        defer_after: timedelta | float,
        end_from_trigger: bool,
        **kwargs: Any,
    ) -> None:
        # Airflow's own checks of these three differ between versions, raise other errors and accept NaN.
        if poke_interval is not None:
            polls = kwargs.get("mode") != "reschedule"
            poke_interval = check_duration(poke_interval, "poke_interval", positive=polls).total_seconds()
        if "timeout" in kwargs:
            kwargs["timeout"] = check_duration(kwargs["timeout"], "timeout").total_seconds()
        if kwargs.get("max_wait") is not None:
            kwargs["max_wait"] = check_duration(kwargs["max_wait"], "max_wait")
        super().__init__(
            poke_interval=_AIRFLOW_POKE_SECONDS if poke_interval is None else poke_interval, **kwargs
        )
        self.poll_interval = check_duration(poll_interval, "poll_interval", positive=True).total_seconds()
        if poke_interval is not None and not self.reschedule:
            self.poll_interval = poke_interval
        check_one_of_id_and_name(pipeline_id, pipeline_name)
        if if_missing is not None:
            check_choice(if_missing, "if_missing", IF_MISSING_OF_SENSORS, IF_MISSING_OF_OPERATORS)
        self.if_missing = if_missing
        self.pipeline_id = pipeline_id
        self.pipeline_name = pipeline_name
        self.api_outage_tolerance = check_duration(api_outage_tolerance, "api_outage_tolerance")
        self.arroyo_conn_id = arroyo_conn_id
        self.deferrable = deferrable_or_default(deferrable)
        self.defer_after = check_duration(defer_after, "defer_after").total_seconds()
        self.end_from_trigger = check_bool(end_from_trigger, "end_from_trigger")
        check_end_from_trigger(self)

    def _goal(self, limits: Mapping[str, Any], began: float | None) -> dict[str, Any]:
        """Return the goal of the wait, as fields of a :class:`.WaitPlan`, from the rendered arguments.

        :param limits: the fields that limit the wait.
        :param began: when the wait began, if that was in an earlier poke or try; otherwise None.
        :raises ValueError: if a rendered argument is out of range; names it.
        """
        raise NotImplementedError

    # -- the three ways to wait --------------------------------------------------------------------------------

    @entry_point
    def execute(self, context: Context) -> Any:
        """Wait in the triggerer if ``deferrable``, otherwise in the worker, in one stretch or rescheduled.

        :returns: the task's result.
        """
        if self.deferrable:
            return self._wait_deferred()
        if self.reschedule:
            return super().execute(context)
        if self.silent_fail:
            return self._wait_silently()
        return self._wait_here()

    def _wait_here(self, began: float | None = None) -> dict[str, Any]:
        wait = self._begin(began)
        return self._finish(self._poll(wait), wait.plan.pipeline)

    def _wait_silently(self) -> dict[str, Any]:
        """Log errors that another try may fix, and try again until ``timeout``, as ``silent_fail`` requires."""
        began = self.clock()
        while True:
            try:
                return self._wait_here(began)
            except TaskEnd:
                raise
            except Exception as err:
                if getattr(err, "is_fatal", False):
                    raise
                left = began + float(self.timeout) - self.clock()
                if left <= 0:
                    what = f"Timed out (timeout: {duration(float(self.timeout))}). The last try failed: {err}"
                    raise TaskEnd(AirflowSensorTimeout(what)) from err
                self.log.error("%s", err)
                time.sleep(min(self.poke_interval, left))

    def _wait_deferred(self) -> dict[str, Any]:
        # Checked again: a task may have got an outlet or a callback since its constructor ran.
        check_end_from_trigger(self, is_running=True)
        wait = self._begin()
        result = self._poll(wait, until=self._defers_at(wait))
        if not result.is_over:
            pipeline, is_named = wait.plan.pipeline, self.pipeline_name is not None
            may_mean_another = is_named and (wait.progress.job is None or wait.may_be_replaced)
            self._defer_wait(
                wait,
                {},
                end_from_trigger=self.end_from_trigger,
                push_result=bool(self.do_xcom_push),
                name_rule=self._name_rule(str(pipeline.name)) if may_mean_another else None,
            )
        return self._finish(result, wait.plan.pipeline)

    @entry_point
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; an error of the triggerer itself is handled like any other.

        :returns: the task's result.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (AirflowSensorTimeout, TaskDeferralError) as err:
            if err is self._raised:
                raise
            take_result_back(self)
            # Airflow's own error for the deferral says the same as the error that caused it.
            raise TaskEnd(type(err)(*err.args)) from err

    @entry_point
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Resume with the trigger's event.

        :returns: the task's result.
        """
        ended = self._resume(event)
        if self.pipeline_id is None and ended.pipeline.pipeline_id:
            # The triggerer may have found the pipeline without being able to show it.
            self._show_link(ended.pipeline)
        if ended.result.outcome is not Outcome.REACHED:
            take_result_back(self)
        return self._finish(ended.result, ended.pipeline)

    @entry_point
    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Poll once, for ``mode="reschedule"``; poll longer in an outage, or for a state that must last.

        :returns: the task's result once the wait is over, else False.
        """
        memory = PokeMemory(self._state_store, self._ti)
        wait = self._begin(memory=memory)
        result = self._poll(wait, stop_when=partial(may_reschedule, wait))
        memory.keep(wait, result, self.log)
        argument = wait.plan.deadline_argument
        if argument == "timeout" and self.clock() >= wait.plan.deadline - _LAST_MOMENT_SECONDS:
            # Airflow would end it next, without saying what happened.
            result = wait.expire(self.clock(), argument)
            self._results = (result,)
        if not result.is_over:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._finish(result, wait.plan.pipeline))

    def _name_rule(self, name: str, *, is_changed: bool = False) -> dict[str, Any]:
        rule = super()._name_rule(name, is_changed=is_changed)
        if self._first_poke is not None and self._state_store is None:
            # Only this tells which pipeline the first poke saw.
            rule["polled_micros"] = int(self._first_poke * 1e6)
        return rule

    # -- one wait ----------------------------------------------------------------------------------------------

    def _begin(self, began: float | None = None, *, memory: PokeMemory | None = None) -> PipelineWait:
        """Return a wait for the pipeline, which is looked up.

        :param began: when the wait began, if that was in an earlier stretch of work; default None: it begins now.
        :param memory: what earlier pokes saw; default None: this is no poke.
        """
        from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan

        # An outage counts from here, including the look-up of the pipeline.
        now = self.clock()
        with self._rendered_arguments():
            pipeline_id, name = rendered_id_and_name(self.pipeline_id, self.pipeline_name)
        self._step = f"Looking up pipeline {pipeline_id or name!r}"
        earlier: PokeMemory | None = None
        if memory is not None and (first := self._ti.get_first_reschedule_date(self._context)) is not None:
            # A poke that is followed by another one had a response.
            began, self._has_waited = first.timestamp(), True
            self._first_poke, earlier = began, memory
        self._began = now if began is None else began
        may_be_missing = self.if_missing == "wait" if self.if_missing else pipeline_id is None
        known_id = pipeline_id or self._note(str(name)).get("pipeline_id")
        if earlier is not None and known_id and earlier.pipeline.pipeline_id == known_id:
            # A pipeline that an earlier poke saw must exist.
            pipeline_id, may_be_missing = known_id, False
        limits = self._limits(timedelta(seconds=float(self.timeout)), began)
        with self._rendered_arguments():
            plan = WaitPlan(
                pipeline=PipelineRef(pipeline_id=pipeline_id or "", name=name),
                may_be_missing=may_be_missing,
                **limits,
                **self._goal(limits, began),
            )
        failed: ArroyoError | None = None
        if pipeline_id is not None:
            # An earlier poke saw a pipeline that was deleted since; the wait reports this, alike in every mode.
            may_be_gone = may_be_missing or earlier is not None
            pipeline, failed = self._look_up(pipeline_id, limits["deadline"], may_be_missing=may_be_gone)
            if pipeline.name is None and earlier is not None:
                pipeline = replace(pipeline, name=earlier.pipeline.name)
            self._show_link(pipeline)
            plan = replace(plan, pipeline=pipeline)
            level = logging.INFO if earlier is None else logging.DEBUG
            self._log_begin(f"Waiting for {plan.goal}", pipeline, level=level)
        # A name is looked up as part of polling, since there may be no such pipeline yet.
        wait = self._new_wait(plan, now, earlier=None if earlier is None else earlier.progress(plan, now))
        if failed is not None:
            # The wait retries this like a failed poll, and its outage has begun.
            wait.observe_error(failed, self.clock(), sent_at=now)
        return wait

    def _finish(self, result: WaitResult, pipeline: PipelineRef) -> dict[str, Any]:
        if result.outcome is Outcome.TIMED_OUT and result.deadline_argument == "timeout" and self._began:
            # Include what was seen before this stretch of work; a rescheduled task remembers no states of it.
            in_state = 0.0 if self.reschedule and not self.deferrable else result.state_seconds
            waited = self.clock() - self._began
            result = replace(result, waited_seconds=waited, state_seconds=in_state)
        if result.outcome is not Outcome.REACHED:
            self._fail(result, pipeline)
        if pipeline.name is None:
            # It did not exist at the look-up, or Arroyo was unreachable.
            with suppress(ArroyoError):
                pipeline, _ = self._look_up(pipeline.pipeline_id, self.clock())
                self._show_link(pipeline)
        return self._result(pipeline, result.job, **result.facts)

    # -- the end -----------------------------------------------------------------------------------------------

    def _timeout_error(self, result: WaitResult, error: ArroyoError) -> BaseException:
        if result.deadline_argument == "execution_timeout":
            return AirflowTaskTimeout(str(error))
        return AirflowSensorTimeout(str(error))

    def _as_raised(self, error: BaseException) -> BaseException:
        """Return a skip if ``soft_fail`` or ``never_fail`` is set, in every mode and for every error.

        Airflow itself skips for different errors while poking and after a deferral.
        """
        if self.soft_fail or self.never_fail:
            is_failure = isinstance(error, _FAILURES)
            # never_fail skips on every error; Airflow's other exceptions, such as a reschedule, are not errors.
            is_other = isinstance(error, Exception) and not isinstance(error, AirflowException)
            if is_failure or (self.never_fail and is_other):
                return cast("BaseException", AirflowSkipException(str(error)))
        return error
