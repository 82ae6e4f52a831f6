"""What a task costs: connections opened, connections looked up in Airflow, and requests. Counts, not times."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
import urllib3.connection
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.hooks.clients import shared_client
from airflow_provider_arroyo.operators.pipelines import (
    ArroyoStopPipelineOperator,
    ArroyoSubmitPipelineOperator,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.pipelines import ArroyoPipelineSensor
from airflow_provider_arroyo.triggers.pipelines import ArroyoPipelineTrigger
from tests.support import ENDLESS

from .conftest import Arrange
from .harness import FakeTaskInstance, context, fire


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the TCP connections that were opened to servers since the test began."""
    seen: list[Any] = []
    connect = urllib3.connection.HTTPConnection.connect

    def counted(self: Any) -> None:
        seen.append(self)
        connect(self)

    monkeypatch.setattr(urllib3.connection.HTTPConnection, "connect", counted)
    return seen


def submit(**more: Any) -> ArroyoSubmitPipelineOperator:
    return ArroyoSubmitPipelineOperator(
        task_id="a_task", name="orders", query=ENDLESS, stable_for=0.3, timeout=20, **more
    )


def sense(pipeline_id: str, *states: str, **more: Any) -> ArroyoPipelineSensor:
    return ArroyoPipelineSensor(
        task_id="a_task", pipeline_id=pipeline_id, target_states=states, timeout=20, **more
    )


def stop(pipeline_id: str, **more: Any) -> ArroyoStopPipelineOperator:
    return ArroyoStopPipelineOperator(task_id="a_task", pipeline_id=pipeline_id, timeout=20, **more)


def test_a_wait_in_the_worker_uses_one_connection_and_looks_it_up_once(
    sandbox: ArroyoSandbox, opened: list[Any], looked_up: list[str]
) -> None:
    submit(deferrable=False).execute(context())
    assert sandbox.requests.total > 5
    assert len(opened) == 1
    assert looked_up == ["arroyo_default"]


def test_the_tasks_of_one_process_share_a_session(sandbox: ArroyoSandbox, opened: list[Any]) -> None:
    made = submit(deferrable=False).execute(context())["pipeline_id"]
    sense(made, "Running").execute(context(FakeTaskInstance(task_id="b")))
    stop(made, deferrable=False).execute(context(FakeTaskInstance(task_id="c")))
    for _ in range(3):
        ArroyoHook().get_pipeline(made)
    assert len(opened) == 1


def test_an_edited_connection_is_another_client(
    sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ArroyoHook().client
    assert ArroyoHook().client is before
    monkeypatch.setenv(
        "AIRFLOW_CONN_ARROYO_DEFAULT",
        json.dumps({"conn_type": "arroyo", "host": sandbox.url, "password": "another"}),
    )
    assert ArroyoHook().client is not before
    assert ArroyoHook().client.settings.api_key == "another"


def test_a_forked_child_does_not_talk_on_its_parents_connections(sandbox: ArroyoSandbox) -> None:
    settings = ArroyoHook().settings
    mine = shared_client(settings)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writes, b"same" if shared_client(settings) is mine else b"own")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reads, 10) == b"own"
    assert shared_client(settings) is mine


def _requests_after_the_event(
    make: Callable[[], Any],
    sandbox: ArroyoSandbox,
    meanwhile: Callable[[], object] = lambda: None,
    fired: Callable[[], object] = lambda: None,
) -> list[str]:
    """Return what the worker asks between the event of its trigger and the end of its task.

    :param meanwhile: called when the task has deferred.
    :param fired: called when the trigger has fired.
    """
    ti = FakeTaskInstance()
    with pytest.raises(TaskDeferred) as deferred:
        make().execute(context(ti))
    meanwhile()
    _, arguments = deferred.value.trigger.serialize()
    (event,) = asyncio.run(fire(ArroyoPipelineTrigger(**arguments)))
    fired()
    asked = sandbox.requests.total
    make().execute_complete(context(ti), event=event)
    return [request.path.rpartition("/")[2] for request in list(sandbox.requests)[asked:]]


def test_a_resumed_submit_asks_nothing(sandbox: ArroyoSandbox, looked_up: list[str]) -> None:
    def make() -> ArroyoSubmitPipelineOperator:
        return submit(deferrable=True, defer_after=0)

    assert _requests_after_the_event(make, sandbox, fired=looked_up.clear) == []
    assert looked_up == []


def test_a_resumed_sensor_asks_nothing(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    made = arrange.pipeline("Running")

    def stopped_by_somebody() -> None:
        sandbox.faults.stop(made)

    asked = _requests_after_the_event(
        lambda: sense(made, "Stopped", deferrable=True), sandbox, stopped_by_somebody
    )
    assert asked == []


def test_a_resumed_stop_asks_for_the_proof_of_its_checkpoint_only(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    made = arrange.pipeline("Running")
    asked = _requests_after_the_event(lambda: stop(made, deferrable=True, defer_after=0), sandbox)
    assert asked == ["checkpoints"]


def test_a_goal_that_is_reached_already_costs_one_look_and_no_deferral(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    made = arrange.pipeline("Running")
    asked = sandbox.requests.total
    sense(made, "Running", deferrable=True).execute(context())
    paths = [request.path.rpartition("/")[2] for request in list(sandbox.requests)[asked:]]
    assert paths.count("jobs") == 1
    assert len(paths) <= 2
