"""Watches for events on the shared poller, in virtual time: their cost, and that they miss nothing."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_arroyo.monitoring.event_rule import EventRule
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.watch import EventWatch
from tests.polling.fake_arroyo import LIST, SINGLE, FakeArroyo
from tests.polling.support import INTERVAL, Waits, a_logger
from tests.polling.virtual_time import VirtualClock, pass_time, virtual

RULE = EventRule(states=frozenset({"Failed", "Stopped"}), max_restarts=2)


def begin(waits: Waits, pipeline_id: str, event_ids: list[str]) -> None:
    """Watch a pipeline as the trigger does."""
    clock = VirtualClock()
    watch = EventWatch(PipelineRef(pipeline_id=pipeline_id), RULE, now=clock())

    async def run() -> None:
        while True:
            await waits.poller.watch(watch, interval_seconds=INTERVAL, clock=clock, log=a_logger())
            event_ids.extend(payload["event_id"] for payload in watch.take_events())

    waits.tasks.append(asyncio.create_task(run()))  # type: ignore[arg-type]  # it has no result


def end(waits: Waits) -> None:
    for task in waits.tasks:
        task.cancel()


@pytest.mark.parametrize("watches", [1, 1000])
@virtual
async def test_a_thousand_watches_of_one_pipeline_cost_as_much_as_one(watches: int) -> None:
    server, event_ids = FakeArroyo(), list[str]()
    server.set("pl_1", "Running")
    waits = Waits(server)
    for _ in range(watches):
        begin(waits, "pl_1", event_ids)
    await pass_time(10)
    assert server.count() == pytest.approx(10 / INTERVAL, abs=2)
    server.set("pl_1", "Failed")
    await pass_time(1)
    assert event_ids == ["job_pl_1/1/Failed"] * watches
    end(waits)


@virtual
async def test_watches_of_a_thousand_pipelines_cost_one_list_per_interval() -> None:
    server, event_ids = FakeArroyo(), list[str]()
    server.seconds = lambda kind, pipeline_id: 0.01 if kind == LIST else 0.001
    waits = Waits(server)
    names = server.many(1000, "Running")
    for name in names:
        begin(waits, name, event_ids)
    await pass_time(10)
    server.forget()
    await pass_time(10)
    assert server.count(LIST) == pytest.approx(10 / INTERVAL, abs=2)
    assert server.count(SINGLE) == 0
    for name in names[:50]:
        server.set(name, "Failed")
    await pass_time(1)
    assert sorted(event_ids) == sorted(f"job_{name}/1/Failed" for name in names[:50])
    end(waits)


@virtual
async def test_each_failure_is_reported_despite_outages_and_restarts() -> None:
    server, event_ids = FakeArroyo(), list[str]()
    server.set("pl_1", "Running")
    waits = Waits(server)
    begin(waits, "pl_1", event_ids)
    for run in range(1, 6):
        server.set("pl_1", "Running", run_id=run)
        await pass_time(1)
        server.fault = lambda kind, pipeline_id: "refused"
        server.set("pl_1", "Failed", run_id=run)
        await pass_time(100)
        server.fault = lambda kind, pipeline_id: None
        await pass_time(5)
    assert event_ids == [f"job_pl_1/{run}/Failed" for run in range(1, 6)]
    end(waits)
