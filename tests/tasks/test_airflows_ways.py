"""What Airflow and DAG authors do to a task around our own code: default arguments, native rendering, alarms."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow.sdk import task

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.models import StopMode
from airflow_provider_arroyo.hooks.compat import TaskDeferralError, TaskDeferralTimeout
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError, ArroyoTaskError, ArroyoTaskFailed
from airflow_provider_arroyo.operators.pipelines import (
    ArroyoStopPipelineOperator,
    ArroyoSubmitPipelineOperator,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.pipelines import ArroyoPipelineSensor
from tests.support import BOUNDED, ENDLESS

from .conftest import Arrange
from .harness import DEFERRED, RESCHEDULE, SYNC, FakeTaskInstance, context, run_task

# -- arguments that come from elsewhere ------------------------------------------------------------------------


def test_the_mode_of_a_sensor_may_come_from_the_dags_default_args() -> None:
    with DAG("a_dag", schedule=None, default_args={"mode": "reschedule", "poke_interval": 300}):
        sensor = ArroyoPipelineSensor(task_id="watch", pipeline_id="pl")
    assert sensor.reschedule
    assert float(sensor.poke_interval) == 300


def test_a_poking_sensor_looks_at_its_own_interval() -> None:
    with DAG("a_dag", schedule=None, default_args={"poke_interval": 300}):
        sensor = ArroyoPipelineSensor(task_id="watch", pipeline_id="pl", poll_interval=0.2)
    assert float(sensor.poke_interval) == 0.2


def test_wanted_states_may_be_another_tasks_result() -> None:
    @task
    def choose() -> list[str]:
        return ["Stopped"]

    with DAG("a_dag", schedule=None):
        chosen: Any = choose()
        whole = ArroyoPipelineSensor(task_id="whole", pipeline_id="pl", target_states=chosen)
        part = ArroyoPipelineSensor(task_id="part", pipeline_id="pl", target_states=["Failed", chosen])
    assert whole.upstream_task_ids == {"choose"}
    assert part.upstream_task_ids == {"choose"}


@pytest.mark.parametrize("states", [None, 3, [], ["Runing"], ["{{ x }}", "Runing"]])
def test_wrong_states_are_refused_when_the_dag_is_read(states: Any) -> None:
    with pytest.raises(ValueError, match="target_states"):
        ArroyoPipelineSensor(task_id="watch", pipeline_id="pl", target_states=states)


# -- a DAG with render_template_as_native_obj makes numbers of digits ----------------------------------------------


def test_numbers_of_native_rendering_are_texts_again(sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
    def make(**mode: Any) -> ArroyoSubmitPipelineOperator:
        submit = ArroyoSubmitPipelineOperator(
            task_id="a_task", name="{{ ds_nodash }}", query=ENDLESS, wait_for=None, **mode
        )
        # As Airflow renders them.
        rendered: dict[str, Any] = {"name": 20261125, "tags": {"version": 2}}
        if sandbox.arroyo_version == "0.16":
            rendered["env_vars"] = {"RETRIES": 3, "DEBUG": True}
        for name, value in rendered.items():
            setattr(submit, name, value)
        return submit

    ended = run_task(make, SYNC)
    assert ended.error is None, ended.error
    made = client.call(api.get_pipeline(ended.result["pipeline_id"]))
    assert made.name == "20261125"

    def stop(**mode: Any) -> ArroyoStopPipelineOperator:
        stopping = ArroyoStopPipelineOperator(task_id="a_task", pipeline_name="{{ ds_nodash }}", **mode)
        stopping.pipeline_name = 20261125  # type: ignore[assignment]  # as above
        return stopping

    assert run_task(stop, SYNC).result["state"] == "Stopped"


@pytest.mark.parametrize("field", ["name", "env_vars", "tags", "pipeline_id"])
def test_a_fraction_cannot_be_told_as_it_was_written(field: str, sandbox: ArroyoSandbox) -> None:
    def make(**mode: Any) -> ArroyoSubmitPipelineOperator:
        submit = ArroyoSubmitPipelineOperator(task_id="a_task", name="orders", query=ENDLESS, **mode)
        setattr(submit, field, {"A": 1.5} if field in ("env_vars", "tags") else 1.5)
        return submit

    ended = run_task(make, SYNC)
    assert isinstance(ended.error, ArroyoArgumentError)
    assert field in str(ended.error)
    assert "render_template_as_native_obj" in str(ended.error)
    assert sandbox.requests.total == 0


# -- what is told without a wait ------------------------------------------------------------------------------


def test_without_a_wait_the_result_tells_how_the_pipeline_is(sandbox: ArroyoSandbox) -> None:
    def make(wait_for: str | None) -> Callable[..., ArroyoSubmitPipelineOperator]:
        return lambda **mode: ArroyoSubmitPipelineOperator(
            task_id="a_task", name="orders", query=BOUNDED, wait_for=wait_for, **mode
        )

    first = run_task(make(None), SYNC).result
    assert (first["how"], first["finished"]) == ("created", False)
    assert run_task(make("Finished"), SYNC).result["finished"] is True
    again = run_task(make(None), SYNC).result
    assert (again["how"], again["state"], again["finished"]) == ("adopted", "Finished", True)


# -- time that is up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [{"pipeline_id": "pl_1"}, {"pipeline_name": "orders"}], ids=["id", "name"])
@pytest.mark.parametrize("mode", [SYNC, DEFERRED, RESCHEDULE])
def test_a_sensors_time_is_up_also_while_arroyo_is_away(
    mode: str, named: dict[str, Any], sandbox: ArroyoSandbox
) -> None:
    sandbox.faults.api_away()
    began = time.monotonic()
    ended = run_task(lambda **m: ArroyoPipelineSensor(task_id="a_task", timeout=2, **named, **m), mode)
    assert isinstance(ended.error, AirflowSensorTimeout), ended.error
    assert "unreachable" in str(ended.error)
    assert time.monotonic() - began < 15


def test_a_sensor_that_begins_in_an_outage_waits_in_the_triggerer(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.api_away()
    sensor = ArroyoPipelineSensor(task_id="a_task", pipeline_id="pl_1", deferrable=True)
    with pytest.raises(TaskDeferred):
        sensor.execute(context())


def test_a_server_that_takes_calls_and_never_answers_is_out_of_reach(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    """Its read timeout is 30 seconds, and each look may be tried again ten times."""
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.hang(path="*/jobs", times=None)
    began = time.monotonic()
    ended = run_task(
        lambda **m: ArroyoPipelineSensor(
            task_id="a_task", pipeline_id=pipeline_id, api_outage_tolerance=3, timeout=120, **m
        ),
        SYNC,
    )
    sandbox.faults.clear()
    assert isinstance(ended.error, ArroyoTaskError)
    assert "unreachable" in str(ended.error)
    assert 3 <= time.monotonic() - began < 20


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_sensor_that_looks_seldom_ends_in_time(mode: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    began = time.monotonic()
    ended = run_task(
        lambda **m: ArroyoPipelineSensor(
            task_id="a_task",
            pipeline_id=pipeline_id,
            target_states=["Stopped"],
            poll_interval=30,
            timeout=1.5,
            **m,
        ),
        mode,
    )
    assert isinstance(ended.error, AirflowSensorTimeout)
    assert 1.5 <= time.monotonic() - began < 15


@pytest.mark.parametrize("came_back", [False, True])
def test_a_page_of_a_gateway_is_an_outage_for_a_sensor_that_came_back(
    came_back: bool, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    """At the first poke it is a wrong address, which no retry mends."""
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.not_json(times=2)
    ti = FakeTaskInstance(first_reschedule_date=datetime.now(UTC) if came_back else None)
    ended = run_task(
        lambda **m: ArroyoPipelineSensor(task_id="a_task", pipeline_id=pipeline_id, **m), RESCHEDULE, ti
    )
    if came_back:
        assert ended.error is None, ended.error
    else:
        assert isinstance(ended.error, ArroyoTaskFailed)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_airflows_alarm_between_two_looks_tells_what_was_going_on(
    soft_fail: bool, sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline_id = arrange.pipeline("Running")

    def alarm(_: float) -> None:
        raise AirflowTaskTimeout("Timeout, PID: 1")

    def make(**mode: Any) -> ArroyoPipelineSensor:
        return ArroyoPipelineSensor(
            task_id="a_task",
            pipeline_id=pipeline_id,
            target_states=["Stopped"],
            execution_timeout=timedelta(seconds=3600),
            soft_fail=soft_fail,
            **mode,
        )

    monkeypatch.setattr("time.sleep", alarm)
    error = run_task(make, SYNC).error
    assert isinstance(error, AirflowSkipException if soft_fail else AirflowTaskTimeout)
    assert pipeline_id in str(error)
    assert "Running" in str(error)
    assert "execution_timeout" in str(error)


def test_an_alarm_is_not_followed_by_a_line_about_no_pipeline(
    sandbox: ArroyoSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow calls on_kill after an execution_timeout too."""
    submits = []

    def make(**mode: Any) -> ArroyoSubmitPipelineOperator:
        submit = ArroyoSubmitPipelineOperator(
            task_id="a_task",
            name="orders",
            query=ENDLESS,
            wait_for="Finished",
            execution_timeout=timedelta(seconds=1),
            **mode,
        )
        submits.append(submit)
        return submit

    ended = run_task(make, SYNC)
    assert isinstance(ended.error, AirflowTaskTimeout)
    lines = len(ended.lines)
    submits[0].on_kill()
    assert ended.lines[lines:] == []
    assert caplog.text.count("no pipeline") == 0


