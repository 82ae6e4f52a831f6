"""Polls of waits for a checkpoint: their cost, and what a gateway can do to the list."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.monitoring.condition import CheckpointCondition
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.details import MAX_READS, MAX_READS_PER_SECOND, MAX_SLOW_READS
from airflow_provider_arroyo.polling.poll import poll_until
from tests.polling.fake_arroyo import CHECKPOINTS, Answer, FakeArroyo
from tests.polling.support import Waits, a_logger, a_plan
from tests.polling.virtual_time import EPOCH, ManualTime, VirtualClock, virtual

INTERVAL = 2.0
ONE = CheckpointCondition(new_checkpoints=1)


def plan(name: str, condition: CheckpointCondition, at: float, timeout: float = 600.0) -> WaitPlan:
    limits: dict[str, Any] = {"timeout": timeout, "outage_tolerance": timedelta(seconds=60)}
    return replace(a_plan(name, at=at, **limits), target_states=frozenset(), checkpoint=condition)


async def many(server: FakeArroyo, count: int, condition: CheckpointCondition) -> tuple[Waits, VirtualClock]:
    waits, clock = Waits(server), VirtualClock()
    for name in server.many(count, "Running"):
        wait = PipelineWait(plan(name, condition, clock()), now=clock())
        waits.start(name, wait=wait, clock=clock, interval=INTERVAL)
    await asyncio.sleep(0)
    return waits, clock


@virtual
async def test_one_wait_reads_about_as_often_as_it_polls() -> None:
    server = FakeArroyo()
    waits, _ = await many(server, 1, ONE)
    await asyncio.sleep(60)
    assert 50 <= server.count(CHECKPOINTS) <= 61
    server.checkpoint("pl_0", 1)
    assert (await waits.all_over()) == {"reached": 1}


@virtual
async def test_any_number_of_waits_send_at_most_a_hundred_requests_a_second() -> None:
    server = FakeArroyo()
    server.seconds = lambda kind, of: 0.005 if kind == CHECKPOINTS else 0.0
    waits, _ = await many(server, 500, ONE)
    await asyncio.sleep(20)
    assert server.count(CHECKPOINTS) <= 20 * MAX_READS_PER_SECOND + MAX_READS
    assert server.most_at_once[CHECKPOINTS] <= MAX_READS
    # No wait is forgotten.
    assert {server.count(CHECKPOINTS, f"pl_{number}") >= 2 for number in range(500)} == {True}
    for number in range(500):
        server.checkpoint(f"pl_{number}", 1)
    assert await waits.all_over() == {"reached": 500}


@virtual
async def test_a_long_list_is_read_rarely() -> None:
    server = FakeArroyo()
    server.seconds = lambda kind, of: 1.0 if kind == CHECKPOINTS else 0.0
    _, _ = await many(server, 1, ONE)
    await asyncio.sleep(100)
    assert 8 <= server.count(CHECKPOINTS) <= 11


@pytest.mark.parametrize("mode", ["worker", "triggerer"])
@virtual
async def test_a_list_may_take_as_long_as_a_poll(mode: str) -> None:
    def slow(server: FakeArroyo) -> FakeArroyo:
        server.set("pl_0", "Running")
        server.checkpoint("pl_0", 1)
        server.seconds = lambda kind, of: 6.0 if kind == CHECKPOINTS else 0.0
        return server

    condition = CheckpointCondition(min_epoch=1)
    if mode == "worker":
        time = ManualTime()
        clock = VirtualClock(monotonic=time)
        result = poll_until(
            slow(FakeArroyo(monotonic=time, spend=time.sleep)).client(),
            PipelineWait(plan("pl_0", condition, EPOCH), now=EPOCH),
            clock=clock,
            interval_seconds=INTERVAL,
            log=a_logger(),
            sleep=time.sleep,
        )
    else:
        clock = VirtualClock()
        wait = PipelineWait(plan("pl_0", condition, clock()), now=clock())
        result = await Waits(slow(FakeArroyo())).start("pl_0", wait=wait, clock=clock, interval=INTERVAL)
    assert (result.outcome, result.waited_seconds) == (Outcome.REACHED, 6.0)


@virtual
async def test_a_hanging_list_delays_no_other_wait_and_no_deadline() -> None:
    server = FakeArroyo()
    names = [f"pl_{number}" for number in range(4)]
    server.fault = lambda kind, of: "hangs" if kind == CHECKPOINTS and of in names[:3] else None
    waits, _ = await many(server, 4, CheckpointCondition(min_epoch=1))
    server.checkpoint("pl_3", 1)
    await asyncio.sleep(20)
    assert waits.done() == ["reached"]
    assert await waits.all_over() == {"error": 3, "reached": 1}
    assert max(task.result().waited_seconds for task in waits.tasks) < 120


@virtual
async def test_reads_without_a_response_keep_few_threads() -> None:
    server = FakeArroyo()
    server.fault = lambda kind, of: "hangs" if kind == CHECKPOINTS else None
    await many(server, 200, ONE)
    await asyncio.sleep(90)
    # Two begin each second, and those that are limited end after five.
    assert server.most_at_once[CHECKPOINTS] <= MAX_SLOW_READS + 12


def test_a_checkpoint_that_the_run_before_wrote_and_this_one_commits_proves_nothing() -> None:
    time = ManualTime()
    server = FakeArroyo(monotonic=time, spend=time.sleep)
    server.set("pl_0", "Running", run_id=2)
    phases = [{"event": "Checkpointing", "start_time": 1}, {"event": "WritingMetadata", "start_time": 2}]
    lists = iter(
        [
            listed(item(), item(epoch=8, finish_time=None, events=phases)),
            listed(item(), item(epoch=8, events=phases)),
            listed(item(epoch=8), item(epoch=9)),
        ]
    )
    server.fault = lambda kind, of: next(lists) if kind == CHECKPOINTS else None
    wait = PipelineWait(a_plan("pl_0", at=EPOCH, until_checkpoint=True), now=EPOCH)
    clock = VirtualClock(monotonic=time)
    options: dict[str, Any] = {"clock": clock, "interval_seconds": INTERVAL, "sleep": time.sleep}
    assert poll_until(server.client(), wait, log=a_logger(), **options).outcome is Outcome.REACHED
    assert next(lists, None) is None, "the wait ended with checkpoint 8"


# -- invalid responses --------------------------------------------------------------------------------------------


def listed(*items: Any) -> Answer:
    return 200, json.dumps({"data": list(items)})


def item(**fields: Any) -> dict[str, Any]:
    return {"epoch": 7, "start_time": 1, "finish_time": 2, "events": [], **fields}


IGNORED = {
    "events that are none": listed(item(events="none"), item(epoch=8, events=[5])),
    "an item that is not an object": listed(5, None, [], item(), item(epoch=8)),
    "fields that are new": listed(item(colour="blue"), item(epoch=8)),
    "one that is under way": listed(item(), item(epoch=8), item(epoch=9, finish_time=None)),
}
UNREADABLE = {
    "no list": (200, '{"data": 5}'),
    "no data": (200, "{}"),
    "cut short": (200, '{"data": [{"epoch": 7'),
    "a page": (200, "<html>busy</html>"),
    "an epoch that is text": listed(item(epoch="7")),
    "no epoch": listed({"start_time": 1, "finish_time": 2}),
    "a beginning that is text": listed(item(start_time="now")),
    "a beginning of 400 digits": listed(item(start_time=10**399)),
    "an epoch of 400 digits": listed(item(epoch=10**399)),
    "a type that is none": listed(item(), item(epoch=8, checkpoint_type=5)),
    "a finish that is text": listed(item(), item(epoch=8, finish_time="now")),
    "a finish of 400 digits": listed(item(), item(epoch=8, finish_time=10**399)),
    "another one's 404": (404, '{"error": "not here"}'),
    "an empty 500": (500, ""),
    "nothing": "refused",
}


def in_worker(fault: Answer, condition: CheckpointCondition) -> WaitResult:
    time = ManualTime()
    server = FakeArroyo(monotonic=time, spend=time.sleep)
    server.set("pl_0", "Running")
    server.fault = lambda kind, of: fault if kind == CHECKPOINTS else None
    wait = PipelineWait(plan("pl_0", condition, EPOCH, 90.0), now=EPOCH)
    options: dict[str, Any] = {"clock": VirtualClock(monotonic=time), "interval_seconds": INTERVAL}
    return poll_until(server.client(), wait, log=a_logger(), sleep=time.sleep, **options)


def in_triggerer(fault: Answer, condition: CheckpointCondition) -> WaitResult:
    seen: list[WaitResult] = []

    @virtual
    async def main() -> None:
        server = FakeArroyo()
        server.fault = lambda kind, of: fault if kind == CHECKPOINTS else None
        waits, _ = await many(server, 1, condition)
        seen.append(await waits.tasks[0])

    main()
    return seen[0]


@pytest.mark.parametrize("run", [in_worker, in_triggerer])
@pytest.mark.parametrize("name", IGNORED)
def test_invalid_optional_fields_are_ignored(run: Any, name: str) -> None:
    result = run(IGNORED[name], CheckpointCondition(min_epoch=8))
    assert result.outcome is Outcome.REACHED, result
    assert result.facts["checkpoint"]["epoch"] == 8


@pytest.mark.parametrize("run", [in_worker, in_triggerer])
@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_list_is_an_outage_and_proves_no_checkpoint(run: Any, name: str) -> None:
    result = run(UNREADABLE[name], CheckpointCondition(min_epoch=7))
    assert result.outcome is Outcome.ERROR, result
    assert "could not be read for 1 min" in str(result.error)
    assert 60 <= result.waited_seconds < 75
