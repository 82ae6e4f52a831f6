"""A pipeline that runs, a task that watched it, and both ways to let it go."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetXCom, XComResult

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.models import Job, StopMode
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.hooks.letting_go import (
    WAIT_XCOM_KEY,
    let_go,
    let_go_async,
)
from airflow_provider_arroyo.monitoring.watched import Watched
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS, Lines

ENDED = ["failed", "success", "skipped", "upstream_failed", "removed"]
NOT_ENDED = [
    "running",
    "deferred",
    "queued",
    "scheduled",
    "up_for_retry",
    "up_for_reschedule",
    "restarting",
    "awaiting_input",
    None,
]


class DeadlockImminentError(BaseException):
    """As Airflow's own: it is no Exception."""


@dataclass
class TaskInstance:
    """A task instance, and the supervisor that knows its state.

    :param answer: its state; an exception is raised instead.
    :param try_number: which try this is.
    :param noted: what the try that noted its wait last wrote down; None: this one did.
    :param hangs: set to let the answer come.
    """

    answer: Any = "running"
    map_index: int | None = -1
    try_number: int = 2
    noted: Any = None
    dag_id: str = "orders"
    task_id: str = "submit"
    run_id: str = "manual__1"
    hangs: threading.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def get_task_states(self, **question: Any) -> dict[str, Any]:
        self.asked.append(question)
        if self.hangs is not None:
            self.hangs.wait(20)
        if isinstance(self.answer, BaseException):
            raise self.answer
        # What was cleared has no state, and Airflow then names no task, or gives it none.
        key = "submit" if self.map_index in (-1, None) else f"submit_{self.map_index}"
        return {self.run_id: {key: self.answer}}

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, key) == ("submit", WAIT_XCOM_KEY)
        assert map_indexes == (-1 if self.map_index is None else self.map_index)
        if isinstance(self.noted, BaseException):
            raise self.noted
        return {"try_number": self.try_number} if self.noted is None else self.noted

    async def asend(self, message: Any) -> Any:
        if isinstance(message, GetXCom):
            assert (message.dag_id, message.run_id) == (self.dag_id, self.run_id)
            value = self.xcom_pull(
                task_ids=message.task_id,
                key=message.key,
                map_indexes=-1 if message.map_index is None else message.map_index,
            )
            return XComResult(key=message.key, value=value)
        question = message.model_dump(exclude_none=True, exclude={"type"})
        states = await asyncio.to_thread(self.get_task_states, **question)
        return SimpleNamespace(task_states=states)


class Bench:
    """A pipeline that runs, a task that watched it, and both ways to let it go."""

    def __init__(self, sandbox: ArroyoSandbox, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sandbox = sandbox
        self.mode = mode
        self.lines = Lines()
        self._log = logging.Logger("tests.letting_go")
        self._log.addHandler(self.lines)
        self._monkeypatch = monkeypatch
        self.settings = ClientSettings(base_url=sandbox.url)
        self.client = ArroyoClient(self.settings)
        self.pipeline_id = self.client.create_pipeline(PipelineSpec(name="orders", query=ENDLESS)).id
        sandbox.advance(5)
        self.watched = Watched(pipeline_id=self.pipeline_id, label="Pipeline 'orders'", job=self.job())
        self.opened: list[ArroyoAsyncClient] = []
        sandbox.requests.clear()

    def job(self) -> Job:
        (job,) = self.client.call(api.pipeline_jobs(self.pipeline_id))
        return job

    async def connect(self) -> ArroyoAsyncClient:
        self.opened.append(ArroyoAsyncClient(self.settings))
        return self.opened[-1]

    def let_go(
        self,
        ti: Any,
        *,
        stop: StopMode | None = StopMode.CHECKPOINT,
        watched: Watched | None = None,
        is_timeout: bool = False,
        connect: Callable[[], Any] | None = None,
        limit_seconds: float = 5.0,
    ) -> bool:
        self.sandbox.requests.clear()
        if self.mode == "worker":
            return let_go(
                client=self.client,
                watched=watched or self.watched,
                mode=stop,
                ti=ti,
                is_timeout=is_timeout,
                log=self._log,
                limit_seconds=limit_seconds,
            )
        self._monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", ti, raising=False)
        return asyncio.run(
            let_go_async(
                connect=connect or self.connect,
                watched=watched or self.watched,
                mode=stop,
                ti=ti,
                log=self._log,
                limit_seconds=limit_seconds,
            )
        )

    def changes(self) -> list[Any]:
        """Return what was asked of Arroyo that changes something."""
        return [
            (request.method, request.json) for request in self.sandbox.requests if request.method != "GET"
        ]
