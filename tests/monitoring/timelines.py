"""The recorded timelines of real servers, as polls of a wait."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.condition import Reading
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import GONE, REFUSED

RECORDINGS = Path(__file__).parent.parent / "data" / "arroyo"
VERSIONS = ("0.15.0", "0.16-dev")
CHECKPOINTS = {"kafka_unreachable": [Checkpoint(epoch=1, start_time_micros=1)]}
"""The relevant checkpoints; if one of two sources ends, there are none."""
EPOCH = 1_795_572_000.0
"""The time from which a timeline counts its milliseconds."""


def moment(ms: float) -> float:
    return EPOCH + ms / 1000


def milliseconds(when: float) -> float:
    return (when - EPOCH) * 1000


@dataclass(frozen=True)
class Row:
    ms: float
    job: Job | None = None
    error: ArroyoError | None = None


@dataclass(frozen=True)
class Call:
    ms: float
    text: str


class Timeline:
    def __init__(self, version: str, name: str) -> None:
        self.name = f"{version}/{name}"
        self.rows: list[Row] = []
        self.calls: list[Call] = []
        self.checkpoints = CHECKPOINTS.get(name, [])
        path = RECORDINGS / version / "timelines" / f"{name}.json"
        for entry in json.loads(path.read_text()):
            if "state" in entry:
                times = {"start_time": None, "finish_time": None}
                self.rows.append(Row(entry["ms"], job=Job.from_api({**entry, **times})))
            elif "call" in entry:
                # Some recordings also contain the path of the pipeline.
                text = re.sub(r" /pipelines/\w+(?=[ /])/?", " ", entry["call"]).replace("  ", " ")
                self.calls.append(Call(entry["ms"], text))
            else:
                self.rows.append(Row(entry["ms"], error=GONE if entry["status"] == 404 else REFUSED))

    def call(self, text: str, number: int = 1) -> Call:
        """The number-th call that begins with this text."""
        return [call for call in self.calls if call.text.startswith(text)][number - 1]

    def shown_at(self, ms: float) -> Row | None:
        """What a poll at that time shows."""
        shown = [row for row in self.rows if row.ms <= ms + 1e-3]
        return shown[-1] if shown else None

    def first(self, state: str, run: int, *, after: float) -> float:
        """When a job in that state and run was first seen after a given time."""
        for row in self.rows:
            if row.ms > after and row.job and (row.job.state, row.job.run_id) == (state, run):
                return row.ms
        raise LookupError(f"{self.name} has no {state} in run {run} after {after} ms")


def poll(wait: PipelineWait, timeline: Timeline, now: float) -> WaitResult:
    row = timeline.shown_at(milliseconds(now))
    assert row is not None
    if row.error is not None:
        return wait.observe_error(row.error, now)
    result, due = wait.observe(row.job, now), wait.details_due()
    if due is None or due > now or row.job is None:
        return result
    return wait.observe_details(row.job, Reading(timeline.checkpoints), now, sent_at=now)


def replay_changes(wait: PipelineWait, timeline: Timeline, start: float) -> tuple[WaitResult, float]:
    """Poll when something changed, and when the wait has a poll due; return the end and its time."""
    now = moment(max(start, timeline.rows[0].ms))
    changes = [moment(row.ms) for row in timeline.rows]
    while True:
        result = poll(wait, timeline, now)
        if result.is_over:
            return result, milliseconds(now)
        due = min([change for change in changes if change > now] + [wait.next_due()])
        due = min(due, wait.details_due() or due)
        assert due > now, "a poll would be due forever"
        now = due


def replay_polled(
    wait: PipelineWait, timeline: Timeline, start: float, interval: float = 100.0
) -> tuple[WaitResult, float]:
    """Poll at an interval, as the loop in a worker does; return the end and its time."""
    begin = max(start, timeline.rows[0].ms)
    polls = 0
    while True:
        now = min(moment(begin + polls * interval), wait.plan.deadline)
        result = poll(wait, timeline, now)
        if result.is_over:
            return result, milliseconds(now)
        polls += 1
