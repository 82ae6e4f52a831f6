"""A task is killed while Airflow or Arroyo does not respond properly: nothing is stopped, which is logged."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.exceptions import ArroyoSettingsError
from tests.on_kill.support import Bench, DeadlockImminentError, TaskInstance

LIMIT_SECONDS = 4.0
"""How long a kill may take if Airflow responds and then something hangs; half of it is for Airflow's response."""


def check_unknown(bench: Bench) -> str:
    """Check that nothing was sent to Arroyo, and that the task's state is logged as unknown."""
    assert bench.sandbox.requests.total == 0
    level, text = bench.lines.only()
    assert level == "WARNING"
    assert "is unknown" in text
    assert "keeps running; stop it with" in text
    return text


# -- Airflow -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no line"), OSError("broken pipe"), TypeError("x"), DeadlockImminentError("imminent")],
)
def test_an_error_of_airflow_stops_nothing(bench: Bench, error: BaseException) -> None:
    assert not bench.kill(TaskInstance(error))
    assert str(error) in check_unknown(bench)


@pytest.mark.parametrize("response", [None, [], "failed", {"manual__1": None}])
def test_an_invalid_response_of_airflow_stops_nothing(worker: Bench, response: Any) -> None:
    identity = {"dag_id": "orders", "task_id": "submit", "run_id": "manual__1", "map_index": -1}
    assert not worker.kill(SimpleNamespace(**identity, get_task_states=lambda **_: response))
    check_unknown(worker)


def test_without_a_task_instance_nothing_is_stopped(worker: Bench) -> None:
    assert not worker.kill(None)
    check_unknown(worker)


def test_a_note_that_cannot_be_read_stops_nothing(bench: Bench) -> None:
    assert not bench.kill(TaskInstance("failed", noted=RuntimeError("no XCom")))
    check_unknown(bench)


def test_an_airflow_that_never_responds_is_given_up(bench: Bench) -> None:
    response = threading.Event()

    async def never(message: Any) -> None:
        await asyncio.get_running_loop().create_future()

    hanging: Any = TaskInstance("failed", hangs=response)
    if bench.mode == "triggerer":
        hanging.asend = never
    began = time.monotonic()
    assert not bench.kill(hanging, limit_seconds=0.4)
    assert time.monotonic() - began < 10
    response.set()
    assert "no response in 0.2 s" in check_unknown(bench)


async def test_a_slow_request_to_the_supervisor_is_not_cancelled(triggerer: Bench) -> None:
    """All triggers share a channel to the supervisor: a cancelled request leaves its response to the next one."""
    response, ended = asyncio.Event(), asyncio.Event()
    cancelled: list[bool] = []

    async def asend(message: Any) -> Any:
        try:
            await response.wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        finally:
            ended.set()
        return SimpleNamespace(task_states={})

    triggerer.supervise(SimpleNamespace(asend=asend))
    assert not await triggerer.kill_async(TaskInstance(), limit_seconds=0.1)
    assert not ended.is_set()
    response.set()
    await asyncio.wait_for(ended.wait(), 30)
    assert cancelled == []


async def test_a_kill_finishes_although_airflow_keeps_cancelling_it(triggerer: Bench) -> None:
    asked, response = asyncio.Event(), asyncio.Event()
    ti = TaskInstance("failed")

    async def asend(message: Any) -> Any:
        asked.set()
        await response.wait()
        return await ti.asend(message)

    triggerer.supervise(SimpleNamespace(asend=asend))
    killing = asyncio.ensure_future(triggerer.kill_async(ti))
    await asked.wait()
    for _ in range(3):
        killing.cancel()
        await asyncio.sleep(0)
    response.set()
    assert await killing
    assert triggerer.changes() == [("PATCH", {"stop": "checkpoint"})]


# -- Arroyo ------------------------------------------------------------------------------------------------------


def test_an_unreachable_arroyo_is_logged(bench: Bench) -> None:
    bench.sandbox.faults.api_away()
    assert not bench.kill(TaskInstance("failed"), limit_seconds=LIMIT_SECONDS)
    level, text = bench.lines.only()
    assert level == "ERROR"
    assert "The stop of a task that ended failed: " in text
    assert "stop it with ArroyoStopPipelineOperator" in text


def test_a_hanging_arroyo_is_given_up_in_time(bench: Bench) -> None:
    bench.sandbox.faults.hang(times=None)
    began = time.monotonic()
    assert not bench.kill(TaskInstance("failed"), limit_seconds=LIMIT_SECONDS)
    assert time.monotonic() - began < LIMIT_SECONDS + 10
    assert "The stop of a task that ended failed: " in bench.lines.only()[1]


def test_short_faults_are_retried(bench: Bench) -> None:
    bench.sandbox.faults.status(503, times=1)
    bench.sandbox.faults.reset(method="PATCH", after_effect=True)
    assert bench.kill(TaskInstance("failed"))
    bench.sandbox.advance(5)
    assert bench.sandbox.state(bench.pipeline_id) == "Stopped"


# -- the connection ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ArroyoSettingsError("no connection"), RuntimeError("secrets backend away")]
)
def test_a_failing_look_up_of_the_connection_is_logged(triggerer: Bench, error: Exception) -> None:
    async def connect() -> ArroyoClient:
        raise error

    assert not triggerer.kill(TaskInstance("failed"), connect=connect)
    assert f"The stop of a task that ended failed: {error}. " in triggerer.lines.only()[1]


def test_a_hanging_look_up_of_the_connection_is_given_up_in_time(triggerer: Bench) -> None:
    async def connect() -> ArroyoClient:
        await asyncio.sleep(20)
        raise AssertionError

    assert not triggerer.kill(TaskInstance("failed"), connect=connect, limit_seconds=LIMIT_SECONDS)
    assert "failed: no response in" in triggerer.lines.only()[1]


@pytest.mark.parametrize("fault", ["none", "away"])
def test_a_triggerers_client_is_closed(triggerer: Bench, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[ArroyoClient] = []
    close = ArroyoClient.close

    def counted(client: ArroyoClient) -> None:
        closed.append(client)
        close(client)

    monkeypatch.setattr(ArroyoClient, "close", counted)
    if fault == "away":
        triggerer.sandbox.faults.api_away()
    triggerer.kill(TaskInstance("failed"), limit_seconds=LIMIT_SECONDS)
    assert len(triggerer.opened) == 1
    assert closed == triggerer.opened
