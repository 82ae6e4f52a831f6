"""The cost of a task: opened connections, look-ups in Airflow, and requests. These are counts, not times."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
import urllib3.connection

from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.hooks.clients import shared_client
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .conftest import Arrange
from .harness import FakeTaskInstance, Make, context, defer, fire, sense, stop, submit


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


def test_a_wait_in_the_worker_uses_one_connection_and_looks_it_up_once(
    sandbox: ArroyoSandbox, opened: list[Any], looked_up: list[str]
) -> None:
    submit()(deferrable=False).execute(context())
    assert sandbox.requests.total > 5
    assert len(opened) == 1
    assert looked_up == ["arroyo_default"]


def test_tasks_of_one_process_share_a_session(sandbox: ArroyoSandbox, opened: list[Any]) -> None:
    made = submit()(deferrable=False).execute(context())["pipeline_id"]
    sense(made, "Running")(deferrable=False).execute(context(FakeTaskInstance(task_id="b")))
    stop(made)(deferrable=False).execute(context(FakeTaskInstance(task_id="c")))
    for _ in range(3):
        ArroyoHook().get_pipeline(made)
    assert len(opened) == 1


def test_an_edited_connection_has_a_new_client(
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


def test_a_forked_child_does_not_use_its_parents_connections(sandbox: ArroyoSandbox) -> None:
    settings = ArroyoHook().settings

    def client() -> Any:
        return shared_client("arroyo_default", settings, lambda: settings)

    mine = client()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writes, b"same" if client() is mine else b"own")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reads, 10) == b"own"
    assert client() is mine


def _requests_after_the_event(
    make: Make,
    sandbox: ArroyoSandbox,
    meanwhile: Callable[[], object] = lambda: None,
    fired: Callable[[], object] = lambda: None,
) -> list[str]:
    """Return the requests of the worker between the event of its trigger and the end of its task.

    :param meanwhile: called when the task has deferred.
    :param fired: called when the trigger has fired.
    """
    ti = FakeTaskInstance()
    trigger = defer(make(deferrable=True, defer_after=0), ti)
    meanwhile()
    (event,) = asyncio.run(fire(trigger))
    fired()
    before = sandbox.requests.total
    make(deferrable=True, defer_after=0).execute_complete(context(ti), event=event)
    return [request.path.rpartition("/")[2] for request in list(sandbox.requests)[before:]]


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_a_resumed_submit_requests_nothing_or_searches_for_a_late_create(
    sandbox: ArroyoSandbox, looked_up: list[str]
) -> None:
    # On 0.15, a gateway may have sent the create twice; this is the last check.
    allowed = ["pipelines"] if sandbox.arroyo_version == "0.15" else []
    assert _requests_after_the_event(submit(), sandbox, fired=looked_up.clear) == allowed
    assert looked_up == (["arroyo_default"] if allowed else [])


def test_a_resumed_sensor_requests_nothing(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    make = sense(pipeline_id, "Stopped")
    assert _requests_after_the_event(make, sandbox, lambda: sandbox.faults.stop(pipeline_id)) == []


def test_a_resumed_stop_requests_only_its_checkpoint(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    make = stop(arrange.pipeline("Running"))
    # However busy the machine is, the task defers before the pipeline stops.
    sandbox.faults.controller_away()
    assert _requests_after_the_event(make, sandbox, sandbox.faults.controller_back) == ["checkpoints"]


def test_a_deferred_wait_looks_the_connection_up_once(
    sandbox: ArroyoSandbox, arrange: Arrange, looked_up: list[str]
) -> None:
    pipeline_id = arrange.pipeline("Running")
    trigger = defer(sense(pipeline_id, "Stopped")(deferrable=True, defer_after=0))
    looked_up.clear()
    sandbox.faults.stop(pipeline_id, after=0.5)
    asyncio.run(fire(trigger))
    assert looked_up == ["arroyo_default"]


def test_a_state_that_is_reached_costs_one_poll_and_no_deferral(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    pipeline_id = arrange.pipeline("Running")
    before = sandbox.requests.total
    sense(pipeline_id, "Running")(deferrable=True).execute(context())
    paths = [request.path.rpartition("/")[2] for request in list(sandbox.requests)[before:]]
    assert paths == [pipeline_id, "jobs"]
