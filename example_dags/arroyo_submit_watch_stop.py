"""Start a streaming pipeline, check that it keeps running, and stop it with a final checkpoint.

It needs a connection `arroyo_default` of type Arroyo. To let the tasks wait in the triggerer instead of a
worker, set `deferrable=True`, or `AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE=True` for all tasks.
"""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_arroyo.operators.arroyo import ArroyoStopPipelineOperator, ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor

with DAG(
    dag_id="arroyo_submit_watch_stop",
    schedule=None,
    catchup=False,
    tags=["arroyo", "example"],
    doc_md=__doc__,
):
    # Succeeds once the pipeline has been Running for two seconds. The pipeline keeps running after the
    # task.
    submit = ArroyoSubmitPipelineOperator(
        task_id="submit",
        pipeline_name="orders_per_minute",
        query="sql/orders_per_minute.sql",
        parallelism=1,
        checkpoint_interval=timedelta(seconds=10),
        wait_for="Running",
        stable_for=timedelta(seconds=2),
        timeout=timedelta(minutes=5),
    )

    # Succeeds once it has been Running for another ten seconds; fails at once if the pipeline fails.
    watch = ArroyoPipelineSensor(
        task_id="watch",
        pipeline_id="{{ ti.xcom_pull('submit')['pipeline_id'] }}",
        target_states=["Running"],
        stable_for=timedelta(seconds=10),
    )

    # Stops it with a final checkpoint, from which it can be resumed later, and waits until it has stopped.
    stop = ArroyoStopPipelineOperator(
        task_id="stop",
        pipeline_id="{{ ti.xcom_pull('submit')['pipeline_id'] }}",
        mode="checkpoint",
        timeout=timedelta(minutes=2),
    )

    submit >> watch >> stop
