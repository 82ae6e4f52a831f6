"""The output of a preview: server-sent events with the rows that its sink receives."""

from __future__ import annotations

import threading
from typing import Any

from aiohttp import web

from airflow_provider_arroyo.client.models import JobState

from .answers import render
from .engine import Engine
from .records import Job
from .rows import row_maker


async def stream_output(
    request: web.Request, job: Job, engine: Engine, lock: threading.RLock
) -> web.StreamResponse:
    """Send the rows of a preview from now on, until its job runs no more.

    Rows made before are lost, as on a real server; ``start_id`` of the first event says how many.
    """
    response = web.StreamResponse(
        headers={
            "content-type": "text/event-stream",
            "cache-control": "no-cache",
            "vary": "origin, access-control-request-method, access-control-request-headers",
            "access-control-allow-origin": "*",
        }
    )
    response.enable_chunked_encoding()
    await response.prepare(request)
    rows = _Rows(job)
    turn = job.turn
    event = 0
    try:
        while True:
            with lock:
                now = engine.advance()
                alive = job.turn == turn and job.state == JobState.RUNNING
                until = now if alive else (job.run_ended or now)
                made = rows.until(until)
            for start_id, moments, batch in made:
                data = {
                    "operator_id": rows.operator_id,
                    "subtask_idx": 0,
                    "timestamps": moments,
                    "start_id": start_id,
                    "batch": render(batch).decode(),
                }
                await response.write(b"data: %b\nid: %d\n\n" % (render(data), event))
                event += 1
            if not alive:
                break
            with lock:
                due = min(rows.next_due, engine.next_due or rows.next_due)
            await engine.sleep_until(max(due, now + 1_000))
    except ConnectionError:
        return response
    await response.write_eof()
    return response


class _Rows:
    """The rows of a run, by when they are made."""

    def __init__(self, job: Job) -> None:
        pipeline = job.pipeline
        self._begun = job.run_started or 0
        rates = [source.rate for source in pipeline.sources if source.rate]
        self._rate = min(rates, default=10.0)
        counts = [source.count for source in pipeline.sources if source.count is not None]
        self._count = min(counts, default=None)
        self._row = row_maker(pipeline.query, pipeline.columns)
        node = next(
            (node for node in pipeline.graph["nodes"] if "preview" in node["operator"]), {"node_id": 0}
        )
        self.operator_id = f"sink_preview_{node['node_id']}"
        self._next: int | None = None

    @property
    def next_due(self) -> int:
        """When the next row will be made."""
        return self._made_at(self._next or 0)

    def _made_at(self, number: int) -> int:
        return self._begun + int(number / self._rate * 1_000_000)

    def until(self, now: int) -> list[tuple[int, list[int], list[dict[str, Any]]]]:
        """Return the batches made since the last look: first row's number, times, rows."""
        last = int((now - self._begun) / 1_000_000 * self._rate)
        if self._count is not None:
            last = min(last, self._count - 1)
        if self._next is None:
            # What was made before the connection is lost.
            self._next = last + 1 if last < 0 or self._made_at(last) < now - 50_000 else last
        batches = []
        # A fast source sends many rows at once, a slow one each by itself.
        size = max(1, int(self._rate // 10))
        while self._next <= last:
            numbers = range(self._next, min(last + 1, self._next + size))
            moments = [self._made_at(number) for number in numbers]
            batches.append((numbers[0], moments, [self._row(number) for number in numbers]))
            self._next = numbers[-1] + 1
        return batches
