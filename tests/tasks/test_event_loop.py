"""Nothing that runs in the triggerer blocks its event loop, nor touches Arroyo when it is merely moved."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import BaseHook, TaskDeferred

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.pipelines import ArroyoPipelineSensor
from airflow_provider_arroyo.triggers.pipelines import ArroyoPipelineTrigger

from .conftest import Arrange
from .harness import context, fire


class BlockedLoopError(AssertionError):
    """Something that blocks was called on the loop's own thread."""


def _forbid_on(thread: int, function: Callable[..., Any], what: str) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            raise BlockedLoopError(what)
        return function(*args, **kwargs)

    return guarded


def deferred(sensor: ArroyoPipelineSensor) -> ArroyoPipelineTrigger:
    """Return the trigger that a sensor hands its wait to."""
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute(context())
    _, arguments = caught.value.trigger.serialize()
    return ArroyoPipelineTrigger(**arguments)


@pytest.mark.parametrize("fault", [None, "status", "reset"])
def test_a_trigger_makes_no_blocking_call(
    fault: str | None, sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = arrange.pipeline("Running")
    trigger = deferred(
        ArroyoPipelineSensor(
            task_id="t", pipeline_id=made, target_states=["Stopped"], timeout=20, deferrable=True
        )
    )
    if fault:
        getattr(sandbox.faults, fault)(
            **({"status": 503} if fault == "status" else {}), method="GET", times=2
        )
    sandbox.faults.stop(made, after=0.3)

    async def guarded() -> list[Any]:
        here = threading.get_ident()
        monkeypatch.setattr(time, "sleep", _forbid_on(here, time.sleep, "time.sleep"))
        monkeypatch.setattr(requests.Session, "send", _forbid_on(here, requests.Session.send, "requests"))
        lookup = _forbid_on(here, BaseHook.get_connection, "get_connection")
        monkeypatch.setattr(BaseHook, "get_connection", staticmethod(lookup))
        with monkeypatch.context():
            return await fire(trigger)

    (event,) = asyncio.run(guarded())
    assert event["verdict"]["outcome"] == "reached"
    assert event["verdict"]["job"]["state"] == "Stopped"


def test_the_guard_of_this_module_catches_a_blocking_call() -> None:
    guarded = _forbid_on(threading.get_ident(), time.sleep, "time.sleep")
    with pytest.raises(BlockedLoopError, match=r"time\.sleep"):
        guarded(0)


def test_a_cancelled_trigger_changes_nothing_and_its_successor_goes_on(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    made = arrange.pipeline("Running")
    trigger = deferred(
        ArroyoPipelineSensor(
            task_id="t", pipeline_id=made, target_states=["Stopped"], timeout=20, deferrable=True
        )
    )

    async def cancelled() -> None:
        looked = sandbox.requests.count("GET")
        task = asyncio.create_task(fire(trigger))
        while sandbox.requests.count("GET") < looked + 2:  # noqa: ASYNC110  # the sandbox is in another thread
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await trigger.cleanup()

    asyncio.run(cancelled())
    assert [request.method for request in sandbox.requests if request.method != "GET"] == ["POST"]
    assert arrange.state(made) == "Running"

    sandbox.faults.stop(made)
    _, arguments = trigger.serialize()
    (event,) = asyncio.run(fire(ArroyoPipelineTrigger(**arguments)))
    assert event["verdict"]["job"]["state"] == "Stopped"
