"""The sensor as a guard for days: the same in every mode, across restarts and between pokes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.monitoring.condition import CheckpointCondition
from airflow_provider_arroyo.monitoring.metric_condition import MetricCondition
from airflow_provider_arroyo.monitoring.metrics import MetricName
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.operators.deferral import keeps_task_state
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors import pipeline
from airflow_provider_arroyo.triggers import progress
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineTrigger
from tests.polling.support import until
from tests.support import Lines

from .conftest import Arrange
from .harness import (
    DEFERRED,
    RESCHEDULE,
    SENSOR_MODES,
    FakeTaskInstance,
    StateStore,
    context,
    defer,
    quiet,
    recording,
    run_task,
    sense,
    supervisor,
)

KEPT = "arroyo_wait_progress"


def guard(pipeline_id: str, **more: Any) -> Any:
    """Return a factory for a guard that fails at the third restart within a minute."""
    return sense(pipeline_id, "Stopped", **{"max_restarts": 2, "restart_window": 60, **more})


def instance() -> FakeTaskInstance:
    """Return a task instance of Airflow 3.3, which stores task state."""
    return FakeTaskInstance(state_store=StateStore())


@pytest.fixture
def _airflow_keeps_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "keeps_task_state", lambda: True)


needs_state = pytest.mark.usefixtures("_airflow_keeps_state")


@needs_state
@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_a_pipeline_that_flaps_fails_its_guard(mode: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.flap(pipeline_id, runs=60, every=2.0)
    ended = run_task(guard(pipeline_id, timeout=60), mode, instance())
    assert type(ended.error) is ArroyoTaskError
    assert "restarted 3 times within 1 min (restart_window)" in str(ended.error)
    if mode == RESCHEDULE:
        assert ended.pokes > 1


@needs_state
@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_a_guard_succeeds_at_its_timeout_with_succeed_on_timeout(mode: str, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    make = guard(pipeline_id, timeout=1.5, succeed_on_timeout=True)
    ended = run_task(make, mode, instance())
    assert ended.error is None, ended.error
    assert (ended.result["state"], ended.result["pipeline_id"]) == ("Running", pipeline_id)
    assert isinstance(run_task(guard(pipeline_id, timeout=0.5), mode).error, AirflowSensorTimeout)


def test_reschedule_before_airflow_3_3_cannot_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "keeps_task_state", lambda: False)
    with pytest.raises(ValueError, match=r"before Airflow 3\.3.*deferrable=True"):
        guard("pl_1")(mode="reschedule")
    guard("pl_1")(mode="reschedule", deferrable=True)
    assert isinstance(keeps_task_state(), bool)


# -- between pokes ------------------------------------------------------------------------------------------------


@needs_state
def test_restarts_between_pokes_count_for_the_same_try_only(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    ti = FakeTaskInstance(state_store=StateStore(), first_reschedule_date=datetime.now(UTC))

    def poke() -> Any:
        sensor = guard(pipeline_id)(mode="reschedule", poke_interval=60)
        return quiet(sensor, recording([])).poke(context(ti))

    assert poke() is False
    for _ in range(2):
        sandbox.faults.flap(pipeline_id, runs=1, every=0.1)
        sandbox.advance(5)
        arrange.until(pipeline_id, "Running")
        assert poke() is False
    ti.try_number = 2
    assert poke() is False
    for _ in range(3):
        sandbox.faults.flap(pipeline_id, runs=1, every=0.1)
        sandbox.advance(5)
        arrange.until(pipeline_id, "Running")
    with pytest.raises(ArroyoTaskError, match="restarted 3 times within 1 min"):
        poke()


@needs_state
@pytest.mark.parametrize(
    "kept",
    [
        None,
        5,
        {},
        {"seen_run": {}},
        dict.fromkeys(("started_at", "now", "responding_since", "logged_at"), 1e999),
    ],
)
def test_damaged_task_state_is_ignored(kept: Any, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    ti = FakeTaskInstance(first_reschedule_date=datetime.now(UTC))
    ti.state_store = StateStore(
        arroyo_seen={"pipeline": {"pipeline_id": pipeline_id}, "progress": kept, "try_number": 1}
    )
    sensor = quiet(guard(pipeline_id)(mode="reschedule", poke_interval=60), recording([]))
    assert sensor.poke(context(ti)) is False


@needs_state
def test_task_state_that_cannot_be_stored_is_a_warning(arrange: Arrange) -> None:
    class Full(StateStore):
        def set(self, key: str, value: Any) -> None:
            raise RuntimeError("no API")

    lines: list[tuple[str, str]] = []
    sensor = quiet(guard(arrange.pipeline("Running"))(mode="reschedule", poke_interval=60), recording(lines))
    assert sensor.poke(context(FakeTaskInstance(state_store=Full()))) is False
    assert [text for level, text in lines if level == "WARNING"] == [
        "The result of this poll cannot be stored: no API"
    ]


# -- in triggerers ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(trigger: ArroyoPipelineTrigger, ti: FakeTaskInstance) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a trigger until the end of the block, when the triggerer is restarted."""
    trigger.task_instance = ti  # type: ignore[assignment]  # a fake

    async def run() -> Any:
        return [event.payload async for event in trigger.run()]

    task = asyncio.create_task(run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("limits", [{"timeout": 120}, {"timeout": 7200, "restart_window": None}])
async def test_restarts_survive_a_triggerers_restart(
    limits: Any, sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "KEEP_SECONDS", 0.02)
    pipeline_id = await asyncio.to_thread(arrange.pipeline, "Running")
    ti = FakeTaskInstance()
    make = guard(pipeline_id, deferrable=True, defer_after=0, **limits)
    trigger = await asyncio.to_thread(defer, quiet(make(), recording([])), ti)
    arguments = trigger.serialize()[1]
    assert ti.xcoms[KEPT]["progress"] == arguments["progress"]

    def restart() -> None:
        sandbox.faults.flap(pipeline_id, runs=1, every=0.1)
        sandbox.advance(5)
        arrange.until(pipeline_id, "Running")

    def kept(run: int) -> bool:
        return KEPT in ti.xcoms and bool(ti.xcoms[KEPT]["progress"]["job"]["run_id"] == run)

    with supervisor(ti):
        for run in (2, 3):
            again = quiet(ArroyoPipelineTrigger(**arguments), recording([]))
            async with running(again, ti):
                await asyncio.to_thread(restart)
                await until(partial(kept, run))
        assert again.serialize()[1] == arguments
        last = quiet(ArroyoPipelineTrigger(**arguments), recording([]))
        async with running(last, ti) as task:
            await asyncio.to_thread(restart)
            (event,) = await asyncio.wait_for(task, 40)
    assert (event["result"]["outcome"], event["result"]["restarts_in_window"]) == ("flapping", 3)


@pytest.mark.parametrize("noted", [None, 7, {"try_number": 2, "progress": {"now": 9e9}}, {"try_number": 1}])
async def test_only_the_progress_of_this_try_is_used(noted: Any) -> None:
    ti = FakeTaskInstance(xcoms={} if noted is None else {KEPT: noted})
    with supervisor(ti):
        assert await progress.latest_progress(ti, {"now": 1.0}, recording([])) == {"now": 1.0}


async def test_a_guard_continues_without_airflows_storage_and_warns_once(
    arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "KEEP_SECONDS", 0.01)
    pipeline_id = await asyncio.to_thread(arrange.pipeline, "Running")
    ti, lines = FakeTaskInstance(), Lines()
    make = guard(pipeline_id, deferrable=True, defer_after=0, timeout=120, restart_window=1)
    trigger = await asyncio.to_thread(defer, quiet(make(), recording([])), ti)
    # There is no supervisor.
    async with running(quiet(trigger, recording(lines.lines)), ti) as task:
        await until(lambda: "cannot be stored" in lines.text("WARNING"))
        await asyncio.sleep(0.2)
        assert not task.done()
    assert lines.text("WARNING").count("cannot be stored for another triggerer") == 1
    assert lines.text("WARNING").count("so it continues from its deferral") == 1


HOUR = 3600.0
LOW = MetricCondition(metric=MetricName.BACKPRESSURE, operator="all", below=0.5)


def long_wait(
    *, states: Sequence[str] = ("Running",), timeout: float = 7 * HOUR, **plan: Any
) -> PipelineWait:
    """Return a wait for states, or for the condition that it is given."""
    wanted = frozenset() if {"checkpoint", "metric"} & plan.keys() else frozenset(states)
    pipeline = PipelineRef(pipeline_id="pl_1")
    goal = WaitPlan(pipeline=pipeline, target_states=wanted, deadline=timeout, **plan)
    return PipelineWait(goal, now=0.0)


@pytest.mark.parametrize(
    "plan, interval",
    [
        ({}, None),
        ({"stable_for": timedelta(minutes=1)}, None),
        ({"stable_for": timedelta(hours=5)}, HOUR / 2),
        ({"stable_for": timedelta(hours=5), "max_restarts": 2}, HOUR / 2),
        ({"max_restarts": 2}, float("inf")),
        ({"max_restarts": 2, "timeout": 600.0}, None),
        # An operator's wait begins after its timeout.
        ({"max_restarts": 2, "timeout": HOUR - 0.1}, float("inf")),
        ({"max_restarts": 2, "restart_window": timedelta(hours=1), "timeout": 600.0}, HOUR / 2),
        (
            {"stable_for": timedelta(hours=5), "max_restarts": 2, "restart_window": timedelta(days=1)},
            HOUR / 2,
        ),
        ({"metric": LOW}, None),
        ({"metric": replace(LOW, stable_for=timedelta(hours=1))}, 120.0),
        ({"checkpoint": CheckpointCondition(min_epoch=9)}, None),
        ({"checkpoint": CheckpointCondition(new_checkpoints=9)}, 600.0),
    ],
)
def test_only_a_wait_that_would_lose_something_is_stored(plan: Any, interval: float | None) -> None:
    assert progress.keep_interval(long_wait(**plan)) == interval


def kept_by(
    ti: FakeTaskInstance, wait: PipelineWait, interval: float, clock: Callable[[], float]
) -> asyncio.Future[None]:
    return asyncio.ensure_future(progress.keep_progress(ti, wait, clock, interval, recording([])))


async def test_waits_that_are_due_together_are_stored_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "KEEP_SECONDS", 0.001)
    stored, most, now = list[Any](), 0, 0

    async def push(ti: Any, values: Any) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        stored.append(ti)

    monkeypatch.setattr(progress, "push_xcoms", push)
    all_keeping, tis = [], [FakeTaskInstance() for _ in range(20)]
    for ti in tis:
        wait = long_wait(max_restarts=2)
        all_keeping.append(kept_by(ti, wait, float("inf"), lambda: 2.0))
        await asyncio.sleep(0)
        wait.observe(Job(id="job_1", state="Running", run_id=1), 1.0)
    await until(lambda: len(stored) == len(tis))
    for keeping in all_keeping:
        keeping.cancel()
    assert most == 1


