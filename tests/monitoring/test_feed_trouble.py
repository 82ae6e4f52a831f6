"""The feed when things go wrong, in virtual time: outages, refusals, silence, and errors in the wrong place."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.exceptions import (
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoResponseError,
    ArroyoSettingsError,
)
from airflow_provider_arroyo.monitoring.feed import shared_feed
from airflow_provider_arroyo.monitoring.feed_rounds import SINGLE_LOOKS_AT_A_TIME
from airflow_provider_arroyo.monitoring.notes import Note
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.fake_arroyo import LIST, SINGLE, FakeArroyo
from tests.monitoring.feed_support import INTERVAL, a_wait, cancel, many, outcomes, start, watch
from tests.monitoring.virtual_time import clock, run


def refused(kind: str, pipeline_id: str) -> Exception:
    return ArroyoConnectionError("connection refused", method="GET", path=f"/{kind}", was_sent=False)


def unauthorized(kind: str, pipeline_id: str) -> Exception:
    return ArroyoAuthError("401: the key is not accepted", status=401, method="GET", path=f"/{kind}")


def fine(kind: str, pipeline_id: str) -> None:
    return None


# -- outages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [1, 5, 200])
def test_an_outage_is_told_to_all_once_and_ends_without_a_stampede(waits: int) -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, waits)
        notes: list[list[Note]] = [[] for _ in names]
        tasks = [
            asyncio.create_task(watch(server, a_wait(name), notes=heard))
            for name, heard in zip(names, notes, strict=True)
        ]
        await asyncio.sleep(5)
        server.trouble = refused
        server.forget()
        await asyncio.sleep(60)
        # One look at a time, ever more rarely.
        assert server.count() <= 40
        assert all(count == 1 for count in server.most_at_once.values())
        server.trouble = fine
        server.forget()
        await asyncio.sleep(3)
        for heard in notes:
            text = [str(note) for note in heard]
            assert sum("cannot be reached" in line for line in text) == 1
            assert sum("reachable" not in line and "reached again" in line for line in text) == 1
        assert server.most_at_once[LIST] <= 1
        assert server.most_at_once[SINGLE] <= SINGLE_LOOKS_AT_A_TIME
        looks = Counter(round(moment, 1) for moment, _, _ in server.log)
        assert max(looks.values()) <= min(waits, 20) + 2
        for name in names:
            server.set(name, "Running")
        assert outcomes(await asyncio.gather(*tasks)) == {"reached": waits}

    run(main())


def test_an_outage_longer_than_tolerated_ends_the_wait_at_that_moment() -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 20)
        tolerance = timedelta(seconds=30)
        tasks = start(server, [a_wait(name, outage_tolerance=tolerance) for name in names])
        # Nothing changes for long, so that nobody is told of a look; the outage begins with the last one.
        await asyncio.sleep(200)
        server.trouble = refused
        began = clock()
        verdicts = await asyncio.gather(*tasks)
        assert outcomes(verdicts) == {"unreachable": 20}
        assert 30 - INTERVAL <= clock() - began <= 30 + INTERVAL
        assert all(30 <= (verdict.unreachable_seconds or 0) <= 30.2 for verdict in verdicts)

    run(main())


def test_who_joins_during_an_outage_is_told_of_it_and_of_its_end() -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 300)
        early = start(server, [a_wait(name) for name in names[:50]])
        await asyncio.sleep(5)
        server.trouble = refused
        await asyncio.sleep(20)
        late = start(server, [a_wait(name, outage_tolerance=timedelta(minutes=10)) for name in names[50:]])
        await asyncio.sleep(20)
        assert not any(task.done() for task in early + late)
        server.trouble = fine
        server.forget()
        for name in names:
            server.set(name, "Running")
        assert outcomes(await asyncio.gather(*early, *late)) == {"reached": 300}
        assert server.count(LIST) == 1
        assert server.count(SINGLE) == 1

    run(main())


def test_one_pipeline_that_gets_no_answer_does_not_hide_the_others() -> None:
    def only_one(kind: str, pipeline_id: str) -> Exception | None:
        return refused(kind, pipeline_id) if pipeline_id == "pl_0" else None

    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 4)
        server.trouble = only_one
        # On this server lists are so dear that each is looked at singly.
        server.seconds = lambda kind, jobs: 10.0 if kind == LIST else 0.001
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(10)
        for name in names:
            server.set(name, "Running")
        await asyncio.sleep(5)
        assert outcomes(task.result() for task in tasks if task.done()) == {"reached": 3}
        await cancel(tasks)

    run(main())


# -- silence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LIST, SINGLE])
def test_deadlines_are_kept_while_a_look_gets_no_answer(kind: str) -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 30 if kind == LIST else 3)
        tasks = start(server, [a_wait(name, timeout=10 + n) for n, name in enumerate(names)])
        await asyncio.sleep(5)
        server.forget()
        server.unanswered = {LIST, SINGLE}
        began = clock()
        for seconds, task in enumerate(tasks):
            assert (await task).outcome is Outcome.TIMED_OUT
            assert clock() - began == pytest.approx(5 + seconds, abs=0.01)
        assert server.most_at_once[kind] <= (1 if kind == LIST else SINGLE_LOOKS_AT_A_TIME)
        assert server.clients[0].closings == 1

    run(main())


def test_a_wait_whose_time_is_up_still_looks_once() -> None:
    async def main() -> None:
        server = FakeArroyo()
        server.set("pl_1", "Running")
        assert (await watch(server, a_wait("pl_1", timeout=0))).outcome is Outcome.REACHED
        server.unanswered = {LIST, SINGLE}
        began = clock()
        assert (await watch(server, a_wait("pl_1", timeout=0))).outcome is Outcome.TIMED_OUT
        assert clock() - began == pytest.approx(2.0, abs=0.01)

    run(main())


def test_a_wait_that_lasted_while_no_answer_came_is_over_with_the_next_one() -> None:
    async def main() -> None:
        server = FakeArroyo()
        server.set("pl_1", "Running")
        (task,) = start(server, [a_wait("pl_1", stable_for=timedelta(seconds=5))])
        await asyncio.sleep(1)
        server.seconds = lambda kind, jobs: 60.0
        await asyncio.sleep(70)
        assert task.result().outcome is Outcome.REACHED

    run(main())


def test_ticks_do_not_pile_up_behind_a_slow_server() -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 100)
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(2)
        server.seconds = lambda kind, jobs: 0.5
        await asyncio.sleep(1)
        server.forget()
        await asyncio.sleep(60)
        # Arroyo's own rule at most: a look, then an interval of rest.
        assert 60 / (0.5 + INTERVAL) - 8 <= server.count(LIST) <= 60 / (0.5 + INTERVAL) + 1
        assert server.most_at_once[LIST] == 1
        await cancel(tasks)

    run(main())


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [1, 50])
def test_a_connection_that_is_edited_counts_from_the_first_401_on(waits: int) -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, waits)
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(10)
        assert len(server.clients) == 1
        old = server.clients[0]

        def old_key(kind: str, pipeline_id: str) -> Exception | None:
            return unauthorized(kind, pipeline_id) if len(server.clients) == 1 else None

        server.trouble = old_key
        await asyncio.sleep(10)
        assert len(server.clients) == 2
        assert old.closings == 1
        for name in names:
            server.set(name, "Running")
        assert outcomes(await asyncio.gather(*tasks)) == {"reached": waits}
        assert [client.closings for client in server.clients] == [1, 1]

    run(main())


@pytest.mark.parametrize("waits", [1, 50])
def test_a_key_that_stays_refused_ends_every_wait_after_one_more_look_up(waits: int) -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, waits)
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(10 + INTERVAL / 2)
        server.trouble = unauthorized
        server.forget()
        verdicts = await asyncio.gather(*tasks)
        assert outcomes(verdicts) == {"error": waits}
        assert all(isinstance(verdict.error, ArroyoAuthError) for verdict in verdicts)
        assert server.count() == 2
        assert [client.closings for client in server.clients] == [1, 1]

    run(main())


def test_a_connection_that_cannot_be_looked_up_is_told_to_all_and_tried_again_for_who_comes_later() -> None:
    async def main() -> None:
        server = FakeArroyo()
        server.set("pl_1", "Running")
        attempts = 0

        async def connect() -> Any:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise ArroyoSettingsError("connection 'arroyo': port is no number")
            return await server.connect()

        async def one() -> Verdict:
            async with shared_feed(
                key=("a",), interval_seconds=INTERVAL, connect=connect, clock=clock
            ) as feed:
                return await feed.watch(a_wait("pl_1"))

        async with shared_feed(key=("a",), interval_seconds=INTERVAL, connect=connect, clock=clock):
            ended = await asyncio.gather(one(), one(), one(), return_exceptions=True)
            assert [type(error) for error in ended] == [ArroyoSettingsError] * 3
            assert attempts == 1
            assert (await one()).outcome is Outcome.REACHED
            assert attempts == 2
        assert server.clients[0].closings == 1

    run(main())


@pytest.mark.parametrize("status", [403, 404, 500])
def test_where_only_the_list_is_refused_single_looks_do(status: int) -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 40)
        server.status[LIST] = status
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(10)
        assert not any(task.done() for task in tasks)
        # A 403 may be that of a key that was changed, so each is asked once more with a new client.
        assert server.count(LIST) == (4 if status == 403 else 2)
        assert server.most_at_once[SINGLE] <= SINGLE_LOOKS_AT_A_TIME
        for name in names:
            server.set(name, "Running")
        assert outcomes(await asyncio.gather(*tasks)) == {"reached": 40}

    run(main())


def test_a_gateway_that_answers_for_all_is_asked_twice_not_for_each() -> None:
    def login_page(kind: str, pipeline_id: str) -> Exception:
        return ArroyoResponseError("HTML", status=200, method="GET", path=f"/{kind}")

    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 100)
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(5)
        server.trouble = login_page
        server.forget()
        await asyncio.sleep(INTERVAL)
        assert server.count() <= 3
        await asyncio.sleep(30)
        # Arroyo has answered at this address before, so it counts as an outage.
        assert not any(task.done() for task in tasks)
        assert server.count() <= 30
        server.trouble = fine
        for name in names:
            server.set(name, "Running")
        assert outcomes(await asyncio.gather(*tasks)) == {"reached": 100}

    run(main())


def test_an_error_about_one_pipeline_is_told_to_its_own_waiters() -> None:
    def broken(kind: str, pipeline_id: str) -> Exception | None:
        if pipeline_id != "pl_1":
            return None
        return ArroyoResponseError("no JSON", status=200, method="GET", path="/")

    async def main() -> None:
        server = FakeArroyo()
        many(server, 3)
        server.trouble = broken
        tasks = start(server, [a_wait("pl_0"), a_wait("pl_1"), a_wait("pl_2")])
        await asyncio.sleep(1)
        assert [task.done() for task in tasks] == [False, True, False]
        assert tasks[1].result().outcome is Outcome.ERROR
        await cancel(tasks)

    run(main())


def test_a_job_in_the_list_that_cannot_be_read_is_looked_at_singly() -> None:
    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 20)
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(2)
        server.set("pl_3", "Running", run_id="two")
        await asyncio.sleep(5)
        # It has answered before, so that this may pass.
        assert not any(task.done() for task in tasks)
        server.set("pl_3", "Running")
        await asyncio.sleep(3)
        assert [task for task in tasks if task.done()] == [tasks[3]]
        await cancel(tasks)

    run(main())


@pytest.mark.parametrize("seconds", [0.1, 1.1], ids=["hiccup", "restart"])
@pytest.mark.parametrize("count", [1, 40], ids=["single", "list"])
def test_a_look_that_was_tried_again_for_a_while_is_told_to_all_it_was_for(
    count: int, seconds: float
) -> None:
    """What it shows may be what stood before a server was started again, so that it must last a moment more."""

    async def main() -> None:
        server = FakeArroyo()
        names = many(server, count)
        tasks = start(server, [a_wait(name, stable_for=timedelta(seconds=2)) for name in names])
        await asyncio.sleep(5)
        for name in names:
            server.set(name, "Running")
        await asyncio.sleep(1)
        server.retries_seconds = seconds
        await asyncio.sleep(1.2)
        assert server.retries_seconds == 0
        assert any(task.done() for task in tasks) is (seconds < 1)
        await asyncio.sleep(1.7)
        assert any(task.done() for task in tasks) is (seconds < 1)
        await asyncio.sleep(1.0)
        assert all(task.done() for task in tasks)
        assert outcomes(await asyncio.gather(*tasks)) == {"reached": count}

    run(main())


def test_a_clock_that_was_set_counts_for_those_who_come_after() -> None:
    """The feed of those who came before must not judge them by the time that the machine showed then."""

    async def main() -> None:
        server = FakeArroyo()
        many(server, 2)

        def ahead() -> float:
            return clock() + 3600

        async def early() -> Verdict:
            plan = WaitPlan(pipeline_id="pl_0", targets=frozenset(["Running"]), deadline=clock() + 90_000)
            async with shared_feed(
                key=("arroyo",), interval_seconds=INTERVAL, connect=server.connect, clock=ahead
            ) as feed:
                return await feed.watch(PipelineWait(plan, now=ahead()))

        tasks = [asyncio.create_task(early())]
        await asyncio.sleep(1)
        tasks += start(server, [a_wait("pl_1", timeout=60)])
        await asyncio.sleep(5)
        assert not any(task.done() for task in tasks)
        for name in ("pl_0", "pl_1"):
            server.set(name, "Running")
        assert outcomes(await asyncio.gather(*tasks)) == {"reached": 2}

    run(main())


# -- errors of our own ---------------------------------------------------------------------------------------------


def test_a_judge_that_breaks_takes_nobody_along() -> None:
    class Broken(PipelineWait):
        def observe(self, job: Any, now: float, **more: Any) -> Verdict:
            raise ZeroDivisionError

    async def main() -> None:
        server = FakeArroyo()
        many(server, 3)
        good = a_wait("pl_0")
        tasks = start(server, [good, Broken(good.plan, now=clock()), a_wait("pl_1")])
        await asyncio.sleep(1)
        assert isinstance(tasks[1].exception(), ZeroDivisionError)
        server.set("pl_0", "Running")
        server.set("pl_1", "Running")
        assert outcomes([await tasks[0], await tasks[2]]) == {"reached": 2}

    run(main())


def test_what_nobody_thought_of_ends_every_wait_instead_of_hanging_it() -> None:
    def bug(kind: str, pipeline_id: str) -> Exception:
        return KeyError("a bug")

    async def main() -> None:
        server = FakeArroyo()
        names = many(server, 20)
        tasks = start(server, [a_wait(name) for name in names])
        await asyncio.sleep(1)
        server.trouble = bug
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in ended} == {KeyError}
        server.trouble = fine
        server.set("pl_1", "Running")
        assert (await watch(server, a_wait("pl_1"))).outcome is Outcome.REACHED
        assert [client.closings for client in server.clients] == [1, 1]

    run(main())


def test_a_feed_that_ended_says_so() -> None:
    async def main() -> None:
        server = FakeArroyo()
        server.set("pl_1", "Running")
        async with shared_feed(
            key=("a",), interval_seconds=INTERVAL, connect=server.connect, clock=clock
        ) as feed:
            await feed.watch(a_wait("pl_1"))
        with pytest.raises(RuntimeError, match="has ended"):
            await feed.watch(a_wait("pl_1"))

    run(main())
