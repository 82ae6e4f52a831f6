"""The compared designs. Each waits for one pipeline at a time, again and again."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

INTERVAL = 0.1

log = logging.getLogger(__name__)


class Design(Protocol):
    """A way to wait."""

    async def open(self, url: str) -> None:
        """Set up the resources that all waits share."""

    async def watch(self, pipeline_id: str, state: str) -> None:
        """Return as soon as the pipeline is in the state."""

    async def close(self) -> None:
        """Close these resources."""


class Shared:
    """This package: the polling of its trigger, without Airflow."""

    def __init__(self) -> None:
        self._url = ""
        self.list_polls: list[tuple[float, float]] = []
        """When each poll of the list was sent, and when its response was read."""

    async def open(self, url: str) -> None:
        from airflow_provider_arroyo.polling.clock import SteadyClock
        from airflow_provider_arroyo.polling.job_polls import JobPolls

        self._url = url
        self._clock = SteadyClock()
        get_list = JobPolls._get_list

        async def timed_get_list(polls: JobPolls, last_body: bytes | None) -> Any:
            sent_at = time.monotonic()
            listed = await get_list(polls, last_body)
            self.list_polls.append((sent_at, time.monotonic()))
            return listed

        JobPolls._get_list = timed_get_list  # type: ignore[assignment,method-assign]  # measured in it

    async def _connect(self) -> Any:
        from airflow_provider_arroyo.client.client import ArroyoClient
        from airflow_provider_arroyo.client.settings import ClientSettings

        return ArroyoClient(ClientSettings(base_url=self._url))

    async def watch(self, pipeline_id: str, state: str) -> None:
        from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
        from airflow_provider_arroyo.monitoring.wait import PipelineWait
        from airflow_provider_arroyo.polling.shared import shared_poller

        now = self._clock()
        plan = WaitPlan(
            pipeline=PipelineRef(pipeline_id=pipeline_id),
            target_states=frozenset([state]),
            deadline=now + 3600,
        )
        wait = PipelineWait(plan, now=now)
        async with shared_poller("bench", self._connect) as poller:
            result = await poller.watch(wait, interval_seconds=INTERVAL, clock=self._clock, log=log)
        if result.outcome.value != "reached":
            raise RuntimeError(f"{pipeline_id}: {result}")

    async def close(self) -> None:
        pass


async def poll_until(
    session: Any, url: str, state: str | None, *, pause_after_response: bool = False
) -> None:
    """Poll a pipeline's jobs at the interval, and return when the newest is in a state.

    :param session: ``aiohttp``'s.
    :param state: None: never.
    :param pause_after_response: Arroyo's own rule: the interval begins with the response, not with the request.
    """
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        async with session.get(url) as response:
            jobs = json.loads(await response.read())["data"]
        if jobs[0]["state"] == state:
            return
        due = loop.time() + INTERVAL if pause_after_response else max(due + INTERVAL, loop.time())
        await asyncio.sleep(due - loop.time())


class OneEach:
    """One request for each wait and interval, over one ``aiohttp`` session for all.

    :param pause_after_response: as for :func:`poll_until`.
    """

    def __init__(self, *, pause_after_response: bool) -> None:
        self._pause_after_response = pause_after_response

    async def open(self, url: str) -> None:
        import aiohttp

        self._url = url
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def watch(self, pipeline_id: str, state: str) -> None:
        url = f"{self._url}/api/v1/pipelines/{pipeline_id}/jobs"
        await asyncio.sleep(random.uniform(0, INTERVAL))
        await poll_until(self._session, url, state, pause_after_response=self._pause_after_response)

    async def close(self) -> None:
        await self._session.close()


class HttpSensor:
    """``HttpSensorTrigger`` of Airflow's own HTTP provider, which waits until an address exists."""

    async def open(self, url: str) -> None:
        parts = urlsplit(url)
        os.environ["AIRFLOW_CONN_BENCH"] = json.dumps(
            {"conn_type": "http", "host": parts.hostname, "port": parts.port, "schema": "http"}
        )
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
        # Before the waits, so that its time does not count.
        self._triggers = importlib.import_module("airflow.providers.http.triggers.http")

    async def watch(self, pipeline_id: str, state: str) -> None:
        trigger = self._triggers.HttpSensorTrigger(
            endpoint=f"/api/v1/pipelines/{pipeline_id}/jobs",
            http_conn_id="bench",
            method="GET",
            poke_interval=INTERVAL,
        )
        async for _event in trigger.run():
            return

    async def close(self) -> None:
        pass


class EventWatchers:
    """The trigger of events, as a triggerer runs it."""

    async def open(self, url: str) -> None:
        os.environ["AIRFLOW_CONN_BENCH"] = json.dumps({"conn_type": "arroyo", "host": url})
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
        # Before the watches, so that its time does not count.
        self._triggers = importlib.import_module("airflow_provider_arroyo.triggers.events")
        self._triggers._import_polling()

    async def watch(self, pipeline_id: str, state: str) -> None:
        trigger = self._triggers.ArroyoPipelineEventTrigger(
            pipeline_id=pipeline_id, states=[state], max_restarts=5, arroyo_conn_id="bench"
        )
        async for _event in trigger.run():
            return

    async def close(self) -> None:
        pass


DESIGNS: dict[str, Callable[[], Design]] = {
    "shared poller": Shared,
    "one each": lambda: OneEach(pause_after_response=False),
    "arroyo rule": lambda: OneEach(pause_after_response=True),
    "http sensor": HttpSensor,
    "event watchers": EventWatchers,
}