# -- errors that Airflow goes on after --------------------------------------------------------------------------


def test_a_sensor_that_airflow_pokes_again_after_an_error_sees_what_was_mended(
    sandbox: ArroyoSandbox, arrange: Arrange, client: ArroyoClient
) -> None:
    """As it does with silent_fail=True."""
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.fail(pipeline_id, error="topic is gone", domain="external")
    arrange.until(pipeline_id, "Failed")
    sensor = ArroyoPipelineSensor(task_id="a_task", pipeline_id=pipeline_id, silent_fail=True)
    with pytest.raises(ArroyoTaskError):
        sensor.poke(context())
    client.call(api.restart_pipeline(pipeline_id))
    arrange.until(pipeline_id, "Running")
    seen: Any = sensor.poke(context())
    assert seen.is_done
    assert seen.xcom_value["state"] == "Running"


@pytest.mark.parametrize("error", [TaskDeferralError, TaskDeferralTimeout])
def test_a_pipeline_is_not_stopped_because_its_watching_broke(
    error: type[BaseException], sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of time is an end of the task, for which on_kill was given; an error in the triggerer is none."""
    ti = FakeTaskInstance()

    def make(**mode: Any) -> ArroyoSubmitPipelineOperator:
        return ArroyoSubmitPipelineOperator(
            task_id="a_task",
            name="orders",
            query=ENDLESS,
            wait_for="Finished",
            on_kill=StopMode.CHECKPOINT,
            **mode,
        )

    with pytest.raises(TaskDeferred) as deferred:
        make(deferrable=True, defer_after=2).execute(context(ti))
    pipeline_id = deferred.value.trigger.plan["pipeline_id"]

    def broken(*_: Any) -> None:
        raise error("it broke")

    monkeypatch.setattr("airflow.sdk.bases.operator.BaseOperator.resume_execution", broken)
    with pytest.raises(ArroyoTaskError, match="takes up the same pipeline"):
        make(deferrable=True).resume_execution("execute_complete", {}, context(ti))
    asked = sandbox.requests.count("PATCH", "*/pipelines/*")
    assert asked == (1 if error is TaskDeferralTimeout else 0)
    assert arrange.state(pipeline_id) != "Failed"
