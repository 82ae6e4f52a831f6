"""A trigger's requests to Airflow: XComs, and the state of its task. All triggers of a process share one channel.

XComs that Airflow's own events carry are JSON text instead of values. Airflow has no public API for triggers to do
this; the names used here are the same from 3.0.6 to 3.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LIMIT_SECONDS = 30.0
"""How long a request may take, in seconds. A triggerer's first one takes five seconds of work."""


async def push_xcoms(ti: Any, values: Mapping[str, Any]) -> None:
    """Store XComs of a deferred task, as its worker would.

    :param ti: the task instance, as the triggerer knows it.
    :param values: what to store, by key: JSON values.
    :raises TimeoutError: if it takes longer than 30 seconds.
    :raises Exception: any error of Airflow, which then stores nothing.
    """
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    async def push() -> None:
        for key, value in values.items():
            response: Any = await SUPERVISOR_COMMS.asend(await asyncio.to_thread(_message, ti, key, value))
            if error := getattr(response, "error", None):
                raise RuntimeError(f"Airflow did not store XCom {key!r}: {error}")

    await within_seconds(push(), LIMIT_SECONDS)


async def pull_xcom(ti: Any, key: str) -> Any:
    """Return an XCom of a deferred task; None if it has none with that key.

    :param ti: see :func:`push_xcoms`.
    :param key: its key.
    :raises TimeoutError: if it takes longer than 30 seconds.
    :raises Exception: any error of Airflow.
    """
    return await within_seconds(_pull(ti, key), LIMIT_SECONDS)


async def task_state(ti: Any) -> str | None:
    """Return the state of a deferred task in Airflow; None if it has none.

    :param ti: see :func:`push_xcoms`.
    :raises Exception: any error of Airflow.
    """
    from airflow.sdk.execution_time.comms import GetTaskStates
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    from airflow_provider_arroyo.on_kill import question_about, state_in

    states: Any = await SUPERVISOR_COMMS.asend(GetTaskStates(**question_about(ti)))
    return state_in(states.task_states, ti)


async def within_seconds(work: Awaitable[T], seconds: float) -> T:
    """Return the result of some work.

    Work that takes too long is not cancelled: a whole triggerer shares one channel to its supervisor, and a
    cancelled request would leave its response to the next one.

    :raises TimeoutError: if it is not done in time.
    """
    task = kept(work)
    await asyncio.wait({task}, timeout=max(0.0, seconds))
    if not task.done():
        raise TimeoutError(f"no response in {seconds:.1f} s")
    try:
        return task.result()
    except BaseException as err:  # noqa: BLE001  # Airflow has errors of its own that are no Exception
        from airflow_provider_arroyo.on_kill import as_exception

        raise as_exception(err) from None


_tasks: set[asyncio.Future[Any]] = set()
"""Strong references, since the event loop does not keep its tasks alive."""


def kept(work: Awaitable[T]) -> asyncio.Future[T]:
    """Start work that continues even if its waiter is cancelled."""
    task = asyncio.ensure_future(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    # Retrieved, so that asyncio does not report an error that came too late.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def uncancelled(work: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Wrap a coroutine function so that it finishes, and returns its result, even if it is cancelled meanwhile."""

    @wraps(work)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        task = kept(work(*args, **kwargs))
        while not task.done():
            # If it is cancelled so often that the caller gives up, the work still continues.
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        return task.result()

    return wrapper


async def _pull(ti: Any, key: str) -> Any:
    from airflow.sdk.execution_time.comms import GetXCom
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS
    from airflow.sdk.execution_time.xcom import XCom

    response: Any = await SUPERVISOR_COMMS.asend(GetXCom(key=key, **_where(ti)))
    if getattr(response, "value", None) is None:
        return None
    return await asyncio.to_thread(XCom.deserialize_value, response)


def _where(ti: Any) -> dict[str, Any]:
    from airflow_provider_arroyo.on_kill import map_index_of

    index = map_index_of(ti)
    return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": index}


def _message(ti: Any, key: str, value: Any) -> Any:
    """Return Airflow's message that stores an XCom. The XCom backend, which may do I/O, serializes the value."""
    from airflow.sdk.execution_time.comms import SetXCom
    from airflow.sdk.execution_time.xcom import XCom

    where = _where(ti)
    return SetXCom(key=key, value=XCom.serialize_value(value, key=key, **where), **where)
