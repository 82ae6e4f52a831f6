"""Sensors that defer at once, each for a pipeline that is stopped soon after; no retries."""

from __future__ import annotations

import json
import os

from airflow.sdk import DAG

from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor

DAG_ID = "deferrals"
TASK_ID = "watch"

with DAG(DAG_ID, schedule=None, max_active_tasks=int(os.environ.get("DEFERRALS_AT_ONCE", "16"))):
    ArroyoPipelineSensor.partial(
        task_id=TASK_ID,
        target_states=["Stopped"],
        deferrable=True,
        defer_after=0,
        end_from_trigger=os.environ.get("DEFERRALS_END_FROM_TRIGGER") == "1",
        timeout=600,
        retries=0,
    ).expand(pipeline_id=json.loads(os.environ.get("DEFERRALS_PIPELINES", "[]")))
