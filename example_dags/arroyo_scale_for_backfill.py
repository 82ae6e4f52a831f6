"""Raise the parallelism of a pipeline while it catches up, and lower it afterwards.

It needs a connection `arroyo_default` of type Arroyo. A new parallelism begins a new run, from a
checkpoint.
"""

from datetime import timedelta

from airflow.sdk import DAG, chain

from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeletePipelineOperator,
    ArroyoDeployPipelineOperator,
    ArroyoUpdatePipelineOperator,
)
from airflow_provider_arroyo.sensors.arroyo import ArroyoMetricSensor

NAME = "orders_catching_up"

with DAG(
    dag_id="arroyo_scale_for_backfill",
    schedule=None,
    catchup=False,
    tags=["arroyo", "example"],
    doc_md=__doc__,
):
    deploy = ArroyoDeployPipelineOperator(
        task_id="deploy",
        pipeline_name=NAME,
        query="sql/orders_per_minute.sql",
        checkpoint_interval=timedelta(seconds=1),
    )
    scale_up = ArroyoUpdatePipelineOperator(
        task_id="scale_up", pipeline_name=NAME, parallelism=2, until_checkpoint=True
    )
    # While the pipeline catches up, its sources are faster than the operators behind them, so there is
    # backpressure.
    catch_up = ArroyoMetricSensor(
        task_id="catch_up",
        pipeline_name=NAME,
        metric="backpressure",
        operator="all",
        below=0.5,
        stable_for=timedelta(seconds=10),
        timeout=timedelta(hours=6),
    )
    scale_down = ArroyoUpdatePipelineOperator(task_id="scale_down", pipeline_name=NAME, parallelism=1)
    clean_up = ArroyoDeletePipelineOperator(task_id="clean_up", pipeline_name=NAME)

    chain(deploy, scale_up, catch_up, scale_down, clean_up)
