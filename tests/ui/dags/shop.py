"""A DAG with the tasks that the pages show; it never runs."""

from __future__ import annotations

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("shop", schedule=None):
    EmptyOperator(task_id="submit") >> EmptyOperator(task_id="report")
