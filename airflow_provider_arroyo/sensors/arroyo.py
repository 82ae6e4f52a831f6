"""The sensor that waits for a state of a pipeline."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
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

from airflow_provider_arroyo.client.checks import (
    check_bool,
    check_duration,
    check_max_restarts,
    check_restart_window,
)
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError, Disposition
from airflow_provider_arroyo.hooks.errors import (
    ArroyoFatalTaskError,
    ArroyoTaskError,
    TaskDeferralError,
)
from airflow_provider_arroyo.links import ArroyoPageLink, ArroyoPipelineLink
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan, check_states, is_wanted
from airflow_provider_arroyo.operators.arguments import (
    check_choice,
    check_one_of_id_and_name,
    check_until_checkpoint,
    is_final,
    is_reference,
    rendered_id_and_name,
)
from airflow_provider_arroyo.operators.deferral import deferrable_or_default, keeps_task_state
from airflow_provider_arroyo.operators.task import (
    DEFAULT_CONN_ID,
    ArroyoTask,
    TaskEnd,
    raises_task_errors,
)
from airflow_provider_arroyo.sensors.end_from_trigger import check_end_from_trigger
from airflow_provider_arroyo.text import duration

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

_SEEN_KEY = "arroyo_seen"
"""Under which a rescheduled task remembers the pipeline and the state that it saw last."""

IF_MISSING = ("wait", "fail")

_LAST_MOMENT_SECONDS = 0.2
"""A rescheduled task never comes back as soon as that."""

_AIRFLOW_POKE_SECONDS = 60.0
"""Airflow's own default of ``poke_interval``."""

_FAILURES = (ArroyoTaskError, ArroyoFatalTaskError, AirflowSensorTimeout, AirflowTaskTimeout)


