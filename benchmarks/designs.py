"""The ways to wait that are compared. Each waits for one pipeline at a time, as often as it is asked to."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

INTERVAL = 0.1


class Design(Protocol):
    """A way to wait."""

    async def open(self, url: str) -> None:
        """Make ready what all waits share."""

    async def watch(self, pipeline_id: str, state: str) -> None:
        """Return as soon as the pipeline is seen in the state."""

    async def close(self) -> None:
        """Give up what all waits share."""


class Feed:
    """This package: what its trigger does, with nothing of Airflow around it.

    :param only: "list" or "single" makes it use that kind of look alone.
    """

    def __init__(self, only: str = "") -> None:
        self._only = only
        self._url = ""

    async def open(self, url: str) -> None:
        from airflow_provider_arroyo.monitoring.feed import JobFeed
        from airflow_provider_arroyo.monitoring.feed_cost import Look, LookCosts

        self._url = url
        self._fixed = None
        if self._only:
            look = Look(self._only)

            class Fixed(LookCosts):
                def choose(self, pipelines: int, now: float, *, is_regular: bool, may_explore: bool) -> Look:
                    return look

                def wants_single(self, now: float) -> bool:
                    return False

                def wants_ping(self, now: float) -> bool:
                    return False

            self._fixed = JobFeed(
                interval_seconds=INTERVAL, connect=self._connect, clock=time.time, costs=Fixed()
            )

    async def _connect(self) -> Any:
        from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
        from airflow_provider_arroyo.arroyo.settings import ClientSettings

        return ArroyoAsyncClient(ClientSettings(base_url=self._url))

    async def watch(self, pipeline_id: str, state: str) -> None:
        from airflow_provider_arroyo.monitoring.feed import shared_feed
        from airflow_provider_arroyo.monitoring.plan import WaitPlan
        from airflow_provider_arroyo.monitoring.wait import PipelineWait

        now = time.time()
        plan = WaitPlan(pipeline_id=pipeline_id, targets=frozenset([state]), deadline=now + 3600)
        wait = PipelineWait(plan, now=now)
        if self._fixed is not None:
            verdict = await self._fixed.watch(wait)
        else:
            async with shared_feed(
                key=("bench",), interval_seconds=INTERVAL, connect=self._connect, clock=time.time
            ) as feed:
                verdict = await feed.watch(wait, interval_seconds=INTERVAL)
        if verdict.outcome.value != "reached":
            raise RuntimeError(f"{pipeline_id}: {verdict}")

    async def close(self) -> None:
        if self._fixed is not None:
            await self._fixed.aclose()


async def ask_until(session: Any, url: str, state: str | None, *, pause_after_answer: bool = False) -> None:
    """Look at a pipeline's jobs at the interval, and return when the newest is in a state.

    :param session: ``aiohttp``'s.
    :param state: None: never.
    :param pause_after_answer: Arroyo's own rule: the interval begins with the answer, not with the request.
    """
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        async with session.get(url) as response:
            jobs = json.loads(await response.read())["data"]
        if jobs[0]["state"] == state:
            return
        due = loop.time() + INTERVAL if pause_after_answer else max(due + INTERVAL, loop.time())
        await asyncio.sleep(due - loop.time())


class OneEach:
    """One request for each wait and interval, over one ``aiohttp`` session for all.

    :param pause_after_answer: as for :func:`ask_until`.
    """

    def __init__(self, *, pause_after_answer: bool) -> None:
        self._pause_after_answer = pause_after_answer

    async def open(self, url: str) -> None:
        import aiohttp

        self._url = url
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def watch(self, pipeline_id: str, state: str) -> None:
        url = f"{self._url}/api/v1/pipelines/{pipeline_id}/jobs"
        await asyncio.sleep(random.uniform(0, INTERVAL))
        await ask_until(self._session, url, state, pause_after_answer=self._pause_after_answer)

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
        # Before the waits, so that it does not count as waiting.
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


DESIGNS: dict[str, Callable[[], Design]] = {
    "feed": Feed,
    "always list": lambda: Feed("list"),
    "always single": lambda: Feed("single"),
    "one each": lambda: OneEach(pause_after_answer=False),
    "arroyo rule": lambda: OneEach(pause_after_answer=True),
    "http sensor": HttpSensor,
}
