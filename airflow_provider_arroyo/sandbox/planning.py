"""From SQL to what the engine runs: what is said of the SQL, with the server's own tables and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import sql


def plan(
    query: str,
    *,
    version: str,
    tables: Sequence[Mapping[str, Any]],
    udfs: Sequence[Mapping[str, Any]],
    parallelism: int,
    preview: bool,
) -> sql.Evaluation:
    """Evaluate a query against the connection tables and UDFs that the server has."""
    found = sql.evaluate(
        query,
        arroyo_version=version,
        tables=[_catalog_table(table) for table in tables],
        udfs=udfs,
        preview=preview,
        parallelism=parallelism,
    )
    return replace(found, sources=tuple(map(_on_this_machine, found.sources)))


def _catalog_table(table: Mapping[str, Any]) -> sql.CatalogTable:
    fields = table["schema"]["fields"]
    return sql.CatalogTable(
        name=table["name"],
        connector=table["connector"],
        config=table["config"] or {},
        columns=[(field["name"], field["sql_name"] or field["type"]) for field in fields],
        table_type=table["table_type"],
    )


def _on_this_machine(source: sql.Source) -> sql.Source:
    # A source that reads a file of this machine ends with it, or fails without it.
    path = (source.path or "://").removeprefix("file://")
    if "://" in path:
        return source
    if not Path(path).exists():
        return replace(source, missing_path=path)
    return source if source.message_count is not None else replace(source, message_count=0)
