"""Small DAGs whose tasks only wait in the triggerer. ``server.json`` names the kind of crowd."""

from __future__ import annotations

from airflow.sdk import DAG

from benchmarks.crowds import CROWDS, TASKS_OF_A_DAG
from benchmarks.parts import FromTrigger, read_shared

server = read_shared("server")
crowd = CROWDS[server["crowd"]]
for number in range(crowd.dags):
    with DAG(f"crowd_{number}", schedule=None) as dag:
        for task in range(TASKS_OF_A_DAG):
            FromTrigger(
                task_id=f"wait_{task}",
                path=crowd.path,
                arguments=crowd.arguments(server["pipelines"][number * TASKS_OF_A_DAG + task]),
            )
    globals()[dag.dag_id] = dag
