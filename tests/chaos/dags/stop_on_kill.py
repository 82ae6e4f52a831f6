"""DAGs with one task each, which waits for a pipeline until the test ends the task."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_arroyo.operators.arroyo import ArroyoSubmitPipelineOperator

ENDLESS = """
CREATE TABLE source WITH (connector = 'impulse', event_rate = '10');
CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
INSERT INTO sink SELECT counter FROM source;
"""

CASES = (
    "marked_in_triggerer",
    "marked_in_worker",
    "cleared_in_triggerer",
    "cleared_in_worker",
    "taken_over",
    "killed_too_late",
)

for case in CASES:
    with DAG(f"stop_on_kill_{case}", schedule=None):
        ArroyoSubmitPipelineOperator(
            task_id="submit",
            pipeline_name=case,
            query=ENDLESS,
            # The test keeps the one that must succeed in another state until it may succeed.
            stable_for=timedelta(seconds=1) if case == "killed_too_late" else timedelta(minutes=10),
            timeout=timedelta(minutes=15),
            deferrable=not case.endswith("worker"),
            defer_after=0,
            stop_on_kill="checkpoint",
        )
