"""What becomes of a pipeline when its task is killed: it goes on, unless a stop was asked for, and then is due.

A stop is due only if the task instance really was ended, and only for the very run that the task watched.
Airflow also kills what it merely moves: a worker that shuts down, a triggerer that lost its triggers to
another one; and after a clear, the old try can be killed when the new one has taken the pipeline up already.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.listing import newest_job
from airflow_provider_arroyo.arroyo.models import Job, StopMode
from airflow_provider_arroyo.monitoring.explain import Subject
from airflow_provider_arroyo.monitoring.verdict import job_to_dict
from airflow_provider_arroyo.monitoring.watched import Watched, how_to_stop, refusal

T = TypeVar("T")

WAIT_XCOM_KEY = "arroyo_wait"
"""Where a task notes which run it watches, in which try, and whether that wait is over. An error in the triggerer
tells nothing; after a clear the state of the task is that of a later try, which may have succeeded already; and
of two triggerers that both run a wait one is told to end it when the other one's event has made its task green."""

ENDED_STATES = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})
"""States of a task instance that no new try follows of itself. One that was cleared has none of them."""

WORKER_SECONDS = 4.0
"""How long it may take in a worker, which Airflow kills for good after 5 seconds."""

TRIGGERER_SECONDS = 20.0
"""How long it may take in a triggerer, where Airflow allows 30 seconds."""


class TaskIdentity(Protocol):
    """What names a task instance, and a try of it."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int | None
    try_number: int


def state_in(answer: Mapping[str, Mapping[str, Any]], ti: TaskIdentity) -> str | None:
    """Return the state of a task instance from Airflow's answer about task states."""
    key = ti.task_id if _map_index(ti) < 0 else f"{ti.task_id}_{_map_index(ti)}"
    state = answer.get(ti.run_id, {}).get(key)
    return None if state is None else str(getattr(state, "value", state))


def let_go(
    *,
    client: Any,
    watched: Watched,
    mode: StopMode | None,
    ti: Any,
    is_timeout: bool,
    log: Any,
    limit_seconds: float = WORKER_SECONDS,
) -> bool:
    """See to the pipeline of a task that ends in the worker, and say in the log what becomes of it.

    Never waits for a stop to finish, and never raises.

    :param client: a synchronous client.
    :param watched: what the task watched.
    :param mode: how to stop; None leaves the pipeline running.
    :param ti: the task instance, to ask Airflow for its state.
    :param is_timeout: whether the task ends because its time is up, so that Airflow need not be asked.
    :param log: gets one line.
    :param limit_seconds: how long it may take in all.
    :return: whether a stop was asked for.
    """
    if mode is None:
        log.info("This task ends. %s", how_to_stop(watched))
        return False
    limit = time.monotonic() + limit_seconds
    if not is_timeout:
        try:
            state, noted = _in_time(lambda: _state_and_note(ti), limit_seconds / 2)
        except Exception as err:  # noqa: BLE001  # the task ends here whatever Airflow answers, so it is logged
            log.warning(
                "This task was interrupted, its state in Airflow cannot be told (%r). %s",
                err,
                how_to_stop(watched),
            )
            return False
        if state not in ENDED_STATES:
            log.warning(
                "This task was interrupted, its state in Airflow is %s. %s", state, how_to_stop(watched)
            )
            return False
        if over := _over_already(noted, ti):
            log.warning("This try was interrupted, and %s. %s goes on", over, watched.label)
            return False
    try:
        job = newest_job(client.call(api.pipeline_jobs(watched.pipeline_id), deadline=limit))
        if why_not := refusal(job, watched):
            log.warning("%s is not stopped: %s", watched.label, why_not)
            return False
        client.call(api.patch_pipeline(watched.pipeline_id, stop=mode), deadline=limit)
    except Exception as err:  # noqa: BLE001  # the task ends here whatever fails, so it is logged
        log.error("The stop of a task that ended did not get through: %s. %s", err, how_to_stop(watched))
        return False
    log.warning("%s was asked to stop (%s), because its task ended", watched.label, mode.value)
    return True


