"""Streaming SQL, judged as Arroyo judges it: good or bad, in its words, and with its graphs."""

from __future__ import annotations

from airflow_provider_arroyo.sandbox.sql.judging import judge
from airflow_provider_arroyo.sandbox.sql.model import CatalogTable, Judgement, Sink, Source

__all__ = ["CatalogTable", "Judgement", "Sink", "Source", "judge"]
