"""All operators: the module to import them from."""

from airflow_provider_arroyo.operators.ensure import (
    ArroyoEnsureConnectionProfileOperator,
    ArroyoEnsureConnectionTableOperator,
    ArroyoEnsureUdfOperator,
)
from airflow_provider_arroyo.operators.preview import ArroyoPreviewQueryOperator
from airflow_provider_arroyo.operators.stop import ArroyoStopPipelineOperator
from airflow_provider_arroyo.operators.submit import ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.operators.validate import ArroyoValidateQueryOperator

__all__ = [
    "ArroyoEnsureConnectionProfileOperator",
    "ArroyoEnsureConnectionTableOperator",
    "ArroyoEnsureUdfOperator",
    "ArroyoPreviewQueryOperator",
    "ArroyoStopPipelineOperator",
    "ArroyoSubmitPipelineOperator",
    "ArroyoValidateQueryOperator",
]
