"""Threads that run blocking functions for an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
import weakref

import pytest

from airflow_provider_arroyo.polling import connection
from airflow_provider_arroyo.polling.connection import DaemonThreads


def of_name(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


async def gone(name: str) -> None:
    async with asyncio.timeout(10):
        while of_name(name):  # noqa: ASYNC110  # threads that end set no event of this loop
            await asyncio.sleep(0.005)


async def test_results_and_exceptions_are_returned() -> None:
    pool = DaemonThreads("t-results")
    assert await pool.run(threading.current_thread) in of_name("t-results")
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 / 0)
    with pytest.raises(SystemExit):
        await pool.run(sys.exit)
    assert await asyncio.gather(*(pool.run(lambda n=n: n) for n in range(50))) == list(range(50))  # type: ignore[misc]  # a default binds it


async def test_an_idle_thread_is_used_again_and_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = DaemonThreads("t-idle")
    seen = set()
    for _ in range(200):
        seen.add(await pool.run(threading.get_ident))
    # A thread that has just returned a result may not be idle yet.
    assert len(seen) == len(of_name("t-idle")) < 100
    monkeypatch.setattr(connection, "_IDLE_SECONDS", 0.01)
    pool = DaemonThreads("t-ends")
    for _ in range(2):
        assert await pool.run(lambda: "again") == "again"
        await gone("t-ends")


async def test_calls_run_concurrently_up_to_the_limit() -> None:
    pool = DaemonThreads("t-many")
    barrier = threading.Barrier(20)
    async with asyncio.timeout(20):
        await asyncio.gather(*(pool.run(barrier.wait) for _ in range(20)))
    assert len(of_name("t-many")) <= 20


async def test_the_threads_of_a_burst_end_while_calls_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread keeps memory of its own, and used in turn they would never be idle long enough."""
    pool = DaemonThreads("t-burst")
    barrier = threading.Barrier(5)
    async with asyncio.timeout(20):
        monkeypatch.setattr(connection, "_IDLE_SECONDS", 0.5)
        await asyncio.gather(*(pool.run(barrier.wait) for _ in range(5)))
        while len(of_name("t-burst")) > 1:
            await pool.run(lambda: None)
            await asyncio.sleep(0.02)


async def test_starting_and_ending_threads_loses_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_IDLE_SECONDS", 0.0005)
    pool = DaemonThreads("t-churn")

    async def work(number: int) -> int:
        for _ in range(100):
            await asyncio.sleep(number % 7 * 0.0001)
            assert await pool.run(lambda: number) == number
        return number

    async with asyncio.timeout(30):
        assert await asyncio.gather(*(work(number) for number in range(10))) == list(range(10))
    await gone("t-churn")
    assert await pool.run(lambda: "again") == "again"


async def test_a_cancelled_caller_leaves_the_thread_usable() -> None:
    pool = DaemonThreads("t-cancel")
    began, end = threading.Event(), threading.Event()

    def block() -> None:
        began.set()
        end.wait(10)
        raise ValueError("ignored")

    task = asyncio.create_task(pool.run(block))
    async with asyncio.timeout(10):
        while not began.is_set():  # noqa: ASYNC110  # set by a thread
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await pool.run(lambda: "another") == "another"
        end.set()
        assert await pool.run(lambda: "the next") == "the next"


async def test_threads_have_no_context_and_hold_on_to_nothing() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="no task")
    who.set("me")
    pool = DaemonThreads("t-context")
    assert await pool.run(who.get) == "no task"

    class Big:
        pass

    result = await pool.run(Big)
    ref = weakref.ref(result)
    del result
    async with asyncio.timeout(10):
        while ref() is not None:  # noqa: ASYNC110  # the thread is about to release it
            await asyncio.sleep(0.001)


def test_a_hanging_thread_does_not_keep_a_process_from_ending() -> None:
    code = (
        "import asyncio, threading\n"
        "from airflow_provider_arroyo.polling.connection import DaemonThreads\n"
        "async def main():\n"
        "    began = threading.Event()\n"
        "    task = asyncio.create_task(DaemonThreads('t').run(lambda: (began.set(), threading.Event().wait())))\n"
        "    while not began.is_set(): await asyncio.sleep(0.001)\n"
        "asyncio.run(main())\n"
    )
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", code], timeout=60, capture_output=True, text=True, check=False
    )  # our own code
    assert (ended.returncode, ended.stderr) == (0, "")
    assert time.monotonic() - began < 60
