"""The sensor that waits for a checkpoint of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_arroyo.client.checks import check_duration, check_integer
from airflow_provider_arroyo.client.enums import CheckpointType
from airflow_provider_arroyo.monitoring.checkpoint_condition import CheckpointCondition
from airflow_provider_arroyo.operators.arguments import check_choice, check_early, check_moment
from airflow_provider_arroyo.sensors.base import ArroyoSensor
from airflow_provider_arroyo.text import utc_time

_LEAST_SECONDS = 1.0
"""How often the checkpoints are read at most."""

_TEMPLATED: dict[str, Callable[[Any, str], Any]] = {"began_after": check_moment, "min_epoch": check_integer}


class ArroyoCheckpointSensor(ArroyoSensor):
    """Wait until a pipeline has a finished checkpoint that meets all that is asked of it. Changes nothing.

    A checkpoint that began after a moment contains all that the pipeline's sources had read by then, so
    ``began_after="{{ data_interval_end }}"`` waits until the data of an interval are in, as far as they reached the
    sources in time.

    At least one of ``max_age``, ``began_after``, ``min_epoch``, ``checkpoint_type`` and ``new_checkpoints`` is to be
    given. A checkpoint that is there already will do, whatever the pipeline's state, except for ``new_checkpoints``.
    Where there is none, and the pipeline can make none any more, the sensor fails at once: in ``Failing``,
    ``Failed``, ``Finished`` and ``Finishing``, and in ``Stopped`` unless a resume was requested.

    The state is polled at once, then every ``poll_interval``, and each change is logged once. The list of checkpoints
    is read as often, but at most once a second, and more rarely where it is so long that reading it takes more than
    a tenth of that time.

    :param pipeline_id: the pipeline. Templated. Either this or ``pipeline_name``.
    :param pipeline_name: its exact name instead: the one that is alive, else the newest; several alive are an error
        that lists them. From the task's second try on, so is one that was created since the DAG run began, beside an
        older one of that name; Airflow 3.3 and later remember which one was meant. Templated.
    :param if_missing: ``"wait"`` until there is such a pipeline, or ``"fail"`` where there is none; default None
        waits for a name, and fails for an id, which Arroyo gives to what exists. A name is looked up every 2 seconds.
    :param max_age: how long ago it may have finished at most, by the server's clock and to the second; default None,
        any time. A timedelta or seconds.
    :param began_after: when it must have begun at the earliest, by Arroyo's clock; default None, any time. A datetime
        or its ISO 8601 text, with a time zone. Templated. A moment after the end of the wait is an error.
    :param min_epoch: its epoch at least, 1 or more; default None, any. Templated.
    :param checkpoint_type: ``"scheduled"``, or ``"stopping"`` for one of a stop, restart or rescale; default None,
        any. Needs Arroyo 0.16.
    :param new_checkpoints: how many such must finish while the sensor waits, 1 or more; default None: one that is
        there already will do. A retry counts anew. With ``mode="reschedule"`` before Airflow 3.3, which remembers
        from poke to poke, those count that Arroyo still lists (the last 100) and that finished a second or more
        after the wait began, by the server's clock.
    :param poll_interval: from poll to poll, default 2 seconds; a timedelta or seconds. Not used where
        ``mode="reschedule"`` or a ``poke_interval`` says how often.
    :param poke_interval: Airflow's own: with ``mode="reschedule"`` how often the task comes back, default 60 seconds;
        with ``mode="poke"`` the time from poll to poll, where it is given.
    :param api_outage_tolerance: how long Arroyo may be unreachable, or its checkpoints unreadable, before the sensor
        fails, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :param defer_after: with ``deferrable``, how long to wait in the worker first, default 2 seconds, since a deferral
        costs some ten; a timedelta or seconds. It polls once in any case.
    :param end_from_trigger: with ``deferrable``, end the task in the triggerer when there is such a checkpoint,
        default False; see :class:`.ArroyoPipelineSensor` for what that means and where it is refused.
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
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason`` and ``checkpoint``
        (``{"epoch", "type", "start_time_micros", "finish_time_micros"}`` of the newest one that meets it all; the
        type is None on Arroyo 0.15).
    :raises ValueError: on arguments out of range, before any request; names the argument.
    :raises ArroyoTaskError: when the pipeline can make no such checkpoint any more, or when Arroyo stays unreachable.
    :raises AirflowSensorTimeout: when the time is over.
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
        max_age: timedelta | float | None = None,
        began_after: datetime | str | None = None,
        min_epoch: int | str | None = None,
        checkpoint_type: str | None = None,
        new_checkpoints: int | None = None,
        poll_interval: timedelta | float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poll_interval=poll_interval, **kwargs)
        wanted = (max_age, began_after, min_epoch, checkpoint_type, new_checkpoints)
        if all(value is None for value in wanted):
            raise ValueError(
                "at least one of max_age, began_after, min_epoch, checkpoint_type and new_checkpoints must be given"
            )
        self.max_age = None if max_age is None else check_duration(max_age, "max_age", positive=True)
        self.began_after = began_after
        self.min_epoch = min_epoch
        # One that is rendered as None is still asked for, and wrong.
        self._templated = [name for name in _TEMPLATED if getattr(self, name) is not None]
        for name in self._templated:
            check_early(_TEMPLATED[name], getattr(self, name), name)
        if checkpoint_type is not None:
            check_choice(checkpoint_type, "checkpoint_type", tuple(CheckpointType))
        self.checkpoint_type = checkpoint_type
        self.new_checkpoints = (
            None if new_checkpoints is None else check_integer(new_checkpoints, "new_checkpoints")
        )

    def _plan(self, *, deadline: float, argument: str, began: float | None) -> dict[str, Any]:
        rendered = {name: _TEMPLATED[name](getattr(self, name), name) for name in self._templated}
        moment = rendered.get("began_after")
        if moment is not None and moment.timestamp() > deadline:
            raise ValueError(
                f"began_after must not be after the end of this wait, {utc_time(deadline)} ({argument}): no "
                f"checkpoint can have begun by then; got {self.began_after}"
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
