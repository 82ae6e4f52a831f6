"""Many waits on one event loop: how soon a change is noticed, and what waiting costs meanwhile."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.processes import child
from benchmarks.report import Table, percentile, spread

STATES = ["Stopped", "Running"]
THERE = ["there"]
LEAST_GAP_SECONDS = 0.5
"""Between two changes of one pipeline, so that none is missed."""


@dataclass
class Effort:
    """How long to measure."""

    repeats: int
    settle_seconds: float
    quiet_seconds: float
    change_seconds: float


@dataclass
class Run:
    """What one run of many waits showed."""

    lateness: list[float]
    missed: int
    cpu_percent: float
    megabytes: float
    requests_per_second: float
    server_cpu_percent: float
    blocked_seconds: float


def run(design: str, waits: int, jobs: int, effort: Effort, *, seed: int, burst: bool = False) -> Run:
    """Let so many wait, first while nothing happens, then while pipelines change.

    :param design: one of ``designs.DESIGNS``.
    :param jobs: how many pipelines the server has.
    :param burst: whether all change within one second, instead of one after another.
    """
    creates = design == "http sensor"
    with child("server", str(jobs), "0.16") as server:
        begun = server.read()
        names = [f"bench-{seed}-{n}" for n in range(waits)] if creates else begun["pipelines"][:waits]
        count = (
            waits
            if burst or creates
            else max(waits, min(300, int(effort.change_seconds / LEAST_GAP_SECONDS * waits)))
        )
        with child("waiters") as waiters:
            waiters.send(
                design=design,
                url=begun["url"],
                pipelines=names,
                states=THERE if creates else STATES,
                once=count <= waits,
            )
            waiters.read()
            time.sleep(effort.settle_seconds)
            server.ask(do="mark")
            quiet = waiters.ask(do="measure", seconds=effort.quiet_seconds)
            spent = server.ask(do="spent")
            if burst:
                waiters.ask(do="watch the loop")
                time.sleep(1)
            seconds = 1.0 if burst else effort.change_seconds
            how = {"do": "create"} if creates else {"do": "change", "count": count}
            changes = server.ask(**how, pipelines=names, seconds=seconds, seed=seed)["changes"]
            time.sleep(3.0)
            told = waiters.ask(do="verdicts")
    lateness, missed = _compare(changes, told["verdicts"])
    return Run(
        lateness=lateness,
        missed=missed,
        cpu_percent=quiet["cpu_percent"],
        megabytes=quiet["megabytes"],
        requests_per_second=spent["requests"] / spent["seconds"],
        server_cpu_percent=100 * spent["cpu_seconds"] / spent["seconds"],
        blocked_seconds=told["blocked_seconds"],
    )


def _compare(changes: Sequence[Any], verdicts: Sequence[Any]) -> tuple[list[float], int]:
    told: dict[tuple[str, str], deque[float]] = defaultdict(deque)
    for name, state, moment in verdicts:
        told[name, state].append(moment)
    lateness = []
    for name, state, moment in changes:
        if told[name, state]:
            lateness.append(1000 * (told[name, state].popleft() - moment))
    return lateness, len(changes) - len(lateness)


def waits_table(effort: Effort, plan: dict[str, list[int]]) -> list[Table]:
    """Measure detection, load, requests and memory.

    :param plan: for each design, the numbers of waits.
    """
    detection = Table(
        "Detection: the server's change to the waiter's verdict, milliseconds",
        "p50 ≤ 60 ms, p99 ≤ 120 ms at 1,000 waits; within 1.2 × of that at 1",
        ["design", "waits", "p50", "p99", "worst", "changes", "missed"],
    )
    load = Table(
        "The cost of waiting while nothing happens",
        "≤ 5 % of a core at 1,000 waits, at most 1.5 × that of 10, 20 × less than one request each at 500; "
        "memory ≤ 30 MB for 1,000 waits",
        [
            "design",
            "waits",
            "loop's CPU, % of a core",
            "memory, MB",
            "requests/s",
            "server's CPU, % of a core",
        ],
    )
    print(detection.title, "and", load.title, flush=True)
    for design, numbers in plan.items():
        for waits in numbers:
            runs = [run(design, waits, waits, effort, seed=seed) for seed in range(effort.repeats)]
            seen = [one for one in runs if one.lateness]
            detection.add(
                design,
                f"{waits:,}",
                spread([percentile(one.lateness, 0.5) for one in seen], 0),
                spread([percentile(one.lateness, 0.99) for one in seen], 0),
                spread([max(one.lateness) for one in seen], 0),
                str(sum(len(one.lateness) for one in runs)),
                str(sum(one.missed for one in runs)),
            )
            load.add(
                design,
                f"{waits:,}",
                spread([one.cpu_percent for one in runs]),
                spread([one.megabytes for one in runs]),
                spread([one.requests_per_second for one in runs], 0),
                spread([one.server_cpu_percent for one in runs]),
            )
    detection.note(
        "As many pipelines on the server as there are waits. “one each” asks every 100 ms over one shared "
        "aiohttp session; “arroyo rule” is that of Arroyo's command line, a look and then 100 ms of sleep; "
        "“http sensor” is Airflow's `HttpSensorTrigger` at 0.1 s, which waits for a pipeline to exist."
    )
    load.note(
        "Memory is what the process grew by over itself before the first wait, libraries loaded by waiting included."
    )
    return [detection, load]


def burst_table(effort: Effort, waits: int) -> Table:
    """Measure what happens when every pipeline changes in the same second."""
    table = Table(
        f"A burst: {waits:,} pipelines change in one second",
        "every wait told within 1 s; the loop never blocked over 50 ms",
        ["design", "told", "missed", "p50, ms", "worst, ms", "longest block of the loop, ms"],
    )
    print(table.title, flush=True)
    for design in ("feed", "one each"):
        runs = [run(design, waits, waits, effort, seed=seed, burst=True) for seed in range(effort.repeats)]
        table.add(
            design,
            str(sum(len(one.lateness) for one in runs)),
            str(sum(one.missed for one in runs)),
            spread([percentile(one.lateness, 0.5) for one in runs], 0),
            spread([max(one.lateness) for one in runs], 0),
            spread([1000 * one.blocked_seconds for one in runs], 0),
        )
    return table


def requests_table(effort: Effort, cells: Sequence[tuple[int, int]]) -> Table:
    """Measure what the feed's choice costs the server, beside either kind of look alone."""
    table = Table(
        "Requests a second at the server, and its time",
        "server time never more than 1.3 × the better of the two",
        [
            "waits",
            "jobs",
            "feed: requests/s",
            "feed: server CPU %",
            "single looks: CPU %",
            "lists: CPU %",
            "feed ÷ better",
        ],
    )
    print(table.title, flush=True)
    for waits, jobs in cells:
        runs = {
            design: [_steady(design, waits, jobs, effort) for _ in range(effort.repeats)]
            for design in ("feed", "always single", "always list")
        }
        cpu = {design: [one["cpu"] for one in some] for design, some in runs.items()}
        better = min(statistics.median(cpu["always single"]), statistics.median(cpu["always list"]))
        table.add(
            f"{waits:,}",
            f"{jobs:,}",
            spread([one["requests"] for one in runs["feed"]], 0),
            spread(cpu["feed"]),
            spread(cpu["always single"]),
            spread(cpu["always list"]),
            f"{statistics.median(cpu['feed']) / better:.2f}",
        )
    table.note(
        "Server time is the CPU time of the sandbox's process, in the steady state. The sandbox keeps the bytes of "
        "its lists, so that they cost it far less than a real server: with 10,000 jobs there, a real one takes some "
        "170 ms for each, and ten single looks are the cheaper choice by far."
    )
    return table