async def test_requested_restarts_count_no_more_after_a_triggerers_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "KEEP_SECONDS", 0.001)
    ti, wait = FakeTaskInstance(), long_wait(states=["Stopped"], max_restarts=2)

    def seen(state: str, run: int) -> Job:
        return Job(id="job_1", state=state, run_id=run)

    wait.observe(seen("Running", 1), 1.0)
    deferred = wait.progress.to_dict()
    with supervisor(ti):
        keeping = kept_by(ti, wait, float("inf"), lambda: 4 * HOUR)
        await asyncio.sleep(0)
        for run in (1, 2, 3):
            for state, number in (("Rescaling", run), ("Scheduling", run + 1), ("Running", run + 1)):
                wait.observe(seen(state, number), run * HOUR)
        await until(lambda: KEPT in ti.xcoms)
        keeping.cancel()
        kept = await progress.latest_progress(ti, deferred, recording([]))
    restored = PipelineWait(wait.plan, now=5 * HOUR, progress=kept)
    result = restored.observe(seen("Running", 4), 5 * HOUR)
    assert (result.outcome, result.restarts) == (Outcome.WAITING, 0)


async def test_a_state_that_must_last_survives_a_triggerers_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "KEEP_SECONDS", 0.001)
    seen, ti = Job(id="job_1", state="Running", run_id=1), FakeTaskInstance()
    wait = long_wait(stable_for=timedelta(hours=6))
    now = 1.0
    wait.observe(seen, now)
    deferred = wait.progress.to_dict()
    with supervisor(ti):
        keeping = kept_by(ti, wait, HOUR / 2, lambda: now)
        for hour in (0.4, 1.0, 5.0, 5.4):
            now = hour * HOUR
            await asyncio.sleep(0.05)
            # Not more often than the interval.
            assert (KEPT in ti.xcoms) is (hour >= 0.5)
        keeping.cancel()
        kept = await progress.latest_progress(ti, deferred, recording([]))
    assert kept is not None
    assert kept["now"] == 5.0 * HOUR
    restored = PipelineWait(wait.plan, now=5.5 * HOUR, progress=kept)
    assert not restored.observe(seen, 5.5 * HOUR).is_over
    assert restored.observe(seen, 6.6 * HOUR).outcome is Outcome.REACHED


@pytest.mark.parametrize("more", [{"max_restarts": 2}, {"stable_for": 0.2, "timeout": 7200}])
def test_a_wait_that_loses_little_asks_airflow_for_nothing(more: Any, arrange: Arrange) -> None:
    ti = FakeTaskInstance()
    ended = run_task(sense(arrange.pipeline("Running"), **more), DEFERRED, ti)
    assert ended.error is None
    assert KEPT not in ti.xcoms
