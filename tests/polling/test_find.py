"""Finding a pipeline by name: how often the list is read, what an outage means, and that waits share the list."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import (
    ArroyoConnectionError,
    ArroyoForeignResponseError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
)
from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.connection import Connection, DaemonThreads
from airflow_provider_arroyo.polling.names import SharedNames, resolve_ref
from airflow_provider_arroyo.polling.poll import poll_until
from airflow_provider_arroyo.polling.shared import shared_poller
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.adapters import BROKEN_PIPELINE, NAMELESS, DamagingAdapter
from tests.polling.support import LIMIT_SECONDS, patient, until
from tests.polling.virtual_time import EPOCH, VirtualClock, now, virtual
from tests.support import ENDLESS, Lines


@pytest.fixture
def sandbox() -> Iterator[ArroyoSandbox]:
    """Return a sandbox; its version does not matter here."""
    with ArroyoSandbox(seed=1, speed=4) as server:
        yield server


@pytest.fixture
def client(sandbox: ArroyoSandbox) -> Iterator[ArroyoClient]:
    """Return a client of it."""
    with ArroyoClient(ClientSettings(base_url=sandbox.url)) as client:
        yield client


class FakeClock(SteadyClock):
    """A clock that only sleeping advances."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return super().__call__() + self.slept

    def to_monotonic(self, seconds: float) -> float:
        """Return a time of ``time.monotonic``."""
        return super().to_monotonic(seconds) - self.slept

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        assert seconds > 0
        self.slept += seconds


def waiting(clock: SteadyClock, *, seconds: float = 20, name: str = "orders", **more: Any) -> PipelineWait:
    """Return a wait for a pipeline that may not exist yet."""
    plan = WaitPlan(
        pipeline=PipelineRef(pipeline_id="", name=name),
        deadline=clock() + seconds,
        **{"target_states": frozenset({"Running"}), "may_be_missing": True, **more},
    )
    return PipelineWait(plan, now=clock())


def resolve(name: str = "orders") -> Any:
    """Return the function that resolves a name."""
    return partial(resolve_ref, name=name, rule={})


def logger(lines: Lines) -> logging.Logger:
    """Return a logger that collects its lines."""
    log = logging.Logger("tests.find")
    log.addHandler(lines)
    return log


def find(client: ArroyoClient, wait: PipelineWait, clock: FakeClock, **more: Any) -> WaitResult:
    """Look up the pipeline of a wait, and poll it, as a worker does."""
    options: dict[str, Any] = {"interval_seconds": 0.1, "log": logger(Lines()), "sleep": clock.sleep, **more}
    return poll_until(client, wait, clock=clock, **{"resolve": resolve(), **options})


def test_it_searches_every_two_seconds_until_the_deadline_and_logs_once(
    client: ArroyoClient, sandbox: ArroyoSandbox
) -> None:
    clock, lines = FakeClock(), Lines()
    wait = waiting(clock, seconds=30)
    result = find(client, wait, clock, log=logger(lines))
    assert result.outcome is Outcome.TIMED_OUT
    assert 8 <= sandbox.requests.count("GET", "/api/v1/pipelines*") <= 16
    (line,) = [text for _, text in lines.lines]
    assert line.startswith("No such pipeline yet: orders; waiting for Running, ")
    error = str(explain(result, wait.plan.pipeline))
    # The clock also shows the time that passes really.
    assert re.search(r"There is no pipeline named 'orders' after 3\d", error)
    assert "Check the name" in error


def test_a_longer_interval_and_until_are_respected(client: ArroyoClient, sandbox: ArroyoSandbox) -> None:
    clock = FakeClock()
    result = find(client, waiting(clock, seconds=1000), clock, interval_seconds=30, until=clock() + 115)
    assert (result.outcome, result.is_missing) == (Outcome.WAITING, True)
    assert sandbox.requests.count("GET", "/api/v1/pipelines*") == 4


@pytest.mark.parametrize("may_be_missing", [True, False])
def test_an_existing_pipeline_is_found_at_once(
    may_be_missing: bool, client: ArroyoClient, sandbox: ArroyoSandbox
) -> None:
    made = client.create_pipeline(name="orders", query=ENDLESS)
    clock, lines, found = FakeClock(), Lines(), list[PipelineRef]()
    wait = waiting(clock, may_be_missing=may_be_missing)
    find(client, wait, clock, log=logger(lines), on_found=found.append, until=clock())
    url = f"{sandbox.url}/pipelines/{made.id}"
    assert wait.plan.pipeline == PipelineRef(pipeline_id=made.id, name="orders", console_url=url)
    assert found == [wait.plan.pipeline]
    assert lines.lines[0][1] == f"Waiting for Running: orders, id {made.id}, {url}"


