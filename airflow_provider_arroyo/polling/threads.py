"""Runs blocking functions for an event loop in daemon threads, so that they do not keep a process from ending."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a blocking function in a thread."""

Work = tuple[Future[Any], Callable[[], Any]]

_IDLE_SECONDS = 10.0


class DaemonThreads:
    """A pool with as many threads as there are running functions; the caller must limit their number.

    :param name: name of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: list[queue.SimpleQueue[Work]] = []

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function in a thread and return its result; if cancelled, it continues and its result is dropped."""
        future: Future[T] = Future()
        try:
            # The thread that became idle last, so that the others end and return their memory.
            work = self._idle.pop()
        except IndexError:
            work = queue.SimpleQueue()
            threading.Thread(target=self._loop, args=[work], name=self._name, daemon=True).start()
        work.put((future, function))
        return await asyncio.wrap_future(future)

    def _loop(self, work: queue.SimpleQueue[Work]) -> None:
        while True:
            try:
                future, function = work.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                try:
                    self._idle.remove(work)
                except ValueError:
                    continue  # a function for it is about to be added
                return
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as err:  # noqa: BLE001  # handed to the coroutine that waits
                    future.set_exception(err)
            # An idle thread keeps no references.
            del future, function
            self._idle.append(work)
