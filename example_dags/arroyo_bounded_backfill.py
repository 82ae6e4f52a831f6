"""Run a pipeline with a bounded source, and wait until it has processed all rows.

It needs a connection `arroyo_default` of type Arroyo. The SQL is a template: the param `rows` is the number
of rows.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_arroyo.operators.arroyo import ArroyoSubmitPipelineOperator

with DAG(
    dag_id="arroyo_bounded_backfill",
    schedule=None,
    catchup=False,
    params={"rows": Param(200, type="integer", minimum=1, description="How many orders to read")},
    tags=["arroyo", "example"],
    doc_md=__doc__,
):
    ArroyoSubmitPipelineOperator(
        task_id="backfill",
        pipeline_name="orders_backfill",
        query="sql/orders_backfill.sql",
        wait_for="Finished",
        timeout=timedelta(hours=1),
    )
