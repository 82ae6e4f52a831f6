"""Restart, update and delete: every state that a pipeline can be in, in each mode."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pendulum
import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError
from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeletePipelineOperator,
    ArroyoRestartPipelineOperator,
    ArroyoUpdatePipelineOperator,
)
from airflow_provider_arroyo.pipelines import change, existing
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS, ONE_ENDS, KilledError, Lines

from .conftest import Arrange
from .harness import (
    DEFERRED,
    SYNC,
    Ended,
    FakeTaskInstance,
    Make,
    StateStore,
    context,
    defer,
    quiet,
    run_task,
    stop,
)

pytestmark = pytest.mark.arroyo_versions("0.15", "0.16")

BOUNDED = ENDLESS.replace("event_rate = '10'", "event_rate = '10', message_count = '5'")

MODES = pytest.mark.parametrize("mode", [SYNC, DEFERRED])


def _stopped(arrange: Arrange) -> str:
    pipeline_id = arrange.pipeline("Running")
    arrange.client.patch_pipeline(pipeline_id, stop=StopMode.CHECKPOINT)
    arrange.until(pipeline_id, "Stopped")
    return pipeline_id


def _failed(arrange: Arrange) -> str:
    pipeline_id = arrange.pipeline("Running")
    arrange.sandbox.faults.fail(pipeline_id)
    arrange.until(pipeline_id, "Failed")
    return pipeline_id


def _failed_and_asked_to_stop(arrange: Arrange) -> str:
    pipeline_id = _failed(arrange)
    arrange.client.patch_pipeline(pipeline_id, stop=StopMode.CHECKPOINT)
    return pipeline_id


def _stopping(arrange: Arrange) -> str:
    pipeline_id = arrange.pipeline("Running")
    arrange.client.patch_pipeline(pipeline_id, stop=StopMode.CHECKPOINT)
    return pipeline_id


STATES: dict[str, Callable[[Arrange], str]] = {
    "created": lambda arrange: arrange.pipeline(),
    "running": lambda arrange: arrange.pipeline("Running"),
    "stopping": _stopping,
    "stopped": _stopped,
    "failed": _failed,
    "failed, asked to stop": _failed_and_asked_to_stop,
    "finished": lambda arrange: arrange.pipeline("Finished", query=BOUNDED),
    "finishing": lambda arrange: arrange.pipeline("Finishing", query=ONE_ENDS),
}
ALIVE = ("created", "running")
AT_REST = ("stopped", "failed", "failed, asked to stop")


def made(operator: Any, pipeline_id: str | None, **arguments: Any) -> Make:
    given = {"task_id": "a_task", "pipeline_id": pipeline_id, "timeout": 30, **arguments}
    if operator is not ArroyoDeletePipelineOperator:
        given.setdefault("stable_for", 0.3)
    return lambda **mode: operator(**{**given, **mode})


def restart(pipeline_id: str, **arguments: Any) -> Make:
    return made(ArroyoRestartPipelineOperator, pipeline_id, **arguments)


def update(pipeline_id: str, **arguments: Any) -> Make:
    return made(ArroyoUpdatePipelineOperator, pipeline_id, **{"parallelism": 2, **arguments})


def delete(pipeline_id: str, **arguments: Any) -> Make:
    return made(ArroyoDeletePipelineOperator, pipeline_id, **arguments)


def succeeded(ended: Ended) -> dict[str, Any]:
    assert ended.error is None, ended.error
    assert isinstance(ended.result, dict)
    return ended.result


def changes(sandbox: ArroyoSandbox) -> list[Any]:
    return [(request.method, request.json) for request in sandbox.requests if request.method != "GET"]


# -- restart -----------------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("state", [*ALIVE, "stopping", *AT_REST])
def test_a_restart_starts_a_new_run(state: str, mode: str, arrange: Arrange) -> None:
    pipeline_id = STATES[state](arrange)
    before = arrange.client.get_job(pipeline_id)
    result = succeeded(run_task(restart(pipeline_id), mode))
    resumes = state in ("stopping", "stopped")
    assert result["action"] == ("resumed" if resumes else "restarted")
    assert result["state"] == "Running"
    assert before is not None
    assert result["run_id"] > max(1, before.run_id)
    arrange.sandbox.advance(20)
    assert arrange.state(pipeline_id) == "Running"


@MODES
@pytest.mark.parametrize("operator", [restart, update])
@pytest.mark.parametrize(
    "state, message", [("finished", "can never run again"), ("finishing", "is Finishing")]
)
def test_a_finished_pipeline_is_not_changed(
    state: str, message: str, operator: Any, mode: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    pipeline_id = STATES[state](arrange)
    sandbox.requests.clear()
    ended = run_task(operator(pipeline_id), mode)
    assert isinstance(ended.error, ArroyoFatalTaskError if state == "finished" else ArroyoTaskError)
    assert message in str(ended.error)
    assert changes(sandbox) == []


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_restart_whose_response_is_lost_happens_once(
    after_effect: bool, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.reset(method="POST", path="*/restart", after_effect=after_effect)
    result = succeeded(run_task(restart(pipeline_id), SYNC))
    assert result["run_id"] == 2


@pytest.mark.arroyo_versions("0.16")
@pytest.mark.parametrize("state", ["running", "failed", "failed, asked to stop"])
def test_a_restart_without_state_logs_what_it_loses(state: str, arrange: Arrange) -> None:
    pipeline_id = STATES[state](arrange)
    ended = run_task(restart(pipeline_id, ignore_state=True), SYNC)
    assert succeeded(ended)["action"] == "restarted"
    assert any("Restarting without state" in text for text in ended.texts("WARNING"))


@pytest.mark.arroyo_versions("0.16")
def test_a_restart_without_state_that_has_no_effect_is_an_error(arrange: Arrange) -> None:
    ended = run_task(restart(_stopped(arrange), ignore_state=True), SYNC)
    assert isinstance(ended.error, ArroyoTaskError)
    assert "accepted the request but did nothing" in str(ended.error)


@pytest.mark.arroyo_versions("0.15")
def test_what_an_old_server_would_ignore_is_refused(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    sandbox.requests.clear()
    for make in (
        restart(pipeline_id, ignore_state=True),
        update(pipeline_id, parallelism=None, env_vars={"A": "b"}),
        update(pipeline_id, scheduler_config={"a": 1}),
    ):
        ended = run_task(make, SYNC)
        assert isinstance(ended.error, ArroyoFatalTaskError)
        assert "older than 0.16" in str(ended.error)
    assert changes(sandbox) == []


@pytest.mark.parametrize("make", [restart, update])
@pytest.mark.parametrize("state", ["Scheduling", "Hibernating"])
def test_transitions_are_left_alone(state: str, make: Any, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.show_state(pipeline_id, state)
    sandbox.requests.clear()
    ended = run_task(make(pipeline_id, timeout=1.5), SYNC)
    assert type(ended.error) is ArroyoTaskError
    assert f"it is {state} (run 1). The change was not requested" in str(ended.error)
    assert changes(sandbox) == []
    assert ended.texts("INFO") == [f"{state}, waiting until it runs or has ended: orders"]


# -- update ------------------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("state", [*ALIVE, *AT_REST])
def test_an_update_is_one_patch(state: str, mode: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = STATES[state](arrange)
    sandbox.requests.clear()
    interval = timedelta(seconds=20)
    ended = run_task(update(pipeline_id, checkpoint_interval=interval), mode)
    result = succeeded(ended)
    assert changes(sandbox) == [("PATCH", {"parallelism": 2, "checkpoint_interval_micros": 20_000_000})]
    assert result["action"] == "updated"
    assert [one["argument"] for one in result["changes"]] == ["parallelism", "checkpoint_interval"]
    if state in ALIVE:
        assert (result["state"], result["run_id"]) == ("Running", 2)
        assert arrange.client.get_pipeline(pipeline_id).graph.parallelism == 2
    else:
        assert result["state"] == arrange.state(pipeline_id) == state.partition(",")[0].capitalize()


@MODES
def test_a_new_checkpoint_interval_restarts_nothing(mode: str, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    interval = pendulum.duration(seconds=20)
    result = succeeded(run_task(update(pipeline_id, parallelism=None, checkpoint_interval=interval), mode))
    assert (result["action"], result["run_id"]) == ("updated", 1)


def test_a_new_checkpoint_interval_after_a_restart_restarts_once_more(arrange: Arrange) -> None:
    """Arroyo then repeats the restart, and the task is over when that is."""
    pipeline_id = arrange.pipeline("Running")
    arrange.client.restart_pipeline(pipeline_id)
    arrange.until_run(pipeline_id, 2)
    make = update(pipeline_id, parallelism=None, checkpoint_interval=20, stable_for=1)
    result = succeeded(run_task(make, SYNC))
    assert (result["action"], result["state"], result["run_id"]) == ("updated", "Running", 3)


@MODES
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_equal_settings_need_no_request(
    state: str, mode: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    pipeline_id = STATES[state](arrange)
    sandbox.requests.clear()
    result = succeeded(run_task(update(pipeline_id, parallelism=1), mode))
    assert (result["action"], result["changes"]) == ("unchanged", [])
    assert changes(sandbox) == []


@pytest.mark.arroyo_versions("0.16")
def test_the_environment_is_changed_but_not_shown(arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    ended = run_task(update(pipeline_id, parallelism=None, env_vars={"TOKEN": "hunter2-hunter2"}), SYNC)
    result = succeeded(ended)
    assert result["run_id"] == 2
    job = arrange.client.get_job(pipeline_id)
    assert job is not None
    assert job.env_vars == {"TOKEN": "hunter2-hunter2"}
    assert "hunter2" not in str(result) + "".join(ended.texts())
    again = update(pipeline_id, parallelism=None, env_vars={"TOKEN": "hunter2-hunter3"})
    assert "hunter" not in str(defer(again(deferrable=True, defer_after=0)).serialize())


def test_a_change_that_arroyo_accepts_but_does_not_make_is_an_error(
    arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline_id = arrange.pipeline("Running")
    monkeypatch.setattr(
        "airflow_provider_arroyo.pipelines.change.still_different", lambda *_: ("parallelism",)
    )
    ended = run_task(update(pipeline_id), SYNC)
    assert isinstance(ended.error, ArroyoTaskError)
    assert "did not apply it: parallelism" in str(ended.error)


# -- delete ------------------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("state", STATES)
def test_a_pipeline_is_stopped_and_deleted(state: str, mode: str, arrange: Arrange) -> None:
    pipeline_id = STATES[state](arrange)
    result = succeeded(run_task(delete(pipeline_id), mode))
    assert result["pipeline_id"] == pipeline_id
    assert result["missing"] is False
    with pytest.raises(ArroyoNotFoundError):
        arrange.client.get_pipeline(pipeline_id)


@MODES
@pytest.mark.parametrize("stop_mode", ["checkpoint", "graceful", "force"])
def test_a_pipeline_that_becomes_finishing_is_stopped_and_deleted(
    stop_mode: str, mode: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    """Then Arroyo accepts these stops without effect."""
    pipeline_id = STATES["finishing"](arrange)
    sandbox.faults.show_state(pipeline_id, "Running", seconds=2)
    result = succeeded(run_task(delete(pipeline_id, mode=stop_mode), mode))
    assert (result["state"], result["missing"]) == ("Finished", False)
    assert sandbox.store.pipelines == {}


def test_a_delete_does_not_wait_for_a_stop_that_finishing_ignores(arrange: Arrange) -> None:
    pipeline_id = STATES["finishing"](arrange)
    arrange.client.patch_pipeline(pipeline_id, stop=StopMode.CHECKPOINT)
    for make in (restart, update):
        assert "is Finishing: at least one of its sources has ended" in str(
            run_task(make(pipeline_id), SYNC).error
        )


def test_without_stop_first_a_running_pipeline_is_kept(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    sandbox.requests.clear()
    ended = run_task(delete(pipeline_id, stop_first=False), SYNC)
    assert "deletes only stopped pipelines" in str(ended.error)
    assert changes(sandbox) == []


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_lost_delete_succeeds(after_effect: bool, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = _stopped(arrange)
    sandbox.faults.reset(method="DELETE", after_effect=after_effect)
    assert succeeded(run_task(delete(pipeline_id), SYNC))["missing"] is False


def test_a_missing_pipeline_is_an_error_or_a_success(sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
    """After an error, Airflow must not retry: the retry would be a success."""
    assert isinstance(run_task(delete("pl_nothing"), SYNC).error, ArroyoFatalTaskError)
    # A pipeline of that name may be created later.
    by_name = run_task(made(ArroyoDeletePipelineOperator, None, pipeline_name="nothing"), SYNC)
    assert isinstance(by_name.error, ArroyoTaskError)
    assert succeeded(run_task(delete("pl_nothing", if_missing="succeed"), SYNC))["missing"] is True
    later = run_task(delete("pl_nothing"), SYNC, FakeTaskInstance(try_number=2))
    assert succeeded(later)["missing"] is True
    assert any("An earlier try deleted it" in text for text in later.texts("WARNING"))


# -- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, arguments, message",
    [
        (restart, {"pipeline_name": "orders"}, "exactly one of pipeline_id and pipeline_name"),
        (restart, {"pipeline_id": None}, "exactly one of pipeline_id and pipeline_name"),
        (restart, {"force": "no"}, "force must be"),
        (restart, {"ignore_state": 1}, "ignore_state must be"),
        (update, {"parallelism": None}, "nothing to update"),
        (update, {"env_vars": {"A": 1}}, "env_vars must map"),
        (delete, {"mode": "none"}, "mode must be"),
        (delete, {"if_missing": "ignore"}, "if_missing must be"),
        (delete, {"stop_first": "yes"}, "stop_first must be"),
        (stop, {"wait_for_completion": "false"}, "wait_for_completion must be"),
        (stop, {"require_checkpoint": "false"}, "require_checkpoint must be"),
        (stop, {"accept_failed": 1}, "accept_failed must be"),
    ],
)
def test_invalid_arguments_are_refused_at_once(make: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("pl_1")(**arguments)


@pytest.mark.parametrize("make", [restart, update, delete])
def test_a_template_that_rendered_nothing_fails_without_a_retry(make: Any, sandbox: ArroyoSandbox) -> None:
    operator = make("{{ x }}")()
    operator.pipeline_id = "None"
    with pytest.raises(ArroyoFatalTaskError, match="pipeline_id must not be empty"):
        operator.execute({"ti": FakeTaskInstance()})
    assert sandbox.requests.total == 0


@pytest.mark.parametrize("state", ["running", "stopped", "failed"])
def test_a_server_that_needs_a_stop_first_gets_it_and_the_new_job_is_followed(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ArroyoSandbox(arroyo_version="0.16", seed=1, speed=4, job_controller="worker") as sandbox,
        ArroyoClient(ClientSettings(base_url=sandbox.url)) as client,
    ):
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", sandbox.airflow_connection_uri())
        pipeline_id = STATES[state](Arrange(sandbox, client))
        before = client.get_job(pipeline_id)
        result = succeeded(run_task(restart(pipeline_id, ignore_state=True), SYNC))
        assert before is not None
        assert result["job_id"] != before.id
        assert (result["state"], result["run_id"]) == ("Running", 1)


def test_a_kill_during_that_stop_says_how_to_start_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    log = logging.Logger("killed")
    log.addHandler(lines)
    with (
        ArroyoSandbox(arroyo_version="0.16", seed=1, speed=4, job_controller="worker") as sandbox,
        ArroyoClient(ClientSettings(base_url=sandbox.url)) as client,
    ):
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", sandbox.airflow_connection_uri())
        pipeline_id = STATES["running"](Arrange(sandbox, client))
        operator = restart(pipeline_id, ignore_state=True)(deferrable=False)

        def kill(*_: Any) -> None:
            operator.on_kill()
            raise KilledError

        monkeypatch.setattr(existing.Existing, "stop", kill)
        with pytest.raises(KilledError):
            quiet(operator, log).execute(context())
    start = f"ArroyoRestartPipelineOperator(pipeline_id={pipeline_id!r}, ignore_state=True)"
    assert f"was not started again. Another try of this task starts it; without one, start it by {start}" in (
        lines.text("WARNING")
    )
    assert "nothing was stopped" not in lines.text()


@MODES
def test_a_retried_update_waits_for_the_run_that_its_first_try_requested(mode: str, arrange: Arrange) -> None:
    """While Arroyo's controller is down, a pipeline has its new settings, but the old run continues without them."""
    pipeline_id, store = arrange.pipeline("Running"), StateStore()
    arrange.sandbox.faults.controller_away()
    ended = run_task(update(pipeline_id, timeout=0.5), SYNC, FakeTaskInstance(state_store=store))
    assert "did not become Running" in str(ended.error), ended.error
    before = arrange.client.get_job(pipeline_id)
    assert before is not None
    assert before.run_id == 1
    arrange.sandbox.requests.clear()
    arrange.after_polls(arrange.sandbox.faults.controller_back)
    result = succeeded(run_task(update(pipeline_id), mode, FakeTaskInstance(try_number=2, state_store=store)))
    assert changes(arrange.sandbox) == []
    assert (result["action"], result["run_id"]) == ("updated", 2)
    assert result["changes"] == [{"argument": "parallelism", "difference": "parallelism: 1 → 2"}]
    again = succeeded(run_task(update(pipeline_id), mode, FakeTaskInstance(try_number=3, state_store=store)))
    assert (again["action"], again["changes"]) == ("unchanged", [])


def test_a_retried_update_that_must_restart_waits_for_that_restart(
    arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arroyo has dropped the parallelism that the first try requested, and picks the restart up late."""
    for module in (change, existing):
        monkeypatch.setattr(module, "PICKED_UP_SECONDS", 0.2)
    pipeline_id, store = arrange.pipeline("Running"), StateStore()
    arrange.sandbox.faults.controller_away(4)
    run_task(update(pipeline_id, timeout=0.5), SYNC, FakeTaskInstance(state_store=store))
    arrange.sandbox.advance(20)
    dropped = arrange.sandbox.engine.store.job_of(pipeline_id)
    assert dropped is not None
    assert dropped.run_id == 2
    dropped.tasks = 1
    arrange.sandbox.engine.touch(dropped)
    arrange.sandbox.faults.controller_away(12)
    result = succeeded(run_task(update(pipeline_id), SYNC, FakeTaskInstance(try_number=2, state_store=store)))
    assert (result["action"], result["run_id"]) == ("updated", 3)
    assert result["changes"] == [{"argument": "parallelism", "difference": "parallelism: 1 → 2"}]
