"""Nothing blocks the event loop of a triggerer, and moving a trigger changes nothing in Arroyo."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineTrigger

from .conftest import Arrange
from .harness import defer, fire, rebuilt, sense

MAX_BLOCK_SECONDS = 0.5
"""Ten times the limit of the benchmark, since tests also run on slower cores. A blocking call takes seconds."""


class BlockedLoopError(AssertionError):
    """A blocking function was called in the loop's own thread."""


def _forbid_on(thread: int, function: Callable[..., Any], what: str) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            raise BlockedLoopError(what)
        return function(*args, **kwargs)

    return guarded


async def longest_block(work: Awaitable[Any]) -> float:
    """Return how long the loop's longest step took while some work ran, in seconds of its thread's CPU time.

    CPU time does not depend on how busy the machine is; blocking without CPU time is found by the other tests.
    """
    # Keep the garbage collector from searching the objects of a thousand earlier tests.
    gc.collect()
    gc.freeze()
    try:
        task = asyncio.ensure_future(work)
        longest, before = 0.0, time.thread_time()
        while not task.done():
            # Shorter than any block that matters, but no busy loop, which would starve other threads.
            await asyncio.sleep(0.002)
            now = time.thread_time()
            longest, before = max(longest, now - before), now
        await task
        return longest
    finally:
        gc.unfreeze()


def watching(pipeline_id: str, *states: str) -> ArroyoPipelineTrigger:
    """Return the trigger of a sensor."""
    return defer(sense(pipeline_id, *states)(deferrable=True, defer_after=0))


@pytest.mark.parametrize("fault", [None, "status", "reset"])
def test_a_trigger_makes_no_blocking_call(
    fault: str | None, sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline_id = arrange.pipeline("Running")
    trigger = watching(pipeline_id, "Stopped")
    if fault:
        more = {"status": 503} if fault == "status" else {}
        getattr(sandbox.faults, fault)(**more, method="GET", times=2)
    sandbox.faults.stop(pipeline_id, after=0.3)

    async def guarded() -> list[Any]:
        here = threading.get_ident()
        look_up = _forbid_on(here, BaseHook.get_connection, "get_connection")
        monkeypatch.setattr(time, "sleep", _forbid_on(here, time.sleep, "time.sleep"))
        for owner, name in ((requests.Session, "send"), (ArroyoClient, "send"), (ArroyoClient, "__init__")):
            monkeypatch.setattr(owner, name, _forbid_on(here, getattr(owner, name), f"{owner}.{name}"))
        monkeypatch.setattr(BaseHook, "get_connection", staticmethod(look_up))
        return await fire(trigger)

    (event,) = asyncio.run(guarded())
    assert event["result"]["outcome"] == "reached"
    assert event["result"]["job"]["state"] == "Stopped"


def test_a_blocking_call_would_be_found() -> None:
    guarded = _forbid_on(threading.get_ident(), time.sleep, "time.sleep")
    with pytest.raises(BlockedLoopError, match=r"time\.sleep"):
        guarded(0)


def test_many_waits_do_not_block_the_loop(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    ids = [arrange.pipeline(name=f"orders {number}") for number in range(30)]
    for pipeline_id in ids:
        arrange.until(pipeline_id, "Running")
    triggers = [watching(pipeline_id, "Stopped") for pipeline_id in ids for _ in range(4)]

    for pipeline_id in ids:
        sandbox.faults.stop(pipeline_id, after=1.0)

    async def all_of_them() -> None:
        await asyncio.gather(*(fire(trigger) for trigger in triggers))

    assert asyncio.run(longest_block(all_of_them())) < MAX_BLOCK_SECONDS


@pytest.mark.parametrize("fault", ["latency", "retry_after"])
def test_a_slow_response_and_a_retry_after_do_not_block_the_loop(
    fault: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    trigger = watching(arrange.pipeline("Running"), "Stopped")
    (pipeline_id,) = sandbox.store.pipelines
    if fault == "latency":
        sandbox.faults.latency(2, times=1)
    else:
        sandbox.faults.status(429, retry_after=2, times=1)
    sandbox.faults.stop(pipeline_id, after=0.3)
    assert asyncio.run(longest_block(fire(trigger))) < MAX_BLOCK_SECONDS


def test_a_cancelled_trigger_changes_nothing_and_its_successor_continues(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    pipeline_id = arrange.pipeline("Running")
    trigger = watching(pipeline_id, "Stopped")

    async def cancelled() -> None:
        before = sandbox.requests.count("GET")
        task = asyncio.create_task(fire(trigger))
        while sandbox.requests.count("GET") < before + 2:  # noqa: ASYNC110  # the sandbox is in another thread
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await trigger.cleanup()

    asyncio.run(cancelled())
    assert [request.method for request in sandbox.requests if request.method != "GET"] == ["POST"]
    assert arrange.state(pipeline_id) == "Running"
    sandbox.faults.stop(pipeline_id)
    (event,) = asyncio.run(fire(rebuilt(trigger)))
    assert event["result"]["job"]["state"] == "Stopped"
