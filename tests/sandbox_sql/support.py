"""Tables to query, and short ways to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_arroyo.sandbox.sql import Evaluation, evaluate

KAFKA = "connector = 'kafka', bootstrap_servers = 'b:9092', topic = 'orders', format = '{}', type = '{}'"
TABLES = (
    "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"
    "CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');\n"
)
ORDERS = (
    'CREATE TABLE orders (id BIGINT, name TEXT, ts TIMESTAMP, tags TEXT[], "Total" INT, userId TEXT,'
    f" place STRUCT<x INT, town STRUCT<zip TEXT>>) WITH ({KAFKA.format('json', 'source')});\n"
)


def server_table(
    name: str,
    connector: str,
    config: Any = None,
    columns: Sequence[Sequence[str]] = (),
    table_type: str = "source",
) -> dict[str, Any]:
    """Return a connection table as the API shows it."""
    fields = [{"name": column, "sql_name": kind, "type": kind} for column, kind in columns]
    shown = {"name": name, "connector": connector, "config": config, "table_type": table_type}
    return shown | {"schema": {"fields": fields}}


def ask(query: str, version: str = "0.16", **kwargs: Any) -> Evaluation:
    """Evaluate a query after the tables above."""
    return evaluate(TABLES + query, arroyo_version=version, **kwargs)


def accepted(query: str, version: str = "0.16", **kwargs: Any) -> Evaluation:
    """Evaluate a query that must be accepted, and read in full."""
    found = ask(query, version, **kwargs)
    assert found.graph is not None, found.errors
    assert not [what for what in found.not_judged if "cannot read" in what or "syntax" in what]
    return found


def refusal(query: str, version: str = "0.16", **kwargs: Any) -> str:
    """Return with which words a query is refused."""
    found = ask(query, version, **kwargs)
    assert found.graph is None
    assert found.panic is None
    message = found.errors[0]["message"]
    assert isinstance(message, str)
    return message
