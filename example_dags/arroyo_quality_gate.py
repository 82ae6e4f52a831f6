"""Check the rows of a query in a preview, then submit it as a pipeline, with SQL from a Python function.

It needs a connection `arroyo_default` of type Arroyo. The preview writes to no sinks.
"""

from typing import Any

from airflow.sdk import DAG, chain, task

from airflow_provider_arroyo.operators.arroyo import ArroyoDeletePipelineOperator, ArroyoPreviewQueryOperator

SOURCE = "CREATE TABLE orders WITH (connector = 'impulse', event_rate = '50');"


def no_gaps(rows: list[dict[str, Any]]) -> None:
    """Raise an error if a number between two orders is missing."""
    numbers = [row["counter"] for row in rows]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise ValueError("orders are missing")


with DAG(
    dag_id="arroyo_quality_gate",
    schedule=None,
    catchup=False,
    tags=["arroyo", "example"],
    doc_md=__doc__,
):
    gate = ArroyoPreviewQueryOperator(
        task_id="gate", query=f"{SOURCE} SELECT counter FROM orders;", max_rows=20, check=no_gaps
    )

    @task.arroyo_sql(pipeline_name="even_orders", stable_for=1)
    def even_orders(divisor: int) -> str:
        return f"""\
{SOURCE}
CREATE TABLE even (counter BIGINT UNSIGNED) WITH (connector = 'blackhole');
INSERT INTO even SELECT counter FROM orders WHERE counter % {divisor} = 0;"""

    clean_up = ArroyoDeletePipelineOperator(task_id="clean_up", pipeline_name="even_orders")

    chain(gate, even_orders(2), clean_up)
