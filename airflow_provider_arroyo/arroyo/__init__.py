"""Knows Arroyo: its models, its calls and two clients. Knows no Airflow."""
