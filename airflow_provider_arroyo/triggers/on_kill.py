"""What happens to a pipeline if its task is killed while its wait runs in a triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.on_kill import (
    ENDED_STATES,
    WAIT_XCOM_KEY,
    WatchedRun,
    reason_not_ended,
    request_stop,
)
from airflow_provider_arroyo.triggers.supervisor import pull_xcom, task_state, uncancelled, within_seconds

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.enums import StopMode

TRIGGERER_SECONDS = 25.0
"""How long this may take in a triggerer, in seconds; Airflow allows 30."""

STOP_SECONDS = 5.0
"""The part of that time reserved for the stop itself, in seconds. A triggerer's first request to Airflow takes five
seconds of work, and several times as long on a busy machine.
"""


@uncancelled
async def stop_on_kill_async(
    connect: Callable[[], Awaitable[ArroyoClient]],
    watched: WatchedRun,
    mode: StopMode | None,
    *,
    ti: Any,
    log: Any,
    limit_seconds: float = TRIGGERER_SECONDS,
) -> bool:
    """Stop the pipeline of a task that ends during its wait in a triggerer, if wanted and allowed.

    The stop completes even if this call is cancelled: Airflow 3.3 cancels a trigger once a second until it has ended,
    together with its ``on_kill``.

    :param connect: an async function that returns a client.
    :param watched, mode, ti, log, limit_seconds: see :func:`stop_on_kill`.
    :returns: whether a stop was requested.
    """
    deadline = time.monotonic() + limit_seconds
    ask_seconds = max(limit_seconds / 2, limit_seconds - STOP_SECONDS)
    try:
        state, noted = await within_seconds(_ask_airflow(ti), ask_seconds)
    except Exception as err:  # noqa: BLE001  # the wait ends whatever Airflow responds, so it is logged
        log.warning(
            "This wait was killed, and the state of its task is unknown (%r). %s", err, watched.advice
        )
        return False
    if state == "deferred":
        is_same_try = noted.get("try_number") == ti.try_number
        where = " in another triggerer" if is_same_try else " in a later try of its task"
        # A sensor stops nothing and stores no note, so here the two cannot be told apart.
        log.info("The wait continues%s. %s keeps running", where if noted else "", watched.pipeline.label)
        return False
    is_unknown = mode is None and not noted and state in ENDED_STATES
    reason = None if is_unknown else reason_not_ended(state, noted, ti.try_number)
    if mode is None or reason is not None:
        log.info("This wait was killed%s. %s", f", but {reason}" if reason else "", watched.advice)
        return False
    try:
        client = await within_seconds(connect(), deadline - time.monotonic())
    except Exception as err:  # noqa: BLE001  # as above
        log.error("The stop of a task that ended failed: %s. %s", err, watched.advice)
        return False
    with client:
        return await asyncio.to_thread(request_stop, client, watched, mode, deadline, log)


async def _ask_airflow(ti: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Return the state of a task instance, then its note about the wait, in the same order as a worker."""
    state = await task_state(ti)
    value = await pull_xcom(ti, WAIT_XCOM_KEY)
    return state, value if isinstance(value, Mapping) else {}
