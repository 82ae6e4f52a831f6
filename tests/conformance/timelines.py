"""Provokes every recorded timeline again and compares what polls every 20 ms see.

Compared are the order of states, the steps of run_id, running_desired, tasks, reasons, and when start and finish
times are set and renewed. The exceptions: states that were too short for such a poll; a row that differs from the
previous one in running_desired alone and did not last until the controller's next poll; and exact times: each state's
duration must be within a factor, give or take one poll of the controller. If the moment of that poll decides which
course a job takes, the other courses are accepted, too (``VARIANTS``).
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import requests

from tests.conformance import recordings
from tests.conformance.queries import (
    IMPULSE,
    KAFKA,
    MISSING_FILE,
    ONE_ENDS_SOONER,
    ONE_OF_TWO_ENDS,
    TUMBLING,
    WINDOW,
    bounded,
)
from tests.conformance.recordings import Row
from tests.conformance.replay import Outcome
from tests.conformance.target import Target

POLL_SECONDS = 0.02
FACTOR = 4.0
CONTROLLER_POLL_MS = 560
SHORT_MS = 75
"""States that lasted no longer than this can be missed between two polls of a busy machine."""

QUERIES = {
    "bounded_finishes_and_never_leaves": bounded(50, 100),
    "short_bounded": bounded(1000, 10),
    "failing_source": MISSING_FILE,
    "failing_source_default_restarts": MISSING_FILE,
    "patch_failed_then_restart": MISSING_FILE,
    "stop_right_after_restart_of_failed": MISSING_FILE,
    "rescale_and_interval": WINDOW,
    "rollback_resume_of_the_old": TUMBLING,
    "one_source_of_two_ends": ONE_OF_TWO_ENDS,
    "one_source_ends_sooner": ONE_ENDS_SOONER,
    "kafka_unreachable": KAFKA,
}
PREVIEW = (
    "CREATE TABLE impulse WITH (connector='impulse', event_rate='10', message_count='20'); "
    "SELECT counter FROM impulse;"
)
BEGINS = {
    "patch_failed_then_restart": "Failed",
    "stop_right_after_restart_of_failed": "Failed",
    **dict.fromkeys(
        (
            "patch_stopped_then_resume",
            "restart_then_force_stop",
            "resume_and_rescale_in_one_patch",
            "rollback_resume_of_the_old",
            "stop_right_after_resume",
        ),
        "Stopped",
    ),
    **dict.fromkeys(
        (
            "after_bad_patches",
            "patch_several_fields_at_once",
            "patch_with_the_same_values",
            "restart_twice_and_force",
            "stop_while_rescaling",
            "stop_while_restarting",
        ),
        "Running",
    ),
}
"""In which state the pipeline was when the timeline begins; the others begin with its creation."""

_STARTED = ("Scheduling", "Running", "CheckpointStopping", "Stopped")
VARIANTS: dict[str, list[tuple[str, ...]]] = {
    # The controller picked the job up after the stop was asked for.
    "stop_asked_before_running": [("Created", "Stopped")],
    # It polled between the two calls.
    "stop_right_after_resume": [("Stopped", *_STARTED)],
    "stop_right_after_restart_of_failed": [
        ("Failed", *_STARTED),
        ("Failed", "Scheduling", "Running", "Failing", "Failed"),
    ],
}
FAULTS = {
    "kill -9 of the worker process": "kill_worker",
    "controller killed (kill -9), API still up": "controller_away",
    "controller started again": "controller_back",
    "kill -9 of the whole server": "server_away",
    "SIGTERM to the server": "server_away",
    "server started again": "server_back",
}
AWAITS_A_POLL = frozenset({"Created", "Running", "Finishing", "Stopped", "Failed", "Finished"})
"""States that end at the controller's next poll, within half a second."""


@dataclass
class Seen:
    """A row of a poll, recorded or current, and how many milliseconds it lasted."""

    ms: float
    values: dict[str, Any]
    lasted: float = 0.0

    @property
    def state(self) -> str:
        return str(self.values.get("state"))


