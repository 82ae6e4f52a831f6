"""Many waits of one design in a process of their own, so that their cost can be measured.

Speaks JSON, a line for a line. The first line in says what to wait for; the others are commands.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from typing import Any

from benchmarks.designs import DESIGNS, Design
from benchmarks.processes import resident_megabytes

LOOP_TICK_SECONDS = 0.002


class Waiters:
    """Waits for pipelines to stop, then to run, then to stop …

    :param design: how to wait.
    :param setup: ``url``, ``pipelines``, ``states`` to wait for in turn, and whether to go on after the ``once``.
    """

    def __init__(self, design: Design, setup: dict[str, Any]) -> None:
        self._design = design
        self._setup = setup
        self._results: list[tuple[str, str, float]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._blocked = 0.0
        self._ticker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._idle_megabytes = resident_megabytes(os.getpid())
        await self._design.open(self._setup["url"])
        self._tasks = [asyncio.create_task(self._wait(name)) for name in self._setup["pipelines"]]

    async def _wait(self, name: str) -> None:
        states = self._setup["states"]
        number = 0
        while True:
            state = states[number % len(states)]
            await self._design.watch(name, state)
            self._results.append((name, state, time.monotonic()))
            number += 1
            if self._setup["once"]:
                return

    async def respond(self, command: dict[str, Any]) -> dict[str, Any]:
        match command:
            case {"do": "measure", "seconds": seconds}:
                wall, cpu = time.monotonic(), time.process_time()
                await asyncio.sleep(seconds)
                wall, cpu = time.monotonic() - wall, time.process_time() - cpu
                gc.collect()
                return {
                    "cpu_percent": 100 * cpu / wall,
                    "megabytes": resident_megabytes(os.getpid()) - self._idle_megabytes,
                }
            case {"do": "polls"}:
                return {"polls": self._design.list_polls}  # type: ignore[attr-defined]  # the shared poller's alone
            case {"do": "watch the loop"}:
                self._ticker = asyncio.create_task(self._tick())
                return {}
            case {"do": "results"}:
                for task in self._tasks:
                    if task.done() and not task.cancelled() and (error := task.exception()):
                        raise error
                return {"results": self._results, "blocked_seconds": self._blocked}
            case _:
                raise ValueError(f"unknown command {command!r}")

    async def _tick(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(LOOP_TICK_SECONDS)
            self._blocked = max(self._blocked, time.monotonic() - before - LOOP_TICK_SECONDS)

    async def close(self) -> None:
        for task in [*self._tasks, *filter(None, [self._ticker])]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._design.close()


async def main() -> None:
    """Wait until standard input ends."""
    # Output of libraries must not appear between the responses.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    setup = json.loads(await reader.readline())
    waiters = Waiters(DESIGNS[setup["design"]](), setup)
    await waiters.start()
    print(json.dumps({"waiting": len(setup["pipelines"])}), file=out, flush=True)
    while line := await reader.readline():
        print(json.dumps(await waiters.respond(json.loads(line))), file=out, flush=True)
    await waiters.close()


if __name__ == "__main__":
    asyncio.run(main())
