"""From SQL to what the engine runs: asks the judge of SQL, and adds what it cannot know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .records import Source
from .sql import CatalogTable, judge


@dataclass(frozen=True, slots=True)
class Plan:
    """What Arroyo makes of a query, or why it refuses it.

    :param graph: None where it is refused.
    :param tables: ids of the connection tables that it uses.
    """

    graph: dict[str, Any] | None
    errors: Sequence[Mapping[str, Any]] = ()
    refusal: str | None = None
    udf_refusal: str | None = None
    sources: tuple[Source, ...] = ()
    sinks: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    tables: frozenset[str] = frozenset()


def plan(
    query: str,
    *,
    version: str,
    tables: Sequence[Mapping[str, Any]],
    udfs: Sequence[Mapping[str, Any]],
    parallelism: int,
    preview: bool,
    strict: bool,
) -> Plan:
    """Judge a query against the connection tables and UDFs that the server has."""
    judgement = judge(
        query,
        arroyo_version=version,
        tables=[_catalog_table(table) for table in tables],
        udfs=udfs,
        preview=preview,
        parallelism=parallelism,
        strict=strict,
    )
    used = {source.name for source in judgement.sources} | {sink.name for sink in judgement.sinks}
    return Plan(
        graph=judgement.graph,
        errors=judgement.errors,
        refusal=judgement.refusal,
        udf_refusal=judgement.udf_refusal,
        sources=tuple(
            _source(item.name, item.connector, item.event_rate, item.message_count, item.path)
            for item in judgement.sources
        ),
        sinks=tuple(sink.name for sink in judgement.sinks),
        columns=tuple(name for sink in judgement.sinks for name, _ in sink.columns),
        tables=frozenset(table["id"] for table in tables if table["name"] in used),
    )


def _catalog_table(table: Mapping[str, Any]) -> CatalogTable:
    fields = table["schema"]["fields"]
    return CatalogTable(
        name=table["name"],
        connector=table["connector"],
        config=table["config"] or {},
        columns=[(field["name"], field["sql_name"] or field["type"]) for field in fields],
        table_type=table["table_type"],
    )


def _source(name: str, connector: str, rate: float | None, count: int | None, path: str | None) -> Source:
    # A source that reads a file of this machine ends with it, or fails without it.
    if path is None or "://" in path.removeprefix("file://"):
        return Source(name, connector, rate, count)
    local = path.removeprefix("file://")
    if Path(local).exists():
        return Source(name, connector, rate, 0 if count is None else count)
    return Source(name, connector, rate, count, missing_path=local)
