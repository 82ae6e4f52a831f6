"""The sensor that waits for a state of a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.client.checks import (
    check_bool,
    check_duration,
    check_max_restarts,
    check_restart_window,
)
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.monitoring.plan import check_states
from airflow_provider_arroyo.operators.arguments import check_until_checkpoint, is_final, is_reference
from airflow_provider_arroyo.operators.deferral import keeps_task_state
from airflow_provider_arroyo.sensors.base import ArroyoSensor


class ArroyoPipelineSensor(ArroyoSensor):
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
        since nothing happened to it; default False. Not for a wait for ``Running``.
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

    def __init__(
        self,
        *,
        target_states: Any = (JobState.RUNNING,),
        stable_for: timedelta | float = timedelta(0),
        until_checkpoint: bool = False,
        max_restarts: int | None = None,
        restart_window: timedelta | float | None = None,
        succeed_on_timeout: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.target_states = _states_as_given(target_states)
        self.stable_for = check_duration(stable_for, "stable_for")
        self.until_checkpoint = check_until_checkpoint(until_checkpoint, self.target_states)
        self.max_restarts = check_max_restarts(max_restarts)
        polls = self.poke_interval if self.reschedule and not self.deferrable else self.poll_interval
        self.restart_window = check_restart_window(restart_window, max_restarts, polls)
        self.succeed_on_timeout = check_bool(succeed_on_timeout, "succeed_on_timeout")
        self._check_guard(self.target_states)
        if max_restarts is not None and self.reschedule and not self.deferrable and not keeps_task_state():
            raise ValueError(
                "max_restarts cannot be used with mode='reschedule' before Airflow 3.3, which remembers nothing from "
                "one poll to the next; use deferrable=True, which holds no worker either"
            )

    def _plan(self, *, deadline: float, argument: str, began: float | None) -> dict[str, Any]:
        states = check_states(self.target_states, "target_states")
        self._check_guard(states)
        check_until_checkpoint(self.until_checkpoint, sorted(states))
        return {
            "target_states": states,
            "stable_for": self.stable_for,
            "until_checkpoint": self.until_checkpoint,
            "max_restarts": self.max_restarts,
            "restart_window": self.restart_window,
            "timeout_is_success": self.succeed_on_timeout,
        }

    def _check_guard(self, states: Any) -> None:
        """Check that a guard waits for an end.

        :param states: the wanted states; where they are still to be rendered, they are checked then.
        :raises ValueError: where it waits for a state in which the pipeline runs, and would succeed in it unproven.
        """
        names = [] if is_reference(states) or isinstance(states, str) else list(states)
        if self.succeed_on_timeout and {JobState.RUNNING.value, JobState.FINISHING.value}.intersection(names):
            raise ValueError(
                "succeed_on_timeout is for a guard, whose pipeline runs already: target_states must not hold Running "
                "or Finishing, but the ends that are waited for, such as Stopped"
            )


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
