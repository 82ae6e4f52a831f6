"""Tools of the repository: the demo, and the real Airflow that it and the end-to-end tests start."""
