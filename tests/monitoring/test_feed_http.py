"""The feed over real HTTP: the real client, against a sandbox whose time the test moves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.retry import RetryPolicy
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.monitoring.feed import shared_feed
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock

INTERVAL = 0.02
PATIENCE_SECONDS = 30.0


class Connection:
    """Makes clients as the hook does, and counts them.

    :param keys: the API key of each client, the last one for all that follow.
    """

    def __init__(self, sandbox: ArroyoSandbox, *keys: str) -> None:
        self.sandbox = sandbox
        self._keys = list(keys)
        self.clients: list[ArroyoAsyncClient] = []
        self.notes: list[str] = []

    async def connect(self) -> ArroyoAsyncClient:
        key = None
        if self._keys:
            key = self._keys.pop(0) if len(self._keys) > 1 else self._keys[0]
        settings = ClientSettings(base_url=self.sandbox.url, api_key=key)
        client = ArroyoAsyncClient(settings, retry=RetryPolicy(retries=1))
        self.clients.append(client)
        return client

    def start(
        self, *pipeline_ids: str, target: str, timeout: float = 600.0, server: str = ""
    ) -> list[asyncio.Task[Verdict]]:
        return [asyncio.create_task(self._watch(name, target, timeout, server)) for name in pipeline_ids]

    async def _watch(self, pipeline_id: str, target: str, timeout: float, server: str) -> Verdict:  # noqa: ASYNC109  # the wait's own
        now = time.time()
        plan = WaitPlan(pipeline_id=pipeline_id, targets=frozenset([target]), deadline=now + timeout)
        async with shared_feed(
            key=("arroyo", server), interval_seconds=INTERVAL, connect=self.connect, clock=time.time
        ) as feed:
            return await feed.watch(
                PipelineWait(plan, now=now),
                interval_seconds=INTERVAL,
                on_notes=lambda notes: self.notes.extend(map(str, notes)),
            )


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # the sandbox is in another thread, and sets no event of this loop
            await asyncio.sleep(0.005)


def pipelines_of(sandbox: ArroyoSandbox) -> list[str]:
    return [job.pipeline.id for job in sandbox.store.jobs()]


@pytest.mark.parametrize("version", ["0.15", "0.16"])
async def test_many_waits_share_one_client_and_its_lists(version: str) -> None:
    with ArroyoSandbox(arroyo_version=version, clock=ManualClock(), pipelines=60) as sandbox:
        names = pipelines_of(sandbox)
        connection = Connection(sandbox)
        tasks = connection.start(*names, target="Stopped")
        await until(lambda: sandbox.requests.count("GET", "*/v1/jobs") >= 20)
        assert not any(task.done() for task in tasks)
        singles = sandbox.requests.count("GET", "*/pipelines/*/jobs")
        # How soon lists are found to be the cheaper ones depends on what else this machine does; that they
        # took the place of a look for each does not.
        assert singles < 20 * len(names)
        assert len(connection.clients) == 1
        for name in names[:3]:
            sandbox.faults.stop(name)
        sandbox.advance(10)
        async with asyncio.timeout(PATIENCE_SECONDS):
            verdicts = await asyncio.gather(*tasks[:3])
        assert [verdict.outcome for verdict in verdicts] == [Outcome.REACHED] * 3
        assert not any(task.done() for task in tasks[3:])
        for task in tasks[3:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Nobody stops anything because a wait ends.
        assert {request.method for request in sandbox.requests} == {"GET"}


async def test_waits_outlast_an_api_that_is_away() -> None:
    with ArroyoSandbox(clock=ManualClock(), pipelines=30) as sandbox:
        names = pipelines_of(sandbox)
        connection = Connection(sandbox)
        tasks = connection.start(*names, target="Stopped")
        await until(lambda: sandbox.requests.count("GET", "*/v1/jobs") >= 3)
        sandbox.faults.api_away()
        await until(lambda: sum("cannot be reached" in note for note in connection.notes) == len(names))
        for name in names:
            sandbox.faults.stop(name)
        sandbox.advance(10)
        sandbox.faults.api_back()
        async with asyncio.timeout(PATIENCE_SECONDS):
            verdicts = await asyncio.gather(*tasks)
        assert [verdict.outcome for verdict in verdicts] == [Outcome.REACHED] * len(names)
        assert sum("can be reached again" in note for note in connection.notes) == len(names)
        # Looked up anew once at most meanwhile.
        assert len(connection.clients) <= 2


async def test_a_key_that_was_changed_is_looked_up_once_more() -> None:
    with ArroyoSandbox(clock=ManualClock(), pipelines=5, api_key="new") as sandbox:
        names = pipelines_of(sandbox)
        connection = Connection(sandbox, "old", "new")
        tasks = connection.start(*names, target="Running")
        async with asyncio.timeout(PATIENCE_SECONDS):
            verdicts = await asyncio.gather(*tasks)
        assert [verdict.outcome for verdict in verdicts] == [Outcome.REACHED] * len(names)
        assert len(connection.clients) == 2


async def test_a_connection_that_is_edited_in_an_outage_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arroyo has moved: the old address answers nobody any more, and those who wait need not be told."""
    monkeypatch.setattr("airflow_provider_arroyo.monitoring.feed_rounds.RECONNECT_SECONDS", 0.1)
    with ArroyoSandbox(clock=ManualClock(), pipelines=5, seed=1) as old:
        names = pipelines_of(old)
        connection = Connection(old)
        tasks = connection.start(*names, target="Stopped")
        await until(lambda: old.requests.count("GET", "*/v1/jobs") >= 3)
        with ArroyoSandbox(clock=ManualClock(), pipelines=5, seed=1) as new:
            assert pipelines_of(new) == names
            for name in names:
                new.faults.stop(name)
            new.advance(10)
            old.faults.api_away()
            connection.sandbox = new
            async with asyncio.timeout(PATIENCE_SECONDS):
                verdicts = await asyncio.gather(*tasks)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.REACHED] * len(names)


