"""Where a sensor may end in the triggerer, and where that would lose something."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow.providers.common.compat.sdk import BaseSensorOperator

from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError
from airflow_provider_arroyo.links import RESULT_XCOM_KEY


def check_end_from_trigger(sensor: Any, *, is_running: bool = False) -> None:
    """Check that nothing is lost where a sensor ends in the triggerer.

    :param sensor: a sensor with ``end_from_trigger``; without it there is nothing to check.
    :param is_running: whether the tasks that are mapped over its result are known, if it is in a DAG.
    :raises ArroyoArgumentError: names what would be lost. Airflow does not retry it, where a mapped task is only made
        when it runs.
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
        "multiple_outputs": (sensor.multiple_outputs, "its single outputs would not be stored"),
        # Airflow 3.3.
        "returns_dag_result": (
            getattr(sensor, "returns_dag_result", False),
            "it would not be stored as such",
        ),
        "expand() over its result": (is_mapped_over, "Airflow would not know how many tasks to make"),
    }
    for what, (is_given, why) in lost.items():
        if is_given:
            raise ArroyoArgumentError(
                f"end_from_trigger=True does not go with {what}: {why}, since Airflow ends the task in the "
                f"triggerer. Leave end_from_trigger at False, or do without {what}."
            )


def take_result_back(sensor: Any) -> None:
    """Empty the result of a triggerer that was killed before Airflow heard of it: the wait has failed since.

    :param sensor: a sensor that is about to fail, and knows its task instance.
    """
    from airflow_provider_arroyo.on_kill import map_index_of

    if not sensor.end_from_trigger:
        return
    ti = sensor._ti
    where = {"task_ids": ti.task_id, "map_indexes": map_index_of(ti)}
    with suppress(Exception):  # the wait's own error is what counts
        if ti.xcom_pull(key=RESULT_XCOM_KEY, **where) is not None:
            ti.xcom_push(key=RESULT_XCOM_KEY, value=None)
