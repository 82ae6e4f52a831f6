"""The event trigger with a real connection, real polls and threads, and a sandbox."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import pytest
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.watch import EventWatch
from airflow_provider_arroyo.polling import connection
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.triggers import events
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineEventTrigger
from tests.monitoring.support import REFUSED
from tests.polling.support import until
from tests.support import ENDLESS, Lines
from tests.tasks.conftest import BROKEN, Arrange
from tests.tasks.harness import StateStore, quiet


class BrokenStore:
    async def aget(self, key: str, default: Any = None) -> Any:
        raise RuntimeError("no API")

    aset = aget


def rebuilt(
    trigger: ArroyoPipelineEventTrigger, lines: Lines, store: Any = None
) -> ArroyoPipelineEventTrigger:
    """Return a trigger as Airflow restores it from its database."""
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_arroyo.triggers.arroyo.ArroyoPipelineEventTrigger"
    again = ArroyoPipelineEventTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    log = logging.Logger("tests.events")
    log.addHandler(lines)
    if store is not None:
        again.asset_state_store = store
    quiet(again, log)
    return again


@asynccontextmanager
async def watching(
    lines: Lines | None = None, store: Any = None, **arguments: Any
) -> AsyncIterator[list[dict[str, Any]]]:
    """Run a trigger as a triggerer does; its events are appended to the list."""
    reported: list[dict[str, Any]] = []
    trigger = rebuilt(ArroyoPipelineEventTrigger(**arguments), lines or Lines(), store)

    async def run() -> None:
        async for event in trigger.run():
            reported.append(json.loads(json.dumps(event.payload)))  # noqa: PERF401  # read while the trigger runs

    task = asyncio.create_task(run())
    try:
        yield reported
        assert not task.done(), "a watcher that ends is restarted by Airflow forever"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({}, "exactly one of pipeline_id and pipeline_name"),
        ({"pipeline_name": "a", "pipeline_id": "b"}, "exactly one of pipeline_id and pipeline_name"),
        ({"pipeline_name": " "}, "pipeline_name must be"),
        ({"pipeline_id": 5}, "pipeline_id must be"),
        ({"pipeline_name": "a", "states": ["Broken"]}, "states: 'Broken' is not a state"),
        ({"pipeline_name": "a", "states": ["Running"]}, "states: 'Running' is not a terminal state"),
        ({"pipeline_name": "a", "states": []}, "states: needs at least one"),
        ({"pipeline_name": "a", "restart_window": 60}, "time for max_restarts, which must be given"),
        ({"pipeline_name": "a", "restart_window": 600}, "time for max_restarts, which must be given"),
        (
            {"pipeline_name": "{{ x }}"},
            "pipeline_name must not be a template, got '{{ x }}': Airflow does not render",
        ),
        ({"pipeline_id": "{% x %}"}, "pipeline_id must not be a template"),
        (
            {"pipeline_id": "a", "arroyo_conn_id": "{{ var.value.c }}"},
            "arroyo_conn_id must not be a template",
        ),
        (
            {"pipeline_name": "a", "max_restarts": 1, "poll_interval": 900},
            "restart_window must be at least as long",
        ),
        ({"pipeline_name": "a", "max_checkpoint_age": 0.9}, "max_checkpoint_age must be 1 second or more"),
        (
            {"pipeline_name": "a", "max_checkpoint_age": 60, "poll_interval": 60},
            "max_checkpoint_age must be longer than from poll to poll",
        ),
        ({"pipeline_name": "a", "states": 3}, "states must be names of states, got 3"),
        ({"pipeline_name": "a", "arroyo_conn_id": None}, "arroyo_conn_id must be a non-empty string"),
        ({"pipeline_id": ".."}, "pipeline_id must not be"),
        ({"pipeline_id": "pl_1\n"}, "pipeline_id must not have white space around it"),
        ({"pipeline_name": "n\n"}, "pipeline_name must not have white space around it"),
        ({"pipeline_name": "None"}, "pipeline_name must not be empty"),
        ({"pipeline_name": "a", "arroyo_conn_id": ""}, "arroyo_conn_id"),
    ],
)
def test_invalid_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ArroyoPipelineEventTrigger(**arguments)


async def test_an_event_of_the_checkpoints_while_a_poll_fails_causes_no_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Poller:
        async def watch(self, *_: Any, **__: Any) -> WaitResult:
            return WaitResult(outcome=Outcome.REACHED, error=REFUSED)

    @asynccontextmanager
    async def shared_poller(*_: Any) -> AsyncIterator[Poller]:
        yield Poller()

    monkeypatch.setattr("airflow_provider_arroyo.polling.shared.shared_poller", shared_poller)
    trigger, watch = ArroyoPipelineEventTrigger(pipeline_id="pl_1"), cast("EventWatch", None)
    assert await trigger._watch(watch, SteadyClock()) is None


def test_equivalent_watchers_are_the_same_for_airflow() -> None:
    one = ArroyoPipelineEventTrigger(
        pipeline_name="orders",
        states=["Stopped", "Failed"],
        max_restarts=3,
        restart_window=timedelta(hours=1),
    )
    other = ArroyoPipelineEventTrigger(
        pipeline_name="orders", states=("Failed", "Stopped"), max_restarts=3, restart_window=3600
    )
    assert isinstance(one, BaseEventTrigger)
    assert one.serialize() == other.serialize()
    assert BaseEventTrigger.hash(*one.serialize()) == BaseEventTrigger.hash(*other.serialize())


async def test_a_failure_is_reported_with_its_reason(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    async with watching(pipeline_name="orders") as reported:
        pipeline_id = await asyncio.to_thread(arrange.pipeline, query=BROKEN)
        await until(lambda: bool(reported))
        (event,) = reported
        job = arrange.client.get_job(pipeline_id)
        assert job is not None
        assert event["event_id"] == f"{job.id}/{job.run_id}/Failed"
        assert (event["pipeline_id"], event["pipeline_name"]) == (pipeline_id, "orders")
        assert event["failure_reason"] == (job.failure.error if job.failure else None)
        assert event["console_url"].startswith(sandbox.url)


async def test_a_stop_is_reported_and_the_watch_continues_with_the_next_pipeline_of_that_name(
    client: ArroyoClient, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_FOLLOW_SECONDS", 0.1)
    lines = Lines()
    first = await asyncio.to_thread(arrange.pipeline, "Running")
    async with watching(lines, pipeline_name="orders", states=["Failed", "Stopped"]) as reported:
        await until(lambda: f"id {first}" in lines.text())
        await asyncio.to_thread(client.patch_pipeline, first, stop=StopMode.IMMEDIATE)
        await until(lambda: len(reported) == 1)
        # A deploy that replaces: the old pipeline is kept for a while, or deleted.
        second = await asyncio.to_thread(arrange.pipeline, "Running")
        await until(lambda: f"id {second}" in lines.text())
        await asyncio.to_thread(client.patch_pipeline, second, stop=StopMode.IMMEDIATE)
        await until(lambda: len(reported) == 2)
        await asyncio.to_thread(client.delete_pipeline, second)
        await asyncio.to_thread(client.delete_pipeline, first)
        third = await asyncio.to_thread(arrange.pipeline, "Failed", query=BROKEN)
        await until(lambda: len(reported) == 3)
    assert [(event["pipeline_id"], event["state"]) for event in reported] == [
        (first, "Stopped"),
        (second, "Stopped"),
        (third, "Failed"),
    ]
    assert lines.text("ERROR") == ""


async def test_missing_checkpoints_are_reported_and_the_watch_continues(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    sandbox.faults.kafka_away("orders")
    async with watching(
        pipeline_name="orders", states=["Stopped"], max_checkpoint_age=timedelta(seconds=2)
    ) as reported:
        pipeline_id = await asyncio.to_thread(arrange.pipeline, "Running")
        job = arrange.client.get_job(pipeline_id)
        assert job is not None
        await until(lambda: bool(reported))
        await asyncio.to_thread(arrange.client.patch_pipeline, pipeline_id, stop=StopMode.FORCE)
        await until(lambda: len(reported) == 2)
    assert reported[0]["event_id"] == f"{job.id}/checkpoint-0/NoCheckpoint"
    assert (reported[0]["event"], reported[0]["last_checkpoint"]) == ("NoCheckpoint", None)
    assert reported[0]["max_checkpoint_age_seconds"] == 2.0
    assert reported[1]["event"] == "Stopped"


async def test_reported_events_are_remembered_and_a_triggerer_without_a_store_repeats_them_with_the_same_id(
    arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_STORED_SECONDS", 1)
    pipeline_id = await asyncio.to_thread(arrange.pipeline, "Failed", query=BROKEN)
    lines, store, ids = Lines(), StateStore(), []
    for _ in range(2):
        async with watching(pipeline_id=pipeline_id) as reported:
            await until(lambda: len(reported) == 1)
            ids.append(reported[0]["event_id"])
    assert ids[0] == ids[1]
    async with watching(store=store, pipeline_id=pipeline_id) as reported:
        await until(lambda: len(reported) == 1)
        assert not store, "stored before Airflow has stored the event"
        await until(lambda: bool(store))
    (kept,) = store.values()
    assert f"{kept['run']['job_id']}/{kept['run']['run_id']}/{kept['state']}" == ids[0]
    async with watching(lines, store, pipeline_id=pipeline_id) as reported:
        await until(lambda: "Failed: " in lines.text())
        await asyncio.to_thread(arrange.client.restart_pipeline, pipeline_id)
        await until(lambda: len(reported) == 1)
        assert reported[0]["event_id"] != ids[0]
    # Another watcher of the same asset has its own memory.
    async with watching(store=store, pipeline_id=pipeline_id, states=["Failed", "Stopped"]) as reported:
        await until(lambda: len(reported) == 1)
    async with watching(lines, BrokenStore(), pipeline_id=pipeline_id) as reported:
        await until(lambda: len(reported) == 1)
    assert "The record of reported events cannot be read, so events may be reported again" in lines.text(
        "WARNING"
    )


async def test_a_permanent_error_is_logged_once_and_the_watch_continues(
    sandbox: ArroyoSandbox, client: ArroyoClient, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_BROKEN_SECONDS", 0.05)
    lines = Lines()
    twins = [await asyncio.to_thread(arrange.pipeline, "Running") for _ in range(2)]
    async with watching(lines, pipeline_name="orders", states=["Stopped"]) as reported:
        await until(lambda: sandbox.requests.count("GET", "/api/v1/pipelines*") > 5)
        await asyncio.to_thread(client.patch_pipeline, twins[0], stop=StopMode.IMMEDIATE)
        await until(lambda: f"id {twins[1]}" in lines.text())
        await asyncio.to_thread(client.patch_pipeline, twins[1], stop=StopMode.IMMEDIATE)
        await until(lambda: len(reported) == 1)
    assert reported[0]["pipeline_id"] == twins[1]
    assert (
        lines.text("ERROR").count("Cannot watch the pipeline named 'orders', trying again every 0.05 s") == 1
    )


async def test_a_missing_connection_is_logged_once(
    sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_BROKEN_SECONDS", 0.05)
    monkeypatch.setattr(connection, "FIRST_CONTACT_SECONDS", 0.0)  # else it is tried for a minute
    lines = Lines()
    pipeline_id = await asyncio.to_thread(arrange.pipeline, query=ENDLESS)
    async with watching(
        lines, pipeline_id=pipeline_id, states=["Stopped"], arroyo_conn_id="nowhere"
    ) as reported:
        await until(lambda: "Cannot watch" in lines.text("ERROR"))
        monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", sandbox.airflow_connection_uri())
        await until(lambda: "orders" in lines.text("INFO") or pipeline_id in lines.text("INFO"))
        await asyncio.to_thread(arrange.client.patch_pipeline, pipeline_id, stop=StopMode.IMMEDIATE)
        await until(lambda: len(reported) == 1)
    assert lines.text("ERROR").count("nowhere") >= 1
    assert len(lines.text("ERROR").splitlines()) == 1
