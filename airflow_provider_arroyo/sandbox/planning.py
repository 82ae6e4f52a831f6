"""From SQL to what the engine runs: what is said of the SQL, with the server's own tables and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import sql
from .engine import Engine


def plan(
    engine: Engine,
    query: str,
    *,
    udfs: Sequence[Mapping[str, Any]] = (),
    parallelism: int = 1,
    is_preview: bool = False,
) -> sql.Evaluation:
    """Evaluate a query against the connection tables and UDFs that the server has.

    :param udfs: those of the pipeline, beside the server's.
    """
    with engine.store.lock:
        tables, known = list(engine.store.tables.values()), list(engine.store.udfs.values())
    found = sql.evaluate(
        query,
        arroyo_version=engine.version,
        tables=tables,
        udfs=[*known, *udfs],
        preview=is_preview,
        parallelism=parallelism,
    )
    return replace(found, sources=tuple(map(_on_this_machine, found.sources)))


def _on_this_machine(source: sql.Source) -> sql.Source:
    # A source that reads a file of this machine ends with it, or fails without it.
    path = (source.path or "://").removeprefix("file://")
    if "://" in path:
        return source
    if not Path(path).exists():
        return replace(source, missing_path=path)
    return source if source.message_count is not None else replace(source, message_count=0)
