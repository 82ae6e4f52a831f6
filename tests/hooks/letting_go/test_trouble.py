"""When a task ends and Airflow or Arroyo does not answer as it should."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner

from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.models import StopMode
from airflow_provider_arroyo.exceptions import ArroyoSettingsError
from airflow_provider_arroyo.hooks.letting_go import (
    let_go_async,
)
from tests.hooks.letting_go.support import Bench, DeadlockImminentError, TaskInstance


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no line"), OSError("broken pipe"), TypeError("x"), DeadlockImminentError("imminent")],
)
def test_airflow_that_does_not_answer_well_stops_nothing(bench: Bench, error: BaseException) -> None:
    assert not bench.let_go(TaskInstance(error))
    assert bench.sandbox.requests.total == 0
    level, text = bench.lines.only()
    assert level == "WARNING"
    assert "cannot be told" in text
    assert str(error) in text
    assert "goes on; stop it with" in text


@pytest.mark.parametrize("answer", [None, [], "failed", {"manual__1": None}])
def test_answer_of_another_shape_stops_nothing(worker: Bench, answer: Any) -> None:
    ti = SimpleNamespace(
        dag_id="orders",
        task_id="submit",
        run_id="manual__1",
        map_index=-1,
        get_task_states=lambda **_: answer,
    )
    assert not worker.let_go(ti)
    assert worker.sandbox.requests.total == 0
    assert "cannot be told" in worker.lines.only()[1]


def test_task_instance_that_cannot_be_asked(worker: Bench) -> None:
    assert not worker.let_go(None)
    assert "cannot be told" in worker.lines.only()[1]


def test_airflow_that_never_answers_is_given_up(bench: Bench) -> None:
    answer = threading.Event()

    class Supervisor:
        async def asend(self, message: Any) -> Any:
            await asyncio.get_running_loop().create_future()

    # Nobody answers before it has been given up: the line that is looked at below is logged by then.
    hanging: Any = TaskInstance("failed", hangs=answer)
    if bench.mode == "triggerer":
        hanging.asend = Supervisor().asend
    began = time.monotonic()
    assert not bench.let_go(hanging, limit_seconds=0.4)
    assert time.monotonic() - began < 2
    answer.set()
    assert bench.changes() == []
    assert "cannot be told" in bench.lines.only()[1]
    assert "no answer in" in bench.lines.only()[1]


async def test_question_that_takes_too_long_is_not_cancelled(
    triggerer: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triggerer's line to its supervisor is shared: who is cancelled there leaves his answer to the next."""
    answer, ended = asyncio.Event(), asyncio.Event()
    cancelled: list[bool] = []

    class Supervisor:
        async def asend(self, message: Any) -> Any:
            try:
                await answer.wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            finally:
                ended.set()
            return SimpleNamespace(task_states={})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    stopped = await let_go_async(
        connect=triggerer.connect,
        watched=triggerer.watched,
        mode=StopMode.CHECKPOINT,
        ti=TaskInstance(),
        log=logging.getLogger("tests.letting_go"),
        limit_seconds=0.1,
    )
    assert not stopped
    assert not ended.is_set()
    answer.set()
    await asyncio.wait_for(ended.wait(), 5)
    assert cancelled == []


async def test_airflow_cancels_it_once_a_second_and_it_goes_on(
    triggerer: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    ti = TaskInstance("failed")

    class Supervisor:
        async def asend(self, message: Any) -> Any:
            asked.set()
            await answer.wait()
            return await ti.asend(message)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    letting_go = asyncio.ensure_future(
        let_go_async(
            connect=triggerer.connect,
            watched=triggerer.watched,
            mode=StopMode.CHECKPOINT,
            ti=ti,
            log=logging.getLogger("tests.letting_go"),
        )
    )
    await asked.wait()
    for _ in range(3):
        letting_go.cancel()
        await asyncio.sleep(0)
    answer.set()
    assert await letting_go
    assert triggerer.changes() == [("PATCH", {"stop": "checkpoint"})]


def test_arroyo_that_is_away(bench: Bench) -> None:
    bench.sandbox.faults.api_away()
    assert not bench.let_go(TaskInstance("failed"), limit_seconds=0.6)
    level, text = bench.lines.only()
    assert level == "ERROR"
    assert "The stop of a task that ended did not get through" in text
    assert "stop it with ArroyoStopPipelineOperator" in text


def test_arroyo_that_hangs(bench: Bench) -> None:
    bench.sandbox.faults.hang(times=None)
    assert not bench.let_go(TaskInstance("failed"), limit_seconds=0.6)
    assert "did not get through" in bench.lines.only()[1]


def test_arroyo_that_stumbles(bench: Bench) -> None:
    bench.sandbox.faults.status(503, times=1)
    bench.sandbox.faults.reset(method="PATCH", after_effect=True)
    assert bench.let_go(TaskInstance("failed"))
    bench.sandbox.advance(5)
    assert bench.sandbox.state(bench.pipeline_id) == "Stopped"


def test_stop_is_not_waited_for(bench: Bench) -> None:
    bench.sandbox.faults.controller_away()
    assert bench.let_go(TaskInstance("failed"))
    assert bench.sandbox.state(bench.pipeline_id) == "Running"


@pytest.mark.parametrize(
    "error", [ArroyoSettingsError("no connection"), RuntimeError("secrets backend away")]
)
def test_connection_that_cannot_be_had(triggerer: Bench, error: Exception) -> None:
    async def connect() -> ArroyoAsyncClient:
        raise error

    assert not triggerer.let_go(TaskInstance("failed"), connect=connect)
    assert str(error) in triggerer.lines.only()[1]


def test_connection_that_hangs(triggerer: Bench) -> None:
    async def connect() -> ArroyoAsyncClient:
        await asyncio.sleep(20)
        raise AssertionError

    assert not triggerer.let_go(TaskInstance("failed"), connect=connect, limit_seconds=0.4)
    assert "did not get through: no answer in" in triggerer.lines.only()[1]


@pytest.mark.parametrize("fault", ["none", "away"])
def test_asynchronous_client_is_closed(triggerer: Bench, fault: str) -> None:
    if fault == "away":
        triggerer.sandbox.faults.api_away()
    triggerer.let_go(TaskInstance("failed"), limit_seconds=1)
    (client,) = triggerer.opened
    assert client._session is None
