"""XComs that a trigger writes and reads. Those of Airflow's own events arrive as JSON text instead of values."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

LIMIT_SECONDS = 30.0
"""How long it may take. The first request to Airflow takes a triggerer five seconds of work."""


async def push_xcoms(ti: Any, values: Mapping[str, Any], *, limit_seconds: float = LIMIT_SECONDS) -> None:
    """Store XComs of a deferred task, as its worker would.

    :param ti: the task instance, as the triggerer knows it.
    :param values: what to store, by key: JSON values.
    :param limit_seconds: how long it may take in all, default 30.
    :raises TimeoutError: if it takes longer.
    :raises Exception: what Airflow raises where it stores nothing.
    """
    from airflow_provider_arroyo.on_kill import within_seconds

    await within_seconds(_push(ti, values), limit_seconds)


async def pull_xcom(ti: Any, key: str, *, limit_seconds: float = LIMIT_SECONDS) -> Any:
    """Return an XCom of a deferred task; None where it has none of that key.

    :param ti, limit_seconds: as for :func:`push_xcoms`.
    :param key: which.
    :raises TimeoutError: if it takes longer.
    :raises Exception: what Airflow raises.
    """
    from airflow_provider_arroyo.on_kill import within_seconds

    return await within_seconds(_pull(ti, key), limit_seconds)


async def _pull(ti: Any, key: str) -> Any:
    from airflow.sdk.execution_time.comms import GetXCom
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS
    from airflow.sdk.execution_time.xcom import XCom

    response: Any = await SUPERVISOR_COMMS.asend(GetXCom(key=key, **_where(ti)))
    if getattr(response, "value", None) is None:
        return None
    return await asyncio.to_thread(XCom.deserialize_value, response)


def _where(ti: Any) -> dict[str, Any]:
    index = -1 if ti.map_index is None else ti.map_index
    return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": index}


async def _push(ti: Any, values: Mapping[str, Any]) -> None:
    # Airflow gives triggers no public way; these names are the same from 3.0.6 to 3.3.
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    for key, value in values.items():
        response: Any = await SUPERVISOR_COMMS.asend(await asyncio.to_thread(_message, ti, key, value))
        if error := getattr(response, "error", None):
            raise RuntimeError(f"Airflow did not store XCom {key!r}: {error}")


def _message(ti: Any, key: str, value: Any) -> Any:
    """Return Airflow's message that stores an XCom; its backend, which may do I/O, serializes the value."""
    from airflow.sdk.execution_time.comms import SetXCom
    from airflow.sdk.execution_time.xcom import XCom

    where = _where(ti)
    return SetXCom(key=key, value=XCom.serialize_value(value, key=key, **where), **where)
