"""Submits and alarms that wait in a triggerer at the same time. A run of this DAG is a wave."""

from __future__ import annotations

from airflow.sdk import DAG

from benchmarks.parts import DEFERRED, WAVE, FromTrigger, submit

with DAG("deferred", schedule=None):
    for number in range(WAVE):
        for kind, arguments in DEFERRED.items():
            submit(f"{kind}_{number}", f"held_{{{{ dag_run.conf['wave'] }}}}_{kind}_{number}", arguments)
        FromTrigger(
            task_id=f"alarm_{number}",
            path="benchmarks.parts.Alarm",
            arguments={"number": number, "ends_task": False},
        )
