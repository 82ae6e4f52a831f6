"""From SQL to what the engine runs: what is said of the SQL, with the server's own tables and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import sql
from .records import Source


@dataclass(frozen=True, slots=True)
class Plan:
    """What Arroyo makes of a query, why it refuses it, or that it panics on it.

    :param graph: None where there is none: it is refused, or Arroyo panics.
    :param errors: ``{"message": …, "span": … | None}`` each, for the answer to a validation.
    :param refusal: the text with which creating a pipeline is refused.
    :param udf_refusal: the text with which 0.16 refuses even to validate, because of a UDF.
    :param panic: on what Arroyo's planner panics, so that it hangs up without a response; None: it does not.
    :param not_judged: what was accepted without being checked, each a few words.
    :param tables: ids of the connection tables that it uses.
    """

    graph: dict[str, Any] | None
    errors: Sequence[Mapping[str, Any]] = ()
    refusal: str | None = None
    udf_refusal: str | None = None
    panic: str | None = None
    not_judged: tuple[str, ...] = ()
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
) -> Plan:
    """Evaluate a query against the connection tables and UDFs that the server has."""
    found = sql.evaluate(
        query,
        arroyo_version=version,
        tables=[_catalog_table(table) for table in tables],
        udfs=udfs,
        preview=preview,
        parallelism=parallelism,
    )
    used = {source.name for source in found.sources} | {sink.name for sink in found.sinks}
    return Plan(
        graph=found.graph,
        errors=found.errors,
        refusal=found.refusal,
        udf_refusal=found.udf_refusal,
        panic=found.panic,
        not_judged=found.not_judged,
        sources=tuple(map(_source, found.sources)),
        sinks=tuple(sink.name for sink in found.sinks),
        columns=tuple(name for sink in found.sinks for name in sink.columns),
        tables=frozenset(table["id"] for table in tables if table["name"] in used),
    )


def _catalog_table(table: Mapping[str, Any]) -> sql.CatalogTable:
    fields = table["schema"]["fields"]
    return sql.CatalogTable(
        name=table["name"],
        connector=table["connector"],
        config=table["config"] or {},
        columns=[(field["name"], field["sql_name"] or field["type"]) for field in fields],
        table_type=table["table_type"],
    )


def _source(found: sql.Source) -> Source:
    # A source that reads a file of this machine ends with it, or fails without it.
    made = (found.name, found.connector, found.event_rate)
    path = None if found.path is None else found.path.removeprefix("file://")
    if path is None or "://" in path:
        return Source(*made, found.message_count)
    if Path(path).exists():
        return Source(*made, 0 if found.message_count is None else found.message_count)
    return Source(*made, found.message_count, missing_path=path)
