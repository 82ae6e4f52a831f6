"""The output of a preview: server-sent events with the rows that its sink receives."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from airflow_provider_arroyo.client.models import JobState

from .engine import Engine
from .messages import render
from .records import Job

HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "access-control-allow-origin": "*",
}


def events(job: Job, engine: Engine, lock: threading.RLock, cancelled: threading.Event) -> Iterator[bytes]:
    """Yield the events of a preview as they happen, until its job no longer runs.

    Rows made before are lost, as on a real server; ``start_id`` of the first event says how many.

    :param cancelled: ends it.
    """
    rows = _Rows(job)
    turn = job.turn
    number = 0
    alive = True
    while alive and not cancelled.is_set():
        with lock:
            now = engine.advance()
            alive = job.turn == turn and job.state == JobState.RUNNING
            made = rows.until(now if alive else (job.run_ended or now))
            due = min(rows.next_due, engine.next_due or rows.next_due)
        for start_id, moments, batch in made:
            data = {
                "operator_id": rows.operator_id,
                "subtask_idx": 0,
                "timestamps": list(map(engine.server_time, moments)),
                "start_id": start_id,
                "batch": render(batch).decode(),
            }
            yield b"data: %b\nid: %d\n\n" % (render(data), number)
            number += 1
        if alive:
            engine.clock.wait_until(max(due, now + 1_000), cancelled)


class _Rows:
    """The rows of a run, by the time at which they are made."""

    def __init__(self, job: Job) -> None:
        pipeline = job.pipeline
        self._begun = job.run_started or 0
        self._rate = min(
            (source.event_rate for source in pipeline.sources if source.event_rate), default=10.0
        )
        counts = (source.message_count for source in pipeline.sources)
        self._count = min((count for count in counts if count is not None), default=None)
        self._row = row_maker(pipeline.query, [name for sink in pipeline.sinks for name in sink.columns])
        nodes = [node["node_id"] for node in pipeline.graph["nodes"] if "preview" in node["operator"]]
        self.operator_id = f"sink_preview_{nodes[0] if nodes else 0}"
        self._next: int | None = None

    @property
    def next_due(self) -> int:
        """When the next row will be made."""
        return self._made_at(self._next or 0)

    def _made_at(self, number: int) -> int:
        return self._begun + int(number / self._rate * 1_000_000)

    def until(self, now: int) -> list[tuple[int, list[int], list[dict[str, Any]]]]:
        """Return the batches made since the last call: first row's number, times, rows."""
        last = int((now - self._begun) / 1_000_000 * self._rate)
        if self._count is not None:
            last = min(last, self._count - 1)
        if self._next is None:
            # Rows from before the connection are lost.
            self._next = last + 1 if last < 0 or self._made_at(last) < now - 50_000 else last
        batches = []
        # A fast source sends many rows at once, a slow one single rows.
        size = max(1, int(self._rate // 10))
        while self._next <= last:
            numbers = range(self._next, min(last + 1, self._next + size))
            moments = [self._made_at(number) for number in numbers]
            batches.append((numbers[0], moments, [self._row(number) for number in numbers]))
            self._next = numbers[-1] + 1
        return batches


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
