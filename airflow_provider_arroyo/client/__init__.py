"""Talks HTTP to Arroyo: settings, requests, models, and one client. Knows no Airflow."""
