"""All operators. Import them from this module."""

from airflow_provider_arroyo.operators.delete import ArroyoDeletePipelineOperator
from airflow_provider_arroyo.operators.deploy import ArroyoDeployPipelineOperator
from airflow_provider_arroyo.operators.ensure import (
    ArroyoEnsureConnectionProfileOperator,
    ArroyoEnsureConnectionTableOperator,
    ArroyoEnsureUdfOperator,
)
from airflow_provider_arroyo.operators.prune import ArroyoPrunePipelinesOperator
from airflow_provider_arroyo.operators.query import ArroyoPreviewQueryOperator, ArroyoValidateQueryOperator
from airflow_provider_arroyo.operators.restart import ArroyoRestartPipelineOperator
from airflow_provider_arroyo.operators.stop import ArroyoStopPipelineOperator
from airflow_provider_arroyo.operators.submit import ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.operators.update import ArroyoUpdatePipelineOperator
from airflow_provider_arroyo.pipelines.folder import pipelines_from_folder

__all__ = [
    "ArroyoDeletePipelineOperator",
    "ArroyoDeployPipelineOperator",
    "ArroyoEnsureConnectionProfileOperator",
    "ArroyoEnsureConnectionTableOperator",
    "ArroyoEnsureUdfOperator",
    "ArroyoPreviewQueryOperator",
    "ArroyoPrunePipelinesOperator",
    "ArroyoRestartPipelineOperator",
    "ArroyoStopPipelineOperator",
    "ArroyoSubmitPipelineOperator",
    "ArroyoUpdatePipelineOperator",
    "ArroyoValidateQueryOperator",
    "pipelines_from_folder",
]
