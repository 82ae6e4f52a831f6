"""What the tests of the pages use: jobs, pipelines, and a watch on a sandbox whose time they set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.retry import Limits
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.plugin.actions import Acted, Action, ActionOptions
from airflow_provider_arroyo.plugin.facts import Facts
from airflow_provider_arroyo.plugin.watch import Watch
from airflow_provider_arroyo.sandbox import ArroyoSandbox

OWNER = {"dag": "shop", "task": "submit", "run": "r1", "map_index": -1, "namespace": "", "deployment": None}


def job(number: int, state: str = "Running", run: int = 1, **fields: Any) -> Job:
    """Return the job of the pipeline with that number."""
    return Job(id=f"job_{number}", pipeline_id=f"pl_{number}", state=state, run_id=run, **fields)


def facts(number: int, **fields: Any) -> Facts:
    return Facts(**{"pipeline_id": f"pl_{number}", "name": f"orders-{number}", **fields})


def acted(
    action: Action, before: Job | None, failure: ArroyoError | None = None, at: float = 0.0, **more: Any
) -> Acted:
    """Return what a user did to the first pipeline."""
    return Acted(
        action=action,
        options=ActionOptions(**more),
        connection_id="arroyo_tested",
        user_name="jane",
        facts=facts(1),
        owner=OWNER,
        before=before,
        at=at,
        failure=failure,
    )


class WatchBench:
    """A watch on a sandbox, with its own clock, so that its pauses take no time.

    :param sandbox: the sandbox.
    :param adapt: called with its client before that sends anything; default None.
    """

    def __init__(self, sandbox: ArroyoSandbox, adapt: Callable[[ArroyoClient], object] | None = None) -> None:
        self.now = 1000.0
        self.sandbox = sandbox
        self._adapt = adapt
        self.sent_at: list[float] = []
        self.watch = Watch(
            self._connect,
            self._run,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
            sleep=self._sleep,
        )

    def _connect(self) -> ArroyoClient:
        limits = Limits(max_elapsed_seconds=0.0, first_try_seconds=10.0)
        settings = ClientSettings(base_url=self.sandbox.url)
        client = ArroyoClient(settings, limits=limits)
        if self._adapt is not None:
            self._adapt(client)
        return client

    async def _run(self, function: Callable[[], Any]) -> Any:
        self.sent_at.append(self.now)
        return await asyncio.to_thread(function)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def refresh(self, *shown: str, after: float = 2.0) -> None:
        """Refresh after that many seconds, and wait for the details."""
        self.now += after
        await self.watch.refresh(shown)
        await self.settle()

    async def open(self, pipeline_id: str, after: float = 2.0) -> None:
        """Open a pipeline's own page after that many seconds, and wait for its data."""
        self.now += after
        await self.watch.refresh(opened=pipeline_id)
        await self.settle()

    async def settle(self) -> None:
        tasks = (self.watch._list_task, self.watch._reader.task)
        await asyncio.wait_for(asyncio.gather(*(task for task in tasks if task)), timeout=30)

    def names(self) -> set[str]:
        return {row.facts.name for row in self.watch.snapshot.rows.values()}

    def row(self, name: str) -> Any:
        (found,) = (row for row in self.watch.snapshot.rows.values() if row.facts.name == name)
        return found

    def requests(self, path: str) -> int:
        return self.sandbox.requests.count("GET", path)
