"""Fifty pipelines, each an asset with a watcher, and the one DAG that their events start."""

from __future__ import annotations

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, AssetAny, AssetWatcher

from airflow_provider_arroyo.assets import pipeline_asset
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineEventTrigger

DAG_ID = "chaos_events"
NAMES = [f"stream-{number:02}" for number in range(50)]


def by_name(name: str) -> ArroyoPipelineEventTrigger:
    """Return the trigger of a pipeline's deaths."""
    return ArroyoPipelineEventTrigger(pipeline_name=name, states=["Failed"])


with DAG(
    DAG_ID,
    schedule=AssetAny(
        *(
            pipeline_asset(
                host="arroyo.example.com",
                pipeline_name=name,
                watchers=[AssetWatcher(name=name, trigger=by_name(name))],
            )
            for name in NAMES
        )
    ),
    catchup=False,
):
    EmptyOperator(task_id="done")
