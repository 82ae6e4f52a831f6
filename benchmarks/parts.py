"""The parts of the measured DAGs: waits to compare with, and triggers that are not ours."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TaskSuccessEvent, TriggerEvent

from airflow_provider_arroyo.operators.arroyo import ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.sandbox.populate import QUERY
from benchmarks.designs import poll_until

ALARMS = 40
ROUNDS = 12
SUBMITS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "worker": ("soon", {"deferrable": False}),
    "before_defer_after": ("soon", {"deferrable": True}),
    "always_defers": ("soon", None),
    "worker_waits_long": ("late", {"deferrable": False}),
}
"""How soon the pipeline runs, and how it is submitted: our operator's arguments; None: another operator."""

WAVES = 10
WAVE = 3
"""How many submits of each kind, and how many alarms, wait at the same time."""
DEFERRED: dict[str, dict[str, Any] | None] = {
    "after_defer_after": {"deferrable": True, "defer_after": 1},
    "always_defers_and_waits_long": None,
}
"""How those are submitted that a triggerer waits for, as in ``SUBMITS``."""

FOLDER = "ARROYO_BENCH_FOLDER"
"""Names the environment variable with the folder of ``server.json`` and ``alarms.json``."""


def read_shared(name: str) -> Any:
    """Return what the measuring process wrote to a file in the folder."""
    return json.loads((Path(os.environ[FOLDER]) / f"{name}.json").read_text())


def submit(task_id: str, name: str, arguments: dict[str, Any] | None) -> BaseOperator:
    """Return a task that submits a pipeline and is done when it runs.

    :param name: the pipeline's.
    :param arguments: our operator's; None: :class:`DeferringSubmit`.
    """
    if arguments is None:
        return DeferringSubmit(task_id=task_id, name=name, query=QUERY)
    return ArroyoSubmitPipelineOperator(
        task_id=task_id, pipeline_name=name, query=QUERY, stable_for=0, **arguments
    )


class Alarm(BaseTrigger):
    """Fires at a moment that ``alarms.json`` names once it is there: it is known when its event happened.

    :param number: which of the moments.
    :param ends_task: whether the task ends with the event, without a worker.
    """

    def __init__(self, number: int, ends_task: bool) -> None:
        super().__init__()
        self.number = number
        self.ends_task = ends_task

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.Alarm", {"number": self.number, "ends_task": self.ends_task}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while (moments := read_shared("alarms")) is None:  # noqa: ASYNC110 - another process writes them
            await asyncio.sleep(0.5)
        await asyncio.sleep(moments[self.number] - time.time())
        yield TaskSuccessEvent() if self.ends_task else TriggerEvent("now")


class Idle(BaseTrigger):
    """Waits and does nothing, to measure Airflow's own cost."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.Idle", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.Event().wait()
        yield TriggerEvent("never")


class PollingTrigger(BaseTrigger):
    """Polls one pipeline individually, over a session that all triggers of this kind share.

    :param pipeline_id: which.
    :param state: fires when it is in this state; None: never.
    """

    _session: Any = None

    def __init__(self, pipeline_id: str, state: str | None) -> None:
        super().__init__()
        self.pipeline_id = pipeline_id
        self.state = state

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.PollingTrigger", {"pipeline_id": self.pipeline_id, "state": self.state}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        import aiohttp

        if PollingTrigger._session is None:
            PollingTrigger._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        url = f"{read_shared('server')['url']}/api/v1/pipelines/{self.pipeline_id}/jobs"
        await poll_until(PollingTrigger._session, url, self.state)
        yield TriggerEvent(self.state)


class FromTrigger(BaseOperator):
    """Waits in a triggerer from the start, without a worker before it.

    :param path: the trigger's class.
    :param arguments: the trigger's.
    """

    start_from_trigger = True

    def __init__(self, *, path: str, arguments: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=path, next_method="execute_complete", trigger_kwargs=arguments
        )

    def execute_complete(self, context: Any, event: Any) -> None:
        """End."""


class DeferringSubmit(BaseOperator):
    """Creates a pipeline and defers at once, as most deferrable operators do.

    :param name: the pipeline's.
    :param query: its SQL.
    """

    template_fields = ("name",)

    def __init__(self, *, name: str, query: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.query = query

    def execute(self, context: Any) -> None:
        """Create it and defer."""
        import requests

        response = requests.post(
            f"{read_shared('server')['url']}/api/v1/pipelines",
            json={"name": self.name, "query": self.query, "parallelism": 1},
            timeout=10,
        )
        response.raise_for_status()
        self.defer(trigger=PollingTrigger(response.json()["id"], "Running"), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any) -> None:
        """End."""
