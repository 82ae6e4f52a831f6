"""All operators: the module to import them from."""

from airflow_provider_arroyo.operators.stop import ArroyoStopPipelineOperator
from airflow_provider_arroyo.operators.submit import ArroyoSubmitPipelineOperator

__all__ = ["ArroyoStopPipelineOperator", "ArroyoSubmitPipelineOperator"]
