"""Sixty tasks in twenty lanes; each lane submits a pipeline, watches it, and stops it or watches it again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_arroyo.operators.arroyo import ArroyoStopPipelineOperator, ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor

DAG_ID = "chaos_many"
LANES = 20
ENDLESS = """
CREATE TABLE source WITH (connector = 'impulse', event_rate = '10');
CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
INSERT INTO sink SELECT counter FROM source;
"""
BOUNDED = ENDLESS.replace("event_rate = '10'", "event_rate = '10', message_count = '200'")
RETRIES: dict[str, Any] = {"timeout": 1800, "retries": 30, "retry_delay": timedelta(seconds=2)}


def is_bounded(lane: int) -> bool:
    """Return whether a lane's pipeline finishes by itself."""
    return lane % 7 == 3


def is_stopped(lane: int) -> bool:
    """Return whether a lane stops its pipeline at the end."""
    return lane < LANES // 2


def stop_on_kill(lane: int) -> str | None:
    """Return how a lane's pipeline is stopped when its submit is marked failed."""
    return "checkpoint" if lane % 3 == 0 else None


with DAG(DAG_ID, schedule=None, max_active_tasks=60):
    for lane in range(LANES):
        submitted_id = f"{{{{ ti.xcom_pull('submit_{lane}')['pipeline_id'] }}}}"
        submit = ArroyoSubmitPipelineOperator(
            task_id=f"submit_{lane}",
            pipeline_name=f"lane-{lane}",
            query=BOUNDED if is_bounded(lane) else ENDLESS,
            wait_for="Finished" if is_bounded(lane) else "Running",
            stable_for=timedelta(seconds=25),
            stop_on_kill=stop_on_kill(lane),
            deferrable=lane % 2 == 0,
            defer_after=0,
            **RETRIES,
        )
        watch = ArroyoPipelineSensor(
            task_id=f"watch_{lane}",
            pipeline_id=submitted_id,
            target_states=["Finished" if is_bounded(lane) else "Running"],
            stable_for=timedelta(seconds=20),
            deferrable=lane % 4 < 2,
            **RETRIES,
        )
        last: ArroyoStopPipelineOperator | ArroyoPipelineSensor
        if is_stopped(lane):
            last = ArroyoStopPipelineOperator(
                task_id=f"last_{lane}",
                pipeline_id=submitted_id,
                mode="checkpoint" if lane % 3 else "graceful",
                deferrable=lane % 2 == 1,
                defer_after=0,
                **RETRIES,
            )
        else:
            last = ArroyoPipelineSensor(
                task_id=f"last_{lane}",
                pipeline_id=submitted_id,
                target_states=["Running", "Finished"],
                stable_for=timedelta(seconds=5),
                mode="reschedule" if lane % 2 else "poke",
                poke_interval=3,
                **RETRIES,
            )
        submit >> watch >> last
