"""Mistakes that a type checker finds: each line that ends in ``# wrong`` is one, and no other is."""

from __future__ import annotations

from airflow_provider_arroyo.assets import pipeline_asset
from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeployPipelineOperator,
    ArroyoPrunePipelinesOperator,
    ArroyoStopPipelineOperator,
    ArroyoSubmitPipelineOperator,
    pipelines_from_folder,
)
from airflow_provider_arroyo.operators.arroyo import ArroyoPauseOperator as ArroyoPauseOperator  # wrong
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.arroyo import (
    ArroyoCheckpointSensor,
    ArroyoMetricSensor,
    ArroyoPipelineSensor,
)
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineEventTrigger

SQL = "SELECT 1"

ArroyoSubmitPipelineOperator(task_id="a", pipeline_name="orders")  # wrong
ArroyoSubmitPipelineOperator(task_id="b", pipeline_name="orders", query=SQL, timeout="10m")  # wrong
ArroyoSubmitPipelineOperator(task_id="c", pipeline_name="orders", query=SQL, parallelism=1.5)  # wrong
ArroyoSubmitPipelineOperator(task_id="d", pipeline_name="orders", query=SQL, env_vars=["A=1"])  # wrong
ArroyoDeployPipelineOperator(task_id="e", pipeline_name=7, query=SQL)  # wrong
ArroyoStopPipelineOperator("f", pipeline_id="pl_1")  # wrong
ArroyoStopPipelineOperator(task_id="g", pipeline_id="pl_1", poll_interval=None)  # wrong
ArroyoPrunePipelinesOperator(task_id="h", group="shop")  # wrong
ArroyoPipelineSensor(task_id="i", pipeline_id="pl_1", max_restarts="5")  # wrong
ArroyoPipelineEventTrigger(pipeline_name="orders", state="Failed")  # wrong
ArroyoCheckpointSensor(task_id="j", pipeline_name="orders", new_checkpoints="2")  # wrong
ArroyoMetricSensor(task_id="k", pipeline_name="orders", operator="source", above=1)  # wrong
ArroyoPipelineSensor(task_id="l", pipeline_id=7)  # wrong
ArroyoMetricSensor(task_id="m", pipeline_name=7, metric="x", operator="sinks", above=1)  # wrong
ArroyoCheckpointSensor(task_id="n", pipeline_name="orders", min_epoch=1, defer_after="2s")  # wrong
ArroyoPipelineSensor(task_id="o", pipeline_id="pl_1", end_from_trigger="yes")  # wrong
ArroyoCheckpointSensor(task_id="p", pipeline_id="pl_1", min_epoch=1, if_missing=True)  # wrong
pipelines_from_folder("sql", "shop")  # wrong
pipeline_asset("arroyo.example.com", "orders")  # wrong
ArroyoHook().get_job(5)  # wrong
STATE = ArroyoHook().get_job("pl_1").state  # wrong
ArroyoHook().restart("pl_1")  # wrong
ArroyoSandbox(version="0.15")  # wrong
