"""How tasks behave with Airflow's own features: default arguments, alarms, kills."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowTaskTimeout
from airflow.sdk import task

from airflow_provider_arroyo.hooks.errors import (
    ArroyoTaskError,
    TaskDeferralError,
    TaskDeferralTimeout,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor
from tests.support import BOUNDED

from .conftest import Arrange
from .harness import (
    RESCHEDULE,
    SYNC,
    FakeTaskInstance,
    context,
    defer,
    deploy,
    quiet,
    recording,
    run_task,
    sense,
    stop,
    submit,
)
from .test_change import restart
from .test_task_errors import check_traceback

# -- arguments from other tasks ------------------------------------------------------------------------


def test_target_states_may_be_the_result_of_another_task() -> None:
    @task
    def choose() -> list[str]:
        return ["Stopped"]

    with DAG("a_dag", schedule=None):
        chosen: Any = choose()
        whole = ArroyoPipelineSensor(task_id="whole", pipeline_id="pl", target_states=chosen)
        part = ArroyoPipelineSensor(task_id="part", pipeline_id="pl", target_states=["Failed", chosen])
    assert whole.upstream_task_ids == {"choose"}
    assert part.upstream_task_ids == {"choose"}


def test_deferrable_defaults_to_airflows_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [make().deferrable for make in (submit(), sense("pl"), stop("pl"))] == [False] * 3
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "true")
    assert [make().deferrable for make in (submit(), sense("pl"), stop("pl"))] == [True] * 3


# -- results ---------------------------------------------------------------------------------------------------


def test_without_a_wait_the_result_has_the_current_state(sandbox: ArroyoSandbox) -> None:
    # Otherwise, on a slow machine, it would have finished.
    sandbox.faults.controller_away()
    first = run_task(submit(BOUNDED, wait_for=None), SYNC).result
    sandbox.faults.controller_back()
    assert (first["action"], first["finished"]) == ("created", False)
    assert run_task(submit(BOUNDED, wait_for="Finished"), SYNC).result["finished"] is True
    again = run_task(submit(BOUNDED, wait_for=None), SYNC).result
    assert (again["action"], again["state"], again["finished"]) == ("adopted", "Finished", True)


# -- a rescheduled task -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("came_back", [False, True])
def test_a_page_of_a_gateway_is_an_outage(came_back: bool, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    """At the first poke, for at most 60 seconds, since the address may be wrong; later like any other outage."""
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.not_json(times=2)
    ti = FakeTaskInstance(first_reschedule_date=datetime.now(UTC) if came_back else None)
    ended = run_task(sense(pipeline_id), RESCHEDULE, ti)
    assert ended.error is None, ended.error


@pytest.mark.parametrize(
    "kind, next_kwargs", [("submit", {}), ("sensor", {}), ("stop", None), ("restart", {}), ("deploy", None)]
)
def test_a_task_that_is_resumed_without_an_event_starts_again(
    kind: str, next_kwargs: dict[str, Any] | None, arrange: Arrange
) -> None:
    """Airflow does this to a task that is cleared while it defers."""
    make = {
        "submit": lambda: submit(wait_for="Running"),
        "sensor": lambda: sense(arrange.pipeline("Running")),
        "stop": lambda: stop(arrange.pipeline("Running")),
        "restart": lambda: restart(arrange.pipeline("Running")),
        "deploy": lambda: deploy(stable_for=0),
    }[kind]()
    lines: list[tuple[str, str]] = []
    log = recording(lines)
    log.handlers[0].filters.clear()  # which would hide the expected lines
    result = quiet(make(), log).resume_execution("execute_complete", next_kwargs, context())
    assert result["state"] == ("Stopped" if kind == "stop" else "Running")
    assert lines[0] == (
        "INFO",
        "Airflow resumed this task although its trigger has not fired. It starts over",
    )
    assert not [text for _, text in lines if "outside of the Task Runner" in text]


# -- a task that is killed -----------------------------------------------------------------------------------------


def test_execution_timeouts_are_logged_once(sandbox: ArroyoSandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Airflow also calls on_kill after an execution_timeout."""
    submits = []

    def make(**mode: Any) -> Any:
        limit = timedelta(seconds=3)
        submits.append(submit(wait_for="Finished", execution_timeout=limit)(**mode))
        return submits[-1]

    ended = run_task(make, SYNC)
    assert isinstance(ended.error, AirflowTaskTimeout)
    lines = len(ended.lines)
    submits[0].on_kill()
    assert ended.lines[lines:] == []
    assert "no pipeline" not in caplog.text


@pytest.mark.parametrize("error", [TaskDeferralError, TaskDeferralTimeout])
def test_stop_on_kill_does_not_apply_to_an_error_in_the_triggerer(
    error: type[BaseException], sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    """A timeout ends the task, so stop_on_kill applies; an error in the triggerer does not."""
    ti = FakeTaskInstance()
    make = submit(wait_for="Finished", stop_on_kill="checkpoint", deferrable=True)
    pipeline_id = defer(make(defer_after=0), ti).serialize()[1]["plan"]["pipeline"]["pipeline_id"]
    what = "Trigger timeout" if error is TaskDeferralTimeout else "it broke"
    with pytest.raises(ArroyoTaskError) as caught:
        make().resume_execution("__fail__", {"error": what}, context(ti))
    assert str(caught.value).startswith(
        f"The wait for pipeline 'orders' ({pipeline_id}) was interrupted in the triggerer: "
    )
    assert "A new try continues with the same pipeline." in str(caught.value)
    check_traceback(caught.value)
    requested = sandbox.requests.count("PATCH", "*/pipelines/*")
    assert requested == (1 if error is TaskDeferralTimeout else 0)
    assert arrange.state(pipeline_id) != "Failed"
