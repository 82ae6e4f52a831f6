"""All sensors. Import them from this module."""

from airflow_provider_arroyo.sensors.checkpoint import ArroyoCheckpointSensor
from airflow_provider_arroyo.sensors.metric import ArroyoMetricSensor
from airflow_provider_arroyo.sensors.pipeline import ArroyoPipelineSensor

__all__ = ["ArroyoCheckpointSensor", "ArroyoMetricSensor", "ArroyoPipelineSensor"]
