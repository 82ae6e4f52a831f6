"""Run Arroyo streaming SQL pipelines from Apache Airflow.

Airflow imports this module in each of its processes, so it contains only the version.
"""

__version__ = "0.2.0"
