"""The metrics of a job are requested once for all waits of a triggerer that need them at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoConnectionError, ArroyoError
from airflow_provider_arroyo.monitoring.condition import Reading
from airflow_provider_arroyo.polling import details
from airflow_provider_arroyo.polling.connection import Connection
from airflow_provider_arroyo.polling.details import DetailReader, Fetched
from tests.polling.fake_arroyo import FakeArroyo
from tests.polling.virtual_time import now, virtual


class Waiting:
    """A wait for a metric; records what it observes."""

    def __init__(self) -> None:
        self.wait = self.plan = self.clock = self.progress = self
        self.metric = self.condition = "a metric"
        self.finding, self.tolerance_seconds = None, 0.0
        self.seen: list[Any] = []

    def from_monotonic(self, seconds: float) -> float:
        return seconds

    def observe_details(self, job: Job, found: Fetched, at: float, *, sent_at: float) -> None:
        self.seen.append(found.value if isinstance(found, Reading) else found)

    def observe(self, observe: Any) -> None:
        observe()


def job(job_id: str = "job_1", run_id: int = 1) -> Job:
    return Job(id=job_id, state="Running", run_id=run_id, running_desired=True)


class Server:
    """Numbers its responses, each of which takes half a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: ArroyoError | None = None) -> None:
        self.requests = 0
        self._error = error
        monkeypatch.setattr(details, "fetch", self._fetch)
        monkeypatch.setattr(details, "measure", lambda client, plan, finding, fetched: fetched)
        self._reader = DetailReader(Connection(FakeArroyo().connect, self._run, now))

    def _fetch(self, *_: Any) -> Fetched:
        self.requests += 1
        return self._error or Reading(self.requests)

    async def _run(self, function: Any) -> Any:
        before = self.requests
        result = function()
        await asyncio.sleep(0.5 * (self.requests - before))
        return result

    async def read(self, *jobs: Job) -> list[Any]:
        """Let a wait for each job read its metrics at the same time; return what they observe."""
        waits: list[Any] = [Waiting() for _ in jobs]
        await asyncio.gather(*(self._reader.read(*both) for both in zip(waits, jobs, strict=True)))
        return [wait.seen[0] for wait in waits]


def test_waits_during_a_request_or_just_after_it_share_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    @virtual
    async def main() -> None:
        server = Server(monkeypatch)
        assert await server.read(job(), job(), job(), job()) == [1, 1, 1, 1]
        await asyncio.sleep(1.2)
        assert await server.read(job(), job("job_2")) == [1, 2]
        assert await server.read(job()) == [3]
        # The values of the previous run are not shared with this one.
        assert await server.read(job(run_id=2)) == [4]

    main()


def test_a_failure_is_shared_but_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    @virtual
    async def main() -> None:
        error = ArroyoConnectionError("Connection reset")
        server = Server(monkeypatch, error)
        assert await server.read(job(), job()) == [error, error]
        assert server.requests == 1
        await asyncio.sleep(2)
        assert await server.read(job()) == [error]
        assert server.requests == 2

    main()
