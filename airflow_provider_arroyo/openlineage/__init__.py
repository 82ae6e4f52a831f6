"""Lineage of tasks and pipelines. Imported when Airflow asks for it; needs the extra ``openlineage``."""
