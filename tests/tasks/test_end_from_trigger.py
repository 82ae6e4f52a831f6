"""``end_from_trigger``: what is stored, what still resumes in a worker, and when it is refused."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.sdk.execution_time import task_runner
from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError, ArroyoTaskError
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineTrigger
from airflow_provider_arroyo.triggers.supervisor import push_xcoms

from .conftest import BROKEN, Arrange
from .harness import (
    DEFERRED,
    FROM_TRIGGER,
    FakeTaskInstance,
    context,
    defer,
    fire,
    run_task,
    sense,
    supervisor,
)


def deferred(arrange: Arrange, ti: FakeTaskInstance, **more: Any) -> ArroyoPipelineTrigger:
    """Return the trigger of a sensor for a stop that happens soon, with a long hold."""
    pipeline_id = arrange.pipeline("Running")
    arguments = {"deferrable": True, "defer_after": 0, "end_from_trigger": True, **more}
    trigger = defer(sense(pipeline_id, "Stopped", timeout=100)(**arguments), ti)
    trigger.task_instance = ti  # type: ignore[assignment]  # has the methods that are used
    trigger.hold = {"deferred_at": SteadyClock()(), "seconds": 3600}
    arrange.sandbox.faults.stop(pipeline_id)
    return trigger


async def events_of(trigger: ArroyoPipelineTrigger) -> list[Any]:
    """Run a trigger and return its events."""
    return [event async for event in trigger.run()]


def test_a_success_ends_the_task_at_once_with_the_same_xcoms_as_in_a_worker(arrange: Arrange) -> None:
    ti = FakeTaskInstance(map_index=3)
    trigger = deferred(arrange, ti)
    with supervisor(ti):
        (event,) = asyncio.run(events_of(trigger))
    assert isinstance(event, TaskSuccessEvent)
    # Airflow would store these as JSON text.
    assert event.xcoms is None
    result = ti.xcoms["return_value"]
    other = FakeTaskInstance()
    ended = run_task(sense(result["pipeline_id"], "Stopped"), DEFERRED, other)
    assert result == ended.result
    assert {*ti.xcoms} == {*other.xcoms, "return_value"}
    assert [one["state"] for one in ti.xcoms["arroyo_transitions"]][-1] == "Stopped"


def test_without_do_xcom_push_no_result_is_stored(arrange: Arrange) -> None:
    ti = FakeTaskInstance()
    trigger = deferred(arrange, ti, do_xcom_push=False)
    with supervisor(ti):
        (event,) = asyncio.run(events_of(trigger))
    assert isinstance(event, TaskSuccessEvent)
    assert "return_value" not in ti.xcoms


def test_a_failure_resumes_in_a_worker(arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Failed", query=BROKEN)
    ended = run_task(sense(pipeline_id, "Stopped"), FROM_TRIGGER)
    assert type(ended.error) is ArroyoTaskError
    assert "the goal was Stopped" in str(ended.error)


@pytest.mark.parametrize("problem", ["no task", "no supervisor", "an error", "a refusal"])
def test_if_nothing_can_be_stored_the_task_resumes_in_a_worker(problem: str, arrange: Arrange) -> None:
    ti = FakeTaskInstance()
    trigger = deferred(arrange, ti)
    trigger.hold = None

    class Comms:
        async def asend(self, message: Any) -> Any:
            if problem == "no supervisor":
                raise ConnectionResetError("gone")
            return mock.Mock(error="forbidden")

    if problem == "no task":  # `airflow dags test`
        trigger.task_instance = None
    with mock.patch.object(task_runner, "SUPERVISOR_COMMS", Comms(), create=True):
        (payload,) = asyncio.run(fire(trigger))
    sensor = sense("pl_1", "Stopped", deferrable=True, end_from_trigger=True)()
    assert sensor.execute_complete(context(), event=payload)["state"] == "Stopped"


def test_a_pipeline_that_could_not_be_shown_when_it_was_found_is_shown_at_the_end(
    arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Any] = []

    async def push(ti: Any, values: Any) -> None:
        tries.append(values)
        if len(tries) == 1:
            raise RuntimeError("no API")
        await push_xcoms(ti, values)

    monkeypatch.setattr("airflow_provider_arroyo.triggers.arroyo.push_xcoms", push)
    ti = FakeTaskInstance()
    sensor = sense(None, pipeline_name="orders", deferrable=True, defer_after=0, end_from_trigger=True)()
    trigger = defer(sensor, ti)
    trigger.task_instance = ti  # type: ignore[assignment]  # has the methods that are used
    pipeline_id = arrange.pipeline("Running")
    with supervisor(ti):
        (event,) = asyncio.run(events_of(trigger))
    assert isinstance(event, TaskSuccessEvent)
    assert len(tries) == 2
    assert (ti.xcoms["pipeline_id"], ti.xcoms["pipeline_name"]) == (pipeline_id, "orders")
    assert ti.xcoms["_link_ArroyoPipelineLink"] == ti.xcoms["return_value"]["console_url"]


def test_a_kill_does_not_cancel_a_request_that_stores_the_result(arrange: Arrange) -> None:
    """All triggers share a channel to the supervisor: a cancelled request leaves its response to the next one."""
    ti = FakeTaskInstance()
    trigger = deferred(arrange, ti)
    done: list[str] = []

    async def killed() -> None:
        sent, answer = asyncio.Event(), asyncio.Event()

        class Comms:
            async def asend(self, message: Any) -> Any:
                sent.set()
                await answer.wait()
                done.append(message.key)

        with mock.patch.object(task_runner, "SUPERVISOR_COMMS", Comms(), create=True):
            running = asyncio.create_task(events_of(trigger))
            await sent.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            answer.set()
            while len(done) < 2:  # noqa: ASYNC110  # this happens in a task of Airflow's
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(killed(), 30))
    assert sorted(done) == ["arroyo_transitions", "return_value"]


# -- when it is refused ---------------------------------------------------------------------------------------


class WithPostExecute(ArroyoPipelineSensor):
    """Overrides post_execute."""

    def post_execute(self, context: Any, result: Any = None) -> None:
        """Do something."""


REFUSED = [
    ({"outlets": [Asset("orders")]}, "outlets: its asset events would not be emitted"),
    ({"on_success_callback": print}, "on_success_callback: it would never be called"),
    ({"on_success_callback": [print]}, "on_success_callback: it would never be called"),
    ({"post_execute": lambda context, result: None}, "post_execute: it would never be called"),
    ({"multiple_outputs": True}, "multiple_outputs: the separate outputs would not be stored"),
]
FINE: dict[str, Any] = {
    "on_failure_callback": print,
    "on_execute_callback": print,
    "inlets": [Asset("orders")],
    "pre_execute": lambda context: None,
}


@pytest.mark.parametrize("more, why", REFUSED)
@pytest.mark.parametrize("cls", [ArroyoPipelineSensor])
def test_it_is_refused_with_features_that_need_a_worker(cls: Any, more: dict[str, Any], why: str) -> None:
    given = {"task_id": "watch", "pipeline_id": "pl_1", **more}
    with pytest.raises(ValueError, match=f"end_from_trigger=True cannot be used with {why}"):
        cls(end_from_trigger=True, deferrable=True, **given)
    assert cls(**given).end_from_trigger is False


def test_an_overridden_post_execute_is_refused(sandbox: ArroyoSandbox) -> None:
    with pytest.raises(ValueError, match="post_execute: it would never be called"):
        WithPostExecute(task_id="watch", pipeline_id="pl_1", end_from_trigger=True)
    assert WithPostExecute(task_id="watch", pipeline_id="pl_1").end_from_trigger is False


def test_other_features_are_accepted() -> None:
    sensor = ArroyoPipelineSensor(task_id="watch", pipeline_id="pl_1", end_from_trigger=True, **FINE)
    assert sensor.end_from_trigger


def test_default_arguments_of_the_dag_are_checked() -> None:
    with (
        DAG("a_dag", schedule=None, default_args={"on_success_callback": print}),
        pytest.raises(ValueError, match="on_success_callback"),
    ):
        ArroyoPipelineSensor(task_id="watch", pipeline_id="pl_1", end_from_trigger=True)


@pytest.mark.parametrize("late", ["outlets", "on_success_callback"])
def test_attributes_that_are_set_later_are_refused_in_execute(late: str, sandbox: ArroyoSandbox) -> None:
    sensor = sense("pl_1", deferrable=True, end_from_trigger=True)()
    setattr(sensor, late, [Asset("orders")] if late == "outlets" else print)
    with pytest.raises(ArroyoArgumentError, match=f"cannot be used with {late}"):
        sensor.execute(context())
    assert sandbox.requests.total == 0


def test_a_mapped_task_fails_without_a_retry_when_it_runs() -> None:
    """Its arguments are not checked when the DAG is parsed, since no task is created then."""
    with DAG("a_dag", schedule=None):
        mapped = ArroyoPipelineSensor.partial(
            task_id="watch", end_from_trigger=True, outlets=[Asset("orders")]
        ).expand(pipeline_id=["pl_1", "pl_2"])
    # Airflow does not retry this error.
    with pytest.raises(ArroyoArgumentError, match="cannot be used with outlets"):
        mapped.unmap({"pipeline_id": "pl_1"})


def test_it_is_refused_if_a_task_is_mapped_over_the_result(sandbox: ArroyoSandbox) -> None:
    with DAG("a_dag", schedule=None):
        watch = ArroyoPipelineSensor(
            task_id="watch", pipeline_id="pl_1", deferrable=True, end_from_trigger=True
        )
        ArroyoPipelineSensor.partial(task_id="next").expand(pipeline_id=watch.output)
    with pytest.raises(ArroyoArgumentError, match=r"cannot be used with expand\(\) over its result"):
        watch.execute(context())


@pytest.mark.parametrize("value", ["true", 1, None])
def test_only_a_boolean_is_accepted(value: Any) -> None:
    with pytest.raises(ValueError, match="end_from_trigger must be True or False"):
        ArroyoPipelineSensor(task_id="watch", pipeline_id="pl_1", end_from_trigger=value)
