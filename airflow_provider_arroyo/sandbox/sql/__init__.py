"""What Arroyo would say of a query: its graph, or why it refuses it. Needs the extra ``sandbox``."""

from __future__ import annotations

from airflow_provider_arroyo.sandbox.sql.graph import Sink, Source
from airflow_provider_arroyo.sandbox.sql.program import Evaluation, evaluate

__all__ = ["Evaluation", "Sink", "Source", "evaluate"]
