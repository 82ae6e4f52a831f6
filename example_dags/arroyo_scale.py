"""Scale a pipeline up for the busy hours, and down again.

A deploy applies a new parallelism in one request: Arroyo takes a checkpoint, restarts the pipeline with
more or fewer subtasks, and continues where it stopped. In your own DAGs, use two schedules for the two
tasks.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_arroyo.operators.arroyo import ArroyoDeployPipelineOperator

with DAG(
    dag_id="arroyo_scale",
    schedule=None,
    catchup=False,
    tags=["arroyo", "example"],
    doc_md=__doc__,
):
    pipeline: dict[str, Any] = {
        "pipeline_name": "orders_scaled",
        "query": "sql/orders_per_minute.sql",
        "group": "{{ dag.dag_id }}",
        "checkpoint_interval": timedelta(seconds=1),
    }
    deploy = ArroyoDeployPipelineOperator(task_id="deploy", parallelism=1, **pipeline)
    scale_up = ArroyoDeployPipelineOperator(task_id="scale_up", parallelism=4, **pipeline)
    scale_down = ArroyoDeployPipelineOperator(task_id="scale_down", parallelism=1, **pipeline)

    deploy >> scale_up >> scale_down
