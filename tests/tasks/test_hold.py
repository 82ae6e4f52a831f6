"""A deferred task does not resume too early: the hold, its setting, and what may happen during it."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_arroyo.monitoring.event import WaitEvent
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.deferral import AIRFLOW_GRACE, deferral_hold_seconds
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineTrigger

from .conftest import Arrange
from .harness import (
    DEFERRED,
    SYNC,
    FakeTaskInstance,
    Make,
    context,
    defer,
    fire,
    rebuilt,
    run_task,
    sense,
    stop,
    submit,
)

SETTING = "AIRFLOW__ARROYO__DEFERRAL_HOLD"
HEARTBEAT = "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"


# -- the setting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment, seconds",
    [
        ({}, 8.0),
        ({SETTING: "auto"}, 8.0),
        ({SETTING: " Auto "}, 8.0),
        ({HEARTBEAT: "1"}, 4.0),
        ({HEARTBEAT: "30", SETTING: "2.5"}, 2.5),
        ({SETTING: "0"}, 0.0),
        ({SETTING: "3600"}, 3600.0),
    ],
)
def test_the_hold_setting(
    environment: dict[str, str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SETTING)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert deferral_hold_seconds() == seconds


@pytest.mark.parametrize("value", ["", "-1", "nan", "inf", "1e9", "5 s", "automatic", "None"])
@pytest.mark.parametrize("make", [submit(), sense("pl_1"), stop("pl_1")], ids=["submit", "sense", "stop"])
def test_an_invalid_setting_is_refused_when_the_dag_is_parsed(
    make: Make, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, value)
    with pytest.raises(
        ValueError, match=r"\[arroyo\] deferral_hold: must be 'auto' or seconds from 0 to 3600, got"
    ):
        make(deferrable=True)
    # Tasks that do not defer are not affected.
    assert make(deferrable=False).deferrable is False


@pytest.mark.parametrize("value", ["-4", "nan", "inf", "5 s"])
def test_an_invalid_heartbeat_interval_is_refused_when_the_dag_is_parsed(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SETTING)
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", value)
    with pytest.raises(ValueError, match=r"\[workers\] min_heartbeat_interval: must be seconds .*, got"):
        sense("pl_1")(deferrable=True)
    monkeypatch.setenv(SETTING, "8")
    assert sense("pl_1")(deferrable=True).deferrable is True


# -- the hold --------------------------------------------------------------------------------------------------


def held(make: Make, seconds: float, *, deferred_ago: float = 0.0) -> ArroyoPipelineTrigger:
    """Return the trigger of a task that deferred that many seconds ago."""
    trigger = defer(make(deferrable=True, defer_after=0))
    now = SteadyClock()()
    trigger.hold = {"deferred_at": now - deferred_ago, "seconds": seconds}
    return trigger


async def _over(trigger: ArroyoPipelineTrigger) -> None:
    """Wait until the wait of a trigger is over and its event is held."""
    async with asyncio.timeout(30):
        while trigger._wait is None or trigger._wait._over is None:  # noqa: ASYNC110  # the trigger sets no event
            await asyncio.sleep(0.02)


def result_of(payload: Any) -> Any:
    """Return the result in an event."""
    return WaitEvent.from_dict(payload).result


def test_the_trigger_knows_the_moment_of_the_deferral_and_the_hold(
    arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline_id = arrange.pipeline("Running")
    monkeypatch.setenv(SETTING, "7.5")
    before = SteadyClock()()
    with pytest.raises(TaskDeferred) as caught:
        sense(pipeline_id, "Stopped", timeout=100)(deferrable=True, defer_after=0).execute(context())
    after = SteadyClock()()
    _, arguments = caught.value.trigger.serialize()
    assert arguments["version"] == 1
    assert arguments["hold"]["seconds"] == 7.5
    assert before - 1 <= arguments["hold"]["deferred_at"] <= after + 1
    # Airflow's own timeout leaves enough time for a hold at the very end of the wait.
    assert caught.value.timeout is not None
    assert caught.value.timeout > timedelta(seconds=100 - (after - before) + 7.4) + AIRFLOW_GRACE


def test_an_early_event_is_held_and_not_evaluated_again(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    trigger = held(sense(pipeline_id, "Stopped", timeout=100), 3.0)
    began = time.monotonic()
    sandbox.faults.stop(pipeline_id)

    async def fired() -> tuple[Any, float, int]:
        running = asyncio.create_task(fire(trigger))
        await asyncio.to_thread(arrange.until, pipeline_id, "Stopped")
        await _over(trigger)
        over_at, polls = time.time(), sandbox.requests.count("GET", "*/jobs")
        arrange.client.delete_pipeline(pipeline_id)
        (payload,) = await running
        return payload, over_at, sandbox.requests.count("GET", "*/jobs") - polls

    payload, over_at, polls = asyncio.run(fired())
    result = result_of(payload)
    assert (result.outcome, result.job.state) == (Outcome.REACHED, "Stopped")
    # One may have been on its way; without the hold's end of the polls, there would be thirty.
    assert polls <= 1
    # Each clock reads the machine's two clocks one after the other, and may be interrupted in between.
    assert time.monotonic() - began >= 2.5
    assert result.reached_at <= over_at + 1


@pytest.mark.parametrize(
    "seconds, deferred_ago", [(3600.0, 3600.5), (3600.0, 7200.0), (0.0, 0.0)], ids=["just", "long ago", "off"]
)
def test_an_event_after_the_hold_is_not_delayed(
    seconds: float, deferred_ago: float, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    trigger = held(
        sense(arrange.pipeline("Running"), "Stopped", timeout=100), seconds, deferred_ago=deferred_ago
    )
    sandbox.faults.stop("orders")
    # With a hold, this would take an hour.
    (payload,) = asyncio.run(fire(trigger))
    assert result_of(payload).outcome is Outcome.REACHED


def test_every_kind_of_event_is_held(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    failed = held(sense(arrange.pipeline("Running"), "Stopped", timeout=100), 1.0)
    sandbox.faults.fail("orders", error="disk full", domain="external")
    unreadable = ArroyoPipelineTrigger(arroyo_conn_id="arroyo_default", plan=None, hold=failed.hold)
    lost = ArroyoPipelineTrigger(arroyo_conn_id="nowhere", plan=failed.plan, hold=failed.hold)
    for trigger, outcome in ((failed, Outcome.FAILED), (unreadable, Outcome.ERROR), (lost, Outcome.ERROR)):
        began = time.monotonic()
        trigger.hold = {"deferred_at": SteadyClock()(), "seconds": 1.0}
        (payload,) = asyncio.run(fire(trigger))
        assert result_of(payload).outcome is outcome
        assert time.monotonic() - began >= 0.5


def test_an_exception_of_a_trigger_is_held_too(arrange: Arrange, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    began = time.monotonic()
    trigger = held(sense(arrange.pipeline("Running"), "Stopped", timeout=100), 1.0)
    monkeypatch.setattr(ArroyoPipelineTrigger, "_poll", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        asyncio.run(fire(trigger))
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize(
    "hold", [None, {}, {"seconds": "8"}, {"deferred_at": 1, "seconds": -3}, {"later": 1}]
)
def test_a_hold_of_another_version_is_ignored(hold: Any, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    trigger = held(sense(arrange.pipeline("Running"), "Stopped", timeout=100), 3600)
    sandbox.faults.stop("orders")
    trigger.hold = hold
    (payload,) = asyncio.run(fire(rebuilt(trigger)))
    assert result_of(payload).outcome is Outcome.REACHED


def test_arguments_of_a_newer_version_are_an_error(arrange: Arrange) -> None:
    trigger = held(sense(arrange.pipeline("Running"), "Stopped", timeout=100), 0)
    trigger.version = 99
    (payload,) = asyncio.run(fire(rebuilt(trigger)))
    assert "have version 99, but this package reads up to 1" in str(result_of(payload).error)


# -- during the hold -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["failed", "success", "deferred", None])
def test_a_kill_during_the_hold_is_like_a_kill_during_the_wait(
    state: str | None, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a mark, the pipeline is stopped as ``stop_on_kill`` says; after a move or a clear, it keeps running."""
    ti = FakeTaskInstance()
    trigger = defer(submit(stop_on_kill="immediate", timeout=100)(deferrable=True, defer_after=0), ti)
    trigger.hold = {"deferred_at": SteadyClock()(), "seconds": 60.0}
    trigger.task_instance = ti  # type: ignore[assignment]  # has what is used of Airflow's
    note = ti.xcoms["arroyo_wait"]

    async def asked(_: Any) -> tuple[str | None, Any]:
        return state, note

    monkeypatch.setattr("airflow_provider_arroyo.triggers.on_kill._ask_airflow", asked)

    async def killed() -> None:
        running = asyncio.create_task(fire(trigger))
        await _over(trigger)
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await trigger.on_kill()

    asyncio.run(killed())
    assert sandbox.requests.count("PATCH") == (1 if state in ("failed", "success") else 0)


