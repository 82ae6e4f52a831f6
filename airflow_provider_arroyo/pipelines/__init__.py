"""What a pipeline should be, and whose it is. Knows no Airflow."""
