"""What Arroyo would say of a query: its graph, or why it refuses it. Needs the extra ``sandbox``."""

from __future__ import annotations

from airflow_provider_arroyo.sandbox.sql.model import CatalogTable, Evaluation, Sink, Source
from airflow_provider_arroyo.sandbox.sql.program import evaluate

__all__ = ["CatalogTable", "Evaluation", "Sink", "Source", "evaluate"]
