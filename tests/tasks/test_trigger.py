"""The trigger: serialization through Airflow's database, versions, secrets, and a connection that is edited."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.monitoring.event import EVENT_VERSION, WaitEvent
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineTrigger
from tests.support import Lines

from .conftest import Arrange
from .harness import (
    DEFERRED,
    SYNC,
    FakeTaskInstance,
    context,
    defer,
    fire,
    rebuilt,
    run_task,
    sense,
    stop,
    submit,
)


def watching(pipeline_id: str, *states: str, seconds: float = 20) -> ArroyoPipelineTrigger:
    """Return a trigger whose wait ends in that many seconds."""
    plan = WaitPlan(
        pipeline=PipelineRef(pipeline_id=pipeline_id),
        target_states=frozenset(states),
        deadline=time.time() + seconds,
    )
    return ArroyoPipelineTrigger(arroyo_conn_id="arroyo_default", plan=plan.to_dict())


def result_of(trigger: ArroyoPipelineTrigger) -> WaitResult:
    """Run a trigger, and return the result in its event."""
    (event,) = asyncio.run(fire(trigger))
    return WaitEvent.from_dict(json.loads(json.dumps(event))).result


# -- arguments and events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [submit(stop_on_kill="force", stable_for=10), sense("pl_1", "Stopped"), stop("pl_1")]
)
def test_arguments_survive_the_database_and_contain_no_secret(
    make: Any, sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline_id = arrange.pipeline("Running")
    # However late the first poll is, the pipeline has not stopped by then.
    sandbox.faults.show_state(pipeline_id, "Running")
    connection = {"conn_type": "arroyo", "host": sandbox.url, "password": "s3cr3t"}
    extra = {"headers": {"X-Token": "s3cr3t"}}
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", json.dumps({**connection, "extra": extra}))
    operator = make(deferrable=True, defer_after=0)
    if operator.pipeline_id is not None:
        operator.pipeline_id = pipeline_id
    assert ArroyoHook().settings.api_key == "s3cr3t"
    path, arguments = defer(operator).serialize()
    assert path == "airflow_provider_arroyo.triggers.arroyo.ArroyoPipelineTrigger"
    assert json.loads(json.dumps(arguments)) == arguments
    assert "s3cr3t" not in json.dumps(arguments)
    assert arguments["server"] == sandbox.url
    assert arguments["version"] == 1
    assert arguments["stop_on_kill"] == ("force" if operator.task_type.startswith("ArroyoSubmit") else None)
    assert rebuilt(ArroyoPipelineTrigger(**arguments)).serialize() == (path, arguments)


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"plan": None}, "The arguments of this wait cannot be read"),
        ({"stop_on_kill": "gentle"}, "'gentle' is not a valid StopMode"),
    ],
)
async def test_a_kill_with_arguments_of_another_version_logs_that_nothing_was_stopped(
    arguments: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, log = Lines(), logging.Logger("tests.trigger")
    log.addHandler(lines)
    monkeypatch.setattr(ArroyoPipelineTrigger, "log", log)
    plan = watching("pl_1", "Stopped").plan
    trigger = ArroyoPipelineTrigger(arroyo_conn_id="c", **{"plan": plan, **arguments})
    trigger.task_instance = FakeTaskInstance()  # type: ignore[assignment]  # has the methods that are used
    await trigger.on_kill()
    level, text = lines.only()
    assert level == "WARNING"
    assert text.startswith(f"This wait was killed, and nothing was stopped: {reason}")


def test_arguments_of_a_later_version_are_kept() -> None:
    trigger = ArroyoPipelineTrigger(arroyo_conn_id="c", plan={"pipeline": {"pipeline_id": "pl"}}, later="x")
    assert trigger.serialize()[1]["later"] == "x"
    assert rebuilt(trigger).serialize() == trigger.serialize()


@pytest.mark.parametrize(
    "arguments",
    [
        {"plan": None},
        {"plan": {}},
        {
            "plan": {"pipeline": {"pipeline_id": "pl"}, "target_states": ["Running"], "deadline": 1},
            "version": 99,
        },
    ],
)
def test_arguments_that_cannot_be_read_reach_the_worker_as_an_error(arguments: dict[str, Any]) -> None:
    (event,) = asyncio.run(fire(ArroyoPipelineTrigger(arroyo_conn_id="arroyo_default", **arguments)))
    sensor = ArroyoPipelineSensor(task_id="t", pipeline_id="pl")
    with pytest.raises(ArroyoTaskError, match="Another version of airflow-provider-arroyo wrote them"):
        sensor.execute_complete(context(), event=json.loads(json.dumps(event)))


def test_events_have_a_version(arrange: Arrange) -> None:
    (event,) = asyncio.run(fire(watching(arrange.pipeline("Running"), "Running")))
    assert set(event) == {"version", "pipeline", "result", "resume_context", "server"}
    assert event["version"] == EVENT_VERSION


UNREADABLE: list[Any] = [
    *(None, {}, [], "success", {"status": "success"}, {"status": "unknown"}),
    {"version": 99, "pipeline": {"pipeline_id": "pl"}, "result": {"outcome": "reached"}},
    {"version": 1, "pipeline": {"pipeline_id": "pl"}, "result": {"outcome": "splendid"}},
    {"version": 1, "pipeline": {"pipeline_id": "pl"}, "result": {"outcome": "waiting"}},
    {"version": 1, "pipeline": {"pipeline_id": "pl"}, "result": {"outcome": "reached"}},
    {"version": 1, "result": {"outcome": "failed"}},
]


@pytest.mark.parametrize("event", UNREADABLE)
@pytest.mark.parametrize("make", [submit(), sense("pl_1"), stop("pl_1")])
def test_an_event_that_cannot_be_read_is_never_a_success(make: Any, event: Any) -> None:
    with pytest.raises(ArroyoTaskError, match="cannot be read"):
        make().execute_complete(context(), event=event)


@pytest.mark.parametrize(
    "outcome, state",
    [
        (Outcome.FAILED, "Failed"),
        (Outcome.STOPPED, "Stopped"),
        (Outcome.DELETED, "Running"),
        (Outcome.TIMED_OUT, "Scheduling"),
        (Outcome.UNREACHABLE, "Running"),
        (Outcome.ERROR, "Running"),
    ],
)
@pytest.mark.parametrize("make", [submit(), sense("pl_1")])
def test_an_event_of_a_failure_is_an_error_with_its_reason(
    make: Any, outcome: Outcome, state: str, sandbox: ArroyoSandbox
) -> None:
    job = {"id": "job_1", "state": state, "run_id": 1}
    result = {"outcome": outcome.value, "target_states": ["Running"], "job": job}
    event = {"version": 1, "pipeline": {"pipeline_id": "pl_1"}, "result": result}
    with pytest.raises(Exception, match=r"pl_1") as raised:
        make().execute_complete(context(), event=event)
    assert not isinstance(raised.value, KeyError | AttributeError | TypeError)


def test_an_event_with_unknown_fields_is_read(sandbox: ArroyoSandbox) -> None:
    job = {"id": "job_1", "state": "Running", "run_id": 3, "running_desired": True, "new": 1}
    url = "http://c/pipelines/pl_1"
    event = {
        "version": 1,
        "pipeline": {"pipeline_id": "pl_1", "name": "orders", "console_url": url, "new": 3},
        "result": {"outcome": "reached", "job": job, "new": {"a": 1}},
        "resume_context": {"action": "created", "new": 2},
        "new": [],
    }
    assert submit()().execute_complete(context(), event=event) == {
        "pipeline_id": "pl_1",
        "pipeline_name": "orders",
        "job_id": "job_1",
        "state": "Running",
        "run_id": 3,
        "console_url": url,
        "failure_reason": None,
        "action": "created",
        "finished": False,
    }
    assert sandbox.requests.total == 0


# -- deadlines ----------------------------------------------------------------------------------------------------


def test_a_trigger_that_restarts_after_its_deadline_times_out(arrange: Arrange) -> None:
    result = result_of(watching(arrange.pipeline("Running"), "Stopped", seconds=-30))
    assert result.outcome is Outcome.TIMED_OUT
    assert result.job is not None
    assert result.job.state == "Running"


def test_a_restarted_triggerer_does_not_restart_the_timeout(arrange: Arrange) -> None:
    trigger = watching(arrange.pipeline("Running"), "Stopped", seconds=1)

    async def moved() -> Any:
        first = asyncio.create_task(fire(trigger))
        await asyncio.sleep(0.5)
        first.cancel()
        (event,) = await fire(rebuilt(trigger))
        return event

    moved_trigger = rebuilt(trigger)
    assert moved_trigger.plan == trigger.plan
    assert WaitEvent.from_dict(asyncio.run(moved())).result.outcome is Outcome.TIMED_OUT


# -- the connection ------------------------------------------------------------------------------------------------


def test_a_trigger_does_not_repeat_a_request_with_401(
    sandbox: ArroyoSandbox, arrange: Arrange, looked_up: list[str]
) -> None:
    trigger = watching(arrange.pipeline("Running"), "Stopped")
    sandbox.faults.status(401, times=None)
    before = sandbox.requests.total
    assert result_of(trigger).outcome is Outcome.ERROR
    # The connection is looked up once more, since the key may have been rotated.
    assert looked_up == ["arroyo_default"] * 2
    assert sandbox.requests.total - before <= 2


@pytest.fixture
def use_key(sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the connection use a key; a header shows which one was used, as the sandbox's log contains no keys."""

    def use(key: str) -> None:
        connection = {
            "conn_type": "arroyo",
            "host": sandbox.url,
            "password": key,
            "extra": {"headers": {"X-Connection": key}},
        }
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", json.dumps(connection))

    return use


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_key_that_is_rotated_during_a_wait_is_loaded(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange, use_key: Callable[[str], None]
) -> None:
    pipeline_id = arrange.pipeline("Running")

    def rotate() -> None:
        use_key("new-key")
        sandbox.faults.status(401, path="*/jobs", times=1)
        sandbox.faults.stop(pipeline_id)

    use_key("old-key")
    arrange.after_polls(rotate)
    ended = run_task(sense(pipeline_id, "Stopped"), mode)
    assert ended.error is None, ended.error
    assert ended.result["state"] == "Stopped"
    keys = [request.headers.get("x-connection") for request in sandbox.requests.find(path="*/jobs")]
    assert "old-key" in keys
    assert keys[-1] == "new-key"


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_stop_on_timeout_uses_the_rotated_key(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange, use_key: Callable[[str], None]
) -> None:
    def rotate() -> None:
        use_key("new-key")
        sandbox.faults.status(401, path="*/jobs", times=1)

    use_key("old-key")
    arrange.after_polls(rotate)
    ended = run_task(submit(wait_for="Finished", timeout=3, stop_on_kill="checkpoint"), mode)
    assert isinstance(ended.error, ArroyoTaskError)
    (patch,) = sandbox.requests.find("PATCH")
    assert patch.headers.get("x-connection") == "new-key"
