"""A sandbox in its own process. Its pipelines change on command, and it reports when they changed.

Speaks JSON, a line for a line: commands on standard input, responses on standard output.
"""

from __future__ import annotations

import json
import random
import sys
import time
import urllib.request
from typing import Any

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sandbox.populate import QUERY
from airflow_provider_arroyo.sandbox.records import Job

JITTER_SECONDS = 0.15
"""Longer than the interval between polls, so that changes occur anywhere between two polls."""

LATE = "late_"
"""Pipelines whose names begin like this take long to start …"""

LATE_SECONDS = (5.0, 6.0)
"""… so long, which is longer than a deferral takes."""

HELD = "held_"
"""Pipelines whose names begin like this start on command."""


class Script:
    """Makes pipelines of a sandbox change.

    :param sandbox: already running.
    """

    def __init__(self, sandbox: ArroyoSandbox) -> None:
        self._sandbox = sandbox
        self.pipelines = [job.pipeline.id for job in sandbox.store.jobs()]
        self._state = dict.fromkeys(self.pipelines, "Running")
        self._marked = (0.0, 0.0, 0)
        self._ran: dict[str, float] = {}
        self._held: set[str] = set()
        sandbox.engine.on_change.append(self._changed)

    def respond(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command, and return the response."""
        match command:
            case {"do": "change", "pipelines": list(names), "count": count, "seconds": seconds, "seed": seed}:
                return {"changes": self._change(names, count, seconds, random.Random(seed))}
            case {"do": "create", "pipelines": list(names), "seconds": seconds, "seed": seed}:
                return {"changes": self._create(names, seconds, random.Random(seed))}
            case {"do": "let run", "pipeline": str(name)}:
                self._sandbox.faults.release(name)
                return {}
            case {"do": "when did they run"}:
                return {"ran": self._ran}
            case {"do": "mark"}:
                self._marked = (time.monotonic(), time.process_time(), self._sandbox.requests.total)
                return {}
            case {"do": "spent"}:
                wall, cpu, total = self._marked
                return {
                    "seconds": time.monotonic() - wall,
                    "cpu_seconds": time.process_time() - cpu,
                    "requests": self._sandbox.requests.total - total,
                }
            case _:
                raise ValueError(f"unknown command {command!r}")

    def _changed(self, job: Job, before: str) -> None:
        name = job.pipeline.name
        if job.state == JobState.RUNNING:
            # Not the current time: the sandbox applies changes at the next request, with the time at which
            # they were due.
            self._ran.setdefault(name, self._sandbox.engine.now / 1e6)
        elif job.state == JobState.SCHEDULING and name.startswith((LATE, HELD)) and name not in self._held:
            # Only the first time, since it shows this state again when it is released.
            self._held.add(name)
            engine = self._sandbox.engine
            engine.hold(job, job.state)
            if name.startswith(LATE):
                engine.later(random.uniform(*LATE_SECONDS), lambda: engine.release(job))

    def _change(
        self, names: list[str], count: int, seconds: float, rng: random.Random
    ) -> list[tuple[str, str, float]]:
        changes = []
        begun = time.monotonic()
        for number in range(count):
            _sleep_until(begun + number * seconds / count + rng.uniform(0, min(JITTER_SECONDS, seconds)))
            name = names[number % len(names)]
            state = self._state[name] = "Stopped" if self._state[name] == "Running" else "Running"
            self._sandbox.faults.show_state(name, state)
            changes.append((name, state, time.monotonic()))
        return changes

    def _create(self, names: list[str], seconds: float, rng: random.Random) -> list[tuple[str, str, float]]:
        changes = []
        begun = time.monotonic()
        for number, name in enumerate(names):
            _sleep_until(begun + number * seconds / len(names) + rng.uniform(0, JITTER_SECONDS))
            body = json.dumps({"name": name, "query": QUERY, "parallelism": 1}).encode()
            request = urllib.request.Request(
                f"{self._sandbox.url}/api/v1/pipelines/{name}",
                method="PUT",
                data=body,
                headers={"Content-Type": "application/json"},
            )
            before = time.monotonic()
            urllib.request.urlopen(request, timeout=10).close()
            changes.append((name, "there", before))
        return changes


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def main() -> None:
    """Serve until standard input ends. The first line out says where, and which pipelines there are."""
    pipelines, version = int(sys.argv[1]), sys.argv[2]
    with ArroyoSandbox(arroyo_version=version, pipelines=pipelines, log_size=10) as sandbox:
        script = Script(sandbox)
        print(json.dumps({"url": sandbox.url, "pipelines": script.pipelines}), flush=True)
        for line in sys.stdin:
            print(json.dumps(script.respond(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