# -- deadlines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [{"timeout": 50}, {"execution_timeout": timedelta(seconds=50)}])
@pytest.mark.parametrize("make", [submit, sense, stop], ids=["submit", "sense", "stop"])
def test_a_wait_that_must_end_within_the_hold_stays_in_the_worker(
    make: Any,
    limit: dict[str, Any],
    sandbox: ArroyoSandbox,
    arrange: Arrange,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a hold, its event or its timeout would come after the deadline."""
    monkeypatch.setenv(SETTING, "60")
    if make is submit:
        task = submit(**limit)
    else:
        pipeline_id = arrange.pipeline("Running")
        sandbox.faults.stop(pipeline_id, after=0.3)
        task = sense(pipeline_id, "Stopped", **limit) if make is sense else stop(pipeline_id, **limit)
    ended = run_task(task, DEFERRED)
    assert ended.error is None, ended.error
    assert ended.deferrals == 0


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_state_that_was_reached_in_time_is_a_success_despite_the_hold(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, "3")
    pipeline_id = arrange.pipeline("Running")
    # Late enough that the worker's own poll does not see it.
    arrange.after_polls(sandbox.faults.stop, pipeline_id)
    ended = run_task(sense(pipeline_id, "Stopped", execution_timeout=timedelta(seconds=30)), mode)
    assert ended.error is None, ended.error
    assert ended.result["state"] == "Stopped"
    assert ended.deferrals == (mode == DEFERRED)
    held = [text for text in ended.texts() if "(deferral_hold)" in text]
    assert len(held) == (mode == DEFERRED)
