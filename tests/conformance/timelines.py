"""Provokes every recorded timeline again and compares what a poll of 20 ms sees.

Compared are the states in their order, the steps of run_id, running_desired, tasks, reasons, and whether
start and finish times are set. By rule excepted: states that were too short for such a poll, a row that differs from
the one before in running_desired alone and did not last for one glance of the controller, and exact times:
each state's duration must be within a factor, give or take a glance.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import requests

from tests.conformance import recordings
from tests.conformance.exchanges import IMPULSE, MISSING_FILE, WINDOW, Outcome, bounded
from tests.conformance.recordings import Row
from tests.conformance.target import Target

POLL_SECONDS = 0.02
FACTOR = 3.0
GLANCE_MS = 560
SHORT_MS = 75
"""What lasted no longer can be missed between two polls of a busy machine."""

QUERIES = {
    "bounded_finishes_and_never_leaves": bounded(50, 100),
    "short_bounded": bounded(1000, 10),
    "failing_source": MISSING_FILE,
    "failing_source_default_restarts": MISSING_FILE,
    "rescale_and_interval": WINDOW,
}
PREVIEW = (
    "CREATE TABLE impulse WITH (connector='impulse', event_rate='10', message_count='20'); "
    "SELECT counter FROM impulse;"
)
FAULTS = {
    "kill -9 of the worker process": "kill_worker",
    "controller killed (kill -9), API still up": "controller_away",
    "controller started again": "controller_back",
    "kill -9 of the whole server": "server_away",
    "SIGTERM to the server": "server_away",
    "server started again": "server_back",
}
AWAITS_A_GLANCE = frozenset({"Created", "Running", "Stopped", "Failed", "Finished"})
"""States that are left when the controller next looks, somewhere within half a second."""


@dataclass
class Seen:
    """A row of a poll, recorded or of now, and how many milliseconds it lasted."""

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
    answers: list[str] = field(default_factory=list)
    pipeline_id: str = ""
    short_ms: float = SHORT_MS
    _looked: float = 0.0

    def run(self) -> list[str]:
        """Do what was done, when it was done, and return what differs."""
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
        return [*self.answers, *self._compare()]

    def _create(self) -> None:
        if self.name.startswith("preview"):
            answer = self.target.send("POST", "/pipelines/preview", {"query": PREVIEW})
        else:
            body = {
                "name": "conformance",
                "query": QUERIES.get(self.name, IMPULSE),
                "parallelism": 1,
                "checkpoint_interval_micros": 1_000_000,
            }
            answer = self.target.send("POST", "/pipelines", body)
        assert answer.status_code == 200, answer.text
        self.pipeline_id = answer.json()["id"]

    # -- doing --------------------------------------------------------------------------------------------

    def _act(self, row: Row) -> None:
        call = row.call or ""
        path = f"/pipelines/{self.pipeline_id}"
        if call in FAULTS:
            self._fault(FAULTS[call])
            return
        if call == "checkpoints":
            self._checkpoints(row)
            return
        body = json.loads(call[call.index("{") :])
        if call.startswith("PATCH"):
            answer = self.target.send("PATCH", path, body)
        else:
            answer = self.target.send("POST", f"{path}/restart", body)
        expected = row.values.get("status", 200)
        if answer.status_code != expected:
            self.answers.append(
                f"{call}: {expected} was recorded, got {answer.status_code}: {answer.text[:150]}"
            )
        refusal = row.values.get("answer")
        if refusal and answer.text:
            job = self.target.job(self.pipeline_id)["id"]
            recorded = next(str(item.values["id"]) for item in self.rows if item.values.get("id"))
            wanted = refusal["error"].replace(recorded, job)
            if answer.json().get("error") != wanted:
                self.answers.append(f"{call}: {wanted!r} was recorded, got {answer.text}")

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
        recorded = [_kind(item) for item in row.values["checkpoints"]]
        current = [_kind(item) for item in answer.json()["data"]]
        if recorded != current:
            self.answers.append(f"checkpoints: {recorded} were recorded, got {current}")

    # -- polling ------------------------------------------------------------------------------------------

    def _poll_for(self, seconds: float) -> None:
        until = self.target.now() + seconds
        while self.target.now() < until:
            self.target.wait(min(POLL_SECONDS, max(0.001, until - self.target.now())))
            self._look()

    def _until(self, row: Row | None) -> None:
        """Poll until the row before a call has come, or no longer can."""
        if row is None or row.call is not None or "state" not in row.values:
            return
        self._look()
        span = max(4.0, 3 * row.ms / 1000)
        deadline = self.target.now() + span
        while self.target.now() < deadline:
            if self.seen and _same(row.values, self.seen[-1].values):
                return
            self.target.wait(POLL_SECONDS)
            self._look()

    def _look(self) -> None:
        now = (self.target.now() - self._begun) * 1000
        # A machine that was busy with something else looked less often: what fell between is not missed.
        self.short_ms = max(self.short_ms, now - self._looked + SHORT_MS - 1000 * POLL_SECONDS)
        self._looked = now
        try:
            answer = self.target.send("GET", f"/pipelines/{self.pipeline_id}/jobs")
            if answer.status_code == 200:
                values = _row_of(answer.json()["data"][0])
            else:
                values = {"status": answer.status_code, "body": answer.json()}
        except requests.ConnectionError as error:
            refused = "refused" in str(error)
            values = {"status": "ConnectionRefusedError" if refused else "ConnectionResetError"}
        if not self.seen or self.seen[-1].values != values:
            self.seen.append(Seen(now, values))

    # -- comparing ----------------------------------------------------------------------------------------

    def _compare(self) -> list[str]:
        recorded = _timed([Seen(row.ms, row.values) for row in self.rows if "state" in row.values])
        current = _timed([row for row in self.seen if "state" in row.values])
        pairs = _aligned(recorded, current, self.short_ms)
        if pairs is None:
            story = [" → ".join(map(_line, rows)) for rows in (recorded, current)]
            return [f"recorded: {story[0]}", f"now: {story[1]}"]
        found = []
        for before, now in pairs:
            if before.lasted and now.lasted:
                slack = GLANCE_MS if before.state in AWAITS_A_GLANCE else self.short_ms
                low, high = before.lasted / FACTOR - slack, before.lasted * FACTOR + slack
                if not low <= now.lasted <= high:
                    was = f"{before.lasted:.0f} ms were recorded"
                    found.append(f"{_line(now)} lasted {now.lasted:.0f} ms, {was}")
        return found


def _kind(checkpoint: dict[str, Any]) -> tuple[Any, ...]:
    events = tuple(event["event"] for event in checkpoint["events"])
    return checkpoint["epoch"], checkpoint.get("checkpoint_type"), bool(checkpoint["finish_time"]), events


def _row_of(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": job["id"],
        "state": job["state"],
        "run_id": job["run_id"],
        "running_desired": job["running_desired"],
        "tasks": job["tasks"],
        "failure_message": job.get("failure_message"),
        "failure_reason": job.get("failure_reason"),
        "start_time": job["start_time"] is not None,
        "finish_time": job["finish_time"] is not None,
    }


def _same(recorded: dict[str, Any], current: dict[str, Any]) -> bool:
    return all(recorded.get(key) == current.get(key) for key in ("state", "running_desired", "run_id"))


def _timed(rows: list[Seen]) -> list[Seen]:
    for row, following in pairwise(rows):
        row.lasted = following.ms - row.ms
    return rows


def _aligned(recorded: list[Seen], current: list[Seen], short_ms: float) -> list[tuple[Seen, Seen]] | None:
    """Pair the rows; what is too short for the poll may be missing on either side."""

    def optional(rows: list[Seen], index: int) -> bool:
        row = rows[index]
        if index == len(rows) - 1:
            return False
        # A glance can come before the first look.
        if row.lasted <= short_ms or (index == 0 and row.state == "Created"):
            return True
        return index > 0 and row.lasted <= GLANCE_MS and _only_desired(rows[index - 1], row)

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
    parts.append(
        f"{'started' if values['start_time'] else '-'}/{'finished' if values['finish_time'] else '-'}"
    )
    reason = values.get("failure_reason") or values.get("failure_message")
    if reason:
        parts.append(json.dumps(reason))
    return " ".join(parts)


def provoke(target: Target, name: str) -> Outcome:
    """Provoke a timeline and compare it."""
    try:
        differences = Provoked(target, name, recordings.timeline(target.version, name)).run()
    except AssertionError as error:
        differences = [str(error)]
    return Outcome(f"timelines/{name}", differences)


def needs(name: str) -> str:
    """Return what a server must be to provoke a timeline: see :class:`exchanges.Situation`."""
    if name.startswith("worker_mode"):
        return "worker"
    if name == "restart_ignore_state":
        return "controller"
    if name == "failing_source_default_restarts":
        return "default restarts"
    if name == "failing_source":
        return "restarts"
    faults = ("worker_killed", "controller_down", "server_killed", "server_terminated")
    return "sandbox" if name.startswith(faults) else "whole"
