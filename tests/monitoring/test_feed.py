"""The feed, in virtual time: who is told what and when, and what that costs the server. Counts, no stopwatch."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from threading import Thread
from typing import Any

import pytest

from airflow_provider_arroyo.arroyo.models import Job
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.feed import JobFeed, shared_feed
from airflow_provider_arroyo.monitoring.feed_cost import ENOUGH_SAMPLES, REFRESH_SECONDS
from airflow_provider_arroyo.monitoring.notes import Note
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.fake_arroyo import LIST, PING, SINGLE, FakeArroyo
from tests.monitoring.feed_support import INTERVAL, a_wait, cancel, many, outcomes, start, watch
from tests.monitoring.virtual_time import clock, run


async def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="interval_seconds must be positive"):
        async with shared_feed(key=("a",), interval_seconds=0, connect=FakeArroyo().connect, clock=clock):
            pass


# -- the answers ---------------------------------------------------------------------------------------------------


def test_the_first_look_is_made_at_once() -> None:
    async def main() -> None:
        server = FakeArroyo()
        server.set("pl_1", "Running")
        verdict = await watch(server, a_wait("pl_1"))
        assert verdict.outcome is Outcome.REACHED
        assert server.count() == 1
        assert asyncio.get_running_loop().time() < INTERVAL / 2

    run(main())


def test_a_change_is_told_within_an_interval() -> None:
    async def main() -> None:
        server = FakeArroyo()
        server.set("pl_1", "Scheduling")
        (task,) = start(server, [a_wait("pl_1")])
        await asyncio.sleep(1.03)
        server.set("pl_1", "Running")
        changed = clock()
        verdict = await task
        assert verdict.outcome is Outcome.REACHED
        assert clock() - changed <= INTERVAL + 0.01

    run(main())


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_a_thousand_waits_cost_one_list_a_tick(version: str) -> None:
    async def main() -> None:
        server = FakeArroyo(version=version)
        names = many(server, 1000)
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(10)
        # A job id is learned by one look at its pipeline where the list does not name pipelines.
        assert server.count(SINGLE) <= (1000 if version == "0.15" else 0) + ENOUGH_SAMPLES
        server.forget()
        await asyncio.sleep(10)
        assert 98 <= server.count(LIST) <= 101
        assert server.count(SINGLE) == 0
        assert server.count(PING) <= 1
        for name in names:
            server.set(name, "Running")
        changed = clock()
        verdicts = await asyncio.gather(*tasks)
        assert outcomes(verdicts) == {"reached": 1000}
        assert {verdict.job.id for verdict in verdicts if verdict.job} == {f"job_{name}" for name in names}
        assert clock() - changed <= INTERVAL + 0.05
        assert server.most_at_once[LIST] == 1
        assert len(server.clients) == 1

    run(main())


def test_each_is_told_its_own_job_only_and_only_when_it_changed() -> None:
    seen: Counter[str] = Counter()

    class Counting(PipelineWait):
        def observe(self, job: Job | None, now: float, **more: Any) -> Verdict:
            seen[self.plan.pipeline_id] += 1
            return super().observe(job, now, **more)

    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 50)
        now = clock()
        waits = [
            Counting(WaitPlan(pipeline_id=name, targets=frozenset(["Running"]), deadline=now + 3600), now=now)
            for name in names
        ]
        tasks = start(server, waits)
        await asyncio.sleep(5)
        assert set(seen.values()) == {1}
        server.set("pl_7", "Compiling")
        server.set("pl_of_somebody_else", "Running")
        await asyncio.sleep(5)
        assert seen.pop("pl_7") == 2
        assert set(seen.values()) == {1}
        await cancel(tasks)

    run(main())


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize(
    "env_vars",
    [
        {"run_id": "7"},
        {"run_id": "7", "state": "Running"},
        {"run_id": "7", "state": "Running", "id": "job_pl_8", "pipeline_id": "pl_8"},
    ],
)
def test_environment_that_looks_like_a_job_does_not_hide_one(version: str, env_vars: dict[str, str]) -> None:
    async def main() -> None:
        server = FakeArroyo(version=version)
        names = many(server, 20)
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(5)
        server.set("pl_7", "Compiling", env_vars=env_vars)
        await asyncio.sleep(5)
        assert not any(task.done() for task in tasks)
        server.set("pl_7", "Running", env_vars=env_vars)
        await asyncio.sleep(1)
        assert [task for task in tasks if task.done()] == [tasks[7]]
        await cancel(tasks)

    run(main())


def test_who_joins_during_a_look_is_not_given_its_answer() -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 20)
        tasks = start(server, [a_wait(name, "Stopped") for name in names])
        await asyncio.sleep(1)
        server.seconds = lambda kind, jobs: 2.0 if kind == LIST else 0.001
        await asyncio.sleep(0.5)
        assert server.log[-1][1] == LIST
        server.forget()
        (late,) = start(server, [a_wait("pl_3", "Scheduling")])
        await asyncio.sleep(1.4)
        assert not late.done()
        server.set("pl_3", "Running")
        (verdict,) = await asyncio.gather(*start(server, [a_wait("pl_3", "Running")]))
        assert verdict.outcome is Outcome.REACHED
        assert not late.done()
        await cancel([*tasks, late])

    run(main())


def test_a_wait_that_must_last_is_over_when_it_lasted() -> None:
    async def main() -> None:
        server = FakeArroyo()
        many(server, 30)
        tasks = start(server, [a_wait(f"pl_{n}", stable_for=timedelta(seconds=2)) for n in range(30)])
        await asyncio.sleep(1)
        server.set("pl_5", "Running")
        changed = clock()
        verdict = await tasks[5]
        assert verdict.outcome is Outcome.REACHED
        assert 2.0 <= clock() - changed <= 2.0 + 2 * INTERVAL + 0.01
        await cancel(tasks)

    run(main())


def test_notes_come_in_the_context_of_the_task_that_waits() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    heard: list[tuple[str, str, str]] = []

    async def one(server: FakeArroyo, name: str) -> None:
        who.set(name)
        async with shared_feed(
            key=("a",), interval_seconds=INTERVAL, connect=connect(server), clock=clock
        ) as feed:
            await feed.watch(
                a_wait(name),
                interval_seconds=INTERVAL,
                on_notes=lambda notes: heard.extend((name, who.get(), str(note)) for note in notes),
            )

    connected_as: list[str] = []

    def connect(server: FakeArroyo) -> Any:
        async def look_up() -> Any:
            connected_as.append(who.get())
            return await server.connect()

        return look_up

    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 3)
        tasks = [asyncio.create_task(one(server, name)) for name in names]
        await asyncio.sleep(1)
        for name in names:
            server.set(name, "Running")
        await asyncio.gather(*tasks)
        assert all(name == me and name in text for name, me, text in heard)
        assert Counter(name for name, _, _ in heard) == dict.fromkeys(names, 2)
        # What the shared looks say of themselves goes to nobody's task log.
        assert connected_as == ["nobody"]

    run(main())


def test_a_note_that_cannot_be_logged_is_the_trouble_of_that_waiter_only() -> None:
    async def broken(server: FakeArroyo) -> None:
        def refuse(notes: list[Note]) -> None:
            raise OSError("the log's disk is full")

        async with shared_feed(
            key=("arroyo",), interval_seconds=INTERVAL, connect=server.connect, clock=clock
        ) as feed:
            await feed.watch(a_wait("pl_1"), on_notes=refuse)

    async def main() -> None:
        server = FakeArroyo()
        server.set("pl_1", "Scheduling")
        (other,) = start(server, [a_wait("pl_1")])
        with pytest.raises(OSError, match="disk is full"):
            await broken(server)
        server.set("pl_1", "Running")
        assert (await other).outcome is Outcome.REACHED

    run(main())


# -- who shares, and who leaves ------------------------------------------------------------------------------------


def test_one_cancelled_among_many_leaves_without_a_call_and_the_last_one_out_closes() -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 5)
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(1)
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        server.forget()
        assert server.clients[0].closings == 0
        await asyncio.sleep(1)
        assert "pl_0" not in {pipeline_id for _, _, pipeline_id in server.log}
        for name in names[1:-1]:
            server.set(name, "Running")
        assert outcomes(await asyncio.gather(*tasks[1:-1])) == {"reached": 3}
        assert server.clients[0].closings == 0
        server.forget()
        tasks[-1].cancel()
        await asyncio.gather(tasks[-1], return_exceptions=True)
        assert server.clients[0].closings == 1
        await asyncio.sleep(1)
        assert server.count() == 0
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    run(main())


def test_two_waits_on_one_pipeline_share_its_look() -> None:
    async def main() -> None:
        server = FakeArroyo()
        server.set("pl_1", "Scheduling")
        tasks = start(server, [a_wait("pl_1"), a_wait("pl_1", "Stopped"), a_wait("pl_1")])
        await asyncio.sleep(10)
        assert server.count() <= 102
        tasks[0].cancel()
        server.set("pl_1", "Running")
        assert (await tasks[2]).outcome is Outcome.REACHED
        server.set("pl_1", "Stopped")
        assert (await tasks[1]).outcome is Outcome.REACHED
        assert len(server.clients) == 1

    run(main())


def test_another_connection_or_interval_is_another_feed() -> None:
    async def main() -> None:
        server = FakeArroyo()
        async with (
            shared_feed(key=("a",), interval_seconds=0.1, connect=server.connect, clock=clock) as one,
            shared_feed(key=("a",), interval_seconds=0.1, connect=server.connect, clock=clock) as same,
            shared_feed(key=("b",), interval_seconds=0.1, connect=server.connect, clock=clock) as other,
            shared_feed(key=("a",), interval_seconds=1.0, connect=server.connect, clock=clock) as slow,
        ):
            assert one is same
            assert len({id(one), id(other), id(slow)}) == 3
        async with shared_feed(key=("a",), interval_seconds=0.1, connect=server.connect, clock=clock) as anew:
            assert anew is not one
        assert server.clients == []  # nobody looked

    run(main())


def test_event_loops_share_nothing() -> None:
    feeds: list[JobFeed] = []

    async def main(state: str, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        server = FakeArroyo()
        server.set("pl_1", state)
        async with shared_feed(
            key=("arroyo",), interval_seconds=INTERVAL, connect=server.connect, clock=clock
        ) as feed:
            feeds.append(feed)
            assert (await feed.watch(a_wait("pl_1", state))).outcome is Outcome.REACHED
            meanwhile()
            assert (await feed.watch(a_wait("pl_1", state))).outcome is Outcome.REACHED
        assert len(server.clients) == 1
        assert server.count() == 2

    def other_loop() -> None:
        thread = Thread(target=lambda: run(main("Stopped")))
        thread.start()
        thread.join()

    run(main("Running", meanwhile=other_loop))
    assert len(feeds) == 2
    assert feeds[0] is not feeds[1]


def test_who_wants_to_look_less_often_rides_along() -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 40)
        slow = start(server, [a_wait(name) for name in names[:20]], interval=60.0)
        await asyncio.sleep(50)
        assert server.count() <= 20
        fast = start(server, [a_wait(name) for name in names[20:]])
        await asyncio.sleep(5)
        server.forget()
        server.set("pl_3", "Running")
        await asyncio.sleep(2 * INTERVAL)
        assert slow[3].done()
        await asyncio.sleep(REFRESH_SECONDS)
        assert server.count(SINGLE) <= ENOUGH_SAMPLES
        for task in fast:
            task.cancel()
        await asyncio.sleep(1)
        server.forget()
        await asyncio.sleep(61)
        assert 1 <= server.count() <= 25
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, *fast, return_exceptions=True)

    run(main())


# -- what the list does not show -----------------------------------------------------------------------------------


def test_a_preview_is_looked_at_singly() -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 30)
        server.previews.add("pl_9")
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(2)
        server.forget()
        await asyncio.sleep(5)
        looked_at = Counter(pipeline_id for _, kind, pipeline_id in server.log if kind == SINGLE)
        assert 48 <= looked_at.pop("pl_9") <= 51
        assert sum(looked_at.values()) <= 1
        assert 48 <= server.count(LIST) <= 51
        server.set("pl_9", "Running")
        await asyncio.sleep(2 * INTERVAL)
        assert tasks[9].result().outcome is Outcome.REACHED
        await cancel(tasks)

    run(main())


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_a_pipeline_that_vanishes_is_confirmed_and_told_to_its_own_waiters(version: str) -> None:
    async def main() -> None:
        server = FakeArroyo(version=version)
        names = many(server, 30)
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(3)
        server.delete("pl_4")
        await asyncio.sleep(2 * INTERVAL)
        assert [task for task in tasks if task.done()] == [tasks[4]]
        verdict = tasks[4].result()
        assert verdict.outcome is Outcome.DELETED
        assert isinstance(verdict.error, ArroyoNotFoundError)
        await cancel(tasks)

    run(main())


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_a_job_that_is_replaced_is_followed(version: str) -> None:
    async def main() -> None:
        server = FakeArroyo(version=version)
        names = many(server, 30)
        tasks = start(server, [a_wait(name, "Stopped") for name in names])
        await asyncio.sleep(3)
        server.set("pl_4", "Created", run_id=0, id="job_new")
        await asyncio.sleep(1)
        server.forget()
        await asyncio.sleep(5)
        assert server.count(SINGLE) <= 1
        server.set("pl_4", "Stopped", id="job_new")
        await asyncio.sleep(2 * INTERVAL)
        verdict = tasks[4].result()
        assert verdict.outcome is Outcome.REACHED
        assert verdict.job is not None
        assert verdict.job.id == "job_new"
        await cancel(tasks)

    run(main())


def test_where_the_list_shows_two_jobs_of_a_pipeline_a_single_look_tells_the_newest() -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 30)
        server.set("pl_4", "Failed", id="job_old")
        old = server.jobs["pl_4"]
        server.set("pl_4", "Scheduling", id="job_new")
        server.jobs["pl_4"] += old
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(2)
        assert [task for task in tasks if task.done()] == []
        server.set("pl_4", "Running", id="job_new")
        server.jobs["pl_4"] += old
        await asyncio.sleep(2 * INTERVAL)
        assert tasks[4].result().outcome is Outcome.REACHED
        await cancel(tasks)

    run(main())


def test_a_pipeline_without_a_job_is_waited_for() -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 20)
        server.jobs["pl_none"] = []
        tasks = start(server, [a_wait(name) for name in [*names, "pl_none"]])
        await asyncio.sleep(3)
        assert not tasks[-1].done()
        server.set("pl_none", "Running")
        await asyncio.sleep(2 * INTERVAL)
        assert tasks[-1].result().outcome is Outcome.REACHED
        await cancel(tasks)

    run(main())


def test_an_unknown_pipeline_is_told_at_once() -> None:
    async def main() -> None:
        verdict = await watch(FakeArroyo(), a_wait("pl_gone"))
        assert verdict.outcome is Outcome.MISSING

    run(main())