@dataclass
class Provoked:
    """Provokes one timeline."""

    target: Target
    name: str
    rows: list[Row]
    seen: list[Seen] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    checkpoints: list[tuple[list[Any], list[Any]]] = field(default_factory=list)
    pipeline_id: str = ""
    short_ms: float = SHORT_MS
    _polled: float = 0.0

    def run(self) -> list[str]:
        """Repeat each recorded action at its time, and return the differences."""
        self._create()
        self._begun = self.target.now()
        steps: Iterator[tuple[Row | None, Row]] = zip([None, *self.rows], self.rows, strict=False)
        for before, row in steps:
            if row.call is None or row.call == "POST /pipelines":
                continue
            self._until(before)
            since = row.ms - (before.ms if before is not None else 0)
            self._poll_for(max(0, since) / 1000)
            self._act(row)
        last = self.rows[-1]
        self._until(last)
        self._poll_for(0.6)
        return [*self.differing, *self._compare()]

    @property
    def _path(self) -> str:
        return f"/pipelines/{self.pipeline_id}"

    def _create(self) -> None:
        if self.name.startswith("preview"):
            answer = self.target.send("POST", "/pipelines/preview", {"query": PREVIEW})
        else:
            calls = [row.call or "" for row in self.rows]
            # Arroyo gets stuck in a restart that meets a checkpoint, which happened to none of the recorded ones.
            restarts = (
                any("restart" in call or "env_vars" in call for call in calls) and "checkpoints" not in calls
            )
            body = {
                "name": self.name,
                "query": QUERIES.get(self.name, IMPULSE),
                "parallelism": 1,
                "checkpoint_interval_micros": 60_000_000 if restarts else 1_000_000,
            }
            answer = self.target.send("POST", "/pipelines", body)
        assert answer.status_code == 200, answer.text
        self.pipeline_id = answer.json()["id"]
        target = self.target
        if self.name == "kafka_unreachable" and target.sandbox is not None:
            target.sandbox.faults.kafka_away(self.pipeline_id)
        begin = BEGINS.get(self.name)
        if begin == "Stopped":
            target.until(self.pipeline_id, "Running")
            target.wait(1.5)
            target.send("PATCH", self._path, {"stop": "checkpoint"})
        if begin is not None:
            target.until(self.pipeline_id, begin)
            target.wait(1)
        if self.name == "after_bad_patches":
            target.send("PATCH", self._path, {"parallelism": 0})
            target.until(self.pipeline_id, "Scheduling")
            target.wait(0.3)

    # -- doing --------------------------------------------------------------------------------------------

    def _act(self, row: Row) -> None:
        call = row.call or ""
        if call.startswith("("):
            return
        if call in FAULTS:
            self._fault(FAULTS[call])
            return
        if call == "checkpoints":
            self._checkpoints(row)
            return
        body = json.loads(call[call.index("{") :])
        if call.startswith("PATCH"):
            answer = self.target.send("PATCH", self._path, body)
        else:
            answer = self.target.send("POST", f"{self._path}/restart", body)
        expected = row.values.get("status", 200)
        if answer.status_code != expected:
            self.differing.append(
                f"{call}: {expected} was recorded, got {answer.status_code}: {answer.text[:150]}"
            )
        refusal = row.values.get("answer")
        if isinstance(refusal, dict) and answer.text:
            job = self.target.job(self.pipeline_id)["id"]
            recorded = next(str(item.values["id"]) for item in self.rows if item.values.get("id"))
            wanted = refusal["error"].replace(recorded, job)
            if answer.json().get("error") != wanted:
                self.differing.append(f"{call}: {wanted!r} was recorded, got {answer.text}")

    def _fault(self, fault: str) -> None:
        sandbox = self.target.sandbox
        assert sandbox is not None, "faults are for sandboxes"
        match fault:
            case "kill_worker":
                sandbox.faults.kill_worker(self.pipeline_id)
            case "controller_away":
                sandbox.faults.controller_away()
            case "controller_back":
                sandbox.faults.controller_back()
            case "server_away":
                sandbox.faults.controller_away()
                sandbox.faults.api_away()
            case "server_back":
                sandbox.faults.api_back()
                sandbox.faults.controller_back()

    def _checkpoints(self, row: Row) -> None:
        job = self.target.job(self.pipeline_id)
        answer = self.target.send("GET", f"/pipelines/{self.pipeline_id}/jobs/{job['id']}/checkpoints")
        self.checkpoints.append(
            (
                [_kind(item) for item in row.values["checkpoints"]],
                [_kind(item) for item in answer.json()["data"]],
            )
        )

    # -- polling ------------------------------------------------------------------------------------------

    def _poll_for(self, seconds: float) -> None:
        until = self.target.now() + seconds
        while (left := until - self.target.now()) > 0:
            self.target.wait(min(max(POLL_SECONDS, self.target.idle_seconds()), max(0.001, left)))
            self._poll()

    def _until(self, row: Row | None) -> None:
        """Poll until the row before a call has appeared, or no longer can."""
        if row is None or row.call is not None or "state" not in row.values:
            return
        self._poll()
        span = max(4.0, 3 * row.ms / 1000)
        deadline = self.target.now() + span
        while self.target.now() < deadline:
            if self.seen and _same(row.values, self.seen[-1].values):
                return
            self.target.wait(max(POLL_SECONDS, self.target.idle_seconds()))
            self._poll()

    def _poll(self) -> None:
        now = (self.target.now() - self._begun) * 1000
        # A busy machine polls less often: it can miss what falls in between.
        self.short_ms = max(self.short_ms, now - self._polled + SHORT_MS - 1000 * POLL_SECONDS)
        self._polled = now
        try:
            answer = self.target.send("GET", f"/pipelines/{self.pipeline_id}/jobs")
            if answer.status_code == 200:
                values = answer.json()["data"][0]
            else:
                values = {"status": answer.status_code, "body": answer.json()}
        except requests.ConnectionError as error:
            refused = "refused" in str(error)
            values = {"status": "ConnectionRefusedError" if refused else "ConnectionResetError"}
        if not self.seen or self.seen[-1].values != values:
            self.seen.append(Seen(now, values))

    # -- comparing ----------------------------------------------------------------------------------------

    def _compare(self) -> list[str]:
        rows = [row for row in self.rows if "state" in row.values]
        has_values = any("start_time_value" in row.values for row in rows)
        recorded = _timed(
            rows_of([(row.ms, row.values) for row in rows], "start_time_value" if has_values else None)
        )
        values = [(row.ms, row.values) for row in self.seen if "state" in row.values]
        current = _timed(rows_of(values, "start_time" if has_values else None))
        states = tuple(state for state, _ in itertools.groupby(row.state for row in current))
        if any(_without_short(current, self.short_ms) == variant for variant in VARIANTS.get(self.name, ())):
            run_zero = current[-1].values["run_id"] == 0
            return [f"checkpoints of {states}" for _, now in self.checkpoints if run_zero and now]
        found = [
            f"checkpoints: {before} were recorded, got {now}"
            for before, now in self.checkpoints
            if before != now
        ]
        pairs = _aligned(recorded, current, self.short_ms)
        if pairs is None:
            lines = [" → ".join(map(_line, rows)) for rows in (recorded, current)]
            return [*found, f"recorded: {lines[0]}", f"now: {lines[1]}"]
        for before, now in pairs:
            if before.lasted and now.lasted:
                slack = CONTROLLER_POLL_MS if before.state in AWAITS_A_POLL else self.short_ms
                low, high = before.lasted / FACTOR - slack, before.lasted * FACTOR + slack
                if not low <= now.lasted <= high:
                    was = f"{before.lasted:.0f} ms were recorded"
                    found.append(f"{_line(now)} lasted {now.lasted:.0f} ms, {was}")
        return found


