"""Stop a stream for maintenance of what it reads or writes, and let it go on where it was.

Needs a connection `arroyo_default` of type Arroyo. The pipeline is deployed first, so that the example is complete;
in practice another DAG does that.
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

    # Fails if nothing proves that the stop took its final checkpoint: the work must not begin then.
    stop = ArroyoStopPipelineOperator(
        task_id="stop", pipeline_name="orders_under_maintenance", require_checkpoint=True
    )

    @task
    def maintain() -> str:
        return "the broker is upgraded here"

    # A stopped pipeline is resumed, one that failed is restarted. It has to finish a checkpoint before this succeeds.
    resume = ArroyoRestartPipelineOperator(
        task_id="resume", pipeline_name="orders_under_maintenance", until_checkpoint=True
    )

    clean_up = ArroyoDeletePipelineOperator(task_id="clean_up", pipeline_name="orders_under_maintenance")

    chain(deploy, stop, maintain(), resume, clean_up)
