"""Sends recorded requests again and compares the responses."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import requests

from tests.conformance import recordings
from tests.conformance.compare import Matching, compare, compare_headers
from tests.conformance.queries import IMPULSE, PREVIEW
from tests.conformance.recordings import RecordedCall
from tests.conformance.target import Target

OWN_NAMES = (
    "my-own-id",
    "a/b c",
    "x" * 300,
    "bad-interval",
    "bad-sql",
    "events_src",
    "imp",
    "bad2",
    "kafka1",
    "panic-20",
    "panic-11",
    "conflict-words",
    "deploy-id",
)
"""Ids and names that the recordings chose. They are replaced, so that no other pipelines are touched."""


@dataclass
class Outcome:
    """The result for one call or timeline."""

    name: str
    differences: list[str] = field(default_factory=list)
    skipped: str | None = None


@dataclass
class Replay:
    """The recorded calls of one situation, sent in order.

    :param files: whose calls, in their order.
    """

    target: Target
    files: tuple[str, ...]
    matching: Matching = field(default_factory=Matching)
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        listed = [item for file in self.files for item in recordings.calls(self.target.version, file)]
        self._left: Iterator[RecordedCall] = iter(listed)
        self.listed = listed
        token = secrets.token_hex(4)
        for name in OWN_NAMES:
            own = f"{name}{token}" if len(name) < 100 else name[8:] + token
            self.matching.ids[name] = own.replace("-", "") if name.isidentifier() else own

    # -- making the situation -----------------------------------------------------------------------------

    def create(self, query: str = IMPULSE, recorded_as: str | None = None, **fields: Any) -> str:
        """Create a pipeline that is not part of the recording; ``recorded_as`` is its id there."""
        body = {
            "name": "conformance",
            "query": query,
            "parallelism": 1,
            "checkpoint_interval_micros": 1_000_000,
            **fields,
        }
        answer = self.target.send("POST", "/pipelines", body)
        assert answer.status_code == 200, f"cannot create: {answer.text}"
        pipeline_id = str(answer.json()["id"])
        if recorded_as is not None:
            self.matching.ids[recorded_as] = pipeline_id
        return pipeline_id

    def recorded_pipeline(self) -> str:
        """Return the id of the pipeline that the first recorded path names."""
        return next(part for item in self.listed for part in item.path.split("/") if part.startswith("pl_"))

    def know_job(self, pipeline_id: str) -> None:
        """Map the job in the recorded paths to that of a pipeline."""
        for item in self.listed:
            for part in item.path.split("/"):
                if part.startswith("job_") and part != "job_nope":
                    self.matching.ids.setdefault(part, self.target.job(pipeline_id)["id"])

    def checkpoints(self, pipeline_id: str) -> list[dict[str, Any]]:
        """Return the checkpoints of a pipeline."""
        job_id = self.target.job(pipeline_id)["id"]
        answer = self.target.send("GET", f"/pipelines/{pipeline_id}/jobs/{job_id}/checkpoints")
        listed: list[dict[str, Any]] = answer.json()["data"]
        return listed

    def until_checkpoint(self, pipeline_id: str) -> None:
        """Wait until the first checkpoint is done."""
        deadline = self.target.now() + 15
        while not any(item["finish_time"] for item in self.checkpoints(pipeline_id)):
            assert self.target.now() < deadline, "no checkpoint within 15 s"
            self.target.wait(0.1)

    def end(self, *pipeline_ids: str) -> None:
        """Stop and delete pipelines."""
        for pipeline_id in pipeline_ids:
            self.target.send("PATCH", f"/pipelines/{pipeline_id}", {"stop": "immediate"})
        for pipeline_id in pipeline_ids:
            self.target.until(pipeline_id, "Stopped")
            assert self.target.send("DELETE", f"/pipelines/{pipeline_id}").status_code == 200

    # -- sending ------------------------------------------------------------------------------------------

    def send(self, count: int | None = None, *, until: str | None = None) -> None:
        """Send the next recorded requests and compare their responses.

        :param count: how many; None: all that are left.
        :param until: send those before the one with this note.
        """
        if until is not None:
            notes = [item.note for item in self.listed]
            count = notes.index(until, len(self.outcomes)) - len(self.outcomes)
        while count is None or count > 0:
            item = next(self._left, None)
            if item is None:
                return
            self._send(item)
            if count is not None:
                count -= 1

    def _send(self, item: RecordedCall) -> None:
        matching = self.matching
        path = item.path
        for recorded, current in matching.ids.items():
            path = path.replace(quote(recorded, safe=""), quote(current, safe=""))
        body = item.body
        if body is not None:
            body = json.loads(matching.now(json.dumps(body)))
        try:
            answer = self.target.send(item.method, path, body, authorization=self._authorization(item))
        except requests.ConnectionError:
            differences = [] if item.status is None else [f"status: {item.status} was recorded, it hung up"]
            self.outcomes.append(Outcome(f"{item.file}: {item.note}", differences))
            return
        differences = []
        if answer.status_code != item.status:
            differences.append(
                f"status: {item.status} was recorded, got {answer.status_code}: {answer.text[:200]}"
            )
        else:
            matching.others = False
            differences += compare(item.response, _body(item, answer.text), matching)
            differences += compare_headers(item.headers, answer.headers)
        self.outcomes.append(Outcome(f"{item.file}: {item.note}", differences))

    def _authorization(self, item: RecordedCall) -> str | None:
        if not item.about_keys:
            return None
        sent = item.authorization or ""
        if sent == "Bearer sekrit-key":
            return f"Bearer {self.target.api_key}"
        return sent if sent.startswith("Bearer ") else "Basic dTpw" if sent == "basic auth" else ""


def _body(item: RecordedCall, text: str) -> Any:
    if isinstance(item.response, str) and item.headers.get("content-type", "").startswith("text/plain"):
        return text
    if not text:
        return item.response if item.response in (None, "") else ""
    try:
        return json.loads(text)
    except ValueError:
        return text


# -- the output of a preview --------------------------------------------------------------------------------


def replay_stream(target: Target) -> Outcome:
    """Read a preview's output, and compare it with the recorded one."""
    recorded = recordings.stream(target.version)
    outcome = Outcome("preview_output_sse")
    created = target.send("POST", "/pipelines/preview", {"query": PREVIEW})
    assert created.status_code == 200, created.text
    pipeline_id = created.json()["id"]
    job = target.until(pipeline_id, "Running")
    target.wait(0.35)
    texts: list[str] = []

    def read() -> None:
        answer = target.send("GET", f"/pipelines/{pipeline_id}/jobs/{job['id']}/output")
        outcome.differences += compare_headers(recorded["headers"], answer.headers)
        if answer.status_code != recorded["status"]:
            outcome.differences.append(f"status: got {answer.status_code}")
        texts.append(answer.text)

    reader = threading.Thread(target=read)
    reader.start()
    if target.sandbox is not None:
        # A slow machine may take a while to send the request.
        while reader.is_alive() and not target.sandbox.requests.count("GET", "*/output"):
            time.sleep(0.005)
    deadline = 300
    while reader.is_alive() and deadline:
        # A manual clock must be advanced while the stream is read; a real one advances by itself.
        if target.sandbox is not None:
            target.sandbox.advance(0.05)
        reader.join(0.02 if target.sandbox else 0.2)
        deadline -= 1
    reader.join(10)
    outcome.differences += _compare_events(recorded["body"], texts[0] if texts else "")
    return outcome


