"""The sensor that waits for a metric of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.checks import check_duration, check_number, check_text
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.metric_condition import MetricCondition
from airflow_provider_arroyo.monitoring.metrics import (
    KEPT_SECONDS,
    MEASURED_EVERY_SECONDS,
    Aggregation,
    Measure,
    MetricName,
    UnknownNameError,
    find_operators,
)
from airflow_provider_arroyo.operators.arguments import check_choice, is_final
from airflow_provider_arroyo.sensors.base import ArroyoSensor
from airflow_provider_arroyo.text import duration

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.models import Pipeline
    from airflow_provider_arroyo.monitoring.plan import PipelineRef


class ArroyoMetricSensor(ArroyoSensor):
    """Wait until a metric of a pipeline is above or below a bound, for a length of time. Changes nothing.

    Only what Arroyo measures while the pipeline is ``Running`` counts, and only in one run: the values that stay
    after a stop do not, nor do those that no newer one follows. ``Failing``, ``Failed`` and ``Finished`` fail the
    sensor at once; so does ``Finishing``, in which Arroyo measures nothing more. A pipeline that is ``Stopped`` may
    be resumed, so the sensor goes on waiting.

    Arroyo measures about every 2 seconds. The metrics are read every ``poll_interval``, at most every 2 seconds, once
    for all sensors of a triggerer that wait for the same pipeline; and more rarely where reading them takes more than
    a tenth of that time. It takes two readings to see that a value is new, so the sensor takes 2 seconds or more. How
    long a bound has been crossed is measured by Arroyo's own times of its values, those from before the sensor began
    included; it begins anew after 10 seconds without a value. Each crossing is logged once.

    :param metric: ``"messages_recv"``, ``"messages_sent"`` (rows), ``"bytes_recv"``, ``"bytes_sent"``, each per
        second, or ``"backpressure"``: the share of an operator's output queue that was taken when it last sent
        something, from 0 to 1. Sources receive nothing, and sinks send nothing and have no backpressure: refused.
    :param operator: of which operators: ``"sources"``, ``"sinks"``, ``"all"``, or one: its node id, its description
        as the console shows it, or its type where no other has that. Where there is no such, an error lists those
        that exist. Templated.
    :param above: a number that the metric must be above, default None. Either this or ``below``. Templated.
    :param below: a number that it must be below, default None; best with ``stable_for``, since hardly anything flows
        in the first seconds of a run. Templated.
    :param stable_for: for how long, default 0: one value is enough; a timedelta or seconds. With
        ``mode="reschedule"`` 4 minutes at most, since Arroyo keeps no older values.
    :param measure: ``"value"`` (default): as Arroyo reports it, and shows it in its console. What flows is smoothed
        there: of a change, two thirds show after 20 seconds and nine tenths after 45, and 0 is never reached.
        ``"rate"``: per second between the last two values, not smoothed, which shows at once that a source falls
        silent. Not for ``"backpressure"``, which is not smoothed.
    :param aggregation: how all subtasks of these operators become one number: their ``"sum"``, or the ``"worst"``:
        the least of what flows, the highest backpressure. Default None: the worst for backpressure, as in Arroyo's
        console, else the sum.
    :param pipeline_id: the pipeline. Templated. Either this or ``pipeline_name``.
    :param pipeline_name: its exact name instead: the one that is alive, else the newest; several alive are an error
        that lists them. From the task's second try on, so is one that was created since the DAG run began, beside an
        older one of that name; Airflow 3.3 and later remember which one was meant. Templated.
    :param if_missing: ``"wait"`` until there is such a pipeline, or ``"fail"`` where there is none; default None
        waits for a name, and fails for an id, which Arroyo gives to what exists. A name is looked up every 2 seconds.
    :param poll_interval: from poll to poll, default 2 seconds; a timedelta or seconds. Not used where
        ``mode="reschedule"`` or a ``poke_interval`` says how often.
    :param poke_interval: Airflow's own: with ``mode="reschedule"`` how often the task comes back, default 60 seconds;
        with ``mode="poke"`` the time from poll to poll, where it is given.
    :param api_outage_tolerance: how long Arroyo may be unreachable, or the metrics of a running pipeline unreadable,
        before the sensor fails, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :param defer_after: with ``deferrable``, how long to wait in the worker first, default 2 seconds, since a deferral
        costs some ten; a timedelta or seconds. It polls once in any case.
    :param end_from_trigger: with ``deferrable``, end the task in the triggerer when the bound is crossed, default
        False; see :class:`.ArroyoPipelineSensor` for what that means and where it is refused.
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
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason`` and ``metric``
        (``{"name", "operator", "value", "time_micros", "held_seconds"}``: the last value, when Arroyo measured it,
        and for how long the bound had been crossed by then).
    :raises ValueError: on arguments out of range, before any request; names the argument.
    :raises ArroyoFatalTaskError: where the pipeline has no such operator, or the operator no such metric; lists those
        that exist.
    :raises ArroyoTaskError: when the pipeline can measure nothing more, or when Arroyo stays unreachable.
    :raises AirflowSensorTimeout: when the time is over.
    """

    template_fields: Sequence[str] = (
        "pipeline_id",
        "pipeline_name",
        "operator",
        "above",
        "below",
        "arroyo_conn_id",
    )

    def __init__(
        self,
        *,
        metric: str,
        operator: str | int,
        above: float | str | None = None,
        below: float | str | None = None,
        stable_for: timedelta | float = timedelta(0),
        measure: str = Measure.VALUE,
        aggregation: str | None = None,
        poll_interval: timedelta | float = MEASURED_EVERY_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(poll_interval=poll_interval, **kwargs)
        self.metric = check_choice(metric, "metric", tuple(MetricName))
        self.operator = operator
        self.above = above
        self.below = below
        self.stable_for = check_duration(stable_for, "stable_for")
        self.measure = check_choice(measure, "measure", tuple(Measure))
        self.aggregation = (
            None if aggregation is None else check_choice(aggregation, "aggregation", tuple(Aggregation))
        )
        if (above is None) == (below is None):
            raise ValueError(
                f"exactly one of above and below must be given, got {'neither' if above is None else 'both'}"
            )
        if self.reschedule and not self.deferrable and self.stable_for > timedelta(seconds=KEPT_SECONDS):
            raise ValueError(
                f"stable_for must be at most {duration(KEPT_SECONDS)} with mode='reschedule', which remembers "
                "nothing from one poll to the next, and Arroyo keeps no older values; use deferrable=True, which "
                "holds no worker either"
            )
        # What is still to be rendered is checked then.
        bound = above if below is None else below
        self._condition(
            operator=operator if is_final(operator) else "all",
            **({} if is_final(bound) else {"above": 0.5, "below": None}),
        )

    def _condition(self, **instead: Any) -> MetricCondition:
        """Return the condition of the arguments as they are now.

        :param instead: values for those that are still to be rendered.
        :raises ValueError: names the argument that is wrong.
        """
        given = {name: getattr(self, name) for name in ("operator", "above", "below")} | instead
        operator, above, below = given["operator"], given["above"], given["below"]
        is_id = isinstance(operator, int) and not isinstance(operator, bool)
        return MetricCondition(
            metric=MetricName(self.metric),
            operator=str(operator) if is_id else check_text(operator, "operator"),
            above=None if above is None else check_number(above, "above"),
            below=None if below is None else check_number(below, "below"),
            measure=Measure(self.measure),
            aggregation=None if self.aggregation is None else Aggregation(self.aggregation),
            stable_for=self.stable_for,
        )

    def _plan(self, *, deadline: float, argument: str, began: float | None) -> dict[str, Any]:
        return {
            "target_states": frozenset(),
            "metric": self._condition(),
            "details_interval": timedelta(seconds=max(self.poll_interval, MEASURED_EVERY_SECONDS)),
        }

    def _ref(self, pipeline: Pipeline) -> PipelineRef:
        # Here its graph is at hand, before it runs.
        try:
            find_operators(self._condition().operator, pipeline.graph)
        except UnknownNameError as err:
            raise ArroyoError(f"{super()._ref(pipeline).label}: {err}", is_fatal=True) from err
        return super()._ref(pipeline)
