"""The sensor: how often it polls, how each mode ends, and that it leaves Airflow's base class alone."""

from __future__ import annotations

import functools
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    TaskDeferred,
)

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.hooks.errors import (
    ArroyoFatalTaskError,
    ArroyoTaskError,
    TaskDeferralError,
    TaskDeferralTimeout,
)
from airflow_provider_arroyo.polling import poll
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors import arroyo as sensors
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor
from tests.support import ENDLESS

from .conftest import BROKEN, Arrange
from .harness import (
    DEFERRED,
    RESCHEDULE,
    SENSOR_MODES,
    SYNC,
    FakeTaskInstance,
    context,
    defer,
    run_task,
    sense,
)

# -- how often it polls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "default_args, arguments, seconds",
    [
        ({}, {}, 0.1),
        ({}, {"poll_interval": 0.2}, 0.2),
        ({}, {"poke_interval": 300}, 300),
        ({}, {"poke_interval": timedelta(minutes=5), "poll_interval": 0.2}, 300),
        ({"poke_interval": 300}, {"poll_interval": 0.2}, 300),
        ({"poke_interval": timedelta(minutes=5)}, {}, 300),
        ({"poll_interval": timedelta(seconds=2)}, {}, 2),
        ({"mode": "reschedule", "poke_interval": 300}, {"poll_interval": 0.2}, 0.2),
    ],
)
def test_the_interval_is_poke_interval_if_given(
    default_args: dict[str, Any], arguments: dict[str, Any], seconds: float
) -> None:
    with DAG("a_dag", schedule=None, default_args=default_args):
        sensor = ArroyoPipelineSensor(task_id="watch", pipeline_id="pl", **arguments)
    assert sensor.poll_interval == seconds
    given = {**default_args, **arguments}.get("poke_interval", 60)
    assert sensor.poke_interval == (given.total_seconds() if isinstance(given, timedelta) else given)
    assert sensor.reschedule == ("mode" in default_args)


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
@pytest.mark.parametrize("interval", [0.3, timedelta(seconds=0.3)])
def test_poke_interval_is_respected(
    mode: str, interval: Any, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    pipeline_id = arrange.pipeline("Running")
    before = sandbox.requests.count("GET", "*/jobs")
    run_task(sense(pipeline_id, "Stopped", poke_interval=interval, timeout=1), mode)
    # At 0, 0.3, 0.6 and 0.9 seconds, at the deadline, and at once in the triggerer. Busy machines poll less often.
    assert 2 <= sandbox.requests.count("GET", "*/jobs") - before <= 7


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_sensor_that_polls_rarely_ends_in_time(mode: str, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    began = time.monotonic()
    ended = run_task(sense(pipeline_id, "Stopped", poll_interval=30, timeout=0.6), mode)
    assert isinstance(ended.error, AirflowSensorTimeout)
    assert 0.5 <= time.monotonic() - began < 15


def test_a_zero_poke_interval_is_refused_if_it_is_the_poll_interval() -> None:
    with pytest.raises(ValueError, match=r"poke_interval must be .*more than 0"):
        ArroyoPipelineSensor(task_id="t", pipeline_id="pl", poke_interval=0)
    assert ArroyoPipelineSensor(task_id="t", pipeline_id="pl", poke_interval=0, mode="reschedule").reschedule


# -- its base class --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sensor", [getattr(sensors, name) for name in sensors.__all__])
def test_no_private_method_of_airflow_is_overridden(sensor: Any) -> None:
    airflows = {name for cls in BaseSensorOperator.__mro__ for name in vars(cls) if name.startswith("_")}
    ours = {
        name
        for cls in sensor.__mro__
        if cls.__module__.startswith("airflow_provider_arroyo")
        for name in vars(cls)
        if name.startswith("_") and not name.startswith("__")
    }
    # Attributes that Airflow's metaclass adds to every operator class.
    assert ours & airflows <= {"_BaseOperatorMeta__param_names", "_abc_impl"}


@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_the_timeout_is_never_changed(mode: str, arrange: Arrange) -> None:
    made: list[Any] = []
    seen: list[float] = []

    class Watched(ArroyoPipelineSensor):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "timeout":
                seen.append(value)
            super().__setattr__(name, value)

    def make(**more: Any) -> Any:
        made.append(Watched(task_id="a_task", pipeline_id=pipeline_id, timeout=0.7, **more))
        made[-1].target_states = ["Stopped"]
        return made[-1]

    pipeline_id = arrange.pipeline("Running")
    assert isinstance(run_task(make, mode).error, AirflowSensorTimeout)
    assert seen == [0.7] * len(made)


def test_poke_mode_does_not_poke(arrange: Arrange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ArroyoPipelineSensor, "poke", None)
    assert run_task(sense(arrange.pipeline(), "Running"), SYNC).result["state"] == "Running"


# -- timeouts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [{"pipeline_id": "pl_1"}, {"pipeline_name": "orders"}], ids=["id", "name"])
@pytest.mark.parametrize("mode", [SYNC, DEFERRED, RESCHEDULE])
def test_a_timeout_in_an_outage_mentions_it(mode: str, named: dict[str, Any], sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(503, times=None)
    began = time.monotonic()
    ended = run_task(sense(timeout=0.7, **named), mode)
    assert isinstance(ended.error, AirflowSensorTimeout), ended.error
    assert "unreachable" in str(ended.error)
    assert time.monotonic() - began < 15


def test_a_rescheduled_tasks_deadline_counts_from_its_first_reschedule(arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    ti = FakeTaskInstance(first_reschedule_date=datetime.now(UTC) - timedelta(hours=2))
    ended = run_task(sense(pipeline_id, "Stopped", timeout=3600), RESCHEDULE, ti)
    assert isinstance(ended.error, AirflowSensorTimeout)
    assert ended.pokes == 1
    assert "did not become Stopped within 2 h (timeout): it is Running (run 1)" in str(ended.error)
    ended = run_task(sense(pipeline_id, "Running", timeout=3 * 3600), RESCHEDULE, ti)
    assert ended.result["state"] == "Running"


@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_an_execution_timeout_names_the_state_of_the_pipeline(mode: str, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    # In a rescheduled task, the limit applies to each poke; stable_for makes this poke long.
    target = {"stable_for": 15} if mode == RESCHEDULE else {"target_states": ["Stopped"]}
    ended = run_task(sense(pipeline_id, execution_timeout=timedelta(seconds=2), **target), mode)
    assert type(ended.error) is AirflowTaskTimeout
    assert "(execution_timeout)" in str(ended.error)
    assert f"({pipeline_id})" in str(ended.error)
    assert "Running" in str(ended.error)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_airflows_alarm_between_two_polls_names_the_state_of_the_pipeline(
    soft_fail: bool, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline_id = arrange.pipeline("Running")
    make = sense(pipeline_id, "Stopped", execution_timeout=timedelta(hours=1), soft_fail=soft_fail)

    def alarm(_: float) -> None:
        raise AirflowTaskTimeout("Timeout, PID: 1")

    monkeypatch.setattr(poll, "poll_until", functools.partial(poll.poll_until, sleep=alarm))
    error = run_task(make, SYNC).error
    assert isinstance(error, AirflowSkipException if soft_fail else AirflowTaskTimeout)
    assert pipeline_id in str(error)
    assert "(execution_timeout): it has been Running for" in str(error)


def test_airflows_alarm_before_the_first_poll_names_the_current_step(
    sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alarm(*_: Any) -> None:
        raise AirflowTaskTimeout("Timeout, PID: 1")

    monkeypatch.setattr(ArroyoClient, "send", alarm)
    error = run_task(sense("pl_1", execution_timeout=timedelta(hours=1)), SYNC).error
    assert str(error) == (
        "Looking up pipeline 'pl_1' was not completed within 1 h (execution_timeout). "
        "Check the server and the connection, or allow more time."
    )


# -- soft_fail, never_fail, silent_fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", SENSOR_MODES)
@pytest.mark.parametrize("argument", ["soft_fail", "never_fail"])
@pytest.mark.parametrize(
    "query, states", [(BROKEN, ["Running"]), (ENDLESS, ["Stopped"])], ids=["failure", "timeout"]
)
def test_soft_fail_and_never_fail_skip_in_every_mode(
    mode: str, argument: str, query: str, states: list[str], arrange: Arrange
) -> None:
    pipeline_id = arrange.pipeline("Failed" if query == BROKEN else "Running", query=query)
    ended = run_task(sense(pipeline_id, *states, timeout=3, **{argument: True}), mode)
    assert type(ended.error) is AirflowSkipException
    assert "Pipeline 'orders'" in str(ended.error)


@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_soft_fail_skips_on_permanent_errors(mode: str, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(401, times=None)
    assert type(run_task(sense("pl_1", soft_fail=True), mode).error) is AirflowSkipException


@pytest.mark.parametrize("mode", [SYNC, RESCHEDULE])
@pytest.mark.parametrize("argument", ["soft_fail", "never_fail", None])
def test_only_never_fail_skips_on_a_bug(
    mode: str, argument: str | None, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ArroyoClient, "send", fail)
    ended = run_task(sense("pl_1", **({argument: True} if argument else {})), mode)
    assert type(ended.error) is (AirflowSkipException if argument == "never_fail" else RuntimeError)
    assert str(ended.error) == "a bug"


@pytest.mark.parametrize("mode", [SYNC, RESCHEDULE])
def test_silent_fail_retries_and_sees_the_fix(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange, client: ArroyoClient
) -> None:
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.fail(pipeline_id, error="topic is gone", domain="external")
    arrange.until(pipeline_id, "Failed")
    arrange.after_polls(client.restart_pipeline, pipeline_id)
    ended = run_task(sense(pipeline_id, silent_fail=True, poke_interval=0.2), mode)
    assert ended.result["state"] == "Running"
    assert "topic is gone" in ended.texts("ERROR")[0] or sandbox.arroyo_version == "0.15"


@pytest.mark.parametrize("mode", [SYNC, RESCHEDULE])
def test_silent_fail_ends_with_the_timeout(mode: str, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Failed", query=BROKEN)
    ended = run_task(sense(pipeline_id, silent_fail=True, poke_interval=0.2, timeout=5), mode)
    assert type(ended.error) is AirflowSensorTimeout
    # A rescheduled one is poked every tenth of a second here.
    assert 1 <= len(ended.texts("ERROR")) <= (26 if mode == SYNC else 51)
    assert all("is Failed" in text for text in ended.texts("ERROR"))
    if mode == SYNC:
        assert "Timed out (timeout: 5.0 s). The last try failed: Pipeline 'orders'" in str(ended.error)


@pytest.mark.parametrize("mode", [SYNC, RESCHEDULE])
def test_silent_fail_does_not_retry_permanent_errors(mode: str, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(401, times=None)
    ended = run_task(sense("pl_1", silent_fail=True), mode)
    assert type(ended.error) is ArroyoFatalTaskError
    assert ended.texts("ERROR") == []


def test_silent_fail_does_not_apply_to_a_deferred_wait(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    arrange.after_polls(sandbox.faults.fail, pipeline_id)
    ended = run_task(sense(pipeline_id, "Stopped", silent_fail=True), DEFERRED)
    assert type(ended.error) is ArroyoTaskError
    assert ended.deferrals == 1


# -- the triggerer -------------------------------------------------------------------------------------------------


def test_a_sensor_that_begins_in_an_outage_waits_in_the_triggerer(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(503, times=None)
    with pytest.raises(TaskDeferred) as caught:
        sense("pl_1", timeout=20, deferrable=True, defer_after=0.2)().execute(context())
    assert caught.value.timeout is not None
    # Our timeout comes first, and names the state of the pipeline.
    assert timedelta(seconds=60) < caught.value.timeout <= timedelta(seconds=80)


@pytest.mark.parametrize("error", [TaskDeferralError, TaskDeferralTimeout])
@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_triggerers_error_is_reported(error: type[Exception], soft_fail: bool, arrange: Arrange) -> None:
    sensor = sense(
        arrange.pipeline("Running"), "Stopped", deferrable=True, defer_after=0, soft_fail=soft_fail
    )
    defer(sensor())
    what = "Trigger timeout" if error is TaskDeferralTimeout else "it broke"
    usual = AirflowSensorTimeout if error is TaskDeferralTimeout else TaskDeferralError
    with pytest.raises(AirflowSkipException if soft_fail else usual):
        sensor().resume_execution("__fail__", {"error": what}, context())