def _compare_events(recorded: str, current: str) -> list[str]:
    before, now = _events(recorded), _events(current)
    if len(now) < 10:
        return [f"{len(now)} events came"]
    found = []
    for index, (number, data) in enumerate(now):
        if number != index:
            found.append(f"event {index} has the id {number}")
        expected = before[0][1]
        if list(data) != list(expected):
            found.append(f"event {index}: keys {list(expected)} were recorded, got {list(data)}")
            continue
        found += [
            f"event {index}.{key}: {expected[key]!r} was recorded, got {data[key]!r}"
            for key in ("operator_id", "subtask_idx")
            if data[key] != expected[key]
        ]
        rows = json.loads(data["batch"])
        first = data["start_id"]
        wanted = [{"counter": first + offset, "d": 2 * (first + offset)} for offset in range(len(rows))]
        if rows != wanted or len(data["timestamps"]) != len(rows):
            found.append(f"event {index}: {rows} from {first} on")
    numbers = [data["start_id"] for _, data in now]
    if numbers != sorted(set(numbers)) or numbers[0] < 1:
        found.append(f"start_id goes {numbers[:5]} …")
    return found


def _events(text: str) -> list[tuple[int, dict[str, Any]]]:
    events = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        try:
            events.append((int(lines["id"]), json.loads(lines["data"])))
        except (KeyError, ValueError):
            continue
    return events
