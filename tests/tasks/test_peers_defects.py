"""Defects that were found in other providers by running them, each with a test that it is not here.

Their names are of what went wrong there, not of who it went wrong for.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException, TaskDeferred

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.exceptions import ArroyoApiError
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError, ArroyoTaskFailed
from airflow_provider_arroyo.monitoring.event import WaitEvent
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict
from airflow_provider_arroyo.operators.pipelines import (
    ArroyoStopPipelineOperator,
    ArroyoSubmitPipelineOperator,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.pipelines import ArroyoPipelineSensor
from airflow_provider_arroyo.triggers.pipelines import ArroyoPipelineTrigger
from tests.support import ENDLESS

from .conftest import BROKEN, Arrange
from .harness import DEFERRED, SYNC, FakeTaskInstance, fire, run_task

MODES = (SYNC, DEFERRED)


def submit(**more: Any) -> Callable[..., ArroyoSubmitPipelineOperator]:
    return lambda **mode: ArroyoSubmitPipelineOperator(
        task_id="a_task",
        **{"name": "orders", "query": ENDLESS, "stable_for": 0.3, "timeout": 20, **more},
        **mode,
    )


def sense(pipeline_id: str, *states: str, **more: Any) -> Callable[..., ArroyoPipelineSensor]:
    return lambda **mode: ArroyoPipelineSensor(
        task_id="a_task", pipeline_id=pipeline_id, target_states=states, **{"timeout": 20, **more}, **mode
    )


def watching(pipeline_id: str, *states: str, seconds: float = 20, **more: Any) -> ArroyoPipelineTrigger:
    """Return a trigger that watches for so many seconds from now on."""
    plan = WaitPlan(
        pipeline_id=pipeline_id, targets=frozenset(states), deadline=time.time() + seconds, **more
    )
    return ArroyoPipelineTrigger(arroyo_conn_id="arroyo_default", plan=plan.to_dict())


async def _longest_gap(work: Awaitable[Any]) -> float:
    """Return for how long at most, in seconds, some work held up a loop that wants to turn every 10 ms."""
    task = asyncio.ensure_future(work)
    gaps, before = [0.0], time.monotonic()
    while not task.done():
        await asyncio.sleep(0.01)
        gaps.append(time.monotonic() - before - 0.01)
        before = time.monotonic()
    await task
    return max(gaps)


def test_a_trigger_does_not_spin_on_401(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    made = arrange.pipeline("Running")
    sandbox.faults.status(401, times=None)
    before = sandbox.requests.total
    (event,) = asyncio.run(fire(watching(made, "Stopped")))
    assert WaitEvent.from_dict(event).verdict.outcome is Outcome.ERROR
    # It asks for the connection once more, since the key may have been changed.
    assert sandbox.requests.total - before <= 4


def test_a_trigger_that_is_restarted_after_its_deadline_says_so(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    made = arrange.pipeline("Running")
    (event,) = asyncio.run(fire(watching(made, "Stopped", seconds=-30)))
    verdict = WaitEvent.from_dict(event).verdict
    assert verdict.outcome is Outcome.TIMED_OUT
    assert verdict.job is not None
    assert verdict.job.state == "Running"


def test_a_restarted_triggerer_does_not_begin_the_time_anew(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    trigger = watching(arrange.pipeline("Running"), "Stopped", seconds=0.8)
    _, arguments = trigger.serialize()

    async def moved() -> Any:
        first = asyncio.create_task(fire(trigger))
        await asyncio.sleep(0.5)
        first.cancel()
        began = time.monotonic()
        (event,) = await fire(ArroyoPipelineTrigger(**json.loads(json.dumps(arguments))))
        return event, time.monotonic() - began

    event, took = asyncio.run(moved())
    assert WaitEvent.from_dict(event).verdict.outcome is Outcome.TIMED_OUT
    assert took < 0.7


def test_a_sensor_that_does_not_defer_polls(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    made = arrange.pipeline()
    ended = run_task(sense(made, "Running"), SYNC)
    assert ended.error is None
    assert ended.result["state"] == arrange.state(made) == "Running"
    assert sandbox.requests.count("GET", "*/jobs") > 2


@pytest.mark.parametrize("mode", MODES)
def test_a_retry_that_repairs_what_failed_is_a_success(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    ti = FakeTaskInstance()
    sandbox.faults.fail("orders", error="disk full", domain="external")
    first = run_task(submit(), mode, ti)
    assert isinstance(first.error, ArroyoTaskError)
    ti.try_number = 2
    arrange.until(_only_pipeline(sandbox), "Failed")
    second = run_task(submit(), mode, ti)
    assert second.error is None
    assert (second.result["how"], second.result["state"]) == ("restarted", "Running")


def _only_pipeline(sandbox: ArroyoSandbox) -> str:
    (made,) = sandbox.store.pipelines
    return made


def test_both_clients_tell_the_servers_own_words(sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
    call = api.create_pipeline(PipelineSpec(name="orders", query="SELECT nope FROM nowhere"))
    with pytest.raises(ArroyoApiError) as told:
        client.call(call)

    async def asked() -> None:
        async with ArroyoAsyncClient(ClientSettings(base_url=sandbox.url)) as other:
            await other.call(call)

    with pytest.raises(ArroyoApiError) as told_too:
        asyncio.run(asked())
    assert "nowhere" in told.value.server_message
    assert told_too.value.server_message == told.value.server_message
    assert str(told_too.value) == str(told.value)


@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_create_that_is_answered_5xx_makes_one_pipeline(
    status: int, after_effect: bool, sandbox: ArroyoSandbox
) -> None:
    method = "POST" if sandbox.arroyo_version == "0.15" else "PUT"
    sandbox.faults.status(status, method=method, after_effect=after_effect, times=2, skip=0)
    ti = FakeTaskInstance()
    ended = run_task(submit(wait_for=None), SYNC, ti)
    while ended.error is not None:
        assert ti.try_number < 4
        ti.try_number += 1
        ended = run_task(submit(wait_for=None), SYNC, ti)
    assert list(sandbox.store.pipelines) == [ended.result["pipeline_id"]]


def _context(ti: FakeTaskInstance | None = None) -> Any:
    return {"ti": ti or FakeTaskInstance()}


def _event(outcome: Outcome, state: str) -> dict[str, Any]:
    job = {"id": "job_1", "state": state, "run_id": 1}
    verdict = Verdict.from_dict({"outcome": outcome.value, "wanted": ["Running"], "job": job})
    return WaitEvent(pipeline_id="pl_1", verdict=verdict).to_dict()


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
def test_an_event_of_a_failure_is_never_a_success_and_keeps_its_reason(
    outcome: Outcome, state: str, sandbox: ArroyoSandbox
) -> None:
    for operator in (submit()(deferrable=True), sense("pl_1", "Running")(deferrable=True)):
        with pytest.raises(Exception, match=r"pl_1") as raised:
            operator.execute_complete(_context(), event=_event(outcome, state))
        assert not isinstance(raised.value, KeyError | AttributeError | TypeError)


@pytest.mark.parametrize("event", [None, {}, {"status": "success"}, {"status": "unknown"}, "success", []])
def test_an_event_that_says_nothing_is_never_a_success(event: Any, sandbox: ArroyoSandbox) -> None:
    stop = ArroyoStopPipelineOperator(task_id="a_task", pipeline_id="pl_1", deferrable=True)
    for operator in (submit()(deferrable=True), sense("pl_1", "Running")(deferrable=True), stop):
        with pytest.raises(ArroyoTaskError, match="cannot be read"):
            operator.execute_complete(_context(), event=event)


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_tells_the_remote_reason_in_every_mode(mode: str, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.fail("orders", error="disk full", domain="external")
    ended = run_task(submit(stable_for=2), mode)
    assert isinstance(ended.error, ArroyoTaskError)
    assert "disk full" in str(ended.error)


@pytest.mark.parametrize("state", ["Stopped", "Finished", "Failed"])
def test_no_end_of_a_pipeline_is_waited_past_for_ever(
    state: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    made = arrange.pipeline("Running")
    if state == "Stopped":
        # If it were only shown, it would not be one that was asked for.
        sandbox.faults.stop(made)
    else:
        sandbox.faults.show_state(made, state)
    (event,) = asyncio.run(fire(watching(made, "Scheduling", stopped_is_final=True)))
    verdict = WaitEvent.from_dict(event).verdict
    assert verdict.outcome in (Outcome.STOPPED, Outcome.FINISHED, Outcome.FAILED)
    assert verdict.job is not None
    assert verdict.job.state == state


@pytest.mark.parametrize("name", ["Draining", "Cancelled", "Updated"])
def test_a_state_that_nobody_knows_yet_ends_at_the_deadline(
    name: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    made = arrange.pipeline("Running")
    sandbox.faults.show_state(made, name)
    (event,) = asyncio.run(fire(watching(made, "Stopped", seconds=0.5)))
    verdict = WaitEvent.from_dict(event).verdict
    assert verdict.outcome is Outcome.TIMED_OUT
    assert verdict.job is not None
    assert verdict.job.state == name


def test_a_retry_after_does_not_hold_up_the_loop(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    made = arrange.pipeline("Running")
    asyncio.run(_longest_gap(fire(watching(made, "Running"))))  # imports are done now
    sandbox.faults.status(429, retry_after=2, times=1)
    assert asyncio.run(_longest_gap(fire(watching(made, "Running")))) < 1


def test_a_slow_answer_does_not_hold_up_the_loop(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    made = arrange.pipeline("Running")
    asyncio.run(_longest_gap(fire(watching(made, "Running"))))  # imports are done now
    sandbox.faults.latency(2, times=1)
    assert asyncio.run(_longest_gap(fire(watching(made, "Running")))) < 1


@pytest.mark.parametrize("mode", MODES)
def test_soft_fail_is_not_defeated_by_the_class_of_the_error(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    made = arrange.pipeline("Running", "Failing", "Failed", "Recovering", query=BROKEN)
    ended = run_task(sense(made, "Stopped", soft_fail=True), mode)
    assert isinstance(ended.error, AirflowSkipException)


def test_a_task_that_is_killed_before_it_submitted_stops_nothing(sandbox: ArroyoSandbox) -> None:
    submit(on_kill="force")().on_kill()
    ArroyoStopPipelineOperator(task_id="a_task", pipeline_id="pl_1").on_kill()
    assert sandbox.requests.total == 0


def test_being_killed_takes_no_longer_than_asking_for_the_stop(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    """Elsewhere a task that is killed waits for the end of what it stops, for days if need be."""
    ti = FakeTaskInstance()
    operator = submit(on_kill="checkpoint")(deferrable=True, defer_after=0)
    with pytest.raises(TaskDeferred):
        operator.execute(_context(ti))
    arrange.until(_only_pipeline(sandbox), "Running")
    assert operator._waiting is not None
    operator._waiting.observe(
        arrange.client.call(api.pipeline_jobs(_only_pipeline(sandbox)))[0], operator.clock()
    )
    sandbox.faults.controller_away()
    ti.state = "failed"
    began = time.monotonic()
    operator.on_kill()
    assert time.monotonic() - began < 4
    (patched,) = sandbox.requests.find("PATCH")
    assert patched.json == {"stop": "checkpoint"}
    assert arrange.state(_only_pipeline(sandbox)) == "Running"


def test_a_pipeline_of_another_run_is_never_adopted(sandbox: ArroyoSandbox) -> None:
    first = run_task(submit(wait_for=None), SYNC, FakeTaskInstance(run_id="monday"))
    second = run_task(submit(wait_for=None), SYNC, FakeTaskInstance(run_id="tuesday", try_number=2))
    assert (first.result["how"], second.result["how"]) == ("created", "created")
    assert len({first.result["pipeline_id"], second.result["pipeline_id"], *sandbox.store.pipelines}) == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_try_that_adopts_returns_what_the_first_would_have(mode: str, sandbox: ArroyoSandbox) -> None:
    ti = FakeTaskInstance()
    first = run_task(submit(), mode, ti)
    ti.try_number = 2
    second = run_task(submit(), mode, ti)
    assert second.result == {**first.result, "how": "adopted"}


def test_every_mode_returns_the_same(sandbox: ArroyoSandbox) -> None:
    results = [run_task(submit(), mode, FakeTaskInstance(run_id=mode)).result for mode in MODES]
    assert results[0].keys() == results[1].keys()
    assert None not in (results[0]["job_id"], results[1]["job_id"])


@pytest.mark.parametrize("fault", ["reset", "cut_short"])
def test_the_async_client_outlasts_broken_connections(
    fault: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    made = arrange.pipeline("Running")
    getattr(sandbox.faults, fault)(method="GET", times=2)
    (event,) = asyncio.run(fire(watching(made, "Running")))
    assert WaitEvent.from_dict(event).verdict.outcome is Outcome.REACHED


def test_an_error_that_no_retry_mends_is_not_retried(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(401, times=None)
    ended = run_task(submit(), SYNC)
    assert isinstance(ended.error, ArroyoTaskFailed)
    assert sandbox.requests.total == 1
