"""Stop a pipeline for maintenance of its sources or sinks, then resume it where it stopped.

It needs a connection `arroyo_default` of type Arroyo. This DAG deploys the pipeline itself, to make the
example complete. In practice, another DAG does that.
"""

from datetime import timedelta

from airflow.sdk import DAG, chain, task

from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeletePipelineOperator,
    ArroyoDeployPipelineOperator,
    ArroyoRestartPipelineOperator,
    ArroyoStopPipelineOperator,
)

with DAG(
    dag_id="arroyo_maintenance",
    schedule=None,
    catchup=False,
    tags=["arroyo", "example"],
    doc_md=__doc__,
):
    deploy = ArroyoDeployPipelineOperator(
        task_id="deploy",
        pipeline_name="orders_under_maintenance",
        query="sql/orders_per_minute.sql",
        checkpoint_interval=timedelta(seconds=1),
    )

    # Fails if there is no proof of a final checkpoint, so that the maintenance does not begin.
    stop = ArroyoStopPipelineOperator(
        task_id="stop", pipeline_name="orders_under_maintenance", require_checkpoint=True
    )

    @task
    def maintain() -> str:
        return "the broker is upgraded here"

    # Resumes a stopped pipeline, or restarts a failed one. Succeeds once the new run has finished a
    # checkpoint.
    resume = ArroyoRestartPipelineOperator(
        task_id="resume", pipeline_name="orders_under_maintenance", until_checkpoint=True
    )

    clean_up = ArroyoDeletePipelineOperator(task_id="clean_up", pipeline_name="orders_under_maintenance")

    chain(deploy, stop, maintain(), resume, clean_up)
