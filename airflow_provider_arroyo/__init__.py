"""Run Arroyo streaming SQL pipelines from Apache Airflow.

Airflow imports this module in every one of its processes, so it holds the version and nothing else.
"""

__version__ = "0.2.0"
