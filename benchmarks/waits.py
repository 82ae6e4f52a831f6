"""Many waits on one event loop: how soon a change is noticed, and what waiting costs."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
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
    """The result of one run with many waits."""

    lateness: list[float]
    missed: int
    cpu_percent: float
    megabytes: float
    requests_per_second: float
    server_cpu_percent: float
    blocked_seconds: float


def run(design: str, waits: int, jobs: int, effort: Effort, *, seed: int, burst: bool = False) -> Run:
    """Start the waits, and measure first while nothing happens, then while pipelines change.

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
            outcome = waiters.ask(do="results")
    seen = _compare(changes, outcome["results"])
    return Run(
        lateness=[1000 * (seen_at - changed_at) for changed_at, seen_at in seen],
        missed=len(changes) - len(seen),
        cpu_percent=quiet["cpu_percent"],
        megabytes=quiet["megabytes"],
        requests_per_second=spent["requests"] / spent["seconds"],
        server_cpu_percent=100 * spent["cpu_seconds"] / spent["seconds"],
        blocked_seconds=outcome["blocked_seconds"],
    )


def _compare(changes: Sequence[Any], results: Sequence[Any]) -> list[tuple[float, float]]:
    """Return when each change happened, and when its waiter saw it; without those that were missed."""
    seen_at: dict[tuple[str, str], deque[float]] = defaultdict(deque)
    for name, state, moment in results:
        seen_at[name, state].append(moment)
    return [
        (moment, seen_at[name, state].popleft()) for name, state, moment in changes if seen_at[name, state]
    ]


def waits_table(effort: Effort, plan: dict[str, list[int]]) -> list[Table]:
    """Measure detection, load, requests and memory.

    :param plan: for each design, the numbers of waits.
    """
    detection = Table(
        "Detection: the server's change to the waiter's result, milliseconds",
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
        "As many pipelines on the server as there are waits. “one each” polls every 100 ms over one shared "
        "aiohttp session; “arroyo rule” is that of Arroyo's command line, a poll and then 100 ms of sleep; "
        "“http sensor” is Airflow's `HttpSensorTrigger` at 0.1 s, which waits for a pipeline to exist."
    )
    load.note(
        "Memory is what the process grew by over itself before the first wait, libraries loaded by waiting included."
    )
    return [detection, load]


def burst_table(effort: Effort, waits: int) -> Table:
    """Measure the waits while all pipelines change in the same second."""
    table = Table(
        f"A burst: {waits:,} pipelines change in one second",
        "every wait informed within 1 s; the loop never blocked over 50 ms",
        ["design", "seen", "missed", "p50, ms", "worst, ms", "longest block of the loop, ms"],
    )
    print(table.title, flush=True)
    for design in ("shared poller", "one each"):
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


def events_table(effort: Effort, watchers: Sequence[int]) -> Table:
    """Measure what event watchers cost while nothing happens, and how soon they report events.

    :param watchers: how many of them, on one connection.
    """
    jobs = max(watchers)
    table = Table(
        f"Watchers for events on one connection with {jobs:,} pipelines",
        "1,000 cost at most 1.5 × what one does: requests and CPU; every event within 1 s",
        [
            "watchers",
            "requests/s",
            "loop's CPU, % of a core",
            "memory, MB",
            "events",
            "missed",
            "p50, ms",
            "worst, ms",
        ],
    )
    print(table.title, flush=True)
    for count in watchers:
        runs = [
            run("event watchers", count, jobs, effort, seed=seed, burst=True)
            for seed in range(effort.repeats)
        ]
        table.add(
            f"{count:,}",
            spread([one.requests_per_second for one in runs], 0),
            spread([one.cpu_percent for one in runs]),
            spread([one.megabytes for one in runs]),
            str(sum(len(one.lateness) for one in runs)),
            str(sum(one.missed for one in runs)),
            spread([percentile(one.lateness, 0.5) for one in runs], 0),
            spread([max(one.lateness) for one in runs], 0),
        )
    table.note(
        "Each is an `ArroyoPipelineEventTrigger` for a pipeline of its own, as a triggerer runs it. The events come "
        "when all of the pipelines that are watched stop within one second."
    )
    return table


