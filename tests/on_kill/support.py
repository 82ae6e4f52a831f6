"""A running pipeline, the task that waits for it, and a kill of that task in a worker or a triggerer."""

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

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.on_kill import WAIT_XCOM_KEY, WatchedRun, stop_on_kill
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.triggers.on_kill import stop_on_kill_async
from tests.support import ENDLESS, Lines

ENDED = ["failed", "success", "skipped", "upstream_failed", "removed"]
NOT_ENDED = [
    *("running", "deferred", "queued", "scheduled", "up_for_retry", "up_for_reschedule", "restarting"),
    *("awaiting_input", None),
]


class DeadlockImminentError(BaseException):
    """Like Airflow's own, which is not an Exception."""


@dataclass
class TaskInstance:
    """A task instance, and the supervisor that has its state.

    :param response: its state, or an exception to raise.
    :param try_number: the number of this try.
    :param noted: the last note about the wait; None: that this try waits.
    :param hangs: set to release the response.
    """

    response: Any = "running"
    map_index: int | None = -1
    try_number: int = 2
    noted: Any = None
    dag_id: str = "orders"
    task_id: str = "submit"
    run_id: str = "manual__1"
    hangs: threading.Event | None = None
    questions: list[dict[str, Any]] = field(default_factory=list)

    def get_task_states(self, **question: Any) -> dict[str, Any]:
        self.questions.append(question)
        if self.hangs is not None:
            self.hangs.wait(20)
        if isinstance(self.response, BaseException):
            raise self.response
        # A cleared task has no state; Airflow leaves it out, or returns None.
        key = "submit" if self.map_index in (-1, None) else f"submit_{self.map_index}"
        return {self.run_id: {key: self.response}}

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, key) == ("submit", WAIT_XCOM_KEY)
        assert map_indexes == (-1 if self.map_index is None else self.map_index)
        if isinstance(self.noted, BaseException):
            raise self.noted
        return {"try_number": self.try_number} if self.noted is None else self.noted

    async def asend(self, message: Any) -> Any:
        if isinstance(message, GetXCom):
            assert (message.dag_id, message.run_id) == (self.dag_id, self.run_id)
            index = -1 if message.map_index is None else message.map_index
            value = self.xcom_pull(task_ids=message.task_id, key=message.key, map_indexes=index)
            return XComResult(key=message.key, value=value)
        question = message.model_dump(exclude_none=True, exclude={"type"})
        return SimpleNamespace(task_states=await asyncio.to_thread(self.get_task_states, **question))


class Bench:
    """A running pipeline, the task that waits for it, and both ways to kill that task."""

    def __init__(self, sandbox: ArroyoSandbox, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sandbox = sandbox
        self.mode = mode
        self.lines = Lines()
        self.log = logging.Logger("tests.on_kill")
        self.log.addHandler(self.lines)
        self._monkeypatch = monkeypatch
        self.settings = ClientSettings(base_url=sandbox.url)
        self.client = ArroyoClient(self.settings)
        self.pipeline_id = self.client.create_pipeline(name="orders", query=ENDLESS).id
        sandbox.advance(5)
        pipeline = PipelineRef(pipeline_id=self.pipeline_id, name="orders")
        self.label = f"Pipeline 'orders' ({self.pipeline_id})"
        self.job = self.client.get_job(self.pipeline_id)
        self.watched = WatchedRun(pipeline=pipeline, job=self.job)
        self.opened: list[ArroyoClient] = []
        sandbox.requests.clear()

    async def connect(self) -> ArroyoClient:
        self.opened.append(ArroyoClient(self.settings))
        return self.opened[-1]

    def watched_as(self, **changes: Any) -> WatchedRun:
        """Return the run as the task would have seen it if its job had other fields."""
        assert self.job is not None
        fields = {name: getattr(self.job, name) for name in ("id", "state", "run_id", "running_desired")}
        return WatchedRun(pipeline=self.watched.pipeline, job=Job(**{**fields, **changes}))

    def supervise(self, supervisor: Any) -> None:
        """Make the triggerer ask this supervisor."""
        self._monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)

    async def kill_async(self, ti: Any, **more: Any) -> bool:
        """Kill a task whose wait is in a triggerer."""
        given = {"connect": self.connect, "watched": self.watched, "mode": StopMode.CHECKPOINT, **more}
        return await stop_on_kill_async(ti=ti, log=self.log, **given)

    def kill(
        self,
        ti: Any,
        *,
        stop: StopMode | None = StopMode.CHECKPOINT,
        watched: WatchedRun | None = None,
        is_timeout: bool = False,
        connect: Callable[[], Any] | None = None,
        limit_seconds: float = 60.0,
    ) -> bool:
        """Kill the task; return whether a stop was requested."""
        self.sandbox.requests.clear()
        more: dict[str, Any] = {"mode": stop, "limit_seconds": limit_seconds}
        if self.mode == "worker":
            return stop_on_kill(
                self.client, watched or self.watched, ti=ti, is_timeout=is_timeout, log=self.log, **more
            )
        self.supervise(ti)
        more |= {"connect": connect or self.connect, "watched": watched or self.watched}
        return asyncio.run(self.kill_async(ti, **more))

    def changes(self) -> list[Any]:
        """Return the requests that change something."""
        return [
            (request.method, request.json) for request in self.sandbox.requests if request.method != "GET"
        ]
