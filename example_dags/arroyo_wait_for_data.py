"""Process what a pipeline wrote for a data interval, once it has written all of it.

A finished checkpoint that began after the end of the interval covers everything that the pipeline had read
by then. It needs a connection `arroyo_default` of type Arroyo. This DAG deploys the pipeline itself, to
make the example complete. In practice, another DAG does that.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, chain, task

from airflow_provider_arroyo.operators.arroyo import ArroyoDeployPipelineOperator
from airflow_provider_arroyo.sensors.arroyo import ArroyoCheckpointSensor

with DAG(
    dag_id="arroyo_wait_for_data",
    schedule="@hourly",
    catchup=False,
    max_active_runs=1,
    tags=["arroyo", "example"],
    doc_md=__doc__,
):
    stream = ArroyoDeployPipelineOperator(
        task_id="stream",
        pipeline_name="orders_for_reports",
        query="sql/orders_per_minute.sql",
        checkpoint_interval=timedelta(seconds=10),
    )

    # In a scheduled run, run_after is data_interval_end, which a manually triggered run may not have.
    data_is_in = ArroyoCheckpointSensor(
        task_id="data_is_in",
        pipeline_name="orders_for_reports",
        began_after="{{ dag_run.run_after }}",
        timeout=timedelta(minutes=30),
    )

    @task
    def report(found: Any) -> str:
        return f"read here what the pipeline wrote up to checkpoint {found['checkpoint']['epoch']}"

    chain(stream, data_is_in, report(data_is_in.output))
