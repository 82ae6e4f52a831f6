"""A fake Arroyo in the same process: the real client uses it, in virtual time and without HTTP."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import unquote

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import HttpResponse, Request
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoConnectionError, Disposition
from tests.polling.virtual_time import now

T = TypeVar("T")

LIST = "list"
SINGLE = "single"
CHECKPOINTS = "checkpoints"

Answer = tuple[int, str] | str
"""A status and a body; or ``refused`` or ``hangs``."""


class FakeArroyo:
    """The test changes its jobs; its requests are counted.

    :param version: "0.16" names pipelines in the list, "0.15" does not.
    :param monotonic: a monotonic clock; default the running loop's time.
    :param spend: advances the time, for a worker's loop; the poller's requests sleep on the event loop.
    """

    def __init__(
        self,
        *,
        version: str = "0.16",
        monotonic: Callable[[], float] = now,
        spend: Callable[[float], None] | None = None,
    ) -> None:
        self.version = version
        self.monotonic = monotonic
        self.jobs: dict[str, list[dict[str, Any]]] = {}
        self.previews: set[str] = set()
        self.checkpoints: dict[str, list[tuple[int, bool]]] = {}
        """The epochs of each pipeline's job, and whether each has finished."""
        self.events: list[tuple[float, Callable[[], None]]] = []
        """Events and their times, in order; the first request after an event sees it."""
        self.seconds: Callable[[str, str], float] = lambda kind, pipeline_id: 0.0
        """How long a request takes."""
        self.fault: Callable[[str, str], Answer | None] = lambda kind, pipeline_id: None
        """Called with the kind of poll and the pipeline; returns the answer to give instead of a response, if any."""
        self.headers: dict[str, str] = {}
        """Sent with every response."""
        self.accepted_key: str | None = None
        self.log: list[tuple[float, str, str]] = []
        self.most_at_once: Counter[str] = Counter()
        self.clients: list[ArroyoClient] = []
        self.closed = 0
        self.reload: Callable[[], ClientSettings] | None = None
        self._spend = spend or self._remember
        self._spent = 0.0
        self._under_way: Counter[str] = Counter()
        self._bodies: dict[str, bytes] = {}

    def set(self, pipeline_id: str, state: str, *, run_id: Any = 1, **fields: Any) -> None:
        """Give a pipeline one job, in a state."""
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

    def many(self, count: int, state: str = "Scheduling") -> list[str]:
        """Create pipelines ``pl_0``, ``pl_1``, …"""
        names = [f"pl_{number}" for number in range(count)]
        for name in names:
            self.set(name, state)
        return names

    def delete(self, pipeline_id: str) -> None:
        self._bodies.clear()
        del self.jobs[pipeline_id]

    def hide(self, *pipeline_ids: str) -> None:
        """Make pipelines previews, which the list does not show."""
        self._bodies.clear()
        self.previews.update(pipeline_ids)

    def show(self, pipeline_id: str) -> None:
        """Make a preview an ordinary pipeline."""
        self._bodies.clear()
        self.previews.discard(pipeline_id)

    def at(self, seconds: float, event: Callable[[], None]) -> None:
        """Schedule an event."""
        self.events.append((seconds, event))

    def checkpoint(self, pipeline_id: str, epoch: int, *, finished: bool = True) -> None:
        """Begin or finish a checkpoint."""
        others = [one for one in self.checkpoints.get(pipeline_id, []) if one[0] != epoch]
        self.checkpoints[pipeline_id] = [*others, (epoch, finished)]

    def forget(self) -> None:
        """Reset the counts."""
        self.log.clear()
        self.most_at_once.clear()

    def count(self, kind: str | None = None, pipeline_id: str | None = None) -> int:
        """Return how often it was polled: in total, in one way, or for one pipeline."""
        return sum(kind in (None, k) and pipeline_id in (None, of) for _, k, of in self.log)

    # -- the client's side -------------------------------------------------------------------------------------

    async def connect(self) -> ArroyoClient:
        return self.client()

    def client(self) -> ArroyoClient:
        settings = ClientSettings(base_url="http://arroyo.test:5115")
        client = ArroyoClient(settings, reload=self.reload, clock=self.monotonic)
        client._link.transport = FakeTransport(self, settings)  # type: ignore[assignment]  # has what is used of it
        self.clients.append(client)
        return client

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function as a thread would, in virtual time."""
        self._spent, before = 0.0, len(self.log)
        error: Exception | None = None
        try:
            result = function()
        except Exception as err:  # noqa: BLE001  # raised below, once its time has passed
            error = err
        kind = self.log[-1][1] if len(self.log) > before else ""
        self._under_way[kind] += 1
        self.most_at_once[kind] = max(self.most_at_once[kind], self._under_way[kind])
        try:
            if self._spent:
                await asyncio.sleep(self._spent)
        finally:
            self._under_way[kind] -= 1
        if error is not None:
            raise error
        return result

    def respond(self, request: Request[Any], settings: ClientSettings, at_most: float) -> HttpResponse:
        """Respond to a request that may take that many seconds."""
        time = self.monotonic()
        while self.events and self.events[0][0] <= time:
            self.events.pop(0)[1]()
        parts = request.path.strip("/").split("/")
        kind = LIST if parts[0] == "jobs" else CHECKPOINTS if parts[-1] == CHECKPOINTS else SINGLE
        pipeline_id = "" if kind == LIST else unquote(parts[1])
        self.log.append((time, kind, pipeline_id))
        answer = self.fault(kind, pipeline_id) or self._answer(kind, pipeline_id)
        if self.accepted_key is not None and settings.api_key != self.accepted_key:
            answer = (401, "")
        seconds = at_most if answer == "hangs" else self.seconds(kind, pipeline_id)
        self._spend(min(seconds, at_most))
        if isinstance(answer, str) or seconds > at_most:
            why = "refused the connection" if answer == "refused" else f"did not respond within {at_most:g} s"
            disposition = Disposition.RETRY if answer == "refused" else Disposition.RETRY_IF_IDEMPOTENT
            raise ArroyoConnectionError(f"arroyo.test {why}", disposition=disposition, path=request.path)
        status, body = answer
        content = body if isinstance(body, bytes) else body.encode()
        return HttpResponse(
            status, {"content-type": "application/json", **self.headers}, content, request.path
        )

    def _remember(self, seconds: float) -> None:
        self._spent += seconds

    def _answer(self, kind: str, pipeline_id: str) -> tuple[int, Any]:
        if kind == SINGLE and pipeline_id not in self.jobs:
            return 404, '{"error": "Pipeline not found"}'
        if kind == CHECKPOINTS:
            listed = [
                {
                    "epoch": epoch,
                    "start_time": 10 * epoch,
                    "finish_time": 10 * epoch + 5 if is_finished else None,
                }
                for epoch, is_finished in self.checkpoints.get(pipeline_id, [])
            ]
            return 200, json.dumps({"data": listed})
        place = pipeline_id if kind == SINGLE else LIST
        if place not in self._bodies:
            jobs = (
                self.jobs[pipeline_id]
                if kind == SINGLE
                else [job for name, of in self.jobs.items() if name not in self.previews for job in of]
            )
            self._bodies[place] = json.dumps({"data": jobs}).encode()
        return 200, self._bodies[place]


class FakeTransport:
    """The transport through which the client sends its requests."""

    def __init__(self, server: FakeArroyo, settings: ClientSettings) -> None:
        self._server = server
        self.settings = settings
        self.files_changed_at = settings.check_files()
        self._is_closed = False

    def send(self, request: Request[Any], seconds_left: Callable[[float], float]) -> HttpResponse:
        assert not self._is_closed, "a request by a client that was closed"
        settings = self.settings
        allowed = seconds_left(settings.connect_timeout_seconds + settings.read_timeout_seconds)
        return self._server.respond(request, settings, allowed)

    def close(self) -> None:
        self._is_closed = True
        self._server.closed += 1


def with_key(settings: ClientSettings, key: str) -> ClientSettings:
    """Return settings with another API key."""
    return replace(settings, api_key=key)
