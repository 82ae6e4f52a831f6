"""Checks whether a sensor may end in the triggerer without losing anything."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow.providers.common.compat.sdk import BaseSensorOperator

from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError
from airflow_provider_arroyo.links import RESULT_XCOM_KEY


def check_end_from_trigger(sensor: Any, *, is_running: bool = False) -> None:
    """Check that nothing is lost if a sensor ends in the triggerer.

    :param sensor: a sensor; without ``end_from_trigger`` there is nothing to check.
    :param is_running: whether the task runs in a DAG, so that the tasks mapped over its result are known.
    :raises ArroyoArgumentError: if something would be lost; names it. Airflow does not retry it, because a mapped
        task is created only when it runs.
    """
    if not sensor.end_from_trigger:
        return
    is_overridden = type(sensor).post_execute is not BaseSensorOperator.post_execute
    is_mapped_over = (
        is_running and sensor._dag is not None and any(True for _ in sensor.iter_mapped_dependants())
    )
    never_called = "it would never be called"
    lost = {
        "outlets": (sensor.outlets, "its asset events would not be emitted"),
        "on_success_callback": (sensor.on_success_callback, never_called),
        "post_execute": (sensor._post_execute_hook or is_overridden, never_called),
        "multiple_outputs": (sensor.multiple_outputs, "the separate outputs would not be stored"),
        # Airflow 3.3.
        "returns_dag_result": (
            getattr(sensor, "returns_dag_result", False),
            "it would not be stored as such",
        ),
        "expand() over its result": (is_mapped_over, "Airflow would not know how many tasks to create"),
    }
    for what, (is_given, why) in lost.items():
        if is_given:
            raise ArroyoArgumentError(
                f"end_from_trigger=True cannot be used with {what}: {why}, since Airflow ends the task in the "
                f"triggerer. Set end_from_trigger=False, or remove {what}."
            )


def take_result_back(sensor: Any) -> None:
    """Clear the result of a triggerer that was killed before it reported to Airflow: the wait has failed since.

    :param sensor: a sensor that is about to fail and knows its task instance.
    """
    from airflow_provider_arroyo.on_kill import map_index_of

    if not sensor.end_from_trigger:
        return
    ti = sensor._ti
    where = {"task_ids": ti.task_id, "map_indexes": map_index_of(ti)}
    with suppress(Exception):  # the wait's own error matters more
        if ti.xcom_pull(key=RESULT_XCOM_KEY, **where) is not None:
            ti.xcom_push(key=RESULT_XCOM_KEY, value=None)