def _steady(design: str, waits: int, jobs: int, effort: Effort) -> dict[str, float]:
    with child("server", str(jobs), "0.16") as server:
        begun = server.read()
        with child("waiters") as waiters:
            waiters.send(
                design=design,
                url=begun["url"],
                pipelines=begun["pipelines"][:waits],
                states=STATES,
                once=True,
            )
            waiters.read()
            # Long enough for the feed to have measured both kinds of look.
            time.sleep(effort.settle_seconds * (4 if design == "feed" else 1))
            server.ask(do="mark")
            time.sleep(effort.quiet_seconds)
            spent = server.ask(do="spent")
    return {
        "requests": spent["requests"] / spent["seconds"],
        "cpu": 100 * spent["cpu_seconds"] / spent["seconds"],
    }


def listed_memory_table(effort: Effort, jobs: int) -> Table:
    """Measure what a long list takes in memory."""
    table = Table(
        f"Memory with {jobs:,} jobs on the server",
        "≤ 30 MB",
        ["design", "waits", "memory, MB", "loop's CPU, % of a core"],
    )
    print(table.title, flush=True)
    runs = []
    for seed in range(effort.repeats):
        with child("server", str(jobs), "0.16") as server:
            begun = server.read()
            with child("waiters") as waiters:
                waiters.send(
                    design="always list",
                    url=begun["url"],
                    pipelines=begun["pipelines"][:1000],
                    states=STATES,
                    once=True,
                )
                waiters.read()
                time.sleep(effort.settle_seconds)
                server.ask(do="change", pipelines=begun["pipelines"][-20:], count=20, seconds=3, seed=seed)
                runs.append(waiters.ask(do="measure", seconds=effort.quiet_seconds))
    table.add(
        "feed, lists only",
        "1,000",
        spread([one["megabytes"] for one in runs]),
        spread([one["cpu_percent"] for one in runs]),
    )
    return table
