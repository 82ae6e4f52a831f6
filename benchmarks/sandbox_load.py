"""The sandbox under load: a fixed number of looks a second, and how long each takes.

``python -m benchmarks.sandbox_load [--pipelines 2000] [--rate 1000] [--connections 100] [--seconds 60]``.
The server runs in a process of its own, on one core. The looks begin when the clock says, not when the
one before has ended, so a server that falls behind shows in the times.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import aiohttp

from benchmarks.processes import cpu_seconds, resident_megabytes, waited_seconds

WARM_UP_SECONDS = 12
"""Until the log of requests is full: from then on memory must not grow."""


@contextlib.contextmanager
def server(pipelines: int) -> Iterator[tuple[str, int]]:
    """A sandbox on one core; yields its address and process id."""
    command = [sys.executable, "-m", "airflow_provider_arroyo.sandbox", "--port", "0"]
    process = subprocess.Popen([*command, "--pipelines", str(pipelines)], stdout=subprocess.PIPE, text=True)
    try:
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(process.pid, {cores[-1]})
            if len(cores) > 1:
                os.sched_setaffinity(0, set(cores[:-1]))
        line = process.stdout.readline() if process.stdout else ""
        yield line.split(" at ")[-1].strip(), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


async def look(url: str, rate: int, connections: int, seconds: float) -> list[float]:
    """Look at single pipelines at a fixed rate; return how long each look took, in milliseconds."""
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(f"{url}/api/v1/jobs") as answer:
            ids = [job["pipeline_id"] for job in (await answer.json())["data"]]
        chosen = random.Random(1)
        took: list[float] = []
        begun = time.perf_counter()
        per_connection = rate / connections

        async def one(number: int) -> None:
            # Each connection has its own beat, evenly spread over the others'.
            beat = 0
            while (due := begun + (beat + number / connections) / per_connection) < begun + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                path = f"{url}/api/v1/pipelines/{chosen.choice(ids)}/jobs"
                async with session.get(path) as answer:
                    body = await answer.read()
                    if answer.status != 200 or b'"Running"' not in body:
                        raise RuntimeError(f"{answer.status}: {body[:200]!r}")
                took.append((time.perf_counter() - due) * 1000)
                beat += 1

        await asyncio.gather(*(one(number) for number in range(connections)))
        return took


def measure(pipelines: int, rate: int, connections: int, seconds: float) -> dict[str, float]:
    """Return the figures of one run."""
    with server(pipelines) as (url, pid):
        asyncio.run(look(url, rate, connections, WARM_UP_SECONDS))
        memory, computed, begun = resident_megabytes(pid), cpu_seconds(pid), time.perf_counter()
        waited = [waited_seconds(pid), waited_seconds(os.getpid())]
        took = sorted(asyncio.run(look(url, rate, connections, seconds)))
        elapsed = time.perf_counter() - begun
        return {
            "pipelines": pipelines,
            "connections": connections,
            "looks": len(took),
            "looks_per_second": round(len(took) / elapsed, 1),
            "p50_ms": round(took[len(took) // 2], 2),
            "p99_ms": round(took[len(took) * 99 // 100], 2),
            "max_ms": round(took[-1], 2),
            "server_cpu_percent": round(100 * (cpu_seconds(pid) - computed) / elapsed, 1),
            "server_waited_for_its_core_percent": round(100 * (waited_seconds(pid) - waited[0]) / elapsed, 1),
            "client_waited_for_its_core_percent": round(
                100 * (waited_seconds(os.getpid()) - waited[1]) / elapsed, 1
            ),
            "memory_before_mb": round(memory, 1),
            "memory_after_mb": round(resident_megabytes(pid), 1),
        }


def main() -> int:
    """Print the figures as JSON; return 1 where the 99th percentile is above 20 ms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipelines", type=int, default=2000)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    figures = measure(options.pipelines, options.rate, options.connections, options.seconds)
    print(json.dumps(figures, indent=2))
    return 0 if figures["p99_ms"] <= 20 else 1


if __name__ == "__main__":
    sys.exit(main())