def _kind(checkpoint: dict[str, Any]) -> tuple[Any, ...]:
    events = tuple(event["event"] for event in checkpoint["events"])
    return checkpoint["epoch"], checkpoint.get("checkpoint_type"), bool(checkpoint["finish_time"]), events


def rows_of(polled: list[tuple[float, dict[str, Any]]], start: str | None) -> list[Seen]:
    """Return what polls saw: one row for each change in what is compared.

    :param start: the key with the moment of ``start_time``, whose renewals are counted; None: only whether it is
        set is known.
    """
    rows: list[Seen] = []
    starts: list[Any] = []
    for ms, job in polled:
        moment = job.get(start) if start else None
        if moment is not None and moment not in starts:
            starts.append(moment)
        values = {
            "state": job["state"],
            "run_id": job["run_id"],
            "running_desired": job["running_desired"],
            "tasks": job["tasks"],
            "reason": job.get("failure_reason") or job.get("failure_message"),
            "start": starts.index(moment) + 1 if moment is not None else bool(job["start_time"]),
            "finish_time": bool(job["finish_time"]),
        }
        if not rows or rows[-1].values != values:
            rows.append(Seen(ms, values))
    return rows


def _without_short(rows: list[Seen], short_ms: float) -> tuple[str, ...]:
    last = len(rows) - 1
    kept = [row.state for index, row in enumerate(rows) if row.lasted > short_ms or index in (0, last)]
    return tuple(state for state, _ in itertools.groupby(kept))


