"""DAGs of the tests that kill workers and triggerers: the test holds their pipelines until their tasks may end."""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_arroyo.operators.arroyo import ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor

ENDLESS = """
CREATE TABLE source WITH (connector = 'impulse', event_rate = '10');
CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
INSERT INTO sink SELECT counter FROM source;
"""
HELD = [f"held_{number}" for number in range(20)]

for name in ("killed_waiting", "killed_submitting"):
    with DAG(f"e2e_{name}", schedule=None):
        ArroyoSubmitPipelineOperator(
            task_id="submit",
            pipeline_name=name,
            query=ENDLESS,
            timeout=timedelta(minutes=15),
            stop_on_kill="checkpoint",
            deferrable=False,
            retries=2,
            retry_delay=timedelta(seconds=1),
        )

with DAG("e2e_held_in_triggerers", schedule=None):
    ArroyoPipelineSensor.partial(
        task_id="watch", target_states=["Stopped"], deferrable=True, defer_after=0
    ).expand(pipeline_name=HELD)