class ArroyoPipelineSensor(ArroyoTask, BaseSensorOperator):
    """Wait until a pipeline is in one of the wanted states. Changes nothing.

    It polls at once, then every ``poll_interval``, and logs each change once. ``Failing`` and ``Failed`` fail it at
    once, unless ``Failed`` is wanted; so does ``Finished`` unless it is wanted, since nothing leaves it. A pipeline
    that is ``Stopped`` may be resumed, so the sensor goes on waiting.

    :param pipeline_id: the pipeline. Templated. Either this or ``pipeline_name``.
    :param pipeline_name: its exact name instead: the one that is alive, else the newest; several alive are an error
        that lists them. From the task's second try on, so is one that was created since the DAG run began, beside an
        older one of that name; Airflow 3.3 and later remember which one was meant. Templated.
    :param if_missing: ``"wait"`` until there is such a pipeline, or ``"fail"`` where there is none; default None
        waits for a name, and fails for an id, which Arroyo gives to what exists. A name is looked up every 2 seconds.
    :param target_states: names of states (wire strings or :class:`.JobState`), any of which ends the wait; default
        ``["Running"]``. Templated.
    :param stable_for: how long ``Running`` must last, in one run, before it counts, default 0; a timedelta or
        seconds. ``Finishing``, where some of several sources have ended, counts as ``Running``.
    :param until_checkpoint: whether ``Running`` counts only once a checkpoint that began in its run has finished,
        default False. Where the pipeline has restarted before, that is one which finishes while the sensor waits.
        With ``mode="reschedule"``, the sensor stays in the worker from ``Running`` on.
    :param max_restarts: how often the pipeline may restart by itself before the sensor gives up, with the job's last
        errors in the message: 0 or more, default None: any number, until the time is over. What was requested, such
        as a resume or another parallelism, is no restart, unless it took less time than from poll to poll. With
        ``mode="reschedule"`` it needs Airflow 3.3, which remembers from one poll to the next. A new try of the task
        counts anew.
    :param restart_window: the time in which ``max_restarts`` counts, a timedelta or seconds; default None: the whole
        wait. Restarts while nobody polled, as while no triggerer ran, are taken as spread evenly over that time.
    :param succeed_on_timeout: for a guard, whether the task succeeds when ``timeout`` is over and the pipeline runs,
        since nothing happened to it; default False.
    :param poll_interval: from poll to poll, default 0.1 seconds; a timedelta or seconds, or minutes for a guard. Not
        used where ``mode="reschedule"`` or a ``poke_interval`` says how often.
    :param poke_interval: Airflow's own: with ``mode="reschedule"`` how often the task comes back, default 60 seconds;
        with ``mode="poke"`` the time from poll to poll, where it is given.
    :param api_outage_tolerance: how long Arroyo may be unreachable before the sensor fails, default 10 minutes; a
        timedelta or seconds.
    :param arroyo_conn_id: the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :param defer_after: with ``deferrable``, how long to wait in the worker first, default 2 seconds, since a deferral
        costs some ten; a timedelta or seconds. It polls once in any case.
    :param end_from_trigger: with ``deferrable``, end the task in the triggerer when the state is reached, default
        False: it resumes in a worker, a second later, and some ten seconds after the deferral at the earliest. The
        result is the same; a failure resumes in a worker in any case. Airflow does not call listeners then
        (OpenLineage, for one). Refused where something would be lost: with ``outlets``, ``on_success_callback``,
        ``post_execute``, ``multiple_outputs``, and where other tasks are mapped over the result.
    :param mode: Airflow's own: ``"poke"`` (default) waits in the worker, ``"reschedule"`` leaves it between polls.
    :param timeout: Airflow's own: how long the wait may last in all, default 7 days, a timedelta or seconds; the
        sensor then fails without a retry.
    :param soft_fail: Airflow's own: skip the task instead of failing it, here in every mode and for every error
        about Arroyo or its pipelines.
    :param never_fail: Airflow's own: as ``soft_fail``, and for every other error, too.
    :param silent_fail: Airflow's own: log an error that another try may fix, and try again after ``poke_interval``,
        until the time is over; not while deferred.
    :param exponential_backoff: Airflow's own, for ``mode="reschedule"``: come back less and less often.
    :param max_wait: Airflow's own, for ``exponential_backoff``: the longest time between two polls.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason``.
    :raises ValueError: on arguments out of range, before any request.
    :raises ArroyoTaskError: when the pipeline reaches a state that it cannot leave, restarts too often, or when
        Arroyo stays unreachable.
    :raises AirflowSensorTimeout: when the time is over.
    """

    template_fields: Sequence[str] = ("pipeline_id", "pipeline_name", "target_states", "arroyo_conn_id")
    ui_color = "#e2f5df"
    operator_extra_links = (ArroyoPipelineLink(), ArroyoPageLink())
    _began: float | None = None

    def __init__(
        self,
        *,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        if_missing: str | None = None,
        target_states: Any = (JobState.RUNNING,),
        stable_for: timedelta | float = timedelta(0),
        until_checkpoint: bool = False,
        max_restarts: int | None = None,
        restart_window: timedelta | float | None = None,
        succeed_on_timeout: bool = False,
        poll_interval: timedelta | float = 0.1,
        poke_interval: timedelta | float | None = None,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        defer_after: timedelta | float = 2.0,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        # Airflow's own checks of these two raise other errors, which differ between its versions.
        if poke_interval is not None:
            polls = kwargs.get("mode") != "reschedule"
            poke_interval = check_duration(poke_interval, "poke_interval", positive=polls).total_seconds()
        if "timeout" in kwargs:
            kwargs["timeout"] = check_duration(kwargs["timeout"], "timeout").total_seconds()
        super().__init__(
            poke_interval=_AIRFLOW_POKE_SECONDS if poke_interval is None else poke_interval, **kwargs
        )
        self.poll_interval = check_duration(poll_interval, "poll_interval", positive=True).total_seconds()
        if poke_interval is not None and not self.reschedule:
            self.poll_interval = poke_interval
        check_one_of_id_and_name(pipeline_id, pipeline_name)
        if if_missing is not None:
            check_choice(if_missing, "if_missing", IF_MISSING)
        self.if_missing = if_missing
        self.pipeline_id = pipeline_id
        self.pipeline_name = pipeline_name
        self.target_states = _states_as_given(target_states)
        self.stable_for = check_duration(stable_for, "stable_for")
        self.api_outage_tolerance = check_duration(api_outage_tolerance, "api_outage_tolerance")
        self.arroyo_conn_id = arroyo_conn_id
        self.deferrable = deferrable_or_default(deferrable)
        self.defer_after = check_duration(defer_after, "defer_after").total_seconds()
        self.end_from_trigger = check_bool(end_from_trigger, "end_from_trigger")
        check_end_from_trigger(self)
        self.until_checkpoint = check_until_checkpoint(until_checkpoint, self.target_states)
        self.max_restarts = check_max_restarts(max_restarts)
        polls = self.poke_interval if self.reschedule and not self.deferrable else self.poll_interval
        self.restart_window = check_restart_window(restart_window, max_restarts, polls)
        self.succeed_on_timeout = check_bool(succeed_on_timeout, "succeed_on_timeout")
        if max_restarts is not None and self.reschedule and not self.deferrable and not keeps_task_state():
            raise ValueError(
                "max_restarts cannot be used with mode='reschedule' before Airflow 3.3, which remembers nothing from "
                "one poll to the next; use deferrable=True, which holds no worker either"
            )

    # -- the three ways of waiting ---------------------------------------------------------------------------

    @raises_task_errors
    def execute(self, context: Context) -> Any:
        """Wait: in the triggerer if ``deferrable``, else in the worker, in one stretch or rescheduled.

        :returns: the task's result.
        """
        if self.deferrable:
            return self._wait_deferred(context)
        if self.reschedule:
            return super().execute(context)
        if self.silent_fail:
            return self._wait_silently(context)
        return self._wait_here(context)

    def _wait_here(self, context: Context, began: float | None = None) -> dict[str, Any]:
        wait = self._begin(context, began)
        return self._finish(self._poll(wait), wait.plan.pipeline)

    def _wait_silently(self, context: Context) -> dict[str, Any]:
        """Log what another try may fix, and try again until the time is over, as ``silent_fail`` wants."""
        began = self.clock()
        while True:
            try:
                return self._wait_here(context, began)
            except TaskEnd:
                raise
            except Exception as err:
                if getattr(err, "is_fatal", False):
                    raise
                left = began + float(self.timeout) - self.clock()
                if left <= 0:
                    what = f"The time is over (timeout: {duration(float(self.timeout))}). The last try failed: {err}"
                    raise TaskEnd(AirflowSensorTimeout(what)) from err
                self.log.error("%s", err)
                time.sleep(min(self.poke_interval, left))

    def _wait_deferred(self, context: Context) -> dict[str, Any]:
        # Again, since a task may have got an outlet or a callback after it was made.
        check_end_from_trigger(self, is_running=True)
        wait = self._begin(context)
        result = self._poll(wait, until=self._defers_at(wait))
        if not result.is_over:
            pipeline = wait.plan.pipeline
            self._defer_wait(
                wait,
                {},
                end_from_trigger=self.end_from_trigger,
                push_result=bool(self.do_xcom_push),
                name_rule=None if pipeline.pipeline_id else self._name_rule(context, str(pipeline.name)),
            )
        return self._finish(result, wait.plan.pipeline)

    @raises_task_errors
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; what the triggerer itself broke on is an error like any other here.

        :returns: the task's result.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (AirflowSensorTimeout, TaskDeferralError) as err:
            if err is self._raised:
                raise
            # Airflow's own error of the deferral, which says the same as the one that it has for its cause.
            raise TaskEnd(type(err)(*err.args)) from err

    @raises_task_errors
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Resume when the trigger has fired, with what it saw.

        :returns: the task's result.
        """
        self._ti = context["ti"]
        ended = self._resume(event)
        if self.pipeline_id is None and ended.pipeline.pipeline_id:
            # It may have been found in the triggerer, which may have been unable to show it.
            self._show_link(context, ended.pipeline)
        return self._finish(ended.result, ended.pipeline)

    @raises_task_errors
    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Poll once, for ``mode="reschedule"``; more where one poll cannot tell: an outage, a state that must last.

        :returns: the task's result once the wait is over, else False.
        """
        wait = self._begin(context)
        result = self._poll(wait, stop_when=_may_reschedule)
        self._remember_poke(context, result, wait)
        argument = wait.plan.deadline_argument
        if argument == "timeout" and self.clock() >= wait.plan.deadline - _LAST_MOMENT_SECONDS:
            # Airflow would end it next, without saying what was going on.
            result = wait.expire(self.clock(), argument)
            self._results = (result,)
        if not result.is_over:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._finish(result, wait.plan.pipeline))

    # -- one wait --------------------------------------------------------------------------------------------

    def _begin(self, context: Context, began: float | None = None) -> PipelineWait:
        # An outage counts from here, the look-up of the pipeline included.
        now = self.clock()
        self._ti = context["ti"]
        with self._rendered_arguments():
            pipeline_id, name = rendered_id_and_name(self.pipeline_id, self.pipeline_name)
            states = check_states(self.target_states, "target_states")
            check_until_checkpoint(self.until_checkpoint, sorted(states))
        self._step = f"Looking up pipeline {pipeline_id or name!r}"
        is_later_poke = False
        if began is None and self.reschedule and not self.deferrable:
            first = context["ti"].get_first_reschedule_date(context)
            if is_later_poke := first is not None:
                # A poke that another one follows has had a response.
                began, self._has_waited = first.timestamp(), True
        self._began = now if began is None else began
        may_be_missing = self.if_missing == "wait" if self.if_missing else pipeline_id is None
        known_id = pipeline_id or self._noted_id(context, str(name))
        if is_later_poke and known_id and self._seen(context).get("pipeline_id") == known_id:
            # What an earlier poke saw is not still to come.
            pipeline_id, may_be_missing = known_id, False
        deadline, argument = self._deadline(timedelta(seconds=float(self.timeout)), began)
        failed: ArroyoError | None = None
        if pipeline_id is not None:
            pipeline, failed = self._name(pipeline_id, deadline, may_be_missing=may_be_missing)
            self._show_link(context, pipeline)
            level = logging.DEBUG if is_later_poke else logging.INFO
            self._log_begin(f"Waiting for {' or '.join(sorted(states))}", pipeline, level=level)
        else:
            # It is looked up as it is polled, since it may not exist yet.
            pipeline = PipelineRef(pipeline_id="", name=name)
            self._resolve = partial(self._resolve_ref, context, str(name))
        plan = WaitPlan(
            pipeline=pipeline,
            target_states=states,
            deadline=deadline,
            deadline_argument=argument,
            stable_for=self.stable_for,
            until_checkpoint=self.until_checkpoint,
            max_restarts=self.max_restarts,
            restart_window=self.restart_window,
            timeout_is_success=self.succeed_on_timeout,
            may_be_missing=may_be_missing,
            outage_tolerance=self.api_outage_tolerance,
        )
        earlier = None
        if is_later_poke and self.max_restarts is not None:
            from airflow_provider_arroyo.monitoring.restarts import RestartMemory

            earlier = RestartMemory.read(self._seen(context).get("restarts"))
        wait = self._new_wait(plan, now, earlier=earlier, is_repeated=is_later_poke)
        if failed is not None:
            # A try like any other: the wait retries it, and its outage has begun.
            wait.observe_error(failed, self.clock(), sent_at=now)
        return wait

    def _remember_poke(self, context: Context, result: WaitResult, wait: PipelineWait) -> None:
        """Keep what was seen, and log what changed since the last poke, where Airflow remembers it: from 3.3 on."""
        store: Any = context.get("task_state_store")
        job, pipeline = result.job, wait.plan.pipeline
        if store is None or job is None:
            return
        state = f"{job.state}, run {job.run_id}"
        before = self._seen(context).get("state")
        memory = None if self.max_restarts is None else wait.restart_memory()
        if before != state or memory is not None:
            seen = {
                "pipeline_id": pipeline.pipeline_id,
                "state": state,
                "try_number": context["ti"].try_number,
                "restarts": None if memory is None else memory.to_dict(),
            }
            try:
                store.set(_SEEN_KEY, seen)
            except Exception as err:  # noqa: BLE001  # whatever Airflow's API raises: no line is worth the task
                level = logging.DEBUG if memory is None else logging.WARNING
                self.log.log(level, "What this poll saw is not remembered: %s", err)
                return
        # Changes during this poke are logged already.
        if before not in (None, state) and len(result.transitions) <= 1:
            self.log.info("%s → %s: %s", before, state, pipeline.short)

    def _seen(self, context: Context) -> Mapping[str, Any]:
        """Return what an earlier poke of this try saw, where Airflow remembers it for the task: from 3.3 on."""
        store: Any = context.get("task_state_store")
        seen: Any = None
        with suppress(Exception):  # whatever Airflow's API raises
            seen = store.get(_SEEN_KEY) if store is not None else None
        is_of_try = isinstance(seen, Mapping) and seen.get("try_number") == context["ti"].try_number
        return seen if is_of_try else {}

    def _name(
        self, pipeline_id: str, deadline: float, *, may_be_missing: bool = False
    ) -> tuple[PipelineRef, ArroyoError | None]:
        """Return what is known of a pipeline; its id alone, and why, where Arroyo does not respond.

        :raises ArroyoNotFoundError: where there is none, and that is not waited for.
        """
        from airflow_provider_arroyo.polling.poll import single_try

        # The wait itself needs time, too.
        limit = self.clock() + max(1.0, deadline - self.clock()) / 2
        client = single_try(self._client(), 0.0, self.clock.to_monotonic(limit))
        try:
            return self._ref(client.get_pipeline(pipeline_id)), None
        except ArroyoError as err:
            is_waited_for = may_be_missing and isinstance(err, ArroyoNotFoundError)
            if err.disposition is Disposition.PERMANENT and not is_waited_for:
                raise
            return PipelineRef(pipeline_id=pipeline_id, console_url=self.hook.console_url(pipeline_id)), err

    def _finish(self, result: WaitResult, pipeline: PipelineRef) -> dict[str, Any]:
        if result.outcome is Outcome.TIMED_OUT and result.deadline_argument == "timeout" and self._began:
            # Also what came before this stretch of work; of that, a rescheduled task remembers no state.
            in_state = 0.0 if self.reschedule and not self.deferrable else result.state_seconds
            waited = self.clock() - self._began
            result = replace(result, waited_seconds=waited, state_seconds=in_state)
        if result.outcome is not Outcome.REACHED:
            self._fail(result, pipeline)
        if pipeline.name is None:
            # It was not there yet when it was looked up, or Arroyo was unreachable.
            with suppress(ArroyoError):
                pipeline, _ = self._name(pipeline.pipeline_id, self.clock())
                self._show_link({"ti": self._ti}, pipeline)
        return self._result(pipeline, result.job)

    # -- how it ends -----------------------------------------------------------------------------------------

    def _timeout_error(self, result: WaitResult, error: ArroyoError) -> BaseException:
        if result.deadline_argument == "execution_timeout":
            return AirflowTaskTimeout(str(error))
        return AirflowSensorTimeout(str(error))

    def _as_raised(self, error: BaseException) -> BaseException:
        """Return a skip where ``soft_fail`` or ``never_fail`` wants one, in every mode and for every error.

        Airflow itself skips on other errors while poking than after a deferral.
        """
        if self.soft_fail or self.never_fail:
            is_failure = isinstance(error, _FAILURES)
            # Airflow's never_fail skips on every error; its other exceptions are not errors, such as a reschedule.
            is_other = isinstance(error, Exception) and not isinstance(error, AirflowException)
            if is_failure or (self.never_fail and is_other):
                return cast("BaseException", AirflowSkipException(str(error)))
        return error


def _may_reschedule(result: WaitResult) -> bool:
    """Return whether a rescheduled task, which remembers nothing, may leave a wait as it stands."""
    job = result.job
    is_holding = job is not None and is_wanted(job.state, result.target_states) and job.running_desired
    return result.unreachable_seconds is None and not is_holding


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
