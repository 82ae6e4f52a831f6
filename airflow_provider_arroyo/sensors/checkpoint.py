"""The sensor that waits for a checkpoint of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.checks import check_duration, check_integer
from airflow_provider_arroyo.client.enums import CheckpointType
from airflow_provider_arroyo.operators.arguments import check_choice, check_early, check_moment
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID
from airflow_provider_arroyo.sensors.base import ArroyoSensor
from airflow_provider_arroyo.text import utc_time

_LEAST_SECONDS = 1.0
"""Minimum time between two reads of the checkpoints, in seconds."""

_TEMPLATED: dict[str, Callable[[Any, str], Any]] = {
    "began_after": check_moment,
    "min_epoch": partial(check_integer, may_be_text=True),
}


class ArroyoCheckpointSensor(ArroyoSensor):
    """Wait until a pipeline has a finished checkpoint that meets all given conditions. Changes nothing.

    A checkpoint covers everything that the pipeline's sources had read when it began. So ``began_after="{{
    data_interval_end }}"`` waits until the data of an interval is complete, apart from rows that reached the sources
    late.

    Give at least one of ``max_age``, ``began_after``, ``min_epoch``, ``checkpoint_type`` and ``new_checkpoints``. An
    existing checkpoint counts, whatever the pipeline's state, except for ``new_checkpoints``. With ``max_age``, which
    tells whether data flows, none counts if the pipeline is ``Failing`` or ``Failed``. If there is none and the
    pipeline can take none any more, the sensor fails at once: in ``Failing``, ``Failed``, ``Finished`` and
    ``Finishing``, and in ``Stopped`` unless a resume was requested.

    The sensor polls the state at once, then every ``poll_interval``, and logs each change once. It reads the
    checkpoints equally often, but at most once a second, and less often if reading them takes more than a tenth of
    that time.

    :param pipeline_id: id of the pipeline. Give either this or ``pipeline_name``. Templated.
    :param pipeline_name: exact name of the pipeline, instead of its id; see :class:`.ArroyoPipelineSensor` for which
        one it means if several have it. Templated.
    :param if_missing: what to do while there is no such pipeline: ``"wait"`` or ``"fail"``. Default None waits for a
        name, and fails for an id; see :class:`.ArroyoPipelineSensor`.
    :param max_age: how long ago it may have finished, by the server's clock, in whole seconds; a timedelta or
        seconds. Default None, any time.
    :param began_after: the time after which it must have begun, by Arroyo's clock: a datetime, or ISO 8601 text, with
        a time zone. Must not be after the end of the wait. Default None, any time. Templated.
    :param min_epoch: its lowest epoch, 1 or more; default None, any. Templated.
    :param checkpoint_type: ``"scheduled"``, or ``"stopping"`` for a checkpoint of a stop, restart or rescale; default
        None, any. Needs Arroyo 0.16.
    :param new_checkpoints: how many such checkpoints must finish while the sensor waits, 1 or more; default None: an
        existing one is enough. A retry starts counting from zero. With ``mode="reschedule"`` before Airflow 3.3,
        which cannot remember the count between polls, it counts those that Arroyo still lists (the last 100) and that
        finished at least a second after the wait began, by the server's clock.
    :param poll_interval: time between polls, default 2 seconds; a timedelta or seconds. Not used with
        ``mode="reschedule"`` or with ``poke_interval``.
    :param poke_interval: Airflow's own: with ``mode="reschedule"``, how often the task polls, default 60 seconds;
        with ``mode="poke"``, replaces ``poll_interval``.
    :param api_outage_tolerance: how long Arroyo may be unreachable, or its checkpoints unreadable, before the sensor
        fails, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :param defer_after: with ``deferrable``, how long to wait in the worker first, default 2 seconds, because a
        deferral takes about 10 seconds; a timedelta or seconds. The sensor polls at least once before it defers.
    :param end_from_trigger: with ``deferrable``, end the task in the triggerer when there is such a checkpoint,
        default False; see :class:`.ArroyoPipelineSensor` for what that means and when it is refused.
    :param mode, timeout, soft_fail, never_fail, silent_fail, exponential_backoff, max_wait: Airflow's own, see
        :class:`.ArroyoPipelineSensor`.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason`` and ``checkpoint``
        (``{"epoch", "type", "start_time_micros", "finish_time_micros"}`` of the newest one that meets all conditions;
        the type is None on Arroyo 0.15).
    :raises ValueError: if an argument is invalid, before any request; names the argument.
    :raises ArroyoTaskError: if the pipeline can take no such checkpoint any more, or Arroyo stays unreachable.
    :raises AirflowSensorTimeout: if ``timeout`` is over.
    """

    template_fields: Sequence[str] = (
        "pipeline_id",
        "pipeline_name",
        "began_after",
        "min_epoch",
        "arroyo_conn_id",
    )

    def __init__(
        self,
        *,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        if_missing: str | None = None,
        max_age: timedelta | float | None = None,
        began_after: datetime | str | None = None,
        min_epoch: int | str | None = None,
        checkpoint_type: str | None = None,
        new_checkpoints: int | None = None,
        poll_interval: timedelta | float = 2.0,
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
        wanted = (max_age, began_after, min_epoch, checkpoint_type, new_checkpoints)
        if all(value is None for value in wanted):
            raise ValueError(
                "at least one of max_age, began_after, min_epoch, checkpoint_type and new_checkpoints must be given"
            )
        self.max_age = None if max_age is None else check_duration(max_age, "max_age", positive=True)
        self.began_after = began_after
        self.min_epoch = min_epoch
        # An argument that renders to None was given, and is an error.
        self._templated = [name for name in _TEMPLATED if getattr(self, name) is not None]
        for name in self._templated:
            check_early(_TEMPLATED[name], getattr(self, name), name)
        if checkpoint_type is not None:
            check_choice(checkpoint_type, "checkpoint_type", tuple(CheckpointType))
        self.checkpoint_type = checkpoint_type
        self.new_checkpoints = (
            None if new_checkpoints is None else check_integer(new_checkpoints, "new_checkpoints")
        )

    def _goal(self, limits: Mapping[str, Any], began: float | None) -> dict[str, Any]:
        from airflow_provider_arroyo.monitoring.condition import CheckpointCondition

        rendered = {name: _TEMPLATED[name](getattr(self, name), name) for name in self._templated}
        moment = rendered.get("began_after")
        if moment is not None and moment.timestamp() > limits["deadline"]:
            raise ValueError(
                f"began_after must not be after the end of this wait, {utc_time(limits['deadline'])} "
                f"({limits['deadline_argument']}): no checkpoint can have begun by then; got {self.began_after}"
            )
        condition = CheckpointCondition(
            max_age=self.max_age,
            began_after_micros=None if moment is None else int(moment.timestamp() * 1_000_000),
            min_epoch=rendered.get("min_epoch"),
            checkpoint_type=None if self.checkpoint_type is None else CheckpointType(self.checkpoint_type),
            new_checkpoints=self.new_checkpoints or 0,
            counts_since=began,
        )
        return {
            "target_states": frozenset(),
            "checkpoint": condition,
            "details_interval": timedelta(seconds=max(self.poll_interval, _LEAST_SECONDS)),
        }
