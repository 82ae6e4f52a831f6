"""The shared poller over HTTP: real client, real threads, and a sandbox whose clock the test advances."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling import job_polls
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.poll import poll_until
from airflow_provider_arroyo.polling.shared import SharedPoller, shared_poller
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.polling.support import LIMIT_SECONDS, a_logger, a_plan, until
from tests.support import Lines

INTERVAL = 0.02


class Connection:
    """Makes clients as the hook does, and counts them.

    :param keys: the first API key, and those after each reload; the last one is used for all later reloads.
    """

    def __init__(self, sandbox: ArroyoSandbox, *keys: str) -> None:
        self.sandbox = sandbox
        self.clients: list[ArroyoClient] = []
        self.lines = Lines()
        self.reloads = 0
        self._keys = list(keys)

    def _settings(self) -> ClientSettings:
        key = self._keys[min(self.reloads, len(self._keys) - 1)] if self._keys else None
        return ClientSettings(base_url=self.sandbox.url, api_key=key)

    def _reload(self) -> ClientSettings:
        self.reloads += 1
        return self._settings()

    async def connect(self) -> ArroyoClient:
        client = ArroyoClient(self._settings(), reload=self._reload)
        self.clients.append(client)
        return client

    def start(
        self, *pipeline_ids: str, target: str, server: str = "", **plan: object
    ) -> list[asyncio.Task[WaitResult]]:
        return [asyncio.create_task(self._watch(name, target, server, **plan)) for name in pipeline_ids]

    async def _watch(self, pipeline_id: str, target: str, server: str, **plan: object) -> WaitResult:
        clock = SteadyClock()
        wait = PipelineWait(a_plan(pipeline_id, target, at=clock(), **plan), now=clock())  # type: ignore[arg-type]  # the plan's own fields
        async with shared_poller(("arroyo", server), self.connect) as poller:
            return await poller.watch(wait, interval_seconds=INTERVAL, clock=clock, log=a_logger(self.lines))


async def over(tasks: list[asyncio.Task[WaitResult]]) -> list[Outcome]:
    async with asyncio.timeout(LIMIT_SECONDS):
        return [result.outcome for result in await asyncio.gather(*tasks)]


async def cancel(tasks: list[asyncio.Task[WaitResult]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def pipelines_of(sandbox: ArroyoSandbox) -> list[str]:
    return [job.pipeline.id for job in sandbox.store.jobs()]


@pytest.mark.parametrize("version", ["0.15", "0.16"])
async def test_many_waits_share_one_client_and_its_lists(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # While the list is slow, some are polled singly.
    monkeypatch.setattr(job_polls, "_LIST_HUNG_SECONDS", LIMIT_SECONDS)
    with ArroyoSandbox(arroyo_version=version, clock=ManualClock(), pipelines=60) as sandbox:
        names = pipelines_of(sandbox)
        connection = Connection(sandbox)
        tasks = connection.start(*names, target="Stopped")
        await until(lambda: sandbox.requests.count("GET", "*/v1/jobs") >= 20)
        assert not any(task.done() for task in tasks)
        # Once the list shows all of them, only the list is polled.
        singly = sandbox.requests.count("GET", "*/pipelines/*/jobs")
        await until(lambda: sandbox.requests.count("GET", "*/v1/jobs") >= 40)
        assert sandbox.requests.count("GET", "*/pipelines/*/jobs") == singly
        assert len(connection.clients) == 1
        for name in names[:3]:
            sandbox.faults.stop(name)
        sandbox.advance(10)
        assert await over(tasks[:3]) == [Outcome.REACHED] * 3
        assert not any(task.done() for task in tasks[3:])
        await cancel(tasks[3:])
        # The end of a wait stops nothing.
        assert {request.method for request in sandbox.requests} == {"GET"}


@pytest.mark.parametrize("pipelines", [3, 30])
async def test_waits_survive_an_api_that_is_down(pipelines: int) -> None:
    with ArroyoSandbox(clock=ManualClock(), pipelines=pipelines) as sandbox:
        names = pipelines_of(sandbox)
        connection = Connection(sandbox)
        tasks = connection.start(*names, target="Stopped")
        await until(lambda: sandbox.requests.count("GET", "*jobs") >= 3)
        sandbox.faults.api_away()
        # Not a warning, if a list that was on its way came after the first failure.
        await until(lambda: connection.lines.text().count("retry 3 of 10") >= len(names))
        for name in names:
            sandbox.faults.stop(name)
        sandbox.advance(10)
        sandbox.faults.api_back()
        assert await over(tasks) == [Outcome.REACHED] * len(names)
        assert len(connection.clients) == 1


@pytest.mark.parametrize("pipelines", [1, 20])
async def test_a_rotated_key_is_loaded_once(pipelines: int) -> None:
    with ArroyoSandbox(clock=ManualClock(), pipelines=pipelines, api_key="new") as sandbox:
        connection = Connection(sandbox, "old", "new")
        assert (
            await over(connection.start(*pipelines_of(sandbox), target="Running"))
            == [Outcome.REACHED] * pipelines
        )
        assert (len(connection.clients), connection.reloads) == (1, 1)
        assert "WARNING" not in dict(connection.lines.lines)


async def test_a_key_that_stays_refused_ends_the_wait() -> None:
    with ArroyoSandbox(clock=ManualClock(), pipelines=1, api_key="new") as sandbox:
        connection = Connection(sandbox, "old", "older")
        assert await over(connection.start(*pipelines_of(sandbox), target="Running")) == [Outcome.ERROR]


async def test_waits_on_different_servers_do_not_share_polls() -> None:
    """A pipeline of the new server does not count as deleted on the old one."""
    with (
        ArroyoSandbox(clock=ManualClock(), pipelines=5, seed=1) as old,
        ArroyoSandbox(clock=ManualClock(), pipelines=5, seed=2) as new,
    ):
        connection = Connection(old)
        there, here = pipelines_of(old)[0], pipelines_of(new)[0]
        tasks = connection.start(there, target="Stopped", server=old.url)
        await until(lambda: old.requests.count("GET", "*") >= 3)
        connection.sandbox = new
        tasks += connection.start(here, target="Stopped", server=new.url)
        await until(lambda: new.requests.count("GET", "*") >= 3)
        assert not any(task.done() for task in tasks)
        for sandbox, name in ((old, there), (new, here)):
            sandbox.faults.stop(name)
            sandbox.advance(10)
        assert await over(tasks) == [Outcome.REACHED] * 2


@pytest.mark.parametrize("pipelines", [3, 30])
async def test_a_hanging_request_does_not_delay_a_deadline(pipelines: int) -> None:
    with ArroyoSandbox(clock=ManualClock(), pipelines=pipelines) as sandbox:
        tasks = Connection(sandbox).start(*pipelines_of(sandbox), target="Stopped", timeout=5)
        await until(lambda: sandbox.requests.count("GET", "*jobs") >= 3)
        sandbox.faults.hang()
        assert await over(tasks) == [Outcome.TIMED_OUT] * pipelines


async def test_the_last_wait_closes_the_client_and_the_next_one_makes_another() -> None:
    with ArroyoSandbox(clock=ManualClock(), pipelines=2) as sandbox:
        one, two = pipelines_of(sandbox)
        connection = Connection(sandbox)
        closed: list[ArroyoClient] = []

        class Counting(ArroyoClient):
            def close(self) -> None:
                closed.append(self)
                super().close()

        async def connect() -> ArroyoClient:
            connection.clients.append(Counting(ClientSettings(base_url=sandbox.url)))
            return connection.clients[-1]

        connection.connect = connect  # type: ignore[method-assign]  # counts
        tasks = connection.start(one, two, target="Stopped")
        await until(lambda: sandbox.requests.count("GET", "*") >= 5)
        await cancel(tasks[:1])
        assert closed == []
        await cancel(tasks[1:])
        assert closed == connection.clients
        assert await over(connection.start(one, target="Running")) == [Outcome.REACHED]
        assert closed == connection.clients
        assert len(closed) == 2


async def test_each_key_has_its_poller() -> None:
    async def connect() -> ArroyoClient:
        raise AssertionError("there are no polls")

    async with AsyncExitStack() as stack:
        one, same, other = [
            await stack.enter_async_context(shared_poller(key, connect)) for key in ("a", "a", "b")
        ]
        assert one is same
        assert one is not other
    # However long something refers to it, such as a traceback, it was closed with its last user.
    async with shared_poller("a", connect) as new, shared_poller("a", connect) as again:
        assert new is again
        assert new is not one


async def test_event_loops_share_nothing() -> None:
    pollers: list[SharedPoller] = []

    def other_loop() -> None:
        async def main() -> None:
            async with shared_poller("a", Connection.connect) as poller:  # type: ignore[arg-type]  # not called
                pollers.append(poller)

        asyncio.run(main())

    async with shared_poller("a", Connection.connect) as poller:  # type: ignore[arg-type]  # not called
        thread = threading.Thread(target=other_loop)
        thread.start()
        thread.join(LIMIT_SECONDS)
        assert len({id(item) for item in [*pollers, poller]}) == 2


class MovedClock(SteadyClock):
    """Can also be advanced, so that nothing has to sleep."""

    def pass_time(self, seconds: float) -> None:
        self._offset += seconds


async def test_a_worker_polls_the_same_way() -> None:
    with ExitStack() as stack:
        sandbox = stack.enter_context(ArroyoSandbox(clock=ManualClock(), pipelines=1))
        client = stack.enter_context(ArroyoClient(ClientSettings(base_url=sandbox.url)))
        (name,) = pipelines_of(sandbox)
        clock, lines = MovedClock(), Lines()
        sleeps: list[float] = []

        def sleep(seconds: float) -> None:
            sleeps.append(seconds)
            clock.pass_time(seconds)
            match len(sleeps):
                case 5:
                    sandbox.faults.api_away()
                case 8:
                    sandbox.faults.stop(name)
                    sandbox.advance(10)
                    sandbox.faults.api_back()

        wait = PipelineWait(
            a_plan(name, "Stopped", at=clock(), outage_tolerance=timedelta(seconds=60)), now=clock()
        )
        result = await asyncio.to_thread(
            poll_until, client, wait, clock=clock, interval_seconds=0.01, log=a_logger(lines), sleep=sleep
        )
        assert result.outcome is Outcome.REACHED
        assert lines.text("WARNING").count("Poll failed, retry") >= 1
