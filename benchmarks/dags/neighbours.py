"""Triggers that are not ours: each fires at a known moment, and its task ends in a worker or in the triggerer."""

from __future__ import annotations

from airflow.sdk import DAG

from benchmarks.parts import ALARMS, FromTrigger

with DAG("neighbours", schedule=None):
    for number in range(ALARMS):
        FromTrigger(
            task_id=f"alarm_{number}",
            path="benchmarks.parts.Alarm",
            arguments={"number": number, "ends_task": number % 2 == 1},
        )
