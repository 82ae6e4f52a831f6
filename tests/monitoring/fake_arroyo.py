"""An Arroyo in the same process, for tests of the feed: answers as the client gives them, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.answers import interpret
from airflow_provider_arroyo.arroyo.call import Exchange
from airflow_provider_arroyo.arroyo.settings import ClientSettings

T = TypeVar("T")

LIST = "list"
SINGLE = "single"
PING = "ping"


def contract_seconds(kind: str, jobs: int) -> float:
    """What a look costs a real server, as measured (a straight line through the table of the contract)."""
    return {LIST: 0.0004 + 0.000017 * jobs, SINGLE: 0.0008, PING: 0.0002}[kind]


class FakeArroyo:
    """Its jobs are changed by the test; what was asked of it is counted.

    :param version: "0.16" names pipelines in the list, "0.15" does not.
    :param way_seconds: the way there and back.
    """

    def __init__(self, *, version: str = "0.16", way_seconds: float = 0.0) -> None:
        self.version = version
        self.way_seconds = way_seconds
        self.jobs: dict[str, list[dict[str, Any]]] = {}
        self.previews: set[str] = set()
        self.seconds: Callable[[str, int], float] = contract_seconds
        self.trouble: Callable[[str, str], Exception | None] = lambda kind, pipeline_id: None
        """Given the kind of look and the pipeline: what the client raises."""
        self.retries_seconds = 0.0
        """For how long the next call has to be tried again."""
        self.unanswered: set[str] = set()
        """Kinds of look that get no answer, ever."""
        self.status: dict[str, int] = {}
        self.log: list[tuple[float, str, str]] = []
        self.busy_seconds = 0.0
        self.most_at_once: Counter[str] = Counter()
        self.clients: list[FakeClient] = []
        self._now_asked: Counter[str] = Counter()
        self._bodies: dict[str, bytes] = {}

    def set(self, pipeline_id: str, state: str, *, run_id: Any = 1, **fields: Any) -> None:
        """Let a pipeline have one job, in a state."""
        self._bodies.clear()
        job = {
            "id": f"job_{pipeline_id}",
            "pipeline_id": pipeline_id,
            "running_desired": True,
            "state": state,
            "run_id": run_id,
            "start_time": None,
            "finish_time": None,
            "tasks": None,
            "created_at": 1_800_000_000_000_000,
            **fields,
        }
        if self.version == "0.15":
            del job["pipeline_id"]
        self.jobs[pipeline_id] = [job]

    def delete(self, pipeline_id: str) -> None:
        self._bodies.clear()
        del self.jobs[pipeline_id]

    def hide(self, pipeline_id: str) -> None:
        """Let a pipeline be a preview, which the list does not show."""
        self._bodies.clear()
        self.previews.add(pipeline_id)

    def show(self, pipeline_id: str) -> None:
        """Let a pipeline be no preview."""
        self._bodies.clear()
        self.previews.discard(pipeline_id)

    def forget(self) -> None:
        """Let the counts begin anew."""
        self.log.clear()
        self.most_at_once.clear()
        self.busy_seconds = 0.0

    def count(self, kind: str | None = None) -> int:
        """How often it was asked, in all or in one way."""
        return sum(1 for _, asked, _ in self.log if kind in (None, asked))

    async def connect(self) -> FakeClient:
        client = FakeClient(self)
        self.clients.append(client)
        return client

    async def answer(self, call: api.Call[T], client: FakeClient) -> T:
        parts = call.path.strip("/").split("/")
        kind = {"jobs": LIST, "ping": PING}.get(parts[0], SINGLE)
        pipeline_id = unquote(parts[1]) if kind == SINGLE else ""
        loop = asyncio.get_running_loop()
        self.log.append((loop.time(), kind, pipeline_id))
        self._now_asked[kind] += 1
        self.most_at_once[kind] = max(self.most_at_once[kind], self._now_asked[kind])
        try:
            if kind in self.unanswered:
                await asyncio.Event().wait()
            service = self.seconds(kind, len(self.jobs))
            self.busy_seconds += service
            await asyncio.sleep(self.way_seconds / 2 + service)
            if client.closings:
                raise AssertionError("asked through a client that was closed")
            error = self.trouble(kind, pipeline_id)
            status, body = self._body(kind, pipeline_id)
            await asyncio.sleep(self.way_seconds / 2)
        finally:
            self._now_asked[kind] -= 1
        if error is not None:
            raise error
        answer = api.Answer(status, {"content-type": "application/json"}, body, call.path)
        return interpret(call, answer, client.settings).value

    def _body(self, kind: str, pipeline_id: str) -> tuple[int, bytes]:
        if kind in self.status:
            return self.status[kind], b'{"error": "as ordered"}'
        if kind == PING:
            return 200, b'"Pong"'
        if kind == SINGLE and pipeline_id not in self.jobs:
            return 404, b'{"error": "Pipeline not found"}'
        place = pipeline_id if kind == SINGLE else LIST
        if place not in self._bodies:
            jobs = (
                self.jobs[pipeline_id]
                if kind == SINGLE
                else [job for name, of in self.jobs.items() if name not in self.previews for job in of]
            )
            self._bodies[place] = json.dumps({"data": jobs}).encode()
        return 200, self._bodies[place]


class FakeClient:
    """Speaks to a FakeArroyo."""

    def __init__(self, server: FakeArroyo) -> None:
        self.server = server
        self.settings = ClientSettings()
        self.closings = 0

    async def exchange(self, call: api.Call[T], *, deadline: float | None = None) -> Exchange[T]:
        value = await self.server.answer(call, self)
        seconds, self.server.retries_seconds = self.server.retries_seconds, 0.0
        await asyncio.sleep(seconds)
        return Exchange(value, retries=1 if seconds else 0)

    async def aclose(self) -> None:
        self.closings += 1
