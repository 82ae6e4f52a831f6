"""How many requests a pipeline's page in Airflow's UI sends to Arroyo, by the number of viewers."""

from __future__ import annotations

import asyncio
import time

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.retry import Limits
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.plugin.watch import Watch
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from benchmarks.report import Table

_ASKS_EVERY_SECONDS = 2.0


def page_requests_table(seconds: float) -> Table:
    """Watch a pipeline with 0, 1 and 10 viewers, each polling independently.

    :param seconds: how long for each.
    """
    table = Table(
        "A pipeline's own page in Airflow's UI: what it asks of Arroyo",
        "at most 3 requests every 2 s for all viewers, none when hidden",
        ["viewers", "requests every 2 s", "CPU, the sandbox included (share of a core)"],
    )
    with ArroyoSandbox(pipelines=10) as sandbox:
        for viewers in (0, 1, 10):
            requests, share = asyncio.run(_watched(sandbox, viewers, seconds))
            table.add(str(viewers), f"{requests:.2f}", f"{share:.3f}")
    return table


async def _watched(sandbox: ArroyoSandbox, viewers: int, seconds: float) -> tuple[float, float]:
    """Return the requests every two seconds, and the share of a core, including the sandbox's own work."""
    limits = Limits(max_elapsed_seconds=0.0, first_try_seconds=5.0)
    watch = Watch(
        lambda: ArroyoClient(ClientSettings(base_url=sandbox.url), limits=limits), asyncio.to_thread
    )
    await watch.refresh()
    name = next(iter(watch.snapshot.rows))
    for _ in range(3 if viewers else 0):
        await watch.refresh(opened=name)
        await asyncio.sleep(_ASKS_EVERY_SECONDS)

    async def view(delay: float, until: float) -> None:
        await asyncio.sleep(delay)
        while time.monotonic() < until:
            await watch.refresh(opened=name)
            await asyncio.sleep(_ASKS_EVERY_SECONDS)

    before, busy, began = len(sandbox.requests), time.process_time(), time.monotonic()
    delays = (_ASKS_EVERY_SECONDS * number / max(1, viewers) for number in range(viewers))
    await asyncio.gather(asyncio.sleep(seconds), *(view(delay, began + seconds) for delay in delays))
    took = time.monotonic() - began
    watch.close()
    return (len(sandbox.requests) - before) * 2 / took, (time.process_time() - busy) / took