async def test_those_who_were_led_elsewhere_do_not_share_their_looks() -> None:
    """The worker found its pipeline on the new server, and must not be told that it was deleted on the old."""
    with (
        ArroyoSandbox(clock=ManualClock(), pipelines=5, seed=1) as old,
        ArroyoSandbox(clock=ManualClock(), pipelines=5, seed=2) as new,
    ):
        connection = Connection(old)
        there, here = pipelines_of(old)[0], pipelines_of(new)[0]
        assert there != here
        waits = connection.start(there, target="Stopped", server=old.url)
        await until(lambda: old.requests.count("GET", "*") >= 3)
        connection.sandbox = new
        waits += connection.start(here, target="Stopped", server=new.url)
        await until(lambda: new.requests.count("GET", "*") >= 3)
        assert not any(wait.done() for wait in waits)
        old.faults.stop(there)
        old.advance(10)
        new.faults.stop(here)
        new.advance(10)
        async with asyncio.timeout(PATIENCE_SECONDS):
            verdicts = await asyncio.gather(*waits)
        assert [verdict.outcome for verdict in verdicts] == [Outcome.REACHED] * 2


async def test_a_look_that_is_never_answered_does_not_hold_up_a_deadline() -> None:
    with ArroyoSandbox(clock=ManualClock(), pipelines=30) as sandbox:
        names = pipelines_of(sandbox)
        connection = Connection(sandbox)
        tasks = connection.start(*names, target="Stopped", timeout=1.5)
        await until(lambda: sandbox.requests.count("GET", "*/v1/jobs") >= 3)
        sandbox.faults.hang()
        async with asyncio.timeout(PATIENCE_SECONDS):
            verdicts = await asyncio.gather(*tasks)
        assert [verdict.outcome for verdict in verdicts] == [Outcome.TIMED_OUT] * len(names)