@dataclass
class _Change:
    """A change in a crowd, and the poll that was sent first after it; all in milliseconds.

    :param lateness: the change to the waiter's result.
    :param after_response: that poll's response to the waiter's result.
    :param duration: that poll's.
    :param interval: from the poll before it.
    """

    lateness: float
    after_response: float
    duration: float
    interval: float


def many_table(effort: Effort, waits: int) -> Table:
    """Measure a crowd on one connection: quiet, while every response is parsed, and how late changes are seen."""
    table = Table(
        f"{waits:,} waits on one connection with {waits:,} jobs",
        "≤ 10 % of a core while nothing changes, ≤ 50 % when every response must be parsed; a change told within "
        "the poll's duration plus half its interval (p50), plus its interval and 20 ms (p99)",
        [
            "CPU quiet, % of a core",
            "CPU parsing, % of a core",
            "memory, MB",
            "poll's duration, ms",
            "its interval, ms",
            "p50, ms",
            "p50 allowed, ms",
            "p99, ms",
            "told within what p99 allows, % of changes",
            "later than the poll's response: p99, ms",
            "changes",
            "missed",
        ],
    )
    print(table.title, flush=True)
    runs = [_many(waits, effort, seed) for seed in range(effort.repeats)]
    changes: list[_Change] = [change for one in runs for change in one["changes"]]
    lateness = [one.lateness for one in changes]
    within = [one for one in changes if one.lateness <= one.duration + one.interval + 20]
    table.add(
        spread([one["quiet"]["cpu_percent"] for one in runs]),
        spread([one["parsing"]["cpu_percent"] for one in runs]),
        spread([one["quiet"]["megabytes"] for one in runs]),
        spread([one.duration for one in changes], 0),
        spread([one.interval for one in changes], 0),
        f"{percentile(lateness, 0.5):.0f}",
        f"{percentile([one.duration + one.interval / 2 for one in changes], 0.5):.0f}",
        f"{percentile(lateness, 0.99):.0f}",
        f"{100 * len(within) / len(changes):.1f}",
        f"{percentile([one.after_response for one in changes], 0.99):.0f}",
        str(len(changes)),
        str(sum(one["missed"] for one in runs)),
    )
    table.note(
        "“The poll” of a change is the one that was sent first after it; its interval begins with the poll before. "
        "Duration, interval and what is allowed are those of each change's own poll: more changes fall into a long "
        "interval than into a short one."
    )
    return table


def _many(waits: int, effort: Effort, seed: int) -> dict[str, Any]:
    with child("server", str(waits), "0.16") as server:
        begun = server.read()
        with child("waiters") as waiters:
            waiters.send(
                design="shared poller",
                url=begun["url"],
                pipelines=begun["pipelines"],
                states=STATES,
                once=False,
            )
            waiters.read()
            time.sleep(4 * effort.settle_seconds)
            quiet = waiters.ask(do="measure", seconds=effort.quiet_seconds)
            seconds = 2 * effort.change_seconds
            # More often than the polls, so that all responses differ.
            server.send(
                do="change", pipelines=begun["pipelines"], count=int(20 * seconds), seconds=seconds, seed=seed
            )
            parsing = waiters.ask(do="measure", seconds=seconds - 1)
            changed = server.read()["changes"]
            time.sleep(3.0)
            outcome = waiters.ask(do="results")
            polls = waiters.ask(do="polls")["polls"]
    seen = _compare(changed, outcome["results"])
    return {
        "quiet": quiet,
        "parsing": parsing,
        "changes": [_against_its_poll(*one, polls) for one in seen],
        "missed": len(changed) - len(seen),
    }


def _against_its_poll(changed_at: float, seen_at: float, polls: Sequence[tuple[float, float]]) -> _Change:
    (before, _), (sent_at, read_at) = next(pair for pair in pairwise(polls) if pair[1][0] >= changed_at)
    spans = (seen_at - changed_at, seen_at - read_at, read_at - sent_at, sent_at - before)
    return _Change(*(1000 * seconds for seconds in spans))
