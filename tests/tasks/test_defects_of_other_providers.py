"""Defects that were found in other providers by running them. This one must not have them.

Some are tested with their subject: a trigger's time and unreadable events in test_trigger, soft_fail in test_sensor,
a remote reason in each mode in test_modes_agree.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.exceptions import ArroyoQueryError
from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .conftest import Arrange
from .harness import DEFERRED, SYNC, FakeTaskInstance, context, defer, fire, run_task, sense, stop, submit

MODES = (SYNC, DEFERRED)


@pytest.mark.parametrize("mode", MODES)
def test_a_retry_that_resumes_a_failed_pipeline_succeeds(
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
    assert (second.result["action"], second.result["state"]) == ("restarted", "Running")


def _only_pipeline(sandbox: ArroyoSandbox) -> str:
    (made,) = sandbox.store.pipelines
    return made


def test_the_servers_message_is_in_the_error(sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
    with pytest.raises(ArroyoQueryError) as caught:
        client.create_pipeline(name="orders", query="SELECT nope FROM nowhere")
    assert "nowhere" in caught.value.server_message
    assert " ".join(caught.value.server_message.split()) in str(caught.value)


@pytest.mark.usefixtures("_soon_lost")
@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("status", [500, 503])
def test_a_create_with_a_5xx_response_makes_one_pipeline(
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


def test_a_task_that_is_killed_before_it_submitted_stops_nothing(sandbox: ArroyoSandbox) -> None:
    submit(stop_on_kill="force")().on_kill()
    stop("pl_1")().on_kill()
    assert sandbox.requests.total == 0


def test_on_kill_does_not_wait_for_the_end_of_the_stop(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    """In other providers, a killed task waits for the end of what it stops, for days if necessary."""
    ti = FakeTaskInstance()
    operator = submit(stop_on_kill="checkpoint")(deferrable=True, defer_after=0)
    with pytest.raises(TaskDeferred):
        operator.execute(context(ti))
    arrange.until(_only_pipeline(sandbox), "Running")
    assert operator._waiting is not None
    operator._waiting.observe(arrange.client.get_job(_only_pipeline(sandbox)), operator.clock())
    sandbox.faults.controller_away()
    ti.state = "failed"
    began = time.monotonic()
    operator.on_kill()
    assert time.monotonic() - began < 15
    (patched,) = sandbox.requests.find("PATCH")
    assert patched.json == {"stop": "checkpoint"}
    assert arrange.state(_only_pipeline(sandbox)) == "Running"


@pytest.mark.usefixtures("_soon_lost")
def test_a_pipeline_of_another_run_is_never_adopted(sandbox: ArroyoSandbox) -> None:
    first = run_task(submit(wait_for=None), SYNC, FakeTaskInstance(run_id="monday"))
    second = run_task(submit(wait_for=None), SYNC, FakeTaskInstance(run_id="tuesday", try_number=2))
    assert (first.result["action"], second.result["action"]) == ("created", "created")
    assert len({first.result["pipeline_id"], second.result["pipeline_id"], *sandbox.store.pipelines}) == 2


@pytest.mark.parametrize("fault", ["reset", "cut_short"])
def test_a_trigger_survives_broken_connections(fault: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    trigger = defer(sense(pipeline_id, "Stopped")(deferrable=True, defer_after=0))
    getattr(sandbox.faults, fault)(method="GET", times=2)
    sandbox.faults.stop(pipeline_id, after=0.3)
    (event,) = asyncio.run(fire(trigger))
    assert event["result"]["outcome"] == "reached"


def test_an_error_that_no_retry_can_fix_is_not_retried(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(401, times=None)
    ended = run_task(submit(), SYNC)
    assert isinstance(ended.error, ArroyoFatalTaskError)
    assert sandbox.requests.total == 1
