"""Who did what to which pipeline on a page, and with what result, as rows of Airflow's audit log.

Arroyo responds before it applies an action. So an action gets a first row with Arroyo's response, and a second one
once its effect shows. A :class:`.PipelineWait` decides that, as for tasks; it observes what the pages' watch sees.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool

from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.plugin import airflow_db
from airflow_provider_arroyo.plugin.actions import Acted
from airflow_provider_arroyo.plugin.watch import LIST_SECONDS, Watch

log = logging.getLogger(__name__)

MAX_FOLLOWED = 100
"""How many actions are followed at once; for further ones, only the request is recorded."""

ENDED = "ended"
"""The suffix of the event's name in the second row: ``arroyo.stop.ended``."""


class Audit:
    """Writes the rows of the audit log.

    :param watch_of: returns the watch of a connection.
    """

    def __init__(self, watch_of: Callable[[str], Watch]) -> None:
        self._watch_of = watch_of
        self._followed: set[asyncio.Task[None]] = set()

    async def record(self, acted: Acted) -> None:
        """Write the request; if its effect is to follow, wait for it in the background."""
        await _write(acted, f"arroyo.{acted.action}", acted.requested())
        wait = acted.wait()
        if wait is None or len(self._followed) >= MAX_FOLLOWED:
            return
        task = asyncio.get_running_loop().create_task(self._follow(acted, wait), name="arroyo-audit")
        self._followed.add(task)
        task.add_done_callback(self._followed.discard)

    async def _follow(self, acted: Acted, wait: PipelineWait) -> None:
        def watch_of() -> Watch:
            return self._watch_of(acted.connection_id)

        try:
            result = await follow(watch_of, wait)
            await _write(acted, f"arroyo.{acted.action}.{ENDED}", acted.ended(result))
        except Exception:
            log.exception("The outcome of an action is unknown: %s by %s", acted.action, acted.user_name)


async def follow(
    watch_of: Callable[[], Watch],
    wait: PipelineWait,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> WaitResult:
    """Let a wait observe what the pages' watch sees, until the wait is over.

    :param watch_of: returns the watch; later it may be another one, since unused ones are dropped.
    :param wait: decides.
    :param now: seconds since the epoch.
    :param sleep: sleeps for a number of seconds.
    """
    watch = watch_of()
    server = watch.server

    def take() -> None:
        observe_list(wait, watch, server, now())

    try:
        while not (result := wait.tick(now())).is_over:
            # Also what is fetched for pages in between, so that every state that a user saw is observed.
            watch.listeners.add(take)
            await sleep(LIST_SECONDS)
            if (present := watch_of()) is not watch:
                watch.listeners.discard(take)
                watch = present
                watch.listeners.add(take)
            await watch.refresh()
    finally:
        watch.listeners.discard(take)
    return result


def observe_list(
    wait: PipelineWait, watch: Watch, server: str, now: float, *, with_reason: bool = True
) -> None:
    """Let a wait observe the list that was just fetched.

    :param wait: the wait.
    :param watch: the watch with the list.
    :param server: the address of the Arroyo that has the pipeline; the list of another one proves nothing.
    :param now: seconds since the epoch.
    :param with_reason: whether to keep Arroyo's reason of a failure, which may repeat secrets; default True.
    """
    row = watch.snapshot.rows.get(wait.plan.pipeline.pipeline_id)
    if row is not None:
        wait.observe(row.job if with_reason or not row.job else replace(row.job, failure=None), now)
    elif watch.server == server and watch.snapshot.is_gone(wait.plan.pipeline.pipeline_id):
        wait.observe_missing(now)


async def _write(acted: Acted, event: str, extra: dict[str, Any]) -> None:
    try:
        await run_in_threadpool(
            airflow_db.write_audit_log,
            event,
            user_name=acted.user_name,
            owner=acted.owner,
            extra=extra,
        )
    except Exception:
        # The action itself was carried out, and the page must say so.
        log.exception("The audit log could not be written: %s by %s: %s", event, acted.user_name, extra)