async def let_go_async(
    *,
    connect: Callable[[], Awaitable[Any]],
    watched: Watched,
    mode: StopMode | None,
    ti: Any,
    log: Any,
    limit_seconds: float = TRIGGERER_SECONDS,
) -> bool:
    """See to the pipeline of a task that ends while its wait is in a triggerer.

    It is seen to its end even if this is cancelled meanwhile: Airflow 3.3 cancels a trigger that is to end
    once a second until it is out, and what sees to its pipeline along with it.

    :param connect: a coroutine function that returns an asynchronous client.
    :param watched, mode, ti, log, limit_seconds: as for :func:`let_go`.
    :return: whether a stop was asked for.
    """
    return await _unbroken(_let_go_async(connect, watched, mode, ti, log, limit_seconds))


async def _let_go_async(
    connect: Callable[[], Awaitable[Any]],
    watched: Watched,
    mode: StopMode | None,
    ti: Any,
    log: Any,
    limit_seconds: float,
) -> bool:
    limit = time.monotonic() + limit_seconds
    try:
        state, noted = await _in_time_async(_state_and_note_async(ti), limit_seconds / 2)
    except Exception as err:  # noqa: BLE001  # the wait ends here whatever Airflow answers, so it is logged
        log.warning(
            "This wait was interrupted, the state of its task in Airflow cannot be told (%r). %s",
            err,
            how_to_stop(watched),
        )
        return False
    if state == "deferred":
        is_same_try = noted.get("try_number") == ti.try_number
        where = "in another triggerer" if is_same_try else "in a later try of its task"
        log.info("The wait goes on %s. %s goes on", where, watched.label)
        return False
    if mode is None or state not in ENDED_STATES:
        log.info("The task of this wait is %s now. %s", state or "cleared", how_to_stop(watched))
        return False
    if over := _over_already(noted, ti):
        log.info("This wait is over: %s. %s goes on", over, watched.label)
        return False
    try:
        why_not = await _in_time_async(_stop(connect, watched, mode, limit), limit - time.monotonic())
    except Exception as err:  # noqa: BLE001  # the wait ends here whatever fails, so it is logged
        log.error("The stop of a task that ended did not get through: %s. %s", err, how_to_stop(watched))
        return False
    if why_not:
        log.warning("%s is not stopped: %s", watched.label, why_not)
        return False
    log.warning("%s was asked to stop (%s), because its task ended", watched.label, mode.value)
    return True


async def _stop(
    connect: Callable[[], Awaitable[Any]], watched: Watched, mode: StopMode, limit: float
) -> str | None:
    """Ask a pipeline to stop, and return None; or why it must not be."""
    client = await connect()
    try:
        job = newest_job(await client.call(api.pipeline_jobs(watched.pipeline_id), deadline=limit))
        if why_not := refusal(job, watched):
            return why_not
        await client.call(api.patch_pipeline(watched.pipeline_id, stop=mode), deadline=limit)
    finally:
        await client.aclose()
    return None


def _map_index(ti: TaskIdentity) -> int:
    """Return the map index; -1 also where Airflow says None for a task that is not mapped."""
    return -1 if ti.map_index is None else ti.map_index


def _question(ti: TaskIdentity) -> dict[str, Any]:
    question: dict[str, Any] = {"dag_id": ti.dag_id, "task_ids": [ti.task_id], "run_ids": [ti.run_id]}
    if _map_index(ti) >= 0:
        question["map_index"] = ti.map_index
    return question


def note_wait(ti: Any, subject: Subject, job: Job | None, *, is_over: bool = False) -> None:
    """Note what a try of a task watches, for :func:`noted_wait`.

    :param is_over: whether the wait has come to an end of its own: from then on whoever ends it comes too late.
    """
    ti.xcom_push(
        key=WAIT_XCOM_KEY,
        value={
            "pipeline_id": subject.pipeline_id,
            "name": subject.name,
            "job": job_to_dict(job) if job else None,
            "try_number": ti.try_number,
            "is_over": is_over,
        },
    )


