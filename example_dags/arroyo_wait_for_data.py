"""Work on what a stream has written for an interval, once all of that interval is in.

A checkpoint that began after the end of the interval, and has finished, contains all that the stream had read by
then. Needs a connection `arroyo_default` of type Arroyo. The pipeline is deployed first, so that the example is
complete; in practice another DAG does that.
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

    # Of a scheduled run, that is data_interval_end, which a run that was started by hand may not have.
    data_is_in = ArroyoCheckpointSensor(
        task_id="data_is_in",
        pipeline_name="orders_for_reports",
        began_after="{{ dag_run.run_after }}",
        timeout=timedelta(minutes=30),
    )

    @task
    def report(found: Any) -> str:
        return f"what was written up to checkpoint {found['checkpoint']['epoch']} is read here"

    chain(stream, data_is_in, report(data_is_in.output))
