"""``end_from_trigger`` in triggerers that are killed or cancelled, or that run the same wait at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .conftest import Arrange
from .harness import FakeTaskInstance, Make, context, defer, rebuilt, sense

MESSAGES = 5
"""The number of XComs that a triggerer stores for a pipeline that it finds by name: its identity, then the result."""

POINTS = [(at, how) for at in range(2 * MESSAGES) for how in ("kill", "cancel")]
"""When it ends (before the first XCom is stored, after that, before the second …), and how."""


class Supervisor:
    """Stores the XComs of a task, until the triggerer is killed or cancelled.

    :param ti: the task instance.
    :param ends_at: when that happens, see :data:`POINTS`; None: never.
    :param how: ``kill``: it sends nothing more; ``cancel``: it finishes what it has begun.
    """

    def __init__(self, ti: FakeTaskInstance, ends_at: int | None = None, how: str = "") -> None:
        self.stored: list[tuple[str, Any]] = []
        self._ti, self._ends_at, self._how = ti, ends_at, how
        self._at = 0
        self.running: asyncio.Future[Any] | None = None

    async def asend(self, message: Any) -> Any:
        await self._step()
        self._ti.xcom_push(message.key, message.value)
        self.stored.append((message.key, self._ti.xcoms[message.key]))
        await self._step()
        return None

    async def _step(self) -> None:
        at, self._at = self._at, self._at + 1
        if self._ends_at is None or at < self._ends_at:
            return
        if at == self._ends_at:
            assert self.running is not None
            self.running.cancel()
        if self._how == "kill":
            await asyncio.Event().wait()  # a dead process does nothing more


def run(triggers: list[Any], supervisor: Supervisor) -> list[Any]:
    """Run triggers in one triggerer, and return the events that Airflow gets; none if it ends before."""

    async def ended() -> list[Any]:
        async def events(trigger: Any) -> list[Any]:
            return [event async for event in trigger.run()]

        supervisor.running = asyncio.ensure_future(asyncio.gather(*map(events, triggers)))
        try:
            return [event for found in await supervisor.running for event in found]
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            return []

    with mock.patch.object(task_runner, "SUPERVISOR_COMMS", supervisor, create=True):
        return asyncio.run(ended())


def deferred(ti: FakeTaskInstance, make: Make) -> Any:
    """Return the trigger of a sensor, as a triggerer gets it."""
    trigger = defer(make(deferrable=True, defer_after=0, end_from_trigger=True), ti)
    trigger.task_instance = ti  # type: ignore[assignment]  # has the methods that are used
    return trigger


def again(trigger: Any, ti: FakeTaskInstance) -> Any:
    """Return the same trigger in another triggerer."""
    other = rebuilt(trigger)
    other.task_instance = ti  # type: ignore[assignment]  # as above
    return other


def results(stored: list[tuple[str, Any]]) -> set[str]:
    """Return the results that were stored, as JSON."""
    return {json.dumps(value) for key, value in stored if key == "return_value"}


def test_wherever_a_triggerer_ends_the_next_one_stores_the_same_values(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    # Deferred before the pipeline exists.
    trigger = deferred(FakeTaskInstance(), sense(None, "Stopped", pipeline_name="orders", timeout=100))
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.stop(pipeline_id)
    arrange.until(pipeline_id, "Stopped")
    for at, how in POINTS:
        ti = FakeTaskInstance()
        first, second = Supervisor(ti, at, how), Supervisor(ti)
        assert run([again(trigger, ti)], first) == [], (at, how)
        (event,) = run([again(trigger, ti)], second)
        assert isinstance(event, TaskSuccessEvent)
        assert len(second.stored) == MESSAGES
        # Values that are stored again are the same.
        assert len(results(first.stored + second.stored)) == 1
        assert ti.xcoms["return_value"]["state"] == "Stopped"
        assert ti.xcoms["return_value"]["pipeline_id"] == ti.xcoms["pipeline_id"] == pipeline_id
        assert [one["state"] for one in ti.xcoms["arroyo_transitions"]] == ["Stopped"]


def test_two_concurrent_triggerers_store_the_same_values(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    ti = FakeTaskInstance()
    pipeline_id = arrange.pipeline("Running")
    trigger = deferred(ti, sense(pipeline_id, "Stopped", timeout=100))
    sandbox.faults.stop(pipeline_id)
    supervisor = Supervisor(ti)
    events = run([trigger, again(trigger, ti)], supervisor)
    assert [type(event) for event in events] == [TaskSuccessEvent] * 2
    assert len(supervisor.stored) == 4
    assert len(results(supervisor.stored)) == 1


@pytest.mark.parametrize("at", range(4))
def test_a_pipeline_that_failed_in_the_meantime_is_not_a_success(
    at: int, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    """The first triggerer saw the wanted state, and was killed before it could report that to Airflow."""
    ti = FakeTaskInstance()
    pipeline_id = arrange.pipeline("Running")
    make = sense(pipeline_id, "Stopped", timeout=100)
    trigger = deferred(ti, make)
    sandbox.faults.stop(pipeline_id)
    arrange.until(pipeline_id, "Stopped")
    assert run([trigger], Supervisor(ti, at, "kill")) == []
    arrange.client.patch_pipeline(pipeline_id, stop="none")
    arrange.until(pipeline_id, "Running")
    sandbox.faults.fail(pipeline_id)
    arrange.until(pipeline_id, "Failed")
    other = again(trigger, ti)
    other.hold = None
    (event,) = run([other], Supervisor(ti))
    assert not isinstance(event, TaskSuccessEvent)
    with pytest.raises(ArroyoTaskError, match="is Failed"):
        make(deferrable=True, end_from_trigger=True).execute_complete(
            context(ti), event=json.loads(json.dumps(event.payload))
        )
    # A value that the first triggerer may have stored is not the result of a failed task.
    assert ti.xcoms.get("return_value") is None
    assert ti.xcoms["arroyo_transitions"][-1]["state"] == "Failed"
