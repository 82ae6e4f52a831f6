"""Submits one after another: ours in each way to wait, and one that always defers."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_arroyo.operators.pipelines import ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.sandbox.populate import QUERY
from benchmarks.parts import ROUNDS, SUBMITS, DeferringSubmit

with DAG("submits", schedule=None):
    before = None
    for turn in range(ROUNDS):
        for kind, (start, arguments) in SUBMITS.items():
            about = {"task_id": f"{kind}_{turn}", "name": f"{start}_{kind}_{turn}", "query": QUERY}
            if arguments is None:
                task = DeferringSubmit(**about)
            else:
                task = ArroyoSubmitPipelineOperator(**about, stable_for=0, **arguments)
            if before is not None:
                before >> task
            before = task
