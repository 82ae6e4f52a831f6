"""Talks HTTP to Arroyo: settings, requests, models and the client. Does not depend on Airflow."""