def noted_wait(ti: Any) -> Mapping[str, Any]:
    """Return what this task instance noted about its wait; empty where it noted nothing."""
    # Without an index, Airflow returns what all the mapped instances noted.
    return _note(ti.xcom_pull(task_ids=ti.task_id, key=WAIT_XCOM_KEY, map_indexes=_map_index(ti)))


def _note(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _over_already(noted: Mapping[str, Any], ti: TaskIdentity) -> str | None:
    """Return why this wait was over before its task was ended; None where it was not."""
    if noted.get("try_number") != ti.try_number:
        return "a later try of its task has begun"
    return "its task had come to its own end already" if noted.get("is_over") else None


def _state_and_note(ti: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Ask Airflow for the state of a task instance, then for what it noted about its wait.

    In this order: Airflow forgets the note when the next try begins, before that can come to any end; and the end
    of a wait is noted before its task comes to its own.
    """
    state = state_in(ti.get_task_states(**_question(ti)), ti)
    return state, noted_wait(ti)


async def _state_and_note_async(ti: TaskIdentity) -> tuple[str | None, Mapping[str, Any]]:
    """Ask as :func:`_state_and_note` does, from a triggerer's event loop."""
    # Airflow gives triggers no public way to ask; these names are the same from 3.0.6 to 3.3.
    from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    states: Any = await SUPERVISOR_COMMS.asend(GetTaskStates(**_question(ti)))
    state = state_in(states.task_states, ti)
    noted: Any = await SUPERVISOR_COMMS.asend(
        GetXCom(
            key=WAIT_XCOM_KEY,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=_map_index(ti),
        )
    )
    return state, _note(await asyncio.to_thread(_deserialized, noted))


def _deserialized(result: Any) -> Any:
    """Return the value of an XCom as its backend, which may do I/O, gives it back."""
    from airflow.sdk.execution_time.xcom import XCom

    return None if result.value is None else XCom.deserialize_value(result)


async def _unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Return what some work comes to, which must be bounded in time, however often this is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    _left_alone.add(task)
    task.add_done_callback(_forget)
    while not task.done():
        # Where it is cancelled so often that whoever waits gives up, the task goes on all the same.
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()


async def _in_time_async(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Return what some work comes to.

    What takes too long is left to end by itself: all of a triggerer shares one line to its supervisor, and
    whoever is cancelled between question and answer leaves his answer to the next who asks.

    :raises TimeoutError: if it is not done in time.
    """
    task = asyncio.ensure_future(work)
    _left_alone.add(task)
    task.add_done_callback(_forget)
    done, _ = await asyncio.wait({task}, timeout=max(0.0, seconds))
    if not done:
        raise TimeoutError(f"no answer in {seconds:.1f} s")
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Exception):
        raise error
    if task.cancelled() or error is not None:
        raise RuntimeError(f"it was broken off ({error!r})") from error
    return task.result()


_left_alone: set[asyncio.Future[Any]] = set()
"""Kept, since the event loop alone does not keep its tasks alive."""


def _forget(task: asyncio.Future[Any]) -> None:
    _left_alone.discard(task)
    if not task.cancelled():
        # Looked at, so that asyncio does not report that nobody did.
        task.exception()


def _in_time(ask: Callable[[], T], seconds: float) -> T:
    """Return the answer to a question.

    It is asked in a thread of its own: the signal that led here may have interrupted the very exchange with
    the supervisor that the question needs to wait for.

    :raises TimeoutError: if it is not answered in time.
    """
    answered: Future[T] = Future()

    def run() -> None:
        try:
            answered.set_result(ask())
        except BaseException as err:  # noqa: BLE001  # told to the thread that waits; Airflow has some of its own
            answered.set_exception(RuntimeError(f"{type(err).__name__}: {err}"))

    threading.Thread(target=run, daemon=True, name="arroyo-task-state").start()
    try:
        return answered.result(seconds)
    except TimeoutError as err:
        raise TimeoutError(f"no answer in {seconds:.1f} s") from err
