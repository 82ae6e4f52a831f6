"""What tasks report to OpenLineage. Imported when Airflow asks for it; needs the extra ``openlineage``."""