def _same(recorded: dict[str, Any], current: dict[str, Any]) -> bool:
    return all(recorded.get(key) == current.get(key) for key in ("state", "running_desired", "run_id"))


def _timed(rows: list[Seen]) -> list[Seen]:
    for row, following in pairwise(rows):
        row.lasted = following.ms - row.ms
    return rows


def _aligned(recorded: list[Seen], current: list[Seen], short_ms: float) -> list[tuple[Seen, Seen]] | None:
    """Pair the rows; a state too short for a poll may be missing on either side."""

    def optional(rows: list[Seen], index: int) -> bool:
        row = rows[index]
        if index == len(rows) - 1:
            return False
        # The controller may poll before our first poll.
        if row.lasted <= short_ms or (index == 0 and row.state == "Created"):
            return True
        return index > 0 and row.lasted <= CONTROLLER_POLL_MS and _only_desired(rows[index - 1], row)

    @functools.cache
    def match(before: int, now: int) -> tuple[tuple[int, int], ...] | None:
        if before == len(recorded) and now == len(current):
            return ()
        both = before < len(recorded) and now < len(current)
        if both and _line(recorded[before]) == _line(current[now]):
            rest = match(before + 1, now + 1)
            if rest is not None:
                return ((before, now), *rest)
        if before < len(recorded) and optional(recorded, before):
            rest = match(before + 1, now)
            if rest is not None:
                return rest
        if now < len(current) and optional(current, now):
            return match(before, now + 1)
        return None

    pairs = match(0, 0)
    return None if pairs is None else [(recorded[before], current[now]) for before, now in pairs]


def _only_desired(before: Seen, row: Seen) -> bool:
    return before.values | {"running_desired": None} == row.values | {"running_desired": None}


def _line(row: Seen) -> str:
    values = row.values
    parts = [row.state, f"run {values['run_id']}", "wanted" if values["running_desired"] else "unwanted"]
    parts.append(f"tasks {values['tasks']}")
    parts.append(f"start {values['start']} finished {values['finish_time']}")
    if values["reason"]:
        parts.append(json.dumps(values["reason"]))
    return " ".join(parts)


def provoke(target: Target, name: str) -> Outcome:
    """Provoke a timeline and compare it."""
    try:
        differences = Provoked(target, name, recordings.timeline(target.version, name)).run()
    except AssertionError as error:
        differences = [str(error)]
    return Outcome(f"timelines/{name}", differences)


def needs(name: str) -> str:
    """Return what a server must be to provoke a timeline: see :class:`situations.Situation`."""
    if name.startswith("worker_mode"):
        return "worker"
    if name == "restart_ignore_state":
        return "controller"
    if name in (
        "failing_source_default_restarts",
        "patch_failed_then_restart",
        "stop_right_after_restart_of_failed",
    ):
        return "default restarts"
    if name == "failing_source":
        return "restarts"
    faults = ("worker_killed", "controller_down", "server_killed", "server_terminated")
    return "sandbox" if name.startswith(faults) else "whole"
