"""Deploy a second version that does not come up, and check that the first one runs again.

It needs a connection `arroyo_default` of type Arroyo. The task `second` fails, as intended: it deletes the
pipeline that it deployed, and resumes the old one from its last checkpoint. Its log says what it did, and
why.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_arroyo.operators.arroyo import ArroyoDeployPipelineOperator
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor

with DAG(
    dag_id="arroyo_deploy_rollback",
    schedule=None,
    catchup=False,
    tags=["arroyo", "example"],
    doc_md=__doc__,
):
    pipeline: dict[str, Any] = {
        "pipeline_name": "orders_with_rollback",
        "group": "{{ dag.dag_id }}",
        "checkpoint_interval": timedelta(seconds=1),
        "allow_state_loss": True,
    }
    first = ArroyoDeployPipelineOperator(task_id="first", query="sql/orders_per_minute.sql", **pipeline)

    # Arroyo accepts this SQL; the pipeline fails when it opens its file.
    second = ArroyoDeployPipelineOperator(
        task_id="second",
        query="sql/orders_from_missing_file.sql",
        on_failure="rollback",
        rollback_timeout=timedelta(minutes=2),
        **pipeline,
    )

    still_running = ArroyoPipelineSensor(
        task_id="still_running",
        pipeline_id="{{ ti.xcom_pull('first')['pipeline_id'] }}",
        target_states=["Running"],
        stable_for=timedelta(seconds=2),
        trigger_rule="all_failed",
    )

    first >> second >> still_running
