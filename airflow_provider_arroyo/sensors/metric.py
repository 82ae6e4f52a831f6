"""The sensor that waits for a metric of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.checks import check_duration, check_integer, check_text, check_within
from airflow_provider_arroyo.exceptions import ArroyoError
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
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID
from airflow_provider_arroyo.sensors.base import ArroyoSensor
from airflow_provider_arroyo.text import duration

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.models import Pipeline
    from airflow_provider_arroyo.monitoring.metric_condition import MetricCondition
    from airflow_provider_arroyo.monitoring.plan import PipelineRef


class ArroyoMetricSensor(ArroyoSensor):
    """Wait until a metric of a pipeline is above or below a threshold for some time. Changes nothing.

    Only values that Arroyo measures while the pipeline is ``Running`` count, and only within one run. ``Failing``,
    ``Failed`` and ``Finished`` fail the sensor at once, and so does ``Finishing``, in which Arroyo measures nothing.
    On ``Stopped`` it keeps waiting, since the pipeline may be resumed.

    Arroyo measures about every 2 seconds. The sensor reads the metrics every ``poll_interval``, at most every 2
    seconds, and less often if reading them takes more than a tenth of that time; all sensors of a triggerer for the
    same pipeline share each response. Two readings are needed to see that a value is current, so the sensor takes at
    least 2 seconds. How long the threshold has been crossed is measured by Arroyo's timestamps, including values from
    before the sensor began; after 10 seconds without a value, it counts from zero. Each crossing is logged once.

    :param metric: ``"messages_recv"`` or ``"messages_sent"`` (rows), ``"bytes_recv"`` or ``"bytes_sent"``, each per
        second; or ``"backpressure"``, how full an operator's output queue was when it last sent something, from 0 to
        1. Sources receive nothing, and sinks send nothing and have no backpressure; such combinations are refused.
    :param operator: which operators: ``"sources"``, ``"sinks"``, ``"all"``, or a single one: its node id, its
        description as Arroyo's console shows it, or its type if no other has that type. If there is no such operator,
        the error lists those that exist. Templated.
    :param above: a number that the metric must be above. Give either this or ``below``. Templated.
    :param below: a number that the metric must be below. Use it with ``stable_for``, since few rows flow in the first
        seconds of a run. Templated.
    :param stable_for: for how long, default 0: one value is enough; a timedelta or seconds. With
        ``mode="reschedule"``, at most 4 minutes, since Arroyo keeps no older values; else at most 4 minutes longer
        than ``timeout``.
    :param measure: ``"value"`` (default): as Arroyo reports it and its console shows it. Arroyo smooths rates: two
        thirds of a change show after 20 seconds, nine tenths after 45, and a rate never reaches 0. ``"rate"``: the
        rate between the last two values, not smoothed, so that it shows at once if a source falls silent. Not for
        ``"backpressure"``, which is not smoothed.
    :param aggregation: how the values of all subtasks of these operators are combined: ``"sum"``, or ``"worst"``, the
        lowest rate or the highest backpressure. Default None: the worst for backpressure, as in Arroyo's console,
        otherwise the sum.
    :param pipeline_id: id of the pipeline. Give either this or ``pipeline_name``. Templated.
    :param pipeline_name: exact name of the pipeline, instead of its id; see :class:`.ArroyoPipelineSensor` for which
        one it means if several have it. Templated.
    :param if_missing: what to do while there is no such pipeline: ``"wait"`` or ``"fail"``. Default None waits for a
        name, and fails for an id; see :class:`.ArroyoPipelineSensor`.
    :param poll_interval: time between polls, default 2 seconds; a timedelta or seconds. Not used with
        ``mode="reschedule"`` or with ``poke_interval``.
    :param poke_interval: Airflow's own: with ``mode="reschedule"``, how often the task polls, default 60 seconds;
        with ``mode="poke"``, replaces ``poll_interval``.
    :param api_outage_tolerance: how long Arroyo may be unreachable, or the metrics of a running pipeline unreadable,
        before the sensor fails, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :param defer_after: with ``deferrable``, how long to wait in the worker first, default 2 seconds, because a
        deferral takes about 10 seconds; a timedelta or seconds. The sensor polls at least once before it defers.
    :param end_from_trigger: with ``deferrable``, end the task in the triggerer when the threshold has been crossed,
        default False; see :class:`.ArroyoPipelineSensor` for what that means and when it is refused.
    :param mode, timeout, soft_fail, never_fail, silent_fail, exponential_backoff, max_wait: Airflow's own, see
        :class:`.ArroyoPipelineSensor`.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason`` and ``metric``
        (``{"name", "operator", "value", "time_micros", "held_seconds"}``: the last value, when Arroyo measured it,
        and how long the threshold had been crossed by then).
    :raises ValueError: if an argument is invalid, before any request; names the argument.
    :raises ArroyoFatalTaskError: if the pipeline has no such operator, or the operator no such metric; lists those
        that exist.
    :raises ArroyoTaskError: if no more values can come, or Arroyo stays unreachable.
    :raises AirflowSensorTimeout: if ``timeout`` is over.
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
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        if_missing: str | None = None,
        metric: str,
        operator: str | int,
        above: float | str | None = None,
        below: float | str | None = None,
        stable_for: timedelta | float = timedelta(0),
        measure: str = Measure.VALUE,
        aggregation: str | None = None,
        poll_interval: timedelta | float = MEASURED_EVERY_SECONDS,
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
        self.metric = check_choice(metric, "metric", tuple(MetricName))
        self.operator = operator
        self.above = above
        self.below = below
        self.stable_for = check_duration(stable_for, "stable_for")
        self.measure = check_choice(measure, "measure", tuple(Measure))
        self.aggregation = (
            None if aggregation is None else check_choice(aggregation, "aggregation", tuple(Aggregation))
        )
        if self.reschedule and not self.deferrable and self.stable_for > timedelta(seconds=KEPT_SECONDS):
            raise ValueError(
                f"stable_for must be at most {duration(KEPT_SECONDS)} with mode='reschedule', which remembers "
                "nothing between polls, and Arroyo keeps no older values; use deferrable=True, which does not "
                "occupy a worker either"
            )
        # What was measured before the sensor began counts, as far back as Arroyo keeps it.
        whole = timedelta(seconds=float(self.timeout) + KEPT_SECONDS)
        check_within(
            self.stable_for, "stable_for", whole, "timeout and 4 minutes", "the sensor could not succeed"
        )
        # What is still to be rendered is checked then; meanwhile, these values are valid.
        instead = {"operator": "all", "above": 0.5, "below": 0.5}
        self._condition(
            **{name: value for name, value in instead.items() if not is_final(getattr(self, name))}
        )

    def _condition(self, **instead: Any) -> MetricCondition:
        """Return the condition of the current arguments.

        :param instead: values to use for arguments that are still to be rendered.
        :raises ValueError: if an argument is invalid; names it.
        """
        from airflow_provider_arroyo.monitoring.metric_condition import MetricCondition, check_bound

        given = {name: getattr(self, name) for name in ("operator", "above", "below")} | instead
        operator = given["operator"]
        bounds = {
            name: check_bound(given[name], name, self.metric, may_be_text=True)
            for name in ("above", "below")
            if given[name] is not None
        }
        is_id = isinstance(operator, int) and not isinstance(operator, bool)
        return MetricCondition(
            metric=MetricName(self.metric),
            operator=str(check_integer(operator, "operator", least=0))
            if is_id
            else check_text(operator, "operator"),
            **bounds,
            measure=Measure(self.measure),
            aggregation=None if self.aggregation is None else Aggregation(self.aggregation),
            stable_for=self.stable_for,
        )

    def _goal(self, limits: Mapping[str, Any], began: float | None) -> dict[str, Any]:
        return {
            "target_states": frozenset(),
            "metric": self._condition(),
            "details_interval": timedelta(seconds=max(self.poll_interval, MEASURED_EVERY_SECONDS)),
        }

    def _ref(self, pipeline: Pipeline) -> PipelineRef:
        # The graph is known here, before the pipeline runs.
        try:
            find_operators(self._condition().operator, pipeline.graph)
        except UnknownNameError as err:
            raise ArroyoError(f"{super()._ref(pipeline).label}: {err}", is_fatal=True) from err
        return super()._ref(pipeline)