def test_a_required_pipeline_that_is_missing_is_an_error(client: ArroyoClient) -> None:
    clock = FakeClock()
    wait = waiting(clock, may_be_missing=False)
    result = find(client, wait, clock)
    assert result.outcome is Outcome.MISSING
    assert "There is no pipeline named 'orders' on this Arroyo." in str(explain(result, wait.plan.pipeline))


def test_an_ambiguous_name_is_an_error(client: ArroyoClient) -> None:
    for _ in range(2):
        client.create_pipeline(name="orders", query=ENDLESS)
    clock = FakeClock()
    assert find(client, waiting(clock), clock).outcome is Outcome.ERROR


def test_an_outage_during_the_search_is_tolerated(client: ArroyoClient, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(503, times=None)
    clock = FakeClock()
    result = find(client, waiting(clock, seconds=1000, outage_tolerance=timedelta(seconds=100)), clock)
    assert result.outcome is Outcome.UNREACHABLE
    assert not result.is_missing


def _stopped(client: ArroyoClient, sandbox: ArroyoSandbox) -> str:
    """Return the id of a stopped pipeline."""

    def advance_until(state: str) -> None:
        for _ in range(100):
            if sandbox.state(made.id) == state:
                return
            sandbox.advance(1)
        raise AssertionError(f"never {state}")

    made = client.create_pipeline(name="orders", query=ENDLESS)
    advance_until("Running")
    client.patch_pipeline(made.id, stop="immediate")
    advance_until("Stopped")
    return made.id


def test_an_outage_while_a_pipeline_may_be_replaced_reloads_the_connection(sandbox: ArroyoSandbox) -> None:
    """The search for another pipeline of that name does not restart the retries of a poll."""
    reloads: list[float] = []
    clock = FakeClock()

    def reload() -> ClientSettings:
        reloads.append(clock.slept)
        return ClientSettings(base_url=sandbox.url)

    with ArroyoClient(ClientSettings(base_url=sandbox.url), reload=reload) as client:
        _stopped(client, sandbox)
        wait = waiting(clock, seconds=1000, outage_tolerance=timedelta(seconds=100))

        def sleep(seconds: float) -> None:
            if not clock.slept:
                sandbox.faults.status(503, times=None)
            clock.sleep(max(seconds, 0.001))

        result = find(client, wait, clock, sleep=sleep)
    assert result.outcome is Outcome.UNREACHABLE
    assert reloads


async def watch_name(
    sandbox: ArroyoSandbox,
    wait: PipelineWait,
    clock: SteadyClock,
    connected: list[ArroyoClient],
    client: ArroyoClient | None = None,
) -> WaitResult:
    """Wait as a trigger does."""

    async def connect() -> ArroyoClient:
        connected.append(client or ArroyoClient(ClientSettings(base_url=sandbox.url)))
        return connected[-1]

    async with shared_poller("a name", connect) as poller:
        return await poller.watch(
            wait,
            interval_seconds=0.1,
            clock=clock,
            log=logger(Lines()),
            resolve=resolve(str(wait.plan.pipeline.name)),
            resolve_seconds=0.05,
        )


@pytest.mark.parametrize("is_away", [True, False])
async def test_in_an_outage_nothing_is_searched_for(
    is_away: bool, client: ArroyoClient, sandbox: ArroyoSandbox
) -> None:
    stopped, clock = _stopped(client, sandbox), SteadyClock()
    wait = waiting(clock, seconds=1000)
    wait.found(PipelineRef(pipeline_id=stopped, name="orders"), clock())
    wait.observe(client.get_job(stopped), clock())
    wait.observe_error(ArroyoConnectionError("No response."), clock())
    assert wait.may_be_replaced
    if is_away:
        sandbox.faults.status(503, path="*/jobs", times=None)
    sandbox.requests.clear()
    watching = asyncio.create_task(watch_name(sandbox, wait, clock, []))
    await until(lambda: sandbox.requests.count("GET", "*/jobs" if is_away else "/api/v1/pipelines") >= 3)
    assert not watching.done()
    watching.cancel()
    assert bool(sandbox.requests.count("GET", "/api/v1/pipelines")) is not is_away


async def test_a_missed_poll_reloads_the_connection_once_for_all_waits() -> None:
    class Client:
        reloads = 0

        def reload(self) -> None:
            self.reloads += 1

    client, now, seen = Client(), 0.0, []

    async def connect() -> Any:
        return client

    connection = Connection(connect, DaemonThreads("test").run, lambda: now)
    for failures, at in ((0, 100), (1, 100), (10, 100), (11, 100), (11, 109), (12, 111), (22, 111)):
        now = at
        await connection.reload(failures)
        seen.append(client.reloads)
    assert seen == [0, 0, 0, 1, 1, 1, 2]


async def test_after_a_connect_that_was_cancelled_the_next_call_connects_again() -> None:
    tries, client = 0, object()

    async def connect() -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise asyncio.CancelledError
        return client

    connection, ended = (Connection(connect, DaemonThreads("test").run, lambda: 0.0) for _ in range(2))
    with pytest.raises(asyncio.CancelledError):
        await connection.client()
    assert await connection.client() is client
    tries = 0
    with pytest.raises(asyncio.CancelledError):
        await ended.client()
    ended.close()


async def test_all_searches_in_a_triggerer_share_the_list(sandbox: ArroyoSandbox) -> None:
    clock, connected = SteadyClock(), list[ArroyoClient]()
    began = clock()

    async def find(number: int) -> tuple[str, Outcome]:
        # However slow the machine is, one is there before its deadline.
        wait = waiting(clock, seconds=60 if number == 7 else 3.5, name=f"orders {number}")
        result = await watch_name(sandbox, wait, clock, connected)
        return wait.plan.pipeline.pipeline_id, result.outcome

    async def create() -> str:
        await asyncio.sleep(0.5)
        with ArroyoClient(ClientSettings(base_url=sandbox.url)) as client:
            return (await asyncio.to_thread(client.create_pipeline, name="orders 7", query=ENDLESS)).id

    made, *found = await asyncio.gather(create(), *(find(number) for number in range(50)))
    assert found[7] == (made, Outcome.REACHED)
    assert set(found) == {found[7], ("", Outcome.TIMED_OUT)}
    # Fifty searches: at most one list per second, and the requests about the found pipeline.
    assert sandbox.requests.count("GET", "/api/v1/pipelines") <= 5 + clock() - began
    assert len(connected) == 1


@virtual
async def test_all_searches_share_a_list_that_fails_late_and_the_next_one() -> None:
    lists = 0

    async def connect() -> ArroyoClient:
        return ArroyoClient(ClientSettings(base_url="http://arroyo.test:5115"))

    async def hang(function: Any) -> Any:
        nonlocal lists
        lists += 1
        await asyncio.sleep(30)
        if lists > 2:
            return {}, None
        raise ArroyoConnectionError("No response.")

    names, clock = SharedNames(Connection(connect, hang, now)), VirtualClock()

    async def fail(number: int) -> None:
        await asyncio.sleep(number)
        with pytest.raises(ArroyoConnectionError):
            await names.look_up(waiting(clock, name=f"orders {number}"), resolve(), 1)

    await asyncio.gather(*map(fail, range(20)))
    assert (lists, now()) == (2, 60)
    found = [names.look_up(waiting(clock), resolve(), 1) for _ in range(20)]
    errors = await asyncio.gather(*found, return_exceptions=True)
    assert {type(error) for error in errors} == {ArroyoNoSuchNameError}
    assert (lists, now()) == (3, 90)


@pytest.mark.parametrize("mode", ["worker", "triggerer"])
async def test_a_name_is_looked_up_even_after_the_deadline(
    mode: str, client: ArroyoClient, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a triggerer that was not running when the deadline came."""
    patient(monkeypatch)
    client.create_pipeline(name="orders", query=ENDLESS)
    clock: Any = FakeClock() if mode == "worker" else SteadyClock()
    states = frozenset({"Created", "Scheduling", "Running"})
    wait = waiting(clock, seconds=-1, target_states=states)
    if mode == "worker":
        result = find(client, wait, clock)
    else:
        result = await watch_name(sandbox, wait, clock, [])
    assert result.job is not None


@pytest.mark.parametrize("mode", ["worker", "triggerer"])
async def test_a_pipeline_that_is_deleted_before_its_first_poll_is_searched_for_again(
    mode: str, client: ArroyoClient, sandbox: ArroyoSandbox
) -> None:
    gone, clock = client.create_pipeline(name="orders", query=ENDLESS), FakeClock()
    wait = waiting(clock, seconds=1000)
    wait.found(PipelineRef(pipeline_id=gone.id, name="orders"), clock())
    sandbox.store.pipelines.pop(gone.id)
    later = client.create_pipeline(name="orders", query=ENDLESS)
    if mode == "worker":
        result = await asyncio.to_thread(find, client, wait, clock)
    else:
        async with asyncio.timeout(LIMIT_SECONDS):
            result = await watch_name(sandbox, wait, SteadyClock(), [])
    assert (result.outcome, wait.plan.pipeline.pipeline_id) == (Outcome.REACHED, later.id)


def test_a_required_pipeline_that_is_deleted_before_its_first_poll_was_deleted() -> None:
    clock = FakeClock()
    wait = waiting(clock, may_be_missing=False)
    wait.found(PipelineRef(pipeline_id="pl_1", name="orders"), clock())
    result = wait.observe_error(ArroyoNotFoundError("Pipeline not found", status=404), clock())
    assert result.outcome is Outcome.DELETED


def test_a_look_up_that_succeeds_is_a_response_of_arroyo() -> None:
    wait = waiting(VirtualClock(monotonic=lambda: 0.0), seconds=1000)
    for seconds in range(20):
        wait.observe_error(ArroyoConnectionError("No response."), EPOCH + seconds)
    wait.found(PipelineRef(pipeline_id="pl_1", name="orders"), EPOCH + 20)
    assert any(one.text.startswith("Arroyo reachable again after 20") for one in wait.messages())
    page = ArroyoForeignResponseError("A gateway's page", status=502)
    results = [wait.observe_error(page, EPOCH + 21 + seconds) for seconds in range(599)]
    assert {result.outcome for result in results} == {Outcome.WAITING}
    assert wait.observe_error(page, EPOCH + 620).outcome is Outcome.UNREACHABLE


async def test_the_deadline_does_not_wait_for_a_response(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.hang(times=None)
    clock = SteadyClock()
    async with asyncio.timeout(15):
        result = await watch_name(sandbox, waiting(clock, seconds=0.5), clock, [])
    assert result.outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize("mode", ["worker", "triggerer"])
@pytest.mark.parametrize(
    "fields, name, outcome",
    [
        (BROKEN_PIPELINE, "orders", Outcome.TIMED_OUT),
        (NAMELESS, "orders", Outcome.TIMED_OUT),
        # Most likely, the unreadable one is another, so the wait goes on.
        (NAMELESS, "later", Outcome.TIMED_OUT),
        (BROKEN_PIPELINE, "later", Outcome.TIMED_OUT),
        (BROKEN_PIPELINE, "other", Outcome.UNREACHABLE),
    ],
)
async def test_a_pipeline_that_cannot_be_read_concerns_only_its_own_name(
    mode: str,
    fields: dict[str, Any],
    name: str,
    outcome: Outcome,
    sandbox: ArroyoSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patient(monkeypatch)
    tolerance = timedelta(0 if outcome is Outcome.UNREACHABLE else 600)
    with ArroyoClient(ClientSettings(base_url=sandbox.url)) as client:
        DamagingAdapter(client, {"/pipelines": fields}, '"other"')
        for one in ("orders", "other"):
            client.create_pipeline(name=one, query=ENDLESS)
        clock: Any = FakeClock() if mode == "worker" else SteadyClock()
        stopped = frozenset({"Stopped"})
        # Long, where it costs little time.
        seconds = 60 if outcome is Outcome.UNREACHABLE else 10 if mode == "worker" else 2
        wait = waiting(clock, seconds=seconds, name=name, target_states=stopped, outage_tolerance=tolerance)
        if mode == "worker":
            result = find(client, wait, clock, resolve=resolve(name))
        else:
            result = await watch_name(sandbox, wait, clock, [], client)
    assert result.outcome is outcome
    assert bool(wait.plan.pipeline.pipeline_id) is (name == "orders")
    assert result.is_missing == (name == "later")
    if outcome is Outcome.UNREACHABLE:
        assert "name 'other'" in str(explain(result, wait.plan.pipeline))
