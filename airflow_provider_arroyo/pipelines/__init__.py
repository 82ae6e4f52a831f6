"""Pipelines: what they should be, who owns them, and how to submit and deploy them. Does not depend on Airflow."""
