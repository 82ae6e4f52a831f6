"""The output of a preview: server-sent events with the rows that its sink receives."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from airflow_provider_arroyo.client.enums import JobState

from .engine import Engine
from .messages import render
from .records import Job

_POLL_SECONDS = 0.02
HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache"}


def events(job: Job, engine: Engine, lock: threading.RLock, cancelled: threading.Event) -> Iterator[bytes]:
    """Yield the events of a preview as they happen, until its job no longer runs.

    Rows made before are lost, as on a real server; ``start_id`` of the first event says how many.

    :param cancelled: ends it.
    """
    pipeline, begun, turn = job.pipeline, job.run_started or 0, job.turn
    rate = min((source.event_rate for source in pipeline.sources if source.event_rate), default=10.0)
    counts = [source.message_count for source in pipeline.sources if source.message_count is not None]
    nodes = [node["node_id"] for node in pipeline.graph["nodes"] if "preview" in node["operator"]]
    row = row_maker(pipeline.query, [name for sink in pipeline.sinks for name in sink.columns])
    # A fast source sends many rows at once, a slow one single rows.
    size = max(1, int(rate // 10))
    first, number, alive = None, 0, True
    while alive and not cancelled.is_set():
        with lock:
            now = engine.advance()
            alive = job.turn == turn and job.state == JobState.RUNNING
            until = now if alive else (job.run_ended or now)
        # How many rows there are by now.
        made = min([int((until - begun) * rate / 1_000_000) + 1, *counts])
        if first is None:
            # The last row is in time if it is new.
            first = max(0, made - (until - begun < (made - 1) / rate * 1_000_000 + 50_000))
        for start in range(first, made, size):
            numbers = range(start, min(made, start + size))
            moments = [begun + int(one / rate * 1_000_000) for one in numbers]
            data = {
                "operator_id": f"sink_preview_{nodes[0]}",
                "subtask_idx": 0,
                "timestamps": list(map(engine.server_time, moments)),
                "start_id": start,
                "batch": render(list(map(row, numbers))).decode(),
            }
            yield b"data: %b\nid: %d\n\n" % (render(data), number)
            number += 1
        first = max(first, made)
        cancelled.wait(_POLL_SECONDS)


def row_maker(query: str, columns: Sequence[str]) -> Callable[[int], dict[str, Any]]:
    """Return a function from a row's number to the row.

    If SQLite can compute a column of the SELECT from the columns of an impulse source, that is its value; else it
    is the row's number, since the sandbox processes no data.
    """
    names = tuple(columns) or ("counter",)
    database = sqlite3.connect(":memory:", check_same_thread=False)
    expressions = _expressions(query)
    if len(expressions) != len(names):
        expressions = ["counter"] * len(names)

    def value(expression: str, number: int) -> Any:
        try:
            statement = f"SELECT {expression} FROM (SELECT ? AS counter, 0 AS subtask_index)"
            (found,) = database.execute(statement, (number,)).fetchone()
        except sqlite3.Error:
            return number
        return found if isinstance(found, int | float | str) else number

    return lambda number: {
        name: value(expression, number) for name, expression in zip(names, expressions, strict=True)
    }


def _expressions(query: str) -> list[str]:
    try:
        statements = [item for item in sqlglot.parse(query, read="postgres") if item is not None]
        select = statements[-1].find(exp.Select) if statements else None
        return [] if select is None else [item.unalias().sql("sqlite") for item in select.expressions]
    except (SqlglotError, RecursionError):
        return []
