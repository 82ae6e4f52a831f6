"""What a feed costs the server, with the costs that real servers were seen to have. Virtual time, counts only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from airflow_provider_arroyo.monitoring.feed import JobFeed
from airflow_provider_arroyo.monitoring.feed_cost import ENOUGH_SAMPLES, Look, LookCosts
from tests.monitoring.fake_arroyo import LIST, PING, SINGLE, FakeArroyo, contract_seconds
from tests.monitoring.feed_support import INTERVAL, a_wait, cancel, many
from tests.monitoring.virtual_time import clock, run

ALLOWED = 1.3


@dataclass
class Waiting:
    """A feed with waiters that nothing happens to."""

    server: FakeArroyo
    feed: JobFeed
    names: list[str]
    tasks: list[asyncio.Task[object]]

    def wait_for(self, count: int) -> None:
        self.tasks += [
            asyncio.create_task(self.feed.watch(a_wait(name)))
            for name in self.names[len(self.tasks) : len(self.tasks) + count]
        ]

    async def ratio(self, seconds: float) -> float:
        """Return what the looks of the next seconds cost, over what they would have cost in the better way."""
        self.server.forget()
        await asyncio.sleep(seconds)
        jobs, waits = len(self.server.jobs), len(self.tasks)
        single, listed = self.server.seconds(SINGLE, jobs), self.server.seconds(LIST, jobs)
        rounds = self.server.count(LIST) + self.server.count(SINGLE) / waits
        assert rounds > 0
        return self.server.busy_seconds / (rounds * min(waits * single, listed))


@asynccontextmanager
async def waiting(
    *,
    waits: int,
    jobs: int,
    way: float = 0.0,
    version: str = "0.16",
    own_seconds: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[Waiting]:
    server = FakeArroyo(version=version, way_seconds=way)
    names = many(server, jobs)
    feed = JobFeed(interval_seconds=INTERVAL, connect=server.connect, clock=clock, own_seconds=own_seconds)
    it = Waiting(server, feed, names, [])
    it.wait_for(waits)
    try:
        yield it
    finally:
        await cancel(it.tasks)
        await feed.aclose()


GRID = [
    (waits, jobs)
    for jobs in (10, 100, 500, 2000, 10_000)
    for waits in (2, 5, 10, 30, 100, 1000)
    if waits <= jobs
]


@pytest.mark.parametrize("way", [0.0, 0.02], ids=["next door", "20 ms away"])
@pytest.mark.parametrize("waits, jobs", GRID)
def test_the_cheaper_kind_of_look_is_found(waits: int, jobs: int, way: float) -> None:
    async def main() -> float:
        async with waiting(waits=waits, jobs=jobs, way=way) as it:
            # Until the list was measured for the first time, which costs the more the more jobs there are.
            await asyncio.sleep(25)
            return await it.ratio(10)

    assert run(main()) <= ALLOWED


@pytest.mark.parametrize("way", [0.0, 0.02], ids=["next door", "20 ms away"])
@pytest.mark.parametrize("jobs", [10, 500, 10_000])
def test_one_wait_alone_is_looked_at_singly_and_seldom_asks_for_more(jobs: int, way: float) -> None:
    async def main() -> None:
        async with waiting(waits=1, jobs=jobs, way=way) as it:
            await asyncio.sleep(60)
            assert it.server.count(LIST) == 0
            assert it.server.count(PING) == 1
            assert it.server.count(SINGLE) > 590
            # A list of a handful of jobs is a little cheaper even than one single look.
            await asyncio.sleep(600)
            assert await it.ratio(600) <= ALLOWED

    run(main())


@pytest.mark.parametrize("way", [0.0, 0.02], ids=["next door", "20 ms away"])
@pytest.mark.parametrize("waits", [5, 10, 12])
def test_the_more_wait_the_sooner_a_list_is_tried(waits: int, way: float) -> None:
    async def main() -> tuple[int, int]:
        async with waiting(waits=waits, jobs=20, way=way) as it:
            await asyncio.sleep(3)
            return it.server.count(SINGLE), it.server.count(LIST)

    singles, lists = run(main())
    assert singles <= {5: 65, 10: 35, 12: 29}[waits]
    assert lists >= 17


def test_the_choice_follows_the_number_of_jobs() -> None:
    async def main() -> None:
        async with waiting(waits=10, jobs=20) as it:
            await asyncio.sleep(20)
            assert await it.ratio(10) <= ALLOWED
            assert it.server.count(SINGLE) <= ENOUGH_SAMPLES
            for number in range(20, 3000):
                it.server.set(f"pl_{number}", "Running")
            await asyncio.sleep(2)
            assert await it.ratio(10) <= ALLOWED
            assert it.server.count(LIST) <= 1
            for number in range(20, 3000):
                it.server.delete(f"pl_{number}")
            # Found out by the next list that it may afford.
            await asyncio.sleep(20)
            assert await it.ratio(10) <= ALLOWED
            assert it.server.count(SINGLE) <= ENOUGH_SAMPLES

    run(main())


def test_the_choice_follows_the_number_of_waits() -> None:
    async def main() -> None:
        async with waiting(waits=2, jobs=500) as it:
            await asyncio.sleep(20)
            assert await it.ratio(10) <= ALLOWED
            assert it.server.count(LIST) <= ENOUGH_SAMPLES
            it.wait_for(400)
            await asyncio.sleep(2)
            assert await it.ratio(10) <= ALLOWED
            assert it.server.count(SINGLE) <= ENOUGH_SAMPLES
            await cancel(it.tasks[2:])
            del it.tasks[2:]
            await asyncio.sleep(2)
            assert await it.ratio(10) <= ALLOWED
            assert it.server.count(LIST) <= 2

    run(main())


def test_a_server_that_becomes_slow_at_everything_is_not_asked_a_thousand_times() -> None:
    async def main() -> None:
        async with waiting(waits=1000, jobs=1000) as it:
            await asyncio.sleep(20)
            it.server.forget()
            it.server.seconds = lambda kind, jobs: 50 * contract_seconds(kind, jobs)
            await asyncio.sleep(60)
            assert it.server.count(SINGLE) <= 3 * ENOUGH_SAMPLES
            assert it.server.count(LIST) >= 50

    run(main())


def test_hiccups_do_not_change_the_choice() -> None:
    async def main() -> None:
        async with waiting(waits=100, jobs=500) as it:
            calls = 0

            def seconds(kind: str, jobs: int) -> float:
                nonlocal calls
                calls += 1
                return contract_seconds(kind, jobs) + (0.3 if calls % 5 == 0 else 0.0)

            await asyncio.sleep(5)
            it.server.seconds = seconds
            it.server.forget()
            await asyncio.sleep(60)
            assert it.server.count(SINGLE) <= 2 * ENOUGH_SAMPLES

    run(main())


def test_this_process_own_work_is_not_the_servers() -> None:
    own = 0.0

    def own_seconds() -> float:
        return own

    async def main() -> None:
        nonlocal own
        async with waiting(waits=10, jobs=1000, own_seconds=own_seconds) as it:

            def seconds(kind: str, jobs: int) -> float:
                # Reading it takes this process ten times as long as sending takes the server.
                nonlocal own
                own += 0.008 if kind == SINGLE else 0.02
                return contract_seconds(kind, jobs) + (0.008 if kind == SINGLE else 0.02)

            it.server.seconds = seconds
            await asyncio.sleep(20)
            it.server.forget()
            await asyncio.sleep(10)
            # Ten single looks cost the server 8 ms, the list 17 ms.
            assert it.server.count(LIST) <= 2
            assert it.server.count(SINGLE) >= 500

    run(main())


def test_lists_are_tried_only_when_nobody_is_in_a_hurry() -> None:
    costs = LookCosts()
    costs.saw_single(0.0, 0.001, 0.0)
    for number in range(1000):
        assert costs.choose(8, float(number), is_regular=True, may_explore=False) is Look.SINGLE
    assert costs.choose(8, 1000.0, is_regular=True, may_explore=True) is Look.LIST


def test_those_who_just_came_do_not_make_the_others_change_over() -> None:
    costs = LookCosts()
    costs.saw_single(0.0, 0.001, 0.0)
    costs.saw_list(0.0, 0.050, 0.0, 500_000)
    assert costs.choose(1000, 0.1, is_regular=True, may_explore=False) is Look.LIST
    assert costs.choose(1, 0.2, is_regular=False, may_explore=False) is Look.SINGLE
    assert costs.choose(1000, 0.3, is_regular=True, may_explore=False) is Look.LIST
    assert costs.choose(100, 0.4, is_regular=False, may_explore=False) is Look.LIST


def test_a_list_that_grew_counts_as_dearer_at_once() -> None:
    costs = LookCosts()
    costs.saw_list(0.0, 0.010, 0.0, 100_000)
    assert costs.list_seconds == pytest.approx(0.010)
    costs.saw_list(0.1, 0.055, 0.0, 500_000)
    assert costs.list_seconds == pytest.approx(0.050)


def test_a_gateway_without_ping_is_not_pinged_again_and_again() -> None:
    async def main() -> None:
        async with waiting(waits=50, jobs=100) as it:
            it.server.status[PING] = 404
            await asyncio.sleep(200)
            assert it.server.count(PING) == 1
            assert it.server.count(LIST) > 1500

    run(main())
