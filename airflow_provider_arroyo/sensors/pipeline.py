"""The sensor that waits for a state of a pipeline."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.client.checks import (
    check_bool,
    check_duration,
    check_max_restarts,
    check_restart_window,
    check_states,
    check_within,
)
from airflow_provider_arroyo.client.enums import AT_WORK, JobState
from airflow_provider_arroyo.operators.arguments import check_until_checkpoint, is_final, is_reference
from airflow_provider_arroyo.operators.deferral import keeps_task_state
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID
from airflow_provider_arroyo.sensors.base import ArroyoSensor


class ArroyoPipelineSensor(ArroyoSensor):
    """Wait until a pipeline is in one of the wanted states. Changes nothing.

    The sensor polls at once, then every ``poll_interval``, and logs each change once. ``Failing`` and ``Failed`` fail
    the sensor at once, unless ``Failed`` is wanted. ``Finished`` fails it too, unless it is wanted, since a finished
    pipeline never runs again. On ``Stopped`` it keeps waiting, since the pipeline may be resumed.

    :param pipeline_id: id of the pipeline. Give either this or ``pipeline_name``. Templated.
    :param pipeline_name: exact name of the pipeline, instead of its id. If several pipelines have this name, it means
        the one that is alive, or the newest if none is alive; if several are alive, the task fails and lists them. A
        retry means the same pipeline as the first try. Airflow before 3.3 cannot remember it, so there a retry fails
        if a pipeline of that name was created since the DAG run began, next to an older one. Templated.
    :param if_missing: what to do while there is no such pipeline: ``"wait"`` or ``"fail"``. Default None waits for a
        name, which is looked up every 2 seconds, and fails for an id. If a pipeline is deleted after the sensor has
        seen it, the sensor fails. Airflow before 3.3 remembers nothing between the polls of ``mode="reschedule"``, so
        there, a sensor that waits for a missing pipeline goes on waiting until ``timeout``.
    :param target_states: states, as Arroyo spells them or as :class:`.JobState`, any of which ends the wait; default
        ``["Running"]``. Templated.
    :param stable_for: how long the pipeline must be ``Running`` in one run, default 0; a timedelta or seconds.
        ``Finishing``, where some of several sources have ended, counts as ``Running``.
    :param until_checkpoint: whether ``Running`` counts only after a checkpoint that began in its run has finished,
        default False. If the pipeline has restarted before, the checkpoint must finish while the sensor waits. With
        ``mode="reschedule"``, the sensor stays in the worker once the pipeline is ``Running``.
    :param max_restarts: how often the pipeline may restart by itself. After one more, the sensor fails with the job's
        last errors. 0 or more; default None, any number until ``timeout``. Requested restarts, such as a resume or a
        new parallelism, do not count, unless they take less than a ``poll_interval``. A new try of the task starts
        counting from zero. With ``mode="reschedule"``, this needs Airflow 3.3, which can remember the count between
        polls.
    :param restart_window: the time within which ``max_restarts`` counts, a timedelta or seconds; default None: the
        whole wait. Restarts while nothing polled, for example while no triggerer was running, are counted as if
        spread evenly over that time.
    :param succeed_on_timeout: for a guard: whether the sensor succeeds if ``timeout`` is over and the pipeline is
        running; default False. Not for a wait for ``Running``.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds. A guard can use minutes.
        Not used with ``mode="reschedule"`` or with ``poke_interval``.
    :param poke_interval: Airflow's own: with ``mode="reschedule"``, how often the task polls, default 60 seconds;
        with ``mode="poke"``, replaces ``poll_interval``.
    :param api_outage_tolerance: how long Arroyo may be unreachable before the sensor fails, default 10 minutes; a
        timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :param defer_after: with ``deferrable``, how long to wait in the worker first, default 2 seconds, because a
        deferral takes about 10 seconds; a timedelta or seconds. The sensor polls at least once before it defers.
    :param end_from_trigger: with ``deferrable``, end the task in the triggerer when the state is reached, default
        False. Otherwise the task resumes in a worker, a second later and at least ten seconds after the deferral. The
        result is the same, and failures always resume in a worker. Airflow then calls no listeners (such as
        OpenLineage). Refused with ``outlets``, ``on_success_callback``, ``post_execute`` or ``multiple_outputs``, or
        if other tasks are mapped over the result, since these would be lost.
    :param mode: Airflow's own: ``"poke"`` (default) waits in the worker, ``"reschedule"`` frees it between polls.
    :param timeout: Airflow's own: how long the wait may take in total, default 7 days, a timedelta or seconds. After
        that the sensor fails without a retry. With ``mode="reschedule"``, the last poke may come after that time, and
        still counts.
    :param soft_fail: Airflow's own: skip the task instead of failing it; here in every mode, for every error about
        Arroyo or its pipelines.
    :param never_fail: Airflow's own: like ``soft_fail``, but for every error.
    :param silent_fail: Airflow's own: log an error that may go away, and try again after ``poke_interval`` until
        ``timeout``; has no effect while deferred.
    :param exponential_backoff: Airflow's own, for ``mode="reschedule"``: poll less and less often.
    :param max_wait: Airflow's own, for ``exponential_backoff``: the longest time between two polls.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason``.
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoTaskError: if the pipeline reaches a state that it cannot leave, is deleted or restarts too often,
        or if Arroyo stays unreachable.
    :raises AirflowSensorTimeout: if ``timeout`` is over.
    """

    template_fields: Sequence[str] = ("pipeline_id", "pipeline_name", "target_states", "arroyo_conn_id")

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
        super().__init__(
            pipeline_id=pipeline_id,
            pipeline_name=pipeline_name,
            if_missing=if_missing,
            poll_interval=poll_interval,
            poke_interval=poke_interval,
            api_outage_tolerance=api_outage_tolerance,
            arroyo_conn_id=arroyo_conn_id,
            deferrable=deferrable,
            defer_after=defer_after,
            end_from_trigger=end_from_trigger,
            **kwargs,
        )
        self.target_states = _states_as_given(target_states)
        self.stable_for = check_duration(stable_for, "stable_for")
        self.until_checkpoint = check_until_checkpoint(until_checkpoint, self.target_states)
        self.max_restarts = check_max_restarts(max_restarts)
        polls = self.poke_interval if self.reschedule and not self.deferrable else self.poll_interval
        self.restart_window = check_restart_window(restart_window, max_restarts, polls)
        self.succeed_on_timeout = check_bool(succeed_on_timeout, "succeed_on_timeout")
        self._check_guard(self.target_states)
        if not is_reference(self.target_states) and is_final(self.target_states):
            self._check_time(check_states(self.target_states, "target_states"))
        if max_restarts is not None and self.reschedule and not self.deferrable and not keeps_task_state():
            raise ValueError(
                "max_restarts cannot be used with mode='reschedule' before Airflow 3.3, which remembers nothing "
                "between polls; use deferrable=True, which does not occupy a worker either"
            )

    def _goal(self, limits: Mapping[str, Any], began: float | None) -> dict[str, Any]:
        states = check_states(self.target_states, "target_states")
        self._check_guard(states)
        self._check_time(states)
        check_until_checkpoint(self.until_checkpoint, sorted(states))
        return {
            "target_states": states,
            "stable_for": self.stable_for,
            "until_checkpoint": self.until_checkpoint,
            "max_restarts": self.max_restarts,
            "restart_window": self.restart_window,
            "timeout_is_success": self.succeed_on_timeout,
        }

    def _check_time(self, states: Collection[str]) -> None:
        """Check that a running state can last long enough before ``timeout``.

        :raises ValueError: if it cannot, and no other state is wanted.
        """
        if AT_WORK.issuperset(states):
            timeout = timedelta(seconds=float(self.timeout))
            check_within(self.stable_for, "stable_for", timeout, "timeout", "the sensor could not succeed")

    def _check_guard(self, states: Any) -> None:
        """Check that a guard waits for a state in which the pipeline does not run.

        :param states: the wanted states; if they are still to be rendered, they are checked later.
        :raises ValueError: if it waits for a running state, in which the guard would succeed at once.
        """
        names = [] if is_reference(states) or isinstance(states, str) else list(states)
        if self.succeed_on_timeout and {JobState.RUNNING.value, JobState.FINISHING.value}.intersection(names):
            raise ValueError(
                "succeed_on_timeout is for a guard of a running pipeline: target_states must not contain Running "
                "or Finishing, but the states that would end the guard, such as Stopped"
            )


def _states_as_given(names: Any) -> Any:
    """Return state names for a templated field: plain strings, which render and serialize as usual.

    :raises ValueError: if a known name is wrong.
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
