"""From an Airflow connection to clients, and the loops that feed a wait."""
